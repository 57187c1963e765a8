#include "limits.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#ifdef __x86_64__
#include <immintrin.h>
#endif

#define THREADS_MAX 256

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Run fn(ctx, i) on `threads` threads at once; seconds from start to the last one's end. */
typedef struct crew_member {
    void (*fn)(void *ctx, int i);
    void *ctx;
    int i;
} crew_member;

static void *crew_main(void *arg)
{
    crew_member *m = arg;
    m->fn(m->ctx, m->i);
    return NULL;
}

static double crew_run(int threads, void (*fn)(void *ctx, int i), void *ctx)
{
    pthread_t id[THREADS_MAX];
    crew_member member[THREADS_MAX];
    int started = 0;
    threads = threads > THREADS_MAX ? THREADS_MAX : threads;
    double start = now();
    for (; started < threads; started++) {
        member[started] = (crew_member){fn, ctx, started};
        if (pthread_create(&id[started], NULL, crew_main, &member[started]))
            break;
    }
    for (int i = 0; i < started; i++)
        pthread_join(id[i], NULL);
    return now() - start;
}

/* ---- arithmetic ---- */

#define FLOPS_ROUNDS (1 << 24)
static volatile float flops_sink; /* keeps the loops from being removed */

/* Each returns floating-point operations done. Twelve independent chains hide the latency of a multiply-add. */
#ifdef __x86_64__
__attribute__((target("avx512f"))) static double flops_512(void)
{
    __m512 a[12], x = _mm512_set1_ps(0.999f), y = _mm512_set1_ps(0.001f);
    for (int i = 0; i < 12; i++)
        a[i] = _mm512_set1_ps((float)i);
    for (int r = 0; r < FLOPS_ROUNDS; r++)
#pragma GCC unroll 12
        for (int i = 0; i < 12; i++)
            a[i] = _mm512_fmadd_ps(a[i], x, y);
    float sum = 0;
    for (int i = 0; i < 12; i++)
        sum += _mm512_reduce_add_ps(a[i]);
    flops_sink = sum;
    return 12.0 * 16 * 2 * FLOPS_ROUNDS;
}

__attribute__((target("avx2,fma"))) static double flops_256(void)
{
    __m256 a[12], x = _mm256_set1_ps(0.999f), y = _mm256_set1_ps(0.001f);
    for (int i = 0; i < 12; i++)
        a[i] = _mm256_set1_ps((float)i);
    for (int r = 0; r < FLOPS_ROUNDS; r++)
#pragma GCC unroll 12
        for (int i = 0; i < 12; i++)
            a[i] = _mm256_fmadd_ps(a[i], x, y);
    float out[8], sum = 0;
    for (int i = 0; i < 12; i++) {
        _mm256_storeu_ps(out, a[i]);
        sum += out[0];
    }
    flops_sink = sum;
    return 12.0 * 8 * 2 * FLOPS_ROUNDS;
}
#endif

static double flops_plain(void)
{
    float a[32];
    for (int i = 0; i < 32; i++)
        a[i] = (float)i;
    for (int r = 0; r < FLOPS_ROUNDS; r++)
        for (int i = 0; i < 32; i++)
            a[i] = a[i] * 0.999f + 0.001f;
    flops_sink = a[0] + a[31];
    return 32.0 * 2 * FLOPS_ROUNDS;
}

static void flops_member(void *ctx, int i)
{
    double *done = ctx;
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512f")) {
        done[i] = flops_512();
        return;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        done[i] = flops_256();
        return;
    }
#endif
    done[i] = flops_plain();
}

double limits_gflops(int threads)
{
    double done[THREADS_MAX] = {0}, total = 0, best = 0;
    for (int round = 0; round < 3; round++) {
        double seconds = crew_run(threads, flops_member, done);
        total = 0;
        for (int i = 0; i < threads && i < THREADS_MAX; i++)
            total += done[i];
        best = total / seconds > best ? total / seconds : best;
    }
    return best * 1e-9;
}

/* ---- memory ---- */

#define MEMORY_BYTES (512u << 20)

typedef struct memory_scan {
    const uint64_t *data;
    size_t words;
    int threads;
} memory_scan;

