/* blocks_iq.h - decoders of the lattice types, and little-endian reads at any address; private to blocks*.c. */
#ifndef ODMOE_KERNELS_BLOCKS_IQ_H
#define ODMOE_KERNELS_BLOCKS_IQ_H

#include "kernels/blocks.h"

/* Every machine that odmoe runs on is little-endian, as GGUF is. */
static inline uint16_t block_u16(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, 2);
    return v;
}
static inline uint32_t block_u32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}
static inline uint64_t block_u64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}

void block_decode_iq1_s(const uint8_t *b, block_ints *out);
void block_decode_iq1_m(const uint8_t *b, block_ints *out);
void block_decode_iq2_xxs(const uint8_t *b, block_ints *out);
void block_decode_iq2_xs(const uint8_t *b, block_ints *out);
void block_decode_iq2_s(const uint8_t *b, block_ints *out);
void block_decode_iq3_xxs(const uint8_t *b, block_ints *out);
void block_decode_iq3_s(const uint8_t *b, block_ints *out);

#endif
