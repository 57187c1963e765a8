/* Qwen3-MoE: q/k norm per head, head_dim of its own, weights of the chosen sum to 1, no shared expert. */
#include "model/arch/arch.h"

static odmoe_status from_gguf(const model_files *f, const char *prefix, model_config *c, odmoe_error *err)
{
    c->router.renormalise = true;
    return ODMOE_OK;
}

/* A window is every layer's. Versions of transformers disagree about files that give it to some: newer ones read
 * neither max_window_layers nor layer_types for this family. */
static odmoe_status windows(config_object json, model_config *c, odmoe_error *err)
{
    int window;
    int64_t first;
    bool given;
    odmoe_status status = arch_hf_window(json, &window, err);
    if (!status)
        status = config_int(json, "max_window_layers", false, 0, MODEL_LAYERS_MAX, 0, &first, err);
    if (!status)
        status = arch_hf_layer_types(json, window, c, &given, err);
    if (status)
        return status;
    if (window && first)
        return err_set(
            err, ODMOE_ERR_UNSUPPORTED,
            "%s: use_sliding_window with max_window_layers %d: for qwen3_moe versions of transformers "
            "disagree which layers slide; set it to 0 if all do, or use_sliding_window to false if none does",
            json.file, (int)first);
    for (int l = 0; l < c->layers; l++) {
        if (window && given && !c->layer[l].window)
            return err_set(err, ODMOE_ERR_UNSUPPORTED,
                           "%s: layer_types: layer %d does not slide, but qwen3_moe's windows are for all layers; set "
                           "use_sliding_window to false if none slides",
                           json.file, l);
        c->layer[l].window = window;
    }
    return ODMOE_OK;
}

static odmoe_status from_hf(config_object json, model_config *c, odmoe_error *err)
{
    odmoe_status status = arch_hf_dense_layers(json, c, err);
    return status ? status : windows(json, c, err);
}

static const field_rule fields[] = {
    {FIELD_rms_eps, "attention.layer_norm_rms_epsilon", "rms_norm_eps", 1e-6},
    {FIELD_norm_heads, NULL, NULL, 1},
    {FIELD_dense_ffn, "feed_forward_length", "intermediate_size", 0},
    {FIELD_expert_ffn, "expert_feed_forward_length", "moe_intermediate_size", 0, .hf_required = true},
    {FIELD_renormalise, NULL, "norm_topk_prob", 0},
    {FIELD_attention_bias, NULL, "attention_bias", 0},
    FIELDS_END,
};

const arch arch_qwen3_moe = {
    .family = "qwen3_moe",
    .gguf = "qwen3moe",
    .fields = fields,
    .rope_theta = 1e4,
    .weights = arch_tables_qk_norm,
    .experts = arch_experts_mlp,
    .from_gguf = from_gguf,
    .from_hf = from_hf,
};
