/* balance.h - how evenly rows go to experts, and the losses that make them.
 *
 *   f_i = slots given to expert i / rows        P_i = mean over rows of the router's probability of i
 *   aux = E * sum_i f_i P_i                     top_k when balanced; a fraction of it is f's share only: f is a
 * constant z   = mean over rows of logsumexp(logits)^2
 *
 * A balance collects f and P. One for each layer gives the loss per layer; one for all layers the loss over
 * concatenated layers, as Hugging Face computes it. */
#ifndef ODMOE_LAYER_BALANCE_H
#define ODMOE_LAYER_BALANCE_H

#include "compute/router.h"

typedef struct balance {
    int experts;
    int64_t rows;
    uint64_t *slots; /* [experts] */
    double *probs;   /* [experts] sums, in row order */
} balance;

/* balance_init - balance_clear takes a zeroed one, too. ERR_RANGE, ERR_MEMORY. */
odmoe_status balance_init(balance *b, int experts, odmoe_error *err);
void balance_clear(balance *b);
void balance_reset(balance *b);

/* balance_add - n rows: scores [n, experts] as router_select leaves them, topk [n, top_k]. */
void balance_add(balance *b, const router_config *c, const float *scores, const int32_t *topk, int64_t n);

/* balance_merge - what `from` has collected goes to `b` as well. */
void balance_merge(balance *b, const balance *from);

/* balance_loss - aux; with `normalised` divided by the slots of a row: 1 when balanced. 0 without rows. */
double balance_loss(const balance *b, bool normalised);

/* balance_gradient - what `coef` * aux adds to the gradient of each row's probability of expert i; [experts]. */
void balance_gradient(const balance *b, bool normalised, double coef, float *out);

/* balance_update_bias - bias[i] += rate where expert i has less than the mean load, -= rate where it has more. */
void balance_update_bias(const balance *b, float rate, float *bias);

/* logsumexp of one row of logits [experts], stable; z's mean is taken over squares of it. */
double loss_logsumexp(const float *logits, int experts);

#endif
