/* layer_handles.h - what the layer's public handles are. Included by src/api only. */
#ifndef ODMOE_API_LAYER_HANDLES_H
#define ODMOE_API_LAYER_HANDLES_H

#include <pthread.h>

#include "layer/backward.h"
#include "layer/file_source.h"
#include "layer/table_source.h"
#include "odmoe_layer.h"

struct odmoe_layer {
    moe_layer m;
    odmoe_source_ops source_ops;  /* the caller's, complete */
    table_source table;           /* in use where the source is the program's own */
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
