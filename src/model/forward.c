/* forward.c - the driver of the layer stack.
 *
 * chunk by chunk, and in a chunk layer by layer:
 *   x = embedding;  for each layer:  x += mixer(norm(x));  x += ffn(norm(x));  logits = output(norm(x)) where wanted
 * (in some families what mixer and ffn give is normalised, before it is added: as well, or instead of what they take;
 * in some a layer has one of the two alone)
 * The FFN is the experts, with a shared expert where the model has one: it is computed while the experts' reads are in
 * flight. A sequence that fails leaves the chunk: the rows of the others move together, and the layer's FFN begins
 * again for them. Sessions grow only when all chunks are through. */
#include "model/forward.h"

#include <string.h>
#include <time.h>

#include "base/sysmem.h"
#include "model/model.h"

/* One chunk under way. Arrays about its tokens are the workspace's. */
typedef struct chunk_run {
    model *m;
    workspace *w;
    forward_call *call;
    int64_t first, n; /* tokens of the call before it; its own */
    int layer;
    fetch_size size;             /* as the chunk began */
    int64_t steps_before, steps; /* for progress: (chunk, layer) */
} chunk_run;

/* ---- sequences that fail ---- */

static bool failed(const forward_sequence *s)
{
    return s->status != ODMOE_OK;
}

static void fail(forward_sequence *s, odmoe_status status, const odmoe_error *why)
{
    s->status = status;
    if (s->error)
        *s->error = *why;
}

static void compute_tokens(chunk_run *r, const token_op *ops, int count)
{
    r->m->compute.op->tokens(&r->m->compute, ops, count, r->n);
}

/* cos and sin of the tokens' positions, for each rope set. */
static void angles(chunk_run *r)
{
    token_op ops[ROPE_SETS_MAX];
    model *m = r->m;
    for (int i = 0; i < m->config.rope_sets; i++)
        ops[i] = (token_op){.kind = TOKEN_ROPE_ANGLES,
                            .y = &r->w->cosines[i],
                            .z = &r->w->sines[i],
                            .weight = m->ropes[i].inverse_freq,
                            .factor = m->ropes[i].scale,
                            .positions = r->w->positions};
    if (m->config.rope_sets)
        compute_tokens(r, ops, m->config.rope_sets);
}

/* Take the tokens of failed sequences out of the chunk: the rows of the stream move together. */
static void drop_failed(chunk_run *r)
{
    workspace *w = r->w;
    int64_t kept = 0;
    for (int64_t i = 0; i < r->n; i++) {
        if (failed(&r->call->sequences[w->owner[i]]))
            continue;
        w->rows[kept] = (int32_t)i;
        w->ids[kept] = w->ids[i];
        w->positions[kept] = w->positions[i];
        w->owner[kept] = w->owner[i];
        w->place[kept++] = w->place[i];
    }
    if (kept == r->n)
        return;
    r->n = kept;
    if (!kept)
        return;
    token_op pack = {.kind = TOKEN_COPY, .y = &w->y, .x = &w->x, .x_rows = w->rows};
    compute_tokens(r, &pack, 1);
    token_op back = {.kind = TOKEN_COPY, .y = &w->x, .x = &w->y};
    compute_tokens(r, &back, 1);
    angles(r);
}

/* A router or an output gave a number that is none. */
static void not_finite(chunk_run *r, int64_t token, const char *where)
{
    odmoe_error why;
    err_set(&why, ODMOE_ERR_FORMAT,
            "%s: %s of position %d: NaN or infinity; the model's weights are damaged, or its numbers overflow",
            r->m->files.path, where, r->w->positions[token]);
    fail(&r->call->sequences[r->w->owner[token]], ODMOE_ERR_FORMAT, &why);
}

static void router_not_finite(chunk_run *r, int64_t token)
{
    char where[48];
    snprintf(where, sizeof where, "layer %d, router logits", r->layer);
    not_finite(r, token, where);
}

