#include <stdlib.h>

#include "text/template/call.h"
#include "text/template/number.h"
#include "text/template/print.h"
#include "text/template/textops.h"

/* Python's two ways to format: "%s" % values, and "{}".format(values). Both end in one field with a specification. */

typedef struct spec {
    const str *fill;
    char align; /* < > ^ =, or 0 */
    char sign;  /* + or blank, or 0 */
    bool alternate, zero, comma;
    int64_t width, precision; /* precision: -1 when not given */
    char type;                /* or 0 */
} spec;

static noreturn void bad_format(tpl_state *s, const char *what)
{
    tpl_fail(s, TEMPLATE_VALUE, "%s", what);
}

/* Digits in base 2, 8 or 16; the sign is written by the caller. */
static size_t in_base(unsigned __int128 u, unsigned base, bool upper, char *out)
{
    char digits[130];
    size_t n = 0, k = 0;
    do
        digits[n++] = (upper ? "0123456789ABCDEF" : "0123456789abcdef")[u % base];
    while (u /= base);
    while (n)
        out[k++] = digits[--n];
    return k;
}

/* The digits of a number's magnitude. */
static size_t magnitude(tpl_state *s, value v, const spec *f, char *out)
{
    char type = f->type ? f->type : is_int(v) && f->precision < 0 ? 'd' : 'r';
    if (strchr("di", type) || (strchr("xXob", type) && is_int(v))) {
        double real = v.kind == VAL_FLOAT ? v.f : 0;
        if (real - real != 0 || real > 1e37 || real < -1e37)
            bad_format(s, "cannot convert float to integer");
        wide i = is_int(v) ? int_of(v) : (wide)real;
        unsigned __int128 u = i < 0 ? -(unsigned __int128)i : (unsigned __int128)i;
        if (strchr("xXob", type))
            return in_base(u, type == 'o' ? 8 : type == 'b' ? 2 : 16, type == 'X', out);
        return u >> 127 ? number_int((wide)(u / 10), out) : number_int((wide)u, out);
    }
    double x = float_of(v);
    x = x < 0 || (x == 0 && 1 / x < 0) ? -x : x;
    int digits = f->precision < 0 ? 6 : f->precision > 40 ? 40 : (int)f->precision;
    if (type == 'f' || type == 'F')
        return number_fixed(x, digits, out);
    if (type == '%') {
        size_t n = number_fixed(x * 100, digits, out);
        out[n++] = '%';
        return n;
    }
    if (type == 'e' || type == 'E')
        return number_exponent(x, digits, out);
    if (type == 'g' || type == 'G' || (type == 'r' && f->precision >= 0)) {
        digits = digits ? digits : 1;
        size_t n = number_exponent(x, digits - 1, out);
        int exponent = atoi(strchr(out, 'e') ? strchr(out, 'e') + 1 : "0");
        if (exponent >= -4 && exponent < digits)
            n = number_fixed(x, digits - 1 - exponent < 0 ? 0 : digits - 1 - exponent, out);
        char *e = memchr(out, 'e', n);
        size_t mantissa = e ? (size_t)(e - out) : n, keep = mantissa;
        if (memchr(out, '.', mantissa)) {
            while (keep && out[keep - 1] == '0')
                keep--;
            keep -= keep && out[keep - 1] == '.';
        }
        memmove(out + keep, out + mantissa, n - mantissa);
        return n - (mantissa - keep);
    }
    if (type == 'r' || type == 's')
        return number_repr(x, out);
    bad_format(s, "unknown format code for a number");
}

static size_t with_commas(const char *digits, size_t n, char *out)
{
    size_t whole = strcspn(digits, ".e%"), k = 0;
    whole = whole < n ? whole : n;
    for (size_t i = 0; i < n; i++) {
        if (i && i < whole && (whole - i) % 3 == 0)
            out[k++] = ',';
        out[k++] = digits[i];
    }
    return k;
}

