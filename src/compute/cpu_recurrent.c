/* cpu_recurrent.c - convolutions and linear attention: tasks are runs of channels, or heads and parts of their columns, of
 * one sequence each. A task goes through its sequence's tokens in order. */
#include <assert.h>

#include "compute/cpu.h"

#define TASKS_A_THREAD 4    /* at least, where there is work enough */
#define WORK_ALONE 16384    /* multiplications that the caller's thread does by itself: waking others costs more */
#define CHANNELS_LEAST 256  /* of a task */
#define COLUMNS_MULTIPLE 32 /* of a part of a head's values */

static_assert(CONV_MOST == CONV_WIDTH_MOST, "kernels take what the operation takes");

/* How long the runs are that `total` is cut into, multiples of `multiple`, so that `others` tasks times the runs give
 * all threads work. */
static int64_t run_length(const compute *c, int64_t total, int64_t others, int64_t multiple)
{
    int64_t wanted = cpu_runs((int64_t)TASKS_A_THREAD * c->threads, others);
    int64_t length = cpu_runs(cpu_runs(total, wanted), multiple) * multiple;
    return length < total ? length : total;
}

/* Tasks, in parallel where `work` multiplications pay for it. */
static void run_tasks(const compute *c, int64_t tasks, int64_t work, void (*fn)(void *ctx, int64_t task, int worker),
                      void *ctx)
{
    if (work > WORK_ALONE)
        pool_run(c->pool, tasks, fn, ctx);
    else
        for (int64_t task = 0; task < tasks; task++)
            fn(ctx, task, 0);
}

static float *state_of(const sequence_run *s, uint64_t offset)
{
    return (float *)(void *)((char *)s->recurrent + offset);
}

/* ---- convolutions ---- */

typedef struct conv_run {
    const compute *c;
    const conv_call *call;
    int64_t each, runs; /* channels of a task; tasks of a sequence */
} conv_run;

static void conv_task(void *ctx, int64_t task, int worker)
{
    const conv_run *r = ctx;
    const conv_call *call = r->call;
    const sequence_run *s = &call->sequences[task / r->runs];
    int64_t channel = task % r->runs * r->each;
    r->c->kernels->conv(&(conv_args){.channels = cpu_run_length(call->channels, channel, r->each),
                                     .n = s->n,
                                     .width = call->width,
                                     .silu = call->silu,
                                     .weight = call->weight + channel,
                                     .bias = call->bias ? call->bias + channel : NULL,
                                     .x = cpu_values(call->x, s->first) + call->x_column + channel,
                                     .state = state_of(s, call->state) + channel,
                                     .y = cpu_values(call->y, s->first) + call->y_column + channel,
                                     .weight_stride = call->channels,
                                     .x_stride = call->x->cols,
                                     .state_stride = call->channels,
                                     .y_stride = call->y->cols});
}

void cpu_conv(const compute *c, const conv_call *call)
{
    conv_run r = {c, call, run_length(c, call->channels, call->n_sequences, CHANNELS_LEAST), 0};
    r.runs = cpu_runs(call->channels, r.each);
    run_tasks(c, call->n_sequences * r.runs, call->x->n * call->channels * call->width, conv_task, &r);
    cpu_written(call->y, call->x->n);
}

/* ---- linear attention ---- */

typedef struct heads_run {
    const compute *c;
    const recurrent_call *call;
    int64_t each, runs; /* columns of a task; tasks of a head */
} heads_run;

static const float *part_of(const recurrent_part *p, int64_t token, int64_t column)
{
    return cpu_values(p->rows, token) + p->column + column;
}

static void heads_task(void *ctx, int64_t task, int worker)
{
    const heads_run *r = ctx;
    const recurrent_call *call = r->call;
    int64_t column = task % r->runs * r->each, head = task / r->runs % call->heads;
    const sequence_run *s = &call->sequences[task / r->runs / call->heads];
    int64_t key_head = call->tiled ? head % call->key_heads : head / (call->heads / call->key_heads);
    int64_t key = key_head * call->key_dim, value = head * call->value_dim + column;
    r->c->kernels->recurrent(
        &(recurrent_args){.key_dim = call->key_dim,
                          .value_dim = cpu_run_length(call->value_dim, column, r->each),
                          .n = s->n,
                          .state = state_of(s, call->state) + head * call->key_dim * call->value_dim + column,
                          .state_stride = call->value_dim,
                          .q = part_of(&call->q, s->first, key),
                          .k = part_of(&call->k, s->first, key),
                          .v = part_of(&call->v, s->first, value),
                          .decay = part_of(&call->decay, s->first, call->decay_rows ? head * call->key_dim : head),
                          .beta = part_of(&call->beta, s->first, head),
                          .out = cpu_values(call->out, s->first) + value,
                          .q_stride = call->q.rows->cols,
                          .k_stride = call->k.rows->cols,
                          .v_stride = call->v.rows->cols,
                          .decay_stride = call->decay.rows->cols,
                          .beta_stride = call->beta.rows->cols,
                          .out_stride = call->out->cols,
                          .decay_rows = call->decay_rows,
                          .delta = call->delta});
}

void cpu_recurrent(const compute *c, const recurrent_call *call)
{
    int64_t n = call->v.rows->n, heads = (int64_t)call->n_sequences * call->heads;
    heads_run r = {c, call, run_length(c, call->value_dim, heads, COLUMNS_MULTIPLE), 0};
    r.runs = cpu_runs(call->value_dim, r.each);
    run_tasks(c, heads * r.runs, n * call->heads * call->key_dim * call->value_dim, heads_task, &r);
    cpu_written(call->out, n);
}
