/* What families with plain attention say of single layers and of groups of experts: the lists of either format, their
 * defaults, and lists that are too short, too long, of unknown words or of other kinds, which are refused by name. */
#include "support/refusals.h"

#include <stdio.h>

#include "support/golden.h"

static model_config config; /* of the last `accepted` */

static void accepted(const char *family, const char *members)
{
    config_accepted(family, members, &config);
}

static void assert_windows(const int *want)
{
    for (int l = 0; l < config.layers; l++)
        assert_int_equal(config.layer[l].window, want[l]);
}

static void assert_ffns(const char *kinds) /* d: dense, e: experts */
{
    for (int l = 0; l < config.layers; l++)
        assert_int_equal(config.layer[l].ffn, kinds[l] == 'd' ? FFN_DENSE : FFN_EXPERTS);
}

/* ---- config.json ---- */

static void lists_of_layer_types_have_a_known_word_for_each_layer(void **state)
{
    static const char *const families[] = {"gpt_oss", "gpt_oss_bf16", "exaone_moe", "afmoe", "dots1"};
    static const wrong_config wrong[] = {
        {"{\"layer_types\": []}", ODMOE_ERR_FORMAT, "layer_types", "layers"},
        {"{\"layer_types\": [\"full_attention\", \"full_attention\"]}", ODMOE_ERR_FORMAT, "layer_types", "layers"},
        {"{\"layer_types\": [\"full_attention\", \"full_attention\", \"full_attention\", \"full_attention\","
         " \"full_attention\"]}",
         ODMOE_ERR_FORMAT, "layer_types", "layers"},
        {"{\"num_hidden_layers\": 3, \"layer_types\": [\"full_attention\", \"conv\", \"full_attention\"]}",
         ODMOE_ERR_UNSUPPORTED, "'conv' of layer 1", "full_attention, sliding_attention"},
        {"{\"num_hidden_layers\": 3, \"layer_types\": [\"full_attention\", \"full_attention\", 1]}",
         ODMOE_ERR_UNSUPPORTED, "no text", "layer 2"},
        {"{\"layer_types\": \"full_attention\"}", ODMOE_ERR_FORMAT, "layer_types", "list"},
        {"{\"layer_types\": {\"0\": \"full_attention\"}}", ODMOE_ERR_FORMAT, "layer_types", "list"},
        {"{\"sliding_window\": -1}", ODMOE_ERR_FORMAT, "sliding_window", "-1"},
        {"{\"sliding_window\": 1e9}", ODMOE_ERR_FORMAT, "sliding_window", " "},
        {"{\"num_hidden_layers\": 0}", ODMOE_ERR_FORMAT, "num_hidden_layers", "0"},
        {"{\"num_hidden_layers\": 1025}", ODMOE_ERR_FORMAT, "num_hidden_layers", "1025"},
    };
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        configs_refused(families[i], wrong, sizeof wrong / sizeof *wrong);
}

static void layers_that_slide_need_a_window(void **state)
{
    static const wrong_config none[] = {
        {"{\"sliding_window\": 0}", ODMOE_ERR_FORMAT, "sliding_window", "0"},
    };
    static const wrong_config null[] = {
        {"{\"num_hidden_layers\": 1, \"layer_types\": [\"sliding_attention\"], \"mlp_layer_types\": null,"
         " \"sliding_window\": null}",
         ODMOE_ERR_FORMAT, "layer 0 slide", "window"},
    };
    configs_refused("gpt_oss", none, 1); /* families that always have one */
    configs_refused("afmoe", none, 1);
    configs_refused("exaone_moe", null, 1);
    configs_refused("dots1", null, 1);
    static const wrong_config unsaid[] = {
        {"{\"layer_types\": null}", ODMOE_ERR_FORMAT, "layer_types is missing", "which layers slide"}};
    configs_refused("exaone_moe", unsaid, 1);
}

