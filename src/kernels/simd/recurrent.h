/* recurrent.h - linear attention and causal convolutions. Vectors hold columns of the state (channels), which are
 * independent; a sum over rows is four chains of fused multiply-adds, row i in chain i % 4, then (0 + 2) + (1 + 3). Columns
 * are the outer loop, tokens the inner one, so that what a token needs of the state stays in the first cache. */
#ifndef ODMOE_KERNELS_SIMD_RECURRENT_H
#define ODMOE_KERNELS_SIMD_RECURRENT_H

#include "kernels/ref/ref.h"
#include "kernels/simd/elementwise.h"
#include "kernels/simd/gemm_float.h"

enum { CHAINS = 4 };

ALWAYS_INLINE f32x16 load_columns(const float *p, int64_t width)
{
    return width >= 16 ? f32x16_load(p) : f32x16_load_part(p, width);
}
ALWAYS_INLINE void store_columns(float *p, f32x16 v, int64_t width)
{
    if (width >= 16)
        f32x16_store(p, v);
    else
        f32x16_store_part(p, v, width);
}

ALWAYS_INLINE f32x16 sum_of_chains(const f32x16 sum[CHAINS])
{
    return f32x16_add(f32x16_add(sum[0], sum[2]), f32x16_add(sum[1], sum[3]));
}

/* What a token needs of 16 * vectors columns (or, vectors being 1, of `width`), from `before` to `state`. */
typedef struct token_step {
    const float *q, *k, *decay;
    int64_t each; /* numbers from one row's decay to the next */
    const float *before;
    float *state;
    int64_t width;
} token_step;

ALWAYS_INLINE f32x16 decayed_row(const recurrent_args *a, const token_step *s, int64_t row, int v)
{
    f32x16 old = load_columns(s->before + row * a->state_stride + 16 * v, s->width);
    return f32x16_mul(old, f32x16_set1(s->decay[row * s->each]));
}

ALWAYS_INLINE void clear_chains(int vectors, f32x16 sum[TILE_VECTORS][CHAINS])
{
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++)
#pragma GCC unroll 4
        for (int i = 0; i < CHAINS; i++)
            sum[v][i] = f32x16_zero();
}

/* sum = (decay * S)^T k */
ALWAYS_INLINE void product_with_key(const recurrent_args *a, const token_step *s, int vectors,
                                    f32x16 sum[TILE_VECTORS][CHAINS])
{
    clear_chains(vectors, sum);
    for (int64_t row = 0; row < a->key_dim; row += CHAINS)
#pragma GCC unroll 4
        for (int i = 0; i < CHAINS; i++)
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++)
                if (row + i < a->key_dim)
                    sum[v][i] = f32x16_fma(decayed_row(a, s, row + i, v), f32x16_set1(s->k[row + i]), sum[v][i]);
}

/* S = decay * S + k u^T; sum = S^T q */
ALWAYS_INLINE void update(const recurrent_args *a, const token_step *s, int vectors, const f32x16 u[TILE_VECTORS],
                          f32x16 sum[TILE_VECTORS][CHAINS])
{
    clear_chains(vectors, sum);
    for (int64_t row = 0; row < a->key_dim; row += CHAINS)
#pragma GCC unroll 4
        for (int i = 0; i < CHAINS; i++)
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++)
                if (row + i < a->key_dim) {
                    f32x16 state = f32x16_fma(f32x16_set1(s->k[row + i]), u[v], decayed_row(a, s, row + i, v));
                    store_columns(s->state + (row + i) * a->state_stride + 16 * v, state, s->width);
                    sum[v][i] = f32x16_fma(state, f32x16_set1(s->q[row + i]), sum[v][i]);
                }
}

/* Token t for 16 * vectors columns from c on; or, vectors being 1, for `width` of them. */
ALWAYS_INLINE void recurrent_step(const recurrent_args *a, int vectors, int64_t t, int64_t c, int64_t width)
{
    token_step s = {.q = a->q + t * a->q_stride, .k = a->k + t * a->k_stride, .decay = a->decay + t * a->decay_stride};
    f32x16 sum[TILE_VECTORS][CHAINS], u[TILE_VECTORS], beta = f32x16_set1(a->beta[t * a->beta_stride]);
    s.each = a->decay_rows ? 1 : 0;
    s.before = (t ? a->state : a->before) + c;
    s.state = a->state + c;
    s.width = width;
    const bool delta = a->delta;
    if (delta)
        product_with_key(a, &s, vectors, sum);
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) {
        u[v] = load_columns(a->v + t * a->v_stride + c + 16 * v, width);
        if (delta)
            u[v] = f32x16_sub(u[v], sum_of_chains(sum[v]));
        u[v] = f32x16_mul(u[v], beta);
    }
    update(a, &s, vectors, u, sum);
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++)
        store_columns(a->out + t * a->out_stride + c + 16 * v, sum_of_chains(sum[v]), width);
}

/* The arguments are copied: a store of a vector might change the caller's, for all that the compiler knows. */
static void recurrent(const recurrent_args *args)
{
    const recurrent_args own = *args, *a = &own;
    int64_t c = 0;
    for (; c + 16 * TILE_VECTORS <= a->value_dim; c += 16 * TILE_VECTORS)
        for (int64_t t = 0; t < a->n; t++)
            recurrent_step(a, TILE_VECTORS, t, c, 16);
    for (; c < a->value_dim; c += 16)
        for (int64_t t = 0; t < a->n; t++)
            recurrent_step(a, 1, t, c, a->value_dim - c < 16 ? a->value_dim - c : 16);
}

/* Sixteen or fewer channels from c on, for all tokens. */
ALWAYS_INLINE void conv_channels(const conv_args *a, int64_t c, int64_t width)
{
    f32x16 weight[CONV_WIDTH_MOST], bias = f32x16_zero();
    for (int j = 0; j < a->width; j++)
        weight[j] = load_columns(a->weight + j * a->weight_stride + c, width);
    if (a->bias)
        bias = load_columns(a->bias + c, width);
    for (int64_t t = 0; t < a->n; t++) {
        f32x16 sum = bias;
        for (int j = 0; j < a->width; j++)
            sum = f32x16_fma(weight[j], load_columns(conv_input(a, t - a->width + 1 + j) + c, width), sum);
        if (a->silu) {
            f32x16 e = f32x16_exp(f32x16_sub(f32x16_zero(), sum));
            sum = f32x16_div(sum, f32x16_add(f32x16_set1(1.0f), e));
        }
        store_columns(a->y + t * a->y_stride + c, sum, width);
    }
}

static void conv(const conv_args *args)
{
    const conv_args own = *args, *a = &own;
    int64_t c = 0;
    for (; c + 16 <= a->channels; c += 16)
        conv_channels(a, c, 16);
    if (c < a->channels)
        conv_channels(a, c, a->channels - c);
    conv_keep(a);
}

#endif
