/* unpack_iq.h - the lattice types: magnitudes looked up, signs apart, so that a product can give them to the
 * activations; IQ1 plus 16 instead, in eighths. The layouts are drawn in blocks_iq.c. */
#ifndef ODMOE_KERNELS_X86_UNPACK_IQ_H
#define ODMOE_KERNELS_X86_UNPACK_IQ_H

#include "kernels/iq_tables.h"
#include "kernels/x86/unpack_bits.h"

ALWAYS_INLINE __m256i eight_each(const uint64_t *table, unsigned i0, unsigned i1, unsigned i2, unsigned i3)
{
    return _mm256_setr_epi64x((int64_t)table[i0], (int64_t)table[i1], (int64_t)table[i2], (int64_t)table[i3]);
}

/* four times seven signs, and the eighth of each, from bit 0 up */
ALWAYS_INLINE __m256i even_signs(uint32_t x)
{
    return eight_each(kernel_iq_signs, x & 127, x >> 7 & 127, x >> 14 & 127, x >> 21 & 127);
}
ALWAYS_INLINE __m256i signs_of_bits(uint32_t negative)
{
    return _mm256_or_si256(bits_to_bytes(negative), _mm256_set1_epi8(1));
}
/* 2 s + 1 in 16 bits, for eight s in 32 bits, in the lower half */
ALWAYS_INLINE __m256i odd_scales_32(__m256i s)
{
    __m128i v = _mm_packs_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
    return _mm256_castsi128_si256(_mm_add_epi16(_mm_add_epi16(v, v), _mm_set1_epi16(1)));
}
ALWAYS_INLINE __m256i odd_scales_16(__m256i s)
{
    return _mm256_add_epi16(_mm256_add_epi16(s, s), _mm256_set1_epi16(1));
}

ALWAYS_INLINE void part_iq2_xxs(const uint8_t *b, int j, __m256i *q, __m256i *s)
{
    const uint8_t *part = b + 2 + 8 * j;
    *q = eight_each(kernel_iq2xxs_grid, part[0], part[1], part[2], part[3]);
    *s = even_signs(block_u32(part + 4));
}
ALWAYS_INLINE __m256i scales_iq2_xxs(const uint8_t *b) /* the top four bits of eight times 64 */
{
    __m256i even_odd = _mm256_blend_epi32(_mm256_srli_epi64(load32(b + 2), 60),
                                          _mm256_slli_epi64(_mm256_srli_epi64(load32(b + 34), 60), 32), 0xaa);
    return odd_scales_32(_mm256_permutevar8x32_epi32(even_odd, _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7)));
}

ALWAYS_INLINE void part_iq2_xs(const uint8_t *b, int j, __m256i *q, __m256i *s)
{
    uint64_t w = block_u64(b + 2 + 8 * j); /* four times 9 and 7 bits */
    *q = eight_each(kernel_iq2xs_grid, w & 511, w >> 16 & 511, w >> 32 & 511, w >> 48 & 511);
    *s = eight_each(kernel_iq_signs, w >> 9 & 127, w >> 25 & 127, w >> 41 & 127, w >> 57);
}

ALWAYS_INLINE __m256i four_each(const uint32_t *table, unsigned i0, unsigned i1, unsigned i2, unsigned i3, unsigned i4,
                                unsigned i5, unsigned i6, unsigned i7)
{
    return _mm256_setr_epi32((int)table[i0], (int)table[i1], (int)table[i2], (int)table[i3], (int)table[i4],
                             (int)table[i5], (int)table[i6], (int)table[i7]);
}

ALWAYS_INLINE void part_iq3_xxs(const uint8_t *b, int j, __m256i *q, __m256i *s)
{
    const uint8_t *i = b + 2 + 8 * j;
    *q = four_each(kernel_iq3xxs_grid, i[0], i[1], i[2], i[3], i[4], i[5], i[6], i[7]);
    *s = even_signs(block_u32(b + 66 + 4 * j));
}

/* Indices that are put together from several fields come out of a vector through memory: the compiler would take them
 * out lane by lane, or have each field shifted and masked alone and run out of registers. */
