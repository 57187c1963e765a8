/* fuzz_text.h - what the targets that open a tokenizer do with it. */
#ifndef ODMOE_TESTS_FUZZ_TEXT_H
#define ODMOE_TESTS_FUZZ_TEXT_H

#include <stddef.h>
#include <stdint.h>

#include "text/tokenizer.h"

/* fuzz_use_tokenizer - encode some texts in every way and decode the ids; ends the process where an id lies outside the
 * vocabulary. */
void fuzz_use_tokenizer(const tokenizer *t);

typedef struct fuzz_fixed_file {
    const char *name, *text; /* NULL ends a list */
} fuzz_fixed_file;

/* fuzz_use_folder - open the tokenizer of a folder in which each of `inputs` (names up to NULL) holds the input, and `fixed`
 * always the same, and use it. The folder is made at the first call and removed at the end: the same lists each time. */
void fuzz_use_folder(const uint8_t *data, size_t size, const char *const *inputs, const fuzz_fixed_file *fixed);

#endif
