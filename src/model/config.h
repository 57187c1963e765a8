/* config.h - what a model of any family looks like to the layer stack: numbers, no names of tensors.
 *
 * The numbers are declared by the lists in config_fields.h, which also read them from both formats, check them and sign
 * saved sessions. What a family adds (which layers have experts, which slide, which token mixer they have) is filled
 * by its file in arch/. Everything else reads the result. */
#ifndef ODMOE_MODEL_CONFIG_H
#define ODMOE_MODEL_CONFIG_H

#include <stdbool.h>

#include "format/config.h"
#include "compute/compute.h"
#include "model/config_fields.h"

/* A way of rotating queries and keys; layers name one of the model's. */
typedef struct rope_set {
    rope_config positions;
    rope_pairing pairing;
    int dim; /* leading elements of a head that are rotated; even */
    /* LongRoPE's factors of config.json, for contexts up to the original one and beyond; NULL: the weights have them */
    float *short_factors, *long_factors;
    int n_short, n_long;
} rope_set;
#define ROPE_SETS_MAX 2
#define ROPE_OFF (-1) /* as a layer's rope: queries and keys are not rotated */

typedef enum ffn_kind {
    FFN_EXPERTS, /* router and experts, with a shared expert where the model has one */
    FFN_DENSE,   /* one resident FFN */
    FFN_NONE     /* the layer is its mixer alone */
} ffn_kind;

struct mixer; /* mixers/mixer.h */

typedef struct layer_config {
    const struct mixer *mixer; /* NULL: the layer is its FFN alone */
    ffn_kind ffn;
    int moe_index;    /* this layer's number among the layers with experts; -1 without */
    int rope;         /* which of the model's rope sets; ROPE_OFF */
    int state_source; /* the layer whose keys and values this layer reads: its own number, or an earlier layer's */
    LAYER_FIELDS(FIELD_DECLARE)
} layer_config;

typedef struct model_config {
    const char *family;
    MODEL_FIELDS(FIELD_DECLARE)
    int moe_layers; /* how many layers have experts */
    rope_set ropes[ROPE_SETS_MAX];
    int rope_sets;
    router_config router;
    glu_config glu;      /* activation of experts, shared experts and dense FFNs */
    layer_config *layer; /* [layers] */
} model_config;

/* config_expert_hidden - how many numbers an expert takes and gives: the stream's, or those of latent experts. */
static inline int config_expert_hidden(const model_config *c)
{
    return c->latent ? c->latent : c->hidden;
}

/* config_free - free what the configuration holds; zeroed is fine. */
void config_free(model_config *c);

/* config_number_layers - fill moe_index, moe_layers and state_source from the layers' kinds; call it once a family
 * has said which layers have experts. */
void config_number_layers(model_config *c);

/* config_check - do the numbers fit together, each mixer's included? ERR_FORMAT or ERR_UNSUPPORTED names the one that
 * does not. */
odmoe_status config_check(const model_config *c, odmoe_error *err);

#endif
