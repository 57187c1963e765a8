#include "base/dtype.h"

#include <strings.h>

static const dtype_traits traits[DTYPE_COUNT] = {
#define DTYPE_TRAITS(NAME, name, number, block, bytes) [DTYPE_##NAME] = {name, number, block, bytes},
    DTYPE_LIST(DTYPE_TRAITS)
#undef DTYPE_TRAITS
};

const dtype_traits *dtype_info(dtype t)
{
    return &traits[t];
}

uint32_t scale_width(scale_grid g)
{
    static const uint8_t width[SCALE_TYPES] = {
        [SCALE_F32] = 4, [SCALE_BF16] = 2, [SCALE_F16] = 2, [SCALE_F8] = 1, [SCALE_E8M0] = 1};
    return width[g.type];
}

static uint64_t blocks(uint64_t n, uint8_t share)
{
    return (n + ((uint64_t)1 << share) - 1) >> share;
}

uint64_t scale_count(scale_grid g, uint64_t rows, uint64_t cols)
{
    return g.type ? blocks(rows, g.rows) * blocks(cols, g.cols) : 0;
}

uint64_t scale_bytes(scale_grid g, uint64_t rows, uint64_t cols)
{
    return scale_count(g, rows, cols) * scale_width(g);
}

int dtype_from_gguf(uint32_t number, dtype *out)
{
    for (int t = 0; t < DTYPE_COUNT; t++)
        if (traits[t].gguf == number && number != DTYPE_NOT_IN_GGUF) {
            *out = (dtype)t;
            return 1;
        }
    return 0;
}

int dtype_from_name(const char *name, dtype *out)
{
    for (int t = 0; t < DTYPE_COUNT; t++)
        if (!strcasecmp(traits[t].name, name)) {
            *out = (dtype)t;
            return 1;
        }
    return 0;
}

float dtype_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = (h >> 10) & 31, mantissa = h & 1023, u;
    if (exponent == 31) {
        u = sign | 0x7f800000 | mantissa << 13;
    } else if (exponent) {
        u = sign | (exponent + 112) << 23 | mantissa << 13;
    } else { /* zero or subnormal: mantissa * 2^-24 is exact in float32 */
        float f = (float)mantissa * 0x1p-24f;
        memcpy(&u, &f, 4);
        u |= sign;
    }
    float f;
    memcpy(&f, &u, 4);
    return f;
}

uint16_t dtype_f32_to_f16(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    uint16_t sign = (uint16_t)((u >> 16) & 0x8000);
    u &= 0x7fffffff;
    if (u > 0x7f800000)
        return sign | 0x7e00 | (uint16_t)((u >> 13) & 0x3ff);
    if (u >= 0x477ff000) /* 65520 and above round to infinity */
        return sign | 0x7c00;
    if (u < 0x38800000) { /* below 2^-14: subnormal; adding 0.5 lets the FPU round mantissa * 2^-24 to even */
        float g;
        memcpy(&g, &u, 4);
        g += 0.5f;
        memcpy(&u, &g, 4);
        return sign | (uint16_t)(u - 0x3f000000);
    }
    return sign | (uint16_t)((u - 0x38000000 + 0xfff + ((u >> 13) & 1)) >> 13);
}
