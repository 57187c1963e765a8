/* odmoe_layer.h - a Mixture-of-Experts layer for a program of one's own, or a stack of L of them:
 *   y[t] = sum over the top_k experts e of x[t]:  w[t, e] * w2_e(silu(w1_e x[t]) * (w3_e x[t]))
 * The program keeps the router; experts come from a source. docs/layer.md has the mathematics and an example.
 *
 * Conventions of handles, errors and structs: odmoe.h.
 */
#ifndef ODMOE_LAYER_H
#define ODMOE_LAYER_H

#include "odmoe.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a matrix of an expert is for. FLAT stands for all three in one array [w1 | w2 | w3]: w1, w3 (hidden, ffn) and w2
 * (ffn, hidden), row-major, used as x * w. */
typedef enum odmoe_role {
    ODMOE_GATE,    /* w1: silu is applied to its product */
    ODMOE_UP,      /* w3 */
    ODMOE_DOWN,    /* w2 */
    ODMOE_GATE_UP, /* gate and up in one matrix */
    ODMOE_FLAT     /* in files only */
} odmoe_role;

/* Types of weights: the numbers that GGUF files use. These have names here because float sources need them. */
#define ODMOE_TYPE_F32 0
#define ODMOE_TYPE_F16 1
#define ODMOE_TYPE_BF16 30

typedef struct odmoe_matrix {
    int32_t role, type;
    int32_t in_out;      /* 0: (out, in), y = W x;  1: (in, out), y = x W, float types only */
    int32_t interleaved; /* GATE_UP, (out, in): 1: rows are gate, up, gate, up ...; 0: all gates, then all ups */
    int64_t rows, cols;  /* as stored */
    const void *data;    /* at any byte address */
} odmoe_matrix;

#define ODMOE_MATRICES_MAX 8
/* An expert that a source lends. */
typedef struct odmoe_expert {
    int32_t layer, expert; /* expert < 0: all experts of the batch have been lent */
    int32_t n;
    odmoe_matrix matrix[ODMOE_MATRICES_MAX];
    int64_t own; /* for the source: it gets the struct back in release */
} odmoe_expert;

typedef enum odmoe_order {
    ODMOE_ORDER_ARRIVAL, /* as experts become ready */
    ODMOE_ORDER_LISTED   /* in the order of the list */
} odmoe_order;

typedef struct odmoe_source_counters {
    uint64_t hits, misses, bytes; /* fetched experts found in memory or not; bytes read */
    double stall_seconds;         /* that next waited */
    double read_seconds;          /* at least one read was in flight, whatever layer it was for */
} odmoe_source_counters;

/* Where experts come from: fill this table, or take that of an odmoe_source. All functions get ctx. The calls from begin
 * to end of a batch come from one thread; prefetch, cancel and missing may come from another one at the same time. An error that begin or
 * next returns ends the layer's call and travels up as it is. */
typedef struct odmoe_source_ops {
    size_t size; /* sizeof(odmoe_source_ops) */
    void *ctx;
    const int32_t *types; /* [n_types] of the matrices that it will lend; NULL: f32 */
    int32_t n_types;
    /* Ask for n different experts of a layer, ascending; *batch is the source's own. */
    odmoe_status (*begin)(void *ctx, int32_t layer, const int32_t *experts, int32_t n, odmoe_order order, void **batch,
                          odmoe_error *err);
    /* Wait for the next expert and lend it until release. */
    odmoe_status (*next)(void *ctx, void *batch, odmoe_expert *expert, odmoe_error *err);
    void (*release)(void *ctx, void *batch, const odmoe_expert *expert); /* in any order */
    void (*end)(void *ctx, void *batch); /* after errors too; what is left need not be fetched */
    /* The rest may be NULL. */
    /* As next, but without waiting: expert < 0 when none is ready now, or when next has an error to report. Without poll
     * experts are computed one by one; with it those that are ready are computed together, up to max_lent of them. */
    odmoe_status (*poll)(void *ctx, void *batch, odmoe_expert *expert, odmoe_error *err);
    /* Read ahead, best first (scores fall): return at once, whatever the disk does. */
    void (*prefetch)(void *ctx, int32_t layer, const int32_t *experts, const float *scores, int32_t n);
    void (*cancel)(void *ctx, int32_t layer);                                    /* forget what of it is not read yet */
    void (*counters)(void *ctx, int32_t layer, odmoe_source_counters *counters); /* since the source was opened */
    /* 1: the expert would have to be read, 0: it is in memory or on its way. Without this function a predictor is
     * judged by all experts that it names, not only by those that would have to be read. */
    int32_t (*missing)(void *ctx, int32_t layer, int32_t expert);
    int32_t max_lent; /* experts that may be lent at a time; 0: no limit */
} odmoe_source_ops;

