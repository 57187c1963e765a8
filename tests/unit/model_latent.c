/* Families with latent attention: what files mean that lack keys, and that files whose numbers or tensors do not fit
 * together are refused before anything is loaded. GGUF files and folders derived from the goldens. */
#include "support/refusals.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/golden.h"
#include "support/models.h"

static odmoe_error err;

#define V3 "families/gguf/deepseek2-v3-BF16.gguf"
#define V2 "families/gguf/deepseek2-v2-BF16.gguf"
#define JOINT "families/gguf/deepseek2-v2lite-kv_b-BF16.gguf"

static gguf_edit *original(const char *file)
{
    return edit_read(test_path("%s", file));
}

/* The numbers of an edited file's configuration; its layers are gone. */
static model_config config_of(gguf_edit *e)
{
    model_files files;
    model_config config;
    const arch *family;
    if (files_open(edit_save(e, "edited.gguf"), &files, &err) || arch_read(&files, &family, &config, &err))
        fail_msg("%s", err.message);
    model_config numbers = config;
    config_free(&config);
    files_close(&files);
    edit_free(e);
    return numbers;
}

/* ---- GGUF: what is not said ---- */

static void without_a_gating_key_a_bias_of_the_choice_means_sigmoids(void **state)
{
    gguf_edit *e = original(V3);
    edit_remove(e, "deepseek2.expert_gating_func");
    model_config c = config_of(e);
    assert_int_equal(c.router.score, ODMOE_SCORE_SIGMOID);
    assert_int_equal(c.router.group_score, ODMOE_GROUP_BEST_TWO);
    assert_string_equal(c.family, "deepseek_v3");
    e = original(V2);
    edit_remove(e, "deepseek2.expert_gating_func");
    c = config_of(e);
    assert_int_equal(c.router.score, ODMOE_SCORE_SOFTMAX);
    assert_int_equal(c.router.group_score, ODMOE_GROUP_MAXIMUM);
    assert_string_equal(c.family, "deepseek_v2");
}

static void without_group_keys_the_published_models_have_their_groups(void **state)
{
    static const struct {
        const char *file;
        uint64_t experts;
        int groups, used;
    } want[] = {{V3, 256, 8, 4}, {V2, 160, 8, 3}, {V3, 160, 0, 0}, {V2, 256, 0, 0}, {V3, 384, 0, 0}, {V3, 8, 0, 0}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        gguf_edit *e = original(want[i].file);
        edit_set_int(e, "deepseek2.expert_count", GG_U32, want[i].experts);
        edit_remove(e, "deepseek2.expert_group_count");
        edit_remove(e, "deepseek2.expert_group_used_count");
        model_config c = config_of(e);
        assert_int_equal(c.router.groups, want[i].groups);
        assert_int_equal(c.router.groups_used, want[i].used);
    }
    gguf_edit *e = original(V3); /* what the file says goes before */
    edit_set_int(e, "deepseek2.expert_count", GG_U32, 256);
    edit_set_int(e, "deepseek2.expert_group_count", GG_U32, 1);
    edit_set_int(e, "deepseek2.expert_group_used_count", GG_U32, 1);
    assert_int_equal(config_of(e).router.groups, 0);
}

static void yarn_goes_into_the_scale_of_scores_and_not_into_positions(void **state)
{
    const double plain = 1 / sqrt(48), stretched = 0.1 * log(40) + 1;
    gguf_edit *e = original(V3);
    model_config c = config_of(e);
    assert_float_equal(c.attention_scale, plain * stretched * stretched, 1e-6);
    assert_float_equal(c.ropes[0].positions.attention_factor, 1, 1e-9);
    e = original(V3); /* as old files are */
    edit_remove(e, "deepseek2.rope.scaling.yarn_log_multiplier");
    c = config_of(e);
    assert_float_equal(c.attention_scale, plain, 1e-6);
    assert_float_equal(c.ropes[0].positions.attention_factor, 1, 1e-9);
    e = original(V3);
    edit_set_float(e, "deepseek2.rope.scaling.yarn_beta_fast", 1);
    assert_float_equal(config_of(e).ropes[0].positions.beta_fast, 1, 0);
}

