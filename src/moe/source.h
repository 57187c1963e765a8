/* source.h - where a layer gets its experts from: the small table of functions that the store offers, or a program's
 * own. */
#ifndef ODMOE_MOE_SOURCE_H
#define ODMOE_MOE_SOURCE_H

#include "store/store.h"

typedef struct expert_source {
    void *ctx;
    /* As store_begin, store_next, store_release, store_end in store.h; `batch` is the source's own. */
    odmoe_status (*begin)(void *ctx, int layer, const int32_t *experts, int n, fetch_order order, void **batch,
                          odmoe_error *err);
    odmoe_status (*next)(void *ctx, void *batch, expert_view *view, odmoe_error *err);
    /* As store_poll; NULL where the source cannot tell: experts are then computed one by one. */
    odmoe_status (*poll)(void *ctx, void *batch, expert_view *view, odmoe_error *err);
    void (*release)(void *ctx, void *batch, const expert_view *view);
    void (*end)(void *ctx, void *batch);
    /* As store_prefetch and store_cancel; NULL where the source cannot read ahead. scores [n] fall with the rank; they
     * may be NULL. */
    void (*prefetch)(void *ctx, int layer, const int32_t *experts, const float *scores, int n, read_class class_);
    void (*cancel)(void *ctx, int layer, read_class class_);
    /* As store_missing; NULL where the source cannot tell. */
    bool (*missing)(void *ctx, int layer, int expert);
    /* (token, expert) pairs for the telemetry; NULL where nobody counts. */
    void (*note_uses)(void *ctx, int layer, int expert, uint64_t uses);
} expert_source;

/* source_from_store - the table that stands for a store; the store is borrowed. */
expert_source source_from_store(store *s);

#endif
