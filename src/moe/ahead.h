/* ahead.h - asks a predictor what the next layer will need, and has it read ahead, on a thread of its own.
 *
 *   layer l's router has spoken -> ahead_post copies its rows -> [thread] observe(l), predict(l + 1), source.prefetch
 *
 * The layer never waits for it: rows wait in a ring, and when that is full (the predictor is slow, or hangs) they are
 * dropped and counted. A guess that comes when a later layer has been posted is of no use any more and reads nothing.
 *
 * A predictor that does not earn its reads loses them, rank by rank (likely.h): what it named first, second, ... and
 * was not in memory is held against what the next layer's router then chose.
 */
#ifndef ODMOE_MOE_AHEAD_H
#define ODMOE_MOE_AHEAD_H

#include "moe/source.h"
#include "odmoe_layer.h"

#define AHEAD_ROWS 64 /* rows of a call that a predictor sees, the last ones */

typedef struct ahead ahead;

typedef struct ahead_options {
    odmoe_predictor predictor;
    expert_source source; /* its prefetch may be called from the thread */
    int layers, experts, top_k;
    int64_t hidden;
    int most; /* experts to read ahead for a layer */
} ahead_options;

/* ahead_create - starts the thread. ahead_free - waits for a call of the predictor under way; NULL is fine. */
odmoe_status ahead_create(const ahead_options *options, ahead **out, odmoe_error *err);
void ahead_free(ahead *a);

/* ahead_post - layer's router has chosen for x [n, hidden]: topk, topw [n, top_k]. Copies; returns at once. */
void ahead_post(ahead *a, int layer, const float *x, const int32_t *topk, const float *topw, int64_t n);

/* Predictions asked for a layer, and those that failed or were dropped. Reset: all layers. */
void ahead_counts(ahead *a, int layer, uint64_t *asked, uint64_t *failed);
void ahead_reset(ahead *a);

#endif
