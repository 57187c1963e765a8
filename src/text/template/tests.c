#include "text/template/filters.h"
#include "text/template/print.h"

/* The tests behind `is`. */

#define TEST(name, what)                                                           \
    static value test_##name(tpl_state *s, value v, const value *p, const args *a) \
    {                                                                              \
        return val_bool(what);                                                     \
    }

static bool is_defined(value v)
{
    return v.kind != VAL_UNDEFINED && !(v.kind == VAL_NATIVE && v.n->f->changes);
}

TEST(defined, is_defined(v))
TEST(undefined, !is_defined(v))
TEST(none, v.kind == VAL_NONE)
TEST(string, v.kind == VAL_STR)
TEST(number, is_number(v))
TEST(integer, v.kind == VAL_INT)
TEST(float, v.kind == VAL_FLOAT)
TEST(boolean, v.kind == VAL_BOOL)
TEST(true, v.kind == VAL_BOOL && v.b)
TEST(false, v.kind == VAL_BOOL && !v.b)
TEST(mapping, v.kind == VAL_DICT)
TEST(iterable, val_iterable(v))
/* Python asks for a length and for subscripts. */
TEST(sequence, v.kind == VAL_UNDEFINED || v.kind == VAL_STR || v.kind == VAL_LIST || v.kind == VAL_TUPLE ||
                   v.kind == VAL_DICT || v.kind == VAL_RANGE)
/* Undefined can be called, with an error. */
TEST(callable, v.kind == VAL_UNDEFINED || v.kind == VAL_NATIVE || v.kind == VAL_MACRO || v.kind == VAL_JOINER ||
                   (v.kind == VAL_LOOP && v.loop->n->recursive))
TEST(escaped, v.kind == VAL_STR && v.s->safe)
TEST(eq, val_equal(s, v, p[0]))
TEST(ne, !val_equal(s, v, p[0]))
TEST(lt, val_compare(s, v, p[0], "<") < 0)
TEST(le, val_compare(s, v, p[0], "<=") <= 0)
TEST(gt, val_compare(s, v, p[0], ">") > 0)
TEST(ge, val_compare(s, v, p[0], ">=") >= 0)
TEST(in, val_contains(s, p[0], v))
TEST(sameas, val_same(v, p[0]))
TEST(odd, val_equal(s, tpl_binary(s, OP_MOD, v, val_int(2)), val_int(1)))
TEST(even, val_equal(s, tpl_binary(s, OP_MOD, v, val_int(2)), val_int(0)))
TEST(divisibleby, val_equal(s, tpl_binary(s, OP_MOD, v, p[0]), val_int(0)))
TEST(upper, val_true(tpl_call_native(s, tpl_str_method("isupper", 7), val_str(tpl_print_str(s, v)), a)))
TEST(lower, val_true(tpl_call_native(s, tpl_str_method("islower", 7), val_str(tpl_print_str(s, v)), a)))
TEST(filter, v.kind == VAL_STR && tpl_filter_find(str_flat(s, v.s), v.s->length))
TEST(test, v.kind == VAL_STR && tpl_test_find(str_flat(s, v.s), v.s->length))

const native *tpl_test_find(const char *name, size_t length)
{
    static const native table[] = {
        {"defined", test_defined, "", 0},
        {"undefined", test_undefined, "", 0},
        {"none", test_none, "", 0},
        {"string", test_string, "", 0},
        {"number", test_number, "", 0},
        {"integer", test_integer, "", 0},
        {"float", test_float, "", 0},
        {"boolean", test_boolean, "", 0},
        {"true", test_true, "", 0},
        {"false", test_false, "", 0},
        {"mapping", test_mapping, "", 0},
        {"iterable", test_iterable, "", 0},
        {"sequence", test_sequence, "", 0},
        {"callable", test_callable, "", 0},
        {"escaped", test_escaped, "", 0},
        {"eq", test_eq, "other", 1},
        {"equalto", test_eq, "other", 1},
        {"==", test_eq, "other", 1},
        {"ne", test_ne, "other", 1},
        {"!=", test_ne, "other", 1},
        {"lt", test_lt, "other", 1},
        {"lessthan", test_lt, "other", 1},
        {"<", test_lt, "other", 1},
        {"le", test_le, "other", 1},
        {"<=", test_le, "other", 1},
        {"gt", test_gt, "other", 1},
        {"greaterthan", test_gt, "other", 1},
        {">", test_gt, "other", 1},
        {"ge", test_ge, "other", 1},
        {">=", test_ge, "other", 1},
        {"in", test_in, "seq", 1},
        {"sameas", test_sameas, "other", 1},
        {"odd", test_odd, "", 0},
        {"even", test_even, "", 0},
        {"divisibleby", test_divisibleby, "num", 1},
        {"upper", test_upper, "", 0},
        {"lower", test_lower, "", 0},
        {"filter", test_filter, "", 0},
        {"test", test_test, "", 0},
    };
    return tpl_native_find(table, sizeof table / sizeof *table, name, length);
}
