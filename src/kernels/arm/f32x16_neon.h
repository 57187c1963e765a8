/* f32x16_neon.h - sixteen floats in four registers. See simd/f32x16.h. */
#ifndef ODMOE_KERNELS_F32X16_NEON_H
#define ODMOE_KERNELS_F32X16_NEON_H

#include <arm_neon.h>

enum { TILE_VECTORS = 1, TILE_TOKENS = 6 }; /* 24 of 32 registers hold sums */

typedef float32x4x4_t f32x16; /* .val[i]: lanes 4 i … 4 i + 3 */

/* One operation on each quarter. */
#define F32X16_UNARY(NAME, OPERATION)                                                                          \
    ALWAYS_INLINE f32x16 f32x16_##NAME(f32x16 v)                                                               \
    {                                                                                                          \
        return (f32x16){{OPERATION(v.val[0]), OPERATION(v.val[1]), OPERATION(v.val[2]), OPERATION(v.val[3])}}; \
    }
#define F32X16_BINARY(NAME, OPERATION)                                                                                \
    ALWAYS_INLINE f32x16 f32x16_##NAME(f32x16 x, f32x16 y)                                                            \
    {                                                                                                                 \
        return (f32x16){{OPERATION(x.val[0], y.val[0]), OPERATION(x.val[1], y.val[1]), OPERATION(x.val[2], y.val[2]), \
                         OPERATION(x.val[3], y.val[3])}};                                                             \
    }

/* x86's rule: the second operand where either is not a number. */
ALWAYS_INLINE float32x4_t max_or_second(float32x4_t x, float32x4_t y)
{
    return vbslq_f32(vcgtq_f32(x, y), x, y);
}
ALWAYS_INLINE float32x4_t min_or_second(float32x4_t x, float32x4_t y)
{
    return vbslq_f32(vcltq_f32(x, y), x, y);
}
/* v * 2^n in two factors, so that neither leaves the range of exponents; the first product is exact. */
ALWAYS_INLINE float32x4_t ldexp4(float32x4_t v, float32x4_t n)
{
    int32x4_t e = vcvtq_s32_f32(n), half = vshrq_n_s32(e, 1), bias = vdupq_n_s32(127);
    float32x4_t first = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(half, bias), 23));
    float32x4_t second = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vsubq_s32(e, half), bias), 23));
    return vmulq_f32(vmulq_f32(v, first), second);
}
#define F32X16_TIMES_POWER
ALWAYS_INLINE float32x4_t times_power4(float32x4_t v, float32x4_t n)
{
    return vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(v), vshlq_n_s32(vcvtq_s32_f32(n), 23)));
}

F32X16_UNARY(abs, vabsq_f32)
F32X16_UNARY(round, vrndnq_f32)
F32X16_BINARY(add, vaddq_f32)
F32X16_BINARY(sub, vsubq_f32)
F32X16_BINARY(mul, vmulq_f32)
F32X16_BINARY(div, vdivq_f32)
F32X16_BINARY(max, max_or_second)
F32X16_BINARY(min, min_or_second)
F32X16_BINARY(ldexp, ldexp4)
F32X16_BINARY(times_power, times_power4)

