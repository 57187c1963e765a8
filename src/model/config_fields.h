/* config_fields.h - the numbers of a configuration: one list for declaring them, reading them from GGUF and from
 * config.json, checking their range, showing them and signing saved sessions. A number that stands in the list cannot
 * be forgotten in one of these places.
 *
 * X(type, name, what, gguf, hf, min, max, fallback)
 *   type      int, float or bool
 *   what      the words for messages
 *   gguf, hf  the key (GGUF: without the architecture's prefix); NULL: that format has none. A family whose files use
 *             another key, or assume another value where it is missing, says so in its field_rule table (arch/arch.h)
 *   min, max  the range, both included; a float that must be more than 0 has FIELD_ABOVE_0 as its min
 *   fallback  the value where the key is missing; FIELD_REQUIRED: a missing key is an error
 *
 * LAYER_FIELDS may differ from layer to layer: files give them as one number or as a list with one entry a layer. A
 * MODEL_FIELDS number is accepted as a list, too, where all its entries are equal.
 */
#ifndef ODMOE_MODEL_CONFIG_FIELDS_H
#define ODMOE_MODEL_CONFIG_FIELDS_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

/* Limits on every number that sizes something: far above any published model, low enough that products of three cannot
 * overflow 64 bits. */
#define MODEL_LAYERS_MAX 1024
#define MODEL_DIM_MAX (1 << 20)
#define MODEL_VOCAB_MAX (1 << 24)
#define MODEL_CONTEXT_MAX (1 << 24)
#define MODEL_HEADS_MAX 4096

#define FIELD_REQUIRED NAN
#define FIELD_DERIVED (-1)  /* the value where the key is missing: arch/ computes it from other numbers */
#define FIELD_ABOVE_0 1e-37 /* the smallest float that counts as more than 0 */

