/* Families whose frame or attention is of their own: what their files say of single layers, and files that contradict
 * themselves, which are refused by the name of what is wrong. */
#include "support/refusals.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/golden.h"
#include "support/models.h"

static odmoe_error err;
static model_config config; /* of the last `accepted` */

static void accepted(const char *family, const char *members)
{
    config_accepted(family, members, &config);
}

static void put_ones(edit_tensor *t, int n)
{
    for (int i = 0; i < n; i++)
        put(&t->data, &(float){1}, sizeof(float));
}

/* A vector of the file becomes one of n numbers. */
static void resize(gguf_edit *e, const char *name, int n)
{
    edit_drop(e, name);
    put_ones(edit_add(e, name, GG_TENSOR_F32, (uint64_t)n, 0, 0), n);
}

/* Every vector of one layer, by turns missing and of another length. */
static void vectors_are_checked(const char *file, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        gguf_edit *e = edit_read(test_path("families/gguf/%s.gguf", file));
        edit_drop(e, names[i]);
        edit_refused(e, ODMOE_ERR_FORMAT, names[i], "missing");
        e = edit_read(test_path("families/gguf/%s.gguf", file));
        int length = (int)edit_find(e, names[i])->size[0];
        resize(e, names[i], length + 1);
        edit_refused(e, ODMOE_ERR_FORMAT, names[i], " ");
    }
}

/* ---- Gemma 4 ---- */

static void layers_of_gemma4_that_see_all_have_heads_of_their_own(void **state)
{
    accepted("gemma4", "{}");
    const layer_config *sliding = &config.layer[0], *full = &config.layer[1];
    assert_true(sliding->window == 8 && sliding->key_dim == 16 && sliding->kv_heads == 2 && sliding->own_values);
    assert_true(!full->window && full->key_dim == 32 && full->kv_heads == 1 && !full->own_values);
    assert_int_equal(config.ropes[sliding->rope].dim, 16);
    assert_int_equal(config.ropes[full->rope].dim, 32);
    assert_true(config.ropes[full->rope].positions.scaling == ROPE_PROPORTIONAL);
    assert_true(config.ropes[full->rope].positions.part == 0.25);

    accepted("gemma4", "{\"attention_k_eq_v\": false}"); /* all have heads of one number then, and values */
    assert_true(config.layer[1].kv_heads == 2 && config.layer[1].own_values && config.layer[1].key_dim == 32);
}

static void gemma4_without_lists_has_every_sixth_layer_see_all_and_the_last(void **state)
{
    accepted("gemma4", "{\"num_hidden_layers\": 8, \"layer_types\": null, \"rope_parameters\": null,"
                       " \"sliding_window\": \"(absent)\"}");
    for (int l = 0; l < 8; l++)
        assert_int_equal(config.layer[l].window, l == 5 || l == 7 ? 0 : 512);
    assert_true(config.ropes[config.layer[5].rope].positions.theta == 1e6);
    assert_true(config.ropes[config.layer[5].rope].positions.part == 0.25);
    assert_true(config.ropes[config.layer[0].rope].positions.theta == 1e4);
    accepted("gemma4", "{\"layer_types\": [\"full_attention\", \"sliding_attention\", \"sliding_attention\","
                       " \"sliding_attention\"]}");
    assert_int_equal(config.layer[3].window, 0);
    accepted("gemma4", "{\"layer_types\": [\"full_attention\", \"full_attention\", \"full_attention\","
                       " \"full_attention\"]}");
}

static void per_layer_config_goes_before_the_keys_for_full_layers(void **state)
{
    accepted("gemma4", "{\"per_layer_config\": {\"1\": {\"head_dim\": 64, \"num_key_value_heads\": 1},"
                       " \"03\": {\"head_dim\": 64}}}");
    assert_true(config.layer[1].key_dim == 64 && config.layer[1].value_dim == 64 && config.layer[1].kv_heads == 1);
    assert_true(config.layer[3].key_dim == 64 && config.layer[3].kv_heads == 2);
    assert_true(config.layer[0].key_dim == 16);
}

