/* route.h - a layer's router: which experts rows would go to, from what the router sees. */
#ifndef ODMOE_MODEL_ROUTE_H
#define ODMOE_MODEL_ROUTE_H

#include "model/weights.h"
#include "compute/router.h"

/* What a router says of n rows. */
typedef struct route_out {
    float *logits; /* [n, experts] */
    int32_t *topk; /* [n, top_k] as router_select leaves them */
    float *topw;   /* [n, top_k] */
} route_out;

/* route_run - x [n, hidden] through the router of `weights` (one layer's), in the format that its matrix takes. probs
 * [threads, experts] is scratch. */
void route_run(const compute *c, const router_config *config, const layer_weights *weights, const activations *x, int64_t n,
               float *probs, const route_out *out);

#endif