#define MODEL_FIELDS(X)                                                                                               \
    X(int, layers, "number of layers", "block_count", "num_hidden_layers", 1, MODEL_LAYERS_MAX, FIELD_REQUIRED)       \
    X(int, dense_layers, "leading layers with a dense FFN", NULL, NULL, 0, MODEL_LAYERS_MAX, 0)                       \
    X(int, nextn, "number of prediction layers", "nextn_predict_layers", "num_nextn_predict_layers", 0,               \
      MODEL_LAYERS_MAX, 0)                                                                                            \
    X(int, vocab, "vocabulary size", NULL, "vocab_size", 1, MODEL_VOCAB_MAX, FIELD_REQUIRED)                          \
    X(int, context, "context length", "context_length", "max_position_embeddings", 1, MODEL_CONTEXT_MAX,              \
      FIELD_REQUIRED)                                                                                                 \
    X(int, hidden, "hidden size", "embedding_length", "hidden_size", 1, MODEL_DIM_MAX, FIELD_REQUIRED)                \
    X(bool, tied, "tied embeddings", NULL, "tie_word_embeddings", 0, 1, 0)                                            \
    X(float, rms_eps, "RMS norm epsilon", "attention.layer_norm_rms_epsilon", "rms_norm_eps", FIELD_ABOVE_0, 1, 1e-5) \
    X(bool, layer_norm, "norms that take off the mean", NULL, NULL, 0, 1, 0)                                          \
    X(bool, output_bias, "bias of the output", NULL, NULL, 0, 1, 1)                                                   \
    X(bool, qk_norm, "q/k norm", NULL, NULL, 0, 1, 1)                                                                 \
    X(bool, norm_heads, "q/k norm per head", NULL, NULL, 0, 1, 0)                                                     \
    X(bool, norm_after_rope, "q/k norm after rotation", NULL, NULL, 0, 1, 0)                                          \
    X(bool, attention_bias, "biases of attention", NULL, NULL, 0, 1, 1)                                               \
    X(float, clip_qkv, "clip of q, k and v", "attention.clamp_kqv", NULL, 0, 3e38, 0)                                 \
    X(bool, v_norm, "norm of values", NULL, NULL, 0, 1, 0)                                                            \
    X(float, attention_scale, "attention scale", NULL, NULL, 0, 1e9, 0)                                               \
    X(float, temper, "growth of queries with positions", NULL, NULL, 0, 1e3, 0)                                       \
    X(int, temper_shift, "position at which that growth begins to count", NULL, NULL, 0, 1, 0)                        \
    X(int, temper_every, "positions of a step of that growth", NULL, NULL, 0, MODEL_CONTEXT_MAX, 0)                   \
    X(int, q_rank, "rank of latent queries", "attention.q_lora_rank", "q_lora_rank", 0, MODEL_DIM_MAX, 0)             \
    X(int, kv_rank, "rank of latent keys and values", "attention.kv_lora_rank", "kv_lora_rank", 0, 4096, 0)           \
    X(int, rope_part, "rotary part of a head", NULL, NULL, 0, 4096, 0)                                                \
    X(bool, latent_parts, "keys and values of latents as two tensors", NULL, NULL, 0, 1, 0)                           \
    X(float, latent_eps, "RMS norm epsilon of latents", NULL, NULL, FIELD_ABOVE_0, 1, 1e-6)                           \
    X(int, index_heads, "heads of the indexer", NULL, NULL, 0, MODEL_HEADS_MAX, 0)                                    \
    X(int, index_dim, "key length of the indexer", NULL, NULL, 0, 4096, 0)                                            \
    X(int, index_topk, "positions that the indexer chooses", NULL, NULL, 0, MODEL_CONTEXT_MAX, 0)                     \
    X(float, embedding_scale, "embedding scale", NULL, NULL, FIELD_ABOVE_0, 1e9, 1)                                   \
    X(float, residual_scale, "residual scale", NULL, NULL, FIELD_ABOVE_0, 1e9, 1)                                     \
    X(float, logit_scale, "logit scale", NULL, NULL, FIELD_ABOVE_0, 1e9, 1)                                           \
    X(float, logit_softcap, "softcap of logits", NULL, NULL, 0, 1e9, 0)                                               \
    X(int, conv_width, "width of convolutions", NULL, NULL, 0, CONV_MOST, 0)                                          \
    X(bool, conv_bias, "biases of convolutions", NULL, NULL, 0, 1, 1)                                                 \
    X(int, mamba_heads, "number of Mamba heads", NULL, NULL, 0, MODEL_HEADS_MAX, 0)                                   \
    X(int, mamba_inner, "inner size of Mamba", NULL, NULL, 0, MODEL_DIM_MAX, 0)                                       \
    X(int, mamba_state, "state size of Mamba", NULL, NULL, 0, 4096, 0)                                                \
    X(int, mamba_groups, "number of Mamba groups", NULL, NULL, 0, MODEL_HEADS_MAX, 0)                                 \
    X(int, dense_ffn, "dense FFN size", "feed_forward_length", NULL, 0, MODEL_DIM_MAX, 0)                             \
    X(int, expert_ffn, "expert FFN size", "expert_feed_forward_length", NULL, 1, MODEL_DIM_MAX, 0)                    \
    X(int, latent, "latent size of experts", NULL, NULL, 0, MODEL_DIM_MAX, 0)                                         \
    X(int, shared_experts, "number of shared experts", NULL, NULL, 0, ROUTER_EXPERTS_MAX, 0)                          \
    X(int, shared_ffn, "shared expert FFN size", NULL, NULL, 0, MODEL_DIM_MAX, 0)                                     \
    X(bool, selection_bias, "bias of the choice of experts", NULL, NULL, 0, 1, 1)                                     \
    X(int, linear_heads, "heads of linear attention", NULL, NULL, 0, MODEL_HEADS_MAX, 0)                              \
    X(int, linear_key_heads, "key heads of linear attention", NULL, NULL, 0, MODEL_HEADS_MAX, 0)                      \
    X(int, linear_key_dim, "key length of linear attention", NULL, NULL, 0, 4096, 0)                                  \
    X(int, linear_value_dim, "value length of linear attention", NULL, NULL, 0, 4096, 0)                              \
    X(bool, linear_tiled, "key heads of linear attention in turn", NULL, NULL, 0, 1, 0)                               \
    X(bool, linear_qkvz, "q, k, v and gate of linear attention in one", NULL, NULL, 0, 1, 0)                          \
    X(bool, linear_ba, "beta and step of linear attention in one", NULL, NULL, 0, 1, 0)

/* Numbers of the activation (compute/compute.h), with their place in model_config. */
#define GLU_FIELDS(X)                                                                   \
    X(float, alpha, "alpha of the clamped activation", NULL, NULL, 0, 1e9, 0)           \
    X(float, limit, "limit of the clamped activation", NULL, "swiglu_limit", 0, 1e9, 0) \
    X(float, offset, "offset of the clamped activation", NULL, NULL, 0, 1e9, 0)

