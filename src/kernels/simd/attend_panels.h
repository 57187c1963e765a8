/* attend_panels.h - attention of many queries (a prompt's): keys and values of a block are converted once, into panels
 * in the first cache, for all queries of a group. */
#ifndef ODMOE_KERNELS_SIMD_ATTEND_PANELS_H
#define ODMOE_KERNELS_SIMD_ATTEND_PANELS_H

#include <assert.h>

#include "kernels/simd/attend_block.h"

static_assert(KEYS_ABREAST % PANEL_ROWS == 0, "a panel of keys lies in one group");
static_assert(ATTEND_BLOCK <= PANEL_DEPTH, "a block's values fit a panel");

/* panel[k][i] = element c + k of the key at position j + i of the block, k < depth; c % 32 == 0. */
ALWAYS_INLINE void panel_from_keys(kv_type type, const attention *a, int64_t j, int64_t c, int64_t depth, float *out)
{
    int64_t place;
    const uint8_t *group = keys_at(a, j, &place), *numbers = key_numbers(type, group, a->head_dim);
    prefetch values = prefetch_values(a, j, PANEL_ROWS);
    for (int64_t v = 0; v < PANEL_ROWS; v += 16) {
        f32x16 scale = f32x16_zero();
        for (int64_t k = 0; k < depth; k++) {
            if (k % 32 == 0)
                scale = key_scales(type, group, place + v, c + k);
            if (v == 0)
                prefetch_step(&values);
            f32x16_store(out + k * PANEL_ROWS + v, key_elements(type, numbers, place + v, c + k, scale));
        }
    }
}

/* score[i][j] = q_i . key_j for what is used of the block, and for others of the panels that these lie in. */
ALWAYS_INLINE void panel_scores(kv_type type, attention *a)
{
    for (int64_t j = a->from / PANEL_ROWS * PANEL_ROWS; j < a->to; j += PANEL_ROWS)
        for (int64_t c = 0; c < a->head_dim; c += PANEL_DEPTH) {
            int64_t depth = a->head_dim - c < PANEL_DEPTH ? a->head_dim - c : PANEL_DEPTH;
            panel_from_keys(type, a, j, c, depth, a->p);
            panel_multiply(a->p, depth, a->q + c, a->q_stride, a->m, &a->score[0][j], ATTEND_BLOCK, PANEL_ROWS, c == 0);
        }
}

/* out_i += sum_j weight_j * value_j for the columns from c on. */
ALWAYS_INLINE void panel_values(dtype t, attention *a, int64_t c)
{
    for (; c < a->head_dim; c += PANEL_ROWS) {
        int64_t width = a->head_dim - c < PANEL_ROWS ? a->head_dim - c : PANEL_ROWS;
        prefetch keys = prefetch_keys(a, c, width);
        for (int64_t j = 0; j < ATTEND_BLOCK; j++)
            prefetch_step(&keys);
        panel_from_columns(t, a->values + (a->base + a->from) * a->stride, a->stride, c, width, a->to - a->from, a->p);
        for (const query_run *r = a->run; r < a->run + a->runs; r++)
            panel_multiply(a->p + (r->from - a->from) * PANEL_ROWS, r->to - r->from, &a->score[r->first][r->from],
                           ATTEND_BLOCK, r->count, a->out + r->first * a->out_stride + c, a->out_stride, width, false);
    }
}

#endif
