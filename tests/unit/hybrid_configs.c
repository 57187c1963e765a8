/* What files say of layers that are no attention, or no FFN: which layer is what, and the sizes of their states. All ways
 * of saying it that publishers and transformers use are read alike; what does not fit together, or sizes a state that
 * cannot be, is refused before anything is loaded. */
#include "support/refusals.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "support/golden.h"
#include "support/model_folders.h"
#include "support/models.h"

/* ---- config.json ---- */

static float *logits_of(const char *path)
{
    odmoe_options o = small_options();
    odmoe_model *model = must_open(path, &o);
    float *logits = fresh_logits(model, 9);
    odmoe_model_close(model);
    return logits;
}

static void the_same_layers_said_in_another_way_give_the_same(void **state)
{
    static const struct {
        const char *of, *members;
    } same[] = {
        {"nemotron_h", "{\"num_hidden_layers\": null}"},
        {"nemotron_h", "{\"hybrid_override_pattern\": null, \"layers_block_type\": [\"mamba\", \"moe\", \"attention\", "
                       "\"moe\", \"mamba\"]}"},
        {"nemotron_h", "{\"hybrid_override_pattern\": null, \"num_hidden_layers\": null, \"layers_block_type\": "
                       "[\"linear_attention\", \"moe\", \"full_attention\", \"moe\", \"linear_attention\"]}"},
        {"nemotron_h", "{\"time_step_limit\": null}"},
        {"nemotron_h", "{\"time_step_limit\": [0, \"Infinity\"]}"},
        {"nemotron_h", "{\"n_groups\": null, \"mamba_n_groups\": 2, \"conv_kernel\": null, \"mamba_d_conv\": 4}"},
        {"granitemoehybrid", "{\"layer_types\": [\"linear_attention\", \"full_attention\", \"linear_attention\"]}"},
        {"granitemoehybrid", "{\"mamba_d_head\": \"auto\"}"},
        {"granitemoehybrid", "{\"mamba_d_head\": null, \"mamba_expand\": null}"},
        {"granitemoehybrid", "{\"position_embedding_type\": null}"},
        {"lfm2_moe", "{\"tie_word_embeddings\": null, \"norm_topk_prob\": null, \"use_expert_bias\": null}"},
    };
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        char folder[64], original[512];
        snprintf(folder, sizeof folder, "families/%s", same[i].of);
        snprintf(original, sizeof original, "%s", test_path("%s", folder));
        float *want = logits_of(original), *got = logits_of(changed_folder(folder, same[i].members));
        if (memcmp(got, want, 512 * sizeof *got))
            fail_msg("%s with %s: other logits", same[i].of, same[i].members);
        free(want);
        free(got);
    }
}

typedef struct wrong_members {
    const char *members;
    odmoe_status status;
    const char *word, *word2;
} wrong_members;

static void folders_refused(const char *of, const wrong_members *wrong, size_t n)
{
    for (size_t i = 0; i < n; i++)
        model_refused(changed_folder(of, wrong[i].members), wrong[i].status, wrong[i].word, wrong[i].word2);
}

