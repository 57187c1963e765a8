/* stop_filter.h - let text through until one of the stop strings comes; no byte of the stop string is let through. */
#ifndef ODMOE_TEXT_STOP_FILTER_H
#define ODMOE_TEXT_STOP_FILTER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

#define STOP_TEXTS_MAX 64
#define STOP_BYTES_MAX 4096

typedef struct stop_filter stop_filter;

/* stop_filter_create - copies the texts; empty ones are ignored. ERR_RANGE: more than STOP_TEXTS_MAX, or one longer than
 * STOP_BYTES_MAX. ERR_MEMORY. One thread at a time. */
odmoe_status stop_filter_create(const char *const *texts, size_t count, stop_filter **out, odmoe_error *err);
void stop_filter_free(stop_filter *f); /* NULL is fine */

/* stop_filter_push - *out [*out_length] is what is certain now: no stop string can begin in it. Text that may be the
 * beginning of one waits. The stop string that is complete first counts; of several, the one that began first. Then *found
 * is true, *out is the text before it, and later calls give nothing and true. *out belongs to the filter until the next call. ERR_MEMORY:
 * nothing has changed. */
odmoe_status stop_filter_push(stop_filter *f, const char *text, size_t length, const char **out, size_t *out_length,
                              bool *found, odmoe_error *err);

/* stop_filter_flush - at the end of the text: what still waited. */
void stop_filter_flush(stop_filter *f, const char **out, size_t *out_length);

#endif
