/* linear.h - matrix products of resident weights, split over the threads of a pool. */
#ifndef ODMOE_MOE_LINEAR_H
#define ODMOE_MOE_LINEAR_H

#include "compute/compute.h"
#include "kernels/kernels.h"

typedef matrix weight;

/* Rows of activations in each format that some weight wants: at[f] is row 0 in format f, NULL where nobody wants it.
 * at[ACT_F32] is the caller's own float rows, [n, cols]. */
typedef struct activations {
    int64_t cols;
    size_t bytes[ACT_COUNT]; /* of one row */
    void *at[ACT_COUNT];
} activations;

/* activation_of - which format a type's kernels take; activation_mask is the same as a bit. */
static inline activation activation_of(const kernel_table *k, dtype type)
{
    return k->ops[type].act;
}
static inline unsigned activation_mask(const kernel_table *k, dtype type)
{
    return 1u << k->ops[type].act;
}

/* activation_masks - the formats of several types; activations_buffer - the same rows as a buffer. */
unsigned activation_masks(const kernel_table *k, dtype_set types);
buffer activations_buffer(const activations *a, unsigned mask, int64_t n);

/* activations_layout - take room for n rows in the formats of `mask` (ACT_F32 needs none). */
void activations_layout(arena *a, activations *out, unsigned mask, int64_t n, int64_t cols);
/* activations_fill - point at x [n, cols] and quantise it into the other formats that `mask` names. */
void activations_fill(const compute *c, activations *a, unsigned mask, const float *x, int64_t n);

/* One product: y[t * ldy + r] = sum_c w[r][c] x[t][c]. */
typedef struct linear_job {
    const weight *w;
    const activations *x;
    float *y;
    int64_t ldy;
} linear_job;

#define LINEAR_JOBS_MAX 4
/* linear_run - several products of the same n rows in one parallel loop. */
void linear_run(const compute *c, const linear_job *jobs, int count, int64_t n);

/* task_rows - how many weight rows one task of a loop over `total` rows takes, a multiple of 16. Few activation rows
 * stream through weights at the speed of memory: long runs keep the processor's prefetching going, as long as there are
 * enough of them for all threads. Many rows compute: short tasks balance. */
int64_t task_rows(const compute *c, int64_t total, int64_t n);

/* rows_run - call fn(ctx, row) for each row, in parallel where there are enough of them to pay for it. */
void rows_run(const compute *c, int64_t n, void (*fn)(void *ctx, int64_t row, int worker), void *ctx);

#endif
