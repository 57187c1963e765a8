/* unpack_bits.h - what unpacking is made of, on 32-byte registers: loads, bits to bytes, bytes to int16. */
#ifndef ODMOE_KERNELS_X86_UNPACK_BITS_H
#define ODMOE_KERNELS_X86_UNPACK_BITS_H

#include <immintrin.h>

#include "kernels/blocks_iq.h"
#include "kernels/simd/f32x16.h"

/* A block of 256. */
typedef struct unpacked {
    __m256i q[8];  /* bytes, 32 weights each */
    __m256i scale; /* int16: 16 of them, or (sub == 32) 8 in the lower half */
    __m256i min;   /* the same; types with a minimum */
} unpacked;

/* Two of its sub-blocks of 32 as bytes: q, unsigned, or for signed types (quant_kind) q with the sign of s. */
typedef struct weight_pair {
    __m256i q[2], s[2];
} weight_pair;

ALWAYS_INLINE __m256i load32(const uint8_t *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}
ALWAYS_INLINE __m128i load16(const uint8_t *p)
{
    return _mm_loadu_si128((const __m128i *)p);
}
ALWAYS_INLINE __m128i load8(const uint8_t *p)
{
    return _mm_loadl_epi64((const __m128i *)p);
}

/* 16 bytes of nibbles: low ones first */
ALWAYS_INLINE __m256i nibbles(const uint8_t *p)
{
    __m128i v = load16(p);
    return _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(v, 4), v), _mm256_set1_epi8(15));
}

/* byte i = -1 where bit i is set */
ALWAYS_INLINE __m256i bits_to_bytes(uint32_t bits)
{
    __m256i spread = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    __m256i one = _mm256_set1_epi64x((int64_t)0x8040201008040201);
    __m256i v = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32((int)bits), spread), one);
    return _mm256_cmpeq_epi8(v, one);
}

/* lane >> right, or << -right */
ALWAYS_INLINE __m256i shifted(__m256i v, int right)
{
    return right < 0 ? _mm256_slli_epi16(v, -right) : _mm256_srli_epi16(v, right);
}

/* 8 or 16 bytes to int16 */
ALWAYS_INLINE __m256i widen_8(uint64_t bytes)
{
    return _mm256_castsi128_si256(_mm_cvtepi8_epi16(_mm_cvtsi64_si128((int64_t)bytes)));
}
ALWAYS_INLINE __m256i widen_16(__m128i bytes)
{
    return _mm256_cvtepi8_epi16(bytes);
}

/* 8 fields of 4 or 2 bits to bytes */
ALWAYS_INLINE uint64_t spread_nibbles(uint64_t x)
{
    x = (x | x << 16) & 0x0000ffff0000ffff;
    x = (x | x << 8) & 0x00ff00ff00ff00ff;
    return (x | x << 4) & 0x0f0f0f0f0f0f0f0f;
}
ALWAYS_INLINE uint64_t spread_pairs(uint64_t x)
{
    x = (x | x << 24) & 0x000000ff000000ff;
    x = (x | x << 12) & 0x000f000f000f000f;
    return (x | x << 6) & 0x0303030303030303;
}

/* 16 fields of 4 bits, low ones first */
ALWAYS_INLINE __m256i nibbles_16(const uint8_t *p)
{
    __m128i v = load8(p);
    return widen_16(_mm_and_si128(_mm_unpacklo_epi8(v, _mm_srli_epi16(v, 4)), _mm_set1_epi8(15)));
}

#endif
