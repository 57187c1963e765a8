/* gemm_float.h - products with F32, F16 and BF16 weights, in both orientations.
 *
 * Every output is one chain of fused multiply-adds, columns (or, in the other orientation, rows) ascending, so it can
 * depend on neither the number of rows and tokens nor the instruction set. Side by side are outputs: a panel of
 * PANEL_ROWS weight rows is converted to float32 and interleaved, PANEL_DEPTH columns at a time, and then serves all
 * tokens; a tile of TILE_TOKENS tokens by the panel keeps its sums in registers. Between two panels of the same rows
 * the sums rest in y. */
#ifndef ODMOE_KERNELS_SIMD_GEMM_FLOAT_H
#define ODMOE_KERNELS_SIMD_GEMM_FLOAT_H

#include "kernels/kernels.h"
#include "kernels/simd/f32x16.h"

enum {
    PANEL_ROWS = 16 * TILE_VECTORS,
    PANEL_DEPTH = 128,   /* 16 or 8 KiB of panel, on the stack: half of the first cache */
    STREAMED_TOKENS = 3, /* up to so many, weights (in, out) are used as they stream by */
    STREAM_WIDTH = 1024  /* columns of y that stay in the first cache meanwhile */
};

ALWAYS_INLINE bool two_bytes(dtype t)
{
    return t == DTYPE_F16 || t == DTYPE_BF16;
}
/* Columns in 64 bytes of a row, which are taken from each of sixteen rows at once. */
ALWAYS_INLINE int64_t group_columns(dtype t)
{
    return two_bytes(t) ? 32 : 16;
}

ALWAYS_INLINE int64_t element_bytes(dtype t)
{
    return 64 / group_columns(t);
}

/* One panel: [depth][PANEL_ROWS]. */
typedef float panel[PANEL_DEPTH * PANEL_ROWS];

/* Columns c … c + 15 of a stored row; Q8_0 (the KV cache's) wants c % 16 == 0. */
ALWAYS_INLINE f32x16 row_load(dtype t, const uint8_t *row, int64_t c)
{
    const uint8_t *block = row + c / 32 * 34;
    uint16_t d;
    switch (t) {
    case DTYPE_F16:
        return f32x16_from_f16(row + 2 * c);
    case DTYPE_BF16:
        return f32x16_from_bf16(row + 2 * c);
    case DTYPE_Q8_0:
        memcpy(&d, block, 2);
        return f32x16_scaled_i8(block + 2 + c % 32, f32x16_set1(f32x16_half(d)));
    default:
        return f32x16_load(row + 4 * c);
    }
}

/* The same for n < 16 columns, the others 0; not for Q8_0, whose rows are whole blocks. */
ALWAYS_INLINE f32x16 row_load_part(dtype t, const uint8_t *row, int64_t c, int64_t n)
{
    switch (t) {
    case DTYPE_F16:
        return f32x16_from_f16_part(row + 2 * c, n);
    case DTYPE_BF16:
        return f32x16_from_bf16_part(row + 2 * c, n);
    default:
        return f32x16_load_part(row + 4 * c, n);
    }
}

/* ---- columns of rows, where the instruction set has no way of its own to them ---- */
#ifndef F32X16_COLUMNS

enum { GEMV_ROWS = 32 };

/* 64 bytes of sixteen rows: v[j] is word j of all rows. Two-byte types have two columns in a word, which `part`
 * separates. */
ALWAYS_INLINE void load_words(const uint8_t *p, int64_t stride, f32x16 v[16])
{
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++)
        v[i] = f32x16_load(p + i * stride);
    f32x16_transpose(v);
}
ALWAYS_INLINE void part(dtype t, f32x16 pairs, f32x16 *even, f32x16 *odd)
{
    if (t == DTYPE_F16)
        f32x16_part_f16(pairs, even, odd);
    else
        f32x16_part_bf16(pairs, even, odd);
}

