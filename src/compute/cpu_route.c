/* cpu_route.c - from router logits to the choice of experts. */
#include <math.h>
#include <stdatomic.h>

#include "compute/cpu.h"

void cpu_route_layout(const compute *c, arena *a, int experts, compute_work *out)
{
    *out = (compute_work){{arena_take(a, (size_t)c->threads * (size_t)experts, sizeof(float))}};
}

typedef struct route_run {
    const route_call *call;
    float *scratch; /* [threads, experts] */
} route_run;

static void route_token(void *ctx, int64_t token, int worker)
{
    const route_run *r = ctx;
    const route_call *call = r->call;
    const router_config *config = call->config;
    float *scores =
        call->scores ? call->scores + token * config->experts : r->scratch + (int64_t)worker * config->experts;
    router_select(config, cpu_values(call->logits, token), call->selection_bias, scores,
                  call->topk + token * config->top_k, call->topw + token * config->top_k);
}

int64_t cpu_route(const compute *c, const route_call *call)
{
    route_run r = {call, call->work->own[0]};
    cpu_for_tokens(c, call->logits->n, route_token, &r);
    return -1;
}
