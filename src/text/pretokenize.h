/* pretokenize.h - a text into the pieces that are merged on their own: the pre-tokenizer's steps, one inside the
 * other. */
#ifndef ODMOE_TEXT_PRETOKENIZE_H
#define ODMOE_TEXT_PRETOKENIZE_H

#include "text/normalize.h"

#define SPLIT_STEPS_MAX 16

typedef enum pretokenize_kind {
    SPLIT_PATTERN, /* by the matches of a pattern */
    SPLIT_PREFIX,  /* a blank before each piece that does not begin with one (ByteLevel's add_prefix_space) */
    SPLIT_META,    /* blanks become `text`, which is put before a piece as well (Metaspace) */
    SPLIT_RUNS     /* before each run of `text`; only where no token has `text` behind another character */
} pretokenize_kind;

/* What becomes of the matches of a pattern. */
typedef enum pretokenize_matches {
    SPLIT_ISOLATED,
    SPLIT_REMOVED,
    SPLIT_WITH_PREVIOUS,
    SPLIT_WITH_NEXT,
    SPLIT_CONTIGUOUS
} pretokenize_matches;

typedef enum pretokenize_prepend { SPLIT_PREPEND_NEVER, SPLIT_PREPEND_FIRST, SPLIT_PREPEND_ALWAYS } pretokenize_prepend;

typedef struct pretokenize_step {
    pretokenize_kind kind;
    pattern *pattern; /* owned */
    pretokenize_matches matches;
    bool invert; /* the gaps are the matches */
    char *text;  /* owned; META and RUNS */
    size_t length;
    pretokenize_prepend prepend; /* META */
    bool cut;                    /* META: a piece begins at each `text` */
} pretokenize_step;

/* Working memory of one text; zero-initialise, patterns as created. */
typedef struct pretokenize_scratch {
    pattern_scratch *patterns;
    text_buffer buffers[SPLIT_STEPS_MAX]; /* the text as changed by a step */
} pretokenize_scratch;

/* Called for each piece, in order; a status other than OK ends the splitting and is returned. */
typedef odmoe_status (*pretokenize_fn)(void *ctx, const char *piece, size_t length, odmoe_error *err);

/* pretokenize_text - text[0, length) through all steps (at most SPLIT_STEPS_MAX). Bytes that are no UTF-8 are pieces of
 * their own. `first`: the text's first byte is the first of what the user gave. */
odmoe_status pretokenize_text(const pretokenize_step *steps, size_t count, pretokenize_scratch *s, const char *text,
                              size_t length, bool first, pretokenize_fn fn, void *ctx, odmoe_error *err);

void pretokenize_scratch_free(pretokenize_scratch *s); /* patterns too */
void pretokenize_step_free(pretokenize_step *step);    /* what it holds */

#endif
