#include "generation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "characters.h"
#include "job_inside.h"

#define LOGPROBS_MAX 20

/* A sampled token whose text has not been given yet. */
typedef struct pending {
    job_logprob entry;
    char *bytes;
    odmoe_logprob *best;
} pending;

struct generation {
    job *to;
    const odmoe_tokenizer *tokenizer; /* NULL: the model has none; then there is no text */
    int32_t vocab;
    int32_t max_tokens;
    bool ignore_eos, one_call;
    int logprobs;
    odmoe_sampler_options sampling;
    odmoe_logit_bias *bias; /* [sampling.bias_count] */
    odmoe_sampler *sampler; /* from the first token to the end: it takes some bytes for each token of the vocabulary */
    odmoe_grammar *grammar;
    odmoe_grammar_state *state;
    uint32_t *mask; /* [words] */
    size_t words;
    int32_t *banned; /* [banned_count] the end tokens, where they are ignored */
    size_t banned_count;
    /* The end of the thinking, when its tokens are used up. */
    int32_t thinking_budget;
    int32_t *thinking_end;             /* [thinking_end_count] */
    size_t thinking_end_count, forced; /* of them, given so far */
    bool forcing;
    /* From tokens to deltas. */
    odmoe_stream *stream;
    odmoe_output *output; /* NULL: all is content */
    odmoe_stop *stop;     /* NULL: no stop strings */
    char **stop_texts;    /* [stop_count] */
    size_t stop_count;
    char *held; /* [held_count] content that the filter holds */
    size_t held_count, held_room;
    char *clean; /* [clean_room] */
    size_t clean_room;
    pending *pending; /* [pending_count] */
    size_t pending_count, pending_room;
    job_logprob *given; /* [pending_room] */
    int32_t undecided;  /* tokens since the last delta */
    int last_kind;
    bool ended, stopped, failed;
    generation_result result;
};

/* ---- creating ---- */

static odmoe_status fault(odmoe_error *err, odmoe_status code, const char *message)
{
    if (err) {
        err->code = code;
        snprintf(err->message, sizeof err->message, "%s", message);
    }
    return code;
}

static odmoe_status no_memory(odmoe_error *err)
{
    return fault(err, ODMOE_ERR_MEMORY, "no memory for an answer; try again later");
}

static void on_delta(void *user, const odmoe_delta *delta);

static odmoe_status make_stops(generation *g, const job_request *r, odmoe_error *err)
{
    if (!r->stop_count)
        return ODMOE_OK;
    g->stop_texts = calloc(r->stop_count, sizeof *g->stop_texts);
    if (!g->stop_texts)
        return no_memory(err);
    for (; g->stop_count < r->stop_count; g->stop_count++)
        if (!(g->stop_texts[g->stop_count] = strdup(r->stop[g->stop_count])))
            return no_memory(err);
    return odmoe_stop_create(r->stop, r->stop_count, &g->stop, err);
}

static odmoe_status make_thinking_end(generation *g, const job_request *r, odmoe_error *err)
{
    g->thinking_budget = r->thinking_end ? r->thinking_budget : -1;
    if (g->thinking_budget < 0 || !g->tokenizer)
        return ODMOE_OK;
    size_t length = strlen(r->thinking_end), n;
    g->thinking_end = calloc(length + 1, sizeof *g->thinking_end);
    if (!g->thinking_end)
        return no_memory(err);
    odmoe_status status = odmoe_tokenize(g->tokenizer, r->thinking_end, length, ODMOE_TOKENIZE_SPECIAL, g->thinking_end,
                                         length + 1, &n, err);
    if (!status)
        g->thinking_end_count = n <= length + 1 ? n : 0;
    return status;
}

static odmoe_status make_text(generation *g, const job_request *r, odmoe_error *err)
{
    odmoe_status status = make_stops(g, r, err);
    if (!status && g->tokenizer)
        status = odmoe_stream_create(g->tokenizer, &g->stream, err);
    if (!status && r->format)
        status = odmoe_output_create(r->format, r->prompt_tail, r->tools, on_delta, g, &g->output, err);
    if (!status && g->output)
        odmoe_output_stream_calls(g->output);
    if (!status && g->output && g->stream) /* some formats' markers are special tokens */
        odmoe_stream_show_special(g->stream, 1);
    if (!status && g->output && odmoe_output_reasons(g->output))
        g->last_kind = ODMOE_DELTA_REASONING;
    return status ? status : make_thinking_end(g, r, err);
}

