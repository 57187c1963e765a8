/* cpu_linear.c - matrix products of resident weights, split over threads by outputs. */
#include <string.h>

#include "compute/cpu.h"

/* Weight rows of one task: a multiple of every kernel's row group. */
#define TASK_ROWS 64
#define TASK_ROWS_SMALL 32 /* of a small matrix and many tokens: the widest float panel */
#define TASK_ROWS_LEAST 16 /* few tokens: a small matrix is shared too */
#define TASK_ROWS_MOST 256
#define TASKS_A_THREAD 8     /* at least, to balance */
#define TASK_TOKENS_LEAST 96 /* tokens that pay for unpacking a task's weights */

int64_t cpu_task_rows(const compute *c, int64_t total, int64_t n)
{
    int64_t tasks = TASKS_A_THREAD * c->threads;
    if (n > FEW_TOKENS)
        return total >= tasks * TASK_ROWS ? TASK_ROWS : TASK_ROWS_SMALL;
    int64_t rows = total / tasks / TASK_ROWS_LEAST * TASK_ROWS_LEAST;
    rows = rows < TASK_ROWS_MOST ? rows : TASK_ROWS_MOST;
    return rows > TASK_ROWS_LEAST ? rows : TASK_ROWS_LEAST;
}

scaled_weights cpu_scaled(const matrix *w)
{
    int64_t scale_row_bytes = (int64_t)scale_bytes(w->grid, 1, (uint64_t)w->cols);
    return (scaled_weights){.data = w->data,
                            .row_bytes = cpu_row_bytes(w),
                            .scales = w->scales,
                            .scale_row_bytes = w->scale_row_bytes ? w->scale_row_bytes : scale_row_bytes,
                            .factor = w->factor != 0 ? w->factor : 1,
                            .grid = w->grid};
}

void cpu_matmul(const compute *c, const matrix *w, int64_t first, int64_t count, const buffer *x, int64_t token,
                int64_t n, float *y, int64_t ldy)
{
    const kernel_ops *ops = &c->kernels->ops[w->type];
    const char *at = w->data;
    int64_t row_bytes = cpu_row_bytes(w);
    if (w->in_out) /* a float type: blocks of one weight */
        ops->matmul_kn(at + first * (int64_t)dtype_info(w->type)->block_bytes, row_bytes, w->cols, count,
                       cpu_values(x, token), x->cols, n, y, ldy);
    else if (ops->matmul_scaled) {
        scaled_weights s = cpu_scaled(w);
        ops->matmul_scaled(&s, first, count, w->cols, cpu_rows(x, ops->act, token),
                           (int64_t)act_bytes(ops->act, x->cols), n, y, ldy);
    } else
        ops->matmul(at + first * row_bytes, row_bytes, count, w->cols, cpu_rows(x, ops->act, token),
                    (int64_t)act_bytes(ops->act, x->cols), n, y, ldy);
}

typedef struct linear_loop {
    const compute *c;
    const linear_call *jobs;
    int64_t first, n; /* tokens of x */
    int64_t rows;     /* weight rows of a task */
    int64_t tokens;   /* tokens of a task */
    int64_t row_runs; /* tasks that together take all weights once; a task = run of tokens * row_runs + run of rows */
    int64_t first_task[LINEAR_CALLS_MAX + 1];
} linear_loop;

/* The exponent of infinity and NaN is all ones. */
static bool all_finite(const float *x, int64_t n)
{
    uint32_t bad = 0;
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        bad |= (bits & 0x7f800000) == 0x7f800000;
    }
    return !bad;
}

static void linear_task(void *ctx, int64_t task, int worker)
{
    const linear_loop *loop = ctx;
    int64_t token = task / loop->row_runs * loop->tokens, run = task % loop->row_runs;
    int64_t n = cpu_run_length(loop->n, token, loop->tokens);
    int j = 0;
    while (run >= loop->first_task[j + 1])
        j++;
    const linear_call *job = &loop->jobs[j];
    int64_t first = (run - loop->first_task[j]) * loop->rows, rows = cpu_run_length(job->w->rows, first, loop->rows);
    float *y = cpu_values(job->y, token) + job->column + first;
    cpu_matmul(loop->c, job->w, first, rows, job->x, loop->first + token, n, y, job->y->cols);
    for (int64_t i = 0; job->bias && i < n; i++)
        cpu_add(y + i * job->y->cols, job->bias + first, rows);
    for (int64_t i = 0; job->not_finite && i < n; i++) /* while the outputs are in the nearest cache */
        if (!all_finite(y + i * job->y->cols, rows))
            __atomic_store_n(&job->not_finite[token + i], true, __ATOMIC_RELAXED); /* other tasks may, too */
}

/* Tokens of a task: all of them, unless a matrix is so small (a router) that threads would find no work. */
static int64_t task_tokens(const compute *c, int64_t row_runs, int64_t n)
{
    int64_t runs = TASKS_A_THREAD * c->threads / row_runs, most = n / TASK_TOKENS_LEAST;
    runs = runs < most ? runs : most;
    return runs > 1 ? (n + runs - 1) / runs : n;
}

void cpu_linear_part(const compute *c, const linear_call *jobs, int count, int64_t first, int64_t n)
{
    linear_loop loop = {.c = c, .jobs = jobs, .first = first, .n = n};
    int64_t total = 0;
    for (int j = 0; j < count; j++) {
        total += jobs[j].w->rows;
        cpu_need(c, jobs[j].x, jobs[j].w->in_out ? 0 : 1u << cpu_format(c, jobs[j].w->type));
    }
    loop.rows = cpu_task_rows(c, total, n);
    for (int j = 0; j < count; j++)
        loop.first_task[j + 1] = loop.first_task[j] + cpu_runs(jobs[j].w->rows, loop.rows);
    loop.row_runs = loop.first_task[count];
    loop.tokens = task_tokens(c, loop.row_runs, n);
    pool_run(c->pool, loop.row_runs * cpu_runs(n, loop.tokens), linear_task, &loop);
    for (int j = 0; j < count; j++)
        cpu_written(jobs[j].y, n);
}

void cpu_linear(const compute *c, const linear_call *jobs, int count)
{
    cpu_linear_part(c, jobs, count, 0, jobs[0].x->n);
}
