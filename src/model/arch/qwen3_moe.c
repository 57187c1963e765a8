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
    int64_t dense, ffn;
    odmoe_status status = arch_hf_common(json, c, err);
    if (!status)
        status = config_int(json, "intermediate_size", false, 1, MODEL_DIM_MAX, 0, &dense, err);
    if (!status)
        status = config_int(json, "moe_intermediate_size", true, 1, MODEL_DIM_MAX, 0, &ffn, err);
    if (!status)
        status = config_bool(json, "norm_topk_prob", false, false, &c->router.renormalise, err);
    if (status)
        return status;
    c->norm_heads = true;
    c->dense_ffn = (int)dense;
    c->expert_ffn = (int)ffn;
    status = arch_hf_sparse_layers(json, c, err);
    return status ? status : arch_hf_windows(json, c, err);
}

static const weight_rule *const weights[] = {arch_weights_base, arch_weights_attention_bias, arch_weights_qk_norm,
                                             arch_weights_mlp, NULL};
const arch arch_qwen3_moe = {"qwen3_moe", "qwen3moe", from_gguf, from_hf, weights, arch_experts_mlp};
