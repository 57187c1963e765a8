#include "prefetch/router_lookahead.h"

#include <math.h>
#include <string.h>

void lookahead_layout(arena *a, int experts, lookahead_work *out)
{
    out->expert = arena_take(a, PREFETCH_CANDIDATES, sizeof *out->expert);
    out->rank = arena_take(a, PREFETCH_CANDIDATES, sizeof *out->rank);
    out->named = arena_take(a, (size_t)experts, sizeof *out->named);
}

void lookahead_clear(lookahead_work *w, int experts)
{
    memset(w->named, 0, (size_t)experts);
}

/* A token's logits: the best that is not chosen, and their standard deviation. */
static void limits_of(const float *logits, int experts, const int32_t *topk, int top_k, float *best_left, float *spread)
{
    float sum = 0, squares = 0, best = -INFINITY;
    for (int e = 0; e < experts; e++) {
        sum += logits[e];
        squares += logits[e] * logits[e];
        bool chosen = false;
        for (int k = 0; k < top_k && logits[e] > best && !chosen; k++)
            chosen = topk[k] == e;
        if (logits[e] > best && !chosen)
            best = logits[e];
    }
    float mean = sum / (float)experts, variance = squares / (float)experts - mean * mean;
    *best_left = best;
    *spread = variance > 0 ? sqrtf(variance) : 0;
}

static int rank_of(float margin, float spread)
{
    float ranks = spread > 0 ? margin / (spread * MARGIN_OF_RANK) : 0;
    return ranks >= ACCURACY_RANKS - 1 ? 0 : ranks > 0 ? ACCURACY_RANKS - 1 - (int)ranks : ACCURACY_RANKS - 1;
}

static void name(lookahead_work *w, int32_t expert, int rank, int *count)
{
    int at = w->named[expert] ? w->named[expert] - 1 : *count;
    if (at == PREFETCH_CANDIDATES)
        return;
    if (at < *count && w->rank[at] <= rank)
        return;
    *count += at == *count;
    w->named[expert] = (uint8_t)(at + 1);
    w->expert[at] = expert;
    w->rank[at] = (uint8_t)rank;
}

/* All tokens' choices, each expert once, with its best rank. How many. */
static int list_choices(lookahead_work *w, const lookahead_choice *c, int64_t n, int top_k, int experts)
{
    int count = 0;
    for (int64_t token = 0; token < n; token++) {
        const int32_t *topk = c->topk + token * top_k;
        const float *logits = c->logits ? c->logits + token * experts : NULL;
        float best_left = 0, spread = 0;
        if (logits)
            limits_of(logits, experts, topk, top_k, &best_left, &spread);
        for (int k = 0; k < top_k; k++)
            name(w, topk[k],
                 logits               ? rank_of(logits[topk[k]] - best_left, spread)
                 : k < ACCURACY_RANKS ? k
                                      : ACCURACY_RANKS - 1,
                 &count);
    }
    for (int i = 0; i < count; i++)
        w->named[w->expert[i]] = 0;
    return count;
}

static void look_at(prefetch_engine *p, lookahead_work *w, lookahead_route route, void *ctx, int layer, int distance,
                    int top_k, int64_t n)
{
    lookahead_choice choice = route(ctx, layer, n);
    int count = list_choices(w, &choice, n, top_k, p->experts);
    prefetch_offer(p, layer, distance, w->expert, w->rank, count);
}

void lookahead_run(prefetch_engine *p, lookahead_work *w, lookahead_route route, void *ctx, int layer, int top_k,
                   int64_t n)
{
    for (int d = 1; d <= p->distances && layer + d < p->layers; d++)
        look_at(p, w, route, ctx, layer + d, d, top_k, n);
}

void lookahead_again(prefetch_engine *p, lookahead_work *w, lookahead_route route, void *ctx, int layer, int top_k,
                     int64_t n)
{
    if (layer + 1 < p->layers)
        look_at(p, w, route, ctx, layer + 1, 0, top_k, n);
}
