/* status.h - errors travel as values: a status, and a one-line message in a struct that the caller owns. */
#ifndef ODMOE_BASE_STATUS_H
#define ODMOE_BASE_STATUS_H

#include "odmoe.h"

/* err_set - fill `err` (may be NULL) with a code and a printf-style one-line message; returns `code`.
 * A message that is too long, as with a long path, loses its middle: "beginning...end", so that the reason stays.
 * Control characters that a hostile file could have put into the message, and bytes that are no UTF-8, are replaced by
 * '?'. */
odmoe_status err_set(odmoe_error *err, odmoe_status code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* err_context - put "context: " before the message already in `err`; returns err's code (ODMOE_OK for NULL err). */
odmoe_status err_context(odmoe_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
