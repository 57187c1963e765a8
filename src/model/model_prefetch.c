#include "model/model.h"

void model_prefetch_layout(const compute *c, arena *a, const model_config *config, dtype_set types, int64_t max_tokens,
                           model_prefetch *out)
{
    int64_t few = EXPERTS_FEW / config->router.top_k;
    out->max_tokens = max_tokens < few ? max_tokens : few;
    size_t choices = (size_t)out->max_tokens * (size_t)config->router.top_k;
    prefetch_layout(a, config->moe_layers, config->router.experts, &out->engine);
    lookahead_layout(a, config->router.experts, &out->look);
    c->op->buffer_layout(c, a, &out->norm, out->max_tokens, config->hidden, types, true);
    routing_layout(c, a, &config->router, config->hidden, types, out->max_tokens, true, &out->routing);
    out->topk = arena_take(a, choices, sizeof *out->topk);
    out->topw = arena_take(a, choices, sizeof *out->topw);
}

static lookahead_choice route(void *ctx, int moe_layer, int64_t n)
{
    model *m = ctx;
    model_prefetch *p = &m->work.prefetch;
    int layer = 0;
    while (m->config.layer[layer].moe_index != moe_layer)
        layer++;
    const resident *frame = m->weights.layers[layer].frame;
    token_op norm = frame[W_EXPERTS_NORM].info ? model_norm(m, &frame[W_EXPERTS_NORM], NULL)
                                               : model_norm(m, &frame[W_FFN_NORM], &frame[W_FFN_NORM_BIAS]);
    norm.y = &p->norm;
    norm.x = &m->work.x;
    if (!m->config.router.own_norm)
        m->compute.op->tokens(&m->compute, &norm, 1, n);
    router_weights router = model_router(m, layer);
    routing_choice choice = {.topk = p->topk, .topw = p->topw};
    routing_run(&m->compute, &m->config.router, &router, &p->routing, m->config.router.own_norm ? &m->work.x : &p->norm,
                &choice);
    return (lookahead_choice){p->topk, m->compute.op->read(&m->compute, &p->routing.logits)};
}

void model_prefetch_init(model *m)
{
    model_prefetch *p = &m->work.prefetch;
    int layers = m->config.moe_layers, experts = m->config.router.experts;
    trial_init(&p->trial);
    p->route = route;
    p->route_ctx = m;
    p->possible = m->settings.prefetch && layers > 1 && !store_holds_all(m->store);
    if (!p->possible)
        return;
    prefetch_init(&p->engine, &m->source, layers, experts, ACCURACY_FIRST_WIDE, ACCURACY_FIRST_NARROW);
    lookahead_clear(&p->look, experts);
}

bool model_prefetch_wanted(const model_prefetch *p, int64_t n)
{
    return p->possible && (p->trial.running || p->always) && n <= p->max_tokens;
}

void model_prefetch_next(model *m, int moe_layer, const buffer *x, int64_t n)
{
    model_prefetch *p = &m->work.prefetch;
    lookahead_run(&p->engine, &p->look, p->route, p->route_ctx, moe_layer, m->config.router.top_k, n);
}

void model_prefetch_again(model *m, int moe_layer, const buffer *x, int64_t n)
{
    model_prefetch *p = &m->work.prefetch;
    lookahead_again(&p->engine, &p->look, p->route, p->route_ctx, moe_layer, m->config.router.top_k, n);
}

void model_prefetch_begins(model *m, int moe_layer, const int32_t *topk, int64_t n)
{
    model_prefetch *p = &m->work.prefetch;
    if (p->possible && n <= p->max_tokens)
        prefetch_layer_begins(&p->engine, moe_layer, topk, n * m->config.router.top_k);
}

void model_prefetch_settle(model *m, int64_t n, double seconds)
{
    model_prefetch *p = &m->work.prefetch;
    if (!p->possible || n > p->max_tokens)
        return;
    prefetch_forget(&p->engine); /* a pass that failed leaves candidates that are not judged */
    trial_settle(&p->trial, 1e9 * seconds / (double)n);
}
