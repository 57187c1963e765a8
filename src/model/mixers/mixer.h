/* mixer.h - a token mixer: what moves information between the tokens of a sequence (attention, latent attention, linear
 * attention, short convolution ...). A mixer owns its weights, its checks, its state and its arithmetic; the driver,
 * the planner and the configuration know none of them. A new mixer is one file here and one `mixer`.
 *
 * A mixer appends to the pages of its layer at the positions that it is given, and brings what it keeps of a sequence from
 * one place to another. It needs no undoing: the driver has two such places, and what lies behind a session's length means
 * nothing (session_state.h). */
#ifndef ODMOE_MODEL_MIXER_H
#define ODMOE_MODEL_MIXER_H

#include "compute/compute.h"
#include "model/session_state.h"
#include "model/weights.h"

/* Rotations of the call's tokens: [n, dim / 2] each. */
typedef struct mixer_rope {
    const rope_set *set; /* NULL: queries and keys of this layer are not rotated */
    buffer *cosines, *sines;
} mixer_rope;

typedef struct mixer_call {
    const compute *c;
    const model_config *config;
    int layer;
    const resident *weights; /* of this layer's mixer, by its roles */
    mixer_rope rope;
    kv_type kv;
    const kv_token *tokens;        /* [n] */
    const sequence_run *sequences; /* [n_sequences] what is kept is to be brought to the last token */
    int n_sequences;
    int64_t n;
    buffer *in;  /* [n, hidden], normalised */
    buffer *out; /* [n, hidden] */
    void *work;  /* from layout */
} mixer_call;

typedef struct mixer {
    const char *name;
    /* the length that one of the mixer's own dimensions (DIM_OF_MIXER and above) stands for */
    int64_t (*dim)(const model_config *c, int layer, int dim);
    /* ERR_FORMAT or ERR_UNSUPPORTED: numbers of this layer that do not fit together */
    odmoe_status (*check)(const model_config *c, int layer, odmoe_error *err);
    /* ERR_UNSUPPORTED: keys and values of the layer cannot be kept as this type; NULL: it keeps none */
    odmoe_status (*check_kv)(const model_config *c, int layer, kv_type kv, odmoe_error *err);
    /* what it keeps of a sequence in this layer */
    mixer_state (*state)(const model_config *c, int layer, kv_type kv);
    /* types of the weights that take the layer's input */
    dtype_set (*in_types)(const resident *weights);
    /* workspace for up to max_tokens tokens of any layer that has this mixer; NULL while measuring */
    void *(*layout)(const compute *c, arena *a, const model_config *config, const layer_weights *layers,
                    int64_t max_tokens);
    /* out = mixer(in) */
    void (*forward)(const mixer_call *call);
} mixer;

/* weight_types - the types of some of a layer's weights, for `in_types` and layouts; absent ones have none. */
static inline dtype_set weight_types(const resident *w, const int *roles, int n)
{
    dtype_set types = 0;
    for (int i = 0; i < n; i++)
        if (w[roles[i]].info)
            types |= dtype_bit(w[roles[i]].w.type);
    return types;
}

#endif
