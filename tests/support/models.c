#include "support/models.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TEXT_MOST 4096

odmoe_options small_options(void)
{
    odmoe_options o;
    odmoe_options_init(&o);
    o.ram_bytes = 64u << 20;
    o.context = 64;
    o.sessions = 2;
    o.threads = 2;
    return o;
}

odmoe_model *must_open(const char *path, const odmoe_options *options)
{
    odmoe_model *model;
    odmoe_error err = {0};
    if (odmoe_model_open(path, options, &model, &err))
        fail_msg("%s", err.message);
    return model;
}

odmoe_session *must_create(odmoe_model *model, int32_t context)
{
    odmoe_session *session;
    odmoe_error err = {0};
    if (odmoe_session_create(model, context, &session, &err))
        fail_msg("%s", err.message);
    return session;
}

void must_eval(odmoe_session *session, const int32_t *tokens, int64_t n, float *logits)
{
    odmoe_error err = {0};
    if (odmoe_eval(session, tokens, n, logits, &err))
        fail_msg("%s", err.message);
}

odmoe_status forward(odmoe_model *model, odmoe_session *session, const int32_t *tokens, int n,
                     const forward_options *options, odmoe_error *err)
{
    odmoe_sequence sequence = {.session = session, .tokens = tokens, .n = n, .want_logits = options->want};
    odmoe_batch batch;
    odmoe_batch_init(&batch);
    batch.sequences = &sequence;
    batch.n = 1;
    batch.logits = options->logits;
    batch.on_tap = options->on_tap;
    batch.user = options->user;
    return odmoe_forward(model, &batch, err);
}

void must_forward(odmoe_model *model, odmoe_session *session, const int32_t *tokens, int n,
                  const forward_options *options)
{
    odmoe_error err = {0};
    if (forward(model, session, tokens, n, options, &err))
        fail_msg("%s", err.message);
}

int vocab_of(const odmoe_model *model)
{
    odmoe_info info = {.size = sizeof info};
    odmoe_model_info(model, &info);
    return info.vocab;
}

int32_t token_at(int i)
{
    return 3 + (i * 7919 + i * i * 31) % 500;
}

const int32_t *text_tokens(int first, int n)
{
    static _Thread_local int32_t tokens[TEXT_MOST];
    assert_true(n <= TEXT_MOST);
    for (int i = 0; i < n; i++)
        tokens[i] = token_at(first + i);
    return tokens;
}

float *fresh_logits(odmoe_model *model, int n)
{
    float *logits = malloc((size_t)vocab_of(model) * sizeof *logits);
    assert_non_null(logits);
    odmoe_session *session = must_create(model, n);
    must_eval(session, text_tokens(0, n), n, logits);
    odmoe_session_free(session);
    return logits;
}

void assert_goes_on(odmoe_model *model, odmoe_session *session, int n)
{
    size_t bytes = (size_t)vocab_of(model) * sizeof(float);
    float *want = fresh_logits(model, n + 1), *got = malloc(bytes);
    assert_int_equal(odmoe_session_length(session), n);
    assert_memory_equal(odmoe_session_tokens(session), text_tokens(0, n), (size_t)n * sizeof(int32_t));
    must_eval(session, text_tokens(n, 1), 1, got);
    assert_memory_equal(got, want, bytes);
    assert_int_equal(odmoe_session_truncate(session, n, NULL, NULL), ODMOE_OK);
    free(want);
    free(got);
}
