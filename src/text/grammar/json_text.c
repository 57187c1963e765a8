#include "text/grammar/json_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

static const char_range json_plain[] = {TEXT_JSON_PLAIN};
const text_notation text_json = {
    .name = "json", .quote = "\"", .plain = json_plain, .plain_count = 4, .escapes = true, .blanks = true};

void text_init(json_text *t, grammar_rules *g, const text_notation *notation, const token_names *names)
{
    *t = (json_text){g,         notation,  names,     RULE_NONE, RULE_NONE, RULE_NONE,
                     RULE_NONE, RULE_NONE, RULE_NONE, RULE_NONE, RULE_NONE, RULE_NONE};
}

bool text_fresh(json_text *t, uint32_t *rule, const char *name)
{
    char full[64];
    if (*rule != RULE_NONE)
        return false;
    int n = snprintf(full, sizeof full, "%.40s-%s", t->notation->name, name);
    *rule = rules_add(t->g, full, (size_t)n, 0);
    return !t->g->status;
}

expr_id text_blank(json_text *t)
{
    if (!t->notation->blanks)
        return EXPR_EMPTY;
    if (text_fresh(t, &t->blank, "blank"))
        rules_define(t->g, t->blank, expr_repeat(t->g, TEXT(t->g, " "), 0, 1));
    return expr_rule(t->g, t->blank);
}

expr_id text_comma(json_text *t)
{
    return SEQ(t->g, text_blank(t), TEXT(t->g, ","), text_blank(t));
}

expr_id text_colon(json_text *t)
{
    return SEQ(t->g, text_blank(t), TEXT(t->g, ":"), text_blank(t));
}

/* ---- characters ----------------------------------------------------------------------------------------------------- */

/* One digit from a to b. */
static expr_id digit(grammar_rules *g, unsigned a, unsigned b)
{
    char_range r[3];
    size_t n = 0;
    if (a < 10)
        r[n++] = (char_range){'0' + a, '0' + (b < 9 ? b : 9)};
    if (b >= 10) {
        unsigned from = (a > 10 ? a : 10) - 10, to = b - 10;
        r[n++] = (char_range){'A' + from, 'A' + to};
        r[n++] = (char_range){'a' + from, 'a' + to};
    }
    return expr_chars(g, &(charset){r, n, n});
}

expr_id digits_between(grammar_rules *g, uint64_t lo, uint64_t hi, int n, unsigned base)
{
    if (n == 0)
        return EXPR_EMPTY;
    uint64_t span = 1;
    for (int i = 1; i < n; i++)
        span *= base;
    unsigned a = (unsigned)(lo / span), b = (unsigned)(hi / span);
    uint64_t low = lo % span, high = hi % span;
    if (low == 0 && high == span - 1)
        return SEQ(g, digit(g, a, b), expr_repeat(g, digit(g, 0, base - 1), (uint32_t)n - 1, (uint32_t)n - 1));
    if (a == b)
        return SEQ(g, digit(g, a, a), digits_between(g, low, high, n - 1, base));
    expr_id parts[3];
    size_t count = 0;
    if (low) {
        parts[count++] = SEQ(g, digit(g, a, a), digits_between(g, low, span - 1, n - 1, base));
        a++;
    }
    if (high != span - 1) {
        parts[count++] = SEQ(g, digit(g, b, b), digits_between(g, 0, high, n - 1, base));
        b--;
    }
    if (a <= b)
        parts[count++] =
            SEQ(g, digit(g, a, b), expr_repeat(g, digit(g, 0, base - 1), (uint32_t)n - 1, (uint32_t)n - 1));
    return expr_alt(g, parts, count);
}

static expr_id unit(grammar_rules *g, uint32_t lo, uint32_t hi)
{
    return SEQ(g, TEXT(g, "\\u"), digits_between(g, lo, hi, 4, 16));
}

