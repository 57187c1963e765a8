#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/grammar/json_text.h"

#define WHOLE_MAX UINT64_C(999999999999999000) /* no double above it is below 10^18 */

/* ---- natural numbers ------------------------------------------------------------------------------------------------ */

static int digits_of(uint64_t n)
{
    int digits = 1;
    for (; n >= 10; n /= 10)
        digits++;
    return digits;
}

static uint64_t power10(int n)
{
    uint64_t p = 1;
    while (n-- > 0)
        p *= 10;
    return p;
}

/* lo to hi without leading zeros, hi below 10^19; unbounded: up to NUMBER_DIGITS_MAX digits. */
static expr_id natural(grammar_rules *g, uint64_t lo, uint64_t hi, bool unbounded)
{
    expr_list list = {0};
    int first = digits_of(lo), last = unbounded ? first : digits_of(hi);
    for (int n = first; n <= last && !g->status && (unbounded || lo <= hi); n++) {
        uint64_t a = n == first ? lo : power10(n - 1), b = n == last && !unbounded ? hi : power10(n - 1) * 10 - 1;
        expr_list_add(g, &list, digits_between(g, a, b, n, 10));
    }
    if (unbounded)
        expr_list_add(g, &list,
                      SEQ(g, expr_range(g, '1', '9'),
                          expr_repeat(g, expr_range(g, '0', '9'), (uint32_t)last, NUMBER_DIGITS_MAX - 1)));
    expr_id e = expr_alt(g, list.items, list.count);
    free(list.items);
    return e;
}

/* ---- integers ------------------------------------------------------------------------------------------------------- */

/* The least integer that the bound allows (low), or the greatest. *none: no integer of 64 bits is so great (or small). */
static int64_t integer_bound(number_bound b, bool low, bool *none, bool *every)
{
    int64_t step = low ? 1 : -1, limit = low ? INT64_MAX : INT64_MIN;
    if (b.whole) {
        *none = b.open && b.integer == limit;
        return b.integer + (b.open && !*none ? step : 0);
    }
    double r = low ? ceil(b.real) : floor(b.real);
    if (b.open && r == b.real)
        r += (double)step;
    *none = low ? r >= 0x1p63 : r < -0x1p63;
    *every = low ? r < -0x1p63 : r >= 0x1p63;
    return *none || *every ? 0 : (int64_t)r;
}

static uint64_t magnitude(int64_t n)
{
    return n < 0 ? 0 - (uint64_t)n : (uint64_t)n;
}

expr_id text_integer(json_text *t, number_bound low, number_bound high)
{
    grammar_rules *g = t->g;
    bool none = false, every = false;
    if (!low.set && !high.set) {
        if (text_fresh(t, &t->integer, "integer")) {
            expr_id minus = expr_repeat(g, TEXT(g, "-"), 0, 1);
            rules_define(g, t->integer, SEQ(g, minus, natural(g, 0, 0, true)));
        }
        return expr_rule(g, t->integer);
    }
    int64_t lo = low.set ? integer_bound(low, true, &none, &every) : 0;
    bool no_low = !low.set || every;
    every = false;
    bool no_value = none;
    none = false;
    int64_t hi = high.set ? integer_bound(high, false, &none, &every) : 0;
    bool no_high = !high.set || every;
    if (no_value || none || (!no_low && !no_high && lo > hi))
        return EXPR_NEVER;
    expr_id parts[2] = {EXPR_NEVER, EXPR_NEVER};
    if (no_low || lo < 0)
        parts[0] = SEQ(g, TEXT(g, "-"), natural(g, no_high || hi >= 0 ? 1 : magnitude(hi), magnitude(lo), no_low));
    if (no_high || hi >= 0)
        parts[1] = natural(g, no_low || lo < 0 ? 0 : (uint64_t)lo, (uint64_t)hi, no_high);
    return parts[0] == EXPR_NEVER ? parts[1] : parts[1] == EXPR_NEVER ? parts[0] : expr_alt(g, parts, 2);
}

/* ---- decimals ------------------------------------------------------------------------------------------------------- */

/* A bound without its sign: whole.fraction, no zeros at the fraction's end. */
typedef struct decimal {
    uint64_t whole;
    char fraction[64];
    bool open;
} decimal;

/* The shortest decimal that is this double: its digits without point, as 0.DIGITS times 10^exponent. */
static void shortest(double v, char digits[32], int *exponent)
{
    char text[40];
    for (int precision = 14; precision < 17; precision++) {
        snprintf(text, sizeof text, "%.*e", precision, v);
        if (strtod(text, NULL) == v)
            break;
    }
    size_t n = 0;
    const char *p = text;
    for (; *p && *p != 'e'; p++)
        if (*p >= '0' && *p <= '9')
            digits[n++] = *p;
    while (n > 0 && digits[n - 1] == '0')
        n--;
    digits[n] = 0;
    *exponent = n ? atoi(p + 1) + 1 : 0;
}

