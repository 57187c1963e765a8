/* gradient_products.h - the matrix products that gradients need, on arrays of the host, from the kernels that forward
 * uses, in both orientations. Training runs on the processor: these are not part of the table of operations.
 *
 * Kernels for float types take weights (out, in) and (in, out); what is the transposed product in one orientation is
 * the plain one in the other. Threads split outputs, never sums. */
#ifndef ODMOE_COMPUTE_GRADIENT_PRODUCTS_H
#define ODMOE_COMPUTE_GRADIENT_PRODUCTS_H

#include "compute/compute.h"
#include "compute/host.h"

#define PRODUCT_ROWS 64 /* outputs of one task */

/* product_both_ways - the matrix as it is where its type has both orientations, else its f32 copy in plain [rows, cols].
 */
matrix product_both_ways(const compute *c, const matrix *m, float *plain);

/* product_forward  - y [n, rows] = x [n, cols] W'
 * product_backward - y [n, cols] = x [n, rows] W
 * Both for matrices from product_both_ways or of a float type. */
void product_forward(const compute *c, const matrix *m, const float *x, int64_t n, float *y);
void product_backward(const compute *c, const matrix *m, const float *x, int64_t n, float *y);

/* product_sum - y [a_cols, b_cols] = a' b over n tokens: a_t [a_cols, n] is a transposed already, b [n, b_cols]. */
void product_sum(const compute *c, const float *a_t, int64_t a_cols, int64_t n, const float *b, int64_t b_cols,
                 float *y);

/* product_gradient - gradient of W from out [n, rows] and in [n, cols], set or added; `to` (f32) is where it goes, in
 * W's orientation. transposed: n * max(rows, cols) floats of scratch; block: PRODUCT_ROWS * max(rows, cols) floats a
 * thread. */
void product_gradient(const compute *c, const matrix *to, const float *out, const float *in, int64_t n, bool add,
                      float *transposed, float *block);

/* host_for_tokens - call fn(ctx, token, worker) for each token, in parallel where there are
 * enough of them to pay. */
void host_for_tokens(const compute *c, int64_t n, void (*fn)(void *ctx, int64_t token, int worker), void *ctx);

#endif
