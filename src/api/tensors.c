/* tensors.c - safetensors files, and other files that appear when they are whole. */
#include "odmoe_tensors.h"

#include <errno.h>
#include <stdlib.h>

#include "base/atomic_file.h"
#include "base/mem.h"
#include "format/safetensors_read.h"
#include "format/safetensors_write.h"

odmoe_status odmoe_tensors_save(const char *path, const odmoe_tensor *tensors, int32_t n, odmoe_error *err)
{
    return safetensors_write(path, tensors, n, err);
}

odmoe_status odmoe_tensors_open(const char *path, odmoe_tensor_file **file, odmoe_error *err)
{
    return tensor_file_open(path, file, err);
}

void odmoe_tensors_close(odmoe_tensor_file *file)
{
    tensor_file_close(file);
}

odmoe_status odmoe_tensors_read(const odmoe_tensor_file *file, const odmoe_tensor *want, int64_t first, int64_t n,
                                void *out, odmoe_error *err)
{
    return tensor_file_read(file, want, first, n, out, err);
}

odmoe_status odmoe_tensors_begin(const char *path, const odmoe_tensor *tensors, int32_t n, odmoe_tensor_writer **writer,
                                 odmoe_error *err)
{
    return tensor_writer_begin(path, tensors, n, writer, err);
}

odmoe_status odmoe_tensors_write(odmoe_tensor_writer *writer, int32_t tensor, int64_t first, int64_t n,
                                 const void *data, odmoe_error *err)
{
    return tensor_writer_put(writer, tensor, first, n, data, err);
}

odmoe_status odmoe_tensors_finish(odmoe_tensor_writer *writer, odmoe_error *err)
{
    return tensor_writer_finish(writer, err);
}

void odmoe_tensors_abort(odmoe_tensor_writer *writer)
{
    tensor_writer_abort(writer);
}

const char *odmoe_tensors_partial(const odmoe_tensor_writer *writer)
{
    return tensor_writer_partial(writer);
}

/* ---- files of any kind ---- */

struct odmoe_file {
    atomic_file f;
    int error; /* errno of the first write that failed */
};

odmoe_status odmoe_file_begin(const char *path, odmoe_file **file, odmoe_error *err)
{
    odmoe_file *f = mem_calloc(1, sizeof *f, "a file to write", err);
    odmoe_status status = f ? atomic_file_begin(path, &f->f, err) : ODMOE_ERR_MEMORY;
    if (status)
        free(f);
    else
        *file = f;
    return status;
}

odmoe_status odmoe_file_write(odmoe_file *file, const void *data, uint64_t bytes, uint64_t offset, odmoe_error *err)
{
    int error =
        offset > INT64_MAX || bytes > INT64_MAX - offset ? EFBIG : atomic_file_write(&file->f, data, bytes, offset);
    if (error && !file->error)
        file->error = error;
    return error ? atomic_file_error(&file->f, error, err) : ODMOE_OK;
}

odmoe_status odmoe_file_finish(odmoe_file *file, odmoe_error *err)
{
    odmoe_status status = atomic_file_finish(&file->f, file->error, err);
    free(file);
    return status;
}

void odmoe_file_abort(odmoe_file *file)
{
    if (file)
        atomic_file_drop(&file->f);
    free(file);
}

const char *odmoe_file_partial(const odmoe_file *file)
{
    return file->f.partial;
}
