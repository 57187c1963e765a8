/* Layers for multi-token prediction are never run and counted apart, whatever the metadata say of them: the tensors that
 * are there decide. */
#include "gguf_edit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/golden.h"
#include "support/model_folders.h"
#include "support/models.h"

#define ORIGINAL "families/gguf/glm4moe-Q8_0.gguf" /* three layers, and one that predicts, which block_count counts */
#define LAYERS 3
#define TOKENS 9

static odmoe_error err;

static odmoe_info info_of(const char *path)
{
    odmoe_info info = {.size = sizeof info};
    if (odmoe_inspect(path, &info, &err))
        fail_msg("%s", err.message);
    return info;
}

static float *logits_of(const char *path, size_t *length)
{
    odmoe_options o = small_options();
    odmoe_model *model = must_open(path, &o);
    *length = (size_t)vocab_of(model) * sizeof(float);
    float *logits = fresh_logits(model, TOKENS);
    odmoe_model_close(model);
    return logits;
}

static void drop_prediction(gguf_edit *e)
{
    for (int i = e->tensor_count; i-- > 0;)
        if (!strncmp(e->tensors[i].name, "blk.3.", 6))
            edit_drop(e, e->tensors[i].name);
}

static void every_way_of_writing_them_gives_the_same_model(void **state)
{
    static const struct {
        int blocks, predictions; /* as the metadata say; predictions -1: the key is missing */
        bool trunk;              /* their tensors have been left out */
    } cases[] = {{4, 1, false},  {3, 1, false}, {4, 0, false}, {3, 0, false}, {4, -1, false},
                 {3, -1, false}, {4, 1, true},  {3, 1, true},  {3, 0, true},  {3, -1, true}};
    const odmoe_info original = info_of(test_path(ORIGINAL));
    size_t length;
    float *want = logits_of(test_path(ORIGINAL), &length);
    assert_int_equal(original.layers, LAYERS);
    assert_int_equal(original.prediction_layers, 1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        gguf_edit *e = edit_read(test_path(ORIGINAL));
        uint64_t prediction = 0;
        for (int t = 0; t < e->tensor_count; t++)
            prediction += strncmp(e->tensors[t].name, "blk.3.", 6) ? 0 : e->tensors[t].data.length;
        edit_set_int(e, "glm4moe.block_count", GG_U32, (uint64_t)cases[i].blocks);
        if (cases[i].predictions < 0)
            edit_remove(e, "glm4moe.nextn_predict_layers");
        else
            edit_set_int(e, "glm4moe.nextn_predict_layers", GG_U32, (uint64_t)cases[i].predictions);
        if (cases[i].trunk)
            drop_prediction(e);
        const char *path = edit_save(e, "edited.gguf");
        edit_free(e);
        odmoe_info info = info_of(path);
        assert_int_equal(info.layers, LAYERS);
        assert_int_equal(info.prediction_layers, cases[i].trunk ? 0 : 1);
        assert_int_equal(info.prediction_bytes, cases[i].trunk ? 0 : prediction);
        assert_int_equal(info.resident_bytes, original.resident_bytes);
        assert_int_equal(info.experts_bytes, original.experts_bytes);
        float *got = logits_of(path, &length);
        assert_memory_equal(got, want, length);
        free(got);
    }
    free(want);
}

/* Behind the model's own layers, or under a name of their own. */
static void folders_count_theirs(void **state)
{
    static const struct {
        const char *model;
        int predictions;
    } cases[] = {{"glm4_moe", 1},    {"deepseek_v3", 1}, {"qwen3_next", 1},
                 {"qwen3_5_moe", 1}, {"minimax_m2", 0},  {"deepseek_v3_fp8", 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        odmoe_info info = info_of(test_path("families/%s", cases[i].model));
        assert_int_equal(info.prediction_layers, cases[i].predictions);
        assert_int_equal(info.prediction_bytes > 0, cases[i].predictions > 0);
    }
}

/* The number in config.json says nothing of what is there. */
static void tensors_of_folders_decide_and_not_the_number(void **state)
{
    static const struct {
        const char *model, *members;
        int predictions;
    } cases[] = {
        {"families/glm4_moe", "{\"num_nextn_predict_layers\": 0}", 1},
        {"families/glm4_moe", "{\"num_nextn_predict_layers\": null}", 1},
        {"families/glm4_moe", "{\"num_nextn_predict_layers\": 3}", 1},
        {"families/glm4_moe_air", "{\"num_nextn_predict_layers\": 1}", 0}, /* the trunk alone */
        {"families/deepseek_v3", "{\"num_nextn_predict_layers\": 0}", 1},
        {"families/qwen3_next", "{\"mtp_num_hidden_layers\": null}", 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char original[512], changed[1200];
        snprintf(original, sizeof original, "%s", test_path("%s", cases[i].model));
        snprintf(changed, sizeof changed, "%s", changed_folder(cases[i].model, cases[i].members));
        assert_int_equal(info_of(changed).prediction_layers, cases[i].predictions);
        size_t length;
        float *want = logits_of(original, &length), *got = logits_of(changed, &length);
        assert_memory_equal(got, want, length);
        free(want);
        free(got);
    }
}

/* A tensor of one more layer than there are prediction layers is no part of them. */
static void a_layer_too_many_is_still_unknown(void **state)
{
    gguf_edit *e = edit_read(test_path(ORIGINAL));
    edit_add_like(e, "blk.5.attn_norm.weight", "blk.0.attn_norm.weight");
    odmoe_info info = {.size = sizeof info};
    assert_error(&err, odmoe_inspect(edit_save(e, "edited.gguf"), &info, &err), ODMOE_ERR_UNSUPPORTED,
                 "blk.5.attn_norm.weight", "unknown tensor");
    edit_free(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_way_of_writing_them_gives_the_same_model),
        cmocka_unit_test(folders_count_theirs),
        cmocka_unit_test(tensors_of_folders_decide_and_not_the_number),
        cmocka_unit_test(a_layer_too_many_is_still_unknown),
    };
    return cmocka_run_group_tests(tests, temp_setup, temp_teardown);
}
