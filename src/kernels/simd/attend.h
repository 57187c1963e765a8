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

#define LOG2_E 0x1.715476p+0f

/* Query i before its first block. A sink is a first score whose value is zero. */
static void attend_begin(attention *a, int64_t i)
{
    a->largest[i] = a->sinks ? a->sinks[i] * LOG2_E : -INFINITY;
    memset(a->total[i], 0, sizeof a->total[i]);
    a->total[i][0] = a->sinks ? 1 : 0;
    memset(a->out + i * a->out_stride, 0, (size_t)a->value_dim * sizeof *a->out);
}

static void attend_end(attention *a, int64_t i)
{
    f32x16 total = f32x16_set1(f32x16_sum(f32x16_load(a->total[i])));
    float *out = a->out + i * a->out_stride;
    for (int64_t c = 0; c < a->value_dim; c += 16) {
        int64_t width = a->value_dim - c < 16 ? a->value_dim - c : 16;
        f32x16_store_part(out + c, f32x16_div(f32x16_load_part(out + c, width), total), width);
    }
}

/* The block from a->base on, of which some query uses positions in [begin, end). */
static void enter_block(attention *a, int64_t begin, int64_t end)
{
    int64_t page = a->base / ATTEND_BLOCK, next = a->base + ATTEND_BLOCK < end ? page + 1 : page;
    a->keys = (const uint8_t *)a->key_pages[page] + a->key_offset;
    a->next_keys = (const uint8_t *)a->key_pages[next] + a->key_offset;
    a->values = a->value_pages ? (const uint8_t *)a->value_pages[page] + a->value_offset : a->keys;
    a->from = a->base < begin ? begin - a->base : 0;
    a->to = end - a->base < ATTEND_BLOCK ? end - a->base : ATTEND_BLOCK;
    cut_runs(a);
}

ALWAYS_INLINE void attend_group_of(kv_type type, dtype t, attention *a)
{
    int64_t begin = a->first[0], end = a->last[0];
    for (int64_t i = 0; i < a->m; i++) {
        begin = a->first[i] < begin ? a->first[i] : begin;
        end = a->last[i] > end ? a->last[i] : end;
        attend_begin(a, i);
    }
    for (a->base = begin / ATTEND_BLOCK * ATTEND_BLOCK; a->base < end; a->base += ATTEND_BLOCK) {
        enter_block(a, begin, end);
        if (a->m <= DIRECT_QUERIES) {
            few_scores_of_all(type, a);
            weights_of_block(a);
            if (a->value_pages)
                few_values_of_all(type, a);
            panel_values(type, t, a, a->value_pages ? a->value_dim / 16 * 16 : 0);
        } else {
            panel_scores(type, a);
            weights_of_block(a);
            panel_values(type, t, a, 0);
        }
    }
    for (int64_t i = 0; i < a->m; i++)
        attend_end(a, i);
}

static void attend(const attend_args *args)
{
    attention *a = args->scratch; /* scores and panels are written before they are read */
    a->key_pages = args->key_pages;
    a->value_pages = args->value_pages;
    a->key_offset = args->key_offset;
    a->value_offset = args->value_offset;
    a->value_stride = args->value_pages ? args->value_stride : 0; /* 0: prefetches of values do nothing */
    a->key_bytes = (int64_t)kv_bytes(args->type, args->key_dim);
    a->key_dim = args->key_dim;
    a->value_dim = args->value_dim;
    a->cap_scale = args->softcap > 0 ? args->scale / args->softcap : 0;
    a->scale = (args->softcap > 0 ? args->softcap : args->scale) * LOG2_E;
    a->q_stride = args->q_stride;
    a->out_stride = args->out_stride;
    for (int64_t i = 0; i < args->n; i += GROUP) {
        a->m = args->n - i < GROUP ? args->n - i : GROUP;
        a->q = args->q + i * args->q_stride;
        a->out = args->out + i * args->out_stride;
        a->first = args->first + i;
        a->last = args->last + i;
        a->sinks = args->sinks ? args->sinks + i : NULL;
        if (args->type == KV_F16)
            attend_group_of(KV_F16, DTYPE_F16, a);
        else if (args->type == KV_Q8_0)
            attend_group_of(KV_Q8_0, DTYPE_Q8_0, a);
        else
            attend_group_of(KV_F32, DTYPE_F32, a);
    }
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

static void key_store(kv_type type, const float *x, void *page, int64_t place, int64_t head_dim)
{
    enum { PIECE = 32 };
    float stored[PIECE];
    for (int64_t c = 0; c < head_dim; c += PIECE) {
        int64_t n = head_dim - c < PIECE ? head_dim - c : PIECE;
        kv_store(type, x + c, stored, n);
        ref_key_place(type, stored, page, place, c, n, head_dim);
    }
}

#endif