/* The source that ships: experts in a file, read on demand into a cache with a byte budget. */
typedef struct odmoe_source odmoe_source;

/* Which tensors hold experts. In a name, {layer} stands for the layer's number and {expert} for the expert's: with
 * {expert} a tensor holds one expert's matrix, without it all experts', (experts, rows, cols) or, FLAT, (experts, 3 *
 * hidden * ffn). */
typedef struct odmoe_expert_tensor {
    const char *name; /* "blk.{layer}.ffn_gate_exps.weight" */
    int32_t role, in_out, interleaved;
} odmoe_expert_tensor;

typedef struct odmoe_source_options {
    size_t size;
    const char *path; /* .gguf (first part of a split one), .safetensors, or a folder of shards */
    const odmoe_expert_tensor *tensors;
    int32_t n_tensors;
    int32_t layers, experts, hidden, ffn;
    int32_t first_layer;     /* what {layer} is for layer 0 */
    uint64_t cache_bytes;    /* 0: room for all; more than that is not taken */
    const char *io, *policy; /* as in odmoe_options */
} odmoe_source_options;

ODMOE_API void odmoe_source_options_init(odmoe_source_options *options);
/* odmoe_source_open - find the tensors, allocate the cache, start the I/O thread. Errors: ERR_FORMAT names a tensor
 * that is missing or of another shape; ERR_BUDGET (below one expert, with the figure); ERR_IO; ERR_UNSUPPORTED. */
ODMOE_API odmoe_status odmoe_source_open(const odmoe_source_options *options, odmoe_source **source, odmoe_error *err);
ODMOE_API void odmoe_source_close(odmoe_source *source); /* no layer may use it any more; NULL is fine */
/* odmoe_source_table - set ops->size before. Valid until close. */
ODMOE_API void odmoe_source_table(odmoe_source *source, odmoe_source_ops *ops);
/* odmoe_source_invalidate - the file has changed: forget an expert, or all (-1). */
ODMOE_API void odmoe_source_invalidate(odmoe_source *source, int32_t layer, int32_t expert);
/* odmoe_source_floor - the bytes that the largest expert takes in the cache: the smallest cache_bytes. */
ODMOE_API uint64_t odmoe_source_floor(const odmoe_source *source);
ODMOE_API const char *odmoe_source_io(const odmoe_source *source); /* the back end in use */

/* A predictor sees what the router saw, and guesses what the next layer will ask for. It runs on a thread of its own
 * beside the layer: a predictor that fails, is slow or hangs costs speed, never the result; freeing the layer waits for a
 * call under way. What it names is compared, by rank, with what the next layer then chooses: ranks that are right for less
 * than 60% of the experts that would have to be read cause no reads until they are right more often. */
typedef struct odmoe_observation {
    size_t size;
    int64_t n;           /* tokens, the last of the call, at most 64 */
    const float *x;      /* [n, hidden] what the router saw */
    const int32_t *topk; /* [n, top_k] what it chose, and the weights */
    const float *topw;
} odmoe_observation;

typedef struct odmoe_predictor {
    size_t size;
    void *ctx;
    odmoe_status (*observe)(void *ctx, int32_t layer, const odmoe_observation *tokens, odmoe_error *err);
    /* Up to `capacity` experts of next_layer with scores, any order. Ids that don't exist are skipped. */
    odmoe_status (*predict)(void *ctx, int32_t next_layer, int32_t *experts, float *scores, int32_t capacity,
                            int32_t *n, odmoe_error *err);
} odmoe_predictor;

