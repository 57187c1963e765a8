/* Kimi Linear: three layers of Kimi delta attention to one of latent attention, without rotation; DeepSeek-V3's router
 * with one group, the first layers dense. */
#include "model/arch/arch.h"
#include "model/mixers/attention.h"
#include "model/mixers/kda.h"
#include "model/mixers/latent.h"

/* All heads of delta attention are alike, and nothing turns. */
static void set_layers(model_config *c)
{
    c->linear_key_heads = c->linear_heads;
    c->linear_key_dim = c->linear_value_dim;
    c->rope_sets = 0;
    for (int l = 0; l < c->layers; l++)
        c->layer[l].rope = ROPE_OFF;
    c->attention_scale = 0; /* of a head's length alone, whatever stands there about positions */
}

static odmoe_status from_gguf(const model_files *f, const char *prefix, model_config *c, odmoe_error *err)
{
    arch_gguf_other_mixers(c, &mixer_kda);
    c->linear_heads = c->layer[0].heads;
    odmoe_status status = arch_gguf_latent(f, prefix, c, err);
    set_layers(c);
    if (!status)
        status = arch_gguf_deepseek(f, prefix, ODMOE_SCORE_SIGMOID, c, err);
    c->router.renormalise = true; /* files have no key for it */
    return status;
}

/* One of the two lists of layer numbers, which count from 1. */
static odmoe_status read_numbers(config_object part, const char *key, const struct mixer *mixer_of, model_config *c,
                                 odmoe_error *err)
{
    const json_t *list = json_object_get(part.object, key);
    if (!json_is_array(list))
        return err_set(err, ODMOE_ERR_FORMAT, "%s: linear_attn_config: %s is no list of layers", part.file, key);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *number = json_array_get(list, i);
        json_int_t layer = json_is_integer(number) ? json_integer_value(number) : 0;
        if (layer < 1 || layer > c->layers)
            return err_set(err, ODMOE_ERR_FORMAT, "%s: linear_attn_config: %s names a layer that is none of 1 to %d",
                           part.file, key, c->layers);
        if (c->layer[layer - 1].mixer)
            return err_set(err, ODMOE_ERR_FORMAT, "%s: linear_attn_config names layer %d twice", part.file, (int)layer);
        c->layer[layer - 1].mixer = mixer_of;
    }
    return ODMOE_OK;
}

static odmoe_status read_lists(config_object part, model_config *c, odmoe_error *err)
{
    for (int l = 0; l < c->layers; l++)
        c->layer[l].mixer = NULL;
    odmoe_status status = read_numbers(part, "full_attn_layers", &mixer_attention, c, err);
    if (!status)
        status = read_numbers(part, "kda_layers", &mixer_kda, c, err);
    for (int l = 0; l < c->layers && !status; l++)
        if (!c->layer[l].mixer)
            status = err_set(err, ODMOE_ERR_FORMAT,
                             "%s: linear_attn_config: neither full_attn_layers nor kda_layers names layer %d of %d",
                             part.file, l + 1, c->layers);
    return status;
}

/* layer_types wins over the lists of linear_attn_config. */
static odmoe_status read_mixers(config_object json, config_object part, model_config *c, odmoe_error *err)
{
    static const layer_word words[] = {
        {"linear_attention", &mixer_kda, FFN_EXPERTS}, {"full_attention", &mixer_attention, FFN_EXPERTS}, {0}};
    const json_t *types = json_object_get(json.object, "layer_types");
    return types && !json_is_null(types) ? arch_hf_layer_words(json, "layer_types", words, c, err)
                                         : read_lists(part, c, err);
}

/* A number of linear_attn_config; where it is missing there, of the whole, which has it in *out. */
static odmoe_status read_number(config_object part, const char *key, int most, int *out, odmoe_error *err)
{
    int64_t number;
    odmoe_status status = config_int(part, key, *out == 0, 1, most, *out, &number, err);
    *out = status ? 0 : (int)number;
    return status;
}

static odmoe_status from_hf(config_object json, model_config *c, odmoe_error *err)
{
    config_object part;
    odmoe_status status = config_part(json, "linear_attn_config", &part, err);
    if (!status)
        status = read_number(part, "num_heads", MODEL_HEADS_MAX, &c->linear_heads, err);
    if (!status)
        status = read_number(part, "head_dim", 4096, &c->linear_value_dim, err);
    if (!status)
        status = read_number(part, "short_conv_kernel_size", CONV_MOST, &c->conv_width, err);
    if (!status)
        status = read_mixers(json, part, c, err);
    if (!status)
        status = arch_hf_only(json, "mla_use_nope", 1, err);
    if (!status)
        status = arch_hf_deepseek_v3(json, c, err);
    set_layers(c);
    return status;
}

static const field_rule fields[] = {
    {FIELD_top_k, "expert_used_count", "num_experts_per_token|num_experts_per_tok", FIELD_REQUIRED},
    {FIELD_context, "context_length", "model_max_length|max_position_embeddings", FIELD_REQUIRED},
    {FIELD_renormalise, NULL, "moe_renormalize|norm_topk_prob", 1},
    {FIELD_groups, "expert_group_count", "num_expert_group|n_group", 0},
    {FIELD_linear_heads, NULL, "linear_num_heads", 0},
    {FIELD_linear_value_dim, "kda.head_dim", "linear_head_dim", 0},
    {FIELD_conv_width, "ssm.conv_kernel", "linear_conv_kernel_dim", 0},
    ARCH_FIELDS_LATENT,
    ARCH_FIELDS_DEEPSEEK,
    FIELDS_END,
};

static const weight_table weights[] = {{NULL, arch_weights_frame},
                                       {&mixer_kda, kda_weights},
                                       {&mixer_latent, latent_weights},
                                       {NULL, arch_weights_mlp},
                                       {NULL, arch_weights_selection_bias},
                                       {NULL, arch_weights_shared},
                                       {0}};

const arch arch_kimi_linear = {
    .family = "kimi_linear",
    .gguf = "kimi-linear",
    .fields = fields,
    .rope_theta = 1e4,
    .gguf_pairing = ROPE_NEIGHBOURS,
    .hf_pairing = ROPE_NEIGHBOURS,
    .weights = weights,
    .experts = arch_experts_block_sparse,
    .from_gguf = from_gguf,
    .from_hf = from_hf,
};
