/* cpu_experts.c - the matrices of several experts, each with its own tokens, in three parallel loops: gather; gate, up
 * and activation; down. */
#include <assert.h>
#include <string.h>

#include "compute/cpu.h"

#define BLOCK 64       /* output columns of one task that adds, */
#define BLOCK_SMALL 32 /* or of a small hidden size, so that threads find enough tasks: */
#define BLOCK_TASKS 8  /* a thread */

typedef struct experts_work {
    buffer gathered; /* [pairs, hidden] the tokens of the pairs, side by side */
    buffer mid;      /* [pairs, ffn] gate's products, then the activation's output, with the formats that down takes */
    float *up;       /* [pairs, ffn] */
    float *block;    /* [threads][pairs, BLOCK] outputs of one task that adds */
} experts_work;

static_assert(sizeof(experts_work) <= sizeof(compute_work), "it fits in the caller's struct");

void cpu_experts_layout(const compute *c, arena *a, const experts_layout_info *info, compute_work *out)
{
    experts_work w;
    size_t pairs = (size_t)info->pairs_most;
    bool floats = info->weight_on_input || (cpu_formats(c, info->in_types) >> ACT_F32 & 1);
    c->op->buffer_layout(c, a, &w.gathered, info->pairs_most, info->hidden, info->in_types, floats);
    c->op->buffer_layout(c, a, &w.mid, info->pairs_most, info->ffn, info->mid_types, true);
    w.up = arena_take(a, pairs * (size_t)info->ffn, sizeof(float));
    w.block = arena_take(a, (size_t)c->threads * pairs * BLOCK, sizeof(float));
    memcpy(out, &w, sizeof w);
}

typedef struct experts_run {
    const compute *c;
    const experts_group_call *call;
    experts_work w;
    unsigned formats;                      /* of the input: those that some gate or up takes */
    int64_t base[EXPERT_SEGMENTS_MAX + 1]; /* first row of each segment in the workspace */
    int64_t gate_rows, down_rows;          /* weight rows of one task */
} experts_run;

static int64_t pair_of_row(const experts_run *r, int64_t row)
{
    int s = 0;
    while (row >= r->base[s + 1])
        s++;
    return r->call->segments[s].pair + row - r->base[s];
}

/* Copy one pair's token into the workspace, in every format that is needed. */
static void gather_pair(void *ctx, int64_t row, int worker)
{
    const experts_run *r = ctx;
    int64_t token = r->call->pair_token[pair_of_row(r, row)];
    for (int f = 0; f < ACT_COUNT; f++)
        if (r->formats >> f & 1)
            memcpy((char *)cpu_rows(&r->w.gathered, (activation)f, row), cpu_rows(r->call->x, (activation)f, token),
                   act_bytes((activation)f, r->call->x->cols));
}

/* The same where the router's weight multiplies the input: it is quantised after that. */
static void gather_weighted_pair(void *ctx, int64_t row, int worker)
{
    const experts_run *r = ctx;
    int64_t pair = pair_of_row(r, row), token = r->call->pair_token[pair];
    float *to = cpu_values(&r->w.gathered, row);
    const float *from = cpu_values(r->call->x, token);
    for (int64_t i = 0; i < r->call->x->cols; i++)
        to[i] = from[i] * r->call->pair_weight[pair];
}

static void gather(experts_run *r, int64_t pairs)
{
    buffer *to = &r->w.gathered;
    if (r->call->info->weight_on_input) {
        cpu_for_tokens(r->c, pairs, gather_weighted_pair, r);
        cpu_written(to, pairs);
        cpu_need(r->c, to, r->formats);
        return;
    }
    cpu_need(r->c, r->call->x, r->formats);
    cpu_for_tokens(r->c, pairs, gather_pair, r);
}

/* Columns [first, first + count) of a segment's products, to the rows that backward looks them up in. */
static void keep_products(const experts_run *r, int s, const float *from, int64_t first, int64_t count, float *to)
{
    const experts_group_call *call = r->call;
    int64_t ffn = call->info->ffn;
    for (int64_t i = 0; i < call->segments[s].pairs; i++) {
        int64_t pair = call->segments[s].pair + i;
        int64_t row = (int64_t)call->pair_token[pair] * call->keep_top_k + call->pair_choice[pair];
        memcpy(to + row * ffn + first, from + i * ffn, (size_t)count * sizeof *to);
    }
}

