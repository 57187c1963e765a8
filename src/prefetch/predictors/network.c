/* network.c - a small network for each layer, trained while it runs, that guesses up to four layers ahead.
 *
 *   x of layer l -> divided by its RMS -> W1 (UNITS, hidden) -> silu -> W2 (SPAN * experts, UNITS)
 *                                                                   -> logits of layers l + 1 ... l + SPAN
 *
 * A layer's rows are held until the last of the layers that they predict has chosen; then W1 and W2 take one step down
 * the gradient of the cross entropy between what those layers chose and softmax(logits). W2 starts at zero, so that
 * untrained all experts are alike. Rows are matched by their number: another number, or a layer that was not seen, and
 * what is held is forgotten. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "prefetch/predictors/learn.h"

enum { SPAN = 4, UNITS = 1024 };
#define RATE1 4.0f /* of W1 and W2; found by trial (bench/RESULTS.md, "Predictors") */
#define RATE2 1.0f

/* The rows of one layer, OBSERVED_TOKENS_MAX of each. */
typedef struct held {
    float *x;     /* [hidden] of RMS 1; zeros where the input is no number */
    float *inner; /* [UNITS] W1 x */
    float *units; /* [UNITS] silu of it */
    float *probs; /* [SPAN * experts] of each layer ahead; when that has chosen: the gradient by its logits */
} held;

typedef struct network {
    predictor_config config;
    bool frozen;
    int newest, count; /* layers newest - count + 1 .. newest are held, layer l in held[l % SPAN] */
    int64_t n;         /* rows of each */
    held held[SPAN];
    float *ones;    /* [UNITS] */
    float *back;    /* [OBSERVED_TOKENS_MAX, UNITS] the gradient by the units, then by `inner` */
    float *sums;    /* [experts] */
    float *w1, *w2; /* [layers - 1] of [UNITS, hidden] and [SPAN * experts, UNITS] */
} network;

static float *w1_of(const network *s, int layer)
{
    return s->w1 + (size_t)layer * UNITS * (size_t)s->config.hidden;
}

static float *w2_of(const network *s, int layer)
{
    return s->w2 + (size_t)layer * SPAN * (size_t)s->config.experts * UNITS;
}

/* How many of the layers after this one it speaks of. */
static int span_of(const network *s, int layer)
{
    int left = s->config.layers - 1 - layer;
    return left < SPAN ? left : SPAN;
}

/* What the held rows of `layer` say of the layer `distance` after it, [experts] of row 0; a row takes SPAN * experts.
 */
static float *probs_of(const network *s, int layer, int distance)
{
    return s->held[layer % SPAN].probs + (size_t)(distance - 1) * (size_t)s->config.experts;
}

static void scale_row(const float *x, float *out, int64_t hidden)
{
    double squares = 0;
    for (int64_t i = 0; i < hidden; i++)
        squares += (double)x[i] * x[i];
    double scale = isfinite(squares) && squares > 0 ? sqrt((double)hidden / squares) : 0;
    for (int64_t i = 0; i < hidden; i++)
        out[i] = scale > 0 ? (float)(x[i] * scale) : 0;
}

/* Hold the rows of `layer`, with what they say of the layers after it. */
static void hold(network *s, int layer, const float *x)
{
    const struct kernel_table *kernels = s->config.kernels;
    const held *h = &s->held[layer % SPAN];
    int64_t hidden = s->config.hidden, experts = s->config.experts, all = SPAN * experts;
    int span = span_of(s, layer);
    for (int64_t row = 0; row < s->n; row++)
        scale_row(x + row * hidden, h->x + row * hidden, hidden);
    host_product(kernels, w1_of(s, layer), UNITS, hidden, h->x, s->n, h->inner, UNITS);
    for (int64_t row = 0; row < s->n; row++)
        host_silu_mul(kernels, h->inner + row * UNITS, s->ones, h->units + row * UNITS, UNITS);
    host_product(kernels, w2_of(s, layer), span * experts, UNITS, h->units, s->n, h->probs, all);
    for (int64_t row = 0; row < s->n; row++)
        for (int i = 0; i < span; i++)
            host_softmax(kernels, h->probs + row * all + i * experts, experts);
}

/* `layer` has chosen: the guesses about it become errors. */
static void judge(network *s, int layer, const odmoe_observation *rows)
{
    int experts = s->config.experts, k = s->config.top_k;
    for (int distance = 1; distance <= s->count; distance++)
        for (int64_t row = 0; row < s->n; row++)
            predictor_error(probs_of(s, layer - distance, distance) + row * SPAN * experts, experts,
                            rows->topk + row * k, rows->topw + row * k, k);
}

/* All that the rows of `layer` speak of has chosen: one step. Each matrix' step is divided by the size of what it
 * multiplies, so that it changes the outcome by the same share whatever the sizes; and by the root of the number of
 * rows, since they may pull in one direction. */
