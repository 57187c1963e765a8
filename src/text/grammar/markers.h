/* markers.h - text up to a marker, as rules: what a model writes freely before "</think>", a value up to the tag that
 * closes it, a string that must not hold a tag.
 *
 * A marker is a text; parts of it that are special tokens of the vocabulary may come as those tokens, or letter by
 * letter, since who reads the output sees no difference. */
#ifndef ODMOE_TEXT_GRAMMAR_MARKERS_H
#define ODMOE_TEXT_GRAMMAR_MARKERS_H

#include "text/grammar/rules.h"

/* How to find the special token with exactly this text (-1: there is none). find NULL: there are no tokens. */
typedef struct token_names {
    int32_t (*find)(const void *user, const char *text, size_t length);
    const void *user;
} token_names;

/* expr_marker - a text that the grammar itself writes: special tokens in it as tokens, the rest as text. */
expr_id expr_marker(grammar_rules *g, const token_names *names, const char *text);

typedef struct marker {
    const char *text;
    expr_id then; /* what follows it; EXPR_NEVER: it must not come */
} marker;

#define MARKERS_MAX 8

/* Free text and what ends it. */
typedef struct free_text {
    const char *name;      /* of its rules */
    const charset *chars;  /* what it is made of, normalised */
    const marker *markers; /* [count], at most MARKERS_MAX */
    size_t count;
    expr_id
        end; /* what may follow at any place; EXPR_EMPTY: it may end anywhere, EXPR_NEVER: nowhere but at a marker */
    expr_id other; /* what may stand in it besides, and is no part of a marker (JSON's escapes), or EXPR_NEVER */
    bool tokens;   /* tokens without text may stand in it */
} free_text;

expr_id expr_free_text(grammar_rules *g, const token_names *names, const free_text *f);

#endif
