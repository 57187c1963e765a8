/* store.c - opening and closing, and what the callers' threads do: batches, reads ahead, invalidation. */
#include "store/store_private.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define SPINS 200 /* some microseconds: a hand-over that is under way needs no sleep */

#define AHEAD_LEAST 1 /* experts read ahead of the caller of a list, at the expense of hits later in it */

#define FLIGHT_CERTAIN (32u << 20)    /* certain reads may delay a demand by some 20 ms: they are needed anyway */
#define FLIGHT_SPECULATIVE (8u << 20) /* a wrong guess delays a demand by no more than some ms */

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

static uint64_t batch_heap_bytes(int experts)
{
    return sizeof(store_batch) + (uint64_t)experts * (2 * sizeof(int32_t) + 1);
}

uint64_t store_overhead(const expert_index *index, const store_options *options)
{
    const policy_ops *ops;
    if (policy_find(options->policy, &ops, NULL))
        ops = policy_at(0);
    int layers = expert_index_layers(index), experts = expert_index_experts(index);
    uint64_t ids = (uint64_t)layers * (uint64_t)experts;
    return sizeof(store) + ids * sizeof(store_expert) + 2 * batch_heap_bytes(experts) +
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
    s->memory = mem_pages_alloc(s->cache_bytes, "the expert cache", err);
    if (!s->expert || !s->memory)
        return ODMOE_ERR_MEMORY;
    status = io_source_open(&s->source, s->index, tensors, options->io, options->io_depth, options->io_override, err);
    if (!status)
        status = reader_start(s, err);
    if (!status)
        populate_start(&s->populate, s->memory, s->cache_bytes);
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
    odmoe_status status = open_parts(s, tensors, options, err);
    if (status)
        store_close(s);
    else
        *out = s;
    return status;
}

static void batch_free(store_batch *b)
{
    pthread_cond_destroy(&b->wake);
    free(b);
}

