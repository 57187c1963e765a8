#include "layer/layer.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "compute/gradient_products.h"

/* ---- opening ---- */

static void layout(arena *a, const moe_layer *m, int64_t tokens, layer_work *out)
{
    const compute *c = &m->compute;
    size_t experts = (size_t)m->router.experts, k = (size_t)m->router.top_k, n = (size_t)tokens;
    c->op->buffer_layout(c, a, &out->in, tokens, m->shape.hidden, m->shape.in_types | dtype_bit(DTYPE_F32), false);
    c->op->buffer_layout(c, a, &out->out, tokens, m->shape.hidden, 0, false);
    routing_layout(c, a, &m->router, m->shape.hidden, dtype_bit(DTYPE_F32), tokens, false, &out->route);
    out->logits = arena_take(a, n * experts, sizeof(float));
    out->probs = arena_take(a, n * experts, sizeof(float));
    out->topk = arena_take(a, n * k, sizeof *out->topk);
    out->topw = arena_take(a, n * k, sizeof *out->topw);
    experts_layout(c, a, &m->shape, tokens, false, &out->experts);
}

static size_t bytes_for(const moe_layer *m, int64_t tokens)
{
    arena a = {0};
    layer_work ignored = {0};
    layout(&a, m, tokens, &ignored);
    return a.used;
}

/* As many tokens as the budget holds; pairs are counted in 32 bits. */
static odmoe_status choose_chunk(moe_layer *m, const layer_settings *s, odmoe_error *err)
{
    int64_t low = 1, high = INT32_MAX / m->router.top_k;
    size_t least = bytes_for(m, 1);
    if (least > s->activation_bytes)
        return err_set(err, ODMOE_ERR_BUDGET, "%llu bytes for activations: one token needs %llu",
                       (unsigned long long)s->activation_bytes, (unsigned long long)least);
    while (low < high) {
        int64_t middle = low + (high - low + 1) / 2;
        if (bytes_for(m, middle) <= s->activation_bytes)
            low = middle;
        else
            high = middle - 1;
    }
    m->chunk = low;
    return ODMOE_OK;
}

static const float *vector_of(const float *const *vectors, int layer)
{
    return vectors ? vectors[layer] : NULL;
}

static odmoe_status make_biases(moe_layer *m, odmoe_error *err)
{
    const layer_vectors *v = &m->vectors;
    if (!v->gate_bias && !v->up_bias && !v->down_bias)
        return ODMOE_OK;
    m->biases = mem_calloc((size_t)m->layers, sizeof *m->biases, "the experts' biases", err);
    if (!m->biases)
        return ODMOE_ERR_MEMORY;
    for (int l = 0; l < m->layers; l++)
        m->biases[l] = (expert_biases){
            .gate = vector_of(v->gate_bias, l), .up = vector_of(v->up_bias, l), .down = vector_of(v->down_bias, l)};
    return ODMOE_OK;
}

static odmoe_status make_workspace(moe_layer *m, odmoe_error *err)
{
    m->memory_bytes = bytes_for(m, m->chunk);
    m->memory = mem_pages_alloc(m->memory_bytes, "the layer's activations", err);
    if (!m->memory)
        return ODMOE_ERR_MEMORY;
    arena a = {.base = m->memory};
    layout(&a, m, m->chunk, &m->work);
    m->executor = local_executor_init(&m->local, &m->compute, &m->shape, &m->source, m->biases, NULL, &m->work.experts);
    return ODMOE_OK;
}

static odmoe_status make_telemetry(moe_layer *m, odmoe_error *err)
{
    m->telemetry = mem_calloc((size_t)m->layers, sizeof *m->telemetry, "the telemetry of the layers", err);
    if (!m->telemetry)
        return ODMOE_ERR_MEMORY;
    for (int l = 0; l < m->layers; l++) {
        odmoe_status status = telemetry_init(&m->telemetry[l], m->router.experts, err);
        if (status)
            return status;
    }
    return ODMOE_OK;
}

static odmoe_status make_predictor(moe_layer *m, const layer_settings *s, odmoe_error *err)
{
    if (!s->predictor || !s->source.prefetch)
        return ODMOE_OK;
    predictor_thread_options o = {.predictor = *s->predictor,
                                  .source = s->source,
                                  .layers = s->layers,
                                  .experts = s->router.experts,
                                  .top_k = s->router.top_k,
                                  .hidden = s->hidden,
                                  .most = s->prefetch < s->router.experts ? s->prefetch : s->router.experts};
    return predictor_thread_create(&o, &m->predictor, err);
}

odmoe_status layer_open(const layer_settings *s, moe_layer *m, odmoe_error *err)
{
    *m = (moe_layer){.layers = s->layers,
                     .router = s->router,
                     .source = s->source,
                     .weights = s->weights,
                     .vectors = s->vectors,
                     .compute = s->compute,
                     .shape = {.hidden = s->hidden,
                               .ffn = s->ffn,
                               .glu = s->glu,
                               .weight_on_input = s->router.weight_on_input,
                               .experts = s->router.experts,
                               .top_k = s->router.top_k,
                               .in_types = s->in_types,
                               .mid_types = s->mid_types}};
    odmoe_status status = router_check(&m->router, err);
    if (!status)
        status = choose_chunk(m, s, err);
    if (!status)
        status = compute_start(&m->compute, err);
    if (!status)
        status = make_biases(m, err);
    if (!status)
        status = make_workspace(m, err);
    if (!status)
        status = make_telemetry(m, err);
    if (!status)
        status = make_predictor(m, s, err);
    if (status)
        layer_close(m);
    return status;
}

