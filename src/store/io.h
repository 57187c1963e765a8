/* io.h - back ends: something that takes read requests and gives them back done, in any order.
 *
 * One thread owns a back end and calls everything but wake. The back end decides nothing: retries, short reads and the
 * end of a file are the reader's business (reader.c), the same for all of them.
 */
#ifndef ODMOE_STORE_IO_H
#define ODMOE_STORE_IO_H

#include <sys/uio.h>

#include "store/layout.h"
#include "store/store.h"

#define IO_IOV_MAX 8

typedef struct io_request {
    int32_t file; /* as in the tensor index */
    int32_t iovs;
    uint64_t offset;
    struct iovec iov[IO_IOV_MAX]; /* in file order without gaps; addresses, lengths and offset are multiples of
                                     LAYOUT_ALIGN */
    int64_t result;               /* when it comes back: bytes read, or -errno */
    struct io_request *next;      /* the back end's while it has the request */
} io_request;

/* A file that holds experts. Those of the index that don't have path NULL and fd -1. */
typedef struct io_file {
    const char *path; /* borrowed from the tensor index */
    int fd;
    uint64_t size;
} io_file;

struct store_io {
    const char *name;
    void *user; /* passed through: an injected back end's own */
    /* Begin to read files[n], at most `depth` requests at a time. ERR_UNSUPPORTED where the kernel refuses. */
    odmoe_status (*open)(const store_io *io, const io_file *files, int n, int depth, void **handle, odmoe_error *err);
    /* Take requests[n], never more than depth at a time altogether; never waits for a read, never fails: what cannot be
     * started comes back with an error. */
    void (*submit)(void *handle, io_request *const *requests, int n);
    /* Give back what is done, at most `max`. With nothing done it waits, for a completion or for wake. */
    int (*reap)(void *handle, io_request **done, int max);
    /* Make a waiting reap return, or the next one not wait. Any thread. */
    void (*wake)(void *handle);
    /* Nothing is in flight any more. */
    void (*close)(void *handle);
    uint64_t (*heap_bytes)(int depth);
};

extern const store_io io_uring_backend, io_pread, io_buffered;

/* The files and the back end that a store reads through. */
typedef struct io_source {
    const store_io *io;
    void *handle;
    io_file *file;
    int files, depth;
} io_source;

/* io_source_open - open the files that `index` has extents in, as `mode` asks, and start the back end. IO_AUTO takes the
 * first that works of uring, pread, buffered. With `override` the files are not opened. io_source_close takes a failed
 * or zeroed one. */
odmoe_status io_source_open(io_source *s, const expert_index *index, const tensor_index *tensors, io_mode mode,
                            int depth, const store_io *override, odmoe_error *err);
void io_source_close(io_source *s);

/* What a store with these options reads with at most: requests in flight, and the heap bytes of the back end. */
int io_depth_of(const store_options *options);
uint64_t io_heap_bytes(const store_options *options);

#endif
