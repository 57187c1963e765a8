/* attend.h - attention over the cache: scores are keys, interleaved in the cache already, times queries; the result is
 * values (in, out) times weights.
 *
 * A group of queries goes through the keys in absolute blocks of ATTEND_BLOCK positions with an online softmax: weights
 * are powers of 2, relative to the largest score so far. A query takes part with its own range of the block, positions
 * ascending in one chain of fused multiply-adds for each of its columns, so its result is the same alone or in a group.
 */
#ifndef ODMOE_KERNELS_SIMD_ATTEND_H
#define ODMOE_KERNELS_SIMD_ATTEND_H

#include "kernels/simd/attend_block.h"
#include "kernels/simd/attend_few.h"
#include "kernels/simd/attend_panels.h"

enum { DIRECT_QUERIES = 8 }; /* up to so many do without panels */

static void attend_begin(attention *a, int64_t *begin, int64_t *end)
{
    *begin = a->first[0];
    *end = a->last[0];
    for (int64_t i = 0; i < a->m; i++) {
        *begin = a->first[i] < *begin ? a->first[i] : *begin;
        *end = a->last[i] > *end ? a->last[i] : *end;
        a->largest[i] = -INFINITY;
        memset(a->total[i], 0, sizeof a->total[i]);
        memset(a->out + i * a->out_stride, 0, (size_t)a->head_dim * sizeof *a->out);
    }
}

static void attend_end(attention *a)
{
    for (int64_t i = 0; i < a->m; i++) {
        f32x16 total = f32x16_set1(f32x16_sum(f32x16_load(a->total[i])));
        float *out = a->out + i * a->out_stride;
        for (int64_t c = 0; c < a->head_dim; c += 16) {
            int64_t width = a->head_dim - c < 16 ? a->head_dim - c : 16;
            f32x16_store_part(out + c, f32x16_div(f32x16_load_part(out + c, width), total), width);
        }
    }
}

ALWAYS_INLINE void attend_group_of(kv_type type, dtype t, attention *a)
{
    int64_t begin, end;
    attend_begin(a, &begin, &end);
    for (a->base = begin / ATTEND_BLOCK * ATTEND_BLOCK; a->base < end; a->base += ATTEND_BLOCK) {
        int64_t next = a->base + ATTEND_BLOCK < end ? a->base + ATTEND_BLOCK : a->base;
        a->next_keys = a->keys + next * a->key_bytes;
        a->from = a->base < begin ? begin - a->base : 0;
        a->to = end - a->base < ATTEND_BLOCK ? end - a->base : ATTEND_BLOCK;
        cut_runs(a);
        if (a->m <= DIRECT_QUERIES) {
            few_scores_of_all(type, a);
            weights_of_block(a);
            few_values_of_all(t, a);
            panel_values(t, a, a->head_dim / 16 * 16);
        } else {
            panel_scores(type, a);
            weights_of_block(a);
            panel_values(t, a, 0);
        }
    }
    attend_end(a);
}

static void attend_many(kv_type type, const float *q, int64_t q_stride, int64_t m, const void *keys, const void *values,
                        int64_t stride, const int64_t *first, const int64_t *last, int64_t head_dim, float scale,
                        float *out, int64_t out_stride)
{
    attention a; /* large: its scores and panel are written before they are read */
    a.keys = keys;
    a.values = values;
    a.stride = stride;
    a.key_bytes = (int64_t)kv_bytes(type, head_dim);
    a.head_dim = head_dim;
    a.scale = scale * 0x1.715476p+0f; /* log2 e */
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
