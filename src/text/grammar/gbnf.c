#include "text/grammar/gbnf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "text/grammar/cursor.h"

#define NESTING_MAX 200 /* brackets in brackets */

typedef struct reader {
    grammar_rules *g;
    cursor c;
    int nesting;
    token_lookup *lookup;
    const void *user;
    int32_t vocab;
    uint32_t *slots; /* rule + 1 by the hash of its name, open addressing; [mask + 1] */
    uint32_t mask;
} reader;

/* ---- places and errors --------------------------------------------------------------------------------------- */

void gbnf_position(const char *text, size_t length, size_t offset, grammar_fault *fault)
{
    fault->offset = offset;
    fault->line = fault->column = 1;
    for (size_t i = 0; i < offset && i < length; i++) {
        fault->column++;
        if (text[i] == '\n') {
            fault->line++;
            fault->column = 1;
        }
    }
}

static expr_id wrong(reader *r, size_t at, odmoe_status status, const char *what)
{
    if (r->g->status)
        return EXPR_NEVER;
    grammar_fault *f = r->g->fault;
    gbnf_position(r->c.text, r->c.length, at, f);
    return rules_fail(r->g, status, "grammar: line %u, column %u: %s", f->line, f->column, what);
}

static expr_id malformed(reader *r, size_t at, const char *what)
{
    return wrong(r, at, ODMOE_ERR_FORMAT, what);
}

/* ---- characters ---------------------------------------------------------------------------------------------- */

/* Blanks and comments; line ends too where `lines` is set. */
static void skip(reader *r, bool lines)
{
    for (;;) {
        int c = cursor_peek(&r->c);
        if (c == '#')
            while (cursor_peek(&r->c) != '\n' && cursor_peek(&r->c) != '\r' && cursor_peek(&r->c) >= 0)
                r->c.at++;
        else if (c == ' ' || c == '\t' || (lines && (c == '\n' || c == '\r')))
            r->c.at++;
        else
            return;
    }
}

static bool is_name(int c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

static size_t name_length(const reader *r)
{
    size_t n = 0;
    while (r->c.at + n < r->c.length && is_name((unsigned char)r->c.text[r->c.at + n]))
        n++;
    return n;
}

static int hex_digit(int c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static uint32_t hex_escape(reader *r, size_t start, int digits)
{
    uint32_t c = 0;
    for (int i = 0; i < digits; i++) {
        int d = hex_digit(cursor_peek(&r->c));
        if (d < 0)
            return malformed(r, start, "an escape with too few hexadecimal digits");
        c = c << 4 | (uint32_t)d;
        r->c.at++;
    }
    if (c > CHAR_MAX_CODE || (c >= 0xD800 && c <= 0xDFFF))
        return malformed(r, start, "an escape that is no Unicode character");
    return c;
}

static uint32_t escape(reader *r, size_t start)
{
    int c = cursor_peek(&r->c);
    r->c.at++;
    switch (c) {
    case 'x':
        return hex_escape(r, start, 2);
    case 'u':
        return hex_escape(r, start, 4);
    case 'U':
        return hex_escape(r, start, 8);
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    case '\\':
    case '"':
    case '[':
    case ']':
    case '-':
        return (uint32_t)c;
    default:
        r->c.at = start + 1;
        return malformed(r, start,
                         "an unknown escape; there are \\n \\r \\t \\\\ \\\" \\[ \\] \\- \\xHH \\uHHHH \\UHHHHHHHH");
    }
}

/* One character of a text or a set, escapes resolved. `open` is where the text began. */
static uint32_t character(reader *r, size_t open)
{
    size_t start = r->c.at;
    if (r->c.at >= r->c.length)
        return malformed(r, open, "what begins here does not end");
    if (cursor_take(&r->c, "\\"))
        return escape(r, start);
    int n = utf8_char(r->c.text + r->c.at, r->c.length - r->c.at);
    if (n <= 0)
        return malformed(r, start, "bytes that are no UTF-8");
    uint32_t c = utf8_decode(r->c.text + r->c.at, n);
    r->c.at += (size_t)n;
    return c;
}

/* ---- rules by name ------------------------------------------------------------------------------------------- */

static uint32_t hash(const char *name, size_t length)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < length; i++)
        h = (h ^ (unsigned char)name[i]) * 16777619u;
    return h;
}

