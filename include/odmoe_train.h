/* odmoe_train.h - gradients of the layer in odmoe_layer.h, for programs that train it.
 *
 *   forward_train records on a tape; backward turns dy into dx and the router's gradient, and hands the experts'
 *   gradients to the program one by one, while the experts stream from the source as in forward.
 *
 * Weights belong to the program: it changes its router's arrays in place, and its experts where the source reads them
 * (then odmoe_source_invalidate). Between forward_train and backward nothing may change. docs/layer.md derives the
 * formulas.
 */
#ifndef ODMOE_TRAIN_H
#define ODMOE_TRAIN_H

#include "odmoe_layer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct odmoe_tape odmoe_tape;

/* odmoe_tape_create - keep_activations 1: a tape keeps 2 * n * top_k * ffn floats of a call; 0: backward computes them
 * again. Either way it keeps n * (experts + 2 * top_k) numbers, and grows with the largest call.
 * What it has recorded is void once the layer is freed. */
ODMOE_API odmoe_status odmoe_tape_create(int keep_activations, odmoe_tape **tape, odmoe_error *err);
ODMOE_API void odmoe_tape_free(odmoe_tape *tape);

/* odmoe_layer_forward_train - as odmoe_layer_forward, and records the call on the tape (what was on it is lost). x
 * stays borrowed until backward; y may not overlap it (ERR_ARG). ERR_UNSUPPORTED: gradients exist for ODMOE_SWIGLU
 * without expert biases, with weights on the experts' outputs. */
ODMOE_API odmoe_status odmoe_layer_forward_train(odmoe_layer *layer, int32_t index, const float *x, int64_t n, float *y,
                                                 odmoe_routing *routing, odmoe_tape *tape, odmoe_error *err);

typedef struct odmoe_backward {
    size_t size;                  /* set by odmoe_backward_init */
    const float *dy;              /* [n, hidden] gradient from above */
    float *dx;                    /* [n, hidden] overwritten; or NULL */
    float *drouter;               /* [experts, hidden] overwritten; or NULL */
    float aux_coef;               /* the loss that is differentiated: ... + aux_coef * aux + z_coef * z */
    float z_coef;                 /* z = mean(logsumexp(logits)^2) */
    int32_t aux_normalised;       /* aux divided by top_k */
    const odmoe_balance *balance; /* tokens over which aux is taken (several calls, or all layers); NULL: this call's */
    /* Called once for each expert that had tokens, ascending: its gradients, f32, in the shapes, orientation and order of
     * its matrices; a flat array's are one flat array in the same order. Valid during the call. Not ODMOE_OK ends
     * backward with that status. NULL: they are not computed. */
    odmoe_status (*on_expert)(void *user, const odmoe_expert *gradient, odmoe_error *err);
    void *user;
    float *dlinear_bias; /* [experts] overwritten: gradient of the router's linear bias; or NULL */
} odmoe_backward;
ODMOE_API void odmoe_backward_init(odmoe_backward *backward);

/* odmoe_layer_backward - of the call that the tape recorded with this layer.
 * Cost     fetches each expert that had tokens once; about twice forward's arithmetic, three times when it recomputes.
 * Memory   allocates (and frees) one expert's gradients and groups of tokens; experts * n * 2 floats for the router.
 * Errors   ERR_STATE: nothing was recorded with this layer; ERR_MEMORY; the source's and on_expert's. */
ODMOE_API odmoe_status odmoe_layer_backward(odmoe_layer *layer, const odmoe_tape *tape, const odmoe_backward *backward,
                                            odmoe_error *err);

#ifdef __cplusplus
}
#endif
#endif
