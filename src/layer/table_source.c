#include "layer/table_source.h"

#include <string.h>

static odmoe_status table_begin(void *ctx, const fetch_request *request, void **batch, odmoe_error *err)
{
    table_source *ts = ctx;
    ts->refused.code = ODMOE_OK;
    ts->experts = request->experts;
    ts->n = request->n;
    ts->layer = request->layer;
    ts->given = ts->lent_now = 0;
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
        return err_set(err, ODMOE_ERR_FORMAT, "has %d matrices, expected 1 to %d", lent->n, ODMOE_MATRICES_MAX);
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
    while (slot < LOCAL_PINNED_MAX - 1 && ts->lent[slot].used)
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
    ts->lent_now += !status;
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
    if (ts->ops.max_lent && ts->lent_now >= ts->ops.max_lent) {
        view->expert = EXPERT_NOT_YET;
        return ODMOE_OK;
    }
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
    ts->lent_now--;
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
    *ts = (table_source){.ops = *ops, .compute = *c};
    if (ops->max_lent < 0)
        return err_set(err, ODMOE_ERR_RANGE, "max_lent is %d: 0 (no limit) or more is possible", ops->max_lent);
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
