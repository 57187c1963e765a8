/* What a family makes of config.json: the numbers that no small golden could tell apart, and the files that are refused
 * because versions of the reference disagree about them or it would compute nonsense. */
#include "model/arch/arch.h"

#include "format_files.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/golden.h"
#include "support/refusals.h"

static odmoe_error err;
static model_config config; /* of the last one that was read */

static void accepted(const char *model, const char *members)
{
    config_accepted(model, members, &config);
}

/* ---- a language model among others ---- */

/* `text` as the language model of a model that sees, too. */
static json_t *wrapped(json_t *text)
{
    return json_pack("{s:s, s:o, s:b, s:{s:s, s:i}}", "model_type", "some_eyes", "text_config", text,
                     "tie_word_embeddings", 1, "vision_config", "model_type", "eyes", "hidden_size", 24);
}

static void text_config_describes_the_language_model_where_there_is_one(void **state)
{
    assert_int_equal(read_config(wrapped(golden_config("mixtral", "{\"hidden_size\": 96}")), &config, &err), ODMOE_OK);
    assert_string_equal(config.family, "mixtral");
    assert_int_equal(config.hidden, 96);
    assert_false(config.tied); /* its own word goes before the whole's */
    assert_int_equal(
        read_config(wrapped(golden_config("mixtral", "{\"tie_word_embeddings\": \"(absent)\"}")), &config, &err), 0);
    assert_true(config.tied);
}

static void a_text_config_of_an_unknown_family_is_refused_by_its_name(void **state)
{
    json_t *unknown = wrapped(golden_config("mixtral", "{\"model_type\": \"nobody\"}"));
    assert_error(&err, read_config(unknown, &config, &err), ODMOE_ERR_UNSUPPORTED, "'nobody'", "mixtral");
    json_t *number = json_pack("{s:s, s:i}", "model_type", "mixtral", "text_config", 3);
    assert_error(&err, read_config(number, &config, &err), ODMOE_ERR_FORMAT, "text_config", "object");
    json_t *wrong = wrapped(golden_config("mixtral", "{\"hidden_size\": -1}"));
    assert_error(&err, read_config(wrong, &config, &err), ODMOE_ERR_FORMAT, "text_config", "hidden_size");
}

/* ---- defaults ---- */

static void missing_numbers_are_the_familys_defaults(void **state)
{
    static const struct {
        const char *model;
        double eps, theta;
    } families[] = {
        {"mixtral", 1e-5, 1e6}, {"olmoe_f32", 1e-5, 1e4}, {"qwen2_moe", 1e-6, 1e4}, {"qwen3_moe", 1e-6, 1e4}};
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        accepted(families[i].model, "{\"rms_norm_eps\": \"(absent)\", \"rope_theta\": \"(absent)\","
                                    " \"rope_parameters\": \"(absent)\", \"rope_scaling\": \"(absent)\"}");
        assert_true(config.rms_eps == (float)families[i].eps);
        assert_true(config.ropes[0].positions.theta == families[i].theta);
    }
}

/* ---- positions ---- */

static void heads_of_which_a_part_turns_are_refused(void **state)
{
    static const char *const models[] = {"mixtral", "olmoe_f32", "qwen2_moe", "qwen3_moe"};
    static const char *const members[] = {
        "{\"partial_rotary_factor\": 0.5}",
        "{\"rope_scaling\": {\"rope_type\": \"default\", \"partial_rotary_factor\": 0.5}}",
        "{\"rope_parameters\": {\"rope_type\": \"yarn\", \"factor\": 4, \"partial_rotary_factor\": 0.5}}"};
    for (int m = 0; m < 4; m++) {
        for (int i = 0; i < 3; i++)
            config_refused(models[m], members[i], ODMOE_ERR_UNSUPPORTED, "partial_rotary_factor 0.5", "whole heads");
        accepted(models[m], "{\"partial_rotary_factor\": 1.0}");
        config_refused(models[m], "{\"partial_rotary_factor\": 1.5}", ODMOE_ERR_FORMAT, "partial_rotary_factor", "1.5");
    }
}

