/* dots.llm1: q/k norm per head, the first layers dense, DeepSeek-V3's router, shared experts. */
#include "model/arch/arch.h"
#include "model/mixers/attention.h"

static odmoe_status from_gguf(const model_files *f, const char *prefix, model_config *c, odmoe_error *err)
{
    return arch_gguf_deepseek(f, prefix, ODMOE_SCORE_SIGMOID, c, err);
}

/* Where no list says it, layers slide from max_window_layers on. */
static odmoe_status windows(config_object json, model_config *c, odmoe_error *err)
{
    int window;
    int64_t first;
    bool given;
    odmoe_status status = arch_hf_sliding(json, 0, c, &window, &given, err);
    if (!status)
        status = config_int(json, "max_window_layers", false, 0, MODEL_LAYERS_MAX, 62, &first, err);
    for (int l = 0; l < c->layers && !status && !given; l++)
        c->layer[l].window = l >= first ? window : 0;
    return status;
}

static odmoe_status from_hf(config_object json, model_config *c, odmoe_error *err)
{
    odmoe_status status = arch_hf_deepseek(json, c, err);
    return status ? status : windows(json, c, err);
}

static const field_rule fields[] = {
    ARCH_FIELDS_DEEPSEEK,
    {FIELD_rms_eps, "attention.layer_norm_rms_epsilon", "rms_norm_eps", 1e-6},
    {FIELD_norm_heads, NULL, NULL, 1},
    {FIELD_attention_bias, NULL, "attention_bias", 0},
    FIELDS_END,
};

static const weight_table weights[] = {{NULL, arch_weights_frame},
                                       {&mixer_attention, attention_weights},
                                       {&mixer_attention, attention_qkv_biases},
                                       {&mixer_attention, attention_out_bias},
                                       {&mixer_attention, attention_qk_norm},
                                       {NULL, arch_weights_mlp},
                                       {NULL, arch_weights_selection_bias},
                                       {NULL, arch_weights_shared},
                                       {0}};

const arch arch_dots1 = {
    .family = "dots1",
    .gguf = "dots1",
    .fields = fields,
    .rope_theta = 1e4,
    .weights = weights,
    .experts = arch_experts_mlp,
    .from_gguf = from_gguf,
    .from_hf = from_hf,
};
