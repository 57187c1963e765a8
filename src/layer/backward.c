#include "layer/backward.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "compute/gradient_products.h"

#define GROUP_PAIRS 512 /* pairs of one expert at a time: bounds the workspace */

/* ---- the tape ---- */

odmoe_status tape_start(layer_tape *t, moe_layer *m, int index, const float *x, int64_t n, layer_outputs *out,
                        odmoe_error *err)
{
    size_t tokens = (size_t)n, pairs = tokens * (size_t)m->router.top_k, ffn = (size_t)m->shape.ffn;
    const char *what = "a tape";
    t->n = 0;
    if (m->shape.glu.kind != ODMOE_SWIGLU || m->router.weight_on_input || m->biases ||
        m->router.score == ODMOE_SCORE_SPARSE_MIXER)
        return err_set(err, ODMOE_ERR_UNSUPPORTED,
                       "gradients exist for the activation ODMOE_SWIGLU without biases, with weights on the experts' "
                       "outputs, for all scores but ODMOE_SCORE_SPARSE_MIXER; use odmoe_layer_forward");
    if (n > INT32_MAX / m->router.top_k) /* backward groups all pairs at once, counted in 32 bits */
        return err_set(err, ODMOE_ERR_RANGE, "%lld tokens: a tape takes at most %d", (long long)n,
                       INT32_MAX / m->router.top_k);
    odmoe_status status =
        mem_grow((void **)&t->logits, &t->logits_room, tokens * (size_t)m->router.experts, sizeof(float), what, err);
    if (!status)
        status = mem_grow((void **)&t->topk, &t->topk_room, pairs, sizeof *t->topk, what, err);
    if (!status)
        status = mem_grow((void **)&t->topw, &t->topw_room, pairs, sizeof(float), what, err);
    if (!status && t->keep)
        status = mem_grow((void **)&t->gate, &t->gate_room, pairs * ffn, sizeof(float), what, err);
    if (!status && t->keep)
        status = mem_grow((void **)&t->up, &t->up_room, pairs * ffn, sizeof(float), what, err);
    if (status)
        return status;
    t->m = m;
    t->hidden = m->shape.hidden;
    t->ffn = m->shape.ffn;
    t->experts = m->router.experts;
    t->top_k = m->router.top_k;
    t->layers = m->layers;
    t->index = index;
    t->n = n;
    t->x = x;
    *out = (layer_outputs){.logits = t->logits, .topk = t->topk, .topw = t->topw};
    if (t->keep) {
        out->keep_gate = t->gate;
        out->keep_up = t->up;
    }
    return ODMOE_OK;
}

bool tape_is_of(const layer_tape *t, const moe_layer *m)
{
    return t->n && t->m == m && t->hidden == m->shape.hidden && t->ffn == m->shape.ffn &&
           t->experts == m->router.experts && t->top_k == m->router.top_k && t->layers == m->layers;
}

void tape_copy(const layer_tape *t, float *logits, int32_t *topk, float *topw)
{
    size_t tokens = (size_t)t->n, pairs = tokens * (size_t)t->m->router.top_k;
    if (logits)
        memcpy(logits, t->logits, tokens * (size_t)t->m->router.experts * sizeof *logits);
    if (topk)
        memcpy(topk, t->topk, pairs * sizeof *topk);
    if (topw)
        memcpy(topw, t->topw, pairs * sizeof *topw);
}

void tape_clear(layer_tape *t)
{
    free(t->logits);
    free(t->topk);
    free(t->topw);
    free(t->gate);
    free(t->up);
    *t = (layer_tape){0};
}

/* ---- workspace ---- */

