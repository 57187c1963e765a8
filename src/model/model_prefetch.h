/* model_prefetch.h - prefetching in a model's decoding: src/prefetch/ with the model's own routers as the source of
 * candidates.
 *
 * forward.c calls, for each chunk:
 *   model_prefetch_begins   a layer's router has chosen and its reads have begun
 *   model_prefetch_wanted   then, in decoding: are candidates wanted for n tokens?
 *   model_prefetch_next     if so: look at later layers' routers; also once before the first layer, on the embedding
 *   model_prefetch_again    its experts have been added: look at the next layer's router again
 *   model_prefetch_settle   the chunk is over: does prefetching pay?
 */
#ifndef ODMOE_MODEL_MODEL_PREFETCH_H
#define ODMOE_MODEL_MODEL_PREFETCH_H

#include "model/config.h"
#include "moe/routing.h"
#include "prefetch/router_lookahead.h"
#include "prefetch/trial.h"

struct model;

/* State and workspace; lives as long as the model. */
typedef struct model_prefetch {
    bool possible; /* false when prefetching is off, all experts fit, or there is only one MoE layer */
    trial trial;
    bool always; /* no trial: for benches and tests */
    /* how later layers' choices are foretold: the model's routers; benches and tests set another */
    lookahead_route route;
    void *route_ctx;
    prefetch_engine engine;
    lookahead_work look;
    int64_t max_tokens; /* decoding: the most tokens together */
    buffer norm;        /* [max_tokens, hidden] what a later router would see */
    routing_work routing;
    int32_t *topk; /* [max_tokens, top_k] */
    float *topw;
} model_prefetch;

/* model_prefetch_layout - room for chunks of few tokens, at most max_tokens. types: of the routers' matrices.
 * model_prefetch_init - once, when the model's source is there. */
void model_prefetch_layout(const compute *c, arena *a, const model_config *config, dtype_set types, int64_t max_tokens,
                           model_prefetch *out);
void model_prefetch_init(struct model *m);

/* model_prefetch_wanted - shall candidates be looked for, for n tokens now. */
bool model_prefetch_wanted(const model_prefetch *p, int64_t n);

/* model_prefetch_next - MoE layer `moe_layer` has begun to fetch its experts (-1: the first layer has not begun): have
 * likely experts of later layers read, for the n tokens of the residual stream x. */
void model_prefetch_next(struct model *m, int moe_layer, const buffer *x, int64_t n);

/* model_prefetch_again - MoE layer `moe_layer`'s experts have been added to x: look at the next layer's router once more. */
void model_prefetch_again(struct model *m, int moe_layer, const buffer *x, int64_t n);

/* model_prefetch_begins - MoE layer `moe_layer` has chosen topk [n, top_k] and has begun to fetch: judge its candidates,
 * and cancel what has not been read of the wrong ones. */
void model_prefetch_begins(struct model *m, int moe_layer, const int32_t *topk, int64_t n);

/* model_prefetch_settle - a chunk of n tokens, a failed one too, has taken `seconds`: decide whether the next one
 * prefetches.
 */
void model_prefetch_settle(struct model *m, int64_t n, double seconds);

#endif
