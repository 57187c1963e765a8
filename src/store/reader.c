/* reader.c - the I/O thread: picks what to read next, keeps the back end full, and completes short reads.
 *
 *   pick an expert ---> its ranges ---> parts ---> requests ---> back end
 *      (takes a slot)    (layout.c)   (<= 1 MiB)  (neighbours      |
 *                                                   merge)         v
 *   READY / FAILED <--- last part <--- whole? <------------------- result
 *                                        `-> the rest is requested again
 *
 * The *cursor* is the expert whose parts are being requested. When a demand is queued while the cursor is at a speculative
 * read, that read is suspended: its parts in flight complete, the others are requested after the demands.
 */
#include "store/store_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "base/thread.h"
#include "store/schedule.h"

uint64_t store_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- what to read next ---- */

/* Take a slot for the first expert that is queued with a priority other than demand, if the priority may have another read
 * in flight; -1: none. */
static int32_t start_prefetch(store *s, read_priority priority)
{
    int32_t id = s->cache.queue[priority].first;
    if (id < 0)
        return -1;
    uint64_t reading = s->cache.reading_bytes[priority];
    if (reading && reading + slab_slot_bytes(&s->cache.slab, id) > store_flight_cap(s, priority))
        return -1;
    return cache_start(&s->cache, id, EVICT_IDLE) ? id : -1;
}

/* The next demand to read, READING now; -1: none, or no room. *demanded: is any queued. An expert that a caller sleeps for
 * comes first, at the expense of experts that other fetches wait for. */
static int32_t pick_demand(store *s, bool *demanded)
{
    int32_t id = store_start_blocked(s, demanded);
    if (*demanded)
        return id;
    id = s->cache.queue[READ_DEMAND].first;
    *demanded = id >= 0;
    return id >= 0 && cache_start(&s->cache, id, store_fetch_is_near(s, id) ? EVICT_LATER : EVICT_IDLE) ? id : -1;
}

/* The read of `id` has ended: no part is in flight and none will be requested. */
static void finish(store *s, int32_t id)
{
    store_expert *x = &s->expert[id];
    const cache_entry *e = &s->cache.entry[id];
    if (x->error || x->truncated) {
        /* a read that began as a prefetch, or for a fetch that has ended, is repeated for the fetch that waits now */
        if (e->waiters && (x->error ? x->started_as != READ_DEMAND || x->late_waiter : x->truncated)) {
            cache_retry(&s->cache, id);
        } else {
            cache_failed(&s->cache, id, x->error);
            store_on_failed(s, id);
        }
        return;
    }
    uint64_t bytes = expert_index_bytes(s->index, id / s->experts, id % s->experts);
    x->counters.bytes += bytes;
    s->totals.bytes_read += bytes;
    if (x->started_as == READ_SPECULATIVE) {
        s->totals.speculative_bytes += bytes;
        if (e->priority == READ_DEMAND) /* a fetch has begun to wait for it meanwhile */
            s->totals.speculative_used_bytes += bytes;
    }
    cache_arrived(&s->cache, id);
    if (cache_is_ready(&s->cache, id))
        store_on_ready(s, id);
}

/* No more parts of the cursor's expert will be requested. */
static void cursor_leave(store *s, read_cursor *c, bool truncated)
{
    int32_t id = c->id;
    c->id = -1;
    s->expert[id].truncated = truncated;
    if (!s->expert[id].parts)
        finish(s, id);
}

static void cursor_resume(store *s)
{
    s->cursor = s->suspended;
    s->suspended.id = -1;
}

/* The next expert to read; -1: none, or no room, or the cursor has been set already. Demands come first. While there is no
 * room for a demand nothing else begins, so that reads in flight end and leave room; a suspended read is given up. */
static int32_t pick(store *s)
{
    bool demanded;
    if (s->suspended.id >= 0 && s->cache.entry[s->suspended.id].waiters) {
        cursor_resume(s);
        return -1;
    }
    int32_t id = pick_demand(s, &demanded);
    if (id < 0 && demanded && s->suspended.id >= 0) {
        cursor_leave(s, &s->suspended, true);
        id = pick_demand(s, &demanded);
    }
    if (demanded)
        return id;
    if ((id = start_prefetch(s, READ_CERTAIN)) >= 0)
        return id;
    if (s->suspended.id < 0)
        return start_prefetch(s, READ_SPECULATIVE);
    cursor_resume(s);
    return -1;
}

