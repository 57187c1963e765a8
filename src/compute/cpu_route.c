/* cpu_route.c - from router logits to the choice of experts. */
#include <stdatomic.h>

#include "compute/cpu.h"

#define SCRATCH_EACH 3 /* scores where the caller wants none, and router_select's own */

void cpu_route_layout(const compute *c, arena *a, int experts, compute_work *out)
{
    *out = (compute_work){{arena_take(a, (size_t)c->threads * (size_t)experts, SCRATCH_EACH * sizeof(float))}};
}

typedef struct route_run {
    const route_call *call;
    float *scratch;             /* [threads, SCRATCH_EACH, experts] */
    _Atomic int64_t not_finite; /* the first token with such a logit; the number of tokens: none */
} route_run;

static void route_token(void *ctx, int64_t token, int worker)
{
    route_run *r = ctx;
    const route_call *call = r->call;
    const router_config *config = call->config;
    int64_t experts = config->experts;
    float *scratch = r->scratch + worker * SCRATCH_EACH * experts;
    float *scores = call->scores ? call->scores + token * experts : scratch;
    if (router_select(config, cpu_values(call->logits, token), &call->vectors, scores,
                      call->topk + token * config->top_k, call->topw + token * config->top_k, scratch + experts))
        return;
    int64_t first = atomic_load(&r->not_finite);
    while (token < first && !atomic_compare_exchange_weak(&r->not_finite, &first, token))
        ;
}

int64_t cpu_route(const compute *c, const route_call *call)
{
    int64_t n = call->logits->n;
    route_run r = {.call = call, .scratch = call->work->own[0], .not_finite = n};
    cpu_for_tokens(c, n, route_token, &r);
    return r.not_finite < n ? r.not_finite : -1;
}