static void patterns_of_nemotron_h_say_what_each_layer_is(void **state)
{
    static const wrong_members wrong[] = {
        {"{\"hybrid_override_pattern\": \"ME*E\"}", ODMOE_ERR_FORMAT, "hybrid_override_pattern", "5 layers"},
        {"{\"hybrid_override_pattern\": \"ME*EMM\"}", ODMOE_ERR_FORMAT, "hybrid_override_pattern", "6 entries"},
        {"{\"hybrid_override_pattern\": \"ME*EX\"}", ODMOE_ERR_UNSUPPORTED, "'X' of layer 4", "M, E, *"},
        {"{\"hybrid_override_pattern\": \"ME*E-\"}", ODMOE_ERR_FORMAT, "layers.4.mixer.up_proj", "missing"},
        {"{\"hybrid_override_pattern\": \"ME*E-\", \"intermediate_size\": null}", ODMOE_ERR_FORMAT,
         "layer 4 has a dense FFN", "0"},
        {"{\"hybrid_override_pattern\": \"ME*E\\u0000\"}", ODMOE_ERR_UNSUPPORTED, "layer 4", "not known"},
        {"{\"hybrid_override_pattern\": \"\"}", ODMOE_ERR_FORMAT, "hybrid_override_pattern", "0 entries"},
        {"{\"hybrid_override_pattern\": 7}", ODMOE_ERR_FORMAT, "hybrid_override_pattern", "0 entries"},
        {"{\"hybrid_override_pattern\": null}", ODMOE_ERR_FORMAT, "hybrid_override_pattern", "5 layers"},
        {"{\"hybrid_override_pattern\": \"\", \"num_hidden_layers\": null}", ODMOE_ERR_FORMAT, "number of layers", "0"},
        {"{\"hybrid_override_pattern\": null, \"num_hidden_layers\": null}", ODMOE_ERR_FORMAT, "num_hidden_layers",
         "missing"},
        {"{\"layers_block_type\": [\"mamba\", \"moe\"]}", ODMOE_ERR_FORMAT, "layers_block_type", "2 entries"},
        {"{\"layers_block_type\": [\"mamba\", \"moe\", \"attention\", \"moe\", \"conv\"]}", ODMOE_ERR_UNSUPPORTED,
         "'conv' of layer 4", "not known"},
        {"{\"layers_block_type\": [\"mamba\", \"moe\", \"attention\", 3, \"mamba\"]}", ODMOE_ERR_UNSUPPORTED, "layer 3",
         "no text"},
        {"{\"hybrid_override_pattern\": \"MM*EM\"}", ODMOE_ERR_FORMAT, "layers.1.mixer.in_proj", "missing"},
        {"{\"hybrid_override_pattern\": \"M**EM\"}", ODMOE_ERR_FORMAT, "layers.1.mixer.q_proj", "missing"},
        {"{\"hybrid_override_pattern\": \"MM*MM\"}", ODMOE_ERR_UNSUPPORTED, "dense", " "},
    };
    folders_refused("families/nemotron_h", wrong, sizeof wrong / sizeof *wrong);
}

/* Patterns longer than any model: their number is checked before anything is allocated for it. */
static void a_pattern_longer_than_models_have_layers_is_refused(void **state)
{
    char members[2 * 1025 + 128] = "{\"num_hidden_layers\": null, \"hybrid_override_pattern\": \"";
    size_t length = strlen(members);
    memset(members + length, 'M', 1025);
    strcpy(members + length + 1025, "\"}");
    model_refused(changed_folder("families/nemotron_h", members), ODMOE_ERR_FORMAT, "hybrid_override_pattern",
                  "1025 entries");
}

static void sizes_of_nemotron_h_fit_together(void **state)
{
    static const wrong_members wrong[] = {
        {"{\"moe_latent_size\": 32}", ODMOE_ERR_FORMAT, "layers.1.mixer.fc1_latent_proj", "missing"},
        {"{\"moe_latent_size\": -1}", ODMOE_ERR_FORMAT, "moe_latent_size", "-1"},
        {"{\"time_step_limit\": [0.001, \"Infinity\"]}", ODMOE_ERR_UNSUPPORTED, "time_step_limit", "0 to Infinity"},
        {"{\"time_step_limit\": [0.0, 0.1]}", ODMOE_ERR_UNSUPPORTED, "time_step_limit", "clamps"},
        {"{\"time_step_limit\": [0.0]}", ODMOE_ERR_UNSUPPORTED, "time_step_limit", "clamps"},
        {"{\"time_step_limit\": 3}", ODMOE_ERR_UNSUPPORTED, "time_step_limit", "clamps"},
        {"{\"mlp_hidden_act\": \"silu\"}", ODMOE_ERR_UNSUPPORTED, "mlp_hidden_act 'silu'", "relu2"},
        {"{\"mamba_hidden_act\": \"relu2\"}", ODMOE_ERR_UNSUPPORTED, "mamba_hidden_act 'relu2'", "silu"},
        {"{\"use_bias\": true}", ODMOE_ERR_UNSUPPORTED, "use_bias", " "},
        {"{\"mlp_bias\": true}", ODMOE_ERR_UNSUPPORTED, "mlp_bias", " "},
        {"{\"use_conv_bias\": false}", ODMOE_ERR_UNSUPPORTED, "conv1d.bias", "use_conv_bias"},
        {"{\"mamba_num_heads\": 0}", ODMOE_ERR_FORMAT, "number of Mamba heads", "0"},
        {"{\"mamba_num_heads\": 4097}", ODMOE_ERR_FORMAT, "mamba_num_heads", "4097"},
        {"{\"mamba_num_heads\": 3}", ODMOE_ERR_FORMAT, "3 Mamba heads", "2 groups"},
        {"{\"mamba_num_heads\": 8}", ODMOE_ERR_FORMAT, "in_proj", "shape"},
        {"{\"mamba_num_heads\": 4096, \"mamba_head_dim\": 1048576}", ODMOE_ERR_FORMAT, "mamba_head_dim 1048576",
         "1048576"},
        {"{\"mamba_head_dim\": 0}", ODMOE_ERR_FORMAT, "mamba_head_dim", "0"},
        {"{\"mamba_head_dim\": 32}", ODMOE_ERR_FORMAT, "in_proj", "shape"},
        {"{\"ssm_state_size\": 0}", ODMOE_ERR_FORMAT, "state size of Mamba", "0"},
        {"{\"ssm_state_size\": 4097}", ODMOE_ERR_FORMAT, "ssm_state_size", "4097"},
        {"{\"n_groups\": 0}", ODMOE_ERR_FORMAT, "number of Mamba groups", "0"},
        {"{\"n_groups\": 3}", ODMOE_ERR_FORMAT, "4 Mamba heads", "3 groups"},
        {"{\"n_groups\": 8}", ODMOE_ERR_FORMAT, "4 Mamba heads", "8 groups"},
        {"{\"mamba_num_heads\": 4096, \"mamba_head_dim\": 1, \"n_groups\": 4096, \"ssm_state_size\": 4096}",
         ODMOE_ERR_FORMAT, "33558528 channels", "1048576"},
        {"{\"conv_kernel\": 1}", ODMOE_ERR_FORMAT, "width of convolutions is 1", "2"},
        {"{\"conv_kernel\": 9}", ODMOE_ERR_FORMAT, "conv_kernel", "9"},
        {"{\"conv_kernel\": 3}", ODMOE_ERR_FORMAT, "conv1d.weight", "320 x 3"},
        {"{\"moe_shared_expert_intermediate_size\": null}", ODMOE_ERR_FORMAT, "moe_shared_expert_intermediate_size",
         " "},
        {"{\"moe_shared_expert_intermediate_size\": 0}", ODMOE_ERR_UNSUPPORTED, "shared_experts.up_proj",
         "moe_shared_expert_intermediate_size"},
    };
    folders_refused("families/nemotron_h", wrong, sizeof wrong / sizeof *wrong);
}

