#include "fuzz_grammar.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

enum { BYTES = 256, TOKENS = 272, END = 270, WORDS = TOKENS - BYTES };

static void stop(const char *what, const odmoe_error *err)
{
    fprintf(stderr, "%s: %s\n", what, err ? err->message : "");
    abort();
}

/* All bytes, some words, tokens without text; built once, never freed. */
static const vocab_tree *vocabulary(void)
{
    static const char *const words[WORDS] = {"ab",  "{\"",  "\":",      "\"}",      "true", "null", "12",
                                             "0.5", "aaaa", "\xC3\xA9", "\xE6\xBC", "x\"",  "]]"};
    static vocab_tree v;
    static char texts[1024];
    uint32_t starts[TOKENS + 1], used = 0;
    const int32_t end = END;
    odmoe_error err;
    if (v.count)
        return &v;
    for (uint32_t i = 0; i < TOKENS; i++) {
        starts[i] = used;
        if (i < BYTES)
            texts[used++] = (char)i;
        else if (words[i - BYTES]) {
            memcpy(texts + used, words[i - BYTES], strlen(words[i - BYTES]));
            used += (uint32_t)strlen(words[i - BYTES]);
        }
    }
    starts[TOKENS] = used;
    if (vocab_tree_build(texts, starts, TOKENS, &end, 1, &v, &err))
        stop("vocabulary", &err);
    return &v;
}

/* Is the token in the mask exactly where a copy of the state accepts it? */
static void check_token(const grammar_state *s, const uint32_t *mask, int32_t id)
{
    odmoe_error err = {0};
    grammar_state *copy;
    if (grammar_state_copy(s, &copy, &err))
        stop("copy", &err);
    odmoe_status st = grammar_accept(copy, id, &err);
    bool in = mask[id / 32] >> id % 32 & 1;
    if (st != ODMOE_OK && st != ODMOE_ERR_ARG && st != ODMOE_ERR_RANGE && st != ODMOE_ERR_BUDGET)
        stop("accept", &err);
    if (in != !st && (st == ODMOE_OK || st == ODMOE_ERR_ARG))
        stop("mask and accept differ", &err);
    grammar_state_free(copy);
}

static int32_t nth(const uint32_t *mask, uint32_t n)
{
    uint32_t count = 0;
    for (int32_t id = 0; id < TOKENS; id++)
        count += mask[id / 32] >> id % 32 & 1;
    n = count ? n % count : 0;
    for (int32_t id = 0; id < TOKENS; id++)
        if (mask[id / 32] >> id % 32 & 1 && n-- == 0)
            return id;
    return -1;
}

static void walk(grammar *g, uint32_t seed)
{
    odmoe_error err = {0};
    grammar_state *s;
    uint32_t mask[(TOKENS + 31) / 32];
    odmoe_status st = grammar_state_create(g, &s, &err);
    fuzz_check_error(st, (const struct odmoe_error *)&err);
    for (int step = 0; !st && step < 12; step++) {
        seed = seed * 1664525u + 1013904223u;
        st = grammar_mask(s, mask, sizeof mask / sizeof *mask, &err);
        fuzz_check_error(st, (const struct odmoe_error *)&err);
        if (st == ODMOE_ERR_STATE)
            stop("a dead end with all bytes in the vocabulary", &err);
        if (st)
            break;
        for (int32_t id = (int32_t)(seed >> 8) % 16; id < TOKENS; id += 16)
            check_token(s, mask, id);
        int32_t id = nth(mask, seed >> 8);
        st = grammar_accept(s, id, &err);
        if (st == ODMOE_ERR_ARG)
            stop("a token of the mask is not accepted", &err);
        if (id == END)
            break;
    }
    if (grammar_must_end(s) && !grammar_may_end(s))
        stop("the text has to end and may not", NULL);
    grammar_state_free(s);
}

