/* compute.h - operations on n tokens over buffers: the seam between what a model computes and what computes it.
 *
 * Everything above this folder describes work with `buffer` (values of n tokens), `matrix` (weights) and the table
 * `compute_ops`. The formats that activations are quantised to, kernels, scratch memory and threads belong to the
 * implementation. Today there is one: the processor's kernels and a pool of threads (cpu*.c).
 *
 * Contract of every operation
 *   Result   of a token depends on that token and the weights alone: never on n, on threads or on other tokens. Threads
 *            split outputs, never sums.
 *   Waiting  an operation may return before its outputs are there; operations of one `compute` take effect in the order
 *            of the calls. Only `read` and `route` wait, because they give numbers to the host.
 *   Errors   none: shapes and types are checked at load (compute_takes). Nothing is allocated.
 *   Threads  one thread at a time calls operations of one `compute`.
 */
#ifndef ODMOE_COMPUTE_COMPUTE_H
#define ODMOE_COMPUTE_COMPUTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/dtype.h"
#include "base/threads.h"
#include "compute/router.h"
#include "kernels/kv.h"

typedef struct compute compute;
typedef struct compute_ops compute_ops;
struct kernel_table;

struct compute {
    const compute_ops *op;
    int threads;
    /* the implementation's own */
    const struct kernel_table *kernels;
    pool *pool;
};

/* ---- weights ---- */

/* A matrix of weights: `rows` outputs from `cols` inputs, however it is stored. */
typedef struct matrix {
    dtype type;
    bool in_out; /* stored (in, out), float types only; else (out, in) */
    int64_t rows, cols;
    int64_t row_bytes; /* from one stored row to the next; 0: stored rows lie side by side */
    const void *data;  /* at any byte address; NULL: there is no such matrix */
    /* Types of DTYPE_SCALED_LIST: the tensor of scales (NULL where scales lie in the blocks), which weights share one of
     * them, bytes from one row of it to the next (0: side by side), and a factor of all scales (0: none). */
    const void *scales;
    scale_grid grid;
    int64_t scale_row_bytes;
    float factor;
} matrix;

/* A set of weight types: bit 1 << dtype. */
typedef uint32_t dtype_set;
static inline dtype_set dtype_bit(dtype t)
{
    return (dtype_set)1 << t;
}

/* ---- values ---- */

#define BUFFER_FORMATS 4

/* Values of n tokens, [n, cols] float32. Quantised copies that products need are made when first needed and kept until
 * the buffer is written again. */
typedef struct buffer {
    int64_t cols;
    int64_t n; /* tokens that it holds: set by each write */
    /* the implementation's own */
    float *values;                /* [room, cols] */
    void *format[BUFFER_FORMATS]; /* quantised rows; NULL: no room was asked for */
    unsigned fresh;               /* bit f: format[f] holds what `values` holds */
} buffer;

/* Which columns of a token's row an operation works on: `count` spans (heads) of `dim` values, `stride` apart, from
 * column `first`. dim 0: the whole row as one span. */
typedef struct spans {
    int64_t first, dim, count, stride;
} spans;

/* Scratch of an operation, laid out once for the largest call; the implementation's own. */
typedef struct compute_work {
    void *own[24];
} compute_work;

/* ---- token-wise operations ---- */

/* The activation of a feed-forward network: odmoe_layer.h says what the kinds compute. */
typedef odmoe_glu glu_config;

static inline bool glu_has_gate(const glu_config *g)
{
    return g->kind != ODMOE_RELU2;
}

/* Which two values of a head are rotated together (RoPE). */
typedef enum rope_pairing {
    ROPE_HALVES,    /* i and i + n/2: Hugging Face, GGUF's "neox" families */
    ROPE_NEIGHBOURS /* 2i and 2i + 1: GGUF's llama, whose q and k rows are stored in that order */
} rope_pairing;

