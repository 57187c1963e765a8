/* attend.h - attention over the cache, with the panels of floats.h: scores are keys, interleaved in the cache already,
 * times queries; the result is values (in, out) times weights.
 *
 * A group of queries goes through the keys in absolute blocks of ATTEND_BLOCK positions with an online softmax. Keys
 * and values of a block are converted once for the whole group. A query takes part with its own range
 * of the block, positions ascending, so its result is the same alone or in a group. */
#ifndef ODMOE_KERNELS_SIMD_ATTEND_H
#define ODMOE_KERNELS_SIMD_ATTEND_H

#include <assert.h>

#include "kernels/ref/ref.h"
#include "kernels/simd/floats.h"
#include "kernels/simd/vectors.h"

enum {
    GROUP = 64, /* queries that share a block's keys and values: 16 KiB of scores */
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

/* panel[k][i] = element c + k of the key at position j + i of a block of KEYS_ABREAST, k < depth. */
ALWAYS_INLINE void panel_from_keys(kv_type type, const uint8_t *block, int64_t j, int64_t head_dim, int64_t c,
                                   int64_t depth, float *out)
{
    const uint8_t *numbers = block + (type == KV_Q8_0 ? head_dim / 32 * KEYS_ABREAST * 2 : 0);
    for (int64_t k = c; k < c + depth; k++, out += PANEL_ROWS)
        for (int64_t i = 0; i < PANEL_ROWS; i += 16) {
            int64_t at = k * KEYS_ABREAST + j + i;
            f32x16 v = type == KV_Q8_0  ? f32x16_from_i8(numbers + at)
                       : type == KV_F16 ? f32x16_from_f16(numbers + 2 * at)
                                        : f32x16_load(numbers + 4 * at);
            if (type == KV_Q8_0)
                v = f32x16_mul(f32x16_from_f16(block + 2 * (k / 32 * KEYS_ABREAST + j + i)), v);
            f32x16_store(out + i, v);
        }
}

/* score[i][j] = q_i . key_j for positions base + [from, to), and for others of the panels that these lie in. */
ALWAYS_INLINE void scores_of_block(kv_type type, attention *a, int64_t base, int64_t from, int64_t to)
{
    static_assert(KEYS_ABREAST % PANEL_ROWS == 0, "a panel lies in one block of keys");
    for (int64_t j = from / PANEL_ROWS * PANEL_ROWS; j < to; j += PANEL_ROWS) {
        int64_t first = (base + j) / KEYS_ABREAST * KEYS_ABREAST;
        const uint8_t *block = a->keys + first * (int64_t)kv_bytes(type, a->head_dim);
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

/* out_i += sum_j weight_j * value_j for positions base + [from, to) and the columns of one panel; neighbouring queries
 * with the same range of them go together. */
ALWAYS_INLINE void add_panel(attention *a, const float *p, int64_t base, int64_t from, int64_t to, int64_t c,
                             int64_t width)
{
    for (int64_t i = 0, next; i < a->m; i = next) {
        int64_t f, l, f2, l2;
        part_of_block(a, i, base, &f, &l);
        for (next = i + 1; next < a->m; next++) {
            part_of_block(a, next, base, &f2, &l2);
            if (f2 != f || l2 != l)
                break;
        }
        f = f > from ? f : from;
        l = l < to ? l : to;
        if (f < l)
            panel_multiply(p + (f - from) * PANEL_ROWS, l - f, &a->score[i][f], ATTEND_BLOCK, next - i,
                           a->out + i * a->out_stride + c, a->out_stride, width, false);
    }
}

/* The same for all columns. Values are taken row by row, as they follow each other in memory: VALUE_PANELS side by
 * side, VALUE_ROWS positions each. */
ALWAYS_INLINE void values_of_block(dtype t, attention *a, int64_t base, int64_t from, int64_t to)
{
    for (int64_t c = 0; c < a->head_dim; c += VALUE_PANELS * PANEL_ROWS) {
        int64_t columns = a->head_dim - c < VALUE_PANELS * PANEL_ROWS ? a->head_dim - c : VALUE_PANELS * PANEL_ROWS;
        for (int64_t j = from; j < to; j += VALUE_ROWS) {
            int64_t end = to - j < VALUE_ROWS ? to : j + VALUE_ROWS;
            for (int64_t k = j; k < end; k++)
                for (int64_t v = 0; v < columns; v += PANEL_ROWS)
                    panel_from_columns(t, a->values + (base + k) * a->stride, 0, c + v,
                                       columns - v < PANEL_ROWS ? columns - v : PANEL_ROWS, 1,
                                       a->p + v * VALUE_ROWS + (k - j) * PANEL_ROWS);
            for (int64_t v = 0; v < columns; v += PANEL_ROWS)
                add_panel(a, a->p + v * VALUE_ROWS, base, j, end, c + v,
                          columns - v < PANEL_ROWS ? columns - v : PANEL_ROWS);
        }
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
