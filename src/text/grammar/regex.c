#include "text/grammar/regex.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/utf8.h"

#define NESTING_MAX 100

typedef struct reader {
    json_text *t;
    grammar_rules *g;
    const char *text;
    size_t at, length;
    int nesting;
} reader;

static const regex_part nothing = {EXPR_NEVER, 0, 0};

static regex_part wrong(reader *r, size_t at, odmoe_status status, const char *what)
{
    rules_fail(r->g, status, "byte %zu: %s", at, what);
    return nothing;
}

static int peek(const reader *r)
{
    return r->at < r->length ? (unsigned char)r->text[r->at] : -1;
}

static bool take(reader *r, const char *text)
{
    size_t n = strlen(text);
    if (r->length - r->at < n || memcmp(r->text + r->at, text, n))
        return false;
    r->at += n;
    return true;
}

/* ---- sets of characters ------------------------------------------------------------------------------------------- */

static void add(reader *r, charset *set, uint32_t lo, uint32_t hi)
{
    if (!r->g->status)
        r->g->status = charset_add(set, lo, hi, r->g->err);
}

/* Characters beyond ASCII that one reader or another takes for a digit ('d') or a letter of a word ('w'). */
static void add_disputed(reader *r, charset *set, char kind)
{
    uint32_t from = 0;
    bool in = false;
    for (uint32_t c = 0x80; c <= CHAR_MAX_CODE + 1 && !r->g->status; c++) {
        utf8proc_category_t category = c <= CHAR_MAX_CODE ? utf8proc_category((utf8proc_int32_t)c) : 0;
        bool is = category == UTF8PROC_CATEGORY_ND || category == UTF8PROC_CATEGORY_CN ||
                  (kind == 'w' && ((category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_ME) ||
                                   category == UTF8PROC_CATEGORY_NL || category == UTF8PROC_CATEGORY_NO));
        is &= c <= CHAR_MAX_CODE;
        if (is && !in)
            from = c;
        if (!is && in)
            add(r, set, from, c - 1);
        in = is;
    }
}

/* \d \w \s: what all readers agree on; with `all`, what any reader takes for one. */
static void add_class(reader *r, charset *set, char kind, bool all)
{
    static const char_range digits[] = {{'0', '9'}}, words[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}},
                            spaces[] = {{9, 13},          {' ', ' '},       {0xA0, 0xA0},
                                        {0x1680, 0x1680}, {0x2000, 0x200A}, {0x2028, 0x2029},
                                        {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}},
                            disputed[] = {{0x1C, 0x1F}, {0x85, 0x85}, {0x180E, 0x180E}, {0xFEFF, 0xFEFF}};
    const char_range *ranges = kind == 'd' ? digits : kind == 'w' ? words : spaces;
    size_t n = kind == 'd' ? 1 : kind == 'w' ? 4 : sizeof spaces / sizeof *spaces;
    for (size_t i = 0; i < n; i++)
        add(r, set, ranges[i].lo, ranges[i].hi);
    for (size_t i = 0; all && kind == 's' && i < sizeof disputed / sizeof *disputed; i++)
        add(r, set, disputed[i].lo, disputed[i].hi);
    if (all && kind != 's')
        add_disputed(r, set, kind);
}

static void negate(reader *r, charset *set)
{
    if (!r->g->status)
        r->g->status = charset_normalise(set, r->g->err);
    if (!r->g->status)
        r->g->status = charset_negate(set, r->g->err);
}

/* \D \W \S into a set: what no reader takes for \d, \w, \s. */
static void add_negated_class(reader *r, charset *set, char kind)
{
    charset none = {0};
    add_class(r, &none, kind, true);
    negate(r, &none);
    for (size_t i = 0; i < none.count; i++)
        add(r, set, none.ranges[i].lo, none.ranges[i].hi);
    charset_free(&none);
}

/* One character of the set, which is freed. */
static regex_part one_of(reader *r, charset *set, size_t open)
{
    if (!r->g->status)
        r->g->status = charset_normalise(set, r->g->err);
    if (!r->g->status && !set->count)
        wrong(r, open, ODMOE_ERR_FORMAT, "a set without any character");
    expr_id e = r->g->status ? EXPR_NEVER : text_character_of(r->t, set);
    charset_free(set);
    return (regex_part){e, 1, 1};
}

/* ---- escapes ------------------------------------------------------------------------------------------------------ */

