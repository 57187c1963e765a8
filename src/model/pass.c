/* pass.c - the driver of the layer stack: rows in, logits out.
 *
 * chunk by chunk, and in a chunk layer by layer:
 *   x = embedding;  for each layer:  x += mixer(norm(x));  x += ffn(norm(x));  logits = output(norm(x)) where wanted
 * The FFN is the grouped experts, with a shared expert where the family has one: it is computed while the experts'
 * reads are in flight. Sequences grow only when the whole pass has succeeded.
 */
#include <math.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "base/sysmem.h"
#include "model/model.h"

/* ---- workspace ---- */

static unsigned mask_of(const kernel_table *k, const resident *r)
{
    return r->info ? activation_mask(k, r->w.type) : 0;
}

/* The formats that the weights of `roles` take, over all layers. */
static unsigned mask_over_layers(const model *m, const kernel_table *k, const weight_role *roles, int n)
{
    unsigned mask = 0;
    for (int l = 0; l < m->config.layers; l++)
        for (int i = 0; i < n; i++)
            mask |= mask_of(k, &m->weights.layers[l].frame[roles[i]]);
    return mask;
}

/* The formats that a mixer's weights take, over all layers that have it; NULL: every mixer's input. */
static unsigned mixer_mask(const model *m, const kernel_table *k, const mixer *only)
{
    unsigned mask = 0;
    for (int l = 0; l < m->config.layers; l++) {
        const mixer *x = m->config.layer[l].mixer;
        if (!only)
            mask |= x->in_mask(k, m->weights.layers[l].mixer);
        else if (only == x)
            mask |= x->mid_mask(k, m->weights.layers[l].mixer);
    }
    return mask;
}

static const resident *output_of(const model *m)
{
    return m->weights.model[W_OUTPUT].info ? &m->weights.model[W_OUTPUT] : &m->weights.model[W_EMBED];
}

void pass_layout(arena *a, const model *m, const experts_shape *shape, const model_settings *s, int64_t max_rows,
                 pass_work *out)
{
    static const weight_role in_roles[] = {W_ROUTER,        W_SHARED_GATE, W_SHARED_UP,
                                           W_SHARED_WEIGHT, W_DENSE_GATE,  W_DENSE_UP};
    static const weight_role routers[] = {W_ROUTER}, ffn_out[] = {W_SHARED_DOWN, W_DENSE_DOWN};
    const model_config *c = &m->config;
    const kernel_table *k = s->kernels;
    size_t rows = (size_t)max_rows, hidden = (size_t)c->hidden, experts = (size_t)c->router.experts;
    compute cpu = compute_cpu(k, s->threads);
    unsigned in_mask = activation_masks(k, shape->in_types) | mixer_mask(m, k, NULL) |
                       mask_over_layers(m, k, in_roles, sizeof in_roles / sizeof *in_roles);
    int ffn = c->shared_ffn > c->dense_ffn ? c->shared_ffn : c->dense_ffn;
    bool any_dense = c->moe_layers < c->layers;
    out->max_rows = max_rows;
    out->logits_rows = s->logits_rows < max_rows ? s->logits_rows : max_rows;
    out->x = arena_take(a, rows * hidden, sizeof(float));
    activations_layout(a, &out->in, in_mask, max_rows, c->hidden);
    out->norm = arena_take(a, rows * hidden, sizeof(float));
    out->y = arena_take(a, rows * hidden, sizeof(float));
    out->shared = c->shared_ffn ? arena_take(a, rows * hidden, sizeof(float)) : NULL;
    out->shared_gate = c->shared_ffn ? arena_take(a, rows, sizeof(float)) : NULL;
    out->router = arena_take(a, rows * experts, sizeof(float));
    out->probs = arena_take(a, (size_t)s->threads * experts, sizeof(float));
    out->topk = arena_take(a, rows * (size_t)c->router.top_k, sizeof *out->topk);
    out->topw = arena_take(a, rows * (size_t)c->router.top_k, sizeof *out->topw);
    for (int i = 0; i < c->rope_sets; i++) {
        out->cosines[i] = arena_take(a, rows * (size_t)(c->ropes[i].dim / 2), sizeof(float));
        out->sines[i] = arena_take(a, rows * (size_t)(c->ropes[i].dim / 2), sizeof(float));
    }
    out->rows = arena_take(a, rows, sizeof *out->rows);
    for (int i = 0; m->mixers[i]; i++)
        out->mixer[i] = m->mixers[i]->layout(a, c, mixer_mask(m, k, m->mixers[i]), max_rows, s->threads);
    experts_layout(&cpu, a, shape, max_rows, false, &out->experts);
    out->all_experts = arena_take(a, experts, sizeof *out->all_experts);
    if (s->prefetch)
        model_prefetch_layout(a, c, mask_over_layers(m, k, routers, 1), max_rows, &out->prefetch);
    if (c->shared_ffn || any_dense)
        ffn_layout(a, ffn, mask_over_layers(m, k, ffn_out, 2), max_rows, &out->ffn);
    activations_layout(a, &out->out, mask_of(k, output_of(m)), out->logits_rows, c->hidden);
    out->out_rows = arena_take(a, (size_t)out->logits_rows * hidden, sizeof(float));
    out->logits = arena_take(a, (size_t)out->logits_rows * (size_t)c->vocab, sizeof(float));
}

