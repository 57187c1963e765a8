#include "text/template/call.h"
#include "text/template/print.h"

/* Attributes and subscripts. What a template reaches is data and the methods of the tables; names with two underscores
 * are Python's insides, which exist there and are refused when they are used. */

static value no_attr(value of, str *name)
{
    return (value){.kind = VAL_UNDEFINED, .sub = UNDEFINED_ATTRIBUTE, .of = of.kind, .s = name};
}

static bool is_inside(const str *name, const char *text)
{
    size_t n = name->length;
    return n > 4 && !memcmp(text, "__", 2) && !memcmp(text + n - 2, "__", 2);
}

value tpl_bind_method(tpl_state *s, const native *f, value self)
{
    bound *b = tpl_alloc(s, 1, sizeof *b);
    *b = (bound){f, self};
    return (value){.kind = VAL_NATIVE, .n = b};
}

/* A method or attribute that values of this kind have, whatever they hold; ABSENT where there is none. */
static value own_attr(tpl_state *s, value of, const str *name, const char *text)
{
    const native *f = of.kind == VAL_STR ? tpl_str_method(text, name->length) : tpl_data_method(of, text, name->length);
    if (f)
        return tpl_bind_method(s, f, of);
    switch (of.kind) {
    case VAL_LOOP:
        return tpl_loop_attr(s, of, name);
    case VAL_MACRO:
        return tpl_macro_attr(s, of, name);
    case VAL_CYCLER:
        return str_is(s, name, "current") && of.c->n ? of.c->at[of.c->next] : (value){0};
    case VAL_TUPLE:
        if (of.sub && str_is(s, name, "grouper"))
            return of.l->at[0];
        return of.sub && str_is(s, name, "list") ? of.l->at[1] : (value){0};
    case VAL_BOOL:
    case VAL_INT:
    case VAL_FLOAT:
        if (str_is(s, name, "real"))
            return of.kind == VAL_BOOL ? val_int(of.b) : of;
        return str_is(s, name, "imag") ? (of.kind == VAL_FLOAT ? val_float(0) : val_int(0)) : (value){0};
    case VAL_RANGE:
        if (str_is(s, name, "start") || str_is(s, name, "stop") || str_is(s, name, "step"))
            return val_int(text[2] == 'a' ? of.r->start : text[2] == 'o' ? of.r->stop : of.r->step);
        return (value){0};
    default:
        return (value){0};
    }
}

/* The value of a key, for what has keys or indexes; ABSENT where there is none. */
static value find_item(tpl_state *s, value of, value key)
{
    if (of.kind == VAL_DICT) {
        if (key.kind == VAL_LIST || key.kind == VAL_DICT)
            return (value){0};
        value *v = dict_get(s, of.d, key);
        return v ? *v : (value){0};
    }
    if (!is_int(key))
        return (value){0};
    wide i = int_of(key);
    if (of.kind == VAL_STR) {
        wide n = (wide)str_chars(s, of.s);
        i += i < 0 ? n : 0;
        if (i < 0 || i >= n)
            return (value){0};
        size_t from = str_offset(s, of.s, (size_t)i);
        return val_str(str_sub(s, of.s, from, str_offset(s, of.s, (size_t)i + 1)));
    }
    if (of.kind != VAL_LIST && of.kind != VAL_TUPLE && of.kind != VAL_RANGE)
        return (value){0};
    wide n = (wide)val_length(s, of);
    i += i < 0 ? n : 0;
    if (i < 0 || i >= n)
        return (value){0};
    return of.kind == VAL_RANGE ? val_int(of.r->start + (wide)of.r->step * i) : of.l->at[(size_t)i];
}

value tpl_get_attr(tpl_state *s, value of, str *name)
{
    val_use(s, of);
    const char *text = str_flat(s, name);
    if (of.kind == VAL_NAMESPACE) {
        value *v = dict_get(s, of.d, val_str(name));
        if (v)
            return *v;
    } else {
        value v = own_attr(s, of, name, text);
        if (given(v))
            return v;
        v = of.kind == VAL_DICT ? find_item(s, of, val_str(name)) : (value){0};
        if (given(v))
            return v;
    }
    value missing = no_attr(of, name);
    if (is_inside(name, text))
        missing.sub = UNDEFINED_UNSAFE;
    return missing;
}