ALWAYS_INLINE void f32x16_interleave(dtype t, const uint8_t *p, int64_t stride, float *out, int64_t ld)
{
    f32x16 v[16], even, odd;
    load_words(p, stride, v);
#pragma GCC unroll 16
    for (int j = 0; j < 16; j++) {
        if (!two_bytes(t)) {
            f32x16_store(out + j * ld, v[j]);
            continue;
        }
        part(t, v[j], &even, &odd);
        f32x16_store(out + 2 * j * ld, even);
        f32x16_store(out + (2 * j + 1) * ld, odd);
    }
}

/* sum += 64 bytes of sixteen rows times the activations of their columns; meanwhile sixteen lines from `next` on are
 * prefetched, one after each row: the empty statement keeps compilers from bringing them together. */
ALWAYS_INLINE f32x16 add_columns(dtype t, const uint8_t *p, int64_t stride, const uint8_t *next, const float *x,
                                 f32x16 sum)
{
    f32x16 v[16], even, odd;
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) {
        v[i] = f32x16_load(p + i * stride);
        __builtin_prefetch(next + 64 * i, 0, 2);
        __asm__ volatile("");
    }
    f32x16_transpose(v);
#pragma GCC unroll 16
    for (int j = 0; j < 16; j++) {
        if (!two_bytes(t)) {
            sum = f32x16_fma(v[j], f32x16_set1(x[j]), sum);
            continue;
        }
        part(t, v[j], &even, &odd);
        sum = f32x16_fma(even, f32x16_set1(x[2 * j]), sum);
        sum = f32x16_fma(odd, f32x16_set1(x[2 * j + 1]), sum);
    }
    return sum;
}

ALWAYS_INLINE void f32x16_gemv(dtype t, const uint8_t *weights, int64_t row_bytes, int64_t cols, const float *x,
                               float *y)
{
    const uint8_t *next = weights + GEMV_ROWS * row_bytes; /* the rows that come next, in the order of memory */
    f32x16 sum[GEMV_ROWS / 16];
#pragma GCC unroll 4
    for (int v = 0; v < GEMV_ROWS / 16; v++)
        sum[v] = f32x16_zero();
    for (int64_t c = 0; c < cols; c += group_columns(t), weights += 64, next += 64 * GEMV_ROWS)
#pragma GCC unroll 4
        for (int v = 0; v < GEMV_ROWS / 16; v++)
            sum[v] = add_columns(t, weights + 16 * v * row_bytes, row_bytes, next + 1024 * v, x + c, sum[v]);
#pragma GCC unroll 4
    for (int v = 0; v < GEMV_ROWS / 16; v++)
        f32x16_store(y + 16 * v, sum[v]);
}

#endif

/* out[j * PANEL_ROWS + i] = w[i][c + j] at the edges: `height` rows, the others 0, and `width` <= 16 columns. */
ALWAYS_INLINE void interleave_part(dtype t, const uint8_t *weights, int64_t row_bytes, int64_t height, int64_t c,
                                   int64_t width, float *out)
{
    float lane[16];
    for (int64_t i = 0; i < 16; i++) {
        f32x16 v = f32x16_zero();
        if (i < height)
            v = width == 16 ? row_load(t, weights + i * row_bytes, c)
                            : row_load_part(t, weights + i * row_bytes, c, width);
        f32x16_store(lane, v);
        for (int64_t j = 0; j < width; j++)
            out[j * PANEL_ROWS + i] = lane[j];
    }
}

/* panel[k][i] = w[i][c + k] for `height` rows of weights (out, in), k < depth; rows beyond height, up to a multiple of
 * 16, are 0. */
ALWAYS_INLINE void panel_from_rows(dtype t, const uint8_t *weights, int64_t row_bytes, int64_t height, int64_t c,
                                   int64_t depth, float *out)
{
    for (int64_t first = 0; first < height; first += 16, weights += 16 * row_bytes, out += 16) {
        int64_t left = height - first, k = 0;
        if (left >= 16)
            for (; k + group_columns(t) <= depth; k += group_columns(t))
                f32x16_interleave(t, weights + (c + k) * element_bytes(t), row_bytes, out + k * PANEL_ROWS, PANEL_ROWS);
        for (; k < depth; k += 16)
            interleave_part(t, weights, row_bytes, left, c + k, depth - k < 16 ? depth - k : 16, out + k * PANEL_ROWS);
    }
}

