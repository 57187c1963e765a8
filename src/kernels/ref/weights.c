/* weights.c - plain C: dequantise, products of weights with float activations in float32, and the table `ref`: the
 * yardstick for every other table.
 *
 * Order of every sum: columns ascending, one multiplication and one addition each, in float32. Speed comes from working
 * on ROWS outputs side by side, which leaves each output's own order alone. */
#include "kernels/blocks.h"
#include "kernels/ref/ref.h"
#include "kernels/tables.h"

enum {
    ROWS = 8,   /* weight rows side by side */
    CHUNK = 256 /* columns at a time; a multiple of every type's block length */
};

static inline void dequantise_blocks(dtype t, const uint8_t *weights, float *out, int64_t n)
{
    const dtype_traits *traits = dtype_info(t);
    block_ints b;
    for (; n > 0; n -= traits->block, weights += traits->block_bytes) {
        block_decoders[t](weights, &b);
        for (uint32_t j = 0; j < traits->block / SUB_BLOCK; j++, out += SUB_BLOCK) {
            const int8_t *q = b.q + j * SUB_BLOCK;
            float scale = b.d * b.scale[j], min = b.m * b.min[j];
            for (int i = 0; i < SUB_BLOCK; i++)
                out[i] = scale * q[i] - min;
        }
    }
}

static inline void dequantise(dtype t, const void *weights, float *out, int64_t n)
{
    const uint8_t *p = weights;
    uint16_t h;
    switch (t) {
    case DTYPE_F32:
        memcpy(out, p, (size_t)n * 4);
        break;
    case DTYPE_F16:
        for (int64_t i = 0; i < n; i++) {
            memcpy(&h, p + 2 * i, 2);
            out[i] = dtype_f16_to_f32(h);
        }
        break;
    case DTYPE_BF16:
        for (int64_t i = 0; i < n; i++) {
            memcpy(&h, p + 2 * i, 2);
            out[i] = dtype_bf16_to_f32(h);
        }
        break;
    default:
        dequantise_blocks(t, p, out, n);
    }
}

static inline void matmul(dtype t, const void *weights, int64_t row_bytes, int64_t rows, int64_t cols, const void *act,
                          int64_t act_row, int64_t n, float *y, int64_t ldy)
{
    float row[CHUNK], panel[CHUNK][ROWS]; /* panel: ROWS weight rows, interleaved */
    for (int64_t r = 0; r < rows; r += ROWS) {
        int64_t height = rows - r < ROWS ? rows - r : ROWS;
        for (int64_t c = 0; c < cols; c += CHUNK) {
            int64_t width = cols - c < CHUNK ? cols - c : CHUNK;
            memset(panel, 0, sizeof panel);
            for (int64_t i = 0; i < height; i++) {
                const uint8_t *w = (const uint8_t *)weights + (r + i) * row_bytes;
                dequantise(t, w + dtype_bytes(t, (uint64_t)c), row, width);
                for (int64_t k = 0; k < width; k++)
                    panel[k][i] = row[k];
            }
            for (int64_t token = 0; token < n; token++) {
                const float *x = (const float *)((const char *)act + token * act_row) + c;
                float *out = y + token * ldy + r, sum[ROWS] = {0};
                if (c > 0)
                    memcpy(sum, out, (size_t)height * sizeof *sum);
                for (int64_t k = 0; k < width; k++)
                    for (int i = 0; i < ROWS; i++)
                        sum[i] += panel[k][i] * x[k];
                memcpy(out, sum, (size_t)height * sizeof *sum);
            }
        }
    }
}

static inline void matmul_kn(dtype t, const void *weights, int64_t row_bytes, int64_t rows, int64_t cols,
                             const float *x, int64_t ldx, int64_t n, float *y, int64_t ldy)
{
    float w[CHUNK];
    for (int64_t c = 0; c < cols; c += CHUNK) {
        int64_t width = cols - c < CHUNK ? cols - c : CHUNK;
        for (int64_t token = 0; token < n; token++)
            memset(y + token * ldy + c, 0, (size_t)width * sizeof *y);
        for (int64_t r = 0; r < rows; r++) {
            dequantise(t, (const uint8_t *)weights + r * row_bytes + dtype_bytes(t, (uint64_t)c), w, width);
            for (int64_t token = 0; token < n; token++) {
                float a = x[token * ldx + r], *out = y + token * ldy + c;
                for (int64_t k = 0; k < width; k++)
                    out[k] += a * w[k];
            }
        }
    }
}

