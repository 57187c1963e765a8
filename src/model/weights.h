/* weights.h - the tensor tables of families, and the resident weights that they name. */
#ifndef ODMOE_MODEL_WEIGHTS_H
#define ODMOE_MODEL_WEIGHTS_H

#include "model/config.h"
#include "model/files.h"
#include "compute/compute.h"
#include "moe/expert_table.h"

/* What a resident tensor of the model, or of a layer's frame, is for. A token mixer numbers its own weights from 0. */
typedef enum weight_role {
    /* once a model */
    W_EMBED,
    W_OUTPUT_NORM,
    W_OUTPUT_NORM_BIAS, /* biases of norms: where these are LayerNorms */
    W_OUTPUT,
    W_OUTPUT_BIAS,
    W_ROPE_FACTORS,       /* of the first rope set's frequencies */
    W_ROPE_SHORT_FACTORS, /* the same of LongRoPE: for contexts up to the original one */
    W_ROPE_LONG_FACTORS,  /* and beyond it */
    W_MODEL_ROLES,
    /* once a layer */
    W_MIXER_NORM = 0,
    W_MIXER_NORM_BIAS,
    W_FFN_NORM, /* of what experts and the shared expert take */
    W_FFN_NORM_BIAS,
    W_EXPERTS_NORM,      /* where routed experts have one of their own; W_FFN_NORM is the shared expert's then */
    W_MIXER_POST_NORM,   /* of the mixer's output, before it is added to the stream */
    W_FFN_POST_NORM,     /* the same for the FFN's, the shared expert's part included */
    W_EXPERTS_POST_NORM, /* of the routed experts' sum alone, */
    W_SHARED_POST_NORM,  /* and of the shared expert's output, before they are added */
    W_LAYER_SCALE,       /* [1] multiplies the stream behind the FFN */
    W_LATENT_IN,         /* latent experts work on the product with this one, */
    W_LATENT_OUT,        /* and their sum is multiplied by that one */
    W_ROUTER,
    W_ROUTER_BIAS,    /* added to the router's logits */
    W_ROUTER_SCALE,   /* [hidden] of the router's own norm */
    W_SELECTION_BIAS, /* added to the scores for choosing only */
    W_SHARED_GATE,
    W_SHARED_UP,
    W_SHARED_DOWN,
    W_SHARED_WEIGHT, /* its sigmoid is the weight of the shared expert's output */
    W_DENSE_GATE,
    W_DENSE_UP,
    W_DENSE_DOWN,
    W_LAYER_ROLES
} weight_role;
#define WEIGHTS_END \
    {               \
        .role = -1  \
    }
#define MIXER_ROLES_MAX 16

/* A length that stands for a number of the configuration. */
typedef enum weight_dim {
    DIM_VECTOR, /* as `rows`: the tensor is one-dimensional */
    DIM_ONE,
    DIM_HIDDEN,
    DIM_VOCAB,
    DIM_HALF_ROPE,
    DIM_EXPERTS,
    DIM_EXPERT_HIDDEN, /* config_expert_hidden */
    DIM_EXPERT_FFN,
    DIM_EXPERT_FFN_2,
    DIM_SHARED_FFN,
    DIM_DENSE_FFN,
    DIM_OF_MIXER /* from here on the mixer of the table knows */
} weight_dim;

typedef enum weight_where {
    IN_MODEL,
    IN_ALL_LAYERS,
    IN_MIXER_LAYERS, /* layers that have a mixer, and layers that have an FFN, where not all have both */
    IN_FFN_LAYERS,
    IN_MOE_LAYERS,
    IN_DENSE_LAYERS
} weight_where;

/* What becomes of a small tensor's numbers at load; all but the first make float32. */
typedef enum weight_form {
    FORM_STORED,    /* as they are, matrices in their own type */
    FORM_PLUS_1,    /* w + 1: norms that are stored as their difference from 1 */
    FORM_MINUS_EXP, /* -exp(w): rates of decay that are stored as logarithms */
    FORM_TAPS,      /* a convolution's, stored (channels, width) or (channels, 1, width): a matrix [width, channels] */
    FORM_ROWS       /* a vector that is stored in rows: only the number of its elements counts */
} weight_form;

/* One row of a table of resident tensors. %d in a name is the layer; "a|b" are two names for the same tensor; NULL:
 * that format has none. */