/* Experts could not be had: the sequences with a token that chose one of them fail. */
static void fail_tokens(chunk_run *r, const experts_call *call, odmoe_status status, const odmoe_error *why)
{
    const workspace *w = r->w;
    int top_k = r->m->config.router.top_k;
    for (int64_t i = 0; i < r->n; i++)
        if (experts_failed(call, w->topk + i * top_k) && !failed(&r->call->sequences[w->owner[i]]))
            fail(&r->call->sequences[w->owner[i]], status, why);
}

/* ---- a layer ---- */

/* Families that normalise what branches give have no norm before them. */
static token_op norm_op(const chunk_run *r, const resident *weight, const resident *bias)
{
    token_op op = model_norm(r->m, weight, bias);
    op.y = &r->w->norm;
    op.x = &r->w->x;
    return op;
}

/* What routed experts take: their own norm of the stream, or the shared expert's. */
static buffer *experts_input(const chunk_run *r)
{
    return r->m->weights.layers[r->layer].frame[W_EXPERTS_NORM].info ? &r->w->experts_in : &r->w->norm;
}

/* What the layer's FFN takes, the shared expert and routed experts included. Returns how many operations. */
static int ffn_norm_ops(const chunk_run *r, token_op ops[2])
{
    const resident *frame = r->m->weights.layers[r->layer].frame;
    ops[0] = norm_op(r, &frame[W_FFN_NORM], &frame[W_FFN_NORM_BIAS]);
    ops[1] = norm_op(r, &frame[W_EXPERTS_NORM], NULL);
    ops[1].y = &r->w->experts_in;
    return frame[W_EXPERTS_NORM].info ? 2 : 1;
}

/* The norm of a branch's output, where the layer has one; returns how many operations. */
static int post_norm_op(const chunk_run *r, int role, buffer *y, token_op *op)
{
    const resident *weight = &r->m->weights.layers[r->layer].frame[role];
    *op = norm_op(r, weight, NULL);
    op->y = y;
    op->x = y;
    return weight->info != NULL;
}

static token_op add_op(const chunk_run *r)
{
    return (token_op){.kind = TOKEN_ADD, .y = &r->w->x, .x = &r->w->y, .factor = r->m->config.residual_scale};
}

/* The tokens' pages and what is kept of their sequences in this layer, a run of tokens for each sequence. Returns how many runs. */
static int bring_states(chunk_run *r)
{
    workspace *w = r->w;
    int runs = 0;
    for (int64_t i = 0; i < r->n; i++) {
        session_state *s = r->call->sequences[w->owner[i]].session;
        w->kv[i] = (kv_token){session_pages_of(s, r->layer), w->positions[i]};
        if (i == 0 || w->owner[i] != w->owner[i - 1])
            w->sequences[runs++] = (sequence_run){i,
                                                  0,
                                                  w->positions[i],
                                                  session_kept_of(s, r->layer, KEPT_RECURRENT, w->positions[i]),
                                                  session_kept_of(s, r->layer, KEPT_CHUNK, w->positions[i]),
                                                  w->owner[i]};
        w->sequences[runs - 1].n++;
    }
    return runs;
}

static void run_mixer(chunk_run *r)
{
    model *m = r->m;
    workspace *w = r->w;
    const layer_config *layer = &m->config.layer[r->layer];
    int kind = 0;
    while (m->mixers[kind] != layer->mixer)
        kind++;
    mixer_call call = {.c = &m->compute,
                       .config = &m->config,
                       .layer = r->layer,
                       .weights = m->weights.layers[r->layer].mixer,
                       .kv = m->settings.kv,
                       .n_sequences = bring_states(r),
                       .tokens = w->kv,
                       .sequences = w->sequences,
                       .n = r->n,
                       .in = &w->norm,
                       .out = &w->y,
                       .work = w->mixer[kind]};
    if (layer->rope != ROPE_OFF)
        call.rope = (mixer_rope){&m->config.ropes[layer->rope], &w->cosines[layer->rope], &w->sines[layer->rope]};
    layer->mixer->forward(&call);
}

static void run_ffn(chunk_run *r, const resident *gate, const resident *up, const resident *down, buffer *y)
{
    ffn_weights weights = {.gate = gate->w, .up = up->w, .down = down->w, .glu = r->m->config.glu};
    r->m->compute.op->ffn(&r->m->compute, &weights, &r->w->ffn, &r->w->norm, y);
}

