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

/* Elements [start, start + n) of a stored key or value as floats; start is a multiple of PIECE, n at most PIECE. */
static void load_piece(kv_type type, const void *row, int64_t start, int64_t n, float *out)
{
    static const dtype as_weights[KV_COUNT] = {[KV_F32] = DTYPE_F32, [KV_F16] = DTYPE_F16, [KV_Q8_0] = DTYPE_Q8_0};
    dtype t = as_weights[type];
    kernel_table_ref.ops[t].dequantise((const char *)row + dtype_bytes(t, (uint64_t)start), out, n);
}

static float key_product(kv_type type, const float *q, const void *key, int64_t head_dim)
{
    float piece[PIECE], sum = 0;
    for (int64_t c = 0; c < head_dim; c += PIECE) {
        int64_t n = head_dim - c < PIECE ? head_dim - c : PIECE;
        load_piece(type, key, c, n, piece);
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
            score[i] = key_product(type, q, (const char *)keys + (p + i) * stride, head_dim) * scale;
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
