/* Nemotron-H with experts (Nemotron 3): each layer is one of Mamba-2, experts, attention, a dense FFN, and has one norm; no
 * rotation; FFNs of up and down alone with a squared ReLU; experts may be latent; DeepSeek-V3's router. */
#include <stdio.h>
#include <string.h>

#include "model/arch/arch.h"
#include "model/mixers/attention.h"
#include "model/mixers/mamba2.h"

static void common(model_config *c)
{
    c->glu.kind = ODMOE_RELU2;
    c->rope_sets = 0;
    for (int l = 0; l < c->layers; l++)
        c->layer[l].rope = ROPE_OFF;
}

/* A layer without key/value heads is Mamba-2, or, where its FFN has a size, experts. */
static odmoe_status layers_of_gguf(const model_files *f, const char *prefix, model_config *c, odmoe_error *err)
{
    char key[64];
    snprintf(key, sizeof key, "%s.feed_forward_length", prefix);
    odmoe_status status = arch_gguf_list(f, key, c, err);
    for (int l = 0; l < c->layers && !status; l++) {
        layer_config *layer = &c->layer[l];
        int64_t size;
        status = gguf_array_int(f->gguf, key, (uint64_t)l, &size, err);
        layer->ffn = !status && size ? FFN_EXPERTS : FFN_NONE;
        if (layer->ffn == FFN_EXPERTS && layer->mixer == &mixer_attention)
            return err_set(err, ODMOE_ERR_FORMAT, "%s: layer %d has key/value heads and %s: only one can be", f->path,
                           l, key);
        if (layer->ffn == FFN_EXPERTS)
            layer->mixer = NULL;
    }
    return status;
}

static odmoe_status from_gguf(const model_files *f, const char *prefix, model_config *c, odmoe_error *err)
{
    odmoe_status status = arch_gguf_deepseek(f, prefix, ODMOE_SCORE_SIGMOID, c, err);
    if (status)
        return status;
    common(c);
    arch_gguf_other_mixers(c, &mixer_mamba2);
    return layers_of_gguf(f, prefix, c, err);
}

/* The activations; `word` is what they must be. */
static odmoe_status check_word(config_object json, const char *key, const char *word, odmoe_error *err)
{
    const char *is;
    odmoe_status status = config_text(json, key, false, word, &is, err);
    if (status || !strcmp(is, word))
        return status;
    return err_set(err, ODMOE_ERR_UNSUPPORTED, "%s: %s '%.32s' is not supported (%s is)", json.file, key, is, word);
}

static odmoe_status read_mamba(config_object json, model_config *c, odmoe_error *err)
{
    int64_t dim;
    odmoe_status status = config_int(json, "mamba_head_dim", false, 1, MODEL_DIM_MAX, 64, &dim, err);
    if (!status && dim * c->mamba_heads > MODEL_DIM_MAX)
        status =
            err_set(err, ODMOE_ERR_FORMAT, "%s: mamba_num_heads %d of mamba_head_dim %d: at most %d in all is possible",
                    json.file, c->mamba_heads, (int)dim, MODEL_DIM_MAX);
    if (!status)
        c->mamba_inner = (int)dim * c->mamba_heads;
    return status;
}

static odmoe_status layers_of_hf(config_object json, model_config *c, odmoe_error *err)
{
    static const layer_word words[] = {{"M", &mixer_mamba2, FFN_NONE},
                                       {"E", NULL, FFN_EXPERTS},
                                       {"*", &mixer_attention, FFN_NONE},
                                       {"-", NULL, FFN_DENSE},
                                       {"mamba", &mixer_mamba2, FFN_NONE},
                                       {"linear_attention", &mixer_mamba2, FFN_NONE},
                                       {"moe", NULL, FFN_EXPERTS},
                                       {"mlp", NULL, FFN_DENSE},
                                       {"attention", &mixer_attention, FFN_NONE},
                                       {"full_attention", &mixer_attention, FFN_NONE},
                                       {0}};
    static const char *const lists[] = {"layers_block_type", "layer_types"};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        const json_t *list = json_object_get(json.object, lists[i]);
        if (list && !json_is_null(list))
            return arch_hf_layer_words(json, lists[i], words, c, err);
    }
    return arch_hf_layer_words(json, "hybrid_override_pattern", words, c, err);
}

