/* bench_store.c - bursts of a layer's reads: what the store gets from the disk beside raw reads of the same pattern.
 *
 * usage: bench_store [FILE [BURSTS [sweep]]]
 *        FILE is created (1.8 GiB) when it is not there; default /var/tmp/bench-store.bin, 40 bursts.
 *        sweep: raw reads only, for parts of 128 KiB to 4 MiB and queue depths of 4 to 64.
 *
 * A burst is what one decoded token misses in one layer: 8 experts x 3 pieces of 1.2 MB, scattered over the file as in
 * a GGUF file (one merged tensor a role). The queue is drained between bursts. Raw reads know the pattern in advance
 * and do nothing else: no cache, no threads to wake, one buffer. Each figure is the median of 5 runs.
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench.h"
#include "store/store.h"

enum { LAYERS = 8, EXPERTS = 64, PIECES = 3, BURST = 8, RUNS = 5 };
#define PIECE_BYTES 1228832u /* 1.2 MB, no multiple of a block */
#define FIRST_BYTE 1056u     /* nor does the first one lie at one */
#define ALIGN 4096u

typedef struct span {
    uint64_t offset, bytes;
    uint8_t *to;
} span;

static uint64_t piece_offset(int layer, int expert, int piece)
{
    return FIRST_BYTE + (((uint64_t)layer * PIECES + (uint64_t)piece) * EXPERTS + (uint64_t)expert) * PIECE_BYTES;
}

static uint32_t random_below(uint64_t *state, uint32_t n)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(((*state >> 33) * n) >> 31);
}

static void choose(uint64_t *state, int32_t list[BURST])
{
    for (int i = 0; i < BURST; i++) {
        int again;
        do {
            list[i] = (int32_t)random_below(state, EXPERTS);
            again = 0;
            for (int j = 0; j < i; j++)
                again |= list[j] == list[i];
        } while (again);
    }
}

