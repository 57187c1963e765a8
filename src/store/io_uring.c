/* io_uring.c - the back end over io_uring: one ring, files are registered where the kernel allows. Everything runs on the
 * reader's thread; wake writes to an eventfd that the ring always has a read on. */
#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "store/io.h"

typedef struct ring {
    struct io_uring ring;
    const io_file *files;
    bool registered; /* files are named by their number */
    int event;
    uint64_t event_value; /* where the read on `event` goes */
    int broken;           /* io_uring_enter failed for good: -errno, requests come straight back with it */
    io_request *refused;  /* to come back with `broken` */
    uint64_t prepared;    /* entries so far */
    uint64_t entries;     /* that the kernel may not have taken yet, at most */
    io_request *entry[];  /* [entries] the latest ones' requests, by `prepared` % entries; NULL: the wake */
} ring;

static struct io_uring_sqe *prepare(ring *r, io_request *q)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&r->ring);
    if (sqe)
        r->entry[r->prepared++ % r->entries] = q;
    return sqe;
}

static void refuse(ring *r, io_request *q)
{
    q->next = r->refused;
    r->refused = q;
}

static void arm_wake(ring *r)
{
    struct io_uring_sqe *sqe = prepare(r, NULL);
    io_uring_prep_read(sqe, r->event, &r->event_value, sizeof r->event_value, 0);
    io_uring_sqe_set_data(sqe, NULL);
}

static void ring_close(void *handle)
{
    ring *r = handle;
    io_uring_queue_exit(&r->ring);
    close(r->event);
    free(r);
}

static odmoe_status refused(int error, odmoe_error *err)
{
    return err_set(err, ODMOE_ERR_UNSUPPORTED, "this kernel or container refuses io_uring (%s); use --io pread or auto",
                   error == ENOSYS  ? "not implemented"
                   : error == EPERM ? "not permitted"
                                    : strerror(error));
}

static odmoe_status ring_open(const store_io *io, const io_file *files, int n, int depth, void **handle,
                              odmoe_error *err)
{
    ring *r = mem_calloc(1, sizeof *r + ((size_t)depth + 1) * sizeof r->entry[0], "the read ring", err);
    int *fds = mem_calloc((size_t)n, sizeof *fds, "the read ring", err);
    if (!r || !fds) {
        free(r);
        free(fds);
        return ODMOE_ERR_MEMORY;
    }
    r->files = files;
    r->entries = (uint64_t)depth + 1;
    r->event = eventfd(0, EFD_CLOEXEC);
    int failed = r->event < 0 ? -errno : io_uring_queue_init((unsigned)depth + 1, &r->ring, 0);
    if (failed) {
        if (r->event >= 0)
            close(r->event);
        free(r);
        free(fds);
        return refused(-failed, err);
    }
    for (int i = 0; i < n; i++)
        fds[i] = files[i].fd;
    r->registered = !io_uring_register_files(&r->ring, fds, (unsigned)n); /* a saving, not a need */
    free(fds);
    arm_wake(r);
    failed = io_uring_submit(&r->ring); /* a sandbox may allow setting up and forbid using */
    if (failed < 0) {
        ring_close(r);
        return refused(-failed, err);
    }
    *handle = r;
    return ODMOE_OK;
}

/* Hand the prepared entries to the kernel. */
static int enter(ring *r, bool wait)
{
    int n;
    do
        n = wait ? io_uring_submit_and_wait(&r->ring, 1) : io_uring_submit(&r->ring);
    while (n == -EINTR || (wait && n == -EAGAIN));
    /* busy: entries stay in the ring and the next call takes them */
    return n == -EAGAIN || n == -EBUSY ? 0 : n;
}

/* Requests that the kernel has not taken come back with the error. They must not be submitted later, when their memory
 * belongs to another expert. */
static void give_up(ring *r, int error)
{
    r->broken = error;
    for (unsigned left = io_uring_sq_ready(&r->ring); left; left--) {
        io_request *q = r->entry[(r->prepared - left) % r->entries];
        if (q)
            refuse(r, q);
    }
}

static void ring_submit(void *handle, io_request *const *requests, int n)
{
    ring *r = handle;
    for (int i = 0; i < n; i++) {
        io_request *q = requests[i];
        struct io_uring_sqe *sqe = r->broken ? NULL : prepare(r, q);
        if (!sqe) {
            refuse(r, q);
            continue;
        }
        int fd = r->registered ? q->file : r->files[q->file].fd;
        if (q->iovs == 1)
            io_uring_prep_read(sqe, fd, q->iov[0].iov_base, (unsigned)q->iov[0].iov_len, q->offset);
        else
            io_uring_prep_readv(sqe, fd, q->iov, (unsigned)q->iovs, q->offset);
        if (r->registered)
            io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
        io_uring_sqe_set_data(sqe, q);
    }
    int failed = r->broken ? 0 : enter(r, false);
    if (failed < 0)
        give_up(r, failed);
}

static int take_refused(ring *r, io_request **done, int max)
{
    int n = 0;
    for (; n < max && r->refused; n++) {
        done[n] = r->refused;
        r->refused = done[n]->next;
        done[n]->result = r->broken ? r->broken : -EAGAIN;
    }
    return n;
}

/* Wait for a completion. When waiting in the kernel fails for good, completions of requests that it has taken are polled
 * for every millisecond. */
static void wait_for_any(ring *r)
{
    if (r->broken) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        return;
    }
    int failed = enter(r, true);
    if (failed < 0)
        give_up(r, failed);
}

static int ring_reap(void *handle, io_request **done, int max)
{
    ring *r = handle;
    int n = take_refused(r, done, max);
    struct io_uring_cqe *cqe;
    if (!n && io_uring_peek_cqe(&r->ring, &cqe)) {
        wait_for_any(r);
        n = take_refused(r, done, max);
    }
    while (n < max && !io_uring_peek_cqe(&r->ring, &cqe)) {
        io_request *q = io_uring_cqe_get_data(cqe);
        if (q) {
            q->result = cqe->res;
            done[n++] = q;
        }
        io_uring_cqe_seen(&r->ring, cqe);
        if (!q) { /* woken */
            if (!r->broken)
                arm_wake(r);
            break;
        }
    }
    return n;
}

static void ring_wake(void *handle)
{
    ring *r = handle;
    uint64_t one = 1;
    while (write(r->event, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

static uint64_t ring_heap_bytes(int depth)
{
    return sizeof(ring) + (uint64_t)(depth + 1) * sizeof(io_request *) +
           (uint64_t)(depth + 1) * 2 * (sizeof(struct io_uring_sqe) + 2 * sizeof(struct io_uring_cqe));
}

const store_io io_uring_backend = {.name = "uring",
                                   .open = ring_open,
                                   .submit = ring_submit,
                                   .reap = ring_reap,
                                   .wake = ring_wake,
                                   .close = ring_close,
                                   .heap_bytes = ring_heap_bytes};