/* ---- sliding windows ---- */

static void assert_windows(const char *model, const char *members, int first, int second, int third)
{
    accepted(model, members);
    const int want[] = {first, second, third};
    for (int l = 0; l < config.layers && l < 3; l++)
        if (config.layer[l].window != want[l])
            fail_msg("%s with %s: layer %d sees %d positions, expected %d", model, members, l, config.layer[l].window,
                     want[l]);
}

static void a_window_of_qwen3_moe_is_every_layers(void **state)
{
    assert_windows("qwen3_moe", "{\"use_sliding_window\": true, \"sliding_window\": 7}", 7, 7, 7);
    assert_windows("qwen3_moe", "{\"use_sliding_window\": true, \"sliding_window\": 7, \"max_window_layers\": 0}", 7, 7,
                   7);
    assert_windows("qwen3_moe_f16",
                   "{\"use_sliding_window\": true, \"sliding_window\": 7,"
                   " \"layer_types\": [\"sliding_attention\", \"sliding_attention\"]}",
                   7, 7, 7);
}

static void qwen2_moe_without_a_list_slides_every_second_layer_below_max_window_layers(void **state)
{
    char members[200];
    static const int want[][4] = {{0, 0, 0, 0}, {1, 7, 0, 0}, {2, 7, 0, 0}, {3, 7, 0, 7}, {28, 7, 0, 7}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        snprintf(members, sizeof members,
                 "{\"use_sliding_window\": true, \"sliding_window\": 7, \"max_window_layers\": %d,"
                 " \"layer_types\": null}",
                 want[i][0]);
        assert_windows("qwen2_moe", members, want[i][1], want[i][2], want[i][3]);
    }
}

static void a_window_that_is_not_used_is_none(void **state)
{
    const char *off = "{\"use_sliding_window\": false, \"sliding_window\": 7, \"max_window_layers\": 2}";
    assert_windows("qwen3_moe", off, 0, 0, 0);
    assert_windows("qwen2_moe", off, 0, 0, 0);
    assert_windows("qwen3_moe", "{\"use_sliding_window\": true, \"sliding_window\": null}", 0, 0, 0);
    assert_windows("qwen2_moe", "{\"use_sliding_window\": true, \"sliding_window\": null}", 0, 0, 0);
}

static void a_used_window_without_a_number_is_the_references_default(void **state)
{
    const char *members = "{\"use_sliding_window\": true, \"sliding_window\": \"(absent)\", \"layer_types\": null}";
    assert_windows("qwen3_moe", members, 4096, 4096, 4096);
    assert_windows("qwen2_moe", members, 4096, 0, 4096);
    assert_windows("qwen3_moe", "{\"sliding_window\": \"(absent)\"}", 0, 0, 0);
}

static void a_window_for_some_layers_of_qwen3_moe_is_refused(void **state)
{
    config_refused("qwen3_moe", "{\"use_sliding_window\": true, \"sliding_window\": 7, \"max_window_layers\": 2}",
                   ODMOE_ERR_UNSUPPORTED, "max_window_layers 2", "use_sliding_window");
    config_refused("qwen3_moe_f16",
                   "{\"use_sliding_window\": true, \"sliding_window\": 7,"
                   " \"layer_types\": [\"sliding_attention\", \"full_attention\"]}",
                   ODMOE_ERR_UNSUPPORTED, "layer_types", "layer 1");
}

