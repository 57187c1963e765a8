/* prefetch.h - the engine: candidates for later layers are judged by rank, read when right often enough, cancelled when
 * wrong, and counted.
 *
 *   a candidate source (router_lookahead.h, predictor_thread.h) names experts of a later layer
 *       -> prefetch_offer: of those that would have to be read, the ones of ranks that are right often enough are read
 *   the same layer is named again, from nearer -> prefetch_offer: the new list takes the place of the old one
 *   that layer's router has chosen
 *       -> prefetch_layer_begins: which candidates were right? What is wrong and not read yet is cancelled
 *
 * A candidate can cost reads and time, never change a result. One thread at a time drives an engine.
 */
#ifndef ODMOE_PREFETCH_PREFETCH_H
#define ODMOE_PREFETCH_PREFETCH_H

#include "base/arena.h"
#include "moe/source.h"
#include "prefetch/rank_accuracy.h"

/* Experts that a source has named for one layer from one distance, and that would have to be read; each once. */
typedef struct candidates {
    int n;
    int32_t expert[PREFETCH_CANDIDATES];
    uint8_t rank[PREFETCH_CANDIDATES];
} candidates;

/* A layer that has not begun yet. */
typedef struct prefetch_target {
    int layer;                        /* MoE layer; -1: none */
    bool asked_any;                   /* the source has been asked to read for it */
    candidates named[PREFETCH_LOOKS]; /* by distance */
} prefetch_target;

typedef struct prefetch_engine {
    const expert_source *source;
    int layers, experts;
    int distances;           /* layers ahead that are looked at now */
    prefetch_target *target; /* [PREFETCH_DISTANCES] of layer l at l % PREFETCH_DISTANCES */
    uint8_t *asked;          /* [PREFETCH_DISTANCES, experts] of each target: the source has been asked to read it */
    rank_accuracy *pooled;   /* [PREFETCH_LOOKS] over all layers */
    rank_accuracy *accuracy; /* [layers, PREFETCH_LOOKS] */
    uint8_t *chosen;         /* [experts] scratch, all zero between calls */
    int32_t *ids;            /* [PREFETCH_CANDIDATES] scratch: what to read */
    float *scores;           /* [PREFETCH_CANDIDATES] how likely each is right */
} prefetch_engine;

/* prefetch_layout - carve the engine's arrays (or measure them, without a base). prefetch_init - then set it up for a
 * source that is borrowed and has prefetch (missing and cancel may be NULL). first, last: how right the best rank and
 * the last one are taken to be at first; the ranks between lie between. */
void prefetch_layout(arena *a, int layers, int experts, prefetch_engine *p);
void prefetch_init(prefetch_engine *p, const expert_source *source, int layers, int experts, float first, float last);

/* prefetch_offer - n candidates for `layer`. distance: how many layers before it they were named, at most
 * PREFETCH_DISTANCES; 0: when the layer before it had been computed. rank[i]: how good its source takes expert[i] to be (0:
 * the best). Each expert once and within range; more than PREFETCH_CANDIDATES are ignored. The likely ones are read, the
 * likeliest first; they replace what was named for the layer before. */
void prefetch_offer(prefetch_engine *p, int layer, int distance, const int32_t *expert, const uint8_t *rank, int n);

/* prefetch_layer_begins - layer's router has chosen topk [n] (experts, any order, with repetitions), and its reads have
 * begun: judge the layer's candidates, and cancel what is not read yet of the wrong ones. Candidates for earlier layers
 * are forgotten. */
void prefetch_layer_begins(prefetch_engine *p, int layer, const int32_t *topk, int64_t n);

/* prefetch_forget - candidates that are not judged yet never will be: a pass is over. */
void prefetch_forget(prefetch_engine *p);

/* prefetch_share - how often candidates of this rank, for this layer, from this distance, have been right. */
float prefetch_share(const prefetch_engine *p, int layer, int distance, int rank);

#endif
