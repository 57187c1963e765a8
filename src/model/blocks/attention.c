/* attention.c - grouped-query attention with a KV cache (Ainslie et al. 2023), sliding windows, q/k norm, biases.
 *
 * State of one layer, with room for `context` positions rounded up to whole blocks of ATTEND_BLOCK:
 *   keys   [kv_heads][room positions, interleaved in blocks: kernels.h, key_store]
 *   values [kv_heads][room][kv_bytes(head_dim)]
 * A key/value head is contiguous over positions, so that a query streams through it.
 */
#include <math.h>
#include <string.h>

#include "model/mixer.h"

/* Rows of one sequence that share a pass over the keys, at most. Bounds the scratch; a row's result does not depend on
 * it. With 4 heads to a key/value head, 32 rows are the 128 queries that a kernel takes at once. */
#define TILE_ROWS 32
#define TASKS_A_THREAD 4 /* at least so many where there are rows enough: tiles take unequal time */

typedef struct attention_work {
    float *q;        /* [max_rows, heads * head_dim] */
    float *k, *v;    /* [max_rows, kv_heads * head_dim] */
    float *out;      /* [max_rows, heads * head_dim] */
    activations mid; /* `out` in the formats of the output projection */
    float *tile;     /* [threads][2][TILE_ROWS * group, head_dim]: queries and results of one tile, side by side */
    int64_t *tiles;  /* [max_rows + 1] first row of each tile */
} attention_work;

static size_t head_stride(const model_config *c, kv_type kv)
{
    return kv_bytes(kv, c->head_dim);
}

static size_t room_of(int64_t context)
{
    return (size_t)(context + ATTEND_BLOCK - 1) / ATTEND_BLOCK * ATTEND_BLOCK;
}

static uint64_t state_bytes(const model_config *c, kv_type kv, int64_t context)
{
    return 2 * (uint64_t)c->kv_heads * room_of(context) * head_stride(c, kv);
}

static void *layout(arena *a, const model_config *c, unsigned mask, int64_t max_rows, int threads)
{
    size_t rows = (size_t)max_rows, q_dim = (size_t)config_q_dim(c), kv_dim = (size_t)config_kv_dim(c);
    size_t tile = 2 * TILE_ROWS * (size_t)(c->heads / c->kv_heads) * (size_t)c->head_dim;
    attention_work w, *at = arena_take(a, 1, sizeof *at);
    w.q = arena_take(a, rows * q_dim, sizeof(float));
    w.k = arena_take(a, rows * kv_dim, sizeof(float));
    w.v = arena_take(a, rows * kv_dim, sizeof(float));
    w.out = arena_take(a, rows * q_dim, sizeof(float));
    activations_layout(a, &w.mid, mask, max_rows, (int64_t)q_dim);
    w.tile = arena_take(a, (size_t)threads * tile, sizeof(float));
    w.tiles = arena_take(a, rows + 1, sizeof *w.tiles);
    if (at)
        *at = w;
    return at;
}

static char *keys_of(const mixer_call *call, const mixer_row *row, int head)
{
    return (char *)row->state + (size_t)head * room_of(row->context) * head_stride(call->config, call->kv);
}

static char *values_of(const mixer_call *call, const mixer_row *row, int head)
{
    return keys_of(call, row, call->config->kv_heads + head);
}

static void add_bias(const resident *bias, float *x, int64_t n)
{
    const float *b = bias->w.data;
    for (int64_t i = 0; b && i < n; i++)
        x[i] += b[i];
}

static void clip(float *x, int64_t n, float limit)
{
    for (int64_t i = 0; limit > 0 && i < n; i++)
        x[i] = fminf(fmaxf(x[i], -limit), limit);
}

/* q or k of one row: bias, clip, norm, rotation. */
static void shape_heads(const mixer_call *call, int64_t row, float *x, int heads, weight_role bias, weight_role norm)
{
    const model_config *c = call->config;
    const kernel_table *k = call->c->kernels;
    const float *norm_weight = call->weights[norm].w.data;
    int64_t n = (int64_t)heads * c->head_dim;
    add_bias(&call->weights[bias], x, n);
    if (norm_weight && !c->norm_heads)
        k->rms_norm(x, norm_weight, c->rms_eps, x, n);
    clip(x, n, c->clip_qkv);
    for (int h = 0; h < heads; h++) {
        float *head = x + (int64_t)h * c->head_dim;
        if (norm_weight && c->norm_heads)
            k->rms_norm(head, norm_weight, c->rms_eps, head, c->head_dim);
        rope_turn(call->rope, head, call->cosines + row * call->rope->half, call->sines + row * call->rope->half);
    }
}