typedef struct weight_rule {
    int role;
    weight_where where;
    const char *gguf, *hf;
    int rows, cols; /* (out, in): weight_dim, or a dimension of the table's mixer */
    bool optional;
    /* a tensor in which files keep this one's rows, behind those of the rules above that name the same tensor */
    const char *gguf_fused, *hf_fused;
    /* numbers of the configuration, or of the layer. Where only_if is 0 (false), or not_if is not 0, the tensor must not be
     * in the file and is not required. FIELD_layers: no such condition */
    config_field only_if, not_if;
    /* how many matrices of rows x cols lie in the tensor one behind the other, as a third dimension or as more rows; the
     * resident's matrix has the rows of all; 0: one */
    int stack;
    weight_form gguf_form, hf_form; /* how the format stores it */
} weight_rule;

/* A table and whose weights it holds: a token mixer's, or, with NULL, the model's and the layers' frames'. A mixer's
 * table applies to the layers that have the mixer. */
typedef struct weight_table {
    const struct mixer *mixer;
    const weight_rule *rules; /* ends with WEIGHTS_END */
} weight_table;

/* One row of a family's table of expert tensors. %d is the layer and, in `one` names, %d again the expert. */
typedef struct expert_rule {
    odmoe_role role;
    const char *gguf, *gguf_one, *hf, *hf_one; /* all experts in one tensor (experts, rows, cols), or one by one */
    weight_dim rows, cols;                     /* of PART_BIAS: rows is its length */
    bool in_out, interleaved;
    expert_part part; /* PART_WEIGHT unless said: a bias or scale is resident */
    bool optional;    /* a bias or scale that files may lack */
} expert_rule;

/* A resident tensor: where it lies on disk, and, once loaded, in memory. */
typedef struct resident {
    const tensor_info *info; /* NULL: the model has none */
    uint64_t skip;           /* bytes of the tensor before this one's rows */
    int64_t skip_rows;       /* those rows, or numbers of a vector */
    weight_form form;        /* what is done to it at load */
    bool on_disk;            /* it stays there: its rows are read when they are needed (store/row_reader.h) */
    matrix w;                /* vectors and everything one-dimensional become f32 at load */
} resident;

/* resident_bytes - what it takes in memory: its weights, and scales that lie apart. */
uint64_t resident_bytes(const resident *r);

typedef struct layer_weights {
    resident frame[W_LAYER_ROLES];
    resident mixer[MIXER_ROLES_MAX]; /* by the roles of the layer's mixer */
} layer_weights;

typedef struct model_weights {
    resident model[W_MODEL_ROLES];
    layer_weights *layers; /* [layer_count] */
    int layer_count;
    expert_table experts;
    uint64_t bytes;        /* of everything resident, as it will lie in memory; without what stays on the disk */
    int prediction_layers; /* that the files have tensors of; they are never read */
    uint64_t prediction_bytes;
    uint64_t part_bytes; /* in the files, left out: what the family ignores */
    void *memory;        /* the one allocation that holds it, once loaded */
} model_weights;

/* What a family says of its tensors. */
typedef struct weight_names {
    const weight_table *tables; /* ends with rules NULL */
    const expert_rule *experts; /* ends with EXPERT_MATRIX_COUNT */
    const char *const *ignored; /* names with *, of tensors that are no part of the language model; NULL-terminated */
    const field_rule *fields;   /* the family's, for messages that name a key */
} weight_names;

/* weights_bind - find every tensor of the tables, check shapes, build the expert index. Nothing is read. Errors:
 * ERR_FORMAT names a missing tensor or one of another shape; ERR_UNSUPPORTED names a tensor in the file that the tables
 * do not know, or that the configuration denies: leaving it out could change the result. */
odmoe_status weights_bind(const model_files *files, const model_config *config, const weight_names *names,
                          model_weights *out, odmoe_error *err);

/* weights_load - read all resident tensors into anonymous memory. step (may be NULL) is called after each tensor with
 * bytes done; non-zero ends with ERR_CANCELLED. */
odmoe_status weights_load(model_weights *w, const tensor_index *tensors,
                          int (*step)(void *ctx, uint64_t done, uint64_t total), void *ctx, odmoe_error *err);
void weights_free(model_weights *w); /* zeroed is fine */

/* weights_leave_on_disk - of the token embedding, before weights_load: whether its rows stay on the disk. False: they
 * cannot, as the table is the output's, too; nothing changes. */
bool weights_leave_on_disk(model_weights *w, bool on_disk);

/* weights_each - call visit(ctx, resident) for every resident tensor, in the order in which they lie in memory. */
void weights_each(const model_weights *w, void (*visit)(void *ctx, const resident *r), void *ctx);

#endif
