/* f32x16_avx512.h - sixteen floats in one register. See simd/f32x16.h. */
#ifndef ODMOE_KERNELS_F32X16_AVX512_H
#define ODMOE_KERNELS_F32X16_AVX512_H

#include "kernels/x86/small_floats.h"

enum { TILE_VECTORS = 2, TILE_TOKENS = 12 }; /* 24 of 32 registers hold sums */

typedef __m512 f32x16;

ALWAYS_INLINE f32x16 f32x16_zero(void)
{
    return _mm512_setzero_ps();
}
ALWAYS_INLINE f32x16 f32x16_set1(float a)
{
    return _mm512_set1_ps(a);
}
ALWAYS_INLINE f32x16 f32x16_load(const void *p)
{
    return _mm512_loadu_ps(p);
}
ALWAYS_INLINE void f32x16_store(void *p, f32x16 v)
{
    _mm512_storeu_ps(p, v);
}
ALWAYS_INLINE f32x16 f32x16_load_part(const void *p, int64_t n)
{
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
ALWAYS_INLINE void f32x16_store_part(void *p, f32x16 v, int64_t n)
{
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), v);
}
ALWAYS_INLINE float f32x16_half(uint16_t h)
{
    return _cvtsh_ss(h);
}
ALWAYS_INLINE f32x16 f32x16_from_f16(const void *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256(p));
}
ALWAYS_INLINE f32x16 f32x16_from_bf16(const void *p)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p)), 16));
}
ALWAYS_INLINE f32x16 f32x16_from_i8(const void *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p)));
}
ALWAYS_INLINE f32x16 f32x16_from_f8(const void *p)
{
    return _mm512_mul_ps(_mm512_cvtph_ps(halves_from_f8(p)), _mm512_set1_ps(0x1p8f));
}
ALWAYS_INLINE f32x16 f32x16_from_nibbles(const void *p, const int8_t table[16], bool apart)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes_from_nibbles(p, table, apart)));
}
ALWAYS_INLINE void f32x16_part_f16(f32x16 v, f32x16 *even, f32x16 *odd)
{
    __m512i words = _mm512_castps_si512(v);
    *even = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(words));
    *odd = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(words, 16)));
}
ALWAYS_INLINE void f32x16_part_bf16(f32x16 v, f32x16 *even, f32x16 *odd)
{
    __m512i words = _mm512_castps_si512(v);
    *even = _mm512_castsi512_ps(_mm512_slli_epi32(words, 16));
    *odd = _mm512_castsi512_ps(_mm512_and_si512(words, _mm512_set1_epi32((int)0xffff0000)));
}
ALWAYS_INLINE void f32x16_to_f16(void *p, f32x16 v)
{
    _mm256_storeu_si256(p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
ALWAYS_INLINE f32x16 f32x16_add(f32x16 a, f32x16 b)
{
    return _mm512_add_ps(a, b);
}
ALWAYS_INLINE f32x16 f32x16_sub(f32x16 a, f32x16 b)
{
    return _mm512_sub_ps(a, b);
}
ALWAYS_INLINE f32x16 f32x16_mul(f32x16 a, f32x16 b)
{
    return _mm512_mul_ps(a, b);
}
ALWAYS_INLINE f32x16 f32x16_div(f32x16 a, f32x16 b)
{
    return _mm512_div_ps(a, b);
}
ALWAYS_INLINE f32x16 f32x16_max(f32x16 a, f32x16 b)
{
    return _mm512_max_ps(a, b);
}
ALWAYS_INLINE f32x16 f32x16_min(f32x16 a, f32x16 b)
{
    return _mm512_min_ps(a, b);
}
ALWAYS_INLINE f32x16 f32x16_abs(f32x16 v)
{
    return _mm512_abs_ps(v);
}
ALWAYS_INLINE f32x16 f32x16_fma(f32x16 a, f32x16 b, f32x16 c)
{
    return _mm512_fmadd_ps(a, b, c);
}
ALWAYS_INLINE f32x16 f32x16_round(f32x16 v)
{
    return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
ALWAYS_INLINE f32x16 f32x16_ldexp(f32x16 v, f32x16 n)
{
    return _mm512_scalef_ps(v, n);
}
ALWAYS_INLINE void f32x16_store_i8(void *p, f32x16 v)
{
    _mm_storeu_si128(p, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v)));
}

/* In four steps: pairs of lanes, pairs of pairs (both within 128 bits), then quarters, twice. */
ALWAYS_INLINE void i32x16_transpose(__m512i v[16])
{
    __m512i a[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; i += 2) {
        a[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
        a[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; i += 4)
#pragma GCC unroll 16
        for (int j = 0; j < 2; j++) {
            v[i + 2 * j] = _mm512_unpacklo_epi64(a[i + j], a[i + j + 2]);
            v[i + 2 * j + 1] = _mm512_unpackhi_epi64(a[i + j], a[i + j + 2]);
        }
        /* v[4 b + j], quarter c: rows 4 b … 4 b + 3 of column 4 c + j */
#pragma GCC unroll 16
    for (int j = 0; j < 4; j++) {
        a[j] = _mm512_shuffle_i32x4(v[j], v[j + 4], 0x88);          /* quarters 0, 2 of blocks 0 and 1 */
        a[j + 4] = _mm512_shuffle_i32x4(v[j], v[j + 4], 0xdd);      /* quarters 1, 3 */
        a[j + 8] = _mm512_shuffle_i32x4(v[j + 8], v[j + 12], 0x88); /* blocks 2 and 3 */
        a[j + 12] = _mm512_shuffle_i32x4(v[j + 8], v[j + 12], 0xdd);
    }
#pragma GCC unroll 16
    for (int j = 0; j < 4; j++) {
        v[j] = _mm512_shuffle_i32x4(a[j], a[j + 8], 0x88);
        v[j + 8] = _mm512_shuffle_i32x4(a[j], a[j + 8], 0xdd);
        v[j + 4] = _mm512_shuffle_i32x4(a[j + 4], a[j + 12], 0x88);
        v[j + 12] = _mm512_shuffle_i32x4(a[j + 4], a[j + 12], 0xdd);
    }
}
ALWAYS_INLINE void f32x16_transpose(f32x16 v[16])
{
    i32x16_transpose((__m512i *)v);
}

#endif