typedef struct backward {
    const layer_tape *t;
    const layer_gradients *g;
    moe_layer *m;
    int64_t hidden, ffn;
    expert_pairs pairs; /* of all tokens */
    float *dw;          /* [n, top_k] gradients of the weights */
    float *dlogits;     /* [n, experts] */
    float *dlogits_t;   /* [experts, n] */
    float *token_loss;  /* [experts] what aux adds to the gradient of each token's probabilities */
    float *probs;       /* [threads, experts] scratch */
    float *x, *dy;      /* [GROUP_PAIRS, hidden] of one expert's pairs; dy times the weight, once d is known */
    float *gate, *up;   /* [GROUP_PAIRS, ffn] products, then their gradients */
    float *h, *d;       /* [GROUP_PAIRS, ffn] */
    float *dx;          /* [GROUP_PAIRS, hidden] */
    float *transposed;  /* [GROUP_PAIRS * max(hidden, ffn)] */
    float *plain;       /* [hidden * ffn] a quantised matrix in f32 */
    float *gradients;   /* [3 * hidden * ffn] of the expert */
    float *block;       /* [threads][PRODUCT_ROWS, max(hidden, 2 ffn)] */
    const pinned_expert *view;
    expert_weights m_of, grad_of; /* the expert's weights and their gradients */
    int64_t pair, n_pairs;        /* the group */
    bool fresh;                   /* the expert's first group: gradients are set, not added to */
} backward;

static void layout(arena *a, backward *b)
{
    size_t n = (size_t)b->t->n, k = (size_t)b->m->router.top_k, experts = (size_t)b->m->router.experts;
    size_t hidden = (size_t)b->hidden, ffn = (size_t)b->ffn, wide = hidden > ffn ? hidden : ffn, f = sizeof(float);
    size_t threads = (size_t)b->m->compute.threads;
    pairs_layout(a, b->m->router.experts, b->m->router.top_k, b->t->n, &b->pairs);
    b->dw = arena_take(a, n * k, f);
    b->dlogits = arena_take(a, n * experts, f);
    b->dlogits_t = arena_take(a, n * experts, f);
    b->token_loss = arena_take(a, experts, f);
    b->probs = arena_take(a, threads * experts, 2 * f);
    b->x = arena_take(a, GROUP_PAIRS * hidden, f);
    b->dy = arena_take(a, GROUP_PAIRS * hidden, f);
    b->gate = arena_take(a, GROUP_PAIRS * ffn, f);
    b->up = arena_take(a, GROUP_PAIRS * ffn, f);
    b->h = arena_take(a, GROUP_PAIRS * ffn, f);
    b->d = arena_take(a, GROUP_PAIRS * ffn, f);
    b->dx = arena_take(a, GROUP_PAIRS * hidden, f);
    b->transposed = arena_take(a, GROUP_PAIRS * wide, f);
    b->plain = arena_take(a, hidden * ffn, f);
    b->gradients = b->g->on_expert ? arena_take(a, 3 * hidden * ffn, f) : NULL;
    b->block = arena_take(a, threads * PRODUCT_ROWS, wide * f);
}

/* ---- one expert ---- */

static void gather_pairs(const backward *b)
{
    const int32_t *tokens = b->pairs.token + b->pair;
    size_t bytes = (size_t)b->hidden * sizeof(float);
    for (int64_t i = 0; i < b->n_pairs; i++) {
        memcpy(b->x + i * b->hidden, b->t->x + tokens[i] * b->hidden, bytes);
        memcpy(b->dy + i * b->hidden, b->g->dy + tokens[i] * b->hidden, bytes);
    }
}

/* A matrix that the products below can use in both orientations. */
static matrix both_ways(backward *b, const matrix *m)
{
    return product_both_ways(&b->m->compute, m, b->plain);
}

static int64_t pair_of(const backward *b, int64_t i)
{
    int64_t pair = b->pair + i;
    return (int64_t)b->pairs.token[pair] * b->m->router.top_k + b->pairs.choice[pair];
}

static void products_again(backward *b)
{
    const compute *c = &b->m->compute;
    if (b->t->keep) {
        size_t bytes = (size_t)b->ffn * sizeof(float);
        for (int64_t i = 0; i < b->n_pairs; i++) {
            memcpy(b->gate + i * b->ffn, b->t->gate + pair_of(b, i) * b->ffn, bytes);
            memcpy(b->up + i * b->ffn, b->t->up + pair_of(b, i) * b->ffn, bytes);
        }
        return;
    }
    matrix gate = both_ways(b, &b->m_of.gate);
    product_forward(c, &gate, b->x, b->n_pairs, b->gate);
    matrix up = both_ways(b, &b->m_of.up);
    product_forward(c, &up, b->x, b->n_pairs, b->up);
}

