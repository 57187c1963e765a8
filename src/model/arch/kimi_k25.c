/* Kimi K2.5: Kimi K2 as the language model of a model that sees as well. GGUF: deepseek_v2.c. */
#include "model/arch/arch.h"

static const field_rule fields[] = {
    ARCH_FIELDS_LATENT,
    ARCH_FIELDS_DEEPSEEK,
    {FIELD_rms_eps, NULL, "rms_norm_eps", 1e-6},
    FIELDS_END,
};

const arch arch_kimi_k25 = {
    .family = "kimi_k25",
    .fields = fields,
    .rope_theta = 5e4,
    .hf_pairing = ROPE_NEIGHBOURS,
    .weights = arch_tables_deepseek_v3,
    .experts = arch_experts_mlp,
    .ignored = arch_ignored_vision,
    .from_hf = arch_hf_deepseek_v3,
};
