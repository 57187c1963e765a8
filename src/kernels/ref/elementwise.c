/* elementwise.c - plain C: functions of whole vectors, in float32, sums in ascending order. */
#include <math.h>

#include "kernels/ref/ref.h"

void ref_rms_norm(const float *x, const float *weight, float eps, float *y, int64_t n)
{
    float sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    float scale = 1.0f / sqrtf(sum / (float)n + eps);
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] * scale * (weight ? weight[i] : 1);
}

void ref_layer_norm(const float *x, const float *weight, const float *bias, float eps, float *y, int64_t n)
{
    float sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i];
    float mean = sum / (float)n;
    for (int64_t i = 0; i < n; i++)
        squares += (x[i] - mean) * (x[i] - mean);
    float scale = 1.0f / sqrtf(squares / (float)n + eps);
    for (int64_t i = 0; i < n; i++)
        y[i] = (x[i] - mean) * scale * (weight ? weight[i] : 1) + (bias ? bias[i] : 0);
}

void ref_l2_norm(const float *x, float factor, float eps, float *y, int64_t n)
{
    float sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    float scale = 1.0f / sqrtf(sum + eps) * factor;
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] * scale;
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

/* Comparisons are written so that NaN stays NaN. */
void ref_silu_mul_clamped(const float *gate, const float *up, float *out, int64_t n, float alpha, float limit,
                          float offset)
{
    for (int64_t i = 0; i < n; i++) {
        float g = gate[i] > limit ? limit : gate[i], u = up[i] > limit ? limit : up[i];
        u = u < -limit ? -limit : u;
        out[i] = g / (1.0f + expf(-alpha * g)) * (u + offset);
    }
}

/* gelu(x) = x / 2 * (1 + tanh z) = x / (1 + e^-2z) with z = sqrt(2 / pi) * (x + 0.044715 x^3) */
void ref_gelu_mul(const float *gate, const float *up, float *out, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        float x = gate[i], z = 0.7978845608f * (x + 0.044715f * x * x * x);
        out[i] = x / (1.0f + expf(-2.0f * z)) * up[i];
    }
}

void ref_relu_squared(const float *x, float *out, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = x[i] < 0 ? 0 : x[i] * x[i];
}

void ref_sigmoid_mul(const float *gate, const float *x, float *out, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = 1.0f / (1.0f + expf(-gate[i])) * x[i];
}

void ref_soft_cap(const float *x, float cap, float *out, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = cap * tanhf(x[i] / cap);
}

void ref_add_scaled(float *y, const float *x, float a, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] += a * x[i];
}
