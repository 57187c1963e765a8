/* neon.c - the table "neon" for every 64-bit ARM. */
#include "kernels/arm/gemm_quant.h"
#include "kernels/simd/table.h"

const kernel_table kernel_table_neon = VECTOR_TABLE("neon");
