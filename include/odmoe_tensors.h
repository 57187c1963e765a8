/* odmoe_tensors.h - safetensors files: write tensors, at once or piece by piece, open a file, read its tensors; and any
 * other file that appears under its name when it is whole.
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

/* odmoe_tensors_begin - write a safetensors file piece by piece; nothing but one piece is ever in memory.
 * odmoe_tensors_write - numbers first .. first + n - 1 of tensor `tensor`, counted through all its dimensions; tensors and
 *           pieces in any order.
 * odmoe_tensors_finish - write the header and give the file its name, as odmoe_tensors_save does.
 * odmoe_tensors_abort - drop the file; NULL is fine. `path` stays as it was.
 * tensors   [n] names, types and shapes of what may come; data is not looked at. Not needed after the call. Tensors lie in
 *           the file in the order of their first writes (n may be 0); one that is never written is left out of the file.
 * Result    finish frees the writer, whether it succeeds or not. After an error, or when the program ends before finish, `path` is
 *           as it was and nothing lies beside it; but see odmoe_tensors_partial.
 * Errors    begin: ERR_ARG, a type or shape that cannot be written, or two tensors of one name; ERR_IO; ERR_MEMORY.
 *           write: ERR_ARG, no such tensor; ERR_RANGE, beyond its numbers; ERR_IO names the file. After the
 *           first error, the same again.
 *           finish: the first error of a write, whether it was looked at or not; ERR_STATE, fewer or more numbers of a tensor
 *           were written than it has; ERR_IO.
 * Threads   one at a time for each writer. */
typedef struct odmoe_tensor_writer odmoe_tensor_writer;
ODMOE_API odmoe_status odmoe_tensors_begin(const char *path, const odmoe_tensor *tensors, int32_t n,
                                           odmoe_tensor_writer **writer, odmoe_error *err);
ODMOE_API odmoe_status odmoe_tensors_write(odmoe_tensor_writer *writer, int32_t tensor, int64_t first, int64_t n,
                                           const void *data, odmoe_error *err);
ODMOE_API odmoe_status odmoe_tensors_finish(odmoe_tensor_writer *writer, odmoe_error *err);
ODMOE_API void odmoe_tensors_abort(odmoe_tensor_writer *writer);

/* odmoe_tensors_partial - the name that the file has, beside `path`, until it is whole: for a moment at the end, or, where
 * the file system knows no files without names, from the beginning. A program that a signal may end can remove that file
 * in its handler: no other file has that name. Valid until finish or abort. */
ODMOE_API const char *odmoe_tensors_partial(const odmoe_tensor_writer *writer);

/* odmoe_tensors_open - open a safetensors file for reading; its header is read and checked against the file's size. ERR_IO, ERR_FORMAT (cut off, or no safetensors file) name it.
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

/* odmoe_file_begin - the same for a file of any kind: bytes at any place, in any order. Ownership, errors and threads as
 * with tensors; a place that nothing is written to reads as zeros. odmoe_file_write's errors are kept for finish, too. */
typedef struct odmoe_file odmoe_file;
ODMOE_API odmoe_status odmoe_file_begin(const char *path, odmoe_file **file, odmoe_error *err);
ODMOE_API odmoe_status odmoe_file_write(odmoe_file *file, const void *data, uint64_t bytes, uint64_t offset,
                                        odmoe_error *err);
ODMOE_API odmoe_status odmoe_file_finish(odmoe_file *file, odmoe_error *err);
ODMOE_API void odmoe_file_abort(odmoe_file *file);
ODMOE_API const char *odmoe_file_partial(const odmoe_file *file);

#ifdef __cplusplus
}
#endif
#endif
