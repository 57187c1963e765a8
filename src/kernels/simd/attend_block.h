/* attend_block.h - what attention does with one block of ATTEND_BLOCK positions (a page), however many queries there
 * are: which positions each query uses, where keys lie, and the softmax. The products are in attend_few.h and attend_panels.h. */
#ifndef ODMOE_KERNELS_SIMD_ATTEND_BLOCK_H
#define ODMOE_KERNELS_SIMD_ATTEND_BLOCK_H

#include <assert.h>

#include "kernels/ref/ref.h"
#include "kernels/simd/gemm_float.h"
#include "kernels/simd/elementwise.h"

/* Queries that share a block's keys and values: 32 KiB of scores, half of the scratch. */
enum { GROUP = 128 };

enum { ATTEND_DEPTH = 128 }; /* of a panel of keys or values */

/* Neighbouring queries with the same positions of a block: [from, to), relative to the block's first. */
typedef struct query_run {
    int32_t first, count, from, to;
} query_run;

typedef struct attention {
    const void *const *key_pages, *const *value_pages;
    size_t key_offset, value_offset;
    int64_t value_stride, key_bytes, key_dim, value_dim;
    float scale;     /* of a score, after its cap, as an exponent of 2 */
    float cap_scale; /* above 0: of a score before its cap is taken, tanh(score * cap_scale) */
    const float *q;  /* [m, q_stride] */
    int64_t q_stride, m;
    const int64_t *first, *last;
    const float *sinks; /* [m] or NULL */
    float *out;         /* [m, out_stride], sums of weighted values so far */
    int64_t out_stride;
    int64_t base, from, to;       /* the block: its first position, and what any query uses of it, relative to that */
    const uint8_t *keys, *values; /* of the block */
    const uint8_t *next_keys;     /* of the block that comes next, to be fetched meanwhile; this one's at the end */
    int64_t runs;
    query_run run[GROUP];
    float score[GROUP][ATTEND_BLOCK], largest[GROUP], total[GROUP][16]; /* total: sums of weights, position % 16 */
    union {
        float p[ATTEND_DEPTH * PANEL_ROWS];
        float value_scale[ATTEND_BLOCK]; /* attend_few.h: of 32 columns of the block's values; Q8_0 only */
    };
} attention;

static_assert(sizeof(attention) <= ATTEND_SCRATCH, "the scratch holds it");

/* Cut the queries into runs; those that use nothing of the block are in none. */
static void cut_runs(attention *a)
{
    a->runs = 0;
    for (int64_t i = 0; i < a->m; i++) {
        int64_t from = a->first[i] > a->base ? a->first[i] - a->base : 0;
        int64_t to = a->last[i] < a->base + ATTEND_BLOCK ? a->last[i] - a->base : ATTEND_BLOCK;
        query_run *r = &a->run[a->runs];
        if (from >= to)
            continue;
        if (a->runs && r[-1].first + r[-1].count == i && r[-1].from == from && r[-1].to == to) {
            r[-1].count++;
            continue;
        }
        *r = (query_run){(int32_t)i, 1, (int32_t)from, (int32_t)to};
        a->runs++;
    }
}

/* The keys of position j of the block, j a multiple of 16: the group of KEY_INTERLEAVE that it lies in, and its place
 * there. */
ALWAYS_INLINE const uint8_t *keys_at(const attention *a, int64_t j, int64_t *place)
{
    *place = j % KEY_INTERLEAVE;
    return a->keys + (j - *place) * a->key_bytes;
}
/* Where the numbers of a group of keys start: behind the scales, which only Q8_0 has. */
ALWAYS_INLINE const uint8_t *key_numbers(kv_type type, const uint8_t *group, int64_t head_dim)
{
    return group + (type == KV_Q8_0 ? head_dim / 32 * KEY_INTERLEAVE * 2 : 0);
}
/* The scales of sixteen keys from a place on, for their elements k … k + 31, k % 32 == 0. */
ALWAYS_INLINE f32x16 key_scales(kv_type type, const uint8_t *group, int64_t place, int64_t k)
{
    return type == KV_Q8_0 ? f32x16_from_f16(group + 2 * (k / 32 * KEY_INTERLEAVE + place)) : f32x16_zero();
}
/* Element k of sixteen keys from a place on. */
ALWAYS_INLINE f32x16 key_elements(kv_type type, const uint8_t *numbers, int64_t place, int64_t k, f32x16 scale)
{
    int64_t at = k * KEY_INTERLEAVE + place;
    if (type == KV_Q8_0)
        return f32x16_scaled_i8(numbers + at, scale);
    return type == KV_F16 ? f32x16_from_f16(numbers + 2 * at) : f32x16_load(numbers + 4 * at);
}

