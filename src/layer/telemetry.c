#include "layer/telemetry.h"

#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

odmoe_status telemetry_init(telemetry *t, int experts, odmoe_error *err)
{
    *t = (telemetry){.experts = experts};
    t->counts = mem_calloc((size_t)experts, sizeof *t->counts, "the telemetry of a layer", err);
    return t->counts ? ODMOE_OK : ODMOE_ERR_MEMORY;
}

void telemetry_clear(telemetry *t)
{
    free(t->counts);
    *t = (telemetry){0};
}

void telemetry_reset(telemetry *t)
{
    t->rows = t->calls = 0;
    memset(t->counts, 0, (size_t)t->experts * sizeof *t->counts);
}

void telemetry_add(telemetry *t, int64_t n, const int32_t *counts)
{
    t->rows += (uint64_t)n;
    for (int e = 0; e < t->experts; e++)
        t->counts[e] += (uint64_t)counts[e];
}

telemetry_figures telemetry_figures_of(const uint64_t *counts, int experts)
{
    telemetry_figures f = {.imbalance = 1, .entropy = 1};
    uint64_t most = 0;
    for (int e = 0; e < experts; e++) {
        f.selections += counts[e];
        most = counts[e] > most ? counts[e] : most;
    }
    if (!f.selections)
        return f;
    double all = (double)f.selections, mean = all / experts, squares = 0, entropy = 0;
    for (int e = 0; e < experts; e++) {
        double d = (double)counts[e] - mean, share = (double)counts[e] / all;
        squares += d * d;
        entropy -= counts[e] ? share * log(share) : 0;
    }
    f.imbalance = 1 + sqrt(squares / experts) / mean;
    f.max_violation = (double)most / mean - 1;
    f.entropy = experts > 1 ? entropy / log(experts) : 1;
    return f;
}

char *telemetry_json(int layer, const odmoe_layer_stats *s, const uint64_t *counts, int experts, odmoe_error *err)
{
    json_t *list = json_array();
    bool whole = list;
    for (int e = 0; e < experts && whole; e++)
        whole = !json_array_append_new(list, json_integer((json_int_t)counts[e]));
    json_t *object = json_pack(
        "{si sI sI sI sf sf sf sI sI sI sf sI sI so}", "layer", layer, "rows", (json_int_t)s->rows, "calls",
        (json_int_t)s->calls, "selections", (json_int_t)s->selections, "imbalance", s->imbalance, "max_violation",
        s->max_violation, "entropy", s->entropy, "hits", (json_int_t)s->hits, "misses", (json_int_t)s->misses, "bytes",
        (json_int_t)s->bytes, "stall_seconds", s->stall_seconds, "predictions", (json_int_t)s->predictions,
        "prediction_failures", (json_int_t)s->prediction_failures, "counts", list);
    /* Into memory of our own: json_dumps loses the keys that it has no memory for, and says nothing. */
    size_t length = whole && object ? json_dumpb(object, NULL, 0, JSON_COMPACT) : 0;
    char *text = length ? mem_calloc(length + 1, 1, "the telemetry", NULL) : NULL;
    if (text && json_dumpb(object, text, length, JSON_COMPACT) != length) {
        free(text);
        text = NULL;
    }
    json_decref(object);
    if (!text)
        err_set(err, ODMOE_ERR_MEMORY, "no memory for the telemetry of layer %d", layer);
    return text;
}