ALWAYS_INLINE f32x16 f32x16_fma(f32x16 x, f32x16 y, f32x16 z)
{
    return (f32x16){{vfmaq_f32(z.val[0], x.val[0], y.val[0]), vfmaq_f32(z.val[1], x.val[1], y.val[1]),
                     vfmaq_f32(z.val[2], x.val[2], y.val[2]), vfmaq_f32(z.val[3], x.val[3], y.val[3])}};
}
ALWAYS_INLINE f32x16 f32x16_set1(float a)
{
    float32x4_t v = vdupq_n_f32(a);
    return (f32x16){{v, v, v, v}};
}
ALWAYS_INLINE f32x16 f32x16_zero(void)
{
    return f32x16_set1(0);
}
/* Addresses have no alignment: bytes are loaded. */
ALWAYS_INLINE float32x4_t load4(const void *p)
{
    return vreinterpretq_f32_u8(vld1q_u8(p));
}
ALWAYS_INLINE f32x16 f32x16_load(const void *p)
{
    const uint8_t *b = p;
    return (f32x16){{load4(b), load4(b + 16), load4(b + 32), load4(b + 48)}};
}
ALWAYS_INLINE void f32x16_store(void *p, f32x16 v)
{
    for (int i = 0; i < 4; i++)
        vst1q_u8((uint8_t *)p + 16 * i, vreinterpretq_u8_f32(v.val[i]));
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
    return vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(h))), 0);
}
ALWAYS_INLINE f32x16 halves_to_float(uint16x8_t a, uint16x8_t b)
{
    return (f32x16){
        {vcvt_f32_f16(vreinterpret_f16_u16(vget_low_u16(a))), vcvt_f32_f16(vreinterpret_f16_u16(vget_high_u16(a))),
         vcvt_f32_f16(vreinterpret_f16_u16(vget_low_u16(b))), vcvt_f32_f16(vreinterpret_f16_u16(vget_high_u16(b)))}};
}
ALWAYS_INLINE f32x16 f32x16_from_f16(const void *p)
{
    const uint8_t *b = p;
    return halves_to_float(vreinterpretq_u16_u8(vld1q_u8(b)), vreinterpretq_u16_u8(vld1q_u8(b + 16)));
}
ALWAYS_INLINE f32x16 f32x16_from_bf16(const void *p)
{
    f32x16 v;
    for (int i = 0; i < 4; i++) {
        uint16x4_t h = vreinterpret_u16_u8(vld1_u8((const uint8_t *)p + 8 * i));
        v.val[i] = vreinterpretq_f32_u32(vshll_n_u16(h, 16));
    }
    return v;
}
ALWAYS_INLINE f32x16 bytes_to_float(int8x16_t b)
{
    int16x8_t low = vmovl_s8(vget_low_s8(b)), high = vmovl_s8(vget_high_s8(b));
    return (f32x16){{vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(low))),
                     vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(high)))}};
}
ALWAYS_INLINE f32x16 f32x16_from_i8(const void *p)
{
    return bytes_to_float(vld1q_s8(p));
}
/* Shifted so that exponent and mantissa are a half's, the number is 2^-8 of what it should be: subnormals as well. */
ALWAYS_INLINE f32x16 f32x16_from_f8(const void *p)
{
    int8x16_t b = vld1q_s8(p);
    uint8x16_t nan = vceqq_s8(vandq_s8(b, vdupq_n_s8(0x7f)), vdupq_n_s8(0x7f));
    uint16x8_t half[2];
    for (int i = 0; i < 2; i++) {
        int16x8_t w = vmovl_s8(i ? vget_high_s8(b) : vget_low_s8(b));
        int16x8_t n = vmovl_s8(vreinterpret_s8_u8(i ? vget_high_u8(nan) : vget_low_u8(nan)));
        half[i] = vandq_u16(vreinterpretq_u16_s16(vshlq_n_s16(w, 7)), vdupq_n_u16(0xbfff));
        half[i] = vorrq_u16(half[i], vreinterpretq_u16_s16(n));
    }
    return f32x16_mul(halves_to_float(half[0], half[1]), f32x16_set1(0x1p8f));
}
ALWAYS_INLINE f32x16 f32x16_from_nibbles(const void *p, const int8_t table[16], bool apart)
{
    uint8x8_t v = vld1_u8(p), low = vand_u8(v, vdup_n_u8(15)), high = vshr_n_u8(v, 4);
    uint8x16_t q = apart ? vcombine_u8(low, high) : vcombine_u8(vzip1_u8(low, high), vzip2_u8(low, high));
    return bytes_to_float(vqtbl1q_s8(vld1q_s8(table), q));
}
ALWAYS_INLINE void f32x16_part_f16(f32x16 v, f32x16 *even, f32x16 *odd)
{
    uint32x4_t w[4];
    for (int i = 0; i < 4; i++)
        w[i] = vreinterpretq_u32_f32(v.val[i]);
    *even =
        halves_to_float(vcombine_u16(vmovn_u32(w[0]), vmovn_u32(w[1])), vcombine_u16(vmovn_u32(w[2]), vmovn_u32(w[3])));
    *odd = halves_to_float(vcombine_u16(vshrn_n_u32(w[0], 16), vshrn_n_u32(w[1], 16)),
                           vcombine_u16(vshrn_n_u32(w[2], 16), vshrn_n_u32(w[3], 16)));
}
ALWAYS_INLINE void f32x16_part_bf16(f32x16 v, f32x16 *even, f32x16 *odd)
{
    for (int i = 0; i < 4; i++) {
        uint32x4_t w = vreinterpretq_u32_f32(v.val[i]);
        even->val[i] = vreinterpretq_f32_u32(vshlq_n_u32(w, 16));
        odd->val[i] = vreinterpretq_f32_u32(vandq_u32(w, vdupq_n_u32(0xffff0000)));
    }
}
ALWAYS_INLINE void f32x16_to_f16(void *p, f32x16 v)
{
    for (int i = 0; i < 4; i++)
        vst1_u8((uint8_t *)p + 8 * i, vreinterpret_u8_f16(vcvt_f16_f32(v.val[i])));
}
ALWAYS_INLINE void f32x16_store_i8(void *p, f32x16 v)
{
    int16x8_t low = vcombine_s16(vmovn_s32(vcvtnq_s32_f32(v.val[0])), vmovn_s32(vcvtnq_s32_f32(v.val[1])));
    int16x8_t high = vcombine_s16(vmovn_s32(vcvtnq_s32_f32(v.val[2])), vmovn_s32(vcvtnq_s32_f32(v.val[3])));
    vst1q_s8(p, vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
}

/* 4 x 4, in place */
ALWAYS_INLINE void transpose4(float32x4_t *a, float32x4_t *b, float32x4_t *c, float32x4_t *d)
{
    float32x4_t ab0 = vtrn1q_f32(*a, *b), ab1 = vtrn2q_f32(*a, *b), cd0 = vtrn1q_f32(*c, *d), cd1 = vtrn2q_f32(*c, *d);
#define PAIRS(which, x, y) vreinterpretq_f32_f64(vtrn##which##q_f64(vreinterpretq_f64_f32(x), vreinterpretq_f64_f32(y)))
    *a = PAIRS(1, ab0, cd0);
    *b = PAIRS(1, ab1, cd1);
    *c = PAIRS(2, ab0, cd0);
    *d = PAIRS(2, ab1, cd1);
#undef PAIRS
}
ALWAYS_INLINE void f32x16_transpose(f32x16 v[16])
{
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++)
            transpose4(&v[4 * i].val[j], &v[4 * i + 1].val[j], &v[4 * i + 2].val[j], &v[4 * i + 3].val[j]);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) /* then the 4 x 4 pieces */
#pragma GCC unroll 4
        for (int j = 0; j < i; j++)
#pragma GCC unroll 4
            for (int k = 0; k < 4; k++) {
                float32x4_t kept = v[4 * i + k].val[j];
                v[4 * i + k].val[j] = v[4 * j + k].val[i];
                v[4 * j + k].val[i] = kept;
            }
}

#endif
