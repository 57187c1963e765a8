/* Ling 2 and Ring 2 (BailingMoeV2): q, k and v in one matrix, q/k norm per head, a part of each head is rotated, the
 * first layers dense, DeepSeek-V3's router with groups, shared experts. */
#include <string.h>

#include "model/arch/arch.h"
#include "model/mixers/attention.h"

static odmoe_status from_gguf(const model_files *f, const char *prefix, model_config *c, odmoe_error *err)
{
    return arch_gguf_deepseek(f, prefix, ODMOE_SCORE_SIGMOID, c, err);
}

/* Ling 1 has the same model_type and another router. */
static odmoe_status only_version_2(config_object json, odmoe_error *err)
{
    const json_t *names = json_object_get(json.object, "architectures");
    const char *name = json_string_value(json_array_get(names, 0));
    if (name && !strcmp(name, "BailingMoeV2ForCausalLM"))
        return ODMOE_OK;
    return err_set(err, ODMOE_ERR_UNSUPPORTED,
                   "%s: architectures '%.64s' of bailing_moe is not supported (BailingMoeV2ForCausalLM is)", json.file,
                   name ? name : "(none)");
}

static odmoe_status from_hf(config_object json, model_config *c, odmoe_error *err)
{
    static const struct {
        const char *key;
        double value;
    } only[] = {{"use_bias", 0}, {"use_rmsnorm", 1}, {"moe_router_enable_expert_bias", 1}};
    odmoe_status status = only_version_2(json, err);
    for (size_t i = 0; i < sizeof only / sizeof *only && !status; i++)
        status = arch_hf_only(json, only[i].key, only[i].value, err);
    return status ? status : arch_hf_deepseek(json, c, err);
}

static const field_rule fields[] = {
    ARCH_FIELDS_DEEPSEEK,
    {FIELD_rms_eps, "attention.layer_norm_rms_epsilon", "rms_norm_eps", 1e-6},
    {FIELD_qk_norm, NULL, "use_qk_norm", 1},
    {FIELD_norm_heads, NULL, NULL, 1},
    {FIELD_attention_bias, NULL, "use_qkv_bias", 0},
    FIELDS_END,
};

#define QKV "blk.%d.attn_qkv.weight", "model.layers.%d.attention.query_key_value.weight"
#define QKV_BIAS "blk.%d.attn_qkv.bias", "model.layers.%d.attention.query_key_value.bias"
static const weight_rule attention[] = {
    {ATTENTION_Q, IN_ALL_LAYERS, "blk.%d.attn_q.weight", NULL, DIM_Q, DIM_HIDDEN, false, QKV},
    {ATTENTION_K, IN_ALL_LAYERS, "blk.%d.attn_k.weight", NULL, DIM_K, DIM_HIDDEN, false, QKV},
    {ATTENTION_V, IN_ALL_LAYERS, "blk.%d.attn_v.weight", NULL, DIM_V, DIM_HIDDEN, false, QKV},
    {ATTENTION_O, IN_ALL_LAYERS, "blk.%d.attn_output.weight", "model.layers.%d.attention.dense.weight", DIM_HIDDEN,
     DIM_ATTENTION_OUT, false},
    {ATTENTION_Q_BIAS, IN_ALL_LAYERS, "blk.%d.attn_q.bias", NULL, DIM_VECTOR, DIM_Q, true, QKV_BIAS,
     .only_if = FIELD_attention_bias},
    {ATTENTION_K_BIAS, IN_ALL_LAYERS, "blk.%d.attn_k.bias", NULL, DIM_VECTOR, DIM_K, true, QKV_BIAS,
     .only_if = FIELD_attention_bias},
    {ATTENTION_V_BIAS, IN_ALL_LAYERS, "blk.%d.attn_v.bias", NULL, DIM_VECTOR, DIM_V, true, QKV_BIAS,
     .only_if = FIELD_attention_bias},
    {ATTENTION_Q_NORM, IN_ALL_LAYERS, "blk.%d.attn_q_norm.weight", "model.layers.%d.attention.query_layernorm.weight",
     DIM_VECTOR, DIM_Q_NORM, false, .only_if = FIELD_qk_norm},
    {ATTENTION_K_NORM, IN_ALL_LAYERS, "blk.%d.attn_k_norm.weight", "model.layers.%d.attention.key_layernorm.weight",
     DIM_VECTOR, DIM_K_NORM, false, .only_if = FIELD_qk_norm},
    WEIGHTS_END,
};

static const weight_table weights[] = {{NULL, arch_weights_frame},  {&mixer_attention, attention},
                                       {NULL, arch_weights_mlp},    {NULL, arch_weights_selection_bias},
                                       {NULL, arch_weights_shared}, {0}};

const arch arch_bailing_moe = {
    .family = "bailing_moe",
    .gguf = "bailingmoe2",
    .fields = fields,
    .rope_theta = 6e5,
    .rotary_part = 1,
    .weights = weights,
    .experts = arch_experts_mlp,
    .from_gguf = from_gguf,
    .from_hf = from_hf,
};
