/* layer_fixture.h - made-up layers for tests: random routers and experts in memory, and a source over them that can
 * fail, block and be watched. */
#ifndef ODMOE_TESTS_LAYER_FIXTURE_H
#define ODMOE_TESTS_LAYER_FIXTURE_H

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "odmoe_tensors.h"
#include "odmoe_train.h"

enum { FIXTURE_LAYERS_MAX = 4, PREFETCHES_MAX = 64 };

typedef struct layer_fixture {
    int32_t L, H, F, E, k;
    float *router[FIXTURE_LAYERS_MAX];  /* [E, H] */
    float *experts[FIXTURE_LAYERS_MAX]; /* [E, 3 H F] w1 | w2 | w3 */
    float *x;                           /* [n, H] */
    int64_t n;
    odmoe_layer_options options; /* source and weights set; a test changes the rest */
    odmoe_source_ops ops;
    /* what the source has been asked, and what it is to do */
    int begins, given;
    int32_t batch[64], batch_n, batch_at, batch_layer;
    int32_t fail_expert;    /* next fails when it comes to it; -1: never */
    bool wait_for_prefetch; /* next of layer l waits until layer l + 1 has been prefetched; for ever if it never is */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int prefetches, asked_missing;
    int32_t prefetch_layer[PREFETCHES_MAX], prefetch_n[PREFETCHES_MAX], prefetch_first[PREFETCHES_MAX];
    odmoe_error err;
} layer_fixture;

static inline float fixture_normal(uint64_t *state)
{
    float sum = 0;
    for (int i = 0; i < 4; i++) {
        *state = *state * 6364136223846793005u + 1442695040888963407u;
        sum += (float)(*state >> 40) * 0x1p-24f - 0.5f;
    }
    return sum * 1.7320508f;
}

static inline float *fixture_numbers(size_t n, float scale, uint64_t seed)
{
    float *out = malloc(n * sizeof *out);
    assert_non_null(out);
    for (size_t i = 0; i < n; i++)
        out[i] = fixture_normal(&seed) * scale;
    return out;
}

static inline odmoe_status fixture_begin(void *ctx, int32_t layer, const int32_t *experts, int32_t n, odmoe_order order,
                                         void **batch, odmoe_error *err)
{
    layer_fixture *f = ctx;
    f->begins++;
    memcpy(f->batch, experts, (size_t)n * sizeof *experts);
    f->batch_n = n;
    f->batch_at = 0;
    f->batch_layer = layer;
    *batch = f;
    return ODMOE_OK;
}

static inline void fixture_wait_for_prefetch(layer_fixture *f, int32_t layer)
{
    bool there = false;
    pthread_mutex_lock(&f->lock);
    while (!there) {
        for (int i = 0; i < f->prefetches; i++)
            there |= f->prefetch_layer[i] == layer;
        if (!there)
            pthread_cond_wait(&f->changed, &f->lock);
    }
    pthread_mutex_unlock(&f->lock);
}

static inline odmoe_status fixture_next(void *ctx, void *batch, odmoe_expert *out, odmoe_error *err)
{
    layer_fixture *f = ctx;
    static const int32_t roles[] = {ODMOE_GATE, ODMOE_DOWN, ODMOE_UP};
    *out = (odmoe_expert){.layer = f->batch_layer, .expert = -1};
    if (f->batch_at == f->batch_n)
        return ODMOE_OK;
    out->expert = f->batch[f->batch_at++];
    if (f->wait_for_prefetch && f->batch_layer + 1 < f->L)
        fixture_wait_for_prefetch(f, f->batch_layer + 1);
    if (out->expert == f->fail_expert) {
        if (err) {
            err->code = ODMOE_ERR_IO;
            snprintf(err->message, sizeof err->message, "expert %d: the test's disk is broken", out->expert);
        }
        return ODMOE_ERR_IO;
    }
    f->given++;
    out->n = 3;
    size_t piece = (size_t)f->H * (size_t)f->F;
    const float *at = f->experts[f->batch_layer] + (size_t)out->expert * 3 * piece;
    for (int i = 0; i < 3; i++)
        out->matrix[i] = (odmoe_matrix){.role = roles[i],
                                        .type = ODMOE_TYPE_F32,
                                        .in_out = 1,
                                        .rows = i == 1 ? f->F : f->H,
                                        .cols = i == 1 ? f->H : f->F,
                                        .data = at + (size_t)i * piece};
    return ODMOE_OK;
}

static inline void fixture_release(void *ctx, void *batch, const odmoe_expert *expert)
{
    layer_fixture *f = ctx;
    f->given--;
}

