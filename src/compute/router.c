#include "compute/router.h"

#include <math.h>
#include <string.h>

odmoe_status router_check(const router_config *c, odmoe_error *err)
{
    if (c->experts < 1 || c->experts > ROUTER_EXPERTS_MAX)
        return err_set(err, ODMOE_ERR_RANGE, "%d experts: 1 to %d are possible", c->experts, ROUTER_EXPERTS_MAX);
    if (c->top_k < 1 || c->top_k > c->experts || c->top_k > ROUTER_TOP_K_MAX)
        return err_set(err, ODMOE_ERR_RANGE, "top-k %d: 1 to %d of %d experts are possible", c->top_k, ROUTER_TOP_K_MAX,
                       c->experts);
    if (c->score != ROUTER_SOFTMAX && c->score != ROUTER_SIGMOID)
        return err_set(err, ODMOE_ERR_RANGE, "router score %d is not known", (int)c->score);
    if (!isfinite(c->scale) || c->scale == 0)
        return err_set(err, ODMOE_ERR_RANGE, "router scale %g would leave nothing of the experts' outputs",
                       (double)c->scale);
    if (!c->groups)
        return ODMOE_OK;
    if (c->groups < 1 || c->experts % c->groups || c->groups_used < 1 || c->groups_used > c->groups ||
        c->groups_used * (c->experts / c->groups) < c->top_k)
        return err_set(err, ODMOE_ERR_RANGE, "%d of %d expert groups cannot give %d of %d experts", c->groups_used,
                       c->groups, c->top_k, c->experts);
    return ODMOE_OK;
}

void router_scores(const router_config *c, const float *logits, float *probs)
{
    if (c->score == ROUTER_SIGMOID) {
        for (int e = 0; e < c->experts; e++)
            probs[e] = isnan(logits[e]) ? 0.0f : 1.0f / (1.0f + expf(-logits[e]));
        return;
    }
    float max = -INFINITY, sum = 0;
    for (int e = 0; e < c->experts; e++)
        if (logits[e] > max)
            max = logits[e];
    for (int e = 0; e < c->experts; e++) {
        /* all -inf or NaN: uniform rather than NaN; +inf: shared by those that have it */
        float d = logits[e] == max ? 0.0f : logits[e] - max;
        probs[e] = isnan(d) ? 0.0f : expf(d);
        sum += probs[e];
    }
    for (int e = 0; e < c->experts; e++)
        probs[e] = sum > 0 ? probs[e] / sum : 1.0f / (float)c->experts;
}

/* Take the experts outside the best groups out of the running. */
static void limit_groups(const router_config *c, const float *keys, unsigned char *taken)
{
    int size = c->experts / c->groups;
    float best[ROUTER_EXPERTS_MAX];
    for (int g = 0; g < c->groups; g++) {
        float first = -INFINITY, second = -INFINITY;
        for (int i = 0; i < size; i++) {
            float key = keys[g * size + i];
            if (key > first) {
                second = first;
                first = key;
            } else if (key > second) {
                second = key;
            }
        }
        best[g] = size > 1 ? first + second : first;
        if (isnan(best[g])) /* infinite ones of both signs */
            best[g] = -INFINITY;
    }
    for (int g = 0; g < c->groups; g++) {
        int better = 0;
        for (int o = 0; o < c->groups; o++)
            better += best[o] > best[g] || (best[o] == best[g] && o < g);
        if (better >= c->groups_used)
            memset(taken + g * size, 1, (size_t)size);
    }
}

void router_select(const router_config *c, const float *logits, const float *bias, float *probs, int32_t *topk,
                   float *topw)
{
    router_scores(c, logits, probs);
    /* Softmax without a bias is chosen by logit: probabilities can collide where logits differ, and underflow to 0. */
    float keys[ROUTER_EXPERTS_MAX];
    bool by_logit = c->score == ROUTER_SOFTMAX && !bias && !c->groups;
    for (int e = 0; e < c->experts; e++) {
        float key = by_logit ? logits[e] : probs[e] + (bias ? bias[e] : 0.0f);
        keys[e] = isnan(key) ? -INFINITY : key;
    }
    unsigned char taken[ROUTER_EXPERTS_MAX];
    memset(taken, 0, (size_t)c->experts);
    if (c->groups)
        limit_groups(c, keys, taken);
    for (int k = 0; k < c->top_k; k++) {
        int best = -1;
        for (int e = 0; e < c->experts; e++)
            if (!taken[e] && (best < 0 || keys[e] > keys[best]))
                best = e;
        taken[best] = 1;
        topk[k] = best;
        topw[k] = probs[best];
    }
    float sum = 0;
    for (int k = 0; k < c->top_k; k++)
        sum += topw[k];
    for (int k = 0; k < c->top_k; k++) {
        if (c->renormalise)
            topw[k] = sum > 0 ? topw[k] / sum : 1.0f / (float)c->top_k;
        topw[k] *= c->scale;
    }
}

double router_score_sum(const router_config *c, const float *scores)
{
    double sum = 0;
    if (c->score == ROUTER_SOFTMAX)
        return 1;
    for (int e = 0; e < c->experts; e++)
        sum += scores[e];
    return sum;
}
