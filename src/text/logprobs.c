#include "text/logprobs.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

static float clean(float logit)
{
    return isnan(logit) ? -INFINITY : logit;
}

/* Where (id, logit) belongs in best [n], which is sorted: put it there. */
static void insert(odmoe_logprob *best, size_t n, int32_t id, float logit)
{
    size_t at = n - 1;
    if (best[at].token >= 0 && !(logit > best[at].logprob))
        return;
    for (; at > 0 && (best[at - 1].token < 0 || logit > best[at - 1].logprob); at--)
        best[at] = best[at - 1];
    best[at] = (odmoe_logprob){id, logit};
}

/* log(sum of e^logit), relative to the highest. Of infinite logits: the log of their number. */
static double log_sum(const float *logits, int32_t vocab, float highest)
{
    double sum = 0;
    for (int32_t i = 0; i < vocab; i++) {
        float logit = clean(logits[i]);
        sum += logit == highest ? 1 : exp((double)logit - highest);
    }
    return log(sum);
}

static float relative(float logit, float highest, double sum)
{
    return logit == highest ? (float)-sum : (float)((double)logit - highest - sum);
}

odmoe_status logprobs(const float *logits, int32_t vocab, int32_t token, float *logprob, odmoe_logprob *best, size_t n,
                      odmoe_error *err)
{
    if (token < 0 || token >= vocab)
        return err_set(err, ODMOE_ERR_RANGE, "token %d is not in the vocabulary of %d", token, vocab);
    float highest = -INFINITY;
    for (int32_t i = 0; i < vocab; i++)
        highest = logits[i] > highest ? logits[i] : highest;
    if (highest == -INFINITY)
        return err_set(err, ODMOE_ERR_RANGE, "no probabilities: all %d logits are -infinity or no number", vocab);
    double sum = log_sum(logits, vocab, highest);
    for (size_t i = 0; i < n; i++)
        best[i] = (odmoe_logprob){-1, -INFINITY};
    for (int32_t i = 0; n && i < vocab; i++)
        insert(best, n, i, clean(logits[i]));
    for (size_t i = 0; i < n && best[i].token >= 0; i++)
        best[i].logprob = relative(best[i].logprob, highest, sum);
    *logprob = relative(clean(logits[token]), highest, sum);
    return ODMOE_OK;
}
