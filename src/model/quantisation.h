/* quantisation.h - weights of a Hugging Face folder that are quantised, as its quantization_config says. */
#ifndef ODMOE_MODEL_QUANTISATION_H
#define ODMOE_MODEL_QUANTISATION_H

#include "format/config.h"

/* quantisation_check - does config.json, or a part of it, say that weights are quantised in a way that cannot be read? The
 * tensors themselves show which of them are quantised, and with which scales (format/scaled.c); this checks what they do not
 * show. ERR_UNSUPPORTED names the method and what to do. */
odmoe_status quantisation_check(const char *path, config_object json, odmoe_error *err);

#endif
