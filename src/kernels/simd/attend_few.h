/* attend_few.h - attention of few queries (the heads that share a token's keys and values, in decoding): keys and
 * values are used as they come from memory, converted in registers. What comes next is fetched meanwhile. */
#ifndef ODMOE_KERNELS_SIMD_ATTEND_FEW_H
#define ODMOE_KERNELS_SIMD_ATTEND_FEW_H

#include <assert.h>

#include "kernels/simd/attend_block.h"

enum {
    FEW_QUERIES = TILE_TOKENS >= 8 ? 8 : 4, /* so many keep their sums in registers */
    FEW_VECTORS = 2                         /* of sixteen keys or columns, where registers allow it */
};
static_assert(KEY_INTERLEAVE % (16 * FEW_VECTORS) == 0, "the keys of a tile lie in one group");

/* Vectors beside each other for a number of queries: together they fill the registers. */
ALWAYS_INLINE int few_vectors(int queries)
{
    return TILE_VECTORS > 1 || queries <= 2 ? FEW_VECTORS : 1;
}

/* The scores of `queries` queries from i on, a constant, with 16 * few_vectors keys from position j on. */
ALWAYS_INLINE void few_scores(kv_type type, int queries, attention *a, int64_t i, int64_t j)
{
    const int vectors = few_vectors(queries);
    f32x16 sum[FEW_QUERIES][FEW_VECTORS], scale[FEW_VECTORS], key[FEW_VECTORS];
    int64_t place;
    const uint8_t *group = keys_at(a, j, &place), *numbers = key_numbers(type, group, a->key_dim);
    const float *q = a->q + i * a->q_stride;
    prefetch values = prefetch_values(a, j, 16 * vectors);
#pragma GCC unroll 8
    for (int t = 0; t < queries; t++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            sum[t][v] = f32x16_zero();
    for (int64_t c = 0; c < a->key_dim; c += 32) {
        int64_t end = a->key_dim - c < 32 ? a->key_dim : c + 32;
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            scale[v] = key_scales(type, group, place + 16 * v, c);
        for (int64_t k = c; k < end; k++) {
            prefetch_step(&values);
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++)
                key[v] = key_elements(type, numbers, place + 16 * v, k, scale[v]);
#pragma GCC unroll 8
            for (int t = 0; t < queries; t++) {
                f32x16 x = f32x16_set1(q[t * a->q_stride + k]);
#pragma GCC unroll 2
                for (int v = 0; v < vectors; v++)
                    sum[t][v] = f32x16_fma(key[v], x, sum[t][v]);
            }
        }
    }
#pragma GCC unroll 8
    for (int t = 0; t < queries; t++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            f32x16_store(&a->score[i + t][j + 16 * v], sum[t][v]);
}

ALWAYS_INLINE void few_scores_of_block(kv_type type, int queries, attention *a, int64_t i)
{
    int64_t step = 16 * few_vectors(queries);
    for (int64_t j = a->from / step * step; j < a->to; j += step)
        few_scores(type, queries, a, i, j);
}

/* The scales of columns c … c + 31 of the values at positions [from, to), gathered: they lie apart. */
static void load_value_scales(attention *a, int64_t from, int64_t to, int64_t c)
{
    uint16_t half[ATTEND_BLOCK] = {0};
    for (int64_t j = from; j < to; j++)
        memcpy(&half[j], a->values + j * a->value_stride + c / 32 * 34, sizeof *half);
    for (int j = 0; j < ATTEND_BLOCK; j += 16)
        f32x16_store(a->value_scale + j, f32x16_from_f16(half + j));
}

/* Sixteen columns of position j's value from c on. */
ALWAYS_INLINE f32x16 load_value(dtype t, const attention *a, const uint8_t *row, int64_t j, int64_t c)
{
    if (t == DTYPE_Q8_0)
        return f32x16_scaled_i8(row + c / 32 * 34 + 2 + c % 32, f32x16_set1(a->value_scale[j]));
    return row_load(t, row, c);
}

/* out += weight * value for `queries` queries from i on, a constant, over positions [from, to), and 16 * vectors
 * columns from c on. */
ALWAYS_INLINE void few_values(dtype t, int queries, int vectors, attention *a, int64_t i, int64_t from, int64_t to,
                              int64_t c)
{
    f32x16 sum[FEW_QUERIES][FEW_VECTORS], value[FEW_VECTORS];
    float *out = a->out + i * a->out_stride + c;
    const uint8_t *row = a->values + from * a->value_stride;
    prefetch keys = prefetch_keys(a, c, 16 * vectors);
#pragma GCC unroll 8
    for (int k = 0; k < queries; k++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            sum[k][v] = f32x16_load(out + k * a->out_stride + 16 * v);
    for (int64_t j = from; j < to; j++, row += a->value_stride) {
        prefetch_step(&keys);
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            value[v] = load_value(t, a, row, j, c + 16 * v);
#pragma GCC unroll 8
        for (int k = 0; k < queries; k++) {
            f32x16 weight = f32x16_set1(a->score[i + k][j]);
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++)
                sum[k][v] = f32x16_fma(value[v], weight, sum[k][v]);
        }
    }
#pragma GCC unroll 8
    for (int k = 0; k < queries; k++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            f32x16_store(out + k * a->out_stride + 16 * v, sum[k][v]);
}

/* The same for all whole vectors of columns. */
ALWAYS_INLINE void few_values_of_run(dtype t, int queries, attention *a, int64_t i, int64_t from, int64_t to)
{
    for (int64_t c = 0, vectors; c + 16 <= a->value_dim; c += 16 * vectors) {
        if (t == DTYPE_Q8_0 && c % 32 == 0)
            load_value_scales(a, from, to, c);
        vectors = c + 16 * few_vectors(queries) <= a->value_dim ? few_vectors(queries) : 1;
        if (vectors == few_vectors(queries))
            few_values(t, queries, few_vectors(queries), a, i, from, to, c);
        else
            few_values(t, queries, 1, a, i, from, to, c);
    }
}

/* How many of `left` queries go together. */
ALWAYS_INLINE int few_count(int64_t left)
{
    return left >= 8 && FEW_QUERIES >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

static_assert(FEW_QUERIES == 8 || FEW_QUERIES == 4, "few_count's numbers");

/* score[i][j] = q_i . key_j for what is used of the block, and for others of the tiles that these lie in. */
ALWAYS_INLINE void few_scores_inline(kv_type type, attention *a)
{
    for (int64_t i = 0, now; i < a->m; i += now) {
        now = few_count(a->m - i);
        if (now == FEW_QUERIES)
            few_scores_of_block(type, FEW_QUERIES, a, i);
        else if (now == 4)
            few_scores_of_block(type, 4, a, i);
        else if (now == 2)
            few_scores_of_block(type, 2, a, i);
        else
            few_scores_of_block(type, 1, a, i);
    }
}

/* out_i += sum_j weight_j * value_j for all whole vectors of columns. */
ALWAYS_INLINE void few_values_inline(dtype t, attention *a)
{
    for (const query_run *r = a->run; r < a->run + a->runs; r++)
        for (int64_t i = r->first, end = i + r->count, now; i < end; i += now) {
            now = few_count(end - i);
            if (now == FEW_QUERIES)
                few_values_of_run(t, FEW_QUERIES, a, i, r->from, r->to);
            else if (now == 4)
                few_values_of_run(t, 4, a, i, r->from, r->to);
            else if (now == 2)
                few_values_of_run(t, 2, a, i, r->from, r->to);
            else
                few_values_of_run(t, 1, a, i, r->from, r->to);
        }
}

/* A function of its own for each type of cache: within a larger one the compiler runs out of registers for the queries'
 * addresses and spills them in the innermost loop. */
#define FEW_FUNCTIONS(KV, TYPE)                        \
    static NOINLINE void few_scores_##KV(attention *a) \
    {                                                  \
        few_scores_inline(KV, a);                      \
    }                                                  \
    static NOINLINE void few_values_##KV(attention *a) \
    {                                                  \
        few_values_inline(TYPE, a);                    \
    }
FEW_FUNCTIONS(KV_F16, DTYPE_F16)
FEW_FUNCTIONS(KV_Q8_0, DTYPE_Q8_0)
FEW_FUNCTIONS(KV_F32, DTYPE_F32)

ALWAYS_INLINE void few_scores_of_all(kv_type type, attention *a)
{
    if (type == KV_F16)
        few_scores_KV_F16(a);
    else if (type == KV_Q8_0)
        few_scores_KV_Q8_0(a);
    else
        few_scores_KV_F32(a);
}

ALWAYS_INLINE void few_values_of_all(kv_type type, attention *a)
{
    if (type == KV_F16)
        few_values_KV_F16(a);
    else if (type == KV_Q8_0)
        few_values_KV_Q8_0(a);
    else
        few_values_KV_F32(a);
}

#endif
