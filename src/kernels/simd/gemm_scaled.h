/* gemm_scaled.h - products with weights that are small numbers times scales (DTYPE_SCALED_LIST): FP8, FP4 and INT4 as
 * publishers release them. They are converted to float32, exactly but for one rounding, into the panels of gemm_float.h,
 * and computed with as float weights are: one chain of fused multiply-adds for each output, columns ascending. */
#ifndef ODMOE_KERNELS_SIMD_GEMM_SCALED_H
#define ODMOE_KERNELS_SIMD_GEMM_SCALED_H

#include "kernels/blocks.h"
#include "kernels/simd/gemm_float.h"

/* A row of weights and its row of scales. */
typedef struct scaled_row {
    const uint8_t *data, *scales;
} scaled_row;

ALWAYS_INLINE scaled_row scaled_row_at(const scaled_weights *w, int64_t row)
{
    const uint8_t *scales = w->scales;
    return (scaled_row){(const uint8_t *)w->data + row * w->row_bytes,
                        scales ? scales + (row >> w->grid.rows) * w->scale_row_bytes : NULL};
}

/* Half of an E4M3 number, by way of a half-precision one: without a branch that random bytes would mispredict. `no_sign`:
 * as in GGUF's NVFP4 (block_nvfp4_half_scale). */
ALWAYS_INLINE float half_f8(uint8_t b, bool no_sign)
{
    unsigned sign = no_sign ? 0 : (unsigned)(b & 0x80) << 8;
    float f = f32x16_half((uint16_t)((unsigned)(b & 0x7f) << 7 | sign)) * 0x1p7f;
    if (no_sign)
        return b == 0x7f ? 0 : f;
    return (b & 0x7f) == 0x7f ? __builtin_nanf("") : f;
}

/* Number i of a row of scales that are floats of some width. */
ALWAYS_INLINE float float_scale(unsigned type, const uint8_t *scales, int64_t i)
{
    float f;
    uint16_t h;
    if (type == SCALE_F32) {
        memcpy(&f, scales + i * 4, 4);
        return f;
    }
    memcpy(&h, scales + i * 2, 2);
    return type == SCALE_BF16 ? dtype_bf16_to_f32(h) : f32x16_half(h);
}

/* The scale of columns c … c + 15; of FP4 half of it, since elements are doubled. */
ALWAYS_INLINE float scale_at(dtype t, scale_grid g, const scaled_row *r, int64_t c)
{
    switch (t) {
    case DTYPE_F8_E4M3:
    case DTYPE_INT4_SPLIT:
        return float_scale(g.type, r->scales, c >> g.cols);
    case DTYPE_NVFP4_SPLIT:
        return half_f8(r->scales[c / 16], false);
    case DTYPE_MXFP4_SPLIT:
        return block_e8m0_half(r->scales[c / 32]);
    default: /* NVFP4 */
        return half_f8(r->data[c / 64 * 36 + c % 64 / 16], true);
    }
}

static const int8_t int4_values[16] = {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7};

/* Elements c … c + 15, c % 16 == 0. */
ALWAYS_INLINE f32x16 elements_at(dtype t, const scaled_row *r, int64_t c)
{
    switch (t) {
    case DTYPE_F8_E4M3:
        return f32x16_from_f8(r->data + c);
    case DTYPE_INT4_SPLIT:
        return f32x16_from_nibbles(r->data + c / 2, int4_values, false);
    case DTYPE_NVFP4:
        return f32x16_from_nibbles(r->data + c / 64 * 36 + 4 + c % 64 / 2, kernel_mxfp4_values, true);
    default:
        return f32x16_from_nibbles(r->data + c / 2, kernel_mxfp4_values, false);
    }
}

/* The first n < 16 of them; rows of all types but FP8 are a multiple of 16. */
ALWAYS_INLINE f32x16 elements_part(dtype t, const scaled_row *r, int64_t c, int64_t n)
{
    uint8_t byte[16] = {0};
    memcpy(byte, r->data + c, (size_t)n);
    return f32x16_from_f8(byte);
}

/* panel[k][i] = w[row + i][c + k] for `height` rows, k < depth; c % 16 == 0. Rows beyond height are 0. */
ALWAYS_INLINE void panel_from_scaled(dtype t, const scaled_weights *w, int64_t row, int64_t height, int64_t c,
                                     int64_t depth, float *out)
{
    for (int64_t i = 0; i < height; i += 16, out += 16)
        for (int64_t k = 0; k < depth; k += 16) {
            float tile[16][16];
            for (int64_t j = 0; j < 16; j++) {
                if (i + j >= height) {
                    f32x16_store(tile[j], f32x16_zero());
                    continue;
                }
                scaled_row r = scaled_row_at(w, row + i + j);
                f32x16 scale = f32x16_set1(scale_at(t, w->grid, &r, c + k) * w->factor);
                f32x16 v = depth - k >= 16 ? elements_at(t, &r, c + k) : elements_part(t, &r, c + k, depth - k);
                f32x16_store(tile[j], f32x16_mul(v, scale));
            }
            f32x16_interleave(DTYPE_F32, (const uint8_t *)tile, sizeof *tile, out + k * PANEL_ROWS, PANEL_ROWS);
        }
}

/* Prefetch the panel's share of the rows that come next, in the order of addresses. */
ALWAYS_INLINE void prefetch_scaled(const scaled_weights *w, int64_t next, int64_t cols, int64_t c, int64_t depth)
{
    const char *start = (const char *)w->data + next * w->row_bytes;
    int64_t bytes = PANEL_ROWS * w->row_bytes;
    for (int64_t at = bytes * c / cols / 64 * 64; at < bytes * (c + depth) / cols; at += 64)
        __builtin_prefetch(start + at);
}

ALWAYS_INLINE void scaled_matmul(dtype t, const scaled_weights *w, int64_t first, int64_t rows, int64_t cols,
                                 const void *act, int64_t act_row, int64_t n, float *y, int64_t ldy)
{
    panel p;
    for (int64_t r = 0; r < rows; r += PANEL_ROWS) {
        int64_t height = rows - r < PANEL_ROWS ? rows - r : PANEL_ROWS;
        for (int64_t c = 0; c < cols; c += PANEL_DEPTH) {
            int64_t depth = cols - c < PANEL_DEPTH ? cols - c : PANEL_DEPTH;
            prefetch_scaled(w, first + r + PANEL_ROWS, cols, c, depth);
            panel_from_scaled(t, w, first + r, height, c, depth, p);
            panel_multiply(p, depth, (const float *)act + c, act_row / 4, n, y + r, ldy, height, c == 0);
        }
    }
}

#endif
