/* fetch.c - fetches: what the callers' threads do between store_fetch_begin and store_fetch_end, and how the I/O thread
 * hands experts over to them. States of an expert: cache.h.
 *
 *   begin            each expert of the list is waited for: hits go into `ready`, the others are queued as demand
 *   next, poll       pin one: from `ready` (in order of arrival) or by the list's order; next sleeps if none is there
 *   store_on_ready   I/O thread: an expert has arrived: pinned for a fetch that sleeps for it, else put into `ready`
 *   store_on_failed  I/O thread: its read has failed: each fetch that waits for it gets the error once
 *   release, end     unpin; stop waiting for the rest
 */
#include "store/store_private.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "store/schedule.h"

static int32_t id_of(const store_fetch *f, int32_t expert)
{
    return f->layer * f->s->experts + expert;
}

/* ---- life of a fetch ---- */

uint64_t store_fetch_heap_bytes(int experts)
{
    return sizeof(store_fetch) + (uint64_t)experts * (2 * sizeof(int32_t) + 1);
}

void store_fetch_free(store_fetch *f)
{
    pthread_cond_destroy(&f->wake);
    free(f);
}

/* A fetch that can hold any list of a layer. Ended fetches are used again, so that a running model allocates nothing. */
static store_fetch *fetch_get(store *s, odmoe_error *err)
{
    store_fetch *f = s->spare;
    if (f) {
        s->spare = f->next;
        return f;
    }
    f = mem_calloc(1, store_fetch_heap_bytes(s->experts), "a fetch of experts", err);
    if (!f)
        return NULL;
    pthread_cond_init(&f->wake, NULL);
    f->s = s;
    f->list = (int32_t *)(f + 1);
    f->ready = f->list + s->experts;
    f->member = (uint8_t *)(f->ready + s->experts);
    return f;
}

static void fetch_put_back(store *s, store_fetch *f)
{
    f->next = s->spare;
    s->spare = f;
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

static odmoe_status check_request(const store *s, const fetch_request *r, odmoe_error *err)
{
    if (r->layer < 0 || r->layer >= s->layers)
        return err_set(err, ODMOE_ERR_RANGE, "layer %d: there are %d MoE layers", r->layer, s->layers);
    if (r->n < 0 || r->n > s->experts)
        return err_set(err, ODMOE_ERR_RANGE, "layer %d: a fetch asks for %d experts, the layer has %d", r->layer, r->n,
                       s->experts);
    if (r->size.n_tokens < 1 || r->size.n_sequences < 1)
        return err_set(err, ODMOE_ERR_RANGE,
                       "layer %d: a fetch is for %d tokens of %d sequences, expected 1 or more of each", r->layer,
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
    f->cancelled = f->deadlocked = false;
    f->stalled = 0;
    f->handed_over = EXPERT_NONE;
    atomic_store(&f->blocked, false);
    memset(f->member, MEMBER_DONE, (size_t)f->s->experts);
    for (int i = 0; i < r->n; i++) {
        if (f->member[r->experts[i]] != MEMBER_DONE)
            return err_set(err, ODMOE_ERR_RANGE, "layer %d, expert %d: asked for twice in a fetch", r->layer,
                           r->experts[i]);
        f->member[r->experts[i]] = MEMBER_WAITING;
        f->list[i] = r->experts[i];
    }
    return ODMOE_OK;
}

/* Each expert is in the ring once at most, also when it was evicted and has arrived a second time. */
static void push_ready(store_fetch *f, int32_t expert)
{
    if (f->member[expert] == MEMBER_ARRIVED)
        return;
    f->member[expert] = MEMBER_ARRIVED;
    f->ready[f->arrived++ % f->s->experts] = expert;
}

/* The fetch waits for the expert at this position of its list; count it as hit or miss. */
static void fetch_wait_for(store *s, store_fetch *f, int position)
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
    cache_add_waiter(&s->cache, id, f->order == FETCH_LISTED ? position : 0);
    if (hit)
        push_ready(f, expert);
}

/* The fetch no longer waits for the expert: it has been pinned, has failed, or is given up. */
static void member_done(store_fetch *f, int32_t expert)
{
    f->member[expert] = MEMBER_DONE;
    f->given++;
}

/* Stop waiting for all that is left. */
static void fetch_give_up(store_fetch *f)
{
    for (int i = 0; i < f->n; i++)
        if (f->member[f->list[i]] != MEMBER_DONE) {
            cache_drop_waiter(&f->s->cache, id_of(f, f->list[i]));
            member_done(f, f->list[i]);
        }
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
        pace_fetch(&s->pace, store_now_ns());
        for (int i = 0; i < f->n; i++)
            fetch_wait_for(s, f, i);
        store_note_drained(s);
        cache_begin(&s->cache, f->layer, request->size);
        store_kick_queued(s);
        store_check(s);
        *out = f;
    } else if (f) {
        fetch_put_back(s, f);
    }
    pthread_mutex_unlock(&s->lock);
    return status;
}

