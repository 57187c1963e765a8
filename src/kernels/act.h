/* act.h - rows of quantised activations as they lie in memory; `quantise` writes them, `matmul` reads them.
 *
 * Every table quantises to the same bytes: d = max|x| / 127, q = x * (127 / max|x|) rounded to nearest even. A block
 * whose maximum is below 2^-120 (so that 127 / max|x| could overflow) is all zero. */
#ifndef ODMOE_KERNELS_ACT_H
#define ODMOE_KERNELS_ACT_H

#include <stdint.h>

#define ACT_SMALLEST 0x1p-120f

typedef struct act_q8 { /* ACT_Q8: 32 activations, x[i] = d * q[i] */
    float d;
    int32_t sum; /* of q */
    int8_t q[32];
} act_q8;

typedef struct act_q8k { /* ACT_Q8K: 256 activations */
    float d;
    int16_t sum16[16]; /* of q[16 j ..] */
    int16_t sum32[8];  /* of q[32 j ..] */
    int8_t q[256];
} act_q8k;

/* act_scale - the block's scale d, and in *inverse what activations are multiplied with; both 0 for a zero block. */
static inline float act_scale(float max, float *inverse)
{
    if (max < ACT_SMALLEST) {
        *inverse = 0;
        return 0;
    }
    *inverse = 127.0f / max;
    return max / 127.0f;
}

#endif