/* The shared expert, and the weight of its output where it has one. */
static void run_shared(chunk_run *r)
{
    model *m = r->m;
    const resident *frame = m->weights.layers[r->layer].frame;
    if (!frame[W_SHARED_DOWN].info)
        return;
    run_ffn(r, &frame[W_SHARED_GATE], &frame[W_SHARED_UP], &frame[W_SHARED_DOWN], &r->w->shared);
    if (!frame[W_SHARED_WEIGHT].info)
        return;
    linear_call weigh = {&frame[W_SHARED_WEIGHT].w, &r->w->norm, &r->w->shared_weight};
    m->compute.op->linear(&m->compute, &weigh, 1);
    token_op op = {.kind = TOKEN_SIGMOID, .y = &r->w->shared_weight};
    compute_tokens(r, &op, 1);
}

/* A long chunk that needs nearly all experts of this layer will need nearly all of the next one: their reads follow
 * this layer's at once, before the next layer's routing. */
static void read_next_layer(chunk_run *r, const experts_call *call)
{
    model *m = r->m;
    int experts = m->config.router.experts, next = call->task.layer + 1;
    if (call->task.pairs->n_needed < experts - experts / 10 || next >= m->config.moe_layers || !m->source.prefetch)
        return;
    for (int e = 0; e < experts; e++)
        r->w->all_experts[e] = e;
    m->source.prefetch(m->source.ctx, next, r->w->all_experts, NULL, experts, READ_CERTAIN);
}

/* y = w x, with one of the layer's matrices around latent experts. */
static void latent_product(const chunk_run *r, int role, buffer *x, buffer *y)
{
    linear_call product = {&r->m->weights.layers[r->layer].frame[role].w, x, y};
    r->m->compute.op->linear(&r->m->compute, &product, 1);
}

/* The experts of the chunk's tokens, once. False: some sequences have failed. */
static bool try_experts(chunk_run *r)
{
    model *m = r->m;
    workspace *w = r->w;
    int moe_layer = m->config.layer[r->layer].moe_index;
    bool latent = m->config.latent > 0;
    buffer *in = latent ? &w->latent : experts_input(r), *out = latent ? &w->latent_out : &w->y;
    experts_call call;
    odmoe_error why;
    if (latent)
        latent_product(r, W_LATENT_IN, experts_input(r), in);
    odmoe_status status = experts_start(&call, &m->compute, &m->executor, &m->shape, &w->experts, moe_layer, in,
                                        r->size, w->topk, w->topw, &why);
    if (!status) {
        model_prefetch_begins(m, moe_layer, w->topk, r->n);
        if (!call.few)
            read_next_layer(r, &call);
        else if (model_prefetch_wanted(&w->prefetch, r->n))
            model_prefetch_next(m, moe_layer, &w->x, r->n);
        run_shared(r);
        status = experts_finish(&call, out, &why);
        if (latent && !status)
            latent_product(r, W_LATENT_OUT, out, &w->y);
    }
    if (status)
        fail_tokens(r, &call, status, &why);
    return !status;
}

/* Routing and experts, again without the sequences that fail, until what is left of the chunk is through. */
static void run_experts(chunk_run *r)
{
    model *m = r->m;
    workspace *w = r->w;
    router_weights router = model_router(m, r->layer);
    routing_choice choice = {.topk = w->topk, .topw = w->topw};
    token_op again[2];
    int n_again = ffn_norm_ops(r, again);
    for (bool first = true; r->n; first = false) {
        if (!first)
            compute_tokens(r, again, n_again);
        buffer *in = m->config.router.own_norm ? &w->x : experts_input(r);
        int64_t bad = routing_run(&m->compute, &m->config.router, &router, &w->route, in, &choice);
        if (bad >= 0)
            router_not_finite(r, bad);
        else if (try_experts(r))
            return;
        drop_failed(r);
    }
}

static void run_dense(chunk_run *r)
{
    const resident *frame = r->m->weights.layers[r->layer].frame;
    run_ffn(r, &frame[W_DENSE_GATE], &frame[W_DENSE_UP], &frame[W_DENSE_DOWN], &r->w->y);
}