/* Memory that is wanted soon, fetched a little with every step of a loop over something else, so that requests never
 * queue up. Any address will do; lines that are there cost nothing. */
typedef struct prefetch {
    const uint8_t *at;
    int64_t step;
} prefetch;

ALWAYS_INLINE void prefetch_step(prefetch *p)
{
    __builtin_prefetch(p->at);
    p->at += p->step;
}
/* While `positions` scores from j on are computed, in key_dim steps: the same positions' values. */
ALWAYS_INLINE prefetch prefetch_values(const attention *a, int64_t j, int64_t positions)
{
    return (prefetch){a->values + j * a->value_stride, positions * a->value_stride / a->key_dim};
}
/* While `columns` columns of values from c on are added up, in ATTEND_BLOCK steps: as large a part of the next keys. */
ALWAYS_INLINE prefetch prefetch_keys(const attention *a, int64_t c, int64_t columns)
{
    int64_t column = ATTEND_BLOCK * a->key_bytes / a->value_dim;
    return (prefetch){a->next_keys + c * column, columns * column / ATTEND_BLOCK};
}

/* The sums of query i so far, scaled to a new maximum. */
static void rescale(attention *a, int64_t i, f32x16 scale)
{
    float *out = a->out + i * a->out_stride;
    f32x16_store(a->total[i], f32x16_mul(f32x16_load(a->total[i]), scale));
    for (int64_t c = 0; c < a->value_dim; c += 16) {
        int64_t width = a->value_dim - c < 16 ? a->value_dim - c : 16;
        f32x16_store_part(out + c, f32x16_mul(f32x16_load_part(out + c, width), scale), width);
    }
}

/* Scores at [from, to), and others of the vectors that these lie in, to tanh(score * scale). */
static void cap_scores(float *score, int64_t from, int64_t to, float scale)
{
    for (int64_t j = from / 16 * 16; j < to; j += 16)
        f32x16_store(score + j, f32x16_tanh(f32x16_mul(f32x16_load(score + j), f32x16_set1(scale))));
}

/* Scores of query i's positions [from, to) to weights 2^(score * scale - the largest so far). */
ALWAYS_INLINE void weights_of_query(attention *a, int64_t i, int64_t from, int64_t to)
{
    float *s = a->score[i];
    f32x16 v[ATTEND_BLOCK / 16], scale = f32x16_set1(a->scale), max;
    if (a->cap_scale > 0)
        cap_scores(s, from, to, a->cap_scale);
    for (int64_t j = 0; j < from; j++)
        s[j] = -INFINITY;
    for (int64_t j = to; j < ATTEND_BLOCK; j++)
        s[j] = -INFINITY;
    max = v[0] = f32x16_load(s);
#pragma GCC unroll 4
    for (int j = 1; j < ATTEND_BLOCK / 16; j++) {
        v[j] = f32x16_load(s + 16 * j);
        max = f32x16_max(v[j], max);
    }
    float largest = f32x16_largest(max) * a->scale;
    if (largest > a->largest[i]) {
        rescale(a, i, f32x16_exp2(f32x16_set1(a->largest[i] - largest))); /* of zeros, before the first block */
        a->largest[i] = largest;
    }
    f32x16 shift = f32x16_set1(-a->largest[i]), total = f32x16_load(a->total[i]);
#pragma GCC unroll 4
    for (int j = 0; j < ATTEND_BLOCK / 16; j++) {
        v[j] = f32x16_exp2(f32x16_fma(v[j], scale, shift));
        f32x16_store(s + 16 * j, v[j]);
        total = f32x16_add(total, v[j]);
    }
    f32x16_store(a->total[i], total);
}

static void weights_of_block(attention *a)
{
    for (int64_t r = 0; r < a->runs; r++)
        for (int64_t i = a->run[r].first; i < a->run[r].first + a->run[r].count; i++)
            weights_of_query(a, i, a->run[r].from, a->run[r].to);
}

#endif
