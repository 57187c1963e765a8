/* safetensors_read.h - reading what safetensors_write.h wrote: tensors that the reader knows by name and shape. */
#ifndef ODMOE_FORMAT_SAFETENSORS_READ_H
#define ODMOE_FORMAT_SAFETENSORS_READ_H

#include "base/status.h"
#include "odmoe_tensors.h"

/* As odmoe_tensors_open, odmoe_tensors_close and odmoe_tensors_read. */
odmoe_status tensor_file_open(const char *path, odmoe_tensor_file **out, odmoe_error *err);
void tensor_file_close(odmoe_tensor_file *f);
odmoe_status tensor_file_read(const odmoe_tensor_file *f, const odmoe_tensor *want, int64_t first, int64_t n, void *out,
                              odmoe_error *err);

#endif