static void tap(const chunk_run *r, bool hidden, const float *rows, bool routed)
{
    const workspace *w = r->w;
    const compute *c = &r->m->compute;
    odmoe_tap t = {.size = sizeof t, .layer = r->layer, .first = r->first, .n = r->n};
    if (hidden)
        t.hidden = rows;
    if (routed) {
        t.router = c->op->read(c, &w->route.logits);
        t.topk = w->topk;
        t.topw = w->topw;
        t.input = c->op->read(c, r->m->config.router.own_norm ? &w->route.normed : experts_input(r));
    }
    if (r->call->on_tap)
        r->call->on_tap(r->call->user, &t);
}

/* x += the layer's FFN, the shared expert's part included. */
static void add_ffn(chunk_run *r)
{
    workspace *w = r->w;
    const resident *frame = r->m->weights.layers[r->layer].frame;
    bool routed = r->m->config.layer[r->layer].ffn == FFN_EXPERTS;
    token_op ops[6], weigh = {.kind = TOKEN_ADD, .y = &w->y, .x = &w->shared, .factor = 1};
    int n = 0;
    if (frame[W_SHARED_WEIGHT].info)
        weigh.scales = &w->shared_weight;
    if (routed)
        n += post_norm_op(r, W_EXPERTS_POST_NORM, &w->y, &ops[n]);
    if (routed && frame[W_SHARED_DOWN].info) {
        n += post_norm_op(r, W_SHARED_POST_NORM, &w->shared, &ops[n]);
        ops[n++] = weigh;
    }
    n += post_norm_op(r, W_FFN_POST_NORM, &w->y, &ops[n]);
    ops[n++] = add_op(r);
    if (frame[W_LAYER_SCALE].info)
        ops[n++] = (token_op){.kind = TOKEN_SCALE, .y = &w->x, .factor = *(const float *)frame[W_LAYER_SCALE].w.data};
    compute_tokens(r, ops, n);
}

/* x += the layer's mixer, and what the FFN takes: a layer may have one of the two alone. */
static void add_mixer(chunk_run *r)
{
    const layer_config *layer = &r->m->config.layer[r->layer];
    const resident *frame = r->m->weights.layers[r->layer].frame;
    token_op ops[4], norm = norm_op(r, &frame[W_MIXER_NORM], &frame[W_MIXER_NORM_BIAS]);
    int n = 0;
    if (layer->mixer) {
        compute_tokens(r, &norm, 1);
        run_mixer(r);
        n += post_norm_op(r, W_MIXER_POST_NORM, &r->w->y, &ops[n]);
        ops[n++] = add_op(r);
    }
    if (layer->ffn != FFN_NONE)
        n += ffn_norm_ops(r, &ops[n]);
    compute_tokens(r, ops, n);
}

static void run_layer(chunk_run *r)
{
    model *m = r->m;
    ffn_kind ffn = m->config.layer[r->layer].ffn;
    bool routed = ffn == FFN_EXPERTS;
    if (r->call->on_tap) /* routing comes after the stream has moved on: it is shown before */
        tap(r, true, m->compute.op->read(&m->compute, &r->w->x), false);
    add_mixer(r);
    if (ffn == FFN_NONE)
        return;
    if (routed)
        run_experts(r);
    else
        run_dense(r);
    if (!r->n)
        return;
    if (r->call->on_tap && routed)
        tap(r, false, NULL, true);
    add_ffn(r);
    if (routed && model_prefetch_wanted(&r->w->prefetch, r->n))
        model_prefetch_again(m, m->config.layer[r->layer].moe_index, &r->w->x, r->n);
}

/* ---- logits ---- */

static bool wanted(const chunk_run *r, int64_t token)
{
    const forward_sequence *s = &r->call->sequences[r->w->owner[token]];
    if (failed(s) || s->want == ODMOE_LOGITS_NONE)
        return false;
    return s->want == ODMOE_LOGITS_ALL || r->w->place[token] == s->n - 1;
}

/* Where the caller wants a token's logits; NULL: it has no array. */
static float *row_for(const chunk_run *r, int64_t token)
{
    const forward_sequence *s = &r->call->sequences[r->w->owner[token]];
    int64_t row = s->logits_row + (s->want == ODMOE_LOGITS_ALL ? r->w->place[token] : 0);
    return r->call->logits ? r->call->logits + row * r->m->config.vocab : NULL;
}

