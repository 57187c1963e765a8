/* blocks.c - the plain types (Q4_0 to Q8_0), the K types, the ternary and the 4-bit table types, and the list of all.
 * The IQ1, IQ2 and IQ3 types, which index lattices, are in blocks_iq.c. */
#include "kernels/blocks.h"
#include "kernels/blocks_iq.h"

const int8_t kernel_iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
const int8_t kernel_mxfp4_values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

static float half_at(const uint8_t *p)
{
    return dtype_f16_to_f32(block_u16(p));
}

/* The 8 six-bit scales and 8 six-bit minimums that Q4_K and Q5_K pack into 12 bytes: the low six bits
 * of bytes 0-3 (scales) and 4-7 (minimums) are entries 0-3; bytes 8-11 hold the low nibbles of entries 4-7 (scale low,
 * minimum high), whose top two bits are the top two bits of bytes 0-3 and 4-7. */
static void k_scales(const uint8_t packed[12], uint8_t scale[8], uint8_t min[8])
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

/* Q3_K's 16 six-bit scales less 32: low nibbles in bytes 0-7 (entries 0-7 low, 8-15 high), top two
 * bits in bytes 8-11 (entry i in byte 8 + i % 4 at bit i / 4 * 2). */
static void q3k_scales(const uint8_t packed[12], int8_t scale[16])
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

/* Blocks of 32 have one scale, and in some types a number that is added: its negation is the minimum. */
static void plain_scale(block_ints *out, float d, float m)
{
    out->d = d;
    out->m = m;
    out->scale[0] = out->scale[1] = 1;
    out->min[0] = out->min[1] = 1;
}

/* 16 bytes: the low nibbles are weights 0-15, the high nibbles 16-31; bit i of `high` is weight i's fifth bit. */
static void nibbles_32(const uint8_t *qs, uint32_t high, int offset, int8_t *q)
{
    for (int i = 0; i < 16; i++) {
        q[i] = (int8_t)(((qs[i] & 15) | (high >> i & 1) << 4) - offset);
        q[i + 16] = (int8_t)(((qs[i] >> 4) | (high >> (i + 16) & 1) << 4) - offset);
    }
}

/* d | 16 bytes of nibbles */
static void decode_q4_0(const uint8_t *b, block_ints *out)
{
    plain_scale(out, half_at(b), 0);
    nibbles_32(b + 2, 0, 8, out->q);
}

/* d | m | 16 bytes of nibbles */
static void decode_q4_1(const uint8_t *b, block_ints *out)
{
    plain_scale(out, half_at(b), -half_at(b + 2));
    nibbles_32(b + 4, 0, 0, out->q);
}

/* d | 32 fifth bits | 16 bytes of nibbles */
static void decode_q5_0(const uint8_t *b, block_ints *out)
{
    plain_scale(out, half_at(b), 0);
    nibbles_32(b + 6, block_u32(b + 2), 16, out->q);
}

/* d | m | 32 fifth bits | 16 bytes of nibbles */
static void decode_q5_1(const uint8_t *b, block_ints *out)
{
    plain_scale(out, half_at(b), -half_at(b + 2));
    nibbles_32(b + 8, block_u32(b + 4), 0, out->q);
}

/* d | 32 int8 */
static void decode_q8_0(const uint8_t *b, block_ints *out)
{
    plain_scale(out, half_at(b), 0);
    memcpy(out->q, b + 2, 32);
}

static void table_32(const uint8_t *qs, const int8_t values[16], int8_t *q)
{
    for (int i = 0; i < 16; i++) {
        q[i] = values[qs[i] & 15];
        q[i + 16] = values[qs[i] >> 4];
    }
}

/* d | 16 bytes of nibbles that index a table */
static void decode_iq4_nl(const uint8_t *b, block_ints *out)
{
    plain_scale(out, half_at(b), 0);
    table_32(b + 2, kernel_iq4_values, out->q);
}

