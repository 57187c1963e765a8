#include "moe/linear.h"

/* Weight rows of one task: a multiple of every kernel's row group. */
#define TASK_ROWS 64
#define TASK_ROWS_SMALL 32 /* of a small matrix and many activation rows: the widest float panel */
#define TASK_ROWS_LEAST 16 /* few activation rows: a small matrix is shared too */
#define TASK_ROWS_MOST 256
#define TASKS_A_THREAD 8     /* at least, to balance */
#define TASK_TOKENS_LEAST 96 /* activation rows that pay for unpacking a task's weights */
#define LOOP_ROWS_MOST 16    /* rows that one task of rows_run takes */
/* Below this many rows a loop over rows runs on the caller's thread: waking others costs more. */
#define FEW_ROWS 4

unsigned activation_masks(const kernel_table *k, dtype_set types)
{
    unsigned mask = 0;
    for (int t = 0; t < DTYPE_COUNT; t++)
        mask |= types >> t & 1 ? activation_mask(k, (dtype)t) : 0;
    return mask;
}

buffer activations_buffer(const activations *a, unsigned mask, int64_t n)
{
    buffer b = {.cols = a->cols, .n = n, .values = a->at[ACT_F32], .fresh = mask};
    for (int f = 0; f < ACT_COUNT; f++)
        b.format[f] = f == ACT_F32 ? NULL : a->at[f];
    return b;
}

void activations_layout(arena *a, activations *out, unsigned mask, int64_t n, int64_t cols)
{
    out->cols = cols;
    for (int f = 0; f < ACT_COUNT; f++) {
        out->bytes[f] = act_bytes((activation)f, cols);
        out->at[f] = f != ACT_F32 && (mask >> f & 1) ? arena_take(a, (size_t)n, out->bytes[f]) : NULL;
    }
}

typedef struct fill_job {
    const compute *c;
    const activations *a;
    unsigned mask;
} fill_job;

static void fill_row(void *ctx, int64_t row, int worker)
{
    const fill_job *job = ctx;
    const activations *a = job->a;
    const float *x = (const float *)a->at[ACT_F32] + row * a->cols;
    for (int f = 0; f < ACT_COUNT; f++)
        if (f != ACT_F32 && (job->mask >> f & 1))
            job->c->kernels->quantise[f](x, (char *)a->at[f] + (size_t)row * a->bytes[f], a->cols);
}

typedef struct rows_loop {
    void (*fn)(void *ctx, int64_t row, int worker);
    void *ctx;
    int64_t n, each; /* rows; of one task */
} rows_loop;

static void rows_task(void *ctx, int64_t task, int worker)
{
    const rows_loop *loop = ctx;
    int64_t first = task * loop->each, end = first + loop->each < loop->n ? first + loop->each : loop->n;
    for (int64_t row = first; row < end; row++)
        loop->fn(loop->ctx, row, worker);
}

void rows_run(const compute *c, int64_t n, void (*fn)(void *ctx, int64_t row, int worker), void *ctx)
{
    rows_loop loop = {fn, ctx, n, n};
    if (n <= FEW_ROWS) {
        rows_task(&loop, 0, 0);
        return;
    }
    int64_t each = n / (TASKS_A_THREAD * pool_threads(c->pool));
    loop.each = each < 1 ? 1 : each < LOOP_ROWS_MOST ? each : LOOP_ROWS_MOST;
    pool_run(c->pool, (n + loop.each - 1) / loop.each, rows_task, &loop);
}

void activations_fill(const compute *c, activations *a, unsigned mask, const float *x, int64_t n)
{
    a->at[ACT_F32] = (void *)x;
    fill_job job = {c, a, mask};
    if (mask & ~(1u << ACT_F32))
        rows_run(c, n, fill_row, &job);
}

int64_t task_rows(const compute *c, int64_t total, int64_t n)
{
    int64_t tasks = TASKS_A_THREAD * pool_threads(c->pool);
    if (n > FEW_ROWS)
        return total >= tasks * TASK_ROWS ? TASK_ROWS : TASK_ROWS_SMALL;
    int64_t rows = total / tasks / TASK_ROWS_LEAST * TASK_ROWS_LEAST;
    rows = rows < TASK_ROWS_MOST ? rows : TASK_ROWS_MOST;
    return rows > TASK_ROWS_LEAST ? rows : TASK_ROWS_LEAST;
}

typedef struct linear_loop {
    const compute *c;
    const linear_job *jobs;
    int64_t n, rows;  /* activation rows; weight rows of a task */
    int64_t tokens;   /* activation rows of a task */
    int64_t row_runs; /* tasks that together take all weights once; a task = run of tokens * row_runs + run of rows */
    int64_t first_task[LINEAR_JOBS_MAX + 1];
} linear_loop;

static void linear_task(void *ctx, int64_t task, int worker)
{
    const linear_loop *loop = ctx;
    int64_t token = task / loop->row_runs * loop->tokens, run = task % loop->row_runs;
    int64_t n = loop->n - token < loop->tokens ? loop->n - token : loop->tokens;
    int j = 0;
    while (run >= loop->first_task[j + 1])
        j++;
    const linear_job *job = &loop->jobs[j];
    const weight *w = job->w;
    int64_t first = (run - loop->first_task[j]) * loop->rows;
    int64_t rows = w->rows - first < loop->rows ? w->rows - first : loop->rows;
    int64_t row_bytes = (int64_t)dtype_bytes(w->type, (uint64_t)w->cols);
    const kernel_ops *ops = &loop->c->kernels->ops[w->type];
    int64_t act_bytes = (int64_t)job->x->bytes[ops->act];
    ops->matrix((const char *)w->data + first * row_bytes, row_bytes, rows, w->cols,
                (const char *)job->x->at[ops->act] + token * act_bytes, act_bytes, n, job->y + token * job->ldy + first,
                job->ldy);
}

/* Activation rows of a task: all of them, unless a matrix is so small (a router) that threads would find nothing. */
static int64_t task_tokens(const compute *c, int64_t row_runs, int64_t n)
{
    int64_t runs = TASKS_A_THREAD * pool_threads(c->pool) / row_runs, most = n / TASK_TOKENS_LEAST;
    runs = runs < most ? runs : most;
    return runs > 1 ? (n + runs - 1) / runs : n;
}

void linear_run(const compute *c, const linear_job *jobs, int count, int64_t n)
{
    linear_loop loop = {.c = c, .jobs = jobs, .n = n};
    int64_t total = 0;
    for (int j = 0; j < count; j++)
        total += jobs[j].w->rows;
    loop.rows = task_rows(c, total, n);
    for (int j = 0; j < count; j++)
        loop.first_task[j + 1] = loop.first_task[j] + (jobs[j].w->rows + loop.rows - 1) / loop.rows;
    loop.row_runs = loop.first_task[count];
    loop.tokens = task_tokens(c, loop.row_runs, n);
    pool_run(c->pool, loop.row_runs * ((n + loop.tokens - 1) / loop.tokens), linear_task, &loop);
}
