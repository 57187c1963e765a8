/* kernels.h - arithmetic on blocks of weights: one table for each instruction set, complete, chosen at run time.
 *
 * Same bytes, always: a result for weight row r and token t depends on that row and that token alone, never on how many
 * rows or tokens a call has, nor on alignment. All vector tables add in the same order, so they give the same bits;
 * `ref` has an order of its own, in plain float32:
 *
 *   quantised weights  for each block, ascending: y = fma(d * a.d, S, y), then, for types with a minimum,
 *                      y = fma(-m * a.d, M, y); S and M are exact integer sums over the block
 *   float and scaled   y = fma(w, x, y), columns (in matmul_kn: rows) ascending
 *   ref                y = y + w * x, columns ascending, w dequantised, x not quantised
 *
 * The tail of a vector goes through the same functions as its body. Everything is compiled with -ffp-contract=off.
 *
 * Weights may lie at any byte address; no byte beyond the last one of a row is read. Kernels check nothing and cannot
 * fail: shapes are validated at load. They allocate nothing and use at most 32 KiB of stack, 18 KiB in one function and
 * 16 KiB in one array. They start no threads: callers split outputs (rows or tokens) over threads; shares of a multiple
 * of 32 rows are fastest.
 */
#ifndef ODMOE_KERNELS_KERNELS_H
#define ODMOE_KERNELS_KERNELS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/dtype.h"
#include "kernels/kv.h"

/* What a row of activations is turned into before it meets weights of a type; once a row, whatever the weights. */
typedef enum activation {
    ACT_F32, /* as it is: float weights, and every type in `ref` */
    ACT_Q8,  /* blocks of 32: f32 scale, sum, 32 int8; for types with blocks of 32 */
    ACT_Q8K, /* blocks of 256: f32 scale, 256 int8, sums of 16; for types with blocks of 256 */
    ACT_COUNT
} activation;

/* Rows of weights of a type of DTYPE_SCALED_LIST. A weight is its element times fl(scale * factor), rounded once. */
typedef struct scaled_weights {
    const void *data;
    int64_t row_bytes;
    const void *scales;      /* rows of scales, as `grid` says; NULL: NVFP4 */
    int64_t scale_row_bytes; /* from one row of scales to the next */
    float factor;            /* of the whole tensor */
    scale_grid grid;         /* which weights share a scale */
} scaled_weights;

/* kernel_scaled_numbers - columns [c, c + n) of a row as float32, the numbers that products use; c a multiple of 16. */
void kernel_scaled_numbers(dtype t, const scaled_weights *w, int64_t row, int64_t c, int64_t n, float *out);

typedef struct kernel_ops {
    activation act; /* the format of activations that products take */

    /* n weights (whole blocks) to float, bit for bit what gguf-py gives. NULL for types with a tensor of scales. */
    void (*dequantise)(const void *weights, float *out, int64_t n);

    /* y[t * ldy + r] = sum over c of w[r][c] * x[t][c], for r in [0, rows), t in [0, n). Weights (out, in): row r starts
     * at weights + r * row_bytes. Activations: row t at act + t * act_row. Many tokens share the unpacking of a block;
     * one token is a matrix-vector product at the speed of memory. NULL for the types of DTYPE_SCALED_LIST. */
    void (*matmul)(const void *weights, int64_t row_bytes, int64_t rows, int64_t cols, const void *act, int64_t act_row,
                   int64_t n, float *y, int64_t ldy);

    /* The other orientation, weights (in, out), for the float types only (NULL for quantised ones):
     * y[t * ldy + c] = sum over r of x[t][r] * w[r][c], for c in [0, cols), t in [0, n), r ascending; x is f32 [n, ldx].
     * Row r starts at weights + r * row_bytes; a caller splits columns over threads by offsetting weights and y. */
    void (*matmul_kn)(const void *weights, int64_t row_bytes, int64_t rows, int64_t cols, const float *x, int64_t ldx,
                      int64_t n, float *y, int64_t ldy);

    /* matmul for the types of DTYPE_SCALED_LIST, NULL for the others: rows [first, first + rows) of w, to y[0 .. rows).
     * No byte beyond the last one of a row of data or of scales is read. */
    void (*matmul_scaled)(const scaled_weights *w, int64_t first, int64_t rows, int64_t cols, const void *act,
                          int64_t act_row, int64_t n, float *y, int64_t ldy);
} kernel_ops;

#define ATTEND_BLOCK 64      /* positions of a page of keys or values */
#define ATTEND_SCRATCH 65536 /* bytes */
#define KEY_INTERLEAVE 32

/* One call of `attend`: n queries that share keys and values (heads of one group, tokens of a prompt). Query i sees the
 * positions [first[i], last[i]).
 *
 * Keys and values lie in pages of ATTEND_BLOCK positions: position p is at place p % ATTEND_BLOCK of page
 * p / ATTEND_BLOCK. A page may hold several heads; the offsets say where this head's part of each page starts. Only
 * the pages from the smallest `first` to the largest `last` are touched, so the entries of others may be NULL. */
