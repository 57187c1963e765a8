/* The same bytes come out whatever the budget, the I/O path, the threads, the chunk, what is prefetched, and whoever
 * else is in the pass. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "odmoe.h"
#include "support/golden.h"

#define TOKENS 40
#define CONTEXT 128

/* A mixture of formats and families: merged and one-by-one experts, split file, shared expert, sliding window. */
static const char *const models[] = {"/models/demo.gguf",          "gguf/qwen2moe-Q4_K_M.gguf",
                                     "gguf/llama-Q4_K_M.gguf",     "gguf/qwen3moe-Q8_0-split-00001-of-00002.gguf",
                                     "gguf/qwen3moe-IQ3_XXS.gguf", "models/qwen3_moe",
                                     "models/mixtral_sliding",     "models/olmoe_f32"};

static odmoe_options defaults(void)
{
    odmoe_options o;
    odmoe_options_init(&o);
    o.ram_bytes = 512u << 20;
    o.context = CONTEXT;
    o.sessions = 2;
    o.threads = 2;
    return o;
}

static odmoe_model *open_model(const char *path, const odmoe_options *o)
{
    odmoe_model *model;
    odmoe_error err = {0};
    if (odmoe_model_open(path, o, &model, &err))
        fail_msg("%s", err.message);
    return model;
}

static odmoe_session *open_session(odmoe_model *model)
{
    odmoe_session *s;
    odmoe_error err = {0};
    if (odmoe_session_create(model, 0, &s, &err))
        fail_msg("%s", err.message);
    return s;
}

static int32_t token_at(int i)
{
    return 3 + (i * 7919 + i * i * 31) % 500; /* all vocabularies here have at least 512 */
}

static int vocab_of(odmoe_model *model)
{
    odmoe_info info = {.size = sizeof info};
    odmoe_model_info(model, &info);
    return info.vocab;
}

static void run(odmoe_model *model, odmoe_sequence *sequences, int n, float *logits)
{
    odmoe_batch batch;
    odmoe_error err = {0};
    odmoe_batch_init(&batch);
    batch.sequences = sequences;
    batch.n = n;
    batch.logits = logits;
    if (odmoe_forward(model, &batch, &err))
        fail_msg("%s", err.message);
}

/* A prompt with logits of every token, then some tokens one by one; the caller frees the logits [TOKENS + 8, vocab]. */
static float *run_alone(const char *path, const odmoe_options *o, int *vocab)
{
    odmoe_model *model = open_model(path, o);
    odmoe_session *s = open_session(model);
    *vocab = vocab_of(model);
    float *logits = malloc(sizeof *logits * (size_t)(TOKENS + 8) * (size_t)*vocab);
    int32_t tokens[TOKENS];
    for (int i = 0; i < TOKENS; i++)
        tokens[i] = token_at(i);
    odmoe_sequence all = {.session = s, .tokens = tokens, .n = TOKENS, .want_logits = ODMOE_LOGITS_ALL};
    run(model, &all, 1, logits);
    odmoe_error err = {0};
    for (int i = TOKENS; i < TOKENS + 8; i++) {
        int32_t token = token_at(i);
        if (odmoe_eval(s, &token, 1, logits + (size_t)i * (size_t)*vocab, &err))
            fail_msg("%s", err.message);
    }
    odmoe_session_free(s);
    odmoe_model_close(model);
    return logits;
}

/* What a model gives with the defaults; computed once for each model and kernel table in turn. */
static const float *defaults_give(const char *path, const char *kernels, int *vocab)
{
    static char of_path[1024], of_kernels[16];
    static float *logits;
    static int of_vocab;
    if (strcmp(path, of_path) || strcmp(kernels, of_kernels)) {
        odmoe_options d = defaults();
        d.kernels = kernels;
        free(logits);
        logits = run_alone(path, &d, &of_vocab);
        snprintf(of_path, sizeof of_path, "%s", path);
        snprintf(of_kernels, sizeof of_kernels, "%s", kernels);
    }
    *vocab = of_vocab;
    return logits;
}

static void same_as_default(const char *what, const char *path, const odmoe_options *o)
{
    int vocab, again;
    const float *want = defaults_give(path, o->kernels, &vocab);
    float *got = run_alone(path, o, &again);
    assert_int_equal(vocab, again);
    if (memcmp(want, got, sizeof *want * (size_t)(TOKENS + 8) * (size_t)vocab))
        fail_msg("%s: %s changes the output", path, what);
    free(got);
}

/* Every model with the best kernels; the other tables with one model of few tokens' work. */
static void for_each_model(void (*check)(const char *path, const char *kernels))
{
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        check(test_path("%s", models[i]), "auto");
    for (int k = 0; odmoe_kernels_at(k); k++)
        check(test_path("gguf/llama-Q4_K_M.gguf"), odmoe_kernels_at(k));
}

static void budget(const char *path, const char *kernels)
{
    odmoe_options o = defaults();
    o.kernels = kernels;
    odmoe_plan plan = {.size = sizeof plan};
    odmoe_error err = {0};
    assert_int_equal(odmoe_plan_make(path, &o, &plan, &err), ODMOE_OK);
    uint64_t floor_bytes = plan.floor_bytes, everything = plan.experts_bytes;
    for (int step = 0; step < 4; step++) { /* room for one expert, then a third, two thirds, nearly all */
        o.ram_bytes = floor_bytes + everything * (uint64_t)step / 3;
        same_as_default("the budget", path, &o);
    }
}

