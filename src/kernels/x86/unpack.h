/* unpack.h - GGUF's blocks to bytes and small integers, on 32-byte registers; for AVX2 and AVX-512 alike. The layouts
 * are drawn in blocks.c and blocks_iq.c.
 *
 * Weights come as they suit an unsigned-times-signed byte product: unsigned with a fixed offset (`quant_kind.offset`),
 * or signed for the types that fill eight bits. Nothing outside the block is read. */
#ifndef ODMOE_KERNELS_X86_UNPACK_H
#define ODMOE_KERNELS_X86_UNPACK_H

#include "kernels/act.h"
#include "kernels/tables.h"
#include "kernels/x86/unpack_iq.h"

/* What there is to know of a type besides its layout; constant for a constant type. */
typedef struct quant_kind {
    int sub;        /* weights that share a scale: 16, 32; blocks of 32 have one scale anyway */
    int offset;     /* unpacked byte = weight + offset; 0 for signed bytes too */
    int largest;    /* unpacked byte at most this (signed: magnitude) */
    bool is_signed; /* bytes are int8; in a weight_pair magnitudes, with signs apart */
    bool has_min;   /* the type has a minimum */
    float d_factor; /* the stored scale times this is block_ints.d */
} quant_kind;

ALWAYS_INLINE quant_kind kind_of(dtype t)
{
    switch (t) {
    case DTYPE_Q4_0:
        return (quant_kind){32, 8, 15, false, false, 1};
    case DTYPE_Q4_1:
        return (quant_kind){32, 0, 15, false, true, 1};
    case DTYPE_Q5_0:
        return (quant_kind){32, 16, 31, false, false, 1};
    case DTYPE_Q5_1:
        return (quant_kind){32, 0, 31, false, true, 1};
    case DTYPE_MXFP4:
        return (quant_kind){32, 12, 24, false, false, 1};
    case DTYPE_Q2_K:
        return (quant_kind){16, 0, 3, false, true, 1};
    case DTYPE_Q3_K:
        return (quant_kind){16, 4, 7, false, false, 1};
    case DTYPE_Q4_K:
        return (quant_kind){32, 0, 15, false, true, 1};
    case DTYPE_Q5_K:
        return (quant_kind){32, 0, 31, false, true, 1};
    case DTYPE_Q6_K:
        return (quant_kind){16, 32, 63, false, false, 1};
    case DTYPE_TQ1_0:
    case DTYPE_TQ2_0:
        return (quant_kind){32, 1, 2, false, false, 1};
    case DTYPE_IQ1_S:
        return (quant_kind){32, 16, 25, false, false, 0.125f};
    case DTYPE_IQ1_M:
        return (quant_kind){16, 16, 25, false, false, 0.125f};
    case DTYPE_IQ2_XXS:
        return (quant_kind){32, 0, 43, true, false, 0.125f};
    case DTYPE_IQ2_XS:
    case DTYPE_IQ2_S:
        return (quant_kind){16, 0, 43, true, false, 0.125f};
    case DTYPE_IQ3_XXS:
        return (quant_kind){32, 0, 62, true, false, 0.25f};
    case DTYPE_IQ3_S:
        return (quant_kind){32, 0, 15, true, false, 1};
    default: /* Q8_0, IQ4_NL, IQ4_XS */
        return (quant_kind){32, 0, 128, true, false, 1};
    }
}

/* ---- blocks of 32 ---- */

ALWAYS_INLINE __m256i unpack_32(dtype t, const uint8_t *b)
{
    __m256i fifth = _mm256_set1_epi8(16);
    switch (t) {
    case DTYPE_Q4_0:
        return nibbles(b + 2);
    case DTYPE_Q4_1:
        return nibbles(b + 4);
    case DTYPE_Q5_0:
        return _mm256_or_si256(nibbles(b + 6), _mm256_and_si256(bits_to_bytes(block_u32(b + 2)), fifth));
    case DTYPE_Q5_1:
        return _mm256_or_si256(nibbles(b + 8), _mm256_and_si256(bits_to_bytes(block_u32(b + 4)), fifth));
    case DTYPE_IQ4_NL:
        return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(load16((const uint8_t *)kernel_iq4_values)),
                                   nibbles(b + 2));
    case DTYPE_MXFP4:
        return _mm256_add_epi8(
            _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(load16((const uint8_t *)kernel_mxfp4_values)),
                                nibbles(b + 1)),
            _mm256_set1_epi8(12));
    default: /* Q8_0 */
        return load32(b + 2);
    }
}

