/* quantisation.h - weights of a Hugging Face folder that are quantised, as its quantization_config says. */
#ifndef ODMOE_MODEL_QUANTISATION_H
#define ODMOE_MODEL_QUANTISATION_H

#include "format/config.h"

/* quantisation_check - does config.json, or a part of it, say that weights are quantised in a way that is not read? Which tensors are, and with which scales, the tensors themselves say (format/scaled.c); this tells
 * apart what they cannot. ERR_UNSUPPORTED names the method and what to do. */
odmoe_status quantisation_check(const char *path, config_object json, odmoe_error *err);

#endif
