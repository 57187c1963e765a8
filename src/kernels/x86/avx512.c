/* avx512.c - the table "avx512": F, BW, VL, DQ and VNNI. */
#include "kernels/simd/attend.h"
#include "kernels/simd/vectors.h"
#include "kernels/simd/table.h"
#include "kernels/tables.h"
#include "kernels/x86/ints_avx512.h"
#include "kernels/x86/quants.h"

const kernel_table kernel_table_avx512 = VECTOR_TABLE("avx512");
