/* expert.c - the index of all experts: one table a layer, experts x room, room pieces for each expert. */
#include "store/expert.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define LAYERS_MAX 4096
#define EXPERTS_MAX 65536
#define ROOM_FIRST 3 /* gate, up, down: what nearly every family has */

typedef struct layer_table {
    expert_piece *pieces; /* [experts][room] */
    uint8_t *count;       /* [experts] */
    int room;
} layer_table;

struct expert_index {
    int layers, experts;
    layer_table *layer;
};

expert_index *expert_index_create(int layers, int experts, odmoe_error *err)
{
    if (layers < 1 || layers > LAYERS_MAX || experts < 1 || experts > EXPERTS_MAX) {
        err_set(err, ODMOE_ERR_RANGE, "an expert index of %d layers x %d experts (at most %d x %d)", layers, experts,
                LAYERS_MAX, EXPERTS_MAX);
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
        free(index->layer[l].pieces);
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

/* Room for `need` pieces of every expert of a layer; the table is laid out anew when it grows. */
static odmoe_status layer_room(const expert_index *index, layer_table *t, int need, odmoe_error *err)
{
    if (need <= t->room)
        return ODMOE_OK;
    int room = need <= ROOM_FIRST ? ROOM_FIRST : PIECES_MAX;
    expert_piece *wider = mem_calloc((size_t)index->experts * (size_t)room, sizeof *wider, "the expert index", err);
    if (!wider)
        return ODMOE_ERR_MEMORY;
    for (int e = 0; e < index->experts && t->pieces; e++)
        memcpy(wider + (size_t)e * (size_t)room, t->pieces + (size_t)e * (size_t)t->room, t->count[e] * sizeof *wider);
    free(t->pieces);
    t->pieces = wider;
    t->room = room;
    return ODMOE_OK;
}

static odmoe_status check_piece(int layer, int expert, const expert_piece *p, odmoe_error *err)
{
    uint64_t end, count;
    if (p->role >= PIECE_ROLE_COUNT || p->type >= DTYPE_COUNT || p->file < 0 || p->rows < 1 || p->cols < 1 ||
        !mem_mul((uint64_t)p->rows, (uint64_t)p->cols, &count) || count > INT64_MAX / 8 || !p->length ||
        !mem_add(p->offset, p->length, &end) || end > INT64_MAX)
        return err_set(err, ODMOE_ERR_ARG, "layer %d, expert %d: a piece that cannot be", layer, expert);
    if (count % dtype_info(p->type)->block || p->length != dtype_bytes(p->type, count))
        return err_set(err, ODMOE_ERR_ARG, "layer %d, expert %d: a piece of %lld x %lld %s cannot have %llu bytes",
                       layer, expert, (long long)p->rows, (long long)p->cols, dtype_info(p->type)->name,
                       (unsigned long long)p->length);
    return ODMOE_OK;
}

static odmoe_status append(expert_index *index, int layer, int expert, const expert_piece *piece, odmoe_error *err)
{
    layer_table *t = &index->layer[layer];
    odmoe_status status = check_piece(layer, expert, piece, err);
    if (status)
        return status;
    if (t->count[expert] >= PIECES_MAX)
        return err_set(err, ODMOE_ERR_ARG, "layer %d, expert %d: more than %d pieces", layer, expert, PIECES_MAX);
    status = layer_room(index, t, t->count[expert] + 1, err);
    if (status)
        return status;
    t->pieces[(size_t)expert * (size_t)t->room + t->count[expert]++] = *piece;
    return ODMOE_OK;
}

odmoe_status expert_index_set(expert_index *index, int layer, int expert, const expert_piece *pieces, int n,
                              odmoe_error *err)
{
    odmoe_status status = check_id(index, layer, expert, err);
    if (status)
        return status;
    if (n < 1 || n > PIECES_MAX)
        return err_set(err, ODMOE_ERR_ARG, "layer %d, expert %d: %d pieces (1 to %d)", layer, expert, n, PIECES_MAX);
    for (int i = 0; i < n; i++)
        if ((status = check_piece(layer, expert, &pieces[i], err)))
            return status;
    layer_table *t = &index->layer[layer];
    if ((status = layer_room(index, t, n, err)))
        return status;
    memcpy(t->pieces + (size_t)expert * (size_t)t->room, pieces, (size_t)n * sizeof *pieces);
    t->count[expert] = (uint8_t)n;
    return ODMOE_OK;
}

static odmoe_status shape_error(const tensor_info *t, int layer, const char *wanted, odmoe_error *err)
{
    char shape[96] = "";
    for (int d = 0, at = 0; d < t->dims && at < (int)sizeof shape - 24; d++)
        at += snprintf(shape + at, sizeof shape - (size_t)at, "%s%llu", d ? ", " : "", (unsigned long long)t->shape[d]);
    return err_set(err, ODMOE_ERR_FORMAT, "tensor %s (MoE layer %d) has shape (%s), expected %s", t->name, layer, shape,
                   wanted);
}

static expert_piece piece_of(piece_role role, const tensor_info *t, int64_t rows, int64_t cols, bool in_out,
                             bool interleaved)
{
    return (expert_piece){.role = (uint8_t)role,
                          .type = (uint8_t)t->type,
                          .in_out = in_out,
                          .interleaved = interleaved,
                          .file = t->file,
                          .rows = rows,
                          .cols = cols,
                          .offset = t->offset,
                          .length = t->length};
}

odmoe_status expert_index_add_merged(expert_index *index, int layer, piece_role role, const tensor_info *t,
                                     int64_t rows, int64_t cols, bool in_out, bool interleaved, odmoe_error *err)
{
    odmoe_status status = check_id(index, layer, 0, err);
    if (status)
        return status;
    if (t->dims != 3 || t->shape[0] != (uint64_t)index->experts || rows < 1 || cols < 1 ||
        t->shape[1] != (uint64_t)rows || t->shape[2] != (uint64_t)cols) {
        char wanted[80];
        snprintf(wanted, sizeof wanted, "(%d, %lld, %lld)", index->experts, (long long)rows, (long long)cols);
        return shape_error(t, layer, wanted, err);
    }
    expert_piece piece = piece_of(role, t, rows, cols, in_out, interleaved);
    piece.length /= (uint64_t)index->experts; /* a row is whole blocks, so this is exact; check_piece compares */
    for (int e = 0; e < index->experts; e++, piece.offset += piece.length)
        if ((status = append(index, layer, e, &piece, err)))
            return status;
    return ODMOE_OK;
}

odmoe_status expert_index_add_one(expert_index *index, int layer, int expert, piece_role role, const tensor_info *t,
                                  int64_t rows, int64_t cols, bool in_out, bool interleaved, odmoe_error *err)
{
    odmoe_status status = check_id(index, layer, expert, err);
    if (status)
        return status;
    if (t->dims != 2 || rows < 1 || cols < 1 || t->shape[0] != (uint64_t)rows || t->shape[1] != (uint64_t)cols) {
        char wanted[80];
        snprintf(wanted, sizeof wanted, "(%lld, %lld)", (long long)rows, (long long)cols);
        return shape_error(t, layer, wanted, err);
    }
    expert_piece piece = piece_of(role, t, rows, cols, in_out, interleaved);
    return append(index, layer, expert, &piece, err);
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
                same = t->pieces[(size_t)e * (size_t)t->room + (size_t)i].role == t->pieces[i].role;
            if (!same)
                return err_set(err, ODMOE_ERR_FORMAT, "layer %d, expert %d: its pieces are others than expert 0's", l,
                               e);
        }
    }
    return ODMOE_OK;
}

const expert_piece *expert_index_pieces(const expert_index *index, int layer, int expert, int *n)
{
    const layer_table *t = &index->layer[layer];
    *n = t->count[expert];
    return t->pieces + (size_t)expert * (size_t)t->room;
}

uint64_t expert_index_bytes(const expert_index *index, int layer, int expert)
{
    int n;
    uint64_t sum = 0;
    const expert_piece *pieces = expert_index_pieces(index, layer, expert, &n);
    for (int i = 0; i < n; i++)
        sum += pieces[i].length;
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
