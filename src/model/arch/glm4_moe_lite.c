/* GLM-4.7-Flash: DeepSeek-V3 with one group of experts; only the first layer is dense where no key says it. GGUF:
 * deepseek_v2.c. */
#include "model/arch/arch.h"

static const field_rule fields[] = {
    ARCH_FIELDS_LATENT,   {FIELD_dense_layers, NULL, "first_k_dense_replace", 1},
    ARCH_FIELDS_DEEPSEEK, {FIELD_rms_eps, NULL, "rms_norm_eps", 1e-5},
    FIELDS_END,
};

const arch arch_glm4_moe_lite = {
    .family = "glm4_moe_lite",
    .fields = fields,
    .rope_theta = 1e4,
    .hf_pairing = ROPE_NEIGHBOURS,
    .weights = arch_tables_deepseek_v3,
    .experts = arch_experts_mlp,
    .from_hf = arch_hf_deepseek_v3,
};
