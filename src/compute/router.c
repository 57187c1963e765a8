#include "compute/router.h"

#include <math.h>

odmoe_status router_check(const router_config *c, odmoe_error *err)
{
    if (c->experts < 1 || c->experts > ROUTER_EXPERTS_MAX)
        return err_set(err, ODMOE_ERR_RANGE, "%d experts: 1 to %d are possible", c->experts, ROUTER_EXPERTS_MAX);
    if (c->top_k < 1 || c->top_k > c->experts || c->top_k > ROUTER_TOP_K_MAX)
        return err_set(err, ODMOE_ERR_RANGE, "top-k %d: 1 to %d of %d experts are possible", c->top_k, ROUTER_TOP_K_MAX,
                       c->experts);
    if ((int)c->score < 0 || c->score >= ODMOE_SCORE_COUNT)
        return err_set(err, ODMOE_ERR_RANGE, "router score %d: 0 to %d are possible", (int)c->score,
                       ODMOE_SCORE_COUNT - 1);
    if ((int)c->group_score < 0 || c->group_score >= ODMOE_GROUP_SCORE_COUNT)
        return err_set(err, ODMOE_ERR_RANGE, "router group score %d: 0 to %d are possible", (int)c->group_score,
                       ODMOE_GROUP_SCORE_COUNT - 1);
    if (!(c->sum_add >= 0) || !(c->sum_floor >= 0) || !isfinite(c->sum_add) || !isfinite(c->sum_floor))
        return err_set(err, ODMOE_ERR_RANGE, "sums of router weights: sum_add %g and sum_floor %g must be 0 or above",
                       (double)c->sum_add, (double)c->sum_floor);
    if (!(c->band >= 0) || !isfinite(c->band))
        return err_set(err, ODMOE_ERR_RANGE, "band of a sparse mixer %g: must be 0 or above", (double)c->band);
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

static bool is_finite(float x)
{
    return x - x == 0;
}

/* sqrt(log(1 + exp(x))), without overflow. */
static float sqrt_softplus(float x)
{
    return sqrtf(fmaxf(x, 0) + log1pf(expf(-fabsf(x))));
}

static bool scores_apart(const router_config *c, const float *logits, float *scores)
{
    bool finite = true;
    for (int e = 0; e < c->experts; e++) {
        float x = logits[e];
        finite &= is_finite(x);
        if (isnan(x))
            scores[e] = 0;
        else
            scores[e] = c->score == ODMOE_SCORE_SIGMOID ? 1.0f / (1.0f + expf(-x)) : sqrt_softplus(x);
    }
    return finite;
}

bool router_scores(const router_config *c, const float *logits, float *scores)
{
    if (!router_softmax(c))
        return scores_apart(c, logits, scores);
    bool finite = true;
    float max = -INFINITY, sum = 0;
    for (int e = 0; e < c->experts; e++) {
        finite &= is_finite(logits[e]);
        if (logits[e] > max)
            max = logits[e];
    }
    for (int e = 0; e < c->experts; e++) {
        /* all -inf or NaN: uniform rather than NaN; +inf: shared by those that have it */
        float d = logits[e] == max ? 0.0f : logits[e] - max;
        scores[e] = isnan(d) ? 0.0f : expf(d);
        sum += scores[e];
    }
    for (int e = 0; e < c->experts; e++)
        scores[e] = sum > 0 ? scores[e] / sum : 1.0f / (float)c->experts;
    return finite;
}

static float group_score(const router_config *c, const float *keys, int size)
{
    float first = -INFINITY, second = -INFINITY;
    for (int i = 0; i < size; i++) {
        if (keys[i] > first) {
            second = first;
            first = keys[i];
        } else if (keys[i] > second) {
            second = keys[i];
        }
    }
    float score = size > 1 && c->group_score == ODMOE_GROUP_BEST_TWO ? first + second : first;
    return isnan(score) ? -INFINITY : score; /* infinite keys of both signs */
}

/* Take the experts outside the best groups out of the running: their keys become NaN. best: scratch [groups]. */
static void limit_groups(const router_config *c, float *keys, float *best)
{
    int size = c->experts / c->groups;
    for (int g = 0; g < c->groups; g++)
        best[g] = group_score(c, keys + g * size, size);
    for (int g = 0; g < c->groups; g++) {
        int better = 0;
        for (int o = 0; o < c->groups; o++)
            better += best[o] > best[g] || (best[o] == best[g] && o < g);
        for (int i = 0; i < size && better >= c->groups_used; i++)
            keys[g * size + i] = NAN;
    }
}

/* A softmax over the chosen logits, the largest first. */
static void softmax_of_chosen(const router_config *c, const float *logits, const int32_t *topk, float *topw)
{
    float max = logits[topk[0]], sum = 0;
    for (int k = 1; k < c->top_k; k++)
        max = fmaxf(max, logits[topk[k]]);
    for (int k = 0; k < c->top_k; k++) {
        float d = logits[topk[k]] == max ? 0.0f : logits[topk[k]] - max;
        topw[k] = isnan(d) ? 0.0f : expf(d);
        sum += topw[k];
    }
    for (int k = 0; k < c->top_k; k++)
        topw[k] = sum > 0 ? topw[k] / sum : 1.0f / (float)c->top_k;
}

static void renormalise(const router_config *c, float *topw)
{
    float sum = 0;
    for (int k = 0; k < c->top_k; k++)
        sum += topw[k];
    sum = router_divisor(c, sum);
    for (int k = 0; k < c->top_k; k++)
        topw[k] = sum > 0 ? topw[k] / sum : 1.0f / (float)c->top_k;
}

/* The expert that comes next; one with the key NaN is out of the running. */
static int best_key(const router_config *c, const float *keys)
{
    int best = -1;
    for (int e = 0; e < c->experts; e++)
        if (best < 0 ? !isnan(keys[e]) : keys[e] > keys[best])
            best = e;
    return best;
}

/* The weight of a sparse mixer's choice: its part of a softmax over the experts in the running that are near it. */
static float mixer_weight(const router_config *c, const float *logits, const float *keys, int best)
{
    float top = logits[best], sum = 0;
    for (int e = 0; e < c->experts; e++) {
        float below = top - logits[e];
        bool far = below / fmaxf(fabsf(logits[e]), top) > c->band; /* 0 / 0: not */
        if (!isnan(keys[e]) && !isnan(below) && !far)
            sum += expf(-below);
    }
    return sum > 0 ? 1 / sum : 1;
}

bool router_select(const router_config *c, const float *logits, const router_vectors *vectors, float *scores,
                   int32_t *topk, float *topw, float *scratch)
{
    const float *bias = vectors->selection_bias;
    bool finite = router_scores(c, logits, scores);
    /* Without a bias the choice is by logit: scores can collide where logits differ, at 0 and at 1. */
    float *keys = scratch;
    bool mixer = c->score == ODMOE_SCORE_SPARSE_MIXER;
    bool by_logit = mixer || c->score == ODMOE_SCORE_SOFTMAX_CHOSEN || (!bias && !c->groups);
    for (int e = 0; e < c->experts; e++) {
        float key = (by_logit ? logits[e] : scores[e]) + (bias ? bias[e] : 0.0f);
        keys[e] = isnan(key) ? -INFINITY : key;
    }
    if (c->groups)
        limit_groups(c, keys, scratch + c->experts);
    for (int k = 0; k < c->top_k; k++) {
        int best = best_key(c, keys);
        topk[k] = best;
        topw[k] = mixer ? mixer_weight(c, logits, keys, best) : scores[best];
        keys[best] = NAN;
    }
    if (c->score == ODMOE_SCORE_SOFTMAX_CHOSEN)
        softmax_of_chosen(c, logits, topk, topw);
    else if (c->renormalise)
        renormalise(c, topw);
    for (int k = 0; k < c->top_k; k++) {
        topw[k] *= c->scale;
        if (vectors->expert_scale)
            topw[k] *= vectors->expert_scale[topk[k]];
    }
    return finite;
}

double router_score_sum(const router_config *c, const float *scores)
{
    double sum = 0;
    if (router_softmax(c))
        return 1;
    for (int e = 0; e < c->experts; e++)
        sum += scores[e];
    return sum;
}
