/* store.c - opening and closing, sizes for a plan, prefetching and invalidation. Fetches: fetch.c; the I/O thread:
 * reader.c. */
#include "store/store_private.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "store/schedule.h"

uint64_t store_floor(const expert_index *index)
{
    return layout_largest(index);
}

uint64_t store_bytes_for(const expert_index *index, int64_t n)
{
    uint64_t bytes;
    return n < 1 ? 0 : mem_mul(layout_largest(index), (uint64_t)n, &bytes) ? bytes : UINT64_MAX;
}

/* [ids] what each expert takes in the slab; the caller frees. */
static uint64_t *slot_bytes(const expert_index *index, odmoe_error *err)
{
    int32_t experts = expert_index_experts(index), ids = expert_index_layers(index) * experts;
    uint64_t *need = mem_calloc((size_t)ids, sizeof *need, "the cache directory", err);
    for (int32_t id = 0; need && id < ids; id++)
        need[id] = layout_bytes(index, id / experts, id % experts);
    return need;
}

odmoe_status store_bytes_for_all(const expert_index *index, uint64_t *bytes, odmoe_error *err)
{
    uint64_t *need = slot_bytes(index, err);
    if (!need)
        return ODMOE_ERR_MEMORY;
    odmoe_status status =
        slab_bytes_for_all(need, expert_index_layers(index) * expert_index_experts(index), bytes, err);
    free(need);
    return status;
}

static uint64_t smallest_slot(const expert_index *index)
{
    uint64_t least = UINT64_MAX;
    for (int l = 0; l < expert_index_layers(index); l++)
        for (int e = 0; e < expert_index_experts(index); e++) {
            uint64_t bytes = layout_bytes(index, l, e);
            least = bytes < least ? bytes : least;
        }
    return least;
}

uint64_t store_overhead(const expert_index *index, const store_options *options)
{
    const policy_ops *ops;
    if (policy_find(options->policy, &ops, NULL))
        ops = policy_at(0);
    int layers = expert_index_layers(index), experts = expert_index_experts(index);
    uint64_t ids = (uint64_t)layers * (uint64_t)experts;
    return sizeof(store) + ids * sizeof(store_expert) + (uint64_t)layers * sizeof *((store *)0)->stalls +
           2 * store_fetch_heap_bytes(experts) +
           cache_heap_bytes(layers, experts, options->cache_bytes, smallest_slot(index), layout_largest(index), ops) +
           reader_heap_bytes(io_depth_of(options)) + io_heap_bytes(options);
}

/* ---- open, close ---- */

static odmoe_status open_cache(store *s, const policy_ops *ops, odmoe_error *err)
{
    uint64_t *need = slot_bytes(s->index, err);
    if (!need)
        return ODMOE_ERR_MEMORY;
    odmoe_status status = cache_init(&s->cache, s->layers, s->experts, need, s->cache_bytes, ops, err);
    s->cache_bytes = s->cache.slab.bytes;
    free(need);
    return status;
}

static odmoe_status open_parts(store *s, const tensor_index *tensors, const store_options *options, odmoe_error *err)
{
    const policy_ops *ops;
    odmoe_status status = policy_find(options->policy, &ops, err);
    if (!status)
        status = expert_index_check(s->index, err);
    if (!status)
        status = open_cache(s, ops, err);
    if (status)
        return status;
    s->expert = mem_calloc((size_t)s->cache.ids, sizeof *s->expert, "the store", err);
    s->stalls = mem_calloc((size_t)s->layers, sizeof *s->stalls, "the store", err);
    s->memory = mem_pages_alloc(s->cache_bytes, "the expert cache", err);
    if (!s->expert || !s->stalls || !s->memory)
        return ODMOE_ERR_MEMORY;
    status = io_source_open(&s->source, s->index, tensors, options->io, options->io_depth, options->io_override, err);
    if (!status)
        status = reader_start(s, err);
    if (!status)
        prefault_start(&s->prefault, s->memory, s->cache_bytes);
    return status;
}

odmoe_status store_open(const expert_index *index, const tensor_index *tensors, const store_options *options,
                        store **out, odmoe_error *err)
{
    store *s = mem_calloc(1, sizeof *s, "the store", err);
    if (!s)
        return ODMOE_ERR_MEMORY;
    s->index = index;
    s->layers = expert_index_layers(index);
    s->experts = expert_index_experts(index);
    s->cache_bytes = options->cache_bytes;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->new_work, NULL);
    pthread_cond_init(&s->went_idle, NULL);
    odmoe_status status = open_parts(s, tensors, options, err);
    if (status)
        store_close(s);
    else
        *out = s;
    return status;
}

