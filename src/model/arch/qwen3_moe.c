/* Qwen3-MoE: q/k norm per head, head_dim of its own, weights of the chosen sum to 1, no shared expert. */
#include "model/arch/arch.h"

static odmoe_status from_gguf(const model_files *f, const char *prefix, model_config *c, odmoe_error *err)
{
    c->norm_heads = true;
    c->router.renormalise = true;
    return arch_gguf_common(f, prefix, c, err);
}

/* A window is every layer's. Versions of transformers disagree about files that give it to some: newer ones read
 * neither max_window_layers nor layer_types for this family. */
static odmoe_status windows(config_object json, model_config *c, odmoe_error *err)
{
    int window;
    int64_t first;
    bool sliding[MODEL_LAYERS_MAX], given;
    odmoe_status status = arch_hf_window(json, &window, err);
    if (!status)
        status = config_int(json, "max_window_layers", false, 0, MODEL_LAYERS_MAX, 0, &first, err);
    if (!status)
        status = arch_hf_layer_types(json, c->layers, window, sliding, &given, err);
    if (status)
        return status;
    if (window && first)
        return err_set(
            err, ODMOE_ERR_UNSUPPORTED,
            "%s: use_sliding_window with max_window_layers %d: for qwen3_moe versions of transformers "
            "disagree which layers slide; set it to 0 if all do, or use_sliding_window to false if none does",
            json.file, (int)first);
    for (int l = 0; l < c->layers; l++) {
        if (window && given && !sliding[l])
            return err_set(err, ODMOE_ERR_UNSUPPORTED,
                           "%s: layer_types: layer %d does not slide, but qwen3_moe's windows are for all layers; set "
                           "use_sliding_window to false if none slides",
                           json.file, l);
        c->window[l] = window;
    }
    return ODMOE_OK;
}

static odmoe_status from_hf(config_object json, model_config *c, odmoe_error *err)
{
    c->norm_heads = true;
    odmoe_status status = arch_hf_qwen(json, c, err);
    return status ? status : windows(json, c, err);
}

static const weight_rule *const weights[] = {arch_weights_base, arch_weights_attention_bias, arch_weights_qk_norm,
                                             arch_weights_mlp, NULL};
const arch arch_qwen3_moe = {"qwen3_moe", "qwen3moe",       from_gguf,        from_hf,
                             weights,     arch_experts_mlp, "attention_bias", false};
