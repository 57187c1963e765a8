/* safetensors_write.h - a .safetensors file that appears under its name only when it is whole (base/atomic_file.h).
 *
 *   8 bytes: length of the header │ header: JSON, padded with blanks │ data of the tensors, one after the other
 *
 * The header's room is reserved first. A tensor gets its place in the data with its first numbers, so that tensors that
 * never come leave no hole, which readers would refuse. */
#ifndef ODMOE_FORMAT_SAFETENSORS_WRITE_H
#define ODMOE_FORMAT_SAFETENSORS_WRITE_H

#include "base/status.h"
#include "odmoe_tensors.h"

/* As odmoe_tensors_begin, _write, _finish, _abort, _partial. */
odmoe_status tensor_writer_begin(const char *path, const odmoe_tensor *tensors, int n, odmoe_tensor_writer **out,
                                 odmoe_error *err);
odmoe_status tensor_writer_put(odmoe_tensor_writer *w, int tensor, int64_t first, int64_t n, const void *data,
                               odmoe_error *err);
odmoe_status tensor_writer_finish(odmoe_tensor_writer *w, odmoe_error *err);
void tensor_writer_abort(odmoe_tensor_writer *w);
const char *tensor_writer_partial(const odmoe_tensor_writer *w);

/* safetensors_write - as odmoe_tensors_save. */
odmoe_status safetensors_write(const char *path, const odmoe_tensor *tensors, int n, odmoe_error *err);

/* safetensors_element_bytes - of a type that odmoe_tensor can have; 0: another. */
size_t safetensors_element_bytes(const char *type);
/* safetensors_bytes - of a whole tensor. ERR_ARG: its type or shape cannot be written. */
odmoe_status safetensors_bytes(const odmoe_tensor *t, uint64_t *out, odmoe_error *err);

#endif
