/* bench_kernels.c - what each kernel reaches, beside the machine's limits measured in the same run.
 *
 * usage: bench_kernels [-t THREADS] [TABLE [TYPE...]]      default: 2 threads, every table but ref, every type
 *
 * One line a type: matrix-vector (decode) over weights too large for any cache, in GB/s of weights and as a share of
 * the memory bandwidth; and matrix-matrix (prompt) for 8, 32 and 512 tokens in GFLOP/s, as a share of the peak of
 * float32 multiply-adds. Both on THREADS threads, each with rows of its own, as the model does it. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/mem.h"
#include "base/threads.h"
#include "kernels/kernels.h"

enum { COLS = 2048, BYTES = 256 << 20, TOKENS = 512, ROWS = 1024, MOST_THREADS = 64 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void stop(const char *what)
{
    fprintf(stderr, "bench_kernels: %s\n", what);
    exit(1);
}

/* ---- the machine's limits ---- */

/* A share of the sum of all bytes, in 32 KiB steps so that the compiler's vectors do it at memory speed. */
typedef struct reading {
    const uint64_t *data;
    size_t words;
    int threads;
    uint64_t sum[MOST_THREADS];
} reading;

#if defined __x86_64__
__attribute__((target_clones("avx512f", "avx2", "default")))
#endif
static uint64_t
sum_words(const uint64_t *p, size_t n)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += p[i];
    return sum;
}

static void read_share(void *ctx, int64_t task, int worker)
{
    reading *r = ctx;
    size_t share = r->words / (size_t)r->threads;
    r->sum[task] = sum_words(r->data + (size_t)task * share, share);
}

/* GB/s; the best of several passes */
static double memory_bandwidth(pool *p, const void *data, size_t bytes)
{
    reading r = {.data = data, .words = bytes / 8, .threads = pool_threads(p)};
    double best = 1e9;
    for (int i = 0; i < 5; i++) {
        double start = now();
        pool_run(p, r.threads, read_share, &r);
        double t = now() - start;
        best = t < best ? t : best;
    }
    return (double)bytes / best / 1e9;
}

/* Twelve independent chains of fused multiply-adds on vectors of 16 floats: enough to fill two units of latency 4 to 6
 * with registers to spare. They start from different numbers, or the compiler would run one for all. */
typedef float sixteen __attribute__((vector_size(64)));
enum { CHAINS = 12, STEPS = 2000000 };

#if defined __x86_64__
__attribute__((target_clones("avx512f", "arch=haswell", "default"), optimize("fp-contract=fast")))
#endif
static float
multiply_adds(const float start[CHAINS])
{
    sixteen c[CHAINS], a = (sixteen){0} + 0.999f, b = (sixteen){0} + 1e-3f, sum = {0};
#pragma GCC unroll 12
    for (int k = 0; k < CHAINS; k++)
        c[k] = (sixteen){0} + start[k];
    for (int i = 0; i < STEPS; i++)
#pragma GCC unroll 12
        for (int k = 0; k < CHAINS; k++)
            c[k] = c[k] * a + b;
#pragma GCC unroll 12
    for (int k = 0; k < CHAINS; k++)
        sum += c[k];
    return sum[0] + sum[5];
}

static void flops_task(void *ctx, int64_t task, int worker)
{
    float start[CHAINS];
    for (int k = 0; k < CHAINS; k++)
        start[k] = (float)k * 0.01f;
    ((float *)ctx)[task] = multiply_adds(start);
}

static double peak_flops(pool *p) /* GFLOP/s */
{
    float result[MOST_THREADS];
    double best = 1e9;
    for (int i = 0; i < 3; i++) {
        double start = now();
        pool_run(p, pool_threads(p), flops_task, result);
        double t = now() - start;
        best = t < best ? t : best;
    }
    return 2.0 * 16 * CHAINS * (double)STEPS * pool_threads(p) / best / 1e9;
}

/* ---- kernels ---- */

typedef struct work {
    const kernel_ops *ops;
    const uint8_t *weights;
    const void *act;
    int64_t row_bytes, rows, act_row, tokens;
    float *y;
    int tasks;
} work;

static void multiply(void *ctx, int64_t task, int worker)
{
    const work *w = ctx;
    int64_t share = w->rows / w->tasks, first = task * share;
    w->ops->matrix(w->weights + first * w->row_bytes, w->row_bytes, share, COLS, w->act, w->act_row, w->tokens,
                   w->y + first, w->rows);
}