void store_close(store *s)
{
    if (!s)
        return;
    reader_stop(s);
    io_source_close(&s->source);
    for (store_fetch *f = s->spare, *next; f; f = next) {
        next = f->next;
        store_fetch_free(f);
    }
    cache_clear(&s->cache);
    prefault_stop(&s->prefault);
    mem_pages_free(s->memory, s->cache_bytes);
    free(s->expert);
    free(s->stalls);
    pthread_cond_destroy(&s->went_idle);
    pthread_cond_destroy(&s->new_work);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

/* ---- prefetching ---- */

void store_kick_queued(store *s)
{
    bool work = s->cursor.id >= 0 || s->suspended.id >= 0; /* a fetch may wait now for a speculative read under way */
    for (int priority = 0; priority < READ_PRIORITY_COUNT; priority++)
        work |= s->cache.queue[priority].first >= 0;
    if (work)
        store_kick(s);
}

uint64_t store_flight_cap(const store *s, read_priority priority)
{
    return priority == READ_CERTAIN ? pace_certain(&s->pace) : s->cache_bytes; /* of speculative reads: pace_window */
}

uint64_t store_unused_cap(const store *s, read_priority priority)
{
    return priority == READ_CERTAIN       ? s->cache_bytes / SCHEDULE_CERTAIN_SHARE
           : priority == READ_SPECULATIVE ? s->cache_bytes / SCHEDULE_SPECULATIVE_SHARE
                                          : 0;
}

/* Take back what an earlier list for this layer asked for: all that is queued, and the read under way unless the new list
 * names its expert, too. */
static void replace_queued(store *s, int layer, const int32_t *experts, int n, read_priority priority)
{
    cache *c = &s->cache;
    for (int32_t id = c->queue[priority].first, next; id >= 0; id = next) {
        next = c->entry[id].next;
        if (id / s->experts == layer)
            cache_dequeue(c, id);
    }
    read_cursor *cursors[] = {&s->cursor, &s->suspended};
    for (int i = 0; i < 2; i++) {
        int32_t id = cursors[i]->id;
        if (id < 0 || id / s->experts != layer || c->entry[id].priority != priority)
            continue;
        cursors[i]->cancelled = true;
        for (int e = 0; e < n; e++)
            cursors[i]->cancelled &= experts[e] != id % s->experts;
    }
}

/* Is there room for one more under the priority's cap? What is queued for later layers than id's is taken back for it. */
static bool make_allowance(store *s, int32_t id, read_priority priority)
{
    cache *c = &s->cache;
    uint64_t cap = store_unused_cap(s, priority), bytes = slab_slot_bytes(&c->slab, id);
    for (;;) {
        if (c->queue[priority].bytes + c->reading_bytes[priority] + c->prefetched[priority].bytes + bytes <= cap)
            return true;
        int32_t last = c->queue[priority].last;
        if (last < 0 || cache_layers_until(c, last) <= cache_layers_until(c, id))
            return false;
        cache_dequeue(c, last);
    }
}

void store_prefetch(store *s, int layer, const int32_t *experts, int n, read_priority priority)
{
    if (layer < 0 || layer >= s->layers || (priority != READ_CERTAIN && priority != READ_SPECULATIVE))
        return;
    pthread_mutex_lock(&s->lock);
    cache *c = &s->cache;
    bool queued = false;
    replace_queued(s, layer, experts, n, priority);
    for (int i = 0; i < n; i++) {
        if (experts[i] < 0 || experts[i] >= s->experts)
            continue;
        int32_t id = layer * s->experts + experts[i];
        if (c->entry[id].state != CACHE_EMPTY || !make_allowance(s, id, priority))
            continue;
        cache_enqueue(c, id, priority);
        queued = true;
    }
    if (queued)
        store_kick(s);
    store_check(s);
    pthread_mutex_unlock(&s->lock);
}

bool store_missing(store *s, int layer, int expert)
{
    if (layer < 0 || layer >= s->layers || expert < 0 || expert >= s->experts)
        return false;
    pthread_mutex_lock(&s->lock);
    bool missing = s->cache.entry[layer * s->experts + expert].state == CACHE_EMPTY;
    pthread_mutex_unlock(&s->lock);
    return missing;
}

void store_cancel(store *s, int layer, read_priority priority)
{
    if (priority != READ_CERTAIN && priority != READ_SPECULATIVE)
        return;
    pthread_mutex_lock(&s->lock);
    cache *c = &s->cache;
    for (int32_t id = c->queue[priority].first, next; id >= 0; id = next) {
        next = c->entry[id].next;
        if (layer < 0 || id / s->experts == layer)
            cache_dequeue(c, id);
    }
    int32_t id = s->cursor.id;
    if (id >= 0 && c->entry[id].priority == priority && (layer < 0 || id / s->experts == layer))
        s->cursor.cancelled = true;
    id = s->suspended.id;
    if (id >= 0 && (layer < 0 || id / s->experts == layer) && priority == READ_SPECULATIVE)
        s->suspended.cancelled = true;
    store_kick_queued(s); /* an expert of a smaller size that waited behind them may have room */
    store_check(s);
    pthread_mutex_unlock(&s->lock);
}

void store_invalidate(store *s, int layer, int expert)
{
    pthread_mutex_lock(&s->lock);
    for (int32_t id = 0; id < s->cache.ids; id++)
        if ((layer < 0 || id / s->experts == layer) && (expert < 0 || id % s->experts == expert))
            cache_invalidate(&s->cache, id);
    store_kick(s);
    store_check(s);
    pthread_mutex_unlock(&s->lock);
}

void store_wait_idle(store *s)
{
    pthread_mutex_lock(&s->lock);
    while (!s->idle || s->work)
        pthread_cond_wait(&s->went_idle, &s->lock);
    pthread_mutex_unlock(&s->lock);
}