static void latent_experts_need_their_size(void **state)
{
    static const wrong_members wrong[] = {
        {"{\"moe_latent_size\": null}", ODMOE_ERR_UNSUPPORTED, "fc1_latent_proj", "moe_latent_size"},
        {"{\"moe_latent_size\": 64}", ODMOE_ERR_FORMAT, "fc1_latent_proj", "64 x 64"},
    };
    folders_refused("families/nemotron_h_latent", wrong, sizeof wrong / sizeof *wrong);
}

static void sizes_of_granites_hybrids_fit_together(void **state)
{
    static const wrong_members wrong[] = {
        {"{\"layer_types\": [\"mamba\", \"attention\"]}", ODMOE_ERR_FORMAT, "layer_types", "2 entries"},
        {"{\"layer_types\": [\"mamba\", \"attention\", \"mamba\", \"mamba\"]}", ODMOE_ERR_FORMAT, "layer_types",
         "4 entries"},
        {"{\"layer_types\": [\"mamba\", \"attention\", \"conv\"]}", ODMOE_ERR_UNSUPPORTED, "'conv' of layer 2",
         "mamba, attention"},
        {"{\"layer_types\": \"mam\"}", ODMOE_ERR_UNSUPPORTED, "'m' of layer 0", "mamba, attention"},
        {"{\"layer_types\": null}", ODMOE_ERR_FORMAT, "layer_types", "3 layers"},
        {"{\"num_local_experts\": 0}", ODMOE_ERR_UNSUPPORTED, "granitemoehybrid", "dense"},
        {"{\"mamba_n_heads\": 5}", ODMOE_ERR_FORMAT, "mamba_n_heads 5", "hidden size 64"},
        {"{\"mamba_n_heads\": 5, \"mamba_d_head\": \"auto\"}", ODMOE_ERR_FORMAT, "5 Mamba heads", "128"},
        {"{\"mamba_d_head\": \"wide\"}", ODMOE_ERR_FORMAT, "mamba_d_head", " "},
        {"{\"mamba_n_groups\": 3}", ODMOE_ERR_FORMAT, "8 Mamba heads", "3 groups"},
        {"{\"mamba_n_groups\": 1}", ODMOE_ERR_FORMAT, "in_proj", "shape"},
        {"{\"mamba_expand\": 1048576}", ODMOE_ERR_FORMAT, "mamba_expand 1048576", "hidden size 64"},
        {"{\"mamba_d_conv\": 0}", ODMOE_ERR_FORMAT, "width of convolutions", "0"},
        {"{\"mamba_proj_bias\": true}", ODMOE_ERR_UNSUPPORTED, "mamba_proj_bias", " "},
        {"{\"mamba_conv_bias\": false}", ODMOE_ERR_UNSUPPORTED, "conv1d.bias", "mamba_conv_bias"},
        {"{\"time_step_limit\": [0.0, 0.1]}", ODMOE_ERR_UNSUPPORTED, "time_step_limit", "clamps"},
        {"{\"shared_intermediate_size\": 32}", ODMOE_ERR_FORMAT, "shared_mlp.input_linear", "64 x 64"},
    };
    folders_refused("families/granitemoehybrid", wrong, sizeof wrong / sizeof *wrong);
}

