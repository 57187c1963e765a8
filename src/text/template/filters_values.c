#include <math.h>
#include <stdlib.h>

#include "text/template/filters.h"
#include "text/template/number.h"
#include "text/template/print.h"
#include "text/template/textops.h"

/* Filters on numbers, missing values and attributes. */

static value filter_default(tpl_state *s, value in, const value *p, const args *a)
{
    bool missing = in.kind == VAL_UNDEFINED || (wants(p[1]) && !val_true(in));
    return !missing ? in : given(p[0]) ? p[0] : val_text(s, "");
}

static value filter_abs(tpl_state *s, value in, const value *p, const args *a)
{
    val_use(s, in);
    if (!is_number(in))
        tpl_fail(s, TEMPLATE_TYPE, "bad operand type for abs(): '%s'", val_type_name(in));
    if (in.kind == VAL_FLOAT)
        return val_float(fabs(in.f));
    return int_of(in) < 0 ? tpl_negate(s, in) : val_int(int_of(in));
}

/* Python's round: half to even, of the number's exact decimal digits. */
static double round_float(double f, int64_t digits)
{
    char text[NUMBER_MAX];
    if (!isfinite(f) || digits > 300)
        return f;
    if (digits >= 0 && digits <= 40)
        return number_read(text, number_fixed(f, (int)digits, text));
    if (digits > 40)
        return f;
    double unit = pow(10, (double)-digits);
    return nearbyint(f / unit) * unit;
}

static value filter_round(tpl_state *s, value in, const value *p, const args *a)
{
    val_use(s, in);
    int64_t digits = given(p[0]) ? tpl_int_arg(s, p[0], "the precision") : 0;
    const char *how = "common";
    if (given(p[1]))
        how = str_is(s, tpl_str_arg(s, p[1], "the method"), "ceil") ? "ceil"
              : str_is(s, p[1].s, "floor")                          ? "floor"
              : str_is(s, p[1].s, "common")                         ? "common"
                                                                    : NULL;
    if (!how)
        tpl_fail(s, TEMPLATE_RUNTIME, "method must be common, ceil or floor");
    if (!is_number(in))
        tpl_fail(s, TEMPLATE_TYPE, "round takes a number, not %s", val_type_name(in));
    if (*how != 'c' || how[1] == 'e') {
        double unit = pow(10, (double)digits), f = float_of(in) * unit;
        return val_float((*how == 'c' ? ceil(f) : floor(f)) / unit);
    }
    if (in.kind == VAL_FLOAT)
        return val_float(round_float(in.f, digits));
    if (digits >= 0)
        return val_int(int_of(in));
    wide unit = 1;
    for (int64_t i = 0; i > digits; i--)
        if (__builtin_mul_overflow(unit, (wide)10, &unit))
            return val_int(0);
    wide low = tpl_floor_div(int_of(in), unit), rest = int_of(in) - low * unit;
    bool up = rest * 2 > unit || (rest * 2 == unit && low % 2);
    return val_int((low + up) * unit);
}

/* ---- int and float ---- */

/* Digits with single underscores between them, and a sign, in a base; false when text is something else. */
static bool read_int(tpl_state *s, const str *a, int base, wide *out)
{
    const str *plain = text_strip(s, (str *)a, NULL, STRIP_LEFT | STRIP_RIGHT);
    const char *text = str_flat(s, plain);
    size_t n = plain->length, i = 0;
    bool negative = n && *text == '-', any = false, overflow = false;
    i += n && (*text == '-' || *text == '+');
    if (n - i > 2 && text[i] == '0') {
        char letter = text[i + 1] | 32;
        if ((letter == 'x' && base == 16) || (letter == 'o' && base == 8) || (letter == 'b' && base == 2))
            i += 2;
    }
    *out = 0;
    for (; i < n; i++) {
        char c = text[i];
        int d = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'z' ? (c | 32) - 'a' + 10 : 99;
        if (c == '_' && any && i + 1 < n && text[i - 1] != '_')
            continue;
        if (d >= base)
            return false;
        overflow |= __builtin_mul_overflow(*out, (wide)base, out) || __builtin_add_overflow(*out, (wide)d, out);
        any = true;
    }
    if (overflow)
        tpl_fail(s, TEMPLATE_LIMIT, "an integer of more than 38 digits");
    *out = negative ? -*out : *out;
    return any;
}

