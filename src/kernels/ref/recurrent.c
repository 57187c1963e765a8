/* recurrent.c - plain C: linear attention and causal convolutions, token by token. */
#include <math.h>

#include "kernels/ref/ref.h"

/* Column j of the state, for token t. */
static void column_step(const recurrent_args *a, int64_t t, int64_t j)
{
    const float *q = a->q + t * a->q_stride, *k = a->k + t * a->k_stride, *decay = a->decay + t * a->decay_stride;
    float *s = a->state + j, product = 0, out = 0;
    for (int64_t i = 0; i < a->key_dim; i++) {
        s[i * a->state_stride] *= decay[a->decay_rows ? i : 0];
        product += s[i * a->state_stride] * k[i];
    }
    float v = a->v[t * a->v_stride + j], u = a->beta[t * a->beta_stride] * (a->delta ? v - product : v);
    for (int64_t i = 0; i < a->key_dim; i++) {
        s[i * a->state_stride] += k[i] * u;
        out += s[i * a->state_stride] * q[i];
    }
    a->out[t * a->out_stride + j] = out;
}

void ref_recurrent(const recurrent_args *a)
{
    for (int64_t t = 0; t < a->n; t++)
        for (int64_t j = 0; j < a->value_dim; j++)
            column_step(a, t, j);
}

void conv_keep(const conv_args *a)
{
    int64_t kept = a->width - 1;
    for (int64_t i = 0; i < kept; i++) /* ascending: what is read lies further on */
        memmove(a->state + i * a->state_stride, conv_input(a, a->n - kept + i), (size_t)a->channels * sizeof(float));
}

void ref_conv(const conv_args *a)
{
    for (int64_t t = 0; t < a->n; t++)
        for (int64_t c = 0; c < a->channels; c++) {
            float sum = a->bias ? a->bias[c] : 0;
            for (int j = 0; j < a->width; j++)
                sum += a->weight[j * a->weight_stride + c] * conv_input(a, t - a->width + 1 + j)[c];
            a->y[t * a->y_stride + c] = a->silu ? sum / (1.0f + expf(-sum)) : sum;
        }
    conv_keep(a);
}
