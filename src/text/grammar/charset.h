/* charset.h - sets of Unicode characters as sorted ranges. Surrogates (U+D800 to U+DFFF) are never members. */
#ifndef ODMOE_TEXT_GRAMMAR_CHARSET_H
#define ODMOE_TEXT_GRAMMAR_CHARSET_H

#include <stdbool.h>

#include "base/status.h"

#define CHAR_MAX_CODE 0x10FFFFu

typedef struct char_range {
    uint32_t lo, hi; /* both belong to it */
} char_range;

/* Zero-initialise, charset_free at the end. After charset_add alone the ranges may overlap; charset_normalise sorts
 * and joins them, and all functions below it want that. */
typedef struct charset {
    char_range *ranges;
    size_t count, capacity;
} charset;

/* charset_add - one more range, lo <= hi <= CHAR_MAX_CODE. ERR_MEMORY. */
odmoe_status charset_add(charset *set, uint32_t lo, uint32_t hi, odmoe_error *err);
/* charset_normalise - sort, join, take out surrogates. ERR_MEMORY. */
odmoe_status charset_normalise(charset *set, odmoe_error *err);
/* charset_negate - all other characters. ERR_MEMORY. */
odmoe_status charset_negate(charset *set, odmoe_error *err);
/* charset_cut - the part of `from` inside [lo, hi], added to `out`. ERR_MEMORY. */
odmoe_status charset_cut(const charset *from, uint32_t lo, uint32_t hi, charset *out, odmoe_error *err);

bool charset_has(const charset *set, uint32_t c);
/* charset_covers - are all characters of [lo, hi] members? */
bool charset_covers(const charset *set, uint32_t lo, uint32_t hi);
void charset_free(charset *set);

#endif
