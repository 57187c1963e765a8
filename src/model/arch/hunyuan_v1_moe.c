/* Hunyuan MoE: q/k norm per head after rotation, softmax over the experts renormalised, one shared MLP. */
#include "model/arch/arch.h"
#include "model/mixers/attention.h"

/* transformers reads none of what follows; models that use it need other mathematics. */
static odmoe_status from_hf(config_object json, model_config *c, odmoe_error *err)
{
    static const struct {
        const char *key;
        double value;
    } only[] = {{"use_cla", 0}, {"moe_layer_num_skipped", 0}, {"use_mixed_mlp_moe", 1}, {"norm_topk_prob", 1}};
    odmoe_status status = ODMOE_OK;
    for (size_t i = 0; i < sizeof only / sizeof *only && !status; i++)
        status = arch_hf_only(json, only[i].key, only[i].value, err);
    return status ? status : arch_shared_ffn(c, json.file, err);
}

static odmoe_status from_gguf(const model_files *f, const char *prefix, model_config *c, odmoe_error *err)
{
    arch_gguf_shared(f, c);
    return arch_gguf_router(f, prefix, ODMOE_SCORE_SOFTMAX, c, err);
}

static const field_rule fields[] = {
    {FIELD_expert_ffn, "expert_feed_forward_length", "moe_intermediate_size|intermediate_size", 0, .hf_required = true},
    {FIELD_top_k, "expert_used_count", "moe_topk|num_experts_per_tok", FIELD_REQUIRED},
    {FIELD_shared_experts, "expert_shared_count", "num_shared_expert", 1},
    {FIELD_key_dim, "attention.key_length", "head_dim|attention_head_dim", FIELD_DERIVED},
    {FIELD_qk_norm, NULL, "use_qk_norm", 1},
    {FIELD_norm_heads, NULL, NULL, 1},
    {FIELD_norm_after_rope, NULL, NULL, 1},
    {FIELD_renormalise, NULL, NULL, 1},
    {FIELD_attention_bias, NULL, "attention_bias", 0},
    FIELDS_END,
};

static const weight_rule names[] = {
    {W_ROUTER, IN_ALL_LAYERS, "blk.%d.ffn_gate_inp.weight", "model.layers.%d.mlp.gate.wg.weight", DIM_EXPERTS,
     DIM_HIDDEN, false},
    {W_SHARED_GATE, IN_ALL_LAYERS, "blk.%d.ffn_gate_shexp.weight", "model.layers.%d.mlp.shared_mlp.gate_proj.weight",
     DIM_SHARED_FFN, DIM_HIDDEN, false},
    {W_SHARED_UP, IN_ALL_LAYERS, "blk.%d.ffn_up_shexp.weight", "model.layers.%d.mlp.shared_mlp.up_proj.weight",
     DIM_SHARED_FFN, DIM_HIDDEN, false},
    {W_SHARED_DOWN, IN_ALL_LAYERS, "blk.%d.ffn_down_shexp.weight", "model.layers.%d.mlp.shared_mlp.down_proj.weight",
     DIM_HIDDEN, DIM_SHARED_FFN, false},
    WEIGHTS_END,
};

static const weight_rule qk_norm[] = {
    {ATTENTION_Q_NORM, IN_ALL_LAYERS, "blk.%d.attn_q_norm.weight", "model.layers.%d.self_attn.query_layernorm.weight",
     DIM_VECTOR, DIM_Q_NORM, false, .only_if = FIELD_qk_norm},
    {ATTENTION_K_NORM, IN_ALL_LAYERS, "blk.%d.attn_k_norm.weight", "model.layers.%d.self_attn.key_layernorm.weight",
     DIM_VECTOR, DIM_K_NORM, false, .only_if = FIELD_qk_norm},
    WEIGHTS_END,
};

static const weight_table weights[] = {{NULL, arch_weights_frame},
                                       {&mixer_attention, attention_weights},
                                       {&mixer_attention, attention_qkv_biases},
                                       {&mixer_attention, attention_out_bias},
                                       {&mixer_attention, qk_norm},
                                       {NULL, names},
                                       {0}};

const arch arch_hunyuan_v1_moe = {
    .family = "hunyuan_v1_moe",
    .gguf = "hunyuan-moe",
    .fields = fields,
    .rope_theta = 1e4,
    .ntk_alpha = true,
    .weights = weights,
    .experts = arch_experts_mlp,
    .from_gguf = from_gguf,
    .from_hf = from_hf,
};
