/* attend_panels.h - attention of many queries (a prompt's): keys and values of a block are converted once, into panels
 * in the first cache, for all queries of a group. */
#ifndef ODMOE_KERNELS_SIMD_ATTEND_PANELS_H
#define ODMOE_KERNELS_SIMD_ATTEND_PANELS_H

#include <assert.h>

#include "kernels/simd/attend_block.h"

static_assert(KEY_INTERLEAVE % PANEL_ROWS == 0, "a panel of keys lies in one group");
static_assert(ATTEND_BLOCK <= ATTEND_DEPTH, "a block's values fit a panel");

/* panel[k][i] = element c + k of the key at position j + i of the block, k < depth; c % 32 == 0. */
ALWAYS_INLINE void panel_from_keys(kv_type type, const attention *a, int64_t j, int64_t c, int64_t depth, float *out)
{
    int64_t place;
    const uint8_t *group = keys_at(a, j, &place), *numbers = key_numbers(type, group, a->key_dim);
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
        for (int64_t c = 0; c < a->key_dim; c += ATTEND_DEPTH) {
            int64_t depth = a->key_dim - c < ATTEND_DEPTH ? a->key_dim - c : ATTEND_DEPTH;
            panel_from_keys(type, a, j, c, depth, a->p);
            panel_multiply(a->p, depth, a->q + c, a->q_stride, a->m, &a->score[0][j], ATTEND_BLOCK, PANEL_ROWS, c == 0);
        }
}

/* panel[j][i] = element c + i of the key at position j of the block, for `width` <= PANEL_ROWS elements and the groups of
 * keys that have positions in use; c % 16 == 0. A group of keys is a matrix [elements][positions], so this is what
 * panel_from_rows does. */
ALWAYS_INLINE void panel_from_key_elements(kv_type type, dtype t, const attention *a, int64_t c, int64_t width,
                                           float *out)
{
    for (int64_t j = a->from / KEY_INTERLEAVE * KEY_INTERLEAVE; j < a->to; j += KEY_INTERLEAVE) {
        int64_t place, line = KEY_INTERLEAVE * element_bytes(t);
        const uint8_t *group = keys_at(a, j, &place), *numbers = key_numbers(type, group, a->key_dim);
        float element[PANEL_ROWS][KEY_INTERLEAVE]; /* Q8_0's, times their scales */
        if (type != KV_Q8_0) {
            panel_from_rows(t, numbers + c * line, line, width, 0, KEY_INTERLEAVE, out + j * PANEL_ROWS);
            continue;
        }
        for (int64_t i = 0; i < width; i++)
            for (int64_t v = 0; v < KEY_INTERLEAVE; v += 16)
                f32x16_store(element[i] + v, key_elements(type, numbers, v, c + i, key_scales(type, group, v, c + i)));
        panel_from_rows(DTYPE_F32, (const uint8_t *)element, sizeof *element, width, 0, KEY_INTERLEAVE,
                        out + j * PANEL_ROWS);
    }
}

/* panel[j][i] = column c + i of the value at position j of the block, for `width` <= PANEL_ROWS columns and the
 * positions in use. */
ALWAYS_INLINE void panel_from_values(kv_type type, dtype t, const attention *a, int64_t c, int64_t width, float *out)
{
    if (a->value_pages)
        panel_from_columns(t, a->values + a->from * a->value_stride, a->value_stride, c, width, a->to - a->from,
                           out + a->from * PANEL_ROWS);
    else
        panel_from_key_elements(type, t, a, c, width, out);
}

/* out_i += sum_j weight_j * value_j for the columns from c on. */
ALWAYS_INLINE void panel_values(kv_type type, dtype t, attention *a, int64_t c)
{
    for (; c < a->value_dim; c += PANEL_ROWS) {
        int64_t width = a->value_dim - c < PANEL_ROWS ? a->value_dim - c : PANEL_ROWS;
        prefetch keys = prefetch_keys(a, c, width);
        for (int64_t j = 0; j < ATTEND_BLOCK; j++)
            prefetch_step(&keys);
        panel_from_values(type, t, a, c, width, a->p);
        for (const query_run *r = a->run; r < a->run + a->runs; r++)
            panel_multiply(a->p + r->from * PANEL_ROWS, r->to - r->from, &a->score[r->first][r->from], ATTEND_BLOCK,
                           r->count, a->out + r->first * a->out_stride + c, a->out_stride, width, false);
    }
}

#endif