static void learn(network *s, int layer)
{
    const struct kernel_table *kernels = s->config.kernels;
    const held *h = &s->held[layer % SPAN];
    int64_t hidden = s->config.hidden, all = SPAN * (int64_t)s->config.experts;
    int64_t outputs = span_of(s, layer) * (int64_t)s->config.experts;
    float *w1 = w1_of(s, layer), *w2 = w2_of(s, layer), rows = sqrtf((float)s->n), rate[OBSERVED_TOKENS_MAX];
    host_product_transposed(kernels, w2, outputs, UNITS, h->probs, all, s->n, s->back, UNITS);
    for (int64_t row = 0; row < s->n; row++) {
        float squares = 1;
        for (int i = 0; i < UNITS; i++) {
            float inner = h->inner[row * UNITS + i], unit = h->units[row * UNITS + i];
            float sigmoid = 1 / (1 + expf(-inner));
            squares += unit * unit;
            s->back[row * UNITS + i] *= sigmoid + unit * (1 - sigmoid);
        }
        rate[row] = RATE2 / (squares * rows);
    }
    for (int64_t o = 0; o < outputs; o++)
        for (int64_t row = 0; row < s->n; row++)
            host_add_scaled(kernels, w2 + o * UNITS, h->units + row * UNITS, -rate[row] * h->probs[row * all + o],
                            UNITS);
    for (int64_t i = 0; i < UNITS; i++)
        for (int64_t row = 0; row < s->n; row++)
            host_add_scaled(kernels, w1 + i * hidden, h->x + row * hidden,
                            -RATE1 / ((float)hidden * rows) * s->back[row * UNITS + i], hidden);
}

static odmoe_status observe(void *ctx, int32_t layer, const odmoe_observation *rows, odmoe_error *err)
{
    network *s = ctx;
    bool last = layer + 1 == s->config.layers;
    if (layer != s->newest + 1 || rows->n != s->n)
        s->count = 0;
    judge(s, layer, rows);
    for (int l = layer - s->count; l < layer && !s->frozen; l++)
        if (last || l + SPAN == layer)
            learn(s, l);
    s->newest = layer;
    s->n = rows->n < OBSERVED_TOKENS_MAX ? rows->n : OBSERVED_TOKENS_MAX;
    s->count = last ? 0 : s->count < SPAN ? s->count + 1 : SPAN;
    if (!last)
        hold(s, layer, rows->x);
    return ODMOE_OK;
}

/* The layer seen last knows best, and is asked alone: what those before it said makes guesses worse. */
static odmoe_status predict(void *ctx, int32_t next, int32_t *experts, float *scores, int32_t capacity, int32_t *n,
                            odmoe_error *err)
{
    network *s = ctx;
    int count = s->config.experts, distance = next - s->newest;
    *n = 0;
    if (!s->count || distance < 1 || distance > span_of(s, s->newest))
        return ODMOE_OK;
    memset(s->sums, 0, (size_t)count * sizeof *s->sums);
    for (int64_t row = 0; row < s->n; row++)
        host_add_scaled(s->config.kernels, s->sums, probs_of(s, s->newest, distance) + row * SPAN * count, 1, count);
    predictor_emit(s->sums, count, experts, scores, n);
    return ODMOE_OK;
}

static void release(void *ctx)
{
    network *s = ctx;
    for (int i = 0; i < SPAN; i++) {
        free(s->held[i].x);
        free(s->held[i].inner);
        free(s->held[i].units);
        free(s->held[i].probs);
    }
    free(s->ones);
    free(s->back);
    free(s->sums);
    free(s->w1);
    free(s->w2);
    free(s);
}

static bool allocate(network *s, odmoe_error *err)
{
    size_t hidden = (size_t)s->config.hidden, outputs = SPAN * (size_t)s->config.experts;
    size_t steps = s->config.layers > 1 ? (size_t)s->config.layers - 1 : 1;
    for (int i = 0; i < SPAN; i++) {
        held *h = &s->held[i];
        h->x = predictor_numbers(1, OBSERVED_TOKENS_MAX, hidden, err);
        h->inner = predictor_numbers(1, OBSERVED_TOKENS_MAX, UNITS, err);
        h->units = predictor_numbers(1, OBSERVED_TOKENS_MAX, UNITS, err);
        h->probs = predictor_numbers(1, OBSERVED_TOKENS_MAX, outputs, err);
        if (!h->x || !h->inner || !h->units || !h->probs)
            return false;
    }
    s->ones = predictor_numbers(1, 1, UNITS, err);
    s->back = predictor_numbers(1, OBSERVED_TOKENS_MAX, UNITS, err);
    s->sums = predictor_numbers(1, 1, (size_t)s->config.experts, err);
    s->w1 = predictor_numbers(steps, UNITS, hidden, err);
    s->w2 = predictor_numbers(steps, outputs, UNITS, err);
    if (!s->ones || !s->back || !s->sums || !s->w1 || !s->w2)
        return false;
    for (int i = 0; i < UNITS; i++)
        s->ones[i] = 1;
    predictor_scatter(s->w1, steps * UNITS * hidden, 1 / sqrtf((float)hidden));
    return true;
}

odmoe_status predictor_network_create(const predictor_config *config, expert_predictor *out, odmoe_error *err)
{
    network *s = mem_calloc(1, sizeof *s, "a predictor", err);
    if (!s)
        return ODMOE_ERR_MEMORY;
    s->config = *config;
    s->newest = -1;
    if (!allocate(s, err)) {
        release(s);
        return ODMOE_ERR_MEMORY;
    }
    int64_t steps = config->layers > 1 ? config->layers - 1 : 1, outputs = SPAN * (int64_t)config->experts;
    *out = (expert_predictor){.table = {sizeof out->table, s, observe, predict},
                              .free = release,
                              .n_arrays = 2,
                              .arrays = {{"network.w1", {steps, UNITS, config->hidden}, s->w1},
                                         {"network.w2", {steps, outputs, UNITS}, s->w2}},
                              .frozen = &s->frozen};
    return ODMOE_OK;
}
