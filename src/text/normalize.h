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

#define TEXT_MAX 0x7FFFFFFFu /* bytes of a text: merging numbers them with 32 bits */

/* A growing text; zero-initialise, free(at). */
typedef struct text_buffer {
    char *at;
    size_t length, capacity;
    size_t limit; /* bytes; 0, and at most: TEXT_MAX */
} text_buffer;

/* text_append - ERR_MEMORY, ERR_RANGE (beyond the limit). */
odmoe_status text_append(text_buffer *b, const char *text, size_t length, odmoe_error *err);

/* Working memory of one text; zero-initialise, set patterns and room. */
typedef struct normal_scratch {
    pattern_scratch *patterns; /* borrowed */
    text_buffer buffers[2];
    size_t room; /* bytes that the results may still have, all together */
} normal_scratch;

/* normalize_room - what all stretches of a text of so many bytes may become together. The longest normal form of a
 * character has 11 times its bytes; steps of a file that multiply a text further are after the memory. */
static inline size_t normalize_room(size_t length)
{
    return 32 * length + 65536;
}

/* normalize - run the steps, one after the other, over text[0, length); *out points to the result: the text itself
 * where nothing changes, else into one of the buffers. Bytes that are no UTF-8 pass unchanged. ERR_MEMORY, ERR_FORMAT
 * (a pattern costs too much), ERR_RANGE (a step's result is larger than s->room). */
odmoe_status normalize(const normalize_step *steps, size_t count, normal_scratch *s, const char *text, size_t length,
                       const char **out, size_t *out_length, odmoe_error *err);
void normal_scratch_free(normal_scratch *s); /* the buffers */

void normalize_step_free(normalize_step *step); /* what it holds */

#endif
