/* layer.h - a Mixture-of-Experts layer by itself, or a stack of them: router, grouped experts, telemetry, and a
 * predictor whose experts are prefetched for the next layer. The same router and experts that a model runs. */
#ifndef ODMOE_LAYER_LAYER_H
#define ODMOE_LAYER_LAYER_H

#include "layer/balance.h"
#include "layer/telemetry.h"
#include "moe/local_executor.h"
#include "moe/routing.h"
#include "prefetch/predictor_thread.h"

/* The workspace for a chunk of tokens. */
typedef struct layer_work {
    buffer in, out; /* [tokens, hidden] the caller's rows */
    routing_work route;
    float *logits, *probs; /* [tokens, experts] where the caller wants none */
    int32_t *topk;         /* [tokens, top_k] */
    float *topw;
    experts_work experts;
} layer_work;

/* Each NULL, or [layers] of [experts] or NULL; borrowed (odmoe_layer_options). */
typedef struct layer_vectors {
    const float *const *linear_bias, *const *selection_bias, *const *expert_scale;
    const float *const *gate_bias, *const *up_bias, *const *down_bias; /* [experts, ffn], [experts, hidden] */
} layer_vectors;

typedef struct moe_layer {
    int layers;
    router_config router;
    experts_shape shape;
    compute compute;
    expert_source source;
    local_executor local;
    expert_executor executor;
    const float *const *weights; /* [layers] of [experts, hidden]; borrowed */
    layer_vectors vectors;
    expert_biases *biases; /* [layers], or NULL where no expert has any */
    int64_t chunk;         /* tokens of the workspace */
    layer_work work;
    void *memory; /* behind work */
    size_t memory_bytes;
    telemetry *telemetry;        /* [layers] */
    predictor_thread *predictor; /* NULL: nothing is prefetched */
} moe_layer;

typedef struct layer_settings {
    int layers;
    router_config router;
    int64_t hidden, ffn;
    glu_config glu;
    dtype_set in_types, mid_types; /* of the source's weights */
    compute compute;               /* not started */
    uint64_t activation_bytes;
    const float *const *weights;
    layer_vectors vectors;
    expert_source source;
    const odmoe_predictor *predictor; /* or NULL */
    int prefetch;
} layer_settings;

/* layer_open - what is borrowed stays so until layer_close. ERR_RANGE, ERR_BUDGET (activation_bytes is too small for
 * one token, with the figure), ERR_MEMORY. layer_close takes a zeroed or failed one. */
odmoe_status layer_open(const layer_settings *s, moe_layer *out, odmoe_error *err);
void layer_close(moe_layer *m);

/* What a call leaves besides y; each may be NULL. Arrays are for all n tokens. */
typedef struct layer_outputs {
    float *logits, *probs; /* [n, experts] */
    int32_t *topk;         /* [n, top_k] */
    float *topw;
    float *keep_gate, *keep_up; /* [n, top_k, ffn] products before the activation, both or none */
    balance *balance;           /* the tokens are added, as far as the call comes */
    double *z;                  /* sum over tokens of logsumexp^2 */
} layer_outputs;

/* layer_forward - y [n, hidden] of one layer, in chunks. n >= 1, 0 <= index < layers. Errors: the
 * source's; ERR_RANGE names the first token whose router logits are not finite. */
odmoe_status layer_forward(moe_layer *m, int index, const float *x, int64_t n, float *y, const layer_outputs *out,
                           odmoe_error *err);

/* layer_add - y += x, [n, hidden] each: a layer's output to its input, in a stack of layers. */
void layer_add(const moe_layer *m, float *y, const float *x, int64_t n);

#endif