static void count_stall(store *s, const store_fetch *f)
{
    int range = 0;
    for (uint64_t bound = 1000000; range < STORE_STALL_RANGES - 1 && f->stalled > bound; bound *= 10)
        range++;
    s->stalls[f->layer][range]++;
}

void store_fetch_end(store_fetch *f)
{
    if (!f)
        return;
    store *s = f->s;
    pthread_mutex_lock(&s->lock);
    fetch_give_up(f);
    count_stall(s, f);
    fetch_unlink(s, f);
    fetch_put_back(s, f);
    store_kick_queued(s);
    store_check(s);
    pthread_mutex_unlock(&s->lock);
}

/* ---- taking experts ---- */

static void pin_for(store_fetch *f, int32_t expert)
{
    store *s = f->s;
    int32_t id = id_of(f, expert);
    read_priority read_as = (read_priority)s->cache.entry[id].priority;
    if (cache_give(&s->cache, id) && read_as == READ_SPECULATIVE)
        s->totals.speculative_used_bytes += expert_index_bytes(s->index, f->layer, expert);
    member_done(f, expert);
    f->pins++;
}

static void fill_pinned(const store_fetch *f, int32_t expert, pinned_expert *out)
{
    const store *s = f->s;
    int n;
    const expert_extent *extents = expert_index_extents(s->index, f->layer, expert, &n);
    expert_layout layout;
    layout_of(extents, n, &layout);
    *out = (pinned_expert){.layer = f->layer, .expert = expert, .n = n, .extents = extents};
    out->slot = s->cache.entry[id_of(f, expert)].slot;
    const uint8_t *slot = s->memory + slab_at(&s->cache.slab, out->slot);
    for (int i = 0; i < n; i++)
        out->data[i] = slot + layout.extent_at[i];
}

/* What can be said of an expert that the fetch would take next. */
typedef enum outcome { OUTCOME_NOT_YET, OUTCOME_READY, OUTCOME_FAILED } outcome;

static outcome outcome_of(const store_fetch *f, int32_t expert)
{
    int32_t id = id_of(f, expert);
    if (cache_is_ready(&f->s->cache, id))
        return OUTCOME_READY;
    return f->s->cache.entry[id].state == CACHE_FAILED ? OUTCOME_FAILED : OUTCOME_NOT_YET;
}

/* The expert to take next, which is in the cache or has failed; OUTCOME_NOT_YET: none. */
static outcome next_outcome(store_fetch *f, int32_t *expert)
{
    if (f->order == FETCH_LISTED) {
        while (f->member[f->list[f->cursor]] == MEMBER_DONE)
            f->cursor++;
        *expert = f->list[f->cursor];
        return outcome_of(f, *expert);
    }
    for (; f->taken != f->arrived; f->taken++) {
        *expert = f->ready[f->taken % f->s->experts];
        if (f->member[*expert] == MEMBER_DONE)
            continue;
        outcome o = outcome_of(f, *expert);
        if (o != OUTCOME_NOT_YET)
            return o;
        f->member[*expert] = MEMBER_WAITING; /* evicted again, and queued again; store_on_ready will tell */
    }
    return OUTCOME_NOT_YET;
}

/* Sleep until the I/O thread has pinned an expert for this fetch, or there is something to report. */
static void wait_blocked(store_fetch *f)
{
    store *s = f->s;
    atomic_store(&f->blocked, true);
    store_kick(s);
    pthread_mutex_unlock(&s->lock);
    for (int i = 0; i < SCHEDULE_SPINS && atomic_load_explicit(&f->blocked, memory_order_relaxed); i++) {
#if defined __x86_64__
        __builtin_ia32_pause();
#endif
    }
    pthread_mutex_lock(&s->lock);
    while (atomic_load(&f->blocked))
        pthread_cond_wait(&f->wake, &s->lock);
}