static bool list_end_tokens(generation *g)
{
    int32_t known = g->tokenizer ? odmoe_vocab_size(g->tokenizer) : 0;
    for (int32_t i = 0; i < known && i < g->vocab; i++) {
        if (!odmoe_token_is_end(g->tokenizer, i))
            continue;
        int32_t *more = realloc(g->banned, (g->banned_count + 1) * sizeof *more);
        if (!more)
            return false;
        g->banned = more;
        g->banned[g->banned_count++] = i;
    }
    return true;
}

static odmoe_status make_sampling(generation *g, const job_request *r, odmoe_error *err)
{
    odmoe_sampler *checked;
    odmoe_status status = odmoe_sampler_create(&r->sampling, g->vocab, &checked, err);
    if (status)
        return status;
    odmoe_sampler_free(checked);
    g->sampling = r->sampling;
    size_t count = r->sampling.bias_count;
    g->bias = malloc((count + 1) * sizeof *g->bias);
    if (!g->bias)
        return no_memory(err);
    if (count)
        memcpy(g->bias, r->sampling.bias, count * sizeof *g->bias);
    g->sampling.bias = g->bias;
    if (!r->grammar && !r->ignore_eos)
        return ODMOE_OK;
    g->words = ((size_t)g->vocab + 31) / 32;
    g->mask = calloc(g->words, sizeof *g->mask);
    if (!g->mask || (r->ignore_eos && !list_end_tokens(g)))
        return no_memory(err);
    return r->grammar ? odmoe_grammar_state_create(r->grammar, &g->state, err) : ODMOE_OK;
}

odmoe_status generation_create(const odmoe_model *model, const job_request *r, job *to, generation **out,
                               odmoe_error *err)
{
    if (r->logprobs > LOGPROBS_MAX)
        return fault(err, ODMOE_ERR_ARG, "at most 20 log probabilities a token can be given");
    generation *g = calloc(1, sizeof *g);
    if (!g)
        return no_memory(err);
    odmoe_info info = {.size = sizeof info};
    odmoe_model_info(model, &info);
    g->to = to;
    g->tokenizer = odmoe_model_tokenizer(model);
    g->vocab = info.vocab;
    for (int32_t i = 0; i < r->n; i++)
        if (r->tokens[i] < 0 || r->tokens[i] >= g->vocab) {
            generation_free(g);
            return fault(err, ODMOE_ERR_RANGE, "a token of the prompt is not in the vocabulary");
        }
    g->max_tokens = r->max_tokens;
    g->ignore_eos = r->ignore_eos;
    g->one_call = r->one_call;
    g->logprobs = r->logprobs;
    odmoe_status status = make_text(g, r, err);
    if (!status)
        status = make_sampling(g, r, err);
    if (status) {
        generation_free(g);
        return status;
    }
    g->grammar = r->grammar;
    *out = g;
    return ODMOE_OK;
}

static void drop_pending(generation *g, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(g->pending[i].bytes);
        free(g->pending[i].best);
    }
    g->pending_count -= n;
    if (g->pending_count)
        memmove(g->pending, g->pending + n, g->pending_count * sizeof *g->pending);
}

void generation_free(generation *g)
{
    if (!g)
        return;
    drop_pending(g, g->pending_count);
    free(g->pending);
    free(g->given);
    odmoe_grammar_state_free(g->state);
    odmoe_grammar_free(g->grammar);
    odmoe_sampler_free(g->sampler);
    odmoe_output_free(g->output);
    odmoe_stream_free(g->stream);
    odmoe_stop_free(g->stop);
    for (size_t i = 0; i < g->stop_count; i++)
        free(g->stop_texts[i]);
    free(g->stop_texts);
    free(g->thinking_end);
    free(g->held);
    free(g->clean);
    free(g->mask);
    free(g->banned);
    free(g->bias);
    free(g);
}

/* ---- the end ---- */