/* ---- one chunk ---- */

typedef struct chunk_run {
    model *m;
    const stack_pass *pass;
    const stack_row *rows; /* of this chunk */
    int64_t first, n;
    int layer;
    int64_t steps_before, steps; /* for progress: (chunk, layer) */
    int64_t *logits_done;        /* rows of pass->logits written so far */
} chunk_run;

static float *row_of(float *rows, int64_t row, int64_t length)
{
    return rows + row * length;
}

static void embed_row(void *ctx, int64_t row, int worker)
{
    const chunk_run *r = ctx;
    model *m = r->m;
    const weight *embed = &m->weights.model[W_EMBED].w;
    uint64_t row_bytes = dtype_bytes(embed->type, (uint64_t)embed->cols);
    m->compute.kernels->ops[embed->type].dequantise((const char *)embed->data +
                                                        (uint64_t)r->rows[row].token * row_bytes,
                                                    row_of(m->work.x, row, embed->cols), embed->cols);
    for (int64_t i = 0; m->config.embedding_scale != 1 && i < embed->cols; i++)
        row_of(m->work.x, row, embed->cols)[i] *= m->config.embedding_scale;
    for (int i = 0; i < m->config.rope_sets; i++)
        rope_angles(&m->ropes[i], r->rows[row].position, row_of(m->work.cosines[i], row, m->ropes[i].half),
                    row_of(m->work.sines[i], row, m->ropes[i].half));
}

static void norm_row(chunk_run *r, int64_t row, const resident *weight_of_norm)
{
    model *m = r->m;
    int64_t hidden = m->config.hidden;
    m->compute.kernels->rms_norm(row_of(m->work.x, row, hidden), weight_of_norm->w.data, m->config.rms_eps,
                                 row_of(m->work.norm, row, hidden), hidden);
}

static void attention_norm_row(void *ctx, int64_t row, int worker)
{
    chunk_run *r = ctx;
    norm_row(r, row, &r->m->weights.layers[r->layer].frame[W_MIXER_NORM]);
}

static void add_y(model *m, int64_t row)
{
    int64_t hidden = m->config.hidden;
    m->compute.kernels->add_scaled(row_of(m->work.x, row, hidden), row_of(m->work.y, row, hidden),
                                   m->config.residual_scale, hidden);
}

static void add_and_ffn_norm_row(void *ctx, int64_t row, int worker)
{
    chunk_run *r = ctx;
    add_y(r->m, row);
    norm_row(r, row, &r->m->weights.layers[r->layer].frame[W_FFN_NORM]);
}

static void add_row(void *ctx, int64_t row, int worker)
{
    chunk_run *r = ctx;
    model *m = r->m;
    int64_t hidden = m->config.hidden;
    if (m->work.shared && m->weights.layers[r->layer].frame[W_SHARED_DOWN].info)
        m->compute.kernels->add_scaled(row_of(m->work.y, row, hidden), row_of(m->work.shared, row, hidden),
                                       m->work.shared_gate[row], hidden);
    add_y(m, row);
}

