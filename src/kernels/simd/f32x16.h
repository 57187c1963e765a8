/* f32x16.h - sixteen floats, on whatever registers an instruction set has: the one vector type of the shared code.
 *
 * Because every instruction set works on the same sixteen lanes in the same order, with fused multiply-add, all vector
 * tables give the same bits. Each f32x16_*.h defines the type f32x16 and, as static inline functions:
 *
 *   zero, set1(a), load(p), store(p, v)      p at any address
 *   load_part(p, n), store_part(p, v, n)     only n in [0, 16] floats are touched; the others read as 0
 *   half(h)                                  one half-precision number to float
 *   from_f16(p), from_bf16(p), from_i8(p)    sixteen stored numbers to float; no more bytes than those are read
 *   from_f8(p)                               the same for E4M3 (base/dtype.h), NaN included
 *   from_nibbles(p, table, apart)            sixteen numbers of four bits, in 8 bytes, looked up among 16 int8, to float;
 *                                            the lower bits of a byte first, or (apart) those of all bytes first
 *   to_f16(p, v)                             sixteen halves, rounded to nearest even
 *   add, sub, mul, div, max, min             lane by lane; max and min give the second operand for a NaN in either
 *   abs(v), fma(a, b, c) = a * b + c, rounded once
 *   round(v)                                 to integers, nearest even
 *   ldexp(v, n)                              v * 2^n, rounded once; n integral in [-252, 252]
 *   store_i8(p, v)                           integral values in -128..127
 *
 * either of these pairs, the second with the macro F32X16_COLUMNS:
 *
 *   transpose(v[16])                         lane j of v[i] <-> lane i of v[j]
 *   part_f16(v, &even, &odd), part_bf16      lanes that hold two numbers each: the lower ones, the upper ones
 *
 *   interleave(t, p, stride, out, ld)        64 bytes of each of sixteen rows of F32, F16 or BF16, `stride` bytes
 *                                            apart: number j of row i, as a float, goes to out[j * ld + i]
 *   gemv(t, p, stride, cols, x, y)    y[i] = row i times x, for GEMV_ROWS rows of whole 64 bytes
 *
 * those below where it has something faster, with a macro of that name defined:
 *
 *   times_power(v, n), F32X16_TIMES_POWER    ldexp where v and the result are normal numbers
 *   scaled_i8(p, d), F32X16_SCALED_I8        sixteen stored numbers times d, lane by lane; d: halves as floats, finite
 *
 * and the shape of the matrix kernels: TILE_VECTORS (rows / 16 of a panel) and TILE_TOKENS, so that a tile's sums stay
 * in registers. */
#ifndef ODMOE_KERNELS_F32X16_H
#define ODMOE_KERNELS_F32X16_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/dtype.h"

/* The shared code is inlined into functions with constant arguments. */
#define ALWAYS_INLINE static inline __attribute__((always_inline))
#define NOINLINE __attribute__((noinline))

#if defined __AVX512F__
#include "kernels/x86/f32x16_avx512.h"
#elif defined __AVX2__
#include "kernels/x86/f32x16_avx2.h"
#elif defined __ARM_NEON
#include "kernels/arm/f32x16_neon.h"
#endif

#ifndef F32X16_TIMES_POWER
ALWAYS_INLINE f32x16 f32x16_times_power(f32x16 v, f32x16 n)
{
    return f32x16_ldexp(v, n);
}
#endif
#ifndef F32X16_SCALED_I8
ALWAYS_INLINE f32x16 f32x16_scaled_i8(const void *p, f32x16 d)
{
    return f32x16_mul(d, f32x16_from_i8(p));
}
#endif

/* The sum of all lanes: i with i + 8, i + 4, i + 2, i + 1. */
ALWAYS_INLINE float f32x16_sum(f32x16 v)
{
    float lane[16];
    f32x16_store(lane, v);
    for (int width = 8; width; width /= 2)
        for (int i = 0; i < width; i++)
            lane[i] += lane[i + width];
    return lane[0];
}

ALWAYS_INLINE float f32x16_largest(f32x16 v)
{
    float lane[16];
    f32x16_store(lane, v);
    for (int width = 8; width; width /= 2)
        for (int i = 0; i < width; i++)
            lane[i] = lane[i] > lane[i + width] ? lane[i] : lane[i + width];
    return lane[0];
}