static void gemma4_that_contradicts_itself_or_needs_more_is_refused(void **state)
{
    static const wrong_config wrong[] = {
        {"{\"layer_types\": [\"full_attention\"]}", ODMOE_ERR_FORMAT, "layer_types", "4 layers"},
        {"{\"layer_types\": [\"full_attention\", \"full_attention\", \"full_attention\", \"full_attention\","
         " \"full_attention\"]}",
         ODMOE_ERR_FORMAT, "layer_types", "4 layers"},
        {"{\"layer_types\": [\"sliding_attention\", \"full_attention\", \"mamba\", \"full_attention\"]}",
         ODMOE_ERR_UNSUPPORTED, "'mamba'", "layer 2"},
        {"{\"layer_types\": \"sliding_attention\"}", ODMOE_ERR_FORMAT, "layer_types", "list"},
        {"{\"sliding_window\": 0}", ODMOE_ERR_FORMAT, "sliding_window", "0"},
        {"{\"global_head_dim\": 5000}", ODMOE_ERR_FORMAT, "global_head_dim", "5000"},
        {"{\"global_head_dim\": 31}", ODMOE_ERR_FORMAT, "rope dimension 31", "even"},
        {"{\"num_global_key_value_heads\": 3}", ODMOE_ERR_FORMAT, "4 heads", "3 key/value"},
        {"{\"rope_parameters\": {\"full_attention\": {\"rope_theta\": 1e6}}}", ODMOE_ERR_FORMAT, "rope_parameters",
         "'sliding_attention'"},
        {"{\"rope_parameters\": {\"rope_theta\": 1e6}}", ODMOE_ERR_FORMAT, "rope_parameters", "'full_attention'"},
        {"{\"per_layer_config\": {\"4\": {\"head_dim\": 64}}}", ODMOE_ERR_FORMAT, "per_layer_config", "'4'"},
        {"{\"per_layer_config\": {\"-1\": {\"head_dim\": 64}}}", ODMOE_ERR_FORMAT, "per_layer_config", "'-1'"},
        {"{\"per_layer_config\": {\"1\": 64}}", ODMOE_ERR_FORMAT, "per_layer_config", "'1'"},
        {"{\"per_layer_config\": {\"1\": {\"skip\": [\"mlp\"]}}}", ODMOE_ERR_UNSUPPORTED, "per_layer_config",
         "layer 1"},
        {"{\"per_layer_config\": {\"1\": {\"head_dim\": -2}}}", ODMOE_ERR_FORMAT, "head_dim", "-2"},
        {"{\"hidden_activation\": \"silu\"}", ODMOE_ERR_UNSUPPORTED, "hidden_activation", "'silu'"},
        {"{\"enable_moe_block\": false, \"num_experts\": null}", ODMOE_ERR_UNSUPPORTED, "dense", "another program"},
        {"{\"num_experts\": null}", ODMOE_ERR_FORMAT, "number of experts", "0"},
        {"{\"hidden_size_per_layer_input\": 16}", ODMOE_ERR_UNSUPPORTED, "embeddings in each layer", " "},
        {"{\"num_kv_shared_layers\": 2}", ODMOE_ERR_UNSUPPORTED, "share keys and values", " "},
        {"{\"use_bidirectional_attention\": \"all\"}", ODMOE_ERR_UNSUPPORTED, "use_bidirectional_attention", "'all'"},
        {"{\"final_logit_softcapping\": -6}", ODMOE_ERR_FORMAT, "final_logit_softcapping", "-6"},
    };
    configs_refused("gemma4", wrong, sizeof wrong / sizeof *wrong);
}

static gguf_edit *gemma4(void)
{
    return edit_read(test_path("families/gguf/gemma4-Q8_0.gguf"));
}

