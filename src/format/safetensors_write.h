/* safetensors_write.h - a .safetensors file that appears under its name only when it is whole. */
#ifndef ODMOE_FORMAT_SAFETENSORS_WRITE_H
#define ODMOE_FORMAT_SAFETENSORS_WRITE_H

#include "base/status.h"
#include "odmoe_tensors.h"

/* safetensors_write - as odmoe_tensors_save. */
odmoe_status safetensors_write(const char *path, const odmoe_tensor *tensors, int n, odmoe_error *err);

/* safetensors_element_bytes - of a type that odmoe_tensor can have; 0: another. */
size_t safetensors_element_bytes(const char *type);
/* safetensors_bytes - of a whole tensor. ERR_ARG: its type or shape cannot be written. */
odmoe_status safetensors_bytes(const odmoe_tensor *t, uint64_t *out, odmoe_error *err);

#endif