static void add_bias(float *y, const float *bias, int64_t n, int64_t ldy, int64_t first, int64_t count)
{
    for (int64_t i = 0; bias && i < n; i++)
        cpu_add(y + i * ldy, bias + first, count);
}

/* Columns [first, first + count) of gate's and of up's products. */
static void gate_up_products(const experts_run *r, int s, int worker, int64_t first, int64_t count, float *gate,
                             float *up)
{
    const expert_segment *segment = &r->call->segments[s];
    const expert_weights *w = &segment->w;
    int64_t ffn = r->call->info->ffn, n = segment->pairs, base = r->base[s];
    if (!w->interleaved) {
        if (glu_has_gate(&r->call->info->glu))
            cpu_matmul(r->c, &w->gate, first, count, &r->w.gathered, base, n, gate, ffn);
        cpu_matmul(r->c, &w->up, first, count, &r->w.gathered, base, n, up, ffn);
        return;
    }
    float *block = r->w.block + worker * r->call->info->pairs_most * BLOCK;
    for (int64_t done = 0; done < count; done += BLOCK / 2) {
        int64_t part = cpu_run_length(count, done, BLOCK / 2);
        cpu_matmul(r->c, &w->gate, 2 * (first + done), 2 * part, &r->w.gathered, base, n, block, BLOCK);
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < part; j++) {
                gate[i * ffn + done + j] = block[i * BLOCK + 2 * j];
                up[i * ffn + done + j] = block[i * BLOCK + 2 * j + 1];
            }
    }
}

/* gate, up and the activation for a run of one segment's inner columns. Task = segment * runs + run. */
static void gate_up_task(void *ctx, int64_t task, int worker)
{
    const experts_run *r = ctx;
    const experts_group_call *call = r->call;
    int64_t ffn = call->info->ffn, runs = cpu_runs(ffn, r->gate_rows);
    int s = (int)(task / runs);
    const expert_segment *segment = &call->segments[s];
    const expert_weights *w = &segment->w;
    int64_t first = task % runs * r->gate_rows, count = cpu_run_length(ffn, first, r->gate_rows), n = segment->pairs;
    float *gate = cpu_values(&r->w.mid, r->base[s]) + first, *up = r->w.up + r->base[s] * ffn + first;
    gate_up_products(r, s, worker, first, count, gate, up);
    add_bias(gate, w->gate_bias, n, ffn, first, count);
    add_bias(up, w->up_bias, n, ffn, first, count);
    if (call->keep_gate) {
        keep_products(r, s, gate, first, count, call->keep_gate);
        keep_products(r, s, up, first, count, call->keep_up);
    }
    for (int64_t i = 0; i < n; i++)
        cpu_glu(r->c, &call->info->glu, gate + i * ffn, up + i * ffn, gate + i * ffn, count);
}

/* down for a run of one segment's hidden columns, a row a pair. Task = segment * runs + run. */
static void pair_out_task(void *ctx, int64_t task, int worker)
{
    const experts_run *r = ctx;
    const experts_group_call *call = r->call;
    int64_t hidden = call->info->hidden, runs = cpu_runs(hidden, r->down_rows);
    int s = (int)(task / runs);
    const expert_segment *segment = &call->segments[s];
    int64_t first = task % runs * r->down_rows, count = cpu_run_length(hidden, first, r->down_rows);
    float *out = cpu_values(call->pair_out, segment->pair) + first;
    cpu_matmul(r->c, &segment->w.down, first, count, &r->w.mid, r->base[s], segment->pairs, out, hidden);
    add_bias(out, segment->w.down_bias, segment->pairs, hidden, first, count);
}

