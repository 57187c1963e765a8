/* The engine: jobs that run together give what each gives alone, whatever befalls their neighbours. */
#include "server_jobs.h"

#define CONTEXT 512

static odmoe_model *model;
static odmoe_error err;

static int setup(void **state)
{
    odmoe_options o = demo_options(4, CONTEXT);
    model = open_demo(&o);
    return 0;
}

static int teardown(void **state)
{
    odmoe_model_close(model);
    return 0;
}

static engine *engine_with(int sequences, int queue)
{
    engine_options o = {.sequences = sequences, .context = CONTEXT, .queue = queue};
    return open_engine(model, &o);
}

static void a_job_gives_its_text_in_deltas_and_ends(void **state)
{
    int32_t ids[64];
    int32_t n = ids_of(model, "Once upon a time", ids, 64);
    engine *e = engine_with(1, 0);
    job_request r = request_of(ids, n, 12);
    answer a;
    run_job(e, model, &r, &a);
    assert_true(a.admitted);
    assert_true(a.content_length > 0);
    assert_int_equal(a.end.finish, JOB_LENGTH);
    assert_int_equal(a.end.usage.prompt_tokens, n);
    assert_int_equal(a.end.usage.sampled_tokens, 12);
    assert_int_equal(a.end.usage.cached_tokens, 0);
    assert_string_equal(a.content, a.token_bytes);

    /* as the library itself goes on */
    odmoe_session *s;
    float *logits = malloc(4096 * sizeof *logits);
    assert_int_equal(odmoe_session_create(model, CONTEXT, &s, &err), ODMOE_OK);
    assert_int_equal(odmoe_eval(s, ids, n, logits, &err), ODMOE_OK);
    for (int i = 0; i < a.n_tokens; i++) {
        int32_t best = 0;
        for (int32_t t = 1; t < 4096; t++)
            best = logits[t] > logits[best] ? t : best;
        assert_int_equal(a.tokens[i], best);
        assert_int_equal(odmoe_eval(s, &best, 1, logits, &err), ODMOE_OK);
    }
    odmoe_session_free(s);
    free(logits);
    close_engine(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_job_gives_its_text_in_deltas_and_ends),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
