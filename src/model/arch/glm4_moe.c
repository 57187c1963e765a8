/* GLM-4 MoE (GLM-4.5, 4.6, 4.7, Air): biases on q, k, v, norms of q and k in some models, half of a head is rotated, the
 * first layers are dense, DeepSeek-V3's router, a shared expert; prediction layers are ignored. */
#include "model/arch/arch.h"
#include "model/mixers/attention.h"

static odmoe_status from_gguf(const model_files *f, const char *prefix, model_config *c, odmoe_error *err)
{
    c->qk_norm = arch_gguf_has(f, c, "blk.%d.attn_q_norm.weight") != NULL;
    return arch_gguf_deepseek(f, prefix, ODMOE_SCORE_SIGMOID, c, err);
}

static odmoe_status from_hf(config_object json, model_config *c, odmoe_error *err)
{
    return arch_hf_deepseek(json, c, err);
}

static const field_rule fields[] = {
    ARCH_FIELDS_DEEPSEEK,
    {FIELD_qk_norm, NULL, "use_qk_norm", 0},
    {FIELD_norm_heads, NULL, NULL, 1},
    {FIELD_attention_bias, NULL, "attention_bias", 0},
    FIELDS_END,
};

static const weight_table weights[] = {{NULL, arch_weights_frame_post},
                                       {&mixer_attention, attention_weights},
                                       {&mixer_attention, attention_qkv_biases},
                                       {&mixer_attention, attention_qk_norm},
                                       {NULL, arch_weights_mlp},
                                       {NULL, arch_weights_selection_bias},
                                       {NULL, arch_weights_shared},
                                       {0}};

const arch arch_glm4_moe = {
    .family = "glm4_moe",
    .gguf = "glm4moe",
    .fields = fields,
    .rope_theta = 1e4,
    .rotary_part = 0.5,
    .weights = weights,
    .experts = arch_experts_mlp,
    .from_gguf = from_gguf,
    .from_hf = from_hf,
};
