#include "moe/routing.h"

void routing_layout(const compute *c, arena *a, const router_config *config, int64_t hidden, dtype_set types,
                    int64_t max_tokens, bool own_logits, routing_work *out)
{
    c->op->buffer_layout(c, a, &out->logits, max_tokens, config->experts, 0, own_logits);
    if (config->own_norm)
        c->op->buffer_layout(c, a, &out->normed, max_tokens, hidden, types, true);
    c->op->route_layout(c, a, config->experts, &out->choose);
}

static buffer *norm_input(const compute *c, const router_config *config, const router_weights *weights,
                          routing_work *work, buffer *x)
{
    token_op ops[] = {
        {.kind = TOKEN_RMS_NORM, .x = x, .y = &work->normed, .weight = weights->scale, .eps = config->norm_eps},
        {.kind = TOKEN_SCALE, .y = &work->normed, .factor = config->input_scale}};
    c->op->tokens(c, ops, 2, x->n);
    return &work->normed;
}

int64_t routing_run(const compute *c, const router_config *config, const router_weights *weights, routing_work *work,
                    buffer *x, const routing_choice *out)
{
    buffer *in = config->own_norm ? norm_input(c, config, weights, work, x) : x;
    linear_call product = {.w = weights->w, .x = in, .y = &work->logits, .bias = weights->bias};
    c->op->linear(c, &product, 1);
    route_call choice = {.config = config,
                         .logits = &work->logits,
                         .vectors = weights->vectors,
                         .scores = out->scores,
                         .topk = out->topk,
                         .topw = out->topw,
                         .work = &work->choose};
    return c->op->route(c, &choice);
}