typedef struct attend_args {
    kv_type type;
    int64_t key_dim, value_dim;      /* Q8_0: multiples of 32 */
    float scale;                     /* of a score q . k, above 0 */
    float softcap;                   /* above 0: a scaled score s becomes softcap * tanh(s / softcap) */
    const void *const *key_pages;    /* [pages] as key_store leaves them; whole pages are readable */
    const void *const *value_pages;  /* [pages] value at place j of a page: page + value_offset + j * value_stride.
                                     * NULL: a value is the first value_dim numbers of its key (latent attention) */
    size_t key_offset, value_offset; /* bytes */
    int64_t value_stride;            /* bytes, at least kv_bytes(type, value_dim) */
    int64_t n;
    const int64_t *first, *last; /* [n] first < last */
    const float *q;              /* [n, q_stride], key_dim used */
    int64_t q_stride;
    const float *sinks; /* [n] a logit that takes part in each query's softmax and has no value; NULL: none */
    float *out;         /* [n, out_stride], value_dim written */
    int64_t out_stride;
    void *scratch; /* ATTEND_SCRATCH bytes at a multiple of 64, used during the call only */
} attend_args;

/* One call of `recurrent`: n tokens of one head of linear attention, in order. For each token, with the state S
 * [key_dim, value_dim]:
 *
 *   S = decay * S             each row by its own decay, or all by one
 *   u = beta * (v - S^T k)    delta rule (Yang et al. 2024); without it u = beta * v (Mamba-2: v = x, beta = dt, k = B)
 *   S = S + k u^T
 *   out = S^T q
 *
 * Strides are numbers from one token to the next. Columns are independent: value_dim may be a part of a head's, with
 * state_stride the whole. */
typedef struct recurrent_args {
    int64_t key_dim, value_dim, n;
    const float *before; /* [key_dim, state_stride], value_dim used: S before the first token */
    float *state;        /* the same behind the last one; may be `before` */
    int64_t state_stride;
    const float *q, *k; /* [n, key_dim] */
    const float *v;     /* [n, value_dim] */
    const float *decay; /* [n] or, if decay_rows, [n, key_dim] */
    const float *beta;  /* [n] */
    float *out;         /* [n, value_dim] */
    int64_t q_stride, k_stride, v_stride, decay_stride, beta_stride, out_stride;
    bool decay_rows, delta;
} recurrent_args;

/* The gated delta rule in chunks of DELTA_CHUNK tokens (Yang, Kautz, Hatamizadeh: Gated Delta Networks, arXiv
 * 2412.06464). What `recurrent` with `delta` does token by token is, for token t of a chunk that begins with the state S,
 *
 *   u_t   = beta_t * (v_t - e_t S^T k_t - sum over s < t of d_st (k_s . k_t) u_s)
 *   out_t =                 e_t S^T q_t + sum over s <= t of d_st (k_s . q_t) u_s
 *   S     = e_t S + sum over s <= t of d_st k_s u_s^T    with t the chunk's last token: the next chunk's
 *
 * where d_st = decay_(s+1) ... decay_t and e_t = decay_0 ... decay_t. So a token reads S and the rows k_s, u_s before it
 * in its chunk, adds a row, and writes S at the chunk's end only; and the sums of several tokens are products of matrices.
 *
 * A call brings n tokens of one chunk, `rows` of which are there from calls before. Results do not depend on that cut:
 * each sum is one chain of multiply-adds, over the rows of S or the tokens s in ascending order, and products of decays
 * are made from the chunk's first token on. Matrices lie in panels of DELTA_CHUNK columns, the last one filled up. What
 * lies there behind the tokens so far is neither used nor changed.
 *
 * It is the work of one head, or of some of its columns, from a multiple of DELTA_CHUNK on. */
#define DELTA_CHUNK 16
#define DELTA_SCRATCH(key_dim) (3 * DELTA_CHUNK * (key_dim)) /* numbers */

typedef struct delta_args {
    int64_t key_dim, value_dim;
    int rows, n;               /* n >= 1, rows + n <= DELTA_CHUNK */
    const float *q, *k;        /* [n, key_dim] */
    const float *v;            /* [n, value_dim] */
    const float *decay, *beta; /* [n] */
    float *out;                /* [n, value_dim] */
    int64_t q_stride, k_stride, v_stride, decay_stride, beta_stride, out_stride;
    const float *keys;   /* [key_dim][DELTA_CHUNK] column s is the key of the chunk's token s < rows */
    const float *decays; /* [rows] of the same tokens */
    int64_t decays_stride;
    float *u;           /* [panels][DELTA_CHUNK tokens][DELTA_CHUNK] the n new rows of each panel are written */
    const float *state; /* [panels][key_dim][DELTA_CHUNK] S of this chunk */
    float *next;        /* S of the next chunk, written if rows + n == DELTA_CHUNK; may be `state` */
    float *scratch;     /* DELTA_SCRATCH(key_dim) */
} delta_args;

/* One call of `conv`: a causal convolution of each channel over the tokens:
 *   y[t][c] = sum over j < width of weight[j][c] * x[t - width + 1 + j][c], j ascending, from bias[c] on; then silu.
 * What lies before x[0] is in `before`; `state` holds the last width - 1 inputs afterwards. */
