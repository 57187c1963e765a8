/* batch.h - commands that answer lines of JSON. */
#ifndef ODMOE_CLI_BATCH_H
#define ODMOE_CLI_BATCH_H

#include <jansson.h>

/* batch_lines - for each line of standard input, a JSON object, print what `answer` makes of it on a line of its own;
 * a line that is no JSON gets {"error": "value", ...}. The exit status. */
int batch_lines(json_t *(*answer)(const json_t *row));

#endif