/* The half-precision numbers at p, p + stride, … eight of them, to float. */
ALWAYS_INLINE __m256 eight_halves(const uint8_t *const p[8], int at)
{
    __m128i v = _mm_cvtsi32_si128(block_u16(p[0] + at));
    v = _mm_insert_epi16(v, block_u16(p[1] + at), 1);
    v = _mm_insert_epi16(v, block_u16(p[2] + at), 2);
    v = _mm_insert_epi16(v, block_u16(p[3] + at), 3);
    v = _mm_insert_epi16(v, block_u16(p[4] + at), 4);
    v = _mm_insert_epi16(v, block_u16(p[5] + at), 5);
    v = _mm_insert_epi16(v, block_u16(p[6] + at), 6);
    v = _mm_insert_epi16(v, block_u16(p[7] + at), 7);
    return _mm256_cvtph_ps(v);
}

/* The scales d of eight blocks of 32, and their negated minimums. */
ALWAYS_INLINE __m256 eight_scales_32(dtype t, const uint8_t *const b[8])
{
    if (t != DTYPE_MXFP4)
        return eight_halves(b, 0);
    __m256i e = _mm256_setr_epi32(b[0][0], b[1][0], b[2][0], b[3][0], b[4][0], b[5][0], b[6][0], b[7][0]);
    __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
    __m256i subnormal = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), e); /* see block_e8m0_half */
    __m256i small = _mm256_cmpgt_epi32(_mm256_set1_epi32(2), e);
    return _mm256_castsi256_ps(_mm256_blendv_epi8(normal, subnormal, small));
}
ALWAYS_INLINE __m256 eight_added_32(const uint8_t *const b[8])
{
    return eight_halves(b, 2);
}

/* ---- blocks of 256 ---- */

/* Where a type keeps its d; IQ1_M's is spread, see block_d. */
ALWAYS_INLINE int d_at(dtype t)
{
    switch (t) {
    case DTYPE_Q2_K:
        return 80;
    case DTYPE_Q3_K:
        return 108;
    case DTYPE_Q6_K:
        return 208;
    case DTYPE_TQ1_0:
        return 52;
    case DTYPE_TQ2_0:
        return 64;
    default:
        return 0;
    }
}
ALWAYS_INLINE int m_at(dtype t)
{
    return d_at(t) + 2; /* Q2_K, Q4_K, Q5_K: behind d */
}

/* block_ints.d */
ALWAYS_INLINE float block_d(dtype t, const uint8_t *b)
{
    if (t == DTYPE_IQ1_M) {
        unsigned d = 0;
        for (int k = 0; k < 4; k++)
            d |= (unsigned)block_u16(b + 48 + 2 * k) >> 12 << (4 * k);
        return _cvtsh_ss((unsigned short)d) * kind_of(t).d_factor;
    }
    return _cvtsh_ss(block_u16(b + d_at(t))) * kind_of(t).d_factor;
}
ALWAYS_INLINE __m256 eight_scales_256(dtype t, const uint8_t *const b[8])
{
    if (t == DTYPE_IQ1_M)
        return _mm256_setr_ps(block_d(t, b[0]), block_d(t, b[1]), block_d(t, b[2]), block_d(t, b[3]), block_d(t, b[4]),
                              block_d(t, b[5]), block_d(t, b[6]), block_d(t, b[7]));
    return _mm256_mul_ps(eight_halves(b, d_at(t)), _mm256_set1_ps(kind_of(t).d_factor));
}

ALWAYS_INLINE void scales_q45_k(const uint8_t *b, unpacked *u)
{
    uint32_t s = block_u32(b + 4), m = block_u32(b + 8), h = block_u32(b + 12);
    uint64_t scale = (uint64_t)((h & 0x0f0f0f0f) | (s >> 2 & 0x30303030)) << 32 | (s & 0x3f3f3f3f);
    uint64_t min = (uint64_t)((h >> 4 & 0x0f0f0f0f) | (m >> 2 & 0x30303030)) << 32 | (m & 0x3f3f3f3f);
    u->scale = widen_8(scale);
    u->min = widen_8(min);
}

/* Sub-blocks 2 j and 2 j + 1 (of 32 weights) of the K types: weights that shift and mask give. The numbers of a pair
 * are all that a caller has to keep in registers. */
