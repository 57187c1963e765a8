/* choice_history.c - guesses from what a layer chose before: most often, or last. Both keep one number an expert. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "prefetch/predictors/predictor.h"

/* What a call leaves of the scores before it: a choice counts half after some 34 calls, or is forgotten at once. */
#define FREQUENCY_KEEPS 0.98f
#define PREVIOUS_KEEPS 0.0f

typedef struct choices {
    int experts, top_k;
    float keeps;
    float scores[]; /* [layers, experts] */
} choices;

static odmoe_status observe(void *ctx, int32_t layer, const odmoe_observation *rows, odmoe_error *err)
{
    choices *c = ctx;
    float *scores = c->scores + (size_t)layer * (size_t)c->experts;
    for (int e = 0; e < c->experts; e++)
        scores[e] *= c->keeps;
    for (int64_t i = 0; i < rows->n * c->top_k; i++)
        if (rows->topw[i] > 0 && isfinite(rows->topw[i])) /* one that is not would stay for ever */
            scores[rows->topk[i]] += rows->topw[i];
    return ODMOE_OK;
}

static odmoe_status predict(void *ctx, int32_t next, int32_t *experts, float *scores, int32_t capacity, int32_t *n,
                            odmoe_error *err)
{
    const choices *c = ctx;
    predictor_emit(c->scores + (size_t)next * (size_t)c->experts, c->experts, experts, scores, n);
    return ODMOE_OK;
}

static odmoe_status create(const predictor_config *config, float keeps, expert_predictor *out, odmoe_error *err)
{
    size_t scores = (size_t)config->layers * (size_t)config->experts;
    choices *c = mem_calloc(1, sizeof *c + scores * sizeof *c->scores, "a predictor", err);
    if (!c)
        return ODMOE_ERR_MEMORY;
    c->experts = config->experts;
    c->top_k = config->top_k;
    c->keeps = keeps;
    *out = (expert_predictor){.table = {sizeof out->table, c, observe, predict}, .free = free};
    return ODMOE_OK;
}

odmoe_status predictor_frequency_create(const predictor_config *config, expert_predictor *out, odmoe_error *err)
{
    return create(config, FREQUENCY_KEEPS, out, err);
}

odmoe_status predictor_previous_create(const predictor_config *config, expert_predictor *out, odmoe_error *err)
{
    return create(config, PREVIOUS_KEEPS, out, err);
}
