#include "model/model.h"

void model_prefetch_layout(arena *a, const model_config *c, unsigned mask, int64_t max_tokens, model_prefetch *out)
{
    int64_t few = EXPERTS_FEW / c->router.top_k;
    out->max_tokens = max_tokens < few ? max_tokens : few;
    size_t tokens = (size_t)out->max_tokens, choices = tokens * (size_t)c->router.top_k;
    prefetch_layout(a, c->router.experts, &out->engine);
    lookahead_layout(a, c->router.experts, &out->look);
    out->norm = arena_take(a, tokens * (size_t)c->hidden, sizeof *out->norm);
    activations_layout(a, &out->in, mask, out->max_tokens, c->hidden);
    out->out.logits = arena_take(a, tokens * (size_t)c->router.experts, sizeof(float));
    out->out.topk = arena_take(a, choices, sizeof(int32_t));
    out->out.topw = arena_take(a, choices, sizeof(float));
}

typedef struct norm_job {
    const model *m;
    const resident *norm;
    const float *x;
} norm_job;

static void norm_token(void *ctx, int64_t token, int worker)
{
    const norm_job *job = ctx;
    const model *m = job->m;
    int64_t at = token * m->config.hidden;
    m->compute.kernels->rms_norm(job->x + at, job->norm->w.data, m->config.rms_eps, m->work.prefetch.norm + at,
                                 m->config.hidden);
}

static const int32_t *route(void *ctx, int moe_layer, const float *x, int64_t n)
{
    model *m = ctx;
    model_prefetch *p = &m->work.prefetch;
    int layer = 0;
    while (m->config.layer[layer].moe_index != moe_layer)
        layer++;
    const layer_weights *weights = &m->weights.layers[layer];
    norm_job job = {m, &weights->frame[W_FFN_NORM], x};
    rows_run(&m->compute, n, norm_token, &job);
    activations_fill(&m->compute, &p->in, activation_mask(m->compute.kernels, weights->frame[W_ROUTER].w.type), p->norm, n);
    route_run(&m->compute, &m->config.router, weights, &p->in, n, m->work.probs, &p->out);
    return p->out.topk;
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
    prefetch_init(&p->engine, &m->source, layers, experts, ACCURACY_FIRST_ROUTER);
    lookahead_clear(&p->look, experts);
}

bool model_prefetch_wanted(const model_prefetch *p, int64_t n)
{
    return p->possible && (p->trial.running || p->always) && n <= p->max_tokens;
}

void model_prefetch_next(model *m, int moe_layer, const float *x, int64_t n)
{
    model_prefetch *p = &m->work.prefetch;
    lookahead_run(&p->engine, &p->look, p->route, p->route_ctx, moe_layer, m->config.router.top_k, x, n);
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
