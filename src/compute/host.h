/* host.h - arithmetic on arrays of the host, on the caller's thread: for predictors and gradients, which are no part of
 * a model's layers. `k` from compute_kernels_find. */
#ifndef ODMOE_COMPUTE_HOST_H
#define ODMOE_COMPUTE_HOST_H

#include <stdint.h>

struct kernel_table;

/* y [n, ldy] = x [n, cols] w', w [rows, cols] */
void host_product(const struct kernel_table *k, const float *w, int64_t rows, int64_t cols, const float *x, int64_t n,
                  float *y, int64_t ldy);
/* y [n, ldy] = x [n, ldx] w, w [rows, cols]: rows of x used, cols of y written */
void host_product_transposed(const struct kernel_table *k, const float *w, int64_t rows, int64_t cols, const float *x,
                             int64_t ldx, int64_t n, float *y, int64_t ldy);
/* y += a x */
void host_add_scaled(const struct kernel_table *k, float *y, const float *x, float a, int64_t n);
/* x = softmax(x) */
void host_softmax(const struct kernel_table *k, float *x, int64_t n);
/* y = silu(gate) * up */
void host_silu_mul(const struct kernel_table *k, const float *gate, const float *up, float *y, int64_t n);

#endif
