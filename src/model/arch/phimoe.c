/* Phi-3.5-MoE: norms that subtract the mean (LayerNorm), biases of norms, attention and output, a sparse mixer that chooses two
 * experts, LongRoPE. llama.cpp computes RMS norms and a softmax instead; odmoe follows the published code. */
#include "model/arch/arch.h"
#include "model/mixers/attention.h"

#define JITTER 0.01 /* of training: the mixer's band is twice as wide */

static odmoe_status finish(const char *file, model_config *c, double jitter, odmoe_error *err)
{
    c->router.score = ODMOE_SCORE_SPARSE_MIXER;
    c->router.band = (float)(2 * jitter);
    for (int l = 0; l < c->layers; l++) /* published files have a window as long as the context */
        c->layer[l].window = c->layer[l].window < c->context ? c->layer[l].window : 0;
    if (c->router.top_k != 2)
        return err_set(err, ODMOE_ERR_UNSUPPORTED, "%s: %d experts of a token: the family's sparse mixer chooses 2",
                       file, c->router.top_k);
    return ODMOE_OK;
}

/* short_mscale and long_mscale of the one published model with long contexts. GGUF has no keys for them; attn_factor is
 * what the converter makes of the two contexts, and is another number. */
#define PUBLISHED_MSCALE 1.243163121016122

static odmoe_status from_gguf(const model_files *f, const char *prefix, model_config *c, odmoe_error *err)
{
    rope_config *r = &c->ropes[0].positions;
    if (r->scaling == ROPE_LONG)
        r->attention_factor = r->long_attention = PUBLISHED_MSCALE;
    c->output_bias = tensor_index_find(f->tensors, "output.bias") != NULL;
    return finish(f->path, c, JITTER, err);
}

static odmoe_status from_hf(config_object json, model_config *c, odmoe_error *err)
{
    int64_t window;
    double jitter;
    odmoe_status status = config_int(json, "sliding_window", false, 1, MODEL_CONTEXT_MAX, 0, &window, err);
    if (!status)
        status = config_float(json, "router_jitter_noise", false, 0, 1, JITTER, &jitter, err);
    for (int l = 0; l < c->layers && !status; l++)
        c->layer[l].window = (int)window;
    return status ? status : finish(json.file, c, jitter, err);
}

static const field_rule fields[] = {
    {FIELD_expert_ffn, "expert_feed_forward_length", "intermediate_size", 0, .hf_required = true},
    {FIELD_layer_norm, NULL, NULL, 1},
    {FIELD_attention_bias, NULL, "attention_bias", 0},
    {FIELD_output_bias, NULL, "lm_head_bias", 0},
    FIELDS_END,
};

static const weight_rule names[] = {
    {W_OUTPUT_NORM_BIAS, IN_MODEL, "output_norm.bias", "model.norm.bias", DIM_VECTOR, DIM_HIDDEN, false},
    {W_OUTPUT_BIAS, IN_MODEL, "output.bias", "lm_head.bias", DIM_VECTOR, DIM_VOCAB, false,
     .only_if = FIELD_output_bias},
    {W_ROPE_SHORT_FACTORS, IN_MODEL, "rope_factors_short.weight", NULL, DIM_VECTOR, DIM_HALF_ROPE, true},
    {W_ROPE_LONG_FACTORS, IN_MODEL, "rope_factors_long.weight", NULL, DIM_VECTOR, DIM_HALF_ROPE, true},
    {W_MIXER_NORM_BIAS, IN_ALL_LAYERS, "blk.%d.attn_norm.bias", "model.layers.%d.input_layernorm.bias", DIM_VECTOR,
     DIM_HIDDEN, false},
    {W_FFN_NORM_BIAS, IN_ALL_LAYERS, "blk.%d.ffn_norm.bias", "model.layers.%d.post_attention_layernorm.bias",
     DIM_VECTOR, DIM_HIDDEN, false},
    {W_ROUTER, IN_ALL_LAYERS, "blk.%d.ffn_gate_inp.weight",
     "model.layers.%d.block_sparse_moe.gate.weight|model.layers.%d.mlp.router.weight", DIM_EXPERTS, DIM_HIDDEN, false},
    WEIGHTS_END,
};

static const weight_table weights[] = {{NULL, arch_weights_frame},
                                       {NULL, names},
                                       {&mixer_attention, attention_weights},
                                       {&mixer_attention, attention_qkv_biases},
                                       {&mixer_attention, attention_out_bias},
                                       {0}};

const arch arch_phimoe = {
    .family = "phimoe",
    .gguf = "phimoe",
    .fields = fields,
    .rope_theta = 1e6,
    .weights = weights,
    .experts = arch_experts_block_sparse,
    .from_gguf = from_gguf,
    .from_hf = from_hf,
};