/* n in [0, 16] stored numbers of two bytes, the others 0. */
ALWAYS_INLINE f32x16 f32x16_from_f16_part(const void *p, int64_t n)
{
    uint16_t half[16] = {0};
    memcpy(half, p, (size_t)n * 2);
    return f32x16_from_f16(half);
}
ALWAYS_INLINE f32x16 f32x16_from_bf16_part(const void *p, int64_t n)
{
    uint16_t half[16] = {0};
    memcpy(half, p, (size_t)n * 2);
    return f32x16_from_bf16(half);
}

/* f32x16_exp_of - e^x of n <= 4 vectors in place, within 1 ulp or so; 0 below -104, infinite above 88.73. x = n ln 2 +
 * r with |r| <= ln 2 / 2; the polynomial approximates e^r. One chain is long and waits for itself: several go side by
 * side, step by step. */
#define SIDE_BY_SIDE _Pragma("GCC unroll 4") for (int i = 0; i < n; i++)
ALWAYS_INLINE void f32x16_exp_of(int n, f32x16 *x)
{
    /* 1/7!, 1/6! ... */
    static const float factors[] = {0x1.6c16c2p-10f, 0x1.111112p-7f, 0x1.555556p-5f, 0x1.555556p-3f, 0.5f, 1.0f, 1.0f};
    f32x16 k[4], r[4], p[4];
    SIDE_BY_SIDE x[i] = f32x16_min(f32x16_set1(89.0f), f32x16_max(f32x16_set1(-104.0f), x[i]));
    SIDE_BY_SIDE k[i] = f32x16_round(f32x16_mul(x[i], f32x16_set1(0x1.715476p+0f)));
    SIDE_BY_SIDE r[i] = f32x16_fma(k[i], f32x16_set1(-0x1.62e4p-1f), x[i]);    /* ln 2 in two parts, */
    SIDE_BY_SIDE r[i] = f32x16_fma(k[i], f32x16_set1(-0x1.7f7d1cp-20f), r[i]); /* k times the first is exact */
    SIDE_BY_SIDE p[i] = f32x16_set1(0x1.a01a02p-13f);
#pragma GCC unroll 8
    for (int f = 0; f < 7; f++) {
        SIDE_BY_SIDE p[i] = f32x16_fma(p[i], r[i], f32x16_set1(factors[f]));
    }
    SIDE_BY_SIDE x[i] = f32x16_ldexp(p[i], k[i]);
}
#undef SIDE_BY_SIDE
ALWAYS_INLINE f32x16 f32x16_exp(f32x16 x)
{
    f32x16_exp_of(1, &x);
    return x;
}

/* f32x16_tanh - within 1.2e-7 of tanh(x), not relative to it; -1 and 1 for infinities. */
ALWAYS_INLINE f32x16 f32x16_tanh(f32x16 x)
{
    f32x16 one = f32x16_set1(1.0f), e = f32x16_exp(f32x16_add(x, x));
    return f32x16_sub(one, f32x16_div(f32x16_set1(2.0f), f32x16_add(e, one)));
}

/* f32x16_exp2 - 2^x within 1 ulp or so, for x of at most 127; 2^-125 below -125, so that no number is subnormal.
 * Exactly 1 for 0. */
ALWAYS_INLINE f32x16 f32x16_exp2(f32x16 x)
{
    x = f32x16_max(f32x16_set1(-125.0f), x);
    f32x16 n = f32x16_round(x), r = f32x16_sub(x, n);
    f32x16 p = f32x16_set1(0x1.44138ap-13f); /* of 2^r at Chebyshev's points of [-1/2, 1/2] */
    p = f32x16_fma(p, r, f32x16_set1(0x1.5f089p-10f));
    p = f32x16_fma(p, r, f32x16_set1(0x1.3b2a54p-7f));
    p = f32x16_fma(p, r, f32x16_set1(0x1.c6af6cp-5f));
    p = f32x16_fma(p, r, f32x16_set1(0x1.ebfbep-3f));
    p = f32x16_fma(p, r, f32x16_set1(0x1.62e43p-1f));
    p = f32x16_fma(p, r, f32x16_set1(1.0f));
    return f32x16_times_power(p, n);
}

#endif
