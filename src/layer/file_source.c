#include "layer/file_source.h"

static odmoe_status lend_begin(void *ctx, int32_t layer, const int32_t *experts, int32_t n, odmoe_order order,
                               void **batch, odmoe_error *err)
{
    const file_source *s = ctx;
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

void expert_to_public(const expert_tensor *tensors, const pinned_expert *view, odmoe_expert *out)
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

static odmoe_status lend_poll(void *ctx, void *batch, odmoe_expert *out, odmoe_error *err)
{
    const file_source *s = ctx;
    pinned_expert view;
    odmoe_status status = store_fetch_poll(batch, &view, err);
    if (!status)
        expert_to_public(s->files.experts.tensor, &view, out);
    return status;
}

static odmoe_status lend_next(void *ctx, void *batch, odmoe_expert *out, odmoe_error *err)
{
    const file_source *s = ctx;
    pinned_expert view;
    odmoe_status status = store_fetch_next(batch, &view, err);
    if (!status)
        expert_to_public(s->files.experts.tensor, &view, out);
    return status;
}

static void lend_release(void *ctx, void *batch, const odmoe_expert *e)
{
    pinned_expert view = {.layer = e->layer, .expert = e->expert, .n = e->n, .slot = (int32_t)e->own};
    store_fetch_release(batch, &view);
}

static void lend_end(void *ctx, void *batch)
{
    store_fetch_end(batch);
}

static void lend_prefetch(void *ctx, int32_t layer, const int32_t *experts, const float *scores, int32_t n)
{
    const file_source *s = ctx;
    store_prefetch(s->store, layer, experts, n, READ_SPECULATIVE);
}

static void lend_cancel(void *ctx, int32_t layer)
{
    const file_source *s = ctx;
    store_cancel(s->store, layer, READ_SPECULATIVE);
}

static void lend_counters(void *ctx, int32_t layer, odmoe_source_counters *out)
{
    const file_source *s = ctx;
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

static int32_t lend_missing(void *ctx, int32_t layer, int32_t expert)
{
    const file_source *s = ctx;
    return store_missing(s->store, layer, expert);
}

static void note_types(file_source *s)
{
    bool seen[DTYPE_COUNT] = {false};
    for (size_t i = 0; i < s->files.experts.n; i++) {
        uint8_t type = s->files.experts.tensor[i].type;
        if (!seen[type])
            s->types[s->n_types++] = (int32_t)dtype_info((dtype)type)->gguf;
        seen[type] = true;
    }
}

odmoe_status file_source_open(const odmoe_source_options *o, io_mode io, file_source *out, odmoe_error *err)
{
    store_options so = {.cache_bytes = o->cache_bytes ? o->cache_bytes : UINT64_MAX, /* the store takes what all need */
                        .io = io,
                        .policy = o->policy ? o->policy : "auto"};
    odmoe_status status = expert_files_open(o, &out->files, err);
    if (status)
        return status;
    note_types(out);
    return store_open(out->files.experts.index, out->files.tensors, &so, &out->store, err);
}

void file_source_close(file_source *s)
{
    store_close(s->store);
    expert_files_close(&s->files);
}

odmoe_source_ops file_source_ops(file_source *s)
{
    return (odmoe_source_ops){.size = sizeof(odmoe_source_ops),
                              .ctx = s,
                              .types = s->types,
                              .n_types = s->n_types,
                              .begin = lend_begin,
                              .next = lend_next,
                              .poll = lend_poll,
                              .release = lend_release,
                              .end = lend_end,
                              .prefetch = lend_prefetch,
                              .cancel = lend_cancel,
                              .counters = lend_counters,
                              .missing = lend_missing};
}

/* A program may have put functions of its own into a table that it got from here: then it is the program's. */
file_source *file_source_behind(const odmoe_source_ops *ops)
{
    bool same = ops->begin == lend_begin && ops->next == lend_next && ops->poll == lend_poll &&
                ops->release == lend_release && ops->end == lend_end && ops->prefetch == lend_prefetch &&
                ops->cancel == lend_cancel && ops->counters == lend_counters && ops->missing == lend_missing;
    return same && !ops->max_lent ? ops->ctx : NULL;
}

odmoe_status file_source_use(file_source *s, int layers, const compute *c, experts_shape *shape, expert_source *out,
                             odmoe_error *err)
{
    const expert_index *index = s->files.experts.index;
    if (layers > expert_index_layers(index) || shape->experts > expert_index_experts(index))
        return err_set(err, ODMOE_ERR_RANGE, "the source has %d layers of %d experts; %d layers of %d were asked for",
                       expert_index_layers(index), expert_index_experts(index), layers, shape->experts);
    *out = source_from_store(s->store, &s->files.experts);
    return expert_tensors_check_all(&s->files.experts, c, shape, err);
}
