/* gemv_float_avx2.h - columns of float rows with AVX2: a lane is a row. Eight rows are taken at a time, 16 bytes of each:
 * so much fits the registers, and loading the rows i and i + 4 into the halves of one leaves shuffles within halves.
 * Crossing them takes eight operations on cores of 128-bit units. See simd/f32x16.h. */
#ifndef ODMOE_KERNELS_X86_GEMV_FLOAT_AVX2_H
#define ODMOE_KERNELS_X86_GEMV_FLOAT_AVX2_H

enum { LINE = 64, STEP = 16 }; /* bytes of the cache's lines, and of a row at a time */

ALWAYS_INLINE __m256i two_rows(const uint8_t *low, const uint8_t *high)
{
    __m128i a = _mm_loadu_si128((const __m128i *)low), b = _mm_loadu_si128((const __m128i *)high);
    return _mm256_inserti128_si256(_mm256_castsi128_si256(a), b, 1);
}

/* v[j] = word j of eight rows */
ALWAYS_INLINE void word_columns(const uint8_t *p, int64_t stride, __m256i v[4])
{
    __m256i r0 = two_rows(p, p + 4 * stride), r1 = two_rows(p + stride, p + 5 * stride);
    __m256i r2 = two_rows(p + 2 * stride, p + 6 * stride), r3 = two_rows(p + 3 * stride, p + 7 * stride);
    __m256i a = _mm256_unpacklo_epi32(r0, r1), b = _mm256_unpackhi_epi32(r0, r1);
    __m256i c = _mm256_unpacklo_epi32(r2, r3), d = _mm256_unpackhi_epi32(r2, r3);
    v[0] = _mm256_unpacklo_epi64(a, c);
    v[1] = _mm256_unpackhi_epi64(a, c);
    v[2] = _mm256_unpacklo_epi64(b, d);
    v[3] = _mm256_unpackhi_epi64(b, d);
}

/* v[j] = 16-bit number j of eight rows */
ALWAYS_INLINE void half_columns(const uint8_t *p, int64_t stride, __m128i v[8])
{
    __m128i a[8], b[8];
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
        __m128i even = _mm_loadu_si128((const __m128i *)(p + i * stride));
        __m128i odd = _mm_loadu_si128((const __m128i *)(p + (i + 1) * stride));
        a[i] = _mm_unpacklo_epi16(even, odd);
        a[i + 1] = _mm_unpackhi_epi16(even, odd);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4)
#pragma GCC unroll 2
        for (int j = 0; j < 2; j++) {
            b[i + 2 * j] = _mm_unpacklo_epi32(a[i + j], a[i + j + 2]);
            b[i + 2 * j + 1] = _mm_unpackhi_epi32(a[i + j], a[i + j + 2]);
        }
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        v[2 * j] = _mm_unpacklo_epi64(b[j], b[j + 4]);
        v[2 * j + 1] = _mm_unpackhi_epi64(b[j], b[j + 4]);
    }
}

/* v[j] = number j of eight rows, of those in STEP bytes from p on; how many those are */
ALWAYS_INLINE int float_columns(dtype t, const uint8_t *p, int64_t stride, __m256 v[8])
{
    __m256i word[4];
    __m128i half[8];
    if (t == DTYPE_F16) {
        half_columns(p, stride, half);
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++)
            v[j] = _mm256_cvtph_ps(half[j]);
        return 8;
    }
    word_columns(p, stride, word);
    if (t == DTYPE_F32) {
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++)
            v[j] = _mm256_castsi256_ps(word[j]);
        return 4;
    }
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) { /* BF16: two in a word */
        v[2 * j] = _mm256_castsi256_ps(_mm256_slli_epi32(word[j], 16));
        v[2 * j + 1] = _mm256_castsi256_ps(_mm256_and_si256(word[j], _mm256_set1_epi32((int)0xffff0000)));
    }
    return 8;
}

ALWAYS_INLINE void f32x16_interleave(dtype t, const uint8_t *p, int64_t stride, float *out, int64_t ld)
{
#pragma GCC unroll 2
    for (int first = 0; first < 16; first += 8, p += 8 * stride, out += 8) {
        float *column = out;
#pragma GCC unroll 4
        for (int at = 0; at < LINE; at += STEP) {
            __m256 v[8];
            int n = float_columns(t, p + at, stride, v);
#pragma GCC unroll 8
            for (int j = 0; j < n; j++, column += ld)
                _mm256_storeu_ps(column, v[j]);
        }
    }
}

/* sum += STEP bytes of eight rows times the activations of their columns */
ALWAYS_INLINE __m256 add_columns(dtype t, const uint8_t *p, int64_t stride, const float *x, __m256 sum)
{
    __m256 v[8];
    int n = float_columns(t, p, stride, v);
#pragma GCC unroll 8
    for (int j = 0; j < n; j++)
        sum = _mm256_fmadd_ps(v[j], _mm256_broadcast_ss(x + j), sum);
    return sum;
}

/* Two sums of eight rows each, or one would wait for its own multiply-adds. The second follows a line behind, as rows
 * that lie a power of 2 apart share the few places that the first cache has for a line. Meanwhile the rows that come
 * next are called into it, in the order of memory. */
#define F32X16_COLUMNS
enum { GEMV_ROWS = 16 };
ALWAYS_INLINE void f32x16_gemv(dtype t, const uint8_t *weights, int64_t row_bytes, int64_t cols, const float *x,
                               float *y)
{
    const int step = t == DTYPE_F32 ? 4 : 8, line = LINE / STEP * step; /* columns */
    const int64_t bytes = cols / step * STEP;
    const uint8_t *behind = weights + 8 * row_bytes - LINE, *ahead = weights + 16 * row_bytes;
    __m256 a = _mm256_setzero_ps(), b = _mm256_setzero_ps();
    int64_t at = 0;
    for (; at < LINE; at += STEP, x += step)
        a = add_columns(t, weights + at, row_bytes, x, a);
    for (; at < bytes; at += STEP, x += step, ahead += 16 * STEP) {
        a = add_columns(t, weights + at, row_bytes, x, a);
        b = add_columns(t, behind + at, row_bytes, x - line, b);
#pragma GCC unroll 4
        for (int i = 0; i < 16 * STEP; i += LINE)
            _mm_prefetch((const char *)ahead + i, _MM_HINT_T0);
    }
    for (; at < bytes + LINE; at += STEP, x += step)
        b = add_columns(t, behind + at, row_bytes, x - line, b);
    _mm256_storeu_ps(y, a);
    _mm256_storeu_ps(y + 8, b);
}

#endif
