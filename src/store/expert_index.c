/* expert_index.c - one table a layer: [experts][room] extents, and how many each expert has. */
#include "store/expert_index.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define LAYERS_MAX 4096
#define EXPERTS_MAX 65536
#define ROOM_FIRST 3 /* extents of an expert: what nearly every model has */

typedef struct layer_table {
    expert_extent *extents; /* [experts][room] */
    uint8_t *count;         /* [experts] */
    int room;
} layer_table;

struct expert_index {
    int layers, experts;
    layer_table *layer;
};

expert_index *expert_index_create(int layers, int experts, odmoe_error *err)
{
    if (layers < 1 || layers > LAYERS_MAX || experts < 1 || experts > EXPERTS_MAX) {
        err_set(err, ODMOE_ERR_RANGE, "%d layers of %d experts: 1 to %d layers of 1 to %d experts are possible", layers,
                experts, LAYERS_MAX, EXPERTS_MAX);
        return NULL;
    }
    expert_index *index = mem_calloc(1, sizeof *index, "the expert index", err);
    if (!index)
        return NULL;
    index->layers = layers;
    index->experts = experts;
    index->layer = mem_calloc((size_t)layers, sizeof *index->layer, "the expert index", err);
    if (!index->layer)
        goto failed;
    for (int l = 0; l < layers; l++) {
        index->layer[l].count = mem_calloc((size_t)experts, 1, "the expert index", err);
        if (!index->layer[l].count)
            goto failed;
    }
    return index;
failed:
    expert_index_free(index);
    return NULL;
}

void expert_index_free(expert_index *index)
{
    if (!index)
        return;
    for (int l = 0; index->layer && l < index->layers; l++) {
        free(index->layer[l].extents);
        free(index->layer[l].count);
    }
    free(index->layer);
    free(index);
}

int expert_index_layers(const expert_index *index)
{
    return index->layers;
}

int expert_index_experts(const expert_index *index)
{
    return index->experts;
}

static odmoe_status check_id(const expert_index *index, int layer, int expert, odmoe_error *err)
{
    if (layer < 0 || layer >= index->layers || expert < 0 || expert >= index->experts)
        return err_set(err, ODMOE_ERR_ARG, "layer %d, expert %d: the index has %d layers x %d experts", layer, expert,
                       index->layers, index->experts);
    return ODMOE_OK;
}

/* Room for `need` extents of every expert of a layer; the table is laid out anew when it grows. */
static odmoe_status layer_room(const expert_index *index, layer_table *t, int need, odmoe_error *err)
{
    if (need <= t->room)
        return ODMOE_OK;
    int room = t->room ? 2 * t->room : ROOM_FIRST;
    room = room < need ? need : room < EXPERT_EXTENTS_MAX ? room : EXPERT_EXTENTS_MAX;
    expert_extent *wider = mem_calloc((size_t)index->experts * (size_t)room, sizeof *wider, "the expert index", err);
    if (!wider)
        return ODMOE_ERR_MEMORY;
    for (int e = 0; e < index->experts && t->extents; e++)
        memcpy(wider + (size_t)e * (size_t)room, t->extents + (size_t)e * (size_t)t->room, t->count[e] * sizeof *wider);
    free(t->extents);
    t->extents = wider;
    t->room = room;
    return ODMOE_OK;
}

static odmoe_status check_extent(int layer, int expert, const expert_extent *x, odmoe_error *err)
{
    uint64_t end;
    if (x->file < 0 || !x->length || !mem_add(x->offset, x->length, &end) || end > INT64_MAX)
        return err_set(err, ODMOE_ERR_ARG, "layer %d, expert %d: an extent of %llu bytes at %llu of file %d is invalid",
                       layer, expert, (unsigned long long)x->length, (unsigned long long)x->offset, x->file);
    return ODMOE_OK;
}

