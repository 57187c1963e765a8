/* cpu.c - the processor's implementation: its table, its threads, and buffers. */
#include "compute/cpu.h"

#include <assert.h>
#include <string.h>

#define TASKS_A_THREAD 8    /* at least, to balance */
#define LOOP_TOKENS_MOST 16 /* tokens that one task of cpu_for_tokens takes */

static_assert(ACT_COUNT <= BUFFER_FORMATS, "a buffer has a place for each format");

/* ---- loops over tokens ---- */

typedef struct tokens_loop {
    void (*fn)(void *ctx, int64_t token, int worker);
    void *ctx;
    int64_t n, each; /* tokens; of one task */
} tokens_loop;

static void tokens_task(void *ctx, int64_t task, int worker)
{
    const tokens_loop *loop = ctx;
    int64_t first = task * loop->each, end = first + loop->each < loop->n ? first + loop->each : loop->n;
    for (int64_t token = first; token < end; token++)
        loop->fn(loop->ctx, token, worker);
}

void cpu_for_tokens(const compute *c, int64_t n, void (*fn)(void *ctx, int64_t token, int worker), void *ctx)
{
    tokens_loop loop = {fn, ctx, n, n};
    if (n <= FEW_TOKENS) {
        tokens_task(&loop, 0, 0);
        return;
    }
    int64_t each = n / (TASKS_A_THREAD * c->threads);
    loop.each = each < 1 ? 1 : each < LOOP_TOKENS_MOST ? each : LOOP_TOKENS_MOST;
    pool_run(c->pool, (n + loop.each - 1) / loop.each, tokens_task, &loop);
}

/* ---- buffers ---- */

unsigned cpu_formats(const compute *c, dtype_set types)
{
    unsigned mask = 0;
    for (int t = 0; t < DTYPE_COUNT; t++)
        if (types >> t & 1)
            mask |= 1u << cpu_format(c, (dtype)t);
    return mask;
}

static void buffer_layout(const compute *c, arena *a, buffer *out, int64_t n, int64_t cols, dtype_set readers,
                          bool own_values)
{
    unsigned mask = cpu_formats(c, readers);
    *out = (buffer){.cols = cols};
    if (own_values)
        out->values = arena_take(a, (size_t)n * (size_t)cols, sizeof(float));
    for (int f = 0; f < ACT_COUNT; f++)
        if (f != ACT_F32 && (mask >> f & 1))
            out->format[f] = arena_take(a, (size_t)n, act_bytes((activation)f, cols));
}

void cpu_written(buffer *b, int64_t n)
{
    b->n = n;
    b->fresh = 0;
}

static float *buffer_write(const compute *c, buffer *b, int64_t n)
{
    cpu_written(b, n);
    return b->values;
}

static const float *buffer_read(const compute *c, const buffer *b)
{
    return b->values;
}

static void buffer_borrow(const compute *c, buffer *b, float *rows, int64_t n)
{
    b->values = rows;
    cpu_written(b, n);
}

typedef struct quantise_loop {
    const compute *c;
    const buffer *b;
    unsigned mask;
} quantise_loop;

static void quantise_token(void *ctx, int64_t token, int worker)
{
    const quantise_loop *loop = ctx;
    for (int f = 0; f < ACT_COUNT; f++)
        if (loop->mask >> f & 1)
            loop->c->kernels->quantise[f](cpu_values(loop->b, token), (char *)cpu_rows(loop->b, (activation)f, token),
                                          loop->b->cols);
}

void cpu_need(const compute *c, buffer *b, unsigned mask)
{
    quantise_loop loop = {c, b, mask & ~(1u << ACT_F32) & ~b->fresh};
    if (!loop.mask)
        return;
    cpu_for_tokens(c, b->n, quantise_token, &loop);
    b->fresh |= loop.mask;
}

/* ---- the table ---- */

static const compute_ops cpu_ops = {
    .name = "cpu",
    .buffer_layout = buffer_layout,
    .ffn_layout = cpu_ffn_layout,
    .heads_layout = cpu_heads_layout,
    .attention_layout = cpu_attention_layout,
    .select_layout = cpu_select_layout,
    .delta_layout = cpu_delta_layout,
    .route_layout = cpu_route_layout,
    .experts_layout = cpu_experts_layout,
    .write = buffer_write,
    .read = buffer_read,
    .borrow = buffer_borrow,
    .tokens = cpu_tokens,
    .linear = cpu_linear,
    .ffn = cpu_ffn,
    .heads = cpu_heads,
    .attention = cpu_attention,
    .select = cpu_select,
    .conv = cpu_conv,
    .recurrent = cpu_recurrent,
    .delta = cpu_delta,
    .route = cpu_route,
    .experts = cpu_experts,
    .combine = cpu_combine,
};

const struct kernel_table *compute_kernels_find(const char *name)
{
    return kernel_table_find(name ? name : "auto");
}

const struct kernel_table *compute_kernels_at(int i)
{
    return kernel_table_at(i);
}

const char *compute_kernels_name(const struct kernel_table *k)
{
    return k->name;
}

compute compute_cpu(const struct kernel_table *kernels, int threads)
{
    return (compute){.op = &cpu_ops, .threads = threads, .kernels = kernels};
}

odmoe_status compute_start(compute *c, odmoe_error *err)
{
    return pool_create(c->threads, &c->pool, err);
}

void compute_stop(compute *c)
{
    pool_free(c->pool);
    c->pool = NULL;
}

bool compute_takes(const compute *c, dtype type, bool in_out)
{
    const kernel_ops *ops = &c->kernels->ops[type];
    return in_out ? ops->matmul_kn != NULL : ops->matmul || ops->matmul_scaled;
}

void compute_floats(dtype type, const void *from, float *to, int64_t n)
{
    kernel_table_find("ref")->ops[type].dequantise(from, to, n);
}