/* \uHHHH for lo to hi, which are not surrogates; above U+FFFF a pair of them. */
static void add_escapes(grammar_rules *g, expr_list *list, uint32_t lo, uint32_t hi)
{
    if (lo < 0x10000) {
        expr_list_add(g, list, unit(g, lo, hi < 0xFFFF ? hi : 0xFFFF));
        lo = 0x10000;
    }
    while (lo <= hi) {
        uint32_t a = lo - 0x10000, b = hi - 0x10000, first = a >> 10, last = b >> 10;
        if ((a & 0x3FF) == 0 && first < last) { /* whole blocks of 1024 */
            uint32_t whole = (b & 0x3FF) == 0x3FF ? last : last - 1;
            expr_list_add(g, list, SEQ(g, unit(g, 0xD800 + first, 0xD800 + whole), unit(g, 0xDC00, 0xDFFF)));
            lo = 0x10000 + ((whole + 1) << 10);
        } else {
            uint32_t to = first == last ? b & 0x3FF : 0x3FF;
            expr_list_add(g, list,
                          SEQ(g, unit(g, 0xD800 + first, 0xD800 + first), unit(g, 0xDC00 + (a & 0x3FF), 0xDC00 + to)));
            lo = 0x10000 + ((first + 1) << 10);
        }
    }
}

/* Characters that have a short escape, and its letter. */
static const struct {
    char character, letter;
} short_escapes[] = {{'"', '"'}, {'\\', '\\'}, {'\b', 'b'}, {'\f', 'f'}, {'\n', 'n'}, {'\r', 'r'}, {'\t', 't'}};

/* The characters that may be written as escapes. */
static const char_range escapable[] = {{0, 0x1F}, {'"', '"'}, {'\\', '\\'}, {0x80, 0xD7FF}, {0xE000, CHAR_MAX_CODE}};
enum { ESCAPABLE = sizeof escapable / sizeof *escapable };

/* All escapes of the characters of `set`, written out. */
static expr_id escapes_of(json_text *t, const charset *set)
{
    grammar_rules *g = t->g;
    expr_list list = {0};
    charset letters = {0}, some = {0};
    for (size_t i = 0; i < sizeof short_escapes / sizeof *short_escapes && !g->status; i++)
        if (charset_has(set, (unsigned char)short_escapes[i].character))
            g->status = charset_add(&letters, (unsigned char)short_escapes[i].letter,
                                    (unsigned char)short_escapes[i].letter, g->err);
    for (size_t i = 0; i < ESCAPABLE && !g->status; i++)
        g->status = charset_cut(set, escapable[i].lo, escapable[i].hi, &some, g->err);
    if (!g->status)
        g->status = charset_normalise(&letters, g->err);
    if (letters.count)
        expr_list_add(g, &list, SEQ(g, TEXT(g, "\\"), expr_chars(g, &letters)));
    for (size_t i = 0; i < some.count && !g->status; i++)
        add_escapes(g, &list, some.ranges[i].lo, some.ranges[i].hi);
    expr_id e = expr_alt(g, list.items, list.count);
    free(list.items);
    charset_free(&letters);
    charset_free(&some);
    return e;
}

static expr_id all_escapes(json_text *t)
{
    if (text_fresh(t, &t->escaped, "escaped")) {
        char_range all[] = {{0, 0xD7FF}, {0xE000, CHAR_MAX_CODE}};
        rules_define(t->g, t->escaped, escapes_of(t, &(charset){all, 2, 2}));
    }
    return expr_rule(t->g, t->escaped);
}

/* Characters that stand for themselves; borrows the notation's. */
static charset plain_of(const json_text *t)
{
    return (charset){(char_range *)t->notation->plain, t->notation->plain_count, t->notation->plain_count};
}

/* Take the first characters of the markers out of a set. */
static void drop_markers(json_text *t, charset *set)
{
    grammar_rules *g = t->g;
    for (size_t i = 0; t->notation->never[i] && !g->status; i++) {
        const char *text = t->notation->never[i];
        uint32_t c = utf8_decode(text, utf8_char(text, strlen(text)));
        charset kept = {0};
        if (c)
            g->status = charset_cut(set, 0, c - 1, &kept, g->err);
        if (!g->status)
            g->status = charset_cut(set, c + 1, CHAR_MAX_CODE, &kept, g->err);
        charset_free(set);
        *set = kept;
    }
}

expr_id text_character_of(json_text *t, const charset *set)
{
    grammar_rules *g = t->g;
    charset plain = {0}, all_plain = plain_of(t);
    for (size_t i = 0; i < all_plain.count && !g->status; i++)
        g->status = charset_cut(set, all_plain.ranges[i].lo, all_plain.ranges[i].hi, &plain, g->err);
    drop_markers(t, &plain);
    expr_list ways = {0};
    expr_list_add(g, &ways, expr_chars(g, &plain));
    bool all = true;
    for (size_t i = 0; i < ESCAPABLE; i++)
        all &= charset_covers(set, escapable[i].lo, escapable[i].hi);
    if (t->notation->escapes)
        expr_list_add(g, &ways, all ? all_escapes(t) : escapes_of(t, set));
    for (size_t i = 0; t->notation->escapes && t->notation->never[i]; i++) {
        unsigned char c = (unsigned char)t->notation->never[i][0]; /* markers begin with plain ASCII */
        if (charset_has(set, c))
            expr_list_add(g, &ways, unit(g, c, c));
    }
    expr_id e = g->status ? EXPR_NEVER : expr_alt(g, ways.items, ways.count);
    free(ways.items);
    charset_free(&plain);
    return e;
}

