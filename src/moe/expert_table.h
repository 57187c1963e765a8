/* expert_table.h - which matrices experts have, and where each lies: a table of descriptions beside the store's index
 * of extents. The tag of an extent is the place of its description in the table. */
#ifndef ODMOE_MOE_EXPERT_TABLE_H
#define ODMOE_MOE_EXPERT_TABLE_H

#include "store/expert_index.h"

typedef enum piece_role {
    PIECE_GATE,    /* silu is applied to its product; Mixtral's w1 */
    PIECE_UP,      /* Mixtral's w3 */
    PIECE_DOWN,    /* Mixtral's w2 */
    PIECE_GATE_UP, /* both in one matrix, see interleaved */
    PIECE_ROLE_COUNT
} piece_role;

typedef struct expert_tensor {
    uint8_t role;       /* piece_role */
    uint8_t type;       /* dtype */
    bool in_out;        /* false: (out, in), y = W x, as GGUF and Hugging Face; true: (in, out), y = x W */
    bool interleaved;   /* GATE_UP only: false: all gate outputs, then all up outputs; true: gate, up, gate, up... */
    int64_t rows, cols; /* of the matrix as stored */
} expert_tensor;

typedef struct expert_table {
    expert_index *index;
    expert_tensor *tensor; /* [n] each description once; a tag is a place here */
    size_t n, room;
} expert_table;

/* expert_table_create - for layers x experts, empty. expert_table_clear takes a failed or zeroed one. */
odmoe_status expert_table_create(expert_table *t, int layers, int experts, odmoe_error *err);
void expert_table_clear(expert_table *t);

/* expert_table_add - one more matrix of (layer, expert), at `offset` of a file. ERR_ARG for ids, roles, types and
 * shapes that are invalid. */
odmoe_status expert_table_add(expert_table *t, int layer, int expert, const expert_tensor *tensor, int file,
                              uint64_t offset, odmoe_error *err);

/* expert_table_add_merged - the same matrix of all experts of a layer, from one tensor of shape (experts, rows, cols).
 * expert_table_add_one    - one expert's matrix from a tensor (rows, cols).
 * `like` says all but the type, which is the tensor's. ERR_FORMAT where the shape differs from like's; the message names
 * the tensor. */
odmoe_status expert_table_add_merged(expert_table *t, int layer, const expert_tensor *like, const tensor_info *from,
                                     odmoe_error *err);
odmoe_status expert_table_add_one(expert_table *t, int layer, int expert, const expert_tensor *like,
                                  const tensor_info *from, odmoe_error *err);

#endif
