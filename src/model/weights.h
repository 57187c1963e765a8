/* weights.h - the tensor tables of families, and the resident weights that they name. */
#ifndef ODMOE_MODEL_WEIGHTS_H
#define ODMOE_MODEL_WEIGHTS_H

#include "model/config.h"
#include "model/files.h"
#include "moe/linear.h"
#include "store/expert.h"

/* What a resident tensor is for. */
typedef enum weight_role {
    /* once a model */
    W_EMBED,
    W_OUTPUT_NORM,
    W_OUTPUT,
    W_ROPE_FACTORS,
    /* once a layer */
    W_ATTN_NORM,
    W_Q,
    W_K,
    W_V,
    W_O,
    W_Q_BIAS,
    W_K_BIAS,
    W_V_BIAS,
    W_O_BIAS,
    W_Q_NORM,
    W_K_NORM,
    W_FFN_NORM,
    W_ROUTER,
    W_ROUTER_BIAS,
    W_SHARED_GATE,
    W_SHARED_UP,
    W_SHARED_DOWN,
    W_SHARED_ROUTER,
    W_DENSE_GATE,
    W_DENSE_UP,
    W_DENSE_DOWN,
    W_ROLE_COUNT
} weight_role;
#define W_FIRST_OF_LAYER W_ATTN_NORM

/* A length that stands for a number of the configuration. */
typedef enum weight_dim {
    DIM_VECTOR, /* as `rows`: the tensor is one-dimensional */
    DIM_ONE,
    DIM_HIDDEN,
    DIM_VOCAB,
    DIM_Q,
    DIM_KV,
    DIM_QK_NORM_Q,
    DIM_QK_NORM_K,
    DIM_HALF_ROPE,
    DIM_EXPERTS,
    DIM_EXPERT_FFN,
    DIM_EXPERT_FFN_2,
    DIM_SHARED_FFN,
    DIM_DENSE_FFN
} weight_dim;

typedef enum weight_where { IN_MODEL, IN_ALL_LAYERS, IN_MOE_LAYERS, IN_DENSE_LAYERS } weight_where;

/* One row of a family's table of resident tensors. %d in a name is the layer. */
typedef struct weight_rule {
    weight_role role;
    weight_where where;
    const char *gguf, *hf; /* NULL: that format has none */
    weight_dim rows, cols; /* (out, in) */
    bool optional;
} weight_rule;

/* One row of a family's table of expert tensors. %d is the layer and, in `one` names, %d again the expert. */
typedef struct expert_rule {
    piece_role role;
    const char *gguf, *gguf_one, *hf, *hf_one; /* all experts in one tensor (experts, rows, cols), or one by one */
    weight_dim rows, cols;
    bool in_out, interleaved;
} expert_rule;

/* A resident tensor: where it lies on disk, and, once loaded, in memory. */
typedef struct resident {
    const tensor_info *info; /* NULL: the model has none */
    weight w;                /* vectors and everything one-dimensional become f32 at load */
} resident;

typedef struct model_weights {
    resident model[W_FIRST_OF_LAYER];
    resident (*layers)[W_ROLE_COUNT]; /* [layers]; entries below W_FIRST_OF_LAYER stay empty */
    int layer_count;
    expert_index *experts;
    uint64_t bytes; /* of everything resident, as it will lie in memory */
    void *memory;   /* the one allocation that holds it, once loaded */
} model_weights;

/* weights_bind - find every tensor of the tables (NULL-terminated), check shapes, build the expert index. Nothing is
 * read. Errors: ERR_FORMAT names a missing tensor or one of another shape; ERR_UNSUPPORTED names a tensor in the file
 * that the tables don't know: ignoring it could change the result. */
odmoe_status weights_bind(const model_files *files, const model_config *config, const weight_rule *const *tables,
                          const expert_rule *experts, model_weights *out, odmoe_error *err);

/* weights_load - read all resident tensors into anonymous memory. step (may be NULL) is called after each tensor with
 * bytes done; non-zero ends with ERR_CANCELLED. */
odmoe_status weights_load(model_weights *w, const tensor_index *tensors,
                          int (*step)(void *ctx, uint64_t done, uint64_t total), void *ctx, odmoe_error *err);
void weights_free(model_weights *w); /* zeroed is fine */

#endif
