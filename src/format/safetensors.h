/* safetensors.h - one .safetensors file, or the shards that model.safetensors.index.json lists.
 * Format: https://huggingface.co/docs/safetensors (the layout is drawn in safetensors.c). */
#ifndef ODMOE_FORMAT_SAFETENSORS_H
#define ODMOE_FORMAT_SAFETENSORS_H

#include "format/tensors.h"

/* safetensors_open_file - index one .safetensors file. Weights whose scales lie apart (FP8, FP4, INT4) become one tensor
 * with its scales. tensor_index_find does not find tensors that cannot be a model's weights: those of other types (integers,
 * F64...) or with more than TENSOR_DIMS_MAX dimensions; safetensors_each shows them. Errors: ERR_IO, ERR_FORMAT (names file
 * and tensor). The caller frees *out with tensor_index_free. */
odmoe_status safetensors_open_file(const char *path, tensor_index **out, odmoe_error *err);

/* safetensors_open_folder - model.safetensors, or model.safetensors.index.json with its shards (names in it may not
 * leave the folder). A tensor that the index lists and its shard lacks is ERR_FORMAT; one that is in a shard and that
 * the index doesn't list there is left out. */
odmoe_status safetensors_open_folder(const char *folder, tensor_index **out, odmoe_error *err);

/* One tensor of a file as its header has it, of whatever type. */
#define SAFETENSORS_DIMS_MAX 16
typedef struct safetensors_entry {
    const char *name, *type; /* "F32", "I64"...; both live during the call only */
    int dims;
    uint64_t shape[SAFETENSORS_DIMS_MAX]; /* outermost first */
    uint64_t offset, length;              /* bytes in the file; inside it, checked */
} safetensors_entry;

/* safetensors_each - call `visit` for each tensor in the header's order, until it returns something other than
 * ODMOE_OK (which is then returned; it fills err). *size, where given: the file's bytes, set before the first visit. */
typedef odmoe_status safetensors_visit(void *ctx, const safetensors_entry *entry, odmoe_error *err);
odmoe_status safetensors_each(const char *path, uint64_t *size, safetensors_visit *visit, void *ctx, odmoe_error *err);

#endif
