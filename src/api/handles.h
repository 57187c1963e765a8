/* handles.h - what the public handles are. Included by src/api only. */
#ifndef ODMOE_API_HANDLES_H
#define ODMOE_API_HANDLES_H

#include "model/model.h"
#include "text/tokenizer.h"

struct odmoe_tokenizer {
    tokenizer *t;
};

struct odmoe_model {
    model m;
    struct odmoe_tokenizer tokenizer; /* t is NULL where the model has none */
};

struct odmoe_session {
    odmoe_model *model;
    sequence seq;
};

/* options_resolve - defaults and names to settings. `source` may be of an older, shorter version of the struct. */
odmoe_status options_resolve(const odmoe_options *source, model_settings *out, odmoe_error *err);

/* model_text_open - the tokenizer of an open model's files; NULL where it has none. text.c */
odmoe_status model_text_open(const model_files *f, tokenizer **t, odmoe_error *err);

/* copy_out - fill a caller's struct of `*size` bytes (its first field) from ours, no further than it reaches. */
void copy_out(void *to, const void *from, size_t bytes);

#endif