/* Escapes that only stand where any character may. */
static expr_id escaped_ascii(json_text *t)
{
    return ALT(t->g, all_escapes(t), TEXT(t->g, "\\/"), unit(t->g, 0x20, 0x7F));
}

expr_id text_character(json_text *t)
{
    grammar_rules *g = t->g;
    if (text_fresh(t, &t->character, "character")) {
        charset plain = {0}, all = plain_of(t);
        for (size_t i = 0; i < all.count && !g->status; i++)
            g->status = charset_add(&plain, all.ranges[i].lo, all.ranges[i].hi, g->err);
        drop_markers(t, &plain);
        expr_id e = expr_chars(g, &plain);
        rules_define(g, t->character, t->notation->escapes ? ALT(g, e, escaped_ascii(t)) : e);
        charset_free(&plain);
    }
    return expr_rule(g, t->character);
}

expr_id text_quote(json_text *t)
{
    return expr_marker(t->g, t->names, t->notation->quote);
}

/* Any characters, but no marker among them. */
static expr_id any_characters(json_text *t)
{
    marker markers[MARKERS_MAX];
    size_t n = 0;
    for (; t->notation->never[n]; n++)
        markers[n] = (marker){t->notation->never[n], EXPR_NEVER};
    if (!n)
        return expr_repeat(t->g, text_character(t), 0, REPEAT_UNBOUNDED);
    charset plain = plain_of(t);
    char name[64];
    snprintf(name, sizeof name, "%.40s-text", t->notation->name);
    return expr_free_text(t->g, t->names,
                          &(free_text){.name = name,
                                       .chars = &plain,
                                       .markers = markers,
                                       .count = n,
                                       .end = EXPR_EMPTY,
                                       .other = t->notation->escapes ? escaped_ascii(t) : EXPR_NEVER});
}

expr_id text_string(json_text *t, uint32_t least, uint32_t most)
{
    grammar_rules *g = t->g;
    if (least || most != REPEAT_UNBOUNDED)
        return SEQ(g, text_quote(t), expr_repeat(g, text_character(t), least, most), text_quote(t));
    if (text_fresh(t, &t->string, "string"))
        rules_define(g, t->string, SEQ(g, text_quote(t), any_characters(t), text_quote(t)));
    return expr_rule(g, t->string);
}

/* ---- literals ------------------------------------------------------------------------------------------------------- */

/* Does a marker that must not come begin here? */
static bool begins_marker(const json_text *t, const char *text)
{
    for (size_t i = 0; t->notation->never[i]; i++)
        if (!strncmp(text, t->notation->never[i], strlen(t->notation->never[i])))
            return true;
    return false;
}

expr_id text_literal_text(json_text *t, const char *text, size_t length)
{
    grammar_rules *g = t->g;
    expr_list list = {0};
    size_t run = 0;
    for (size_t at = 0; at < length && !g->status;) {
        int n = utf8_char(text + at, length - at);
        n = n > 0 ? n : 1; /* jansson's texts are valid */
        uint32_t c = utf8_decode(text + at, n);
        if ((!t->notation->escapes || (c >= 0x20 && c < 0x80 && c != '"' && c != '\\')) &&
            !begins_marker(t, text + at)) {
            at += (size_t)n;
            continue;
        }
        char_range r = {c, c};
        expr_list_add(g, &list, expr_text(g, text + run, at - run));
        expr_list_add(g, &list, text_character_of(t, &(charset){&r, 1, 1}));
        at += (size_t)n;
        run = at;
    }
    expr_list_add(g, &list, expr_text(g, text + run, length - run));
    expr_id e = expr_seq(g, list.items, list.count);
    free(list.items);
    return e;
}

static expr_id literal_string(json_text *t, const char *text, size_t length)
{
    return SEQ(t->g, text_quote(t), text_literal_text(t, text, length), text_quote(t));
}

