/* config.h - what a model of any family looks like to the layer stack: numbers, no names. An architecture file
 * (arch/) fills it from the metadata of either format; everything else reads it. */
#ifndef ODMOE_MODEL_CONFIG_H
#define ODMOE_MODEL_CONFIG_H

#include <stdbool.h>

#include "format/config.h"
#include "moe/router.h"

/* Limits on every number that sizes something: far above any published model, low enough that products of three cannot
 * overflow 64 bits. */
#define MODEL_LAYERS_MAX 1024
#define MODEL_DIM_MAX (1 << 20)
#define MODEL_VOCAB_MAX (1 << 24)
#define MODEL_CONTEXT_MAX (1 << 24)

/* Which two elements of a head turn together. */
typedef enum rope_pairing {
    ROPE_HALVES,    /* i and i + n/2: Hugging Face, GGUF's "neox" families */
    ROPE_NEIGHBOURS /* 2i and 2i + 1: GGUF's llama, whose q and k rows are stored in that order */
} rope_pairing;

typedef struct model_config {
    const char *family;
    int layers, vocab, context;
    bool tied; /* the output matrix may be missing: it is the embedding then */
    int hidden;
    int heads, kv_heads, head_dim;
    float rms_eps;
    rope_config rope;
    rope_pairing pairing;
    int rope_dim;                          /* leading elements of a head that turn; head_dim where all do */
    bool norm_heads;                       /* q/k norm weights are per head (head_dim), not over all heads at once */
    float clip_qkv;                        /* q, k, v are clamped to +-this; 0: not */
    int window[MODEL_LAYERS_MAX];          /* a token sees the last window[l] positions, itself included; 0: all */
    bool dense[MODEL_LAYERS_MAX];          /* layers with one plain FFN instead of experts */
    int dense_ffn, expert_ffn, shared_ffn; /* widths; 0: none */
    router_config router;
} model_config;

/* Length of all query heads, and of all key (= value) heads, side by side. */
static inline int64_t config_q_dim(const model_config *c)
{
    return (int64_t)c->heads * c->head_dim;
}
static inline int64_t config_kv_dim(const model_config *c)
{
    return (int64_t)c->kv_heads * c->head_dim;
}

/* config_moe_layer - the number of layer l among the layers with experts, or -1. config_moe_layers - how many there
 * are. */
int config_moe_layer(const model_config *c, int l);
int config_moe_layers(const model_config *c);

/* config_check - do the numbers fit together? ERR_FORMAT or ERR_UNSUPPORTED names the one that doesn't. */
odmoe_status config_check(const model_config *c, odmoe_error *err);

#endif
