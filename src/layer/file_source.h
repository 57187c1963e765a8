/* file_source.h - experts in a file, read on demand: a store and the names of its tensors. A layer uses it directly; the
 * public table of functions is for programs that put one of their own in front. */
#ifndef ODMOE_LAYER_FILE_SOURCE_H
#define ODMOE_LAYER_FILE_SOURCE_H

#include "layer/expert_files.h"
#include "moe/local_executor.h"

typedef struct file_source {
    expert_files files;
    store *store;
    int32_t types[DTYPE_COUNT], n_types; /* of the matrices, as GGUF numbers */
} file_source;

/* file_source_open - `out` is zeroed, and must not move. Errors: those of expert_files_open and store_open.
 * file_source_close takes a failed one. */
odmoe_status file_source_open(const odmoe_source_options *options, io_mode io, file_source *out, odmoe_error *err);
void file_source_close(file_source *s);

/* file_source_ops - the source as a public table. file_source_behind - the source that a table came from, or NULL. */
odmoe_source_ops file_source_ops(file_source *s);
file_source *file_source_behind(const odmoe_source_ops *ops);

/* file_source_use - as the source of `layers` layers of this shape, whose types are filled in. ERR_RANGE: it has fewer
 * layers or experts; ERR_FORMAT, ERR_UNSUPPORTED: expert_tensors_check_all. */
odmoe_status file_source_use(file_source *s, int layers, const compute *c, experts_shape *shape, expert_source *out,
                             odmoe_error *err);

/* expert_to_public - what a public expert says of a pinned one. */
void expert_to_public(const expert_tensor *tensors, const pinned_expert *view, odmoe_expert *out);

#endif
