/* Mixtral: every layer has experts, weights of the chosen sum to 1. In GGUF it is architecture `llama` with experts,
 * whose q and k rows are reordered so that neighbours are rotated together. */
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

static const weight_table weights[] = {{NULL, arch_weights_frame},
                                       {&mixer_attention, attention_weights},
                                       {&mixer_attention, biases},
                                       {NULL, arch_weights_block_sparse},
                                       {0}};

const arch arch_mixtral = {
    .family = "mixtral",
    .gguf = "llama",
    .fields = fields,
    .rope_theta = 1e6,
    .gguf_pairing = ROPE_NEIGHBOURS,
    .weights = weights,
    .experts = arch_experts_block_sparse,
    .from_hf = from_hf,
};
