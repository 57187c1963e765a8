/* local_executor.h - experts computed here: each needed expert is fetched once from a source and multiplied with just
 * its own tokens.
 *
 * Experts that are there at the same time are computed as one group: one parallel loop over all their gate and up rows,
 * one over their down rows. What is in a group never changes a result. Few pairs compute experts in the order of
 * arrival, hits first; many take them in id order and add the outputs where they are computed. */
#ifndef ODMOE_MOE_LOCAL_EXECUTOR_H
#define ODMOE_MOE_LOCAL_EXECUTOR_H

#include "moe/expert_tensors.h"
#include "moe/experts.h"
#include "moe/source.h"

/* The most experts that it holds at a time: a group, and the one that is being cut into segments. */
#define LOCAL_PINNED_MAX (EXPERT_SEGMENTS_MAX + 1)

/* Small tensors of all experts of a layer, always in memory; any may be NULL. */
typedef struct expert_biases {
    const float *gate, *up; /* [experts, ffn] */
    const float *down;      /* [experts, hidden] */
} expert_biases;

/* An expert that the source has lent, and what is left of its pairs. */
typedef struct local_expert {
    pinned_expert pinned;
    expert_weights weights;
    int64_t pair, pairs;
} local_expert;

typedef struct local_executor {
    const compute *c;
    const experts_shape *shape;
    const expert_source *source;
    const expert_biases *biases; /* [layers with experts], or NULL */
    const expert_scales *scales; /* [layers with experts], or NULL */
    experts_layout_info info;
    const compute_work *work;
    /* the task under way */
    void *fetch;
    odmoe_error failure;  /* the first of an expert alone */
    local_expert current; /* being cut into segments; pairs: those left */
    /* a group */
    expert_segment segments[EXPERT_SEGMENTS_MAX];
    pinned_expert done[EXPERT_SEGMENTS_MAX]; /* experts whose last segment is in the group: released after it */
    int count, n_done;
    int64_t pairs;
} local_executor;

/* local_executor_layout - room for groups of up to max_tokens tokens; part of experts_layout. */
void local_executor_layout(const compute *c, arena *a, const experts_shape *shape, int64_t max_tokens,
                           compute_work *out);

/* local_executor_init - an executor over a source; everything is borrowed. biases, scales: [layers] or NULL. One task at a
 * time; `e` must not move. */
expert_executor local_executor_init(local_executor *e, const compute *c, const experts_shape *shape,
                                    const expert_source *source, const expert_biases *biases,
                                    const expert_scales *scales, const experts_work *work);

#endif