static void memory_member(void *ctx, int i)
{
    const memory_scan *scan = ctx;
    size_t part = scan->words / (size_t)scan->threads;
    const uint64_t *p = scan->data + part * (size_t)i;
    uint64_t sum[8] = {0};
    for (size_t w = 0; w + 8 <= part; w += 8) /* the compiler makes vectors of it; a line of the cache at a time */
        for (int k = 0; k < 8; k++)
            sum[k] += p[w + (size_t)k];
    uint64_t all = 0;
    for (int k = 0; k < 8; k++)
        all += sum[k];
    flops_sink = (float)all;
}

double limits_memory(int threads)
{
    void *data = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED)
        return 0;
    madvise(data, MEMORY_BYTES, MADV_HUGEPAGE);
    memset(data, 1, MEMORY_BYTES);
    memory_scan scan = {data, MEMORY_BYTES / sizeof(uint64_t), threads > THREADS_MAX ? THREADS_MAX : threads};
    double best = 0;
    for (int round = 0; round < 5; round++) {
        double rate = MEMORY_BYTES / crew_run(scan.threads, memory_member, &scan);
        best = rate > best ? rate : best;
    }
    munmap(data, MEMORY_BYTES);
    return best * 1e-9;
}

/* ---- disk ---- */

#define HUGE_PAGE ((size_t)2 << 20)

typedef struct disk_scan {
    int fd;
    bool direct;
    uint64_t block;
    const uint32_t *order; /* block numbers, shuffled */
    uint32_t count;        /* of blocks to read */
    uint32_t burst;
    _Atomic uint32_t next;
    pthread_barrier_t drained;
    _Atomic bool failed;
} disk_scan;

static void disk_member(void *ctx, int i)
{
    disk_scan *s = ctx;
    /* on huge pages, as the expert cache is: pinning 4 KiB pages for every read costs more than some disks */
    size_t room = (s->block + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    void *buffer = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (buffer == MAP_FAILED) {
        s->failed = true;
    } else {
        madvise(buffer, room, MADV_HUGEPAGE);
        memset(buffer, 0, room);
    }
    for (uint32_t from = 0; from < s->count; from += s->burst) {
        uint32_t to = s->count - from < s->burst ? s->count : from + s->burst, n;
        while (!s->failed && (n = atomic_fetch_add(&s->next, 1)) < to) {
            off_t at = (off_t)(s->order[n] * s->block);
            if (pread(s->fd, buffer, s->block, at) != (ssize_t)s->block)
                s->failed = true;
            if (!s->direct)
                posix_fadvise(s->fd, at, (off_t)s->block, POSIX_FADV_DONTNEED);
        }
        /* each thread took one number too many: one of them puts the counter back before the next burst */
        if (pthread_barrier_wait(&s->drained) == PTHREAD_BARRIER_SERIAL_THREAD)
            s->next = to;
        pthread_barrier_wait(&s->drained);
    }
    if (buffer != MAP_FAILED)
        munmap(buffer, room);
}

static uint32_t *shuffled(uint32_t count)
{
    uint32_t *order = malloc(count * sizeof *order);
    uint64_t state = 88172645463325252ull;
    for (uint32_t i = 0; order && i < count; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        uint32_t j = (uint32_t)(state % (i + 1));
        order[i] = order[j];
        order[j] = i;
    }
    return order;
}

double limits_disk(const char *path, const limits_pattern *p)
{
    disk_scan s = {.direct = true, .block = p->block};
    struct stat st;
    s.fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    if (s.fd < 0) {
        s.direct = false;
        s.fd = open(path, O_RDONLY | O_CLOEXEC);
    }
    if (s.fd < 0)
        return 0;
    double rate = 0;
    uint64_t blocks = fstat(s.fd, &st) ? 0 : (uint64_t)st.st_size / p->block;
    blocks = blocks > UINT32_MAX / 2 ? UINT32_MAX / 2 : blocks;
    uint32_t *order = blocks ? shuffled((uint32_t)blocks) : NULL;
    int depth = p->depth > THREADS_MAX ? THREADS_MAX : p->depth;
    if (order && !pthread_barrier_init(&s.drained, NULL, (unsigned)depth)) {
        uint64_t most = p->bytes / p->block;
        s.order = order;
        s.count = (uint32_t)(most < blocks ? most : blocks);
        s.burst = p->burst ? (uint32_t)p->burst : s.count;
        double seconds = crew_run(depth, disk_member, &s);
        rate = s.failed || !s.count ? 0 : (double)s.count * (double)p->block / seconds;
        pthread_barrier_destroy(&s.drained);
    }
    free(order);
    close(s.fd);
    return rate * 1e-9;
}