/* The wanted tokens from *token on that go together: their rows of the caller's array lie side by side. */
static int64_t gather_wanted(const chunk_run *r, int64_t *token)
{
    int64_t count = 0, vocab = r->m->config.vocab;
    for (; *token < r->n && count < r->w->logits_rows; ++*token) {
        if (!wanted(r, *token))
            continue;
        const float *row = row_for(r, *token);
        if (count && row && row != row_for(r, r->w->rows[0]) + count * vocab)
            break;
        r->w->rows[count++] = (int32_t)*token;
    }
    return count;
}

static token_op output_norm_op(const chunk_run *r)
{
    const resident *w = r->m->weights.model;
    return norm_op(r, &w[W_OUTPUT_NORM], &w[W_OUTPUT_NORM_BIAS]);
}

/* The logits' scale and softcap. */
static void shape_logits(const chunk_run *r, int64_t count)
{
    const model_config *config = &r->m->config;
    token_op ops[] = {{.kind = TOKEN_SCALE, .y = &r->w->logits, .factor = 1 / config->logit_scale},
                      {.kind = TOKEN_SOFTCAP, .y = &r->w->logits, .factor = config->logit_softcap}};
    if (config->logit_scale != 1)
        r->m->compute.op->tokens(&r->m->compute, &ops[0], 1, count);
    if (config->logit_softcap > 0)
        r->m->compute.op->tokens(&r->m->compute, &ops[1], 1, count);
}

/* Final norm and output matrix for the wanted tokens, logits_rows at a time. */
static void run_output(chunk_run *r)
{
    model *m = r->m;
    workspace *w = r->w;
    const compute *c = &m->compute;
    for (int64_t token = 0, count; (count = gather_wanted(r, &token)) > 0;) {
        float *rows = row_for(r, w->rows[0]);
        token_op norm = output_norm_op(r);
        norm.y = &w->out;
        norm.x_rows = w->rows;
        c->op->tokens(c, &norm, 1, count);
        c->op->borrow(c, &w->logits, rows ? rows : w->logits_rows_own, count);
        memset(w->not_finite, 0, (size_t)count * sizeof *w->not_finite);
        linear_call output = {.w = &model_output(m)->w,
                              .x = &w->out,
                              .y = &w->logits,
                              .bias = m->weights.model[W_OUTPUT_BIAS].w.data,
                              .not_finite = w->not_finite};
        c->op->linear(c, &output, 1);
        shape_logits(r, count);
        const float *logits = c->op->read(c, &w->logits);
        for (int64_t i = 0; i < count; i++) {
            if (w->not_finite[i])
                not_finite(r, w->rows[i], "logits");
            else if (r->call->on_logits)
                r->call->on_logits(r->call->user, w->owner[w->rows[i]], w->place[w->rows[i]],
                                   logits + i * m->config.vocab);
        }
    }
}

static void tap_final(chunk_run *r)
{
    r->layer = r->m->config.layers;
    token_op norm = output_norm_op(r);
    compute_tokens(r, &norm, 1);
    tap(r, true, r->m->compute.op->read(&r->m->compute, &r->w->norm), false);
}

/* ---- a chunk ---- */

/* Has the caller had enough of the call, or of single sequences? */
static void look_for_cancels(chunk_run *r)
{
    forward_call *call = r->call;
    odmoe_error why;
    err_set(&why, ODMOE_ERR_CANCELLED, "the forward call was cancelled");
    bool all = call->progress && call->progress(call->user, ODMOE_STAGE_FORWARD, (uint64_t)(r->steps_before + r->layer),
                                                (uint64_t)r->steps);
    for (int64_t i = 0; i < r->n; i++) {
        int32_t owner = r->w->owner[i];
        bool first = i == 0 || r->w->owner[i - 1] != owner;
        if (first && (all || (call->cancelled && call->cancelled(call->user, owner))))
            fail(&call->sequences[owner], ODMOE_ERR_CANCELLED, &why);
    }
    drop_failed(r);
}

