#include "moe/source.h"

static odmoe_status begin(void *ctx, const fetch_request *request, void **batch, odmoe_error *err)
{
    store_fetch *f;
    odmoe_status status = store_fetch_begin(ctx, request, &f, err);
    if (!status)
        *batch = f;
    return status;
}

static odmoe_status next(void *ctx, void *batch, pinned_expert *view, odmoe_error *err)
{
    return store_fetch_next(batch, view, err);
}

static odmoe_status poll_next(void *ctx, void *batch, pinned_expert *view, odmoe_error *err)
{
    return store_fetch_poll(batch, view, err);
}

static void release(void *ctx, void *batch, const pinned_expert *view)
{
    store_fetch_release(batch, view);
}

static void end(void *ctx, void *batch)
{
    store_fetch_end(batch);
}

static void prefetch(void *ctx, int layer, const int32_t *experts, const float *scores, int n, read_priority priority)
{
    store_prefetch(ctx, layer, experts, n, priority);
}

static void cancel(void *ctx, int layer, read_priority priority)
{
    store_cancel(ctx, layer, priority);
}

static bool missing(void *ctx, int layer, int expert)
{
    return store_missing(ctx, layer, expert);
}

static void note_uses(void *ctx, int layer, int expert, uint64_t uses)
{
    store_note_uses(ctx, layer, expert, uses);
}

expert_source source_from_store(store *s, const expert_table *experts)
{
    return (expert_source){
        .ctx = s,
        .tensors = experts->tensor,
        .begin = begin,
        .next = next,
        .poll = poll_next,
        .release = release,
        .end = end,
        .prefetch = prefetch,
        .cancel = cancel,
        .missing = missing,
        .note_uses = note_uses,
    };
}
