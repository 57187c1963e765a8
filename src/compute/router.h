/* router.h - which experts work on a token, and with what weight. Variants are data, not branches on a model's name. */
#ifndef ODMOE_COMPUTE_ROUTER_H
#define ODMOE_COMPUTE_ROUTER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

#define ROUTER_EXPERTS_MAX 4096
#define ROUTER_TOP_K_MAX 64

typedef enum router_score { ROUTER_SOFTMAX, ROUTER_SIGMOID } router_score;

typedef struct router_config {
    int experts, top_k;
    router_score score;
    int groups, groups_used; /* group-limited selection (DeepSeek-V3): experts in `groups` equal groups, the best
                                `groups_used` by the sum of their two best scores may be chosen from; 0: off */
    bool renormalise;        /* the chosen weights sum to 1 */
    float scale;             /* multiplies the weights; 1 */
} router_config;

/* router_check - ERR_RANGE names the number that makes no sense. */
odmoe_status router_check(const router_config *c, odmoe_error *err);

/* router_select - choose for one token.
 * logits [experts]; bias [experts] or NULL: added to the scores for the selection only (DeepSeek-V3's balancing bias).
 * probs [experts]: the scores (softmax over all experts, or sigmoid). topk, topw [top_k]: by falling score, ties to the
 * lower index; weights are the scores without bias, then renormalised and scaled as configured. Never fails: a NaN
 * logit counts as the smallest. */
void router_select(const router_config *c, const float *logits, const float *bias, float *probs, int32_t *topk,
                   float *topw);

/* router_scores - the scores alone: probs [experts] as router_select leaves them. */
void router_scores(const router_config *c, const float *logits, float *probs);

/* router_score_sum - what scores [experts] are divided by to be probabilities: 1 for softmax, their sum for sigmoid. */
double router_score_sum(const router_config *c, const float *scores);

#endif
