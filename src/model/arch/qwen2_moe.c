/* Qwen2-MoE: biases on q, k, v; a shared expert that every token uses, weighted by a sigmoid gate of its own. */
#include "model/arch/arch.h"

static odmoe_status from_gguf(const model_files *f, const char *prefix, model_config *c, odmoe_error *err)
{
    odmoe_status status = arch_gguf_common(f, prefix, c, err);
    if (!status)
        status = arch_gguf_int(f, prefix, "expert_shared_feed_forward_length", MODEL_DIM_MAX, 0, &c->shared_ffn, err);
    if (status || c->shared_ffn)
        return status;
    const tensor_info *t = tensor_index_find(f->tensors, "blk.0.ffn_up_shexp.weight"); /* files without the key */
    if (t && t->dims == 2 && t->shape[0] <= MODEL_DIM_MAX)
        c->shared_ffn = (int)t->shape[0];
    return ODMOE_OK;
}

/* Where no list says it, every second layer slides, from the first on, below max_window_layers. */
static odmoe_status windows(config_object json, model_config *c, odmoe_error *err)
{
    int window;
    int64_t end;
    bool sliding[MODEL_LAYERS_MAX], given;
    odmoe_status status = arch_hf_window(json, &window, err);
    if (!status)
        status = config_int(json, "max_window_layers", false, 0, MODEL_LAYERS_MAX, 28, &end, err);
    if (!status)
        status = arch_hf_layer_types(json, c->layers, window, sliding, &given, err);
    for (int l = 0; l < c->layers && !status; l++)
        c->window[l] = (given ? sliding[l] : l % 2 == 0 && l < end) ? window : 0;
    return status;
}

static odmoe_status from_hf(config_object json, model_config *c, odmoe_error *err)
{
    int64_t shared;
    odmoe_status status = arch_hf_qwen(json, c, err);
    if (!status)
        status = windows(json, c, err);
    if (!status)
        status = config_int(json, "shared_expert_intermediate_size", true, 1, MODEL_DIM_MAX, 0, &shared, err);
    if (!status)
        c->shared_ffn = (int)shared;
    return status;
}

/* The output has no bias, in either format. */
static const weight_rule biases[] = {
    {W_Q_BIAS, IN_ALL_LAYERS, "blk.%d.attn_q.bias", "model.layers.%d.self_attn.q_proj.bias", DIM_VECTOR, DIM_Q, true},
    {W_K_BIAS, IN_ALL_LAYERS, "blk.%d.attn_k.bias", "model.layers.%d.self_attn.k_proj.bias", DIM_VECTOR, DIM_KV, true},
    {W_V_BIAS, IN_ALL_LAYERS, "blk.%d.attn_v.bias", "model.layers.%d.self_attn.v_proj.bias", DIM_VECTOR, DIM_KV, true},
    {.role = W_ROLE_COUNT},
};

static const weight_rule shared[] = {
    {W_SHARED_GATE, IN_MOE_LAYERS, "blk.%d.ffn_gate_shexp.weight", "model.layers.%d.mlp.shared_expert.gate_proj.weight",
     DIM_SHARED_FFN, DIM_HIDDEN, false},
    {W_SHARED_UP, IN_MOE_LAYERS, "blk.%d.ffn_up_shexp.weight", "model.layers.%d.mlp.shared_expert.up_proj.weight",
     DIM_SHARED_FFN, DIM_HIDDEN, false},
    {W_SHARED_DOWN, IN_MOE_LAYERS, "blk.%d.ffn_down_shexp.weight", "model.layers.%d.mlp.shared_expert.down_proj.weight",
     DIM_HIDDEN, DIM_SHARED_FFN, false},
    {W_SHARED_ROUTER, IN_MOE_LAYERS, "blk.%d.ffn_gate_inp_shexp.weight",
     "model.layers.%d.mlp.shared_expert_gate.weight", DIM_ONE, DIM_HIDDEN, false},
    {.role = W_ROLE_COUNT},
};

static const weight_rule *const weights[] = {arch_weights_base, biases, arch_weights_mlp, shared, NULL};
const arch arch_qwen2_moe = {"qwen2_moe", "qwen2moe", from_gguf, from_hf, weights, arch_experts_mlp, "qkv_bias", true};
