/* delta_net.h - gated delta net (Yang et al. 2025) as a token mixer: linear attention with the delta rule, a decay for each
 * head, a convolution before it and a gated norm behind it. */
#ifndef ODMOE_MODEL_DELTA_NET_H
#define ODMOE_MODEL_DELTA_NET_H

#include "model/mixers/mixer.h"

typedef enum delta_role {
    DELTA_QKV,       /* queries and keys of all key heads, values of all heads */
    DELTA_Z,         /* the gate of the result */
    DELTA_QKVZ,      /* both in one: of each key head its query, key, and its heads' values and gates */
    DELTA_B,         /* how much each head takes on of what is new */
    DELTA_A,         /* how long the step is that it decays by */
    DELTA_BA,        /* both in one: of each key head its heads' numbers of either */
    DELTA_CONV,      /* [width, channels of DELTA_QKV] */
    DELTA_RATE,      /* [heads] of decay, below 0 */
    DELTA_STEP_BIAS, /* [heads] */
    DELTA_NORM,      /* [value_dim] */
    DELTA_OUT
} delta_role;

typedef enum delta_dim {
    DIM_DELTA_QKV = DIM_OF_MIXER,
    DIM_DELTA_QKVZ,
    DIM_DELTA_VALUES, /* of all heads */
    DIM_DELTA_VALUE,  /* of one head */
    DIM_DELTA_HEADS,
    DIM_DELTA_HEADS_2,
    DIM_DELTA_WIDTH
} delta_dim;

/* The configuration says which parts come in one: linear_qkvz, linear_ba. */
extern const weight_rule delta_net_weights[];

extern const mixer mixer_delta_net;

#endif
