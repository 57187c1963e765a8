/* gemm_quant.h - products of quantised weights with 8-bit activations on NEON, with the dot product instructions where the
 * compiler may use them.
 *
 * The order of additions is the one of x86/gemm_quant.h, so the bits are the same: per block exact integer sums, then
 * y = fma(d * a.d, S, y), and for types with a minimum y = fma(-m * a.d, M, y). Blocks are decoded to signed bytes
 * (block_ints); few tokens go row by row, many tokens through panels of 16 rows and 256 columns. A panel is the
 * transpose of 16 packed rows of 32-bit words, the word w of all rows side by side at panel[16 w]:
 *
 *   0 weights, four a word | 64 scales | 80 minimums | 96 d | 97 m          (blocks of 256)
 *   0 weights | 64 eight d | 72 eight m                                      (blocks of 32)
 */
#ifndef ODMOE_KERNELS_ARM_GEMM_QUANT_H
#define ODMOE_KERNELS_ARM_GEMM_QUANT_H

#include "kernels/act.h"
#include "kernels/blocks.h"
#include "kernels/simd/gemm_float.h"
#include "kernels/tables.h"

enum {
    PANEL_TOKENS = 3, /* the smallest number of tokens for which packing a panel is faster */
    INT_TOKENS = 2,   /* of a tile: 16 sums and 6 operands of 32 registers */
    PACKED_ROW = 112, /* words */
    PACKED_ROW_SCALE = 64,
    PACKED_ROW_MIN = 80,
    PACKED_ROW_D = 96,
    PACKED_ROW_M = 97,
    PACKED_ROW_D32 = 64,
    PACKED_ROW_M32 = 72
};

ALWAYS_INLINE bool has_min(dtype t)
{
    return t == DTYPE_Q2_K || t == DTYPE_Q4_K || t == DTYPE_Q5_K || t == DTYPE_Q4_1 || t == DTYPE_Q5_1;
}

/* Each lane of sum plus four products. Weights are -128 or more, activations -127 or more, so that two products
 * fit 16 bits. */
ALWAYS_INLINE int32x4_t four_products(int32x4_t sum, int8x16_t w, int8x16_t a)
{
#if defined __ARM_FEATURE_DOTPROD
    return vdotq_s32(sum, w, a);
#else
    int16x8_t low = vmull_s8(vget_low_s8(w), vget_low_s8(a)), high = vmull_high_s8(w, a);
    return vpadalq_s16(sum, vpaddq_s16(low, high));
#endif
}

/* ---- few tokens ---- */

ALWAYS_INLINE float row_256(dtype t, const uint8_t *weights, int64_t cols, const act_q8k *a)
{
    block_ints b;
    float sum = 0;
    for (int64_t c = 0; c < cols; c += 256, a++, weights += block_size[t].bytes) {
        block_decoders[t](weights, &b);
        int32x4_t products = vdupq_n_s32(0), mins = vdupq_n_s32(0);
        for (int j = 0; j < 16; j++) {
            int32x4_t each = four_products(vdupq_n_s32(0), vld1q_s8(b.q + 16 * j), vld1q_s8(a->q + 16 * j));
            products = vmlaq_n_s32(products, each, b.scale[j]);
        }
        sum = __builtin_fmaf(b.d * a->d, (float)vaddvq_s32(products), sum);
        if (!has_min(t))
            continue;
        for (int j = 0; j < 16; j += 4)
            mins = vmlal_s16(mins, vld1_s16(b.min + j), vld1_s16(a->sum16 + j));
        sum = __builtin_fmaf(-(b.m * a->d), (float)vaddvq_s32(mins), sum);
    }
    return sum;
}

ALWAYS_INLINE float row_32(dtype t, const uint8_t *weights, int64_t cols, const act_q8 *a)
{
    block_ints b;
    float sum = 0;
    for (int64_t c = 0; c < cols; c += 32, a++, weights += block_size[t].bytes) {
        block_decoders[t](weights, &b);
        int32x4_t products = four_products(vdupq_n_s32(0), vld1q_s8(b.q), vld1q_s8(a->q));
        products = four_products(products, vld1q_s8(b.q + 16), vld1q_s8(a->q + 16));
        sum = __builtin_fmaf(b.d * a->d, (float)vaddvq_s32(products), sum);
        if (has_min(t))
            sum = __builtin_fmaf(-(b.m * a->d), (float)a->sum, sum);
    }
    return sum;
}

ALWAYS_INLINE float quant_row(dtype t, const void *row, const void *act, int64_t cols)
{
    return block_size[t].length == 32 ? row_32(t, row, cols, act) : row_256(t, row, cols, act);
}

/* ---- many tokens ---- */

ALWAYS_INLINE void store_float(uint32_t *word, float f)
{
    memcpy(word, &f, 4);
}

