/* MiniMax-M2: q/k norm over all heads at once, a part of each head is rotated, sigmoid scores with a bias for the choice;
 * no shared expert. */
#include <string.h>

#include "model/arch/arch.h"
#include "model/mixers/attention.h"

static odmoe_status from_gguf(const model_files *f, const char *prefix, model_config *c, odmoe_error *err)
{
    return arch_gguf_router(f, prefix, ODMOE_SCORE_SIGMOID, c, err);
}

/* Relatives of the family have layers of linear attention: type 0. */
static odmoe_status only_full_attention(config_object json, const model_config *c, odmoe_error *err)
{
    const json_t *types = json_object_get(json.object, "attn_type_list");
    if (!types || json_is_null(types))
        return ODMOE_OK;
    if (!json_is_array(types) || json_array_size(types) != (size_t)c->layers)
        return err_set(err, ODMOE_ERR_FORMAT, "%s: attn_type_list must be a list with one number for each of %d layers",
                       json.file, c->layers);
    for (size_t i = 0; i < json_array_size(types); i++)
        if (json_integer_value(json_array_get(types, i)) != 1)
            return err_set(err, ODMOE_ERR_UNSUPPORTED,
                           "%s: attn_type_list: layer %zu is not of type 1 (full attention), the only one that is "
                           "supported",
                           json.file, i);
    return ODMOE_OK;
}

static odmoe_status from_hf(config_object json, model_config *c, odmoe_error *err)
{
    const char *norm;
    odmoe_status status = arch_hf_router(json, ODMOE_SCORE_SIGMOID, c, err);
    if (!status)
        status = arch_hf_only(json, "use_routing_bias", 1, err);
    if (!status)
        status = arch_hf_only(json, "shared_intermediate_size", 0, err);
    if (!status)
        status = config_text(json, "qk_norm_type", false, "per_layer", &norm, err);
    if (!status && strcmp(norm, "per_layer"))
        status = err_set(err, ODMOE_ERR_UNSUPPORTED, "%s: qk_norm_type '%.32s' is not supported (per_layer is)",
                         json.file, norm);
    return status ? status : only_full_attention(json, c, err);
}

static const field_rule fields[] = {
    {FIELD_rms_eps, "attention.layer_norm_rms_epsilon", "rms_norm_eps", 1e-6},
    {FIELD_expert_ffn, "expert_feed_forward_length", "intermediate_size", 0, .hf_required = true},
    {FIELD_qk_norm, NULL, "use_qk_norm", 1},
    {FIELD_renormalise, NULL, NULL, 1},
    {FIELD_scale, "expert_weights_scale", NULL, 1},
    FIELDS_END,
};

static const weight_table weights[] = {
    {NULL, arch_weights_frame},        {&mixer_attention, attention_weights}, {&mixer_attention, attention_qk_norm},
    {NULL, arch_weights_block_sparse}, {NULL, arch_weights_selection_bias},   {0}};

const arch arch_minimax_m2 = {
    .family = "minimax_m2",
    .gguf = "minimax-m2",
    .fields = fields,
    .rope_theta = 5e6,
    .rotary_part = 1,
    .weights = weights,
    .experts = arch_experts_block_sparse,
    .from_gguf = from_gguf,
    .from_hf = from_hf,
};
