/* predictor.h - predictors that need no model: they see what routers saw and chose, and predict what the next layer will
 * choose.
 *
 *   frequency        what the layer has chosen most, old choices fading
 *   previous         what it chose for the call before
 *   router           the next layer's own router, applied to this layer's input
 *   router_low_rank  the same with a correction of low rank, trained while it runs on what the next layer then chose
 *   network          a small network for each layer, trained in the same way; predicts up to four layers ahead
 *
 * A predictor is called by one thread at a time (prefetch/predictor_thread.h). */
#ifndef ODMOE_PREFETCH_PREDICTORS_PREDICTOR_H
#define ODMOE_PREFETCH_PREDICTORS_PREDICTOR_H

#include <stdbool.h>

#include "compute/host.h"
#include "odmoe_layer.h"
#include "prefetch/limits.h"

typedef struct predictor_config {
    int layers, experts, top_k;
    int64_t hidden;
    const float *const *routers; /* [layers] of [experts, hidden], borrowed; NULL for kinds that look at choices only */
    const struct kernel_table *kernels;
} predictor_config;

/* Numbers that a predictor has learned: the others follow from what it is asked. */
typedef struct predictor_array {
    const char *name; /* with the kind's */
    int64_t shape[3];
    float *data; /* row-major */
} predictor_array;

enum { PREDICTOR_ARRAYS = 2 };

typedef struct expert_predictor {
    odmoe_predictor table;
    void (*free)(void *ctx);
    /* Of kinds that learn; the owner reads and writes them between calls. */
    int n_arrays; /* 0: it learns nothing */
    predictor_array arrays[PREDICTOR_ARRAYS];
    bool *frozen; /* true: it goes on guessing and learns no more; NULL: it learns nothing */
} expert_predictor;

typedef struct predictor_kind {
    const char *name;
    bool needs_routers;
    odmoe_status (*create)(const predictor_config *config, expert_predictor *out, odmoe_error *err);
} predictor_kind;

/* predictor_kind_at - i = 0, 1, ...; NULL at the end. */
const predictor_kind *predictor_kind_at(int i);

/* In choice_history.c, next_router.c and network.c. */
odmoe_status predictor_frequency_create(const predictor_config *config, expert_predictor *out, odmoe_error *err);
odmoe_status predictor_previous_create(const predictor_config *config, expert_predictor *out, odmoe_error *err);
odmoe_status predictor_router_create(const predictor_config *config, expert_predictor *out, odmoe_error *err);
odmoe_status predictor_low_rank_create(const predictor_config *config, expert_predictor *out, odmoe_error *err);
odmoe_status predictor_network_create(const predictor_config *config, expert_predictor *out, odmoe_error *err);

/* predictor_emit - every expert whose score [experts] is above 0, as predict gives them. */
void predictor_emit(const float *scores, int count, int32_t *experts, float *out, int32_t *n);

#endif
