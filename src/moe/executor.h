/* executor.h - the seam between a layer and what computes its experts: this process (local_executor.h), or later other
 * machines.
 *
 *   tokens, choices, weights  ->  one output a (token, expert) pair
 *
 * Outputs are never summed by an executor in an order of its own: the caller adds a token's outputs in ascending expert
 * id (experts.h), so that the bytes do not depend on where and when each output was computed. */
#ifndef ODMOE_MOE_EXECUTOR_H
#define ODMOE_MOE_EXECUTOR_H

#include "compute/compute.h"
#include "moe/pairs.h"
#include "store/fetch_size.h"

/* The work of one layer for some tokens; borrowed by the executor from start to finish. */
typedef struct expert_task {
    int layer;                 /* among the layers with experts */
    fetch_size size;           /* of the forward call: for caches that learn */
    buffer *x;                 /* [n_tokens, hidden] */
    const expert_pairs *pairs; /* which expert meets which token */
    /* Where outputs go: row `pair` of pair_out, [pairs, hidden], without the router's weight (but see
     * experts_shape.weight_on_input). NULL, for executors with `adds` only: they are added to y. */
    buffer *pair_out;
    buffer *y; /* [n_tokens, hidden], zeroed; set before finish */
    /* NULL, or [n_tokens, top_k, ffn], set before finish: the products before the activation, for gradients. */
    float *keep_gate, *keep_up;
    /* Set by finish: experts that could not be had; see there. */
    uint8_t *failed; /* [experts] 1: no outputs */
    int n_failed;
} expert_task;

typedef struct expert_executor {
    void *ctx;
    /* finish can add outputs to y by itself, times the router's weight and in ascending expert id for each token: the
     * bytes that the caller would get. Saves the room for the outputs of many pairs. */
    bool adds;
    /* start - begin; what the caller computes until finish hides the wait. An error: there is nothing to finish. */
    odmoe_status (*start)(void *ctx, expert_task *task, odmoe_error *err);
    /* finish - wait until all outputs are where they belong. Called once after each start that succeeded. An error is
     * the first one; with task->n_failed above 0 the outputs of all pairs of other experts are right, otherwise none
     * is. The executor takes the next task all the same. */
    odmoe_status (*finish)(void *ctx, expert_task *task, odmoe_error *err);
} expert_executor;

#endif
