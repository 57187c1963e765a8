/* ERNIE 4.5 MoE: softmax scores with a bias for the choice, neighbours of a head are rotated together in both formats, the
 * first layers dense, shared experts. */
#include "model/arch/arch.h"
#include "model/mixers/attention.h"

/* Every `step`-th layer from `first` to `last` has experts. */
static void place_experts(model_config *c, int step, int64_t first, int64_t last)
{
    for (int l = 0; l < c->layers; l++)
        c->layer[l].ffn = (l + 1) % step == 0 && l >= first && l <= last ? FFN_EXPERTS : FFN_DENSE;
}

static odmoe_status from_gguf(const model_files *f, const char *prefix, model_config *c, odmoe_error *err)
{
    int step;
    odmoe_status status = arch_gguf_int(f, prefix, "interleave_moe_layer_step", MODEL_LAYERS_MAX, 1, &step, err);
    if (!status && step < 1)
        return err_set(err, ODMOE_ERR_FORMAT, "%s: %s.interleave_moe_layer_step is %d, expected 1 or more", f->path,
                       prefix, step);
    if (status)
        return status;
    place_experts(c, step, c->dense_layers, c->layers - 1);
    arch_gguf_shared(f, c);
    c->router.sum_floor = 1e-12f;
    return arch_gguf_router(f, prefix, ODMOE_SCORE_SOFTMAX, c, err);
}

static odmoe_status from_hf(config_object json, model_config *c, odmoe_error *err)
{
    int64_t step, last;
    double least;
    odmoe_status status = arch_hf_router(json, ODMOE_SCORE_SOFTMAX, c, err);
    if (!status)
        status = config_int(json, "moe_layer_interval", false, 1, MODEL_LAYERS_MAX, 1, &step, err);
    if (!status)
        status = config_int(json, "moe_layer_end_index", false, -1, MODEL_LAYERS_MAX, -1, &last, err);
    if (!status)
        status = config_float(json, "moe_norm_min", false, 0, 1, 1e-12, &least, err);
    if (status)
        return status;
    place_experts(c, (int)step, c->dense_layers, last < 0 ? c->layers - 1 : last);
    c->router.sum_floor = (float)least;
    return arch_shared_ffn(c, json.file, err);
}

static const field_rule fields[] = {
    {FIELD_dense_ffn, "feed_forward_length", "intermediate_size", 0},
    {FIELD_expert_ffn, "expert_feed_forward_length", "moe_intermediate_size", 0, .hf_required = true},
    {FIELD_dense_layers, "leading_dense_block_count", "moe_layer_start_index", 1},
    {FIELD_experts, "expert_count", "moe_num_experts|num_experts", FIELD_REQUIRED},
    {FIELD_top_k, "expert_used_count", "moe_k|num_experts_per_tok", FIELD_REQUIRED},
    {FIELD_shared_experts, "expert_shared_count", "moe_num_shared_experts", 2},
    {FIELD_renormalise, NULL, NULL, 1},
    {FIELD_attention_bias, NULL, "use_bias", 0},
    FIELDS_END,
};

static const char *const ignored[] = {"model.mtp_*", NULL}; /* prediction of more tokens */

static const weight_table weights[] = {{NULL, arch_weights_frame},
                                       {&mixer_attention, attention_weights},
                                       {&mixer_attention, attention_qkv_biases},
                                       {&mixer_attention, attention_out_bias},
                                       {NULL, arch_weights_mlp},
                                       {NULL, arch_weights_selection_bias},
                                       {NULL, arch_weights_shared},
                                       {0}};

const arch arch_ernie4_5_moe = {
    .family = "ernie4_5_moe",
    .gguf = "ernie4_5-moe",
    .fields = fields,
    .rope_theta = 5e5,
    .gguf_pairing = ROPE_NEIGHBOURS,
    .hf_pairing = ROPE_NEIGHBOURS,
    .weights = weights,
    .experts = arch_experts_mlp,
    .ignored = ignored,
    .from_gguf = from_gguf,
    .from_hf = from_hf,
};
