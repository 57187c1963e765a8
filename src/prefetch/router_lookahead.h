/* router_lookahead.h - candidates from the next layer's router, applied early to the residual stream as it is now: what
 * the layers in between add changes it little.
 *
 *   layer l's reads are in flight    -> lookahead_run: the routers of l + 1 ... on the stream before l's experts are added
 *   layer l's experts have been added -> lookahead_again: the router of l + 1 once more; its mixer alone is missing
 *
 * Runs on the caller's thread. Knows no model: how a layer's router is applied is the caller's function. */
#ifndef ODMOE_PREFETCH_ROUTER_LOOKAHEAD_H
#define ODMOE_PREFETCH_ROUTER_LOOKAHEAD_H

#include "prefetch/prefetch.h"

/* What a router would say of n tokens; borrowed until the next call of the same function. */
typedef struct lookahead_choice {
    const int32_t *topk; /* [n, top_k] best first */
    const float *logits; /* [n, experts], or NULL: candidates are graded by their place in topk instead of by margin */
} lookahead_choice;

/* Apply MoE layer `layer`'s norm and router to the residual stream of the n tokens under way, as it is now. */
typedef lookahead_choice (*lookahead_route)(void *ctx, int layer, int64_t n);

/* The workspace for one look. */
typedef struct lookahead_work {
    int32_t *expert; /* [PREFETCH_CANDIDATES] */
    uint8_t *rank;   /* [PREFETCH_CANDIDATES] its best grade among the tokens */
    uint8_t *named;  /* [experts] scratch, all zero between calls: 1 + the place among the candidates */
} lookahead_work;

/* lookahead_layout - the workspace, measured or carved; lookahead_clear - set it up. */
void lookahead_layout(arena *a, int experts, lookahead_work *out);
void lookahead_clear(lookahead_work *w, int experts);

/* lookahead_run - MoE layer `layer`'s experts have been asked for: offer the choices of later layers' routers for the n
 * tokens to the engine. After the last layer nothing is offered. */
void lookahead_run(prefetch_engine *p, lookahead_work *w, lookahead_route route, void *ctx, int layer, int top_k,
                   int64_t n);

/* lookahead_again - MoE layer `layer`'s experts have been added to the stream: offer the choices of the next layer's router as they
 * look now, in place of what was named for it before. */
void lookahead_again(prefetch_engine *p, lookahead_work *w, lookahead_route route, void *ctx, int layer, int top_k,
                     int64_t n);

#endif
