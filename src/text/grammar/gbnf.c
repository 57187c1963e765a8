#include "text/grammar/gbnf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"

#define NESTING_MAX 200 /* brackets in brackets */

typedef struct reader {
    grammar_rules *g;
    const char *text;
    size_t at, length;
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
    gbnf_position(r->text, r->length, at, f);
    return rules_fail(r->g, status, "grammar: line %u, column %u: %s", f->line, f->column, what);
}

static expr_id malformed(reader *r, size_t at, const char *what)
{
    return wrong(r, at, ODMOE_ERR_FORMAT, what);
}

/* ---- characters ---------------------------------------------------------------------------------------------- */

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

/* Blanks and comments; line ends too where `lines` is set. */
static void skip(reader *r, bool lines)
{
    for (;;) {
        int c = peek(r);
        if (c == '#')
            while (peek(r) != '\n' && peek(r) != '\r' && peek(r) >= 0)
                r->at++;
        else if (c == ' ' || c == '\t' || (lines && (c == '\n' || c == '\r')))
            r->at++;
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
    while (r->at + n < r->length && is_name((unsigned char)r->text[r->at + n]))
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
        int d = hex_digit(peek(r));
        if (d < 0)
            return malformed(r, start, "an escape with too few hexadecimal digits");
        c = c << 4 | (uint32_t)d;
        r->at++;
    }
    if (c > CHAR_MAX_CODE || (c >= 0xD800 && c <= 0xDFFF))
        return malformed(r, start, "an escape that is no Unicode character");
    return c;
}

static uint32_t escape(reader *r, size_t start)
{
    int c = peek(r);
    r->at++;
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
        r->at = start + 1;
        return malformed(r, start,
                         "an unknown escape; there are \\n \\r \\t \\\\ \\\" \\[ \\] \\- \\xHH \\uHHHH \\UHHHHHHHH");
    }
}

/* One character of a text or a set, escapes resolved. `open` is where the text began. */
static uint32_t character(reader *r, size_t open)
{
    size_t start = r->at;
    if (r->at >= r->length)
        return malformed(r, open, "what begins here does not end");
    if (take(r, "\\"))
        return escape(r, start);
    int n = utf8_char(r->text + r->at, r->length - r->at);
    if (n <= 0)
        return malformed(r, start, "bytes that are no UTF-8");
    uint32_t c = utf8_decode(r->text + r->at, n);
    r->at += (size_t)n;
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
            uint32_t rule = rules_add(r->g, name, length, (size_t)(name - r->text));
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
    size_t open = r->at++, used = 0, capacity = 0;
    char *bytes = NULL;
    while (!r->g->status && peek(r) != '"') {
        uint32_t c = character(r, open);
        if (!r->g->status)
            r->g->status = mem_grow((void **)&bytes, &capacity, used + 4, 1, "a grammar", r->g->err);
        if (!r->g->status)
            used += utf8_encode(c, bytes + used);
    }
    r->at++;
    expr_id e = r->g->status ? EXPR_NEVER : expr_text(r->g, bytes, used);
    free(bytes);
    return e;
}

static expr_id set(reader *r)
{
    size_t open = r->at++;
    bool negated = take(r, "^");
    charset chars = {0};
    while (!r->g->status && peek(r) != ']') {
        size_t start = r->at;
        uint32_t lo = character(r, open), hi = lo;
        if (!r->g->status && peek(r) == '-' && r->at + 1 < r->length && r->text[r->at + 1] != ']') {
            r->at++;
            hi = character(r, open);
        }
        if (!r->g->status && hi < lo)
            malformed(r, start, "a range whose end stands before its beginning");
        if (!r->g->status)
            r->g->status = charset_add(&chars, lo, hi, r->g->err);
    }
    r->at++;
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
    size_t start = r->at;
    uint64_t n = 0;
    for (int c; (c = peek(r)) >= '0' && c <= '9'; r->at++)
        n = n < UINT32_MAX ? n * 10 + (uint64_t)(c - '0') : n;
    *out = n < UINT32_MAX ? (uint32_t)n : UINT32_MAX - 1;
    if (r->at == start)
        malformed(r, start, "a number is expected");
    return r->at > start;
}

