#include "moe/source.h"

static odmoe_status begin(void *ctx, int layer, const int32_t *experts, int n, fetch_order order, void **batch,
                          odmoe_error *err)
{
    store_batch *b;
    odmoe_status status = store_begin(ctx, layer, experts, n, order, &b, err);
    if (!status)
        *batch = b;
    return status;
}

static odmoe_status next(void *ctx, void *batch, expert_view *view, odmoe_error *err)
{
    return store_next(batch, view, err);
}

static odmoe_status poll_next(void *ctx, void *batch, expert_view *view, odmoe_error *err)
{
    return store_poll(batch, view, err);
}

static void release(void *ctx, void *batch, const expert_view *view)
{
    store_release(batch, view);
}

static void end(void *ctx, void *batch)
{
    store_end(batch);
}

static void prefetch(void *ctx, int layer, const int32_t *experts, const float *scores, int n, read_class class_)
{
    store_prefetch(ctx, layer, experts, n, class_);
}

static void cancel(void *ctx, int layer, read_class class_)
{
    store_cancel(ctx, layer, class_);
}

static bool missing(void *ctx, int layer, int expert)
{
    return store_missing(ctx, layer, expert);
}

static void note_uses(void *ctx, int layer, int expert, uint64_t uses)
{
    store_note_uses(ctx, layer, expert, uses);
}

expert_source source_from_store(store *s)
{
    return (expert_source){
        .ctx = s,
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
