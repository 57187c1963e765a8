#include "moe/transposed.h"

typedef struct product_loop {
    const compute *c;
    const expert_matrix *m;
    int64_t outs, ins; /* of the product, whichever way round */
    bool as_stored;    /* weights lie (outs, ins) for this product; else (ins, outs) */
    const float *x;
    int64_t n;
    float *y;
} product_loop;

static void product_task(void *ctx, int64_t task, int worker)
{
    const product_loop *p = ctx;
    const kernel_ops *ops = &p->c->kernels->ops[p->m->type];
    const char *at = p->m->at;
    int64_t first = task * PRODUCT_ROWS, count = p->outs - first < PRODUCT_ROWS ? p->outs - first : PRODUCT_ROWS;
    if (p->as_stored)
        ops->matrix(at + first * p->m->row_bytes, p->m->row_bytes, count, p->ins, p->x, p->ins * (int64_t)sizeof(float),
                    p->n, p->y + first, p->outs);
    else
        ops->matrix_in_out(at + first * (int64_t)dtype_info(p->m->type)->block_bytes, p->m->row_bytes, p->ins, count,
                           p->x, p->ins, p->n, p->y + first, p->outs);
}

static void product_run(product_loop *p)
{
    pool_run(p->c->pool, (p->outs + PRODUCT_ROWS - 1) / PRODUCT_ROWS, product_task, p);
}

void product_forward(const compute *c, const expert_matrix *m, int64_t outs, int64_t ins, const float *x, int64_t n,
                     float *y)
{
    product_loop p = {c, m, outs, ins, !m->in_out, x, n, y};
    product_run(&p);
}

void product_backward(const compute *c, const expert_matrix *m, int64_t outs, int64_t ins, const float *x, int64_t n,
                      float *y)
{
    product_loop p = {c, m, ins, outs, m->in_out, x, n, y};
    product_run(&p);
}

typedef struct plain_loop {
    const kernel_ops *ops;
    const expert_matrix *m;
    int64_t ins;
    float *plain;
} plain_loop;

static void plain_row(void *ctx, int64_t row, int worker)
{
    const plain_loop *p = ctx;
    p->ops->dequantise((const char *)p->m->at + row * p->m->row_bytes, p->plain + row * p->ins, p->ins);
}

expert_matrix product_both_ways(const compute *c, const expert_matrix *m, int64_t outs, int64_t ins, float *plain)
{
    const kernel_ops *ops = &c->kernels->ops[m->type];
    if (ops->matrix_in_out)
        return *m;
    plain_loop p = {ops, m, ins, plain};
    rows_run(c, outs, plain_row, &p);
    return (expert_matrix){.type = DTYPE_F32, .at = plain, .row_bytes = ins * (int64_t)sizeof(float)};
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
    k->ops[DTYPE_F32].matrix_in_out(s->b, s->b_cols * (int64_t)sizeof(float), s->n, s->b_cols, s->a_t + first * s->n,
                                    s->n, count, to, ldy);
    for (int64_t i = 0; i < count && s->block; i++)
        k->add_scaled(y + i * s->y_row, to + i * ldy, 1, s->b_cols);
}

static void sum_run(sum_loop *s)
{
    pool_run(s->c->pool, (s->a_cols + PRODUCT_ROWS - 1) / PRODUCT_ROWS, sum_task, s);
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

void product_gradient(const compute *c, const expert_matrix *to, const float *out, int64_t outs, const float *in,
                      int64_t ins, int64_t n, bool add, float *transposed, float *block)
{
    turn_loop t = {to->in_out ? in : out, transposed, n, to->in_out ? ins : outs};
    pool_run(c->pool, (t.cols + PRODUCT_ROWS - 1) / PRODUCT_ROWS, turn_task, &t);
    sum_loop s = {.c = c,
                  .a_t = transposed,
                  .b = to->in_out ? out : in,
                  .a_cols = t.cols,
                  .n = n,
                  .b_cols = to->in_out ? outs : ins,
                  .y = (float *)to->at,
                  .y_row = to->row_bytes / (int64_t)sizeof(float),
                  .block = add ? block : NULL};
    sum_run(&s);
}
