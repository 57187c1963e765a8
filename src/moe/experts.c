#include "moe/experts.h"

#include <assert.h>
#include <string.h>

#define ROUND_ROWS 256 /* (row, expert) pairs that are computed at a time: bounds the workspace */
#define BLOCK 64       /* output columns of one task of many rows, */
#define BLOCK_SMALL 32 /* or of a small hidden size, so that threads find enough tasks: */
#define BLOCK_TASKS 8  /* a thread */

/* ---- validation at load ---- */

static odmoe_status check_piece(const expert_piece *p, const kernel_table *k, int64_t in, int64_t out, unsigned *mask,
                                odmoe_error *err)
{
    static const char *const names[PIECE_ROLE_COUNT] = {"gate", "up", "down", "gate_up"};
    const dtype_traits *t = dtype_info((dtype)p->type);
    int64_t rows = p->in_out ? in : out, cols = p->in_out ? out : in;
    if (p->rows != rows || p->cols != cols)
        return err_set(err, ODMOE_ERR_FORMAT, "%s has shape %lld x %lld, expected %lld x %lld", names[p->role],
                       (long long)p->rows, (long long)p->cols, (long long)rows, (long long)cols);
    if (cols % t->block)
        return err_set(err, ODMOE_ERR_FORMAT, "%s: rows of %lld weights are no multiple of %s's block of %u",
                       names[p->role], (long long)cols, t->name, t->block);
    if (p->in_out ? !k->ops[p->type].matrix_in_out : !k->ops[p->type].matrix)
        return err_set(err, ODMOE_ERR_UNSUPPORTED, "%s: type %s is not supported in this orientation", names[p->role],
                       t->name);
    if (p->in_out && p->interleaved)
        return err_set(err, ODMOE_ERR_UNSUPPORTED, "%s: interleaved and transposed at once is not supported",
                       names[p->role]);
    *mask |= activation_mask(k, (dtype)p->type);
    return ODMOE_OK;
}

odmoe_status experts_check_pieces(const expert_piece *pieces, int n, const kernel_table *k, experts_shape *shape,
                                  odmoe_error *err)
{
    unsigned seen = 0;
    for (int i = 0; i < n; i++) {
        const expert_piece *p = &pieces[i];
        odmoe_status status;
        if (seen >> p->role & 1)
            return err_set(err, ODMOE_ERR_FORMAT, "a matrix is there twice");
        seen |= 1u << p->role;
        if (p->role == PIECE_DOWN)
            status = check_piece(p, k, shape->ffn, shape->hidden, &shape->mid_mask, err);
        else
            status =
                check_piece(p, k, shape->hidden, shape->ffn * (p->role == PIECE_GATE_UP ? 2 : 1), &shape->in_mask, err);
        if (status)
            return status;
    }
    const unsigned apart = 1u << PIECE_GATE | 1u << PIECE_UP | 1u << PIECE_DOWN;
    const unsigned fused = 1u << PIECE_GATE_UP | 1u << PIECE_DOWN;
    if (seen != apart && seen != fused)
        return err_set(err, ODMOE_ERR_FORMAT, "an expert needs gate, up and down, or gate_up and down");
    return ODMOE_OK;
}

odmoe_status experts_check(const expert_index *index, const kernel_table *kernels, experts_shape *shape,
                           odmoe_error *err)
{
    shape->in_mask = shape->mid_mask = 0;
    for (int l = 0; l < expert_index_layers(index); l++)
        for (int e = 0; e < expert_index_experts(index); e++) {
            int n;
            const expert_piece *pieces = expert_index_pieces(index, l, e, &n);
            odmoe_status status = experts_check_pieces(pieces, n, kernels, shape, err);
            if (status) {
                err_context(err, "layer %d, expert %d", l, e);
                return status;
            }
        }
    return ODMOE_OK;
}

/* ---- workspace ---- */

void experts_layout_groups(arena *a, const experts_shape *shape, int64_t max_rows, experts_work *out)
{
    size_t experts = (size_t)shape->experts, entries = (size_t)max_rows * (size_t)shape->top_k;
    out->max_rows = max_rows;
    out->counts = arena_take(a, experts, sizeof *out->counts);
    out->first = arena_take(a, experts + 1, sizeof *out->first);
    out->needed = arena_take(a, experts, sizeof *out->needed);
    out->entry_row = arena_take(a, entries, sizeof *out->entry_row);
    out->entry_slot = arena_take(a, entries, sizeof *out->entry_slot);
    out->entry_weight = arena_take(a, entries, sizeof *out->entry_weight);
}

