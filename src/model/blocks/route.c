#include "model/blocks/route.h"

typedef struct select_job {
    const router_config *config;
    router_vectors vectors;
    float *probs;
    const route_out *out;
} select_job;

static void select_row(void *ctx, int64_t row, int worker)
{
    const select_job *job = ctx;
    const router_config *rc = job->config;
    float scratch[2 * ROUTER_EXPERTS_MAX]; /* until models use moe/routing.h */
    router_select(rc, job->out->logits + row * rc->experts, &job->vectors, job->probs + (int64_t)worker * rc->experts,
                  job->out->topk + row * rc->top_k, job->out->topw + row * rc->top_k, scratch);
}

void route_run(const compute *c, const router_config *config, const layer_weights *weights, const activations *x, int64_t n,
               float *probs, const route_out *out)
{
    linear_job product = {&weights->frame[W_ROUTER].w, x, out->logits, config->experts};
    linear_run(c, &product, 1, n);
    select_job job = {config, {.selection_bias = weights->frame[W_SELECTION_BIAS].w.data}, probs, out};
    rows_run(c, n, select_row, &job);
}
