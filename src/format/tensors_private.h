/* tensors_private.h - what tensors.c and scaled.c share: the inside of a tensor index. */
#ifndef ODMOE_FORMAT_TENSORS_PRIVATE_H
#define ODMOE_FORMAT_TENSORS_PRIVATE_H

#include "format/tensors.h"

typedef struct file {
    char *path;
    uint64_t size;
} file;

/* Names lie in blocks that never move, as tensor_info.name points into them. */
typedef struct name_block {
    struct name_block *next;
    size_t used, size;
    char text[];
} name_block;

typedef struct unread_tensor {
    const char *type;
    bool has_place;
    tensor_info place; /* its name, and, if it has_place, where it lies; the type means nothing */
} unread_tensor;

struct tensor_index {
    tensor_info *tensors; /* by name once sealed */
    size_t count, capacity;
    unread_tensor *unread;
    size_t unread_count, unread_capacity;
    tensor_scales *scales; /* of tensors, in one array that never grows */
    size_t scales_count;   /* its length */
    file *files;
    size_t file_count, file_capacity;
    name_block *names;
};

/* tensor_index_keep - a copy of name[0, length) that lives as long as the index. NULL: ERR_MEMORY. */
const char *tensor_index_keep(tensor_index *index, const char *name, size_t length, odmoe_error *err);

/* scaled_tensors_join - find the tensors of weights whose scales lie apart, before the index is sealed: each becomes one
 * tensor under the name of its weights; the tensors of its scales leave the index. Weights that lack scales, or have some
 * of another shape, become tensors that cannot be read, and say why. ERR_MEMORY. */
odmoe_status scaled_tensors_join(tensor_index *index, odmoe_error *err);

#endif
