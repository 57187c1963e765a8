/* bench_kernels.c - what each kernel reaches, beside the machine's limits measured in the same run.
 *
 * usage: bench_kernels [-t THREADS] [TABLE [TYPE...]]      default: 2 threads, every table but ref, every type
 *
 * One line a type: matrix-vector (decode) over weights too large for any cache, in GB/s of weights and as a share of
 * the memory bandwidth; and matrix-matrix (prompt) for 8, 32 and 512 tokens in GFLOP/s, as a share of the peak of
 * float32 multiply-adds. Both on THREADS threads, each with rows of its own, as the model does it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/threads.h"
#include "kernels/kernels.h"
#include "bench.h"
#include "limits.h"

enum { COLS = 2048, BYTES = 256 << 20, TOKENS = 512, ROWS = 1024 };

typedef struct work {
    const kernel_ops *ops;
    const uint8_t *weights, *scales;
    const void *act;
    int64_t row_bytes, rows, act_row, tokens;
    scale_grid grid;
    float *y;
    int tasks;
} work;

static void multiply(void *ctx, int64_t task, int worker)
{
    const work *w = ctx;
    int64_t share = w->rows / w->tasks, first = task * share;
    if (w->ops->matmul_scaled)
        w->ops->matmul_scaled(&(scaled_weights){.data = w->weights,
                                                .row_bytes = w->row_bytes,
                                                .scales = w->scales,
                                                .scale_row_bytes = (int64_t)scale_bytes(w->grid, 1, COLS),
                                                .factor = 1,
                                                .grid = w->grid},
                              first, share, COLS, w->act, w->act_row, w->tokens, w->y + first, w->rows);
    else
        w->ops->matmul(w->weights + first * w->row_bytes, w->row_bytes, share, COLS, w->act, w->act_row, w->tokens,
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

/* Ordinary weights. Random bits would be no such thing: some floats would be subnormal, which many processors multiply a
 * hundred times slower. The halves that scale a block are small numbers of one sign, MXFP4's exponents moderate. */
static void fill(dtype t, uint8_t *weights)
{
    uint32_t bits = 1;
    size_t bytes = t == DTYPE_F32 || t == DTYPE_F16 || t == DTYPE_BF16 ? dtype_info(t)->block_bytes : 1;
    for (size_t i = 0; i < BYTES; i += bytes) {
        bits = bits * 1664525u + 1013904223u;
        float f = ((float)(bits >> 8) * 0x1p-24f - 0.5f) * 0.1f;
        uint16_t half = t == DTYPE_F16 ? dtype_f32_to_f16(f) : dtype_f32_to_bf16(f);
        if (bytes == 1)
            weights[i] = (uint8_t)(bits >> 24 & 0x2f);
        else
            memcpy(weights + i, bytes == 2 ? (const void *)&half : &f, bytes);
    }
    if (t == DTYPE_MXFP4)
        for (size_t i = 0; i < BYTES; i += dtype_info(t)->block_bytes)
            weights[i] = 120;
}

/* Which weights of a type share a scale, in most published models. */
static scale_grid grid_of(dtype t)
{
    return t == DTYPE_F8_E4M3       ? (scale_grid){SCALE_BF16, 7, 7}
           : t == DTYPE_NVFP4_SPLIT ? (scale_grid){SCALE_F8, 0, 4}
           : t == DTYPE_MXFP4_SPLIT ? (scale_grid){SCALE_E8M0, 0, 5}
           : t == DTYPE_INT4_SPLIT  ? (scale_grid){SCALE_BF16, 0, 7}
                                    : (scale_grid){0};
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
        stop("bench_kernels", "out of memory");
    for (int i = 0; i < TOKENS; i++) {
        for (int c = 0; c < COLS; c++)
            x[i][c] = (float)((i + 7) * (c + 11) % 2001 - 1000) * 1e-3f;
        table->quantise[ops->act](x[i], act + i * act_row, COLS);
    }
    fill(t, weights);
    size_t apart = scale_bytes(grid_of(t), (uint64_t)rows, COLS);
    uint8_t *scales = apart ? malloc(apart) : NULL;
    if (apart && !scales)
        stop("bench_kernels", "out of memory");
    if (scales)
        memset(scales, 0x3c, apart); /* 1.5 as FP8, 0.01 as bf16, 2^-67 as a power of 2 */
    work w = {.ops = ops,
              .weights = weights,
              .scales = scales,
              .act = act,
              .row_bytes = row_bytes,
              .grid = grid_of(t),
              .rows = rows,
              .act_row = act_row,
              .tokens = 1,
              .y = y,
              .tasks = pool_threads(p) * 16};
    double rate = (double)((size_t)(rows * row_bytes) + apart) / seconds(p, &w, 3) / 1e9;
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
    free(scales);
    free(act);
    free(y);
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
    if (pool_create(threads, &p, &err))
        stop("bench_kernels", "cannot start the threads");
    uint8_t *weights = mem_pages_alloc(BYTES, "weights", &err);
    if (!weights)
        stop("bench_kernels", "out of memory");
    double gbps = limits_memory(threads), peak = limits_gflops(threads);
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
