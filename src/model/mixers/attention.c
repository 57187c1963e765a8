/* attention.c - grouped-query attention with a KV cache (Ainslie et al. 2023), sliding windows, q/k norm, biases.
 *
 * State of one layer, with room for `context` positions rounded up to whole blocks of ATTEND_BLOCK:
 *   keys   [kv_heads][room positions, interleaved in blocks: kernels.h, key_store]
 *   values [kv_heads][room][kv_bytes(head_dim)]
 * A key/value head is contiguous over positions, so that a query streams through it.
 */
#include <math.h>
#include <string.h>

#include "model/mixers/attention.h"

/* Rows of one sequence that share a pass over the keys, at most. Bounds the scratch; a row's result does not depend on
 * it. With 4 heads to a key/value head, 32 rows are the 128 queries that a kernel takes at once. */
#define TILE_ROWS 32
#define TASKS_A_THREAD 4 /* at least so many where there are rows enough: tiles take unequal time */

/* ---- weights ---- */

const weight_rule attention_weights[] = {
    {ATTENTION_Q, IN_ALL_LAYERS, "blk.%d.attn_q.weight", "model.layers.%d.self_attn.q_proj.weight", DIM_Q, DIM_HIDDEN,
     false, "blk.%d.attn_qkv.weight"},
    {ATTENTION_K, IN_ALL_LAYERS, "blk.%d.attn_k.weight", "model.layers.%d.self_attn.k_proj.weight", DIM_K, DIM_HIDDEN,
     false, "blk.%d.attn_qkv.weight"},
    {ATTENTION_V, IN_ALL_LAYERS, "blk.%d.attn_v.weight", "model.layers.%d.self_attn.v_proj.weight", DIM_V, DIM_HIDDEN,
     false, "blk.%d.attn_qkv.weight"},
    {ATTENTION_O, IN_ALL_LAYERS, "blk.%d.attn_output.weight", "model.layers.%d.self_attn.o_proj.weight", DIM_HIDDEN,
     DIM_ATTENTION_OUT, false},
    WEIGHTS_END,
};

const weight_rule attention_qkv_biases[] = {
    {ATTENTION_Q_BIAS, IN_ALL_LAYERS, "blk.%d.attn_q.bias", "model.layers.%d.self_attn.q_proj.bias", DIM_VECTOR, DIM_Q,
     true, "blk.%d.attn_qkv.bias", .only_if = FIELD_attention_bias},
    {ATTENTION_K_BIAS, IN_ALL_LAYERS, "blk.%d.attn_k.bias", "model.layers.%d.self_attn.k_proj.bias", DIM_VECTOR, DIM_K,
     true, "blk.%d.attn_qkv.bias", .only_if = FIELD_attention_bias},
    {ATTENTION_V_BIAS, IN_ALL_LAYERS, "blk.%d.attn_v.bias", "model.layers.%d.self_attn.v_proj.bias", DIM_VECTOR, DIM_V,
     true, "blk.%d.attn_qkv.bias", .only_if = FIELD_attention_bias},
    WEIGHTS_END,
};

const weight_rule attention_out_bias[] = {
    {ATTENTION_O_BIAS, IN_ALL_LAYERS, "blk.%d.attn_output.bias", "model.layers.%d.self_attn.o_proj.bias", DIM_VECTOR,
     DIM_HIDDEN, true, .only_if = FIELD_attention_bias},
    WEIGHTS_END,
};

const weight_rule attention_qk_norm[] = {
    {ATTENTION_Q_NORM, IN_ALL_LAYERS, "blk.%d.attn_q_norm.weight", "model.layers.%d.self_attn.q_norm.weight",
     DIM_VECTOR, DIM_Q_NORM, false},
    {ATTENTION_K_NORM, IN_ALL_LAYERS, "blk.%d.attn_k_norm.weight", "model.layers.%d.self_attn.k_norm.weight",
     DIM_VECTOR, DIM_K_NORM, false},
    WEIGHTS_END,
};

static int64_t q_dim(const layer_config *l)
{
    return (int64_t)l->heads * l->key_dim;
}

static int64_t k_dim(const layer_config *l)
{
    return (int64_t)l->kv_heads * l->key_dim;
}

static int64_t v_dim(const layer_config *l)
{
    return (int64_t)l->kv_heads * l->value_dim;
}

static int64_t out_dim(const layer_config *l)
{
    return (int64_t)l->heads * l->value_dim;
}

