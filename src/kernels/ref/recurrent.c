/* recurrent.c - plain C: linear attention, token by token or in chunks, and causal convolutions. */
#include <math.h>

#include "kernels/ref/ref.h"

/* Column j of the state, for token t. */
static void column_step(const recurrent_args *a, int64_t t, int64_t j)
{
    const float *q = a->q + t * a->q_stride, *k = a->k + t * a->k_stride, *decay = a->decay + t * a->decay_stride;
    const float *before = (t ? a->state : a->before) + j;
    float *s = a->state + j, product = 0, out = 0;
    for (int64_t i = 0; i < a->key_dim; i++) {
        s[i * a->state_stride] = before[i * a->state_stride] * decay[a->decay_rows ? i : 0];
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

/* Number i of the key of the chunk's token s; the token's decay. */
static float key_at(const delta_args *a, int s, int64_t i)
{
    return s < a->rows ? a->keys[i * DELTA_CHUNK + s] : a->k[(s - a->rows) * a->k_stride + i];
}
static float decay_at(const delta_args *a, int s)
{
    return s < a->rows ? a->decays[s * a->decays_stride] : a->decay[(s - a->rows) * a->decay_stride];
}

/* k_s . x */
static float product_with(const delta_args *a, int s, const float *x)
{
    float sum = 0;
    for (int64_t i = 0; i < a->key_dim; i++)
        sum += key_at(a, s, i) * x[i];
    return sum;
}

/* The product of the decays behind token s, up to token t; s = -1: from the chunk's beginning on. */
static float decay_between(const delta_args *a, int s, int t)
{
    float product = 1;
    while (++s <= t)
        product *= decay_at(a, s);
    return product;
}

/* What a token's columns share: its products with each token of the chunk up to itself, times decays. */
typedef struct token_factors {
    float keys[DELTA_CHUNK], queries[DELTA_CHUNK];
    float all; /* decays from the chunk's beginning on */
} token_factors;

static token_factors factors_of(const delta_args *a, int t)
{
    token_factors f = {.all = decay_between(a, -1, t)};
    for (int s = 0; s <= t; s++) {
        float decay = decay_between(a, s, t);
        f.keys[s] = decay * product_with(a, s, a->k + (t - a->rows) * a->k_stride);
        f.queries[s] = decay * product_with(a, s, a->q + (t - a->rows) * a->q_stride);
    }
    return f;
}

/* Where column j lies in panels of `rows` rows. */
static int64_t column_of(int64_t j, int64_t rows)
{
    return j / DELTA_CHUNK * DELTA_CHUNK * rows + j % DELTA_CHUNK;
}

/* Token t of the chunk, column j. */
static void delta_column(const delta_args *a, const token_factors *f, int t, int64_t j)
{
    int64_t own = t - a->rows; /* its number in the call */
    const float *k = a->k + own * a->k_stride, *q = a->q + own * a->q_stride;
    const float *state = a->state + column_of(j, a->key_dim);
    float *u = a->u + column_of(j, DELTA_CHUNK), with_key = 0, with_query = 0;
    for (int64_t i = 0; i < a->key_dim; i++) {
        with_key += state[i * DELTA_CHUNK] * k[i];
        with_query += state[i * DELTA_CHUNK] * q[i];
    }
    float sum = f->all * with_key, out = f->all * with_query;
    for (int s = 0; s < t; s++) {
        sum += f->keys[s] * u[s * DELTA_CHUNK];
        out += f->queries[s] * u[s * DELTA_CHUNK];
    }
    u[t * DELTA_CHUNK] = a->beta[own * a->beta_stride] * (a->v[own * a->v_stride + j] - sum);
    a->out[own * a->out_stride + j] = out + f->queries[t] * u[t * DELTA_CHUNK];
}

/* Column j of the next chunk's S. */
static void next_column(const delta_args *a, int64_t j)
{
    const float *state = a->state + column_of(j, a->key_dim), *u = a->u + column_of(j, DELTA_CHUNK);
    float *next = a->next + column_of(j, a->key_dim), decayed[DELTA_CHUNK];
    for (int s = 0; s < DELTA_CHUNK; s++)
        decayed[s] = decay_between(a, s, DELTA_CHUNK - 1) * u[s * DELTA_CHUNK];
    float all = decay_between(a, -1, DELTA_CHUNK - 1);
    for (int64_t i = 0; i < a->key_dim; i++) {
        float sum = all * state[i * DELTA_CHUNK];
        for (int s = 0; s < DELTA_CHUNK; s++)
            sum += key_at(a, s, i) * decayed[s];
        next[i * DELTA_CHUNK] = sum;
    }
}

void ref_delta(const delta_args *a)
{
    for (int t = a->rows; t < a->rows + a->n; t++) {
        token_factors f = factors_of(a, t);
        for (int64_t j = 0; j < a->value_dim; j++)
            delta_column(a, &f, t, j);
    }
    for (int64_t j = 0; j < a->value_dim && a->rows + a->n == DELTA_CHUNK; j++)
        next_column(a, j);
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
