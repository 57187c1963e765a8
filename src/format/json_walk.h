/* json_walk.h - go through a JSON text in place, without building a tree of it.
 *
 * Headers of safetensors list tens of thousands of tensors and come from strangers: a tree of them would cost some
 * fifty times the text. A walk allocates nothing. Strings are decoded where they stand, so a text can be walked once.
 */
#ifndef ODMOE_FORMAT_JSON_WALK_H
#define ODMOE_FORMAT_JSON_WALK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Values nested deeper than this are malformed for every reader here. */
#define JSON_DEPTH_MAX 64

typedef struct json_walk {
    char *at, *end; /* what is left: bytes in [at, end); nothing outside is touched */
} json_walk;

/* All return false (or -1) for malformed text; `at` then stands near the fault and the walk is over.
 *
 * json_walk_enter   pass the opening '{' or '['.
 * json_walk_member  in an object: 1 and the next member's key (its value is to be walked or skipped next), 0 after
 *                   passing '}'. *first must be true before the first call.
 * json_walk_item    in an array: 1 when an item is next, 0 after passing ']'. *first likewise.
 * json_walk_text    a string, decoded and ended by a 0; it holds no 0 itself. Points into the text.
 * json_walk_uint    an integer 0 .. 2^64-1 without sign, fraction and exponent.
 * json_walk_skip    any value, checked for balance only.
 * json_walk_done    nothing but blanks is left. */
bool json_walk_enter(json_walk *w, char bracket);
int json_walk_member(json_walk *w, bool *first, char **key);
int json_walk_item(json_walk *w, bool *first);
bool json_walk_text(json_walk *w, char **out);
bool json_walk_uint(json_walk *w, uint64_t *out);
bool json_walk_skip(json_walk *w);
bool json_walk_done(json_walk *w);

#endif
