/* vectors.c - plain C: functions of whole vectors, in float32, sums in ascending order. */
#include <math.h>

#include "kernels/ref/ref.h"

void ref_rms_norm(const float *x, const float *weight, float eps, float *y, int64_t n)
{
    float sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    float scale = 1.0f / sqrtf(sum / (float)n + eps);
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] * scale * weight[i];
}

void ref_softmax(float *x, int64_t n)
{
    float max = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++)
        max = fmaxf(max, x[i]);
    for (int64_t i = 0; i < n; i++)
        sum += x[i] = expf(x[i] - max);
    for (int64_t i = 0; i < n; i++)
        x[i] /= sum;
}

/* For a very negative gate exp(-gate) is infinite and the quotient 0, as it should be. */
void ref_silu_mul(const float *gate, const float *up, float *out, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = gate[i] / (1.0f + expf(-gate[i])) * up[i];
}

void ref_add_scaled(float *y, const float *x, float a, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] += a * x[i];
}
