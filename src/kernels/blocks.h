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

/* block_k_scales - the 8 six-bit scales and 8 six-bit minimums that Q4_K and Q5_K pack into 12 bytes: the low six bits
 * of bytes 0-3 (scales) and 4-7 (minimums) are entries 0-3; bytes 8-11 hold the low nibbles of entries 4-7 (scale low,
 * minimum high), whose top two bits are the top two bits of bytes 0-3 and 4-7. */
static inline void block_k_scales(const uint8_t packed[12], uint8_t scale[8], uint8_t min[8])
{
    uint32_t s, m, h;
    memcpy(&s, packed, 4);
    memcpy(&m, packed + 4, 4);
    memcpy(&h, packed + 8, 4);
    uint32_t parts[4] = {s & 0x3f3f3f3f, (h & 0x0f0f0f0f) | (s >> 2 & 0x30303030), m & 0x3f3f3f3f,
                         (h >> 4 & 0x0f0f0f0f) | (m >> 2 & 0x30303030)};
    memcpy(scale, parts, 8);
    memcpy(min, parts + 2, 8);
}

/* block_q3k_scales - Q3_K's 16 six-bit scales less 32: low nibbles in bytes 0-7 (entries 0-7 low, 8-15 high), top two
 * bits in bytes 8-11 (entry i in byte 8 + i % 4 at bit i / 4 * 2). */
static inline void block_q3k_scales(const uint8_t packed[12], int8_t scale[16])
{
    uint32_t w[3];
    memcpy(w, packed, 12);
    uint32_t parts[4] = {(w[0] & 0x0f0f0f0f) | (w[2] << 4 & 0x30303030), (w[1] & 0x0f0f0f0f) | (w[2] << 2 & 0x30303030),
                         (w[0] >> 4 & 0x0f0f0f0f) | (w[2] & 0x30303030),
                         (w[1] >> 4 & 0x0f0f0f0f) | (w[2] >> 2 & 0x30303030)};
    memcpy(scale, parts, 16);
    for (int i = 0; i < 16; i++)
        scale[i] -= 32;
}

#endif
