/* handles.h - what the public handles are. Included by src/api only. */
#ifndef ODMOE_API_HANDLES_H
#define ODMOE_API_HANDLES_H

#include "model/model.h"
#include "text/template/conversation.h"
#include "text/tokenizer.h"

struct odmoe_tokenizer {
    tokenizer *t;
};

struct odmoe_template {
    chat_program *program;
    template_caps caps;
};

struct odmoe_model {
    model m;
    struct odmoe_tokenizer tokenizer; /* t is NULL where there is none to use: then no_tokenizer says why */
    odmoe_error no_tokenizer;
    struct odmoe_template chat; /* program is NULL where there is none that works: no_chat says why */
    odmoe_error no_chat;
};

struct odmoe_session {
    odmoe_model *model;
    session_state state;
};

/* options_resolve - defaults and names to settings. `source` may be of an older, shorter version of the struct. */
odmoe_status options_resolve(const odmoe_options *source, model_settings *out, odmoe_error *err);

/* options_kernels, options_io - one name of them (NULL: auto). ERR_ARG or ERR_UNSUPPORTED lists what there is. */
odmoe_status options_kernels(const char *name, const struct kernel_table **out, odmoe_error *err);
odmoe_status options_io(const char *name, io_mode *out, odmoe_error *err);

/* model_text_open - the tokenizer of an open model's files. NULL where there is none, or none that this library reads:
 * *reason then says what to tell a caller who needs it. ERR_IO, ERR_MEMORY. text.c */
odmoe_status model_text_open(const model_files *f, tokenizer **t, odmoe_error *reason, odmoe_error *err);

/* model_chat_open - compile the chat template of an open model's files. A model without one that works is fine: *reason
 * then says what to tell who asks for it. ERR_MEMORY. chat.c */
odmoe_status model_chat_open(const model_files *f, struct odmoe_template *out, odmoe_error *reason, odmoe_error *err);

/* give_ids - hand a list of ids to a caller's array, as far as it reaches, and their number to *n; frees the list. */
void give_ids(token_list *list, int32_t *ids, size_t capacity, size_t *n);

/* copy_in - read a caller's struct into ours, no further than it reaches; what an older, shorter one lacks keeps ours.
 * ERR_ARG where its size was never set. `what` names its _init function. */
odmoe_status copy_in(void *to, const void *from, size_t bytes, const char *what, odmoe_error *err);
/* copy_out - fill a caller's struct of `*size` bytes (its first field) from ours, no further than it reaches. */
void copy_out(void *to, const void *from, size_t bytes);

#endif
