/* transposed.h - the matrix products that gradients need, from the kernels that forward uses, in both orientations.
 *
 * A matrix W has `outs` outputs and `ins` inputs. Kernels for float types take weights (out, in) and (in, out); what is
 * the transposed product in one orientation is the plain one in the other. Outputs are split over threads, sums never.
 */
#ifndef ODMOE_MOE_TRANSPOSED_H
#define ODMOE_MOE_TRANSPOSED_H

#include "moe/experts.h"

#define PRODUCT_ROWS 64 /* outputs of one task */

/* product_both_ways - the matrix as it is where its type has both orientations, else its f32 copy in plain [outs, ins].
 */
expert_matrix product_both_ways(const compute *c, const expert_matrix *m, int64_t outs, int64_t ins, float *plain);

/* product_forward  - y [n, outs] = x [n, ins] W'
 * product_backward - y [n, ins]  = x [n, outs] W
 * Both for matrices from product_both_ways or of a float type. */
void product_forward(const compute *c, const expert_matrix *m, int64_t outs, int64_t ins, const float *x, int64_t n,
                     float *y);
void product_backward(const compute *c, const expert_matrix *m, int64_t outs, int64_t ins, const float *x, int64_t n,
                      float *y);

/* product_sum - y [a_cols, b_cols] = a' b over n rows: a_t [a_cols, n] is a transposed already, b [n, b_cols]. */
void product_sum(const compute *c, const float *a_t, int64_t a_cols, int64_t n, const float *b, int64_t b_cols,
                 float *y);

/* product_gradient - gradient (f32, in the orientation of `to`) of W from out [n, outs] and in [n, ins], set or added.
 * transposed: n * max(outs, ins) floats of scratch; block: PRODUCT_ROWS * max(outs, ins) floats a thread. */
void product_gradient(const compute *c, const expert_matrix *to, const float *out, int64_t outs, const float *in,
                      int64_t ins, int64_t n, bool add, float *transposed, float *block);

#endif