static void end(generation *g, job_finish finish, const odmoe_error *error)
{
    if (g->ended)
        return;
    g->ended = true;
    g->result.finish = finish;
    if (error)
        g->result.error = *error;
}

static void fail(generation *g, odmoe_status code, const char *message)
{
    odmoe_error error;
    fault(&error, code, message);
    g->failed = true;
    end(g, JOB_FAILED, &error);
}

/* Room for n bytes or elements of `size`. False: there is no memory, and the answer has failed. */
static bool grow(generation *g, void *array, size_t *room, size_t n, size_t size)
{
    void **at = array, *more;
    if (n <= *room)
        return true;
    size_t want = n > 2 * *room ? n : 2 * *room;
    more = realloc(*at, want * size);
    if (!more) {
        fail(g, ODMOE_ERR_MEMORY, "no memory for an answer; try again later");
        return false;
    }
    *at = more;
    *room = want;
    return true;
}

/* ---- deltas to the job ---- */

/* The pending tokens whose bytes are `text`: those before *first belong to markup, those from *end on wait for what is still
 * held. Held is a short end of the text, so the last place where it fits is the one. */
static void match_pending(const generation *g, const char *text, size_t length, size_t *first, size_t *end_at)
{
    size_t total = 0, at = 0, from = 0;
    *first = 0;
    *end_at = g->pending_count;
    for (size_t i = 0; i < g->pending_count; i++)
        total += g->pending[i].entry.length;
    char *all = total >= length ? malloc(total + 1) : NULL;
    if (!all)
        return;
    for (size_t i = 0; i < g->pending_count; i++) {
        memcpy(all + at, g->pending[i].bytes, g->pending[i].entry.length);
        at += g->pending[i].entry.length;
    }
    if (memcmp(all, text, length)) {
        from = total - length + 1;
        while (from-- > 0 && memcmp(all + from, text, length))
            ;
    }
    free(all);
    if (from == SIZE_MAX) /* characters that were mended: all of them */
        return;
    size_t position = 0, i = 0;
    for (; i < g->pending_count && position + g->pending[i].entry.length <= from; i++)
        position += g->pending[i].entry.length;
    *first = g->output ? i : 0; /* without a parser there is no markup: special tokens have no text */
    for (; i < g->pending_count && position < from + length; i++)
        position += g->pending[i].entry.length;
    *end_at = i;
}

/* A delta, with the log probabilities of its tokens. */
static void give(generation *g, const odmoe_delta *delta)
{
    size_t first = 0, last = 0;
    if (g->pending_count && delta->kind != ODMOE_DELTA_CALL)
        match_pending(g, delta->text, delta->length, &first, &last);
    else if (g->pending_count)
        first = last = g->pending_count;
    for (size_t i = first; i < last; i++) {
        g->given[i] = g->pending[i].entry;
        g->given[i].bytes = g->pending[i].bytes;
        g->given[i].best = g->pending[i].best;
    }
    if (!job_delta(g->to, delta, g->given ? g->given + first : NULL, last - first,
                   g->logprobs > 0 ? (size_t)g->logprobs : 0))
        fail(g, ODMOE_ERR_MEMORY, "no memory for an answer; try again later");
    drop_pending(g, last);
    if (delta->kind == ODMOE_DELTA_REASONING)
        g->result.reasoning += g->undecided;
    g->undecided = 0;
    g->last_kind = delta->kind;
}

static void give_text(generation *g, const char *text, size_t length)
{
    if (length)
        give(g,
             &(odmoe_delta){.size = sizeof(odmoe_delta), .kind = ODMOE_DELTA_CONTENT, .text = text, .length = length});
}

/* Which stop string begins at the front of what was held? The one that was complete first. */
static int which_stop(const generation *g, const char *text, size_t length)
{
    int best = 0;
    size_t shortest = SIZE_MAX;
    for (size_t i = 0; i < g->stop_count; i++) {
        size_t n = strlen(g->stop_texts[i]);
        if (n && n <= length && n < shortest && !memcmp(text, g->stop_texts[i], n)) {
            best = (int)i;
            shortest = n;
        }
    }
    return best;
}