/* exponent byte | 16 bytes of nibbles that index a table */
static void decode_mxfp4(const uint8_t *b, block_ints *out)
{
    plain_scale(out, block_e8m0_half(b[0]), 0);
    table_32(b + 1, kernel_mxfp4_values, out->q);
}

/* 64 bytes hold 256 weights of two bits: bytes 0-31 are weights 0-31 in their lowest bits, 32-63 in the next … 127;
 * bytes 32-63 likewise weights 128-255. */
static void two_bits_256(const uint8_t *qs, int offset, int8_t *q)
{
    for (int k = 0; k < 8; k++)
        for (int i = 0; i < 32; i++)
            q[32 * k + i] = (int8_t)((qs[k / 4 * 32 + i] >> (k % 4 * 2) & 3) - offset);
}

static void no_minimums(block_ints *out)
{
    out->m = 0;
    memset(out->min, 0, sizeof out->min);
}

/* 16 x (scale, minimum nibbles) | 64 bytes of two bits | d | m */
static void decode_q2_k(const uint8_t *b, block_ints *out)
{
    for (int j = 0; j < 16; j++) {
        out->scale[j] = b[j] & 15;
        out->min[j] = b[j] >> 4;
    }
    two_bits_256(b + 16, 0, out->q);
    out->d = half_at(b + 80);
    out->m = half_at(b + 82);
}

/* 32 bytes of third bits | 64 bytes of two bits | 12 bytes of scales | d; the value is 4 less where the bit is 0 */
static void decode_q3_k(const uint8_t *b, block_ints *out)
{
    two_bits_256(b + 32, 4, out->q);
    for (int k = 0; k < 8; k++)
        for (int i = 0; i < 32; i++)
            out->q[32 * k + i] = (int8_t)(out->q[32 * k + i] + (b[i] >> k & 1) * 4);
    int8_t scale[16];
    q3k_scales(b + 96, scale);
    for (int j = 0; j < 16; j++)
        out->scale[j] = scale[j];
    out->d = half_at(b + 108);
    no_minimums(out);
}

/* d | m | 12 bytes of scales and minimums, one of each for 32 weights */
static void k_header(const uint8_t *b, block_ints *out)
{
    uint8_t scale[8], min[8];
    k_scales(b + 4, scale, min);
    for (int j = 0; j < 16; j++) {
        out->scale[j] = scale[j / 2];
        out->min[j] = min[j / 2];
    }
    out->d = half_at(b);
    out->m = half_at(b + 2);
}

/* header of 16 bytes | 128 bytes: 4 x 32, low nibbles 32 weights, high nibbles the next 32 */
static void decode_q4_k(const uint8_t *b, block_ints *out)
{
    k_header(b, out);
    for (int k = 0; k < 8; k++)
        for (int i = 0; i < 32; i++)
            out->q[32 * k + i] = (int8_t)(b[16 + k / 2 * 32 + i] >> (k % 2 * 4) & 15);
}

/* header of 16 bytes | 32 bytes: bit k of byte i is the fifth bit of weight 32 k + i | nibbles as Q4_K */
static void decode_q5_k(const uint8_t *b, block_ints *out)
{
    k_header(b, out);
    for (int k = 0; k < 8; k++)
        for (int i = 0; i < 32; i++)
            out->q[32 * k + i] = (int8_t)((b[48 + k / 2 * 32 + i] >> (k % 2 * 4) & 15) | (b[16 + i] >> k & 1) << 4);
}

/* 128 bytes of low nibbles | 64 bytes of two high bits | 16 int8 scales | d. In each half of 128 weights: 64 bytes,
 * low nibbles weights 0-63, high nibbles 64-127; 32 bytes, two bits for weights i, i + 32, i + 64, i + 96. */