/* Set the cursor to the next expert. False: there is nothing to read now. */
static bool cursor_enter(store *s)
{
    int32_t id = pick(s);
    if (id < 0)
        return s->cursor.id >= 0;
    store_expert *x = &s->expert[id];
    x->error = x->truncated = x->late_waiter = 0;
    x->started_as = s->cache.entry[id].priority;
    int n;
    const expert_extent *extents = expert_index_extents(s->index, id / s->experts, id % s->experts, &n);
    s->cursor.id = id;
    s->cursor.cancelled = false;
    s->cursor.range = 0;
    s->cursor.done = 0;
    layout_of(extents, n, &s->cursor.layout);
    prefault_reach(&s->prefault,
                   slab_at(&s->cache.slab, s->cache.entry[id].slot) + slab_slot_bytes(&s->cache.slab, id));
    return true;
}

/* The cursor is at a speculative read that no fetch waits for. */
static bool cursor_speculates(const store *s)
{
    const cache_entry *e = &s->cache.entry[s->cursor.id];
    return !e->waiters && e->priority == READ_SPECULATIVE;
}

/* The rest of the expert need not be read: its fetch has ended, the prefetch was cancelled, a part has failed, or the file
 * has changed. */
static bool cursor_abandoned(const store *s, const read_cursor *c)
{
    const cache_entry *e = &s->cache.entry[c->id];
    return s->expert[c->id].error || e->invalid_when_free ||
           (!e->waiters && (e->priority == READ_DEMAND || c->cancelled));
}

/* Leave what is abandoned; suspend a speculative read when a demand is queued. */
static void cursors_settle(store *s)
{
    if (s->suspended.id >= 0 && cursor_abandoned(s, &s->suspended))
        cursor_leave(s, &s->suspended, true);
    if (s->cursor.id >= 0 && cursor_abandoned(s, &s->cursor))
        cursor_leave(s, &s->cursor, true);
    if (s->cursor.id >= 0 && cursor_speculates(s) && s->cache.queue[READ_DEMAND].first >= 0) {
        s->suspended = s->cursor;
        s->cursor.id = -1;
    }
}

/* ---- requests ---- */

static uint64_t request_bytes(const read_request *r)
{
    uint64_t sum = 0;
    for (int i = 0; i < r->io.iovs; i++)
        sum += r->io.iov[i].iov_len;
    return sum;
}

static void request_append(read_request *r, int32_t id, void *to, uint64_t bytes)
{
    r->owner[r->io.iovs] = id;
    r->io.iov[r->io.iovs++] = (struct iovec){to, bytes};
}

static read_request *request_new(store *s, int32_t file, uint64_t offset)
{
    read_request *r = s->free_requests;
    s->free_requests = r->next;
    r->io = (io_request){.file = file, .offset = offset};
    r->retries = r->held = 0;
    return r;
}

/* The next part of the cursor's expert: appended to `last` when it follows it in the file, else in a request of its
 * own. NULL when that would need a request and none is free. */
static read_request *next_part(store *s, read_request *last)
{
    read_cursor *c = &s->cursor;
    const layout_range *x = &c->layout.range[c->range];
    uint64_t offset = x->offset + c->done, left = x->bytes - c->done;
    /* parts of equal size, so that none is tiny */
    uint64_t parts = (left + SCHEDULE_PART_BYTES - 1) / SCHEDULE_PART_BYTES;
    uint64_t bytes = ((left + parts - 1) / parts + LAYOUT_ALIGN - 1) / LAYOUT_ALIGN * LAYOUT_ALIGN;
    bytes = bytes < left ? bytes : left;
    bool follows = last && last->io.file == x->file && last->io.iovs < IO_IOV_MAX &&
                   last->io.offset + request_bytes(last) == offset &&
                   request_bytes(last) + bytes <= SCHEDULE_PART_BYTES;
    read_request *r = follows ? last : s->free_requests ? request_new(s, x->file, offset) : NULL;
    if (!r)
        return NULL;
    request_append(r, c->id, s->memory + slab_at(&s->cache.slab, s->cache.entry[c->id].slot) + x->at + c->done, bytes);
    s->expert[c->id].parts++;
    c->done += bytes;
    if (c->done == x->bytes) {
        c->range++;
        c->done = 0;
    }
    return r;
}