void store_close(store *s)
{
    if (!s)
        return;
    reader_stop(s);
    io_source_close(&s->source);
    for (store_batch *b = s->spare, *next; b; b = next) {
        next = b->next;
        batch_free(b);
    }
    cache_clear(&s->cache);
    populate_stop(&s->populate);
    mem_pages_free(s->memory, s->cache_bytes);
    free(s->expert);
    pthread_cond_destroy(&s->new_work);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

/* ---- batches ---- */

static int32_t id_of(const store_batch *b, int32_t expert)
{
    return b->layer * b->s->experts + expert;
}

/* A batch that can hold any list of a layer; ended ones are used again, so that a running model allocates nothing. */
static store_batch *batch_get(store *s, odmoe_error *err)
{
    store_batch *b = s->spare;
    if (b) {
        s->spare = b->next;
        return b;
    }
    b = mem_calloc(1, batch_heap_bytes(s->experts), "a batch of experts", err);
    if (!b)
        return NULL;
    pthread_cond_init(&b->wake, NULL);
    b->s = s;
    b->list = (int32_t *)(b + 1);
    b->ready = b->list + s->experts;
    b->pending = (uint8_t *)(b->ready + s->experts);
    return b;
}

static void batch_link(store *s, store_batch *b)
{
    b->prev = NULL;
    b->next = NULL;
    store_batch **end = &s->open; /* the oldest comes first */
    while (*end) {
        b->prev = *end;
        end = &(*end)->next;
    }
    *end = b;
}

static void batch_unlink(store *s, store_batch *b)
{
    if (b->prev)
        b->prev->next = b->next;
    else
        s->open = b->next;
    if (b->next)
        b->next->prev = b->prev;
}

/* Each expert is in the ring once at most, also when it was evicted and has come again. */
static void push_ready(store_batch *b, int32_t expert)
{
    if (b->pending[expert] == ARRIVED)
        return;
    b->pending[expert] = ARRIVED;
    b->ready[b->arrived++ % b->s->experts] = expert;
}

/* One more expert for the batch: counted, wanted, and on the list of what can be given at once when it is there. */
static void batch_add(store *s, store_batch *b, int position)
{
    int32_t expert = b->list[position], id = id_of(b, expert);
    const cache_entry *e = &s->cache.entry[id];
    bool hit = cache_is_ready(&s->cache, id);
    store_counters *count = &s->expert[id].counters;
    *(hit ? &count->hits : &count->misses) += 1;
    *(hit ? &s->totals.sum.hits : &s->totals.sum.misses) += 1;
    if (e->state == CACHE_READING && e->class_ == READ_SPECULATIVE)
        s->totals.speculative_late++;
    if (e->state == CACHE_READING && !e->wants)
        s->expert[id].joined = true;
    b->pending[expert] = WANTED;
    cache_want(&s->cache, id, b->order == FETCH_LISTED ? position : 0);
    if (hit)
        push_ready(b, expert);
}

/* Somebody waits for room, a read ahead perhaps, and there may be some now. */
static void kick_queued(store *s)
{
    for (int class_ = 0; class_ < READ_CLASS_COUNT; class_++)
        if (s->cache.queue[class_].first >= 0) {
            store_kick(s);
            return;
        }
}

static odmoe_status check_list(store *s, int layer, const int32_t *experts, int n, odmoe_error *err)
{
    if (layer < 0 || layer >= s->layers)
        return err_set(err, ODMOE_ERR_RANGE, "layer %d: there are %d MoE layers", layer, s->layers);
    if (n < 0 || n > s->experts)
        return err_set(err, ODMOE_ERR_RANGE, "layer %d: a batch of %d experts, the layer has %d", layer, n, s->experts);
    for (int i = 0; i < n; i++)
        if (experts[i] < 0 || experts[i] >= s->experts)
            return err_set(err, ODMOE_ERR_RANGE, "layer %d, expert %d: there are %d experts", layer, experts[i],
                           s->experts);
    return ODMOE_OK;
}

odmoe_status store_begin(store *s, int layer, const int32_t *experts, int n, fetch_order order, store_batch **out,
                         odmoe_error *err)
{
    odmoe_status status = check_list(s, layer, experts, n, err);
    if (status)
        return status;
    pthread_mutex_lock(&s->lock);
    store_batch *b = batch_get(s, err);
    if (!b) {
        status = ODMOE_ERR_MEMORY;
        goto done;
    }
    b->layer = layer;
    b->n = n;
    b->order = order;
    b->given = b->pins = b->arrived = b->taken = b->cursor = 0;
    b->failed = b->stuck = false;
    b->granted = MEMBER_NONE;
    atomic_store(&b->blocked, false);
    memset(b->pending, 0, (size_t)s->experts);
    for (int i = 0; i < n && !status; i++) {
        if (b->pending[experts[i]])
            status =
                err_set(err, ODMOE_ERR_RANGE, "layer %d, expert %d: asked for twice in a batch", layer, experts[i]);
        b->pending[experts[i]] = WANTED;
    }
    if (status) {
        b->next = s->spare;
        s->spare = b;
        goto done;
    }
    if (n)
        memcpy(b->list, experts, (size_t)n * sizeof *experts);
    batch_link(s, b);
    for (int i = 0; i < n; i++)
        batch_add(s, b, i);
    cache_begin(&s->cache, layer);
    kick_queued(s);
    store_check(s);
    *out = b;
done:
    pthread_mutex_unlock(&s->lock);
    return status;
}

/* Pin an expert for the batch. */
static void give(store_batch *b, int32_t expert)
{
    store *s = b->s;
    int32_t id = id_of(b, expert);
    read_class read_as = (read_class)s->cache.entry[id].class_;
    if (cache_give(&s->cache, id) && read_as == READ_SPECULATIVE)
        s->totals.speculative_used_bytes += expert_index_bytes(s->index, b->layer, expert);
    b->pending[expert] = GIVEN;
    b->pins++;
    b->given++;
}

static void fill_view(const store_batch *b, int32_t expert, expert_view *view)
{
    const store *s = b->s;
    int n;
    const expert_piece *pieces = expert_index_pieces(s->index, b->layer, expert, &n);
    expert_layout layout;
    layout_of(pieces, n, &layout);
    *view = (expert_view){.layer = b->layer, .expert = expert, .n = n, .pieces = pieces};
    view->slot = s->cache.entry[id_of(b, expert)].slot;
    const uint8_t *slot = s->memory + slab_at(&s->cache.slab, view->slot);
    for (int i = 0; i < n; i++)
        view->piece[i] = slot + layout.piece_at[i];
}

/* The expert to give now, cached; MEMBER_NONE: not there yet. *failed: one whose read has failed instead. */
static int32_t ready_now(store_batch *b, int32_t *failed)
{
    store *s = b->s;
    *failed = MEMBER_NONE;
    if (b->order == FETCH_LISTED) {
        int32_t expert = b->list[b->cursor], id = id_of(b, expert);
        if (s->cache.entry[id].state == CACHE_FAILED)
            *failed = expert;
        return cache_is_ready(&s->cache, id) ? expert : MEMBER_NONE;
    }
    for (; b->taken != b->arrived; b->taken++) {
        int32_t expert = b->ready[b->taken % s->experts];
        if (b->pending[expert] == GIVEN)
            continue;
        if (cache_is_ready(&s->cache, id_of(b, expert)))
            return expert;
        if (s->cache.entry[id_of(b, expert)].state == CACHE_FAILED) {
            *failed = expert;
            return MEMBER_NONE;
        }
        b->pending[expert] = WANTED; /* evicted again; it is being read anew */
    }
    return MEMBER_NONE;
}

/* Sleep until the I/O thread has pinned an expert for this batch, or there is something to say. */
static void wait_blocked(store_batch *b)
{
    store *s = b->s;
    atomic_store(&b->blocked, true);
    store_kick(s);
    pthread_mutex_unlock(&s->lock);
    for (int i = 0; i < SPINS && atomic_load_explicit(&b->blocked, memory_order_relaxed); i++) {
#if defined __x86_64__
        __builtin_ia32_pause();
#endif
    }
    pthread_mutex_lock(&s->lock);
    while (atomic_load(&b->blocked))
        pthread_cond_wait(&b->wake, &s->lock);
}

static odmoe_status failure(store_batch *b, int32_t expert, odmoe_error *err)
{
    store *s = b->s;
    int32_t id = id_of(b, expert);
    int error = s->cache.entry[id].error;
    const char *what = error == IO_ENDED ? "the file ends before the expert does; it has been cut or is being written"
                                         : strerrordesc_np(error);
    const char *path = s->source.file[s->expert[id].error_file].path;
    err_set(err, ODMOE_ERR_IO, "layer %d, expert %d: %s: %s", b->layer, expert, path, what ? what : "unknown error");
    b->pending[expert] = GIVEN;
    b->given++;
    cache_unwant(&s->cache, id);
    return ODMOE_ERR_IO;
}

/* With what has just been given out, the turn of the next to read may have come so near that it gets room now. */
static void kick_short(store *s)
{
    int32_t id = s->cache.queue[READ_DEMAND].first;
    if (id >= 0 && store_runs_short(s, id))
        store_kick(s);
}

static odmoe_status next_view(store_batch *b, bool wait, expert_view *view, odmoe_error *err)
{
    store *s = b->s;
    odmoe_status status = ODMOE_OK;
    pthread_mutex_lock(&s->lock);
    if (b->failed) {
        status = err_set(err, ODMOE_ERR_STATE, "layer %d: the batch has failed and can only be ended", b->layer);
        goto done;
    }
    *view = (expert_view){.layer = b->layer, .expert = -1};
    if (b->given == b->n)
        goto done;
    uint64_t since = 0;
    int32_t expert, failed;
    for (;;) {
        if (b->order == FETCH_LISTED)
            while (!b->pending[b->list[b->cursor]])
                b->cursor++;
        expert = ready_now(b, &failed);
        if (expert != MEMBER_NONE) {
            give(b, expert);
            kick_short(s);
            break;
        }
        if (!wait) {
            view->expert = VIEW_NOT_YET;
            goto done;
        }
        if (failed != MEMBER_NONE) {
            status = failure(b, failed, err);
            break;
        }
        since = since ? since : store_now_ns();
        wait_blocked(b);
        if ((expert = b->granted) != MEMBER_NONE)
            break;
        if (b->stuck) {
            status = err_set(err, ODMOE_ERR_STATE, "layer %d: the cache is full of pinned experts; release some first",
                             b->layer);
            break;
        }
    }
    b->granted = MEMBER_NONE;
    if (since) {
        uint64_t stalled = store_now_ns() - since;
        s->totals.stall_ns += stalled;
        if (!status)
            s->expert[id_of(b, expert)].counters.stall_ns += stalled;
    }
    b->failed = status != ODMOE_OK;
    if (!status)
        fill_view(b, expert, view);
    store_check(s);
done:
    pthread_mutex_unlock(&s->lock);
    return status;
}

odmoe_status store_next(store_batch *b, expert_view *view, odmoe_error *err)
{
    return next_view(b, true, view, err);
}

odmoe_status store_poll(store_batch *b, expert_view *view, odmoe_error *err)
{
    return next_view(b, false, view, err);
}

void store_release(store_batch *b, const expert_view *view)
{
    store *s = b->s;
    pthread_mutex_lock(&s->lock);
    b->pins--;
    cache_unpin(&s->cache, id_of(b, view->expert));
    kick_queued(s);
    store_check(s);
    pthread_mutex_unlock(&s->lock);
}

void store_end(store_batch *b)
{
    if (!b)
        return;
    store *s = b->s;
    pthread_mutex_lock(&s->lock);
    for (int i = 0; i < b->n; i++)
        if (b->pending[b->list[i]])
            cache_unwant(&s->cache, id_of(b, b->list[i]));
    batch_unlink(s, b);
    b->next = s->spare;
    s->spare = b;
    kick_queued(s);
    store_check(s);
    pthread_mutex_unlock(&s->lock);
}

/* ---- what the reader tells the batches ---- */

static void unblock(store_batch *b)
{
    atomic_store(&b->blocked, false);
    pthread_cond_signal(&b->wake);
}

static bool waits_for(const store_batch *b, int32_t expert)
{
    return atomic_load(&b->blocked) && (b->order == FETCH_ARRIVAL || b->list[b->cursor] == expert);
}

/* A caller that waits gets its pin here and now: nobody can evict the expert before he wakes. */
void store_tell_ready(store *s, int32_t id)
{
    int32_t expert = id % s->experts;
    for (store_batch *b = s->open; b; b = b->next) {
        if (b->layer != id / s->experts || !b->pending[expert])
            continue;
        if (waits_for(b, expert)) {
            give(b, expert);
            b->granted = expert;
            unblock(b);
        } else {
            push_ready(b, expert);
        }
    }
}

void store_tell_failed(store *s, int32_t id)
{
    int32_t expert = id % s->experts;
    for (store_batch *b = s->open; b; b = b->next) {
        if (b->layer != id / s->experts || !b->pending[expert])
            continue;
        push_ready(b, expert);
        if (waits_for(b, expert))
            unblock(b);
    }
}

/* What a waiting batch lacks and nobody reads; -1: it is being read, or nothing is. */
static int32_t need_of(const store_batch *b)
{
    const cache_entry *entry = b->s->cache.entry;
    if (b->order == FETCH_LISTED) {
        int32_t id = id_of(b, b->list[b->cursor]);
        return entry[id].state == CACHE_QUEUED ? id : -1;
    }
    int32_t first = -1;
    for (int i = 0; i < b->n; i++) {
        int32_t id = id_of(b, b->list[i]);
        if (b->pending[b->list[i]] && entry[id].state == CACHE_READING)
            return -1;
        if (b->pending[b->list[i]] && first < 0 && entry[id].state == CACHE_QUEUED)
            first = id;
    }
    return first;
}

/* The oldest waiting batch comes first. While there is no room for it, of the others only those go on that hold pins:
 * they may be what is in the way. */
int32_t store_start_blocked(store *s, bool *waiting)
{
    *waiting = false;
    for (store_batch *b = s->open; b; b = b->next) {
        int32_t id = atomic_load(&b->blocked) && (!*waiting || b->pins) ? need_of(b) : -1;
        if (id < 0)
            continue;
        *waiting = true;
        if (cache_start(&s->cache, id, TAKE_WANTED))
            return id;
    }
    return -1;
}

bool store_runs_short(const store *s, int32_t id)
{
    int32_t expert = id % s->experts;
    for (const store_batch *b = s->open; b; b = b->next) {
        if (b->layer != id / s->experts || b->order != FETCH_LISTED || b->pending[expert] == GIVEN)
            continue;
        int ahead = 0;
        for (int i = b->cursor; b->list[i] != expert && ahead < AHEAD_LEAST; i++)
            ahead += b->pending[b->list[i]] != GIVEN;
        return ahead < AHEAD_LEAST;
    }
    return false;
}

/* Nothing is in flight, so who waits now waits for pins: for the room that they hold, or for an invalidated expert that
 * is not read again before its last pin is gone. Pins of a batch that does not wait will be released. When all with
 * pins wait themselves, they must give way. */
void store_tell_stuck(store *s)
{
    for (store_batch *b = s->open; b; b = b->next)
        if (b->pins && !atomic_load(&b->blocked))
            return;
    for (store_batch *b = s->open; b; b = b->next)
        if (b->pins && atomic_load(&b->blocked)) {
            b->stuck = true;
            unblock(b);
        }
}

/* ---- reads ahead ---- */

uint64_t store_flight_cap(const store *s, read_class class_)
{
    return class_ == READ_CERTAIN ? FLIGHT_CERTAIN : class_ == READ_SPECULATIVE ? FLIGHT_SPECULATIVE : s->cache_bytes;
}

uint64_t store_unused_cap(const store *s, read_class class_)
{
    return class_ == READ_CERTAIN ? s->cache_bytes / 2 : class_ == READ_SPECULATIVE ? s->cache_bytes / 8 : 0;
}

void store_prefetch(store *s, int layer, const int32_t *experts, int n, read_class class_)
{
    if (layer < 0 || layer >= s->layers || (class_ != READ_CERTAIN && class_ != READ_SPECULATIVE))
        return;
    pthread_mutex_lock(&s->lock);
    cache *c = &s->cache;
    bool queued = false;
    for (int i = 0; i < n; i++) {
        if (experts[i] < 0 || experts[i] >= s->experts)
            continue;
        int32_t id = layer * s->experts + experts[i];
        uint64_t held = c->queue[class_].bytes + c->reading_bytes[class_] + c->unused[class_].bytes;
        if (c->entry[id].state != CACHE_EMPTY || held + slab_slot_bytes(&c->slab, id) > store_unused_cap(s, class_))
            continue;
        cache_enqueue(c, id, class_);
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

void store_cancel(store *s, int layer, read_class class_)
{
    if (class_ != READ_CERTAIN && class_ != READ_SPECULATIVE)
        return;
    pthread_mutex_lock(&s->lock);
    cache *c = &s->cache;
    for (int32_t id = c->queue[class_].first, next; id >= 0; id = next) {
        next = c->entry[id].next;
        if (layer < 0 || id / s->experts == layer)
            cache_dequeue(c, id);
    }
    int32_t id = s->cursor.id;
    if (id >= 0 && c->entry[id].class_ == class_ && (layer < 0 || id / s->experts == layer))
        s->cursor.cancelled = true;
    kick_queued(s); /* what waited behind them, of a smaller size, may have room */
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