/* The rule of this name; a new one where it is not known yet. */
static uint32_t rule_named(reader *r, const char *name, size_t length)
{
    for (uint32_t i = hash(name, length) & r->mask;; i = (i + 1) & r->mask) {
        uint32_t slot = r->slots[i];
        if (!slot) {
            uint32_t rule = rules_add(r->g, name, length, (size_t)(name - r->c.text));
            if (!r->g->status)
                r->slots[i] = rule + 1;
            return rule;
        }
        const char *known = r->g->rules[slot - 1].name;
        if (!strncmp(known, name, length) && !known[length])
            return slot - 1;
    }
}

/* ---- expressions --------------------------------------------------------------------------------------------- */

static expr_id choice(reader *r, bool nested);

static expr_id literal(reader *r)
{
    size_t open = r->c.at++, used = 0, capacity = 0;
    char *bytes = NULL;
    while (!r->g->status && cursor_peek(&r->c) != '"') {
        uint32_t c = character(r, open);
        if (!r->g->status)
            r->g->status = mem_grow((void **)&bytes, &capacity, used + 4, 1, "a grammar", r->g->err);
        if (!r->g->status)
            used += utf8_encode(c, bytes + used);
    }
    r->c.at++;
    expr_id e = r->g->status ? EXPR_NEVER : expr_text(r->g, bytes, used);
    free(bytes);
    return e;
}

static expr_id set(reader *r)
{
    size_t open = r->c.at++;
    bool negated = cursor_take(&r->c, "^");
    charset chars = {0};
    while (!r->g->status && cursor_peek(&r->c) != ']') {
        size_t start = r->c.at;
        uint32_t lo = character(r, open), hi = lo;
        if (!r->g->status && cursor_peek(&r->c) == '-' && r->c.at + 1 < r->c.length && r->c.text[r->c.at + 1] != ']') {
            r->c.at++;
            hi = character(r, open);
        }
        if (!r->g->status && hi < lo)
            malformed(r, start, "a range whose end stands before its beginning");
        if (!r->g->status)
            r->g->status = charset_add(&chars, lo, hi, r->g->err);
    }
    r->c.at++;
    if (!r->g->status && !chars.count && !negated)
        malformed(r, open, "an empty set matches nothing");
    if (!r->g->status)
        r->g->status = charset_normalise(&chars, r->g->err);
    if (!r->g->status && negated)
        r->g->status = charset_negate(&chars, r->g->err);
    expr_id e = r->g->status ? EXPR_NEVER : expr_chars(r->g, &chars);
    if (!r->g->status && e == EXPR_NEVER)
        malformed(r, open, "a set without any character");
    charset_free(&chars);
    return e;
}

static bool number(reader *r, uint32_t *out)
{
    size_t start = r->c.at;
    uint64_t n = 0;
    for (int c; (c = cursor_peek(&r->c)) >= '0' && c <= '9'; r->c.at++)
        n = n < UINT32_MAX ? n * 10 + (uint64_t)(c - '0') : n;
    *out = n < UINT32_MAX ? (uint32_t)n : UINT32_MAX - 1;
    if (r->c.at == start)
        malformed(r, start, "a number is expected");
    return r->c.at > start;
}