/* From gate, up and d = W2' dy of one pair to dw, h, and in place the gradients of gate and up. dy becomes w dy. */
static void swiglu_pair(void *ctx, int64_t i, int worker)
{
    const backward *b = ctx;
    float *gate = b->gate + i * b->ffn, *up = b->up + i * b->ffn, *h = b->h + i * b->ffn, *dy = b->dy + i * b->hidden;
    const float *d = b->d + i * b->ffn;
    float w = b->pairs.weight[b->pair + i];
    double dw = 0;
    for (int64_t f = 0; f < b->ffn; f++) {
        /* sigmoid without overflow: exp of a number below 0 only */
        float e = expf(-fabsf(gate[f])), sigmoid = gate[f] >= 0 ? 1 / (1 + e) : e / (1 + e);
        float silu = gate[f] * sigmoid, slope = sigmoid * (1 + gate[f] * (1 - sigmoid)), dh = w * d[f];
        h[f] = silu * up[f];
        dw += (double)h[f] * d[f];
        gate[f] = dh * up[f] * slope;
        up[f] = dh * silu;
    }
    b->dw[pair_of(b, i)] = (float)dw;
    for (int64_t j = 0; j < b->hidden; j++)
        dy[j] *= w;
}

/* The gradient of one matrix, (outs x ins): sum over the group's pairs of out' in. */
static void add_gradient(backward *b, const matrix *m, const float *out, const float *in)
{
    product_gradient(&b->m->compute, m, out, in, b->n_pairs, !b->fresh, b->transposed, b->block);
}

static void run_group(backward *b)
{
    const compute *c = &b->m->compute;
    gather_pairs(b);
    products_again(b);
    matrix down = both_ways(b, &b->m_of.down);
    product_backward(c, &down, b->dy, b->n_pairs, b->d);
    host_for_tokens(c, b->n_pairs, swiglu_pair, b);
    if (b->g->on_expert) {
        add_gradient(b, &b->grad_of.down, b->dy, b->h);
        add_gradient(b, &b->grad_of.gate, b->gate, b->x);
        add_gradient(b, &b->grad_of.up, b->up, b->x);
    }
    const matrix *in[] = {&b->m_of.gate, &b->m_of.up};
    const float *from[] = {b->gate, b->up};
    for (int i = 0; i < 2 && b->g->dx; i++) {
        matrix m = both_ways(b, in[i]);
        product_backward(c, &m, from[i], b->n_pairs, b->dx);
        for (int64_t r = 0; r < b->n_pairs; r++)
            host_add_scaled(c->kernels, b->g->dx + b->pairs.token[b->pair + r] * b->hidden, b->dx + r * b->hidden, 1,
                            b->hidden);
    }
}

/* The same tensors, f32, in b->gradients: what each of them is, and where. */
typedef struct gradient_tensors {
    expert_tensor tensor[EXPERT_EXTENTS_MAX];
    expert_extent extent[EXPERT_EXTENTS_MAX];
} gradient_tensors;

static pinned_expert gradient_view(const backward *b, gradient_tensors *of)
{
    pinned_expert out = *b->view;
    const float *at = b->gradients;
    for (int i = 0; i < out.n; i++) {
        of->tensor[i] = b->m->source.tensors[b->view->extents[i].tag];
        of->tensor[i].type = DTYPE_F32;
        of->extent[i] = (expert_extent){.tag = (uint32_t)i};
        out.data[i] = at;
        at += of->tensor[i].rows * of->tensor[i].cols;
    }
    out.extents = of->extent;
    return out;
}

