/* attend.h - attention over the cache, with the panels of floats.h: scores are keys, interleaved in the cache already,
 * times queries; the result is values (in, out) times weights.
 *
 * A group of queries goes through the keys in absolute blocks of ATTEND_BLOCK positions with an online softmax. Keys
 * and values of a block are converted once for the whole group; few queries (a token's, in decoding) take them straight
 * from memory, many through panels. A query takes part with its own range of the block, positions ascending, so its
 * result is the same alone or in a group. */
#ifndef ODMOE_KERNELS_SIMD_ATTEND_H
#define ODMOE_KERNELS_SIMD_ATTEND_H

#include <assert.h>

#include "kernels/ref/ref.h"
#include "kernels/simd/floats.h"
#include "kernels/simd/vectors.h"

enum {
    GROUP = 64,         /* queries that share a block's keys and values: 16 KiB of scores */
    DIRECT_QUERIES = 8, /* up to so many do without panels */
    VALUE_ROWS = 16,
    VALUE_PANELS = PANEL_DEPTH / VALUE_ROWS /* they fill a panel's memory */
};

typedef struct attention {
    const uint8_t *keys, *values;
    int64_t stride, head_dim;
    float scale;
    const float *q; /* [m, q_stride] */
    int64_t q_stride, m;
    const int64_t *first, *last;
    float *out; /* [m, out_stride], sums of weighted values so far */
    int64_t out_stride;
    float score[GROUP][ATTEND_BLOCK], max[GROUP], total[GROUP];
    panel p;
} attention;

/* Query i's positions in the block at `base`, relative to it: [*from, *to), empty where from >= to. */
ALWAYS_INLINE void part_of_block(const attention *a, int64_t i, int64_t base, int64_t *from, int64_t *to)
{
    *from = a->first[i] > base ? a->first[i] - base : 0;
    *to = a->last[i] < base + ATTEND_BLOCK ? a->last[i] - base : ATTEND_BLOCK;
}

/* Where the numbers of a block of KEYS_ABREAST keys start: behind the scales, which only Q8_0 has. */
ALWAYS_INLINE const uint8_t *key_numbers(kv_type type, const uint8_t *block, int64_t head_dim)
{
    return block + (type == KV_Q8_0 ? head_dim / 32 * KEYS_ABREAST * 2 : 0);
}
/* The scales of sixteen keys from position j of a block on, for their elements k … k + 31, k % 32 == 0. */
ALWAYS_INLINE f32x16 key_scales(kv_type type, const uint8_t *block, int64_t j, int64_t k)
{
    return type == KV_Q8_0 ? f32x16_from_f16(block + 2 * (k / 32 * KEYS_ABREAST + j)) : f32x16_zero();
}
/* Element k of sixteen keys from position j of a block on. */
ALWAYS_INLINE f32x16 key_elements(kv_type type, const uint8_t *numbers, int64_t j, int64_t k, f32x16 scale)
{
    int64_t at = k * KEYS_ABREAST + j;
    if (type == KV_Q8_0)
        return f32x16_mul(scale, f32x16_from_i8(numbers + at));
    return type == KV_F16 ? f32x16_from_f16(numbers + 2 * at) : f32x16_load(numbers + 4 * at);
}

/* panel[k][i] = element c + k of the key at position j + i of a block of KEYS_ABREAST, k < depth; c % 32 == 0. */
ALWAYS_INLINE void panel_from_keys(kv_type type, const uint8_t *block, int64_t j, int64_t head_dim, int64_t c,
                                   int64_t depth, float *out)
{
    const uint8_t *numbers = key_numbers(type, block, head_dim);
    for (int64_t i = 0; i < PANEL_ROWS; i += 16) {
        f32x16 scale = f32x16_zero();
        for (int64_t k = 0; k < depth; k++) {
            if (k % 32 == 0)
                scale = key_scales(type, block, j + i, c + k);
            f32x16_store(out + k * PANEL_ROWS + i, key_elements(type, numbers, j + i, c + k, scale));
        }
    }
}

/* The scores of `queries` queries, a constant, with PANEL_ROWS keys from position j of a block on; to score[…][column].
 */
