/* Mixtral: every layer has experts, weights of the chosen sum to 1. In GGUF it is architecture `llama` with experts,
 * whose q and k rows are reordered so that neighbours turn together. */
#include "model/arch/arch.h"
#include "model/mixers/attention.h"

static odmoe_status from_hf(config_object json, model_config *c, odmoe_error *err)
{
    int64_t window;
    odmoe_status status = config_int(json, "sliding_window", false, 1, MODEL_CONTEXT_MAX, 0, &window, err);
    for (int l = 0; l < c->layers && !status; l++)
        c->layer[l].window = (int)window;
    return status;
}

static const field_rule fields[] = {
    {FIELD_expert_ffn, "expert_feed_forward_length", "intermediate_size", 0, .hf_required = true},
    {FIELD_renormalise, NULL, NULL, 1},
    FIELDS_END,
};

/* In GGUF alone: architecture `llama` may have them; Hugging Face's Mixtral has none, and leaves out what a file has. */
static const weight_rule biases[] = {
    {ATTENTION_Q_BIAS, IN_ALL_LAYERS, "blk.%d.attn_q.bias", NULL, DIM_VECTOR, DIM_Q, true},
    {ATTENTION_K_BIAS, IN_ALL_LAYERS, "blk.%d.attn_k.bias", NULL, DIM_VECTOR, DIM_K, true},
    {ATTENTION_V_BIAS, IN_ALL_LAYERS, "blk.%d.attn_v.bias", NULL, DIM_VECTOR, DIM_V, true},
    {ATTENTION_O_BIAS, IN_ALL_LAYERS, "blk.%d.attn_output.bias", NULL, DIM_VECTOR, DIM_HIDDEN, true},
    WEIGHTS_END,
};

static const weight_rule router[] = {
    {W_ROUTER, IN_ALL_LAYERS, "blk.%d.ffn_gate_inp.weight",
     "model.layers.%d.block_sparse_moe.gate.weight|model.layers.%d.mlp.gate.weight", DIM_EXPERTS, DIM_HIDDEN, false},
    WEIGHTS_END,
};

/* transformers 5 saves the experts of a layer merged, under `mlp.experts.`. */
static const expert_rule experts[] = {
    {ODMOE_GATE, "blk.%d.ffn_gate_exps.weight", "blk.%d.ffn_gate.%d.weight", NULL,
     "model.layers.%d.block_sparse_moe.experts.%d.w1.weight", DIM_EXPERT_FFN, DIM_HIDDEN, false, false},
    {ODMOE_UP, "blk.%d.ffn_up_exps.weight", "blk.%d.ffn_up.%d.weight", NULL,
     "model.layers.%d.block_sparse_moe.experts.%d.w3.weight", DIM_EXPERT_FFN, DIM_HIDDEN, false, false},
    {ODMOE_GATE_UP, "blk.%d.ffn_gate_up_exps.weight", NULL, "model.layers.%d.mlp.experts.gate_up_proj", NULL,
     DIM_EXPERT_FFN_2, DIM_HIDDEN, false, false},
    {ODMOE_DOWN, "blk.%d.ffn_down_exps.weight", "blk.%d.ffn_down.%d.weight", "model.layers.%d.mlp.experts.down_proj",
     "model.layers.%d.block_sparse_moe.experts.%d.w2.weight", DIM_HIDDEN, DIM_EXPERT_FFN, false, false},
    {.role = EXPERT_MATRIX_COUNT},
};

static const weight_table weights[] = {
    {NULL, arch_weights_frame}, {&mixer_attention, attention_weights}, {&mixer_attention, biases}, {NULL, router}, {0}};

const arch arch_mixtral = {
    .family = "mixtral",
    .gguf = "llama",
    .fields = fields,
    .rope_theta = 1e6,
    .gguf_pairing = ROPE_NEIGHBOURS,
    .weights = weights,
    .experts = experts,
    .from_hf = from_hf,
};
