/* small_floats.h - numbers of eight and four bits to what both x86 tables convert to float32. */
#ifndef ODMOE_KERNELS_X86_SMALL_FLOATS_H
#define ODMOE_KERNELS_X86_SMALL_FLOATS_H

#include <immintrin.h>
#include <stdbool.h>

/* Shifted so that exponent and mantissa are a half's, the number is 2^-8 of what it should be: subnormals as well. */
ALWAYS_INLINE __m256i halves_from_f8(const void *p)
{
    __m128i v = _mm_loadu_si128(p);
    __m128i nan = _mm_cmpeq_epi8(_mm_and_si128(v, _mm_set1_epi8(0x7f)), _mm_set1_epi8(0x7f));
    __m256i half = _mm256_and_si256(_mm256_slli_epi16(_mm256_cvtepi8_epi16(v), 7), _mm256_set1_epi16((short)0xbfff));
    return _mm256_or_si256(half, _mm256_cvtepi8_epi16(nan));
}
ALWAYS_INLINE __m128i bytes_from_nibbles(const void *p, const int8_t table[16], bool apart)
{
    __m128i v = _mm_loadl_epi64(p), mask = _mm_set1_epi8(15);
    __m128i low = _mm_and_si128(v, mask), high = _mm_and_si128(_mm_srli_epi16(v, 4), mask);
    __m128i q = apart ? _mm_unpacklo_epi64(low, high) : _mm_unpacklo_epi8(low, high);
    return _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)table), q);
}

#endif
