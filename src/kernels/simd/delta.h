/* delta.h - the gated delta rule in chunks (kernels.h). A chunk has as many tokens as a vector has lanes: a vector holds
 * sixteen columns of one row of S or u, or the products of all the chunk's keys with one key or query. The sums over many
 * numbers (keys and queries with keys, with S; the next chunk's S) are tiles of one kind of product, panel_rows. */
#ifndef ODMOE_KERNELS_SIMD_DELTA_H
#define ODMOE_KERNELS_SIMD_DELTA_H

#include <assert.h>

#include "kernels/simd/recurrent.h"

static_assert(DELTA_CHUNK == 16, "a chunk is a vector");
enum { U_PANEL = DELTA_CHUNK * 16 };

/* y[r] = factor * from[r] (NULL: 0) + sum over i < depth of x[r][i] * p[i], i ascending: x [n, x_stride]; p, from and y
 * are panels of sixteen columns, `vectors` of them p_step and y_step numbers apart. */
typedef struct panel_product {
    int64_t depth;
    const float *x, *p, *from;
    int64_t x_stride, p_step, y_step;
    float factor;
    float *y;
} panel_product;

/* Rows [r, r + rows); rows and vectors are constants. */
ALWAYS_INLINE void panel_tile(const panel_product *a, int rows, int vectors, int64_t r)
{
    f32x16 sum[TILE_TOKENS][TILE_VECTORS];
    const float *x = a->x + r * a->x_stride, *p = a->p, *from = a->from + 16 * r;
    float *y = a->y + 16 * r;
#pragma GCC unroll 16
    for (int t = 0; t < rows; t++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            sum[t][v] = a->from ? f32x16_mul(f32x16_set1(a->factor), f32x16_load(from + v * a->y_step + 16 * t))
                                : f32x16_zero();
    for (int64_t i = 0; i < a->depth; i++, p += 16) {
        f32x16 w[TILE_VECTORS];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            w[v] = f32x16_load(p + v * a->p_step);
#pragma GCC unroll 16
        for (int t = 0; t < rows; t++) {
            f32x16 number = f32x16_set1(x[t * a->x_stride + i]);
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++)
                sum[t][v] = f32x16_fma(w[v], number, sum[t][v]);
        }
    }
#pragma GCC unroll 16
    for (int t = 0; t < rows; t++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            f32x16_store(y + v * a->y_step + 16 * t, sum[t][v]);
}

ALWAYS_INLINE void panel_tiles(const panel_product *a, int vectors, int64_t n)
{
    int64_t r = 0;
    for (; r + TILE_TOKENS <= n; r += TILE_TOKENS)
        panel_tile(a, TILE_TOKENS, vectors, r);
    for (; r + 4 <= n; r += 4)
        panel_tile(a, 4, vectors, r);
    for (; r + 2 <= n; r += 2)
        panel_tile(a, 2, vectors, r);
    if (r < n)
        panel_tile(a, 1, vectors, r);
}

static NOINLINE void panel_rows(panel_product a, int vectors, int64_t n)
{
    if (vectors == TILE_VECTORS)
        panel_tiles(&a, TILE_VECTORS, n);
    else
        panel_tiles(&a, 1, n);
}

/* ---- what a head's columns share ---- */

/* Products of decays, as the chunk's tokens go by. */
typedef struct decay_products {
    float between[DELTA_CHUNK]; /* d_st */
    float all;                  /* e_t */
} decay_products;

ALWAYS_INLINE void next_decay(decay_products *d, int t, float decay)
{
    f32x16_store(d->between, f32x16_mul(f32x16_load(d->between), f32x16_set1(decay)));
    d->between[t] = 1;
    d->all *= decay;
}

typedef struct delta_factors {
    const float *keys;                  /* [key_dim][DELTA_CHUNK] of the chunk */
    const float *pairs;                 /* [n][2][key_dim] keys and queries by turns */
    float products[DELTA_CHUNK][2][16]; /* lane s: k_s . k_t and k_s . q_t, times d_st */
    float all[DELTA_CHUNK];             /* e_t */
    decay_products last;                /* of the call's last token */
} delta_factors;

/* The chunk's keys, turned, the call's included. */
static void turn_keys(const delta_args *a, float *keys)
{
    int64_t i = 0;
    if (a->rows)
        memcpy(keys, a->keys, (size_t)a->key_dim * DELTA_CHUNK * sizeof *keys);
    if (a->n == DELTA_CHUNK)
        for (; i + 16 <= a->key_dim; i += 16)
            f32x16_interleave(DTYPE_F32, (const uint8_t *)(a->k + i), a->k_stride * (int64_t)sizeof(float),
                              keys + i * DELTA_CHUNK, DELTA_CHUNK);
    for (; i < a->key_dim; i++)
        for (int t = 0; t < a->n; t++)
            keys[i * DELTA_CHUNK + a->rows + t] = a->k[t * a->k_stride + i];
}

static void find_factors(const delta_args *a, delta_factors *f)
{
    float *keys = a->scratch, *pairs = keys + a->key_dim * DELTA_CHUNK;
    decay_products *d = &f->last;
    for (int t = 0; t < a->n; t++) { /* side by side: rows a power of 2 apart share few places of the first cache */
        memcpy(pairs + 2 * t * a->key_dim, a->k + t * a->k_stride, (size_t)a->key_dim * sizeof *pairs);
        memcpy(pairs + (2 * t + 1) * a->key_dim, a->q + t * a->q_stride, (size_t)a->key_dim * sizeof *pairs);
    }
    turn_keys(a, keys);
    f->keys = keys;
    f->pairs = pairs;
    panel_rows(
        (panel_product){.depth = a->key_dim, .x = pairs, .x_stride = a->key_dim, .p = keys, .y = &f->products[0][0][0]},
        1, 2 * a->n);
    *d = (decay_products){.all = 1};
    for (int s = 0; s < a->rows; s++)
        next_decay(d, s, a->decays[s * a->decays_stride]);
    for (int t = 0; t < a->n; t++) {
        next_decay(d, a->rows + t, a->decay[t * a->decay_stride]);
        for (int i = 0; i < 2; i++)
            f32x16_store(f->products[t][i], f32x16_mul(f32x16_load(d->between), f32x16_load(f->products[t][i])));
        f->all[t] = d->all;
    }
}

/* ---- columns ---- */

/* Rows of u, and outputs, of `vectors` panels from column c on, or, vectors being 1, of `width` columns of one.
 * products: S^T k and S^T q of each token by turns, panels of 2 * DELTA_CHUNK rows. */
ALWAYS_INLINE void solve(const delta_args *a, const delta_factors *f, int vectors, int64_t c, int64_t width,
                         const float *products)
{
    float *u = a->u + c * DELTA_CHUNK;
    for (int t = 0; t < a->n; t++, products += 2 * 16) {
        f32x16 sum[TILE_VECTORS], out[TILE_VECTORS], all = f32x16_set1(f->all[t]);
        const float *with_key = f->products[t][0], *with_query = f->products[t][1];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) {
            sum[v] = f32x16_mul(all, f32x16_load(products + v * 2 * U_PANEL));
            out[v] = f32x16_mul(all, f32x16_load(products + v * 2 * U_PANEL + 16));
        }
        for (int s = 0; s < a->rows + t; s++)
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) {
                f32x16 row = f32x16_load(u + v * U_PANEL + 16 * s);
                sum[v] = f32x16_fma(f32x16_set1(with_key[s]), row, sum[v]);
                out[v] = f32x16_fma(f32x16_set1(with_query[s]), row, out[v]);
            }
        f32x16 beta = f32x16_set1(a->beta[t * a->beta_stride]), own = f32x16_set1(with_query[a->rows + t]);
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) {
            f32x16 value = load_columns(a->v + t * a->v_stride + c + 16 * v, width);
            f32x16 row = f32x16_mul(beta, f32x16_sub(value, sum[v]));
            f32x16_store(u + v * U_PANEL + 16 * (a->rows + t), row);
            store_columns(a->out + t * a->out_stride + c + 16 * v, f32x16_fma(own, row, out[v]), width);
        }
    }
}

