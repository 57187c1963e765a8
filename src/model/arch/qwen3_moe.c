/* Qwen3-MoE: q/k norm per head, head_dim of its own, weights of the chosen sum to 1, no shared expert. */
#include "model/arch/arch.h"

static odmoe_status from_gguf(const model_files *f, const char *prefix, model_config *c, odmoe_error *err)
{
    c->norm_heads = true;
    c->router.renormalise = true;
    return arch_gguf_common(f, prefix, c, err);
}

static odmoe_status from_hf(config_object json, model_config *c, odmoe_error *err)
{
    c->norm_heads = true;
    return arch_hf_qwen(json, c, err);
}

static const weight_rule *const weights[] = {arch_weights_base, arch_weights_attention_bias, arch_weights_qk_norm,
                                             arch_weights_mlp, NULL};
const arch arch_qwen3_moe = {"qwen3_moe", "qwen3moe", from_gguf, from_hf, weights, arch_experts_mlp};
