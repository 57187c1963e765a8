/* expert_table.h - which matrices experts have, and where each lies: a table of descriptions beside the store's index
 * of extents. The tag of an extent is the place of its description in the table. */
#ifndef ODMOE_MOE_EXPERT_TABLE_H
#define ODMOE_MOE_EXPERT_TABLE_H

#include "odmoe_layer.h"
#include "store/expert_index.h"

/* Matrices of an expert: ODMOE_GATE, ODMOE_UP, ODMOE_DOWN, ODMOE_GATE_UP. */
#define EXPERT_MATRIX_COUNT ODMOE_FLAT

typedef enum expert_part {
    PART_WEIGHT, /* the matrix itself: streamed */
    PART_BIAS,   /* a vector, added to the product: resident */
    PART_SCALE,  /* one number, multiplies the expert's output (of ODMOE_DOWN only): resident */
    PART_SCALES, /* the scales of the matrix's weights, where they are few: resident; else streamed with the weights */
    PART_FACTOR  /* one number, a factor of all scales of the matrix: resident */
} expert_part;

/* What a streamed tensor is. */
typedef struct expert_tensor {
    uint8_t matrix;     /* odmoe_role */
    uint8_t type;       /* dtype */
    bool in_out;        /* false: (out, in), y = W x, as GGUF and Hugging Face; true: (in, out), y = x W */
    bool interleaved;   /* GATE_UP only: false: all gate outputs, then all up outputs; true: gate, up, gate, up... */
    bool scales;        /* not the weights: the tensor of their scales */
    scale_grid grid;    /* of scales that lie apart, as stored; all 0: there are none */
    int64_t rows, cols; /* of the matrix as stored */
} expert_tensor;

/* A bias, a scale or scales, of one expert or of all experts of a layer; it stays in memory. */
typedef struct expert_small {
    int layer, expert; /* expert -1: of all */
    uint8_t matrix, part;
    bool interleaved;   /* a bias of GATE_UP: gate, up, gate, up... */
    bool inverse;       /* a factor that scales are divided by */
    int64_t length;     /* numbers an expert */
    tensor_info tensor; /* where it lies; its scales are not looked at */
} expert_small;

typedef struct expert_table {
    expert_index *index;
    expert_tensor *tensor; /* [n] each description once; a tag is a place here */
    size_t n, room;
    expert_small *small; /* [n_small] in the order in which they were added */
    size_t n_small, small_room;
} expert_table;

/* expert_table_create - for layers x experts, empty. expert_table_clear takes a failed or zeroed one. */
odmoe_status expert_table_create(expert_table *t, int layers, int experts, odmoe_error *err);
void expert_table_clear(expert_table *t);

/* expert_table_add - one more matrix of (layer, expert), or its scales, at `offset` of a file. ERR_ARG for ids, roles,
 * types and shapes that are invalid. */
odmoe_status expert_table_add(expert_table *t, int layer, int expert, const expert_tensor *tensor, int file,
                              uint64_t offset, odmoe_error *err);

/* expert_table_add_merged - the same matrix of all experts of a layer, from one tensor of shape (experts, rows, cols).
 * expert_table_add_one    - one expert's matrix from a tensor (rows, cols).
 * `like` says all but the type, which is the tensor's. Scales that lie apart are added with it: streamed with the weights,
 * or, where a matrix has few of them (FP8 of 128 x 128: 1 byte for 4096), kept in memory: so few bytes are not worth a
 * read of their own. ERR_FORMAT where the shape differs from like's; the message names the tensor. */
odmoe_status expert_table_add_merged(expert_table *t, int layer, const expert_tensor *like, const tensor_info *from,
                                     odmoe_error *err);
odmoe_status expert_table_add_one(expert_table *t, int layer, int expert, const expert_tensor *like,
                                  const tensor_info *from, odmoe_error *err);

/* expert_table_add_small - a bias or scale of `length` numbers an expert: from (experts, length) where expert is -1 (or
 * (experts) for a length of 1), else from (length). The tensor's name stays borrowed. ERR_FORMAT as above; ERR_ARG. */
odmoe_status expert_table_add_small(expert_table *t, int layer, int expert, odmoe_role matrix, expert_part part,
                                    bool interleaved, int64_t length, const tensor_info *from, odmoe_error *err);

#endif
