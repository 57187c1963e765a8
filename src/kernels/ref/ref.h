/* ref.h - what the files of the plain C table share; private to ref/. */
#ifndef ODMOE_KERNELS_REF_REF_H
#define ODMOE_KERNELS_REF_REF_H

#include "kernels/kernels.h"

/* weights.c: ref_dequantise_Q4_K and so on. */
#define REF_DEQUANTISE(NAME, name, number, block, bytes) \
    void ref_dequantise_##NAME(const void *weights, float *out, int64_t n);
DTYPE_PLAIN_LIST(REF_DEQUANTISE)
#undef REF_DEQUANTISE

/* scaled.c: ref_matmul_F8_E4M3 and so on; NVFP4 to float as gguf-py does it. */
#define REF_MATMUL_SCALED(NAME, name, number, block, bytes)                                                     \
    void ref_matmul_##NAME(const scaled_weights *w, int64_t first, int64_t rows, int64_t cols, const void *act, \
                           int64_t act_row, int64_t n, float *y, int64_t ldy);
DTYPE_SCALED_LIST(REF_MATMUL_SCALED)
#undef REF_MATMUL_SCALED
void ref_dequantise_nvfp4(const void *weights, float *out, int64_t n);

/* elementwise.c */
void ref_rms_norm(const float *x, const float *weight, float eps, float *y, int64_t n);
void ref_layer_norm(const float *x, const float *weight, const float *bias, float eps, float *y, int64_t n);
void ref_l2_norm(const float *x, float factor, float eps, float *y, int64_t n);
void ref_softmax(float *x, int64_t n);
void ref_silu_mul(const float *gate, const float *up, float *out, int64_t n);
void ref_silu_mul_clamped(const float *gate, const float *up, float *out, int64_t n, float alpha, float limit,
                          float offset);
void ref_gelu_mul(const float *gate, const float *up, float *out, int64_t n);
void ref_relu_squared(const float *x, float *out, int64_t n);
void ref_sigmoid_mul(const float *gate, const float *x, float *out, int64_t n);
void ref_soft_cap(const float *x, float cap, float *out, int64_t n);
void ref_add_scaled(float *y, const float *x, float a, int64_t n);

/* quantise.c */
void ref_quantise_f32(const float *x, void *out, int64_t cols);
void ref_quantise_q8(const float *x, void *out, int64_t cols);
void ref_quantise_q8k(const float *x, void *out, int64_t cols);
void ref_q8_0_store(const float *x, uint8_t *out, int64_t n); /* GGUF's Q8_0 */

/* attend.c */
void ref_kv_store(kv_type type, const float *x, void *out, int64_t head_dim);
void ref_key_store(kv_type type, const float *x, void *page, int64_t place, int64_t head_dim);
/* The bytes that kv_store made of n <= 32 elements from `start` on, to their places in a page of keys. */
void ref_key_place(kv_type type, const void *stored, void *page, int64_t place, int64_t start, int64_t n,
                   int64_t head_dim);
void ref_attend(const attend_args *args);

/* recurrent.c */
void ref_recurrent(const recurrent_args *args);
void ref_delta(const delta_args *args);
void ref_conv(const conv_args *args);
/* conv_input - the input of a convolution at token t, from before the call where t is negative; from channel 0 on.
 * conv_keep - the state after n tokens. */
static inline const float *conv_input(const conv_args *a, int64_t t)
{
    return t < 0 ? a->before + (a->width - 1 + t) * a->state_stride : a->x + t * a->x_stride;
}
void conv_keep(const conv_args *a);

#endif
