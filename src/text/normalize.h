/* normalize.h - what is done to a text before it is cut into words: Unicode normal forms, prefixes, replacements. */
#ifndef ODMOE_TEXT_NORMALIZE_H
#define ODMOE_TEXT_NORMALIZE_H

#include "text/pattern.h"

typedef enum normalize_kind {
    NORMALIZE_NFC,
    NORMALIZE_NFD,
    NORMALIZE_NFKC,
    NORMALIZE_NFKD,
    NORMALIZE_PREPEND, /* text before the whole, unless that is empty */
    NORMALIZE_REPLACE  /* each match of pattern by text */
} normalize_kind;

typedef struct normalize_step {
    normalize_kind kind;
    char *text; /* owned */
    size_t length;
    pattern *pattern; /* owned */
} normalize_step;

/* A growing text; zero-initialise, free(at). */
typedef struct text_buffer {
    char *at;
    size_t length, capacity;
} text_buffer;

/* text_append - ERR_MEMORY. */
odmoe_status text_append(text_buffer *b, const char *text, size_t length, odmoe_error *err);

/* normalize - run the steps, one after the other, over text[0, length); *out points to the result: the text itself
 * where nothing changes, else into one of the two buffers, which the caller keeps and frees. Bytes that are no UTF-8
 * pass unchanged. ERR_MEMORY, ERR_FORMAT (a pattern costs too much), ERR_RANGE (grows beyond 2 GiB). */
odmoe_status normalize(const normalize_step *steps, size_t count, pattern_scratch *scratch, const char *text,
                       size_t length, text_buffer buffers[2], const char **out, size_t *out_length, odmoe_error *err);

void normalize_step_free(normalize_step *step); /* what it holds */

#endif