/* Report a failed read to this fetch, which then no longer waits for the expert. */
static odmoe_status report_failure(store_fetch *f, int32_t expert, odmoe_error *err)
{
    store *s = f->s;
    int32_t id = id_of(f, expert);
    int error = s->cache.entry[id].error;
    const char *what = error == IO_ENDED ? "the file ends before the expert does; it has been cut or is being written"
                                         : strerrordesc_np(error);
    const char *path = s->source.file[s->expert[id].error_file].path;
    err_set(err, ODMOE_ERR_IO, "layer %d, expert %d: %s: %s", f->layer, expert, path, what ? what : "unknown error");
    member_done(f, expert);
    cache_drop_waiter(&s->cache, id);
    return ODMOE_ERR_IO;
}

/* Pinning an expert of a listed fetch can bring the next queued one within SCHEDULE_LISTED_AHEAD of the caller. That one
 * may now evict a later hit, so the I/O thread has to look. */
static void kick_near(store *s)
{
    int32_t id = s->cache.queue[READ_DEMAND].first;
    if (id >= 0 && store_fetch_is_near(s, id))
        store_kick(s);
}

/* Sleep until one expert has been pinned for the fetch or has failed; *expert is that one. */
static odmoe_status wait_for_one(store_fetch *f, int32_t *expert, odmoe_error *err)
{
    uint64_t since = store_now_ns();
    odmoe_status status = ODMOE_OK;
    for (outcome o = OUTCOME_NOT_YET; o == OUTCOME_NOT_YET;) {
        wait_blocked(f);
        *expert = f->handed_over;
        f->handed_over = EXPERT_NONE;
        if (*expert != EXPERT_NONE)
            break;
        if (f->cancelled) {
            status = err_set(err, ODMOE_ERR_CANCELLED, "layer %d: the fetch was cancelled", f->layer);
            break;
        }
        if (f->deadlocked) {
            f->deadlocked = false;
            status = err_set(err, ODMOE_ERR_STATE, "layer %d: the cache is full of pinned experts; release some first",
                             f->layer);
            break;
        }
        o = next_outcome(f, expert);
        if (o == OUTCOME_READY)
            pin_for(f, *expert);
        else if (o == OUTCOME_FAILED)
            status = report_failure(f, *expert, err);
        kick_near(f->s);
    }
    uint64_t stalled = store_now_ns() - since;
    f->s->totals.stall_ns += stalled;
    f->stalled += stalled;
    if (*expert != EXPERT_NONE)
        f->s->expert[id_of(f, *expert)].counters.stall_ns += stalled;
    return status;
}

/* The next expert for a fetch that still waits for some; `wait`: sleep for it if need be. *expert: which; EXPERT_NOT_YET:
 * none without sleeping. */
static odmoe_status take_next(store_fetch *f, bool wait, int32_t *expert, odmoe_error *err)
{
    outcome o = next_outcome(f, expert);
    if (o == OUTCOME_READY) {
        pin_for(f, *expert);
        kick_near(f->s);
        return ODMOE_OK;
    }
    if (!wait) {
        *expert = EXPERT_NOT_YET;
        return ODMOE_OK;
    }
    return o == OUTCOME_FAILED ? report_failure(f, *expert, err) : wait_for_one(f, expert, err);
}

static odmoe_status next_expert(store_fetch *f, bool wait, pinned_expert *out, odmoe_error *err)
{
    store *s = f->s;
    odmoe_status status = ODMOE_OK;
    int32_t expert = EXPERT_NONE;
    pthread_mutex_lock(&s->lock);
    if (f->cancelled)
        status = err_set(err, ODMOE_ERR_CANCELLED, "layer %d: the fetch was cancelled", f->layer);
    else if (f->given < f->n)
        status = take_next(f, wait, &expert, err);
    *out = (pinned_expert){.layer = f->layer, .expert = expert};
    if (!status && expert >= 0)
        fill_pinned(f, expert, out);
    store_check(s);
    pthread_mutex_unlock(&s->lock);
    return status;
}

