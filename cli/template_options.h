/* template_options.h - the options about chat templates, and conversations as the library takes them. */
#ifndef ODMOE_CLI_TEMPLATE_OPTIONS_H
#define ODMOE_CLI_TEMPLATE_OPTIONS_H

#include <jansson.h>

#include "options.h"

/* --template FILE and --template-kwargs JSON. Input: template_options *. */
typedef struct template_options {
    const char *file, *keywords;
} template_options;
extern const struct argp template_argp;

/* A template that is in use: a model's own, or one of a file. */
typedef struct chat_template {
    const odmoe_template *t;
    odmoe_template *own; /* of a file, or NULL */
    const char *keywords;
    uint64_t memory_bytes;
} chat_template;

/* template_load - compile a file. NULL: complained. */
odmoe_template *template_load(const char *file);
/* chat_template_of - the template that the options name, else the open model's. false: complained. Free with
 * chat_template_free. */
bool chat_template_of(const template_options *o, const odmoe_model *model, chat_template *out);
void chat_template_free(chat_template *c);

/* chat_now - this place's time as strftime_now shows it. */
int64_t chat_now(void);

/* add_message - append {role, content} to a list of messages. Bytes that are no UTF-8 become U+FFFD. */
void add_message(json_t *messages, const char *role, const char *content);

/* chat_ids - messages as ids, up to where the answer begins. false: complained. */
bool chat_ids(const chat_template *c, const odmoe_tokenizer *tokenizer, const json_t *messages, id_list *ids);

#endif
