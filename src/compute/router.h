/* router.h - which experts work on a token, and with what weight. Variants are data, not branches on a model's name. */
#ifndef ODMOE_COMPUTE_ROUTER_H
#define ODMOE_COMPUTE_ROUTER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "odmoe_layer.h"

#define ROUTER_EXPERTS_MAX 4096
#define ROUTER_TOP_K_MAX 64

/* The numbers of a router; odmoe_layer.h says what those of odmoe_router mean. */
typedef struct router_config {
    int experts, top_k;
    odmoe_score score;
    int groups, groups_used;
    odmoe_group_score group_score;
    bool renormalise;
    float sum_add, sum_floor; /* the divisor of renormalisation: max(sum + sum_add, sum_floor) */
    float scale;              /* 1 */
    float band;               /* of ODMOE_SCORE_SPARSE_MIXER */
    bool weight_on_input;
    /* Before the router's matrix: x / sqrt(mean(x^2) + norm_eps) * weight * input_scale (Gemma 4). */
    bool own_norm;
    float norm_eps, input_scale;
} router_config;

/* The vectors of a router, [experts] each; any may be NULL. */
typedef struct router_vectors {
    const float *selection_bias; /* added to the scores, for the choice only (DeepSeek-V3's balancing bias) */
    const float *expert_scale;   /* multiplies the weight of an expert, last of all (Gemma 4) */
} router_vectors;

/* router_check - ERR_RANGE names the number that is out of range. */
odmoe_status router_check(const router_config *c, odmoe_error *err);

/* router_select - choose for one token.
 * logits  [experts]
 * scores  [experts] out: softmax over all experts (of a sparse mixer, too), sigmoid or sqrt(softplus)
 * topk, topw  [top_k] out: by falling key (score + selection bias; without bias and groups the logit), ties to the lower
 *         index. Weights are the scores without bias, renormalised and scaled as configured.
 * scratch [2 * experts]
 * Returns false when a logit is not a finite number. The choice means nothing then, but its indices are valid: a NaN
 * counts as the smallest. */
bool router_select(const router_config *c, const float *logits, const router_vectors *vectors, float *scores,
                   int32_t *topk, float *topw, float *scratch);

/* router_scores - the scores alone, as router_select leaves them; returns the same. */
bool router_scores(const router_config *c, const float *logits, float *scores);

/* router_softmax - are the scores [experts] a softmax, so that they sum to 1? router_renormalises - are the chosen weights divided
 * by their sum? A softmax over the chosen is the softmax over all, renormalised. */
static inline bool router_softmax(const router_config *c)
{
    return c->score == ODMOE_SCORE_SOFTMAX || c->score == ODMOE_SCORE_SOFTMAX_CHOSEN ||
           c->score == ODMOE_SCORE_SPARSE_MIXER;
}
static inline bool router_renormalises(const router_config *c)
{
    return c->renormalise || c->score == ODMOE_SCORE_SOFTMAX_CHOSEN;
}

/* router_score_sum - what scores [experts] are divided by to be probabilities: 1 for a softmax, else their sum. */
double router_score_sum(const router_config *c, const float *scores);

/* router_divisor - what weights that sum to `sum` are divided by. */
static inline float router_divisor(const router_config *c, float sum)
{
    sum += c->sum_add;
    return sum > c->sum_floor ? sum : c->sum_floor;
}

#endif
