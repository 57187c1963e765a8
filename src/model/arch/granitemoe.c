/* Granite MoE: multipliers for embeddings, residual branches, attention scores and logits; the experts' gate and up in
 * one tensor, gate first; softmax over the chosen; tied embeddings. GGUF's q and k rows are reordered so that neighbours
 * are rotated together. */
#include "model/arch/arch.h"
#include "model/mixers/attention.h"

static const field_rule fields[] = {ARCH_FIELDS_GRANITE, FIELDS_END};

static const weight_table weights[] = {{NULL, arch_weights_frame},
                                       {&mixer_attention, attention_weights},
                                       {&mixer_attention, attention_qkv_biases},
                                       {&mixer_attention, attention_out_bias},
                                       {NULL, arch_weights_granite},
                                       {0}};

const arch arch_granitemoe = {
    .family = "granitemoe",
    .gguf = "granitemoe",
    .fields = fields,
    .rope_theta = 1e4,
    .gguf_pairing = ROPE_NEIGHBOURS,
    .weights = weights,
    .experts = arch_experts_granite,
    .from_gguf = arch_gguf_granite,
};