/* A function of its own for each type and operation, with the type as a constant. */
#define WEIGHT_FUNCTIONS(NAME, name, number, block, bytes)                                                         \
    void ref_dequantise_##NAME(const void *weights, float *out, int64_t n)                                         \
    {                                                                                                              \
        dequantise(DTYPE_##NAME, weights, out, n);                                                                 \
    }                                                                                                              \
    static void matmul_##NAME(const void *weights, int64_t row_bytes, int64_t rows, int64_t cols, const void *act, \
                              int64_t act_row, int64_t n, float *y, int64_t ldy)                                   \
    {                                                                                                              \
        matmul(DTYPE_##NAME, weights, row_bytes, rows, cols, act, act_row, n, y, ldy);                             \
    }
DTYPE_PLAIN_LIST(WEIGHT_FUNCTIONS)

static void matmul_kn_f32(const void *weights, int64_t row_bytes, int64_t rows, int64_t cols, const float *x,
                          int64_t ldx, int64_t n, float *y, int64_t ldy)
{
    matmul_kn(DTYPE_F32, weights, row_bytes, rows, cols, x, ldx, n, y, ldy);
}
static void matmul_kn_f16(const void *weights, int64_t row_bytes, int64_t rows, int64_t cols, const float *x,
                          int64_t ldx, int64_t n, float *y, int64_t ldy)
{
    matmul_kn(DTYPE_F16, weights, row_bytes, rows, cols, x, ldx, n, y, ldy);
}
static void matmul_kn_bf16(const void *weights, int64_t row_bytes, int64_t rows, int64_t cols, const float *x,
                           int64_t ldx, int64_t n, float *y, int64_t ldy)
{
    matmul_kn(DTYPE_BF16, weights, row_bytes, rows, cols, x, ldx, n, y, ldy);
}

/* Only the float types come in the other orientation. */
#define matmul_kn_of(NAME)                         \
    (DTYPE_##NAME == DTYPE_F32    ? matmul_kn_f32  \
     : DTYPE_##NAME == DTYPE_F16  ? matmul_kn_f16  \
     : DTYPE_##NAME == DTYPE_BF16 ? matmul_kn_bf16 \
                                  : NULL)
#define WEIGHT_OPS(NAME, name, number, block, bytes) \
    [DTYPE_##NAME] = {ACT_F32, ref_dequantise_##NAME, matmul_##NAME, matmul_kn_of(NAME), NULL},
#define SCALED_OPS(NAME, name, number, block, bytes) \
    [DTYPE_##                                        \
        NAME] = {ACT_F32, DTYPE_##NAME == DTYPE_NVFP4 ? ref_dequantise_nvfp4 : NULL, NULL, NULL, ref_matmul_##NAME},

const kernel_table kernel_table_ref = {
    .name = "ref",
    .ops = {DTYPE_PLAIN_LIST(WEIGHT_OPS) DTYPE_SCALED_LIST(SCALED_OPS)},
    .quantise = {[ACT_F32] = ref_quantise_f32, [ACT_Q8] = ref_quantise_q8, [ACT_Q8K] = ref_quantise_q8k},
    .rms_norm = ref_rms_norm,
    .layer_norm = ref_layer_norm,
    .l2_norm = ref_l2_norm,
    .softmax = ref_softmax,
    .silu_mul = ref_silu_mul,
    .silu_mul_clamped = ref_silu_mul_clamped,
    .gelu_mul = ref_gelu_mul,
    .relu_squared = ref_relu_squared,
    .sigmoid_mul = ref_sigmoid_mul,
    .soft_cap = ref_soft_cap,
    .add_scaled = ref_add_scaled,
    .kv_store = ref_kv_store,
    .key_store = ref_key_store,
    .attend = ref_attend,
    .recurrent = ref_recurrent,
    .delta = ref_delta,
    .conv = ref_conv,
};
