/* OLMoE: q/k norm over all heads at once, weights of the chosen are not renormalised. */
#include "model/arch/arch.h"

static odmoe_status from_gguf(const model_files *f, const char *prefix, model_config *c, odmoe_error *err)
{
    return arch_gguf_common(f, prefix, c, err);
}

static odmoe_status from_hf(config_object json, model_config *c, odmoe_error *err)
{
    int64_t ffn;
    double clip;
    odmoe_status status = arch_hf_common(json, 1e-5, 1e4, c, err);
    if (!status)
        status = config_int(json, "intermediate_size", true, 1, MODEL_DIM_MAX, 0, &ffn, err);
    if (!status)
        status = config_float(json, "clip_qkv", false, 0, 1e30, -1, &clip, err);
    if (!status)
        status = config_bool(json, "norm_topk_prob", false, false, &c->router.renormalise, err);
    if (status)
        return status;
    if (clip == 0)
        return err_set(err, ODMOE_ERR_UNSUPPORTED,
                       "%s: clip_qkv 0 would clamp q, k and v to nothing; write null, or leave it out, for no clamp",
                       json.file);
    c->expert_ffn = (int)ffn;
    c->clip_qkv = clip > 0 ? (float)clip : 0;
    return ODMOE_OK;
}

static const weight_rule *const weights[] = {arch_weights_base, arch_weights_attention_bias, arch_weights_qk_norm,
                                             arch_weights_mlp, NULL};
const arch arch_olmoe = {"olmoe", "olmoe", from_gguf, from_hf, weights, arch_experts_mlp, "attention_bias", false};
