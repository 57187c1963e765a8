/* experts.h - the experts of one layer for n tokens: choices are sorted by expert, an executor computes each pair's
 * output, and the outputs are added.
 *
 *   y[t] = sum over the chosen e, ascending:  w[t, e] * down_e(glu(gate_e(x[t]), up_e(x[t])))
 *
 * The order of additions is fixed (ascending expert id), whatever the order in which experts arrive. */
#ifndef ODMOE_MOE_EXPERTS_H
#define ODMOE_MOE_EXPERTS_H

#include "moe/executor.h"

/* Up to this many pairs, outputs are kept apart: experts can then be computed in the order in which they arrive. */
#define EXPERTS_FEW 64

typedef struct experts_shape {
    int64_t hidden, ffn;
    int experts, top_k;
    glu_config glu;
    bool weight_on_input;          /* the router's weight multiplies the expert's input, not its output (Llama 4) */
    dtype_set in_types, mid_types; /* types of the experts' (gate, up) and down matrices */
} experts_shape;

/* The workspace for up to max_tokens tokens. */
typedef struct experts_work {
    int64_t max_tokens;
    expert_pairs pairs;
    buffer pair_out;    /* outputs kept apart */
    uint8_t *failed;    /* [experts] */
    compute_work local; /* of computing here: local_executor.h */
} experts_work;

/* experts_layout - carve it (arena.h). all_apart: room for the outputs of all pairs, for an executor without `adds`. */
void experts_layout(const compute *c, arena *a, const experts_shape *shape, int64_t max_tokens, bool all_apart,
                    experts_work *out);

/* One call, between experts_start and experts_finish. */
typedef struct experts_call {
    const compute *c;
    const experts_shape *shape;
    experts_work *work;
    const expert_executor *executor;
    expert_task task; /* keep_gate and keep_up may be set before experts_finish */
    bool few;         /* at most EXPERTS_FEW pairs */
    bool all_failed;  /* after an error: no row of y means anything */
} experts_call;

/* experts_start - group the tokens of x by expert and give them to the executor. topk, topw [n, top_k] from the router;
 * all borrowed until experts_finish. size: for caches. 1 <= x->n <= work->max_tokens. Errors: the executor's; then there is
 * nothing to finish. work->pairs tells which experts are needed. */
odmoe_status experts_start(experts_call *call, const compute *c, const expert_executor *executor,
                           const experts_shape *shape, experts_work *work, int layer, buffer *x, fetch_size size,
                           const int32_t *topk, const float *topw, odmoe_error *err);

/* experts_finish - y [n, hidden] = the layer's output (overwritten). Errors: the executor's first. experts_failed tells
 * the tokens whose rows of y are undefined then: `topk` [top_k] is the token's choice. */
odmoe_status experts_finish(experts_call *call, buffer *y, odmoe_error *err);
bool experts_failed(const experts_call *call, const int32_t *topk);

#endif