static void a_list_of_layer_types_must_fit_the_layers(void **state)
{
    static const char *const models[] = {"qwen2_moe", "qwen3_moe"};
    for (int i = 0; i < 2; i++) {
        config_refused(models[i], "{\"layer_types\": [\"full_attention\"]}", ODMOE_ERR_FORMAT, "layer_types", "layers");
        config_refused(
            models[i],
            "{\"layer_types\": [\"full_attention\", \"full_attention\", \"full_attention\", \"full_attention\","
            " \"full_attention\", \"full_attention\", \"full_attention\"]}",
            ODMOE_ERR_FORMAT, "layer_types", "layers");
        config_refused(models[i], "{\"layer_types\": 3}", ODMOE_ERR_FORMAT, "layer_types", "layers");
    }
    config_refused("qwen2_moe", "{\"layer_types\": [\"full_attention\", \"full_attention\", \"chunked_attention\"]}",
                   ODMOE_ERR_UNSUPPORTED, "chunked_attention", "layer 2");
    config_refused("qwen2_moe", "{\"layer_types\": [\"full_attention\", 2, \"full_attention\"]}", ODMOE_ERR_UNSUPPORTED,
                   "layer_types", "layer 1");
    config_refused("qwen2_moe", "{\"layer_types\": [\"full_attention\", \"sliding_attention\", \"full_attention\"]}",
                   ODMOE_ERR_FORMAT, "layer 1", "use_sliding_window");
    assert_windows("qwen2_moe",
                   "{\"use_sliding_window\": true, \"sliding_window\": 7,"
                   " \"layer_types\": [\"full_attention\", \"full_attention\", \"sliding_attention\"]}",
                   0, 0, 7);
}

static void a_window_of_no_positions_is_refused(void **state)
{
    config_refused("qwen2_moe", "{\"use_sliding_window\": true, \"sliding_window\": 0}", ODMOE_ERR_FORMAT,
                   "sliding_window", "null");
}

/* ---- clamping ---- */

static void a_clamp_to_nothing_is_refused(void **state)
{
    config_refused("olmoe_f32", "{\"clip_qkv\": 0}", ODMOE_ERR_UNSUPPORTED, "clip_qkv 0", "null");
    accepted("olmoe_f32", "{\"clip_qkv\": null}");
    assert_true(config.clip_qkv == 0);
    accepted("olmoe_f32", "{\"clip_qkv\": 0.5}");
    assert_true(config.clip_qkv == 0.5f);
}