ALWAYS_INLINE void direct_scores(kv_type type, int queries, attention *a, int64_t i, const uint8_t *block, int64_t j,
                                 int64_t column)
{
    f32x16 sum[DIRECT_QUERIES][TILE_VECTORS], scale[TILE_VECTORS], key[TILE_VECTORS];
    const uint8_t *numbers = key_numbers(type, block, a->head_dim);
    const float *q = a->q + i * a->q_stride;
#pragma GCC unroll 8
    for (int t = 0; t < queries; t++)
#pragma GCC unroll 2
        for (int v = 0; v < TILE_VECTORS; v++)
            sum[t][v] = f32x16_zero();
    for (int64_t c = 0; c < a->head_dim; c += 32) {
        int64_t end = a->head_dim - c < 32 ? a->head_dim : c + 32;
#pragma GCC unroll 2
        for (int v = 0; v < TILE_VECTORS; v++)
            scale[v] = key_scales(type, block, j + 16 * v, c);
        for (int64_t k = c; k < end; k++) {
#pragma GCC unroll 2
            for (int v = 0; v < TILE_VECTORS; v++)
                key[v] = key_elements(type, numbers, j + 16 * v, k, scale[v]);
#pragma GCC unroll 8
            for (int t = 0; t < queries; t++) {
                f32x16 x = f32x16_set1(q[t * a->q_stride + k]);
#pragma GCC unroll 2
                for (int v = 0; v < TILE_VECTORS; v++)
                    sum[t][v] = f32x16_fma(key[v], x, sum[t][v]);
            }
        }
    }
#pragma GCC unroll 8
    for (int t = 0; t < queries; t++)
#pragma GCC unroll 2
        for (int v = 0; v < TILE_VECTORS; v++)
            f32x16_store(&a->score[i + t][column + 16 * v], sum[t][v]);
}

/* How many of `left` queries go together where registers hold their sums: 8, 4 or 1. */
ALWAYS_INLINE int64_t direct_count(int64_t left)
{
    return left >= 8 && TILE_TOKENS >= 8 ? 8 : left >= 4 ? 4 : 1;
}

ALWAYS_INLINE void direct_scores_of_all(kv_type type, attention *a, const uint8_t *block, int64_t j, int64_t column)
{
    for (int64_t i = 0, now; i < a->m; i += now) {
        now = direct_count(a->m - i);
        if (now == 8)
            direct_scores(type, 8, a, i, block, j, column);
        else if (now == 4)
            direct_scores(type, 4, a, i, block, j, column);
        else
            direct_scores(type, 1, a, i, block, j, column);
    }
}

/* score[i][j] = q_i . key_j for positions base + [from, to), and for others of the panels that these lie in. */
ALWAYS_INLINE void scores_of_block(kv_type type, attention *a, int64_t base, int64_t from, int64_t to)
{
    static_assert(KEYS_ABREAST % PANEL_ROWS == 0, "a panel lies in one block of keys");
    for (int64_t j = from / PANEL_ROWS * PANEL_ROWS; j < to; j += PANEL_ROWS) {
        int64_t first = (base + j) / KEYS_ABREAST * KEYS_ABREAST;
        const uint8_t *block = a->keys + first * (int64_t)kv_bytes(type, a->head_dim);
        if (a->m <= DIRECT_QUERIES) {
            direct_scores_of_all(type, a, block, base + j - first, j);
            continue;
        }
        for (int64_t c = 0; c < a->head_dim; c += PANEL_DEPTH) {
            int64_t depth = a->head_dim - c < PANEL_DEPTH ? a->head_dim - c : PANEL_DEPTH;
            panel_from_keys(type, block, base + j - first, a->head_dim, c, depth, a->p);
            panel_multiply(a->p, depth, a->q + c, a->q_stride, a->m, &a->score[0][j], ATTEND_BLOCK, PANEL_ROWS, c == 0);
        }
    }
}

/* Scores to weights e^(score - max), with what was summed before scaled to the new maximum. */
static void weights_of_block(attention *a, int64_t i, int64_t from, int64_t to)
{
    float *s = a->score[i];
    f32x16 v[ATTEND_BLOCK / 16], max = f32x16_set1(a->max[i]), sum = f32x16_zero();
    for (int64_t j = 0; j < from; j++)
        s[j] = -INFINITY;
    for (int64_t j = to; j < ATTEND_BLOCK; j++)
        s[j] = -INFINITY;
    for (int j = 0; j < ATTEND_BLOCK / 16; j++) {
        v[j] = f32x16_mul(f32x16_load(s + 16 * j), f32x16_set1(a->scale));
        max = f32x16_max(v[j], max);
    }
    float largest = f32x16_largest(max), keep[16];
    max = f32x16_set1(largest);
    for (int j = 0; j < ATTEND_BLOCK / 16; j++) {
        v[j] = f32x16_exp(f32x16_sub(v[j], max));
        sum = f32x16_add(sum, v[j]);
        f32x16_store(s + 16 * j, v[j]);
    }
    f32x16 scale = f32x16_exp(f32x16_sub(f32x16_set1(a->max[i]), max)); /* 0 for the first block */
    f32x16_store(keep, scale);
    a->max[i] = largest;
    a->total[i] = a->total[i] * keep[0] + f32x16_sum(sum);
    if (keep[0] != 1)
        for (int64_t c = 0; c < a->head_dim; c += 16) {
            int64_t width = a->head_dim - c < 16 ? a->head_dim - c : 16;
            float *out = a->out + i * a->out_stride + c;
            f32x16_store_part(out, f32x16_mul(f32x16_load_part(out, width), scale), width);
        }
}