static void decode_q6_k(const uint8_t *b, block_ints *out)
{
    for (int k = 0; k < 8; k++) {
        const uint8_t *low = b + k / 4 * 64 + k % 2 * 32, *high = b + 128 + k / 4 * 32;
        for (int i = 0; i < 32; i++)
            out->q[32 * k + i] = (int8_t)(((low[i] >> (k / 2 % 2 * 4) & 15) | (high[i] >> (k % 4 * 2) & 3) << 4) - 32);
    }
    for (int j = 0; j < 16; j++)
        out->scale[j] = (int8_t)b[192 + j];
    out->d = half_at(b + 208);
    no_minimums(out);
}

/* d | 8 x two high bits of the scale | 8 low nibbles of it | 128 bytes: 8 x 16, nibbles that index a table */
static void decode_iq4_xs(const uint8_t *b, block_ints *out)
{
    uint16_t high = block_u16(b + 2);
    for (int j = 0; j < 8; j++) {
        int scale = (b[4 + j / 2] >> (j % 2 * 4) & 15) | (high >> (2 * j) & 3) << 4;
        out->scale[2 * j] = out->scale[2 * j + 1] = (int16_t)(scale - 32);
        table_32(b + 8 + 16 * j, kernel_iq4_values, out->q + 32 * j);
    }
    out->d = half_at(b);
    no_minimums(out);
}

static void ternary_scale(block_ints *out, float d)
{
    out->d = d;
    no_minimums(out);
    for (int j = 0; j < 16; j++)
        out->scale[j] = 1;
}

/* 48 bytes of five base-3 digits | 4 bytes of four | d. A byte is the digits' fraction of 3^5 in 256ths, rounded up;
 * multiplied by 3^k (modulo 256) its k-th digit is the integer part of three times what remains. */
static void ternary_digits(const uint8_t *bytes, int count, int digits, int8_t *q)
{
    for (int k = 0, power = 1; k < digits; k++, power *= 3)
        for (int i = 0; i < count; i++)
            *q++ = (int8_t)(((uint8_t)(bytes[i] * power) * 3 >> 8) - 1);
}

static void decode_tq1_0(const uint8_t *b, block_ints *out)
{
    ternary_digits(b, 32, 5, out->q);
    ternary_digits(b + 32, 16, 5, out->q + 160);
    ternary_digits(b + 48, 4, 4, out->q + 240);
    ternary_scale(out, half_at(b + 52));
}

/* 64 bytes of two bits | d */
static void decode_tq2_0(const uint8_t *b, block_ints *out)
{
    two_bits_256(b, 1, out->q);
    ternary_scale(out, half_at(b + 64));
}

const block_decoder block_decoders[DTYPE_COUNT] = {
    [DTYPE_Q4_0] = decode_q4_0,
    [DTYPE_Q4_1] = decode_q4_1,
    [DTYPE_Q5_0] = decode_q5_0,
    [DTYPE_Q5_1] = decode_q5_1,
    [DTYPE_Q8_0] = decode_q8_0,
    [DTYPE_Q2_K] = decode_q2_k,
    [DTYPE_Q3_K] = decode_q3_k,
    [DTYPE_Q4_K] = decode_q4_k,
    [DTYPE_Q5_K] = decode_q5_k,
    [DTYPE_Q6_K] = decode_q6_k,
    [DTYPE_IQ2_XXS] = block_decode_iq2_xxs,
    [DTYPE_IQ2_XS] = block_decode_iq2_xs,
    [DTYPE_IQ3_XXS] = block_decode_iq3_xxs,
    [DTYPE_IQ1_S] = block_decode_iq1_s,
    [DTYPE_IQ4_NL] = decode_iq4_nl,
    [DTYPE_IQ3_S] = block_decode_iq3_s,
    [DTYPE_IQ2_S] = block_decode_iq2_s,
    [DTYPE_IQ4_XS] = decode_iq4_xs,
    [DTYPE_IQ1_M] = block_decode_iq1_m,
    [DTYPE_TQ1_0] = decode_tq1_0,
    [DTYPE_TQ2_0] = decode_tq2_0,
    [DTYPE_MXFP4] = decode_mxfp4,
};