#define LAYER_FIELDS(X)                                                                                 \
    X(int, heads, "number of heads", "attention.head_count", "num_attention_heads", 1, MODEL_HEADS_MAX, \
      FIELD_REQUIRED)                                                                                   \
    X(int, kv_heads, "number of key/value heads", "attention.head_count_kv", "num_key_value_heads", 1,  \
      MODEL_HEADS_MAX, FIELD_DERIVED)                                                                   \
    X(int, key_dim, "key length of a head", "attention.key_length", "head_dim", 1, 4096, FIELD_DERIVED) \
    X(int, value_dim, "value length of a head", "attention.value_length", NULL, 1, 4096, FIELD_DERIVED) \
    X(bool, tempered, "growth of queries in a layer", NULL, NULL, 0, 1, 0)                              \
    X(bool, plain_qk_norm, "q/k norm without weights", NULL, NULL, 0, 1, 0)                             \
    X(int, chunk, "chunk of attention", NULL, NULL, 0, MODEL_CONTEXT_MAX, 0)                            \
    X(bool, own_values, "values apart from keys", NULL, NULL, 0, 1, 1)                                  \
    X(int, window, "sliding window", "attention.sliding_window", NULL, 0, MODEL_CONTEXT_MAX, 0)         \
    X(bool, indexed, "indexer of a layer", NULL, NULL, 0, 1, 0)

/* Numbers of the router (compute/router.h), with their place in model_config. */
#define ROUTER_FIELDS(X)                                                                                         \
    X(int, experts, "number of experts", "expert_count", "num_experts|num_local_experts", 1, ROUTER_EXPERTS_MAX, \
      FIELD_REQUIRED)                                                                                            \
    X(int, top_k, "experts of a token", "expert_used_count", "num_experts_per_tok", 1, ROUTER_EXPERTS_MAX,       \
      FIELD_REQUIRED)                                                                                            \
    X(bool, renormalise, "renormalised expert weights", NULL, NULL, 0, 1, 0)                                     \
    X(float, band, "band of the sparse mixer", NULL, NULL, 0, 2, 0)                                              \
    X(float, scale, "scale of expert weights", NULL, NULL, FIELD_ABOVE_0, 1e9, 1)                                \
    X(int, groups, "groups of experts", "expert_group_count", NULL, 0, ROUTER_EXPERTS_MAX, 0)                    \
    X(int, groups_used, "groups of experts used", "expert_group_used_count", NULL, 0, ROUTER_EXPERTS_MAX, 0)

#define FIELD_DECLARE(type, name, what, gguf, hf, min, max, fallback) type name;

typedef enum config_field {
#define FIELD_ENUM(type, name, what, gguf, hf, min, max, fallback) FIELD_##name,
    MODEL_FIELDS(FIELD_ENUM) ROUTER_FIELDS(FIELD_ENUM) GLU_FIELDS(FIELD_ENUM) LAYER_FIELDS(FIELD_ENUM)
#undef FIELD_ENUM
        FIELD_COUNT
} config_field;

/* A family's own key, or its own value where the key is missing; it replaces the list's entry. Tables of them end with
 * FIELD_COUNT. */
typedef struct field_rule {
    config_field field;
    const char *gguf, *hf; /* "a|b": either key; NULL: that format has none */
    double fallback;
    bool hf_required; /* config.json must have the key, whatever the fallback */
    bool hf_counted;  /* config.json may have a list or a text under the key: the number of its entries, or letters */
} field_rule;
#define FIELDS_END           \
    {                        \
        .field = FIELD_COUNT \
    }

struct model_config;
struct model_files;
struct config_object;

/* fields_read_gguf, fields_read_hf - read every number that has a key, `rules` (NULL, or a family's) before the list's
 * own entries. Allocates c->layer once the number of layers is known. prefix: the architecture's name in GGUF.
 * Numbers below their min are left to fields_check: 0 often stands for "not there".
 * Errors: ERR_FORMAT names file and key: missing, of another kind, beyond its max, a list of another length;
 * ERR_UNSUPPORTED: a list whose entries differ where the model needs one number; ERR_MEMORY. */
odmoe_status fields_read_gguf(const struct model_files *files, const char *prefix, const field_rule *rules,
                              struct model_config *c, odmoe_error *err);
odmoe_status fields_read_hf(const struct config_object *json, const field_rule *rules, struct model_config *c,
                            odmoe_error *err);

/* fields_flag - is a number other than 0 (a bool: true), in this layer where layers have their own? fields_what - the
 * words for a field. fields_hf_key - its key in config.json, the family's own first; NULL: none. */
bool fields_flag(const struct model_config *c, config_field field, int layer);
const char *fields_what(config_field field);
const char *fields_hf_key(const field_rule *rules, config_field field);

/* fields_check - is every number in its range? ERR_FORMAT names the first that is not. */
odmoe_status fields_check(const struct model_config *c, odmoe_error *err);

/* fields_visit - call visit(ctx, what, layer, value) for every number; layer is -1 for the model's own. */
void fields_visit(const struct model_config *c, void (*visit)(void *ctx, const char *what, int layer, double value),
                  void *ctx);

#endif
