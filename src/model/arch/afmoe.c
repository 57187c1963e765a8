/* AFMoE (Trinity): norms before and after attention and FFN, a gate on attention's output, sliding layers, which alone
 * have rotary positions, scaled embeddings, sigmoid scores with a bias for the choice, shared experts. */
#include <math.h>

#include "model/arch/arch.h"
#include "model/mixers/attention.h"

static odmoe_status from_gguf(const model_files *f, const char *prefix, model_config *c, odmoe_error *err)
{
    if (!c->layer[0].window)
        return err_set(
            err, ODMOE_ERR_UNSUPPORTED,
            "%s: %s.attention.sliding_window is 0 or missing: models without sliding layers are not supported", f->path,
            prefix);
    odmoe_status status = arch_gguf_windows(f, prefix, 4, c, err);
    arch_turn_sliding_layers(c);
    c->embedding_scale = sqrtf((float)c->hidden);
    return status ? status : arch_gguf_deepseek(f, prefix, ODMOE_SCORE_SIGMOID, c, err);
}

/* Where no list says it, every n-th layer sees all positions. */
static odmoe_status windows(config_object json, model_config *c, odmoe_error *err)
{
    int window;
    int64_t every;
    bool given;
    odmoe_status status = arch_hf_sliding(json, 1024, c, &window, &given, err);
    if (!status)
        status = config_int(json, "global_attn_every_n_layers", false, 1, MODEL_LAYERS_MAX, 4, &every, err);
    for (int l = 0; l < c->layers && !status && !given; l++)
        c->layer[l].window = (l + 1) % every ? window : 0;
    arch_turn_sliding_layers(c);
    return status;
}

static odmoe_status from_hf(config_object json, model_config *c, odmoe_error *err)
{
    static const char *const only_1[] = {"route_norm", "num_expert_groups", "num_limited_groups", "n_group"};
    bool scaled;
    odmoe_status status = windows(json, c, err);
    for (size_t i = 0; i < sizeof only_1 / sizeof *only_1 && !status; i++)
        status = arch_hf_only(json, only_1[i], 1, err);
    if (!status)
        status = config_bool(json, "mup_enabled", false, false, &scaled, err);
    if (status)
        return status;
    c->embedding_scale = scaled ? sqrtf((float)c->hidden) : 1;
    return arch_hf_deepseek(json, c, err);
}

static const field_rule fields[] = {
    {FIELD_dense_ffn, "feed_forward_length", "intermediate_size", 0},
    {FIELD_expert_ffn, "expert_feed_forward_length", "moe_intermediate_size", 0, .hf_required = true},
    {FIELD_dense_layers, "leading_dense_block_count", "num_dense_layers", 1},
    {FIELD_shared_experts, "expert_shared_count", "num_shared_experts", 2},
    {FIELD_renormalise, "expert_weights_norm", NULL, 1},
    {FIELD_scale, "expert_weights_scale", "route_scale", 1},
    {FIELD_norm_heads, NULL, NULL, 1},
    {FIELD_attention_bias, NULL, "attention_bias", 0},
    FIELDS_END,
};

static const weight_rule frame[] = {
    {W_MIXER_NORM, IN_ALL_LAYERS, "blk.%d.attn_norm.weight", "model.layers.%d.input_layernorm.weight", DIM_VECTOR,
     DIM_HIDDEN, false},
    {W_MIXER_POST_NORM, IN_ALL_LAYERS, "blk.%d.post_attention_norm.weight",
     "model.layers.%d.post_attention_layernorm.weight", DIM_VECTOR, DIM_HIDDEN, false},
    {W_FFN_NORM, IN_ALL_LAYERS, "blk.%d.ffn_norm.weight", "model.layers.%d.pre_mlp_layernorm.weight", DIM_VECTOR,
     DIM_HIDDEN, false},
    {W_FFN_POST_NORM, IN_ALL_LAYERS, "blk.%d.post_ffw_norm.weight", "model.layers.%d.post_mlp_layernorm.weight",
     DIM_VECTOR, DIM_HIDDEN, false},
    {W_ROUTER, IN_MOE_LAYERS, "blk.%d.ffn_gate_inp.weight", "model.layers.%d.mlp.router.gate.weight", DIM_EXPERTS,
     DIM_HIDDEN, false},
    {W_SELECTION_BIAS, IN_MOE_LAYERS, "blk.%d.exp_probs_b.bias|blk.%d.exp_probs_b", "model.layers.%d.mlp.expert_bias",
     DIM_VECTOR, DIM_EXPERTS, false},
    WEIGHTS_END,
};

static const weight_table weights[] = {{NULL, arch_weights_model},
                                       {NULL, frame},
                                       {NULL, arch_weights_dense},
                                       {&mixer_attention, attention_weights},
                                       {&mixer_attention, attention_qkv_biases},
                                       {&mixer_attention, attention_out_bias},
                                       {&mixer_attention, attention_qk_norm},
                                       {&mixer_attention, attention_gate},
                                       {NULL, arch_weights_shared},
                                       {0}};

const arch arch_afmoe = {
    .family = "afmoe",
    .gguf = "afmoe",
    .fields = fields,
    .rope_theta = 1e4,
    .weights = weights,
    .experts = arch_experts_mlp,
    .from_gguf = from_gguf,
    .from_hf = from_hf,
};
