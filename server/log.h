/* log.h - the log: a line when a request ends, and lines of what the server does. Never a prompt, an answer or a key.
 *
 * Threads: any. */
#ifndef ODMOE_SERVER_LOG_H
#define ODMOE_SERVER_LOG_H

#include <odmoe.h>

#include "http.h"

/* log_open - path: a file that is added to, "-": standard error, NULL: standard error where that is a terminal, else nowhere. ERR_IO.
 * log_reopen - the file anew, as after it was moved away (SIGHUP). log_close - no more lines. */
odmoe_status log_open(const char *path, odmoe_error *err);
void log_reopen(void);
void log_close(void);

/* log_line - time and a line. */
void log_line(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* log_request - a request has ended with `status` (499: the client left) after `seconds`. */
void log_request(const http_request *request, const char *peer, const char *endpoint, int status, double seconds);

#endif