static void sizes_of_lfm2_moe_fit_together(void **state)
{
    static const wrong_members wrong[] = {
        {"{\"layer_types\": [\"conv\"]}", ODMOE_ERR_FORMAT, "layer_types", "4 layers"},
        {"{\"layer_types\": [\"conv\", \"conv\", \"full_attention\", \"conv\", \"conv\"]}", ODMOE_ERR_FORMAT,
         "layer_types", "5 entries"},
        {"{\"layer_types\": [\"conv\", \"conv\", \"mamba\", \"conv\"]}", ODMOE_ERR_UNSUPPORTED, "'mamba' of layer 2",
         "conv, full_attention"},
        {"{\"layer_types\": [\"conv\", \"conv\", \"conv\", \"conv\"]}", ODMOE_ERR_FORMAT, "layers.2.conv", "missing"},
        {"{\"conv_L_cache\": 1}", ODMOE_ERR_FORMAT, "width of convolutions is 1", "2 to 8"},
        {"{\"conv_L_cache\": 9}", ODMOE_ERR_FORMAT, "conv_L_cache", "9"},
        {"{\"conv_L_cache\": 4}", ODMOE_ERR_FORMAT, "conv.conv.weight", "64 x 4"},
        {"{\"conv_L_cache\": null}", ODMOE_ERR_FORMAT, "conv_L_cache", "missing"},
        {"{\"conv_bias\": true}", ODMOE_ERR_UNSUPPORTED, "conv_bias", " "},
        {"{\"use_expert_bias\": false}", ODMOE_ERR_UNSUPPORTED, "use_expert_bias", " "},
        {"{\"num_dense_layers\": null}", ODMOE_ERR_FORMAT, "num_dense_layers", "missing"},
        {"{\"num_dense_layers\": 4}", ODMOE_ERR_UNSUPPORTED, "dense", " "},
    };
    folders_refused("families/lfm2_moe", wrong, sizeof wrong / sizeof *wrong);
}

/* ---- GGUF ---- */

typedef struct wrong_number {
    const char *file, *key;
    uint32_t value;
    const char *word, *word2;
} wrong_number;

#define NEMOTRON "nemotron_h_moe"
#define GRANITE "granitehybrid"
#define LFM2 "lfm2moe"

static gguf_edit *file_of(const char *architecture)
{
    return edit_read(test_path("families/gguf/%s-Q8_0.gguf", architecture));
}