typedef struct conv_args {
    int64_t channels, n;
    int width; /* 2 to 8 */
    bool silu;
    const float *weight; /* [width, weight_stride] */
    const float *bias;   /* [channels] or NULL */
    const float *x;      /* [n, x_stride]; not y */
    const float *before; /* [width - 1, state_stride], the oldest input first */
    float *state;        /* the same; may be `before` */
    float *y;            /* [n, y_stride] */
    int64_t weight_stride, x_stride, state_stride, y_stride;
} conv_args;

#define CONV_WIDTH_MOST 8

typedef struct kernel_table {
    const char *name; /* "ref", "avx2", "avx512", "neon", "neon-dot" */
    kernel_ops ops[DTYPE_COUNT];

    /* quantise - x[cols] into one row of the format; act_bytes(format, cols) bytes. ACT_F32 copies. */
    void (*quantise[ACT_COUNT])(const float *x, void *out, int64_t cols);

    /* Norms; sums in a fixed order. y may be x. weight (and bias) NULL: 1 (and 0).
     *   rms_norm    y = x / sqrt(mean(x^2) + eps) * weight
     *   layer_norm  y = (x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps) * weight + bias
     *   l2_norm     y = x / sqrt(sum(x^2) + eps) * factor */
    void (*rms_norm)(const float *x, const float *weight, float eps, float *y, int64_t n);
    void (*layer_norm)(const float *x, const float *weight, const float *bias, float eps, float *y, int64_t n);
    void (*l2_norm)(const float *x, float factor, float eps, float *y, int64_t n);
    /* x -> softmax(x) in place; subtracts the maximum; the sum in a fixed order. */
    void (*softmax)(float *x, int64_t n);
    /* Activations of feed-forward networks, stable for any finite input; NaN stays NaN. out may be gate or up.
     *   silu_mul          silu(gate) * up
     *   silu_mul_clamped  g = min(gate, limit), u = clamp(up, -limit, limit): g * sigmoid(alpha * g) * (u + offset)
     *   gelu_mul          gelu(gate) * up, gelu by its tanh formula
     *   relu_squared      max(x, 0)^2 */
    void (*silu_mul)(const float *gate, const float *up, float *out, int64_t n);
    void (*silu_mul_clamped)(const float *gate, const float *up, float *out, int64_t n, float alpha, float limit,
                             float offset);
    void (*gelu_mul)(const float *gate, const float *up, float *out, int64_t n);
    void (*relu_squared)(const float *x, float *out, int64_t n);
    /* sigmoid_mul  sigmoid(gate) * x; soft_cap  cap * tanh(x / cap). out may be an input. */
    void (*sigmoid_mul)(const float *gate, const float *x, float *out, int64_t n);
    void (*soft_cap)(const float *x, float cap, float *out, int64_t n);
    /* y += a * x */
    void (*add_scaled)(float *y, const float *x, float a, int64_t n);

    /* kv_store - head_dim floats to the cache's type. kv_bytes(type, head_dim) bytes; Q8_0 wants head_dim % 32 == 0. */
    void (*kv_store)(kv_type type, const float *x, void *out, int64_t head_dim);
    /* key_store - the same numbers as kv_store's, put at a place of a page of a head's keys, 0 <= place < ATTEND_BLOCK.
     * Keys lie interleaved, so that scores of neighbouring positions are computed side by side as they come from
     * memory: groups of KEY_INTERLEAVE positions, KEY_INTERLEAVE * kv_bytes bytes each, in a group
     *   F32, F16   [head_dim][KEY_INTERLEAVE] numbers
     *   Q8_0       [head_dim / 32][KEY_INTERLEAVE] scales (f16), then [head_dim][KEY_INTERLEAVE] int8 */
    void (*key_store)(kv_type type, const float *x, void *page, int64_t place, int64_t head_dim);
    /* attend - attention of each query over its range, accumulated over pages with an online softmax; results are
     * normalised. A result depends on its query, its range, the keys and values in it, and its sink alone. */
    void (*attend)(const attend_args *args);

    /* recurrent, delta, conv - results and state do not depend on how the tokens are cut into calls. */
    void (*recurrent)(const recurrent_args *args);
    void (*delta)(const delta_args *args);
    void (*conv)(const conv_args *args);
} kernel_table;

/* kernel_key_copy - the key at a place of a page of keys, to a place of another page, as it is. */
void kernel_key_copy(kv_type type, const void *from, int64_t from_place, void *to, int64_t to_place, int64_t head_dim);

/* kernel_table_find - by name; "auto" is the best that this processor runs. NULL when unknown or when this machine
 * lacks it. Static; threads: any. */
const kernel_table *kernel_table_find(const char *name);
/* kernel_table_at - i = 0, 1, ... goes through the tables that this machine runs; NULL at the end. */
const kernel_table *kernel_table_at(int i);

/* act_bytes - bytes of one activation row; kv_bytes - bytes of one head's key or value. */
size_t act_bytes(activation a, int64_t cols);
size_t kv_bytes(kv_type type, int64_t head_dim);

#endif
