/* f32x16_avx2.h - sixteen floats in two registers. See simd/f32x16.h. */
#ifndef ODMOE_KERNELS_F32X16_AVX2_H
#define ODMOE_KERNELS_F32X16_AVX2_H

#include "kernels/x86/small_floats.h"

enum { TILE_VECTORS = 1, TILE_TOKENS = 6 }; /* 12 of 16 registers hold sums */

typedef struct f32x16 {
    __m256 a, b; /* lanes 0-7, 8-15 */
} f32x16;

ALWAYS_INLINE f32x16 f32x16_zero(void)
{
    return (f32x16){_mm256_setzero_ps(), _mm256_setzero_ps()};
}
ALWAYS_INLINE f32x16 f32x16_set1(float a)
{
    return (f32x16){_mm256_set1_ps(a), _mm256_set1_ps(a)};
}
ALWAYS_INLINE f32x16 f32x16_load(const void *p)
{
    return (f32x16){_mm256_loadu_ps(p), _mm256_loadu_ps((const float *)p + 8)};
}
ALWAYS_INLINE void f32x16_store(void *p, f32x16 v)
{
    _mm256_storeu_ps(p, v.a);
    _mm256_storeu_ps((float *)p + 8, v.b);
}
ALWAYS_INLINE f32x16 f32x16_load_part(const void *p, int64_t n)
{
    float lane[16] = {0};
    memcpy(lane, p, (size_t)n * sizeof *lane);
    return f32x16_load(lane);
}
ALWAYS_INLINE void f32x16_store_part(void *p, f32x16 v, int64_t n)
{
    float lane[16];
    f32x16_store(lane, v);
    memcpy(p, lane, (size_t)n * sizeof *lane);
}
ALWAYS_INLINE float f32x16_half(uint16_t h)
{
    return _cvtsh_ss(h);
}
ALWAYS_INLINE f32x16 f32x16_from_f16(const void *p)
{
    const __m128i *h = p;
    return (f32x16){_mm256_cvtph_ps(_mm_loadu_si128(h)), _mm256_cvtph_ps(_mm_loadu_si128(h + 1))};
}
ALWAYS_INLINE f32x16 f32x16_from_bf16(const void *p)
{
    __m256i h = _mm256_loadu_si256(p);
    __m256i a = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(h));
    __m256i b = _mm256_cvtepu16_epi32(_mm256_extracti128_si256(h, 1));
    return (f32x16){_mm256_castsi256_ps(_mm256_slli_epi32(a, 16)), _mm256_castsi256_ps(_mm256_slli_epi32(b, 16))};
}
ALWAYS_INLINE f32x16 f32x16_from_i8(const void *p)
{
    __m128i v = _mm_loadu_si128(p);
    return (f32x16){_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(v)),
                    _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(v, 8)))};
}
ALWAYS_INLINE f32x16 f32x16_from_f8(const void *p)
{
    __m256i half = halves_from_f8(p);
    __m256 factor = _mm256_set1_ps(0x1p8f);
    return (f32x16){_mm256_mul_ps(_mm256_cvtph_ps(_mm256_castsi256_si128(half)), factor),
                    _mm256_mul_ps(_mm256_cvtph_ps(_mm256_extracti128_si256(half, 1)), factor)};
}
ALWAYS_INLINE f32x16 f32x16_from_nibbles(const void *p, const int8_t table[16], bool apart)
{
    __m128i v = bytes_from_nibbles(p, table, apart);
    return (f32x16){_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(v)),
                    _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(v, 8)))};
}
#define F32X16_SCALED_I8
/* A byte q, its sign flipped, goes to bits 8 to 15 of a float of 2^15, which becomes 2^15 + 128 + q. Then one
 * multiply-add scales it and takes the offset back: exactly, as 2^15 + 128 has 9 bits and d 11. Converting integers
 * takes longer. */