/* Query i's part of positions base + [from, to) as [*f, *l); returns how many queries from i on have the same. */
ALWAYS_INLINE int64_t same_part(const attention *a, int64_t i, int64_t base, int64_t from, int64_t to, int64_t *f,
                                int64_t *l)
{
    int64_t next, f2, l2;
    part_of_block(a, i, base, f, l);
    for (next = i + 1; next < a->m; next++) {
        part_of_block(a, next, base, &f2, &l2);
        if (f2 != *f || l2 != *l)
            break;
    }
    *f = *f > from ? *f : from;
    *l = *l < to ? *l : to;
    return next - i;
}

/* out_i += sum_j weight_j * value_j for positions base + [from, to) and the columns of one panel; neighbouring queries
 * with the same range of them go together. */
ALWAYS_INLINE void add_panel(attention *a, const float *p, int64_t base, int64_t from, int64_t to, int64_t c,
                             int64_t width)
{
    for (int64_t i = 0, f, l, together; i < a->m; i += together) {
        together = same_part(a, i, base, from, to, &f, &l);
        if (f < l)
            panel_multiply(p + (f - from) * PANEL_ROWS, l - f, &a->score[i][f], ATTEND_BLOCK, together,
                           a->out + i * a->out_stride + c, a->out_stride, width, false);
    }
}

/* The same for PANEL_ROWS columns from c on and `queries` queries, a constant, straight from memory. */
ALWAYS_INLINE void direct_values(dtype t, int queries, attention *a, int64_t i, int64_t base, int64_t from, int64_t to,
                                 int64_t c)
{
    f32x16 sum[DIRECT_QUERIES][TILE_VECTORS], value[TILE_VECTORS];
    float *out = a->out + i * a->out_stride + c;
#pragma GCC unroll 8
    for (int k = 0; k < queries; k++)
#pragma GCC unroll 2
        for (int v = 0; v < TILE_VECTORS; v++)
            sum[k][v] = f32x16_load(out + k * a->out_stride + 16 * v);
    for (int64_t j = from; j < to; j++) {
        row_load_tile(t, a->values + (base + j) * a->stride, c, value);
#pragma GCC unroll 8
        for (int k = 0; k < queries; k++) {
            f32x16 weight = f32x16_set1(a->score[i + k][j]);
#pragma GCC unroll 2
            for (int v = 0; v < TILE_VECTORS; v++)
                sum[k][v] = f32x16_fma(value[v], weight, sum[k][v]);
        }
    }
#pragma GCC unroll 8
    for (int k = 0; k < queries; k++)
#pragma GCC unroll 2
        for (int v = 0; v < TILE_VECTORS; v++)
            f32x16_store(out + k * a->out_stride + 16 * v, sum[k][v]);
}

ALWAYS_INLINE void direct_values_of_all(dtype t, attention *a, int64_t base, int64_t from, int64_t to, int64_t c)
{
    for (int64_t i = 0, f, l, together, now; i < a->m;)
        for (together = same_part(a, i, base, from, to, &f, &l); together; together -= now, i += now) {
            now = direct_count(together);
            if (now == 8)
                direct_values(t, 8, a, i, base, f, l, c);
            else if (now == 4)
                direct_values(t, 4, a, i, base, f, l, c);
            else
                direct_values(t, 1, a, i, base, f, l, c);
        }
}

/* Values of positions base + [j, end) and `columns` <= VALUE_PANELS * PANEL_ROWS columns from c on, through panels. */
ALWAYS_INLINE void add_values(dtype t, attention *a, int64_t base, int64_t j, int64_t end, int64_t c, int64_t columns)
{
    for (int64_t k = j; k < end; k++)
        for (int64_t v = 0; v < columns; v += PANEL_ROWS)
            panel_from_columns(t, a->values + (base + k) * a->stride, 0, c + v,
                               columns - v < PANEL_ROWS ? columns - v : PANEL_ROWS, 1,
                               a->p + v * VALUE_ROWS + (k - j) * PANEL_ROWS);
    for (int64_t v = 0; v < columns; v += PANEL_ROWS)
        add_panel(a, a->p + v * VALUE_ROWS, base, j, end, c + v, columns - v < PANEL_ROWS ? columns - v : PANEL_ROWS);
}

/* out_i += sum_j weight_j * value_j for positions base + [from, to). Values are taken VALUE_ROWS positions at a time,
 * as they follow each other in memory. */
