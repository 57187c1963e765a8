#include "text/grammar/markers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"

/* A marker is read as symbols: characters, and tokens by their ids. */
#define TOKEN_SYMBOL 0x80000000u
#define SYMBOLS_MAX 64
#define TOKEN_TEXT_MAX 64 /* bytes of the longest special token that is looked for */

/* The special token that text begins with, the longest one; *length are its bytes. */
static int32_t token_at(const token_names *names, const char *text, size_t *length)
{
    size_t most = strnlen(text, TOKEN_TEXT_MAX);
    for (size_t n = most; n > 1 && names && names->find; n--) {
        int32_t id = names->find(names->user, text, n);
        if (id >= 0) {
            *length = n;
            return id;
        }
    }
    return -1;
}

/* The symbols of a text, tokens where `with_tokens`; SYMBOLS_MAX at most. */
static size_t symbols_of(const token_names *names, const char *text, bool with_tokens, uint32_t *out)
{
    size_t n = 0, length = 0;
    while (*text && n < SYMBOLS_MAX) {
        int32_t id = with_tokens ? token_at(names, text, &length) : -1;
        if (id < 0) {
            int bytes = utf8_char(text, strlen(text));
            length = bytes > 0 ? (size_t)bytes : 1;
        }
        out[n++] = id >= 0 ? TOKEN_SYMBOL | (uint32_t)id : utf8_decode(text, (int)length);
        text += length;
    }
    return n;
}

static expr_id expr_symbol(grammar_rules *g, uint32_t symbol)
{
    return symbol & TOKEN_SYMBOL ? expr_token(g, symbol & ~TOKEN_SYMBOL, false) : expr_range(g, symbol, symbol);
}

expr_id expr_marker(grammar_rules *g, const token_names *names, const char *text)
{
    expr_list list = {0};
    while (*text && !g->status) {
        size_t run = 0, length = 0;
        int32_t id = -1;
        while (text[run] && (id = token_at(names, text + run, &length)) < 0)
            run++;
        expr_list_add(g, &list, expr_text(g, text, run));
        if (id >= 0)
            expr_list_add(g, &list, expr_token(g, (uint32_t)id, false));
        text += run + (id >= 0 ? length : 0);
    }
    expr_id e = g->status ? EXPR_NEVER : expr_seq(g, list.items, list.count);
    free(list.items);
    return e;
}

/* ---- free text ------------------------------------------------------------------------------------------------------ */

/* All markers at once (Aho-Corasick): a state has read the longest beginning of a marker that ends here. State 0 has read
 * none. A state whose marker is whole is left at once. */
typedef struct state {
    uint32_t symbol; /* that leads to it from its parent */
    unsigned parent, fail;
    int found; /* which marker is whole, or -1 */
} state;

enum { STATES_MAX = 2 * MARKERS_MAX * SYMBOLS_MAX + 1 };

typedef struct walk {
    grammar_rules *g;
    const free_text *f;
    state states[STATES_MAX]; /* a parent stands before its children */
    uint32_t rules[STATES_MAX];
    unsigned count;
} walk;

static unsigned child(const walk *w, unsigned parent, uint32_t symbol)
{
    for (unsigned i = 1; i < w->count; i++)
        if (w->states[i].parent == parent && w->states[i].symbol == symbol)
            return i;
    return 0;
}

static void add_symbols(walk *w, const uint32_t *symbols, size_t n, int which)
{
    unsigned at = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned to = child(w, at, symbols[i]);
        if (!to) {
            to = w->count++;
            w->states[to] = (state){.symbol = symbols[i], .parent = at, .found = -1};
        }
        at = to;
    }
    if (w->states[at].found < 0)
        w->states[at].found = which;
}

/* Where a symbol leads from a state. */
static unsigned next_state(const walk *w, unsigned from, uint32_t symbol)
{
    for (;; from = w->states[from].fail) {
        unsigned to = child(w, from, symbol);
        if (to || !from)
            return to;
    }
}

static unsigned depth_of(const walk *w, unsigned s)
{
    unsigned n = 0;
    for (; s; s = w->states[s].parent)
        n++;
    return n;
}

