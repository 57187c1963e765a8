/* mamba2.h - Mamba-2 (Dao and Gu 2024) as a token mixer. From a layer's input x it takes, by one matrix, a gate z, inputs
 * (u, B, C) and a time step for each head:
 *
 *   (u, B, C) = silu(conv(u, B, C))          causal, each channel by itself
 *   dt = softplus(dt + bias)
 *   S = exp(dt * A) * S + B (dt * u)^T       for each head, with its state S [state, inner / heads]; A is below 0
 *   h = S^T C + D * u
 *   out = matrix * norm(silu(z) * h)         each group of heads is normalised by itself
 *
 * Heads of one group share B and C. What it keeps of a sequence: the last inputs of the convolution, and S. */
#ifndef ODMOE_MODEL_MAMBA2_H
#define ODMOE_MODEL_MAMBA2_H

#include "model/mixers/mixer.h"

typedef enum mamba2_role {
    MAMBA2_Z,
    MAMBA2_UBC,
    MAMBA2_DT,
    MAMBA2_DT_BIAS,
    MAMBA2_TAPS,
    MAMBA2_CONV_BIAS,
    MAMBA2_A,
    MAMBA2_D,
    MAMBA2_NORM,
    MAMBA2_OUT,
    MAMBA2_ROLES
} mamba2_role;

typedef enum mamba2_dim {
    DIM_MAMBA2_INNER = DIM_OF_MIXER,
    DIM_MAMBA2_CONV, /* u, B and C side by side */
    DIM_MAMBA2_HEADS,
    DIM_MAMBA2_WIDTH
} mamba2_dim;

extern const weight_rule mamba2_weights[];       /* in a folder under `mamba.` */
extern const weight_rule mamba2_weights_mixer[]; /* under Nemotron-H's `mixer.` */

extern const mixer mixer_mamba2;

#endif