ALWAYS_INLINE void values_of_block(dtype t, attention *a, int64_t base, int64_t from, int64_t to)
{
    for (int64_t j = from; j < to; j += VALUE_ROWS) {
        int64_t end = to - j < VALUE_ROWS ? to : j + VALUE_ROWS, c = 0;
        if (a->m <= DIRECT_QUERIES)
            for (; c + PANEL_ROWS <= a->head_dim; c += PANEL_ROWS)
                direct_values_of_all(t, a, base, j, end, c);
        for (; c < a->head_dim; c += VALUE_PANELS * PANEL_ROWS)
            add_values(t, a, base, j, end, c,
                       a->head_dim - c < VALUE_PANELS * PANEL_ROWS ? a->head_dim - c : VALUE_PANELS * PANEL_ROWS);
    }
}

ALWAYS_INLINE void attend_group_of(kv_type type, dtype t, attention *a)
{
    int64_t begin = a->first[0], end = a->last[0];
    for (int64_t i = 0; i < a->m; i++) {
        begin = a->first[i] < begin ? a->first[i] : begin;
        end = a->last[i] > end ? a->last[i] : end;
        a->max[i] = -INFINITY;
        a->total[i] = 0;
        memset(a->out + i * a->out_stride, 0, (size_t)a->head_dim * sizeof *a->out);
    }
    for (int64_t base = begin / ATTEND_BLOCK * ATTEND_BLOCK; base < end; base += ATTEND_BLOCK) {
        int64_t from = base < begin ? begin - base : 0, to = end - base < ATTEND_BLOCK ? end - base : ATTEND_BLOCK;
        scores_of_block(type, a, base, from, to);
        for (int64_t i = 0; i < a->m; i++) {
            int64_t f, l;
            part_of_block(a, i, base, &f, &l);
            if (f < l)
                weights_of_block(a, i, f, l);
        }
        values_of_block(t, a, base, from, to);
    }
    for (int64_t i = 0; i < a->m; i++)
        for (int64_t c = 0; c < a->head_dim; c += 16) {
            int64_t width = a->head_dim - c < 16 ? a->head_dim - c : 16;
            float *out = a->out + i * a->out_stride + c;
            f32x16_store_part(out, f32x16_div(f32x16_load_part(out, width), f32x16_set1(a->total[i])), width);
        }
}

static void attend_many(kv_type type, const float *q, int64_t q_stride, int64_t m, const void *keys, const void *values,
                        int64_t stride, const int64_t *first, const int64_t *last, int64_t head_dim, float scale,
                        float *out, int64_t out_stride)
{
    attention a; /* large: its scores and panel are written before they are read */
    a.keys = keys;
    a.values = values;
    a.stride = stride;
    a.head_dim = head_dim;
    a.scale = scale;
    a.q_stride = q_stride;
    a.out_stride = out_stride;
    for (int64_t i = 0; i < m; i += GROUP) {
        a.m = m - i < GROUP ? m - i : GROUP;
        a.q = q + i * q_stride;
        a.out = out + i * out_stride;
        a.first = first + i;
        a.last = last + i;
        if (type == KV_F16)
            attend_group_of(KV_F16, DTYPE_F16, &a);
        else if (type == KV_Q8_0)
            attend_group_of(KV_Q8_0, DTYPE_Q8_0, &a);
        else
            attend_group_of(KV_F32, DTYPE_F32, &a);
    }
}

static void attend(kv_type type, const float *q, const void *keys, const void *values, int64_t stride, int64_t first,
                   int64_t last, int64_t head_dim, float scale, float *out)
{
    attend_many(type, q, 0, 1, keys, values, stride, &first, &last, head_dim, scale, out, 0);
}

static void kv_store(kv_type type, const float *x, void *out, int64_t head_dim)
{
    if (type != KV_F16) {
        ref_kv_store(type, x, out, head_dim);
        return;
    }
    uint16_t *half = out;
    for (int64_t i = 0; i < head_dim; i += 16) {
        uint16_t lane[16];
        f32x16_to_f16(lane, load_padded(x + i, head_dim - i, 0));
        memcpy(half + i, lane, (head_dim - i < 16 ? (size_t)(head_dim - i) : 16) * sizeof *lane);
    }
}

static void key_store(kv_type type, const float *x, void *keys, int64_t position, int64_t head_dim)
{
    enum { PIECE = 32 };
    float stored[PIECE];
    for (int64_t c = 0; c < head_dim; c += PIECE) {
        int64_t n = head_dim - c < PIECE ? head_dim - c : PIECE;
        kv_store(type, x + c, stored, n);
        ref_key_place(type, stored, keys, position, c, n, head_dim);
    }
}

#endif