ALWAYS_INLINE void pair_q4_k(const uint8_t *b, int j, __m256i q[2])
{
    __m256i low = _mm256_set1_epi8(15), v = load32(b + 16 + 32 * j);
    q[0] = _mm256_and_si256(v, low);
    q[1] = _mm256_and_si256(_mm256_srli_epi16(v, 4), low);
}

ALWAYS_INLINE void pair_q5_k(const uint8_t *b, int j, __m256i q[2])
{
    __m256i low = _mm256_set1_epi8(15), fifth = _mm256_set1_epi8(16), h = load32(b + 16), v = load32(b + 48 + 32 * j);
    q[0] = _mm256_or_si256(_mm256_and_si256(v, low), _mm256_and_si256(shifted(h, 2 * j - 4), fifth));
    q[1] =
        _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(v, 4), low), _mm256_and_si256(shifted(h, 2 * j - 3), fifth));
}

ALWAYS_INLINE void pair_q6_k(const uint8_t *b, int j, __m256i q[2])
{
    __m256i low = _mm256_set1_epi8(15), high = _mm256_set1_epi8(0x30), h = load32(b + 128 + j / 2 * 32);
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        __m256i v = load32(b + j / 2 * 64 + i * 32);
        q[i] = _mm256_or_si256(_mm256_and_si256(shifted(v, j % 2 * 4), low),
                               _mm256_and_si256(shifted(h, j % 2 * 4 + 2 * i - 4), high));
    }
}

/* 64 bytes of two bits */
ALWAYS_INLINE void pair_two_bits(const uint8_t *b, int j, __m256i q[2])
{
    __m256i low = _mm256_set1_epi8(3), v = load32(b + j / 2 * 32);
    q[0] = _mm256_and_si256(shifted(v, j % 2 * 4), low);
    q[1] = _mm256_and_si256(shifted(v, j % 2 * 4 + 2), low);
}

ALWAYS_INLINE void pair_q3_k(const uint8_t *b, int j, __m256i q[2])
{
    __m256i third = _mm256_set1_epi8(4), h = load32(b);
    pair_two_bits(b + 32, j, q);
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++)
        q[i] = _mm256_or_si256(q[i], _mm256_and_si256(shifted(h, 2 * j + i - 2), third));
}

ALWAYS_INLINE void scales_q2_k(const uint8_t *b, unpacked *u)
{
    __m128i v = load16(b), low = _mm_set1_epi8(15);
    u->scale = widen_16(_mm_and_si128(v, low));
    u->min = widen_16(_mm_and_si128(_mm_srli_epi16(v, 4), low));
}

ALWAYS_INLINE void scales_q3_k(const uint8_t *b, unpacked *u)
{
    __m128i low = load8(b + 96), high = _mm_set1_epi32((int)block_u32(b + 104));
    low = _mm_and_si128(_mm_unpacklo_epi64(low, _mm_srli_epi16(low, 4)), _mm_set1_epi8(15));
    high = _mm_and_si128(_mm_srlv_epi32(high, _mm_setr_epi32(0, 2, 4, 6)), _mm_set1_epi8(3));
    __m128i scale = _mm_or_si128(low, _mm_slli_epi16(high, 4));
    u->scale = widen_16(_mm_sub_epi8(scale, _mm_set1_epi8(32)));
}

ALWAYS_INLINE __m256i scales_iq4_xs(const uint8_t *b)
{
    uint64_t scale = spread_nibbles(block_u32(b + 4)) | spread_pairs(block_u16(b + 2)) << 4;
    return _mm256_sub_epi16(widen_8(scale), _mm256_set1_epi16(32));
}
ALWAYS_INLINE void pair_iq4_xs(const uint8_t *b, int j, weight_pair *p)
{
    __m256i values = _mm256_broadcastsi128_si256(load16((const uint8_t *)kernel_iq4_values));
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        p->s[i] = _mm256_shuffle_epi8(values, nibbles(b + 8 + 32 * j + 16 * i));
        p->q[i] = _mm256_abs_epi8(p->s[i]);
    }
}

/* Can a type be unpacked pair by pair (unpack_pair)? */
ALWAYS_INLINE bool has_pairs(dtype t)
{
    return t != DTYPE_TQ1_0;
}