/* How a router's logits become scores. */
typedef enum odmoe_score {
    ODMOE_SCORE_SOFTMAX,        /* over all experts */
    ODMOE_SCORE_SIGMOID,        /* of each logit */
    ODMOE_SCORE_SOFTMAX_CHOSEN, /* chosen by logit; weights are a softmax over the chosen */
    ODMOE_SCORE_SQRT_SOFTPLUS,  /* sqrt(log(1 + exp(logit))) */
    /* SparseMixer (Phi-3.5-MoE): chosen one after the other by logit; the weight of each is its part of a softmax over
     * those left (itself included) whose logits are within `band` of its own, relative to the larger of the two.
     * Forward only. */
    ODMOE_SCORE_SPARSE_MIXER,
    ODMOE_SCORE_COUNT
} odmoe_score;

/* How a group of experts is scored. */
typedef enum odmoe_group_score {
    ODMOE_GROUP_BEST_TWO, /* the sum of its two best scores, selection bias included (DeepSeek-V3) */
    ODMOE_GROUP_MAXIMUM,  /* its best score (DeepSeek-V2) */
    ODMOE_GROUP_SCORE_COUNT
} odmoe_group_score;

/* The variants of routers, as data. Ties go to the lower index. */
typedef struct odmoe_router {
    size_t size; /* set by odmoe_layer_options_init */
    int32_t score;
    int32_t renormalise;         /* 1: the chosen weights are divided by their sum (before scale) */
    float sum_add, sum_floor;    /* the divisor is max(sum + sum_add, sum_floor) */
    float scale;                 /* multiplies the weights */
    int32_t groups, groups_used; /* experts in `groups` equal groups: only the best groups_used may be chosen from;
                                    0: off */
    int32_t group_score;
    int32_t weight_on_input; /* 1: a weight multiplies its expert's input, not its output (Llama 4) */
    float band;              /* of ODMOE_SCORE_SPARSE_MIXER: 0 or above; 0.02 in Phi-3.5-MoE */
    int64_t reserved[4];     /* 0: room for more */
} odmoe_router;

/* The activation between an expert's matrices; g is gate's product, u up's. */
typedef enum odmoe_activation {
    ODMOE_SWIGLU,         /* silu(g) * u */
    ODMOE_SWIGLU_CLAMPED, /* g' = min(g, limit), u' = clamp(u, -limit, limit): g' * sigmoid(alpha g') * (u' + offset) */
    ODMOE_GEGLU_TANH,     /* gelu(g), by tanh, * u */
    ODMOE_RELU2,          /* max(u, 0)^2: experts have no gate matrix */
    ODMOE_ACTIVATION_COUNT
} odmoe_activation;

typedef struct odmoe_glu {
    int32_t kind;               /* odmoe_activation */
    float alpha, limit, offset; /* of ODMOE_SWIGLU_CLAMPED; gpt-oss has 1.702, 7 and 1 */
} odmoe_glu;

typedef struct odmoe_layer_options {
    size_t size;
    int32_t layers; /* 1 */
    int32_t hidden, ffn, experts, top_k;
    odmoe_router router;         /* softmax, renormalised, scale 1 */
    odmoe_glu activation;        /* ODMOE_SWIGLU; gradients exist for this one only */
    const float *const *weights; /* [layers] router matrices [experts, hidden]; the matrices are borrowed, and may
                                    change between calls */
    /* Each NULL, or [layers] of [experts] or NULL; borrowed, and may change between calls. */
    const float *const *linear_bias;    /* added to the router's logits */
    const float *const *selection_bias; /* added to the scores, for the selection only */
    const float *const *expert_scale;   /* multiplies the weight of an expert, last of all */
    /* Biases of the experts' products, each NULL, or [layers] of arrays or NULL; borrowed as above. */
    const float *const *gate_bias, *const *up_bias; /* [experts, ffn] */
    const float *const *down_bias;                  /* [experts, hidden] */
    const odmoe_source_ops *source;                 /* copied; what its ctx is stays borrowed */
    const odmoe_predictor *predictor;               /* NULL, or copied */
    int32_t prefetch;                               /* experts of the next layer to read ahead, at most; 0: 2 * top_k */
    int32_t threads;                                /* 0: physical cores */
    const char *kernels;                            /* as in odmoe_options */
    uint64_t activation_bytes; /* workspace; more tokens than fit go through in chunks; 0: 256 MiB */
} odmoe_layer_options;

