/* fuzz_text.h - what the targets that open a tokenizer do with it. */
#ifndef ODMOE_TESTS_FUZZ_TEXT_H
#define ODMOE_TESTS_FUZZ_TEXT_H

#include "text/tokenizer.h"

/* fuzz_use_tokenizer - encode some texts in every way and decode the ids; ends the process where an id lies outside the
 * vocabulary. */
void fuzz_use_tokenizer(const tokenizer *t);

#endif
