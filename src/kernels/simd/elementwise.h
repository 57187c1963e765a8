/* elementwise.h - functions of whole vectors, and the quantisation of activations. Sums run in sixteen lanes, element i in
 * lane i % 16, ascending; then the lanes are folded. Tails are vectors padded with what leaves the result alone. */
#ifndef ODMOE_KERNELS_SIMD_ELEMENTWISE_H
#define ODMOE_KERNELS_SIMD_ELEMENTWISE_H

#include <math.h>

#include "kernels/act.h"
#include "kernels/simd/f32x16.h"

/* Sixteen or fewer elements from x + i, the missing ones `pad`. */
ALWAYS_INLINE f32x16 load_padded(const float *x, int64_t n, float pad)
{
    float lane[16];
    if (n >= 16)
        return f32x16_load(x);
    f32x16_store(lane, f32x16_set1(pad));
    memcpy(lane, x, (size_t)n * sizeof *lane);
    return f32x16_load(lane);
}

/* Sixteen or fewer elements of weights from w + i; 1 (or 0) where there are none. */
ALWAYS_INLINE f32x16 load_optional(const float *w, int64_t i, int64_t width, float otherwise)
{
    return w ? f32x16_load_part(w + i, width) : f32x16_set1(otherwise);
}

static float sum_of_squares(const float *x, int64_t n)
{
    f32x16 squares = f32x16_zero();
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        squares = f32x16_fma(f32x16_load(x + i), f32x16_load(x + i), squares);
    if (i < n) {
        f32x16 v = f32x16_load_part(x + i, n - i);
        squares = f32x16_fma(v, v, squares);
    }
    return f32x16_sum(squares);
}

/* y = x * scale */
static void scale_into(const float *x, f32x16 scale, float *y, int64_t n)
{
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        f32x16_store(y + i, f32x16_mul(f32x16_load(x + i), scale));
    if (i < n)
        f32x16_store_part(y + i, f32x16_mul(f32x16_load_part(x + i, n - i), scale), n - i);
}

static void rms_norm(const float *x, const float *weight, float eps, float *y, int64_t n)
{
    f32x16 scale = f32x16_set1(1.0f / sqrtf(sum_of_squares(x, n) / (float)n + eps));
    int64_t i = 0;
    if (!weight) {
        scale_into(x, scale, y, n);
        return;
    }
    for (; i + 16 <= n; i += 16)
        f32x16_store(y + i, f32x16_mul(f32x16_mul(f32x16_load(x + i), scale), f32x16_load(weight + i)));
    if (i < n) {
        f32x16 v = f32x16_mul(f32x16_load_part(x + i, n - i), scale);
        f32x16_store_part(y + i, f32x16_mul(v, f32x16_load_part(weight + i, n - i)), n - i);
    }
}

static void l2_norm(const float *x, float factor, float eps, float *y, int64_t n)
{
    scale_into(x, f32x16_set1(1.0f / sqrtf(sum_of_squares(x, n) + eps) * factor), y, n);
}

static void layer_norm(const float *x, const float *weight, const float *bias, float eps, float *y, int64_t n)
{
    f32x16 sum = f32x16_zero(), squares = f32x16_zero();
    for (int64_t i = 0; i < n; i += 16)
        sum = f32x16_add(sum, f32x16_load_part(x + i, n - i < 16 ? n - i : 16));
    float mean = f32x16_sum(sum) / (float)n;
    for (int64_t i = 0; i < n; i += 16) { /* missing elements count as the mean */
        f32x16 v = f32x16_sub(load_padded(x + i, n - i, mean), f32x16_set1(mean));
        squares = f32x16_fma(v, v, squares);
    }
    f32x16 scale = f32x16_set1(1.0f / sqrtf(f32x16_sum(squares) / (float)n + eps));
    for (int64_t i = 0; i < n; i += 16) {
        int64_t width = n - i < 16 ? n - i : 16;
        f32x16 v = f32x16_mul(f32x16_sub(f32x16_load_part(x + i, width), f32x16_set1(mean)), scale);
        v = f32x16_mul(v, load_optional(weight, i, width, 1));
        f32x16_store_part(y + i, f32x16_add(v, load_optional(bias, i, width, 0)), width);
    }
}

