/* safetensors.h - one .safetensors file, or the shards that model.safetensors.index.json lists.
 * Format: https://huggingface.co/docs/safetensors (the layout is drawn in safetensors.c). */
#ifndef ODMOE_FORMAT_SAFETENSORS_H
#define ODMOE_FORMAT_SAFETENSORS_H

#include "format/tensors.h"

/* safetensors_open_file - index one .safetensors file. Tensors of a type outside dtype.h (integers, F64, F8...) are
 * left out of the index, unless `others` is given: then they are reported there (see below). Errors: ERR_IO,
 * ERR_FORMAT. The caller frees *out with tensor_index_free. */
odmoe_status safetensors_open_file(const char *path, tensor_index **out, odmoe_error *err);

/* safetensors_open_folder - model.safetensors, or model.safetensors.index.json with its shards (names in it may not
 * leave the folder). A tensor that the index lists and its shard lacks is ERR_FORMAT. */
odmoe_status safetensors_open_folder(const char *folder, tensor_index **out, odmoe_error *err);

#endif
