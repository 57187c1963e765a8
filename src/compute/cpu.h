/* cpu.h - what the files of the processor's implementation share. Included by src/compute only. */
#ifndef ODMOE_COMPUTE_CPU_H
#define ODMOE_COMPUTE_CPU_H

#include "compute/compute.h"
#include "kernels/kernels.h"

/* Up to this many tokens a loop over tokens runs on the caller's thread: waking others costs more. */
#define FEW_TOKENS 4

/* cpu_for_tokens - call fn(ctx, token, worker) for each token, in parallel where there are enough of them to pay. */
void cpu_for_tokens(const compute *c, int64_t n, void (*fn)(void *ctx, int64_t token, int worker), void *ctx);

/* cpu_task_rows - how many weight rows one task of a loop over `total` rows takes, a multiple of 16. With few tokens
 * weights stream at the speed of memory: long runs keep the processor's prefetching going, as long as all threads have
 * work. With many tokens the loop is compute-bound: short tasks balance the threads. */
int64_t cpu_task_rows(const compute *c, int64_t total, int64_t n);

/* How many runs of `length` cover `total`, and the length of the one that starts at `first`. */
static inline int64_t cpu_runs(int64_t total, int64_t length)
{
    return (total + length - 1) / length;
}
static inline int64_t cpu_run_length(int64_t total, int64_t first, int64_t length)
{
    return total - first < length ? total - first : length;
}

static inline activation cpu_format(const compute *c, dtype type)
{
    return c->kernels->ops[type].act;
}
/* cpu_formats - the formats that matrices of these types take, as bits. */
unsigned cpu_formats(const compute *c, dtype_set types);

/* cpu_need - make the formats of `mask` hold what the buffer holds. */
void cpu_need(const compute *c, buffer *b, unsigned mask);
/* cpu_written - the buffer has been written: n tokens, no quantised copy holds any more. */
void cpu_written(buffer *b, int64_t n);

static inline int64_t cpu_row_bytes(const matrix *m)
{
    return m->row_bytes ? m->row_bytes : (int64_t)dtype_bytes(m->type, (uint64_t)(m->in_out ? m->rows : m->cols));
}

/* The rows of a buffer in one format. */
static inline const char *cpu_rows(const buffer *b, activation format, int64_t token)
{
    if (format == ACT_F32)
        return (const char *)(b->values + token * b->cols);
    return (const char *)b->format[format] + (size_t)token * act_bytes(format, b->cols);
}
static inline float *cpu_values(const buffer *b, int64_t token)
{
    return b->values + token * b->cols;
}

/* cpu_matmul - y [n, ldy] = outputs [first, first + count) of n tokens of x from `token` on, in either orientation. */
void cpu_matmul(const compute *c, const matrix *w, int64_t first, int64_t count, const buffer *x, int64_t token,
                int64_t n, float *y, int64_t ldy);

/* cpu_scaled - a matrix of a type of DTYPE_SCALED_LIST as kernels take it. */
scaled_weights cpu_scaled(const matrix *w);

/* cpu_glu - y = glu(gate, up), n values; y may be gate or up. */
void cpu_glu(const compute *c, const glu_config *g, const float *gate, const float *up, float *y, int64_t n);
void cpu_add(float *y, const float *x, int64_t n); /* y += x, plain: for biases */

/* The operations, one group a file. */
void cpu_tokens(const compute *c, const token_op *ops, int count, int64_t n);
void cpu_linear(const compute *c, const linear_call *jobs, int count);
/* cpu_linear_part - the same for tokens [first, first + n) of every x, written to rows [0, n) of every y. */
void cpu_linear_part(const compute *c, const linear_call *jobs, int count, int64_t first, int64_t n);
void cpu_ffn_layout(const compute *c, arena *a, int64_t ffn, dtype_set down_types, int64_t n, compute_work *out);
void cpu_ffn(const compute *c, const ffn_weights *w, const compute_work *work, buffer *x, buffer *y);
void cpu_heads_layout(const compute *c, arena *a, int64_t rows, dtype_set types, compute_work *out);
void cpu_heads(const compute *c, const heads_call *call);
void cpu_attention_layout(const compute *c, arena *a, const attention_shape *shape, int64_t n, compute_work *out);
void cpu_attention(const compute *c, const attention_call *call, int64_t n);
void cpu_kv_store(const compute *c, const kv_shape *shape, const kv_token *token, const float *keys,
                  const float *values);
void cpu_conv(const compute *c, const conv_call *call);
void cpu_recurrent(const compute *c, const recurrent_call *call);
void cpu_delta_layout(const compute *c, arena *a, int64_t key_dim, compute_work *out);
void cpu_delta(const compute *c, const recurrent_call *call);
void cpu_select_layout(const compute *c, arena *a, int heads, int64_t positions, compute_work *out);
void cpu_select(const compute *c, const select_call *call);
/* cpu_value_offset - where the values of a head begin in a page. */
size_t cpu_value_offset(const kv_shape *s, int head);
void cpu_route_layout(const compute *c, arena *a, int experts, compute_work *out);
int64_t cpu_route(const compute *c, const route_call *call);
void cpu_experts_layout(const compute *c, arena *a, const experts_layout_info *info, compute_work *out);
void cpu_experts(const compute *c, const experts_group_call *call);
void cpu_combine(const compute *c, const combine_call *call);

#endif