/* Breadth first, so that what a state falls back to is known before it is wanted. */
static void link_states(walk *w)
{
    for (unsigned depth = 1, any = 1; any; depth++) {
        any = 0;
        for (unsigned s = 1; s < w->count; s++) {
            if (depth_of(w, s) != depth)
                continue;
            any = 1;
            unsigned parent = w->states[s].parent;
            w->states[s].fail = parent ? next_state(w, w->states[parent].fail, w->states[s].symbol) : 0;
            if (w->states[s].found < 0)
                w->states[s].found = w->states[w->states[s].fail].found;
        }
    }
}

/* What follows when a symbol has led to state s. */
static expr_id follow(const walk *w, unsigned s)
{
    return w->states[s].found >= 0 ? w->f->markers[w->states[s].found].then : expr_rule(w->g, w->rules[s]);
}

/* The rule of one state: each symbol that goes on with a marker, and all other characters and tokens, back to the begin. */
static void define(walk *w, unsigned s)
{
    grammar_rules *g = w->g;
    charset named = {0}, rest = {0};
    uint32_t tokens[STATES_MAX];
    size_t token_count = 0;
    expr_list list = {0};
    for (unsigned from = s;; from = w->states[from].fail) {
        for (unsigned to = 1; to < w->count; to++) {
            uint32_t symbol = w->states[to].symbol;
            if (w->states[to].parent != from || next_state(w, s, symbol) != to)
                continue;
            expr_list_add(g, &list, SEQ(g, expr_symbol(g, symbol), follow(w, to)));
            if (symbol & TOKEN_SYMBOL)
                tokens[token_count++] = symbol & ~TOKEN_SYMBOL;
            else if (!g->status)
                g->status = charset_add(&named, symbol, symbol, g->err);
        }
        if (!from)
            break;
    }
    if (!g->status)
        g->status = charset_normalise(&named, g->err);
    if (!g->status)
        g->status = charset_negate(&named, g->err);
    for (size_t i = 0; i < w->f->chars->count && !g->status; i++)
        g->status = charset_cut(&named, w->f->chars->ranges[i].lo, w->f->chars->ranges[i].hi, &rest, g->err);
    if (!g->status)
        g->status = charset_normalise(&rest, g->err);
    expr_id begin = expr_rule(g, w->rules[0]);
    expr_list_add(g, &list, SEQ(g, expr_chars(g, &rest), begin));
    expr_list_add(g, &list, SEQ(g, w->f->other, begin));
    if (w->f->tokens)
        expr_list_add(g, &list, SEQ(g, expr_silent(g, tokens, token_count), begin));
    expr_list_add(g, &list, w->f->end);
    rules_define(g, w->rules[s], g->status ? EXPR_NEVER : expr_alt(g, list.items, list.count));
    free(list.items);
    charset_free(&named);
    charset_free(&rest);
}

static void fill(walk *w, const token_names *names)
{
    uint32_t symbols[SYMBOLS_MAX];
    w->count = 1;
    w->states[0] = (state){.found = -1};
    for (size_t i = 0; i < w->f->count; i++)
        for (int with_tokens = 0; with_tokens < 2; with_tokens++)
            add_symbols(w, symbols, symbols_of(names, w->f->markers[i].text, with_tokens, symbols), (int)i);
    link_states(w);
    for (unsigned s = 0; s < w->count; s++) {
        char name[80];
        int n = snprintf(name, sizeof name, "%.48s-%zu", w->f->name, w->g->rules_count);
        w->rules[s] = w->states[s].found >= 0 ? 0 : rules_add(w->g, name, (size_t)n, 0);
    }
    for (unsigned s = 0; s < w->count && !w->g->status; s++)
        if (w->states[s].found < 0)
            define(w, s);
}

expr_id expr_free_text(grammar_rules *g, const token_names *names, const free_text *f)
{
    walk *w = g->status ? NULL : mem_calloc(1, sizeof *w, "a grammar", g->err);
    if (!w) {
        g->status = g->status ? g->status : ODMOE_ERR_MEMORY;
        return EXPR_NEVER;
    }
    w->g = g;
    w->f = f;
    fill(w, names);
    expr_id e = expr_rule(g, w->rules[0]);
    free(w);
    return e;
}