void experts_layout(arena *a, const experts_shape *shape, int64_t max_rows, int threads, experts_work *out)
{
    size_t rows = (size_t)max_rows, entries = rows * (size_t)shape->top_k;
    size_t few = entries < EXPERTS_FEW ? entries : EXPERTS_FEW, round = rows < ROUND_ROWS ? rows : ROUND_ROWS;
    size_t hidden = (size_t)shape->hidden, ffn = (size_t)shape->ffn;
    round = round < few ? few : round;
    experts_layout_groups(a, shape, max_rows, out);
    out->round_rows = (int64_t)round;
    activations_layout(a, &out->gathered, shape->in_mask, (int64_t)round, shape->hidden);
    out->gathered_f32 = shape->in_mask >> ACT_F32 & 1 ? arena_take(a, round * hidden, sizeof(float)) : NULL;
    out->gate = arena_take(a, round * ffn, sizeof(float));
    out->up = arena_take(a, round * ffn, sizeof(float));
    activations_layout(a, &out->mid, shape->mid_mask, (int64_t)round, shape->ffn);
    out->kept = arena_take(a, few * hidden, sizeof(float));
    out->block = arena_take(a, (size_t)threads * round * BLOCK, sizeof(float));
}

/* ---- one call ---- */

int experts_group(const experts_shape *shape, experts_work *w, int64_t n, const int32_t *topk, const float *topw)
{
    int64_t pairs = n * shape->top_k;
    memset(w->counts, 0, (size_t)shape->experts * sizeof *w->counts);
    for (int64_t i = 0; i < pairs; i++)
        w->counts[topk[i]]++;
    int needed = 0;
    int32_t at = 0;
    for (int e = 0; e < shape->experts; e++) {
        w->first[e] = at;
        at += w->counts[e];
        if (w->counts[e])
            w->needed[needed++] = e;
    }
    w->first[shape->experts] = at;
    for (int64_t i = 0; i < pairs; i++) {
        int32_t entry = w->first[topk[i]]++;
        w->entry_row[entry] = (int32_t)(i / shape->top_k);
        w->entry_slot[entry] = (uint8_t)(i % shape->top_k);
        w->entry_weight[entry] = topw[i];
    }
    for (int e = shape->experts; e > 0; e--)
        w->first[e] = w->first[e - 1];
    w->first[0] = 0;
    return needed;
}

void experts_bind(const experts_shape *shape, const pinned_expert *view, expert_matrices *out)
{
    for (int i = 0; i < view->n; i++) {
        const expert_piece *p = &view->pieces[i];
        expert_matrix m = {.type = (dtype)p->type,
                           .in_out = p->in_out,
                           .at = view->piece[i],
                           .row_bytes = (int64_t)dtype_bytes((dtype)p->type, (uint64_t)p->cols)};
        if (p->role == PIECE_GATE)
            out->gate = m;
        else if (p->role == PIECE_UP)
            out->up = m;
        else if (p->role == PIECE_DOWN)
            out->down = m;
        if (p->role != PIECE_GATE_UP)
            continue;
        /* (in, out): a row is ffn gate weights, then ffn up weights; (out, in): rows apart, or in turn */
        int64_t one = m.row_bytes;
        int64_t skip = p->in_out ? one / 2 : p->interleaved ? one : shape->ffn * one;
        m.row_bytes = p->interleaved ? 2 * one : one;
        out->gate = out->up = m;
        out->up.at = (const char *)m.at + skip;
    }
}

/* y [rows, ldy] columns [first, first + count) of rows x times one matrix, in either orientation; x starts at row
 * `base` */
static void product(const experts_call *call, const expert_matrix *m, int64_t in, const activations *x, int64_t base,
                    int64_t rows, int64_t first, int64_t count, float *y, int64_t ldy)
{
    const kernel_ops *ops = &call->c->kernels->ops[m->type];
    const char *at = m->at;
    if (m->in_out) /* a float type: blocks of one weight */
        ops->matrix_in_out(at + first * (int64_t)dtype_info(m->type)->block_bytes, m->row_bytes, in, count,
                           (const float *)x->at[ACT_F32] + base * x->cols, x->cols, rows, y, ldy);
    else
        ops->matrix(at + first * m->row_bytes, m->row_bytes, count, in,
                    (const char *)x->at[ops->act] + base * (int64_t)x->bytes[ops->act], (int64_t)x->bytes[ops->act],
                    rows, y, ldy);
}

