/* avx2.c - the table "avx2": AVX2, FMA and F16C. */
#include "kernels/x86/dot_i8_avx2.h"
#include "kernels/x86/gemm_quant.h"
#include "kernels/simd/table.h"

const kernel_table kernel_table_avx2 = VECTOR_TABLE("avx2");
