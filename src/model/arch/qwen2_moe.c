/* Qwen2-MoE: biases on q, k, v; a shared expert that every token uses, weighted by a sigmoid gate of its own. */
#include "model/arch/arch.h"
#include "model/mixers/attention.h"

/* Files without the key for the shared expert's size: what its tensor says. */
static odmoe_status from_gguf(const model_files *f, const char *prefix, model_config *c, odmoe_error *err)
{
    const tensor_info *t = tensor_index_find(f->tensors, "blk.0.ffn_up_shexp.weight");
    if (!c->shared_ffn && t && t->dims == 2 && t->shape[0] <= MODEL_DIM_MAX)
        c->shared_ffn = (int)t->shape[0];
    return ODMOE_OK;
}

/* Where no list says it, every second layer slides, from the first on, below max_window_layers. */
static odmoe_status windows(config_object json, model_config *c, odmoe_error *err)
{
    int window;
    int64_t end;
    bool given = true;
    odmoe_status status = arch_hf_window(json, &window, err);
    if (!status)
        status = config_int(json, "max_window_layers", false, 0, MODEL_LAYERS_MAX, 28, &end, err);
    if (!status)
        status = arch_hf_layer_types(json, window, c, &given, err);
    for (int l = 0; l < c->layers && !status && !given; l++)
        c->layer[l].window = l % 2 == 0 && l < end ? window : 0;
    return status;
}

static odmoe_status from_hf(config_object json, model_config *c, odmoe_error *err)
{
    odmoe_status status = arch_hf_dense_layers(json, c, err);
    return status ? status : windows(json, c, err);
}

static const field_rule fields[] = {
    {FIELD_rms_eps, "attention.layer_norm_rms_epsilon", "rms_norm_eps", 1e-6},
    {FIELD_dense_ffn, "feed_forward_length", "intermediate_size", 0},
    {FIELD_expert_ffn, "expert_feed_forward_length", "moe_intermediate_size", 0, .hf_required = true},
    {FIELD_shared_ffn, "expert_shared_feed_forward_length", "shared_expert_intermediate_size", 0, .hf_required = true},
    {FIELD_renormalise, NULL, "norm_topk_prob", 0},
    {FIELD_attention_bias, NULL, "qkv_bias", 1},
    FIELDS_END,
};

/* The output has no bias, in either format. */
static const weight_table weights[] = {
    {NULL, arch_weights_frame}, {&mixer_attention, attention_weights}, {&mixer_attention, attention_qkv_biases},
    {NULL, arch_weights_mlp},   {NULL, arch_weights_shared_weighed},   {0}};

const arch arch_qwen2_moe = {
    .family = "qwen2_moe",
    .gguf = "qwen2moe",
    .fields = fields,
    .rope_theta = 1e4,
    .weights = weights,
    .experts = arch_experts_mlp,
    .from_gguf = from_gguf,
    .from_hf = from_hf,
};
