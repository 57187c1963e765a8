/* OLMoE: q/k norm over all heads at once, weights of the chosen are not renormalised. */
#include "model/arch/arch.h"

static odmoe_status from_hf(config_object json, model_config *c, odmoe_error *err)
{
    double clip;
    odmoe_status status = config_float(json, "clip_qkv", false, 0, 1e30, -1, &clip, err);
    if (status)
        return status;
    if (clip == 0)
        return err_set(err, ODMOE_ERR_UNSUPPORTED,
                       "%s: clip_qkv 0 would clamp q, k and v to nothing; write null, or leave it out, for no clamp",
                       json.file);
    c->clip_qkv = clip > 0 ? (float)clip : 0;
    return ODMOE_OK;
}

static const field_rule fields[] = {
    {FIELD_expert_ffn, "expert_feed_forward_length", "intermediate_size", 0, .hf_required = true},
    {FIELD_renormalise, NULL, "norm_topk_prob", 0},
    {FIELD_attention_bias, NULL, "attention_bias", 0},
    FIELDS_END,
};

const arch arch_olmoe = {
    .family = "olmoe",
    .gguf = "olmoe",
    .fields = fields,
    .rope_theta = 1e4,
    .weights = arch_tables_qk_norm,
    .experts = arch_experts_mlp,
    .from_hf = from_hf,
};