static expr_id token(reader *r, bool negated)
{
    size_t open = r->at;
    uint32_t id = 0;
    if (take(r, "<[")) {
        if (!number(r, &id))
            return EXPR_NEVER;
        if (!take(r, "]>"))
            return malformed(r, r->at, "\"]>\" is expected behind a token's number");
    } else {
        const char *end = memchr(r->text + open, '>', r->length - open);
        if (!end)
            return malformed(r, open, "a token that does not end with \">\"");
        size_t n = (size_t)(end + 1 - (r->text + open));
        r->at += n;
        if (!r->lookup)
            return wrong(r, open, ODMOE_ERR_UNSUPPORTED, "a token by its text needs a model's vocabulary");
        int32_t found = r->lookup(r->user, r->text + open, n);
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
    size_t open = r->at++;
    if (++r->nesting > NESTING_MAX)
        return wrong(r, open, ODMOE_ERR_RANGE, "brackets nested deeper than 200");
    skip(r, true);
    expr_id e = choice(r, true);
    r->nesting--;
    if (!r->g->status && !take(r, ")"))
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
    if (take(r, ",")) {
        skip(r, false);
        most = REPEAT_UNBOUNDED;
        if (peek(r) != '}' && !number(r, &most))
            return EXPR_NEVER;
        skip(r, false);
    }
    if (!take(r, "}"))
        return malformed(r, r->at, "\"}\" is expected behind a repetition's numbers");
    if (least > most)
        return malformed(r, open, "a repetition whose least is more than its most");
    if (least > GRAMMAR_REPEAT_MAX || (most != REPEAT_UNBOUNDED && most > GRAMMAR_REPEAT_MAX))
        return wrong(r, open, ODMOE_ERR_RANGE, "more than 2000 repetitions; leave out the upper number for any number");
    return expr_repeat(r->g, e, least, most);
}

static expr_id repeated(reader *r, expr_id e)
{
    for (int times = 0; !r->g->status; times++) {
        size_t open = r->at;
        if (times > 16)
            return wrong(r, open, ODMOE_ERR_RANGE, "too many repetitions of one thing in a row; use brackets");
        if (take(r, "*"))
            e = expr_repeat(r->g, e, 0, REPEAT_UNBOUNDED);
        else if (take(r, "+"))
            e = expr_repeat(r->g, e, 1, REPEAT_UNBOUNDED);
        else if (take(r, "?"))
            e = expr_repeat(r->g, e, 0, 1);
        else if (take(r, "{"))
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
    switch (peek(r)) {
    case '"':
        return literal(r);
    case '[':
        return set(r);
    case '.':
        r->at++;
        charset all = {0};
        r->g->status = charset_negate(&all, r->g->err);
        expr_id e = r->g->status ? EXPR_NEVER : expr_chars(r->g, &all);
        charset_free(&all);
        return e;
    case '(':
        return bracket(r);
    case '!':
        r->at++;
        if (peek(r) != '<')
            return malformed(r, r->at, "a token is expected behind \"!\"");
        return token(r, true);
    case '<':
        return token(r, false);
    default:
        n = name_length(r);
        uint32_t rule = rule_named(r, r->text + r->at, n);
        r->at += n;
        return expr_rule(r->g, rule);
    }
}

static expr_id sequence(reader *r, bool nested)
{
    expr_list list = {0};
    while (!r->g->status && starts_item(peek(r))) {
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
    } while (!r->g->status && take(r, "|"));
    expr_id e = r->g->status ? EXPR_NEVER : expr_alt(r->g, list.items, list.count);
    free(list.items);
    return e;
}

static void rule(reader *r)
{
    size_t start = r->at, n = name_length(r);
    if (!n) {
        malformed(r, start, "a rule's name is expected");
        return;
    }
    uint32_t id = rule_named(r, r->text + start, n);
    r->at += n;
    skip(r, false);
    if (!r->g->status && !take(r, "::="))
        malformed(r, r->at, "\"::=\" is expected behind a rule's name");
    if (!r->g->status && r->g->rules[id].defined)
        malformed(r, start, "a rule of this name is defined already");
    if (r->g->status)
        return;
    rules_define(r->g, id, choice(r, false));
    if (!r->g->status && peek(r) >= 0 && peek(r) != '\n' && peek(r) != '\r')
        malformed(r, r->at, "neither a part of a rule nor its end");
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
    malformed(r, r->length, "there is no rule named root, with which a text begins");
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
    reader r = {.g = g, .text = text, .length = length, .lookup = lookup, .user = user, .vocab = vocab};
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
    while (!g->status && r.at < length) {
        rule(&r);
        skip(&r, true);
    }
    if (!g->status)
        find_root(&r);
    check_defined(&r);
    free(r.slots);
}
