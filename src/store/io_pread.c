/* io_pread.c - a pool of threads that read with preadv: past the page cache, or through it, dropping each read from it
 * afterwards. For kernels that forbid io_uring, and for file systems that refuse direct reads. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/thread.h"
#include "store/io.h"

#define STACK_BYTES (64 * 1024) /* a worker calls preadv and nothing deep */

typedef struct request_list {
    io_request *first, **last;
} request_list;

typedef struct pread_pool {
    const io_file *files;
    bool drop; /* tell the page cache to forget what was read */
    pthread_mutex_t lock;
    pthread_cond_t work, finished;
    request_list waiting, done;
    bool woken, stop;
    int threads;
    pthread_t thread[];
} pread_pool;

static void list_push(request_list *list, io_request *request)
{
    request->next = NULL;
    *list->last = request;
    list->last = &request->next;
}

static io_request *list_pop(request_list *list)
{
    io_request *request = list->first;
    if (request && !(list->first = request->next))
        list->last = &list->first;
    return request;
}

static void read_one(const pread_pool *p, io_request *request)
{
    int fd = p->files[request->file].fd;
    ssize_t got = preadv(fd, request->iov, request->iovs, (off_t)request->offset);
    request->result = got < 0 ? -errno : got;
    if (p->drop && got > 0)
        posix_fadvise(fd, (off_t)request->offset, got, POSIX_FADV_DONTNEED);
}

static void *worker(void *ctx)
{
    pread_pool *p = ctx;
    pthread_mutex_lock(&p->lock);
    for (;;) {
        io_request *request = list_pop(&p->waiting);
        if (request) {
            pthread_mutex_unlock(&p->lock);
            read_one(p, request);
            pthread_mutex_lock(&p->lock);
            list_push(&p->done, request);
            pthread_cond_signal(&p->finished);
        } else if (p->stop) {
            break;
        } else {
            pthread_cond_wait(&p->work, &p->lock);
        }
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static void pool_close(void *handle)
{
    pread_pool *p = handle;
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < p->threads; i++)
        pthread_join(p->thread[i], NULL);
    pthread_cond_destroy(&p->finished);
    pthread_cond_destroy(&p->work);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

static odmoe_status pool_open(const store_io *io, const io_file *files, int n, int depth, void **handle,
                              odmoe_error *err)
{
    pread_pool *p = mem_calloc(1, sizeof *p + (size_t)depth * sizeof p->thread[0], "the reading threads", err);
    if (!p)
        return ODMOE_ERR_MEMORY;
    p->files = files;
    p->drop = io == &io_buffered;
    p->waiting.last = &p->waiting.first;
    p->done.last = &p->done.first;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->work, NULL);
    pthread_cond_init(&p->finished, NULL);
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    int failed = 0;
    while (p->threads < depth && !failed) {
        pthread_t *thread = &p->thread[p->threads];
        failed = thread_start(thread, &attr, worker, p);
        if (failed == EINVAL) /* the program's thread-local variables lie on the stack, too, and leave no room */
            failed = thread_start(thread, NULL, worker, p);
        p->threads += !failed;
    }
    pthread_attr_destroy(&attr);
    if (!p->threads) {
        pool_close(p);
        return err_set(err, ODMOE_ERR_MEMORY, "cannot start a reading thread: %s", strerror(failed));
    }
    *handle = p; /* fewer threads than asked for read as well, only slower */
    return ODMOE_OK;
}

static void pool_submit(void *handle, io_request *const *requests, int n)
{
    pread_pool *p = handle;
    pthread_mutex_lock(&p->lock);
    for (int i = 0; i < n; i++) {
        list_push(&p->waiting, requests[i]);
        pthread_cond_signal(&p->work);
    }
    pthread_mutex_unlock(&p->lock);
}

static int pool_reap(void *handle, io_request **done, int max)
{
    pread_pool *p = handle;
    int n = 0;
    pthread_mutex_lock(&p->lock);
    while (!p->done.first && !p->woken)
        pthread_cond_wait(&p->finished, &p->lock);
    p->woken = false;
    while (n < max && (done[n] = list_pop(&p->done)))
        n++;
    pthread_mutex_unlock(&p->lock);
    return n;
}

static void pool_wake(void *handle)
{
    pread_pool *p = handle;
    pthread_mutex_lock(&p->lock);
    p->woken = true;
    pthread_cond_signal(&p->finished);
    pthread_mutex_unlock(&p->lock);
}

static uint64_t pool_heap_bytes(int depth)
{
    return sizeof(pread_pool) + (uint64_t)depth * (sizeof(pthread_t) + STACK_BYTES);
}

const store_io io_pread = {.name = "pread",
                           .open = pool_open,
                           .submit = pool_submit,
                           .reap = pool_reap,
                           .wake = pool_wake,
                           .close = pool_close,
                           .heap_bytes = pool_heap_bytes};

const store_io io_buffered = {.name = "buffered",
                              .open = pool_open,
                              .submit = pool_submit,
                              .reap = pool_reap,
                              .wake = pool_wake,
                              .close = pool_close,
                              .heap_bytes = pool_heap_bytes};
