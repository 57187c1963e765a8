/* expert_files.h - experts in files that no model description goes with: tensors named by rules. */
#ifndef ODMOE_LAYER_EXPERT_FILES_H
#define ODMOE_LAYER_EXPERT_FILES_H

#include "moe/expert_table.h"
#include "odmoe_layer.h"

typedef struct expert_files {
    tensor_index *tensors;
    expert_table experts;
} expert_files;

/* expert_files_open - a .gguf file, a .safetensors file or a folder of shards; options as in odmoe_source_options.
 * Errors: ERR_IO; ERR_FORMAT names a tensor that is missing or of another shape; ERR_RANGE, ERR_ARG.
 * expert_files_close takes a zeroed or failed one. */
odmoe_status expert_files_open(const odmoe_source_options *options, expert_files *out, odmoe_error *err);
void expert_files_close(expert_files *f);

#endif
