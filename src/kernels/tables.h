/* tables.h - the tables that this build has; kernels.c chooses among them. */
#ifndef ODMOE_KERNELS_TABLES_H
#define ODMOE_KERNELS_TABLES_H

#include "kernels/kernels.h"

/* X(NAME, activation) for the quantised types */
#define QUANTISED_TYPES(X) \
    X(Q4_0, ACT_Q8)        \
    X(Q4_1, ACT_Q8)        \
    X(Q5_0, ACT_Q8)        \
    X(Q5_1, ACT_Q8)        \
    X(Q8_0, ACT_Q8)        \
    X(IQ4_NL, ACT_Q8)      \
    X(MXFP4, ACT_Q8)       \
    X(Q2_K, ACT_Q8K)       \
    X(Q3_K, ACT_Q8K)       \
    X(Q4_K, ACT_Q8K)       \
    X(Q5_K, ACT_Q8K)       \
    X(Q6_K, ACT_Q8K)       \
    X(IQ2_XXS, ACT_Q8K)    \
    X(IQ2_XS, ACT_Q8K)     \
    X(IQ2_S, ACT_Q8K)      \
    X(IQ3_XXS, ACT_Q8K)    \
    X(IQ3_S, ACT_Q8K)      \
    X(IQ1_S, ACT_Q8K)      \
    X(IQ1_M, ACT_Q8K)      \
    X(IQ4_XS, ACT_Q8K)     \
    X(TQ1_0, ACT_Q8K)      \
    X(TQ2_0, ACT_Q8K)

/* kernel_ops.dequantise */
typedef void dequantise_function(const void *weights, float *out, int64_t n);

/* The length and bytes of a block as constants, for code that is compiled for one type. */
static const struct {
    uint16_t length, bytes;
} block_size[DTYPE_COUNT] = {
#define BLOCK_SIZE(NAME, name, number, block, bytes) [DTYPE_##NAME] = {block, bytes},
    DTYPE_LIST(BLOCK_SIZE)
#undef BLOCK_SIZE
};

extern const kernel_table kernel_table_ref;
extern const kernel_table kernel_table_avx2;     /* x86-64 builds */
extern const kernel_table kernel_table_avx512;   /* x86-64 builds */
extern const kernel_table kernel_table_neon;     /* 64-bit ARM builds */
extern const kernel_table kernel_table_neon_dot; /* 64-bit ARM builds */

#endif