static void next_state(const delta_args *a, const delta_factors *f, int vectors, int64_t c)
{
    float rows[TILE_VECTORS][DELTA_CHUNK][16]; /* u, decayed up to the chunk's end */
    for (int v = 0; v < vectors; v++)
        for (int s = 0; s < DELTA_CHUNK; s++) {
            f32x16 row = f32x16_load(a->u + c * DELTA_CHUNK + v * U_PANEL + 16 * s);
            f32x16_store(rows[v][s], f32x16_mul(f32x16_set1(f->last.between[s]), row));
        }
    panel_rows((panel_product){.depth = DELTA_CHUNK,
                               .x = f->keys,
                               .x_stride = DELTA_CHUNK,
                               .p = &rows[0][0][0],
                               .p_step = U_PANEL,
                               .from = a->state + c * a->key_dim,
                               .factor = f->last.all,
                               .y = a->next + c * a->key_dim,
                               .y_step = a->key_dim * 16},
               vectors, a->key_dim);
}

ALWAYS_INLINE void delta_columns(const delta_args *a, const delta_factors *f, int vectors, int64_t c, int64_t width)
{
    float products[TILE_VECTORS][2 * DELTA_CHUNK][16];
    panel_rows((panel_product){.depth = a->key_dim,
                               .x = f->pairs,
                               .x_stride = a->key_dim,
                               .p = a->state + c * a->key_dim,
                               .p_step = a->key_dim * 16,
                               .y = &products[0][0][0],
                               .y_step = 2 * U_PANEL},
               vectors, 2 * a->n);
    solve(a, f, vectors, c, width, &products[0][0][0]);
    if (a->rows + a->n == DELTA_CHUNK)
        next_state(a, f, vectors, c);
}

static void delta(const delta_args *args)
{
    const delta_args own = *args, *a = &own;
    delta_factors f;
    int64_t c = 0;
    find_factors(a, &f);
    for (; c + 16 * TILE_VECTORS <= a->value_dim; c += 16 * TILE_VECTORS)
        delta_columns(a, &f, TILE_VECTORS, c, 16);
    for (; c < a->value_dim; c += 16)
        delta_columns(a, &f, 1, c, a->value_dim - c < 16 ? a->value_dim - c : 16);
}

#endif
