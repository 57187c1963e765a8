/* store_fake_io.h - a back end that reads from memory and does what a test tells it: hold reads back, finish them out
 * of order, read short, fail. */
#ifndef TESTS_STORE_FAKE_IO_H
#define TESTS_STORE_FAKE_IO_H

#include <errno.h>
#include <pthread.h>

#include "store_fixture.h"

#include "store/io.h"

typedef enum fake_order { FAKE_FIFO, FAKE_LIFO, FAKE_RANDOM } fake_order;

typedef struct fake_io {
    store_io io;
    const model_fixture *model;
    /* what the test says; changed under `lock` (fake_set) */
    fake_order order;
    bool hold;            /* nothing completes */
    int let_through;      /* while held: this many still complete */
    uint32_t short_every; /* 1 of so many reads is short (0: none) */
    int32_t transient;    /* this many reads answer EINTR or EAGAIN first; < 0: all */
    uint64_t bad_at;      /* reads that touch this byte give bad_error; 0: none */
    int bad_times;        /* so often; < 0: always */
    int bad_error;        /* an errno, or 0: end of file */
    uint64_t ends_at;     /* the file has been cut to so many bytes; 0: not */
    /* what the test may look at */
    int submitted, in_flight, most_in_flight, max_iovs;
    bool unaligned; /* a request broke the promise of io.h */
    /* its own */
    pthread_mutex_t lock;
    pthread_cond_t change;
    io_request *waiting[512];
    int depth;
    bool woken;
    uint64_t seed;
} fake_io;

static odmoe_status fake_open(const store_io *io, const io_file *files, int n, int depth, void **handle,
                              odmoe_error *err)
{
    fake_io *f = io->user;
    f->depth = depth;
    *handle = f;
    return ODMOE_OK;
}

static void fake_submit(void *handle, io_request *const *requests, int n)
{
    fake_io *f = handle;
    pthread_mutex_lock(&f->lock);
    for (int i = 0; i < n; i++) {
        const io_request *r = requests[i];
        f->unaligned |= r->offset % LAYOUT_ALIGN || r->iovs < 1 || r->iovs > IO_IOV_MAX;
        for (int k = 0; k < r->iovs; k++)
            f->unaligned |=
                (uintptr_t)r->iov[k].iov_base % LAYOUT_ALIGN || r->iov[k].iov_len % LAYOUT_ALIGN || !r->iov[k].iov_len;
        f->max_iovs = r->iovs > f->max_iovs ? r->iovs : f->max_iovs;
        f->waiting[f->in_flight++] = requests[i];
        f->submitted++;
    }
    f->unaligned |= f->in_flight > f->depth;
    f->most_in_flight = f->in_flight > f->most_in_flight ? f->in_flight : f->most_in_flight;
    pthread_cond_broadcast(&f->change);
    pthread_mutex_unlock(&f->lock);
}

static int64_t fake_read(fake_io *f, const io_request *r)
{
    uint64_t size = f->ends_at ? f->ends_at : f->model->size, want = 0, at = r->offset;
    for (int k = 0; k < r->iovs; k++)
        want += r->iov[k].iov_len;
    if (f->transient) {
        f->transient -= f->transient > 0;
        return fixture_random(&f->seed) % 2 ? -EINTR : -EAGAIN;
    }
    if (f->bad_at >= at && f->bad_at < at + want && f->bad_times) {
        f->bad_times -= f->bad_times > 0;
        return -f->bad_error;
    }
    uint64_t got = at >= size ? 0 : size - at < want ? size - at : want;
    if (got > 1 && f->short_every && !(fixture_random(&f->seed) % f->short_every))
        got = 1 + fixture_random(&f->seed) % (got - 1);
    uint64_t left = got;
    for (int k = 0; k < r->iovs && left; k++) {
        uint64_t n = left < r->iov[k].iov_len ? left : r->iov[k].iov_len;
        memcpy(r->iov[k].iov_base, f->model->bytes + at, n);
        at += n;
        left -= n;
    }
    return (int64_t)got;
}

static int fake_reap(void *handle, io_request **done, int max)
{
    fake_io *f = handle;
    int n = 0;
    pthread_mutex_lock(&f->lock);
    while (!f->woken && !(f->in_flight && (!f->hold || f->let_through)))
        pthread_cond_wait(&f->change, &f->lock);
    f->woken = false;
    while (n < max && f->in_flight && (!f->hold || f->let_through)) {
        int i = f->order == FAKE_FIFO   ? 0
                : f->order == FAKE_LIFO ? f->in_flight - 1
                                        : (int)(fixture_random(&f->seed) % (uint32_t)f->in_flight);
        done[n] = f->waiting[i];
        memmove(f->waiting + i, f->waiting + i + 1, (size_t)(f->in_flight - i - 1) * sizeof f->waiting[0]);
        f->in_flight--;
        f->let_through -= f->let_through > 0;
        done[n]->result = fake_read(f, done[n]);
        n++;
        if (f->order == FAKE_RANDOM && fixture_random(&f->seed) % 2)
            break; /* leave some for later */
    }
    pthread_cond_broadcast(&f->change);
    pthread_mutex_unlock(&f->lock);
    return n;
}

static void fake_wake(void *handle)
{
    fake_io *f = handle;
    pthread_mutex_lock(&f->lock);
    f->woken = true;
    pthread_cond_broadcast(&f->change);
    pthread_mutex_unlock(&f->lock);
}

static void fake_close(void *handle)
{
    (void)handle;
}

static inline void fake_init(fake_io *f, const model_fixture *model)
{
    *f = (fake_io){.model = model, .seed = 11};
    f->io = (store_io){.name = "fake",
                       .user = f,
                       .open = fake_open,
                       .submit = fake_submit,
                       .reap = fake_reap,
                       .wake = fake_wake,
                       .close = fake_close};
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->change, NULL);
}

/* Hold all reads back, or let them go again. */
static inline void fake_hold(fake_io *f, bool hold)
{
    pthread_mutex_lock(&f->lock);
    f->hold = hold;
    f->let_through = 0;
    pthread_cond_broadcast(&f->change);
    pthread_mutex_unlock(&f->lock);
}

/* Let `n` of the held reads complete. */
static inline void fake_let_through(fake_io *f, int n)
{
    pthread_mutex_lock(&f->lock);
    f->let_through += n;
    pthread_cond_broadcast(&f->change);
    pthread_mutex_unlock(&f->lock);
}

/* Wait until `n` reads have been submitted since the beginning; until exactly `n` are in flight. */
static inline void fake_await_submitted(fake_io *f, int n)
{
    pthread_mutex_lock(&f->lock);
    while (f->submitted < n)
        pthread_cond_wait(&f->change, &f->lock);
    pthread_mutex_unlock(&f->lock);
}

static inline void fake_await_in_flight(fake_io *f, int n)
{
    pthread_mutex_lock(&f->lock);
    while (f->in_flight != n)
        pthread_cond_wait(&f->change, &f->lock);
    pthread_mutex_unlock(&f->lock);
}

static inline int fake_submitted(fake_io *f)
{
    pthread_mutex_lock(&f->lock);
    int n = f->submitted;
    pthread_mutex_unlock(&f->lock);
    return n;
}

static inline store *fake_store(fake_io *f, uint64_t cache_bytes, const char *policy)
{
    store_options options = {.cache_bytes = cache_bytes, .policy = policy, .io_override = &f->io};
    store *s;
    odmoe_error err;
    if (store_open(f->model->index, f->model->tensors, &options, &s, &err))
        fail_msg("%s", err.message);
    return s;
}

#endif
