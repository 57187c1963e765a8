/* backward.h - gradients of a layer: of x, of the router, and of the experts one by one.
 *
 * For token t and its expert e with weight w, g = W1 x, u = W3 x, h = silu(g) * u, and dy the gradient from above:
 *   d = W2' dy     dw = h . d     dh = w d     dg = dh * u * silu'(g)     du = dh * silu(g)
 *   dx += W1' dg + W3' du         dW1 = dg x'  dW3 = du x'  dW2 = w dy h'   summed over e's tokens
 * dw goes on through renormalisation and scores to the logits, where the losses' gradients join it; from there to the
 * router's matrix and to x. Experts are fetched once, in ascending order, so the sums have a fixed order. The products
 * use the layer's own kernels in both orientations; types that have one orientation only are dequantised for the other.
 */
#ifndef ODMOE_LAYER_BACKWARD_H
#define ODMOE_LAYER_BACKWARD_H

#include "layer/layer.h"

/* What a forward call leaves for backward. Its arrays grow with the largest call. */
typedef struct layer_tape {
    bool keep; /* keep the products before silu: 2 * n * top_k * ffn floats, or compute them again */
    moe_layer *m;
    /* m's sizes at the time: a new layer may lie where a freed one lay, and the arrays fit the old one */
    int64_t hidden, ffn;
    int experts, top_k, layers;
    int index;
    int64_t n; /* 0: nothing recorded */
    const float *x;
    float *logits, *topw, *gate, *up;
    int32_t *topk;
    size_t logits_room, topw_room, gate_room, up_room, topk_room;
} layer_tape;

/* tape_start - make room for n tokens and point the call's outputs at it. tape_copy - logits, topk, topw to a caller's
 * arrays, each may be NULL. tape_clear - zeroed is fine. */
odmoe_status tape_start(layer_tape *t, moe_layer *m, int index, const float *x, int64_t n, layer_outputs *out,
                        odmoe_error *err);
/* tape_is_of - has a call of this layer been recorded? Of a layer that is freed only so far as its sizes tell. */
bool tape_is_of(const layer_tape *t, const moe_layer *m);
void tape_copy(const layer_tape *t, float *logits, int32_t *topk, float *topw);
void tape_clear(layer_tape *t);

typedef struct layer_gradients {
    const float *dy;     /* [n, hidden] */
    float *dx;           /* [n, hidden] overwritten; or NULL */
    float *drouter;      /* [experts, hidden] overwritten; or NULL */
    float *dlinear_bias; /* [experts] overwritten; or NULL */
    float aux_coef, z_coef;
    bool aux_normalised;
    const balance *balance; /* over which aux was taken; NULL: the tape's tokens */
    /* An expert's gradients, f32, in the shapes and orientations of its weights, described by tensors [tag]; valid during
     * the call. NULL: they are not computed. A status other than ODMOE_OK ends backward. */
    odmoe_status (*on_expert)(void *user, const expert_tensor *tensors, const pinned_expert *gradients,
                              odmoe_error *err);
    void *user;
} layer_gradients;

/* layer_backward - of the call that the tape has recorded; x is still there and unchanged, so are weights and bias.
 * Allocates its workspace: about 3 * hidden * ffn floats twice, and n * (2 * experts + top_k). ERR_STATE: nothing is
 * recorded; ERR_UNSUPPORTED; ERR_MEMORY; the source's and on_expert's errors. */
odmoe_status layer_backward(const layer_tape *t, const layer_gradients *g, odmoe_error *err);

#endif
