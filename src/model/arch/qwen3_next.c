/* Qwen3-Next and Qwen3.5-MoE: three layers of gated delta net to one of gated attention, norms that multiply by 1 + w, a
 * quarter of each head is rotated, a shared expert with a weight of its own. They differ in how the delta net's projections
 * lie, and in their configurations. */
#include "model/arch/arch.h"
#include "model/mixers/attention.h"
#include "model/mixers/delta_net.h"

/* How many of a head's values come of the size of all of them. */
static odmoe_status value_length(const model_files *f, const char *prefix, model_config *c, odmoe_error *err)
{
    int inner;
    odmoe_status status = arch_gguf_int(f, prefix, "ssm.inner_size", MODEL_DIM_MAX, 0, &inner, err);
    if (status)
        return status;
    if (c->linear_heads < 1 || inner < 1 || inner % c->linear_heads)
        return err_set(err, ODMOE_ERR_FORMAT, "%s: %s.ssm.inner_size %d cannot be parted into %d heads", f->path,
                       prefix, inner, c->linear_heads);
    c->linear_value_dim = inner / c->linear_heads;
    return ODMOE_OK;
}

static odmoe_status from_gguf(const model_files *f, const char *prefix, model_config *c, odmoe_error *err)
{
    c->router.renormalise = true;
    arch_gguf_shared(f, c);
    odmoe_status status = value_length(f, prefix, c, err);
    return status ? status : arch_gguf_recurrent(f, prefix, 4, &mixer_delta_net, c, err);
}

/* Files of the first converters keep q, k, v and z in one. */
static odmoe_status next_from_gguf(const model_files *f, const char *prefix, model_config *c, odmoe_error *err)
{
    c->linear_qkvz = arch_gguf_has(f, c, "blk.%d.ssm_in.weight") != NULL;
    c->linear_ba = true;
    return from_gguf(f, prefix, c, err);
}

/* The converter puts the heads of values in another order: those that share a key head lie apart. */
static odmoe_status q35_from_gguf(const model_files *f, const char *prefix, model_config *c, odmoe_error *err)
{
    c->linear_tiled = true;
    return from_gguf(f, prefix, c, err);
}

/* layer_types, or, where it is missing, every n-th layer has attention. */
static odmoe_status read_mixers(config_object json, model_config *c, odmoe_error *err)
{
    static const layer_word words[] = {
        {"linear_attention", &mixer_delta_net, FFN_EXPERTS}, {"full_attention", &mixer_attention, FFN_EXPERTS}, {0}};
    int64_t every;
    const json_t *types = json_object_get(json.object, "layer_types");
    odmoe_status status = config_int(json, "full_attention_interval", false, 1, MODEL_LAYERS_MAX, 4, &every, err);
    if (status)
        return status;
    if (types && !json_is_null(types))
        return arch_hf_layer_words(json, "layer_types", words, c, err);
    for (int l = 0; l < c->layers; l++)
        c->layer[l].mixer = (l + 1) % every ? &mixer_delta_net : &mixer_attention;
    return ODMOE_OK;
}

static odmoe_status from_hf(config_object json, model_config *c, odmoe_error *err)
{
    odmoe_status status = arch_hf_only(json, "attention_bias", 0, err);
    return status ? status : read_mixers(json, c, err);
}

static odmoe_status next_from_hf(config_object json, model_config *c, odmoe_error *err)
{
    c->linear_qkvz = c->linear_ba = true;
    odmoe_status status = from_hf(json, c, err);
    return status ? status : arch_hf_dense_layers(json, c, err);
}

static odmoe_status q35_from_hf(config_object json, model_config *c, odmoe_error *err)
{
    odmoe_status status = arch_hf_only(json, "attn_output_gate", 1, err);
    return status ? status : from_hf(json, c, err);
}

