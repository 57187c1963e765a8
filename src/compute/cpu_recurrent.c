/* cpu_recurrent.c - convolutions and linear attention: tasks are runs of channels, or heads and parts of their columns, of
 * one sequence each. A task goes through its sequence's tokens in order. */
#include <assert.h>
#include <string.h>

#include "compute/cpu.h"

#define TASKS_A_THREAD 4    /* at least, where there is work enough */
#define WORK_ALONE 16384    /* multiplications that the caller's thread does by itself: waking others costs more */
#define CHANNELS_LEAST 256  /* of a task */
#define COLUMNS_MULTIPLE 32 /* of a part of a head's values */

static_assert(CONV_MOST == CONV_WIDTH_MOST, "kernels take what the operation takes");
static_assert(RECURRENT_CHUNK == DELTA_CHUNK, "kernels take what the operation takes");

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

static float *floats_at(void *memory, uint64_t offset)
{
    return (float *)(void *)((char *)memory + offset);
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
                                     .before = floats_at(s->recurrent.before, call->state) + channel,
                                     .state = floats_at(s->recurrent.after, call->state) + channel,
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

static int64_t key_head_of(const recurrent_call *call, int64_t head)
{
    return call->tiled ? head % call->key_heads : head / (call->heads / call->key_heads);
}

static void heads_task(void *ctx, int64_t task, int worker)
{
    const heads_run *r = ctx;
    const recurrent_call *call = r->call;
    int64_t column = task % r->runs * r->each, head = task / r->runs % call->heads;
    const sequence_run *s = &call->sequences[task / r->runs / call->heads];
    int64_t key = key_head_of(call, head) * call->key_dim, value = head * call->value_dim + column;
    int64_t state = head * call->key_dim * call->value_dim + column;
    r->c->kernels->recurrent(
        &(recurrent_args){.key_dim = call->key_dim,
                          .value_dim = cpu_run_length(call->value_dim, column, r->each),
                          .n = s->n,
                          .before = floats_at(s->recurrent.before, call->state) + state,
                          .state = floats_at(s->recurrent.after, call->state) + state,
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

/* ---- the gated delta rule in chunks ---- */

/* What is kept of a sequence: S and u of all heads, keys of all key heads, each as kernels have them (delta_args), and
 * decays [DELTA_CHUNK][heads]. In numbers, from `chunk` on. */
typedef struct delta_places {
    int64_t state_each, u_each, keys_each; /* of a head */
    int64_t u, keys, decays, end;          /* S lies first */
} delta_places;

static delta_places places_of(int heads, int key_heads, int64_t key_dim, int64_t value_dim)
{
    int64_t columns = cpu_runs(value_dim, DELTA_CHUNK) * DELTA_CHUNK;
    delta_places p = {columns * key_dim, columns * DELTA_CHUNK, key_dim * DELTA_CHUNK};
    p.u = heads * p.state_each;
    p.keys = p.u + heads * p.u_each;
    p.decays = p.keys + key_heads * p.keys_each;
    p.end = p.decays + (int64_t)heads * DELTA_CHUNK;
    return p;
}

uint64_t delta_state_bytes(int heads, int key_heads, int64_t key_dim, int64_t value_dim)
{
    return (uint64_t)places_of(heads, key_heads, key_dim, value_dim).end * sizeof(float);
}

void cpu_delta_layout(const compute *c, arena *a, int64_t key_dim, compute_work *out)
{
    out->own[0] = arena_take(a, (size_t)c->threads, (size_t)DELTA_SCRATCH(key_dim) * sizeof(float));
}

typedef struct delta_run {
    const compute *c;
    const recurrent_call *call;
    delta_places at;
    int64_t each, runs; /* columns of a task; tasks of a head */
} delta_run;

/* Tokens of a sequence that are in one chunk. */
typedef struct chunk_tokens {
    int64_t first; /* token of the call */
    int rows, n;   /* those of the chunk before them; their number */
    float *kept;
} chunk_tokens;

/* The run's tokens from `done` on that are in one chunk: the first chunk goes on where the sequence was, others begin. */
static chunk_tokens tokens_at(const sequence_run *s, int64_t done)
{
    int rows = (int)((s->position + done) % DELTA_CHUNK);
    return (chunk_tokens){s->first + done, rows, (int)cpu_run_length(s->n, done, DELTA_CHUNK - rows),
                          done ? s->chunk.after : s->chunk.before};
}

static void delta_task(void *ctx, int64_t task, int worker)
{
    const delta_run *r = ctx;
    const recurrent_call *call = r->call;
    const delta_places *at = &r->at;
    int64_t column = task % r->runs * r->each, head = task / r->runs % call->heads;
    const sequence_run *s = &call->sequences[task / r->runs / call->heads];
    int64_t key_head = key_head_of(call, head), key = key_head * call->key_dim, value = head * call->value_dim + column;
    int64_t state = head * at->state_each + column * call->key_dim;
    chunk_tokens t;
    for (int64_t done = 0; done < s->n; done += t.n) {
        t = tokens_at(s, done);
        r->c->kernels->delta(
            &(delta_args){.key_dim = call->key_dim,
                          .value_dim = cpu_run_length(call->value_dim, column, r->each),
                          .rows = t.rows,
                          .n = t.n,
                          .q = part_of(&call->q, t.first, key),
                          .k = part_of(&call->k, t.first, key),
                          .v = part_of(&call->v, t.first, value),
                          .decay = part_of(&call->decay, t.first, head),
                          .beta = part_of(&call->beta, t.first, head),
                          .out = cpu_values(call->out, t.first) + value,
                          .q_stride = call->q.rows->cols,
                          .k_stride = call->k.rows->cols,
                          .v_stride = call->v.rows->cols,
                          .decay_stride = call->decay.rows->cols,
                          .beta_stride = call->beta.rows->cols,
                          .out_stride = call->out->cols,
                          .keys = t.kept + at->keys + key_head * at->keys_each,
                          .decays = t.kept + at->decays + head,
                          .decays_stride = call->heads,
                          .u = t.kept + at->u + head * at->u_each + column * DELTA_CHUNK,
                          .state = t.kept + state,
                          .next = (float *)s->chunk.after + state,
                          .scratch = (float *)call->work->own[0] + worker * DELTA_SCRATCH(call->key_dim)});
    }
}

/* Add keys and decays to what is kept of the chunk that a sequence has come to: when no head needs those before any more. */
static void keep_keys(const delta_run *r, const sequence_run *s)
{
    const recurrent_call *call = r->call;
    int64_t in_chunk = (s->position + s->n) % DELTA_CHUNK, most = in_chunk < s->n ? in_chunk : s->n;
    chunk_tokens t = tokens_at(s, s->n - most);
    for (int64_t i = 0; i < most; i++) {
        const float *k = part_of(&call->k, t.first + i, 0);
        float *keys = t.kept + r->at.keys + t.rows + i;
        for (int64_t j = 0; j < call->key_heads * call->key_dim; j++)
            keys[j * DELTA_CHUNK] = k[j];
        memcpy(t.kept + r->at.decays + (t.rows + i) * call->heads, part_of(&call->decay, t.first + i, 0),
               (size_t)call->heads * sizeof(float));
    }
}

void cpu_delta(const compute *c, const recurrent_call *call)
{
    int64_t n = call->v.rows->n, heads = (int64_t)call->n_sequences * call->heads;
    delta_run r = {c, call, places_of(call->heads, call->key_heads, call->key_dim, call->value_dim),
                   run_length(c, call->value_dim, heads, COLUMNS_MULTIPLE), 0};
    r.runs = cpu_runs(call->value_dim, r.each);
    run_tasks(c, heads * r.runs, n * call->heads * call->key_dim * call->value_dim, delta_task, &r);
    for (int i = 0; i < call->n_sequences; i++)
        keep_keys(&r, &call->sequences[i]);
    cpu_written(call->out, n);
}