static odmoe_status run_expert(backward *b, odmoe_error *err)
{
    gradient_tensors of;
    pinned_expert gradients;
    int expert = b->view->expert;
    expert_tensors_bind(&b->m->shape, b->m->source.tensors, b->view, NULL, &b->m_of);
    if (b->m_of.interleaved)
        return err_set(err, ODMOE_ERR_UNSUPPORTED,
                       "layer %d, expert %d: there are no gradients of an interleaved gate_up stored (in, out)",
                       b->t->index, expert);
    if (b->g->on_expert) {
        gradients = gradient_view(b, &of);
        expert_tensors_bind(&b->m->shape, of.tensor, &gradients, NULL, &b->grad_of);
    }
    int64_t last = b->pairs.offsets[expert + 1];
    b->fresh = true;
    for (b->pair = b->pairs.offsets[expert]; b->pair < last; b->pair += b->n_pairs, b->fresh = false) {
        b->n_pairs = last - b->pair < GROUP_PAIRS ? last - b->pair : GROUP_PAIRS;
        run_group(b);
    }
    return b->g->on_expert ? b->g->on_expert(b->g->user, of.tensor, &gradients, err) : ODMOE_OK;
}

static odmoe_status run_experts(backward *b, odmoe_error *err)
{
    const expert_source *source = &b->m->source;
    void *batch;
    pairs_group(&b->pairs, b->m->router.experts, b->m->router.top_k, b->t->n, b->t->topk, b->t->topw);
    fetch_request request = {.layer = b->t->index,
                             .n = b->pairs.n_needed,
                             .experts = b->pairs.needed,
                             .order = FETCH_LISTED,
                             .size = {FETCH_PROMPT, (int32_t)b->t->n, 1}};
    odmoe_status status = source->begin(source->ctx, &request, &batch, err);
    if (status)
        return status;
    for (;;) {
        pinned_expert view;
        status = source->next(source->ctx, batch, &view, err);
        if (status || view.expert < 0)
            break;
        b->view = &view;
        status = run_expert(b, err);
        source->release(source->ctx, batch, &view);
        if (status)
            break;
    }
    source->end(source->ctx, batch);
    return status;
}

/* ---- the router ---- */

/* The gradient of one token's scores, from those of its weights and of the balance loss. */
static void score_gradients(const backward *b, int64_t token, const float *scores, float *ds)
{
    const router_config *r = &b->m->router;
    const int32_t *topk = b->t->topk + token * r->top_k;
    const float *dw = b->dw + token * r->top_k;
    const float *scale = b->m->vectors.expert_scale ? b->m->vectors.expert_scale[b->t->index] : NULL;
    double sum = 0, inner = 0, total = router_score_sum(r, scores);
    for (int k = 0; k < r->top_k; k++) {
        sum += scores[topk[k]];
        inner += (scale ? scale[topk[k]] : 1.0) * dw[k] * scores[topk[k]];
    }
    double divisor = sum + r->sum_add, through = 1; /* how much of the divisor moves with the scores */
    if (divisor < r->sum_floor) {
        divisor = r->sum_floor;
        through = 0;
    }
    /* P = s / total: with total the scores' own sum (no softmax), each score moves all probabilities */
    double mean = 0;
    for (int e = 0; e < r->experts && !router_softmax(r) && total > 0; e++)
        mean += b->token_loss[e] * scores[e] / total;
    for (int e = 0; e < r->experts; e++)
        ds[e] = total > 0 ? (float)((b->token_loss[e] - mean) / total) : 0.0f;
    for (int k = 0; k < r->top_k; k++) {
        double d = (scale ? scale[topk[k]] : 1.0) * dw[k];
        if (router_renormalises(r))
            d = divisor > 0 ? (d - through * (inner / divisor)) / divisor : 0;
        ds[topk[k]] += (float)(r->scale * d);
    }
}

/* The derivative of a score that depends on its own logit alone, from the logit: with s the sigmoid, s * (1 - s) has no
 * digits left where s is near one. */
static float score_slope(const router_config *r, float logit, float score)
{
    float e = expf(-fabsf(logit));
    if (r->score == ODMOE_SCORE_SIGMOID)
        return e / ((1 + e) * (1 + e));
    return score > 0 ? (logit >= 0 ? 1 / (1 + e) : e / (1 + e)) / (2 * score) : 0; /* of sqrt(softplus) */
}

