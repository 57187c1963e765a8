/* bench_disk.c - how a disk answers direct reads at random places of a file, through io_uring, without the store.
 *
 * usage: bench_disk FILE queue [THREADS]     a queue that is kept at a depth: GB/s for sizes and depths, with threads
 *                                            that compute beside it (default 2)
 *        bench_disk FILE burst [PIECES]      bursts of pieces of 1.2 MB after a gap of 2 ms, as a layer misses them (default
 *                                            9): milliseconds until the first result and until the last, by size of part
 *
 * Sizes take turns, so that all of them meet the same minutes; each figure is a median. FILE holds at least 64 MiB.
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench.h"

enum { ROOM = 64 << 20, RING = 1024, SIZES = 6, TURNS = 60, RUNS = 5, GAP_NS = 2000000, PIECE = 1180 << 10 };
static const unsigned kib[SIZES] = {64, 128, 256, 512, 1024, 2048};

typedef struct disk {
    struct io_uring ring;
    int fd;
    uint64_t mib, seed; /* whole MiB of the file */
    char *memory;
} disk;

static uint64_t random_place(disk *d, uint64_t bytes)
{
    uint64_t last = d->mib - (bytes + (1u << 20) - 1) / (1u << 20);
    d->seed = d->seed * 6364136223846793005u + 1442695040888963407u;
    return (d->seed >> 33) % last << 20;
}

static void disk_open(disk *d, const char *path)
{
    struct stat st;
    d->fd = open(path, O_RDONLY | O_DIRECT);
    if (d->fd < 0 || fstat(d->fd, &st) || st.st_size < ROOM)
        stop("bench_disk", "the file cannot be read directly, or is smaller than 64 MiB");
    d->mib = (uint64_t)st.st_size >> 20;
    d->seed = 7;
    d->memory = mmap(NULL, ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (d->memory == MAP_FAILED || io_uring_queue_init(RING, &d->ring, 0))
        stop("bench_disk", "no memory, or no io_uring");
    madvise(d->memory, ROOM, MADV_HUGEPAGE);
    memset(d->memory, 1, ROOM);
}

static void request(disk *d, uint64_t at, uint64_t bytes, uint64_t offset)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&d->ring);
    io_uring_prep_read(sqe, d->fd, d->memory + at, (unsigned)bytes, offset);
    io_uring_sqe_set_data(sqe, d->memory + at);
}

/* Wait for a result; where it was read to. */
static uint64_t result(disk *d)
{
    struct io_uring_cqe *cqe;
    if (io_uring_wait_cqe(&d->ring, &cqe) || cqe->res <= 0)
        stop("bench_disk", "a read failed");
    uint64_t at = (uint64_t)((char *)io_uring_cqe_get_data(cqe) - d->memory);
    io_uring_cqe_seen(&d->ring, cqe);
    return at;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int n)
{
    qsort(values, (size_t)n, sizeof *values, ascending);
    return values[n / 2];
}

/* ---- a queue that is kept at a depth ---- */

static void *compute(void *ctx)
{
    for (volatile uint64_t i = 0; !atomic_load_explicit((atomic_bool *)ctx, memory_order_relaxed); i++)
        ;
    return NULL;
}

/* GB/s in a fifth of a second. */
static double keep_depth(disk *d, uint64_t bytes, int depth)
{
    uint64_t read = 0;
    double start = now(), seconds;
    for (int i = 0; i < depth; i++)
        request(d, (uint64_t)i * bytes, bytes, random_place(d, bytes));
    io_uring_submit(&d->ring);
    while ((seconds = now() - start) < 0.2) {
        uint64_t at = result(d);
        read += bytes;
        request(d, at, bytes, random_place(d, bytes));
        if (io_uring_cq_ready(&d->ring) == 0)
            io_uring_submit(&d->ring);
    }
    io_uring_submit(&d->ring);
    for (int i = 0; i < depth; i++)
        result(d);
    return (double)read / seconds / 1e9;
}

static void queue(disk *d, int threads)
{
    enum { DEPTHS = 6 };
    static double rate[SIZES][DEPTHS][RUNS];
    atomic_bool done = false;
    pthread_t thread[64];
    for (int i = 0; i < threads; i++)
        pthread_create(&thread[i], NULL, compute, &done);
    for (int run = 0; run < RUNS; run++)
        for (int s = 0; s < SIZES; s++)
            for (int k = 0; k < DEPTHS; k++)
                rate[s][k][run] = keep_depth(d, (uint64_t)kib[s] << 10, 1 << k);
    atomic_store(&done, true);
    for (int i = 0; i < threads; i++)
        pthread_join(thread[i], NULL);
    printf("GB/s, %d threads computing    in flight: 1, 2, 4, 8, 16, 32\n", threads);
    for (int s = 0; s < SIZES; s++) {
        printf("%5u KiB ", kib[s]);
        for (int k = 0; k < DEPTHS; k++)
            printf(" %5.2f", median(rate[s][k], RUNS));
        printf("\n");
    }
}

/* ---- bursts ---- */

static void one_burst(disk *d, int pieces, uint64_t part, double *first, double *last)
{
    int sent = 0;
    uint64_t at = 0, count = (PIECE + part - 1) / part, step = ((PIECE + count - 1) / count + 4095) / 4096 * 4096;
    nanosleep(&(struct timespec){.tv_nsec = GAP_NS}, NULL);
    double start = now();
    for (int i = 0; i < pieces; i++) {
        uint64_t offset = random_place(d, PIECE);
        for (uint64_t done = 0; done < PIECE; done += step, sent++) {
            uint64_t bytes = PIECE - done < step ? PIECE - done : step;
            request(d, at, bytes, offset + done);
            at += bytes;
        }
    }
    io_uring_submit(&d->ring);
    for (int i = 0; i < sent; i++) {
        result(d);
        if (!i)
            *first = now() - start;
    }
    *last = now() - start;
}

static void burst(disk *d, int pieces)
{
    static double first[SIZES][TURNS], last[SIZES][TURNS];
    for (int turn = 0; turn < TURNS; turn++)
        for (int s = 0; s < SIZES; s++)
            one_burst(d, pieces, (uint64_t)kib[s] << 10, &first[s][turn], &last[s][turn]);
    printf("bursts of %d pieces of 1.2 MB, ms until the first and the last result\n", pieces);
    for (int s = 0; s < SIZES; s++) {
        double all = median(last[s], TURNS);
        printf("%5u KiB  %6.2f %6.2f  %.2f GB/s\n", kib[s], 1e3 * median(first[s], TURNS), 1e3 * all,
               (double)pieces * PIECE / all / 1e9);
    }
}

int main(int argc, char **argv)
{
    if (argc < 3)
        stop("bench_disk", "usage: bench_disk FILE queue|burst [N]");
    disk d;
    disk_open(&d, argv[1]);
    int n = argc > 3 ? atoi(argv[3]) : 0;
    if (!strcmp(argv[2], "queue"))
        queue(&d, argc <= 3 ? 2 : n < 0 || n > 64 ? 64 : n);
    else if (!strcmp(argv[2], "burst"))
        burst(&d, n > 0 && n <= 48 ? n : 9);
    else
        stop("bench_disk", "queue or burst?");
    io_uring_queue_exit(&d.ring);
    return 0;
}