static expr_id token(reader *r, bool negated)
{
    size_t open = r->c.at;
    uint32_t id = 0;
    if (cursor_take(&r->c, "<[")) {
        if (!number(r, &id))
            return EXPR_NEVER;
        if (!cursor_take(&r->c, "]>"))
            return malformed(r, r->c.at, "\"]>\" is expected behind a token's number");
    } else {
        const char *end = memchr(r->c.text + open, '>', r->c.length - open);
        if (!end)
            return malformed(r, open, "a token that does not end with \">\"");
        size_t n = (size_t)(end + 1 - (r->c.text + open));
        r->c.at += n;
        if (!r->lookup)
            return wrong(r, open, ODMOE_ERR_UNSUPPORTED, "a token by its text needs a model's vocabulary");
        int32_t found = r->lookup(r->user, r->c.text + open, n);
        if (found < 0)
            return malformed(r, open, "this is no token of the vocabulary");
        id = (uint32_t)found;
    }
    if (id > 0xFFFFFF || (r->vocab > 0 && id >= (uint32_t)r->vocab))
        return malformed(r, open, "a token's number beyond the vocabulary");
    return expr_token(r->g, id, negated);
}

static expr_id bracket(reader *r)
{
    size_t open = r->c.at++;
    if (++r->nesting > NESTING_MAX)
        return wrong(r, open, ODMOE_ERR_RANGE, "brackets nested deeper than 200");
    skip(r, true);
    expr_id e = choice(r, true);
    r->nesting--;
    if (!r->g->status && !cursor_take(&r->c, ")"))
        malformed(r, open, "this bracket is not closed");
    return e;
}

/* {m}, {m,}, {m,n} behind its opening brace. */
static expr_id counted(reader *r, expr_id e, size_t open)
{
    uint32_t least, most;
    skip(r, false);
    if (!number(r, &least))
        return EXPR_NEVER;
    most = least;
    skip(r, false);
    if (cursor_take(&r->c, ",")) {
        skip(r, false);
        most = REPEAT_UNBOUNDED;
        if (cursor_peek(&r->c) != '}' && !number(r, &most))
            return EXPR_NEVER;
        skip(r, false);
    }
    if (!cursor_take(&r->c, "}"))
        return malformed(r, r->c.at, "\"}\" is expected behind a repetition's numbers");
    if (least > most)
        return malformed(r, open, "a repetition whose least is more than its most");
    if (least > GRAMMAR_REPEAT_MAX || (most != REPEAT_UNBOUNDED && most > GRAMMAR_REPEAT_MAX))
        return wrong(r, open, ODMOE_ERR_RANGE, "more than 2000 repetitions; leave out the upper number for any number");
    return expr_repeat(r->g, e, least, most);
}

static expr_id repeated(reader *r, expr_id e)
{
    for (int times = 0; !r->g->status; times++) {
        size_t open = r->c.at;
        if (times > 16)
            return wrong(r, open, ODMOE_ERR_RANGE, "too many repetitions of one thing in a row; use brackets");
        if (cursor_take(&r->c, "*"))
            e = expr_repeat(r->g, e, 0, REPEAT_UNBOUNDED);
        else if (cursor_take(&r->c, "+"))
            e = expr_repeat(r->g, e, 1, REPEAT_UNBOUNDED);
        else if (cursor_take(&r->c, "?"))
            e = expr_repeat(r->g, e, 0, 1);
        else if (cursor_take(&r->c, "{"))
            e = counted(r, e, open);
        else
            break;
    }
    return e;
}

static bool starts_item(int c)
{
    return c == '"' || c == '[' || c == '.' || c == '(' || c == '<' || c == '!' || is_name(c);
}

static expr_id item(reader *r)
{
    size_t n;
    switch (cursor_peek(&r->c)) {
    case '"':
        return literal(r);
    case '[':
        return set(r);
    case '.':
        r->c.at++;
        charset all = {0};
        r->g->status = charset_negate(&all, r->g->err);
        expr_id e = r->g->status ? EXPR_NEVER : expr_chars(r->g, &all);
        charset_free(&all);
        return e;
    case '(':
        return bracket(r);
    case '!':
        r->c.at++;
        if (cursor_peek(&r->c) != '<')
            return malformed(r, r->c.at, "a token is expected behind \"!\"");
        return token(r, true);
    case '<':
        return token(r, false);
    default:
        n = name_length(r);
        uint32_t rule = rule_named(r, r->c.text + r->c.at, n);
        r->c.at += n;
        return expr_rule(r->g, rule);
    }
}