/* How many runs of `length` cover `total`, and the length of the one that starts at `first`. */
static int64_t runs_of(int64_t total, int64_t length)
{
    return (total + length - 1) / length;
}

static int64_t run_length(int64_t total, int64_t first, int64_t length)
{
    return total - first < length ? total - first : length;
}

/* Copy one (row, expert) pair's activations into the round, in every format. Row i of the round. */
static void gather_row(void *ctx, int64_t i, int worker)
{
    const experts_call *call = ctx;
    experts_work *w = call->work;
    int s = 0;
    while (i >= call->slices[s].base + call->slices[s].rows)
        s++;
    int64_t row = w->entry_row[call->slices[s].entry + i - call->slices[s].base];
    for (int f = 0; f < ACT_COUNT; f++)
        if (call->shape->in_mask >> f & 1)
            memcpy((char *)w->gathered.at[f] + (size_t)i * call->x->bytes[f],
                   (const char *)call->x->at[f] + (size_t)row * call->x->bytes[f], call->x->bytes[f]);
}

/* Columns of a slice's products before silu, to where backward finds them by row and choice. */
static void keep(const experts_call *call, const experts_slice *s, const float *from, int64_t first, int64_t count,
                 float *to)
{
    const experts_work *w = call->work;
    int64_t ffn = call->shape->ffn;
    for (int64_t i = 0; i < s->rows; i++) {
        int64_t pair = (int64_t)w->entry_row[s->entry + i] * call->shape->top_k + w->entry_slot[s->entry + i];
        memcpy(to + pair * ffn + first, from + i * ffn, (size_t)count * sizeof *to);
    }
}

/* gate, up and silu for a run of one slice's ffn. Task = slice * runs + run. */
static void gate_up_task(void *ctx, int64_t task, int worker)
{
    const experts_call *call = ctx;
    int64_t ffn = call->shape->ffn, hidden = call->shape->hidden, runs = runs_of(ffn, call->gate_rows);
    const experts_slice *s = &call->slices[task / runs];
    int64_t first = task % runs * call->gate_rows, count = run_length(ffn, first, call->gate_rows);
    float *gate = call->work->gate + s->base * ffn + first, *up = call->work->up + s->base * ffn + first;
    product(call, &s->m.gate, hidden, &call->work->gathered, s->base, s->rows, first, count, gate, ffn);
    product(call, &s->m.up, hidden, &call->work->gathered, s->base, s->rows, first, count, up, ffn);
    if (call->keep_gate) {
        keep(call, s, gate, first, count, call->keep_gate);
        keep(call, s, up, first, count, call->keep_up);
    }
    for (int64_t i = 0; i < s->rows; i++)
        call->c->kernels->silu_mul(gate + i * ffn, up + i * ffn, gate + i * ffn, count);
}

/* Few rows: down for a run of one slice's hidden size, kept apart. Task = slice * runs + run. */
static void keep_task(void *ctx, int64_t task, int worker)
{
    const experts_call *call = ctx;
    int64_t hidden = call->shape->hidden, runs = runs_of(hidden, call->down_rows);
    const experts_slice *s = &call->slices[task / runs];
    int64_t first = task % runs * call->down_rows, count = run_length(hidden, first, call->down_rows);
    product(call, &s->m.down, call->shape->ffn, &call->work->mid, s->base, s->rows, first, count,
            call->work->kept + s->entry * hidden + first, hidden);
}

/* Many rows: down for one block of the hidden size, over all slices: those of one row are added in ascending order. */
static void add_task(void *ctx, int64_t task, int worker)
{
    const experts_call *call = ctx;
    experts_work *w = call->work;
    int64_t hidden = call->shape->hidden, first = task * call->down_rows;
    int64_t count = run_length(hidden, first, call->down_rows);
    float *block = w->block + worker * w->round_rows * BLOCK;
    for (int i = 0; i < call->count; i++) {
        const experts_slice *s = &call->slices[i];
        product(call, &s->m.down, call->shape->ffn, &w->mid, s->base, s->rows, first, count, block, BLOCK);
        for (int64_t row = 0; row < s->rows; row++)
            call->c->kernels->add_scaled(call->y + w->entry_row[s->entry + row] * hidden + first, block + row * BLOCK,
                                         w->entry_weight[s->entry + row], count);
    }
}

