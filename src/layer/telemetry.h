/* telemetry.h - how a layer's experts were used: counters that cost a few additions a call, and figures from them. */
#ifndef ODMOE_LAYER_TELEMETRY_H
#define ODMOE_LAYER_TELEMETRY_H

#include "base/status.h"
#include "odmoe_layer.h"

typedef struct telemetry {
    int experts;
    uint64_t rows, calls;
    uint64_t *counts; /* [experts] selections, all experts */
} telemetry;

odmoe_status telemetry_init(telemetry *t, int experts, odmoe_error *err);
void telemetry_clear(telemetry *t); /* zeroed is fine */
void telemetry_reset(telemetry *t);
/* telemetry_add - a chunk of n tokens, and how many of them chose each expert [experts]. */
void telemetry_add(telemetry *t, int64_t n, const int32_t *counts);

typedef struct telemetry_figures {
    uint64_t selections;
    double imbalance;     /* 1 + std / mean, population, unused experts included; 1 without selections */
    double max_violation; /* max / mean - 1 */
    double entropy;       /* over log(experts): 1 even, 0 one expert only */
} telemetry_figures;

/* telemetry_figures_of - from counts [experts]. */
telemetry_figures telemetry_figures_of(const uint64_t *counts, int experts);

/* telemetry_json - stats and counts [experts] as one JSON object, a new string; free(). NULL with err set. */
char *telemetry_json(int layer, const odmoe_layer_stats *stats, const uint64_t *counts, int experts, odmoe_error *err);

#endif
