/* layer_handles.h - what the layer's public handles are. Included by src/api only. */
#ifndef ODMOE_API_LAYER_HANDLES_H
#define ODMOE_API_LAYER_HANDLES_H

#include <pthread.h>

#include "layer/backward.h"
#include "odmoe_layer.h"

/* As many experts as a layer holds at a time: a round, and the one being cut into slices. */
#define TABLE_LENT_MAX LOCAL_PINNED_MAX

/* A program's own table of functions, as the layer's expert_source. */
typedef struct table_source {
    odmoe_source_ops ops;
    experts_shape shape; /* with the declared types */
    compute compute; /* never started: tells which types can be computed */
    struct lent {
        bool used;
        odmoe_expert expert;
        expert_extent extents[ODMOE_MATRICES_MAX];
    } lent[TABLE_LENT_MAX];                                   /* a pinned expert's slot is its place here */
    expert_tensor tensors[TABLE_LENT_MAX * ODMOE_MATRICES_MAX]; /* [tag] */
    odmoe_error refused; /* code not OK: poll was given something that cannot be, and next has to say so */
    /* the batch */
    const int32_t *experts; /* [n] asked for, ascending; the layer's own list */
    int layer, n, given;
    fetch_order order;
    bool seen[ROUTER_EXPERTS_MAX]; /* in arrival order: experts[i] has been lent */
} table_source;

/* table_source_init - ops may be of an older, shorter version of the struct; shape's types are filled from its types.
 * table_source_of - the expert_source; ts must not move. source.c */
odmoe_status table_source_init(table_source *ts, const odmoe_source_ops *ops, const compute *compute,
                               experts_shape *shape, odmoe_error *err);
expert_source table_source_of(table_source *ts);

/* expert_from_view - what a public expert says of an internal one. source.c */
void expert_from_view(const expert_tensor *tensors, const pinned_expert *view, odmoe_expert *out);

struct odmoe_layer {
    moe_layer m;
    table_source source;
    const float **arrays;         /* the caller's pointers to router weights, biases, ...: [layers] of each */
    odmoe_source_counters *since; /* [layers] the source's counters at the last reset */
    balance balance;              /* of the call under way */
    float *stack;                 /* a layer's output in a stack, of the largest call so far */
    size_t stack_room;
    pthread_mutex_t lock; /* held during a call, and for the telemetry */
};

struct odmoe_balance {
    balance b;
};

struct odmoe_tape {
    layer_tape t;
};

/* layer_run - a call of one layer, the lock held: checks, routing (may be NULL), tape (may be NULL). layer.c */
odmoe_status layer_run(odmoe_layer *layer, int32_t index, const float *x, int64_t n, float *y, odmoe_routing *routing,
                       layer_tape *tape, odmoe_error *err);

#endif