typedef struct odmoe_layer odmoe_layer;

/* The predictors that the library has: "frequency", "previous", "router", "router_low_rank", "network" (src/prefetch/README.md). */
typedef struct odmoe_expert_predictor odmoe_expert_predictor;
ODMOE_API const char *odmoe_expert_predictor_at(int i); /* their names: i = 0, 1, ...; NULL at the end */
/* odmoe_expert_predictor_create - for a layer with these options (sizes, router weights, kernels; nothing else is looked at).
 * odmoe_expert_predictor_table - set table->size before; for the layer's options. Free it after the layer. */
ODMOE_API odmoe_status odmoe_expert_predictor_create(const char *kind, const odmoe_layer_options *layer,
                                                     odmoe_expert_predictor **predictor, odmoe_error *err);
ODMOE_API void odmoe_expert_predictor_free(odmoe_expert_predictor *predictor);
ODMOE_API void odmoe_expert_predictor_table(odmoe_expert_predictor *predictor, odmoe_predictor *table);
/* odmoe_expert_predictor_freeze - 1: stop learning, 0: go on. Kinds that learn nothing take no notice.
 * odmoe_expert_predictor_save - what router_low_rank or network has learned, to a safetensors file: a new file, fsync, rename.
 * odmoe_expert_predictor_load - the same back, into one of the same kind, made for the same sizes.
 * Errors   ERR_ARG: another kind, there is nothing to keep; ERR_IO; ERR_FORMAT names the tensor that is missing, of
 *          another shape or type, or not finite; ERR_MEMORY. What was learned is unchanged then, except
 *          after a read error that comes when all checks have passed.
 * Threads  any, also while a layer works: its thread waits, and what it would have guessed meanwhile is not read. */
ODMOE_API void odmoe_expert_predictor_freeze(odmoe_expert_predictor *predictor, int frozen);
ODMOE_API odmoe_status odmoe_expert_predictor_save(odmoe_expert_predictor *predictor, const char *path,
                                                   odmoe_error *err);
ODMOE_API odmoe_status odmoe_expert_predictor_load(odmoe_expert_predictor *predictor, const char *path,
                                                   odmoe_error *err);

ODMOE_API void odmoe_layer_options_init(odmoe_layer_options *options);
/* odmoe_layer_create - ERR_RANGE or ERR_ARG names what makes no sense; ERR_BUDGET: activation_bytes is too small for
 * one token, with the figure; ERR_UNSUPPORTED: kernels, activation or types; ERR_MEMORY. */
ODMOE_API odmoe_status odmoe_layer_create(const odmoe_layer_options *options, odmoe_layer **layer, odmoe_error *err);
ODMOE_API void odmoe_layer_free(odmoe_layer *layer);
ODMOE_API int64_t odmoe_layer_chunk(const odmoe_layer *layer); /* tokens that go through together */

/* How evenly tokens went to experts: f_i = choices of expert i / tokens, P_i = mean router probability (scores that are no
 * softmax are divided by their sum). A balance of its own for each layer gives the loss per layer; one balance for all layers gives
 * the loss over concatenated layers, as Hugging Face computes it. */
typedef struct odmoe_balance odmoe_balance;
ODMOE_API odmoe_status odmoe_balance_create(int32_t experts, odmoe_balance **balance, odmoe_error *err);
ODMOE_API void odmoe_balance_free(odmoe_balance *balance);
ODMOE_API void odmoe_balance_reset(odmoe_balance *balance);
/* odmoe_balance_loss - E * sum_i f_i * P_i: top_k when balanced, E for a collapsed top-1. With mean_normalised divided
 * by the choices of a token: 1 when balanced. 0 without tokens. */