static void run_mixer(chunk_run *r)
{
    model *m = r->m;
    const layer_config *layer = &m->config.layer[r->layer];
    const resident *weights = m->weights.layers[r->layer].mixer;
    bool turns = layer->rope != ROPE_OFF;
    int kind = 0;
    while (m->mixers[kind] != layer->mixer)
        kind++;
    for (int64_t row = 0; row < r->n; row++)
        m->work.rows[row] =
            (mixer_row){sequence_state(r->rows[row].seq, r->layer), r->rows[row].position, r->rows[row].seq->context};
    activations_fill(&m->compute, &m->work.in, layer->mixer->in_mask(m->compute.kernels, weights), m->work.norm, r->n);
    mixer_call call = {.c = &m->compute,
                       .config = &m->config,
                       .layer = r->layer,
                       .weights = weights,
                       .rope = turns ? &m->ropes[layer->rope] : NULL,
                       .cosines = turns ? m->work.cosines[layer->rope] : NULL,
                       .sines = turns ? m->work.sines[layer->rope] : NULL,
                       .kv = m->settings.kv,
                       .rows = m->work.rows,
                       .n = r->n,
                       .in = &m->work.in,
                       .out = m->work.y,
                       .work = m->work.mixer[kind]};
    layer->mixer->forward(&call);
}

static void run_shared(chunk_run *r)
{
    model *m = r->m;
    const layer_weights *layer = &m->weights.layers[r->layer];
    const resident *weights = layer->frame;
    if (!weights[W_SHARED_DOWN].info)
        return;
    ffn_run(&m->compute, &weights[W_SHARED_GATE].w, &weights[W_SHARED_UP].w, &weights[W_SHARED_DOWN].w, &m->work.ffn,
            &m->work.in, r->n, m->work.shared);
    bool gated = weights[W_SHARED_WEIGHT].info != NULL;
    if (gated) {
        linear_job job = {&weights[W_SHARED_WEIGHT].w, &m->work.in, m->work.shared_gate, 1};
        linear_run(&m->compute, &job, 1, r->n);
    }
    for (int64_t row = 0; row < r->n; row++)
        m->work.shared_gate[row] = gated ? 1 / (1 + expf(-m->work.shared_gate[row])) : 1;
}

/* A long chunk that needs nearly all experts of this layer will need nearly all of the next one: their reads follow
 * this layer's at once, before the next router has spoken. */
static void read_next_layer(chunk_run *r, const experts_call *call)
{
    model *m = r->m;
    int experts = m->config.router.experts, next = call->task.layer + 1;
    if (call->task.pairs->n_needed < experts - experts / 10 || next >= expert_index_layers(m->weights.experts.index) ||
        !m->source.prefetch)
        return;
    for (int e = 0; e < experts; e++)
        m->work.all_experts[e] = e;
    m->source.prefetch(m->source.ctx, next, m->work.all_experts, NULL, experts, READ_CERTAIN);
}

/* A row that continues where its sequence stands is the sequence's first. */
static fetch_size size_of_chunk(const chunk_run *r)
{
    int32_t sequences = 0;
    for (int64_t row = 0; row < r->pass->n; row++)
        sequences += r->pass->rows[row].position == r->pass->rows[row].seq->length;
    return (fetch_size){sequences == r->pass->n ? FETCH_DECODE : FETCH_PROMPT, (int32_t)r->n, sequences};
}

static odmoe_status run_experts(chunk_run *r, int moe_layer, odmoe_error *err)
{
    model *m = r->m;
    const layer_weights *layer = &m->weights.layers[r->layer];
    const resident *weights = layer->frame;
    const kernel_table *k = m->compute.kernels;
    unsigned mask = activation_masks(k, m->shape.in_types) | mask_of(k, &weights[W_ROUTER]) |
                    mask_of(k, &weights[W_SHARED_GATE]) | mask_of(k, &weights[W_SHARED_UP]) |
                    mask_of(k, &weights[W_SHARED_WEIGHT]);
    activations_fill(&m->compute, &m->work.in, mask, m->work.norm, r->n);
    route_out chosen = {m->work.router, m->work.topk, m->work.topw};
    route_run(&m->compute, &m->config.router, layer, &m->work.in, r->n, m->work.probs, &chosen);
    buffer in = activations_buffer(&m->work.in, mask, r->n), out = {.cols = m->config.hidden, .values = m->work.y};
    experts_call call;
    odmoe_status status = experts_start(&call, &m->compute, &m->executor, &m->shape, &m->work.experts, moe_layer, &in,
                                        size_of_chunk(r), m->work.topk, m->work.topw, err);
    if (status)
        return status;
    model_prefetch_begins(m, moe_layer, m->work.topk, r->n);
    if (!call.few)
        read_next_layer(r, &call);
    else if (model_prefetch_wanted(&m->work.prefetch, r->n))
        model_prefetch_next(m, moe_layer, m->work.x, r->n);
    run_shared(r);
    return experts_finish(&call, &out, err);
}

