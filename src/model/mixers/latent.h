/* latent.h - multi-head latent attention (DeepSeek-V2, 2024) as a token mixer, with or without an indexer, which chooses the
 * positions that a token sees (DeepSeek-V3.2, 2025): its weights, and the tables of the names that families give them. */
#ifndef ODMOE_MODEL_LATENT_H
#define ODMOE_MODEL_LATENT_H

#include "model/mixers/mixer.h"

typedef enum latent_role {
    LATENT_Q, /* where queries have no rank of their own; else q_b(norm(q_a x)) */
    LATENT_Q_A,
    LATENT_Q_A_NORM,
    LATENT_Q_B,
    LATENT_KV_A, /* the latent, and behind it the rotary key that all heads share */
    LATENT_KV_A_NORM,
    LATENT_KV_B, /* for each head, rows [keys | values] from the latent; or, latent_parts, two tensors: */
    LATENT_K_B,  /* for each head the keys' part transposed: from a query to what is multiplied with latents */
    LATENT_V_B,
    LATENT_O,
    LATENT_INDEX_Q_B, /* of the indexer: queries, from the same latents as attention's */
    LATENT_INDEX_K,   /* one key for all its heads */
    LATENT_INDEX_K_NORM,
    LATENT_INDEX_K_NORM_BIAS,
    LATENT_INDEX_WEIGHTS, /* of its heads, from the layer's input */
    LATENT_ROLES
} latent_role;

typedef enum latent_dim {
    DIM_LATENT_Q = DIM_OF_MIXER, /* all heads' queries side by side */
    DIM_LATENT_Q_RANK,
    DIM_LATENT_RANK,
    DIM_LATENT_KEY, /* a latent and a rotary key: what the cache holds of a token */
    DIM_LATENT_HEADS,
    DIM_LATENT_NOPE, /* the part of a head's query and key that is not rotated */
    DIM_LATENT_NOPE_AND_VALUE,
    DIM_LATENT_VALUE,
    DIM_LATENT_OUT, /* all heads' values side by side */
    DIM_INDEX_Q,    /* all heads' queries of the indexer side by side */
    DIM_INDEX,
    DIM_INDEX_HEADS
} latent_dim;

extern const weight_rule latent_weights[];
extern const weight_rule latent_indexer[]; /* in layers with an indexer of their own */

extern const mixer mixer_latent;

#endif
