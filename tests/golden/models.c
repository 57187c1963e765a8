/* Models agree with the reference: every family, variant, file format and weight type, layer by layer.
 *
 * The expected values were computed by Hugging Face transformers in float32 (tests/data/make_models.py, make_gguf.py).
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "odmoe.h"
#include "support/golden.h"

static const char *const hf_models[] = {"mixtral",       "mixtral_sliding", "olmoe",     "olmoe_f32",
                                        "olmoe_linear",  "olmoe_tied",      "qwen2_moe", "qwen3_moe",
                                        "qwen3_moe_f16", "qwen3_moe_yarn"};
static const char *const gguf_models[] = {
    "llama-Q4_K_M",     "olmoe-Q5_0",      "qwen2moe-Q4_K_M",    "qwen3moe-BF16",  "qwen3moe-F16",  "qwen3moe-IQ2_XXS",
    "qwen3moe-IQ3_XXS", "qwen3moe-IQ4_NL", "qwen3moe-IQ4_XS",    "qwen3moe-MXFP4", "qwen3moe-Q2_K", "qwen3moe-Q3_K",
    "qwen3moe-Q4_0",    "qwen3moe-Q4_1",   "qwen3moe-Q4_K_M",    "qwen3moe-Q5_0",  "qwen3moe-Q5_1", "qwen3moe-Q5_K_M",
    "qwen3moe-Q6_K",    "qwen3moe-Q8_0",   "qwen3moe-Q8_0-split"};

/* ---- one run ---- */

typedef struct run {
    const golden *expected; /* compared with in the tap; NULL: not */
    odmoe_info info;
    int64_t n;
    double worst; /* largest error of the hidden states relative to their spread */
} run;

static odmoe_model *open_model(const char *path, const char *kernels)
{
    odmoe_options options;
    odmoe_options_init(&options);
    options.ram_bytes = 256u << 20;
    options.context = 64;
    options.kernels = kernels;
    odmoe_model *model;
    odmoe_error err = {0};
    if (odmoe_model_open(path, &options, &model, &err))
        fail_msg("%s", err.message);
    return model;
}

static double spread(const float *x, size_t n)
{
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++) {
        sum += x[i];
        squares += (double)x[i] * x[i];
    }
    return sqrt(squares / (double)n - sum / (double)n * (sum / (double)n));
}

static double worst_difference(const float *a, const float *b, size_t n)
{
    double worst = 0;
    for (size_t i = 0; i < n; i++)
        worst = fmax(worst, isnan(a[i]) ? INFINITY : fabs((double)a[i] - b[i]));
    return worst;
}

static void compare_tap(void *user, const odmoe_tap *tap)
{
    run *r = user;
    size_t n;
    if (tap->hidden) {
        const float *hidden = golden_f32(r->expected, &n, "hidden.%d", tap->layer);
        assert_int_equal(n, tap->n * r->info.hidden);
        r->worst = fmax(r->worst, worst_difference(tap->hidden, hidden, n) / spread(hidden, n));
    }
    if (tap->router) {
        const float *router = golden_f32(r->expected, &n, "router.%d", tap->layer);
        assert_int_equal(n, tap->n * r->info.experts);
        r->worst = fmax(r->worst, worst_difference(tap->router, router, n) / spread(router, n));
        const int32_t *topk = golden_i32(r->expected, &n, "topk.%d", tap->layer);
        assert_int_equal(n, tap->n * r->info.top_k);
        assert_memory_equal(tap->topk, topk, n * sizeof *topk);
        r->worst = fmax(r->worst, worst_difference(tap->topw, golden_f32(r->expected, &n, "topw.%d", tap->layer), n));
    }
}

/* Logits of all input tokens; the caller frees them. */
static float *logits_of(odmoe_model *model, odmoe_session *session, const golden *expected, run *r)
{
    size_t count;
    const int32_t *ids = golden_i32(expected, &count, "input_ids");
    r->info.size = sizeof r->info;
    odmoe_model_info(model, &r->info);
    r->n = (int64_t)count;
    float *logits = malloc(count * (size_t)r->info.vocab * sizeof *logits);
    odmoe_sequence all = {.session = session, .tokens = ids, .n = (int32_t)count, .want_logits = ODMOE_LOGITS_ALL};
    odmoe_batch batch;
    odmoe_error err = {0};
    odmoe_batch_init(&batch);
    batch.sequences = &all;
    batch.n = 1;
    batch.logits = logits;
    batch.on_tap = r->expected ? compare_tap : NULL;
    batch.user = r;
    if (odmoe_forward(model, &batch, &err))
        fail_msg("%s", err.message);
    return logits;
}