/* down for one block of the hidden columns, over all segments, whose outputs are added to y in their order. */
static void add_task(void *ctx, int64_t task, int worker)
{
    const experts_run *r = ctx;
    const experts_group_call *call = r->call;
    int64_t hidden = call->info->hidden, first = task * r->down_rows;
    int64_t count = cpu_run_length(hidden, first, r->down_rows);
    float *block = r->w.block + worker * call->info->pairs_most * BLOCK;
    for (int s = 0; s < call->count; s++) {
        const expert_segment *segment = &call->segments[s];
        cpu_matmul(r->c, &segment->w.down, first, count, &r->w.mid, r->base[s], segment->pairs, block, BLOCK);
        add_bias(block, segment->w.down_bias, segment->pairs, BLOCK, first, count);
        for (int64_t i = 0; i < segment->pairs; i++) {
            int64_t pair = segment->pair + i;
            r->c->kernels->add_scaled(cpu_values(call->y, call->pair_token[pair]) + first, block + i * BLOCK,
                                      call->info->weight_on_input ? 1 : call->pair_weight[pair], count);
        }
    }
}

void cpu_experts(const compute *c, const experts_group_call *call)
{
    experts_run r = {.c = c, .call = call};
    dtype_set in_types = 0, mid_types = 0;
    bool gated = glu_has_gate(&call->info->glu);
    memcpy(&r.w, call->work, sizeof r.w);
    for (int s = 0; s < call->count; s++) {
        const expert_weights *w = &call->segments[s].w;
        r.base[s + 1] = r.base[s] + call->segments[s].pairs;
        in_types |= (w->interleaved ? 0 : dtype_bit(w->up.type)) | (gated ? dtype_bit(w->gate.type) : 0);
        mid_types |= dtype_bit(w->down.type);
    }
    int64_t pairs = r.base[call->count], ffn = call->info->ffn, hidden = call->info->hidden;
    r.formats = cpu_formats(c, in_types);
    gather(&r, pairs);
    r.gate_rows = cpu_task_rows(c, call->count * ffn, pairs / call->count);
    pool_run(c->pool, call->count * cpu_runs(ffn, r.gate_rows), gate_up_task, &r);
    cpu_written(&r.w.mid, pairs);
    cpu_need(c, &r.w.mid, cpu_formats(c, mid_types));
    if (call->pair_out) {
        r.down_rows = cpu_task_rows(c, call->count * hidden, pairs / call->count);
        pool_run(c->pool, call->count * cpu_runs(hidden, r.down_rows), pair_out_task, &r);
        return;
    }
    r.down_rows = hidden >= BLOCK_TASKS * c->threads * BLOCK ? BLOCK : BLOCK_SMALL;
    pool_run(c->pool, cpu_runs(hidden, r.down_rows), add_task, &r);
    cpu_written(call->y, call->y->n);
}

/* ---- combine ---- */

#define COMBINE_COLUMNS 256  /* of one task */
#define COMBINE_PAIRS_FEW 64 /* up to this many pairs the caller's thread adds: waking others costs more */

typedef struct combine_run {
    const compute *c;
    const combine_call *call;
    int64_t columns; /* of one task */
} combine_run;

static void combine_task(void *ctx, int64_t task, int worker)
{
    const combine_run *r = ctx;
    const combine_call *call = r->call;
    int64_t first = task * r->columns, count = cpu_run_length(call->y->cols, first, r->columns);
    for (int64_t token = 0; token < call->n; token++)
        memset(cpu_values(call->y, token) + first, 0, (size_t)count * sizeof(float));
    for (int64_t pair = 0; pair < call->pairs; pair++)
        r->c->kernels->add_scaled(cpu_values(call->y, call->pair_token[pair]) + first,
                                  cpu_values(call->pair_out, pair) + first,
                                  call->pair_weight ? call->pair_weight[pair] : 1, count);
}

void cpu_combine(const compute *c, const combine_call *call)
{
    combine_run r = {c, call, call->pairs <= COMBINE_PAIRS_FEW ? call->y->cols : COMBINE_COLUMNS};
    if (call->pairs <= COMBINE_PAIRS_FEW)
        combine_task(&r, 0, 0);
    else
        pool_run(c->pool, cpu_runs(call->y->cols, r.columns), combine_task, &r);
    cpu_written(call->y, call->n);
}