static odmoe_status from_hf(config_object json, model_config *c, odmoe_error *err)
{
    odmoe_status status = check_word(json, "mlp_hidden_act", "relu2", err);
    if (!status)
        status = check_word(json, "mamba_hidden_act", "silu", err);
    if (!status)
        status = arch_hf_only(json, "use_bias", 0, err);
    if (!status)
        status = arch_hf_only(json, "mlp_bias", 0, err);
    if (!status)
        status = arch_hf_time_step(json, err);
    if (!status)
        status = arch_hf_deepseek(json, c, err);
    if (!status)
        status = read_mamba(json, c, err);
    common(c);
    return status ? status : layers_of_hf(json, c, err);
}

/* The shared expert has a size of its own, which no number of them multiplies. */
static const field_rule fields[] = {
    {FIELD_layers, "block_count", "num_hidden_layers|layers_block_type|layer_types|hybrid_override_pattern",
     FIELD_REQUIRED, .hf_counted = true},
    {FIELD_rms_eps, "attention.layer_norm_rms_epsilon|attention.layer_norm_epsilon", "layer_norm_epsilon", 1e-5},
    {FIELD_dense_ffn, NULL, "intermediate_size", 0},
    {FIELD_latent, "moe_latent_size", "moe_latent_size", 0},
    {FIELD_dense_layers, NULL, NULL, 0},
    {FIELD_shared_experts, NULL, NULL, 0},
    {FIELD_shared_ffn, "expert_shared_feed_forward_length", "moe_shared_expert_intermediate_size", 0,
     .hf_required = true},
    {FIELD_key_dim, "attention.key_length", "head_dim|attention_head_dim", 128},
    {FIELD_attention_bias, NULL, "attention_bias", 0},
    {FIELD_conv_width, "ssm.conv_kernel", "conv_kernel|mamba_d_conv", 4},
    {FIELD_conv_bias, NULL, "use_conv_bias|mamba_conv_bias", 1},
    {FIELD_mamba_heads, "ssm.time_step_rank", "mamba_num_heads", 128},
    {FIELD_mamba_inner, "ssm.inner_size", NULL, 0},
    {FIELD_mamba_state, "ssm.state_size", "ssm_state_size", 128},
    {FIELD_mamba_groups, "ssm.group_count", "n_groups|mamba_n_groups", 8},
    ARCH_FIELDS_DEEPSEEK,
    FIELDS_END,
};

#define LAYER(tensor) "backbone.layers.%d." tensor

static const weight_rule frame[] = {
    {W_EMBED, IN_MODEL, "token_embd.weight", "backbone.embeddings.weight", DIM_VOCAB, DIM_HIDDEN, false},
    {W_OUTPUT_NORM, IN_MODEL, "output_norm.weight", "backbone.norm_f.weight", DIM_VECTOR, DIM_HIDDEN, false},
    {W_OUTPUT, IN_MODEL, "output.weight", "lm_head.weight", DIM_VOCAB, DIM_HIDDEN, true},
    {W_MIXER_NORM, IN_MIXER_LAYERS, "blk.%d.attn_norm.weight", LAYER("norm.weight"), DIM_VECTOR, DIM_HIDDEN, false},
    {W_FFN_NORM, IN_FFN_LAYERS, "blk.%d.attn_norm.weight", LAYER("norm.weight"), DIM_VECTOR, DIM_HIDDEN, false},
    {W_ROUTER, IN_MOE_LAYERS, "blk.%d.ffn_gate_inp.weight", LAYER("mixer.gate.weight"), DIM_EXPERTS, DIM_HIDDEN, false},
    {W_SELECTION_BIAS, IN_MOE_LAYERS, "blk.%d.exp_probs_b.bias|blk.%d.exp_probs_b",
     LAYER("mixer.gate.e_score_correction_bias"), DIM_VECTOR, DIM_EXPERTS, false},
    {W_LATENT_IN, IN_MOE_LAYERS, "blk.%d.ffn_latent_down.weight", LAYER("mixer.fc1_latent_proj.weight"),
     DIM_EXPERT_HIDDEN, DIM_HIDDEN, false, .only_if = FIELD_latent},
    {W_LATENT_OUT, IN_MOE_LAYERS, "blk.%d.ffn_latent_up.weight", LAYER("mixer.fc2_latent_proj.weight"), DIM_HIDDEN,
     DIM_EXPERT_HIDDEN, false, .only_if = FIELD_latent},
    {W_DENSE_UP, IN_DENSE_LAYERS, NULL, LAYER("mixer.up_proj.weight"), DIM_DENSE_FFN, DIM_HIDDEN, false},
    {W_DENSE_DOWN, IN_DENSE_LAYERS, NULL, LAYER("mixer.down_proj.weight"), DIM_HIDDEN, DIM_DENSE_FFN, false},
    {W_SHARED_UP, IN_MOE_LAYERS, "blk.%d.ffn_up_shexp.weight", LAYER("mixer.shared_experts.up_proj.weight"),
     DIM_SHARED_FFN, DIM_HIDDEN, false, .only_if = FIELD_shared_ffn},
    {W_SHARED_DOWN, IN_MOE_LAYERS, "blk.%d.ffn_down_shexp.weight", LAYER("mixer.shared_experts.down_proj.weight"),
     DIM_HIDDEN, DIM_SHARED_FFN, false, .only_if = FIELD_shared_ffn},
    WEIGHTS_END,
};