static int64_t dim(const model_config *c, int layer, int which)
{
    const layer_config *l = &c->layer[layer];
    switch ((attention_dim)which) {
    case DIM_Q:
        return q_dim(l);
    case DIM_K:
        return k_dim(l);
    case DIM_V:
        return v_dim(l);
    case DIM_ATTENTION_OUT:
        return out_dim(l);
    case DIM_Q_NORM:
        return c->norm_heads ? l->key_dim : q_dim(l);
    case DIM_K_NORM:
        return c->norm_heads ? l->key_dim : k_dim(l);
    }
    return 0;
}

static unsigned in_mask(const kernel_table *k, const resident *w)
{
    return activation_mask(k, w[ATTENTION_Q].w.type) | activation_mask(k, w[ATTENTION_K].w.type) |
           activation_mask(k, w[ATTENTION_V].w.type);
}

static unsigned mid_mask(const kernel_table *k, const resident *w)
{
    return activation_mask(k, w[ATTENTION_O].w.type);
}

/* ---- checks ---- */

static odmoe_status check(const model_config *c, int layer, odmoe_error *err)
{
    const layer_config *l = &c->layer[layer];
    if (l->heads % l->kv_heads)
        return err_set(err, ODMOE_ERR_FORMAT, "%d heads cannot share %d key/value heads evenly", l->heads, l->kv_heads);
    if (l->key_dim != l->value_dim)
        return err_set(err, ODMOE_ERR_UNSUPPORTED,
                       "keys of %d and values of %d elements: only equal lengths are supported", l->key_dim,
                       l->value_dim);
    if (l->rope == ROPE_OFF)
        return ODMOE_OK;
    int turning = c->ropes[l->rope].dim;
    if (turning < 2 || turning % 2 || turning > l->key_dim)
        return err_set(err, ODMOE_ERR_FORMAT,
                       "rope dimension %d of head dimension %d must be even, at least 2 and not larger", turning,
                       l->key_dim);
    return ODMOE_OK;
}

static odmoe_status check_kv(const model_config *c, int layer, kv_type kv, odmoe_error *err)
{
    int dim = c->layer[layer].key_dim;
    if (kv == KV_Q8_0 && dim % 32)
        return err_set(err, ODMOE_ERR_UNSUPPORTED,
                       "a q8_0 KV cache needs heads of a multiple of 32 elements; this model's "
                       "have %d: use f16",
                       dim);
    return ODMOE_OK;
}

/* ---- state and workspace ---- */

typedef struct attention_work {
    float *q;           /* [max_rows, heads * head_dim] */
    float *k, *v;       /* [max_rows, kv_heads * head_dim] */
    float *out;         /* [max_rows, heads * head_dim] */
    activations mid;    /* `out` in the formats of the output projection */
    float *tile;        /* [threads][2][TILE_ROWS * group, head_dim]: queries and results of one tile, side by side */
    int64_t *tiles;     /* [max_rows + 1] first row of each tile */
    const void **pages; /* [threads][2][most_pages]: keys and values of one tile's sequence, in pages of ATTEND_BLOCK */
    int64_t most_pages; /* of a sequence */
} attention_work;

static size_t head_stride(const layer_config *l, kv_type kv)
{
    return kv_bytes(kv, l->key_dim);
}

static size_t room_of(int64_t context)
{
    return (size_t)(context + ATTEND_BLOCK - 1) / ATTEND_BLOCK * ATTEND_BLOCK;
}

static uint64_t state_bytes(const model_config *c, int layer, kv_type kv, int64_t context)
{
    const layer_config *l = &c->layer[layer];
    return 2 * (uint64_t)l->kv_heads * room_of(context) * head_stride(l, kv);
}

static size_t larger(size_t a, int64_t b)
{
    return a > (size_t)b ? a : (size_t)b;
}

static void *layout(arena *a, const model_config *c, unsigned mask, int64_t max_rows, int threads)
{
    size_t rows = (size_t)max_rows, q = 0, k = 0, v = 0, out = 0, tile = 0;
    for (int i = 0; i < c->layers; i++) {
        const layer_config *l = &c->layer[i];
        if (l->mixer != &mixer_attention)
            continue;
        q = larger(q, q_dim(l));
        k = larger(k, k_dim(l));
        v = larger(v, v_dim(l));
        out = larger(out, out_dim(l));
        tile = larger(tile, 2 * (int64_t)TILE_ROWS * (l->heads / l->kv_heads) * l->key_dim);
    }
    attention_work w, *at = arena_take(a, 1, sizeof *at);
    w.q = arena_take(a, rows * q, sizeof(float));
    w.k = arena_take(a, rows * k, sizeof(float));
    w.v = arena_take(a, rows * v, sizeof(float));
    w.out = arena_take(a, rows * out, sizeof(float));
    activations_layout(a, &w.mid, mask, max_rows, (int64_t)out);
    w.tile = arena_take(a, (size_t)threads * tile, sizeof(float));
    w.tiles = arena_take(a, rows + 1, sizeof *w.tiles);
    w.most_pages = (int64_t)room_of(c->context) / ATTEND_BLOCK;
    w.pages = arena_take(a, 2 * (size_t)w.most_pages * (size_t)threads, sizeof *w.pages);
    if (at)
        *at = w;
    return at;
}

