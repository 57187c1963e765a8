#include "text/grammar/regex.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/utf8.h"
#include "text/grammar/cursor.h"

#define NESTING_MAX 100

typedef struct reader {
    json_text *t;
    grammar_rules *g;
    cursor c;
    int nesting;
} reader;

static const regex_part nothing = {EXPR_NEVER, 0, 0};

static regex_part wrong(reader *r, size_t at, odmoe_status status, const char *what)
{
    rules_fail(r->g, status, "byte %zu: %s", at, what);
    return nothing;
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
    for (int i = 0; i < digits; i++, r->c.at++) {
        int c = cursor_peek(&r->c) | 0x20;
        if (cursor_peek(&r->c) >= '0' && cursor_peek(&r->c) <= '9')
            *out = *out << 4 | (uint32_t)(cursor_peek(&r->c) - '0');
        else if (c >= 'a' && c <= 'f' && cursor_peek(&r->c) > 0)
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
    if (cursor_take(&r->c, "{")) {
        int n = 0;
        while (r->c.at + (size_t)n < r->c.length && r->c.text[r->c.at + (size_t)n] != '}')
            n++;
        return n >= 1 && n <= 6 && hex(r, n, out) && cursor_take(&r->c, "}");
    }
    if (!hex(r, 4, out))
        return false;
    if (*out >= 0xD800 && *out <= 0xDBFF && cursor_take(&r->c, "\\u") && hex(r, 4, &low) && low >= 0xDC00 &&
        low <= 0xDFFF)
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
    int c = cursor_peek(&r->c);
    const char *known = c > 0 ? strchr(letters, c) : NULL;
    uint32_t out = 0;
    bool good = true;
    if (c < 0) {
        wrong(r, start, ODMOE_ERR_FORMAT, "a backslash at the end");
        return 0;
    }
    r->c.at++;
    if (known)
        return (uint32_t)values[known - letters];
    if (c == 'x')
        good = hex(r, 2, &out);
    else if (c == 'u')
        good = unicode_escape(r, &out);
    else if (c == 'c' && is_letter(cursor_peek(&r->c)))
        out = (uint32_t)r->c.text[r->c.at++] & 31;
    else if (c == '0' && !(cursor_peek(&r->c) >= '0' && cursor_peek(&r->c) <= '9'))
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
    int n = utf8_char(r->c.text + r->c.at, r->c.length - r->c.at);
    n = n > 0 ? n : 1; /* the pattern is valid UTF-8 */
    uint32_t c = utf8_decode(r->c.text + r->c.at, n);
    r->c.at += (size_t)n;
    return c;
}

/* ---- sets in brackets ---------------------------------------------------------------------------------------------- */

/* One character of a set, or false where a class (\d) was added as a whole. */
static bool member(reader *r, charset *set, bool negated, uint32_t *out)
{
    size_t start = r->c.at;
    if (!cursor_take(&r->c, "\\")) {
        *out = plain(r);
        return true;
    }
    int c = cursor_peek(&r->c);
    if (is_class(c)) {
        r->c.at++;
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
        r->c.at++;
        *out = '\b';
        return true;
    }
    *out = c == '-' ? (r->c.at++, (uint32_t)'-') : character_escape(r, start);
    return true;
}

static regex_part set(reader *r)
{
    size_t open = r->c.at++;
    charset chars = {0};
    bool negated = cursor_take(&r->c, "^");
    while (!r->g->status && cursor_peek(&r->c) != ']') {
        uint32_t lo, hi;
        size_t start = r->c.at;
        if (r->c.at >= r->c.length) {
            wrong(r, open, ODMOE_ERR_FORMAT, "a set that is not closed");
            break;
        }
        bool one = member(r, &chars, negated, &lo);
        if (cursor_peek(&r->c) == '-' && r->c.at + 1 < r->c.length && r->c.text[r->c.at + 1] != ']') {
            r->c.at++;
            if (!one || !member(r, &chars, negated, &hi) || hi < lo)
                wrong(r, start, ODMOE_ERR_FORMAT, "a range between what are no two characters in order");
        } else {
            hi = one ? lo : 0;
        }
        if (one && !r->g->status)
            add(r, &chars, lo, hi);
    }
    r->c.at++;
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
    size_t open = r->c.at++;
    if (cursor_take(&r->c, "?")) {
        bool name = cursor_peek(&r->c) == '<' && r->c.at + 1 < r->c.length && r->c.text[r->c.at + 1] != '=' &&
                    r->c.text[r->c.at + 1] != '!';
        if (name) {
            const char *end = memchr(r->c.text + r->c.at, '>', r->c.length - r->c.at);
            if (!end)
                return wrong(r, open, ODMOE_ERR_FORMAT, "a group's name that does not end");
            r->c.at = (size_t)(end + 1 - r->c.text);
        } else if (cursor_peek(&r->c) == '=' || cursor_peek(&r->c) == '!' || cursor_peek(&r->c) == '<') {
            return wrong(r, open, ODMOE_ERR_UNSUPPORTED, "lookahead and lookbehind cannot be enforced");
        } else if (!cursor_take(&r->c, ":")) {
            return wrong(r, open, ODMOE_ERR_UNSUPPORTED, "this kind of group is not supported");
        }
    }
    if (++r->nesting > NESTING_MAX)
        return wrong(r, open, ODMOE_ERR_RANGE, "groups nested deeper than 100");
    regex_part p = choice(r, false);
    r->nesting--;
    if (!r->g->status && !cursor_take(&r->c, ")"))
        return wrong(r, open, ODMOE_ERR_FORMAT, "a group that is not closed");
    return p;
}

static regex_part dot(reader *r)
{
    charset ends = {0};
    size_t at = r->c.at++;
    add(r, &ends, '\n', '\n');
    add(r, &ends, '\r', '\r');
    add(r, &ends, 0x2028, 0x2029);
    negate(r, &ends);
    return one_of(r, &ends, at);
}

static regex_part atom(reader *r)
{
    size_t start = r->c.at;
    charset chars = {0};
    uint32_t c;
    switch (cursor_peek(&r->c)) {
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
        r->c.at++;
        if (is_class(cursor_peek(&r->c))) {
            char kind = (char)cursor_peek(&r->c);
            r->c.at++;
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
    size_t start = r->c.at;
    uint64_t n = 0;
    for (int c; (c = cursor_peek(&r->c)) >= '0' && c <= '9'; r->c.at++)
        n = n > UINT32_MAX ? n : n * 10 + (uint64_t)(c - '0');
    *out = n < UINT32_MAX ? (uint32_t)n : UINT32_MAX - 1;
    return r->c.at > start;
}

/* The numbers of a quantifier, if one follows. */
static bool quantifier(reader *r, uint32_t *least, uint32_t *most)
{
    size_t start = r->c.at;
    *least = 0;
    *most = REPEAT_UNBOUNDED;
    if (cursor_take(&r->c, "*"))
        return true;
    if (cursor_take(&r->c, "+")) {
        *least = 1;
        return true;
    }
    if (cursor_take(&r->c, "?")) {
        *most = 1;
        return true;
    }
    if (!cursor_take(&r->c, "{"))
        return false;
    bool good = number(r, least);
    *most = *least;
    if (good && cursor_take(&r->c, ",") && !number(r, most))
        *most = REPEAT_UNBOUNDED;
    if (!good || !cursor_take(&r->c, "}") || *least > *most)
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
        cursor_take(&r->c, "?"); /* lazy: the same texts */
        if (cursor_peek(&r->c) == '*' || cursor_peek(&r->c) == '+' || cursor_peek(&r->c) == '?' ||
            cursor_peek(&r->c) == '{')
            wrong(r, r->c.at, ODMOE_ERR_FORMAT, "a repetition of a repetition; use a group");
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
    if (whole && !cursor_take(&r->c, "^"))
        add_free(r, &list, &all);
    while (!r->g->status && !end && cursor_peek(&r->c) >= 0 && cursor_peek(&r->c) != '|' && cursor_peek(&r->c) != ')') {
        end = whole && cursor_peek(&r->c) == '$' && (r->c.at + 1 == r->c.length || r->c.text[r->c.at + 1] == '|');
        if (end) {
            r->c.at++;
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
    } while (!r->g->status && cursor_take(&r->c, "|"));
    all.e = r->g->status ? EXPR_NEVER : expr_alt(r->g, list.items, list.count);
    free(list.items);
    return all;
}

regex_part regex_read(json_text *t, const char *pattern, size_t length)
{
    reader r = {.t = t, .g = t->g, .c = {pattern, 0, length}};
    regex_part p = choice(&r, true);
    if (!t->g->status && r.c.at < length)
        return wrong(&r, r.c.at, ODMOE_ERR_FORMAT, "a bracket that closes nothing");
    return p;
}
