#include <stdlib.h>
#include <string.h>

#include "api/handles.h"
#include "api/layer_handles.h"
#include "base/mem.h"
#include "layer/expert_files.h"
#include "store/policy.h"

/* ---- a table of functions, as the layer's source ---- */

static odmoe_status table_begin(void *ctx, const fetch_request *request, void **batch, odmoe_error *err)
{
    table_source *ts = ctx;
    ts->refused.code = ODMOE_OK;
    ts->experts = request->experts;
    ts->n = request->n;
    ts->layer = request->layer;
    ts->given = 0;
    ts->order = request->order;
    memset(ts->seen, 0, sizeof ts->seen);
    return ts->ops.begin(ts->ops.ctx, request->layer, request->experts, request->n,
                         request->order == FETCH_LISTED ? ODMOE_ORDER_LISTED : ODMOE_ORDER_ARRIVAL, batch, err);
}

/* Is it one that was asked for, in its turn, for the first time? What is missing, doubled or out of turn would change
 * the result without a word. */
static bool is_due(table_source *ts, int32_t expert)
{
    if (ts->given == ts->n)
        return false;
    if (ts->order == FETCH_LISTED) {
        if (expert != ts->experts[ts->given])
            return false;
    } else {
        int low = 0, high = ts->n - 1; /* the list ascends */
        while (low < high) {
            int middle = (low + high) / 2;
            if (ts->experts[middle] < expert)
                low = middle + 1;
            else
                high = middle;
        }
        if (ts->experts[low] != expert || ts->seen[low])
            return false;
        ts->seen[low] = true;
    }
    ts->given++;
    return true;
}

/* The matrices of the lent expert, checked: a program's mistake must not become a wild read. */
static odmoe_status take_matrices(table_source *ts, struct lent *to, pinned_expert *view, odmoe_error *err)
{
    const odmoe_expert *lent = &to->expert;
    if (lent->n < 1 || lent->n > ODMOE_MATRICES_MAX)
        return err_set(err, ODMOE_ERR_FORMAT, "%d matrices (1 to %d)", lent->n, ODMOE_MATRICES_MAX);
    for (int i = 0; i < lent->n; i++) {
        const odmoe_matrix *m = &lent->matrix[i];
        dtype type;
        if (m->role < 0 || m->role > ODMOE_GATE_UP || !m->data || !dtype_from_gguf((uint32_t)m->type, &type))
            return err_set(err, ODMOE_ERR_FORMAT, "matrix %d: invalid role %d, unknown type %d, or data is NULL", i,
                           m->role, m->type);
        to->extents[i].tag = (uint32_t)(view->slot * ODMOE_MATRICES_MAX + i);
        ts->tensors[to->extents[i].tag] = (expert_tensor){.matrix = (uint8_t)m->role,
                                                          .type = (uint8_t)type,
                                                          .in_out = m->in_out,
                                                          .interleaved = m->interleaved,
                                                          .rows = m->rows,
                                                          .cols = m->cols};
        view->data[i] = m->data;
    }
    view->n = lent->n;
    view->extents = to->extents;
    experts_shape shape = ts->shape;
    odmoe_status status = expert_tensors_check(ts->tensors, to->extents, lent->n, &ts->compute, &shape, err);
    if (!status && (shape.in_types != ts->shape.in_types || shape.mid_types != ts->shape.mid_types))
        status = err_set(err, ODMOE_ERR_FORMAT, "a weight type that the source has not declared");
    return status;
}

typedef odmoe_status table_get(void *ctx, void *batch, odmoe_expert *expert, odmoe_error *err);

static odmoe_status take(table_source *ts, void *batch, table_get *get, pinned_expert *view, odmoe_error *err)
{
    int slot = 0;
    while (slot < TABLE_LENT_MAX - 1 && ts->lent[slot].used)
        slot++;
    struct lent *to = &ts->lent[slot];
    odmoe_status status = get(ts->ops.ctx, batch, &to->expert, err);
    *view = (pinned_expert){.layer = to->expert.layer, .expert = status ? -1 : to->expert.expert, .slot = slot};
    if (view->expert < 0)
        return status;
    view->layer = ts->layer;
    if (!is_due(ts, view->expert))
        status = err_set(err, ODMOE_ERR_FORMAT,
                         "the source lent an expert that was not requested, was lent already, or is out of order");
    else
        status = take_matrices(ts, to, view, err);
    to->used = !status;
    if (status) {
        err_context(err, "layer %d, expert %d", view->layer, view->expert);
        ts->ops.release(ts->ops.ctx, batch, &to->expert);
    }
    return status;
}

static odmoe_status table_next(void *ctx, void *batch, pinned_expert *view, odmoe_error *err)
{
    table_source *ts = ctx;
    if (ts->refused.code)
        return err_set(err, ts->refused.code, "%s", ts->refused.message);
    odmoe_status status = take(ts, batch, ts->ops.next, view, err);
    if (!status && view->expert < 0 && ts->given < ts->n)
        status = err_set(err, ODMOE_ERR_FORMAT, "layer %d: the source ended its batch after %d of %d experts",
                         ts->layer, ts->given, ts->n);
    return status;
}

