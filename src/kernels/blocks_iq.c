/* blocks_iq.c - the types whose weights are points of a lattice: an index per 8 (IQ1, IQ2) or 4 (IQ3) weights, and
 * signs apart. Their fractional scales, such as d * (0.5 + s) / 4, are written here as d / 8 times the integer 2 s + 1,
 * which is the same number exactly. */
#include "kernels/blocks_iq.h"
#include "kernels/iq_tables.h"

static void start(block_ints *out, float d)
{
    out->d = d;
    out->m = 0;
    memset(out->min, 0, sizeof out->min);
}

static float half_at(const uint8_t *p)
{
    return dtype_f16_to_f32(block_u16(p));
}

/* Sub-blocks of 32 share a scale. */
static void scale_32(block_ints *out, int j, int scale)
{
    out->scale[2 * j] = out->scale[2 * j + 1] = (int16_t)scale;
}

/* 8 magnitudes in the bytes of `point`, negative where a bit of `signs` is set */
static void signed_8(uint64_t point, unsigned signs, int8_t *q)
{
    for (int i = 0; i < 8; i++) {
        int v = (int)(point >> (8 * i) & 255);
        q[i] = (int8_t)(signs >> i & 1 ? -v : v);
    }
}

/* Seven stored signs; the eighth makes their number even. */
static unsigned even_signs(uint32_t seven)
{
    seven &= 127;
    return seven | (unsigned)__builtin_parity(seven) << 7;
}

/* d | 8 x (4 indices of 8 bits | 4 x 7 signs, 4 bits of scale) */
void block_decode_iq2_xxs(const uint8_t *b, block_ints *out)
{
    start(out, half_at(b) * 0.125f);
    for (int j = 0; j < 8; j++) {
        const uint8_t *part = b + 2 + 8 * j;
        uint32_t signs = block_u32(part + 4);
        scale_32(out, j, (int)(2 * (signs >> 28) + 1));
        for (int g = 0; g < 4; g++)
            signed_8(kernel_iq2xxs_grid[part[g]], even_signs(signs >> (7 * g)), out->q + 32 * j + 8 * g);
    }
}

/* d | 32 x (9 bits of index, 7 signs) | 16 scales of 4 bits */
void block_decode_iq2_xs(const uint8_t *b, block_ints *out)
{
    start(out, half_at(b) * 0.125f);
    for (int g = 0; g < 32; g++) {
        unsigned w = block_u16(b + 2 + 2 * g);
        signed_8(kernel_iq2xs_grid[w & 511], even_signs(w >> 9), out->q + 8 * g);
    }
    for (int j = 0; j < 16; j++)
        out->scale[j] = (int16_t)(2 * (b[66 + j / 2] >> (j % 2 * 4) & 15) + 1);
}

/* d | 32 low bytes of indices | 32 bytes of signs | 8 bytes: two high bits of indices | 16 scales of 4 bits */
void block_decode_iq2_s(const uint8_t *b, block_ints *out)
{
    start(out, half_at(b) * 0.125f);
    for (int g = 0; g < 32; g++) {
        unsigned index = b[2 + g] | (b[66 + g / 4] >> (g % 4 * 2) & 3u) << 8;
        signed_8(kernel_iq2s_grid[index], b[34 + g], out->q + 8 * g);
    }
    for (int j = 0; j < 16; j++)
        out->scale[j] = (int16_t)(2 * (b[74 + j / 2] >> (j % 2 * 4) & 15) + 1);
}

/* d | 64 indices of 8 bits | 8 x (4 x 7 signs, 4 bits of scale) */
void block_decode_iq3_xxs(const uint8_t *b, block_ints *out)
{
    start(out, half_at(b) * 0.25f);
    for (int j = 0; j < 8; j++) {
        uint32_t signs = block_u32(b + 66 + 4 * j);
        scale_32(out, j, (int)(2 * (signs >> 28) + 1));
        for (int g = 0; g < 4; g++) {
            const uint8_t *index = b + 2 + 8 * j + 2 * g;
            uint64_t point = kernel_iq3xxs_grid[index[0]] | (uint64_t)kernel_iq3xxs_grid[index[1]] << 32;
            signed_8(point, even_signs(signs >> (7 * g)), out->q + 32 * j + 8 * g);
        }
    }
}

/* d | 64 low bytes of indices | 8 bytes: their ninth bits | 32 bytes of signs | 8 scales of 4 bits */
void block_decode_iq3_s(const uint8_t *b, block_ints *out)
{
    start(out, half_at(b));
    for (int g = 0; g < 32; g++) {
        unsigned high = b[66 + g / 4] >> (g % 4 * 2);
        unsigned first = b[2 + 2 * g] | (high & 1) << 8, second = b[3 + 2 * g] | (high & 2) << 7;
        uint64_t point = kernel_iq3s_grid[first] | (uint64_t)kernel_iq3s_grid[second] << 32;
        signed_8(point, b[74 + g], out->q + 8 * g);
    }
    for (int j = 0; j < 8; j++)
        scale_32(out, j, 2 * (b[106 + j / 2] >> (j % 2 * 4) & 15) + 1);
}

/* IQ1: a point of -1, 0, 1 plus or minus 1/8; in eighths. */
static void shifted_8(unsigned index, int negative, int8_t *q)
{
    uint64_t point = kernel_iq1_grid[index];
    for (int i = 0; i < 8; i++)
        q[i] = (int8_t)((int8_t)(point >> (8 * i) & 255) * 8 + (negative ? -1 : 1));
}

/* d | 32 low bytes of indices | 8 x (4 x 3 high bits, 3 bits of scale, sign of the shift) */
void block_decode_iq1_s(const uint8_t *b, block_ints *out)
{
    start(out, half_at(b) * 0.125f);
    for (int j = 0; j < 8; j++) {
        unsigned high = block_u16(b + 34 + 2 * j);
        scale_32(out, j, (int)(2 * (high >> 12 & 7) + 1));
        for (int g = 0; g < 4; g++)
            shifted_8(b[2 + 4 * j + g] | (high >> (3 * g) & 7) << 8, high >> 15, out->q + 32 * j + 8 * g);
    }
}

/* 32 low bytes of indices | 32 nibbles (3 high bits, sign of the shift) | 4 x 16 bits (4 scales of 3 bits, and in the
 * top nibbles the parts of the half-precision d, lowest first) */
void block_decode_iq1_m(const uint8_t *b, block_ints *out)
{
    unsigned d = 0;
    for (int k = 0; k < 4; k++) {
        unsigned w = block_u16(b + 48 + 2 * k);
        d |= w >> 12 << (4 * k);
        for (int j = 0; j < 4; j++)
            out->scale[4 * k + j] = (int16_t)(2 * (w >> (3 * j) & 7) + 1);
    }
    start(out, dtype_f16_to_f32((uint16_t)d) * 0.125f);
    for (int g = 0; g < 32; g++) {
        unsigned nibble = b[32 + g / 2] >> (g % 2 * 4);
        shifted_8(b[g] | (nibble & 7) << 8, nibble & 8, out->q + 8 * g);
    }
}
