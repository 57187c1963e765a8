/* table.h - the functions of each type, with the type as a constant, and the vector table; included last by the one .c
 * file of an instruction set, after what it provides: quant_dot and quant_matrix, besides simd/. */
#ifndef ODMOE_KERNELS_SIMD_TABLE_H
#define ODMOE_KERNELS_SIMD_TABLE_H

#include "kernels/ref/ref.h"
#include "kernels/simd/attend.h"
#include "kernels/simd/floats.h"
#include "kernels/simd/vectors.h"
#include "kernels/tables.h"

#define DOT_AND_MATRIX(NAME, DOT, MATRIX)                                                                          \
    static float dot_##NAME(const void *row, const void *act, int64_t cols)                                        \
    {                                                                                                              \
        return DOT(DTYPE_##NAME, row, act, cols);                                                                  \
    }                                                                                                              \
    static void matrix_##NAME(const void *weights, int64_t row_bytes, int64_t rows, int64_t cols, const void *act, \
                              int64_t act_row, int64_t n, float *y, int64_t ldy)                                   \
    {                                                                                                              \
        MATRIX(DTYPE_##NAME, weights, row_bytes, rows, cols, act, act_row, n, y, ldy);                             \
    }
#define QUANT_FUNCTIONS(NAME, activation) DOT_AND_MATRIX(NAME, quant_dot, quant_matrix)
#define FLOAT_FUNCTIONS(NAME)                                                                                     \
    DOT_AND_MATRIX(NAME, float_dot, float_matrix)                                                                 \
    static void dequantise_##NAME(const void *weights, float *out, int64_t n)                                     \
    {                                                                                                             \
        float_dequantise(DTYPE_##NAME, weights, out, n);                                                          \
    }                                                                                                             \
    static void in_out_##NAME(const void *weights, int64_t row_bytes, int64_t rows, int64_t cols, const float *x, \
                              int64_t ldx, int64_t n, float *y, int64_t ldy)                                      \
    {                                                                                                             \
        float_matrix_in_out(DTYPE_##NAME, weights, row_bytes, rows, cols, x, ldx, n, y, ldy);                     \
    }
FLOAT_FUNCTIONS(F32)
FLOAT_FUNCTIONS(F16)
FLOAT_FUNCTIONS(BF16)
QUANTISED_TYPES(QUANT_FUNCTIONS)

#define FLOAT_OPS(NAME) [DTYPE_##NAME] = {ACT_F32, dequantise_##NAME, dot_##NAME, matrix_##NAME, in_out_##NAME}
#define QUANT_OPS(NAME, activation) \
    [DTYPE_##NAME] = {activation, ref_dequantise_##NAME, dot_##NAME, matrix_##NAME, NULL},

#define VECTOR_TABLE(table_name)                                                                                  \
    {                                                                                                             \
        .name = table_name, .ops = {FLOAT_OPS(F32), FLOAT_OPS(F16), FLOAT_OPS(BF16), QUANTISED_TYPES(QUANT_OPS)}, \
        .quantise = {[ACT_F32] = quantise_f32, [ACT_Q8] = quantise_q8, [ACT_Q8K] = quantise_q8k},                 \
        .rms_norm = rms_norm, .softmax = softmax, .silu_mul = silu_mul, .silu_mul_clamped = silu_mul_clamped,     \
        .gelu_mul = gelu_mul, .relu_squared = relu_squared, .add_scaled = add_scaled, .kv_store = kv_store,       \
        .key_store = key_store, .attend = attend                                                                  \
    }

#endif