static int32_t best(const float *logits, int vocab)
{
    int32_t id = 0;
    for (int i = 1; i < vocab; i++)
        if (logits[i] > logits[id])
            id = i;
    return id;
}

static void check_greedy(odmoe_session *session, const golden *expected, const float *last_logits, int vocab)
{
    size_t n;
    const int32_t *greedy = golden_i32(expected, &n, "greedy");
    float *logits = malloc((size_t)vocab * sizeof *logits);
    memcpy(logits, last_logits, (size_t)vocab * sizeof *logits);
    for (size_t i = 0; i < n; i++) {
        int32_t id = best(logits, vocab);
        assert_int_equal(id, greedy[i]);
        odmoe_error err = {0};
        if (odmoe_eval(session, &id, 1, logits, &err))
            fail_msg("%s", err.message);
    }
    free(logits);
}

static odmoe_session *open_session(odmoe_model *model)
{
    odmoe_session *session;
    odmoe_error err = {0};
    if (odmoe_session_create(model, 0, &session, &err))
        fail_msg("%s", err.message);
    return session;
}

/* ---- ref: float32 all the way ---- */

static void check_exact(const char *path, const char *expected_path)
{
    golden *expected = golden_open(expected_path);
    odmoe_model *model = open_model(path, "ref");
    odmoe_session *session = open_session(model);
    run r = {.expected = expected};
    float *logits = logits_of(model, session, expected, &r);
    size_t n;
    const float *want = golden_f32(expected, &n, "logits");
    assert_int_equal(n, r.n * r.info.vocab);
    double error = worst_difference(logits, want, n) / spread(want, n);
    print_message("%s: logits within %.1e, layers within %.1e\n", path, error, r.worst);
    assert_true(error < 1e-3);
    assert_true(r.worst < 1e-3);
    check_greedy(session, expected, logits + (r.n - 1) * r.info.vocab, r.info.vocab);
    free(logits);
    odmoe_session_free(session);
    odmoe_model_close(model);
    golden_close(expected);
}

static void hugging_face_folders_agree_layer_by_layer(void **state)
{
    for (size_t i = 0; i < sizeof hf_models / sizeof *hf_models; i++)
        check_exact(test_path("models/%s", hf_models[i]), test_path("models/%s/expected.safetensors", hf_models[i]));
}

static const char *gguf_path(const char *name)
{
    return strstr(name, "split") ? test_path("gguf/%s-00001-of-00002.gguf", name) : test_path("gguf/%s.gguf", name);
}

static void gguf_files_of_every_type_agree_layer_by_layer(void **state)
{
    for (size_t i = 0; i < sizeof gguf_models / sizeof *gguf_models; i++)
        check_exact(gguf_path(gguf_models[i]), test_path("gguf/%s.expected.safetensors", gguf_models[i]));
}

static void demo_model_agrees_layer_by_layer(void **state)
{
    check_exact(test_path("/models/demo.gguf"), test_path("demo/demo-Q4_K_M.expected.safetensors"));
}

/* ---- the other kernels: close in distribution ---- */

static void check_close(const char *path, const char *expected_path, const char *kernels)
{
    golden *expected = golden_open(expected_path);
    odmoe_model *model = open_model(path, kernels);
    odmoe_session *session = open_session(model);
    run r = {0};
    float *logits = logits_of(model, session, expected, &r);
    double divergence = golden_divergence(logits, golden_f32(expected, NULL, "logits"), r.n, r.info.vocab);
    print_message("%s: %s: KL %.1e\n", path, kernels, divergence);
    assert_true(divergence <= 1e-3);
    free(logits);
    odmoe_session_free(session);
    odmoe_model_close(model);
    golden_close(expected);
}

static void fast_kernels_stay_close_in_distribution(void **state)
{
    for (int k = 0; odmoe_kernels_at(k); k++) {
        for (size_t i = 0; i < sizeof hf_models / sizeof *hf_models; i++)
            check_close(test_path("models/%s", hf_models[i]), test_path("models/%s/expected.safetensors", hf_models[i]),
                        odmoe_kernels_at(k));
        for (size_t i = 0; i < sizeof gguf_models / sizeof *gguf_models; i++)
            check_close(gguf_path(gguf_models[i]), test_path("gguf/%s.expected.safetensors", gguf_models[i]),
                        odmoe_kernels_at(k));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hugging_face_folders_agree_layer_by_layer),
        cmocka_unit_test(gguf_files_of_every_type_agree_layer_by_layer),
        cmocka_unit_test(demo_model_agrees_layer_by_layer),
        cmocka_unit_test(fast_kernels_stay_close_in_distribution),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
