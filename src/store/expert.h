/* expert.h - what an expert is on disk: up to eight pieces, and the index of all of them. */
#ifndef ODMOE_STORE_EXPERT_H
#define ODMOE_STORE_EXPERT_H

#include <stdbool.h>

#include "format/tensors.h"

typedef enum piece_role {
    PIECE_GATE,    /* silu is applied to its product; Mixtral's w1 */
    PIECE_UP,      /* Mixtral's w3 */
    PIECE_DOWN,    /* Mixtral's w2 */
    PIECE_GATE_UP, /* both in one matrix, see interleave */
    PIECE_ROLE_COUNT
} piece_role;

#define PIECES_MAX 8

typedef struct expert_piece {
    uint8_t role;     /* piece_role */
    uint8_t type;     /* dtype */
    bool in_out;      /* false: (out, in), y = W x, as GGUF and Hugging Face; true: (in, out), y = x W */
    bool interleaved; /* GATE_UP only: false: all gate outputs, then all up outputs; true: gate, up, gate, up... */
    int32_t file;
    int64_t rows, cols; /* of the matrix as stored */
    uint64_t offset, length;
} expert_piece;

/* The index: expert_index_layers x experts, each with the same number of pieces and roles in one layer.
 * Layers here are MoE layers, counted from 0 without the dense ones. */
typedef struct expert_index expert_index;

expert_index *expert_index_create(int layers, int experts, odmoe_error *err);
void expert_index_free(expert_index *index);
int expert_index_layers(const expert_index *index);
int expert_index_experts(const expert_index *index);

/* expert_index_set - give (layer, expert) its pieces (copied). ERR_ARG for ids or counts out of range. */
odmoe_status expert_index_set(expert_index *index, int layer, int expert, const expert_piece *pieces, int n,
                              odmoe_error *err);

/* expert_index_add_merged - pieces of all experts of a layer from one tensor of shape (experts, rows, cols).
 * expert_index_add_one    - one expert's piece from a tensor (rows, cols).
 * Both append to what the layer has. ERR_FORMAT where the shape is another than (rows, cols) says; the message names
 * the tensor. in_out as in expert_piece: rows and cols are those of the matrix as stored. */
odmoe_status expert_index_add_merged(expert_index *index, int layer, piece_role role, const tensor_info *t,
                                     int64_t rows, int64_t cols, bool in_out, bool interleaved, odmoe_error *err);
odmoe_status expert_index_add_one(expert_index *index, int layer, int expert, piece_role role, const tensor_info *t,
                                  int64_t rows, int64_t cols, bool in_out, bool interleaved, odmoe_error *err);

/* expert_index_check - is it complete: every expert has pieces, the same number and roles in one layer. ERR_FORMAT
 * names the first that hasn't. store_open asks it; a reader may ask earlier. */
odmoe_status expert_index_check(const expert_index *index, odmoe_error *err);

/* The pieces of an expert, *n of them; owned by the index. Valid ids only. */
const expert_piece *expert_index_pieces(const expert_index *index, int layer, int expert, int *n);
uint64_t expert_index_bytes(const expert_index *index, int layer, int expert); /* sum of its pieces' lengths */
uint64_t expert_index_total_bytes(const expert_index *index);
uint64_t expert_index_largest_bytes(const expert_index *index);
uint64_t expert_index_smallest_bytes(const expert_index *index);

#endif
