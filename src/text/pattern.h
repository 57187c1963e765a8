/* pattern.h - regular expressions of tokenizer files, over PCRE2.
 *
 * They are written for other engines (Oniguruma, Rust's regex). Compiling translates what differs: \s is exactly
 * Unicode's White_Space, \w are letters, marks, digits and connectors, . is all but \n, ^ and $ hold at every line;
 * constructs that would silently mean something else here (nested classes, [:alpha:], \h...) are refused. Matching runs
 * only over valid UTF-8 and under limits of steps and memory. */
#ifndef ODMOE_TEXT_PATTERN_H
#define ODMOE_TEXT_PATTERN_H

#include <stdbool.h>

#include "base/status.h"

typedef struct pattern pattern;

/* pattern_compile - `literal`: the text itself, no expression. Immutable, for any number of threads. `where` names file
 * and field in messages. ERR_FORMAT, ERR_UNSUPPORTED, ERR_MEMORY. */
odmoe_status pattern_compile(const char *text, size_t length, bool literal, const char *where, pattern **out,
                             odmoe_error *err);
void pattern_free(pattern *p);
size_t pattern_bytes(const pattern *p);

/* Working memory of one thread. */
typedef struct pattern_scratch pattern_scratch;
odmoe_status pattern_scratch_create(pattern_scratch **out, odmoe_error *err);
void pattern_scratch_free(pattern_scratch *s);

/* pattern_scratch_begin - a new text of so many bytes: all searches in it and in what is made of it share one limit of
 * steps. A scratch just created is as for an empty text. */
void pattern_scratch_begin(pattern_scratch *s, size_t length);

/* A walk over the matches in one text; zero-initialise `at`, and last_end to SIZE_MAX. */
typedef struct pattern_walk {
    size_t at;         /* the search goes on here */
    size_t last_end;   /* of the last match */
    size_t start, end; /* the match that pattern_next found */
    bool found;        /* false: there are no more */
} pattern_walk;
#define PATTERN_WALK_START                             \
    (pattern_walk)                                     \
    {                                                  \
        .at = 0, .last_end = SIZE_MAX, .found = false, \
    }

/* pattern_next - the next match in text[0, length), which must be valid UTF-8. An empty match counts, except directly
 * behind the last match. ERR_FORMAT when the searches in the text take too many steps, ERR_MEMORY. */
odmoe_status pattern_next(const pattern *p, pattern_scratch *s, const char *text, size_t length, pattern_walk *walk,
                          odmoe_error *err);

#endif