static const weight_rule attention[] = {
    {ATTENTION_Q, IN_ALL_LAYERS, "blk.%d.attn_q.weight", LAYER("mixer.q_proj.weight"), DIM_Q, DIM_HIDDEN, false,
     "blk.%d.attn_qkv.weight"},
    {ATTENTION_K, IN_ALL_LAYERS, "blk.%d.attn_k.weight", LAYER("mixer.k_proj.weight"), DIM_K, DIM_HIDDEN, false,
     "blk.%d.attn_qkv.weight"},
    {ATTENTION_V, IN_ALL_LAYERS, "blk.%d.attn_v.weight", LAYER("mixer.v_proj.weight"), DIM_V, DIM_HIDDEN, false,
     "blk.%d.attn_qkv.weight"},
    {ATTENTION_O, IN_ALL_LAYERS, "blk.%d.attn_output.weight", LAYER("mixer.o_proj.weight"), DIM_HIDDEN,
     DIM_ATTENTION_OUT, false},
    {ATTENTION_Q_BIAS, IN_ALL_LAYERS, "blk.%d.attn_q.bias", LAYER("mixer.q_proj.bias"), DIM_VECTOR, DIM_Q, true,
     "blk.%d.attn_qkv.bias", .only_if = FIELD_attention_bias},
    {ATTENTION_K_BIAS, IN_ALL_LAYERS, "blk.%d.attn_k.bias", LAYER("mixer.k_proj.bias"), DIM_VECTOR, DIM_K, true,
     "blk.%d.attn_qkv.bias", .only_if = FIELD_attention_bias},
    {ATTENTION_V_BIAS, IN_ALL_LAYERS, "blk.%d.attn_v.bias", LAYER("mixer.v_proj.bias"), DIM_VECTOR, DIM_V, true,
     "blk.%d.attn_qkv.bias", .only_if = FIELD_attention_bias},
    {ATTENTION_O_BIAS, IN_ALL_LAYERS, "blk.%d.attn_output.bias", LAYER("mixer.o_proj.bias"), DIM_VECTOR, DIM_HIDDEN,
     true, .only_if = FIELD_attention_bias},
    WEIGHTS_END,
};

static const expert_rule experts[] = {
    {ODMOE_UP, "blk.%d.ffn_up_exps.weight", NULL, LAYER("mixer.experts.up_proj"),
     LAYER("mixer.experts.%d.up_proj.weight"), DIM_EXPERT_FFN, DIM_EXPERT_HIDDEN, false, false},
    {ODMOE_DOWN, "blk.%d.ffn_down_exps.weight", NULL, LAYER("mixer.experts.down_proj"),
     LAYER("mixer.experts.%d.down_proj.weight"), DIM_EXPERT_HIDDEN, DIM_EXPERT_FFN, false, false},
    {.role = EXPERT_MATRIX_COUNT},
};

static const weight_table weights[] = {
    {NULL, frame}, {&mixer_attention, attention}, {&mixer_mamba2, mamba2_weights_mixer}, {0}};

const arch arch_nemotron_h = {
    .family = "nemotron_h",
    .gguf = "nemotron_h_moe",
    .fields = fields,
    .rope_theta = 1e4,
    .weights = weights,
    .experts = experts,
    .from_gguf = from_gguf,
    .from_hf = from_hf,
};