static void without_a_list_a_period_says_which_layers_slide(void **state)
{
    accepted("gpt_oss", "{\"layer_types\": null}");
    assert_windows((int[]){8, 0, 8});
    accepted("gpt_oss", "{\"layer_types\": \"(absent)\", \"sliding_window\": \"(absent)\"}");
    assert_windows((int[]){128, 0, 128});
    accepted("afmoe", "{\"layer_types\": null, \"global_attn_every_n_layers\": 2}");
    assert_windows((int[]){8, 0, 8, 0});
    accepted("dots1", "{\"layer_types\": null, \"sliding_window\": 16, \"max_window_layers\": 1}");
    assert_windows((int[]){0, 16, 16});
    static const wrong_config wrong[] = {{"{\"layer_types\": null, \"global_attn_every_n_layers\": 0}",
                                          ODMOE_ERR_FORMAT, "global_attn_every_n_layers", "0"}};
    configs_refused("afmoe", wrong, 1);
}

static void lists_of_ffns_have_a_known_word_for_each_layer(void **state)
{
    static const wrong_config wrong[] = {
        {"{\"mlp_layer_types\": [\"dense\", \"sparse\"]}", ODMOE_ERR_FORMAT, "mlp_layer_types", "layers"},
        {"{\"mlp_layer_types\": [\"dense\", \"sparse\", \"sparse\", \"sparse\", \"sparse\"]}", ODMOE_ERR_FORMAT,
         "mlp_layer_types", "layers"},
        {"{\"mlp_layer_types\": \"dense\"}", ODMOE_ERR_FORMAT, "mlp_layer_types", "list"},
    };
    static const wrong_config words[] = {
        {"{\"mlp_layer_types\": [\"dense\", \"sparse\", \"moe\", \"sparse\"]}", ODMOE_ERR_UNSUPPORTED,
         "'moe' of layer 2", "dense, sparse"},
        {"{\"mlp_layer_types\": [\"dense\", true, \"sparse\", \"sparse\"]}", ODMOE_ERR_UNSUPPORTED, "no text",
         "layer 1"},
        {"{\"mlp_layer_types\": [\"dense\", \"dense\", \"dense\", \"dense\"]}", ODMOE_ERR_UNSUPPORTED, "dense",
         "another program"},
    };
    configs_refused("exaone_moe", wrong, sizeof wrong / sizeof *wrong);
    configs_refused("glm4_moe", wrong, sizeof wrong / sizeof *wrong);
    configs_refused("glm_moe_dsa", wrong, sizeof wrong / sizeof *wrong);
    configs_refused("exaone_moe", words, sizeof words / sizeof *words);
    accepted("exaone_moe", "{\"mlp_layer_types\": [\"sparse\", \"dense\", \"sparse\", \"dense\"]}");
    assert_ffns("eded");
}

static void experts_of_ernie_lie_between_two_layers(void **state)
{
    accepted("ernie4_5_moe", "{\"num_hidden_layers\": 6, \"moe_layer_start_index\": 1, \"moe_layer_end_index\": 4,"
                             " \"moe_layer_interval\": 2}");
    assert_ffns("dededd");
    accepted("ernie4_5_moe", "{\"num_hidden_layers\": 6, \"moe_layer_end_index\": 2}");
    assert_ffns("deeddd");
    static const wrong_config wrong[] = {
        {"{\"moe_layer_interval\": 0}", ODMOE_ERR_FORMAT, "moe_layer_interval", "0"},
        {"{\"moe_layer_start_index\": -1}", ODMOE_ERR_FORMAT, "moe_layer_start_index", "-1"},
        {"{\"moe_layer_start_index\": 3}", ODMOE_ERR_UNSUPPORTED, "dense", "another program"},
        {"{\"moe_layer_end_index\": -2}", ODMOE_ERR_FORMAT, "moe_layer_end_index", "-2"},
        {"{\"moe_layer_end_index\": 0}", ODMOE_ERR_UNSUPPORTED, "dense", "another program"},
        {"{\"moe_num_shared_experts\": 4097}", ODMOE_ERR_FORMAT, "shared", "4097"},
    };
    configs_refused("ernie4_5_moe", wrong, sizeof wrong / sizeof *wrong);
}