static void numbers_of_files_that_size_states_are_checked(void **state)
{
    static const wrong_number wrong[] = {
        {GRANITE, "ssm.inner_size", 0, "inner size of Mamba", "0"},
        {GRANITE, "ssm.inner_size", 100, "8 Mamba heads", "100"},
        {GRANITE, "ssm.inner_size", 256, "ssm_in.weight", "shape"},
        {GRANITE, "ssm.inner_size", (1 << 20) + 1, "ssm.inner_size", "1048577"},
        {GRANITE, "ssm.inner_size", 1 << 20, "1048640 channels", "1048576"},
        {GRANITE, "ssm.inner_size", UINT32_MAX, "ssm.inner_size", "4294967295"},
        {GRANITE, "ssm.time_step_rank", 0, "number of Mamba heads", "0"},
        {GRANITE, "ssm.time_step_rank", 7, "7 Mamba heads", "128"},
        {GRANITE, "ssm.time_step_rank", 4, "ssm_in.weight", "shape"},
        {GRANITE, "ssm.state_size", 0, "state size of Mamba", "0"},
        {GRANITE, "ssm.state_size", UINT32_MAX, "ssm.state_size", "4294967295"},
        {GRANITE, "ssm.group_count", 0, "number of Mamba groups", "0"},
        {GRANITE, "ssm.group_count", 3, "8 Mamba heads", "3 groups"},
        {GRANITE, "ssm.conv_kernel", 0, "width of convolutions", "0"},
        {GRANITE, "ssm.conv_kernel", 9, "ssm.conv_kernel", "9"},
        {GRANITE, "ssm.conv_kernel", 5, "ssm_conv1d.weight", "192 x 5"},
        {LFM2, "shortconv.l_cache", 0, "width of convolutions", "0"},
        {LFM2, "shortconv.l_cache", 2, "shortconv.conv.weight", "64 x 2"},
        {LFM2, "shortconv.l_cache", UINT32_MAX, "shortconv.l_cache", "4294967295"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        gguf_edit *e = file_of(wrong[i].file);
        char key[96];
        snprintf(key, sizeof key, "%s.%s", wrong[i].file, wrong[i].key);
        edit_set_int(e, key, GG_U32, wrong[i].value);
        edit_refused(e, ODMOE_ERR_FORMAT, wrong[i].word, wrong[i].word2);
    }
}

/* 0 key/value heads make a layer recurrent; with a size of its FFN, Nemotron-H's is experts. */
static void lists_of_files_say_what_each_layer_is(void **state)
{
    static const struct {
        const char *file, *key;
        int32_t values[6];
        int n;
        const char *word, *word2;
    } wrong[] = {
        {LFM2, "attention.head_count_kv", {0, 0, 2}, 3, "head_count_kv", "4 layers"},
        {LFM2, "attention.head_count_kv", {0, 0, 2, 0, 0}, 5, "head_count_kv", "4 layers"},
        {LFM2, "attention.head_count_kv", {0, 2, 2, 0}, 4, "blk.1.attn_q.weight", "missing"},
        {LFM2, "attention.head_count_kv", {0, 0, 0, 0}, 4, "blk.2.shortconv", "missing"},
        {LFM2, "attention.head_count_kv", {0, 0, -2, 0}, 4, "key/value heads is -2", "1 to"},
        {GRANITE, "attention.head_count_kv", {0, 2}, 2, "head_count_kv", "3 layers"},
        {GRANITE, "attention.head_count_kv", {0, 2, 0, 0}, 4, "head_count_kv", "3 layers"},
        {GRANITE, "attention.head_count_kv", {0, 0, 0}, 3, "blk.1.ssm_in.weight", "missing"},
        {NEMOTRON, "feed_forward_length", {0, 32, 0, 32}, 4, "feed_forward_length", "4 entries for 5"},
        {NEMOTRON, "feed_forward_length", {0, 32, 0, 32, 0, 0}, 6, "feed_forward_length", "6 entries for 5"},
        {NEMOTRON, "attention.head_count_kv", {0, 0, 2, 0, 0, 0}, 6, "head_count_kv", "5 layers"},
        {NEMOTRON, "feed_forward_length", {0, 32, 32, 32, 0}, 5, "layer 2", "only one"},
        {NEMOTRON, "feed_forward_length", {0, 0, 0, 32, 0}, 5, "blk.1.ssm_in.weight", "missing"},
        {NEMOTRON, "feed_forward_length", {32, 32, 0, 32, 0}, 5, "blk.0.ffn_gate_inp.weight", "missing"},
        {NEMOTRON, "attention.head_count_kv", {0, 0, 0, 0, 0}, 5, "blk.2.ssm_in.weight", "missing"},
        {NEMOTRON, "attention.head_count_kv", {2, 0, 2, 0, 0}, 5, "blk.0.attn_q.weight", "missing"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        gguf_edit *e = file_of(wrong[i].file);
        char key[96];
        snprintf(key, sizeof key, "%s.%s", wrong[i].file, wrong[i].key);
        edit_set_ints(e, key, wrong[i].values, wrong[i].n);
        edit_refused(e, ODMOE_ERR_FORMAT, wrong[i].word, wrong[i].word2);
    }
}

static void a_nemotron_h_file_without_the_list_of_its_layers_is_refused(void **state)
{
    gguf_edit *e = file_of(NEMOTRON);
    edit_set_int(e, NEMOTRON ".feed_forward_length", GG_U32, 32);
    edit_refused(e, ODMOE_ERR_FORMAT, "feed_forward_length", " ");
    e = file_of(NEMOTRON);
    edit_remove(e, NEMOTRON ".feed_forward_length");
    edit_refused(e, ODMOE_ERR_FORMAT, "feed_forward_length", "missing");
}

/* Latent experts as wide as the stream, between identities, are plain experts. */
static void latent_experts_of_a_file_lie_between_two_matrices(void **state)
{
    static const char *const tensors[] = {"ffn_latent_down", "ffn_latent_up"};
    gguf_edit *e = file_of(NEMOTRON);
    edit_set_int(e, NEMOTRON ".moe_latent_size", GG_U32, 64);
    for (int i = 0; i < 4; i++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%d.%s.weight", i < 2 ? 1 : 3, tensors[i % 2]);
        edit_tensor *t = edit_add(e, name, GG_TENSOR_F32, 64, 64, 0);
        for (int n = 0; n < 64 * 64; n++)
            put(&t->data, &(float){n % 65 == 0}, sizeof(float));
    }
    const char *path = edit_save(e, "latent.gguf");
    float *want = logits_of(test_path("families/gguf/" NEMOTRON "-Q8_0.gguf")), *got = logits_of(path);
    assert_memory_equal(got, want, 512 * sizeof *got);
    free(want);
    free(got);
    edit_drop(e, "blk.3.ffn_latent_up.weight");
    edit_refused(e, ODMOE_ERR_FORMAT, "blk.3.ffn_latent_up.weight", "missing");
    e = file_of(NEMOTRON);
    edit_set_int(e, NEMOTRON ".moe_latent_size", GG_U32, (1 << 20) + 1);
    edit_refused(e, ODMOE_ERR_FORMAT, "moe_latent_size", "1048577");
}

/* Each tensor of a recurrent layer, missing and of another shape; a norm counts its numbers, whatever the rows. */
static void tensors_of_recurrent_layers_are_missed_by_name(void **state)
{
    static const struct {
        const char *file, *tensor;
    } needed[] = {
        {GRANITE, "blk.0.ssm_in.weight"},
        {GRANITE, "blk.0.ssm_conv1d.weight"},
        {GRANITE, "blk.2.ssm_dt.bias"},
        {GRANITE, "blk.0.ssm_a"},
        {GRANITE, "blk.0.ssm_d"},
        {GRANITE, "blk.2.ssm_norm.weight"},
        {GRANITE, "blk.0.ssm_out.weight"},
        {LFM2, "blk.1.shortconv.in_proj.weight"},
        {LFM2, "blk.1.shortconv.conv.weight"},
        {LFM2, "blk.3.shortconv.out_proj.weight"},
        {LFM2, "token_embd_norm.weight"},
        {NEMOTRON, "blk.0.attn_norm.weight"},
        {NEMOTRON, "blk.3.attn_norm.weight"},
        {NEMOTRON, "blk.1.ffn_up_exps.weight"},
        {NEMOTRON, "blk.1.ffn_up_shexp.weight"},
    };
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        gguf_edit *e = file_of(needed[i].file);
        edit_drop(e, needed[i].tensor);
        edit_refused(e, ODMOE_ERR_FORMAT, needed[i].tensor, "missing");
        e = file_of(needed[i].file);
        edit_tensor *t = edit_find(e, needed[i].tensor);
        char name[96];
        snprintf(name, sizeof name, "%s", needed[i].tensor);
        edit_drop(e, name);
        t = edit_add(e, name, GG_TENSOR_F32, 3, 5, 0);
        for (int n = 0; n < 15; n++)
            put_number(&t->data, 0, 4);
        edit_refused(e, ODMOE_ERR_FORMAT, needed[i].tensor, "shape");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_layers_said_in_another_way_give_the_same),
        cmocka_unit_test(patterns_of_nemotron_h_say_what_each_layer_is),
        cmocka_unit_test(a_pattern_longer_than_models_have_layers_is_refused),
        cmocka_unit_test(sizes_of_nemotron_h_fit_together),
        cmocka_unit_test(latent_experts_need_their_size),
        cmocka_unit_test(sizes_of_granites_hybrids_fit_together),
        cmocka_unit_test(sizes_of_lfm2_moe_fit_together),
        cmocka_unit_test(numbers_of_files_that_size_states_are_checked),
        cmocka_unit_test(lists_of_files_say_what_each_layer_is),
        cmocka_unit_test(a_nemotron_h_file_without_the_list_of_its_layers_is_refused),
        cmocka_unit_test(latent_experts_of_a_file_lie_between_two_matrices),
        cmocka_unit_test(tensors_of_recurrent_layers_are_missed_by_name),
    };
    return cmocka_run_group_tests(tests, temp_setup, temp_teardown);
}
