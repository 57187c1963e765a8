#include "moe/routing.h"

void routing_layout(const compute *c, arena *a, const router_config *config, int64_t max_tokens, bool own_logits,
                    routing_work *out)
{
    c->op->buffer_layout(c, a, &out->logits, max_tokens, config->experts, 0, own_logits);
    c->op->route_layout(c, a, config->experts, &out->choose);
}

int64_t routing_run(const compute *c, const router_config *config, const router_weights *weights, routing_work *work,
                    buffer *x, const routing_choice *out)
{
    linear_call product = {.w = weights->w, .x = x, .y = &work->logits, .bias = weights->bias};
    c->op->linear(c, &product, 1);
    route_call choice = {.config = config,
                         .logits = &work->logits,
                         .selection_bias = weights->selection_bias,
                         .scores = out->scores,
                         .topk = out->topk,
                         .topw = out->topw,
                         .work = &work->choose};
    return c->op->route(c, &choice);
}
