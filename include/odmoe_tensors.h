/* odmoe_tensors.h - safetensors files: write tensors, open a file, read its tensors.
 *
 * Conventions of handles, errors and structs: odmoe.h.
 */
#ifndef ODMOE_TENSORS_H
#define ODMOE_TENSORS_H

#include "odmoe.h"

#ifdef __cplusplus
extern "C" {
#endif

/* odmoe_tensors_save - write tensors to a safetensors file: a new file beside it, fsync, then rename, so that `path` is
 * whole whatever happens. ERR_IO names the file. */
typedef struct odmoe_tensor {
    const char *name;
    const char *type; /* "F32", "I32", "I64", "BF16", "F16" */
    int32_t dims;
    int64_t shape[4];
    const void *data; /* row-major */
} odmoe_tensor;
ODMOE_API odmoe_status odmoe_tensors_save(const char *path, const odmoe_tensor *tensors, int32_t n, odmoe_error *err);

/* odmoe_tensors_open - the other direction: a safetensors file, of which the header is read and checked against the
 * file's size. ERR_IO, ERR_FORMAT (cut off, or no safetensors file) name it.
 * odmoe_tensors_read - numbers first .. first + n - 1 of a tensor, counted through all its dimensions, to out.
 * want      name, type, dims and shape that the tensor must have; its data is not looked at.
 * Errors    ERR_FORMAT names the tensor and what it is instead; ERR_RANGE: beyond its numbers; ERR_IO. out is undefined
 *           then. With n = 0 it checks and reads nothing.
 * Threads   any. */
typedef struct odmoe_tensor_file odmoe_tensor_file;
ODMOE_API odmoe_status odmoe_tensors_open(const char *path, odmoe_tensor_file **file, odmoe_error *err);
ODMOE_API void odmoe_tensors_close(odmoe_tensor_file *file);
ODMOE_API odmoe_status odmoe_tensors_read(const odmoe_tensor_file *file, const odmoe_tensor *want, int64_t first,
                                          int64_t n, void *out, odmoe_error *err);

#ifdef __cplusplus
}
#endif
#endif
