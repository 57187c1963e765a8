#include "generate.h"

#include <stdlib.h>
#include <string.h>

#include "progress.h"

odmoe_status generator_new_sampler(generator *g, const odmoe_sampler_options *options, odmoe_error *err)
{
    odmoe_sampler *fresh;
    odmoe_info info = {.size = sizeof info};
    odmoe_model_info(g->model, &info);
    odmoe_status status = odmoe_sampler_create(options, info.vocab, &fresh, err);
    if (status)
        return status;
    odmoe_sampler_free(g->sampler);
    g->sampler = fresh;
    return ODMOE_OK;
}

bool generator_prepare(generator *g, odmoe_model *model, const odmoe_sampler_options *sampler, int *status)
{
    odmoe_error err;
    odmoe_info info = {.size = sizeof info};
    odmoe_model_info(model, &info);
    g->model = model;
    if (odmoe_session_create(model, 0, &g->session, &err) || generator_new_sampler(g, sampler, &err)) {
        *status = fail(&err);
        return false;
    }
    g->logits = must_alloc((size_t)info.vocab, sizeof *g->logits);
    return true;
}

odmoe_status generator_set_grammar(generator *g, odmoe_grammar *grammar, odmoe_error *err)
{
    odmoe_info info = {.size = sizeof info};
    odmoe_model_info(g->model, &info);
    odmoe_grammar_state_free(g->grammar);
    g->grammar = NULL;
    g->mask_words = ((size_t)info.vocab + 31) / 32;
    g->mask = must_realloc(g->mask, g->mask_words, sizeof *g->mask);
    return grammar ? odmoe_grammar_state_create(grammar, &g->grammar, err) : ODMOE_OK;
}

void generator_free(generator *g)
{
    odmoe_grammar_state_free(g->grammar);
    free(g->mask);
    odmoe_session_free(g->session);
    odmoe_sampler_free(g->sampler);
    free(g->logits);
}

/* Pick a token, under the grammar if there is one. */
static odmoe_status next_token(const generator *g, int32_t *token, odmoe_error *err)
{
    if (!g->grammar)
        return odmoe_sample(g->sampler, g->logits, NULL, token, err);
    odmoe_status status = odmoe_grammar_mask(g->grammar, g->mask, g->mask_words, err);
    if (!status)
        status = odmoe_sample(g->sampler, g->logits, g->mask, token, err);
    return status ? status : odmoe_grammar_accept(g->grammar, *token, err);
}

/* The loop after the prompt: g->logits belong to the session's last token. */
static odmoe_status continue_text(const generator *g, odmoe_stream *stream, measure *m, generate_end *end,
                                  odmoe_error *err)
{
    const odmoe_tokenizer *tokenizer = odmoe_model_tokenizer(g->model);
    odmoe_status status = ODMOE_OK;
    int64_t tokens = 0, passes = 0;
    const char *text;
    size_t length;
    for (;;) {
        if (interrupted()) {
            *end = END_INTERRUPTED;
            break;
        }
        if (g->limit >= 0 && tokens >= g->limit) {
            *end = END_LIMIT;
            break;
        }
        int32_t token;
        status = next_token(g, &token, err);
        if (status)
            break;
        measure_first_token(m);
        if (!g->ignore_end && odmoe_token_is_end(tokenizer, token)) {
            *end = END_TOKEN;
            break;
        }
        odmoe_sampler_accept(g->sampler, token);
        tokens++;
        odmoe_stream_show_special(stream, g->markers && !odmoe_token_is_end(tokenizer, token));
        status = odmoe_stream_push(stream, token, &text, &length, err);
        if (status)
            break;
        if (!g->show(g->user, text, length)) {
            *end = END_OUTPUT;
            break;
        }
        if (g->grammar && odmoe_grammar_must_end(g->grammar)) {
            *end = END_TOKEN;
            break;
        }
        if (tokens == g->limit)
            continue; /* its logits are not needed */
        if (odmoe_session_length(g->session) == odmoe_session_context(g->session)) {
            *end = END_CONTEXT;
            break;
        }
        status = odmoe_eval(g->session, &token, 1, g->logits, err);
        if (status == ODMOE_ERR_CANCELLED) {
            status = ODMOE_OK;
            *end = END_INTERRUPTED;
            break;
        }
        if (status)
            break;
        passes++;
    }
    odmoe_stream_flush(stream, &text, &length);
    g->show(g->user, text, length);
    measure_end(m, tokens, passes);
    return status;
}

odmoe_status generate(const generator *g, const int32_t *prompt, int64_t n, measure *m, generate_end *end,
                      odmoe_error *err)
{
    odmoe_stream *stream;
    odmoe_status status = odmoe_stream_create(odmoe_model_tokenizer(g->model), &stream, err);
    if (status)
        return status;
    measure_start(m, g->model);
    progress_prompt(true);
    status = odmoe_eval(g->session, prompt, n, g->logits, err);
    progress_prompt(false);
    if (!status) {
        measure_prompt_done(m, n);
        for (int64_t i = 0; i < n; i++)
            odmoe_sampler_accept(g->sampler, prompt[i]);
        status = continue_text(g, stream, m, end, err);
    }
    odmoe_stream_free(stream);
    return status;
}

bool ids_fit(const odmoe_model *model, const char *path, const id_list *ids)
{
    odmoe_info info = {.size = sizeof info};
    odmoe_model_info(model, &info);
    for (size_t i = 0; i < ids->n; i++)
        if (ids->ids[i] >= info.vocab) {
            complain("%s: the tokenizer makes token %d of this text, but the embedding has %d rows: they do not belong "
                     "together",
                     path, ids->ids[i], info.vocab);
            return false;
        }
    return true;
}

void complain_no_tokenizer(const odmoe_model *model)
{
    complain("%s; odmoe logits and odmoe bench work without a tokenizer", odmoe_model_no_tokenizer(model));
}

enum { ANSWER_ROOM = 256 }; /* tokens that a suggested context has beyond the prompt, where the model takes them */

void complain_room(const char *what, size_t tokens, const generator *g)
{
    odmoe_info info = {.size = sizeof info};
    odmoe_model_info(g->model, &info);
    size_t most = (size_t)info.context, with_answer = tokens + ANSWER_ROOM;
    if (tokens >= most)
        complain("%s has %zu tokens, this model takes at most %zu, answer included: give a shorter one", what, tokens,
                 most);
    else
        complain("%s has %zu tokens, the context has room for %d; -c %zu would do", what, tokens,
                 odmoe_session_context(g->session), with_answer < most ? with_answer : most);
}