static bool hex(reader *r, int digits, uint32_t *out)
{
    *out = 0;
    for (int i = 0; i < digits; i++, r->at++) {
        int c = peek(r) | 0x20;
        if (peek(r) >= '0' && peek(r) <= '9')
            *out = *out << 4 | (uint32_t)(peek(r) - '0');
        else if (c >= 'a' && c <= 'f' && peek(r) > 0)
            *out = *out << 4 | (uint32_t)(c - 'a' + 10);
        else
            return false;
    }
    return true;
}

/* \uHHHH, a pair of surrogates written so, or \u{H...}; behind the "u". */
static bool unicode_escape(reader *r, uint32_t *out)
{
    uint32_t low;
    if (take(r, "{")) {
        int n = 0;
        while (r->at + (size_t)n < r->length && r->text[r->at + (size_t)n] != '}')
            n++;
        return n >= 1 && n <= 6 && hex(r, n, out) && take(r, "}");
    }
    if (!hex(r, 4, out))
        return false;
    if (*out >= 0xD800 && *out <= 0xDBFF && take(r, "\\u") && hex(r, 4, &low) && low >= 0xDC00 && low <= 0xDFFF)
        *out = 0x10000 + ((*out - 0xD800) << 10 | (low - 0xDC00));
    return true;
}

