/* balance.h - how evenly tokens go to experts, and the losses that make them.
 *
 *   f_i = choices of expert i / tokens          P_i = mean over tokens of the router's probability of i
 *   aux = E * sum_i f_i P_i                     top_k when balanced. f is a count, treated as a constant in the gradient.
 *   z   = mean over tokens of logsumexp(logits)^2
 *
 * A balance collects f and P. One for each layer gives the loss per layer; one for all layers the loss over
 * concatenated layers, as Hugging Face computes it. */
#ifndef ODMOE_LAYER_BALANCE_H
#define ODMOE_LAYER_BALANCE_H

#include "compute/router.h"

typedef struct balance {
    int experts;
    int64_t tokens;
    uint64_t *choices; /* [experts] */
    double *probs;     /* [experts] sums, in token order */
} balance;

/* balance_init - balance_clear takes a zeroed one, too. ERR_RANGE, ERR_MEMORY. */
odmoe_status balance_init(balance *b, int experts, odmoe_error *err);
void balance_clear(balance *b);
void balance_reset(balance *b);

/* balance_add - n tokens: scores [n, experts] as router_select leaves them, topk [n, top_k]. */
void balance_add(balance *b, const router_config *c, const float *scores, const int32_t *topk, int64_t n);

/* balance_merge - what `from` has collected goes to `b` as well. */
void balance_merge(balance *b, const balance *from);

/* balance_loss - aux; with `normalised` divided by the choices of a token: 1 when balanced. 0 without tokens. */
double balance_loss(const balance *b, bool normalised);

/* balance_gradient - what `coef` * aux adds to the gradient of each token's probability of expert i; [experts]. */
void balance_gradient(const balance *b, bool normalised, double coef, float *out);

/* balance_update_bias - bias[i] += rate where expert i has less than the mean load, -= rate where it has more. */
void balance_update_bias(const balance *b, float rate, float *bias);

/* loss_logsumexp - of one token's logits [experts], stable; z's mean is taken over squares of it. */
double loss_logsumexp(const float *logits, int experts);

#endif
