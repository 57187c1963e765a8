/* gpt-oss: biases everywhere (attention, router, experts), attention sinks, layers that slide and layers that see all in
 * turn, clamped SwiGLU, softmax over the chosen experts. */
#include <string.h>

#include "model/arch/arch.h"
#include "model/mixers/attention.h"

/* The activation is fixed: no key says its alpha and offset, and GGUF has none for the limit. */
static void set_activation(model_config *c)
{
    c->glu.kind = ODMOE_SWIGLU_CLAMPED;
    c->glu.alpha = 1.702f;
    c->glu.offset = 1;
    c->glu.limit = c->glu.limit > 0 ? c->glu.limit : 7;
}

/* Without a list every second layer slides, from the first on. */
static void slide_in_turn(model_config *c, int window)
{
    for (int l = 0; l < c->layers; l++)
        c->layer[l].window = l % 2 == 0 ? window : 0;
}

static odmoe_status from_gguf(const model_files *f, const char *prefix, model_config *c, odmoe_error *err)
{
    set_activation(c);
    odmoe_status status = arch_gguf_windows(f, prefix, 2, c, err);
    if (!status && c->ropes[0].positions.scaling == ROPE_YARN)
        c->ropes[0].positions.truncate = false; /* as published; GGUF has no key for it */
    return status;
}

static odmoe_status from_hf(config_object json, model_config *c, odmoe_error *err)
{
    int window;
    bool given;
    set_activation(c);
    odmoe_status status = arch_hf_sliding(json, 128, c, &window, &given, err);
    if (!status && !given)
        slide_in_turn(c, window);
    return status;
}

static const field_rule fields[] = {
    {FIELD_expert_ffn, "expert_feed_forward_length", "intermediate_size", 0, .hf_required = true},
    {FIELD_top_k, "expert_used_count", "num_experts_per_tok|experts_per_token", FIELD_REQUIRED},
    {FIELD_renormalise, NULL, NULL, 1},
    {FIELD_attention_bias, NULL, "attention_bias", 1},
    FIELDS_END,
};

static const weight_rule router[] = {
    {W_ROUTER, IN_ALL_LAYERS, "blk.%d.ffn_gate_inp.weight", "model.layers.%d.mlp.router.weight", DIM_EXPERTS,
     DIM_HIDDEN, false},
    {W_ROUTER_BIAS, IN_ALL_LAYERS, "blk.%d.ffn_gate_inp.bias", "model.layers.%d.mlp.router.bias", DIM_VECTOR,
     DIM_EXPERTS, false},
    WEIGHTS_END,
};

static const expert_rule experts[] = {
    {ODMOE_GATE, "blk.%d.ffn_gate_exps.weight", NULL, NULL, NULL, DIM_EXPERT_FFN, DIM_HIDDEN},
    {ODMOE_UP, "blk.%d.ffn_up_exps.weight", NULL, NULL, NULL, DIM_EXPERT_FFN, DIM_HIDDEN},
    {ODMOE_GATE_UP, NULL, NULL, "model.layers.%d.mlp.experts.gate_up_proj", NULL, DIM_HIDDEN, DIM_EXPERT_FFN_2,
     .in_out = true, .interleaved = true},
    {ODMOE_GATE_UP, NULL, NULL, "model.layers.%d.mlp.experts.gate_up_proj_blocks", NULL, DIM_EXPERT_FFN_2, DIM_HIDDEN,
     .interleaved = true}, /* MXFP4: the same rows, the other way round */
    {ODMOE_DOWN, "blk.%d.ffn_down_exps.weight", NULL, NULL, NULL, DIM_HIDDEN, DIM_EXPERT_FFN},
    {ODMOE_DOWN, NULL, NULL, "model.layers.%d.mlp.experts.down_proj", NULL, DIM_EXPERT_FFN, DIM_HIDDEN, .in_out = true},
    {ODMOE_DOWN, NULL, NULL, "model.layers.%d.mlp.experts.down_proj_blocks", NULL, DIM_HIDDEN, DIM_EXPERT_FFN},
    {ODMOE_GATE, "blk.%d.ffn_gate_exps.bias", NULL, NULL, NULL, DIM_EXPERT_FFN, DIM_ONE, .part = PART_BIAS},
    {ODMOE_UP, "blk.%d.ffn_up_exps.bias", NULL, NULL, NULL, DIM_EXPERT_FFN, DIM_ONE, .part = PART_BIAS},
    {ODMOE_GATE_UP, NULL, NULL, "model.layers.%d.mlp.experts.gate_up_proj_bias", NULL, DIM_EXPERT_FFN_2, DIM_ONE,
     .interleaved = true, .part = PART_BIAS},
    {ODMOE_DOWN, "blk.%d.ffn_down_exps.bias", NULL, "model.layers.%d.mlp.experts.down_proj_bias", NULL, DIM_HIDDEN,
     DIM_ONE, .part = PART_BIAS},
    {.role = EXPERT_MATRIX_COUNT},
};

static const weight_table weights[] = {{NULL, arch_weights_frame_post},
                                       {NULL, router},
                                       {&mixer_attention, attention_weights},
                                       {&mixer_attention, attention_qkv_biases},
                                       {&mixer_attention, attention_out_bias},
                                       {&mixer_attention, attention_sinks},
                                       {0}};

const arch arch_gpt_oss = {
    .family = "gpt_oss",
    .gguf = "gpt-oss",
    .fields = fields,
    .rope_theta = 150000,
    .weights = weights,
    .experts = experts,
    .from_gguf = from_gguf,
    .from_hf = from_hf,
};