ODMOE_API double odmoe_balance_loss(const odmoe_balance *balance, int mean_normalised);
/* odmoe_balance_update_bias - DeepSeek-V3's balancing without a loss: bias[i] += rate for experts below the mean load,
 * -= rate above it. bias [experts]. */
ODMOE_API void odmoe_balance_update_bias(const odmoe_balance *balance, float rate, float *bias);

/* What a call computes besides y. Each pointer is NULL or an array of the caller, which the call fills for all n
 * tokens. */
typedef struct odmoe_routing {
    size_t size;            /* set by odmoe_routing_init */
    float *logits, *probs;  /* [n, experts] */
    int32_t *topk;          /* [n, top_k] by falling score */
    float *topw;            /* [n, top_k] */
    odmoe_balance *balance; /* this call's tokens are added to it */
    double aux, z;          /* out: E * sum f_i P_i, and mean(logsumexp(logits)^2), of this call */
} odmoe_routing;
ODMOE_API void odmoe_routing_init(odmoe_routing *routing);

/* odmoe_layer_forward - one layer: y [n, hidden] from x [n, hidden], n >= 1. routing may be NULL. y may not overlap x.
 * Result   a token's depends on that token alone, not on chunks, threads, cache or I/O.
 * Cost     each needed expert is fetched once per chunk. After routing the predictor is told, and the
 *          next layer's experts are prefetched while this one computes; after the last layer nothing is.
 * Memory   allocates nothing.
 * Errors   ERR_RANGE, also for a router logit that is not finite (the message names the token); ERR_ARG: y overlaps x; the
 *          source's. Then y is undefined, and the layer may be used again.
 * Threads  any; calls are serialised inside. */
ODMOE_API odmoe_status odmoe_layer_forward(odmoe_layer *layer, int32_t index, const float *x, int64_t n, float *y,
                                           odmoe_routing *routing, odmoe_error *err);
/* odmoe_layer_forward_stack - all layers, each added to its input: h = x; h += layer_l(h); y = h. y may not overlap
 * x (ERR_ARG). routing: NULL, or [layers] of pointers, NULL or one layer's. Memory: keeps room for n tokens of its own.
 */
ODMOE_API odmoe_status odmoe_layer_forward_stack(odmoe_layer *layer, const float *x, int64_t n, float *y,
                                                 odmoe_routing *const *routing, odmoe_error *err);

/* Telemetry of one layer, always on. */
typedef struct odmoe_layer_stats {
    size_t size;                  /* set by the caller */
    uint64_t rows, calls;         /* rows: tokens */
    uint64_t selections;          /* rows * top_k */
    double imbalance;             /* 1 + std / mean of the counts over all experts; 1 is perfect */
    double max_violation;         /* max / mean - 1 */
    double entropy;               /* of the counts, divided by log(experts): 1 even, 0 collapsed to one */
    uint64_t hits, misses, bytes; /* of the source; 0 where it does not count */
    double stall_seconds;
    uint64_t predictions, prediction_failures; /* asked for this layer; failed, or skipped because one was slow */
} odmoe_layer_stats;
/* ERR_RANGE: no such layer. counts: NULL, or [experts] selections of each expert. */
ODMOE_API odmoe_status odmoe_layer_stats_get(odmoe_layer *layer, int32_t index, odmoe_layer_stats *stats,
                                             uint64_t *counts, odmoe_error *err);
/* odmoe_layer_stats_json - the same as one JSON object, a new string; odmoe_string_free it. */
ODMOE_API odmoe_status odmoe_layer_stats_json(odmoe_layer *layer, int32_t index, char **json, odmoe_error *err);
ODMOE_API void odmoe_layer_stats_reset(odmoe_layer *layer); /* all layers */

#ifdef __cplusplus
}
#endif
#endif