static const field_rule fields[] = {
    {FIELD_rms_eps, "attention.layer_norm_rms_epsilon", "rms_norm_eps", 1e-6},
    {FIELD_norm_heads, NULL, NULL, 1},
    {FIELD_dense_ffn, "feed_forward_length", "intermediate_size", 0},
    {FIELD_expert_ffn, "expert_feed_forward_length", "moe_intermediate_size", 0, .hf_required = true},
    {FIELD_shared_ffn, "expert_shared_feed_forward_length", "shared_expert_intermediate_size", 0, .hf_required = true},
    {FIELD_renormalise, NULL, "norm_topk_prob", 1},
    {FIELD_linear_heads, "ssm.time_step_rank", "linear_num_value_heads", FIELD_REQUIRED},
    {FIELD_linear_key_heads, "ssm.group_count", "linear_num_key_heads", FIELD_REQUIRED},
    {FIELD_linear_key_dim, "ssm.state_size", "linear_key_head_dim", FIELD_REQUIRED},
    {FIELD_linear_value_dim, NULL, "linear_value_head_dim", FIELD_REQUIRED},
    {FIELD_conv_width, "ssm.conv_kernel", "linear_conv_kernel_dim", FIELD_REQUIRED},
    FIELDS_END,
};

static const weight_rule frame[] = {
    {W_EMBED, IN_MODEL, "token_embd.weight", "model.embed_tokens.weight", DIM_VOCAB, DIM_HIDDEN},
    {W_OUTPUT_NORM, IN_MODEL, "output_norm.weight", "model.norm.weight", DIM_VECTOR, DIM_HIDDEN,
     .hf_form = FORM_PLUS_1},
    {W_OUTPUT, IN_MODEL, "output.weight", "lm_head.weight", DIM_VOCAB, DIM_HIDDEN, true},
    {W_MIXER_NORM, IN_ALL_LAYERS, "blk.%d.attn_norm.weight", "model.layers.%d.input_layernorm.weight", DIM_VECTOR,
     DIM_HIDDEN, .hf_form = FORM_PLUS_1},
    {W_FFN_NORM, IN_ALL_LAYERS, "blk.%d.post_attention_norm.weight", "model.layers.%d.post_attention_layernorm.weight",
     DIM_VECTOR, DIM_HIDDEN, .hf_form = FORM_PLUS_1},
    WEIGHTS_END,
};

static const weight_rule qk_norm[] = {
    {ATTENTION_Q_NORM, IN_ALL_LAYERS, "blk.%d.attn_q_norm.weight", "model.layers.%d.self_attn.q_norm.weight",
     DIM_VECTOR, DIM_Q_NORM, .hf_form = FORM_PLUS_1},
    {ATTENTION_K_NORM, IN_ALL_LAYERS, "blk.%d.attn_k_norm.weight", "model.layers.%d.self_attn.k_norm.weight",
     DIM_VECTOR, DIM_K_NORM, .hf_form = FORM_PLUS_1},
    WEIGHTS_END,
};

static const weight_table weights[] = {{NULL, frame},
                                       {&mixer_attention, attention_gated_weights},
                                       {&mixer_attention, qk_norm},
                                       {&mixer_delta_net, delta_net_weights},
                                       {NULL, arch_weights_mlp},
                                       {NULL, arch_weights_shared_weighed},
                                       {0}};

/* What sees. */
static const char *const ignored[] = {"model.visual.*", "visual.*", NULL};

const arch arch_qwen3_next = {
    .family = "qwen3_next",
    .gguf = "qwen3next",
    .fields = fields,
    .rope_theta = 1e4,
    .rotary_part = 0.25,
    .weights = weights,
    .experts = arch_experts_mlp,
    .ignored = ignored,
    .from_gguf = next_from_gguf,
    .from_hf = next_from_hf,
};

const arch arch_qwen3_5_moe = {
    .family = "qwen3_5_moe",
    .hf_text = "qwen3_5_moe_text",
    .gguf = "qwen35moe",
    .fields = fields,
    .rope_theta = 1e4,
    .rotary_part = 0.25,
    .weights = weights,
    .experts = arch_experts_mlp,
    .ignored = ignored,
    .from_gguf = q35_from_gguf,
    .from_hf = q35_from_hf,
};
