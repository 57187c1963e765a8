/* Model files after public bug reports (tests/data/models_reported), and what the references make of them. */
#include "format_files.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/golden.h"
#include "support/models.h"

#define VALUES 6

static odmoe_error err;
static const int32_t ids[] = {5, 6, 7, 8, 9, 10, 11, 12};

static odmoe_options plain(void)
{
    odmoe_options o = small_options();
    o.kernels = "ref";
    o.kv = "f32";
    return o;
}

static float *all_logits(const char *path, int *vocab)
{
    odmoe_options o = plain();
    odmoe_model *model = must_open(path, &o);
    odmoe_session *session = must_create(model, 0);
    *vocab = vocab_of(model);
    float *logits = malloc(8 * (size_t)*vocab * sizeof *logits);
    must_forward(model, session, ids, 8, &(forward_options){.want = ODMOE_LOGITS_ALL, .logits = logits});
    odmoe_session_free(session);
    odmoe_model_close(model);
    return logits;
}

/* The first logits of the last token, and the best token after each. */
static void agrees(const char *name, const double *first, const int *best)
{
    int vocab;
    float *logits = all_logits(test_path("models_reported/%s", name), &vocab);
    for (int i = 0; i < VALUES; i++)
        if (!(fabs(logits[7 * vocab + i] - first[i]) < 2e-3))
            fail_msg("%s: logit %d is %.4f, expected %.4f", name, i, (double)logits[7 * vocab + i], first[i]);
    for (int t = 0; t < 8; t++) {
        int top = 0;
        for (int i = 1; i < vocab; i++)
            top = logits[t * vocab + i] > logits[t * vocab + top] ? i : top;
        assert_int_equal(top, best[t]);
    }
    free(logits);
}

static void refused(const char *name, odmoe_status status, const char *word, const char *word2)
{
    odmoe_info info = {.size = sizeof info};
    assert_error(&err, odmoe_inspect(test_path("models_reported/%s", name), &info, &err), status, word, word2);
}

static void mixtral_with_merged_experts_is_read(void **state)
{
    agrees("mixtral-fused-v5", (double[]){-0.6414, -0.3784, 0.3602, -0.6170, -0.8551, -0.2652},
           (int[]){100, 217, 106, 217, 117, 282, 285, 67});
}

static void shards_below_the_folder_are_read(void **state)
{
    agrees("weight-map-subfolder", (double[]){0.0922, 0.7121, 3.4809, -1.0036, 1.5749, -0.0315},
           (int[]){209, 55, 260, 87, 230, 170, 246, 55});
}

/* weight_map names a path: below the folder, never outside. */
static void a_shard_outside_the_folder_is_refused(void **state)
{
    static const char *const names[] = {"../model.safetensors",      "/tmp/model.safetensors",
                                        "a/../../model.safetensors", "a//model.safetensors",
                                        "./model.safetensors",       "a/.hidden/model.safetensors"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char file[700];
        const char *folder = temp_path("shards");
        mkdir(folder, 0700);
        snprintf(file, sizeof file, "%s/config.json", folder);
        unlink(file);
        assert_int_equal(symlink(test_path("models_reported/weight-map-subfolder/config.json"), file), 0);
        snprintf(file, sizeof file, "%s/model.safetensors.index.json", folder);
        FILE *f = fopen(file, "w");
        fprintf(f, "{\"weight_map\": {\"model.norm.weight\": \"%s\"}}", names[i]);
        fclose(f);
        odmoe_info info = {.size = sizeof info};
        assert_error(&err, odmoe_inspect(folder, &info, &err), ODMOE_ERR_FORMAT, names[i], "in this folder or below");
    }
}

static void a_tensor_of_a_type_that_is_not_read_is_named(void **state)
{
    refused("safetensors-other-dtype-left-out", ODMOE_ERR_UNSUPPORTED, "self_attn.q_proj.bias", "F64");
}

static void a_folder_with_fp8_weights_is_read(void **state)
{
    odmoe_info info = {.size = sizeof info};
    assert_int_equal(odmoe_inspect(test_path("models_reported/fp8-said-to-be-missing"), &info, &err), ODMOE_OK);
    assert_string_equal(info.expert_types, "f8_e4m3");
}

static void lists_of_equal_numbers_are_one_number(void **state)
{
    odmoe_info info = {.size = sizeof info};
    assert_int_equal(odmoe_inspect(test_path("models_reported/arrays.gguf"), &info, &err), ODMOE_OK);
    int vocab;
    free(all_logits(test_path("models_reported/arrays.gguf"), &vocab));
}

static void fused_q_k_v_give_what_they_give_apart(void **state)
{
    int vocab;
    float *fused = all_logits(test_path("models_reported/fused.gguf"), &vocab);
    float *apart = all_logits(test_path("models_reported/apart.gguf"), &vocab);
    const double expected[] = {0.8092, 0.7217, -1.1348, 0.1781};
    assert_memory_equal(fused, apart, 8 * (size_t)vocab * sizeof *fused);
    for (int i = 0; i < 4; i++)
        assert_true(fabs(fused[7 * vocab + i] - expected[i]) < 3e-3);
    free(fused);
    free(apart);
}