static void die(const char *what)
{
    fprintf(stderr, "bench_store: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void drop_cached(const char *path)
{
    int fd = open(path, O_RDONLY);
    if (fd < 0)
        die(path);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
}

static void make_file(const char *path, uint64_t size)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (fd < 0)
        return; /* it is there */
    size_t chunk = 8u << 20;
    uint32_t *data = malloc(chunk);
    uint64_t state = 1;
    for (uint64_t at = 0; at < size; at += chunk) {
        for (size_t i = 0; i < chunk / 4; i++)
            data[i] = random_below(&state, 0x7fffffff);
        if (pwrite(fd, data, chunk, (off_t)at) < 0)
            die(path);
    }
    fsync(fd);
    free(data);
    close(fd);
}

/* The aligned parts of a burst, of at most part_bytes each. */
static int burst_spans(uint64_t *state, int layer, uint64_t part_bytes, uint8_t *memory, span *out)
{
    int32_t list[BURST];
    int n = 0;
    uint64_t at = 0;
    choose(state, list);
    for (int i = 0; i < BURST; i++)
        for (int p = 0; p < PIECES; p++) {
            uint64_t from = piece_offset(layer, list[i], p), end = from + PIECE_BYTES;
            from = from / ALIGN * ALIGN;
            end = (end + ALIGN - 1) / ALIGN * ALIGN;
            uint64_t parts = (end - from + part_bytes - 1) / part_bytes;
            uint64_t step = ((end - from + parts - 1) / parts + ALIGN - 1) / ALIGN * ALIGN;
            for (; from < end; from += step) {
                out[n] = (span){from, end - from < step ? end - from : step, memory + at};
                at += out[n++].bytes;
            }
        }
    return n;
}

static double raw_uring(int fd, int bursts, uint64_t part_bytes, unsigned depth, uint8_t *memory)
{
    struct io_uring ring;
    static span spans[BURST * PIECES * 64];
    uint64_t state = 5, bytes = 0;
    if (io_uring_queue_init(depth, &ring, 0))
        return 0;
    double start = now();
    for (int b = 0; b < bursts; b++) {
        int n = burst_spans(&state, b % LAYERS, part_bytes, memory, spans), sent = 0, done = 0;
        while (done < n) {
            for (; sent < n && sent - done < (int)depth; sent++) {
                struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
                io_uring_prep_read(sqe, fd, spans[sent].to, (unsigned)spans[sent].bytes, spans[sent].offset);
            }
            io_uring_submit_and_wait(&ring, 1);
            struct io_uring_cqe *cqe;
            while (!io_uring_peek_cqe(&ring, &cqe)) {
                if (cqe->res <= 0)
                    die("raw read");
                bytes += (uint64_t)cqe->res;
                io_uring_cqe_seen(&ring, cqe);
                done++;
            }
        }
    }
    double seconds = now() - start;
    io_uring_queue_exit(&ring);
    return (double)bytes / seconds / 1e9;
}

/* Threads that share the parts of a burst, and meet at its end. */
typedef struct crowd {
    int fd, bursts;
    uint64_t part_bytes, state, bytes;
    uint8_t *memory;
    span spans[BURST * PIECES * 64];
    int n, next, burst;
    pthread_barrier_t begin, end;
} crowd;

static void *crowd_member(void *ctx)
{
    crowd *c = ctx;
    for (int b = 0; b < c->bursts; b++) {
        if (pthread_barrier_wait(&c->begin) == PTHREAD_BARRIER_SERIAL_THREAD)
            c->burst++;
        for (;;) {
            int i = __atomic_fetch_add(&c->next, 1, __ATOMIC_RELAXED);
            if (i >= c->n)
                break;
            ssize_t got = pread(c->fd, c->spans[i].to, c->spans[i].bytes, (off_t)c->spans[i].offset);
            if (got <= 0)
                die("raw read");
            __atomic_fetch_add(&c->bytes, (uint64_t)got, __ATOMIC_RELAXED);
        }
        pthread_barrier_wait(&c->end);
    }
    return NULL;
}

static double raw_pread(int fd, int bursts, uint64_t part_bytes, unsigned depth, uint8_t *memory)
{
    static crowd c;
    pthread_t thread[256];
    c = (crowd){.fd = fd, .bursts = bursts, .part_bytes = part_bytes, .state = 5, .memory = memory};
    pthread_barrier_init(&c.begin, NULL, depth + 1);
    pthread_barrier_init(&c.end, NULL, depth + 1);
    for (unsigned i = 0; i < depth; i++)
        pthread_create(&thread[i], NULL, crowd_member, &c);
    double start = now();
    for (int b = 0; b < bursts; b++) {
        c.n = burst_spans(&c.state, b % LAYERS, part_bytes, memory, c.spans);
        c.next = 0;
        pthread_barrier_wait(&c.begin);
        pthread_barrier_wait(&c.end);
    }
    double seconds = now() - start;
    for (unsigned i = 0; i < depth; i++)
        pthread_join(thread[i], NULL);
    pthread_barrier_destroy(&c.begin);
    pthread_barrier_destroy(&c.end);
    return (double)c.bytes / seconds / 1e9;
}

/* ---- the store ---- */

typedef struct made_model {
    expert_index *index;
    tensor_index *tensors;
} made_model;

static made_model make_model(const char *path, uint64_t size)
{
    made_model m = {expert_index_create(LAYERS, EXPERTS, NULL), tensor_index_create(NULL)};
    int file;
    if (!m.index || !m.tensors || tensor_index_add_file(m.tensors, path, size, &file, NULL))
        die("the index");
    for (int l = 0; l < LAYERS; l++)
        for (int e = 0; e < EXPERTS; e++) {
            expert_extent p[PIECES];
            for (int i = 0; i < PIECES; i++)
                p[i] = (expert_extent){.tag = (uint32_t)i, .offset = piece_offset(l, e, i), .length = PIECE_BYTES};
            if (expert_index_set(m.index, l, e, p, PIECES, NULL))
                die("the index");
        }
    return m;
}

static double through_store(const made_model *m, io_mode io, int bursts, int depth)
{
    store_options options = {
        .cache_bytes = store_bytes_for(m->index, 2 * BURST), .io = io, .policy = "lru", .io_depth = depth};
    store *s;
    odmoe_error err;
    if (store_open(m->index, m->tensors, &options, &s, &err)) {
        fprintf(stderr, "bench_store: %s\n", err.message);
        return 0;
    }
    uint64_t state = 5;
    double start = 0;
    for (int b = -4; b < bursts; b++) { /* the first ones touch the slab's pages */
        if (!b) {
            store_counters_reset(s);
            start = now();
        }
        int32_t list[BURST];
        store_fetch *batch;
        pinned_expert view;
        choose(&state, list);
        store_invalidate(s, -1, -1);
        fetch_request request = {.layer = (b + 4) % LAYERS,
                                 .n = BURST,
                                 .experts = list,
                                 .order = FETCH_ARRIVAL,
                                 .size = {FETCH_DECODE, 1, 1}};
        if (store_fetch_begin(s, &request, &batch, &err))
            die(err.message);
        while (!store_fetch_next(batch, &view, &err) && view.expert >= 0)
            store_fetch_release(batch, &view);
        store_fetch_end(batch);
    }
    double seconds = now() - start;
    store_totals totals;
    store_totals_get(s, &totals);
    store_close(s);
    return (double)totals.bytes_transferred / seconds / 1e9;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void sweep(int fd, int bursts, uint8_t *memory)
{
    for (uint64_t part = 128u << 10; part <= 4u << 20; part *= 2)
        for (unsigned depth = 4; depth <= 64; depth *= 2)
            printf("part %5llu KiB depth %2u: uring %.3f GB/s, pread %.3f GB/s\n", (unsigned long long)part >> 10,
                   depth, raw_uring(fd, bursts, part, depth, memory), raw_pread(fd, bursts, part, depth, memory));
}

int main(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : "/var/tmp/bench-store.bin";
    int bursts = argc > 2 ? atoi(argv[2]) : 40;
    uint64_t size = (piece_offset(LAYERS - 1, EXPERTS - 1, PIECES) + (8u << 20)) / (8u << 20) * (8u << 20);
    make_file(path, size);
    drop_cached(path);
    int fd = open(path, O_RDONLY | O_DIRECT);
    if (fd < 0)
        die(path);
    size_t room = (size_t)BURST * PIECES * (PIECE_BYTES + 2 * ALIGN);
    uint8_t *memory = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    madvise(memory, room, MADV_HUGEPAGE);
    memset(memory, 0, room);

    if (argc > 3) {
        sweep(fd, bursts, memory);
        return 0;
    }
    made_model m = make_model(path, size);
    double figure[5][RUNS];
    for (int r = 0; r < RUNS; r++) { /* interleaved: the disk's speed drifts */
        figure[0][r] = raw_uring(fd, bursts, 1u << 20, 32, memory);
        figure[1][r] = through_store(&m, IO_URING, bursts, 0);
        figure[2][r] = raw_pread(fd, bursts, 1u << 20, 12, memory);
        figure[3][r] = through_store(&m, IO_PREAD, bursts, 0);
        figure[4][r] = through_store(&m, IO_BUFFERED, bursts, 0);
    }
    static const char *const name[] = {"raw uring", "store uring", "raw pread", "store pread", "store buffered"};
    for (int i = 0; i < 5; i++) {
        qsort(figure[i], RUNS, sizeof(double), ascending);
        printf("%-15s %.3f GB/s (%.3f to %.3f)\n", name[i], figure[i][RUNS / 2], figure[i][0], figure[i][RUNS - 1]);
    }
    printf("store / raw     uring %.3f, pread %.3f\n", figure[1][RUNS / 2] / figure[0][RUNS / 2],
           figure[3][RUNS / 2] / figure[2][RUNS / 2]);
    expert_index_free(m.index);
    tensor_index_free(m.tensors);
    close(fd);
    return 0;
}