/* Rows of the embedding that stays on the disk, for all tokens of the chunk. Sequences whose rows cannot be read fail; in
 * their tokens' place there are others' until they are dropped. */
static void read_embedding(chunk_run *r, matrix *rows)
{
    workspace *w = r->w;
    odmoe_error why;
    odmoe_status status = row_reader_get(&w->embedding, w->ids, r->n, w->embed_rows, &why);
    rows->rows = w->embedding.capacity;
    rows->data = w->embedding.memory;
    for (int64_t i = 0; i < r->n && status; i++) {
        if (w->embed_rows[i] >= 0)
            continue;
        w->embed_rows[i] = 0;
        if (!failed(&r->call->sequences[w->owner[i]]))
            fail(&r->call->sequences[w->owner[i]], status, &why);
    }
}

static void embed_tokens(chunk_run *r)
{
    model *m = r->m;
    const resident *embedding = &m->weights.model[W_EMBED];
    matrix rows = embedding->w;
    if (embedding->on_disk)
        read_embedding(r, &rows);
    token_op embed = {.kind = TOKEN_EMBED,
                      .y = &r->w->x,
                      .rows = &rows,
                      .ids = embedding->on_disk ? r->w->embed_rows : r->w->ids,
                      .factor = m->config.embedding_scale};
    compute_tokens(r, &embed, 1);
}

static void run_chunk(chunk_run *r)
{
    model *m = r->m;
    embed_tokens(r);
    angles(r);
    drop_failed(r);
    if (!r->n)
        return;
    if (model_prefetch_wanted(&r->w->prefetch, r->n))
        model_prefetch_next(m, -1, &r->w->x, r->n);
    for (r->layer = 0; r->layer < m->config.layers; r->layer++) {
        look_for_cancels(r);
        if (!r->n)
            return;
        run_layer(r);
        if (!r->n)
            return;
    }
    run_output(r);
    if (r->call->on_tap)
        tap_final(r);
}

/* ---- the call ---- */

/* Where the next chunk begins: a sequence, and a token of it. */
typedef struct cursor {
    int32_t sequence, token;
    int64_t tokens; /* of the call before it */
} cursor;

/* Fill the chunk with the tokens that come next, of sequences that have not failed, and find pages for them. */
static void take_chunk(chunk_run *r, cursor *at)
{
    workspace *w = r->w;
    forward_call *call = r->call;
    int32_t sequences = 0;
    bool prompt = false;
    r->n = 0;
    r->first = at->tokens;
    while (at->sequence < call->n && r->n < w->max_tokens) {
        forward_sequence *s = &call->sequences[at->sequence];
        int64_t room = w->max_tokens - r->n, left = s->n - at->token, n = left < room ? left : room;
        int32_t position = s->session->length + at->token;
        odmoe_error why;
        if (!failed(s) && session_prepare(s->session, position, (int32_t)n, &why))
            fail(s, ODMOE_ERR_BUDGET, &why);
        for (int64_t i = 0; !failed(s) && i < n; i++, r->n++) {
            w->ids[r->n] = s->tokens[at->token + i];
            w->positions[r->n] = position + (int32_t)i;
            w->owner[r->n] = at->sequence;
            w->place[r->n] = at->token + (int32_t)i;
        }
        sequences += !failed(s);
        prompt = prompt || s->phase == ODMOE_PHASE_PROMPT;
        at->tokens += n;
        at->token += (int32_t)n;
        if (at->token == s->n) {
            at->sequence++;
            at->token = 0;
        }
    }
    r->size = (fetch_size){prompt ? FETCH_PROMPT : FETCH_DECODE, (int32_t)r->n, sequences};
}

/* Pages that a chunk's sequences have passed go back. */
static void slide(const chunk_run *r)
{
    for (int64_t i = 0; i < r->n; i++)
        if (i + 1 == r->n || r->w->owner[i + 1] != r->w->owner[i])
            session_slide(r->call->sequences[r->w->owner[i]].session, r->w->positions[i] + 1);
}

