/* open_tensors.h - the tensors of a path, whatever format it is in. */
#ifndef ODMOE_FORMAT_OPEN_TENSORS_H
#define ODMOE_FORMAT_OPEN_TENSORS_H

#include "format/tensors.h"

/* open_tensors - a GGUF file, a .safetensors file, or a folder of safetensors shards. Free *out with tensor_index_free.
 * Errors: ERR_IO, ERR_FORMAT, ERR_MEMORY; the message names the file. */
odmoe_status open_tensors(const char *path, tensor_index **out, odmoe_error *err);

#endif
