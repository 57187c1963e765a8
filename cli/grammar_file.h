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

/* grammar_file_vocab - load the vocabulary of the model at `path`; NULL: there is none. false: complained, *status is the
 * exit status. */
bool grammar_file_vocab(grammar_file *f, const char *path, int *status);
/* grammar_file_vocab_of - the same from an open model's tokenizer, which outlives f; replaces all that f has. */
bool grammar_file_vocab_of(grammar_file *f, const odmoe_model *model, int *status);
/* grammar_file_compile - compile the file at `path`, for the vocabulary if there is one; replaces an earlier grammar.
 * memory: as in odmoe_grammar_options. format and prompt (both may be NULL): the grammar begins with the answer to the
 * prompt. */
bool grammar_file_compile(grammar_file *f, odmoe_grammar_kind kind, const char *path, const char *format,
                          const char *prompt, uint64_t memory, int *status);
/* grammar_file_calls - constrain an output of a format, after a prompt, to calls of tools (JSON). choice: "auto" (NULL),
 * "required" or the name of a tool, which is called once. Otherwise as grammar_file_compile. */
bool grammar_file_calls(grammar_file *f, const char *tools, const char *choice, const char *format, const char *prompt,
                        uint64_t memory, int *status);
/* grammar_file_close_tokenizer - free the tokenizer, which a compiled grammar does not need. */
void grammar_file_close_tokenizer(grammar_file *f);
/* grammar_file_bytes - the most that vocabulary and grammar hold. */
uint64_t grammar_file_bytes(const grammar_file *f);
void grammar_file_free(grammar_file *f);

#endif