/* How keys and values of a layer are stored: in pages of KV_PAGE positions, all heads of one layer in a page. */
typedef struct kv_shape {
    kv_type type;
    int kv_heads;
    int key_dim, value_dim; /* of one head; KV_Q8_0 wants multiples of 32 */
    bool value_in_key;      /* a value is the first value_dim numbers of its key; only keys are stored (latents) */
} kv_shape;

#define KV_PAGE 64 /* positions */

/* Where a token stands in its sequence. Tokens of one sequence come side by side, in ascending positions, and share
 * `pages`. */
typedef struct kv_token {
    void *const *pages; /* position p lies in pages[p / KV_PAGE]; NULL where no token of the call looks */
    int32_t position;
} kv_token;

/* What a layer keeps of a sequence, at multiples of 64; NULL: nothing. Two places, so that a call that fails has destroyed
 * nothing; or, once a call has written to the second, that one twice. */
typedef struct kept_state {
    void *before; /* as of the run's first token */
    void *after;  /* to be written */
} kept_state;

/* The tokens of one sequence in a call: side by side, in ascending positions. */
typedef struct sequence_run {
    int64_t first, n;     /* tokens of the call */
    int32_t position;     /* of its first token */
    kept_state recurrent; /* what each token overwrites */
    kept_state
        chunk;     /* what the end of a chunk (of RECURRENT_CHUNK positions) overwrites, and a chunk's tokens add to */
    int32_t owner; /* tells the sequences of a chunk apart, whatever others leave it */
} sequence_run;

/* "s": works on spans (token_op.at of y, token_op.from of x); the others on whole rows. */
typedef enum token_op_kind {
    TOKEN_ZERO,        /* s  y = 0 */
    TOKEN_COPY,        /* s  y = x */
    TOKEN_SCALE,       /* s  y *= factor */
    TOKEN_TEMPER,      /* s  y *= 1 + factor * ln(1 + floor((position + shift) / every)), of kv_tokens[t] */
    TOKEN_CLIP,        /* s  y = min(max(y, -factor), factor) */
    TOKEN_SIGMOID,     /* s  y = 1 / (1 + exp(-y)) */
    TOKEN_GATE,        /* s  y *= 1 / (1 + exp(-x)) */
    TOKEN_MULTIPLY,    /* s  y *= x */
    TOKEN_ADD_EACH,    /* s  y += weight[i] * x, i the span's number: one weight for each span */
    TOKEN_SOFTPLUS,    /* s  y = ln(1 + exp(y)) */
    TOKEN_DECAY,       /* s  y = exp(weight[i] * x), i the span's number: one weight for each span; y may be x */
    TOKEN_RMS_NORM,    /* s  y = x / sqrt(mean(x^2) + eps) * weight (NULL: 1), each span by itself; y may be x */
    TOKEN_SOFTCAP,     /* s  y = factor * tanh(y / factor) */
    TOKEN_L2_NORM,     /* s  y = x / sqrt(sum(x^2) + eps) * factor, each span by itself; y may be x */
    TOKEN_ROPE,        /* s  rotate the first 2 * angles values of each span of y: x cos, z sin (TOKEN_ROPE_ANGLES) */
    TOKEN_EMBED,       /*    y = factor * row ids[t] of `rows` */
    TOKEN_ROPE_ANGLES, /*    y = cos, z = sin of positions[t] * weight[i], times factor; i < y's cols */
    TOKEN_LAYER_NORM,  /*    y = (x - mean) / sqrt(variance + eps) * weight + bias; y may be x */
    TOKEN_ADD,         /*    y += factor * x; with `scales` (a buffer of 1 column) the factor is scales[t] */
    TOKEN_BIAS,        /*    y += weight */
    TOKEN_GLU,         /*    y = glu(x, z); y may be x or z; x is not read where there is no gate */
    TOKEN_KV_STORE     /*    x keys, z values -> the page of kv_tokens[t]; z is not read with value_in_key */
} token_op_kind;

