/* mixer.h - what mixes information between the tokens of a sequence (attention today; latent or linear attention fit
 * the same table): it declares its state's bytes, appends to it, and can copy and cut it. */
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
    const resident *weights; /* [W_ROLE_COUNT] of this layer */
    const rope *rope;
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
    /* bytes of one sequence's state in one layer, with room for `context` positions */
    uint64_t (*state_bytes)(const model_config *c, kv_type kv, int64_t context);
    /* workspace for up to max_rows rows; NULL while measuring. mask: formats that the output projections take */
    void *(*layout)(arena *a, const model_config *c, unsigned mask, int64_t max_rows, int threads);
    /* out = mixer(in); rows are appended to their states at their positions */
    void (*forward)(const mixer_call *call);
    /* copy the first `length` positions of a state to another with its own room */
    void (*copy)(const model_config *c, kv_type kv, const void *from, int64_t from_context, void *to,
                 int64_t to_context, int64_t length);
} mixer;

/* Cutting a sequence back to an earlier length needs no function here: a mixer's state up to a position must not depend
 * on what came after it, and `forward` writes at the position it is given. */

extern const mixer mixer_attention;

#endif
