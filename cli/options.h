/* options.h - options that several commands share, as argp children. */
#ifndef ODMOE_CLI_OPTIONS_H
#define ODMOE_CLI_OPTIONS_H

#include <argp.h>

#include "cli.h"

/* --help alone, for commands without a model; their parsers leave ARGP_KEY_ARG to it. No input. */
extern const struct argp help_argp;

/* -m MODEL and --help. Input: const char **. Every command has it, directly or through model_argp. */
extern const struct argp path_argp;

/* The common options of commands that plan or open a model. Input: model_options *. */
typedef struct model_options {
    const char *path;
    odmoe_options lib;
    bool json;
} model_options;
extern const struct argp model_argp;
extern const struct argp run_model_argp;  /* with -v in its help: there is a summary */
extern const struct argp chat_model_argp; /* with -v and without --json */
void model_options_init(model_options *options);

/* Sampling options. Input: odmoe_sampler_options *. */
extern const struct argp sampler_argp;

/* parse_options - run argp over a command's arguments. --help prints and ends with 0; what is wrong ends with one line
 * and status 2. A command's parser sets state->child_inputs in ARGP_KEY_INIT. */
void parse_options(const struct argp *argp, int argc, char **argv, void *input);

enum { THREADS_MOST = 256 }; /* what the library takes */

/* Keys of options without a letter: each parser numbers its own from its base. */
enum { KEY_COMMON = 0x100, KEY_SAMPLER = 0x200, KEY_COMMAND = 0x300, KEY_TEMPLATE = 0x400, KEY_ANSWER = 0x500 };

/* parse_ram - the bytes of --ram; a usage error ends the program. 0 is one: `without` says what leaving it out gives.
 */
uint64_t parse_ram(const char *text, const char *without);

#endif