static inline void fixture_end(void *ctx, void *batch)
{
}

static inline void fixture_prefetch(void *ctx, int32_t layer, const int32_t *experts, const float *scores, int32_t n)
{
    layer_fixture *f = ctx;
    pthread_mutex_lock(&f->lock);
    if (f->prefetches < PREFETCHES_MAX) {
        f->prefetch_layer[f->prefetches] = layer;
        f->prefetch_n[f->prefetches] = n;
        f->prefetch_first[f->prefetches++] = experts[0];
    }
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

static inline int32_t fixture_missing(void *ctx, int32_t layer, int32_t expert)
{
    layer_fixture *f = ctx;
    pthread_mutex_lock(&f->lock);
    f->asked_missing++;
    pthread_mutex_unlock(&f->lock);
    return 1;
}

static inline void fixture_make(layer_fixture *f, int32_t L, int32_t H, int32_t F, int32_t E, int32_t k, int64_t n)
{
    *f = (layer_fixture){.L = L, .H = H, .F = F, .E = E, .k = k, .n = n, .fail_expert = -1};
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->changed, NULL);
    for (int l = 0; l < L; l++) {
        f->router[l] = fixture_numbers((size_t)(E * H), 1 / sqrtf((float)H), (uint64_t)(11 + l));
        f->experts[l] = fixture_numbers((size_t)E * 3 * (size_t)(H * F), 1 / sqrtf((float)H), (uint64_t)(21 + l));
    }
    f->x = fixture_numbers((size_t)(n * H), 1, 31);
    f->ops = (odmoe_source_ops){.size = sizeof f->ops,
                                .ctx = f,
                                .begin = fixture_begin,
                                .next = fixture_next,
                                .release = fixture_release,
                                .end = fixture_end,
                                .prefetch = fixture_prefetch,
                                .missing = fixture_missing};
    odmoe_layer_options_init(&f->options);
    f->options.layers = L;
    f->options.hidden = H;
    f->options.ffn = F;
    f->options.experts = E;
    f->options.top_k = k;
    f->options.weights = (const float *const *)f->router;
    f->options.source = &f->ops;
    f->options.threads = 2;
}

static inline void fixture_free(layer_fixture *f)
{
    assert_int_equal(f->given, 0); /* everything lent has been given back */
    for (int l = 0; l < f->L; l++) {
        free(f->router[l]);
        free(f->experts[l]);
    }
    free(f->x);
    pthread_mutex_destroy(&f->lock);
    pthread_cond_destroy(&f->changed);
}

static inline odmoe_layer *fixture_layer(layer_fixture *f)
{
    odmoe_layer *layer;
    if (odmoe_layer_create(&f->options, &layer, &f->err))
        fail_msg("%s", f->err.message);
    return layer;
}

/* One layer's output by the book, token by token, in double: y [n, H], and optionally the routing. */
static inline void naive_layer(const layer_fixture *f, int l, const float *x, int64_t n, double *y)
{
    int H = f->H, F = f->F, E = f->E, k = f->k;
    size_t piece = (size_t)H * (size_t)F;
    for (int64_t t = 0; t < n; t++) {
        double p[64], sum = 0, chosen = 0, w[64];
        int top[64];
        const float *row = x + t * H;
        for (int e = 0; e < E; e++) {
            double logit = 0;
            for (int h = 0; h < H; h++)
                logit += (double)f->router[l][e * H + h] * row[h];
            p[e] = exp(logit);
            sum += p[e];
        }
        for (int i = 0; i < k; i++) {
            top[i] = -1;
            for (int e = 0; e < E; e++) {
                bool taken = false;
                for (int j = 0; j < i; j++)
                    taken |= top[j] == e;
                if (!taken && (top[i] < 0 || p[e] > p[top[i]]))
                    top[i] = e;
            }
            w[i] = p[top[i]] / sum;
            chosen += w[i];
        }
        for (int h = 0; h < H; h++)
            y[t * H + h] = 0;
        for (int i = 0; i < k; i++) {
            const float *w1 = f->experts[l] + (size_t)top[i] * 3 * piece, *w2 = w1 + piece, *w3 = w2 + piece;
            for (int m = 0; m < F; m++) {
                double g = 0, u = 0;
                for (int h = 0; h < H; h++) {
                    g += (double)w1[h * F + m] * row[h];
                    u += (double)w3[h * F + m] * row[h];
                }
                double a = g / (1 + exp(-g)) * u * w[i] / chosen;
                for (int h = 0; h < H; h++)
                    y[t * H + h] += a * w2[m * H + h];
            }
        }
    }
}

#endif
