/* answer.h - split a model's answer while it comes: its text and its tool calls go to standard output, its reasoning is
 * shown dimmed on a terminal. And the options for tools and reasoning. */
#ifndef ODMOE_CLI_ANSWER_H
#define ODMOE_CLI_ANSWER_H

#include <stdio.h>

#include "template_options.h"

/* --tools FILE, --tool-choice, --reasoning, --show-reasoning. Input: answer_options *. */
typedef struct answer_options {
    const char *tools, *choice, *reasoning;
    bool show_reasoning;
} answer_options;
extern const struct argp answer_argp;

/* answer_prepare - what the options add to a template: tools, keywords of reasoning. false: complained. */
bool answer_prepare(const answer_options *o, chat_template *template);

typedef struct text_part {
    char *text; /* [length], terminated; NULL while empty */
    size_t length;
} text_part;

/* One answer. */
typedef struct answer {
    odmoe_output *output;
    FILE *file; /* standard output, or a text in memory */
    bool show_reasoning;
    FILE *dimmed; /* where reasoning has been shown and not ended; or NULL */
    char last;    /* the last byte that went to `file`; a line end before any has */
    bool lost;    /* standard output takes nothing any more */
    text_part content, reasoning;
    json_t *calls; /* [{name, arguments: JSON as the model wrote it}] */
} answer;

/* answer_begin - for the prompt `ids`. false: complained. answer_show - the next text, as generator.show wants it; user is an
 * answer. answer_end - the text has ended: write what was held. answer_close - free it, also after a failed answer_begin. */
bool answer_begin(answer *a, const odmoe_model *model, const chat_template *template, const id_list *ids,
                  bool show_reasoning, FILE *file);
bool answer_show(void *user, const char *text, size_t length);
bool answer_end(answer *a);
void answer_close(answer *a);

/* prompt_tail - the text of a prompt's last tokens; free it. */
char *prompt_tail(const odmoe_model *model, const id_list *ids);

#endif