value tpl_get_item(tpl_state *s, value of, value key)
{
    val_use(s, of);
    value v = find_item(s, of, key);
    if (given(v))
        return v;
    if (key.kind == VAL_STR && of.kind != VAL_NAMESPACE)
        return tpl_get_attr(s, of, key.s);
    return no_attr(of, key.kind == VAL_STR ? key.s : tpl_print_str(s, key));
}

value tpl_get_path(tpl_state *s, value of, value path, value fallback)
{
    if (path.kind != VAL_STR) {
        value v = tpl_get_item(s, of, path);
        return v.kind == VAL_UNDEFINED && given(fallback) ? fallback : v;
    }
    size_t from = 0, n = path.s->length;
    str *dot = str_text(s, ".");
    for (bool more = true; more;) {
        size_t to = str_find(s, path.s, dot, from, n);
        more = to != SIZE_MAX;
        str *part = str_sub(s, path.s, from, more ? to : n);
        const char *text = str_flat(s, part);
        wide i = 0;
        bool number = part->length && part->length < 10;
        for (size_t k = 0; number && k < part->length; k++) {
            number = text[k] >= '0' && text[k] <= '9';
            i = i * 10 + (text[k] - '0');
        }
        of = tpl_get_item(s, of, number ? val_int(i) : val_str(part));
        if (of.kind == VAL_UNDEFINED && given(fallback))
            of = fallback;
        from = to + 1;
    }
    return of;
}

/* ---- slices ---- */

/* Python's rules: the ends of a slice of n things, and how many it has. */
static size_t slice_range(tpl_state *s, value start, value stop, int64_t step, int64_t n, int64_t *first)
{
    int64_t low = step > 0 ? 0 : -1, high = step > 0 ? n : n - 1, ends[2];
    value given_ends[2] = {start, stop};
    for (int i = 0; i < 2; i++) {
        bool none = given_ends[i].kind == VAL_NONE || given_ends[i].kind == VAL_ABSENT;
        int64_t at = none ? 0 : tpl_int_arg(s, given_ends[i], "a slice's end");
        if (none)
            at = (i == 0) == (step > 0) ? low : high;
        else if (at < 0)
            at = at + n < low ? low : at + n;
        ends[i] = at > high ? high : at;
    }
    *first = ends[0];
    if (step > 0)
        return ends[1] > ends[0] ? (size_t)((ends[1] - ends[0] - 1) / step + 1) : 0;
    return ends[0] > ends[1] ? (size_t)((ends[0] - ends[1] - 1) / -step + 1) : 0;
}

static value slice_text(tpl_state *s, str *a, int64_t first, int64_t step, size_t count)
{
    if (step == 1) {
        size_t from = str_offset(s, a, (size_t)first);
        return val_str(str_sub(s, a, from, from + str_offset(s, str_sub(s, a, from, a->length), count)));
    }
    const list *chars = val_items(s, val_str(a));
    builder b = {0};
    for (size_t i = 0; i < count; i++)
        build_str(s, &b, chars->at[first + (int64_t)i * step].s);
    str *out = str_built(s, &b);
    out->safe = a->safe;
    return val_str(out);
}

value tpl_get_slice(tpl_state *s, value of, value start, value stop, value step)
{
    val_use(s, of);
    int64_t by = step.kind == VAL_NONE || !given(step) ? 1 : tpl_int_arg(s, step, "a slice's step"), first;
    if (of.kind != VAL_STR && of.kind != VAL_LIST && of.kind != VAL_TUPLE && of.kind != VAL_RANGE &&
        of.kind != VAL_ITER)
        tpl_fail(s, TEMPLATE_TYPE, "'%s' object is not subscriptable", val_type_name(of));
    if (by == 0)
        tpl_fail(s, TEMPLATE_VALUE, "slice step cannot be zero");
    by = by < -INT32_MAX ? -INT32_MAX : by > INT32_MAX ? INT32_MAX : by;
    size_t count = slice_range(s, start, stop, by, (int64_t)val_length(s, of), &first);
    if (of.kind == VAL_STR)
        return slice_text(s, of.s, first, by, count);
    const list *items = val_items(s, of);
    value out = val_list(s, of.kind == VAL_TUPLE ? VAL_TUPLE : VAL_LIST, count);
    tpl_work(s, count * sizeof(value));
    for (size_t i = 0; i < count; i++)
        list_push(s, out.l, items->at[first + (int64_t)i * by]);
    return out;
}
