/* GLM-5: DeepSeek-V3 with one group of experts, and an indexer that chooses the positions that a token sees. In GLM-5.2 only
 * some layers have one; the others take the choice of the layer before them. */
#include <stdlib.h>
#include <string.h>

#include "model/arch/arch.h"
#include "model/mixers/latent.h"

#define SHARING_CONTEXT (1 << 20) /* models of so long a context share choices where GGUF does not say it */

/* Every `every`-th layer from the `first`-th on has an indexer, and so have all before. */
static void index_every(model_config *c, int64_t first, int64_t every)
{
    for (int l = 0; l < c->layers; l++)
        c->layer[l].indexed = l <= first || (l - first) % every == 0;
}

/* A choice of all positions of the context is none. */
static void finish(model_config *c)
{
    if (c->index_topk > c->context)
        c->index_topk = c->context;
}

static odmoe_status from_gguf(const model_files *f, const char *prefix, model_config *c, odmoe_error *err)
{
    static const char key[] = "glm-dsa.attention.indexer.types";
    odmoe_status status = arch_gguf_latent(f, prefix, c, err);
    if (!status)
        status = arch_gguf_deepseek(f, prefix, ODMOE_SCORE_SIGMOID, c, err);
    index_every(c, 2, c->context < SHARING_CONTEXT ? 1 : 4);
    finish(c);
    if (status || !gguf_has(f->gguf, key))
        return status;
    status = arch_gguf_list(f, key, c, err);
    for (int l = 0; l < c->layers && !status; l++)
        status = gguf_array_bool(f->gguf, key, (uint64_t)l, &c->layer[l].indexed, err);
    return status;
}

/* indexer_types, a word for each layer. */
static odmoe_status read_types(config_object json, const json_t *types, model_config *c, odmoe_error *err)
{
    if (!json_is_array(types) || json_array_size(types) != (size_t)c->layers)
        return err_set(err, ODMOE_ERR_FORMAT, "%s: indexer_types must be a list with one word for each of %d layers",
                       json.file, c->layers);
    for (int l = 0; l < c->layers; l++) {
        const char *type = json_string_value(json_array_get(types, (size_t)l));
        c->layer[l].indexed = type && !strcmp(type, "full");
        if (!type || (!c->layer[l].indexed && strcmp(type, "shared")))
            return err_set(err, ODMOE_ERR_UNSUPPORTED,
                           "%s: indexer_types: '%.32s' of layer %d is not known; known are full, shared", json.file,
                           type ? type : "(no text)", l);
    }
    return ODMOE_OK;
}

/* index_topk_pattern, a letter for each layer. */
static odmoe_status read_pattern(config_object json, const char *pattern, model_config *c, odmoe_error *err)
{
    if (strlen(pattern) != (size_t)c->layers || strspn(pattern, "FS") != (size_t)c->layers)
        return err_set(err, ODMOE_ERR_FORMAT, "%s: index_topk_pattern must be a letter, F or S, for each of %d layers",
                       json.file, c->layers);
    for (int l = 0; l < c->layers; l++)
        c->layer[l].indexed = pattern[l] == 'F';
    return ODMOE_OK;
}

/* Which layers have an indexer: a list, a pattern, or a period. */
static odmoe_status read_indexers(config_object json, model_config *c, odmoe_error *err)
{
    const json_t *types = json_object_get(json.object, "indexer_types");
    const char *pattern;
    int64_t every, offset;
    if (types && !json_is_null(types))
        return read_types(json, types, c, err);
    odmoe_status status = config_text(json, "index_topk_pattern", false, NULL, &pattern, err);
    if (!status && pattern)
        return read_pattern(json, pattern, c, err);
    if (!status)
        status = config_int(json, "index_topk_freq", false, 0, MODEL_LAYERS_MAX, 1, &every, err);
    if (!status)
        status = config_int(json, "index_skip_topk_offset", false, 0, MODEL_LAYERS_MAX, 2, &offset, err);
    if (!status)
        index_every(c, offset > 0 ? offset - 1 : -1, every > 1 ? every : 1);
    return status;
}

static odmoe_status from_hf(config_object json, model_config *c, odmoe_error *err)
{
    odmoe_status status = arch_hf_deepseek_v3(json, c, err);
    finish(c);
    return status ? status : read_indexers(json, c, err);
}

static const field_rule fields[] = {
    ARCH_FIELDS_LATENT,
    {FIELD_index_heads, "attention.indexer.head_count", "index_n_heads", FIELD_REQUIRED},
    {FIELD_index_dim, "attention.indexer.key_length", "index_head_dim", FIELD_REQUIRED},
    {FIELD_index_topk, "attention.indexer.top_k", "index_topk", FIELD_REQUIRED},
    {FIELD_dense_layers, "leading_dense_block_count", "first_k_dense_replace", 3},
    ARCH_FIELDS_DEEPSEEK,
    FIELDS_END,
};

static const weight_table weights[] = {{NULL, arch_weights_frame},
                                       {&mixer_latent, latent_weights},
                                       {&mixer_latent, latent_indexer},
                                       {NULL, arch_weights_mlp},
                                       {NULL, arch_weights_selection_bias},
                                       {NULL, arch_weights_shared},
                                       {0}};

const arch arch_glm_moe_dsa = {
    .family = "glm_moe_dsa",
    .gguf = "glm-dsa",
    .fields = fields,
    .rope_theta = 1e4,
    .gguf_pairing = ROPE_NEIGHBOURS,
    .hf_pairing = ROPE_NEIGHBOURS,
    .weights = weights,
    .experts = arch_experts_mlp,
    .from_gguf = from_gguf,
    .from_hf = from_hf,
};