static void vectors_of_gemma4s_frame_have_their_lengths(void **state)
{
    static const char *const names[] = {
        "blk.2.post_attention_norm.weight", "blk.0.ffn_norm.weight",        "blk.1.pre_ffw_norm_2.weight",
        "blk.1.post_ffw_norm.weight",       "blk.2.post_ffw_norm_1.weight", "blk.3.post_ffw_norm_2.weight",
        "blk.0.ffn_gate_inp.scale",         "blk.1.attn_q_norm.weight",     "blk.0.attn_k_norm.weight"};
    vectors_are_checked("gemma4-Q8_0", names, sizeof names / sizeof *names);
    static const char *const optional[] = {"blk.1.layer_output_scale.weight", "blk.0.ffn_down_exps.scale"};
    for (int i = 0; i < 2; i++) {
        gguf_edit *e = gemma4();
        resize(e, optional[i], 3);
        edit_refused(e, ODMOE_ERR_FORMAT, optional[i], " ");
    }
    gguf_edit *e = gemma4();
    resize(e, "rope_freqs.weight", 8); /* half of a sliding layer's head */
    edit_refused(e, ODMOE_ERR_FORMAT, "rope_freqs.weight", "shape");
    e = gemma4();
    edit_drop(e, "rope_freqs.weight");
    edit_refused(e, ODMOE_ERR_FORMAT, "rope_freqs.weight", "missing");
}

static void experts_of_a_layer_have_a_scale_all_or_none(void **state)
{
    gguf_edit *e = gemma4();
    resize(e, "blk.0.ffn_down_exps.scale", 7);
    edit_refused(e, ODMOE_ERR_FORMAT, "blk.0.ffn_down_exps.scale", " ");
}