/* One operation, done for each token by itself. Fields that a kind does not name are not looked at. */
typedef struct token_op {
    token_op_kind kind;
    buffer *y;           /* written (and read where the formula says so) */
    const buffer *x;     /* read */
    buffer *z;           /* read; written by TOKEN_ROPE_ANGLES */
    spans at;            /* of y; dim 0: the whole row as one span */
    spans from;          /* of x, as many and as long; dim 0: as `at` */
    const float *weight; /* a vector of the span's (row's) length; of TOKEN_DECAY and TOKEN_ADD_EACH, see there */
    bool weight_each;    /* of TOKEN_RMS_NORM: each span has a vector of its own, side by side; else all share one */
    const float *bias;   /* of TOKEN_LAYER_NORM, or NULL */
    float factor, eps;
    int32_t every, shift; /* positions, every above 0 */
    const buffer *scales;
    const matrix *rows;
    const int32_t *ids, *positions; /* [n] */
    const int32_t *x_rows; /* of kinds "s" and TOKEN_LAYER_NORM: [n] the row of x for each token; NULL: its own */
    rope_pairing pairing;
    glu_config glu;
    kv_shape kv;
    const kv_token *kv_tokens; /* [n] */
} token_op;

/* ---- products ---- */

/* y[t] = w x[t] (+ bias) for all tokens of x, into columns [column, column + w->rows) of y. */
typedef struct linear_call {
    const matrix *w;
    buffer *x;
    buffer *y;
    const float *bias; /* [rows] or NULL */
    int64_t column;
    bool *not_finite; /* NULL, or [n]: set to true for tokens that have an output which is not a finite number */
} linear_call;

#define LINEAR_CALLS_MAX 4

/* Products head by head, with a matrix for each head that is some rows of one tensor: span h of y[t] = w_h x_h[t], for x
 * the heads side by side and w_h the rows [first + h * step, + rows) of w; or, turned (transposed), w_h^T x_h[t]
 * (weights that lie (in, out) for the product, of any type). */
typedef struct heads_call {
    const matrix *w; /* not in_out */
    int heads;
    int64_t first, rows, step;
    bool turned;
    buffer *x;                /* [n, heads * w->cols]; turned: [n, heads * rows] */
    buffer *y;                /* [.., ..] */
    int64_t y_row;            /* outputs are rows [y_row, y_row + n) of y */
    spans at;                 /* of y: a span of `rows` for each head; turned: of w->cols */
    const compute_work *work; /* from heads_layout; only if turned */
} heads_call;

/* A resident feed-forward network: y = down(glu(gate(x), up(x))); gate without data where the activation has none. */
typedef struct ffn_weights {
    matrix gate, up, down;
    glu_config glu;
} ffn_weights;

/* ---- attention ---- */

typedef struct attention_shape {
    kv_shape kv;
    int heads;      /* of queries, a multiple of kv_heads: query heads of one key head lie side by side */
    int32_t chosen; /* so many positions are chosen for a token (attention_call.chosen); 0: it sees all */
} attention_shape;

typedef struct attention_call {
    attention_shape shape;
    const buffer *q;        /* [n, heads * key_dim] */
    buffer *out;            /* [n, heads * value_dim] */
    const kv_token *tokens; /* [n]; their own keys and values are stored already */
    int32_t window;         /* a token sees the last `window` positions, its own included; 0: all */
    /* NULL, or [n, shape.chosen] ascending positions: a token that could see more than shape.chosen sees these alone; for
     * latents (value_in_key, one key head) only, without window and chunk */
    const int32_t *chosen;
    int32_t chunk;            /* it sees no position before the last multiple of `chunk` (Llama 4); 0: all */
    float scale;              /* of q . k, above 0 */
    float softcap;            /* a scaled score s becomes softcap * tanh(s / softcap); 0: not */
    const float *sinks;       /* [heads] a logit that takes part in each softmax and has no value; NULL: none */
    const compute_work *work; /* from attention_layout for this shape */
} attention_call;

