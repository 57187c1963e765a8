/* compute_bench.h - what tests of the operations of src/compute share: threads, memory for buffers, numbers. */
#ifndef ODMOE_TESTS_COMPUTE_BENCH_H
#define ODMOE_TESTS_COMPUTE_BENCH_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "compute/compute.h"

enum { N = 70, COLS = 96 };

static uint64_t seed = 7;
static inline float number(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (float)(seed >> 40) * 0x1p-23f - 1;
}

/* A compute and memory for its buffers. */
typedef struct bench {
    compute c;
    char *memory;
    arena a;
} bench;

static inline void bench_open(bench *b, int threads)
{
    b->c = compute_cpu(compute_kernels_find("auto"), threads);
    assert_int_equal(compute_start(&b->c, NULL), ODMOE_OK);
    b->memory = aligned_alloc(64, 8 << 20);
    assert_non_null(b->memory);
    b->a = (arena){.base = (uint8_t *)b->memory};
}

static inline void bench_close(bench *b)
{
    compute_stop(&b->c);
    free(b->memory);
}

static inline buffer make_buffer(bench *b, int64_t cols, dtype_set readers)
{
    buffer out;
    b->c.op->buffer_layout(&b->c, &b->a, &out, N, cols, readers, true);
    return out;
}

/* n rows of numbers, kept in `copy` [n, cols] as well. */
static inline void fill(bench *b, buffer *to, float *copy, int64_t n)
{
    float *rows = b->c.op->write(&b->c, to, n);
    for (int64_t i = 0; i < n * to->cols; i++)
        rows[i] = copy[i] = number();
}

static inline const float *rows_of(bench *b, const buffer *x)
{
    return b->c.op->read(&b->c, x);
}

static inline void near(float got, double want)
{
    if (!(fabs(got - want) <= 2e-5 * (1 + fabs(want))))
        fail_msg("%.9g, expected %.9g", (double)got, want);
}

#endif
