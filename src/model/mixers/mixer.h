/* mixer.h - a token mixer: what moves information between the tokens of a sequence (attention, latent attention, linear
 * attention, short convolution ...). A mixer owns its weights, its checks, its state and its arithmetic; the driver,
 * the planner and the configuration know none of them. A new mixer is one file here and one `mixer`. */
#ifndef ODMOE_MODEL_MIXER_H
#define ODMOE_MODEL_MIXER_H

#include "model/blocks/rope.h"
#include "model/weights.h"
#include "moe/linear.h"

/* One row of a pass as a mixer sees it. Rows of one sequence come in ascending positions. */
typedef struct mixer_row {
    void *state;      /* the sequence's state of this layer */
    int32_t position; /* everything before it is in the state */
    int32_t context;  /* positions that the state has room for */
} mixer_row;

typedef struct mixer_call {
    const compute *c;
    const model_config *config;
    int layer;
    const resident *weights; /* of this layer's mixer, by its roles */
    const rope *rope;        /* NULL: the layer's queries and keys do not turn */
    const float *cosines, *sines; /* [n, rope.half] of each row's position */
    kv_type kv;
    const mixer_row *rows; /* [n] */
    int64_t n;
    const activations *in; /* [n, hidden], normalised, in the formats of the weights */
    float *out;            /* [n, hidden] */
    void *work;            /* from layout */
} mixer_call;

typedef struct mixer {
    const char *name;
    const weight_rule *weights; /* its tensors by the usual names; ends with WEIGHTS_END */
    int roles;                  /* how many weights a layer has, at most */
    /* the length that one of the mixer's own dimensions (DIM_OF_MIXER and above) stands for */
    int64_t (*dim)(const model_config *c, int layer, int dim);
    /* ERR_FORMAT or ERR_UNSUPPORTED: numbers of this layer that do not fit together */
    odmoe_status (*check)(const model_config *c, int layer, odmoe_error *err);
    /* ERR_UNSUPPORTED: the layer's state cannot be kept as this type */
    odmoe_status (*check_kv)(const model_config *c, int layer, kv_type kv, odmoe_error *err);
    /* the formats that the weights which read the layer's input take, and those which read its own results */
    unsigned (*in_mask)(const kernel_table *k, const resident *weights);
    unsigned (*mid_mask)(const kernel_table *k, const resident *weights);
    /* bytes of one sequence's state in one layer, with room for `context` positions */
    uint64_t (*state_bytes)(const model_config *c, int layer, kv_type kv, int64_t context);
    /* workspace for up to max_rows rows of any layer; NULL while measuring. mask: formats of mid_mask, of all layers */
    void *(*layout)(arena *a, const model_config *c, unsigned mask, int64_t max_rows, int threads);
    /* out = mixer(in); rows are appended to their states at their positions */
    void (*forward)(const mixer_call *call);
    /* copy the first `length` positions of a state to another with its own room */
    void (*copy)(const model_config *c, int layer, kv_type kv, const void *from, int64_t from_context, void *to,
                 int64_t to_context, int64_t length);
} mixer;

#endif
