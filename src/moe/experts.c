#include "moe/experts.h"

#include <assert.h>
#include <string.h>

#define GROUP_ROWS 256 /* rows of one expert that are computed at a time: bounds the workspace */
#define FEW_ENTRIES 64 /* up to this many (row, expert) pairs are kept apart and computed in arrival order */
#define BLOCK 64       /* output columns of one task */

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

static odmoe_status check_expert(const expert_piece *pieces, int n, const kernel_table *k, experts_shape *shape,
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
            odmoe_status status = check_expert(pieces, n, kernels, shape, err);
            if (status) {
                err_context(err, "layer %d, expert %d", l, e);
                return status;
            }
        }
    return ODMOE_OK;
}

/* ---- workspace ---- */

void experts_layout(arena *a, const experts_shape *shape, int64_t max_rows, int threads, experts_work *out)
{
    size_t rows = (size_t)max_rows, entries = rows * (size_t)shape->top_k;
    size_t group = rows < GROUP_ROWS ? rows : GROUP_ROWS, few = entries < FEW_ENTRIES ? entries : FEW_ENTRIES;
    size_t experts = (size_t)shape->experts, hidden = (size_t)shape->hidden, ffn = (size_t)shape->ffn;
    out->max_rows = max_rows;
    out->group = (int64_t)group;
    out->counts = arena_take(a, experts, sizeof *out->counts);
    out->first = arena_take(a, experts + 1, sizeof *out->first);
    out->needed = arena_take(a, experts, sizeof *out->needed);
    out->entry_row = arena_take(a, entries, sizeof *out->entry_row);
    out->entry_weight = arena_take(a, entries, sizeof *out->entry_weight);
    activations_layout(a, &out->gathered, shape->in_mask, (int64_t)group, shape->hidden);
    out->gathered_f32 = shape->in_mask >> ACT_F32 & 1 ? arena_take(a, group * hidden, sizeof(float)) : NULL;
    out->gate = arena_take(a, group * ffn, sizeof(float));
    out->up = arena_take(a, group * ffn, sizeof(float));
    activations_layout(a, &out->mid, shape->mid_mask, (int64_t)group, shape->ffn);
    out->kept = arena_take(a, few * hidden, sizeof(float));
    out->block = arena_take(a, (size_t)threads * group * BLOCK, sizeof(float));
}

/* ---- one call ---- */

/* Sort (row, expert) pairs by expert, rows ascending within one: a counting sort. Returns how many experts are needed.
 */
static int group_rows(const experts_shape *shape, experts_work *w, int64_t n, const int32_t *topk, const float *topw)
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
        w->entry_weight[entry] = topw[i];
    }
    for (int e = shape->experts; e > 0; e--)
        w->first[e] = w->first[e - 1];
    w->first[0] = 0;
    return needed;
}

/* The rows of the group side by side, in every format that this expert's gate and up take. */
static void gather(experts_call *call)
{
    experts_work *w = call->work;
    const int32_t *entry_rows = w->entry_row + call->entry;
    unsigned mask = 1u << call->c->kernels->ops[call->gate->type].act | 1u << call->c->kernels->ops[call->up->type].act;
    w->gathered.at[ACT_F32] = w->gathered_f32;
    static_assert(ACT_F32 == 0, "the loop below starts with it");
    for (int f = 0; f < ACT_COUNT; f++) {
        if (!(mask >> f & 1))
            continue;
        size_t bytes = call->x->bytes[f];
        for (int64_t i = 0; i < call->rows; i++)
            memcpy((char *)w->gathered.at[f] + (size_t)i * bytes,
                   (char *)call->x->at[f] + (size_t)entry_rows[i] * bytes, bytes);
    }
}

static int64_t element_bytes(const expert_piece *p)
{
    return dtype_info((dtype)p->type)->block_bytes; /* of a float type: the only ones stored (in, out) */
}

/* y [n, ldy] columns [first, first + count) of x times one matrix, in either orientation */
static void product(const experts_call *call, const expert_piece *p, const void *at, int64_t row_bytes, int64_t in,
                    const activations *x, int64_t first, int64_t count, float *y, int64_t ldy)
{
    const kernel_ops *ops = &call->c->kernels->ops[p->type];
    if (p->in_out)
        ops->matrix_in_out((const char *)at + first * element_bytes(p), row_bytes, in, count, x->at[ACT_F32], x->cols,
                           call->rows, y, ldy);
    else
        ops->matrix((const char *)at + first * row_bytes, row_bytes, count, in, x->at[ops->act],
                    (int64_t)x->bytes[ops->act], call->rows, y, ldy);
}

static int64_t block_length(int64_t total, int64_t first)
{
    return total - first < BLOCK ? total - first : BLOCK;
}

