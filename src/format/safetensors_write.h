/* safetensors_write.h - a .safetensors file that appears under its name only when it is whole. */
#ifndef ODMOE_FORMAT_SAFETENSORS_WRITE_H
#define ODMOE_FORMAT_SAFETENSORS_WRITE_H

#include "base/status.h"
#include "odmoe_train.h"

/* safetensors_write - as odmoe_tensors_save. */
odmoe_status safetensors_write(const char *path, const odmoe_tensor *tensors, int n, odmoe_error *err);

#endif