static expr_id sequence(reader *r, bool nested)
{
    expr_list list = {0};
    while (!r->g->status && starts_item(cursor_peek(&r->c))) {
        expr_id e = item(r);
        skip(r, nested);
        e = repeated(r, e);
        skip(r, nested);
        expr_list_add(r->g, &list, e);
    }
    expr_id e = r->g->status ? EXPR_NEVER : expr_seq(r->g, list.items, list.count);
    free(list.items);
    return e;
}

static expr_id choice(reader *r, bool nested)
{
    expr_list list = {0};
    do {
        skip(r, true);
        expr_list_add(r->g, &list, sequence(r, nested));
        skip(r, nested);
    } while (!r->g->status && cursor_take(&r->c, "|"));
    expr_id e = r->g->status ? EXPR_NEVER : expr_alt(r->g, list.items, list.count);
    free(list.items);
    return e;
}

static void rule(reader *r)
{
    size_t start = r->c.at, n = name_length(r);
    if (!n) {
        malformed(r, start, "a rule's name is expected");
        return;
    }
    uint32_t id = rule_named(r, r->c.text + start, n);
    r->c.at += n;
    skip(r, false);
    if (!r->g->status && !cursor_take(&r->c, "::="))
        malformed(r, r->c.at, "\"::=\" is expected behind a rule's name");
    if (!r->g->status && r->g->rules[id].defined)
        malformed(r, start, "a rule of this name is defined already");
    if (r->g->status)
        return;
    rules_define(r->g, id, choice(r, false));
    if (!r->g->status && cursor_peek(&r->c) >= 0 && cursor_peek(&r->c) != '\n' && cursor_peek(&r->c) != '\r')
        malformed(r, r->c.at, "neither a part of a rule nor its end");
}

static void check_defined(reader *r)
{
    for (size_t i = 0; i < r->g->rules_count && !r->g->status; i++)
        if (!r->g->rules[i].defined) {
            char what[160];
            snprintf(what, sizeof what, "the rule %.100s is not defined", r->g->rules[i].name);
            malformed(r, r->g->rules[i].at, what);
        }
}

static void find_root(reader *r)
{
    for (uint32_t i = hash("root", 4) & r->mask; r->slots[i]; i = (i + 1) & r->mask)
        if (!strcmp(r->g->rules[r->slots[i] - 1].name, "root")) {
            r->g->root = r->slots[i] - 1;
            return;
        }
    malformed(r, r->c.length, "there is no rule named root, with which a text begins");
}

/* Put the rules that are there already under their names. */
static void add_known(reader *r, const gbnf_known *known, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        size_t at = hash(known[i].name, strlen(known[i].name)) & r->mask;
        while (r->slots[at])
            at = (at + 1) & r->mask;
        r->slots[at] = known[i].rule + 1;
    }
}

void gbnf_read(grammar_rules *g, const char *text, size_t length, const gbnf_known *known, size_t known_count,
               token_lookup *lookup, const void *user, int32_t vocab)
{
    reader r = {.g = g, .c = {text, 0, length}, .lookup = lookup, .user = user, .vocab = vocab};
    r.mask = 2 * GRAMMAR_RULES_MAX - 1;
    if (length > GRAMMAR_SOURCE_MAX) {
        wrong(&r, 0, ODMOE_ERR_RANGE, "more than 64 KiB of text");
        return;
    }
    r.slots = mem_calloc(r.mask + 1, sizeof *r.slots, "a grammar", g->err);
    if (!r.slots) {
        g->status = ODMOE_ERR_MEMORY;
        return;
    }
    add_known(&r, known, known_count);
    skip(&r, true);
    while (!g->status && r.c.at < length) {
        rule(&r);
        skip(&r, true);
    }
    if (!g->status)
        find_root(&r);
    check_defined(&r);
    free(r.slots);
}
