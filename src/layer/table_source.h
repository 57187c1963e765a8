/* table_source.h - a program's own table of functions (odmoe_source_ops) as the layer's source. What the program lends is
 * checked each time: a program's mistake must not become a wild read, or a wrong result without a word. */
#ifndef ODMOE_LAYER_TABLE_SOURCE_H
#define ODMOE_LAYER_TABLE_SOURCE_H

#include "moe/local_executor.h"
#include "odmoe_layer.h"

typedef struct table_source {
    odmoe_source_ops ops;
    experts_shape shape; /* with the declared types */
    compute compute;     /* never started: tells which types can be computed */
    struct lent {
        bool used;
        odmoe_expert expert;
        expert_extent extents[ODMOE_MATRICES_MAX];
    } lent[LOCAL_PINNED_MAX];                                     /* a pinned expert's slot is its place here */
    expert_tensor tensors[LOCAL_PINNED_MAX * ODMOE_MATRICES_MAX]; /* a tag is a place here: slot, then matrix */
    odmoe_error refused; /* code not OK: what poll was given is wrong, and next has to say so */
    int lent_now;
    /* the fetch */
    const int32_t *experts; /* [n] asked for, ascending; the layer's own list */
    int layer, n, given;
    fetch_order order;
    bool seen[ROUTER_EXPERTS_MAX]; /* in arrival order: experts[i] has been lent */
} table_source;

/* table_source_init - ops is complete (odmoe_source_ops of this version); the types that it declares are added to the
 * shape's. ERR_ARG, ERR_RANGE, ERR_UNSUPPORTED. table_source_of - the expert_source; ts must not move. */
odmoe_status table_source_init(table_source *ts, const odmoe_source_ops *ops, const compute *c, experts_shape *shape,
                               odmoe_error *err);
expert_source table_source_of(table_source *ts);

#endif
