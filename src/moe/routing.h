/* routing.h - a layer's router for n tokens: from what the router sees to the choice of experts. The one routing code, of
 * models and of the layer on its own. */
#ifndef ODMOE_MOE_ROUTING_H
#define ODMOE_MOE_ROUTING_H

#include "compute/compute.h"

/* A router's weights; each may be NULL but `w`. */
typedef struct router_weights {
    const matrix *w;    /* [experts, hidden] */
    const float *bias;  /* [experts] added to the logits */
    const float *scale; /* [hidden] of the router's own norm, where it has one */
    router_vectors vectors;
} router_weights;

/* Where a call leaves what it found, for n tokens; the caller's arrays. */
typedef struct routing_choice {
    float *scores; /* [n, experts] or NULL */
    int32_t *topk; /* [n, top_k] */
    float *topw;   /* [n, top_k] */
} routing_choice;

typedef struct routing_work {
    buffer logits; /* [n, experts]; readable after routing_run */
    buffer normed; /* [n, hidden] input of the matrix, where the router has a norm of its own */
    compute_work choose;
} routing_work;

/* routing_layout - room for max_tokens tokens. types: of the router matrices that it is for. own_logits false: lend the
 * rows with `borrow` before each call. */
void routing_layout(const compute *c, arena *a, const router_config *config, int64_t hidden, dtype_set types,
                    int64_t max_tokens, bool own_logits, routing_work *out);

/* routing_run - x [n, hidden] through the router; waits for the choice. Returns the first token that has a logit which
 * is not a finite number, or -1: its choice means nothing, and the caller should refuse it. */
int64_t routing_run(const compute *c, const router_config *config, const router_weights *weights, routing_work *work,
                    buffer *x, const routing_choice *out);

#endif