static bool read_float(tpl_state *s, const str *a, double *out)
{
    const str *plain = text_strip(s, (str *)a, NULL, STRIP_LEFT | STRIP_RIGHT);
    const char *text = str_flat(s, plain);
    size_t i = 0, n = plain->length, digits = 0;
    i += n && (*text == '-' || *text == '+');
    str *word = text_case_of(s, str_sub(s, plain, i, n), CASE_LOWER);
    if (str_is(s, word, "inf") || str_is(s, word, "infinity") || str_is(s, word, "nan")) {
        *out = *str_flat(s, word) == 'n' ? NAN : *text == '-' ? -INFINITY : INFINITY;
        return true;
    }
    for (; i < n && text[i] >= '0' && text[i] <= '9'; i++)
        digits++;
    if (i < n && text[i] == '.')
        for (i++; i < n && text[i] >= '0' && text[i] <= '9'; i++)
            digits++;
    if (digits && i < n && (text[i] | 32) == 'e') {
        size_t exponent = i + 1;
        exponent += exponent < n && (text[exponent] == '-' || text[exponent] == '+');
        if (exponent < n)
            for (i = exponent; i < n && text[i] >= '0' && text[i] <= '9';)
                i++;
    }
    if (!digits || i < n || n >= NUMBER_MAX)
        return false;
    *out = number_read(text, n);
    return true;
}

static value filter_int(tpl_state *s, value in, const value *p, const args *a)
{
    val_use(s, in);
    value fallback = given(p[0]) ? p[0] : val_int(0);
    int64_t base = given(p[1]) ? tpl_int_arg(s, p[1], "the base") : 10;
    double f = 0;
    wide i;
    if (base < 2 || base > 36)
        tpl_fail(s, TEMPLATE_VALUE, "the base must be from 2 to 36");
    if (is_int(in))
        return val_int(int_of(in));
    if (in.kind == VAL_STR && read_int(s, in.s, (int)base, &i))
        return val_int(i);
    if (in.kind == VAL_FLOAT || (in.kind == VAL_STR && read_float(s, in.s, &f)))
        f = in.kind == VAL_FLOAT ? in.f : f;
    else
        return fallback;
    return isfinite(f) && fabs(f) < 1e37 ? val_int((wide)f) : fallback;
}

static value filter_float(tpl_state *s, value in, const value *p, const args *a)
{
    val_use(s, in);
    double f;
    if (is_number(in))
        return val_float(float_of(in));
    if (in.kind == VAL_STR && read_float(s, in.s, &f))
        return val_float(f);
    return given(p[0]) ? p[0] : val_float(0);
}

static value filter_attr(tpl_state *s, value in, const value *p, const args *a)
{
    str *name = tpl_str_arg(s, p[0], "the attribute's name");
    if (in.kind == VAL_DICT && !tpl_data_method(in, str_flat(s, name), name->length)) /* keys are no attributes */
        return (value){.kind = VAL_UNDEFINED, .sub = UNDEFINED_ATTRIBUTE, .of = in.kind, .s = name};
    return tpl_get_attr(s, in, name);
}

static value filter_pprint(tpl_state *s, value in, const value *p, const args *a)
{
    builder b = {0};
    tpl_print_repr(s, &b, in);
    return val_str(str_built(s, &b));
}

const native *tpl_filter_of_values(const char *name, size_t length)
{
    static const native table[] = {
        {"default", filter_default, "default_value,boolean", 0},
        {"d", filter_default, "default_value,boolean", 0},
        {"abs", filter_abs, "", 0},
        {"round", filter_round, "precision,method", 0},
        {"int", filter_int, "default,base", 0},
        {"float", filter_float, "default", 0},
        {"attr", filter_attr, "name", 1},
        {"pprint", filter_pprint, "", 0},
    };
    return tpl_native_find(table, sizeof table / sizeof *table, name, length);
}

const native *tpl_filter_find(const char *name, size_t length)
{
    const native *f = tpl_filter_of_text(name, length);
    if (!f)
        f = tpl_filter_of_lists(name, length);
    if (!f)
        f = tpl_filter_of_values(name, length);
    return f ? f : tpl_filter_rare(name, length);
}
