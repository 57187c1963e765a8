/* prefetch.h - the engine: candidates for later layers are judged by rank, read when right often enough, cancelled when
 * wrong, and counted.
 *
 *   a candidate source (router_lookahead.h, predictor_thread.h) names experts of a later layer
 *       -> prefetch_offer: of those that would have to be read, the ones of ranks that are right often enough are read
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

/* Experts that a source names for one layer, best first. */
typedef struct candidates {
    int layer;                           /* MoE layer; -1: none */
    int n;                               /* of `expert` and `rank` */
    bool read;                           /* some have been given to the source to read */
    int32_t expert[PREFETCH_CANDIDATES]; /* those that would have to be read, each once */
    uint8_t rank[PREFETCH_CANDIDATES];
} candidates;

typedef struct prefetch_engine {
    const expert_source *source;
    int layers, experts;
    candidates *pending;      /* [PREFETCH_DISTANCES] by the distance they were named from */
    rank_accuracy *accuracy;  /* [PREFETCH_DISTANCES] */
    uint8_t *chosen;          /* [experts] scratch */
    int32_t *ids;             /* [PREFETCH_CANDIDATES] scratch: what to read */
    float *scores;            /* [PREFETCH_CANDIDATES] its accuracies */
} prefetch_engine;

/* prefetch_layout - carve the engine's arrays (or measure them, without a base). prefetch_init - then set it up for a
 * source that is borrowed and has prefetch (missing and cancel may be NULL); first_share: how right each rank is taken to be at first. */
void prefetch_layout(arena *a, int experts, prefetch_engine *p);
void prefetch_init(prefetch_engine *p, const expert_source *source, int layers, int experts, float first_share);

/* prefetch_offer - n candidates for `layer`, named `distance` >= 1 layers before it, best first; rank[i]: how good
 * expert[i] was to its source (0: the best), ascending. Each expert once and within range. Further candidates than
 * PREFETCH_CANDIDATES are ignored. Replaces what was named for a layer from the same distance before, and has the
 * likely ones read. */
void prefetch_offer(prefetch_engine *p, int layer, int distance, const int32_t *expert, const uint8_t *rank, int n);

/* prefetch_layer_begins - layer's router has chosen topk [n] (experts, any order, with repetitions), and its reads have
 * begun: judge the layer's candidates, and cancel what is not read yet of the wrong ones. Candidates for layers up to
 * this one are forgotten. */
void prefetch_layer_begins(prefetch_engine *p, int layer, const int32_t *topk, int64_t n);

/* prefetch_forget - candidates that are not judged yet never will be: a pass is over. */
void prefetch_forget(prefetch_engine *p);

#endif