typedef struct indices {
    uint16_t i[16];
} indices;

ALWAYS_INLINE indices eight_indices(__m128i low_bytes, __m128i high)
{
    indices x;
    _mm_storeu_si128((__m128i *)x.i, _mm_or_si128(_mm_cvtepu8_epi16(low_bytes), high));
    __asm__("" : "+m"(x));
    return x;
}
ALWAYS_INLINE void points_of(const uint64_t *grid, const indices *x, __m256i q[2])
{
    q[0] = eight_each(grid, x->i[0], x->i[1], x->i[2], x->i[3]);
    q[1] = eight_each(grid, x->i[4], x->i[5], x->i[6], x->i[7]);
}

ALWAYS_INLINE void pair_iq2_s(const uint8_t *b, int j, weight_pair *p)
{
    __m128i top = _mm_setr_epi16(1 << 14, 1 << 12, 1 << 10, 1 << 8, 1 << 6, 1 << 4, 1 << 2, 1);
    __m128i high = _mm_mullo_epi16(_mm_set1_epi16((short)block_u16(b + 66 + 2 * j)), top); /* eight times two bits */
    indices x = eight_indices(load8(b + 2 + 8 * j), _mm_and_si128(_mm_srli_epi16(high, 6), _mm_set1_epi16(0x300)));
    points_of(kernel_iq2s_grid, &x, p->q);
    for (int i = 0; i < 2; i++)
        p->s[i] = signs_of_bits(block_u32(b + 34 + 8 * j + 4 * i));
}

ALWAYS_INLINE void pair_iq3_s(const uint8_t *b, int j, weight_pair *p)
{
    __m256i bit = _mm256_setr_epi16(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, -32768);
    __m256i high = _mm256_and_si256(_mm256_set1_epi16((short)block_u16(b + 66 + 2 * j)), bit);
    high = _mm256_and_si256(_mm256_cmpeq_epi16(high, bit), _mm256_set1_epi16(256));
    indices x;
    _mm256_storeu_si256((__m256i *)x.i, _mm256_or_si256(_mm256_cvtepu8_epi16(load16(b + 2 + 16 * j)), high));
    __asm__("" : "+m"(x));
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        const uint16_t *at = x.i + 8 * i;
        p->q[i] = four_each(kernel_iq3s_grid, at[0], at[1], at[2], at[3], at[4], at[5], at[6], at[7]);
        p->s[i] = signs_of_bits(block_u32(b + 74 + 8 * j + 4 * i));
    }
}

/* Points of -1, 0, 1 to eighths, times eight, and 16. */
ALWAYS_INLINE __m256i eighths(__m256i points)
{
    return _mm256_add_epi8(_mm256_and_si256(_mm256_slli_epi16(points, 3), _mm256_set1_epi8((char)0xf8)),
                           _mm256_set1_epi8(16));
}

ALWAYS_INLINE void pair_iq1_s(const uint8_t *b, int j, weight_pair *p)
{
    __m128i each = _mm_shuffle_epi8(_mm_cvtsi32_si128((int)block_u32(b + 34 + 4 * j)), /* two of them, four times */
                                    _mm_setr_epi8(0, 1, 0, 1, 0, 1, 0, 1, 2, 3, 2, 3, 2, 3, 2, 3));
    __m128i high = _mm_mullo_epi16(each, _mm_setr_epi16(1 << 9, 1 << 6, 1 << 3, 1, 1 << 9, 1 << 6, 1 << 3, 1));
    indices x = eight_indices(load8(b + 2 + 8 * j), _mm_and_si128(_mm_srli_epi16(high, 1), _mm_set1_epi16(0x700)));
    points_of(kernel_iq1_grid, &x, p->q);
    /* an eighth down where bit 15 is set, or up */
    __m256i shift = _mm256_broadcastsi128_si256(_mm_or_si128(_mm_srai_epi16(each, 15), _mm_set1_epi16(1)));
    for (int i = 0; i < 2; i++)
        p->q[i] = _mm256_add_epi8(eighths(p->q[i]), _mm256_shuffle_epi8(shift, _mm256_set1_epi8((char)(8 * i))));
}