/* Choose the positions that a token sees (the lightning indexer of DeepSeek's sparse attention): of those up to its own the
 * `most` with the highest scores
 *   scale * sum over heads of weights[h] * max(q_h . k, 0)
 * where k is the value that is stored at the position; of equal scores the earlier. Tokens that could see no more than
 * `most` positions see all: nothing is computed for them. */
typedef struct select_call {
    kv_shape kv; /* one head, not value_in_key */
    int heads;
    int32_t most;
    float scale;
    buffer *q;             /* [n, heads * value_dim], laid out for select_readers */
    const buffer *weights; /* [n, heads] */
    const kv_token *tokens;
    int32_t *chosen; /* [n, most] out, ascending; not written for tokens that see all */
    const compute_work *work;
} select_call;

/* The types of `q`'s readers, whatever the type of the cache. */
static inline dtype_set select_readers(void)
{
    return dtype_bit(DTYPE_F32) | dtype_bit(DTYPE_F16) | dtype_bit(DTYPE_Q8_0);
}

/* ---- recurrent layers ---- */

#define CONV_MOST 8
#define RECURRENT_CHUNK 16 /* positions; chunks begin at multiples of it */

/* The result and what is kept of a sequence do not depend on how its tokens are cut into calls. All tokens of the buffers
 * belong to a run. `conv` and `recurrent` overwrite what they keep: float32 numbers, `state` bytes behind `recurrent`.
 *
 * A causal convolution of each channel over its sequence's tokens, then SiLU if asked for:
 *   y[t][c] = bias[c] + sum over j < width of weight[j][c] * x[t - width + 1 + j][c] */
typedef struct conv_call {
    const buffer *x; /* [n, >= channels] */
    buffer *y;       /* [n, >= channels]; not x */
    int64_t x_column, y_column, channels;
    int width;           /* 2 to CONV_MOST */
    const float *weight; /* [width, channels] */
    const float *bias;   /* [channels] or NULL */
    bool silu;
    const sequence_run *sequences;
    int n_sequences;
    uint64_t state; /* [width - 1, channels] the last inputs, the oldest first: conv_state_bytes */
} conv_call;

/* Linear attention, token after token: for each head, with its state S [key_dim, value_dim],
 *   S = decay * S             each row by its own decay, or all by one
 *   u = beta * (v - S^T k)    delta rule; without it u = beta * v
 *   S = S + k u^T
 *   out = S^T q
 * Heads of a buffer lie side by side from `column` on. */
typedef struct recurrent_part {
    const buffer *rows;
    int64_t column;
} recurrent_part;

typedef struct recurrent_call {
    int heads;     /* of v, beta, decay, state and out */
    int key_heads; /* of q and k; `heads` is a multiple of it */
    bool tiled;    /* head h has key head h % key_heads; else neighbours share: h / (heads / key_heads) */
    int64_t key_dim, value_dim;
    recurrent_part q, k;  /* [n, key_heads * key_dim] */
    recurrent_part v;     /* [n, heads * value_dim] */
    recurrent_part beta;  /* [n, heads] */
    recurrent_part decay; /* [n, heads] or, if decay_rows, [n, heads * key_dim] */
    bool decay_rows, delta;
    buffer *out; /* [n, heads * value_dim] */
    const sequence_run *sequences;
    int n_sequences;
    uint64_t state;           /* [heads, key_dim, value_dim]: recurrent_state_bytes */
    const compute_work *work; /* of `delta` alone: from delta_layout */
} recurrent_call;

/* `delta` is the same rule with `delta` and without `decay_rows`, in chunks of RECURRENT_CHUNK positions: the sums of
 * several tokens are products of matrices, and a token does not overwrite S but adds its row to what the chunk knows. It
 * keeps delta_state_bytes behind `chunk`, nothing behind `recurrent`; `state` is not used.
 *
 * conv_state_bytes, recurrent_state_bytes, delta_state_bytes - what an operation keeps of one sequence; multiples of 64.
 * Heads are at most 2^12, lengths of heads too, other factors at most 2^20, so that nothing overflows. */
