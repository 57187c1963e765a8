/* kda.h - Kimi delta attention (Kimi Team 2025) as a token mixer: the gated delta net's rule with a decay of its own for each
 * row of a head's state. */
#ifndef ODMOE_MODEL_KDA_H
#define ODMOE_MODEL_KDA_H

#include "model/mixers/mixer.h"

typedef enum kda_role {
    KDA_Q,
    KDA_K,
    KDA_V,
    KDA_CONV_Q, /* [width, channels] of queries, keys, values */
    KDA_CONV_K,
    KDA_CONV_V,
    KDA_B,         /* how much each head takes on of what is new */
    KDA_DECAY_IN,  /* how long the step is that each row decays by, through */
    KDA_DECAY_OUT, /* fewer numbers */
    KDA_STEP_BIAS, /* [all rows] */
    KDA_RATE,      /* [heads] of decay, below 0 */
    KDA_GATE_IN,   /* the gate of the result, the same way */
    KDA_GATE_OUT,
    KDA_NORM, /* [one head's values] */
    KDA_OUT
} kda_role;

typedef enum kda_dim {
    DIM_KDA_ALL = DIM_OF_MIXER, /* all heads side by side */
    DIM_KDA_HEAD,
    DIM_KDA_HEADS,
    DIM_KDA_WIDTH
} kda_dim;

extern const weight_rule kda_weights[];

extern const mixer mixer_kda;

#endif
