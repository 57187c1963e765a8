/* dtype.h - the element types of tensors: block length and bytes per block, shared by readers and kernels.
 * Names and numbers are GGUF's (ggml_type); safetensors' F32, F16, BF16 map onto the same three. */
#ifndef ODMOE_BASE_DTYPE_H
#define ODMOE_BASE_DTYPE_H

#include <stdint.h>
#include <string.h>

/* X(NAME, name, number in a GGUF file, weights per block, bytes per block) */
#define DTYPE_LIST(X)                  \
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
float dtype_f16_to_f32(uint16_t h);
uint16_t dtype_f32_to_f16(float f);

#endif
