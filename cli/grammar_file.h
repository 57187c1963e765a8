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
/* compile - the file at `path`, for the vocabulary if there is one; memory: as in odmoe_grammar_options. The grammar begins
 * behind `trigger`, where that is not NULL. */
bool grammar_file_compile(grammar_file *f, odmoe_grammar_kind kind, const char *path, const char *trigger,
                          uint64_t memory, int *status);
/* close_tokenizer - what was compiled needs it no longer. */
void grammar_file_close_tokenizer(grammar_file *f);
/* bytes - what vocabulary and grammar hold at most. */
uint64_t grammar_file_bytes(const grammar_file *f);
void grammar_file_free(grammar_file *f);

#endif