static odmoe_status check_sequence(const model *m, const forward_call *call, int32_t i, odmoe_error *err)
{
    const forward_sequence *s = &call->sequences[i];
    if (s->session->layout != &m->sessions)
        return err_set(err, ODMOE_ERR_ARG, "sequence %d belongs to a session of another model", i);
    if (s->n < 1)
        return err_set(err, ODMOE_ERR_RANGE, "sequence %d brings %d tokens, at least one is needed", i, s->n);
    if (s->n > s->session->context - s->session->length)
        return err_set(err, ODMOE_ERR_RANGE, "sequence %d: %d tokens do not fit: the session holds %d of its %d", i,
                       s->n, s->session->length, s->session->context);
    for (int32_t t = 0; t < s->n; t++)
        if (s->tokens[t] < 0 || s->tokens[t] >= m->config.vocab)
            return err_set(err, ODMOE_ERR_RANGE, "sequence %d: token %d is not in the vocabulary of %d", i,
                           s->tokens[t], m->config.vocab);
    for (int32_t other = 0; other < i; other++)
        if (call->sequences[other].session == s->session)
            return err_set(err, ODMOE_ERR_ARG, "sequences %d and %d are of the same session", other, i);
    return ODMOE_OK;
}

static odmoe_status begin(model *m, forward_call *call, int64_t *tokens, odmoe_error *err)
{
    int64_t rows = 0;
    *tokens = 0;
    if (call->n < 1)
        return err_set(err, ODMOE_ERR_RANGE, "a forward call needs at least one sequence");
    for (int32_t i = 0; i < call->n; i++) {
        odmoe_status status = check_sequence(m, call, i, err);
        if (status)
            return status;
    }
    for (int32_t i = 0; i < call->n; i++) {
        forward_sequence *s = &call->sequences[i];
        s->status = ODMOE_OK;
        s->logits_row = rows;
        rows += s->want == ODMOE_LOGITS_ALL ? s->n : s->want == ODMOE_LOGITS_LAST;
        *tokens += s->n;
    }
    return ODMOE_OK;
}

/* Sequences that are through grow; the others are where they were. */
static odmoe_status end(forward_call *call, int64_t *grown, odmoe_error *err)
{
    odmoe_status first = ODMOE_OK;
    *grown = 0;
    for (int32_t i = 0; i < call->n; i++) {
        forward_sequence *s = &call->sequences[i];
        if (!failed(s)) {
            session_commit(s->session, s->tokens, s->n);
            *grown += s->n;
            continue;
        }
        session_rollback(s->session);
        if (!first) {
            first = s->status;
            if (err && s->error)
                *err = *s->error;
        }
    }
    return first;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void count(model *m, int64_t tokens, int64_t chunks, double seconds)
{
    uint64_t anon = sysmem_anonymous("");
    pthread_mutex_lock(&m->counters_lock);
    m->peak_anon = anon > m->peak_anon ? anon : m->peak_anon;
    m->tokens += (uint64_t)tokens;
    m->chunks += (uint64_t)chunks;
    m->forward_seconds += seconds;
    m->rows = m->work.embedding.counters;
    pthread_mutex_unlock(&m->counters_lock);
}

static void run_chunks(model *m, forward_call *call, int64_t tokens)
{
    int64_t chunk = m->work.max_tokens, chunks = (tokens + chunk - 1) / chunk, done = 0;
    cursor at = {0};
    while (at.sequence < call->n) {
        chunk_run r = {.m = m,
                       .w = &m->work,
                       .call = call,
                       .steps_before = done++ * m->config.layers,
                       .steps = chunks * m->config.layers};
        double start = now();
        take_chunk(&r, &at);
        if (!r.n)
            continue;
        int64_t taken = r.n;
        run_chunk(&r);
        slide(&r);
        model_prefetch_settle(m, taken, now() - start);
        count(m, 0, 1, now() - start);
    }
}

odmoe_status forward_run(model *m, forward_call *call, odmoe_error *err)
{
    int64_t tokens;
    pthread_mutex_lock(&m->lock);
    odmoe_status status = begin(m, call, &tokens, err);
    if (!status) {
        run_chunks(m, call, tokens);
        status = end(call, &tokens, err);
        count(m, tokens, 0, 0);
    }
    pthread_mutex_unlock(&m->lock);
    return status;
}