/* An error that says where, instead of token 0 for ever. */
static void numbers_that_are_none_are_an_error(void **state)
{
    static const struct {
        const char *name, *word;
    } cases[] = {{"nan-norm.gguf", "position 7"}, {"nan-router.gguf", "layer 0"}};
    for (int i = 0; i < 2; i++) {
        odmoe_options o = plain();
        odmoe_model *model = must_open(test_path("models_reported/%s", cases[i].name), &o);
        odmoe_session *session = must_create(model, 0);
        float *logits = malloc((size_t)vocab_of(model) * sizeof *logits);
        assert_error(&err, odmoe_eval(session, ids, 8, logits, &err), ODMOE_ERR_FORMAT, cases[i].word, "NaN");
        assert_int_equal(odmoe_session_length(session), 0);
        free(logits);
        odmoe_session_free(session);
        odmoe_model_close(model);
    }
}

/* The least stack that odmoe.h promises to be enough: opening, a prompt, tokenizing, sampling, saving. */
static void *use_everything(void *ctx)
{
    odmoe_options o = small_options();
    odmoe_error e;
    odmoe_model *model;
    odmoe_session *session;
    odmoe_sampler_options so;
    odmoe_sampler *sampler = NULL;
    int32_t tokens[64];
    size_t n = 0;
    float logits[4096];
    odmoe_sampler_options_init(&so);
    if (odmoe_model_open(test_path("/models/demo.gguf"), &o, &model, &e))
        return ctx;
    bool ok = !odmoe_session_create(model, 64, &session, &e) &&
              !odmoe_tokenize(odmoe_model_tokenizer(model), "And it came to pass", 19, ODMOE_TOKENIZE_START, tokens, 64,
                              &n, &e) &&
              !odmoe_eval(session, tokens, (int64_t)n, logits, &e) &&
              !odmoe_sampler_create(&so, vocab_of(model), &sampler, &e) &&
              !odmoe_sample(sampler, logits, NULL, tokens, &e) && !odmoe_session_save(session, ctx, &e) &&
              !odmoe_session_load(session, ctx, &e);
    odmoe_sampler_free(sampler);
    odmoe_session_free(session);
    odmoe_model_close(model);
    return ok ? NULL : ctx;
}

static void eighty_kib_of_stack_are_enough(void **state)
{
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    pthread_attr_t attributes;
    pthread_t thread;
    void *failed;
    pthread_attr_init(&attributes);
    assert_int_equal(pthread_attr_setstacksize(&attributes, (80 + 16) << 10), 0); /* 16 KiB: the test's own logits */
    assert_int_equal(pthread_create(&thread, &attributes, use_everything, (void *)temp_path("session")), 0);
    pthread_join(thread, &failed);
    assert_null(failed);
#endif
}

/* A model's file that is written while it is open: nothing that was computed may be saved as the model's. */
static void a_model_file_that_changes_is_found_out_when_a_session_is_saved(void **state)
{
    const char *path = temp_path("changing.gguf");
    char command[1400];
    snprintf(command, sizeof command, "cp '%s' '%s'", test_path("models_reported/apart.gguf"), path);
    assert_int_equal(system(command), 0);
    odmoe_options o = plain();
    odmoe_model *model = must_open(path, &o);
    odmoe_session *session = must_create(model, 0);
    must_eval(session, ids, 8, NULL);
    assert_int_equal(odmoe_session_save(session, temp_path("before"), &err), ODMOE_OK);
    snprintf(command, sizeof command, "touch -d '2001-01-01' '%s'", path);
    assert_int_equal(system(command), 0);
    assert_error(&err, odmoe_session_save(session, temp_path("after"), &err), ODMOE_ERR_STATE, "has changed", "open");
    assert_int_equal(access(temp_path("after"), F_OK), -1);
    assert_int_equal(unlink(path), 0); /* moved away is not changed */
    assert_int_equal(odmoe_session_save(session, temp_path("after"), &err), ODMOE_OK);
    odmoe_session_free(session);
    odmoe_model_close(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mixtral_with_merged_experts_is_read),
        cmocka_unit_test(shards_below_the_folder_are_read),
        cmocka_unit_test(a_shard_outside_the_folder_is_refused),
        cmocka_unit_test(a_tensor_of_a_type_that_is_not_read_is_named),
        cmocka_unit_test(a_folder_with_fp8_weights_is_read),
        cmocka_unit_test(lists_of_equal_numbers_are_one_number),
        cmocka_unit_test(fused_q_k_v_give_what_they_give_apart),
        cmocka_unit_test(numbers_that_are_none_are_an_error),
        cmocka_unit_test(eighty_kib_of_stack_are_enough),
        cmocka_unit_test(a_model_file_that_changes_is_found_out_when_a_session_is_saved),
    };
    return cmocka_run_group_tests(tests, temp_setup, temp_teardown);
}
