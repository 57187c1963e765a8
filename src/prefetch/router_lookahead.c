#include "prefetch/router_lookahead.h"

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

/* All tokens' choices, each expert once: first choices of all tokens, then second ones, ... How many. */
static int list_choices(lookahead_work *w, const int32_t *topk, int64_t n, int top_k)
{
    int count = 0;
    for (int rank = 0; rank < top_k; rank++)
        for (int64_t token = 0; token < n && count < PREFETCH_CANDIDATES; token++) {
            int32_t e = topk[token * top_k + rank];
            if (w->named[e])
                continue;
            w->named[e] = 1;
            w->expert[count] = e;
            w->rank[count++] = (uint8_t)(rank < ACCURACY_RANKS ? rank : ACCURACY_RANKS - 1);
        }
    for (int i = 0; i < count; i++)
        w->named[w->expert[i]] = 0;
    return count;
}

void lookahead_run(prefetch_engine *p, lookahead_work *w, lookahead_route route, void *ctx, int layer, int top_k,
                   const float *x, int64_t n)
{
    for (int d = 1; d <= PREFETCH_DISTANCES && layer + d < p->layers; d++) {
        int count = list_choices(w, route(ctx, layer + d, x, n), n, top_k);
        prefetch_offer(p, layer + d, d, w->expert, w->rank, count);
    }
}
