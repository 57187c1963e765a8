/* FlexOlmo: OLMo-2's norms, of what attention and experts give and not of what they take; q/k norm over all heads at
 * once. There is no GGUF architecture. */
#include "model/arch/arch.h"
#include "model/mixers/attention.h"

static const field_rule fields[] = {
    {FIELD_rms_eps, NULL, "rms_norm_eps", 1e-6},
    {FIELD_expert_ffn, NULL, "intermediate_size", 0, .hf_required = true},
    {FIELD_renormalise, NULL, "norm_topk_prob", 0},
    {FIELD_attention_bias, NULL, "attention_bias", 0},
    FIELDS_END,
};

static const weight_rule frame[] = {
    {W_MIXER_POST_NORM, IN_ALL_LAYERS, NULL, "model.layers.%d.post_attention_layernorm.weight", DIM_VECTOR, DIM_HIDDEN,
     false},
    {W_FFN_POST_NORM, IN_ALL_LAYERS, NULL, "model.layers.%d.post_feedforward_layernorm.weight", DIM_VECTOR, DIM_HIDDEN,
     false},
    WEIGHTS_END,
};

static const weight_table weights[] = {{NULL, arch_weights_model},
                                       {NULL, frame},
                                       {&mixer_attention, attention_weights},
                                       {&mixer_attention, attention_qkv_biases},
                                       {&mixer_attention, attention_out_bias},
                                       {&mixer_attention, attention_qk_norm},
                                       {NULL, arch_weights_mlp},
                                       {0}};

const arch arch_flex_olmo = {
    .family = "flex_olmo",
    .fields = fields,
    .rope_theta = 5e5,
    .weights = weights,
    .experts = arch_experts_mlp,
};
