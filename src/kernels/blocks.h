/* blocks.h - every quantised block as integers times a few scales: the one place that knows GGUF's layouts in plain C.
 *
 * All 22 types have the form   w[i] = d * scale[i / 16] * q[i] - m * min[i / 16]   with small integers scale, q, min
 * and float32 d, m. `ref` dequantises through it; the vector tables use it for the types that have no faster unpacking
 * of their own. */
#ifndef ODMOE_KERNELS_BLOCKS_H
#define ODMOE_KERNELS_BLOCKS_H

#include <stdint.h>

#include "base/dtype.h"

#define BLOCK_MAX 256 /* weights in the longest block */
#define SUB_BLOCK 16  /* weights that share a scale in the finest type */

typedef struct block_ints {
    float d, m;                           /* m is 0 for the types without a minimum */
    int8_t q[BLOCK_MAX];                  /* -128..127; types with blocks of 32 use the first 32 */
    int16_t scale[BLOCK_MAX / SUB_BLOCK]; /* -128..127 */
    int16_t min[BLOCK_MAX / SUB_BLOCK];   /* 0..63 */
} block_ints;

typedef void (*block_decoder)(const uint8_t *block, block_ints *out);

/* block_decoders - by type: decode one block of dtype_info(type)->block_bytes bytes at any address. NULL for F32, F16
 * and BF16. Scales and minimums are filled for the weights that the block has. */
extern const block_decoder block_decoders[DTYPE_COUNT];

/* The two lookup tables of 4-bit types (indexed by the nibble), also needed by the vector tables. */
extern const int8_t kernel_iq4_values[16];
extern const int8_t kernel_mxfp4_values[16];

/* block_e8m0_half - half of 2^(e - 127), MXFP4's block scale (its values are stored doubled). */
static inline float block_e8m0_half(uint8_t e)
{
    uint32_t u = e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

/* block_nvfp4_half_scale - half of a scale of GGUF's NVFP4: E4M3 without its sign; 0x7f is zero there. */
static inline float block_nvfp4_half_scale(uint8_t b)
{
    return b == 0x7f ? 0 : b == 0xff ? 240 : dtype_f8_to_f32(b & 0x7f) * 0.5f;
}

#endif