static str *format_number(tpl_state *s, value v, const spec *f)
{
    char digits[2 * NUMBER_MAX], grouped[2 * NUMBER_MAX];
    size_t n = magnitude(s, v, f, digits);
    digits[n] = 0;
    const char *text = digits;
    if (f->comma) {
        n = with_commas(digits, n, grouped);
        text = grouped;
    }
    bool negative = is_int(v) ? int_of(v) < 0 : v.f < 0 || (v.f == 0 && 1 / v.f < 0);
    builder sign = {0};
    if (negative || f->sign)
        build_text(s, &sign, negative ? "-" : f->sign == '+' ? "+" : " ");
    if (f->alternate && f->type && strchr("xXob", f->type))
        build_text(s, &sign, f->type == 'x' ? "0x" : f->type == 'X' ? "0X" : f->type == 'o' ? "0o" : "0b");
    str *front = str_built(s, &sign), *back = str_copy(s, text, n, false);
    if (f->align == '=' || (f->zero && !f->align)) {
        const str *fill = f->zero && !f->fill ? str_text(s, "0") : f->fill;
        return str_join2(s, front, text_pad(s, back, f->width - (int64_t)front->length, fill, '>'));
    }
    return text_pad(s, str_join2(s, front, back), f->width, f->fill ? f->fill : str_text(s, f->zero ? "0" : " "),
                    f->align ? f->align : '>');
}

static str *format_text(tpl_state *s, str *a, const spec *f)
{
    if (f->precision >= 0)
        a = str_sub(s, a, 0, str_offset(s, a, (size_t)f->precision));
    return text_pad(s, a, f->width, f->fill ? f->fill : str_text(s, " "), f->align && f->align != '=' ? f->align : '<');
}

/* ---- % ---- */

typedef struct percent {
    tpl_state *s;
    const str *format;
    const char *text;
    size_t at, n;
    value values;
    size_t next; /* of values, when that is a tuple */
    bool named;
    builder out;
} percent;

static value next_value(percent *p)
{
    if (p->values.kind == VAL_TUPLE) {
        if (p->next >= p->values.l->n)
            tpl_fail(p->s, TEMPLATE_TYPE, "not enough arguments for format string");
        return p->values.l->at[p->next++];
    }
    if (p->next++)
        tpl_fail(p->s, TEMPLATE_TYPE, "not enough arguments for format string");
    return p->values;
}

static int64_t digits_at(percent *p)
{
    if (p->at < p->n && p->text[p->at] == '*') {
        p->at++;
        return tpl_int_arg(p->s, next_value(p), "a width");
    }
    int64_t n = 0;
    while (p->at < p->n && p->text[p->at] >= '0' && p->text[p->at] <= '9') {
        n = n > 1000000000000 ? n : n * 10 + (p->text[p->at] - '0');
        p->at++;
    }
    return n;
}

static value named_value(percent *p)
{
    const char *end = memchr(p->text + p->at, ')', p->n - p->at);
    if (!end || p->values.kind != VAL_DICT)
        tpl_fail(p->s, end ? TEMPLATE_TYPE : TEMPLATE_VALUE,
                 end ? "format requires a mapping" : "incomplete format key");
    str *key = str_sub(p->s, p->format, p->at, (size_t)(end - p->text));
    value *v = dict_get(p->s, p->values.d, val_str(key));
    if (!v)
        tpl_fail(p->s, TEMPLATE_VALUE, "no value for the format's key");
    p->at = (size_t)(end - p->text) + 1;
    p->named = true;
    return *v;
}

static void percent_field(percent *p)
{
    tpl_state *s = p->s;
    spec f = {.precision = -1};
    bool left = false, named = p->text[p->at] == '(';
    value v = {0};
    if (named) {
        p->at++;
        v = named_value(p);
    }
    for (; p->at < p->n && strchr("-+ #0", p->text[p->at]) && p->text[p->at]; p->at++) {
        char c = p->text[p->at];
        left |= c == '-';
        f.sign = c == '+' || (c == ' ' && !f.sign) ? c : f.sign;
        f.alternate |= c == '#';
        f.zero |= c == '0';
    }
    f.width = digits_at(p);
    if (p->at < p->n && p->text[p->at] == '.') {
        p->at++;
        f.precision = digits_at(p);
    }
    while (p->at < p->n && strchr("hlL", p->text[p->at]) && p->text[p->at])
        p->at++;
    if (p->at >= p->n)
        bad_format(s, "incomplete format");
    f.type = p->text[p->at++];
    if (!named)
        v = next_value(p);
    f.align = left ? '<' : f.zero ? 0 : '>';
    f.zero = f.zero && !left;
    bool escapes = p->format->safe;
    if (f.type == 's' || f.type == 'r' || f.type == 'a') {
        builder b = {0};
        if (f.type != 's')
            tpl_print_repr(s, &b, v);
        str *text = f.type == 's' ? tpl_print_str(s, v) : str_built(s, &b);
        f.align = left ? '<' : '>';
        build_str(s, &p->out, format_text(s, escapes ? str_escape(s, text) : text, &f));
        return;
    }
    if (!strchr("diuxXofFeEgG", f.type) || !f.type)
        bad_format(s, "unsupported format character");
    val_use(s, v);
    if (!is_number(v) || (strchr("xXo", f.type) && !is_int(v)))
        tpl_fail(s, TEMPLATE_TYPE, "%%%c format: a number is required, not %s", f.type, val_type_name(v));
    f.type = f.type == 'u' ? 'd' : f.type;
    build_str(s, &p->out, format_number(s, v, &f));
}

