/* scaled.c - plain C: products with weights that are small numbers times scales (DTYPE_SCALED_LIST). */
#include "kernels/blocks.h"
#include "kernels/ref/ref.h"

enum { CHUNK = 64 }; /* columns at a time; a multiple of every block */

/* A scale that is a float of some width. */
static float float_at(unsigned type, const uint8_t *p)
{
    float f;
    uint16_t h;
    if (type == SCALE_F32) {
        memcpy(&f, p, 4);
        return f;
    }
    memcpy(&h, p, 2);
    return type == SCALE_BF16 ? dtype_bf16_to_f32(h) : dtype_f16_to_f32(h);
}

/* The scale of column c of a row; of FP4 half of it, since elements are doubled. */
static float scale_at(dtype t, const scaled_weights *w, int64_t row, int64_t c)
{
    const uint8_t *scales = w->scales, *block = (const uint8_t *)w->data + row * w->row_bytes + c / 64 * 36;
    if (t == DTYPE_NVFP4)
        return block_nvfp4_half_scale(block[c % 64 / 16]);
    scales += (row >> w->grid.rows) * w->scale_row_bytes + (c >> w->grid.cols) * scale_width(w->grid);
    switch (t) {
    case DTYPE_NVFP4_SPLIT:
        return dtype_f8_to_f32(*scales) * 0.5f;
    case DTYPE_MXFP4_SPLIT:
        return block_e8m0_half(*scales);
    default: /* F8_E4M3, INT4_SPLIT */
        return float_at(w->grid.type, scales);
    }
}

/* Element c of a row. */
static float element_at(dtype t, const uint8_t *row, int64_t c)
{
    unsigned nibble = row[c / 2] >> (c % 2 * 4) & 15;
    switch (t) {
    case DTYPE_F8_E4M3:
        return dtype_f8_to_f32(row[c]);
    case DTYPE_INT4_SPLIT:
        return (float)((int)nibble - 8);
    case DTYPE_NVFP4: /* 16 weights are the lower halves of 8 bytes, then the upper ones */
        row += c / 64 * 36 + 4 + c % 64 / 16 * 8;
        nibble = row[c % 8] >> (c % 16 / 8 * 4) & 15;
        return kernel_mxfp4_values[nibble];
    default:
        return kernel_mxfp4_values[nibble];
    }
}

/* Columns [c, c + n) of a row. */
static inline void load_columns(dtype t, const scaled_weights *w, int64_t row, int64_t c, int64_t n, float *out)
{
    const uint8_t *data = (const uint8_t *)w->data + row * w->row_bytes;
    float scale = 0;
    for (int64_t i = 0; i < n; i++) {
        if (i % 16 == 0)
            scale = scale_at(t, w, row, c + i) * w->factor;
        out[i] = element_at(t, data, c + i) * scale;
    }
}

void kernel_scaled_numbers(dtype t, const scaled_weights *w, int64_t row, int64_t c, int64_t n, float *out)
{
    load_columns(t, w, row, c, n, out);
}

static inline void matmul(dtype t, const scaled_weights *w, int64_t first, int64_t rows, int64_t cols, const void *act,
                          int64_t act_row, int64_t n, float *y, int64_t ldy)
{
    float weight[CHUNK];
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c += CHUNK) {
            int64_t width = cols - c < CHUNK ? cols - c : CHUNK;
            load_columns(t, w, first + r, c, width, weight);
            for (int64_t token = 0; token < n; token++) {
                const float *x = (const float *)((const char *)act + token * act_row) + c;
                float sum = c > 0 ? y[token * ldy + r] : 0;
                for (int64_t k = 0; k < width; k++)
                    sum += weight[k] * x[k];
                y[token * ldy + r] = sum;
            }
        }
}

#define MATMUL(NAME, name, number, block, bytes)                                                                \
    void ref_matmul_##NAME(const scaled_weights *w, int64_t first, int64_t rows, int64_t cols, const void *act, \
                           int64_t act_row, int64_t n, float *y, int64_t ldy)                                   \
    {                                                                                                           \
        matmul(DTYPE_##NAME, w, first, rows, cols, act, act_row, n, y, ldy);                                    \
    }
DTYPE_SCALED_LIST(MATMUL)

void ref_dequantise_nvfp4(const void *weights, float *out, int64_t n)
{
    scaled_weights w = {.data = weights, .factor = 1};
    load_columns(DTYPE_NVFP4, &w, 0, 0, n, out);
}