static odmoe_status table_poll(void *ctx, void *batch, pinned_expert *view, odmoe_error *err)
{
    table_source *ts = ctx;
    odmoe_status status = take(ts, batch, ts->ops.poll, view, &ts->refused);
    if (!status || view->expert < 0) /* the source's own failure: its next reports it */
        ts->refused.code = ODMOE_OK;
    return status;
}

static void table_release(void *ctx, void *batch, const pinned_expert *view)
{
    table_source *ts = ctx;
    struct lent *from = &ts->lent[view->slot];
    from->used = false;
    ts->ops.release(ts->ops.ctx, batch, &from->expert);
}

static void table_end(void *ctx, void *batch)
{
    table_source *ts = ctx;
    ts->ops.end(ts->ops.ctx, batch);
}

static void table_prefetch(void *ctx, int layer, const int32_t *experts, const float *scores, int n,
                           read_priority priority)
{
    table_source *ts = ctx;
    ts->ops.prefetch(ts->ops.ctx, layer, experts, scores, n);
}

static void table_cancel(void *ctx, int layer, read_priority priority)
{
    table_source *ts = ctx;
    ts->ops.cancel(ts->ops.ctx, layer);
}

static bool table_missing(void *ctx, int layer, int expert)
{
    table_source *ts = ctx;
    return ts->ops.missing(ts->ops.ctx, layer, expert) != 0;
}

odmoe_status table_source_init(table_source *ts, const odmoe_source_ops *ops, const compute *c, experts_shape *shape,
                               odmoe_error *err)
{
    static const int32_t f32 = ODMOE_TYPE_F32;
    *ts = (table_source){.compute = *c};
    odmoe_status status = copy_in(&ts->ops, ops, sizeof ts->ops, "sizeof(odmoe_source_ops)", err);
    if (status)
        return status;
    if (!ts->ops.begin || !ts->ops.next || !ts->ops.release || !ts->ops.end)
        return err_set(err, ODMOE_ERR_ARG, "an expert source needs begin, next, release and end");
    int n = ts->ops.types ? ts->ops.n_types : 1;
    for (int i = 0; i < n; i++) {
        int32_t number = ts->ops.types ? ts->ops.types[i] : f32;
        dtype type;
        if (number < 0 || !dtype_from_gguf((uint32_t)number, &type) || !compute_takes(c, type, false))
            return err_set(err, ODMOE_ERR_UNSUPPORTED, "weight type %d is not supported", number);
        shape->in_types |= dtype_bit(type);
        shape->mid_types |= dtype_bit(type);
    }
    ts->shape = *shape;
    return ODMOE_OK;
}

expert_source table_source_of(table_source *ts)
{
    return (expert_source){.ctx = ts,
                           .tensors = ts->tensors,
                           .begin = table_begin,
                           .next = table_next,
                           .poll = ts->ops.poll ? table_poll : NULL,
                           .release = table_release,
                           .end = table_end,
                           .prefetch = ts->ops.prefetch ? table_prefetch : NULL,
                           .cancel = ts->ops.cancel ? table_cancel : NULL,
                           .missing = ts->ops.missing ? table_missing : NULL};
}

/* ---- the store, as a table of functions ---- */

struct odmoe_source {
    expert_files files;
    store *store;
    int32_t types[DTYPE_COUNT], n_types;
};

static odmoe_status store_table_begin(void *ctx, int32_t layer, const int32_t *experts, int32_t n, odmoe_order order,
                                      void **batch, odmoe_error *err)
{
    const odmoe_source *s = ctx;
    fetch_request request = {.layer = layer,
                             .n = n,
                             .experts = experts,
                             .order = order == ODMOE_ORDER_LISTED ? FETCH_LISTED : FETCH_ARRIVAL,
                             .size = {order == ODMOE_ORDER_LISTED ? FETCH_PROMPT : FETCH_DECODE, 1, 1}};
    store_fetch *f;
    odmoe_status status = store_fetch_begin(s->store, &request, &f, err);
    if (!status)
        *batch = f;
    return status;
}

void expert_from_view(const expert_tensor *tensors, const pinned_expert *view, odmoe_expert *out)
{
    out->layer = view->layer;
    out->expert = view->expert;
    out->n = view->n;
    out->own = view->slot;
    for (int i = 0; i < view->n; i++) {
        const expert_tensor *p = &tensors[view->extents[i].tag];
        out->matrix[i] = (odmoe_matrix){.role = p->matrix,
                                        .type = (int32_t)dtype_info((dtype)p->type)->gguf,
                                        .in_out = p->in_out,
                                        .interleaved = p->interleaved,
                                        .rows = p->rows,
                                        .cols = p->cols,
                                        .data = view->data[i]};
    }
}

static odmoe_status store_table_poll(void *ctx, void *batch, odmoe_expert *out, odmoe_error *err)
{
    const odmoe_source *s = ctx;
    pinned_expert view;
    odmoe_status status = store_fetch_poll(batch, &view, err);
    if (!status)
        expert_from_view(s->files.experts.tensor, &view, out);
    return status;
}