/* seconds of a product; the best of several */
static double seconds(pool *p, work *w, int passes)
{
    double best = 1e9;
    for (int i = 0; i < passes; i++) {
        double start = now();
        pool_run(p, w->tasks, multiply, w);
        double t = now() - start;
        best = t < best ? t : best;
    }
    return best;
}

static void bench_type(pool *p, const kernel_table *table, dtype t, uint8_t *weights, double gbps, double peak)
{
    static float x[TOKENS][COLS];
    const kernel_ops *ops = &table->ops[t];
    int64_t row_bytes = (int64_t)dtype_bytes(t, COLS), act_row = (int64_t)act_bytes(ops->act, COLS);
    int64_t rows = BYTES / row_bytes / 128 * 128;
    char *act = malloc((size_t)(TOKENS * act_row));
    float *y = malloc((size_t)(rows > TOKENS * ROWS ? rows : TOKENS * ROWS) * sizeof *y);
    if (!act || !y)
        stop("out of memory");
    for (int i = 0; i < TOKENS; i++) {
        for (int c = 0; c < COLS; c++)
            x[i][c] = (float)((i + 7) * (c + 11) % 2001 - 1000) * 1e-3f;
        table->quantise[ops->act](x[i], act + i * act_row, COLS);
    }
    if (t == DTYPE_MXFP4) /* ordinary exponents: products must not be subnormal, which is slow */
        for (size_t i = 0; i < BYTES; i += dtype_info(t)->block_bytes)
            weights[i] = 120;
    work w = {ops, weights, act, row_bytes, rows, act_row, 1, y, pool_threads(p) * 16};
    double rate = (double)(rows * row_bytes) / seconds(p, &w, 3) / 1e9;
    printf("%-8s %-8s %7.1f GB/s %4.0f%%  ", table->name, dtype_info(t)->name, rate, 100 * rate / gbps);
    w.rows = ROWS;
    w.tasks = pool_threads(p);
    static const int64_t tokens[] = {8, 32, TOKENS};
    for (int i = 0; i < 3; i++) {
        w.tokens = tokens[i];
        rate = 2.0 * COLS * ROWS * (double)w.tokens / seconds(p, &w, 4096 / (int)w.tokens > 16 ? 16 : 5) / 1e9;
        printf(" %7.1f GFLOP/s %4.0f%%", rate, 100 * rate / peak);
    }
    printf("\n");
    fflush(stdout);
    free(act);
    free(y);
}

static int chosen(int argc, char **argv, const char *name)
{
    for (int i = 0; i < argc; i++)
        if (!strcmp(argv[i], name))
            return 1;
    return argc == 0;
}

int main(int argc, char **argv)
{
    int threads = 2, at = 1;
    odmoe_error err;
    if (at + 1 < argc && !strcmp(argv[at], "-t")) {
        threads = atoi(argv[at + 1]);
        at += 2;
    }
    const char *only = at < argc ? argv[at++] : NULL;
    pool *p;
    if (threads > MOST_THREADS || pool_create(threads, &p, &err))
        stop("cannot start the threads");
    uint8_t *weights = mem_pages_alloc(BYTES, "weights", &err);
    if (!weights)
        stop("out of memory");
    uint32_t bits = 1;
    for (size_t i = 0; i < BYTES; i++) { /* random bytes whose halves are small numbers of one sign */
        bits = bits * 1664525u + 1013904223u;
        weights[i] = (uint8_t)(bits >> 24 & 0x2f);
    }
    double gbps = memory_bandwidth(p, weights, BYTES), peak = peak_flops(p);
    printf("%d threads: memory %.1f GB/s, peak %.1f GFLOP/s (float32)\n", threads, gbps, peak);
    printf("%-8s %-8s %18s %25s %23s %23s\n", "table", "type", "1 token", "8 tokens", "32 tokens", "512 tokens");
    const kernel_table *table;
    for (int i = 0; (table = kernel_table_at(i)); i++) {
        if (only ? strcmp(only, table->name) : !strcmp("ref", table->name))
            continue;
        for (dtype t = 0; t < DTYPE_COUNT; t++)
            if (chosen(argc - at, argv + at, dtype_info(t)->name))
                bench_type(p, table, t, weights, gbps, peak);
    }
    mem_pages_free(weights, BYTES);
    pool_free(p);
    return 0;
}