static void softmax(float *x, int64_t n)
{
    f32x16 max = f32x16_set1(-INFINITY), sum = f32x16_zero();
    for (int64_t i = 0; i < n; i += 16)
        max = f32x16_max(load_padded(x + i, n - i, -INFINITY), max);
    max = f32x16_set1(f32x16_largest(max));
    for (int64_t i = 0; i < n; i += 16) {
        f32x16 e = f32x16_exp(f32x16_sub(load_padded(x + i, n - i, -INFINITY), max));
        sum = f32x16_add(sum, e);
        f32x16_store_part(x + i, e, n - i < 16 ? n - i : 16);
    }
    sum = f32x16_set1(f32x16_sum(sum));
    for (int64_t i = 0; i < n; i += 16) {
        int64_t width = n - i < 16 ? n - i : 16;
        f32x16_store_part(x + i, f32x16_div(f32x16_load_part(x + i, width), sum), width);
    }
}

/* Gated activations: out = g / (1 + e^x) * u, where g, x and u are functions of gate and up (g is 1 for GLU_SIGMOID). e^x overflows to infinity
 * for a very negative gate; the quotient is then 0, as it should be. */
typedef enum glu { GLU_SILU, GLU_SILU_CLAMPED, GLU_GELU, GLU_SIGMOID } glu;

typedef struct clamp {
    float alpha, limit, offset; /* of GLU_SILU_CLAMPED */
} clamp;

ALWAYS_INLINE f32x16 glu_gate(glu kind, const clamp *c, f32x16 gate)
{
    return kind == GLU_SILU_CLAMPED ? f32x16_min(f32x16_set1(c->limit), gate) : gate;
}

ALWAYS_INLINE f32x16 glu_exponent(glu kind, const clamp *c, f32x16 g)
{
    if (kind == GLU_SILU || kind == GLU_SIGMOID)
        return f32x16_sub(f32x16_zero(), g);
    if (kind == GLU_SILU_CLAMPED)
        return f32x16_mul(f32x16_set1(-c->alpha), g);
    /* gelu(g) = g / 2 * (1 + tanh z) = g / (1 + e^-2z) with z = sqrt(2 / pi) * (g + 0.044715 g^3) */
    f32x16 factor =
        f32x16_fma(f32x16_mul(g, g), f32x16_set1(-2 * 0.7978845608f * 0.044715f), f32x16_set1(-2 * 0.7978845608f));
    return f32x16_mul(factor, g);
}

ALWAYS_INLINE f32x16 glu_up(glu kind, const clamp *c, f32x16 up)
{
    if (kind != GLU_SILU_CLAMPED)
        return up;
    up = f32x16_max(f32x16_set1(-c->limit), f32x16_min(f32x16_set1(c->limit), up));
    return f32x16_add(up, f32x16_set1(c->offset));
}

ALWAYS_INLINE void glu_vectors(glu kind, const clamp *c, int n, const float *gate, const float *up, float *out)
{
    f32x16 e[4];
#pragma GCC unroll 4
    for (int i = 0; i < n; i++)
        e[i] = glu_exponent(kind, c, glu_gate(kind, c, f32x16_load(gate + 16 * i)));
    f32x16_exp_of(n, e);
#pragma GCC unroll 4
    for (int i = 0; i < n; i++) {
        f32x16 g = kind == GLU_SIGMOID ? f32x16_set1(1.0f) : glu_gate(kind, c, f32x16_load(gate + 16 * i));
        f32x16 activated = f32x16_div(g, f32x16_add(f32x16_set1(1.0f), e[i]));
        f32x16_store(out + 16 * i, f32x16_mul(activated, glu_up(kind, c, f32x16_load(up + 16 * i))));
    }
}

ALWAYS_INLINE void glu_any(glu kind, const clamp *c, const float *gate, const float *up, float *out, int64_t n)
{
    int64_t i = 0;
    for (; i + 32 <= n; i += 32)
        glu_vectors(kind, c, 2, gate + i, up + i, out + i);
    for (; i + 16 <= n; i += 16)
        glu_vectors(kind, c, 1, gate + i, up + i, out + i);
    if (i < n) {
        float g[16] = {0}, u[16] = {0}, y[16];
        memcpy(g, gate + i, (size_t)(n - i) * sizeof *g);
        memcpy(u, up + i, (size_t)(n - i) * sizeof *u);
        glu_vectors(kind, c, 1, g, u, y);
        memcpy(out + i, y, (size_t)(n - i) * sizeof *y);
    }
}

