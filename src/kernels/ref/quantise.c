/* quantise.c - plain C: activations and Q8_0 cache rows to eight bits. */
#include <math.h>

#include "kernels/act.h"
#include "kernels/ref/ref.h"

static float largest(const float *x, int64_t n)
{
    float max = 0;
    for (int64_t i = 0; i < n; i++)
        max = fmaxf(max, fabsf(x[i]));
    return max;
}

void ref_quantise_f32(const float *x, void *out, int64_t cols)
{
    memcpy(out, x, (size_t)cols * sizeof *x);
}

/* n activations to eight bits with one scale, which is returned */
static float quantise_block(const float *x, int n, int8_t *q)
{
    float inverse, d = act_scale(largest(x, n), &inverse);
    for (int i = 0; i < n; i++)
        q[i] = (int8_t)lrintf(x[i] * inverse);
    return d;
}

static int sum_of(const int8_t *q, int n)
{
    int sum = 0;
    for (int i = 0; i < n; i++)
        sum += q[i];
    return sum;
}

void ref_quantise_q8(const float *x, void *out, int64_t cols)
{
    act_q8 *b = out;
    for (int64_t c = 0; c < cols; c += 32, b++) {
        b->d = quantise_block(x + c, 32, b->q);
        b->sum = sum_of(b->q, 32);
    }
}

void ref_quantise_q8k(const float *x, void *out, int64_t cols)
{
    act_q8k *b = out;
    for (int64_t c = 0; c < cols; c += 256, b++) {
        b->d = quantise_block(x + c, 256, b->q);
        for (int j = 0; j < 16; j++)
            b->sum16[j] = (int16_t)sum_of(b->q + 16 * j, 16);
        for (int j = 0; j < 8; j++)
            b->sum32[j] = (int16_t)sum_of(b->q + 32 * j, 32);
    }
}

/* The scale is rounded to half precision before the division, so that what is read back is as close as can be. Scales
 * beyond half precision's range are clamped to it, and so are the values. */
void ref_q8_0_store(const float *x, uint8_t *out, int64_t n)
{
    for (int64_t c = 0; c < n; c += 32, out += 34) {
        uint16_t h = dtype_f32_to_f16(fminf(largest(x + c, 32) / 127.0f, 65504.0f));
        float d = dtype_f16_to_f32(h);
        memcpy(out, &h, 2);
        for (int i = 0; i < 32; i++) {
            float v = d > 0 ? x[c + i] / d : 0;
            out[2 + i] = (uint8_t)(int8_t)lrintf(fminf(fmaxf(v, -127.0f), 127.0f));
        }
    }
}