/* One row's packed_row; `width` columns, 256 or, at the end of a row of blocks of 32, fewer. */
ALWAYS_INLINE void pack_row(dtype t, const uint8_t *block, int width, uint32_t *packed_row)
{
    block_ints b;
    if (block_size[t].length == 32) {
        for (int j = 0; j < width / 32; j++, block += block_size[t].bytes) {
            block_decoders[t](block, &b);
            memcpy(packed_row + 8 * j, b.q, 32);
            store_float(packed_row + PACKED_ROW_D32 + j, b.d);
            store_float(packed_row + PACKED_ROW_M32 + j, b.m);
        }
        return;
    }
    block_decoders[t](block, &b);
    memcpy(packed_row, b.q, 256);
    for (int j = 0; j < 16; j++) {
        packed_row[PACKED_ROW_SCALE + j] = (uint32_t)b.scale[j];
        packed_row[PACKED_ROW_MIN + j] = (uint32_t)b.min[j];
    }
    store_float(packed_row + PACKED_ROW_D, b.d);
    store_float(packed_row + PACKED_ROW_M, b.m);
}

ALWAYS_INLINE void fill_panel(dtype t, const uint8_t *weights, int64_t row_bytes, int64_t height, int64_t c, int width,
                              uint32_t *out)
{
    uint32_t packed_row[16][PACKED_ROW];
    memset(packed_row, 0, sizeof packed_row);
    for (int64_t i = 0; i < height; i++)
        pack_row(t, weights + i * row_bytes + c / block_size[t].length * block_size[t].bytes, width, packed_row[i]);
    for (int w = 0; w < PACKED_ROW; w += 16)
        f32x16_interleave(DTYPE_F32, (const uint8_t *)(packed_row[0] + w), sizeof packed_row[0],
                          (float *)(out + w * 16), 16);
}

/* Rows 4 v … 4 v + 3 of a panel's word. */
ALWAYS_INLINE int32x4_t words(const uint32_t *p, int word, int v)
{
    return vreinterpretq_s32_u32(vld1q_u32(p + 16 * word + 4 * v));
}

/* each[t][v] = `count` groups of four weights, from p on, times activations, from a + t * act_row on */
ALWAYS_INLINE void byte_products(int tokens, const uint32_t *p, int count, const int8_t *a, int64_t act_row,
                                 int32x4_t each[INT_TOKENS][4])
{
    for (int t = 0; t < tokens; t++)
        for (int v = 0; v < 4; v++)
            each[t][v] = vdupq_n_s32(0);
    for (int k = 0; k < count; k++)
        for (int t = 0; t < tokens; t++) {
            int32_t four;
            memcpy(&four, a + t * act_row + 4 * k, 4);
            int8x16_t x = vreinterpretq_s8_s32(vdupq_n_s32(four));
            for (int v = 0; v < 4; v++)
                each[t][v] = four_products(each[t][v], vreinterpretq_s8_s32(words(p, k, v)), x);
        }
}

/* total = fma(d of the row * scale, sum, total) for 16 rows */
ALWAYS_INLINE f32x16 add_scaled_sums(f32x16 total, const uint32_t *p, int word, float scale, const int32x4_t sum[4])
{
    for (int v = 0; v < 4; v++) {
        float32x4_t d = vmulq_n_f32(vreinterpretq_f32_s32(words(p, word, v)), scale);
        total.val[v] = vfmaq_f32(total.val[v], d, vcvtq_f32_s32(sum[v]));
    }
    return total;
}

ALWAYS_INLINE void tile_256(bool min, int tokens, const uint32_t *p, const act_q8k *a, int64_t act_row, float *y,
                            int64_t ldy, int64_t height, bool fresh)
{
    int32x4_t sum[INT_TOKENS][4], each[INT_TOKENS][4];
    for (int t = 0; t < tokens; t++)
        for (int v = 0; v < 4; v++)
            sum[t][v] = vdupq_n_s32(0);
    for (int j = 0; j < 16; j++) {
        byte_products(tokens, p + 64 * j, 4, a->q + 16 * j, act_row, each);
        for (int t = 0; t < tokens; t++)
            for (int v = 0; v < 4; v++)
                sum[t][v] = vmlaq_s32(sum[t][v], each[t][v], words(p, PACKED_ROW_SCALE + j, v));
    }
    for (int t = 0; t < tokens; t++, y += ldy, a = (const act_q8k *)((const char *)a + act_row)) {
        f32x16 total = add_scaled_sums(sum_load(y, height, fresh), p, PACKED_ROW_D, a->d, sum[t]);
        if (min) {
            int32x4_t mins[4];
            for (int v = 0; v < 4; v++) {
                mins[v] = vdupq_n_s32(0);
                for (int j = 0; j < 16; j++)
                    mins[v] = vmlaq_n_s32(mins[v], words(p, PACKED_ROW_MIN + j, v), a->sum16[j]);
            }
            total = add_scaled_sums(total, p, PACKED_ROW_M, -a->d, mins);
        }
        sum_store(y, total, height);
    }
}

