/* line_input.h - what a person types: edited with a history on a terminal, plain lines otherwise. */
#ifndef ODMOE_CLI_LINE_INPUT_H
#define ODMOE_CLI_LINE_INPUT_H

#include "cli.h"

typedef struct line_input line_input;

line_input *line_input_open(void);
void line_input_close(line_input *in);

typedef enum message_result {
    MESSAGE_READ,
    MESSAGE_REFUSED,     /* complained; the next one may do */
    MESSAGE_END,         /* of the input */
    MESSAGE_INTERRUPTED, /* by Ctrl-C while an input that is no terminal was waited for */
    MESSAGE_FAILED,      /* the input cannot be read; complained */
} message_result;

/* line_input_message - one message, without its last line end; free it. A line that ends with a backslash goes on in
 * the next; a line that is or begins with three double quotes opens a block that ends with the next three; what
 * follows them is part of the message. Ctrl-C drops what was read so far. *text is set on MESSAGE_READ only. */
message_result line_input_message(line_input *in, char **text);

#endif
