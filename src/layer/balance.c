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
    b->slots = mem_calloc((size_t)experts, sizeof *b->slots, "the balance of experts", err);
    b->probs = mem_calloc((size_t)experts, sizeof *b->probs, "the balance of experts", err);
    if (b->slots && b->probs)
        return ODMOE_OK;
    balance_clear(b);
    return ODMOE_ERR_MEMORY;
}

void balance_clear(balance *b)
{
    free(b->slots);
    free(b->probs);
    *b = (balance){0};
}

void balance_reset(balance *b)
{
    b->rows = 0;
    memset(b->slots, 0, (size_t)b->experts * sizeof *b->slots);
    memset(b->probs, 0, (size_t)b->experts * sizeof *b->probs);
}

void balance_add(balance *b, const router_config *c, const float *scores, const int32_t *topk, int64_t n)
{
    b->rows += n;
    for (int64_t i = 0; i < n * c->top_k; i++)
        b->slots[topk[i]]++;
    for (int64_t row = 0; row < n; row++, scores += b->experts) {
        double by = router_score_sum(c, scores);
        for (int e = 0; e < b->experts && by > 0; e++)
            b->probs[e] += scores[e] / by;
    }
}

void balance_merge(balance *b, const balance *from)
{
    b->rows += from->rows;
    for (int e = 0; e < b->experts; e++) {
        b->slots[e] += from->slots[e];
        b->probs[e] += from->probs[e];
    }
}

static double slots_of_row(const balance *b)
{
    uint64_t slots = 0;
    for (int e = 0; e < b->experts; e++)
        slots += b->slots[e];
    return (double)slots / (double)b->rows;
}

double balance_loss(const balance *b, bool normalised)
{
    double sum = 0, rows = (double)b->rows;
    if (!b->rows)
        return 0;
    for (int e = 0; e < b->experts; e++)
        sum += (double)b->slots[e] / rows * (b->probs[e] / rows);
    sum *= b->experts;
    return normalised ? sum / slots_of_row(b) : sum;
}

void balance_gradient(const balance *b, bool normalised, double coef, float *out)
{
    double rows = (double)b->rows;
    if (normalised && b->rows)
        coef /= slots_of_row(b);
    for (int e = 0; e < b->experts; e++)
        out[e] = b->rows ? (float)(coef * b->experts * ((double)b->slots[e] / rows) / rows) : 0.0f;
}

void balance_update_bias(const balance *b, float rate, float *bias)
{
    double mean = b->rows ? slots_of_row(b) * (double)b->rows / b->experts : 0;
    for (int e = 0; e < b->experts; e++) {
        double load = (double)b->slots[e];
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
