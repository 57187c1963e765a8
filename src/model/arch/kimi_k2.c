/* Kimi K2: DeepSeek-V3 with one group of experts. GGUF: deepseek_v2.c. */
#include "model/arch/arch.h"

static const field_rule fields[] = {
    ARCH_FIELDS_LATENT,
    ARCH_FIELDS_DEEPSEEK,
    {FIELD_rms_eps, NULL, "rms_norm_eps", 1e-6},
    FIELDS_END,
};

/* Kimi-K2.5 sees as well. */
static const char *const ignored[] = {"vision_tower.*", "mm_projector.*", NULL};

const arch arch_kimi_k2 = {
    .family = "kimi_k2",
    .fields = fields,
    .rope_theta = 5e4,
    .hf_pairing = ROPE_NEIGHBOURS,
    .weights = arch_tables_deepseek_v3,
    .experts = arch_experts_mlp,
    .ignored = ignored,
    .from_hf = arch_hf_deepseek_v3,
};