/* v >= 0 as a decimal. What is beyond the range of texts is cut to its edge: from 10^18 on, and below 10^-20, where no
 * text lies between zero and v. `upper`: v bounds from above. */
static decimal decimal_of(double v, bool open, bool upper)
{
    decimal d = {.open = open};
    char digits[32];
    int exponent;
    if (v >= 1e18) {
        d.whole = WHOLE_MAX;
        d.open = false;
        return d;
    }
    shortest(v, digits, &exponent);
    if (v > 0 && exponent < -NUMBER_DIGITS_MAX + 1) {
        d.open = !upper;
        return d;
    }
    int n = (int)strlen(digits), at = 0;
    for (; at < exponent; at++)
        d.whole = d.whole * 10 + (uint64_t)(at < n ? digits[at] - '0' : 0);
    size_t used = 0;
    for (int zero = exponent; zero < 0; zero++)
        d.fraction[used++] = '0';
    for (; at < n; at++)
        d.fraction[used++] = digits[at];
    return d;
}

/* Digits behind a point, `need` of them at least and `room` at most, whose value is between lo and hi (digits without
 * zeros at the end; NULL: no bound). */
static expr_id fraction(grammar_rules *g, const char *lo, bool lo_open, const char *hi, bool hi_open, bool need,
                        uint32_t room)
{
    if (lo && !*lo && !lo_open)
        lo = NULL;
    if (!lo && !hi)
        return expr_repeat(g, expr_range(g, '0', '9'), need, room);
    bool zero = !lo && (!hi || *hi || !hi_open); /* no more digits: the value is zero */
    if (room == 0 || (hi && !*hi && hi_open))
        return zero && !need ? EXPR_EMPTY : EXPR_NEVER;
    expr_id parts[4];
    size_t n = 0;
    char a = lo && *lo ? *lo : '0', b = hi ? (*hi ? *hi : '0') : '9';
    const char *lo_next = lo ? lo + (*lo != 0) : NULL, *hi_next = hi ? hi + (*hi != 0) : NULL;
    if (zero && !need)
        parts[n++] = EXPR_EMPTY;
    if (a == b) {
        parts[n++] = SEQ(g, expr_range(g, (uint32_t)a, (uint32_t)a),
                         fraction(g, lo_next, lo_open, hi_next, hi_open, false, room - 1));
    } else if (a < b) {
        char from = a, to = b;
        if (lo) {
            parts[n++] = SEQ(g, expr_range(g, (uint32_t)a, (uint32_t)a),
                             fraction(g, lo_next, lo_open, NULL, false, false, room - 1));
            from++;
        }
        if (hi) {
            parts[n++] = SEQ(g, expr_range(g, (uint32_t)b, (uint32_t)b),
                             fraction(g, NULL, false, hi_next, hi_open, false, room - 1));
            to--;
        }
        if (from <= to)
            parts[n++] = SEQ(g, expr_range(g, (uint32_t)from, (uint32_t)to),
                             fraction(g, NULL, false, NULL, false, false, room - 1));
    }
    return expr_alt(g, parts, n);
}

/* What may follow the digits before the point: nothing, or a point and digits. */
static expr_id behind_whole(grammar_rules *g, const decimal *lo, const decimal *hi)
{
    const char *a = lo ? lo->fraction : NULL, *b = hi ? hi->fraction : NULL;
    bool a_open = lo && lo->open, b_open = hi && hi->open;
    bool alone = (!a || (!*a && !a_open)) && (!b || *b || !b_open);
    expr_id digits = SEQ(g, TEXT(g, "."), fraction(g, a, a_open, b, b_open, true, NUMBER_DIGITS_MAX));
    return alone ? ALT(g, EXPR_EMPTY, digits) : digits;
}

/* Decimals without sign from lo to hi; hi NULL: as long as texts may be. */
static expr_id unsigned_between(grammar_rules *g, const decimal *lo, const decimal *hi)
{
    if (hi && lo->whole == hi->whole)
        return SEQ(g, natural(g, lo->whole, lo->whole, false), behind_whole(g, lo, hi));
    if (hi && lo->whole > hi->whole)
        return EXPR_NEVER;
    expr_id parts[3] = {SEQ(g, natural(g, lo->whole, lo->whole, false), behind_whole(g, lo, NULL)), EXPR_NEVER,
                        EXPR_NEVER};
    if (!hi || lo->whole + 1 < hi->whole)
        parts[1] = SEQ(g, natural(g, lo->whole + 1, hi ? hi->whole - 1 : 0, !hi), behind_whole(g, NULL, NULL));
    if (hi)
        parts[2] = SEQ(g, natural(g, hi->whole, hi->whole, false), behind_whole(g, NULL, hi));
    return expr_alt(g, parts, 3);
}

