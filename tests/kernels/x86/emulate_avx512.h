/* emulate_avx512.h - included before x86/avx512.c to compile it for processors without AVX-512: every instruction as
 * SIMDe's plain C, or, for those that SIMDe 0.7 lacks, as loops below. See tests/kernels/meson.build. */
#ifndef ODMOE_TESTS_EMULATE_AVX512_H
#define ODMOE_TESTS_EMULATE_AVX512_H

#include <immintrin.h>
#include <math.h>
#include <string.h>

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

#define __m512 simde__m512
#define __m512i simde__m512i
#define __mmask16 uint16_t
#define __AVX512F__ 1 /* what simd/f32x16.h looks at; SIMDe must not have seen it */

/* NAME: lanes of FROM in a register of type IN to lanes of TO in a register of type OUT */
#define CONVERT_LANES(NAME, IN, FROM, OUT, TO, EXPRESSION) \
    static inline OUT emulated_##NAME(IN v)                \
    {                                                      \
        enum { LANES = 16 };                               \
        FROM from[LANES];                                  \
        TO to[LANES];                                      \
        OUT out;                                           \
        memcpy(from, &v, sizeof from);                     \
        for (int i = 0; i < LANES; i++) {                  \
            FROM x = from[i];                              \
            to[i] = EXPRESSION;                            \
        }                                                  \
        memcpy(&out, to, sizeof out);                      \
        return out;                                        \
    }

CONVERT_LANES(cvtepi16_epi32, __m256i, int16_t, __m512i, int32_t, x)
CONVERT_LANES(cvtepu16_epi32, __m256i, uint16_t, __m512i, int32_t, x)
CONVERT_LANES(cvtepi8_epi32, __m128i, int8_t, __m512i, int32_t, x)
CONVERT_LANES(cvtepi32_epi16, __m512i, int32_t, __m256i, int16_t, (int16_t)x)
CONVERT_LANES(cvtepi32_epi8, __m512i, int32_t, __m128i, int8_t, (int8_t)x)
CONVERT_LANES(cvtepi32_ps, __m512i, int32_t, __m512, float, (float)x)
CONVERT_LANES(cvtps_epi32, __m512, float, __m512i, int32_t,
              x >= -0x1p31f && x < 0x1p31f ? (int32_t)lrintf(x) : INT32_MIN)
CONVERT_LANES(cvtph_ps, __m256i, uint16_t, __m512, float, _cvtsh_ss(x))
CONVERT_LANES(cvtps_nearest_ph, __m512, float, __m256i, uint16_t, _cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT))

#undef _mm512_cvtps_ph /* without optimisation gcc's own is a macro */

#define _mm512_cvtepi16_epi32 emulated_cvtepi16_epi32
#define _mm512_cvtepu16_epi32 emulated_cvtepu16_epi32
#define _mm512_cvtepi8_epi32 emulated_cvtepi8_epi32
#define _mm512_cvtepi32_epi16 emulated_cvtepi32_epi16
#define _mm512_cvtepi32_epi8 emulated_cvtepi32_epi8
#define _mm512_cvtepi32_ps emulated_cvtepi32_ps
#define _mm512_cvtps_epi32 emulated_cvtps_epi32
#define _mm512_cvtph_ps emulated_cvtph_ps
#define _mm512_cvtps_ph(v, rounding) emulated_cvtps_nearest_ph(v)

static inline __m512i emulated_zext(__m256i v)
{
    __m512i out;
    memset(&out, 0, sizeof out);
    memcpy(&out, &v, sizeof v);
    return out;
}
#define _mm512_zextsi256_si512 emulated_zext

/* Lanes without a bit in the mask are not touched: what is there may not be mapped. */
static inline __m512 emulated_maskz_loadu(__mmask16 mask, const void *from)
{
    __m512 out;
    memset(&out, 0, sizeof out);
    for (int i = 0; i < 16; i++)
        if (mask >> i & 1)
            memcpy((char *)&out + 4 * i, (const char *)from + 4 * i, 4);
    return out;
}
static inline void emulated_mask_storeu(void *to, __mmask16 mask, __m512 v)
{
    for (int i = 0; i < 16; i++)
        if (mask >> i & 1)
            memcpy((char *)to + 4 * i, (const char *)&v + 4 * i, 4);
}
#define _mm512_maskz_loadu_ps emulated_maskz_loadu
#define _mm512_mask_storeu_ps emulated_mask_storeu

static inline uint32_t emulated_test_bytes(__m256i a, __m256i b)
{
    __m256i both = _mm256_and_si256(a, b);
    return ~(uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(both, _mm256_setzero_si256()));
}
static inline __m256i emulated_mask_add_bytes(__m256i otherwise, uint32_t mask, __m256i a, __m256i b)
{
    uint8_t from[32], to[32];
    memcpy(from, &otherwise, sizeof from);
    a = _mm256_add_epi8(a, b);
    memcpy(to, &a, sizeof to);
    for (int i = 0; i < 32; i++)
        to[i] = mask >> i & 1 ? to[i] : from[i];
    memcpy(&a, to, sizeof to);
    return a;
}
#define _mm256_test_epi8_mask emulated_test_bytes
#define _mm256_mask_add_epi8 emulated_mask_add_bytes

#endif
