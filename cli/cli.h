/* cli.h - what all commands share: exit statuses, one-line errors, numbers and files from the command line. */
#ifndef ODMOE_CLI_H
#define ODMOE_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdnoreturn.h>

#include "odmoe.h"

enum exit_status { STATUS_DONE, STATUS_FAILED, STATUS_USAGE, STATUS_BUDGET };

/* The commands: argc and argv from the command's name on; they return an exit status. */
int command_run(int argc, char **argv);
int command_chat(int argc, char **argv);
int command_serve(int argc, char **argv);
int command_plan(int argc, char **argv);
int command_inspect(int argc, char **argv);
int command_replay(int argc, char **argv);
int command_tokenize(int argc, char **argv);
int command_detokenize(int argc, char **argv);
int command_grammar(int argc, char **argv);
int command_template(int argc, char **argv);
int command_parse(int argc, char **argv);
int command_logits(int argc, char **argv);
int command_perplexity(int argc, char **argv);
int command_bench(int argc, char **argv);
int command_layer(int argc, char **argv);
int command_bench_layer(int argc, char **argv);

/* complain - one line "odmoe: ..." on stderr; clears a progress line first. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* usage_error - complain and end the program with status 2. */
noreturn void usage_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* fail - complain about a library error; the exit status that belongs to it. */
int fail(const odmoe_error *err);

/* drop_line_end - text[0, length) without one line end, \n or Windows' \r\n; the length that is left. */
size_t drop_line_end(char *text, size_t length);

/* flush_output - what was printed goes out. false: standard output takes nothing any more (a full disk, a closed pipe).
 * output_done - the same at the program's end: says so in one line, unless the status tells of another failure already,
 * and gives the status to end with. */
bool flush_output(void);
int output_done(int status);

/* Numbers from the command line; usage_error names the option when one is malformed or out of range. */
int64_t parse_integer(const char *option, const char *text, int64_t low, int64_t high);
double parse_real(const char *option, const char *text, double low, double high);

/* A growing array of token ids. Zero it before use, free(ids). */
typedef struct id_list {
    int32_t *ids;
    size_t n, capacity;
} id_list;

/* Memory that a front end cannot do without: ends the program with status 1 when the system gives none. */
void *must_alloc(size_t count, size_t size);
void *must_realloc(void *p, size_t count, size_t size);
void id_list_add(id_list *list, int32_t id);

/* read_whole - a file's (or with path NULL standard input's) bytes and a terminating 0; free it. NULL: complained. */
char *read_whole(const char *path, size_t *length);
/* read_most - the same of at most that many bytes; more is an error whose message says `why`. */
char *read_most(const char *path, size_t most, const char *why, size_t *length);

/* parse_ids - ids between commas, blanks or line ends; false: complained. `where` names the source in the message. */
bool parse_ids(const char *text, const char *where, id_list *list);

/* tokenize_all - odmoe_tokenize into a list of the right size. false: complained. */
bool tokenize_all(const odmoe_tokenizer *tokenizer, const char *text, size_t length, int flags, id_list *list);

double now_seconds(void);

#endif
