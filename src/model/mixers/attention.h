/* attention.h - grouped-query attention (Ainslie et al. 2023) as a token mixer: its weights, and the tables of the names
 * that most families give them. */
#ifndef ODMOE_MODEL_ATTENTION_H
#define ODMOE_MODEL_ATTENTION_H

#include "model/mixers/mixer.h"

typedef enum attention_role {
    ATTENTION_Q,
    ATTENTION_K,
    ATTENTION_V,
    ATTENTION_O,
    ATTENTION_Q_BIAS,
    ATTENTION_K_BIAS,
    ATTENTION_V_BIAS,
    ATTENTION_O_BIAS,
    ATTENTION_Q_NORM,
    ATTENTION_K_NORM,
    ATTENTION_GATE,       /* its product's sigmoid multiplies what goes into the output projection */
    ATTENTION_SINKS,      /* a logit for each head, with no value */
    ATTENTION_Q_AND_GATE, /* both in one tensor, head by head: its query, its gate */
    ATTENTION_ROLES
} attention_role;

typedef enum attention_dim {
    DIM_Q = DIM_OF_MIXER, /* all query heads side by side */
    DIM_K,
    DIM_V,
    DIM_ATTENTION_OUT, /* all heads' values side by side */
    DIM_Q_NORM,        /* one head, or all of them: norm_heads */
    DIM_K_NORM,
    DIM_HEADS,
    DIM_Q_AND_GATE
} attention_dim;

extern const weight_rule attention_weights[];    /* q, k, v, o; or q, k and v in one */
extern const weight_rule attention_qkv_biases[]; /* where the configuration allows them */
extern const weight_rule attention_out_bias[];   /* the same for o */
extern const weight_rule attention_qk_norm[];    /* the same */
extern const weight_rule attention_gate[];
extern const weight_rule attention_sinks[];
extern const weight_rule attention_gated_weights[]; /* instead of attention_weights: q with the gate, k, v, o */

extern const mixer mixer_attention;

#endif
