/* The executor seam: an executor that computes half of the experts in another thread, from copies of inputs and outputs,
 * gives the bytes of the local executor; and what happens when experts cannot be read. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/kernels.h"
#include "moe/local_executor.h"

enum { H = 96, F = 64, E = 8, K = 3, N = 200 };

/* ---- experts in memory ---- */

static float weights[E][3][H * F];
static expert_tensor tensors[] = {{.matrix = ODMOE_GATE, .type = DTYPE_F32, .rows = F, .cols = H},
                                  {.matrix = ODMOE_UP, .type = DTYPE_F32, .rows = F, .cols = H},
                                  {.matrix = ODMOE_DOWN, .type = DTYPE_F32, .rows = H, .cols = F}};
static const expert_extent extents[] = {{.tag = 0}, {.tag = 1}, {.tag = 2}};

typedef struct memory_source {
    int fail_expert; /* its read fails; -1: none does */
    bool fail_all;   /* next fails whatever the expert, as a cancelled fetch does */
} memory_source;

typedef struct memory_fetch {
    int32_t asked[E];
    int n, at, pinned;
} memory_fetch;

static odmoe_status begin(void *ctx, const fetch_request *request, void **batch, odmoe_error *err)
{
    memory_fetch *f = calloc(1, sizeof *f);
    assert_non_null(f);
    memcpy(f->asked, request->experts, (size_t)request->n * sizeof *f->asked);
    f->n = request->n;
    *batch = f;
    return ODMOE_OK;
}

static odmoe_status next(void *ctx, void *batch, pinned_expert *out, odmoe_error *err)
{
    const memory_source *s = ctx;
    memory_fetch *f = batch;
    *out = (pinned_expert){.expert = f->at < f->n ? f->asked[f->at] : -1, .n = 3, .extents = extents};
    if (s->fail_all) {
        out->expert = -1;
        return err_set(err, ODMOE_ERR_CANCELLED, "cancelled");
    }
    f->at += f->at < f->n;
    if (out->expert < 0)
        return ODMOE_OK;
    if (out->expert == s->fail_expert)
        return err_set(err, ODMOE_ERR_IO, "expert %d cannot be read", out->expert);
    f->pinned++;
    for (int i = 0; i < 3; i++)
        out->data[i] = weights[out->expert][i];
    return ODMOE_OK;
}

static void release(void *ctx, void *batch, const pinned_expert *expert)
{
    memory_fetch *f = batch;
    f->pinned--;
}

static void end(void *ctx, void *batch)
{
    memory_fetch *f = batch;
    assert_int_equal(f->pinned, 0);
    free(f);
}

static expert_source source_of(memory_source *s)
{
    return (expert_source){.ctx = s, .begin = begin, .next = next, .release = release, .end = end, .tensors = tensors};
}

/* ---- one computing side: compute, workspace, local executor ---- */

static const experts_shape shape = {
    .hidden = H, .ffn = F, .experts = E, .top_k = K, .in_types = 1u << DTYPE_F32, .mid_types = 1u << DTYPE_F32};

typedef struct side {
    compute c;
    expert_source source;
    experts_work work;
    buffer x, y;
    local_executor local;
    expert_executor executor;
    void *memory;
} side;

static void layout(side *s, arena *a, bool all_apart)
{
    s->c.op->buffer_layout(&s->c, a, &s->x, N, H, shape.in_types, true);
    s->c.op->buffer_layout(&s->c, a, &s->y, N, H, 0, true);
    experts_layout(&s->c, a, &shape, N, all_apart, &s->work);
}

static void side_open(side *s, memory_source *from, int threads, bool all_apart)
{
    *s = (side){.c = compute_cpu(kernel_table_find("auto"), threads), .source = source_of(from)};
    assert_int_equal(compute_start(&s->c, NULL), ODMOE_OK);
    arena a = {0};
    layout(s, &a, all_apart);
    s->memory = aligned_alloc(64, a.used);
    assert_non_null(s->memory);
    a = (arena){.base = s->memory};
    layout(s, &a, all_apart);
    s->executor = local_executor_init(&s->local, &s->c, &shape, &s->source, NULL, NULL, &s->work);
}

static void side_close(side *s)
{
    compute_stop(&s->c);
    free(s->memory);
}

/* ---- the executor under test: odd experts here, even ones in another thread ---- */

typedef struct half_executor {
    side *here, *there;
    /* of the task */
    expert_task mine, theirs;
    expert_pairs my_pairs, their_pairs;
    int32_t my_needed[E], their_needed[E];
    pthread_t thread;
    bool running; /* the thread */
    odmoe_status status;
    odmoe_error err;
} half_executor;

