/* ffn.h - a resident feed-forward network: the shared expert, and the FFN of dense layers. */
#ifndef ODMOE_MODEL_FFN_H
#define ODMOE_MODEL_FFN_H

#include "model/weights.h"

typedef struct ffn_work {
    int64_t group;    /* rows at a time: bounds the workspace */
    float *gate, *up; /* [group, ffn] */
    activations mid;  /* silu(gate) * up in the formats of down */
} ffn_work;

/* ffn_layout - room for a network up to `ffn` wide; mask: formats that the down matrices take. */
void ffn_layout(arena *a, int64_t ffn, unsigned mask, int64_t max_rows, ffn_work *out);

/* ffn_run - y [n, hidden] = down(silu(gate(x)) * up(x)) for x [n, hidden] in the formats of gate and up. */
void ffn_run(const compute *c, const weight *gate, const weight *up, const weight *down, ffn_work *work,
             const activations *x, int64_t n, float *y);

#endif
