/* cpu_select.c - which positions a token sees: scores of all positions before it, and the highest of them. Up to as many
 * tokens as there are threads go together, so that few tokens with long contexts keep all threads busy. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "compute/cpu.h"

#define RUN_PAGES 16 /* of a task */

typedef struct select_work {
    uint32_t *orders;  /* [threads][positions] of scores: as numbers are, so are these */
    int64_t positions; /* room of a token */
    float *products;   /* [threads][heads, KV_PAGE] */
    int64_t *rows;     /* [threads] the tokens that go together */
} select_work;

static_assert(sizeof(select_work) <= sizeof(compute_work), "it fits in the caller's struct");

void cpu_select_layout(const compute *c, arena *a, int heads, int64_t positions, compute_work *out)
{
    select_work w = {.positions = positions};
    w.orders = arena_take(a, (size_t)c->threads * (size_t)positions, sizeof *w.orders);
    w.products = arena_take(a, (size_t)c->threads * (size_t)heads, KV_PAGE * sizeof *w.products);
    w.rows = arena_take(a, (size_t)c->threads, sizeof *w.rows);
    memcpy(out, &w, sizeof w);
}

typedef struct select_run {
    const compute *c;
    const select_call *call;
    select_work w;
    int64_t runs; /* tasks of the token with the most positions */
} select_run;

static dtype stored_as(kv_type type)
{
    static const dtype types[KV_COUNT] = {[KV_F32] = DTYPE_F32, [KV_F16] = DTYPE_F16, [KV_Q8_0] = DTYPE_Q8_0};
    return types[type];
}

/* A number's order among numbers; NaN, as weights of damaged models give, below all. */
static uint32_t order_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return 0;
    return bits & 0x80000000 ? ~bits : bits | 0x80000000;
}

/* The scores of positions [first, first + n), which lie in one page. */
static void score_page(const select_run *r, int64_t token, int64_t first, int64_t n, int worker, uint32_t *orders)
{
    const select_call *call = r->call;
    const kv_shape *s = &call->kv;
    const kernel_ops *ops = &r->c->kernels->ops[stored_as(s->type)];
    const char *page = (const char *)call->tokens[token].pages[first / KV_PAGE] + cpu_value_offset(s, 0);
    float *products = r->w.products + (int64_t)worker * call->heads * KV_PAGE;
    const float *weights = cpu_values(call->weights, token);
    ops->matmul(page, (int64_t)kv_bytes(s->type, s->value_dim), n, s->value_dim, cpu_rows(call->q, ops->act, token),
                (int64_t)act_bytes(ops->act, s->value_dim), call->heads, products, KV_PAGE);
    float scores[KV_PAGE] = {0};
    for (int h = 0; h < call->heads; h++) {
        float weight = weights[h] * call->scale;
        for (int64_t i = 0; i < n; i++)
            scores[i] += weight * fmaxf(products[h * KV_PAGE + i], 0);
    }
    for (int64_t i = 0; i < n; i++)
        orders[i] = order_of(scores[i]);
}

/* Task = row * runs + run of pages. */
static void score_task(void *ctx, int64_t task, int worker)
{
    const select_run *r = ctx;
    int64_t row = task / r->runs, token = r->w.rows[row], seen = r->call->tokens[token].position + 1;
    int64_t first = task % r->runs * RUN_PAGES * KV_PAGE, end = first + RUN_PAGES * KV_PAGE;
    uint32_t *orders = r->w.orders + row * r->w.positions;
    for (end = end < seen ? end : seen; first < end; first += KV_PAGE)
        score_page(r, token, first, cpu_run_length(end, first, KV_PAGE), worker, orders + first);
}

static int64_t count_from(const uint32_t *orders, int64_t n, uint32_t least)
{
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++)
        count += orders[i] >= least;
    return count;
}

/* The highest `most` of n > most scores. */
static void choose(const uint32_t *orders, int64_t n, int32_t most, int32_t *chosen)
{
    uint32_t least = 0;
    for (int bit = 31; bit >= 0; bit--) /* the largest order that `most` or more have at least */
        if (count_from(orders, n, least | 1u << bit) >= most)
            least |= 1u << bit;
    int64_t equal = most - (least < UINT32_MAX ? count_from(orders, n, least + 1) : 0), found = 0;
    for (int64_t i = 0; i < n && found < most; i++)
        if (orders[i] > least || (orders[i] == least && equal-- > 0))
            chosen[found++] = (int32_t)i;
}

static void choose_task(void *ctx, int64_t row, int worker)
{
    const select_run *r = ctx;
    int64_t token = r->w.rows[row];
    choose(r->w.orders + row * r->w.positions, r->call->tokens[token].position + 1, r->call->most,
           r->call->chosen + token * r->call->most);
}

void cpu_select(const compute *c, const select_call *call)
{
    select_run r = {.c = c, .call = call};
    memcpy(&r.w, call->work, sizeof r.w);
    cpu_need(c, call->q, 1u << cpu_format(c, stored_as(call->kv.type)));
    for (int64_t token = 0; token < call->q->n;) {
        int64_t rows = 0, seen = 0;
        for (; token < call->q->n && rows < c->threads; token++) {
            int64_t position = call->tokens[token].position;
            if (position < call->most)
                continue;
            r.w.rows[rows++] = token;
            seen = position >= seen ? position + 1 : seen;
        }
        r.runs = cpu_runs(seen, RUN_PAGES * KV_PAGE);
        if (!rows)
            return;
        pool_run(c->pool, rows * r.runs, score_task, &r);
        pool_run(c->pool, rows, choose_task, &r);
    }
}