/* Content passes the stop strings. */
static void content(generation *g, const char *text, size_t length)
{
    const char *out;
    size_t n;
    int found = 0;
    if (!g->stop) {
        give_text(g, text, length);
        return;
    }
    if (!grow(g, &g->held, &g->held_room, g->held_count + length, 1))
        return;
    memcpy(g->held + g->held_count, text, length);
    g->held_count += length;
    odmoe_error why;
    if (odmoe_stop_push(g->stop, text, length, &out, &n, &found, &why)) {
        fail(g, why.code, why.message);
        return;
    }
    give_text(g, out, n);
    n = n < g->held_count ? n : g->held_count;
    g->held_count -= n;
    memmove(g->held, g->held + n, g->held_count);
    if (!found)
        return;
    g->stopped = true;
    g->result.stop_index = which_stop(g, g->held, g->held_count);
    end(g, JOB_STOPPED_AT_STRING, NULL);
}

/* What the filter holds is content after all: nothing can complete a stop string any more. */
static void release_content(generation *g)
{
    if (!g->stop || g->stopped)
        return;
    const char *out;
    size_t n;
    odmoe_stop_flush(g->stop, &out, &n);
    g->held_count = 0;
    give_text(g, out, n);
}

/* From the parser. */
static void on_delta(void *user, const odmoe_delta *delta)
{
    generation *g = user;
    if (g->stopped || g->failed)
        return;
    if (delta->kind == ODMOE_DELTA_CONTENT) {
        content(g, delta->text, delta->length);
        return;
    }
    if (delta->kind == ODMOE_DELTA_CALL && g->one_call && delta->call > 0)
        return;
    release_content(g);
    give(g, delta);
    if (delta->kind != ODMOE_DELTA_CALL || !delta->whole)
        return;
    g->result.calls++;
    if (g->one_call)
        end(g, JOB_STOPPED_AT_END, NULL);
}

/* Text of whole characters, some of them broken. */
static void text(generation *g, const char *bytes, size_t n)
{
    odmoe_error why;
    if (!n || !grow(g, &g->clean, &g->clean_room, characters_room(n), 1))
        return;
    n = characters_clean(bytes, n, g->clean);
    if (!g->output)
        content(g, g->clean, n);
    else if (odmoe_output_feed(g->output, g->clean, n, &why))
        fail(g, why.code, why.message);
}

/* All that is held goes out. */
static void flush(generation *g)
{
    odmoe_sampler_free(g->sampler); /* the job may stay for a while, until all of it is read */
    g->sampler = NULL;
    const char *bytes;
    size_t n;
    odmoe_error why;
    if (g->stopped || g->failed)
        return;
    if (g->stream) {
        odmoe_stream_flush(g->stream, &bytes, &n);
        text(g, bytes, n);
    }
    if (g->output && odmoe_output_end(g->output, &why))
        fail(g, why.code, why.message);
    release_content(g);
    if (g->last_kind == ODMOE_DELTA_REASONING)
        g->result.reasoning += g->undecided;
    g->undecided = 0;
}

/* ---- picking ---- */

/* Is it time to end the thinking? Then the tokens that do it, one by one, up to one that the grammar does not allow: it may
 * have begun behind the marker. */
static bool force(generation *g, int32_t *token)
{
    bool thinks = g->output && g->thinking_end_count && !g->forced && odmoe_output_reasons(g->output);
    if (thinks && g->result.reasoning + g->undecided >= g->thinking_budget)
        g->forcing = true;
    if (!g->forcing)
        return false;
    *token = g->thinking_end[g->forced++];
    g->forcing = g->forced < g->thinking_end_count;
    odmoe_error why;
    if (!g->state || !odmoe_grammar_accept(g->state, *token, &why))
        return true;
    g->forcing = false;
    return false;
}

/* The tokens that may come next, into g->mask. *at_end: none, but the text may end here. */
static odmoe_status make_mask(generation *g, bool *at_end, odmoe_error *err)
{
    *at_end = false;
    if (g->state) {
        odmoe_status status = odmoe_grammar_mask(g->state, g->mask, g->words, err);
        if (status)
            return status;
    } else {
        memset(g->mask, 0xff, g->words * sizeof *g->mask);
    }
    uint32_t any = 0;
    for (size_t i = 0; i < g->banned_count; i++)
        g->mask[g->banned[i] / 32] &= ~(1u << (g->banned[i] % 32));
    for (size_t i = 0; i < g->words; i++)
        any |= g->mask[i];
    *at_end = !any;
    return ODMOE_OK;
}