static odmoe_status store_table_next(void *ctx, void *batch, odmoe_expert *out, odmoe_error *err)
{
    const odmoe_source *s = ctx;
    pinned_expert view;
    odmoe_status status = store_fetch_next(batch, &view, err);
    if (!status)
        expert_from_view(s->files.experts.tensor, &view, out);
    return status;
}

static void store_table_release(void *ctx, void *batch, const odmoe_expert *e)
{
    pinned_expert view = {.layer = e->layer, .expert = e->expert, .n = e->n, .slot = (int32_t)e->own};
    store_fetch_release(batch, &view);
}

static void store_table_end(void *ctx, void *batch)
{
    store_fetch_end(batch);
}

static void store_table_prefetch(void *ctx, int32_t layer, const int32_t *experts, const float *scores, int32_t n)
{
    const odmoe_source *s = ctx;
    store_prefetch(s->store, layer, experts, n, READ_SPECULATIVE);
}

static void store_table_cancel(void *ctx, int32_t layer)
{
    const odmoe_source *s = ctx;
    store_cancel(s->store, layer, READ_SPECULATIVE);
}

static void store_table_counters(void *ctx, int32_t layer, odmoe_source_counters *out)
{
    const odmoe_source *s = ctx;
    uint64_t stall_ns = 0;
    *out = (odmoe_source_counters){0};
    for (int e = 0; e < expert_index_experts(s->files.experts.index); e++) {
        store_counters c;
        store_counters_get(s->store, layer, e, &c);
        out->hits += c.hits;
        out->misses += c.misses;
        out->bytes += c.bytes;
        stall_ns += c.stall_ns;
    }
    out->stall_seconds = (double)stall_ns * 1e-9;
    store_totals t;
    store_totals_get(s->store, &t);
    out->read_seconds = (double)t.read_ns * 1e-9;
}

static int32_t store_table_missing(void *ctx, int32_t layer, int32_t expert)
{
    const odmoe_source *s = ctx;
    return store_missing(s->store, layer, expert);
}

void odmoe_source_options_init(odmoe_source_options *options)
{
    *options = (odmoe_source_options){.size = sizeof *options, .layers = 1};
}

static void note_types(odmoe_source *s)
{
    bool seen[DTYPE_COUNT] = {false};
    for (size_t i = 0; i < s->files.experts.n; i++) {
        uint8_t type = s->files.experts.tensor[i].type;
        if (!seen[type])
            s->types[s->n_types++] = (int32_t)dtype_info((dtype)type)->gguf;
        seen[type] = true;
    }
}

static odmoe_status open_store(odmoe_source *s, const odmoe_source_options *o, odmoe_error *err)
{
    store_options so = {.cache_bytes = o->cache_bytes ? o->cache_bytes : UINT64_MAX, /* the store takes what all need */
                        .policy = o->policy ? o->policy : "auto"};
    odmoe_status status = options_io(o->io, &so.io, err);
    return status ? status : store_open(s->files.experts.index, s->files.tensors, &so, &s->store, err);
}

odmoe_status odmoe_source_open(const odmoe_source_options *options, odmoe_source **out, odmoe_error *err)
{
    odmoe_source_options o;
    odmoe_source_options_init(&o);
    odmoe_status status = copy_in(&o, options, sizeof o, "odmoe_source_options_init", err);
    if (status)
        return status;
    odmoe_source *s = mem_calloc(1, sizeof *s, "an expert source", err);
    if (!s)
        return ODMOE_ERR_MEMORY;
    status = expert_files_open(&o, &s->files, err);
    if (!status) {
        note_types(s);
        status = open_store(s, &o, err);
    }
    if (status)
        odmoe_source_close(s);
    else
        *out = s;
    return status;
}

void odmoe_source_close(odmoe_source *s)
{
    if (!s)
        return;
    store_close(s->store);
    expert_files_close(&s->files);
    free(s);
}

void odmoe_source_table(odmoe_source *s, odmoe_source_ops *ops)
{
    odmoe_source_ops all = {.ctx = s,
                            .types = s->types,
                            .n_types = s->n_types,
                            .begin = store_table_begin,
                            .next = store_table_next,
                            .poll = store_table_poll,
                            .release = store_table_release,
                            .end = store_table_end,
                            .prefetch = store_table_prefetch,
                            .cancel = store_table_cancel,
                            .counters = store_table_counters,
                            .missing = store_table_missing};
    copy_out(ops, &all, sizeof all);
}

void odmoe_source_invalidate(odmoe_source *s, int32_t layer, int32_t expert)
{
    store_invalidate(s->store, layer, expert);
}

uint64_t odmoe_source_floor(const odmoe_source *s)
{
    return store_floor(s->files.experts.index);
}

const char *odmoe_source_io(const odmoe_source *s)
{
    store_totals t;
    store_totals_get(s->store, &t);
    return t.io;
}