/* Bytes in flight, with the outbox's n requests. */
static uint64_t bytes_in_flight(const store *s, int n)
{
    uint64_t sum = s->bytes_in_flight;
    for (int i = 0; i < n; i++)
        sum += request_bytes((const read_request *)s->outbox[i]);
    return sum;
}

/* Fill the outbox with what the back end can take; how many. */
static int pump(store *s)
{
    int n = 0;
    for (; s->retry; n++) {
        s->outbox[n] = &s->retry->io;
        s->retry = s->retry->next;
    }
    for (read_request *last = NULL; !s->stop;) {
        cursors_settle(s);
        if (s->cursor.id < 0 && (!s->free_requests || !cursor_enter(s)))
            break;
        if (cursor_speculates(s) && bytes_in_flight(s, n) >= pace_window(&s->pace))
            break;
        read_request *r = next_part(s, last);
        if (!r)
            break;
        if (r != last) {
            s->outbox[n++] = &r->io;
            s->totals.reads++;
        }
        last = r;
        if (s->cursor.range == s->cursor.layout.ranges)
            cursor_leave(s, &s->cursor, false);
    }
    return n;
}

/* ---- results ---- */

static void part_done(store *s, int32_t id, int32_t file, int error)
{
    store_expert *x = &s->expert[id];
    if (error && !x->error) {
        x->error = error;
        x->error_file = file;
    }
    if (!--x->parts && s->cursor.id != id && s->suspended.id != id)
        finish(s, id);
}

static void request_free(store *s, read_request *r)
{
    r->next = s->free_requests;
    s->free_requests = r;
}

static void retry_request(store *s, read_request *r)
{
    r->next = s->retry;
    s->retry = r;
}

/* Drop the first `n` buffers, which end at `offset`. When none is left, the next one that was held back is requested. */
static void request_shift(store *s, read_request *r, int n)
{
    int kept = r->io.iovs + r->held - n;
    memmove(r->io.iov, r->io.iov + n, (size_t)kept * sizeof r->io.iov[0]);
    memmove(r->owner, r->owner + n, (size_t)kept * sizeof r->owner[0]);
    r->io.iovs -= n;
    if (!r->io.iovs && r->held) {
        r->io.iovs = 1;
        r->held--;
    }
    r->retries = 0;
    if (r->io.iovs)
        retry_request(s, r);
    else
        request_free(s, r);
}

/* `bytes` (a multiple of LAYOUT_ALIGN, or all that was requested) have arrived: the parts that they fill are done, the rest
 * is requested again. */
static void request_advance(store *s, read_request *r, uint64_t bytes)
{
    int full = 0;
    r->io.offset += bytes;
    while (full < r->io.iovs && bytes >= r->io.iov[full].iov_len) {
        bytes -= r->io.iov[full].iov_len;
        part_done(s, r->owner[full++], r->io.file, 0);
    }
    if (full < r->io.iovs) {
        r->io.iov[full].iov_base = (char *)r->io.iov[full].iov_base + bytes;
        r->io.iov[full].iov_len -= bytes;
    }
    request_shift(s, r, full);
}

/* A merged request failed: its parts are requested one by one, so that the error is attributed to the right expert. */
static void request_failed(store *s, read_request *r, int error)
{
    if (r->io.iovs > 1) {
        r->held += r->io.iovs - 1;
        r->io.iovs = 1;
        r->retries = 0;
        retry_request(s, r);
        return;
    }
    r->io.offset += r->io.iov[0].iov_len;
    part_done(s, r->owner[0], r->io.file, error);
    request_shift(s, r, 1);
}

static void request_done(store *s, read_request *r)
{
    int64_t result = r->io.result;
    uint64_t wanted = request_bytes(r), size = s->source.file[r->io.file].size;
    uint64_t whole = size - r->io.offset < wanted ? size - r->io.offset : wanted; /* the tail of the file is short */
    if (result > 0)
        s->totals.bytes_transferred += (uint64_t)result;
    if (result >= 0 && (uint64_t)result >= whole) {
        request_advance(s, r, wanted);
        return;
    }
    uint64_t progress = result > 0 ? (uint64_t)result / LAYOUT_ALIGN * LAYOUT_ALIGN : 0;
    if (progress) {
        request_advance(s, r, progress);
    } else if (!result) {
        request_failed(s, r, IO_ENDED);
    } else if (result > 0 || result == -EINTR || result == -EAGAIN) {
        if (++r->retries < SCHEDULE_RETRIES_MAX)
            retry_request(s, r);
        else
            request_failed(s, r, result > 0 ? IO_ENDED : (int)-result); /* the file ends inside a block */
    } else {
        request_failed(s, r, (int)-result);
    }
}

