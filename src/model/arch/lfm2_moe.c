/* LFM2-MoE: short convolutions in most layers, attention with q/k norm per head in the others; the first layers dense;
 * sigmoid scores with a bias for the choice; tied embeddings. */
#include "model/arch/arch.h"
#include "model/mixers/attention.h"
#include "model/mixers/short_conv.h"

static odmoe_status from_gguf(const model_files *f, const char *prefix, model_config *c, odmoe_error *err)
{
    arch_gguf_other_mixers(c, &mixer_short_conv);
    arch_dense_first(c);
    c->router.sum_add = 1e-6f;
    return arch_gguf_router(f, prefix, ODMOE_SCORE_SIGMOID, c, err);
}

static odmoe_status from_hf(config_object json, model_config *c, odmoe_error *err)
{
    static const layer_word words[] = {
        {"conv", &mixer_short_conv, FFN_EXPERTS}, {"full_attention", &mixer_attention, FFN_EXPERTS}, {0}};
    odmoe_status status = arch_hf_layer_words(json, "layer_types", words, c, err);
    if (!status)
        status = arch_hf_only(json, "conv_bias", 0, err);
    if (!status)
        status = arch_hf_only(json, "use_expert_bias", 1, err);
    arch_dense_first(c);
    c->router.score = ODMOE_SCORE_SIGMOID;
    c->router.sum_add = 1e-6f;
    return status;
}

static const field_rule fields[] = {
    {FIELD_rms_eps, "attention.layer_norm_rms_epsilon", "norm_eps", 1e-5},
    {FIELD_tied, NULL, "tie_word_embeddings|tie_embedding", 1},
    {FIELD_conv_width, "shortconv.l_cache", "conv_L_cache", 0, .hf_required = true},
    {FIELD_dense_ffn, "feed_forward_length", "intermediate_size", 0},
    {FIELD_expert_ffn, "expert_feed_forward_length", "moe_intermediate_size", 0, .hf_required = true},
    {FIELD_dense_layers, "leading_dense_block_count", "num_dense_layers", 0, .hf_required = true},
    {FIELD_renormalise, NULL, "norm_topk_prob", 1},
    {FIELD_scale, "expert_weights_scale", "routed_scaling_factor", 1},
    {FIELD_norm_heads, NULL, NULL, 1},
    FIELDS_END,
};

static const weight_rule frame[] = {
    {W_EMBED, IN_MODEL, "token_embd.weight", "model.embed_tokens.weight", DIM_VOCAB, DIM_HIDDEN, false},
    {W_OUTPUT_NORM, IN_MODEL, "token_embd_norm.weight|output_norm.weight", "model.embedding_norm.weight", DIM_VECTOR,
     DIM_HIDDEN, false},
    {W_OUTPUT, IN_MODEL, "output.weight", "lm_head.weight", DIM_VOCAB, DIM_HIDDEN, true},
    {W_MIXER_NORM, IN_ALL_LAYERS, "blk.%d.attn_norm.weight", "model.layers.%d.operator_norm.weight", DIM_VECTOR,
     DIM_HIDDEN, false},
    {W_FFN_NORM, IN_ALL_LAYERS, "blk.%d.ffn_norm.weight", "model.layers.%d.ffn_norm.weight", DIM_VECTOR, DIM_HIDDEN,
     false},
    {W_ROUTER, IN_MOE_LAYERS, "blk.%d.ffn_gate_inp.weight", "model.layers.%d.feed_forward.gate.weight", DIM_EXPERTS,
     DIM_HIDDEN, false},
    {W_SELECTION_BIAS, IN_MOE_LAYERS, "blk.%d.exp_probs_b.bias|blk.%d.exp_probs_b",
     "model.layers.%d.feed_forward.expert_bias", DIM_VECTOR, DIM_EXPERTS, false},
    {W_DENSE_GATE, IN_DENSE_LAYERS, "blk.%d.ffn_gate.weight", "model.layers.%d.feed_forward.w1.weight", DIM_DENSE_FFN,
     DIM_HIDDEN, false},
    {W_DENSE_UP, IN_DENSE_LAYERS, "blk.%d.ffn_up.weight", "model.layers.%d.feed_forward.w3.weight", DIM_DENSE_FFN,
     DIM_HIDDEN, false},
    {W_DENSE_DOWN, IN_DENSE_LAYERS, "blk.%d.ffn_down.weight", "model.layers.%d.feed_forward.w2.weight", DIM_HIDDEN,
     DIM_DENSE_FFN, false},
    WEIGHTS_END,
};

static const weight_rule attention[] = {
    {ATTENTION_Q, IN_ALL_LAYERS, "blk.%d.attn_q.weight", "model.layers.%d.self_attn.q_proj.weight", DIM_Q, DIM_HIDDEN,
     false, "blk.%d.attn_qkv.weight"},
    {ATTENTION_K, IN_ALL_LAYERS, "blk.%d.attn_k.weight", "model.layers.%d.self_attn.k_proj.weight", DIM_K, DIM_HIDDEN,
     false, "blk.%d.attn_qkv.weight"},
    {ATTENTION_V, IN_ALL_LAYERS, "blk.%d.attn_v.weight", "model.layers.%d.self_attn.v_proj.weight", DIM_V, DIM_HIDDEN,
     false, "blk.%d.attn_qkv.weight"},
    {ATTENTION_O, IN_ALL_LAYERS, "blk.%d.attn_output.weight", "model.layers.%d.self_attn.out_proj.weight", DIM_HIDDEN,
     DIM_ATTENTION_OUT, false},
    {ATTENTION_Q_NORM, IN_ALL_LAYERS, "blk.%d.attn_q_norm.weight", "model.layers.%d.self_attn.q_layernorm.weight",
     DIM_VECTOR, DIM_Q_NORM, false},
    {ATTENTION_K_NORM, IN_ALL_LAYERS, "blk.%d.attn_k_norm.weight", "model.layers.%d.self_attn.k_layernorm.weight",
     DIM_VECTOR, DIM_K_NORM, false},
    WEIGHTS_END,
};

static const expert_rule experts[] = {
    {ODMOE_GATE, "blk.%d.ffn_gate_exps.weight", NULL, NULL, "model.layers.%d.feed_forward.experts.%d.w1.weight",
     DIM_EXPERT_FFN, DIM_HIDDEN, false, false},
    {ODMOE_UP, "blk.%d.ffn_up_exps.weight", NULL, NULL, "model.layers.%d.feed_forward.experts.%d.w3.weight",
     DIM_EXPERT_FFN, DIM_HIDDEN, false, false},
    {ODMOE_GATE_UP, "blk.%d.ffn_gate_up_exps.weight", NULL, "model.layers.%d.feed_forward.experts.gate_up_proj", NULL,
     DIM_EXPERT_FFN_2, DIM_HIDDEN, false, false},
    {ODMOE_DOWN, "blk.%d.ffn_down_exps.weight", NULL, "model.layers.%d.feed_forward.experts.down_proj",
     "model.layers.%d.feed_forward.experts.%d.w2.weight", DIM_HIDDEN, DIM_EXPERT_FFN, false, false},
    {.role = EXPERT_MATRIX_COUNT},
};

static const weight_table weights[] = {
    {NULL, frame}, {&mixer_attention, attention}, {&mixer_short_conv, short_conv_weights}, {0}};

const arch arch_lfm2_moe = {
    .family = "lfm2_moe",
    .gguf = "lfm2moe",
    .fields = fields,
    .rope_theta = 1e6,
    .weights = weights,
    .experts = experts,
    .from_gguf = from_gguf,
    .from_hf = from_hf,
};
