#include "compute/gradient_products.h"

#include "compute/cpu.h"

typedef struct product_loop {
    const compute *c;
    const matrix *m;
    bool as_stored;    /* weights lie (outs, ins) for this product; else (ins, outs) */
    int64_t outs, ins; /* of the product, whichever way round */
    int64_t row_bytes;
    const float *x;
    int64_t n;
    float *y;
} product_loop;

static void product_task(void *ctx, int64_t task, int worker)
{
    const product_loop *p = ctx;
    const kernel_ops *ops = &p->c->kernels->ops[p->m->type];
    const char *at = p->m->data;
    int64_t first = task * PRODUCT_ROWS, count = cpu_run_length(p->outs, first, PRODUCT_ROWS);
    if (p->as_stored)
        ops->matmul(at + first * p->row_bytes, p->row_bytes, count, p->ins, p->x, p->ins * (int64_t)sizeof(float), p->n,
                    p->y + first, p->outs);
    else
        ops->matmul_kn(at + first * (int64_t)dtype_info(p->m->type)->block_bytes, p->row_bytes, p->ins, count, p->x,
                       p->ins, p->n, p->y + first, p->outs);
}

static void product_run(const compute *c, const matrix *m, bool transposed, const float *x, int64_t n, float *y)
{
    product_loop p = {.c = c,
                      .m = m,
                      .as_stored = transposed ? m->in_out : !m->in_out,
                      .outs = transposed ? m->cols : m->rows,
                      .ins = transposed ? m->rows : m->cols,
                      .row_bytes = cpu_row_bytes(m),
                      .x = x,
                      .n = n,
                      .y = y};
    pool_run(c->pool, cpu_runs(p.outs, PRODUCT_ROWS), product_task, &p);
}

void product_forward(const compute *c, const matrix *m, const float *x, int64_t n, float *y)
{
    product_run(c, m, false, x, n, y);
}

void product_backward(const compute *c, const matrix *m, const float *x, int64_t n, float *y)
{
    product_run(c, m, true, x, n, y);
}

typedef struct plain_loop {
    const compute *c;
    const matrix *m;
    float *plain;
} plain_loop;

static void plain_row(void *ctx, int64_t row, int worker)
{
    const plain_loop *p = ctx;
    p->c->kernels->ops[p->m->type].dequantise((const char *)p->m->data + row * cpu_row_bytes(p->m),
                                              p->plain + row * p->m->cols, p->m->cols);
}

matrix product_both_ways(const compute *c, const matrix *m, float *plain)
{
    if (compute_takes(c, m->type, true))
        return *m;
    plain_loop p = {c, m, plain};
    cpu_for_tokens(c, m->rows, plain_row, &p);
    return (matrix){.type = DTYPE_F32, .rows = m->rows, .cols = m->cols, .data = plain};
}

/* Rows of y = a' b, written or added. */
typedef struct sum_loop {
    const compute *c;
    const float *a_t, *b;
    int64_t a_cols, n, b_cols;
    float *y;
    int64_t y_row; /* floats from row to row */
    float *block;  /* NULL: write; else scratch for adding */
} sum_loop;

static void sum_task(void *ctx, int64_t task, int worker)
{
    const sum_loop *s = ctx;
    const kernel_table *k = s->c->kernels;
    int64_t first = task * PRODUCT_ROWS, count = s->a_cols - first < PRODUCT_ROWS ? s->a_cols - first : PRODUCT_ROWS;
    float *y = s->y + first * s->y_row, *to = y;
    int64_t ldy = s->y_row;
    if (s->block) {
        to = s->block + worker * PRODUCT_ROWS * s->b_cols;
        ldy = s->b_cols;
    }
    k->ops[DTYPE_F32].matmul_kn(s->b, s->b_cols * (int64_t)sizeof(float), s->n, s->b_cols, s->a_t + first * s->n, s->n,
                                count, to, ldy);
    for (int64_t i = 0; i < count && s->block; i++)
        k->add_scaled(y + i * s->y_row, to + i * ldy, 1, s->b_cols);
}

static void sum_run(sum_loop *s)
{
    pool_run(s->c->pool, cpu_runs(s->a_cols, PRODUCT_ROWS), sum_task, s);
}

void product_sum(const compute *c, const float *a_t, int64_t a_cols, int64_t n, const float *b, int64_t b_cols,
                 float *y)
{
    sum_loop s = {c, a_t, b, a_cols, n, b_cols, y, b_cols, NULL};
    sum_run(&s);
}

typedef struct turn_loop {
    const float *from; /* [n, cols] */
    float *to;         /* [cols, n] */
    int64_t n, cols;
} turn_loop;

static void turn_task(void *ctx, int64_t task, int worker)
{
    const turn_loop *t = ctx;
    int64_t first = task * PRODUCT_ROWS, last = first + PRODUCT_ROWS < t->cols ? first + PRODUCT_ROWS : t->cols;
    for (int64_t row = 0; row < t->n; row++)
        for (int64_t col = first; col < last; col++)
            t->to[col * t->n + row] = t->from[row * t->cols + col];
}

void product_gradient(const compute *c, const matrix *to, const float *out, const float *in, int64_t n, bool add,
                      float *transposed, float *block)
{
    int64_t outs = to->rows, ins = to->cols;
    turn_loop t = {to->in_out ? in : out, transposed, n, to->in_out ? ins : outs};
    pool_run(c->pool, cpu_runs(t.cols, PRODUCT_ROWS), turn_task, &t);
    sum_loop s = {.c = c,
                  .a_t = transposed,
                  .b = to->in_out ? out : in,
                  .a_cols = t.cols,
                  .n = n,
                  .b_cols = to->in_out ? outs : ins,
                  .y = (float *)to->data,
                  .y_row = cpu_row_bytes(to) / (int64_t)sizeof(float),
                  .block = add ? block : NULL};
    sum_run(&s);
}

void host_for_tokens(const compute *c, int64_t n, void (*fn)(void *ctx, int64_t token, int worker), void *ctx)
{
    cpu_for_tokens(c, n, fn, ctx);
}
