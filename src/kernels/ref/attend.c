/* attend.c - plain C: the cache of keys and values, and attention over it in float32. */
#include <math.h>

#include "kernels/ref/ref.h"
#include "kernels/tables.h"

enum { PIECE = 32 }; /* elements converted at a time; a Q8_0 block */

void ref_kv_store(kv_type type, const float *x, void *out, int64_t head_dim)
{
    uint16_t *half = out;
    switch (type) {
    case KV_F16:
        for (int64_t i = 0; i < head_dim; i++)
            half[i] = dtype_f32_to_f16(x[i]);
        break;
    case KV_Q8_0:
        ref_q8_0_store(x, out, head_dim);
        break;
    default:
        memcpy(out, x, (size_t)head_dim * sizeof *x);
    }
}

static const size_t number_bytes[KV_COUNT] = {[KV_F32] = 4, [KV_F16] = 2, [KV_Q8_0] = 1};

/* Where a position's numbers lie among the keys; see kernels.h. */
static char *key_block(kv_type type, const void *keys, int64_t position, int64_t head_dim)
{
    return (char *)keys + (size_t)(position / KEYS_ABREAST * KEYS_ABREAST) * kv_bytes(type, head_dim);
}
static size_t key_scale_at(int64_t position, int64_t element)
{
    return (size_t)(element / 32 * KEYS_ABREAST + position % KEYS_ABREAST) * sizeof(uint16_t);
}
static size_t key_number_at(kv_type type, int64_t position, int64_t element, int64_t head_dim)
{
    size_t scales = type == KV_Q8_0 ? (size_t)(head_dim / 32 * KEYS_ABREAST) * sizeof(uint16_t) : 0;
    return scales + (size_t)(element * KEYS_ABREAST + position % KEYS_ABREAST) * number_bytes[type];
}

void ref_key_place(kv_type type, const void *stored, void *keys, int64_t position, int64_t start, int64_t n,
                   int64_t head_dim)
{
    char *block = key_block(type, keys, position, head_dim);
    const char *from = stored;
    size_t bytes = number_bytes[type];
    if (type == KV_Q8_0) {
        memcpy(block + key_scale_at(position, start), from, sizeof(uint16_t));
        from += sizeof(uint16_t);
    }
    for (int64_t i = 0; i < n; i++)
        memcpy(block + key_number_at(type, position, start + i, head_dim), from + (size_t)i * bytes, bytes);
}

void ref_key_store(kv_type type, const float *x, void *keys, int64_t position, int64_t head_dim)
{
    char stored[PIECE * sizeof(float)];
    for (int64_t c = 0; c < head_dim; c += PIECE) {
        int64_t n = head_dim - c < PIECE ? head_dim - c : PIECE;
        ref_kv_store(type, x + c, stored, n);
        ref_key_place(type, stored, keys, position, c, n, head_dim);
    }
}

static const dtype as_weights[KV_COUNT] = {[KV_F32] = DTYPE_F32, [KV_F16] = DTYPE_F16, [KV_Q8_0] = DTYPE_Q8_0};

/* Elements [start, start + n) of a stored value as floats; start is a multiple of PIECE, n at most PIECE. */
static void load_piece(kv_type type, const void *row, int64_t start, int64_t n, float *out)
{
    dtype t = as_weights[type];
    kernel_table_ref.ops[t].dequantise((const char *)row + dtype_bytes(t, (uint64_t)start), out, n);
}

/* The same of a key. */
static void load_key_piece(kv_type type, const void *keys, int64_t position, int64_t start, int64_t n, int64_t head_dim,
                           float *out)
{
    const char *block = key_block(type, keys, position, head_dim);
    char stored[PIECE * sizeof(float)];
    size_t at = 0, bytes = number_bytes[type];
    if (type == KV_Q8_0) {
        memcpy(stored, block + key_scale_at(position, start), sizeof(uint16_t));
        at = sizeof(uint16_t);
    }
    for (int64_t i = 0; i < n; i++, at += bytes)
        memcpy(stored + at, block + key_number_at(type, position, start + i, head_dim), bytes);
    kernel_table_ref.ops[as_weights[type]].dequantise(stored, out, n);
}

static float key_product(kv_type type, const float *q, const void *keys, int64_t position, int64_t head_dim)
{
    float piece[PIECE], sum = 0;
    for (int64_t c = 0; c < head_dim; c += PIECE) {
        int64_t n = head_dim - c < PIECE ? head_dim - c : PIECE;
        load_key_piece(type, keys, position, c, n, head_dim, piece);
        for (int64_t i = 0; i < n; i++)
            sum += q[c + i] * piece[i];
    }
    return sum;
}

static void add_value(kv_type type, float weight, const void *value, int64_t head_dim, float *out)
{
    float piece[PIECE];
    for (int64_t c = 0; c < head_dim; c += PIECE) {
        int64_t n = head_dim - c < PIECE ? head_dim - c : PIECE;
        load_piece(type, value, c, n, piece);
        for (int64_t i = 0; i < n; i++)
            out[c + i] += weight * piece[i];
    }
}

void ref_attend(kv_type type, const float *q, const void *keys, const void *values, int64_t stride, int64_t first,
                int64_t last, int64_t head_dim, float scale, float *out)
{
    float max = -INFINITY, total = 0;
    memset(out, 0, (size_t)head_dim * sizeof *out);
    for (int64_t p = first; p < last;) { /* one absolute block of positions: [p, end) */
        float score[ATTEND_BLOCK], block_max = max;
        int64_t end = (p / ATTEND_BLOCK + 1) * ATTEND_BLOCK, n = (end < last ? end : last) - p;
        for (int64_t i = 0; i < n; i++) {
            score[i] = key_product(type, q, keys, p + i, head_dim) * scale;
            block_max = fmaxf(block_max, score[i]);
        }
        float keep = expf(max - block_max); /* 0 for the first block */
        max = block_max;
        total *= keep;
        for (int64_t i = 0; i < head_dim; i++)
            out[i] *= keep;
        for (int64_t i = 0; i < n; i++) {
            float weight = expf(score[i] - max);
            total += weight;
            add_value(type, weight, (const char *)values + (p + i) * stride, head_dim, out);
        }
        p += n;
    }
    for (int64_t i = 0; i < head_dim; i++)
        out[i] /= total;
}

void ref_attend_many(kv_type type, const float *q, int64_t q_stride, int64_t m, const void *keys, const void *values,
                     int64_t stride, const int64_t *first, const int64_t *last, int64_t head_dim, float scale,
                     float *out, int64_t out_stride)
{
    for (int64_t i = 0; i < m; i++)
        ref_attend(type, q + i * q_stride, keys, values, stride, first[i], last[i], head_dim, scale,
                   out + i * out_stride);
}