static const layer_config *layer_of(const mixer_call *call)
{
    return &call->config->layer[call->layer];
}

static char *keys_of(const mixer_call *call, const mixer_row *row, int head)
{
    return (char *)row->state + (size_t)head * room_of(row->context) * head_stride(layer_of(call), call->kv);
}

static char *values_of(const mixer_call *call, const mixer_row *row, int head)
{
    return keys_of(call, row, layer_of(call)->kv_heads + head);
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
static void shape_heads(const mixer_call *call, int64_t row, float *x, int heads, attention_role bias,
                        attention_role norm)
{
    const model_config *c = call->config;
    const kernel_table *k = call->c->kernels;
    const float *norm_weight = call->weights[norm].w.data;
    int64_t dim = layer_of(call)->key_dim, n = heads * dim;
    add_bias(&call->weights[bias], x, n);
    if (norm_weight && !c->norm_heads)
        k->rms_norm(x, norm_weight, c->rms_eps, x, n);
    clip(x, n, c->clip_qkv);
    for (int h = 0; h < heads; h++) {
        float *head = x + h * dim;
        if (norm_weight && c->norm_heads)
            k->rms_norm(head, norm_weight, c->rms_eps, head, dim);
        if (call->rope)
            rope_turn(call->rope, head, call->cosines + row * call->rope->half, call->sines + row * call->rope->half);
    }
}

/* Finish one row's q, k and v, and append k and v to the state. */
static void append_row(void *ctx, int64_t row, int worker)
{
    const mixer_call *call = ctx;
    const layer_config *l = layer_of(call);
    const kernel_table *kernels = call->c->kernels;
    attention_work *w = call->work;
    float *k = w->k + row * k_dim(l), *v = w->v + row * v_dim(l);
    shape_heads(call, row, w->q + row * q_dim(l), l->heads, ATTENTION_Q_BIAS, ATTENTION_Q_NORM);
    shape_heads(call, row, k, l->kv_heads, ATTENTION_K_BIAS, ATTENTION_K_NORM);
    add_bias(&call->weights[ATTENTION_V_BIAS], v, v_dim(l));
    clip(v, v_dim(l), call->config->clip_qkv);
    const mixer_row *r = &call->rows[row];
    for (int h = 0; h < l->kv_heads; h++) {
        int64_t place = r->position % ATTEND_BLOCK;
        char *page = keys_of(call, r, h) + (size_t)(r->position - place) * head_stride(l, call->kv);
        kernels->key_store(call->kv, k + (int64_t)h * l->key_dim, page, place, l->key_dim);
        kernels->kv_store(call->kv, v + (int64_t)h * l->value_dim,
                          values_of(call, r, h) + (size_t)r->position * head_stride(l, call->kv), l->value_dim);
    }
}

/* The pages of a head's keys or values up to a position. */
static void list_pages(const mixer_call *call, const char *start, int64_t position, const void **page)
{
    size_t bytes = ATTEND_BLOCK * head_stride(layer_of(call), call->kv);
    for (int64_t i = 0; i <= position / ATTEND_BLOCK; i++)
        page[i] = start + (size_t)i * bytes;
}

/* Attention of one tile of rows with one key/value head. Task = tile * kv_heads + head. */
static void attend_task(void *ctx, int64_t task, int worker)
{
    const mixer_call *call = ctx;
    const layer_config *l = layer_of(call);
    attention_work *w = call->work;
    int head = (int)(task % l->kv_heads), group = l->heads / l->kv_heads;
    int64_t first_row = w->tiles[task / l->kv_heads], rows = w->tiles[task / l->kv_heads + 1] - first_row;
    int64_t dim = l->key_dim, part = group * dim, all = q_dim(l);
    float scale = call->config->attention_scale > 0 ? call->config->attention_scale : 1.0f / sqrtf((float)dim);
    float *q = w->tile + (int64_t)worker * 2 * TILE_ROWS * part, *out = q + TILE_ROWS * part;
    int64_t from[TILE_ROWS * 64], to[TILE_ROWS * 64];
    const mixer_row *r = &call->rows[first_row];
    int window = l->window;
    const void **key_pages = w->pages + worker * 2 * w->most_pages, **value_pages = key_pages + w->most_pages;
    list_pages(call, keys_of(call, r, head), r[rows - 1].position, key_pages);
    list_pages(call, values_of(call, r, head), r[rows - 1].position, value_pages);
    /* Query heads of one key/value head are side by side; more than 64 of them go in turns. */
    for (int done = 0; done < group; done += 64) {
        int heads = group - done < 64 ? group - done : 64;
        for (int64_t i = 0; i < rows; i++) {
            int64_t position = r[i].position;
            memcpy(q + i * heads * dim, w->q + (first_row + i) * all + head * part + done * dim,
                   (size_t)(heads * dim) * sizeof *q);
            for (int h = 0; h < heads; h++) {
                from[i * heads + h] = window && position >= window ? position - window + 1 : 0;
                to[i * heads + h] = position + 1;
            }
        }
        call->c->kernels->attend(&(attend_args){.type = call->kv,
                                                .key_dim = dim,
                                                .value_dim = dim,
                                                .scale = scale,
                                                .key_pages = key_pages,
                                                .value_pages = value_pages,
                                                .value_stride = (int64_t)head_stride(l, call->kv),
                                                .n = rows * heads,
                                                .first = from,
                                                .last = to,
                                                .q = q,
                                                .q_stride = dim,
                                                .out = out,
                                                .out_stride = dim});
        for (int64_t i = 0; i < rows; i++)
            memcpy(w->out + (first_row + i) * all + head * part + done * dim, out + i * heads * dim,
                   (size_t)(heads * dim) * sizeof *out);
    }
}

/* Cut the rows into tiles of one sequence each; returns how many. */
static int64_t cut_tiles(const mixer_call *call)
{
    attention_work *w = call->work;
    int64_t tiles = 0, most = call->n * layer_of(call)->kv_heads / (TASKS_A_THREAD * pool_threads(call->c->pool));
    most = most > TILE_ROWS ? TILE_ROWS : most > 1 ? most : 1;
    for (int64_t row = 0; row < call->n; row++)
        if (row == 0 || call->rows[row].state != call->rows[row - 1].state || row - w->tiles[tiles - 1] == most)
            w->tiles[tiles++] = row;
    w->tiles[tiles] = call->n;
    return tiles;
}

static void forward(const mixer_call *call)
{
    const layer_config *l = layer_of(call);
    attention_work *w = call->work;
    const resident *weights = call->weights;
    int64_t hidden = call->config->hidden;
    linear_job qkv[] = {
        {&weights[ATTENTION_Q].w, call->in, w->q, q_dim(l)},
        {&weights[ATTENTION_K].w, call->in, w->k, k_dim(l)},
        {&weights[ATTENTION_V].w, call->in, w->v, v_dim(l)},
    };
    w->mid.cols = out_dim(l);
    linear_run(call->c, qkv, 3, call->n);
    rows_run(call->c, call->n, append_row, (void *)call);
    pool_run(call->c->pool, cut_tiles(call) * l->kv_heads, attend_task, (void *)call);
    unsigned mask = activation_mask(call->c->kernels, weights[ATTENTION_O].w.type);
    activations_fill(call->c, &w->mid, mask, w->out, call->n);
    linear_job output = {&weights[ATTENTION_O].w, &w->mid, call->out, hidden};
    linear_run(call->c, &output, 1, call->n);
    for (int64_t row = 0; row < call->n; row++)
        add_bias(&weights[ATTENTION_O_BIAS], call->out + row * hidden, hidden);
}

static void copy(const model_config *c, int layer, kv_type kv, const void *from, int64_t from_context, void *to,
                 int64_t to_context, int64_t length)
{
    const layer_config *l = &c->layer[layer];
    size_t stride = head_stride(l, kv);
    for (size_t h = 0; h < 2 * (size_t)l->kv_heads; h++) /* whole blocks: what lies beyond length is never looked at */
        memcpy((char *)to + h * room_of(to_context) * stride, (const char *)from + h * room_of(from_context) * stride,
               room_of(length) * stride);
}

const mixer mixer_attention = {
    .name = "attention",
    .dim = dim,
    .check = check,
    .check_kv = check_kv,
    .in_mask = in_mask,
    .mid_mask = mid_mask,
    .state_bytes = state_bytes,
    .layout = layout,
    .forward = forward,
    .copy = copy,
};
