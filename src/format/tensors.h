/* tensors.h - where each tensor of a model lies: name -> (file, offset, length, type, shape). Both readers fill this.
 */
#ifndef ODMOE_FORMAT_TENSORS_H
#define ODMOE_FORMAT_TENSORS_H

#include <stdbool.h>

#include "base/dtype.h"
#include "base/status.h"

#define TENSOR_DIMS_MAX 4

/* Scales that lie apart from a tensor's weights: a tensor of them, whose shape was checked, and float32 numbers that
 * multiply them. Both readers join them to their weights (scaled.c). */
typedef struct tensor_scales {
    scale_grid grid; /* what the stored scales are, and which weights of a matrix share one */
    int file, factor_file;
    uint64_t offset, length;         /* length 0: there are only factors */
    uint64_t factor_offset, factors; /* one a matrix of the tensor; 0: none */
    bool factor_divides;             /* scales are divided by it instead */
} tensor_scales;

typedef struct tensor_info {
    const char *name; /* owned by the index */
    dtype type;
    int file; /* index into the files below */
    int dims; /* 0..TENSOR_DIMS_MAX; 0 is a scalar */
    uint64_t
        shape[TENSOR_DIMS_MAX];  /* outermost first, as Hugging Face writes it: a matrix is (out, in) = (rows, cols) */
    uint64_t offset, length;     /* bytes in the file; checked against its size; length fits type and shape */
    const tensor_scales *scales; /* owned by the index; NULL: all is in the blocks */
} tensor_info;

typedef struct tensor_index tensor_index;

tensor_index *tensor_index_create(odmoe_error *err);
void tensor_index_free(tensor_index *index);

/* tensor_index_add_file - register a file; *out is its number. The path is copied. */
odmoe_status tensor_index_add_file(tensor_index *index, const char *path, uint64_t size, int *out, odmoe_error *err);
int tensor_index_files(const tensor_index *index);
const char *tensor_index_path(const tensor_index *index, int file);
uint64_t tensor_index_file_size(const tensor_index *index, int file);

/* tensor_index_add - add one tensor (name copied). Checks: offset + length inside the file, length equals what type and
 * shape need, the innermost dimension a multiple of the block, a printable name. ERR_FORMAT names file and tensor.
 * info->file, type and dims are the caller's to get right. */
odmoe_status tensor_index_add(tensor_index *index, const tensor_info *info, odmoe_error *err);

/* tensor_index_add_unread - note a tensor that the file has but that cannot be read. `type` is the file's word for its type
 * ("F64", "F8_E5M2"), or another reason (name and type are copied). `place` says where it lies, in the fields of tensor_info
 * other than name and type; NULL: not needed. tensor_index_find does not find it: code that misses a tensor, or refuses
 * unknown ones, asks for these too. tensor_index_unread - the i-th, false at the end.
 * tensor_index_why_unread - the type of the one with this name; NULL: there is none. */
odmoe_status tensor_index_add_unread(tensor_index *index, const char *name, const char *type, const tensor_info *place,
                                     odmoe_error *err);
bool tensor_index_unread(const tensor_index *index, size_t i, const char **name, const char **type);
const char *tensor_index_why_unread(const tensor_index *index, const char *name);

/* tensor_index_seal - join weights with scales that lie apart, sort, so that find works; ERR_FORMAT where two tensors of
 * one file overlap or share a name. */
odmoe_status tensor_index_seal(tensor_index *index, odmoe_error *err);

/* tensor_index_heap_bytes - about how much memory the index takes. */
uint64_t tensor_index_heap_bytes(const tensor_index *index);

/* tensor_index_find - the tensor, or NULL. Sealed index; threads: any. tensor_index_at goes through all, by name.
 * What they return lives as long as the index. */
const tensor_info *tensor_index_find(const tensor_index *index, const char *name);
size_t tensor_index_count(const tensor_index *index);
const tensor_info *tensor_index_at(const tensor_index *index, size_t i);

/* tensor_read - read all bytes of a tensor from its file into `out` (info->length bytes). Plain reads; the page cache
 * is told to drop what was read. ERR_IO names file and tensor, a file that has shrunk included. Threads: any. */
odmoe_status tensor_read(const tensor_index *index, const tensor_info *info, void *out, odmoe_error *err);

#endif
