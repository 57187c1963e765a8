/* EXAONE MoE (K-EXAONE): layers that slide and layers that see all, which alone have no rotary positions; q/k norm per
 * head, DeepSeek-V3's router, shared experts. */
#include "model/arch/arch.h"
#include "model/mixers/attention.h"

static odmoe_status from_gguf(const model_files *f, const char *prefix, model_config *c, odmoe_error *err)
{
    bool slides = c->layer[0].window > 0;
    odmoe_status status = arch_gguf_windows(f, prefix, 4, c, err);
    if (slides) /* then the others have no positions; in models without sliding layers all turn */
        arch_turn_sliding_layers(c);
    return status ? status : arch_gguf_deepseek(f, prefix, ODMOE_SCORE_SIGMOID, c, err);
}

static odmoe_status from_hf(config_object json, model_config *c, odmoe_error *err)
{
    int window;
    bool given;
    odmoe_status status = arch_hf_sliding(json, 0, c, &window, &given, err);
    if (!status && !given && window)
        status = err_set(err, ODMOE_ERR_FORMAT, "%s: layer_types is missing: which layers slide?", json.file);
    if (window)
        arch_turn_sliding_layers(c);
    return status ? status : arch_hf_deepseek(json, c, err);
}

static const field_rule fields[] = {
    ARCH_FIELDS_DEEPSEEK,
    {FIELD_norm_heads, NULL, NULL, 1},
    FIELDS_END,
};

static const weight_table weights[] = {{NULL, arch_weights_frame},
                                       {&mixer_attention, attention_weights},
                                       {&mixer_attention, attention_qk_norm},
                                       {NULL, arch_weights_mlp},
                                       {NULL, arch_weights_selection_bias},
                                       {NULL, arch_weights_shared},
                                       {0}};

const arch arch_exaone_moe = {
    .family = "exaone_moe",
    .gguf = "exaone-moe",
    .fields = fields,
    .rope_theta = 1e6,
    .weights = weights,
    .experts = arch_experts_mlp,
    .from_gguf = from_gguf,
    .from_hf = from_hf,
};
