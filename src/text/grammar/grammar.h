/* grammar.h - constrain a generation to a grammar: which tokens may come next, and which have come.
 *
 * A grammar is compiled from GBNF or a JSON Schema for one vocabulary. What it computes while texts are checked is kept in
 * it and shared by all its states, under a lock: states of one grammar may be used by several threads. A state is a place
 * in a text, a few bytes; when a session is forked, its state is copied.
 *
 * Fail closed: an error of any kind allows nothing. What a mask allows depends on the grammar, the vocabulary and the
 * text so far alone, not on what is in the cache. */
#ifndef ODMOE_TEXT_GRAMMAR_GRAMMAR_H
#define ODMOE_TEXT_GRAMMAR_GRAMMAR_H

#include "text/grammar/markers.h"
#include "text/grammar/program.h"
#include "text/grammar/vocab_tree.h"

#define GRAMMAR_MEMORY_DEFAULT ((size_t)8 << 20)
#define GRAMMAR_MEMORY_MIN ((size_t)256 << 10)

typedef struct grammar grammar;
typedef struct grammar_state grammar_state;

/* GRAMMAR_WRITTEN: `write` makes all of it, there is no source. */
typedef enum grammar_kind { GRAMMAR_GBNF, GRAMMAR_SCHEMA, GRAMMAR_WRITTEN } grammar_kind;

/* A JSON Schema that a GBNF grammar refers to like a rule of this name. */
typedef struct grammar_schema {
    const char *name; /* letters, digits and "-" */
    const char *text; /* [length] */
    size_t length;
} grammar_schema;

#define GRAMMAR_SCHEMAS_MAX 256

typedef struct grammar_options {
    const grammar_trigger *triggers; /* [trigger_count], borrowed for the call */
    size_t trigger_count;
    bool again;    /* free text behind the grammar's end, up to the next trigger */
    size_t memory; /* bytes for what is computed while texts come by; 0: GRAMMAR_MEMORY_DEFAULT */
    /* The id of the token with this text, for GBNF's <token>; may be NULL. */
    int32_t (*lookup)(const void *user, const char *text, size_t length);
    const void *user;
    const grammar_schema *schemas; /* [schema_count], borrowed for the call; for GBNF alone */
    size_t schema_count;
    token_names special; /* special tokens by their text */
    /* Called when the source has been read: makes g->root, or puts what may stand before it around it. May be NULL. */
    void (*write)(void *write_user, grammar_rules *g, const token_names *special);
    void *write_user;
} grammar_options;

/* grammar_compile - text[0, length). `vocab` may be NULL: then only texts can be checked, not tokens; else it outlives
 * the grammar. `options` may be NULL. Errors: ERR_FORMAT, ERR_RANGE, ERR_UNSUPPORTED with the place in `fault` (may be
 * NULL), ERR_MEMORY. */
odmoe_status grammar_compile(grammar_kind kind, const char *text, size_t length, const vocab_tree *vocab,
                             const grammar_options *options, grammar **out, grammar_fault *fault, odmoe_error *err);
void grammar_free(grammar *g); /* NULL is fine; all its states are freed before */
/* grammar_bytes - the most memory that it will hold: the compiled rules and the limit of the cache. */
size_t grammar_bytes(const grammar *g);
/* grammar_print - its rules as GBNF; free() it. ERR_MEMORY: NULL. */
char *grammar_print(const grammar *g, odmoe_error *err);

/* grammar_state_create - at the beginning: at the root, or, where there are triggers, waiting for one. ERR_MEMORY,
 * ERR_RANGE (the grammar is too ambiguous). grammar_state_copy - at the same place. grammar_state_free - NULL is fine. */
odmoe_status grammar_state_create(grammar *g, grammar_state **out, odmoe_error *err);
odmoe_status grammar_state_copy(const grammar_state *s, grammar_state **out, odmoe_error *err);
void grammar_state_free(grammar_state *s);

/* grammar_mask - mask[0, words): bit (id % 32) of word id / 32 is set where token `id` may come next; bits beyond the
 * vocabulary are 0. End tokens are allowed exactly where the grammar may end. ERR_STATE: no token is possible (a dead end:
 * the vocabulary lacks what the grammar wants next), or there is no vocabulary; ERR_RANGE, ERR_BUDGET, ERR_MEMORY: as
 * grammar_state_create. On an error the mask is all 0. */
odmoe_status grammar_mask(grammar_state *s, uint32_t *mask, size_t words, odmoe_error *err);

/* grammar_accept - the text goes on with this token. ERR_ARG: it is not allowed here, the state is as before; other
 * errors as grammar_mask. After an end token nothing but end tokens is allowed. */
odmoe_status grammar_accept(grammar_state *s, int32_t token, odmoe_error *err);

/* grammar_accept_text - the text goes on with these bytes; *taken (may be NULL) is how many were allowed. ERR_ARG where
 * not all were; the state then stands behind those that were. */
odmoe_status grammar_accept_text(grammar_state *s, const char *text, size_t length, size_t *taken, odmoe_error *err);

/* grammar_may_end - may the text end here? grammar_must_end - is nothing else possible? */
bool grammar_may_end(const grammar_state *s);
bool grammar_must_end(const grammar_state *s);

#endif