ALWAYS_INLINE void pair_iq1_m(const uint8_t *b, int j, weight_pair *p)
{
    __m128i v =
        _mm_cvtsi32_si128((int)block_u32(b + 32 + 4 * j)); /* eight nibbles: three bits, and one to shift down */
    v = _mm_cvtepu8_epi16(_mm_unpacklo_epi8(v, _mm_srli_epi16(v, 4)));
    indices x = eight_indices(load8(b + 8 * j), _mm_and_si128(_mm_slli_epi16(v, 8), _mm_set1_epi16(0x700)));
    points_of(kernel_iq1_grid, &x, p->q);
    __m128i down = _mm_srai_epi16(_mm_slli_epi16(v, 12), 15);
    __m256i shift = _mm256_broadcastsi128_si256(_mm_or_si128(down, _mm_set1_epi16(1)));
    for (int i = 0; i < 2; i++) {
        int64_t first = 0x0808080808080808 * i, next = first + 0x0202020202020202;
        __m256i lanes = _mm256_setr_epi64x(first, next, next + 0x0202020202020202, next + 0x0404040404040404);
        p->q[i] = _mm256_add_epi8(eighths(p->q[i]), _mm256_shuffle_epi8(shift, lanes));
    }
}
ALWAYS_INLINE __m256i scales_iq1_m(const uint8_t *b) /* 4 x 16 bits, of each the lower four times three */
{
    __m128i w = load8(b + 48);
    w = _mm_unpacklo_epi16(w, w);
    __m256i each = _mm256_set_m128i(_mm_unpackhi_epi32(w, w), _mm_unpacklo_epi32(w, w));
    __m256i top = _mm256_setr_epi16(1 << 13, 1 << 10, 1 << 7, 1 << 4, 1 << 13, 1 << 10, 1 << 7, 1 << 4, 1 << 13,
                                    1 << 10, 1 << 7, 1 << 4, 1 << 13, 1 << 10, 1 << 7, 1 << 4);
    return odd_scales_16(_mm256_srli_epi16(_mm256_mullo_epi16(each, top), 13));
}

ALWAYS_INLINE void pair_iq(dtype t, const uint8_t *b, int j, weight_pair *p)
{
    switch (t) {
    case DTYPE_IQ2_S:
        pair_iq2_s(b, j, p);
        return;
    case DTYPE_IQ3_S:
        pair_iq3_s(b, j, p);
        return;
    case DTYPE_IQ1_S:
        pair_iq1_s(b, j, p);
        return;
    case DTYPE_IQ1_M:
        pair_iq1_m(b, j, p);
        return;
    default:
        break;
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++)
        if (t == DTYPE_IQ2_XXS)
            part_iq2_xxs(b, 2 * j + i, p->q + i, p->s + i);
        else if (t == DTYPE_IQ2_XS)
            part_iq2_xs(b, 2 * j + i, p->q + i, p->s + i);
        else
            part_iq3_xxs(b, 2 * j + i, p->q + i, p->s + i);
}

ALWAYS_INLINE __m256i scales_iq(dtype t, const uint8_t *b)
{
    switch (t) {
    case DTYPE_IQ2_XXS:
        return scales_iq2_xxs(b);
    case DTYPE_IQ2_XS:
        return odd_scales_16(nibbles_16(b + 66));
    case DTYPE_IQ2_S:
        return odd_scales_16(nibbles_16(b + 74));
    case DTYPE_IQ3_XXS:
        return odd_scales_32(_mm256_srli_epi32(load32(b + 66), 28));
    case DTYPE_IQ3_S:
        return odd_scales_16(widen_8(spread_nibbles(block_u32(b + 106))));
    case DTYPE_IQ1_S:
        return odd_scales_16(
            _mm256_castsi128_si256(_mm_and_si128(_mm_srli_epi16(load16(b + 34), 12), _mm_set1_epi16(7))));
    default: /* IQ1_M */
        return scales_iq1_m(b);
    }
}

#endif