/* ---- the thread ---- */

void store_kick(store *s)
{
    s->work = true;
    if (s->idle) {
        pthread_cond_signal(&s->new_work);
    } else if (s->reaping && !s->woken && s->free_requests) {
        s->woken = true;
        s->source.io->wake(s->source.handle);
    }
}

void store_note_drained(store *s)
{
    if (!s->cache.reading_bytes[READ_DEMAND] && s->cache.queue[READ_DEMAND].first < 0)
        pace_drained(&s->pace, store_now_ns());
}

static void clock_reads(store *s, int before)
{
    if (!before && s->in_flight)
        s->busy_since = store_now_ns();
    else if (before && !s->in_flight)
        s->totals.read_ns += store_now_ns() - s->busy_since;
}

/* Submit `n` requests and collect results, without the lock. */
static void exchange(store *s, int n)
{
    int before = s->in_flight;
    s->in_flight += n;
    s->bytes_in_flight = bytes_in_flight(s, n);
    if (!before)
        s->paced = store_now_ns();
    clock_reads(s, before);
    s->work = false;
    s->reaping = true;
    pthread_mutex_unlock(&s->lock);
    if (n)
        s->source.io->submit(s->source.handle, s->outbox, n);
    int done = s->source.io->reap(s->source.handle, s->inbox, s->source.depth);
    pthread_mutex_lock(&s->lock);
    s->reaping = s->woken = false;
    before = s->in_flight;
    s->in_flight -= done;
    clock_reads(s, before);
    uint64_t bytes = 0, now = store_now_ns();
    for (int i = 0; i < done; i++)
        bytes += request_bytes((const read_request *)s->inbox[i]);
    pace_read(&s->pace, bytes, now - s->paced, s->bytes_in_flight);
    s->bytes_in_flight -= bytes;
    s->paced = now;
    for (int i = 0; i < done; i++)
        request_done(s, (read_request *)s->inbox[i]);
    store_note_drained(s);
}

static void *reader_main(void *ctx)
{
    store *s = ctx;
    thread_short_slices();
    pthread_mutex_lock(&s->lock);
    for (;;) {
        int n = pump(s);
        store_check(s);
        if (n || s->in_flight) {
            exchange(s, n);
            store_check(s);
            continue;
        }
        if (s->stop)
            break;
        store_on_idle_disk(s); /* fetches that sleep now wait for pins */
        s->idle = true;
        pthread_cond_broadcast(&s->went_idle);
        while (!s->work && !s->stop)
            pthread_cond_wait(&s->new_work, &s->lock);
        s->idle = s->work = false;
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

uint64_t reader_heap_bytes(int depth)
{
    return (uint64_t)depth * (sizeof(read_request) + 2 * sizeof(io_request *));
}

odmoe_status reader_start(store *s, odmoe_error *err)
{
    int depth = s->source.depth;
    s->cursor.id = s->suspended.id = -1;
    s->requests = mem_calloc((size_t)depth, sizeof *s->requests, "the store's requests", err);
    s->outbox = mem_calloc((size_t)depth, sizeof *s->outbox, "the store's requests", err);
    s->inbox = mem_calloc((size_t)depth, sizeof *s->inbox, "the store's requests", err);
    if (!s->requests || !s->outbox || !s->inbox)
        return ODMOE_ERR_MEMORY;
    for (int i = 0; i < depth; i++)
        request_free(s, &s->requests[i]);
    int failed = thread_start(&s->thread, NULL, reader_main, s);
    if (failed)
        return err_set(err, ODMOE_ERR_MEMORY, "cannot start the I/O thread: %s", strerror(failed));
    s->started = true;
    return ODMOE_OK;
}

void reader_stop(store *s)
{
    if (s->started) {
        pthread_mutex_lock(&s->lock);
        s->stop = true;
        store_kick(s);
        pthread_mutex_unlock(&s->lock);
        pthread_join(s->thread, NULL);
    }
    free(s->requests);
    free(s->outbox);
    free(s->inbox);
}