static inline uint64_t conv_state_bytes(int width, int64_t channels)
{
    return ((uint64_t)(width - 1) * (uint64_t)channels * sizeof(float) + 63) & ~63ull;
}
static inline uint64_t recurrent_state_bytes(int heads, int64_t key_dim, int64_t value_dim)
{
    return ((uint64_t)heads * (uint64_t)key_dim * (uint64_t)value_dim * sizeof(float) + 63) & ~63ull;
}
uint64_t delta_state_bytes(int heads, int key_heads, int64_t key_dim, int64_t value_dim);

/* ---- router ---- */

typedef struct route_call {
    const router_config *config;
    buffer *logits; /* [n, experts] */
    router_vectors vectors;
    float *scores;            /* NULL, or [n, experts] out */
    int32_t *topk;            /* [n, top_k] out */
    float *topw;              /* [n, top_k] out */
    const compute_work *work; /* from route_layout */
} route_call;

/* ---- grouped experts ---- */

/* The matrices of one expert; biases are NULL where it has none. */
typedef struct expert_weights {
    matrix gate, up, down; /* gate without data where the activation has none */
    bool interleaved; /* `gate` is both, stored (in, out) with columns gate, up, gate, up...; `up` is not looked at */
    const float *gate_bias, *up_bias, *down_bias;
} expert_weights;

#define EXPERT_SEGMENTS_MAX 16

/* Some pairs of one expert. */
typedef struct expert_segment {
    expert_weights w;
    int64_t pair, pairs; /* its pairs: [pair, pair + pairs) of the lists below */
} expert_segment;

typedef struct experts_layout_info {
    int64_t hidden, ffn;
    glu_config glu;
    bool weight_on_input;          /* the router's weight multiplies the expert's input, not its output (Llama 4) */
    dtype_set in_types, mid_types; /* of gate and up; of down */
    int64_t pairs_most;            /* pairs of all segments of one call */
} experts_layout_info;

/* Experts computed together: for each (token, expert) pair, out = down(glu(gate(x), up(x))) of that token. */
typedef struct experts_group_call {
    const experts_layout_info *info;
    buffer *x;                      /* [n, hidden] */
    const int32_t *pair_token;      /* [pairs of all calls] */
    const float *pair_weight;       /* the same; see `y` and info->weight_on_input */
    const expert_segment *segments; /* [count], at most EXPERT_SEGMENTS_MAX */
    int count;
    /* Where outputs go: to row `pair` of pair_out, without the pair's weight; or, where pair_out is NULL, they are
     * added to y, times their weight, in the order of the segments. */
    buffer *pair_out, *y;
    /* NULL, or where the products before the activation are kept: row pair_token * keep_top_k + pair_choice of
     * [.., ffn] */
    float *keep_gate, *keep_up;
    const uint8_t *pair_choice;
    int keep_top_k;
    const compute_work *work; /* from experts_layout */
} experts_group_call;

/* y[t] = sum of weight * pair_out over the pairs of t, in the order of the list. */
typedef struct combine_call {
    const buffer *pair_out;
    const int32_t *pair_token; /* [pairs] */
    const float *pair_weight;  /* [pairs]; NULL: 1 */
    int64_t pairs;
    buffer *y;
    int64_t n; /* tokens */
} combine_call;

/* ---- the table ---- */

struct compute_ops {
    const char *name;

