/* neon_dot.c - the table "neon-dot" for processors with dot product instructions (ARMv8.2); the flags make the
 * difference. */
#include "kernels/arm/gemm_quant.h"
#include "kernels/simd/table.h"

const kernel_table kernel_table_neon_dot = VECTOR_TABLE("neon-dot");
