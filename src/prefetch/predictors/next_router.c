/* next_router.c - the next layer's router applied early, and its correction.
 *
 *   logits = R_next x + A (B x)        A (experts, RANK), B (RANK, hidden): one pair for each step from layer to layer
 *
 * What a layer sees differs from what the layer before saw by that one's output; most of it a router ignores, some of
 * it is a linear map of few dimensions, which A B learns: when the next layer has chosen, a step down the gradient of
 * the cross entropy between its weights and softmax(logits). A starts at zero, so that untrained it changes nothing. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "prefetch/predictors/learn.h"

enum { RANK = 16 };
#define RATE 0.02f

typedef struct routers {
    predictor_config config;
    bool frozen;
    int layer;    /* whose rows are held; -1: none */
    int64_t n;    /* of them */
    float *x;     /* [OBSERVED_TOKENS_MAX, hidden] */
    float *probs; /* [OBSERVED_TOKENS_MAX, experts] logits, then probabilities, of the layer after `layer` */
    float *sums;  /* [experts] */
    float *a, *b; /* [layers - 1] of [experts, RANK] and [RANK, hidden]; NULL: no correction */
    float *inner; /* [OBSERVED_TOKENS_MAX, RANK] B x */
} routers;

static float *a_of(const routers *r, int layer)
{
    return r->a + (size_t)layer * (size_t)r->config.experts * RANK;
}

static float *b_of(const routers *r, int layer)
{
    return r->b + (size_t)layer * RANK * (size_t)r->config.hidden;
}

/* Probabilities of the layer after the held rows' one. */
static void guess(routers *r)
{
    int experts = r->config.experts;
    const struct kernel_table *kernels = r->config.kernels;
    host_product(kernels, r->config.routers[r->layer + 1], experts, r->config.hidden, r->x, r->n, r->probs, experts);
    if (r->a)
        host_product(kernels, b_of(r, r->layer), RANK, r->config.hidden, r->x, r->n, r->inner, RANK);
    for (int64_t row = 0; row < r->n; row++) {
        float *p = r->probs + row * experts;
        for (int e = 0; e < experts && r->a; e++)
            for (int k = 0; k < RANK; k++)
                p[e] += a_of(r, r->layer)[e * RANK + k] * r->inner[row * RANK + k];
        host_softmax(kernels, p, experts);
    }
}

/* The layer after the held rows' one has chosen for the same rows: one step for each. */
static void learn(routers *r, const odmoe_observation *rows)
{
    int experts = r->config.experts, k = r->config.top_k;
    int64_t hidden = r->config.hidden;
    float *a = a_of(r, r->layer), *b = b_of(r, r->layer);
    for (int64_t row = 0; row < r->n; row++) {
        float *error = r->probs + row * experts, back[RANK] = {0}, squares = 0;
        const float *inner = r->inner + row * RANK, *x = r->x + row * hidden;
        float size = 0;
        if (!predictor_error(error, experts, rows->topk + row * k, rows->topw + row * k, k))
            continue;
        for (int64_t h = 0; h < hidden; h++)
            squares += x[h] * x[h];
        for (int j = 0; j < RANK; j++)
            size += inner[j] * inner[j];
        float rate_a = 2 * RATE / (1 + size / RANK);
        for (int e = 0; e < experts; e++)
            for (int j = 0; j < RANK; j++) {
                back[j] += a[e * RANK + j] * error[e];
                a[e * RANK + j] -= rate_a * error[e] * inner[j];
            }
        /* steps are divided by the size of what they multiply: no row, however large, spoils what was learned */
        float rate = squares > 0 ? RATE * (float)hidden / (squares + 1) : 0;
        for (int j = 0; j < RANK; j++)
            host_add_scaled(r->config.kernels, b + j * hidden, x, -rate * back[j] / (float)hidden, hidden);
    }
}

static odmoe_status observe(void *ctx, int32_t layer, const odmoe_observation *rows, odmoe_error *err)
{
    routers *r = ctx;
    if (r->a && !r->frozen && r->layer >= 0 && r->layer + 1 == layer && r->n == rows->n)
        learn(r, rows);
    r->layer = layer;
    r->n = rows->n < OBSERVED_TOKENS_MAX ? rows->n : OBSERVED_TOKENS_MAX;
    memcpy(r->x, rows->x, (size_t)(r->n * r->config.hidden) * sizeof *r->x);
    if (layer + 1 < r->config.layers)
        guess(r);
    else
        r->layer = -1;
    return ODMOE_OK;
}

static odmoe_status predict(void *ctx, int32_t next, int32_t *experts, float *scores, int32_t capacity, int32_t *n,
                            odmoe_error *err)
{
    routers *r = ctx;
    *n = 0;
    if (r->layer < 0 || next != r->layer + 1)
        return ODMOE_OK;
    memset(r->sums, 0, (size_t)r->config.experts * sizeof *r->sums);
    for (int64_t row = 0; row < r->n; row++)
        host_add_scaled(r->config.kernels, r->sums, r->probs + row * r->config.experts, 1, r->config.experts);
    predictor_emit(r->sums, r->config.experts, experts, scores, n);
    return ODMOE_OK;
}

static void release(void *ctx)
{
    routers *r = ctx;
    free(r->x);
    free(r->probs);
    free(r->sums);
    free(r->a);
    free(r->b);
    free(r->inner);
    free(r);
}

static odmoe_status create(const predictor_config *config, bool corrected, expert_predictor *out, odmoe_error *err)
{
    size_t hidden = (size_t)config->hidden, experts = (size_t)config->experts;
    size_t steps = config->layers > 1 ? (size_t)config->layers - 1 : 1;
    routers *r = mem_calloc(1, sizeof *r, "a predictor", err);
    if (!r)
        return ODMOE_ERR_MEMORY;
    r->config = *config;
    r->layer = -1;
    r->x = predictor_numbers(1, OBSERVED_TOKENS_MAX, hidden, err);
    r->probs = predictor_numbers(1, OBSERVED_TOKENS_MAX, experts, err);
    r->sums = predictor_numbers(1, 1, experts, err);
    r->inner = predictor_numbers(1, OBSERVED_TOKENS_MAX, RANK, err);
    r->a = corrected ? predictor_numbers(steps, experts, RANK, err) : NULL;
    r->b = corrected ? predictor_numbers(steps, RANK, hidden, err) : NULL;
    if (!r->x || !r->probs || !r->sums || !r->inner || (corrected && (!r->a || !r->b))) {
        release(r);
        return ODMOE_ERR_MEMORY;
    }
    *out = (expert_predictor){.table = {sizeof out->table, r, observe, predict}, .free = release};
    if (corrected) {
        predictor_scatter(r->b, steps * RANK * hidden, 1 / sqrtf((float)hidden));
        out->n_arrays = 2;
        out->arrays[0] = (predictor_array){"router_low_rank.a", {(int64_t)steps, config->experts, RANK}, r->a};
        out->arrays[1] = (predictor_array){"router_low_rank.b", {(int64_t)steps, RANK, config->hidden}, r->b};
        out->frozen = &r->frozen;
    }
    return ODMOE_OK;
}

odmoe_status predictor_router_create(const predictor_config *config, expert_predictor *out, odmoe_error *err)
{
    return create(config, false, out, err);
}

odmoe_status predictor_low_rank_create(const predictor_config *config, expert_predictor *out, odmoe_error *err)
{
    return create(config, true, out, err);
}