static bool is_letter(int c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* An escape that stands for one character, behind its backslash. */
static uint32_t character_escape(reader *r, size_t start)
{
    static const char letters[] = "tnvfr", values[] = "\t\n\v\f\r";
    int c = peek(r);
    const char *known = c > 0 ? strchr(letters, c) : NULL;
    uint32_t out = 0;
    bool good = true;
    if (c < 0) {
        wrong(r, start, ODMOE_ERR_FORMAT, "a backslash at the end");
        return 0;
    }
    r->at++;
    if (known)
        return (uint32_t)values[known - letters];
    if (c == 'x')
        good = hex(r, 2, &out);
    else if (c == 'u')
        good = unicode_escape(r, &out);
    else if (c == 'c' && is_letter(peek(r)))
        out = (uint32_t)r->text[r->at++] & 31;
    else if (c == '0' && !(peek(r) >= '0' && peek(r) <= '9'))
        out = 0;
    else if (c >= '0' && c <= '9')
        wrong(r, start, ODMOE_ERR_UNSUPPORTED, "references back (\\1) cannot be enforced");
    else if (c == 'b' || c == 'B')
        wrong(r, start, ODMOE_ERR_UNSUPPORTED, "word boundaries (\\b, \\B) cannot be enforced");
    else if (c == 'k')
        wrong(r, start, ODMOE_ERR_UNSUPPORTED, "references back (\\k) cannot be enforced");
    else if (c == 'p' || c == 'P')
        wrong(r, start, ODMOE_ERR_UNSUPPORTED, "Unicode properties (\\p) are not supported");
    else if (is_letter(c) || c >= 0x80)
        good = false;
    else
        out = (uint32_t)c;
    if (!good || out > CHAR_MAX_CODE || (out >= 0xD800 && out <= 0xDFFF))
        wrong(r, start, ODMOE_ERR_FORMAT, "an unknown escape, or one that is no character");
    return out;
}

static bool is_class(int c)
{
    return c > 0 && strchr("dwsDWS", c);
}

static uint32_t plain(reader *r)
{
    int n = utf8_char(r->text + r->at, r->length - r->at);
    n = n > 0 ? n : 1; /* the pattern is valid UTF-8 */
    uint32_t c = utf8_decode(r->text + r->at, n);
    r->at += (size_t)n;
    return c;
}

/* ---- sets in brackets ---------------------------------------------------------------------------------------------- */

/* One character of a set, or false where a class (\d) was added as a whole. */
static bool member(reader *r, charset *set, bool negated, uint32_t *out)
{
    size_t start = r->at;
    if (!take(r, "\\")) {
        *out = plain(r);
        return true;
    }
    int c = peek(r);
    if (is_class(c)) {
        r->at++;
        /* In a negated set the class is what will not match: then all that some reader takes for it. */
        if (c >= 'a')
            add_class(r, set, (char)c, negated);
        else if (!negated)
            add_negated_class(r, set, (char)(c | 0x20));
        else {
            charset positive = {0};
            add_class(r, &positive, (char)(c | 0x20), false);
            negate(r, &positive);
            for (size_t i = 0; i < positive.count; i++)
                add(r, set, positive.ranges[i].lo, positive.ranges[i].hi);
            charset_free(&positive);
        }
        return false;
    }
    if (c == 'b') {
        r->at++;
        *out = '\b';
        return true;
    }
    *out = c == '-' ? (r->at++, (uint32_t)'-') : character_escape(r, start);
    return true;
}

static regex_part set(reader *r)
{
    size_t open = r->at++;
    charset chars = {0};
    bool negated = take(r, "^");
    while (!r->g->status && peek(r) != ']') {
        uint32_t lo, hi;
        size_t start = r->at;
        if (r->at >= r->length) {
            wrong(r, open, ODMOE_ERR_FORMAT, "a set that is not closed");
            break;
        }
        bool one = member(r, &chars, negated, &lo);
        if (peek(r) == '-' && r->at + 1 < r->length && r->text[r->at + 1] != ']') {
            r->at++;
            if (!one || !member(r, &chars, negated, &hi) || hi < lo)
                wrong(r, start, ODMOE_ERR_FORMAT, "a range between what are no two characters in order");
        } else {
            hi = one ? lo : 0;
        }
        if (one && !r->g->status)
            add(r, &chars, lo, hi);
    }
    r->at++;
    if (negated)
        negate(r, &chars);
    return one_of(r, &chars, open);
}

/* ---- expressions --------------------------------------------------------------------------------------------------- */

static regex_part choice(reader *r, bool whole);

static uint32_t sum(uint32_t a, uint32_t b)
{
    return a == REPEAT_UNBOUNDED || b == REPEAT_UNBOUNDED || a > UINT32_MAX - 1 - b ? REPEAT_UNBOUNDED : a + b;
}

static uint32_t product(uint32_t a, uint32_t b)
{
    if (a == 0 || b == 0)
        return 0;
    return a == REPEAT_UNBOUNDED || b == REPEAT_UNBOUNDED || a > (UINT32_MAX - 1) / b ? REPEAT_UNBOUNDED : a * b;
}

static regex_part group(reader *r)
{
    size_t open = r->at++;
    if (take(r, "?")) {
        bool name = peek(r) == '<' && r->at + 1 < r->length && r->text[r->at + 1] != '=' && r->text[r->at + 1] != '!';
        if (name) {
            const char *end = memchr(r->text + r->at, '>', r->length - r->at);
            if (!end)
                return wrong(r, open, ODMOE_ERR_FORMAT, "a group's name that does not end");
            r->at = (size_t)(end + 1 - r->text);
        } else if (peek(r) == '=' || peek(r) == '!' || peek(r) == '<') {
            return wrong(r, open, ODMOE_ERR_UNSUPPORTED, "lookahead and lookbehind cannot be enforced");
        } else if (!take(r, ":")) {
            return wrong(r, open, ODMOE_ERR_UNSUPPORTED, "this kind of group is not supported");
        }
    }
    if (++r->nesting > NESTING_MAX)
        return wrong(r, open, ODMOE_ERR_RANGE, "groups nested deeper than 100");
    regex_part p = choice(r, false);
    r->nesting--;
    if (!r->g->status && !take(r, ")"))
        return wrong(r, open, ODMOE_ERR_FORMAT, "a group that is not closed");
    return p;
}

static regex_part dot(reader *r)
{
    charset ends = {0};
    size_t at = r->at++;
    add(r, &ends, '\n', '\n');
    add(r, &ends, '\r', '\r');
    add(r, &ends, 0x2028, 0x2029);
    negate(r, &ends);
    return one_of(r, &ends, at);
}

static regex_part atom(reader *r)
{
    size_t start = r->at;
    charset chars = {0};
    uint32_t c;
    switch (peek(r)) {
    case '(':
        return group(r);
    case '[':
        return set(r);
    case '.':
        return dot(r);
    case '*':
    case '+':
    case '?':
    case '{':
        return wrong(r, start, ODMOE_ERR_FORMAT, "nothing to repeat; a brace that is meant as such is \\{");
    case '^':
    case '$':
        return wrong(r, start, ODMOE_ERR_UNSUPPORTED,
                     "\"^\" is supported at the beginning and \"$\" at the end of the whole pattern's alternatives");
    case '\\':
        r->at++;
        if (is_class(peek(r))) {
            char kind = (char)peek(r);
            r->at++;
            if (kind >= 'a')
                add_class(r, &chars, kind, false);
            else
                add_negated_class(r, &chars, (char)(kind | 0x20));
            return one_of(r, &chars, start);
        }
        c = character_escape(r, start);
        break;
    default:
        c = plain(r);
    }
    add(r, &chars, c, c);
    return one_of(r, &chars, start);
}

static bool number(reader *r, uint32_t *out)
{
    size_t start = r->at;
    uint64_t n = 0;
    for (int c; (c = peek(r)) >= '0' && c <= '9'; r->at++)
        n = n > UINT32_MAX ? n : n * 10 + (uint64_t)(c - '0');
    *out = n < UINT32_MAX ? (uint32_t)n : UINT32_MAX - 1;
    return r->at > start;
}

/* The numbers of a quantifier, if one follows. */
static bool quantifier(reader *r, uint32_t *least, uint32_t *most)
{
    size_t start = r->at;
    *least = 0;
    *most = REPEAT_UNBOUNDED;
    if (take(r, "*"))
        return true;
    if (take(r, "+")) {
        *least = 1;
        return true;
    }
    if (take(r, "?")) {
        *most = 1;
        return true;
    }
    if (!take(r, "{"))
        return false;
    bool good = number(r, least);
    *most = *least;
    if (good && take(r, ",") && !number(r, most))
        *most = REPEAT_UNBOUNDED;
    if (!good || !take(r, "}") || *least > *most)
        wrong(r, start, ODMOE_ERR_FORMAT, "a repetition is {m}, {m,} or {m,n}; a brace that is meant as such is \\{");
    else if (*least > GRAMMAR_REPEAT_MAX || (*most != REPEAT_UNBOUNDED && *most > GRAMMAR_REPEAT_MAX))
        wrong(r, start, ODMOE_ERR_RANGE, "more than 2000 repetitions");
    return !r->g->status;
}

static regex_part term(reader *r)
{
    regex_part p = atom(r);
    uint32_t least, most;
    if (!r->g->status && quantifier(r, &least, &most)) {
        p = (regex_part){expr_repeat(r->g, p.e, least, most), product(p.least, least), product(p.most, most)};
        take(r, "?"); /* lazy: the same texts */
        if (peek(r) == '*' || peek(r) == '+' || peek(r) == '?' || peek(r) == '{')
            wrong(r, r->at, ODMOE_ERR_FORMAT, "a repetition of a repetition; use a group");
    }
    return p;
}

/* Any characters before or behind an alternative that is not held by an anchor. */
static void add_free(reader *r, expr_list *list, regex_part *all)
{
    expr_list_add(r->g, list, expr_repeat(r->g, text_character(r->t), 0, REPEAT_UNBOUNDED));
    all->most = REPEAT_UNBOUNDED;
}

static regex_part alternative(reader *r, bool whole)
{
    expr_list list = {0};
    regex_part all = {EXPR_NEVER, 0, 0};
    bool end = false;
    if (whole && !take(r, "^"))
        add_free(r, &list, &all);
    while (!r->g->status && !end && peek(r) >= 0 && peek(r) != '|' && peek(r) != ')') {
        end = whole && peek(r) == '$' && (r->at + 1 == r->length || r->text[r->at + 1] == '|');
        if (end) {
            r->at++;
            break;
        }
        regex_part p = term(r);
        expr_list_add(r->g, &list, p.e);
        all.least = sum(all.least, p.least);
        all.most = sum(all.most, p.most);
    }
    if (whole && !end)
        add_free(r, &list, &all);
    all.e = r->g->status ? EXPR_NEVER : expr_seq(r->g, list.items, list.count);
    free(list.items);
    return all;
}

static regex_part choice(reader *r, bool whole)
{
    expr_list list = {0};
    regex_part all = {EXPR_NEVER, REPEAT_UNBOUNDED, 0};
    do {
        regex_part p = alternative(r, whole);
        expr_list_add(r->g, &list, p.e);
        all.least = p.least < all.least ? p.least : all.least;
        all.most = p.most > all.most ? p.most : all.most;
    } while (!r->g->status && take(r, "|"));
    all.e = r->g->status ? EXPR_NEVER : expr_alt(r->g, list.items, list.count);
    free(list.items);
    return all;
}

regex_part regex_read(json_text *t, const char *pattern, size_t length)
{
    reader r = {.t = t, .g = t->g, .text = pattern, .length = length};
    regex_part p = choice(&r, true);
    if (!t->g->status && r.at < length)
        return wrong(&r, r.at, ODMOE_ERR_FORMAT, "a bracket that closes nothing");
    return p;
}