static void run_dense(chunk_run *r)
{
    model *m = r->m;
    const layer_weights *layer = &m->weights.layers[r->layer];
    const resident *weights = layer->frame;
    const kernel_table *k = m->compute.kernels;
    activations_fill(&m->compute, &m->work.in, mask_of(k, &weights[W_DENSE_GATE]) | mask_of(k, &weights[W_DENSE_UP]),
                     m->work.norm, r->n);
    ffn_run(&m->compute, &weights[W_DENSE_GATE].w, &weights[W_DENSE_UP].w, &weights[W_DENSE_DOWN].w, &m->work.ffn,
            &m->work.in, r->n, m->work.y);
}

static void tap(const chunk_run *r, const float *hidden, bool routed)
{
    const pass_work *w = &r->m->work;
    odmoe_tap t = {.size = sizeof t, .layer = r->layer, .first = r->first, .n = r->n, .hidden = hidden};
    if (routed) {
        t.router = w->router;
        t.topk = w->topk;
        t.topw = w->topw;
        t.input = w->norm;
    }
    if (r->pass->on_tap)
        r->pass->on_tap(r->pass->user, &t);
}

static odmoe_status run_layer(chunk_run *r, odmoe_error *err)
{
    model *m = r->m;
    int moe_layer = m->config.layer[r->layer].moe_index;
    odmoe_status status = ODMOE_OK;
    if (r->pass->on_tap) /* the stream has moved on by the time the router has spoken: shown before */
        tap(r, m->work.x, false);
    rows_run(&m->compute, r->n, attention_norm_row, r);
    run_mixer(r);
    rows_run(&m->compute, r->n, add_and_ffn_norm_row, r);
    if (moe_layer < 0)
        run_dense(r);
    else
        status = run_experts(r, moe_layer, err);
    if (status)
        return status;
    if (r->pass->on_tap && moe_layer >= 0)
        tap(r, NULL, true);
    rows_run(&m->compute, r->n, add_row, r);
    return ODMOE_OK;
}

/* Final norm and output matrix for the wanted rows, logits_rows at a time. */
static void run_output(chunk_run *r)
{
    model *m = r->m;
    pass_work *w = &m->work;
    const resident *output = output_of(m);
    int64_t hidden = m->config.hidden, vocab = m->config.vocab, taken[64];
    int64_t most = w->logits_rows < 64 ? w->logits_rows : 64;
    for (int64_t row = 0; row < r->n;) {
        int64_t count = 0;
        for (; row < r->n && count < most; row++)
            if (r->rows[row].want_logits)
                taken[count++] = row;
        if (!count)
            break;
        for (int64_t i = 0; i < count; i++)
            m->compute.kernels->rms_norm(row_of(w->x, taken[i], hidden), m->weights.model[W_OUTPUT_NORM].w.data,
                                         m->config.rms_eps, row_of(w->out_rows, i, hidden), hidden);
        activations_fill(&m->compute, &w->out, mask_of(m->compute.kernels, output), w->out_rows, count);
        float *logits = r->pass->logits ? row_of(r->pass->logits, *r->logits_done, vocab) : w->logits;
        linear_job job = {&output->w, &w->out, logits, vocab};
        linear_run(&m->compute, &job, 1, count);
        for (int64_t i = 0; m->config.logit_scale != 1 && i < count * vocab; i++)
            logits[i] /= m->config.logit_scale;
        for (int64_t i = 0; i < count && r->pass->on_logits; i++)
            r->pass->on_logits(r->pass->user, r->first + taken[i], row_of(logits, i, vocab));
        *r->logits_done += count;
    }
}

