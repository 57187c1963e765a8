/* source.h - where a layer gets its experts from: the small table of functions that the store offers, or a program's
 * own. */
#ifndef ODMOE_MOE_SOURCE_H
#define ODMOE_MOE_SOURCE_H

#include "moe/expert_table.h"
#include "store/store.h"

typedef struct expert_source {
    void *ctx;
    const expert_tensor *tensors; /* [tag] what an extent of a pinned expert holds; borrowed */
    /* As store_fetch_begin, store_fetch_next, store_fetch_release, store_fetch_end in store.h; `batch` is the source's own. */
    odmoe_status (*begin)(void *ctx, const fetch_request *request, void **batch, odmoe_error *err);
    odmoe_status (*next)(void *ctx, void *batch, pinned_expert *view, odmoe_error *err);
    /* As store_fetch_poll; NULL where the source cannot tell: experts are then computed one by one. */
    odmoe_status (*poll)(void *ctx, void *batch, pinned_expert *view, odmoe_error *err);
    void (*release)(void *ctx, void *batch, const pinned_expert *view);
    void (*end)(void *ctx, void *batch);
    /* As store_prefetch and store_cancel; NULL where the source cannot read ahead. scores [n] fall with the rank; they
     * may be NULL. */
    void (*prefetch)(void *ctx, int layer, const int32_t *experts, const float *scores, int n, read_priority priority);
    void (*cancel)(void *ctx, int layer, read_priority priority);
    /* As store_missing; NULL where the source cannot tell. */
    bool (*missing)(void *ctx, int layer, int expert);
    /* (token, expert) pairs for the telemetry; NULL where they are not counted. */
    void (*note_uses)(void *ctx, int layer, int expert, uint64_t uses);
} expert_source;

/* source_from_store - the table that stands for a store whose index is that of `experts`; both are borrowed. */
expert_source source_from_store(store *s, const expert_table *experts);

#endif
