/* shadow.h - predictors that need no model: they see what routers saw and chose, and guess what the next layer wants.
 *
 *   frequency        what the layer has chosen most, old choices fading
 *   previous         what it chose for the call before
 *   router           the next layer's own router, applied to this layer's input
 *   router_low_rank  the same with a correction of low rank, trained while it runs on what the next layer then chose
 *   network          a small network for each layer, trained in the same way; speaks of four layers ahead
 *
 * A predictor is called by one thread at a time (moe/ahead.h). */
#ifndef ODMOE_SHADOW_SHADOW_H
#define ODMOE_SHADOW_SHADOW_H

#include "kernels/kernels.h"
#include "moe/ahead.h"
#include "odmoe_layer.h"

typedef struct shadow_config {
    int layers, experts, top_k;
    int64_t hidden;
    const float *const *routers; /* [layers] of [experts, hidden], borrowed; NULL for kinds that look at choices only */
    const kernel_table *kernels;
} shadow_config;

/* Numbers that a predictor has learned: the others follow from what it is asked. */
typedef struct shadow_array {
    const char *name; /* with the kind's */
    int64_t shape[3];
    float *data; /* row-major */
} shadow_array;

enum { SHADOW_ARRAYS = 2 };

typedef struct shadow {
    odmoe_predictor table;
    void (*free)(void *ctx);
    /* Of kinds that learn; the owner reads and writes them between calls. */
    int n_arrays; /* 0: it learns nothing */
    shadow_array arrays[SHADOW_ARRAYS];
    bool *frozen; /* true: it goes on guessing and learns no more; NULL: it learns nothing */
} shadow;

typedef struct shadow_kind {
    const char *name;
    bool needs_routers;
    odmoe_status (*create)(const shadow_config *config, shadow *out, odmoe_error *err);
} shadow_kind;

/* shadow_kind_at - i = 0, 1, ...; NULL at the end. */
const shadow_kind *shadow_kind_at(int i);

/* In choices.c, routers.c and network.c. */
odmoe_status shadow_frequency_create(const shadow_config *config, shadow *out, odmoe_error *err);
odmoe_status shadow_previous_create(const shadow_config *config, shadow *out, odmoe_error *err);
odmoe_status shadow_router_create(const shadow_config *config, shadow *out, odmoe_error *err);
odmoe_status shadow_low_rank_create(const shadow_config *config, shadow *out, odmoe_error *err);
odmoe_status shadow_network_create(const shadow_config *config, shadow *out, odmoe_error *err);

/* shadow_emit - every expert whose score [experts] is above 0, as predict gives them. */
void shadow_emit(const float *scores, int count, int32_t *experts, float *out, int32_t *n);

#endif