void layer_close(moe_layer *m)
{
    predictor_thread_free(m->predictor);
    for (int l = 0; m->telemetry && l < m->layers; l++)
        telemetry_clear(&m->telemetry[l]);
    free(m->telemetry);
    free(m->biases);
    compute_stop(&m->compute);
    mem_pages_free(m->memory, m->memory_bytes);
    memset(m, 0, sizeof *m);
}

/* ---- forward ---- */

typedef struct forward {
    moe_layer *m;
    int index;
    const layer_outputs *out;
    int64_t first, n; /* the chunk's tokens */
    const float *x;   /* of the chunk */
    float *logits, *probs, *topw;
    int32_t *topk;
} forward;

/* Where the chunk's part of an output lies: in the caller's array, or in the workspace. */
static void *rows_at(void *all, void *work, int64_t first, int64_t columns)
{
    return all ? (char *)all + first * columns * 4 : work;
}

static odmoe_status route(forward *f, odmoe_error *err)
{
    moe_layer *m = f->m;
    layer_work *w = &m->work;
    const layer_outputs *out = f->out;
    int64_t experts = m->router.experts, k = m->router.top_k;
    f->logits = rows_at(out->logits, w->logits, f->first, experts);
    f->probs = rows_at(out->probs, w->probs, f->first, experts);
    f->topk = rows_at(out->topk, w->topk, f->first, k);
    f->topw = rows_at(out->topw, w->topw, f->first, k);
    matrix router = {.type = DTYPE_F32, .rows = experts, .cols = m->shape.hidden, .data = m->weights[f->index]};
    router_weights weights = {.w = &router,
                              .bias = vector_of(m->vectors.linear_bias, f->index),
                              .vectors = {.selection_bias = vector_of(m->vectors.selection_bias, f->index),
                                          .expert_scale = vector_of(m->vectors.expert_scale, f->index)}};
    routing_choice chosen = {.scores = f->probs, .topk = f->topk, .topw = f->topw};
    m->compute.op->borrow(&m->compute, &w->route.logits, f->logits, f->n);
    int64_t bad = routing_run(&m->compute, &m->router, &weights, &w->route, &w->in, &chosen);
    if (bad >= 0)
        return err_set(err, ODMOE_ERR_RANGE,
                       "layer %d, token %lld: a router logit is not a finite number; look for NaN or infinity in the "
                       "input and the router's weights",
                       f->index, (long long)(f->first + bad));
    if (out->balance)
        balance_add(out->balance, &m->router, f->probs, f->topk, f->n);
    for (int64_t token = 0; out->z && token < f->n; token++) {
        double lse = loss_logsumexp(f->logits + token * experts, (int)experts);
        *out->z += lse * lse;
    }
    return ODMOE_OK;
}

static odmoe_status run_chunk(forward *f, float *y, odmoe_error *err)
{
    moe_layer *m = f->m;
    const layer_outputs *out = f->out;
    int64_t pairs = f->first * m->router.top_k;
    m->compute.op->borrow(&m->compute, &m->work.in, (float *)f->x, f->n);
    m->compute.op->borrow(&m->compute, &m->work.out, y, f->n);
    odmoe_status status = route(f, err);
    if (status)
        return status;
    fetch_size size = {f->n == 1 ? FETCH_DECODE : FETCH_PROMPT, (int32_t)f->n, 1};
    experts_call call;
    status = experts_start(&call, &m->compute, &m->executor, &m->shape, &m->work.experts, f->index, &m->work.in, size,
                           f->topk, f->topw, err);
    if (status)
        return status;
    if (m->predictor)
        predictor_thread_post(m->predictor, f->index, f->x, f->topk, f->topw, f->n);
    telemetry_add(&m->telemetry[f->index], f->n, m->work.experts.pairs.counts);
    call.task.keep_gate = out->keep_gate ? out->keep_gate + pairs * m->shape.ffn : NULL;
    call.task.keep_up = out->keep_up ? out->keep_up + pairs * m->shape.ffn : NULL;
    return experts_finish(&call, &m->work.out, err);
}

odmoe_status layer_forward(moe_layer *m, int index, const float *x, int64_t n, float *y, const layer_outputs *out,
                           odmoe_error *err)
{
    odmoe_status status = ODMOE_OK;
    m->telemetry[index].calls++;
    for (int64_t first = 0; first < n && !status; first += m->chunk) {
        forward f = {.m = m, .index = index, .out = out, .first = first};
        f.n = n - first < m->chunk ? n - first : m->chunk;
        f.x = x + first * m->shape.hidden;
        status = run_chunk(&f, y + first * m->shape.hidden, err);
    }
    return status;
}

void layer_add(const moe_layer *m, float *y, const float *x, int64_t n)
{
    host_add_scaled(m->compute.kernels, y, x, 1, n * m->shape.hidden);
}