/* panel[k][i] = w[k][c + i] for `width` <= PANEL_ROWS columns of weights (in, out), k < depth; the others are 0. */
ALWAYS_INLINE void panel_from_columns(dtype t, const uint8_t *weights, int64_t row_bytes, int64_t c, int64_t width,
                                      int64_t depth, float *out)
{
    for (int64_t k = 0; k < depth; k++, weights += row_bytes, out += PANEL_ROWS)
        for (int64_t i = 0; i < PANEL_ROWS; i += 16) {
            if (i + 16 <= width)
                f32x16_store(out + i, row_load(t, weights, c + i));
            else
                f32x16_store(out + i, i < width ? row_load_part(t, weights, c + i, width - i) : f32x16_zero());
        }
}

/* Sixteen sums that rest in y between panels, of which `left` exist (any number; 16 or more is all). */
ALWAYS_INLINE f32x16 sum_load(const float *y, int64_t left, bool fresh)
{
    if (fresh)
        return f32x16_zero();
    return left >= 16 ? f32x16_load(y) : f32x16_load_part(y, left);
}
ALWAYS_INLINE void sum_store(float *y, f32x16 sum, int64_t left)
{
    if (left >= 16)
        f32x16_store(y, sum);
    else
        f32x16_store_part(y, sum, left);
}

/* y[t][i] (+)= sum_k panel[k][i] * x[t][k] for `tokens` tokens, a constant, and 16 * vectors rows, of which `height`
 * exist; starts from y, or from 0 where `fresh`. */