/* What is printed compiles, unless it is longer than a grammar may be. */
static void print_again(grammar *g)
{
    odmoe_error err = {0};
    grammar *again;
    char *text = grammar_print(g, &err);
    if (!text)
        stop("print", &err);
    odmoe_status st = grammar_compile(GRAMMAR_GBNF, text, strlen(text), vocabulary(), NULL, &again, NULL, &err);
    if (st && st != ODMOE_ERR_RANGE)
        stop("what was printed does not compile", &err);
    if (!st)
        grammar_free(again);
    free(text);
}

void fuzz_use_grammar(grammar_kind kind, const char *source, size_t size)
{
    static const grammar_trigger triggers[2] = {{"ab", 2, -1}, {NULL, 0, 268}};
    odmoe_error err = {0};
    grammar_fault fault;
    uint32_t seed = (uint32_t)size * 2654435761u;
    for (size_t i = 0; i < size; i++)
        seed = (seed ^ (unsigned char)source[i]) * 16777619u;
    for (int kinds = 0; kinds < 2; kinds++) {
        grammar_options o = {
            .memory = (size_t)1 << 20, .triggers = triggers, .trigger_count = kinds ? 2 : 0, .again = seed & 1};
        grammar *g;
        odmoe_status st = grammar_compile(kind, source, size, vocabulary(), &o, &g, &fault, &err);
        fuzz_check_error(st, (const struct odmoe_error *)&err);
        fuzz_touch(fault.path, strlen(fault.path));
        if (st)
            return;
        walk(g, seed);
        walk(g, ~seed);
        if (!kinds)
            print_again(g);
        grammar_free(g);
    }
}

/* Bytes that end something are picked more often, or a text of hundreds of tokens would hardly end. */
static int32_t pick(const uint32_t *mask, uint32_t random)
{
    static const char ends[] = "\"}]>/<\n";
    const char *first = ends + random % (sizeof ends - 1);
    for (const char *c = first; random % 3 && *c; c++)
        if (mask[*c / 32] >> *c % 32 & 1)
            return *c;
    return nth(mask, random >> 4);
}

static char *walk_to_the_end(grammar *g, uint32_t seed)
{
    enum { STEPS = 600, ROOM = STEPS * 8 };
    const vocab_tree *v = vocabulary();
    odmoe_error err = {0};
    grammar_state *s;
    uint32_t mask[(TOKENS + 31) / 32];
    size_t used = 0;
    char *text = malloc(ROOM);
    bool over = false;
    if (!text || grammar_state_create(g, &s, &err)) {
        free(text);
        return NULL;
    }
    for (int step = 0; step < STEPS && !over; step++) {
        seed = seed * 1664525u + 1013904223u;
        if (grammar_mask(s, mask, sizeof mask / sizeof *mask, &err))
            break;
        int32_t id = grammar_may_end(s) && (step > 60 || seed >> 30 == 0) ? END : pick(mask, seed >> 8);
        if (grammar_accept(s, id, &err))
            stop("a token of the mask is not accepted", &err);
        over = id == END;
        memcpy(text + used, v->texts + v->starts[id], v->starts[id + 1] - v->starts[id]);
        used += v->starts[id + 1] - v->starts[id];
    }
    text[used] = 0;
    grammar_state_free(s);
    if (over && strlen(text) == used)
        return text;
    free(text);
    return NULL;
}

char *fuzz_use_written(void (*write)(void *user, grammar_rules *g, const token_names *special), void *user,
                       uint32_t seed)
{
    odmoe_error err = {0};
    grammar_fault fault;
    grammar *g;
    grammar_options o = {.memory = (size_t)1 << 20, .write = write, .write_user = user};
    odmoe_status st = grammar_compile(GRAMMAR_WRITTEN, "", 0, vocabulary(), &o, &g, &fault, &err);
    fuzz_check_error(st, (const struct odmoe_error *)&err);
    fuzz_touch(fault.path, strlen(fault.path));
    if (st)
        return NULL;
    walk(g, seed);
    char *text = walk_to_the_end(g, seed);
    grammar_free(g);
    return text;
}
