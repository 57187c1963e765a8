/* generate.h - the loop that turns a prompt into text, shared by run and chat. */
#ifndef ODMOE_CLI_GENERATE_H
#define ODMOE_CLI_GENERATE_H

#include "measure.h"

typedef enum generate_end { END_TOKEN, END_LIMIT, END_CONTEXT, END_INTERRUPTED, END_OUTPUT } generate_end;

typedef struct generator {
    odmoe_model *model;
    odmoe_session *session;
    odmoe_sampler *sampler;
    float *logits;                /* [vocab] */
    odmoe_grammar_state *grammar; /* constrains the answer; NULL: free text */
    uint32_t *mask;               /* [mask_words] */
    size_t mask_words;
    int64_t limit; /* tokens to generate at most; < 0: no limit */
    bool ignore_end;
    bool markers; /* special tokens give their text, but for end tokens: for odmoe_output */
    /* gets the text as it comes, in whole UTF-8 characters; false: it goes nowhere, END_OUTPUT */
    bool (*show)(void *user, const char *text, size_t length);
    void *user;
} generator;

/* generate - read `prompt` into the session, then generate until an end token, the limit, a full context, Ctrl-C or
 * an output that takes nothing.
 * `m` is filled in on every way out. ERR_CANCELLED: Ctrl-C while the prompt was read, the session is unchanged. */
odmoe_status generate(const generator *g, const int32_t *prompt, int64_t n, measure *m, generate_end *end,
                      odmoe_error *err);

/* generator_prepare - create session, sampler and logits for a model. false: complained, *status is the exit status.
 * generator_free releases them; fields that were never set may be NULL. */
bool generator_prepare(generator *g, odmoe_model *model, const odmoe_sampler_options *sampler, int *status);
/* generator_new_sampler - replace the sampler, which remembers earlier tokens and draws, by a new one. */
odmoe_status generator_new_sampler(generator *g, const odmoe_sampler_options *options, odmoe_error *err);
/* generator_set_grammar - constrain the next answer to a grammar, which must outlive it; NULL: free text again. */
odmoe_status generator_set_grammar(generator *g, odmoe_grammar *grammar, odmoe_error *err);
void generator_free(generator *g);

/* ids_fit - does the embedding of the model at `path` have a row for each of the tokens? Complains where it does not. */
bool ids_fit(const odmoe_model *model, const char *path, const id_list *ids);

/* complain_no_tokenizer - say why the model can neither read nor write text. */
void complain_no_tokenizer(const odmoe_model *model);
/* complain_room - `what` has more tokens than the context holds: says which -c would do, or the most the model takes.
 */
void complain_room(const char *what, size_t tokens, const generator *g);

#endif