expr_id text_key(json_text *t, const char *name)
{
    static const char word[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
    size_t n = strlen(name);
    bool bare = t->notation->bare_keys && n && strspn(name, word) == n;
    return bare ? expr_text(t->g, name, n) : literal_string(t, name, n);
}

static expr_id literal_number(json_text *t, const json_t *value)
{
    grammar_rules *g = t->g;
    char text[64]; /* 17 digits, sign, point, exponent */
    size_t n = json_dumpb(value, text, sizeof text, JSON_ENCODE_ANY);
    if (!n || n > sizeof text)
        return rules_fail(g, ODMOE_ERR_MEMORY, "no memory for a number");
    expr_id e = expr_text(g, text, n);
    if (json_is_real(value) && n > 2 && !memcmp(text + n - 2, ".0", 2)) /* 3.0 and 3 are one number */
        e = ALT(g, e, expr_text(g, text, n - 2));
    return e;
}

static expr_id literal_list(json_text *t, const json_t *value)
{
    grammar_rules *g = t->g;
    expr_list list = {0};
    size_t i;
    const json_t *item;
    const char *key;
    bool object = json_is_object(value);
    expr_list_add(g, &list, SEQ(g, expr_text(g, object ? "{" : "[", 1), text_blank(t)));
    json_array_foreach(value, i, item)
    {
        if (i)
            expr_list_add(g, &list, text_comma(t));
        expr_list_add(g, &list, text_literal(t, item));
    }
    void *at = object ? json_object_iter((json_t *)value) : NULL;
    for (i = 0; at && !g->status; at = json_object_iter_next((json_t *)value, at)) {
        key = json_object_iter_key(at);
        if (i++)
            expr_list_add(g, &list, text_comma(t));
        expr_list_add(g, &list, text_key(t, key));
        expr_list_add(g, &list, text_colon(t));
        expr_list_add(g, &list, text_literal(t, json_object_iter_value(at)));
    }
    if (list.count > 1)
        expr_list_add(g, &list, text_blank(t));
    expr_list_add(g, &list, expr_text(g, object ? "}" : "]", 1));
    expr_id e = expr_seq(g, list.items, list.count);
    free(list.items);
    return e;
}

/* Values are at most as deep as schema.c lets a schema be. */
expr_id text_literal(json_text *t, const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_NULL:
        return TEXT(t->g, "null");
    case JSON_TRUE:
        return TEXT(t->g, "true");
    case JSON_FALSE:
        return TEXT(t->g, "false");
    case JSON_STRING:
        return literal_string(t, json_string_value(value), json_string_length(value));
    case JSON_INTEGER:
    case JSON_REAL:
        return literal_number(t, value);
    default:
        return literal_list(t, value);
    }
}

/* ---- any value ------------------------------------------------------------------------------------------------------- */

/* open [ item (comma item)* ] close, with blanks. */
static expr_id any_list(json_text *t, const char *open, const char *close, expr_id item)
{
    grammar_rules *g = t->g;
    expr_id more = expr_repeat(g, SEQ(g, text_comma(t), item), 0, REPEAT_UNBOUNDED);
    return SEQ(g, expr_text(g, open, 1), text_blank(t), expr_repeat(g, SEQ(g, item, more, text_blank(t)), 0, 1),
               expr_text(g, close, 1));
}

expr_id text_any_object(json_text *t)
{
    grammar_rules *g = t->g;
    if (text_fresh(t, &t->object, "object")) {
        expr_id member = SEQ(g, text_string(t, 0, REPEAT_UNBOUNDED), text_colon(t), text_any_value(t));
        rules_define(g, t->object, any_list(t, "{", "}", member));
    }
    return expr_rule(g, t->object);
}

expr_id text_any_array(json_text *t)
{
    if (text_fresh(t, &t->array, "array"))
        rules_define(t->g, t->array, any_list(t, "[", "]", text_any_value(t)));
    return expr_rule(t->g, t->array);
}

expr_id text_any_value(json_text *t)
{
    grammar_rules *g = t->g;
    if (text_fresh(t, &t->value, "value"))
        rules_define(g, t->value,
                     ALT(g, text_any_object(t), text_any_array(t), text_string(t, 0, REPEAT_UNBOUNDED),
                         text_any_number(t), TEXT(g, "true"), TEXT(g, "false"), TEXT(g, "null")));
    return expr_rule(g, t->value);
}
