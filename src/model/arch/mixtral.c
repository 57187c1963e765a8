/* Mixtral: every layer has experts, weights of the chosen sum to 1. In GGUF it is architecture `llama` with experts,
 * whose q and k rows are reordered so that neighbours turn together. */
#include "model/arch/arch.h"

static odmoe_status from_gguf(const model_files *f, const char *prefix, model_config *c, odmoe_error *err)
{
    c->pairing = ROPE_NEIGHBOURS;
    c->router.renormalise = true;
    return arch_gguf_common(f, prefix, c, err);
}

static odmoe_status from_hf(config_object json, model_config *c, odmoe_error *err)
{
    int64_t ffn, window;
    odmoe_status status = arch_hf_common(json, 1e-5, 1e6, c, err);
    if (!status)
        status = config_int(json, "intermediate_size", true, 1, MODEL_DIM_MAX, 0, &ffn, err);
    if (!status)
        status = config_int(json, "sliding_window", false, 1, MODEL_CONTEXT_MAX, 0, &window, err);
    if (status)
        return status;
    c->expert_ffn = (int)ffn;
    c->router.renormalise = true;
    for (int l = 0; l < c->layers; l++)
        c->window[l] = (int)window;
    return ODMOE_OK;
}

/* In GGUF alone: architecture `llama` may have them; Hugging Face's Mixtral has none, and leaves out what a file has.
 */
static const weight_rule biases[] = {
    {W_Q_BIAS, IN_ALL_LAYERS, "blk.%d.attn_q.bias", NULL, DIM_VECTOR, DIM_Q, true},
    {W_K_BIAS, IN_ALL_LAYERS, "blk.%d.attn_k.bias", NULL, DIM_VECTOR, DIM_KV, true},
    {W_V_BIAS, IN_ALL_LAYERS, "blk.%d.attn_v.bias", NULL, DIM_VECTOR, DIM_KV, true},
    {W_O_BIAS, IN_ALL_LAYERS, "blk.%d.attn_output.bias", NULL, DIM_VECTOR, DIM_HIDDEN, true},
    {.role = W_ROLE_COUNT},
};

static const weight_rule router[] = {
    {W_ROUTER, IN_ALL_LAYERS, "blk.%d.ffn_gate_inp.weight", "model.layers.%d.block_sparse_moe.gate.weight", DIM_EXPERTS,
     DIM_HIDDEN, false},
    {.role = W_ROLE_COUNT},
};

static const expert_rule experts[] = {
    {PIECE_GATE, "blk.%d.ffn_gate_exps.weight", "blk.%d.ffn_gate.%d.weight", NULL,
     "model.layers.%d.block_sparse_moe.experts.%d.w1.weight", DIM_EXPERT_FFN, DIM_HIDDEN, false, false},
    {PIECE_UP, "blk.%d.ffn_up_exps.weight", "blk.%d.ffn_up.%d.weight", NULL,
     "model.layers.%d.block_sparse_moe.experts.%d.w3.weight", DIM_EXPERT_FFN, DIM_HIDDEN, false, false},
    {PIECE_GATE_UP, "blk.%d.ffn_gate_up_exps.weight", NULL, NULL, NULL, DIM_EXPERT_FFN_2, DIM_HIDDEN, false, false},
    {PIECE_DOWN, "blk.%d.ffn_down_exps.weight", "blk.%d.ffn_down.%d.weight", NULL,
     "model.layers.%d.block_sparse_moe.experts.%d.w2.weight", DIM_HIDDEN, DIM_EXPERT_FFN, false, false},
    {.role = PIECE_ROLE_COUNT},
};

static const weight_rule *const weights[] = {arch_weights_base, biases, router, NULL};
const arch arch_mixtral = {"mixtral", "llama", from_gguf, from_hf, weights, experts, NULL, false};
