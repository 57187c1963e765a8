/* fingerprint.h - what must be equal for a saved state to mean the same: the model's numbers, samples of its weights,
 * its files' sizes, KV type, kernels. */
#ifndef ODMOE_MODEL_FINGERPRINT_H
#define ODMOE_MODEL_FINGERPRINT_H

#include "model/model.h"

/* fnv - FNV-1a, 64 bits, of n more bytes; begins with FNV_START. */
#define FNV_START 0xcbf29ce484222325ull
uint64_t fnv(uint64_t sum, const void *data, size_t n);

/* model_fingerprint - of a model whose weights are loaded. Reads some bytes of experts: ERR_IO names the file. */
odmoe_status model_fingerprint(const model *m, uint64_t *out, odmoe_error *err);

#endif