ALWAYS_INLINE void tile_32(bool min, int tokens, const uint32_t *p, int blocks, const act_q8 *a, int64_t act_row,
                           float *y, int64_t ldy, int64_t height, bool fresh)
{
    f32x16 total[INT_TOKENS];
    for (int t = 0; t < tokens; t++)
        total[t] = sum_load(y + t * ldy, height, fresh);
    for (int b = 0; b < blocks; b++, a++) {
        int32x4_t each[INT_TOKENS][4];
        byte_products(tokens, p + 128 * b, 8, a->q, act_row, each);
        for (int t = 0; t < tokens; t++) {
            const act_q8 *at = (const act_q8 *)((const char *)a + t * act_row);
            total[t] = add_scaled_sums(total[t], p, PACKED_ROW_D32 + b, at->d, each[t]);
            if (min) {
                int32x4_t s = vdupq_n_s32(at->sum);
                total[t] = add_scaled_sums(total[t], p, PACKED_ROW_M32 + b, -at->d, (const int32x4_t[4]){s, s, s, s});
            }
        }
    }
    for (int t = 0; t < tokens; t++)
        sum_store(y + t * ldy, total[t], height);
}

/* All tokens times one panel of `width` columns. */
ALWAYS_INLINE void tiles(bool small, bool min, const uint32_t *p, int width, const char *act, int64_t act_row,
                         int64_t n, float *y, int64_t ldy, int64_t height, bool fresh)
{
    for (int64_t t = 0; t < n; t += INT_TOKENS) {
        const void *a = act + t * act_row;
        float *out = y + t * ldy;
        if (small && n - t >= INT_TOKENS)
            tile_32(min, INT_TOKENS, p, width / 32, a, act_row, out, ldy, height, fresh);
        else if (small)
            tile_32(min, 1, p, width / 32, a, act_row, out, ldy, height, fresh);
        else if (n - t >= INT_TOKENS)
            tile_256(min, INT_TOKENS, p, a, act_row, out, ldy, height, fresh);
        else
            tile_256(min, 1, p, a, act_row, out, ldy, height, fresh);
    }
}

static void tiles_256(bool min, const uint32_t *p, const char *act, int64_t act_row, int64_t n, float *y, int64_t ldy,
                      int64_t height, bool fresh)
{
    tiles(false, min, p, 256, act, act_row, n, y, ldy, height, fresh);
}
static void tiles_32(bool min, const uint32_t *p, int width, const char *act, int64_t act_row, int64_t n, float *y,
                     int64_t ldy, int64_t height, bool fresh)
{
    tiles(true, min, p, width, act, act_row, n, y, ldy, height, fresh);
}

/* fill_panel for one type, a function of its own: its packed rows and the panel would be too much for one frame. */
typedef void fill_panel_of_type(const uint8_t *weights, int64_t row_bytes, int64_t height, int64_t c, int width,
                                uint32_t *out);

ALWAYS_INLINE void quant_dequantise(dtype t, dequantise_function *plain, const uint8_t *weights, float *out, int64_t n)
{
    plain(weights, out, n);
}

ALWAYS_INLINE void quant_matmul(dtype t, fill_panel_of_type *fill, const uint8_t *weights, int64_t row_bytes,
                                int64_t rows, int64_t cols, const char *act, int64_t act_row, int64_t n, float *y,
                                int64_t ldy)
{
    if (n < PANEL_TOKENS) {
        for (int64_t r = 0; r < rows; r++)
            for (int64_t token = 0; token < n; token++)
                y[token * ldy + r] = quant_row(t, weights + r * row_bytes, act + token * act_row, cols);
        return;
    }
    uint32_t panel_words[PACKED_ROW * 16];
    for (int64_t r = 0; r < rows; r += 16) {
        int64_t height = rows - r < 16 ? rows - r : 16;
        for (int64_t c = 0; c < cols; c += 256) {
            int width = cols - c < 256 ? (int)(cols - c) : 256;
            fill(weights + r * row_bytes, row_bytes, height, c, width, panel_words);
            if (block_size[t].length == 32)
                tiles_32(has_min(t), panel_words, width, act + c / 32 * (int64_t)sizeof(act_q8), act_row, n, y + r, ldy,
                         height, c == 0);
            else
                tiles_256(has_min(t), panel_words, act + c / 256 * (int64_t)sizeof(act_q8k), act_row, n, y + r, ldy,
                          height, c == 0);
        }
    }
}

#endif