odmoe_status store_fetch_next(store_fetch *f, pinned_expert *out, odmoe_error *err)
{
    return next_expert(f, true, out, err);
}

odmoe_status store_fetch_poll(store_fetch *f, pinned_expert *out, odmoe_error *err)
{
    return next_expert(f, false, out, err);
}

void store_fetch_release(store_fetch *f, const pinned_expert *expert)
{
    store *s = f->s;
    pthread_mutex_lock(&s->lock);
    f->pins--;
    cache_unpin(&s->cache, id_of(f, expert->expert));
    store_kick_queued(s);
    store_check(s);
    pthread_mutex_unlock(&s->lock);
}

/* ---- what the I/O thread tells the fetches ---- */

static void unblock(store_fetch *f)
{
    atomic_store(&f->blocked, false);
    pthread_cond_signal(&f->wake);
}

void store_fetch_cancel(store_fetch *f)
{
    store *s = f->s;
    pthread_mutex_lock(&s->lock);
    f->cancelled = true;
    fetch_give_up(f);
    if (atomic_load(&f->blocked))
        unblock(f);
    store_kick_queued(s);
    store_check(s);
    pthread_mutex_unlock(&s->lock);
}

static bool sleeps_for(const store_fetch *f, int32_t expert)
{
    return atomic_load(&f->blocked) && (f->order == FETCH_ARRIVAL || f->list[f->cursor] == expert);
}

/* A sleeping caller gets its pin here and now, so that the expert cannot be evicted before the caller wakes. */
void store_on_ready(store *s, int32_t id)
{
    int32_t expert = id % s->experts;
    for (store_fetch *f = s->open; f; f = f->next) {
        if (f->layer != id / s->experts || f->member[expert] == MEMBER_DONE)
            continue;
        if (sleeps_for(f, expert)) {
            pin_for(f, expert);
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
        if (f->layer != id / s->experts || f->member[expert] == MEMBER_DONE)
            continue;
        push_ready(f, expert);
        if (sleeps_for(f, expert))
            unblock(f);
    }
}

/* The expert that a sleeping fetch lacks and that has has no room; -1: one is being read for it, or none lacks
 * room. */
static int32_t lacks_room(const store_fetch *f)
{
    const cache_entry *entry = f->s->cache.entry;
    if (f->order == FETCH_LISTED) {
        int32_t id = id_of(f, f->list[f->cursor]);
        return entry[id].state == CACHE_QUEUED ? id : -1;
    }
    int32_t first = -1;
    for (int i = 0; i < f->n; i++) {
        int32_t id = id_of(f, f->list[i]);
        if (f->member[f->list[i]] == MEMBER_DONE)
            continue;
        if (entry[id].state == CACHE_READING)
            return -1;
        if (first < 0 && entry[id].state == CACHE_QUEUED)
            first = id;
    }
    return first;
}

/* The oldest sleeping fetch comes first. While there is no room for its expert, only fetches that hold pins themselves
 * may begin a read: their pins may be what is in the way. */
int32_t store_start_blocked(store *s, bool *waiting)
{
    *waiting = false;
    for (store_fetch *f = s->open; f; f = f->next) {
        int32_t id = atomic_load(&f->blocked) && (!*waiting || f->pins) ? lacks_room(f) : -1;
        if (id < 0)
            continue;
        *waiting = true;
        if (cache_start(&s->cache, id, EVICT_UNPINNED))
            return id;
    }
    return -1;
}

bool store_fetch_is_near(const store *s, int32_t id)
{
    int32_t expert = id % s->experts;
    for (const store_fetch *f = s->open; f; f = f->next) {
        if (f->layer != id / s->experts || f->order != FETCH_LISTED || f->member[expert] == MEMBER_DONE)
            continue;
        int before = 0;
        for (int i = f->cursor; f->list[i] != expert && before < SCHEDULE_LISTED_AHEAD; i++)
            before += f->member[f->list[i]] != MEMBER_DONE;
        return before < SCHEDULE_LISTED_AHEAD;
    }
    return false;
}

/* No read is in flight, so a sleeping fetch can only be waiting for pins to be released: for their room, or because an
 * invalidated expert is read again only after its last pin is gone. A fetch with pins that does not sleep will release
 * them. When all fetches with pins sleep, none of them can go on. */
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