/* Finish one row's q, k and v, and append k and v to the state. */
static void append_row(void *ctx, int64_t row, int worker)
{
    const mixer_call *call = ctx;
    const model_config *c = call->config;
    const kernel_table *kernels = call->c->kernels;
    attention_work *w = call->work;
    float *k = w->k + row * config_kv_dim(c), *v = w->v + row * config_kv_dim(c);
    shape_heads(call, row, w->q + row * config_q_dim(c), c->heads, W_Q_BIAS, W_Q_NORM);
    shape_heads(call, row, k, c->kv_heads, W_K_BIAS, W_K_NORM);
    add_bias(&call->weights[W_V_BIAS], v, config_kv_dim(c));
    clip(v, config_kv_dim(c), c->clip_qkv);
    const mixer_row *r = &call->rows[row];
    for (int h = 0; h < c->kv_heads; h++) {
        kernels->key_store(call->kv, k + (int64_t)h * c->head_dim, keys_of(call, r, h), r->position, c->head_dim);
        kernels->kv_store(call->kv, v + (int64_t)h * c->head_dim,
                          values_of(call, r, h) + (size_t)r->position * head_stride(c, call->kv), c->head_dim);
    }
}

/* Attention of one tile of rows with one key/value head. Task = tile * kv_heads + head. */
static void attend_task(void *ctx, int64_t task, int worker)
{
    const mixer_call *call = ctx;
    const model_config *c = call->config;
    attention_work *w = call->work;
    int head = (int)(task % c->kv_heads), group = c->heads / c->kv_heads;
    int64_t first_row = w->tiles[task / c->kv_heads], rows = w->tiles[task / c->kv_heads + 1] - first_row;
    int64_t dim = c->head_dim, part = group * dim, q_dim = config_q_dim(c);
    float *q = w->tile + (int64_t)worker * 2 * TILE_ROWS * part, *out = q + TILE_ROWS * part;
    int64_t from[TILE_ROWS * 64], to[TILE_ROWS * 64];
    const mixer_row *r = &call->rows[first_row];
    int window = c->window[call->layer];
    /* Query heads of one key/value head are side by side; more than 64 of them go in turns. */
    for (int done = 0; done < group; done += 64) {
        int heads = group - done < 64 ? group - done : 64;
        for (int64_t i = 0; i < rows; i++) {
            int64_t position = r[i].position;
            memcpy(q + i * heads * dim, w->q + (first_row + i) * q_dim + head * part + done * dim,
                   (size_t)(heads * dim) * sizeof *q);
            for (int h = 0; h < heads; h++) {
                from[i * heads + h] = window && position >= window ? position - window + 1 : 0;
                to[i * heads + h] = position + 1;
            }
        }
        call->c->kernels->attend_many(call->kv, q, dim, rows * heads, keys_of(call, r, head), values_of(call, r, head),
                                      (int64_t)head_stride(c, call->kv), from, to, dim, 1.0f / sqrtf((float)dim), out,
                                      dim);
        for (int64_t i = 0; i < rows; i++)
            memcpy(w->out + (first_row + i) * q_dim + head * part + done * dim, out + i * heads * dim,
                   (size_t)(heads * dim) * sizeof *out);
    }
}

/* Cut the rows into tiles of one sequence each; returns how many. */
static int64_t cut_tiles(const mixer_call *call)
{
    attention_work *w = call->work;
    int64_t tiles = 0, most = call->n * call->config->kv_heads / (TASKS_A_THREAD * pool_threads(call->c->pool));
    most = most > TILE_ROWS ? TILE_ROWS : most > 1 ? most : 1;
    for (int64_t row = 0; row < call->n; row++)
        if (row == 0 || call->rows[row].state != call->rows[row - 1].state || row - w->tiles[tiles - 1] == most)
            w->tiles[tiles++] = row;
    w->tiles[tiles] = call->n;
    return tiles;
}

static void forward(const mixer_call *call)
{
    const model_config *c = call->config;
    attention_work *w = call->work;
    const resident *weights = call->weights;
    linear_job qkv[] = {
        {&weights[W_Q].w, call->in, w->q, config_q_dim(c)},
        {&weights[W_K].w, call->in, w->k, config_kv_dim(c)},
        {&weights[W_V].w, call->in, w->v, config_kv_dim(c)},
    };
    linear_run(call->c, qkv, 3, call->n);
    rows_run(call->c, call->n, append_row, (void *)call);
    pool_run(call->c->pool, cut_tiles(call) * c->kv_heads, attend_task, (void *)call);
    unsigned mask = activation_mask(call->c->kernels, weights[W_O].w.type);
    activations_fill(call->c, &w->mid, mask, w->out, call->n);
    linear_job output = {&weights[W_O].w, &w->mid, call->out, c->hidden};
    linear_run(call->c, &output, 1, call->n);
    for (int64_t row = 0; row < call->n; row++)
        add_bias(&weights[W_O_BIAS], call->out + row * c->hidden, c->hidden);
}

static void copy(const model_config *c, kv_type kv, const void *from, int64_t from_context, void *to,
                 int64_t to_context, int64_t length)
{
    size_t stride = head_stride(c, kv);
    for (size_t h = 0; h < 2 * (size_t)c->kv_heads; h++) /* whole blocks: what lies beyond length is never looked at */
        memcpy((char *)to + h * room_of(to_context) * stride, (const char *)from + h * room_of(from_context) * stride,
               room_of(length) * stride);
}

const mixer mixer_attention = {"attention", state_bytes, layout, forward, copy};
