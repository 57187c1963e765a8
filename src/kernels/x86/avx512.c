/* avx512.c - the table "avx512": F, BW, VL, DQ and VNNI. */
#include "kernels/x86/dot_i8_avx512.h"
#include "kernels/x86/gemm_quant.h"
#include "kernels/simd/table.h"

const kernel_table kernel_table_avx512 = VECTOR_TABLE("avx512");
