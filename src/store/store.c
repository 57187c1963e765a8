/* store.c - opening and closing, and what the callers' threads do: fetches, reads ahead, invalidation. */
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

static uint64_t fetch_heap_bytes(int experts)
{
    return sizeof(store_fetch) + (uint64_t)experts * (2 * sizeof(int32_t) + 1);
}

uint64_t store_overhead(const expert_index *index, const store_options *options)
{
    const policy_ops *ops;
    if (policy_find(options->policy, &ops, NULL))
        ops = policy_at(0);
    int layers = expert_index_layers(index), experts = expert_index_experts(index);
    uint64_t ids = (uint64_t)layers * (uint64_t)experts;
    return sizeof(store) + ids * sizeof(store_expert) + 2 * fetch_heap_bytes(experts) +
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
    odmoe_status status = open_parts(s, tensors, options, err);
    if (status)
        store_close(s);
    else
        *out = s;
    return status;
}

static void fetch_free(store_fetch *f)
{
    pthread_cond_destroy(&f->wake);
    free(f);
}

void store_close(store *s)
{
    if (!s)
        return;
    reader_stop(s);
    io_source_close(&s->source);
    for (store_fetch *f = s->spare, *next; f; f = next) {
        next = f->next;
        fetch_free(f);
    }
    cache_clear(&s->cache);
    prefault_stop(&s->prefault);
    mem_pages_free(s->memory, s->cache_bytes);
    free(s->expert);
    pthread_cond_destroy(&s->new_work);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

/* ---- fetches ---- */

static int32_t id_of(const store_fetch *f, int32_t expert)
{
    return f->layer * f->s->experts + expert;
}

/* A fetch that can hold any list of a layer; ended ones are used again, so that a running model allocates nothing. */
static store_fetch *fetch_get(store *s, odmoe_error *err)
{
    store_fetch *f = s->spare;
    if (f) {
        s->spare = f->next;
        return f;
    }
    f = mem_calloc(1, fetch_heap_bytes(s->experts), "a fetch of experts", err);
    if (!f)
        return NULL;
    pthread_cond_init(&f->wake, NULL);
    f->s = s;
    f->list = (int32_t *)(f + 1);
    f->ready = f->list + s->experts;
    f->pending = (uint8_t *)(f->ready + s->experts);
    return f;
}

static void fetch_link(store *s, store_fetch *f)
{
    f->prev = NULL;
    f->next = NULL;
    store_fetch **end = &s->open; /* the oldest comes first */
    while (*end) {
        f->prev = *end;
        end = &(*end)->next;
    }
    *end = f;
}

static void fetch_unlink(store *s, store_fetch *f)
{
    if (f->prev)
        f->prev->next = f->next;
    else
        s->open = f->next;
    if (f->next)
        f->next->prev = f->prev;
}

/* Each expert is in the ring once at most, also when it was evicted and has come again. */
static void push_ready(store_fetch *f, int32_t expert)
{
    if (f->pending[expert] == ARRIVED)
        return;
    f->pending[expert] = ARRIVED;
    f->ready[f->arrived++ % f->s->experts] = expert;
}

/* One more expert for the fetch: counted, wanted, and on the list of what can be given at once when it is there. */
static void fetch_add(store *s, store_fetch *f, int position)
{
    int32_t expert = f->list[position], id = id_of(f, expert);
    const cache_entry *e = &s->cache.entry[id];
    bool hit = cache_is_ready(&s->cache, id);
    store_counters *count = &s->expert[id].counters;
    *(hit ? &count->hits : &count->misses) += 1;
    *(hit ? &s->totals.sum.hits : &s->totals.sum.misses) += 1;
    if (e->state == CACHE_READING && e->priority == READ_SPECULATIVE)
        s->totals.speculative_late++;
    if (e->state == CACHE_READING && !e->waiters)
        s->expert[id].late_waiter = true;
    f->pending[expert] = WANTED;
    cache_add_waiter(&s->cache, id, f->order == FETCH_LISTED ? position : 0);
    if (hit)
        push_ready(f, expert);
}

/* Somebody waits for room, a read ahead perhaps, and there may be some now. */
static void kick_queued(store *s)
{
    for (int priority = 0; priority < READ_PRIORITY_COUNT; priority++)
        if (s->cache.queue[priority].first >= 0) {
            store_kick(s);
            return;
        }
}

static odmoe_status check_request(const store *s, const fetch_request *r, odmoe_error *err)
{
    if (r->layer < 0 || r->layer >= s->layers)
        return err_set(err, ODMOE_ERR_RANGE, "layer %d: there are %d MoE layers", r->layer, s->layers);
    if (r->n < 0 || r->n > s->experts)
        return err_set(err, ODMOE_ERR_RANGE, "layer %d: a fetch of %d experts, the layer has %d", r->layer, r->n,
                       s->experts);
    if (r->size.n_tokens < 1 || r->size.n_sequences < 1)
        return err_set(err, ODMOE_ERR_RANGE, "layer %d: a fetch for %d tokens of %d sequences", r->layer,
                       r->size.n_tokens, r->size.n_sequences);
    for (int i = 0; i < r->n; i++)
        if (r->experts[i] < 0 || r->experts[i] >= s->experts)
            return err_set(err, ODMOE_ERR_RANGE, "layer %d, expert %d: there are %d experts", r->layer, r->experts[i],
                           s->experts);
    return ODMOE_OK;
}

/* Take the list of a checked request; ERR_RANGE when an expert is listed twice. */
static odmoe_status fetch_fill(store_fetch *f, const fetch_request *r, odmoe_error *err)
{
    f->layer = r->layer;
    f->n = r->n;
    f->order = r->order;
    f->given = f->pins = f->arrived = f->taken = f->cursor = 0;
    f->failed = f->deadlocked = false;
    f->handed_over = MEMBER_NONE;
    atomic_store(&f->blocked, false);
    memset(f->pending, 0, (size_t)f->s->experts);
    for (int i = 0; i < r->n; i++) {
        if (f->pending[r->experts[i]])
            return err_set(err, ODMOE_ERR_RANGE, "layer %d, expert %d: asked for twice in a fetch", r->layer,
                           r->experts[i]);
        f->pending[r->experts[i]] = WANTED;
        f->list[i] = r->experts[i];
    }
    return ODMOE_OK;
}

odmoe_status store_fetch_begin(store *s, const fetch_request *request, store_fetch **out, odmoe_error *err)
{
    odmoe_status status = check_request(s, request, err);
    if (status)
        return status;
    pthread_mutex_lock(&s->lock);
    store_fetch *f = fetch_get(s, err);
    status = f ? fetch_fill(f, request, err) : ODMOE_ERR_MEMORY;
    if (!status) {
        fetch_link(s, f);
        for (int i = 0; i < f->n; i++)
            fetch_add(s, f, i);
        cache_begin(&s->cache, f->layer, request->size);
        kick_queued(s);
        store_check(s);
        *out = f;
    } else if (f) {
        f->next = s->spare;
        s->spare = f;
    }
    pthread_mutex_unlock(&s->lock);
    return status;
}

/* Pin an expert for the fetch. */
static void give(store_fetch *f, int32_t expert)
{
    store *s = f->s;
    int32_t id = id_of(f, expert);
    read_priority read_as = (read_priority)s->cache.entry[id].priority;
    if (cache_give(&s->cache, id) && read_as == READ_SPECULATIVE)
        s->totals.speculative_used_bytes += expert_index_bytes(s->index, f->layer, expert);
    f->pending[expert] = GIVEN;
    f->pins++;
    f->given++;
}

static void fill_view(const store_fetch *f, int32_t expert, pinned_expert *view)
{
    const store *s = f->s;
    int n;
    const expert_extent *extents = expert_index_extents(s->index, f->layer, expert, &n);
    expert_layout layout;
    layout_of(extents, n, &layout);
    *view = (pinned_expert){.layer = f->layer, .expert = expert, .n = n, .extents = extents};
    view->slot = s->cache.entry[id_of(f, expert)].slot;
    const uint8_t *slot = s->memory + slab_at(&s->cache.slab, view->slot);
    for (int i = 0; i < n; i++)
        view->data[i] = slot + layout.extent_at[i];
}

/* The expert to give now, cached; MEMBER_NONE: not there yet. *failed: one whose read has failed instead. */
static int32_t ready_now(store_fetch *f, int32_t *failed)
{
    store *s = f->s;
    *failed = MEMBER_NONE;
    if (f->order == FETCH_LISTED) {
        int32_t expert = f->list[f->cursor], id = id_of(f, expert);
        if (s->cache.entry[id].state == CACHE_FAILED)
            *failed = expert;
        return cache_is_ready(&s->cache, id) ? expert : MEMBER_NONE;
    }
    for (; f->taken != f->arrived; f->taken++) {
        int32_t expert = f->ready[f->taken % s->experts];
        if (f->pending[expert] == GIVEN)
            continue;
        if (cache_is_ready(&s->cache, id_of(f, expert)))
            return expert;
        if (s->cache.entry[id_of(f, expert)].state == CACHE_FAILED) {
            *failed = expert;
            return MEMBER_NONE;
        }
        f->pending[expert] = WANTED; /* evicted again; it is being read anew */
    }
    return MEMBER_NONE;
}

/* Sleep until the I/O thread has pinned an expert for this fetch, or there is something to say. */
static void wait_blocked(store_fetch *f)
{
    store *s = f->s;
    atomic_store(&f->blocked, true);
    store_kick(s);
    pthread_mutex_unlock(&s->lock);
    for (int i = 0; i < SPINS && atomic_load_explicit(&f->blocked, memory_order_relaxed); i++) {
#if defined __x86_64__
        __builtin_ia32_pause();
#endif
    }
    pthread_mutex_lock(&s->lock);
    while (atomic_load(&f->blocked))
        pthread_cond_wait(&f->wake, &s->lock);
}

static odmoe_status failure(store_fetch *f, int32_t expert, odmoe_error *err)
{
    store *s = f->s;
    int32_t id = id_of(f, expert);
    int error = s->cache.entry[id].error;
    const char *what = error == IO_ENDED ? "the file ends before the expert does; it has been cut or is being written"
                                         : strerrordesc_np(error);
    const char *path = s->source.file[s->expert[id].error_file].path;
    err_set(err, ODMOE_ERR_IO, "layer %d, expert %d: %s: %s", f->layer, expert, path, what ? what : "unknown error");
    f->pending[expert] = GIVEN;
    f->given++;
    cache_drop_waiter(&s->cache, id);
    return ODMOE_ERR_IO;
}

/* With what has just been given out, the turn of the next to read may have come so near that it gets room now. */
static void kick_short(store *s)
{
    int32_t id = s->cache.queue[READ_DEMAND].first;
    if (id >= 0 && store_runs_short(s, id))
        store_kick(s);
}

static odmoe_status next_view(store_fetch *f, bool wait, pinned_expert *view, odmoe_error *err)
{
    store *s = f->s;
    odmoe_status status = ODMOE_OK;
    pthread_mutex_lock(&s->lock);
    if (f->failed) {
        status = err_set(err, ODMOE_ERR_STATE, "layer %d: the fetch has failed and can only be ended", f->layer);
        goto done;
    }
    *view = (pinned_expert){.layer = f->layer, .expert = -1};
    if (f->given == f->n)
        goto done;
    uint64_t since = 0;
    int32_t expert, failed;
    for (;;) {
        if (f->order == FETCH_LISTED)
            while (!f->pending[f->list[f->cursor]])
                f->cursor++;
        expert = ready_now(f, &failed);
        if (expert != MEMBER_NONE) {
            give(f, expert);
            kick_short(s);
            break;
        }
        if (!wait) {
            view->expert = EXPERT_NOT_YET;
            goto done;
        }
        if (failed != MEMBER_NONE) {
            status = failure(f, failed, err);
            break;
        }
        since = since ? since : store_now_ns();
        wait_blocked(f);
        if ((expert = f->handed_over) != MEMBER_NONE)
            break;
        if (f->deadlocked) {
            status = err_set(err, ODMOE_ERR_STATE, "layer %d: the cache is full of pinned experts; release some first",
                             f->layer);
            break;
        }
    }
    f->handed_over = MEMBER_NONE;
    if (since) {
        uint64_t stalled = store_now_ns() - since;
        s->totals.stall_ns += stalled;
        if (!status)
            s->expert[id_of(f, expert)].counters.stall_ns += stalled;
    }
    f->failed = status != ODMOE_OK;
    if (!status)
        fill_view(f, expert, view);
    store_check(s);
done:
    pthread_mutex_unlock(&s->lock);
    return status;
}

odmoe_status store_fetch_next(store_fetch *f, pinned_expert *view, odmoe_error *err)
{
    return next_view(f, true, view, err);
}

odmoe_status store_fetch_poll(store_fetch *f, pinned_expert *view, odmoe_error *err)
{
    return next_view(f, false, view, err);
}

void store_fetch_release(store_fetch *f, const pinned_expert *view)
{
    store *s = f->s;
    pthread_mutex_lock(&s->lock);
    f->pins--;
    cache_unpin(&s->cache, id_of(f, view->expert));
    kick_queued(s);
    store_check(s);
    pthread_mutex_unlock(&s->lock);
}

void store_fetch_end(store_fetch *f)
{
    if (!f)
        return;
    store *s = f->s;
    pthread_mutex_lock(&s->lock);
    for (int i = 0; i < f->n; i++)
        if (f->pending[f->list[i]])
            cache_drop_waiter(&s->cache, id_of(f, f->list[i]));
    fetch_unlink(s, f);
    f->next = s->spare;
    s->spare = f;
    kick_queued(s);
    store_check(s);
    pthread_mutex_unlock(&s->lock);
}

/* ---- what the reader tells the fetches ---- */

static void unblock(store_fetch *f)
{
    atomic_store(&f->blocked, false);
    pthread_cond_signal(&f->wake);
}

static bool waits_for(const store_fetch *f, int32_t expert)
{
    return atomic_load(&f->blocked) && (f->order == FETCH_ARRIVAL || f->list[f->cursor] == expert);
}

/* A caller that waits gets its pin here and now: nobody can evict the expert before he wakes. */
void store_on_ready(store *s, int32_t id)
{
    int32_t expert = id % s->experts;
    for (store_fetch *f = s->open; f; f = f->next) {
        if (f->layer != id / s->experts || !f->pending[expert])
            continue;
        if (waits_for(f, expert)) {
            give(f, expert);
            f->handed_over = expert;
            unblock(f);
        } else {
            push_ready(f, expert);
        }
    }
}

void store_on_failed(store *s, int32_t id)
{
    int32_t expert = id % s->experts;
    for (store_fetch *f = s->open; f; f = f->next) {
        if (f->layer != id / s->experts || !f->pending[expert])
            continue;
        push_ready(f, expert);
        if (waits_for(f, expert))
            unblock(f);
    }
}

/* What a waiting fetch lacks and nobody reads; -1: it is being read, or nothing is. */
static int32_t need_of(const store_fetch *f)
{
    const cache_entry *entry = f->s->cache.entry;
    if (f->order == FETCH_LISTED) {
        int32_t id = id_of(f, f->list[f->cursor]);
        return entry[id].state == CACHE_QUEUED ? id : -1;
    }
    int32_t first = -1;
    for (int i = 0; i < f->n; i++) {
        int32_t id = id_of(f, f->list[i]);
        if (f->pending[f->list[i]] && entry[id].state == CACHE_READING)
            return -1;
        if (f->pending[f->list[i]] && first < 0 && entry[id].state == CACHE_QUEUED)
            first = id;
    }
    return first;
}

/* The oldest waiting fetch comes first. While there is no room for it, of the others only those go on that hold pins:
 * they may be what is in the way. */
int32_t store_start_blocked(store *s, bool *waiting)
{
    *waiting = false;
    for (store_fetch *f = s->open; f; f = f->next) {
        int32_t id = atomic_load(&f->blocked) && (!*waiting || f->pins) ? need_of(f) : -1;
        if (id < 0)
            continue;
        *waiting = true;
        if (cache_start(&s->cache, id, EVICT_UNPINNED))
            return id;
    }
    return -1;
}

bool store_runs_short(const store *s, int32_t id)
{
    int32_t expert = id % s->experts;
    for (const store_fetch *f = s->open; f; f = f->next) {
        if (f->layer != id / s->experts || f->order != FETCH_LISTED || f->pending[expert] == GIVEN)
            continue;
        int ahead = 0;
        for (int i = f->cursor; f->list[i] != expert && ahead < AHEAD_LEAST; i++)
            ahead += f->pending[f->list[i]] != GIVEN;
        return ahead < AHEAD_LEAST;
    }
    return false;
}

/* Nothing is in flight, so who waits now waits for pins: for the room that they hold, or for an invalidated expert that
 * is not read again before its last pin is gone. Pins of a fetch that does not wait will be released. When all with
 * pins wait themselves, they must give way. */
void store_on_idle_disk(store *s)
{
    for (store_fetch *f = s->open; f; f = f->next)
        if (f->pins && !atomic_load(&f->blocked))
            return;
    for (store_fetch *f = s->open; f; f = f->next)
        if (f->pins && atomic_load(&f->blocked)) {
            f->deadlocked = true;
            unblock(f);
        }
}

/* ---- reads ahead ---- */

uint64_t store_flight_cap(const store *s, read_priority priority)
{
    return priority == READ_CERTAIN       ? FLIGHT_CERTAIN
           : priority == READ_SPECULATIVE ? FLIGHT_SPECULATIVE
                                          : s->cache_bytes;
}

uint64_t store_unused_cap(const store *s, read_priority priority)
{
    return priority == READ_CERTAIN ? s->cache_bytes / 2 : priority == READ_SPECULATIVE ? s->cache_bytes / 8 : 0;
}

void store_prefetch(store *s, int layer, const int32_t *experts, int n, read_priority priority)
{
    if (layer < 0 || layer >= s->layers || (priority != READ_CERTAIN && priority != READ_SPECULATIVE))
        return;
    pthread_mutex_lock(&s->lock);
    cache *c = &s->cache;
    bool queued = false;
    for (int i = 0; i < n; i++) {
        if (experts[i] < 0 || experts[i] >= s->experts)
            continue;
        int32_t id = layer * s->experts + experts[i];
        uint64_t held = c->queue[priority].bytes + c->reading_bytes[priority] + c->prefetched[priority].bytes;
        if (c->entry[id].state != CACHE_EMPTY || held + slab_slot_bytes(&c->slab, id) > store_unused_cap(s, priority))
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