static void the_budget_does_not_change_the_output(void **state)
{
    for_each_model(budget);
}

static void io_path(const char *path, const char *kernels)
{
    odmoe_options o = defaults();
    o.kernels = kernels;
    odmoe_plan plan = {.size = sizeof plan};
    assert_int_equal(odmoe_plan_make(path, &o, &plan, NULL), ODMOE_OK);
    o.ram_bytes = plan.floor_bytes + plan.experts_bytes / 2;
    for (int i = 0; odmoe_io_at(i); i++) {
        odmoe_model *model;
        o.io = odmoe_io_at(i);
        odmoe_status status = odmoe_model_open(path, &o, &model, NULL);
        if (status == ODMOE_ERR_UNSUPPORTED) /* this kernel or file system refuses it */
            continue;
        assert_int_equal(status, ODMOE_OK);
        odmoe_model_close(model);
        same_as_default(o.io, path, &o);
    }
}

static void the_io_path_does_not_change_the_output(void **state)
{
    for_each_model(io_path);
}

static void threads_and_chunks(const char *path, const char *kernels)
{
    static const int chunks[] = {1, 7, TOKENS};
    for (int threads = 1; threads <= 3; threads++)
        for (int c = 0; c < 3; c++) {
            odmoe_options o = defaults();
            o.kernels = kernels;
            o.threads = threads;
            o.chunk = chunks[c];
            same_as_default("threads or chunk", path, &o);
        }
}

static void threads_and_chunks_do_not_change_the_output(void **state)
{
    for_each_model(threads_and_chunks);
}

static void policies(const char *path, const char *kernels)
{
    odmoe_options o = defaults();
    o.kernels = kernels;
    odmoe_plan plan = {.size = sizeof plan};
    assert_int_equal(odmoe_plan_make(path, &o, &plan, NULL), ODMOE_OK);
    o.ram_bytes = plan.floor_bytes + plan.experts_bytes / 3;
    for (int i = 0; odmoe_policy_at(i); i++) {
        o.policy = odmoe_policy_at(i);
        same_as_default(o.policy, path, &o);
    }
}

static void the_cache_policy_does_not_change_the_output(void **state)
{
    for_each_model(policies);
}

static void prefetching(const char *path, const char *kernels)
{
    static const char *const modes[] = {"auto", "off"};
    odmoe_options o = defaults();
    o.kernels = kernels;
    o.prefetch = "auto"; /* takes more memory */
    odmoe_plan plan = {.size = sizeof plan};
    assert_int_equal(odmoe_plan_make(path, &o, &plan, NULL), ODMOE_OK);
    for (int mode = 0; mode < 2; mode++)
        for (int step = 0; step < 3; step++) {
            o.prefetch = modes[mode];
            o.ram_bytes = plan.floor_bytes + plan.experts_bytes * (uint64_t)step / 3;
            same_as_default(modes[mode], path, &o);
        }
}

static void prefetching_does_not_change_the_output(void **state)
{
    for_each_model(prefetching);
}

/* Three sequences, the one that is looked at in the middle, so that chunks hold tokens of several: it must get what it
 * gets alone. */
static void beside_others(const char *path, const char *kernels)
{
    odmoe_options o = defaults();
    o.kernels = kernels;
    o.sessions = 3;
    o.chunk = 7;
    int vocab;
    const float *want = defaults_give(path, kernels, &vocab);
    odmoe_model *model = open_model(path, &o);
    odmoe_sequence s[3];
    int32_t tokens[3][TOKENS];
    for (int i = 0; i < 3; i++) {
        for (int t = 0; t < TOKENS; t++)
            tokens[i][t] = token_at(t + (i == 1 ? 0 : 100 * (i + 1)));
        s[i] = (odmoe_sequence){.session = open_session(model),
                                .tokens = tokens[i],
                                .n = i == 0 ? TOKENS - 2 : TOKENS,
                                .want_logits = ODMOE_LOGITS_ALL};
    }
    float *got = malloc(sizeof *got * 3 * TOKENS * (size_t)vocab);
    run(model, s, 3, got);
    assert_memory_equal(got + (size_t)(TOKENS - 2) * (size_t)vocab, want, sizeof *want * TOKENS * (size_t)vocab);
    free(got);
    for (int i = 0; i < 3; i++)
        odmoe_session_free(s[i].session);
    odmoe_model_close(model);
}

static void other_sequences_in_the_call_do_not_change_the_output(void **state)
{
    for_each_model(beside_others);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_budget_does_not_change_the_output),
        cmocka_unit_test(the_io_path_does_not_change_the_output),
        cmocka_unit_test(threads_and_chunks_do_not_change_the_output),
        cmocka_unit_test(the_cache_policy_does_not_change_the_output),
        cmocka_unit_test(prefetching_does_not_change_the_output),
        cmocka_unit_test(other_sequences_in_the_call_do_not_change_the_output),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
