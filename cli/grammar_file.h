/* grammar_file.h - a grammar or JSON Schema from a file, compiled for a model's vocabulary. */
#ifndef ODMOE_CLI_GRAMMAR_FILE_H
#define ODMOE_CLI_GRAMMAR_FILE_H

#include "cli.h"

/* Zero before use. */
typedef struct grammar_file {
    odmoe_tokenizer *tokenizer; /* for compiling alone */
    odmoe_grammar_vocab *vocab;
    odmoe_grammar *grammar;
} grammar_file;

/* vocab - of the model at `path`, which may be NULL: then there is none. false: complained, *status is the exit status. */
bool grammar_file_vocab(grammar_file *f, const char *path, int *status);
/* vocab_of - the same of an open model's tokenizer, which outlives f, in place of all that f has. */
bool grammar_file_vocab_of(grammar_file *f, const odmoe_model *model, int *status);
/* compile - the file at `path`, for the vocabulary if there is one, in place of a grammar that is there already; memory: as
 * in odmoe_grammar_options. format and prompt (both may be NULL): the grammar begins with the answer to it. */
bool grammar_file_compile(grammar_file *f, odmoe_grammar_kind kind, const char *path, const char *format,
                          const char *prompt, uint64_t memory, int *status);
/* calls - hold an output of a format, behind a prompt, to calls of tools (JSON). choice: "auto" (NULL), "required" or the
 * name of a tool, which is called once. As compile otherwise. */
bool grammar_file_calls(grammar_file *f, const char *tools, const char *choice, const char *format, const char *prompt,
                        uint64_t memory, int *status);
/* close_tokenizer - what was compiled needs it no longer. */
void grammar_file_close_tokenizer(grammar_file *f);
/* bytes - what vocabulary and grammar hold at most. */
uint64_t grammar_file_bytes(const grammar_file *f);
void grammar_file_free(grammar_file *f);

#endif
