/* adamw.h - AdamW: Adam with weight decay apart from the gradient (Loshchilov and Hutter, 2019). */
#ifndef ODMOE_TRAIN_ADAMW_H
#define ODMOE_TRAIN_ADAMW_H

#include <stddef.h>
#include <stdint.h>

typedef struct adamw {
    float rate, beta1, beta2, epsilon, weight_decay;
} adamw;

/* adamw_defaults - rate 1e-3, betas 0.9 and 0.999, epsilon 1e-8, weight decay 0.01. */
adamw adamw_defaults(void);

/* adamw_update - one step of n weights, `step` counted from 1; m and v [n] start as zeros. The gradient counts times
 * `scale` (clipping).
 *   m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
 *   w -= rate * (m / (1 - b1^step) / (sqrt(v / (1 - b2^step)) + epsilon) + weight_decay * w) */
void adamw_update(const adamw *a, int64_t step, float *w, const float *gradient, float scale, float *m, float *v,
                  size_t n);

/* adamw_clip - what gradients are multiplied with so that their norm is at most `limit` (0: no limit). */
float adamw_clip(double squares, double limit);

#endif
