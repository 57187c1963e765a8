/* cpu_heads.c - products head by head, with parts of one tensor. A turned product (with the transposed weights)
 * makes a panel of some columns of a head's rows as floats, for all tokens: the same numbers and the same order of
 * additions whatever the number of tokens. */
#include <assert.h>
#include <string.h>

#include "compute/cpu.h"

#define PANEL_COLS 256 /* of a turned product, a multiple of every block */

typedef struct heads_work {
    float *panel; /* [threads][rows, PANEL_COLS] */
    int64_t rows;
} heads_work;

static_assert(sizeof(heads_work) <= sizeof(compute_work), "it fits in the caller's struct");

void cpu_heads_layout(const compute *c, arena *a, int64_t rows, dtype_set types, compute_work *out)
{
    heads_work w = {.rows = rows};
    for (int t = 0; t < DTYPE_COUNT; t++)
        if (types >> t & 1 && !c->kernels->ops[t].matmul_kn)
            w.panel = arena_take(a, (size_t)c->threads, (size_t)rows * PANEL_COLS * sizeof(float));
    memcpy(out, &w, sizeof w);
}

typedef struct heads_loop {
    const compute *c;
    const heads_call *call;
    heads_work work;
    int64_t outs;   /* of a head */
    int64_t length; /* outputs of a task */
    int64_t runs;   /* tasks of a head */
} heads_loop;

/* The part of x that one head takes. */
static buffer head_of(const buffer *x, int64_t first)
{
    buffer b = *x;
    b.values += first;
    for (int f = 0; f < ACT_COUNT; f++) /* blocks lie side by side, and a head has whole blocks of what it takes */
        if (b.format[f])
            b.format[f] = (char *)b.format[f] + act_bytes((activation)f, first);
    return b;
}

/* Columns [first, first + n) of the rows of head h as floats. */
static void fill_panel(const heads_loop *loop, int64_t h, int64_t first, int64_t n, float *panel)
{
    const heads_call *call = loop->call;
    const matrix *w = call->w;
    const kernel_ops *ops = &loop->c->kernels->ops[w->type];
    scaled_weights scaled = cpu_scaled(w);
    for (int64_t r = 0; r < call->rows; r++) {
        int64_t row = call->first + h * call->step + r;
        const char *at = (const char *)w->data + row * cpu_row_bytes(w);
        if (ops->matmul_scaled)
            kernel_scaled_numbers(w->type, &scaled, row, first, n, panel + r * n);
        else
            ops->dequantise(at + dtype_bytes(w->type, (uint64_t)first), panel + r * n, n);
    }
}

static void turned_task(const heads_loop *loop, int64_t h, int64_t first, int64_t n, int worker, float *y)
{
    const heads_call *call = loop->call;
    const matrix *w = call->w;
    const kernel_table *k = loop->c->kernels;
    const float *x = cpu_values(call->x, 0) + h * call->rows;
    int64_t row_bytes = cpu_row_bytes(w);
    const char *at = (const char *)w->data + (call->first + h * call->step) * row_bytes;
    if (k->ops[w->type].matmul_kn) { /* a float type: blocks of one weight */
        k->ops[w->type].matmul_kn(at + first * (int64_t)dtype_info(w->type)->block_bytes, row_bytes, call->rows, n, x,
                                  call->x->cols, call->x->n, y, call->y->cols);
        return;
    }
    float *panel = loop->work.panel + worker * loop->work.rows * PANEL_COLS;
    fill_panel(loop, h, first, n, panel);
    k->ops[DTYPE_F32].matmul_kn(panel, n * (int64_t)sizeof(float), call->rows, n, x, call->x->cols, call->x->n, y,
                                call->y->cols);
}

static void heads_task(void *ctx, int64_t task, int worker)
{
    const heads_loop *loop = ctx;
    const heads_call *call = loop->call;
    int64_t h = task / loop->runs, first = task % loop->runs * loop->length;
    int64_t n = cpu_run_length(loop->outs, first, loop->length);
    float *y = cpu_values(call->y, call->y_row) + call->at.first + h * call->at.stride + first;
    if (call->turned) {
        turned_task(loop, h, first, n, worker, y);
        return;
    }
    buffer x = head_of(call->x, h * call->w->cols);
    cpu_matmul(loop->c, call->w, call->first + h * call->step + first, n, &x, 0, x.n, y, call->y->cols);
}

void cpu_heads(const compute *c, const heads_call *call)
{
    heads_loop loop = {.c = c, .call = call, .length = PANEL_COLS, .outs = call->w->cols};
    if (call->turned) {
        memcpy(&loop.work, call->work, sizeof loop.work);
    } else {
        cpu_need(c, call->x, 1u << cpu_format(c, call->w->type));
        loop.outs = call->rows;
        loop.length = cpu_task_rows(c, call->heads * call->rows, call->x->n);
    }
    loop.runs = cpu_runs(loop.outs, loop.length);
    pool_run(c->pool, call->heads * loop.runs, heads_task, &loop);
    cpu_written(call->y, call->y_row + call->x->n);
}