static void tap_final(chunk_run *r)
{
    r->layer = r->m->config.layers;
    for (int64_t row = 0; row < r->n; row++)
        norm_row(r, row, &r->m->weights.model[W_OUTPUT_NORM]);
    tap(r, r->m->work.norm, false);
}

static odmoe_status run_chunk(chunk_run *r, odmoe_error *err)
{
    model *m = r->m;
    rows_run(&m->compute, r->n, embed_row, r);
    for (r->layer = 0; r->layer < m->config.layers; r->layer++) {
        if (m->settings.progress && m->settings.progress(m->settings.user, ODMOE_STAGE_PASS,
                                                         (uint64_t)(r->steps_before + r->layer), (uint64_t)r->steps))
            return err_set(err, ODMOE_ERR_CANCELLED, "the pass was cancelled");
        odmoe_status status = run_layer(r, err);
        if (status)
            return status;
    }
    run_output(r);
    if (r->pass->on_tap)
        tap_final(r);
    return ODMOE_OK;
}

/* ---- the pass ---- */

/* Each row must continue its sequence. Rows before `row` of the same sequence are counted from the back: the common
 * cases (one sequence, or one row each) end at once. */
static odmoe_status check_rows(const model *m, const stack_pass *pass, odmoe_error *err)
{
    for (int64_t row = 0; row < pass->n; row++) {
        const stack_row *r = &pass->rows[row];
        int64_t before = row - 1;
        while (before >= 0 && pass->rows[before].seq != r->seq)
            before--;
        int32_t expected = before < 0 ? r->seq->length : pass->rows[before].position + 1;
        if (r->seq->m != m)
            return err_set(err, ODMOE_ERR_ARG, "row %lld belongs to a session of another model", (long long)row);
        if (r->token < 0 || r->token >= m->config.vocab)
            return err_set(err, ODMOE_ERR_RANGE, "row %lld: token %d is not in the vocabulary of %d", (long long)row,
                           r->token, m->config.vocab);
        if (r->position != expected)
            return err_set(err, ODMOE_ERR_RANGE, "row %lld: position %d, but its session goes on at %d", (long long)row,
                           r->position, expected);
        if (r->position >= r->seq->context)
            return err_set(err, ODMOE_ERR_RANGE, "row %lld: the session's context of %d tokens is full", (long long)row,
                           r->seq->context);
    }
    return ODMOE_OK;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void commit(const stack_pass *pass)
{
    for (int64_t row = 0; row < pass->n; row++) {
        const stack_row *r = &pass->rows[row];
        r->seq->tokens[r->position] = r->token;
        r->seq->length = r->position + 1;
    }
}

odmoe_status pass_run(model *m, const stack_pass *pass, odmoe_error *err)
{
    if (pass->n < 1)
        return err_set(err, ODMOE_ERR_RANGE, "a pass needs at least one row");
    pthread_mutex_lock(&m->lock);
    double start = now();
    odmoe_status status = check_rows(m, pass, err);
    int64_t chunk = m->work.max_rows, chunks = (pass->n + chunk - 1) / chunk, logits_done = 0;
    for (int64_t i = 0; i < chunks && !status; i++) {
        chunk_run r = {.m = m, .pass = pass, .first = i * chunk, .logits_done = &logits_done};
        r.rows = pass->rows + r.first;
        r.n = pass->n - r.first < chunk ? pass->n - r.first : chunk;
        r.steps_before = i * m->config.layers;
        r.steps = chunks * m->config.layers;
        double chunk_start = now();
        status = run_chunk(&r, err);
        model_prefetch_settle(m, r.n, now() - chunk_start);
        uint64_t anon = sysmem_anonymous("");
        m->peak_anon = anon > m->peak_anon ? anon : m->peak_anon;
    }
    if (!status) {
        commit(pass);
        m->tokens += (uint64_t)pass->n;
        m->chunks += (uint64_t)chunks;
    }
    m->pass_seconds += now() - start;
    pthread_mutex_unlock(&m->lock);
    return status;
}
