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
    odmoe_template *own;   /* of a file, or NULL */
    const char *keywords;  /* JSON, or NULL */
    char *tools;           /* JSON, or NULL; owned, as is the next */
    char *own_keywords;    /* what keywords points to, or NULL */
    uint64_t memory_bytes; /* of a rendering */
    size_t text_most;      /* bytes of all messages */
} chat_template;

/* chat_share - what conversations may take of a budget (0: of one that the library chooses): text, messages, ids. For
 * odmoe_options.reserve_bytes. chat_text_most - how much text of messages fits in it. */
uint64_t chat_share(uint64_t ram_bytes);
size_t chat_text_most(uint64_t share);

/* template_load - compile a file. NULL: complained. */
odmoe_template *template_load(const char *file);
/* chat_template_of - the template that the options name, else the open model's; `share` is what conversations may take.
 * false: complained. Free with chat_template_free. */
bool chat_template_of(const template_options *o, const odmoe_model *model, uint64_t share, chat_template *out);
void chat_template_free(chat_template *c);

/* chat_now - this place's time as strftime_now shows it. */
int64_t chat_now(void);

/* add_message - append {role, content} to a list of messages. Bytes that are no UTF-8 become U+FFFD. */
void add_message(json_t *messages, const char *role, const char *content);

/* chat_ids - messages as ids, up to where the answer begins. false: complained. */
bool chat_ids(const chat_template *c, const odmoe_tokenizer *tokenizer, const json_t *messages, id_list *ids);

#endif