odmoe_status expert_index_append(expert_index *index, int layer, int expert, const expert_extent *extent,
                                 odmoe_error *err)
{
    odmoe_status status = check_id(index, layer, expert, err);
    if (!status)
        status = check_extent(layer, expert, extent, err);
    if (status)
        return status;
    layer_table *t = &index->layer[layer];
    if (t->count[expert] >= EXPERT_EXTENTS_MAX)
        return err_set(err, ODMOE_ERR_ARG, "layer %d, expert %d: more than %d extents", layer, expert,
                       EXPERT_EXTENTS_MAX);
    if ((status = layer_room(index, t, t->count[expert] + 1, err)))
        return status;
    t->extents[(size_t)expert * (size_t)t->room + t->count[expert]++] = *extent;
    return ODMOE_OK;
}

odmoe_status expert_index_set(expert_index *index, int layer, int expert, const expert_extent *extents, int n,
                              odmoe_error *err)
{
    odmoe_status status = check_id(index, layer, expert, err);
    if (status)
        return status;
    if (n < 1 || n > EXPERT_EXTENTS_MAX)
        return err_set(err, ODMOE_ERR_ARG, "layer %d, expert %d: has %d extents, expected 1 to %d", layer, expert, n,
                       EXPERT_EXTENTS_MAX);
    for (int i = 0; i < n; i++)
        if ((status = check_extent(layer, expert, &extents[i], err)))
            return status;
    layer_table *t = &index->layer[layer];
    if ((status = layer_room(index, t, n, err)))
        return status;
    memcpy(t->extents + (size_t)expert * (size_t)t->room, extents, (size_t)n * sizeof *extents);
    t->count[expert] = (uint8_t)n;
    return ODMOE_OK;
}

uint64_t expert_index_heap_bytes(const expert_index *index)
{
    uint64_t sum = sizeof *index;
    for (int l = 0; l < index->layers; l++)
        sum += sizeof *index->layer +
               (uint64_t)index->experts * ((uint64_t)index->layer[l].room * sizeof(expert_extent) + 1);
    return sum;
}

odmoe_status expert_index_check(const expert_index *index, odmoe_error *err)
{
    for (int l = 0; l < index->layers; l++) {
        const layer_table *t = &index->layer[l];
        for (int e = 0; e < index->experts; e++) {
            if (!t->count[e])
                return err_set(err, ODMOE_ERR_FORMAT, "layer %d, expert %d: the model has no weights for it", l, e);
            bool same = t->count[e] == t->count[0];
            for (int i = 0; same && i < t->count[e]; i++)
                same = t->extents[(size_t)e * (size_t)t->room + (size_t)i].tag == t->extents[i].tag;
            if (!same)
                return err_set(err, ODMOE_ERR_FORMAT,
                               "layer %d, expert %d: has other tensors than expert 0 of the same layer", l, e);
        }
    }
    return ODMOE_OK;
}

const expert_extent *expert_index_extents(const expert_index *index, int layer, int expert, int *n)
{
    const layer_table *t = &index->layer[layer];
    *n = t->count[expert];
    return t->extents + (size_t)expert * (size_t)t->room;
}

uint64_t expert_index_bytes(const expert_index *index, int layer, int expert)
{
    int n;
    uint64_t sum = 0;
    const expert_extent *extents = expert_index_extents(index, layer, expert, &n);
    for (int i = 0; i < n; i++)
        sum += extents[i].length;
    return sum;
}

uint64_t expert_index_total_bytes(const expert_index *index)
{
    uint64_t sum = 0;
    for (int l = 0; l < index->layers; l++)
        for (int e = 0; e < index->experts; e++)
            sum += expert_index_bytes(index, l, e);
    return sum;
}

uint64_t expert_index_largest_bytes(const expert_index *index)
{
    uint64_t most = 0;
    for (int l = 0; l < index->layers; l++)
        for (int e = 0; e < index->experts; e++) {
            uint64_t bytes = expert_index_bytes(index, l, e);
            most = bytes > most ? bytes : most;
        }
    return most;
}

uint64_t expert_index_smallest_bytes(const expert_index *index)
{
    uint64_t least = UINT64_MAX;
    for (int l = 0; l < index->layers; l++)
        for (int e = 0; e < index->experts; e++) {
            uint64_t bytes = expert_index_bytes(index, l, e);
            least = bytes < least ? bytes : least;
        }
    return least;
}