static void router_token(void *ctx, int64_t token, int worker)
{
    backward *b = ctx;
    const router_config *r = &b->m->router;
    int experts = r->experts;
    const float *logits = b->t->logits + token * experts;
    float *scores = b->probs + (size_t)worker * 2 * (size_t)experts, *ds = scores + experts;
    float *out = b->dlogits + token * experts;
    router_scores(r, logits, scores);
    score_gradients(b, token, scores, ds);
    double inner = 0, lse = b->g->z_coef != 0 ? loss_logsumexp(logits, experts) : 0;
    for (int e = 0; e < experts; e++)
        inner += (double)ds[e] * scores[e];
    for (int e = 0; e < experts; e++) {
        if (router_softmax(r))
            out[e] = (float)(scores[e] * (ds[e] - inner));
        else
            out[e] = ds[e] * score_slope(r, logits[e], scores[e]);
        if (b->g->z_coef != 0) /* z takes the softmax of the logits, whatever the scores are */
            out[e] += (float)(b->g->z_coef * 2 * lse / (double)b->t->n * exp(logits[e] - lse));
        b->dlogits_t[e * b->t->n + token] = out[e];
    }
}

static odmoe_status loss_gradients(backward *b, odmoe_error *err)
{
    const layer_gradients *g = b->g;
    const router_config *r = &b->m->router;
    if (g->aux_coef == 0) {
        memset(b->token_loss, 0, (size_t)r->experts * sizeof(float));
        return ODMOE_OK;
    }
    balance own = {0};
    if (!g->balance) { /* only f is needed: the gradient with respect to P does not depend on P */
        odmoe_status status = balance_init(&own, r->experts, err);
        if (status)
            return status;
        own.tokens = b->t->n;
        for (int64_t i = 0; i < b->t->n * r->top_k; i++)
            own.choices[b->t->topk[i]]++;
    }
    balance_gradient(g->balance ? g->balance : &own, g->aux_normalised, g->aux_coef, b->token_loss);
    balance_clear(&own);
    return ODMOE_OK;
}

static void run_router(backward *b)
{
    const compute *c = &b->m->compute;
    int64_t experts = b->m->router.experts, n = b->t->n;
    host_for_tokens(c, n, router_token, b);
    if (b->g->drouter)
        product_sum(c, b->dlogits_t, experts, n, b->t->x, b->hidden, b->g->drouter);
    for (int64_t e = 0; e < experts && b->g->dlinear_bias; e++) {
        double sum = 0;
        for (int64_t i = 0; i < n; i++)
            sum += b->dlogits_t[e * n + i];
        b->g->dlinear_bias[e] = (float)sum;
    }
    matrix router = {.type = DTYPE_F32, .rows = experts, .cols = b->hidden, .data = b->m->weights[b->t->index]};
    for (int64_t first = 0; first < n && b->g->dx; first += GROUP_PAIRS) {
        int64_t tokens = n - first < GROUP_PAIRS ? n - first : GROUP_PAIRS;
        product_backward(c, &router, b->dlogits + first * experts, tokens, b->dx);
        host_add_scaled(c->kernels, b->g->dx + first * b->hidden, b->dx, 1, tokens * b->hidden);
    }
}

odmoe_status layer_backward(const layer_tape *t, const layer_gradients *g, odmoe_error *err)
{
    if (!t->n)
        return err_set(err, ODMOE_ERR_STATE, "backward needs a forward call that the tape has recorded");
    backward b = {.t = t, .g = g, .m = t->m, .hidden = t->m->shape.hidden, .ffn = t->m->shape.ffn};
    arena a = {0};
    layout(&a, &b);
    size_t bytes = a.used;
    a = (arena){.base = mem_pages_alloc(bytes, "the workspace of backward", err)};
    if (!a.base)
        return ODMOE_ERR_MEMORY;
    void *memory = a.base;
    layout(&a, &b);
    if (g->dx)
        memset(g->dx, 0, (size_t)(t->n * b.hidden) * sizeof *g->dx);
    odmoe_status status = run_experts(&b, err);
    if (!status)
        status = loss_gradients(&b, err);
    if (!status)
        run_router(&b);
    mem_pages_free(memory, bytes);
    return status;
}