static void *compute_there(void *arg)
{
    half_executor *h = arg;
    const expert_executor *e = &h->there->executor;
    h->status = e->start(e->ctx, &h->theirs, &h->err);
    if (!h->status)
        h->status = e->finish(e->ctx, &h->theirs, &h->err);
    return NULL;
}

static odmoe_status half_start(void *ctx, expert_task *task, odmoe_error *err)
{
    half_executor *h = ctx;
    const compute_ops *op = h->here->c.op;
    h->my_pairs = h->their_pairs = *task->pairs;
    h->my_pairs.needed = h->my_needed;
    h->their_pairs.needed = h->their_needed;
    h->my_pairs.n_needed = h->their_pairs.n_needed = 0;
    for (int i = 0; i < task->pairs->n_needed; i++) {
        int32_t e = task->pairs->needed[i];
        if (e % 2)
            h->my_needed[h->my_pairs.n_needed++] = e;
        else
            h->their_needed[h->their_pairs.n_needed++] = e;
    }
    int64_t n = task->x->n;
    memcpy(op->write(&h->there->c, &h->there->x, n), op->read(&h->here->c, task->x), (size_t)(n * H) * sizeof(float));
    h->mine = h->theirs = *task;
    h->mine.pairs = &h->my_pairs;
    h->theirs.pairs = &h->their_pairs;
    h->theirs.x = &h->there->x;
    h->theirs.pair_out = &h->there->work.pair_out;
    h->theirs.failed = h->there->work.failed;
    memset(h->theirs.failed, 0, E);
    odmoe_status status = h->here->executor.start(h->here->executor.ctx, &h->mine, err);
    if (!status)
        assert_int_equal(pthread_create(&h->thread, NULL, compute_there, h), 0);
    return status;
}

static odmoe_status half_finish(void *ctx, expert_task *task, odmoe_error *err)
{
    half_executor *h = ctx;
    const expert_pairs *pairs = task->pairs;
    odmoe_status status = h->here->executor.finish(h->here->executor.ctx, &h->mine, err);
    pthread_join(h->thread, NULL);
    const float *from = h->there->c.op->read(&h->there->c, h->theirs.pair_out);
    float *to = (float *)h->here->c.op->read(&h->here->c, task->pair_out);
    for (int i = 0; i < h->their_pairs.n_needed; i++) {
        int32_t e = h->their_needed[i];
        memcpy(to + pairs->offsets[e] * H, from + pairs->offsets[e] * H, (size_t)(pairs->counts[e] * H) * sizeof *to);
        task->failed[e] = h->theirs.failed[e];
    }
    task->n_failed = h->mine.n_failed + h->theirs.n_failed;
    if ((status && !h->mine.n_failed) || (h->status && !h->theirs.n_failed))
        task->n_failed = 0;
    if (!status && h->status)
        status = err_set(err, h->status, "%s", h->err.message);
    return status;
}

/* ---- tests ---- */

static uint64_t seed = 1;
static float number(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (float)(seed >> 40) * 0x1p-23f - 1;
}

static float input[N * H], topw[N * K];
static int32_t topk[N * K];

static int fill(void **state)
{
    for (int e = 0; e < E; e++)
        for (int m = 0; m < 3; m++)
            for (int i = 0; i < H * F; i++)
                weights[e][m][i] = number();
    for (int i = 0; i < N * H; i++)
        input[i] = number();
    for (int t = 0; t < N; t++)
        for (int k = 0; k < K; k++) {
            topk[t * K + k] = (t * 5 + k * (1 + t % 2)) % E;
            topw[t * K + k] = number();
        }
    return 0;
}

static odmoe_status run(side *s, const expert_executor *executor, int64_t n, experts_call *call, odmoe_error *err)
{
    memcpy(s->c.op->write(&s->c, &s->x, n), input, (size_t)(n * H) * sizeof(float));
    odmoe_status status = experts_start(call, &s->c, executor, &shape, &s->work, 0, &s->x,
                                        (fetch_size){FETCH_PROMPT, (int32_t)n, 1}, topk, topw, err);
    return status ? status : experts_finish(call, &s->y, err);
}

typedef struct pair_of_worlds {
    memory_source source;
    side plain, here, there; /* the local executor alone; the two sides of the other one */
    half_executor half;
    expert_executor executor;
} pair_of_worlds;

