/* size.h - byte sizes as people write and read them. */
#ifndef ODMOE_BASE_SIZE_H
#define ODMOE_BASE_SIZE_H

#include "base/status.h"

/* size_parse - "512MiB", "4GiB", "4G" (= GiB), "1.5G" or plain bytes; K, M, G, T with or without "iB", in any case.
 * A fraction is cut to whole bytes. Errors: ERR_ARG with a message that shows the ways to write it; ERR_RANGE for more
 * than 2^64 - 1 bytes. */
odmoe_status size_parse(const char *text, uint64_t *bytes, odmoe_error *err);

#define SIZE_TEXT_MAX 32

/* size_format - "1.50 GiB", "512 MiB", "17 B" into text[SIZE_TEXT_MAX]: three digits or more; returns text. */
char *size_format(uint64_t bytes, char *text);

#endif
