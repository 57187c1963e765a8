/* table.h - the functions of each type, with the type as a constant, and the vector table; included last by the one .c
 * file of an instruction set, after what the set provides: fill_panel, quant_matmul and quant_dequantise, besides simd/. */
#ifndef ODMOE_KERNELS_SIMD_TABLE_H
#define ODMOE_KERNELS_SIMD_TABLE_H

#include "kernels/ref/ref.h"
#include "kernels/simd/attend.h"
#include "kernels/simd/delta.h"
#include "kernels/simd/gemm_float.h"
#include "kernels/simd/gemm_scaled.h"
#include "kernels/simd/recurrent.h"
#include "kernels/simd/elementwise.h"
#include "kernels/tables.h"

#define QUANT_FUNCTIONS(NAME, activation)                                                                          \
    static NOINLINE void fill_panel_##NAME(const uint8_t *weights, int64_t row_bytes, int64_t height, int64_t c,   \
                                           int width, uint32_t *out)                                               \
    {                                                                                                              \
        fill_panel(DTYPE_##NAME, weights, row_bytes, height, c, width, out);                                       \
    }                                                                                                              \
    static void matmul_##NAME(const void *weights, int64_t row_bytes, int64_t rows, int64_t cols, const void *act, \
                              int64_t act_row, int64_t n, float *y, int64_t ldy)                                   \
    {                                                                                                              \
        quant_matmul(DTYPE_##NAME, fill_panel_##NAME, weights, row_bytes, rows, cols, act, act_row, n, y, ldy);    \
    }                                                                                                              \
    static void dequantise_##NAME(const void *weights, float *out, int64_t n)                                      \
    {                                                                                                              \
        quant_dequantise(DTYPE_##NAME, ref_dequantise_##NAME, weights, out, n);                                    \
    }
#define FLOAT_FUNCTIONS(NAME)                                                                                        \
    static void matmul_##NAME(const void *weights, int64_t row_bytes, int64_t rows, int64_t cols, const void *act,   \
                              int64_t act_row, int64_t n, float *y, int64_t ldy)                                     \
    {                                                                                                                \
        float_matmul(DTYPE_##NAME, weights, row_bytes, rows, cols, act, act_row, n, y, ldy);                         \
    }                                                                                                                \
    static void dequantise_##NAME(const void *weights, float *out, int64_t n)                                        \
    {                                                                                                                \
        float_dequantise(DTYPE_##NAME, weights, out, n);                                                             \
    }                                                                                                                \
    static void matmul_kn_##NAME(const void *weights, int64_t row_bytes, int64_t rows, int64_t cols, const float *x, \
                                 int64_t ldx, int64_t n, float *y, int64_t ldy)                                      \
    {                                                                                                                \
        float_matmul_kn(DTYPE_##NAME, weights, row_bytes, rows, cols, x, ldx, n, y, ldy);                            \
    }
FLOAT_FUNCTIONS(F32)
FLOAT_FUNCTIONS(F16)
FLOAT_FUNCTIONS(BF16)
QUANTISED_TYPES(QUANT_FUNCTIONS)
#define SCALED_FUNCTIONS(NAME, name, number, block, bytes)                                                         \
    static void matmul_##NAME(const scaled_weights *w, int64_t first, int64_t rows, int64_t cols, const void *act, \
                              int64_t act_row, int64_t n, float *y, int64_t ldy)                                   \
    {                                                                                                              \
        scaled_matmul(DTYPE_##NAME, w, first, rows, cols, act, act_row, n, y, ldy);                                \
    }
DTYPE_SCALED_LIST(SCALED_FUNCTIONS)

#define FLOAT_OPS(NAME) [DTYPE_##NAME] = {ACT_F32, dequantise_##NAME, matmul_##NAME, matmul_kn_##NAME, NULL}
#define QUANT_OPS(NAME, activation) [DTYPE_##NAME] = {activation, dequantise_##NAME, matmul_##NAME, NULL, NULL},
#define SCALED_OPS(NAME, name, number, block, bytes) \
    [DTYPE_##NAME] = {ACT_F32, DTYPE_##NAME == DTYPE_NVFP4 ? ref_dequantise_nvfp4 : NULL, NULL, NULL, matmul_##NAME},

#define VECTOR_TABLE(table_name)                                                                                      \
    {                                                                                                                 \
        .name = table_name,                                                                                           \
        .ops = {FLOAT_OPS(F32), FLOAT_OPS(F16), FLOAT_OPS(BF16),                                                      \
                QUANTISED_TYPES(QUANT_OPS) DTYPE_SCALED_LIST(SCALED_OPS)},                                            \
        .quantise = {[ACT_F32] = quantise_f32, [ACT_Q8] = quantise_q8, [ACT_Q8K] = quantise_q8k},                     \
        .rms_norm = rms_norm, .layer_norm = layer_norm, .l2_norm = l2_norm, .softmax = softmax, .silu_mul = silu_mul, \
        .silu_mul_clamped = silu_mul_clamped, .gelu_mul = gelu_mul, .relu_squared = relu_squared,                     \
        .sigmoid_mul = sigmoid_mul, .soft_cap = soft_cap, .add_scaled = add_scaled, .kv_store = kv_store,             \
        .key_store = key_store, .attend = attend, .recurrent = recurrent, .delta = delta, .conv = conv                \
    }

#endif
