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

/* Where the numbers of a place lie in a page of keys; see kernels.h. */
static char *key_group(kv_type type, const void *page, int64_t place, int64_t head_dim)
{
    return (char *)page + (size_t)(place / KEY_INTERLEAVE * KEY_INTERLEAVE) * kv_bytes(type, head_dim);
}
static size_t key_scale_at(int64_t place, int64_t element)
{
    return (size_t)(element / 32 * KEY_INTERLEAVE + place % KEY_INTERLEAVE) * sizeof(uint16_t);
}
static size_t key_number_at(kv_type type, int64_t place, int64_t element, int64_t head_dim)
{
    size_t scales = type == KV_Q8_0 ? (size_t)(head_dim / 32 * KEY_INTERLEAVE) * sizeof(uint16_t) : 0;
    return scales + (size_t)(element * KEY_INTERLEAVE + place % KEY_INTERLEAVE) * number_bytes[type];
}

void ref_key_place(kv_type type, const void *stored, void *page, int64_t place, int64_t start, int64_t n,
                   int64_t head_dim)
{
    char *group = key_group(type, page, place, head_dim);
    const char *from = stored;
    size_t bytes = number_bytes[type];
    if (type == KV_Q8_0) {
        memcpy(group + key_scale_at(place, start), from, sizeof(uint16_t));
        from += sizeof(uint16_t);
    }
    for (int64_t i = 0; i < n; i++)
        memcpy(group + key_number_at(type, place, start + i, head_dim), from + (size_t)i * bytes, bytes);
}

void ref_key_store(kv_type type, const float *x, void *page, int64_t place, int64_t head_dim)
{
    char stored[PIECE * sizeof(float)];
    for (int64_t c = 0; c < head_dim; c += PIECE) {
        int64_t n = head_dim - c < PIECE ? head_dim - c : PIECE;
        ref_kv_store(type, x + c, stored, n);
        ref_key_place(type, stored, page, place, c, n, head_dim);
    }
}

void kernel_key_copy(kv_type type, const void *from, int64_t from_place, void *to, int64_t to_place, int64_t head_dim)
{
    const char *a = key_group(type, from, from_place, head_dim);
    char *b = key_group(type, to, to_place, head_dim);
    for (int64_t i = 0; type == KV_Q8_0 && i < head_dim; i += 32)
        memcpy(b + key_scale_at(to_place, i), a + key_scale_at(from_place, i), sizeof(uint16_t));
    size_t bytes = number_bytes[type], step = KEY_INTERLEAVE * bytes;
    a += key_number_at(type, from_place, 0, head_dim);
    b += key_number_at(type, to_place, 0, head_dim);
    for (int64_t i = 0; i < head_dim; i++, a += step, b += step)
        memcpy(b, a, bytes);
}

static const dtype as_weights[KV_COUNT] = {[KV_F32] = DTYPE_F32, [KV_F16] = DTYPE_F16, [KV_Q8_0] = DTYPE_Q8_0};

/* Elements [start, start + n) of a stored value as floats; start is a multiple of PIECE, n at most PIECE. */
static void load_piece(kv_type type, const void *row, int64_t start, int64_t n, float *out)
{
    dtype t = as_weights[type];
    kernel_table_ref.ops[t].dequantise((const char *)row + dtype_bytes(t, (uint64_t)start), out, n);
}

/* The same of a key. */
static void load_key_piece(kv_type type, const void *page, int64_t place, int64_t start, int64_t n, int64_t head_dim,
                           float *out)
{
    const char *group = key_group(type, page, place, head_dim);
    char stored[PIECE * sizeof(float)];
    size_t at = 0, bytes = number_bytes[type];
    if (type == KV_Q8_0) {
        memcpy(stored, group + key_scale_at(place, start), sizeof(uint16_t));
        at = sizeof(uint16_t);
    }
    for (int64_t i = 0; i < n; i++, at += bytes)
        memcpy(stored + at, group + key_number_at(type, place, start + i, head_dim), bytes);
    kernel_table_ref.ops[as_weights[type]].dequantise(stored, out, n);
}

static float key_product(const attend_args *a, const float *q, int64_t position)
{
    const char *page = (const char *)a->key_pages[position / ATTEND_BLOCK] + a->key_offset;
    float piece[PIECE], sum = 0;
    for (int64_t c = 0; c < a->key_dim; c += PIECE) {
        int64_t n = a->key_dim - c < PIECE ? a->key_dim - c : PIECE;
        load_key_piece(a->type, page, position % ATTEND_BLOCK, c, n, a->key_dim, piece);
        for (int64_t i = 0; i < n; i++)
            sum += q[c + i] * piece[i];
    }
    return sum;
}

static void add_value(const attend_args *a, float weight, int64_t position, float *out)
{
    int64_t page = position / ATTEND_BLOCK, place = position % ATTEND_BLOCK;
    float piece[PIECE];
    for (int64_t c = 0; c < a->value_dim; c += PIECE) {
        int64_t n = a->value_dim - c < PIECE ? a->value_dim - c : PIECE;
        if (a->value_pages)
            load_piece(a->type, (const char *)a->value_pages[page] + a->value_offset + place * a->value_stride, c, n,
                       piece);
        else
            load_key_piece(a->type, (const char *)a->key_pages[page] + a->key_offset, place, c, n, a->key_dim, piece);
        for (int64_t i = 0; i < n; i++)
            out[c + i] += weight * piece[i];
    }
}

static float scaled_score(const attend_args *a, float product)
{
    float score = product * a->scale;
    return a->softcap > 0 ? a->softcap * tanhf(score / a->softcap) : score;
}

static void attend_query(const attend_args *a, int64_t query)
{
    const float *q = a->q + query * a->q_stride;
    float *out = a->out + query * a->out_stride, max = a->sinks ? a->sinks[query] : -INFINITY;
    float total = a->sinks ? 1 : 0; /* of weights relative to max; the sink's own first */
    int64_t last = a->last[query];
    memset(out, 0, (size_t)a->value_dim * sizeof *out);
    for (int64_t p = a->first[query]; p < last;) { /* the part [p, end) of one page */
        float score[ATTEND_BLOCK], new_max = max;
        int64_t end = (p / ATTEND_BLOCK + 1) * ATTEND_BLOCK, n = (end < last ? end : last) - p;
        for (int64_t i = 0; i < n; i++) {
            score[i] = scaled_score(a, key_product(a, q, p + i));
            new_max = fmaxf(new_max, score[i]);
        }
        float keep = expf(max - new_max); /* 0 for the first page, where there is no sink */
        max = new_max;
        total *= keep;
        for (int64_t i = 0; i < a->value_dim; i++)
            out[i] *= keep;
        for (int64_t i = 0; i < n; i++) {
            float weight = expf(score[i] - max);
            total += weight;
            add_value(a, weight, p + i, out);
        }
        p += n;
    }
    for (int64_t i = 0; i < a->value_dim; i++)
        out[i] /= total;
}

void ref_attend(const attend_args *args)
{
    for (int64_t i = 0; i < args->n; i++)
        attend_query(args, i);
}
