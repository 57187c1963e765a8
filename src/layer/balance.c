#include "layer/balance.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

odmoe_status balance_init(balance *b, int experts, odmoe_error *err)
{
    *b = (balance){0};
    if (experts < 1 || experts > ROUTER_EXPERTS_MAX)
        return err_set(err, ODMOE_ERR_RANGE, "%d experts: 1 to %d are possible", experts, ROUTER_EXPERTS_MAX);
    b->experts = experts;
    b->choices = mem_calloc((size_t)experts, sizeof *b->choices, "the balance of experts", err);
    b->probs = mem_calloc((size_t)experts, sizeof *b->probs, "the balance of experts", err);
    if (b->choices && b->probs)
        return ODMOE_OK;
    balance_clear(b);
    return ODMOE_ERR_MEMORY;
}

void balance_clear(balance *b)
{
    free(b->choices);
    free(b->probs);
    *b = (balance){0};
}

void balance_reset(balance *b)
{
    b->tokens = 0;
    memset(b->choices, 0, (size_t)b->experts * sizeof *b->choices);
    memset(b->probs, 0, (size_t)b->experts * sizeof *b->probs);
}

void balance_add(balance *b, const router_config *c, const float *scores, const int32_t *topk, int64_t n)
{
    b->tokens += n;
    for (int64_t i = 0; i < n * c->top_k; i++)
        b->choices[topk[i]]++;
    for (int64_t token = 0; token < n; token++, scores += b->experts) {
        double by = router_score_sum(c, scores);
        for (int e = 0; e < b->experts && by > 0; e++)
            b->probs[e] += scores[e] / by;
    }
}

void balance_merge(balance *b, const balance *from)
{
    b->tokens += from->tokens;
    for (int e = 0; e < b->experts; e++) {
        b->choices[e] += from->choices[e];
        b->probs[e] += from->probs[e];
    }
}

static double choices_of_token(const balance *b)
{
    uint64_t choices = 0;
    for (int e = 0; e < b->experts; e++)
        choices += b->choices[e];
    return (double)choices / (double)b->tokens;
}

double balance_loss(const balance *b, bool normalised)
{
    double sum = 0, tokens = (double)b->tokens;
    if (!b->tokens)
        return 0;
    for (int e = 0; e < b->experts; e++)
        sum += (double)b->choices[e] / tokens * (b->probs[e] / tokens);
    sum *= b->experts;
    return normalised ? sum / choices_of_token(b) : sum;
}

void balance_gradient(const balance *b, bool normalised, double coef, float *out)
{
    double tokens = (double)b->tokens;
    if (normalised && b->tokens)
        coef /= choices_of_token(b);
    for (int e = 0; e < b->experts; e++)
        out[e] = b->tokens ? (float)(coef * b->experts * ((double)b->choices[e] / tokens) / tokens) : 0.0f;
}

void balance_update_bias(const balance *b, float rate, float *bias)
{
    double mean = b->tokens ? choices_of_token(b) * (double)b->tokens / b->experts : 0;
    for (int e = 0; e < b->experts; e++) {
        double load = (double)b->choices[e];
        bias[e] += load < mean ? rate : load > mean ? -rate : 0.0f;
    }
}

double loss_logsumexp(const float *logits, int experts)
{
    double max = -INFINITY, sum = 0;
    for (int e = 0; e < experts; e++)
        max = logits[e] > max ? logits[e] : max;
    if (!isfinite(max))
        return max;
    for (int e = 0; e < experts; e++)
        sum += isnan(logits[e]) ? 0 : exp(logits[e] - max);
    return max + log(sum);
}
