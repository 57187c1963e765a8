/* fim.h - prompts for a gap in a text, in the models' own ways. */
#ifndef ODMOE_SERVER_FIM_H
#define ODMOE_SERVER_FIM_H

#include <odmoe.h>
#include <stdbool.h>

#include "memory.h"

/* What a model writes around a gap: special tokens, of which each is one token. */
typedef struct fim_form {
    const char *prefix, *suffix, *middle; /* middle NULL: the suffix comes first, and the prefix at the end */
} fim_form;

/* fim_form_of - the form that the tokenizer has tokens for; NULL: none. A static one. */
const fim_form *fim_form_of(const odmoe_tokenizer *tokenizer);
/* fim_text - the prompt: what stands before and behind the gap, whose special tokens count as in any text of a completion. */
void fim_text(const fim_form *form, const char *before, const char *behind, buffer *out);

#endif
