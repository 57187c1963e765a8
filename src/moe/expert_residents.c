#include "moe/expert_residents.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* The arrays of a layer that small tensors go to. A bias of GATE_UP goes to two of them. Scales and factors of weights
 * have one for each matrix. */
enum {
    TO_GATE,
    TO_UP,
    TO_DOWN,
    TO_SCALE,
    TO_SCALES,
    TO_FACTOR = TO_SCALES + EXPERT_MATRIX_COUNT,
    TO_COUNT = TO_FACTOR + EXPERT_MATRIX_COUNT
};

static unsigned targets_of(const expert_small *s)
{
    if (s->part == PART_SCALE)
        return 1u << TO_SCALE;
    if (s->part == PART_SCALES)
        return 1u << (TO_SCALES + s->matrix);
    if (s->part == PART_FACTOR)
        return 1u << (TO_FACTOR + s->matrix);
    if (s->matrix == ODMOE_GATE_UP)
        return 1u << TO_GATE | 1u << TO_UP;
    return 1u << (s->matrix == ODMOE_GATE ? TO_GATE : s->matrix == ODMOE_UP ? TO_UP : TO_DOWN);
}

/* A layer's experts have matrices of one kind. */
static int64_t scales_of_matrix(const expert_table *t, int layer, int role)
{
    int n;
    const expert_extent *extents = expert_index_extents(t->index, layer, 0, &n);
    for (int i = 0; i < n; i++) {
        const expert_tensor *p = &t->tensor[extents[i].tag];
        if (p->matrix == role)
            return (int64_t)scale_count(p->grid, (uint64_t)p->rows, (uint64_t)p->cols);
    }
    return 0;
}

static int64_t numbers_of(const expert_table *t, const experts_shape *shape, int layer, int to) /* an expert's */
{
    if (to >= TO_SCALES)
        return to >= TO_FACTOR ? 1 : scales_of_matrix(t, layer, to - TO_SCALES);
    return to == TO_SCALE ? 1 : to == TO_DOWN ? shape->hidden : shape->ffn;
}

/* ---- check ---- */

static odmoe_status check_one(const expert_table *t, const expert_small *s, const experts_shape *shape,
                              odmoe_error *err)
{
    int64_t length = s->part == PART_SCALE        ? 1
                     : s->part == PART_FACTOR     ? 1
                     : s->part == PART_SCALES     ? scales_of_matrix(t, s->layer, s->matrix)
                     : s->matrix == ODMOE_GATE_UP ? 2 * shape->ffn
                     : s->matrix == ODMOE_DOWN    ? shape->hidden
                                                  : shape->ffn;
    if (s->length != length)
        return err_set(err, ODMOE_ERR_FORMAT, "tensor %s has %lld numbers an expert, expected %lld", s->tensor.name,
                       (long long)s->length, (long long)length);
    if (s->part == PART_BIAS && s->matrix != ODMOE_DOWN && s->matrix != ODMOE_UP && !glu_has_gate(&shape->glu))
        return err_set(err, ODMOE_ERR_FORMAT, "tensor %s: a bias of a gate, but these experts have no gate",
                       s->tensor.name);
    return ODMOE_OK;
}

odmoe_status expert_residents_check(const expert_table *t, const experts_shape *shape, odmoe_error *err)
{
    int64_t layers = expert_index_layers(t->index), experts = expert_index_experts(t->index);
    if (!t->n_small)
        return ODMOE_OK;
    /* how many experts of a layer have an array; each counted once for each tensor */
    int64_t *have = mem_calloc((size_t)layers * TO_COUNT, sizeof *have, "biases of experts", err);
    odmoe_status status = have ? ODMOE_OK : ODMOE_ERR_MEMORY;
    for (size_t i = 0; i < t->n_small && !status; i++) {
        const expert_small *s = &t->small[i];
        status = check_one(t, s, shape, err);
        for (int to = 0; to < TO_COUNT; to++)
            have[s->layer * TO_COUNT + to] += targets_of(s) >> to & 1 ? s->expert < 0 ? experts : 1 : 0;
    }
    for (int64_t i = 0; i < layers * TO_COUNT && !status; i++)
        if (have[i] && have[i] != experts)
            status = err_set(err, ODMOE_ERR_FORMAT,
                             "MoE layer %d: %lld biases or scales of one kind for %lld experts; each expert needs one",
                             (int)(i / TO_COUNT), (long long)have[i], (long long)experts);
    free(have);
    return status;
}

/* ---- load ---- */

/* Which arrays a layer has. */
static unsigned targets_of_layer(const expert_table *t, int layer)
{
    unsigned all = 0;
    for (size_t i = 0; i < t->n_small; i++)
        if (t->small[i].layer == layer)
            all |= targets_of(&t->small[i]);
    return all;
}

static void set_weight_scales(expert_scales *out, float *const at[TO_COUNT], const expert_table *t, int layer)
{
    for (int m = 0; m < EXPERT_MATRIX_COUNT; m++) {
        out->scales[m] = at[TO_SCALES + m];
        out->factor[m] = at[TO_FACTOR + m];
        out->length[m] = scales_of_matrix(t, layer, m);
    }
}