static void run_round(experts_call *call)
{
    experts_work *w = call->work;
    w->gathered.at[ACT_F32] = w->gathered_f32;
    rows_run(call->c, call->rows, gather_row, call);
    int64_t ffn = call->shape->ffn, hidden = call->shape->hidden, rows_each = call->rows / call->count;
    call->gate_rows = task_rows(call->c, call->count * ffn, rows_each);
    pool_run(call->c->pool, call->count * runs_of(ffn, call->gate_rows), gate_up_task, call);
    activations_fill(call->c, &w->mid, call->shape->mid_mask, w->gate, call->rows);
    if (call->few) {
        call->down_rows = task_rows(call->c, call->count * hidden, rows_each);
        pool_run(call->c->pool, call->count * runs_of(hidden, call->down_rows), keep_task, call);
    } else {
        call->down_rows = hidden >= BLOCK_TASKS * pool_threads(call->c->pool) * BLOCK ? BLOCK : BLOCK_SMALL;
        pool_run(call->c->pool, runs_of(hidden, call->down_rows), add_task, call);
    }
    for (int i = 0; i < call->count; i++)
        if (call->slices[i].last)
            call->source->release(call->source->ctx, call->batch, &call->slices[i].view);
}

/* Take the next expert as the current one: wait for it, or only look whether it is there. False: none to be had now. */
static bool take_expert(experts_call *call, bool wait, odmoe_status *status, odmoe_error *err)
{
    const expert_source *source = call->source;
    experts_slice *s = &call->current;
    if (wait)
        *status = source->next(source->ctx, call->batch, &s->view, err);
    else if (!source->poll || source->poll(source->ctx, call->batch, &s->view, NULL))
        return false; /* a failure shows again in next */
    if (*status || s->view.expert < 0)
        return false;
    s->entry = call->work->first[s->view.expert];
    s->rows = call->work->first[s->view.expert + 1] - s->entry;
    experts_bind(call->shape, &s->view, &s->m);
    return true;
}

/* Fill a round with what is there, at least one slice. An empty round: all experts are through, or *status says why
 * not. Waits only while it holds no expert, so that room for one is enough. */
static void fill_round(experts_call *call, odmoe_status *status, odmoe_error *err)
{
    call->count = 0;
    call->rows = 0;
    while (call->count < EXPERTS_ROUND_MAX && call->rows < call->work->round_rows) {
        if (!call->current.rows && !take_expert(call, call->count == 0, status, err))
            return;
        experts_slice *s = &call->slices[call->count++];
        int64_t room = call->work->round_rows - call->rows;
        *s = call->current;
        s->base = call->rows;
        s->rows = s->rows < room ? s->rows : room;
        call->current.entry += s->rows;
        call->current.rows -= s->rows;
        s->last = call->current.rows == 0;
        call->rows += s->rows;
    }
}

/* Add the outputs that few rows kept apart; entries lie in ascending expert order. */
static void add_kept(const experts_call *call, int64_t entries)
{
    const experts_work *w = call->work;
    int64_t hidden = call->shape->hidden;
    for (int64_t i = 0; i < entries; i++)
        call->c->kernels->add_scaled(call->y + w->entry_row[i] * hidden, w->kept + i * hidden, w->entry_weight[i],
                                     hidden);
}

odmoe_status experts_start(experts_call *call, const compute *c, const experts_shape *shape, experts_work *work,
                           const expert_source *source, int layer, const activations *x, int64_t n, fetch_size size,
                           const int32_t *topk, const float *topw, odmoe_error *err)
{
    *call = (experts_call){.c = c, .shape = shape, .work = work, .source = source, .layer = layer, .x = x, .n = n};
    call->few = n * shape->top_k <= EXPERTS_FEW;
    call->needed = experts_group(shape, work, n, topk, topw);
    fetch_request request = {.layer = layer,
                             .n = call->needed,
                             .experts = work->needed,
                             .order = call->few ? FETCH_ARRIVAL : FETCH_LISTED,
                             .size = size};
    odmoe_status status = source->begin(source->ctx, &request, &call->batch, err);
    if (!status && source->note_uses)
        for (int i = 0; i < call->needed; i++)
            source->note_uses(source->ctx, layer, work->needed[i], (uint64_t)work->counts[work->needed[i]]);
    return status;
}

odmoe_status experts_finish(experts_call *call, float *y, odmoe_error *err)
{
    const expert_source *source = call->source;
    call->y = y;
    memset(y, 0, (size_t)(call->n * call->shape->hidden) * sizeof *y);
    odmoe_status status = ODMOE_OK;
    for (;;) {
        fill_round(call, &status, err);
        if (!call->count)
            break;
        run_round(call);
    }
    source->end(source->ctx, call->batch);
    if (!status && call->few)
        add_kept(call, call->n * call->shape->top_k);
    return status;
}
