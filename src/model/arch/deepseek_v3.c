/* DeepSeek-V3, R1 and V3.1: latent attention, sigmoid scores with a bias for the choice, the best groups of experts by
 * their best two, the first layers dense, a shared expert; prediction layers are ignored. GGUF: deepseek_v2.c. */
#include "model/arch/arch.h"

static const field_rule fields[] = {
    ARCH_FIELDS_LATENT,   {FIELD_groups, NULL, "n_group", 8},          {FIELD_groups_used, NULL, "topk_group", 4},
    ARCH_FIELDS_DEEPSEEK, {FIELD_rms_eps, NULL, "rms_norm_eps", 1e-6}, FIELDS_END,
};

const arch arch_deepseek_v3 = {
    .family = "deepseek_v3",
    .fields = fields,
    .rope_theta = 1e4,
    .hf_pairing = ROPE_NEIGHBOURS,
    .weights = arch_tables_deepseek_v3,
    .experts = arch_experts_mlp,
    .ignored = arch_ignored_vision,
    .from_hf = arch_hf_deepseek_v3,
};