static void layout(arena *a, const expert_table *t, const experts_shape *shape, expert_residents *out)
{
    int layers = expert_index_layers(t->index);
    size_t experts = (size_t)expert_index_experts(t->index);
    unsigned any = 0;
    for (size_t i = 0; i < t->n_small; i++)
        any |= targets_of(&t->small[i]);
    bool biases = any & ((1u << TO_SCALE) - 1), scales = any & 1u << TO_SCALE, of_weights = any >> TO_SCALES;
    out->biases = biases ? arena_take(a, (size_t)layers, sizeof *out->biases) : NULL;
    out->scales = scales ? arena_take(a, (size_t)layers, sizeof *out->scales) : NULL;
    out->weight_scales = of_weights ? arena_take(a, (size_t)layers, sizeof *out->weight_scales) : NULL;
    for (int l = 0; l < layers && any; l++) {
        unsigned targets = targets_of_layer(t, l);
        float *at[TO_COUNT];
        for (int to = 0; to < TO_COUNT; to++)
            at[to] =
                targets >> to & 1 ? arena_take(a, experts * (size_t)numbers_of(t, shape, l, to), sizeof(float)) : NULL;
        if (out->biases && a->base)
            out->biases[l] = (expert_biases){.gate = at[TO_GATE], .up = at[TO_UP], .down = at[TO_DOWN]};
        if (out->scales && a->base)
            out->scales[l] = at[TO_SCALE];
        if (out->weight_scales && a->base)
            set_weight_scales(&out->weight_scales[l], at, t, l);
    }
}

size_t expert_residents_bytes(const expert_table *t, const experts_shape *shape)
{
    arena a = {0};
    expert_residents ignored;
    layout(&a, t, shape, &ignored);
    return a.used;
}

static float *array_of(const expert_residents *r, int layer, int to)
{
    if (to == TO_SCALE)
        return (float *)r->scales[layer];
    if (to >= TO_SCALES)
        return (float *)(to >= TO_FACTOR ? r->weight_scales[layer].factor[to - TO_FACTOR]
                                         : r->weight_scales[layer].scales[to - TO_SCALES]);
    const expert_biases *b = &r->biases[layer];
    return (float *)(to == TO_GATE ? b->gate : to == TO_UP ? b->up : b->down);
}

/* One expert's numbers to their array, or arrays. */
static void put(const expert_residents *r, const expert_small *s, const experts_shape *shape, int expert,
                const float *from)
{
    if (s->part == PART_BIAS && s->matrix == ODMOE_GATE_UP) {
        float *gate = array_of(r, s->layer, TO_GATE) + expert * shape->ffn;
        float *up = array_of(r, s->layer, TO_UP) + expert * shape->ffn;
        for (int64_t i = 0; i < shape->ffn; i++) {
            gate[i] = from[s->interleaved ? 2 * i : i];
            up[i] = from[s->interleaved ? 2 * i + 1 : shape->ffn + i];
        }
        return;
    }
    int to = __builtin_ctz(targets_of(s));
    memcpy(array_of(r, s->layer, to) + expert * s->length, from, (size_t)s->length * sizeof *from);
}

static odmoe_status load_one(const expert_residents *r, const expert_small *s, const tensor_index *tensors,
                             const experts_shape *shape, odmoe_error *err)
{
    int first = s->expert < 0 ? 0 : s->expert, experts = s->expert < 0 ? shape->experts : 1;
    int64_t count = (int64_t)experts * s->length;
    size_t raw_bytes = (size_t)dtype_bytes(s->tensor.type, (uint64_t)count);
    char *raw = mem_calloc(1, raw_bytes + (size_t)count * sizeof(float) + 8, "biases of experts", err);
    if (!raw)
        return ODMOE_ERR_MEMORY;
    float *numbers = (float *)(raw + ((raw_bytes + 7) & ~(size_t)7));
    odmoe_status status = tensor_read(tensors, &s->tensor, raw, err);
    if (!status)
        compute_floats(s->tensor.type, raw, numbers, count);
    for (int64_t i = 0; s->inverse && i < count; i++)
        numbers[i] = 1 / numbers[i];
    for (int e = 0; e < experts && !status; e++)
        put(r, s, shape, first + e, numbers + e * s->length);
    free(raw);
    return status;
}

odmoe_status expert_residents_load(const expert_table *t, const tensor_index *tensors, const experts_shape *shape,
                                   expert_residents *out, odmoe_error *err)
{
    *out = (expert_residents){0};
    size_t bytes = expert_residents_bytes(t, shape);
    if (!bytes)
        return ODMOE_OK;
    void *memory = mem_pages_alloc(bytes, "biases of experts", err);
    if (!memory)
        return ODMOE_ERR_MEMORY;
    arena a = {.base = memory};
    layout(&a, t, shape, out);
    out->memory = memory;
    out->bytes = bytes;
    odmoe_status status = ODMOE_OK;
    for (size_t i = 0; i < t->n_small && !status; i++)
        status = load_one(out, &t->small[i], tensors, shape, err);
    if (status)
        expert_residents_free(out);
    return status;
}

void expert_residents_free(expert_residents *r)
{
    mem_pages_free(r->memory, r->bytes);
    *r = (expert_residents){0};
}
