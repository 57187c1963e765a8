/* dtype.h - the element types of tensors: block length and bytes per block, shared by readers and kernels.
 * Names and numbers are GGUF's (ggml_type); safetensors' F32, F16, BF16 map onto the same three.
 *
 * The types below DTYPE_SCALED_LIST are numbers of few bits times a scale of their block, as float weights are computed
 * with: NVFP4 has its scales in the blocks. For the others they are a second tensor (DTYPE_SPLIT_LIST), as publishers
 * write them in safetensors; how many weights share one of them is a tensor's own (scale_grid). Elements of four bits lie
 * two in a byte, the lower bits first. */
#ifndef ODMOE_BASE_DTYPE_H
#define ODMOE_BASE_DTYPE_H

#include <stdint.h>
#include <string.h>

#define DTYPE_NOT_IN_GGUF UINT32_MAX

/* X(NAME, name, number in a GGUF file, weights per block, bytes per block) */
#define DTYPE_PLAIN_LIST(X)            \
    X(F32, "f32", 0, 1, 4)             \
    X(F16, "f16", 1, 1, 2)             \
    X(Q4_0, "q4_0", 2, 32, 18)         \
    X(Q4_1, "q4_1", 3, 32, 20)         \
    X(Q5_0, "q5_0", 6, 32, 22)         \
    X(Q5_1, "q5_1", 7, 32, 24)         \
    X(Q8_0, "q8_0", 8, 32, 34)         \
    X(Q2_K, "q2_k", 10, 256, 84)       \
    X(Q3_K, "q3_k", 11, 256, 110)      \
    X(Q4_K, "q4_k", 12, 256, 144)      \
    X(Q5_K, "q5_k", 13, 256, 176)      \
    X(Q6_K, "q6_k", 14, 256, 210)      \
    X(IQ2_XXS, "iq2_xxs", 16, 256, 66) \
    X(IQ2_XS, "iq2_xs", 17, 256, 74)   \
    X(IQ3_XXS, "iq3_xxs", 18, 256, 98) \
    X(IQ1_S, "iq1_s", 19, 256, 50)     \
    X(IQ4_NL, "iq4_nl", 20, 32, 18)    \
    X(IQ3_S, "iq3_s", 21, 256, 110)    \
    X(IQ2_S, "iq2_s", 22, 256, 82)     \
    X(IQ4_XS, "iq4_xs", 23, 256, 136)  \
    X(IQ1_M, "iq1_m", 29, 256, 56)     \
    X(BF16, "bf16", 30, 1, 2)          \
    X(TQ1_0, "tq1_0", 34, 256, 54)     \
    X(TQ2_0, "tq2_0", 35, 256, 66)     \
    X(MXFP4, "mxfp4", 39, 32, 17)
#define DTYPE_SPLIT_LIST(X)                                  \
    X(F8_E4M3, "f8_e4m3", DTYPE_NOT_IN_GGUF, 1, 1)           \
    X(NVFP4_SPLIT, "nvfp4_split", DTYPE_NOT_IN_GGUF, 16, 8)  \
    X(MXFP4_SPLIT, "mxfp4_split", DTYPE_NOT_IN_GGUF, 32, 16) \
    X(INT4_SPLIT, "int4_split", DTYPE_NOT_IN_GGUF, 32, 16)
#define DTYPE_SCALED_LIST(X)      \
    X(NVFP4, "nvfp4", 40, 64, 36) \
    DTYPE_SPLIT_LIST(X)
#define DTYPE_LIST(X)   \
    DTYPE_PLAIN_LIST(X) \
    DTYPE_SCALED_LIST(X)

typedef enum dtype {
#define DTYPE_ENUM(NAME, name, number, block, bytes) DTYPE_##NAME,
    DTYPE_LIST(DTYPE_ENUM)
#undef DTYPE_ENUM
        DTYPE_COUNT
} dtype;

typedef struct dtype_traits {
    const char *name; /* "q4_k" */
    uint32_t gguf;    /* number in a GGUF file */
    uint32_t block;   /* weights per block */
    uint32_t block_bytes;
} dtype_traits;

/* dtype_info - the traits of a type; `t` must be below DTYPE_COUNT. */
const dtype_traits *dtype_info(dtype t);

/* The numbers of a tensor of scales. Those of F8_E4M3 and INT4_SPLIT are floats of any width, NVFP4_SPLIT's SCALE_F8,
 * MXFP4_SPLIT's SCALE_E8M0. */
typedef enum scale_type { SCALE_NONE, SCALE_F32, SCALE_BF16, SCALE_F16, SCALE_F8, SCALE_E8M0, SCALE_TYPES } scale_type;

/* Which weights of a matrix share a scale: blocks of 2^rows x 2^cols (a block at the end of a row or column may be
 * smaller). SCALE_ALL: no matrix has more rows or columns. All 0: there is no tensor of scales. */
#define SCALE_ALL 32
typedef struct scale_grid {
    uint8_t type; /* scale_type */
    uint8_t rows, cols;
} scale_grid;

/* scale_width - bytes of one scale. scale_count, scale_bytes - of the tensor of scales for a matrix; 0 where there is none. */
uint32_t scale_width(scale_grid g);
uint64_t scale_count(scale_grid g, uint64_t rows, uint64_t cols);
uint64_t scale_bytes(scale_grid g, uint64_t rows, uint64_t cols);

/* dtype_from_gguf, dtype_from_name - find by file number or by name (any case); 0 when unknown, else 1 and *out. */
int dtype_from_gguf(uint32_t number, dtype *out);
int dtype_from_name(const char *name, dtype *out);

/* dtype_bytes - bytes of `count` weights; count must be a multiple of the block length. */
static inline uint64_t dtype_bytes(dtype t, uint64_t count)
{
    return count / dtype_info(t)->block * dtype_info(t)->block_bytes;
}

/* Scalar conversions, exact where the target can hold the value; f32 to f16 and bf16 round to nearest even. */
static inline float dtype_bf16_to_f32(uint16_t h)
{
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}
static inline uint16_t dtype_f32_to_bf16(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    if ((u & 0x7fffffff) > 0x7f800000) /* NaN stays NaN */
        return (uint16_t)((u >> 16) | 0x40);
    return (uint16_t)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}
/* E4M3 without infinities: sign, 4 bits of exponent with bias 7, 3 bits of mantissa; 0x7f and 0xff are NaN. */
static inline float dtype_f8_to_f32(uint8_t b)
{
    uint32_t exponent = b >> 3 & 15, mantissa = b & 7, u;
    float f = (float)mantissa * 0x1p-9f; /* zero or subnormal */
    if (exponent) {
        u = (exponent + 120) << 23 | mantissa << 20;
        if ((b & 0x7f) == 0x7f)
            u = 0x7fc00000;
        memcpy(&f, &u, 4);
    }
    return b & 0x80 ? -f : f;
}
float dtype_f16_to_f32(uint16_t h);
uint16_t dtype_f32_to_f16(float f);

#endif
