/* server_jobs.h - jobs of an engine over the demo model, run to their ends; anything that fails ends the test. */
#ifndef ODMOE_TESTS_SERVER_JOBS_H
#define ODMOE_TESTS_SERVER_JOBS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../server/engine.h"

#define ANSWER_TOKENS_MAX 512
#define EVER_MS \
    3600000 /* that what must come may take: a slow, busy machine is no error, and what hangs is ended by the runner */

/* What a job gave. */
typedef struct answer {
    char content[8192], reasoning[8192], arguments[8192], name[64];
    size_t content_length, reasoning_length, arguments_length;
    int32_t tokens[ANSWER_TOKENS_MAX]; /* with logprobs >= 0: those of the deltas */
    int n_tokens;
    char token_bytes[8192]; /* of those of the content, joined */
    size_t token_bytes_length;
    int deltas, calls, whole; /* whole: calls that are complete */
    bool admitted;
    job_event end;
} answer;

static inline odmoe_model *open_demo(const odmoe_options *options)
{
    char path[4096];
    odmoe_model *model = NULL;
    odmoe_error err;
    snprintf(path, sizeof path, "%s/models/demo.gguf", getenv("ODMOE_SOURCE"));
    if (odmoe_model_open(path, options, &model, &err))
        fail_msg("%s", err.message);
    return model;
}

static inline odmoe_options demo_options(int sequences, int context)
{
    odmoe_options o;
    odmoe_options_init(&o);
    o.ram_bytes = 64u << 20;
    o.sessions = sequences;
    o.context = context;
    o.threads = 2;
    return o;
}

static inline engine *open_engine(odmoe_model *model, const engine_options *options)
{
    engine *e = NULL;
    odmoe_error err;
    if (engine_open(model, options, &e, &err))
        fail_msg("%s", err.message);
    return e;
}

static inline void close_engine(engine *e)
{
    engine_drain(e, 0);
    engine_close(e);
}

/* The ids of a text; at most `room`. */
static inline int32_t ids_of(const odmoe_model *model, const char *text, int32_t *ids, size_t room)
{
    size_t n;
    assert_int_equal(
        odmoe_tokenize(odmoe_model_tokenizer(model), text, strlen(text), ODMOE_TOKENIZE_SPECIAL, ids, room, &n, NULL),
        ODMOE_OK);
    assert_true(n <= room);
    return (int32_t)n;
}

/* A greedy request of `max_tokens` tokens, whose log probabilities come along. */
static inline job_request request_of(const int32_t *tokens, int32_t n, int32_t max_tokens)
{
    job_request r = {.id = "test",
                     .tokens = tokens,
                     .n = n,
                     .max_tokens = max_tokens,
                     .thinking_budget = -1,
                     .logprobs = 0,
                     .cache_prompt = true};
    odmoe_sampler_options_init(&r.sampling);
    r.sampling.temperature = 0;
    return r;
}

static inline job *create_job(const odmoe_model *model, const job_request *r)
{
    job *j = NULL;
    odmoe_error err;
    if (job_create(model, r, &j, &err))
        fail_msg("%s", err.message);
    return j;
}

static inline void append_text(char *to, size_t *n, size_t room, const char *text, size_t length)
{
    assert_true(*n + length < room);
    memcpy(to + *n, text, length);
    *n += length;
    to[*n] = 0;
}

/* Add an event to the answer; true: it was the last. */
static inline bool take_event(answer *a, const job_event *e)
{
    a->admitted = a->admitted || e->kind == JOB_ADMITTED;
    if (e->kind == JOB_END)
        a->end = *e;
    if (e->kind != JOB_DELTA)
        return e->kind == JOB_END;
    a->deltas++;
    if (e->delta.kind == ODMOE_DELTA_CONTENT)
        append_text(a->content, &a->content_length, sizeof a->content, e->delta.text, e->delta.length);
    if (e->delta.kind == ODMOE_DELTA_REASONING)
        append_text(a->reasoning, &a->reasoning_length, sizeof a->reasoning, e->delta.text, e->delta.length);
    if (e->delta.kind == ODMOE_DELTA_CALL) {
        if (!a->calls || (size_t)a->calls <= e->delta.call) { /* the first delta of a call has its name alone */
            assert_int_equal(a->calls++, e->delta.call);
            assert_int_equal(e->delta.length, 0);
            snprintf(a->name, sizeof a->name, "%s", e->delta.name);
            a->arguments_length = 0;
        }
        append_text(a->arguments, &a->arguments_length, sizeof a->arguments, e->delta.text, e->delta.length);
        a->whole += e->delta.whole;
    }
    for (size_t i = 0; i < e->logprob_count; i++) {
        assert_true(a->n_tokens < ANSWER_TOKENS_MAX);
        a->tokens[a->n_tokens++] = e->logprobs[i].token;
        if (e->delta.kind == ODMOE_DELTA_CONTENT)
            append_text(a->token_bytes, &a->token_bytes_length, sizeof a->token_bytes, e->logprobs[i].bytes,
                        e->logprobs[i].length);
    }
    return false;
}

/* Take a job's events to its end. */
static inline void finish_job(job *j, answer *a)
{
    job_event event;
    *a = (answer){0};
    do
        assert_int_equal(job_next(j, -1, EVER_MS, &event), JOB_EVENT);
    while (!take_event(a, &event));
}

/* Submit, wait for the end, free. */
static inline void run_job(engine *e, const odmoe_model *model, const job_request *r, answer *a)
{
    job *j = create_job(model, r);
    assert_int_equal(engine_submit(e, j, NULL), ENGINE_TAKEN);
    finish_job(j, a);
    job_free(j);
}

static inline void assert_same_answer(const answer *a, const answer *b)
{
    assert_string_equal(a->content, b->content);
    assert_string_equal(a->reasoning, b->reasoning);
    assert_int_equal(a->n_tokens, b->n_tokens);
    assert_memory_equal(a->tokens, b->tokens, (size_t)a->n_tokens * sizeof *a->tokens);
    assert_int_equal(a->end.finish, b->end.finish);
}

#endif