static void silu_mul(const float *gate, const float *up, float *out, int64_t n)
{
    glu_any(GLU_SILU, NULL, gate, up, out, n);
}

static void silu_mul_clamped(const float *gate, const float *up, float *out, int64_t n, float alpha, float limit,
                             float offset)
{
    clamp c = {alpha, limit, offset};
    glu_any(GLU_SILU_CLAMPED, &c, gate, up, out, n);
}

static void gelu_mul(const float *gate, const float *up, float *out, int64_t n)
{
    glu_any(GLU_GELU, NULL, gate, up, out, n);
}

static void relu_squared(const float *x, float *out, int64_t n)
{
    for (int64_t i = 0; i < n; i += 16) {
        int64_t width = n - i < 16 ? n - i : 16;
        f32x16 v = f32x16_max(f32x16_zero(), f32x16_load_part(x + i, width));
        f32x16_store_part(out + i, f32x16_mul(v, v), width);
    }
}

static void sigmoid_mul(const float *gate, const float *x, float *out, int64_t n)
{
    glu_any(GLU_SIGMOID, NULL, gate, x, out, n);
}

static void soft_cap(const float *x, float cap, float *out, int64_t n)
{
    f32x16 scale = f32x16_set1(cap), inverse = f32x16_set1(1.0f / cap);
    for (int64_t i = 0; i < n; i += 16) {
        int64_t width = n - i < 16 ? n - i : 16;
        f32x16 v = f32x16_tanh(f32x16_mul(f32x16_load_part(x + i, width), inverse));
        f32x16_store_part(out + i, f32x16_mul(v, scale), width);
    }
}

static void add_scaled(float *y, const float *x, float a, int64_t n)
{
    f32x16 factor = f32x16_set1(a);
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        f32x16_store(y + i, f32x16_fma(f32x16_load(x + i), factor, f32x16_load(y + i)));
    if (i < n) {
        f32x16 v = f32x16_fma(f32x16_load_part(x + i, n - i), factor, f32x16_load_part(y + i, n - i));
        f32x16_store_part(y + i, v, n - i);
    }
}

static void quantise_f32(const float *x, void *out, int64_t cols)
{
    memcpy(out, x, (size_t)cols * sizeof *x);
}

/* n activations, a multiple of 16, to eight bits with one scale, which is returned */
ALWAYS_INLINE float quantise_block(const float *x, int n, int8_t *q)
{
    f32x16 max = f32x16_zero();
    for (int i = 0; i < n; i += 16)
        max = f32x16_max(f32x16_abs(f32x16_load(x + i)), max);
    float inverse, d = act_scale(f32x16_largest(max), &inverse);
    for (int i = 0; i < n; i += 16)
        f32x16_store_i8(q + i, f32x16_round(f32x16_mul(f32x16_load(x + i), f32x16_set1(inverse))));
    return d;
}

ALWAYS_INLINE int sum_of(const int8_t *q, int n)
{
    int sum = 0;
    for (int i = 0; i < n; i++)
        sum += q[i];
    return sum;
}

static void quantise_q8(const float *x, void *out, int64_t cols)
{
    act_q8 *b = out;
    for (int64_t c = 0; c < cols; c += 32, b++) {
        b->d = quantise_block(x + c, 32, b->q);
        b->sum = sum_of(b->q, 32);
    }
}

static void quantise_q8k(const float *x, void *out, int64_t cols)
{
    act_q8k *b = out;
    for (int64_t c = 0; c < cols; c += 256, b++) {
        b->d = quantise_block(x + c, 256, b->q);
        for (int j = 0; j < 16; j++)
            b->sum16[j] = (int16_t)sum_of(b->q + 16 * j, 16);
        for (int j = 0; j < 8; j++)
            b->sum32[j] = (int16_t)(b->sum16[2 * j] + b->sum16[2 * j + 1]);
    }
}

#endif
