/* router_lookahead.h - candidates from the next layer's router, applied early to the residual stream as it is now: what
 * the layers in between add changes it little.
 *
 *   layer l's reads are in flight -> lookahead_run: the router of l + 1 on the stream before l's experts are added
 *
 * Runs on the caller's thread. Knows no model: how a layer's router is applied is the caller's function. */
#ifndef ODMOE_PREFETCH_ROUTER_LOOKAHEAD_H
#define ODMOE_PREFETCH_ROUTER_LOOKAHEAD_H

#include "prefetch/prefetch.h"

/* Apply MoE layer `layer`'s norm and router to n tokens of the residual stream x [n, hidden]: topk [n, top_k], best
 * first. Returns topk, which stays valid until the next call. */
typedef const int32_t *(*lookahead_route)(void *ctx, int layer, const float *x, int64_t n);

/* The workspace for one look. */
typedef struct lookahead_work {
    int32_t *expert; /* [PREFETCH_CANDIDATES] */
    uint8_t *rank;   /* [PREFETCH_CANDIDATES] its best rank among a token's choices */
    uint8_t *named;  /* [experts] scratch, all zero between calls */
} lookahead_work;

/* lookahead_layout - the workspace, measured or carved; lookahead_clear - set it up. */
void lookahead_layout(arena *a, int experts, lookahead_work *out);
void lookahead_clear(lookahead_work *w, int experts);

/* lookahead_run - MoE layer `layer`'s experts have been asked for: offer the choices of later layers' routers for the n
 * tokens x [n, hidden] to the engine. After the last layer nothing is offered. */
void lookahead_run(prefetch_engine *p, lookahead_work *w, lookahead_route route, void *ctx, int layer, int top_k,
                   const float *x, int64_t n);

#endif