static odmoe_status make_sampler(generation *g, odmoe_error *err)
{
    odmoe_status status = odmoe_sampler_create(&g->sampling, g->vocab, &g->sampler, err);
    for (int32_t i = 0; i < g->to->n && !status; i++)
        odmoe_sampler_accept(g->sampler, g->to->tokens[i]);
    return status;
}

/* One token, under the grammar and the thinking's budget. False: the answer has ended. */
static bool pick(generation *g, const float *logits, int32_t *token)
{
    odmoe_error why;
    odmoe_status status = g->sampler ? ODMOE_OK : make_sampler(g, &why);
    if (!status && !force(g, token)) {
        bool at_end = false;
        if (g->mask)
            status = make_mask(g, &at_end, &why);
        if (at_end) {
            end(g, JOB_STOPPED_AT_END, NULL);
            return false;
        }
        if (!status)
            status = odmoe_sample(g->sampler, logits, g->mask, token, &why);
        if (!status && g->state)
            status = odmoe_grammar_accept(g->state, *token, &why);
    }
    if (status) {
        end(g, JOB_FAILED, &why);
        return false;
    }
    odmoe_sampler_accept(g->sampler, *token);
    return true;
}

/* Keep the token's log probability until its text is given. */
static void note_logprob(generation *g, const float *logits, int32_t token)
{
    size_t best = g->logprobs > 0 ? (size_t)g->logprobs : 0, length = 0, room = g->pending_room;
    odmoe_error why;
    if (!grow(g, &g->pending, &g->pending_room, g->pending_count + 1, sizeof *g->pending) ||
        (g->pending_room != room && !grow(g, &g->given, &room, g->pending_room, sizeof *g->given)))
        return;
    if (g->tokenizer && odmoe_token_text(g->tokenizer, token, NULL, 0, &length, NULL))
        length = 0; /* a padding row of the embedding */
    pending *p = &g->pending[g->pending_count];
    *p = (pending){.entry = {.token = token, .length = length}, .bytes = malloc(length + 1)};
    p->best = malloc((best + 1) * sizeof *p->best);
    g->pending_count++;
    if (!p->bytes || !p->best) {
        fail(g, ODMOE_ERR_MEMORY, "no memory for log probabilities; try again later");
        return;
    }
    if (length)
        (void)odmoe_token_text(g->tokenizer, token, p->bytes, length, &length, NULL);
    if (odmoe_logprobs(logits, g->vocab, token, &p->entry.logprob, p->best, best, &why))
        fail(g, why.code, why.message);
}

int32_t generation_limit(const generation *g, int32_t context)
{
    int32_t room = context - g->to->n;
    return g->max_tokens < 0 || g->max_tokens > room ? room : g->max_tokens;
}

bool generation_next(generation *g, const float *logits, int32_t limit, int32_t *token)
{
    if (!g->ended && pick(g, logits, token)) {
        g->result.sampled++;
        g->undecided++;
        if (g->tokenizer && !g->ignore_eos && odmoe_token_is_end(g->tokenizer, *token)) {
            end(g, JOB_STOPPED_AT_END, NULL);
        } else {
            if (g->logprobs >= 0)
                note_logprob(g, logits, *token);
            const char *bytes;
            size_t n;
            if (!g->failed && g->stream && !odmoe_stream_push(g->stream, *token, &bytes, &n, NULL))
                text(g, bytes, n);
            if (!g->ended && g->state && odmoe_grammar_must_end(g->state))
                end(g, JOB_STOPPED_AT_END, NULL);
            if (!g->ended && g->result.sampled >= limit)
                end(g, JOB_LENGTH, NULL);
        }
    }
    if (g->ended)
        flush(g);
    return !g->ended;
}

void generation_end(generation *g, job_finish finish, const odmoe_error *error)
{
    if (g->ended)
        return;
    end(g, finish, error);
    flush(g);
}

const generation_result *generation_result_of(const generation *g)
{
    return &g->result;
}