ALWAYS_INLINE __m256 scaled_bytes(__m256i bytes, __m256i order, __m256 d)
{
    __m256i biased = _mm256_xor_si256(_mm256_shuffle_epi8(bytes, order), _mm256_set1_epi32(0x47008000));
    return _mm256_fmadd_ps(_mm256_castsi256_ps(biased), d, _mm256_mul_ps(d, _mm256_set1_ps(-0x1p15f - 128)));
}
ALWAYS_INLINE f32x16 f32x16_scaled_i8(const void *p, f32x16 d)
{
    __m256i v = _mm256_broadcastsi128_si256(_mm_loadu_si128(p)), next = _mm256_set1_epi32(8 << 8);
    __m256i order = _mm256_setr_epi32(-0xff01, -0xfe01, -0xfd01, -0xfc01, -0xfb01, -0xfa01, -0xf901,
                                      -0xf801); /* byte i of 16 to word i; the words' other bytes are 0 */
    return (f32x16){scaled_bytes(v, order, d.a), scaled_bytes(v, _mm256_add_epi32(order, next), d.b)};
}
ALWAYS_INLINE void f32x16_to_f16(void *p, f32x16 v)
{
    _mm_storeu_si128(p, _mm256_cvtps_ph(v.a, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128((__m128i *)p + 1, _mm256_cvtps_ph(v.b, _MM_FROUND_TO_NEAREST_INT));
}
ALWAYS_INLINE f32x16 f32x16_add(f32x16 x, f32x16 y)
{
    return (f32x16){_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)};
}
ALWAYS_INLINE f32x16 f32x16_sub(f32x16 x, f32x16 y)
{
    return (f32x16){_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)};
}
ALWAYS_INLINE f32x16 f32x16_mul(f32x16 x, f32x16 y)
{
    return (f32x16){_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)};
}
ALWAYS_INLINE f32x16 f32x16_div(f32x16 x, f32x16 y)
{
    return (f32x16){_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)};
}
ALWAYS_INLINE f32x16 f32x16_max(f32x16 x, f32x16 y)
{
    return (f32x16){_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)};
}
ALWAYS_INLINE f32x16 f32x16_min(f32x16 x, f32x16 y)
{
    return (f32x16){_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)};
}
ALWAYS_INLINE f32x16 f32x16_abs(f32x16 v)
{
    __m256 sign = _mm256_set1_ps(-0.0f);
    return (f32x16){_mm256_andnot_ps(sign, v.a), _mm256_andnot_ps(sign, v.b)};
}
ALWAYS_INLINE f32x16 f32x16_fma(f32x16 x, f32x16 y, f32x16 z)
{
    return (f32x16){_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
ALWAYS_INLINE f32x16 f32x16_round(f32x16 v)
{
    return (f32x16){_mm256_round_ps(v.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
                    _mm256_round_ps(v.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
/* Two factors, so that neither leaves the range of exponents; the first product is exact. */
ALWAYS_INLINE __m256 ldexp8(__m256 v, __m256 n)
{
    __m256i e = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(e, 1), bias = _mm256_set1_epi32(127);
    __m256i first = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
    __m256i second = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(e, half), bias), 23);
    return _mm256_mul_ps(_mm256_mul_ps(v, _mm256_castsi256_ps(first)), _mm256_castsi256_ps(second));
}
ALWAYS_INLINE f32x16 f32x16_ldexp(f32x16 v, f32x16 n)
{
    return (f32x16){ldexp8(v.a, n.a), ldexp8(v.b, n.b)};
}
#define F32X16_TIMES_POWER
/* n to the lowest bits of a float's, from there to the exponent's place. */
ALWAYS_INLINE __m256 times_power8(__m256 v, __m256 n)
{
    __m256i exponent = _mm256_slli_epi32(_mm256_castps_si256(_mm256_add_ps(n, _mm256_set1_ps(0x1.8p23f))), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(v), exponent));
}
ALWAYS_INLINE f32x16 f32x16_times_power(f32x16 v, f32x16 n)
{
    return (f32x16){times_power8(v.a, n.a), times_power8(v.b, n.b)};
}
ALWAYS_INLINE void f32x16_store_i8(void *p, f32x16 v)
{
    __m256i w = _mm256_packs_epi32(_mm256_cvtps_epi32(v.a), _mm256_cvtps_epi32(v.b));
    w = _mm256_permute4x64_epi64(w, 0xd8); /* packing works in halves */
    _mm_storeu_si128(p, _mm_packs_epi16(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1)));
}

#include "kernels/x86/gemv_float_avx2.h"

#endif