ALWAYS_INLINE void unpack_pair(dtype t, const uint8_t *b, int j, weight_pair *p)
{
    switch (t) {
    case DTYPE_Q2_K:
        pair_two_bits(b + 16, j, p->q);
        break;
    case DTYPE_Q3_K:
        pair_q3_k(b, j, p->q);
        break;
    case DTYPE_Q4_K:
        pair_q4_k(b, j, p->q);
        break;
    case DTYPE_Q5_K:
        pair_q5_k(b, j, p->q);
        break;
    case DTYPE_Q6_K:
        pair_q6_k(b, j, p->q);
        break;
    case DTYPE_TQ2_0:
        pair_two_bits(b, j, p->q);
        break;
    case DTYPE_IQ4_XS:
        pair_iq4_xs(b, j, p);
        break;
    default:
        pair_iq(t, b, j, p);
    }
}

/* The scales and minimums of types for which has_pairs is true. */
ALWAYS_INLINE void unpack_scales(dtype t, const uint8_t *b, unpacked *u)
{
    switch (t) {
    case DTYPE_Q2_K:
        scales_q2_k(b, u);
        break;
    case DTYPE_Q3_K:
        scales_q3_k(b, u);
        break;
    case DTYPE_Q4_K:
    case DTYPE_Q5_K:
        scales_q45_k(b, u);
        break;
    case DTYPE_Q6_K:
        u->scale = widen_16(load16(b + 192));
        break;
    case DTYPE_TQ2_0:
        u->scale = _mm256_set1_epi16(1);
        break;
    case DTYPE_IQ4_XS:
        u->scale = scales_iq4_xs(b);
        break;
    default:
        u->scale = scales_iq(t, b);
    }
}

/* Base-3 digits of 16 bytes, as bytes: three times what remains, its integer part. */
ALWAYS_INLINE __m128i next_digit(__m256i *rest)
{
    __m256i three = _mm256_mullo_epi16(*rest, _mm256_set1_epi16(3)), digit = _mm256_srli_epi16(three, 8);
    *rest = _mm256_and_si256(three, _mm256_set1_epi16(255));
    return _mm_packus_epi16(_mm256_castsi256_si128(digit), _mm256_extracti128_si256(digit, 1));
}

ALWAYS_INLINE void unpack_tq1_0(const uint8_t *b, unpacked *u)
{
    __m256i first = _mm256_cvtepu8_epi16(load16(b)), second = _mm256_cvtepu8_epi16(load16(b + 16));
    __m256i third = _mm256_cvtepu8_epi16(load16(b + 32));
    __m256i last = _mm256_cvtepu8_epi16(_mm_cvtsi32_si128((int)block_u32(b + 48)));
    __m128i digit[5], four[4];
    for (int k = 0; k < 5; k++) {
        __m128i low = next_digit(&first), high = next_digit(&second);
        u->q[k] = _mm256_set_m128i(high, low);
        digit[k] = next_digit(&third);
    }
    for (int k = 0; k < 4; k++)
        four[k] = next_digit(&last);
    u->q[5] = _mm256_set_m128i(digit[1], digit[0]);
    u->q[6] = _mm256_set_m128i(digit[3], digit[2]);
    u->q[7] = _mm256_set_m128i(
        _mm_unpacklo_epi64(_mm_unpacklo_epi32(four[0], four[1]), _mm_unpacklo_epi32(four[2], four[3])), digit[4]);
    u->scale = _mm256_set1_epi16(1);
}

ALWAYS_INLINE void unpack_256(dtype t, const uint8_t *b, unpacked *u)
{
    if (!has_pairs(t)) {
        unpack_tq1_0(b, u);
        return;
    }
    unpack_scales(t, b, u);
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        weight_pair p;
        unpack_pair(t, b, j, &p);
#pragma GCC unroll 2
        for (int i = 0; i < 2; i++)
            u->q[2 * j + i] = kind_of(t).is_signed ? _mm256_sign_epi8(p.q[i], p.s[i]) : p.q[i];
    }
}

/* The sums of sub-blocks' activations times `factor` (scales or minimums), in some lanes. */
ALWAYS_INLINE __m256i times_sums(quant_kind kind, __m256i factor, const act_q8k *a)
{
    if (kind.sub == 16)
        return _mm256_madd_epi16(factor, _mm256_loadu_si256((const __m256i *)a->sum16));
    return _mm256_zextsi128_si256(
        _mm_madd_epi16(_mm256_castsi256_si128(factor), _mm_loadu_si128((const __m128i *)a->sum32)));
}

#endif