    /* Workspace, carved by arena.h's rule: measured and carved by the same call.
     * buffer_layout - room for n tokens. readers: the types of all matrices that will take the buffer as input.
     * own_values false: float rows are lent with `borrow` before use. */
    void (*buffer_layout)(const compute *c, arena *a, buffer *out, int64_t n, int64_t cols, dtype_set readers,
                          bool own_values);
    void (*ffn_layout)(const compute *c, arena *a, int64_t ffn, dtype_set down_types, int64_t n, compute_work *out);
    /* heads_layout - for turned products with matrices of these types and up to `rows` rows a head. */
    void (*heads_layout)(const compute *c, arena *a, int64_t rows, dtype_set types, compute_work *out);
    void (*attention_layout)(const compute *c, arena *a, const attention_shape *shape, int64_t n, compute_work *out);
    /* select_layout - for tokens at positions below `positions`. */
    void (*select_layout)(const compute *c, arena *a, int heads, int64_t positions, compute_work *out);
    void (*delta_layout)(const compute *c, arena *a, int64_t key_dim, compute_work *out);
    void (*route_layout)(const compute *c, arena *a, int experts, compute_work *out);
    void (*experts_layout)(const compute *c, arena *a, const experts_layout_info *info, compute_work *out);

    /* write - the host rows that the caller fills now: n tokens, [n, cols]. read - wait, and see the host rows.
     * borrow - let the buffer be the caller's rows [n, cols] until it borrows others: input as they are, or output. */
    float *(*write)(const compute *c, buffer *b, int64_t n);
    const float *(*read)(const compute *c, const buffer *b);
    void (*borrow)(const compute *c, buffer *b, float *rows, int64_t n);

    /* tokens - `count` token-wise operations on n tokens, in the order of the list. */
    void (*tokens)(const compute *c, const token_op *ops, int count, int64_t n);
    /* linear - up to LINEAR_CALLS_MAX products whose inputs have the same number of tokens. */
    void (*linear)(const compute *c, const linear_call *jobs, int count);
    /* heads - products head by head, for the tokens of x. */
    void (*heads)(const compute *c, const heads_call *call);
    /* ffn - y = a feed-forward network of x. work: from ffn_layout for a network at least as wide. */
    void (*ffn)(const compute *c, const ffn_weights *w, const compute_work *work, buffer *x, buffer *y);
    void (*attention)(const compute *c, const attention_call *call, int64_t n);
    /* select - which positions tokens see, for the tokens of q. */
    void (*select)(const compute *c, const select_call *call);
    void (*conv)(const compute *c, const conv_call *call);
    void (*recurrent)(const compute *c, const recurrent_call *call);
    void (*delta)(const compute *c, const recurrent_call *call);
    /* route - choose experts for the logits' tokens and wait for the choice. Returns the first token that has a logit
     * which is not a finite number, or -1; choices are valid indices all the same. */
    int64_t (*route)(const compute *c, const route_call *call);
    void (*experts)(const compute *c, const experts_group_call *call);
    void (*combine)(const compute *c, const combine_call *call);
};

/* compute_kernels_find - the processor's kernels by name; NULL or "auto": the best that this processor runs. NULL when
 * unknown or when this machine lacks them. compute_kernels_at - i = 0, 1, ... goes through those that this machine runs;
 * NULL at the end. */
const struct kernel_table *compute_kernels_find(const char *name);
const struct kernel_table *compute_kernels_at(int i);
const char *compute_kernels_name(const struct kernel_table *k);

/* compute_cpu - the processor, with one table of kernels; layouts can be measured at once. compute_start - start the
 * threads, before the first operation. ERR_MEMORY, ERR_RANGE. compute_stop - zeroed or not started is fine. */
compute compute_cpu(const struct kernel_table *kernels, int threads);
odmoe_status compute_start(compute *c, odmoe_error *err);
void compute_stop(compute *c);

/* compute_floats - weights of any type as float32: n of them, whole blocks. For small tensors, at load. */
void compute_floats(dtype type, const void *from, float *to, int64_t n);

/* compute_takes - can products use weights of this type, stored this way? */
bool compute_takes(const compute *c, dtype type, bool in_out);

/* kv_page_bytes - the bytes of one page: KV_PAGE positions of all heads. Pages are copied and moved as they are. */
size_t kv_page_bytes(const kv_shape *shape);

#endif
