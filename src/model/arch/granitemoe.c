/* Granite MoE: multipliers for embeddings, residual branches, attention scores and logits; the experts' gate and up in
 * one tensor, gate first; softmax over the chosen; tied embeddings. GGUF's q and k rows are reordered so that neighbours
 * turn together. */
#include "model/arch/arch.h"
#include "model/mixers/attention.h"

/* GGUF writes 0 for a multiplier that is not used. */
static odmoe_status from_gguf(const model_files *f, const char *prefix, model_config *c, odmoe_error *err)
{
    c->embedding_scale = c->embedding_scale ? c->embedding_scale : 1;
    c->residual_scale = c->residual_scale ? c->residual_scale : 1;
    c->logit_scale = c->logit_scale ? c->logit_scale : 1;
    return ODMOE_OK;
}

static const field_rule fields[] = {
    {FIELD_rms_eps, "attention.layer_norm_rms_epsilon", "rms_norm_eps", 1e-6},
    {FIELD_expert_ffn, "expert_feed_forward_length", "intermediate_size", 0, .hf_required = true},
    {FIELD_renormalise, NULL, NULL, 1},
    {FIELD_attention_bias, NULL, "attention_bias", 0},
    {FIELD_embedding_scale, "embedding_scale", "embedding_multiplier", 1},
    {FIELD_residual_scale, "residual_scale", "residual_multiplier", 1},
    {FIELD_logit_scale, "logit_scale", "logits_scaling", 1},
    {FIELD_attention_scale, "attention.scale", "attention_multiplier", 0, .hf_required = true},
    FIELDS_END,
};

static const weight_rule router[] = {
    {W_ROUTER, IN_ALL_LAYERS, "blk.%d.ffn_gate_inp.weight", "model.layers.%d.block_sparse_moe.router.layer.weight",
     DIM_EXPERTS, DIM_HIDDEN, false},
    WEIGHTS_END,
};

static const expert_rule experts[] = {
    {ODMOE_GATE, "blk.%d.ffn_gate_exps.weight", NULL, NULL, NULL, DIM_EXPERT_FFN, DIM_HIDDEN, false, false},
    {ODMOE_UP, "blk.%d.ffn_up_exps.weight", NULL, NULL, NULL, DIM_EXPERT_FFN, DIM_HIDDEN, false, false},
    {ODMOE_GATE_UP, "blk.%d.ffn_gate_up_exps.weight", NULL, "model.layers.%d.block_sparse_moe.input_linear.weight",
     NULL, DIM_EXPERT_FFN_2, DIM_HIDDEN, false, false},
    {ODMOE_DOWN, "blk.%d.ffn_down_exps.weight", NULL, "model.layers.%d.block_sparse_moe.output_linear.weight", NULL,
     DIM_HIDDEN, DIM_EXPERT_FFN, false, false},
    {.role = EXPERT_MATRIX_COUNT},
};

static const weight_table weights[] = {{NULL, arch_weights_frame},
                                       {&mixer_attention, attention_weights},
                                       {&mixer_attention, attention_qkv_biases},
                                       {&mixer_attention, attention_out_bias},
                                       {NULL, router},
                                       {0}};

const arch arch_granitemoe = {
    .family = "granitemoe",
    .gguf = "granitemoe",
    .fields = fields,
    .rope_theta = 1e4,
    .gguf_pairing = ROPE_NEIGHBOURS,
    .weights = weights,
    .experts = experts,
    .from_gguf = from_gguf,
};