str *tpl_format_percent(tpl_state *s, str *format, value values)
{
    percent p = {.s = s, .format = format, .text = str_flat(s, format), .n = format->length, .values = values};
    while (p.at < p.n) {
        const char *sign = memchr(p.text + p.at, '%', p.n - p.at);
        size_t to = sign ? (size_t)(sign - p.text) : p.n;
        build_sub(s, &p.out, format, p.at, to);
        p.at = to + 1;
        if (!sign)
            break;
        if (p.at >= p.n)
            bad_format(s, "incomplete format");
        if (p.text[p.at] == '%') {
            build_sub(s, &p.out, format, p.at, p.at + 1);
            p.at++;
        } else {
            percent_field(&p);
        }
    }
    bool rest = values.kind == VAL_TUPLE ? p.next < values.l->n
                                         : !p.next && !p.named && values.kind != VAL_DICT &&
                                               values.kind != VAL_UNDEFINED && values.kind != VAL_LIST;
    if (rest)
        tpl_fail(s, TEMPLATE_TYPE, "not all arguments converted during string formatting");
    str *out = str_built(s, &p.out);
    out->safe = format->safe;
    return out;
}

/* ---- {} ---- */

typedef struct braces {
    tpl_state *s;
    const str *format;
    const char *text;
    size_t n;
    const args *a;
    size_t next;
    int nested;
} braces;

static str *braces_between(braces *b, size_t from, size_t to);

/* text[from, to) as a number, or -1. */
static int64_t plain_number(const char *text, size_t from, size_t to)
{
    int64_t n = from < to && to - from < 10 ? 0 : -1;
    for (size_t i = from; n >= 0 && i < to; i++)
        n = text[i] >= '0' && text[i] <= '9' ? n * 10 + (text[i] - '0') : -1;
    return n;
}

static value argument(braces *b, size_t from, size_t to)
{
    int64_t i = from == to ? (int64_t)b->next++ : plain_number(b->text, from, to);
    if (i >= 0) {
        if ((size_t)i >= b->a->n)
            bad_format(b->s, "Replacement index out of range for positional args tuple");
        return b->a->at[i];
    }
    for (size_t k = 0; k < b->a->n_keywords; k++)
        if (b->a->keywords[k].name->length == to - from &&
            !memcmp(str_flat(b->s, b->a->keywords[k].name), b->text + from, to - from))
            return b->a->keywords[k].v;
    tpl_fail(b->s, TEMPLATE_VALUE, "no argument '%.*s' for the format", (int)(to - from < 60 ? to - from : 60),
             b->text + from);
}

/* name.attribute[index] */
static value field_value(braces *b, size_t from, size_t to)
{
    size_t at = from;
    while (at < to && b->text[at] != '.' && b->text[at] != '[')
        at++;
    value v = argument(b, from, at);
    while (at < to) {
        char c = b->text[at++];
        size_t begin = at;
        while (at < to && (c == '[' ? b->text[at] != ']' : b->text[at] != '.' && b->text[at] != '['))
            at++;
        str *name = str_sub(b->s, b->format, begin, at);
        int64_t i = plain_number(b->text, begin, at);
        v = c == '.' ? tpl_get_attr(b->s, v, name) : tpl_get_item(b->s, v, i >= 0 ? val_int(i) : val_str(name));
        at += c == '[' && at < to;
    }
    return v;
}

static int64_t spec_number(const char *text, size_t *at, size_t n)
{
    int64_t v = 0;
    for (; *at < n && text[*at] >= '0' && text[*at] <= '9'; ++*at)
        v = v > 1000000000000 ? v : v * 10 + (text[*at] - '0');
    return v;
}