/* The bound as a double that is inside, so that texts which round to it are, too. Zero stays what it is. */
static double inner(number_bound b, bool low, bool *open)
{
    double v = b.whole ? (double)b.integer : b.real, inside = low ? INFINITY : -INFINITY;
    bool rounded = b.whole && (v >= 0x1p53 || v <= -0x1p53);
    *open = b.open && v == 0;
    return (b.open && v != 0) || rounded ? nextafter(v, inside) : v;
}

/* A digit of lo to hi, and digits behind a point whose first is at most `tenths`. */
static expr_id mantissa(grammar_rules *g, char lo, char hi, char tenths)
{
    expr_id digits = SEQ(g, TEXT(g, "."), expr_range(g, '0', (uint32_t)tenths),
                         expr_repeat(g, expr_range(g, '0', '9'), 0, NUMBER_DIGITS_MAX - 1));
    return SEQ(g, expr_range(g, (uint32_t)lo, (uint32_t)hi), expr_repeat(g, digits, 0, 1));
}

static expr_id letter_e(grammar_rules *g)
{
    return ALT(g, TEXT(g, "e"), TEXT(g, "E"));
}

/* d.ddd e exponent: numbers below 10^-4, except those that a double rounds to zero. */
static expr_id tiny(grammar_rules *g)
{
    expr_id exponent = ALT(g, SEQ(g, TEXT(g, "0"), expr_range(g, '5', '9')), digits_between(g, 10, 99, 2, 10),
                           digits_between(g, 100, 323, 3, 10));
    return SEQ(g, mantissa(g, '1', '9', '9'), letter_e(g), TEXT(g, "-"), exponent);
}

/* The same with exponents from 16 on (any: all), below the greatest double. */
static expr_id huge(grammar_rules *g, bool any)
{
    expr_id plus = expr_repeat(g, TEXT(g, "+"), 0, 1), digit = expr_range(g, '0', '9');
    expr_id small = any ? expr_repeat(g, digit, 1, 2) : digits_between(g, 16, 99, 2, 10);
    expr_id below = ALT(g, small, digits_between(g, any ? 0 : 100, 307, 3, 10));
    return ALT(g, SEQ(g, mantissa(g, any ? '0' : '1', '9', '9'), letter_e(g), plus, below),
               SEQ(g, mantissa(g, '1', '1', '6'), letter_e(g), plus, TEXT(g, "308")));
}

/* One sign's numbers; low and high are magnitudes, high.set false: no upper end. */
static expr_id one_sign(grammar_rules *g, double low, bool low_open, bool high_set, double high, bool high_open)
{
    if (low >= 1e18 || (high_set && (low > high || (low == high && (low_open || high_open)))))
        return EXPR_NEVER; /* no text is as large as 10^18 for sure */
    decimal bounds[2] = {decimal_of(low, low_open, false)};
    if (high_set)
        bounds[1] = decimal_of(high, high_open, true);
    expr_id parts[3] = {unsigned_between(g, &bounds[0], high_set ? &bounds[1] : NULL), EXPR_NEVER, EXPR_NEVER};
    if (low == 0 && (!high_set || high >= 1e-4))
        parts[1] = tiny(g);
    if (!high_set && low <= 1e16)
        parts[2] = huge(g, false);
    return expr_alt(g, parts, 3);
}

expr_id text_number(json_text *t, number_bound low, number_bound high)
{
    grammar_rules *g = t->g;
    bool low_open = false, high_open = false;
    double lo = low.set ? inner(low, true, &low_open) : 0, hi = high.set ? inner(high, false, &high_open) : 0;
    expr_id parts[2] = {EXPR_NEVER, EXPR_NEVER};
    if (!low.set || lo < 0) {
        bool below = high.set && hi < 0; /* else the magnitudes begin at zero, which has no sign */
        parts[0] = SEQ(g, TEXT(g, "-"), one_sign(g, below ? -hi : 0, !below, low.set, -lo, false));
    }
    if (!high.set || hi >= 0)
        parts[1] = one_sign(g, low.set && lo > 0 ? lo : 0, low.set && lo == 0 && low_open, high.set, hi, high_open);
    return expr_alt(g, parts, 2);
}

expr_id text_any_number(json_text *t)
{
    grammar_rules *g = t->g;
    if (!text_fresh(t, &t->number, "number"))
        return expr_rule(g, t->number);
    expr_id digit = expr_range(g, '0', '9');
    expr_id fraction_part = expr_repeat(g, SEQ(g, TEXT(g, "."), expr_repeat(g, digit, 1, NUMBER_DIGITS_MAX)), 0, 1);
    expr_id plain = SEQ(g, natural(g, 0, 0, true), fraction_part);
    expr_id small = SEQ(g, mantissa(g, '0', '9', '9'), letter_e(g), TEXT(g, "-"), expr_repeat(g, digit, 1, 3));
    rules_define(g, t->number, SEQ(g, expr_repeat(g, TEXT(g, "-"), 0, 1), ALT(g, plain, small, huge(g, true))));
    return expr_rule(g, t->number);
}