ALWAYS_INLINE void multiply_tile(int tokens, int vectors, const float *p, int64_t depth, const float *x, int64_t ldx,
                                 float *y, int64_t ldy, int64_t height, bool fresh)
{
    f32x16 sum[TILE_TOKENS][TILE_VECTORS];
#pragma GCC unroll 16
    for (int t = 0; t < tokens; t++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            sum[t][v] = sum_load(y + t * ldy + 16 * v, height - 16 * v, fresh);
    for (int64_t k = 0; k < depth; k++, p += PANEL_ROWS) {
        f32x16 w[TILE_VECTORS];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            w[v] = f32x16_load(p + 16 * v);
#pragma GCC unroll 16
        for (int t = 0; t < tokens; t++) {
            f32x16 a = f32x16_set1(x[t * ldx + k]);
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++)
                sum[t][v] = f32x16_fma(w[v], a, sum[t][v]);
        }
    }
#pragma GCC unroll 16
    for (int t = 0; t < tokens; t++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            sum_store(y + t * ldy + 16 * v, sum[t][v], height - 16 * v);
}

ALWAYS_INLINE void multiply_tiles(int vectors, const float *p, int64_t depth, const float *x, int64_t ldx, int64_t n,
                                  float *y, int64_t ldy, int64_t height, bool fresh)
{
    for (; n >= TILE_TOKENS; n -= TILE_TOKENS, x += TILE_TOKENS * ldx, y += TILE_TOKENS * ldy)
        multiply_tile(TILE_TOKENS, vectors, p, depth, x, ldx, y, ldy, height, fresh);
    for (; n >= 4; n -= 4, x += 4 * ldx, y += 4 * ldy)
        multiply_tile(4, vectors, p, depth, x, ldx, y, ldy, height, fresh);
    for (; n >= 2; n -= 2, x += 2 * ldx, y += 2 * ldy)
        multiply_tile(2, vectors, p, depth, x, ldx, y, ldy, height, fresh);
    if (n)
        multiply_tile(1, vectors, p, depth, x, ldx, y, ldy, height, fresh);
}

/* The same for any number of tokens; x [n, ldx], y [n, ldy]. */
static void panel_multiply(const float *p, int64_t depth, const float *x, int64_t ldx, int64_t n, float *y, int64_t ldy,
                           int64_t height, bool fresh)
{
    if (height > 16)
        multiply_tiles(TILE_VECTORS, p, depth, x, ldx, n, y, ldy, height, fresh);
    else
        multiply_tiles(1, p, depth, x, ldx, n, y, ldy, height, fresh);
}

ALWAYS_INLINE void float_matmul(dtype t, const void *weights, int64_t row_bytes, int64_t rows, int64_t cols,
                                const void *act, int64_t act_row, int64_t n, float *y, int64_t ldy)
{
    panel p;
    int64_t r = 0;
    if (n == 1 && cols % group_columns(t) == 0)
        for (; r + GEMV_ROWS <= rows; r += GEMV_ROWS)
            f32x16_gemv(t, (const uint8_t *)weights + r * row_bytes, row_bytes, cols, act, y + r);
    for (; r < rows; r += PANEL_ROWS) {
        const uint8_t *w = (const uint8_t *)weights + r * row_bytes;
        int64_t height = rows - r < PANEL_ROWS ? rows - r : PANEL_ROWS;
        for (int64_t c = 0; c < cols; c += PANEL_DEPTH) {
            int64_t depth = cols - c < PANEL_DEPTH ? cols - c : PANEL_DEPTH;
            panel_from_rows(t, w, row_bytes, height, c, depth, p);
            panel_multiply(p, depth, (const float *)act + c, act_row / 4, n, y + r, ldy, height, c == 0);
        }
    }
}

/* Few tokens: each weight is used as it comes from memory, y's columns stay in the first cache. */
ALWAYS_INLINE void stream_kn(dtype t, const uint8_t *weights, int64_t row_bytes, int64_t rows, int64_t cols,
                             const float *x, int64_t ldx, int64_t n, float *y, int64_t ldy)
{
    for (int64_t token = 0; token < n; token++)
        memset(y + token * ldy, 0, (size_t)cols * sizeof *y);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t token = 0; token < n; token++) {
            f32x16 a = f32x16_set1(x[token * ldx + r]);
            float *out = y + token * ldy;
            int64_t c = 0;
            for (; c + 16 <= cols; c += 16)
                f32x16_store(out + c, f32x16_fma(row_load(t, weights + r * row_bytes, c), a, f32x16_load(out + c)));
            if (c < cols) {
                f32x16 w = row_load_part(t, weights + r * row_bytes, c, cols - c);
                f32x16_store_part(out + c, f32x16_fma(w, a, f32x16_load_part(out + c, cols - c)), cols - c);
            }
        }
}

ALWAYS_INLINE void float_matmul_kn(dtype t, const void *weights, int64_t row_bytes, int64_t rows, int64_t cols,
                                   const float *x, int64_t ldx, int64_t n, float *y, int64_t ldy)
{
    if (n <= STREAMED_TOKENS) {
        for (int64_t c = 0; c < cols; c += STREAM_WIDTH)
            stream_kn(t, (const uint8_t *)weights + c * element_bytes(t), row_bytes, rows,
                      cols - c < STREAM_WIDTH ? cols - c : STREAM_WIDTH, x, ldx, n, y + c, ldy);
        return;
    }
    panel p;
    for (int64_t c = 0; c < cols; c += PANEL_ROWS) {
        int64_t width = cols - c < PANEL_ROWS ? cols - c : PANEL_ROWS;
        for (int64_t r = 0; r < rows; r += PANEL_DEPTH) {
            int64_t depth = rows - r < PANEL_DEPTH ? rows - r : PANEL_DEPTH;
            panel_from_columns(t, (const uint8_t *)weights + r * row_bytes, row_bytes, c, width, depth, p);
            panel_multiply(p, depth, x + r, ldx, n, y + c, ldy, width, r == 0);
        }
    }
}

ALWAYS_INLINE void float_dequantise(dtype t, const void *weights, float *out, int64_t n)
{
    int64_t c = 0;
    for (; c + 16 <= n; c += 16)
        f32x16_store(out + c, row_load(t, weights, c));
    if (c < n)
        f32x16_store_part(out + c, row_load_part(t, weights, c, n - c), n - c);
}

#endif