static spec read_spec(tpl_state *s, const str *of)
{
    spec f = {.precision = -1};
    const char *text = str_flat(s, of);
    size_t n = of->length, at = 0;
    if (n) {
        str_walk w = str_walk_of(of);
        str_walk_next(&w);
        if (w.length < n && strchr("<>^=", text[w.length]) && text[w.length]) {
            f.fill = str_sub(s, of, 0, w.length);
            f.align = text[w.length];
            at = w.length + 1;
        } else if (strchr("<>^=", text[0]) && text[0]) {
            f.align = text[at++];
        }
    }
    if (at < n && (text[at] == '+' || text[at] == '-' || text[at] == ' ')) {
        f.sign = text[at] == '-' ? 0 : text[at];
        at++;
    }
    if (at < n && text[at] == '#') {
        f.alternate = true;
        at++;
    }
    if (at < n && text[at] == '0') {
        f.zero = true;
        at++;
    }
    f.width = spec_number(text, &at, n);
    if (at < n && (text[at] == ',' || text[at] == '_')) {
        f.comma = text[at] == ',';
        at++;
    }
    if (at < n && text[at] == '.') {
        at++;
        f.precision = spec_number(text, &at, n);
    }
    if (at < n)
        f.type = text[at++];
    if (at < n)
        bad_format(s, "Invalid format specifier");
    return f;
}

static str *format_value(tpl_state *s, value v, const str *how)
{
    if (!how->length)
        return tpl_print_str(s, v);
    spec f = read_spec(s, how);
    if (is_number(v) && !(v.kind == VAL_BOOL && !f.type))
        return format_number(s, v, &f);
    if (v.kind != VAL_STR && v.kind != VAL_BOOL && v.kind != VAL_UNDEFINED)
        tpl_fail(s, TEMPLATE_TYPE, "unsupported format string passed to %s", val_type_name(v));
    if (f.type && f.type != 's')
        bad_format(s, "unknown format code for a text");
    return format_text(s, tpl_print_str(s, v), &f);
}

/* A field whose inside is text[from, to). */
static str *field(braces *b, size_t from, size_t to)
{
    size_t name = from, brackets = 0;
    while (name < to && (brackets || (b->text[name] != ':' && b->text[name] != '!'))) {
        brackets += b->text[name] == '[';
        brackets -= b->text[name] == ']' && brackets;
        name++;
    }
    value v = field_value(b, from, name);
    size_t at = name;
    char conversion = 0;
    if (at < to && b->text[at] == '!') {
        conversion = at + 1 < to ? b->text[at + 1] : 0;
        if (!conversion || !strchr("rsa", conversion))
            bad_format(b->s, "an unknown conversion in a format");
        at += 2;
    }
    if (at < to && b->text[at] != ':')
        bad_format(b->s, "expected ':' after conversion specifier");
    str *how = at < to ? braces_between(b, at + 1, to) : str_text(b->s, "");
    if (conversion) {
        builder repr = {0};
        if (conversion != 's')
            tpl_print_repr(b->s, &repr, v);
        v = val_str(conversion == 's' ? tpl_print_str(b->s, v) : str_built(b->s, &repr));
    }
    str *out = format_value(b->s, v, how);
    return b->format->safe ? str_escape(b->s, out) : out;
}

static str *braces_between(braces *b, size_t from, size_t to)
{
    builder out = {0};
    if (++b->nested > 3)
        bad_format(b->s, "Max string recursion exceeded");
    for (size_t at = from; at < to;) {
        size_t plain = at;
        while (at < to && b->text[at] != '{' && b->text[at] != '}')
            at++;
        build_sub(b->s, &out, b->format, plain, at);
        if (at >= to)
            break;
        char c = b->text[at];
        if (at + 1 < to && b->text[at + 1] == c && b->nested == 1) {
            build_sub(b->s, &out, b->format, at, at + 1);
            at += 2;
            continue;
        }
        if (c == '}')
            bad_format(b->s, "Single '}' encountered in format string");
        size_t begin = ++at, depth = 1;
        for (; at < to && depth; at++)
            depth += (b->text[at] == '{') - (size_t)(b->text[at] == '}');
        if (depth)
            bad_format(b->s, "expected '}' before end of string");
        build_str(b->s, &out, field(b, begin, at - 1));
    }
    b->nested--;
    return str_built(b->s, &out);
}

str *tpl_format_braces(tpl_state *s, const str *format, const args *a)
{
    braces b = {.s = s, .format = format, .text = str_flat(s, format), .n = format->length, .a = a};
    str *out = braces_between(&b, 0, b.n);
    out->safe = format->safe;
    return out;
}
