/* trace.h - routing traces: which experts each layer needed, pass by pass. Two formats, told apart by the first byte:
 *
 *   one JSON object a line      {"tok": 1, "layers": [[6, 8, 15], [7, 16, 18], ...]}   one token each, sizes unknown
 *   comma-separated, "# ..."    # model=... arch=... n_layer=48 n_expert=128 n_expert_used=6
 *                               # layer=0 expert_bytes=3059712 dense_bytes=11953152
 *                               turn,phase,step,layer,slot,expert,weight,residency,expert_bytes
 *                               0,0,0,0,0,49,0.221297,0,3059712      phase 0: prompt, 1: decode; step: token
 *
 * A prompt is one forward pass: each layer sees all of its tokens at once. A decoded token is a pass of its own.
 */
#ifndef ODMOE_STORE_TRACE_H
#define ODMOE_STORE_TRACE_H

#include <stdbool.h>
#include <stddef.h>

#include "store/policy.h"

#define TRACE_EXPERT_BYTES (1u << 20) /* where a trace names no sizes, every expert counts as 1 MiB */
#define TRACE_SEQUENCES_MAX 1024

/* One layer of one forward pass. */
typedef struct trace_fetch {
    int32_t layer;
    fetch_size size;
    int32_t first, n; /* trace.expert[first, first + n): different experts, in order of first use */
} trace_fetch;

typedef struct trace {
    int32_t layers, experts; /* layers: from 0 to the highest in the trace; some may have no experts */
    uint64_t *expert_bytes;  /* [layers] */
    trace_fetch *fetch;      /* [fetches] */
    size_t fetches;
    int32_t *expert; /* [uses] */
    int32_t *tokens; /* [uses] how many tokens of the fetch use it */
    size_t uses;
} trace;

/* trace_read - read a file of either format. Errors: ERR_IO, ERR_FORMAT (file and line), ERR_MEMORY. trace_clear frees
 * what a trace holds; fine after a failed read. */
odmoe_status trace_read(const char *path, trace *out, odmoe_error *err);
void trace_clear(trace *t);

/* trace_decode_together - a trace in which n copies of `t` decode at the same time: copy k begins at decoding step
 * k * steps / n and wraps around, so that each decoding fetch needs the union of n tokens' experts. A prompt that stands
 * before a step of `t` is a pass of its own, whenever a copy comes to that step. 1 <= n <= TRACE_SEQUENCES_MAX.
 * Errors: ERR_RANGE (n, or more than INT32_MAX uses of experts), ERR_FORMAT (nothing is decoded in t), ERR_MEMORY. Free it with
 * trace_clear. */
odmoe_status trace_decode_together(const trace *t, int32_t n, trace *out, odmoe_error *err);

#endif