static void gate_up_task(void *ctx, int64_t task, int worker)
{
    const experts_call *call = ctx;
    int64_t ffn = call->shape->ffn, first = task * BLOCK, count = block_length(ffn, first);
    float *gate = call->work->gate + first, *up = call->work->up + first;
    product(call, call->gate, call->gate_at, call->gate_row_bytes, call->shape->hidden, &call->work->gathered, first,
            count, gate, ffn);
    product(call, call->up, call->up_at, call->up_row_bytes, call->shape->hidden, &call->work->gathered, first, count,
            up, ffn);
    for (int64_t i = 0; i < call->rows; i++)
        call->c->kernels->silu_mul(gate + i * ffn, up + i * ffn, gate + i * ffn, count);
}

static void down_task(void *ctx, int64_t task, int worker)
{
    const experts_call *call = ctx;
    experts_work *w = call->work;
    int64_t hidden = call->shape->hidden, first = task * BLOCK, count = block_length(hidden, first);
    if (call->few) {
        product(call, call->down, call->down_at, call->down_row_bytes, call->shape->ffn, &w->mid, first, count,
                w->kept + call->entry * hidden + first, hidden);
        return;
    }
    float *block = w->block + worker * w->group * BLOCK;
    product(call, call->down, call->down_at, call->down_row_bytes, call->shape->ffn, &w->mid, first, count, block,
            BLOCK);
    for (int64_t i = 0; i < call->rows; i++)
        call->c->kernels->add_scaled(call->y + w->entry_row[call->entry + i] * hidden + first, block + i * BLOCK,
                                     w->entry_weight[call->entry + i], count);
}

/* Find the pieces of the view and where their rows start. */
static void bind_pieces(experts_call *call, const expert_view *view)
{
    for (int i = 0; i < view->n; i++) {
        const expert_piece *p = &view->pieces[i];
        int64_t row_bytes = (int64_t)dtype_bytes((dtype)p->type, (uint64_t)p->cols);
        if (p->role == PIECE_GATE || p->role == PIECE_GATE_UP) {
            call->gate = p;
            call->gate_at = view->piece[i];
            call->gate_row_bytes = p->interleaved ? 2 * row_bytes : row_bytes;
        }
        if (p->role == PIECE_UP) {
            call->up = p;
            call->up_at = view->piece[i];
            call->up_row_bytes = row_bytes;
        }
        if (p->role == PIECE_GATE_UP) {
            int64_t skip = p->in_out ? call->shape->ffn * element_bytes(p)
                                     : (p->interleaved ? row_bytes : call->shape->ffn * row_bytes);
            call->up = p;
            call->up_at = (const char *)view->piece[i] + skip;
            call->up_row_bytes = call->gate_row_bytes;
        }
        if (p->role == PIECE_DOWN) {
            call->down = p;
            call->down_at = view->piece[i];
            call->down_row_bytes = row_bytes;
        }
    }
}

static void run_expert(experts_call *call, const expert_view *view)
{
    experts_work *w = call->work;
    bind_pieces(call, view);
    int64_t last = w->first[view->expert + 1];
    for (call->entry = w->first[view->expert]; call->entry < last; call->entry += call->rows) {
        call->rows = last - call->entry < w->group ? last - call->entry : w->group;
        gather(call);
        pool_run(call->c->pool, (call->shape->ffn + BLOCK - 1) / BLOCK, gate_up_task, call);
        activations_fill(call->c, &w->mid, 1u << call->c->kernels->ops[call->down->type].act, w->gate, call->rows);
        pool_run(call->c->pool, (call->shape->hidden + BLOCK - 1) / BLOCK, down_task, call);
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
                           const expert_source *source, int layer, const activations *x, int64_t n, const int32_t *topk,
                           const float *topw, odmoe_error *err)
{
    *call = (experts_call){.c = c, .shape = shape, .work = work, .source = source, .layer = layer, .x = x, .n = n};
    call->few = n * shape->top_k <= FEW_ENTRIES;
    int needed = group_rows(shape, work, n, topk, topw);
    odmoe_status status = source->begin(source->ctx, layer, work->needed, needed,
                                        call->few ? FETCH_ARRIVAL : FETCH_LISTED, &call->batch, err);
    if (!status && source->note_uses)
        for (int i = 0; i < needed; i++)
            source->note_uses(source->ctx, layer, work->needed[i], (uint64_t)work->counts[work->needed[i]]);
    return status;
}

odmoe_status experts_finish(experts_call *call, float *y, odmoe_error *err)
{
    const expert_source *source = call->source;
    odmoe_status status;
    call->y = y;
    memset(y, 0, (size_t)(call->n * call->shape->hidden) * sizeof *y);
    for (;;) {
        expert_view view;
        status = source->next(source->ctx, call->batch, &view, err);
        if (status || view.expert < 0)
            break;
        run_expert(call, &view);
        source->release(source->ctx, call->batch, &view);
    }
    source->end(source->ctx, call->batch);
    if (!status && call->few)
        add_kept(call, call->n * call->shape->top_k);
    return status;
}

void experts_abandon(experts_call *call)
{
    call->source->end(call->source->ctx, call->batch);
}