static void lists_of_gemma4s_metadata_fit_its_layers(void **state)
{
    const bool slides[5] = {true, true, true, false, false};
    for (uint64_t n = 3; n <= 5; n += 2) {
        gguf_edit *e = gemma4();
        edit_set_bools(e, "gemma4.attention.sliding_window_pattern", slides, n);
        edit_refused(e, ODMOE_ERR_FORMAT, "sliding_window_pattern", "4 layers");
    }
    gguf_edit *e = gemma4(); /* another layer slides than the tensors say */
    edit_set_bools(e, "gemma4.attention.sliding_window_pattern", slides, 4);
    edit_refused(e, ODMOE_ERR_FORMAT, "blk.1.", "shape");
    static const struct {
        const char *key;
        uint64_t value;
        odmoe_status status;
        const char *word;
    } wrong[] = {
        {"attention.sliding_window", 0, ODMOE_ERR_FORMAT, "sliding_window"},
        {"attention.shared_kv_layers", 2, ODMOE_ERR_UNSUPPORTED, "share keys"},
        {"embedding_length_per_layer_input", 64, ODMOE_ERR_UNSUPPORTED, "each layer"},
        {"attention.key_length_swa", 5000, ODMOE_ERR_FORMAT, "key_length_swa"},
        {"attention.key_length_swa", 0, ODMOE_ERR_FORMAT, "key length"},
        {"attention.value_length", 16, ODMOE_ERR_FORMAT, "keys of 32 numbers cannot be values of 16"},
        {"rope.dimension_count_swa", 18, ODMOE_ERR_FORMAT, "rope dimension 18"},
        {"expert_count", 0, ODMOE_ERR_UNSUPPORTED, "dense"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char key[96];
        snprintf(key, sizeof key, "gemma4.%s", wrong[i].key);
        e = gemma4();
        edit_set_int(e, key, GG_U32, wrong[i].value);
        edit_refused(e, wrong[i].status, wrong[i].word, " ");
    }
}

static void sliding_layers_of_gemma4_need_values_of_their_own(void **state)
{
    gguf_edit *e = gemma4();
    edit_drop(e, "blk.0.attn_v.weight");
    edit_refused(e, ODMOE_ERR_FORMAT, "blk.0.attn_v.weight", "missing");
}

/* ---- Llama 4 ---- */

static void layers_of_llama4_turn_and_see_chunks_or_grow_their_queries(void **state)
{
    accepted("llama4_chunked", "{}");
    for (int l = 0; l < 4; l++) {
        const layer_config *layer = &config.layer[l];
        bool turns = l != 3;
        assert_true((layer->rope != ROPE_OFF) == turns && layer->plain_qk_norm == turns && layer->tempered == !turns);
        assert_int_equal(layer->chunk, turns ? 8 : 0);
        assert_int_equal(layer->ffn, FFN_EXPERTS);
    }
    assert_true(config.temper == 0.1f && config.temper_every == 4 && config.temper_shift == 1);
    assert_true(config.router.weight_on_input && config.router.score == ODMOE_SCORE_SIGMOID);
    accepted("llama4_chunked", "{\"use_qk_norm\": false, \"attn_temperature_tuning\": false}");
    assert_true(!config.layer[0].plain_qk_norm && !config.layer[3].tempered);
    accepted("llama4_chunked", "{\"attn_temperature_tuning\": 4}"); /* as the first published files */
    assert_true(config.layer[3].tempered);
}

static void llama4_without_lists_has_the_familys_pattern(void **state)
{
    accepted("llama4", "{\"num_hidden_layers\": 8, \"no_rope_layers\": [], \"layer_types\": null, \"moe_layers\": null,"
                       " \"attention_chunk_size\": \"(absent)\"}");
    for (int l = 0; l < 8; l++) {
        assert_int_equal(config.layer[l].rope, (l + 1) % 4 ? 0 : ROPE_OFF);
        assert_int_equal(config.layer[l].chunk, (l + 1) % 4 ? 8192 : 0);
        assert_int_equal(config.layer[l].ffn, (l + 1) % 2 ? FFN_DENSE : FFN_EXPERTS);
    }
    accepted("llama4", "{\"moe_layers\": [0, 2]}"); /* a list goes before the step */
    for (int l = 0; l < 4; l++)
        assert_int_equal(config.layer[l].ffn, l % 2 ? FFN_DENSE : FFN_EXPERTS);
    accepted("llama4", "{\"layer_types\": [\"full_attention\", \"full_attention\", \"full_attention\","
                       " \"full_attention\"], \"attention_chunk_size\": null}");
    assert_true(config.layer[0].chunk == 0 && config.layer[0].rope == 0);
}

static void llama4_that_contradicts_itself_or_needs_more_is_refused(void **state)
{
    static const wrong_config wrong[] = {
        {"{\"no_rope_layers\": [1, 1, 0]}", ODMOE_ERR_FORMAT, "no_rope_layers", "4 layers"},
        {"{\"no_rope_layers\": [1, 1, 1, 0, 1]}", ODMOE_ERR_FORMAT, "no_rope_layers", "4 layers"},
        {"{\"no_rope_layers\": [1, 2, 1, 0]}", ODMOE_ERR_FORMAT, "no_rope_layers", "entry 1"},
        {"{\"no_rope_layers\": [1, 1, true, 0]}", ODMOE_ERR_FORMAT, "no_rope_layers", "entry 2"},
        {"{\"no_rope_layers\": 4}", ODMOE_ERR_FORMAT, "no_rope_layers", "list"},
        {"{\"no_rope_layer_interval\": 0}", ODMOE_ERR_FORMAT, "no_rope_layer_interval", "0"},
        {"{\"layer_types\": [\"chunked_attention\"]}", ODMOE_ERR_FORMAT, "layer_types", "4 layers"},
        {"{\"layer_types\": [\"full_attention\", \"full_attention\", \"full_attention\", \"full_attention\","
         " \"full_attention\"]}",
         ODMOE_ERR_FORMAT, "layer_types", "4 layers"},
        {"{\"layer_types\": [\"chunked_attention\", \"sliding_attention\", \"full_attention\", \"full_attention\"]}",
         ODMOE_ERR_UNSUPPORTED, "'sliding_attention'", "layer 1"},
        {"{\"layer_types\": [\"chunked_attention\", 3, \"full_attention\", \"full_attention\"]}", ODMOE_ERR_UNSUPPORTED,
         "layer_types", "layer 1"},
        {"{\"attention_chunk_size\": null}", ODMOE_ERR_FORMAT, "layer 0", "attention_chunk_size"},
        {"{\"attention_chunk_size\": 0}", ODMOE_ERR_FORMAT, "attention_chunk_size", "0"},
        {"{\"attention_chunk_size\": -8}", ODMOE_ERR_FORMAT, "attention_chunk_size", "-8"},
        {"{\"moe_layers\": [1, 4]}", ODMOE_ERR_FORMAT, "moe_layers", "entry 1"},
        {"{\"moe_layers\": [-1]}", ODMOE_ERR_FORMAT, "moe_layers", "entry 0"},
        {"{\"moe_layers\": [\"1\"]}", ODMOE_ERR_FORMAT, "moe_layers", "entry 0"},
        {"{\"moe_layers\": 2}", ODMOE_ERR_FORMAT, "moe_layers", "list"},
        {"{\"moe_layers\": []}", ODMOE_ERR_UNSUPPORTED, "dense", " "},
        {"{\"moe_layers\": null, \"interleave_moe_layer_step\": 0}", ODMOE_ERR_FORMAT, "interleave_moe_layer_step",
         "0"},
        {"{\"intermediate_size_mlp\": 0}", ODMOE_ERR_FORMAT, "layer 0", "dense FFN"},
        {"{\"floor_scale\": 0}", ODMOE_ERR_FORMAT, "layer 3", "every 0 positions"},
        {"{\"attn_temperature_tuning\": \"yes\"}", ODMOE_ERR_FORMAT, "attn_temperature_tuning", " "},
        {"{\"use_qk_norm\": []}", ODMOE_ERR_FORMAT, "use_qk_norm", " "},
    };
    configs_refused("llama4", wrong, sizeof wrong / sizeof *wrong);
}

static void llama4_files_say_which_layers_have_experts(void **state)
{
    const char *path = test_path("families/gguf/llama4-Q8_0.gguf");
    gguf_edit *e = edit_read(path);
    edit_remove(e, "llama4.interleave_moe_layer_step");
    edit_refused(e, ODMOE_ERR_FORMAT, "interleave_moe_layer_step", "missing");
    e = edit_read(path);
    edit_set_int(e, "llama4.interleave_moe_layer_step", GG_U32, 1);
    edit_refused(e, ODMOE_ERR_FORMAT, "blk.0.", "missing");
    e = edit_read(path);
    edit_set_int(e, "llama4.attention.sliding_window", GG_U32, 0);
    edit_refused(e, ODMOE_ERR_UNSUPPORTED, "sliding_window", "chunks");
    const bool chunked[3] = {true, true, false};
    e = edit_read(path);
    edit_set_bools(e, "llama4.attention.sliding_window_pattern", chunked, 3);
    edit_refused(e, ODMOE_ERR_FORMAT, "sliding_window_pattern", "4 layers");
    e = edit_read(path);
    edit_drop(e, "blk.1.ffn_up_shexp.weight");
    edit_refused(e, ODMOE_ERR_FORMAT, "ffn_", " ");
}

/* ---- Phi-3.5-MoE ---- */

static void phimoe_that_contradicts_itself_or_needs_more_is_refused(void **state)
{
    static const wrong_config wrong[] = {
        {"{\"rope_scaling\": {\"type\": \"longrope\", \"short_factor\": [1, 1, 1, 1, 1, 1, 1], \"long_factor\":"
         " [1, 1, 1, 1, 1, 1, 1, 1]}}",
         ODMOE_ERR_FORMAT, "short_factor has 7", "8"},
        {"{\"rope_scaling\": {\"type\": \"longrope\", \"short_factor\": [1, 1, 1, 1, 1, 1, 1, 1], \"long_factor\":"
         " [1, 1, 1, 1, 1, 1, 1, 1, 1]}}",
         ODMOE_ERR_FORMAT, "long_factor 9", "8"},
        {"{\"rope_scaling\": {\"type\": \"longrope\", \"short_factor\": [1, 1, 1, 1, 1, 1, 1, 1]}}", ODMOE_ERR_FORMAT,
         "needs short_factor and long_factor", " "},
        {"{\"rope_scaling\": {\"type\": \"longrope\", \"short_factor\": [], \"long_factor\": [1]}}", ODMOE_ERR_FORMAT,
         "short_factor", "0 numbers"},
        {"{\"rope_scaling\": {\"type\": \"longrope\", \"short_factor\": [1, 1, 0, 1, 1, 1, 1, 1], \"long_factor\": "
         "[1]}}",
         ODMOE_ERR_FORMAT, "short_factor", "entry 2"},
        {"{\"rope_scaling\": {\"type\": \"longrope\", \"short_factor\": [1, \"1\"], \"long_factor\": [1]}}",
         ODMOE_ERR_FORMAT, "short_factor", "entry 1"},
        {"{\"rope_scaling\": {\"type\": \"longrope\", \"short_factor\": 1, \"long_factor\": [1]}}", ODMOE_ERR_FORMAT,
         "short_factor", "list"},
        {"{\"original_max_position_embeddings\": 1}", ODMOE_ERR_FORMAT, "original context of LongRoPE is 1", " "},
        {"{\"num_experts_per_tok\": 3}", ODMOE_ERR_UNSUPPORTED, "3 experts of a token", "2"},
        {"{\"router_jitter_noise\": -0.1}", ODMOE_ERR_FORMAT, "router_jitter_noise", "-0.1"},
        {"{\"sliding_window\": 0}", ODMOE_ERR_FORMAT, "sliding_window", "0"},
    };
    configs_refused("phimoe_longrope", wrong, sizeof wrong / sizeof *wrong);
    accepted("phimoe_longrope", "{\"sliding_window\": 131072}"); /* as published: all of the context */
    assert_int_equal(config.layer[0].window, 0);
    assert_true(config.router.score == ODMOE_SCORE_SPARSE_MIXER && config.router.band == 0.02f);
}

static void vectors_of_phimoes_frame_have_their_lengths(void **state)
{
    static const char *const names[] = {"output_norm.bias", "blk.0.attn_norm.bias", "blk.1.ffn_norm.bias",
                                        "blk.0.ffn_norm.weight"};
    vectors_are_checked("phimoe-BF16", names, sizeof names / sizeof *names);
    gguf_edit *e = edit_read(test_path("families/gguf/phimoe-BF16.gguf"));
    resize(e, "output.bias", 511);
    edit_refused(e, ODMOE_ERR_FORMAT, "output.bias", "shape");
}

/* The factors of phimoe_longrope, whose weights the file has, and another list. */
static const float golden_factors[] = {1, 1.05f, 1.1f, 1.2f, 1.3f, 1.5f, 1.8f, 2},
                   others[] = {1, 1.5f, 2, 4, 8, 16, 24, 32};

static gguf_edit *phimoe_with_factors(const float *short_factors, int n_short, const float *long_factors, int n_long)
{
    gguf_edit *e = edit_read(test_path("families/gguf/phimoe-BF16.gguf"));
    edit_tensor *s = edit_add(e, "rope_factors_short.weight", GG_TENSOR_F32, (uint64_t)n_short, 0, 0);
    put(&s->data, short_factors, (size_t)n_short * sizeof *short_factors);
    edit_tensor *l = edit_add(e, "rope_factors_long.weight", GG_TENSOR_F32, (uint64_t)n_long, 0, 0);
    put(&l->data, long_factors, (size_t)n_long * sizeof *long_factors);
    edit_set_int(e, "phimoe.context_length", GG_U32, 131072);
    edit_set_float(e, "phimoe.rope.scaling.attn_factor", 1.1902);
    return e;
}

static void factors_of_either_list_have_their_lengths(void **state)
{
    edit_refused(phimoe_with_factors(others, 7, others, 8), ODMOE_ERR_FORMAT, "rope_factors_short.weight", "shape");
    edit_refused(phimoe_with_factors(others, 8, others, 6), ODMOE_ERR_FORMAT, "rope_factors_long.weight", "shape");
    gguf_edit *e = phimoe_with_factors(others, 8, others, 8);
    edit_drop(e, "rope_factors_long.weight");
    edit_refused(e, ODMOE_ERR_FORMAT, "rope_factors_long.weight", "longrope");
    e = edit_read(test_path("families/gguf/phimoe-BF16.gguf"));
    edit_set_text(e, "phimoe.rope.scaling.type", "longrope");
    edit_refused(e, ODMOE_ERR_FORMAT, "rope_factors_long.weight", "longrope");
}

/* The logits of the golden whose short factors are golden_factors. */
static void assert_golden_logits(const char *path, int context)
{
    golden *expected = golden_open(test_path("families/phimoe_longrope/expected.safetensors"));
    odmoe_options o = small_options();
    o.kernels = "ref";
    o.context = context;
    odmoe_model *model = must_open(path, &o);
    odmoe_session *session = must_create(model, 0);
    size_t n, n_logits;
    const int32_t *ids = golden_i32(expected, &n, "input_ids");
    const float *want = golden_f32(expected, &n_logits, "logits");
    float *got = malloc(n_logits * sizeof *got);
    must_forward(model, session, ids, (int)n, &(forward_options){ODMOE_LOGITS_ALL, got, NULL, NULL});
    assert_true(golden_error(got, want, n_logits) < 1e-3);
    free(got);
    odmoe_session_free(session);
    odmoe_model_close(model);
    golden_close(expected);
}

static void contexts_up_to_the_original_one_take_the_short_factors(void **state)
{
    gguf_edit *e = phimoe_with_factors(golden_factors, 8, others, 8);
    edit_set_int(e, "phimoe.rope.scaling.original_context_length", GG_U32, 64);
    assert_golden_logits(edit_save(e, "short.gguf"), 64);
    edit_free(e);
}

static void contexts_beyond_the_original_one_take_the_long_factors_from_the_first_token(void **state)
{
    gguf_edit *e = phimoe_with_factors(others, 8, golden_factors, 8);
    edit_set_int(e, "phimoe.rope.scaling.original_context_length", GG_U32, 63);
    assert_golden_logits(edit_save(e, "long.gguf"), 64);
    edit_free(e);
}

static void sessions_of_short_and_long_contexts_are_told_apart(void **state)
{
    gguf_edit *e = phimoe_with_factors(golden_factors, 8, others, 8);
    edit_set_int(e, "phimoe.rope.scaling.original_context_length", GG_U32, 48);
    const char *path = edit_save(e, "both.gguf"), *saved = temp_path("session");
    edit_free(e);
    for (int context = 32; context <= 64; context += 16) {
        odmoe_options o = small_options();
        o.context = context;
        odmoe_model *model = must_open(path, &o);
        odmoe_session *session = must_create(model, 0);
        if (context == 32) {
            must_eval(session, text_tokens(0, 5), 5, NULL);
            assert_int_equal(odmoe_session_save(session, saved, &err), ODMOE_OK);
        } else { /* 48: the same factors; 64: the others */
            assert_int_equal(odmoe_session_load(session, saved, &err), context == 48 ? ODMOE_OK : ODMOE_ERR_FORMAT);
        }
        odmoe_session_free(session);
        odmoe_model_close(model);
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
        cmocka_unit_test(layers_of_gemma4_that_see_all_have_heads_of_their_own),
        cmocka_unit_test(gemma4_without_lists_has_every_sixth_layer_see_all_and_the_last),
        cmocka_unit_test(per_layer_config_goes_before_the_keys_for_full_layers),
        cmocka_unit_test(gemma4_that_contradicts_itself_or_needs_more_is_refused),
        cmocka_unit_test(vectors_of_gemma4s_frame_have_their_lengths),
        cmocka_unit_test(experts_of_a_layer_have_a_scale_all_or_none),
        cmocka_unit_test(lists_of_gemma4s_metadata_fit_its_layers),
        cmocka_unit_test(sliding_layers_of_gemma4_need_values_of_their_own),
        cmocka_unit_test(layers_of_llama4_turn_and_see_chunks_or_grow_their_queries),
        cmocka_unit_test(llama4_without_lists_has_the_familys_pattern),
        cmocka_unit_test(llama4_that_contradicts_itself_or_needs_more_is_refused),
        cmocka_unit_test(llama4_files_say_which_layers_have_experts),
        cmocka_unit_test(phimoe_that_contradicts_itself_or_needs_more_is_refused),
        cmocka_unit_test(vectors_of_phimoes_frame_have_their_lengths),
        cmocka_unit_test(factors_of_either_list_have_their_lengths),
        cmocka_unit_test(contexts_up_to_the_original_one_take_the_short_factors),
        cmocka_unit_test(contexts_beyond_the_original_one_take_the_long_factors_from_the_first_token),
        cmocka_unit_test(sessions_of_short_and_long_contexts_are_told_apart),
    };
    return cmocka_run_group_tests(tests, temp_setup, free_config);
}