/* What tensors alone cannot say of quantised weights, config.json does. */
static void ways_of_quantising_that_are_not_read_are_refused_by_name(void **state)
{
#define Q(members) "{\"quantization_config\": {" members "}}"
#define GROUP(members) \
    Q("\"quant_method\": \"compressed-tensors\", \"config_groups\": {\"group_0\": {\"weights\": {" members "}}}")
    static const char *const read_ones[] = {
        Q("\"quant_method\": \"fp8\", \"fmt\": \"e4m3\", \"weight_block_size\": [128, 128]"),
        Q("\"quant_method\": \"fp8\", \"fmt\": \"float8_e4m3fn\", \"weight_block_size\": [128, 128]"),
        Q("\"quant_method\": \"mxfp4\""),
        Q("\"quant_method\": \"fp8\", \"activation_scheme\": \"static\", \"weight_block_size\": null"),
        Q("\"quant_method\": \"fbgemm_fp8\", \"activation_scale_ub\": 1200.0"),
        Q("\"quant_method\": \"modelopt\", \"quant_algo\": \"NVFP4\""),
        Q("\"quant_method\": \"modelopt\", \"quant_algo\": \"FP8\""),
        GROUP("\"num_bits\": 4, \"type\": \"int\", \"strategy\": \"group\", \"group_size\": 32, \"symmetric\": true"),
        GROUP("\"num_bits\": 4, \"type\": \"int\", \"strategy\": \"group\", \"group_size\": 64, \"actorder\": "
              "\"static\""),
        GROUP("\"num_bits\": 4, \"type\": \"int\", \"strategy\": \"group\", \"group_size\": 128, \"actorder\": "
              "\"weight\""),
        GROUP("\"num_bits\": 4, \"type\": \"int\", \"group_size\": 128, \"actorder\": null"),
        GROUP("\"num_bits\": 4, \"type\": \"int\", \"strategy\": \"channel\", \"group_size\": null"),
        GROUP("\"num_bits\": 4, \"type\": \"int\", \"group_size\": -1"),
        GROUP("\"num_bits\": 8, \"type\": \"float\", \"strategy\": \"channel\", \"group_size\": null"),
        GROUP("\"num_bits\": 8, \"type\": \"float\", \"strategy\": \"tensor\", \"dynamic\": false"),
        GROUP("\"num_bits\": 4, \"type\": \"float\", \"strategy\": \"tensor_group\", \"group_size\": 16"),
        GROUP("\"num_bits\": 8, \"type\": \"float\", \"strategy\": \"block\", \"block_structure\": [128, 128]"),
    };
    static const struct {
        const char *members, *word;
    } others[] = {
        {Q("\"quant_method\": \"gptq\", \"bits\": 4"), "gptq"},
        {Q("\"quant_method\": \"awq\", \"bits\": 4"), "awq"},
        {Q("\"quant_method\": \"bitsandbytes\""), "bitsandbytes"},
        {Q("\"bits\": 4"), "unnamed"},
        {Q("\"quant_method\": \"fp8\", \"weight_block_size\": [64, 128]"), "weight_block_size"},
        {Q("\"quant_method\": \"fp8\", \"fmt\": \"e5m2\", \"weight_block_size\": [128, 128]"), "e5m2"},
        {Q("\"quant_method\": \"modelopt\", \"quant_algo\": \"W4A8_AWQ\""), "W4A8_AWQ"},
        {GROUP("\"num_bits\": 8, \"type\": \"int\", \"strategy\": \"channel\""),
         "int weights of 8 bits, strategy channel"},
        {GROUP("\"num_bits\": 4, \"type\": \"int\", \"group_size\": 16"), "strategy group, group_size 16"},
        {GROUP("\"num_bits\": 4, \"type\": \"int\", \"strategy\": \"tensor\""), "strategy tensor"},
        {GROUP("\"num_bits\": 4, \"type\": \"int\", \"group_size\": 128, \"symmetric\": false"), "symmetric"},
        {GROUP("\"num_bits\": 4, \"type\": \"int\", \"group_size\": 128, \"actorder\": \"group\""), "actorder"},
        {GROUP("\"num_bits\": 4, \"type\": \"int\", \"group_size\": 128, \"actorder\": true"), "actorder"},
        {GROUP("\"num_bits\": 8, \"type\": \"float\", \"strategy\": \"channel\", \"symmetric\": false"), "symmetric"},
        {GROUP("\"num_bits\": 8, \"type\": \"float\", \"strategy\": \"block\", \"block_structure\": [64, 128]"),
         "strategy block"},
        {GROUP("\"num_bits\": 8, \"type\": \"float\", \"strategy\": \"group\", \"group_size\": 128"), "strategy group"},
    };
    for (size_t i = 0; i < sizeof read_ones / sizeof *read_ones; i++)
        accepted("qwen3_moe", read_ones[i]);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        config_refused("qwen3_moe", others[i].members, ODMOE_ERR_UNSUPPORTED, "quantization_config", others[i].word);
        config_refused("qwen3_moe", others[i].members, ODMOE_ERR_UNSUPPORTED, "use a GGUF file",
                       "before it was quantised");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_config_describes_the_language_model_where_there_is_one),
        cmocka_unit_test(a_text_config_of_an_unknown_family_is_refused_by_its_name),
        cmocka_unit_test(missing_numbers_are_the_familys_defaults),
        cmocka_unit_test(heads_of_which_a_part_turns_are_refused),
        cmocka_unit_test(a_window_of_qwen3_moe_is_every_layers),
        cmocka_unit_test(qwen2_moe_without_a_list_slides_every_second_layer_below_max_window_layers),
        cmocka_unit_test(a_window_that_is_not_used_is_none),
        cmocka_unit_test(a_used_window_without_a_number_is_the_references_default),
        cmocka_unit_test(a_window_for_some_layers_of_qwen3_moe_is_refused),
        cmocka_unit_test(a_list_of_layer_types_must_fit_the_layers),
        cmocka_unit_test(a_window_of_no_positions_is_refused),
        cmocka_unit_test(a_clamp_to_nothing_is_refused),
        cmocka_unit_test(ways_of_quantising_that_are_not_read_are_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