static void weights_are_renormalised_only_where_the_file_says_so(void **state)
{
    assert_true(config_of(original(V3)).router.renormalise);
    gguf_edit *e = original(V3);
    edit_remove(e, "deepseek2.expert_weights_norm");
    assert_false(config_of(e).router.renormalise);
}

static void queries_grow_where_the_file_says_so_and_in_mistral_4(void **state)
{
    model_config c = config_of(original(V3));
    assert_float_equal(c.temper, 0, 0);
    gguf_edit *e = original(V3);
    edit_set_float(e, "deepseek2.attention.temperature_scale", 0.25);
    c = config_of(e);
    assert_float_equal(c.temper, 0.25, 0);
    assert_int_equal(c.temper_every, 4096); /* the context before YaRN */
    e = original(V3);
    edit_set_float(e, "deepseek2.attention.temperature_scale", 0.25);
    edit_set_int(e, "deepseek2.attention.temperature_length", GG_U32, 1000);
    assert_int_equal(config_of(e).temper_every, 1000);
    c = config_of(original("families/gguf/mistral4-Q8_0.gguf"));
    assert_float_equal(c.temper, 0.1, 1e-6);
    assert_int_equal(c.temper_every, 8192);
}

/* ---- GGUF: what does not fit together ---- */

static void numbers_that_size_latents_are_checked(void **state)
{
    static const struct {
        const char *file, *key;
        uint64_t value;
        const char *word, *word2;
    } wrong[] = {
        {V3, "attention.kv_lora_rank", 0, "rank of latent keys and values is 0", "1 or more"},
        {V3, "attention.kv_lora_rank", 31, "attn_kv_a_mqa.weight", "47 x 64"},
        {V3, "attention.kv_lora_rank", 4096, "attn_kv_a_mqa.weight", "4112 x 64"},
        {V3, "attention.kv_lora_rank", 4097, "kv_lora_rank", "4097"},
        {V3, "attention.kv_lora_rank", UINT32_MAX, "kv_lora_rank", "4294967295"},
        {V3, "attention.q_lora_rank", 0, "attn_q.weight", "missing"},
        {V3, "attention.q_lora_rank", 95, "attn_q_a.weight", "95 x 64"},
        {V3, "attention.q_lora_rank", (1 << 20) + 1, "q_lora_rank", "1048577"},
        {JOINT, "attention.q_lora_rank", 96, "attn_q.weight", "rank of latent queries"},
        {V3, "attention.key_length_mla", 16, "rotary part", "16 of 16"},
        {V3, "attention.key_length_mla", 47, "attn_q_b.weight", "188 x 96"},
        {V3, "attention.key_length_mla", 0, "key length of a head is 0", "1 to 4096"},
        {V3, "attention.key_length_mla", 4097, "key_length_mla", "4097"},
        {V3, "attention.value_length_mla", 25, "attn_v_b.weight", "100 x 32"},
        {V3, "attention.value_length_mla", 0, "value length of a head is 0", "1 to 4096"},
        {V3, "attention.value_length_mla", UINT32_MAX, "value_length_mla", "4294967295"},
        {JOINT, "attention.key_length", 47, "attn_q.weight", "188 x 64"},
        {JOINT, "attention.value_length", 23, "attn_kv_b.weight", "220 x 32"},
        {V3, "rope.dimension_count", 0, "rope dimension 0", "even"},
        {V3, "rope.dimension_count", 15, "rope dimension 15", "even"},
        {V3, "rope.dimension_count", 18, "attn_kv_a_mqa.weight", "50 x 64"},
        {V3, "rope.dimension_count", 48, "rotary part", "48 of 48"},
        {V3, "rope.dimension_count", 5000, "dimension_count", "5000"},
        {V3, "attention.head_count", 0, "number of heads", "0"},
        {V3, "attention.head_count", 5, "attn_q_b.weight", "240 x 96"},
        {V3, "attention.head_count", 4096, "attn_q_b.weight", "shape"},
        {V3, "expert_group_count", 3, "3 expert groups", "8 experts"},
        {V3, "expert_group_used_count", 5, "5 of 4 expert groups", "8 experts"},
        {V3, "expert_group_used_count", 1, "1 of 4 expert groups", "3 of 8 experts"},
        {V3, "leading_dense_block_count", 0, "ffn_gate_inp.weight", "missing"},
        {V3, "expert_gating_func", 9, "expert_gating_func", "9"},
        {V3, "attention.temperature_length", UINT32_MAX, "temperature_length", "4294967295"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        gguf_edit *e = original(wrong[i].file);
        char key[96];
        snprintf(key, sizeof key, "deepseek2.%s", wrong[i].key);
        edit_set_int(e, key, GG_U32, wrong[i].value);
        edit_set_float(e, "deepseek2.attention.temperature_scale", 0.1);
        const char *path = edit_save(e, "edited.gguf");
        odmoe_options o = small_options();
        odmoe_model *model = NULL;
        if (!odmoe_model_open(path, &o, &model, &err) || !strstr(err.message, wrong[i].word) ||
            !strstr(err.message, wrong[i].word2))
            fail_msg("%s = %llu: %s", key, (unsigned long long)wrong[i].value, err.message);
        edit_free(e);
    }
}

static void reals_that_give_no_scale_are_refused(void **state)
{
    static const char *const keys[] = {"deepseek2.attention.temperature_scale",
                                       "deepseek2.rope.scaling.yarn_log_multiplier"};
    static const double values[] = {NAN, INFINITY, -INFINITY, 1e30};
    for (int k = 0; k < 2; k++)
        for (int v = 0; v < 4; v++) {
            gguf_edit *e = original(V3);
            edit_set_float(e, keys[k], values[v]);
            edit_refused(e, ODMOE_ERR_FORMAT, " ", " ");
        }
}

static void every_missing_tensor_and_every_wrong_shape_is_named(void **state)
{
    static const char *const names[] = {"attn_q_a.weight",      "attn_q_a_norm.weight",  "attn_q_b.weight",
                                        "attn_kv_a_mqa.weight", "attn_kv_a_norm.weight", "attn_k_b.weight",
                                        "attn_v_b.weight",      "attn_output.weight"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char name[64];
        snprintf(name, sizeof name, "blk.1.%s", names[i]);
        gguf_edit *e = original(V3);
        edit_drop(e, name);
        edit_refused(e, ODMOE_ERR_FORMAT, name, "missing");
        e = original(V3);
        edit_tensor *t = edit_find(e, name);
        uint64_t *last = &t->size[t->dims - 1];
        t->data.length = t->data.length / *last * (*last - 1);
        --*last;
        edit_refused(e, ODMOE_ERR_FORMAT, name, "shape");
    }
}

/* As many numbers, otherwise: half of the heads with twice the rows. */
static void heads_in_another_order_are_refused(void **state)
{
    gguf_edit *e = original(V3);
    edit_tensor *t = edit_find(e, "blk.1.attn_k_b.weight");
    t->size[2] /= 2;
    t->size[1] *= 2;
    edit_refused(e, ODMOE_ERR_FORMAT, "attn_k_b.weight", "128 x 32");
}

static void keys_and_values_of_latents_in_both_layouts_are_refused(void **state)
{
    gguf_edit *e = original(V3);
    gguf_edit *joint = original(JOINT);
    const edit_tensor *from = edit_find(joint, "blk.0.attn_kv_b.weight");
    edit_tensor *t = edit_add(e, "blk.0.attn_kv_b.weight", from->type, from->size[0], from->size[1], 0);
    put(&t->data, from->data.at, from->data.length);
    edit_free(joint);
    edit_refused(e, ODMOE_ERR_UNSUPPORTED, "attn_kv_b.weight", "two tensors");
    e = original(JOINT); /* one half only */
    t = edit_add(e, "blk.0.attn_k_b.weight", GG_TENSOR_BF16, 32, 32, 4);
    put(&t->data, edit_find(e, "blk.0.attn_kv_b.weight")->data.at, 32 * 32 * 4 * 2);
    edit_drop(e, "blk.0.attn_kv_b.weight");
    edit_refused(e, ODMOE_ERR_UNSUPPORTED, "blk.1.attn_kv_b.weight", "two tensors");
}

/* The heads of a stack as more rows of one matrix. */
static void stacks_may_lie_as_one_matrix(void **state)
{
    gguf_edit *e = original(V3);
    for (int l = 0; l < 3; l++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%d.attn_k_b.weight", l);
        edit_tensor *t = edit_find(e, name);
        t->size[1] *= t->size[2];
        t->size[2] = 1;
        t->dims = 2;
    }
    odmoe_options o = small_options();
    odmoe_model_close(must_open(edit_save(e, "flat.gguf"), &o));
    edit_free(e);
}

/* ---- the indexer ---- */

#define DSA "families/gguf/glm-dsa-Q8_0.gguf"

static void numbers_of_an_indexer_are_checked(void **state)
{
    static const struct {
        const char *key;
        uint64_t value;
        const char *word, *word2;
    } wrong[] = {
        {"head_count", 0, "indexer with 0 heads", "1 or more"},
        {"head_count", 3, "indexer.attn_q_b.weight", "192 x 96"},
        {"head_count", 4097, "head_count", "4097"},
        {"key_length", 0, "heads of 0", "16 turn"},
        {"key_length", 8, "heads of 8", "16 turn"},
        {"key_length", 63, "indexer.attn_q_b.weight", "126 x 96"},
        {"key_length", UINT32_MAX, "key_length", "4294967295"},
        {"top_k", 0, "chooses 0 positions", "1 or more"},
        {"top_k", UINT32_MAX, "top_k", "4294967295"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        gguf_edit *e = original(DSA);
        char key[96];
        snprintf(key, sizeof key, "glm-dsa.attention.indexer.%s", wrong[i].key);
        edit_set_int(e, key, GG_U32, wrong[i].value);
        edit_refused(e, ODMOE_ERR_FORMAT, wrong[i].word, wrong[i].word2);
        e = original(DSA);
        edit_remove(e, key);
        edit_refused(e, ODMOE_ERR_FORMAT, wrong[i].key, "missing");
    }
    gguf_edit *e = original(DSA); /* of all positions there is no choice */
    edit_set_int(e, "glm-dsa.attention.indexer.top_k", GG_U32, 1 << 24);
    assert_int_equal(config_of(e).index_topk, 4096);
    e = original(DSA);
    edit_set_int(e, "glm-dsa.attention.q_lora_rank", GG_U32, 0);
    edit_refused(e, ODMOE_ERR_FORMAT, "latent queries", "q_lora_rank");
}

static void tensors_of_an_indexer_are_where_the_file_says_it_is(void **state)
{
    static const char *const names[] = {"attn_q_b.weight", "attn_k.weight", "k_norm.weight", "k_norm.bias",
                                        "proj.weight"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char name[64];
        snprintf(name, sizeof name, "blk.1.indexer.%s", names[i]);
        gguf_edit *e = original(DSA);
        edit_drop(e, name);
        edit_refused(e, ODMOE_ERR_FORMAT, name, "missing");
    }
    static const bool middle[] = {true, false, true};
    gguf_edit *e = original(DSA); /* a tensor that a layer should not have */
    edit_set_bools(e, "glm-dsa.attention.indexer.types", middle, 3);
    edit_refused(e, ODMOE_ERR_UNSUPPORTED, "blk.1.indexer.attn_q_b.weight", "indexer of a layer");
    e = original(DSA);
    edit_set_bools(e, "glm-dsa.attention.indexer.types", middle, 2);
    edit_refused(e, ODMOE_ERR_FORMAT, "indexer.types", "2 entries");
    e = original(DSA);
    edit_set_bools(e, "glm-dsa.attention.indexer.types", (bool[]){true, true, true, true, true}, 5);
    edit_refused(e, ODMOE_ERR_FORMAT, "indexer.types", "5 entries");
    e = original(DSA);
    edit_set_int(e, "glm-dsa.attention.indexer.types", GG_U32, 3);
    edit_refused(e, ODMOE_ERR_FORMAT, "indexer.types", " ");
}

/* ---- the cache ---- */

static void a_quantised_cache_needs_latents_of_whole_blocks(void **state)
{
    odmoe_options o = small_options();
    odmoe_model *model = NULL;
    o.kv = "q8_0";
    assert_error(&err, odmoe_model_open(test_path("families/deepseek_v3"), &o, &model, &err), ODMOE_ERR_UNSUPPORTED,
                 "32 and 16", "use f16");
}

static void every_type_of_cache_stays_close(void **state)
{
    static const struct {
        const char *kv;
        double most;
    } types[] = {{"f32", 1e-9}, {"f16", 1e-6}, {"q8_0", 1e-3}};
    const char *model = "families/deepseek_v2_lite_rope32";
    golden *expected = golden_open(test_path("%s/expected.safetensors", model));
    size_t n;
    const int32_t *ids = golden_i32(expected, &n, "input_ids");
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        odmoe_options o = small_options();
        o.kv = types[i].kv;
        odmoe_model *m = must_open(test_path("%s", model), &o);
        odmoe_session *session = must_create(m, 0);
        float *logits = malloc(n * 512 * sizeof *logits);
        must_forward(m, session, ids, (int)n, &(forward_options){ODMOE_LOGITS_ALL, logits, NULL, NULL});
        double divergence = golden_divergence(logits, golden_f32(expected, NULL, "logits"), (int64_t)n, 512);
        print_message("%s: KL %.1e\n", types[i].kv, divergence);
        assert_true(divergence <= types[i].most);
        free(logits);
        odmoe_session_free(session);
        odmoe_model_close(m);
    }
    golden_close(expected);
}

/* ---- Hugging Face ---- */

/* The numbers of a family's configuration with other members; its layers are gone. */
static model_config accepted(const char *model, const char *members)
{
    model_config config = {0};
    config_accepted(model, members, &config);
    model_config numbers = config;
    config_free(&config);
    return numbers;
}

static void deepseek_v2_chooses_as_topk_method_says(void **state)
{
    assert_int_equal(accepted("deepseek_v2", "{}").router.groups, 4);
    assert_int_equal(accepted("deepseek_v2", "{\"topk_method\": \"greedy\"}").router.groups, 0);
    assert_int_equal(accepted("deepseek_v2", "{\"topk_method\": \"(absent)\"}").router.groups, 0);
    config_refused("deepseek_v2", "{\"topk_method\": \"noaux_tc\"}", ODMOE_ERR_UNSUPPORTED, "noaux_tc", "greedy");
    config_refused("deepseek_v2", "{\"scoring_func\": \"sigmoid\"}", ODMOE_ERR_UNSUPPORTED, "scoring_func", "softmax");
    config_refused("deepseek_v2", "{\"norm_topk_prob\": true}", ODMOE_ERR_UNSUPPORTED, "norm_topk_prob", "0");
}

static void missing_numbers_are_the_families_defaults(void **state)
{
    const char *none = "{\"rms_norm_eps\": \"(absent)\", \"rope_theta\": \"(absent)\"}";
    assert_float_equal(accepted("deepseek_v3", none).rms_eps, 1e-6, 1e-12);
    assert_float_equal(accepted("glm4_moe_lite", none).rms_eps, 1e-5, 1e-12);
    model_config c = accepted("deepseek_v3", "{\"n_routed_experts\": 256, \"n_group\": \"(absent)\","
                                             " \"topk_group\": \"(absent)\"}");
    assert_int_equal(c.router.groups, 8);
    assert_int_equal(c.router.groups_used, 4);
    assert_int_equal(accepted("glm4_moe_lite", "{\"first_k_dense_replace\": \"(absent)\"}").moe_layers, 2);
}

static void heads_may_turn_in_halves(void **state)
{
    assert_int_equal(accepted("deepseek_v3", "{}").ropes[0].pairing, ROPE_NEIGHBOURS);
    assert_int_equal(accepted("deepseek_v3", "{\"rope_interleave\": false}").ropes[0].pairing, ROPE_HALVES);
}

static void mistral_4_needs_its_growth_of_queries(void **state)
{
    assert_int_equal(accepted("mistral4", "{}").temper_every, 8192);
    config_refused("mistral4", "{\"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 1e4}}",
                   ODMOE_ERR_FORMAT, "llama_4_scaling_beta", "missing");
    config_refused("mistral4", "{\"scoring_func\": \"sigmoid\"}", ODMOE_ERR_UNSUPPORTED, "scoring_func", "softmax");
}

static void kimi_k25_is_the_text_part_of_a_model_that_sees(void **state)
{
    char members[2000];
    json_t *text = json_load_file(test_path("families/kimi_k2/config.json"), 0, NULL);
    json_t *whole = json_pack("{s:s, s:o}", "model_type", "kimi_k25", "text_config", text);
    tensor_index *none = tensor_index_create(&err);
    model_files files = {.path = "folder", .tensors = none, .config = whole};
    model_config config;
    const arch *family;
    if (arch_read(&files, &family, &config, &err))
        fail_msg("%s", err.message);
    assert_string_equal(config.family, "kimi_k25");
    assert_int_equal(config.kv_rank, 32);
    snprintf(members, sizeof members, "%s", family->ignored[0]);
    assert_string_equal(members, "vision_tower.*");
    config_free(&config);
    json_decref(whole);
    tensor_index_free(none);
}

static void sizes_of_heads_in_config_json_are_checked(void **state)
{
    static const struct {
        const char *members, *word, *word2;
    } wrong[] = {
        {"{\"qk_nope_head_dim\": \"(absent)\"}", "qk_nope_head_dim", "missing"},
        {"{\"qk_nope_head_dim\": 0}", "qk_nope_head_dim", "0"},
        {"{\"qk_nope_head_dim\": 4097}", "qk_nope_head_dim", "4097"},
        {"{\"qk_nope_head_dim\": 4096}", "key length of a head is 4112", "4096"},
        {"{\"qk_rope_head_dim\": \"(absent)\"}", "qk_rope_head_dim", "missing"},
        {"{\"qk_rope_head_dim\": 15}", "15", "even"},
        {"{\"qk_rope_head_dim\": 0}", "0", "even"},
        {"{\"qk_rope_head_dim\": -2}", "qk_rope_head_dim", "-2"},
        {"{\"v_head_dim\": \"(absent)\"}", "v_head_dim", "missing"},
        {"{\"v_head_dim\": 0}", "v_head_dim", "0"},
        {"{\"kv_lora_rank\": \"(absent)\"}", "kv_lora_rank", "missing"},
        {"{\"kv_lora_rank\": 0}", "latent keys and values is 0", "1 or more"},
        {"{\"kv_lora_rank\": 1000000000}", "kv_lora_rank", "1000000000"},
        {"{\"kv_lora_rank\": [32, 64, 32]}", "kv_lora_rank", "differs between layers"},
        {"{\"q_lora_rank\": \"many\"}", "q_lora_rank", " "},
        {"{\"rope_interleave\": 3}", "rope_interleave", " "},
        {"{\"moe_layer_freq\": 2}", "moe_layer_freq", " "},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        model_config config = {0};
        if (!read_config(golden_config("deepseek_v3", wrong[i].members), &config, &err) ||
            !strstr(err.message, wrong[i].word) || !strstr(err.message, wrong[i].word2))
            fail_msg("%s: %s", wrong[i].members, err.message);
        config_free(&config);
    }
}

/* The layers with an indexer, as F and S. */
static const char *indexers(const char *members)
{
    static char letters[MODEL_LAYERS_MAX + 1];
    model_config config;
    tensor_index *none = tensor_index_create(&err);
    json_t *json = json_load_file(test_path("families/glm_moe_dsa/config.json"), 0, NULL), *value;
    json_t *changes = json_loads(members, 0, NULL);
    model_files files = {.path = "folder", .tensors = none, .config = json};
    const arch *family;
    const char *key;
    json_object_del(json, "indexer_types");
    json_object_del(json, "mlp_layer_types");
    json_object_foreach(changes, key, value) json_object_set(json, key, value);
    if (arch_read(&files, &family, &config, &err))
        fail_msg("%s: %s", members, err.message);
    for (int l = 0; l < config.layers; l++)
        letters[l] = config.layer[l].indexed ? 'F' : 'S';
    letters[config.layers] = 0;
    config_free(&config);
    json_decref(changes);
    json_decref(json);
    tensor_index_free(none);
    return letters;
}

static void a_list_a_pattern_or_a_period_says_which_layers_have_an_indexer(void **state)
{
    static const wrong_config wrong[] = {
        {"{\"indexer_types\": [\"full\"]}", ODMOE_ERR_FORMAT, "indexer_types", "3 layers"},
        {"{\"indexer_types\": [\"full\", \"full\", \"full\", \"full\"]}", ODMOE_ERR_FORMAT, "indexer_types",
         "3 layers"},
        {"{\"indexer_types\": null, \"index_topk_pattern\": \"FSFS\"}", ODMOE_ERR_FORMAT, "index_topk_pattern",
         "3 layers"},
        {"{\"indexer_types\": [\"full\", \"half\", \"full\"]}", ODMOE_ERR_UNSUPPORTED, "'half'", "layer 1"},
        {"{\"indexer_types\": [\"full\", 1, \"full\"]}", ODMOE_ERR_UNSUPPORTED, "no text", "layer 1"},
        {"{\"indexer_types\": [\"shared\", \"full\", \"full\"]}", ODMOE_ERR_FORMAT, "first layer", "indexer"},
        {"{\"indexer_types\": null, \"index_topk_pattern\": \"FS\"}", ODMOE_ERR_FORMAT, "index_topk_pattern",
         "3 layers"},
        {"{\"indexer_types\": null, \"index_topk_pattern\": \"FSX\"}", ODMOE_ERR_FORMAT, "index_topk_pattern",
         "F or S"},
    };
    assert_string_equal(indexers("{}"), "FFF");
    assert_string_equal(indexers("{\"indexer_types\": [\"full\", \"shared\", \"full\"]}"), "FSF");
    assert_string_equal(indexers("{\"index_topk_pattern\": \"FSS\"}"), "FSS");
    assert_string_equal(indexers("{\"num_hidden_layers\": 12, \"index_topk_freq\": 4}"), "FFSSSFSSSFSS");
    assert_string_equal(indexers("{\"num_hidden_layers\": 9, \"index_topk_freq\": 4, \"index_skip_topk_offset\": 3}"),
                        "FFFSSSFSS");
    configs_refused("glm_moe_dsa", wrong, sizeof wrong / sizeof *wrong);
}

/* ---- long prompts ---- */

/* The last logits of a prompt that is cut into chunks. */
static void last_of_prompt(const char *model, int chunk, int n, float *logits)
{
    odmoe_options o = small_options();
    o.context = 512;
    o.chunk = chunk;
    odmoe_model *m = must_open(test_path("families/%s", model), &o);
    odmoe_session *session = must_create(m, 0);
    must_eval(session, text_tokens(0, n), n, logits);
    odmoe_session_free(session);
    odmoe_model_close(m);
}

static void prompts_that_attend_in_several_groups_give_the_same_bytes(void **state)
{
    static const char *const models[] = {"deepseek_v3", "glm_moe_dsa_shared"};
    static float whole[512], cut[512];
    for (int i = 0; i < 2; i++) {
        last_of_prompt(models[i], 400, 400, whole);
        last_of_prompt(models[i], 7, 400, cut);
        assert_memory_equal(whole, cut, sizeof cut);
        last_of_prompt(models[i], 257, 400, cut);
        assert_memory_equal(whole, cut, sizeof cut);
    }
}

/* ---- a sequence that leaves ---- */

typedef struct leaving {
    int asked, when;
} leaving;

/* The first of two sequences has had enough at some layer. */
static int leave(void *user, int32_t sequence)
{
    leaving *l = user;
    return sequence == 0 && l->asked++ == l->when;
}

/* A layer that takes the choice of the layer before finds it, though rows have gone in between. */
static void the_choice_of_positions_stays_with_its_tokens_when_others_leave(void **state)
{
    enum { TOKENS = 20, VOCAB = 512 };
    static float alone[TOKENS * VOCAB], got[TOKENS * VOCAB];
    odmoe_options o = small_options();
    o.chunk = 2 * TOKENS;
    odmoe_model *model = must_open(test_path("families/glm_moe_dsa_shared"), &o);
    odmoe_session *session = must_create(model, 0);
    must_forward(model, session, text_tokens(5, TOKENS), TOKENS,
                 &(forward_options){ODMOE_LOGITS_ALL, alone, NULL, NULL});
    odmoe_session_free(session);
    for (int when = 0; when <= 4; when++) {
        leaving l = {.when = when};
        odmoe_sequence s[2] = {{.session = must_create(model, 0), .n = TOKENS, .want_logits = ODMOE_LOGITS_NONE},
                               {.session = must_create(model, 0), .n = TOKENS, .want_logits = ODMOE_LOGITS_ALL}};
        static int32_t first[TOKENS], second[TOKENS];
        memcpy(first, text_tokens(40, TOKENS), sizeof first);
        memcpy(second, text_tokens(5, TOKENS), sizeof second);
        s[0].tokens = first;
        s[1].tokens = second;
        odmoe_batch batch;
        odmoe_batch_init(&batch);
        batch.sequences = s;
        batch.n = 2;
        batch.logits = got;
        batch.cancelled = leave;
        batch.user = &l;
        assert_int_equal(odmoe_forward(model, &batch, &err), when < 4 ? ODMOE_ERR_CANCELLED : ODMOE_OK);
        assert_memory_equal(got, alone, sizeof got);
        odmoe_session_free(s[0].session);
        odmoe_session_free(s[1].session);
    }
    odmoe_model_close(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_gating_key_a_bias_of_the_choice_means_sigmoids),
        cmocka_unit_test(without_group_keys_the_published_models_have_their_groups),
        cmocka_unit_test(yarn_goes_into_the_scale_of_scores_and_not_into_positions),
        cmocka_unit_test(weights_are_renormalised_only_where_the_file_says_so),
        cmocka_unit_test(queries_grow_where_the_file_says_so_and_in_mistral_4),
        cmocka_unit_test(numbers_that_size_latents_are_checked),
        cmocka_unit_test(reals_that_give_no_scale_are_refused),
        cmocka_unit_test(every_missing_tensor_and_every_wrong_shape_is_named),
        cmocka_unit_test(heads_in_another_order_are_refused),
        cmocka_unit_test(keys_and_values_of_latents_in_both_layouts_are_refused),
        cmocka_unit_test(stacks_may_lie_as_one_matrix),
        cmocka_unit_test(a_quantised_cache_needs_latents_of_whole_blocks),
        cmocka_unit_test(every_type_of_cache_stays_close),
        cmocka_unit_test(deepseek_v2_chooses_as_topk_method_says),
        cmocka_unit_test(missing_numbers_are_the_families_defaults),
        cmocka_unit_test(heads_may_turn_in_halves),
        cmocka_unit_test(mistral_4_needs_its_growth_of_queries),
        cmocka_unit_test(kimi_k25_is_the_text_part_of_a_model_that_sees),
        cmocka_unit_test(sizes_of_heads_in_config_json_are_checked),
        cmocka_unit_test(numbers_of_an_indexer_are_checked),
        cmocka_unit_test(tensors_of_an_indexer_are_where_the_file_says_it_is),
        cmocka_unit_test(a_list_a_pattern_or_a_period_says_which_layers_have_an_indexer),
        cmocka_unit_test(prompts_that_attend_in_several_groups_give_the_same_bytes),
        cmocka_unit_test(the_choice_of_positions_stays_with_its_tokens_when_others_leave),
    };
    return cmocka_run_group_tests(tests, temp_setup, temp_teardown);
}