/* Numbers that Hunyuan's files repeat for each layer. */
static void lists_of_numbers_have_one_for_each_layer(void **state)
{
    static const wrong_config wrong[] = {
        {"{\"moe_topk\": [3, 3]}", ODMOE_ERR_FORMAT, "moe_topk", "2 numbers for 3 layers"},
        {"{\"moe_topk\": [3, 3, 3, 3]}", ODMOE_ERR_FORMAT, "moe_topk", "4 numbers for 3 layers"},
        {"{\"moe_topk\": [3, 2, 3]}", ODMOE_ERR_UNSUPPORTED, "moe_topk", "differs between layers"},
        {"{\"moe_topk\": [3, \"3\", 3]}", ODMOE_ERR_FORMAT, "moe_topk", "entry 1"},
        {"{\"moe_topk\": []}", ODMOE_ERR_FORMAT, "moe_topk", "0 numbers"},
        {"{\"moe_intermediate_size\": [32, 32, 1e9]}", ODMOE_ERR_FORMAT, "moe_intermediate_size", "entry 2"},
        {"{\"moe_intermediate_size\": [32, 32, 4294967296]}", ODMOE_ERR_FORMAT, "moe_intermediate_size", "entry 2"},
        {"{\"num_shared_expert\": [1, 1, -1]}", ODMOE_ERR_FORMAT, "num_shared_expert", "entry 2"},
        {"{\"num_experts\": [8, 8]}", ODMOE_ERR_FORMAT, "num_experts", "2 numbers"},
    };
    configs_refused("hunyuan_v1_moe", wrong, sizeof wrong / sizeof *wrong);
}

static void a_list_of_attention_kinds_of_minimax_m2_has_ones_for_each_layer(void **state)
{
    static const wrong_config wrong[] = {
        {"{\"attn_type_list\": [1, 0, 1]}", ODMOE_ERR_UNSUPPORTED, "attn_type_list", "layer 1"},
        {"{\"attn_type_list\": [1, 1, 7]}", ODMOE_ERR_UNSUPPORTED, "attn_type_list", "layer 2"},
        {"{\"attn_type_list\": [1, \"full\", 1]}", ODMOE_ERR_UNSUPPORTED, "attn_type_list", "layer 1"},
        {"{\"attn_type_list\": [1, 1]}", ODMOE_ERR_FORMAT, "attn_type_list", "3 layers"},
        {"{\"attn_type_list\": [1, 1, 1, 1]}", ODMOE_ERR_FORMAT, "attn_type_list", "3 layers"},
        {"{\"attn_type_list\": 1}", ODMOE_ERR_FORMAT, "attn_type_list", "3 layers"},
    };
    configs_refused("minimax_m2", wrong, sizeof wrong / sizeof *wrong);
    accepted("minimax_m2", "{\"attn_type_list\": null}");
    accepted("minimax_m2", "{\"attn_type_list\": \"(absent)\"}");
}

static void groups_of_experts_divide_them_and_hold_enough(void **state)
{
    static const char *const families[] = {"deepseek_v2", "deepseek_v3", "bailing_moe_v2"}; /* 8 experts, top 3 */
    static const wrong_config wrong[] = {
        {"{\"n_group\": 3}", ODMOE_ERR_RANGE, "2 of 3 expert groups", "3 of 8 experts"},
        {"{\"n_group\": 16}", ODMOE_ERR_RANGE, "of 16 expert groups", "8 experts"},
        {"{\"topk_group\": 5}", ODMOE_ERR_RANGE, "5 of 4 expert groups", "8 experts"},
        {"{\"topk_group\": 1}", ODMOE_ERR_RANGE, "1 of 4 expert groups", "3 of 8 experts"},
        {"{\"topk_group\": 0}", ODMOE_ERR_RANGE, "0 of 4 expert groups", "3 of 8 experts"},
        {"{\"topk_group\": -1}", ODMOE_ERR_FORMAT, "topk_group", "-1"},
        {"{\"n_group\": 4097}", ODMOE_ERR_FORMAT, "n_group", "4097"},
        {"{\"n_group\": -4}", ODMOE_ERR_FORMAT, "n_group", "-4"},
        {"{\"n_group\": \"4\"}", ODMOE_ERR_FORMAT, "n_group", " "},
        {"{\"n_group\": 9223372036854775807}", ODMOE_ERR_FORMAT, "n_group", " "},
    };
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        configs_refused(families[i], wrong, sizeof wrong / sizeof *wrong);
}

/* ---- GGUF ---- */

static gguf_edit *file_of(const char *name)
{
    return edit_read(test_path("families/gguf/%s.gguf", name));
}

