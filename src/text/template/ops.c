#include <math.h>

#include "text/template/call.h"

static noreturn void unsupported(tpl_state *s, const char *sign, value a, value b)
{
    tpl_fail(s, TEMPLATE_TYPE, "unsupported operand type(s) for %s: '%s' and '%s'", sign, val_type_name(a),
             val_type_name(b));
}

static noreturn void too_large(tpl_state *s)
{
    tpl_fail(s, TEMPLATE_LIMIT, "an integer of more than 38 digits");
}

wide tpl_floor_div(wide a, wide b)
{
    wide q = a / b;
    return q - (a % b != 0 && (a < 0) != (b < 0));
}

/* ---- strings and lists ---- */

static value join_text(tpl_state *s, str *a, str *b)
{
    if (a->safe == b->safe) {
        str *out = str_join2(s, a, b);
        out->safe = a->safe;
        return val_str(out);
    }
    str *out = str_join2(s, str_escape(s, a), str_escape(s, b));
    out->safe = true;
    return val_str(out);
}

static value join_lists(tpl_state *s, value a, value b)
{
    value out = val_list(s, a.kind, a.l->n + b.l->n);
    tpl_work(s, (a.l->n + b.l->n) * sizeof(value));
    for (size_t i = 0; i < a.l->n; i++)
        list_push(s, out.l, a.l->at[i]);
    for (size_t i = 0; i < b.l->n; i++)
        list_push(s, out.l, b.l->at[i]);
    return out;
}

static value repeat(tpl_state *s, value a, wide times)
{
    times = times < 0 ? 0 : times;
    wide size = a.kind == VAL_STR ? (wide)a.s->length : (wide)a.l->n;
    if (size == 0)
        times = 0;
    if (times > (wide)s->string_max || size * times > (wide)s->string_max)
        tpl_fail(s, TEMPLATE_LIMIT, "a repetition of more than %zu KiB", s->string_max >> 10);
    if (a.kind == VAL_STR) {
        builder b = {0};
        for (wide i = 0; i < times; i++)
            build_str(s, &b, a.s);
        str *out = str_built(s, &b);
        out->safe = a.s->safe;
        return val_str(out);
    }
    value out = val_list(s, a.kind, (size_t)(size * times));
    tpl_work(s, (size_t)(size * times) * sizeof(value));
    for (wide i = 0; i < times; i++)
        for (size_t k = 0; k < a.l->n; k++)
            list_push(s, out.l, a.l->at[k]);
    return out;
}

static bool repeats(value v)
{
    return v.kind == VAL_STR || v.kind == VAL_LIST || v.kind == VAL_TUPLE;
}

/* ---- numbers ---- */

static value power(tpl_state *s, value a, value b)
{
    if (!is_int(a) || !is_int(b) || int_of(b) < 0) {
        double base = float_of(a), f = pow(base, float_of(b));
        if (base == 0 && float_of(b) < 0)
            tpl_fail(s, TEMPLATE_VALUE, "0.0 cannot be raised to a negative power");
        if (isinf(f) && !isinf(base) && !isinf(float_of(b)))
            tpl_fail(s, TEMPLATE_LIMIT, "a number that is too large");
        return val_float(f);
    }
    wide base = int_of(a), out = 1;
    wide n = int_of(b);
    if (base == 0 || base == 1)
        return val_int(n ? base : 1);
    if (base == -1)
        return val_int(n % 2 ? -1 : 1);
    for (; n > 0; n--)
        if (__builtin_mul_overflow(out, base, &out))
            too_large(s);
    return val_int(out);
}

static noreturn void by_zero(tpl_state *s)
{
    tpl_fail(s, TEMPLATE_VALUE, "division by zero");
}

static value int_op(tpl_state *s, binary_op op, wide a, wide b)
{
    wide out = 0;
    switch (op) {
    case OP_ADD:
        if (__builtin_add_overflow(a, b, &out))
            too_large(s);
        return val_int(out);
    case OP_SUB:
        if (__builtin_sub_overflow(a, b, &out))
            too_large(s);
        return val_int(out);
    case OP_MUL:
        if (__builtin_mul_overflow(a, b, &out))
            too_large(s);
        return val_int(out);
    case OP_DIV:
        if (b == 0)
            by_zero(s);
        return val_float((double)a / (double)b);
    default:
        if (b == 0)
            by_zero(s);
        if (b == -1) /* the one quotient that may not fit */
            return op == OP_MOD ? val_int(0) : int_op(s, OP_SUB, 0, a);
        return val_int(op == OP_MOD ? a - tpl_floor_div(a, b) * b : tpl_floor_div(a, b));
    }
}

static value float_op(tpl_state *s, binary_op op, double a, double b)
{
    switch (op) {
    case OP_ADD:
        return val_float(a + b);
    case OP_SUB:
        return val_float(a - b);
    case OP_MUL:
        return val_float(a * b);
    default:
        break;
    }
    if (b == 0)
        by_zero(s);
    if (op == OP_DIV)
        return val_float(a / b);
    double rest = fmod(a, b);
    if (rest != 0 && (rest < 0) != (b < 0))
        rest += b;
    return val_float(op == OP_MOD ? rest : floor((a - rest) / b + 0.5));
}

value tpl_binary(tpl_state *s, binary_op op, value a, value b)
{
    static const char *const signs[] = {"+", "-", "*", "/", "//", "%", "**"};
    val_use(s, a);
    if (op == OP_MOD && a.kind == VAL_STR)
        return val_str(tpl_format_percent(s, a.s, b));
    val_use(s, b);
    if (op == OP_ADD && a.kind == VAL_STR && b.kind == VAL_STR)
        return join_text(s, a.s, b.s);
    if (op == OP_ADD && a.kind == b.kind && (a.kind == VAL_LIST || a.kind == VAL_TUPLE))
        return join_lists(s, a, b);
    if (op == OP_MUL && repeats(a) && is_int(b))
        return repeat(s, a, int_of(b));
    if (op == OP_MUL && is_int(a) && repeats(b))
        return repeat(s, b, int_of(a));
    if (!is_number(a) || !is_number(b))
        unsupported(s, signs[op], a, b);
    if (op == OP_POW)
        return power(s, a, b);
    return is_int(a) && is_int(b) ? int_op(s, op, int_of(a), int_of(b)) : float_op(s, op, float_of(a), float_of(b));
}

value tpl_negate(tpl_state *s, value a)
{
    val_use(s, a);
    if (!is_number(a))
        tpl_fail(s, TEMPLATE_TYPE, "bad operand type for unary -: '%s'", val_type_name(a));
    return a.kind == VAL_FLOAT ? val_float(-a.f) : int_op(s, OP_SUB, 0, int_of(a));
}