static void open_worlds(pair_of_worlds *w)
{
    *w = (pair_of_worlds){.source = {.fail_expert = -1}};
    side_open(&w->plain, &w->source, 2, false);
    side_open(&w->here, &w->source, 2, true);
    side_open(&w->there, &w->source, 1, true);
    w->half = (half_executor){.here = &w->here, .there = &w->there};
    w->executor = (expert_executor){.ctx = &w->half, .start = half_start, .finish = half_finish};
}

static void close_worlds(pair_of_worlds *w)
{
    side_close(&w->plain);
    side_close(&w->here);
    side_close(&w->there);
}

static const float *rows_of(side *s)
{
    return s->c.op->read(&s->c, &s->y);
}

static void half_of_the_experts_computed_elsewhere_give_the_same_bytes(void **state)
{
    static const int64_t sizes[] = {1, 2, 21, 22, 100, N};
    static pair_of_worlds w;
    experts_call call;
    odmoe_error err;
    open_worlds(&w);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        assert_int_equal(run(&w.plain, &w.plain.executor, sizes[i], &call, &err), ODMOE_OK);
        assert_int_equal(run(&w.here, &w.executor, sizes[i], &call, &err), ODMOE_OK);
        assert_memory_equal(rows_of(&w.plain), rows_of(&w.here), (size_t)(sizes[i] * H) * sizeof(float));
    }
    close_worlds(&w);
}

/* Tokens that have not chosen the expert that cannot be read get the bytes that they get otherwise. */
static void check_failure(pair_of_worlds *w, side *s, const expert_executor *executor, int expert, int64_t n)
{
    experts_call call;
    odmoe_error err = {0};
    w->source.fail_expert = -1;
    assert_int_equal(run(&w->plain, &w->plain.executor, n, &call, &err), ODMOE_OK);
    static float right[N * H];
    memcpy(right, rows_of(&w->plain), (size_t)(n * H) * sizeof(float));
    w->source.fail_expert = expert;
    assert_int_equal(run(s, executor, n, &call, &err), ODMOE_ERR_IO);
    assert_non_null(strstr(err.message, "cannot be read"));
    int64_t spoilt = 0;
    for (int64_t t = 0; t < n; t++) {
        bool chosen = false;
        for (int k = 0; k < K; k++)
            chosen |= topk[t * K + k] == expert;
        assert_int_equal(experts_failed(&call, topk + t * K), chosen);
        spoilt += chosen;
        if (!chosen)
            assert_memory_equal(rows_of(s) + t * H, right + t * H, H * sizeof(float));
    }
    assert_true(spoilt > 0);
    w->source.fail_expert = -1;
    assert_int_equal(run(s, executor, n, &call, &err), ODMOE_OK);
    assert_memory_equal(rows_of(s), right, (size_t)(n * H) * sizeof(float));
}

static void an_expert_that_cannot_be_read_spoils_its_own_tokens_alone(void **state)
{
    static const int64_t sizes[] = {7, 21, N};
    static pair_of_worlds w;
    open_worlds(&w);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int expert = 2; expert < 4; expert++) { /* one on each side */
            check_failure(&w, &w.plain, &w.plain.executor, expert, sizes[i]);
            check_failure(&w, &w.here, &w.executor, expert, sizes[i]);
        }
    close_worlds(&w);
}

static void a_fetch_that_ends_early_spoils_all_tokens_and_the_next_call_works(void **state)
{
    static pair_of_worlds w;
    experts_call call;
    odmoe_error err;
    open_worlds(&w);
    side *sides[] = {&w.plain, &w.here};
    const expert_executor *executors[] = {&w.plain.executor, &w.executor};
    for (int i = 0; i < 2; i++) {
        w.source.fail_all = true;
        assert_int_equal(run(sides[i], executors[i], 9, &call, &err), ODMOE_ERR_CANCELLED);
        for (int t = 0; t < 9; t++)
            assert_true(experts_failed(&call, topk + t * K));
        w.source.fail_all = false;
        assert_int_equal(run(sides[i], executors[i], 9, &call, &err), ODMOE_OK);
    }
    assert_memory_equal(rows_of(&w.plain), rows_of(&w.here), 9 * H * sizeof(float));
    close_worlds(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(half_of_the_experts_computed_elsewhere_give_the_same_bytes),
        cmocka_unit_test(an_expert_that_cannot_be_read_spoils_its_own_tokens_alone),
        cmocka_unit_test(a_fetch_that_ends_early_spoils_all_tokens_and_the_next_call_works),
    };
    return cmocka_run_group_tests(tests, fill, NULL);
}