static void lists_of_sliding_layers_have_an_entry_for_each_layer(void **state)
{
    static const struct {
        const char *file, *prefix;
        uint64_t layers;
    } files[] = {{"gpt-oss-MXFP4_MOE", "gpt-oss", 3}, {"exaone-moe-Q8_0", "exaone-moe", 4}, {"afmoe-Q8_0", "afmoe", 4}};
    static const bool slides[64];
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char key[96];
        snprintf(key, sizeof key, "%s.attention.sliding_window_pattern", files[i].prefix);
        const uint64_t lengths[] = {0, 1, files[i].layers - 1, files[i].layers + 1, 64};
        for (size_t n = 0; n < sizeof lengths / sizeof *lengths; n++) {
            gguf_edit *e = file_of(files[i].file);
            edit_set_bools(e, key, slides, lengths[n]);
            edit_refused(e, ODMOE_ERR_FORMAT, "sliding_window_pattern", "entries for");
        }
        gguf_edit *e = file_of(files[i].file);
        edit_set_text(e, key, "LLLG");
        edit_refused(e, ODMOE_ERR_FORMAT, "sliding_window_pattern", " ");
        e = file_of(files[i].file);
        edit_set_int(e, key, GG_U32, 1025);
        edit_refused(e, ODMOE_ERR_FORMAT, "sliding_window_pattern", "1025");
    }
}

static void groups_of_experts_of_a_file_divide_them(void **state)
{
    static const struct {
        const char *key;
        uint32_t value;
        odmoe_status status;
        const char *word;
    } wrong[] = {
        {"expert_group_count", 3, ODMOE_ERR_RANGE, "2 of 3 expert groups"},
        {"expert_group_used_count", 0, ODMOE_ERR_RANGE, "0 of 4 expert groups"},
        {"expert_group_used_count", 1, ODMOE_ERR_RANGE, "1 of 4 expert groups"},
        {"expert_group_count", UINT32_MAX, ODMOE_ERR_FORMAT, "expert_group_count"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        gguf_edit *e = file_of("bailingmoe2-Q8_0");
        char key[96];
        snprintf(key, sizeof key, "bailingmoe2.%s", wrong[i].key);
        edit_set_int(e, key, GG_U32, wrong[i].value);
        edit_refused(e, wrong[i].status, wrong[i].word, " ");
    }
}

/* Every tensor of gpt-oss that others have not, by turns missing and with one number less. */
static void biases_and_sinks_of_gpt_oss_have_their_shapes(void **state)
{
    static const char *const names[] = {"blk.0.attn_sinks.weight",  "blk.1.ffn_gate_inp.bias",
                                        "blk.2.ffn_gate_exps.bias", "blk.0.ffn_up_exps.bias",
                                        "blk.1.ffn_down_exps.bias", "blk.2.ffn_gate_exps.weight"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        gguf_edit *e = file_of("gpt-oss-MXFP4_MOE");
        edit_drop(e, names[i]);
        edit_refused(e, ODMOE_ERR_FORMAT, names[i], "missing");
        e = file_of("gpt-oss-MXFP4_MOE");
        edit_tensor *t = edit_find(e, names[i]);
        uint64_t *last = &t->size[t->dims - 1];
        t->data.length = t->data.length / *last * (*last - 1);
        --*last;
        edit_refused(e, ODMOE_ERR_FORMAT, names[i], "shape");
    }
}

static int free_config(void **state)
{
    config_free(&config);
    return temp_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_of_layer_types_have_a_known_word_for_each_layer),
        cmocka_unit_test(layers_that_slide_need_a_window),
        cmocka_unit_test(without_a_list_a_period_says_which_layers_slide),
        cmocka_unit_test(lists_of_ffns_have_a_known_word_for_each_layer),
        cmocka_unit_test(experts_of_ernie_lie_between_two_layers),
        cmocka_unit_test(lists_of_numbers_have_one_for_each_layer),
        cmocka_unit_test(a_list_of_attention_kinds_of_minimax_m2_has_ones_for_each_layer),
        cmocka_unit_test(groups_of_experts_divide_them_and_hold_enough),
        cmocka_unit_test(lists_of_sliding_layers_have_an_entry_for_each_layer),
        cmocka_unit_test(groups_of_experts_of_a_file_divide_them),
        cmocka_unit_test(biases_and_sinks_of_gpt_oss_have_their_shapes),
    };
    return cmocka_run_group_tests(tests, temp_setup, free_config);
}
