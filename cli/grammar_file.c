#include "grammar_file.h"

#include <stdlib.h>

bool grammar_file_vocab(grammar_file *f, const char *path, int *status)
{
    odmoe_error err;
    if (!path)
        return true;
    if (odmoe_tokenizer_open(path, &f->tokenizer, &err) || odmoe_grammar_vocab_create(f->tokenizer, &f->vocab, &err)) {
        *status = fail(&err);
        return false;
    }
    return true;
}

bool grammar_file_compile(grammar_file *f, odmoe_grammar_kind kind, const char *path, const char *trigger,
                          uint64_t memory, int *status)
{
    odmoe_error err;
    odmoe_grammar_options options;
    odmoe_grammar_options_init(&options);
    options.memory = memory;
    options.triggers = &trigger;
    options.trigger_count = trigger ? 1 : 0;
    size_t length;
    char *text = read_whole(path, &length);
    if (!text) {
        *status = STATUS_FAILED;
        return false;
    }
    odmoe_status st = odmoe_grammar_compile(f->vocab, kind, text, length, &options, &f->grammar, NULL, &err);
    free(text);
    if (!st)
        return true;
    complain("%s: %s", path, err.message);
    *status = STATUS_FAILED;
    return false;
}

void grammar_file_close_tokenizer(grammar_file *f)
{
    odmoe_tokenizer_close(f->tokenizer);
    f->tokenizer = NULL;
}

uint64_t grammar_file_bytes(const grammar_file *f)
{
    return (f->vocab ? odmoe_grammar_vocab_bytes(f->vocab) : 0) + (f->grammar ? odmoe_grammar_bytes(f->grammar) : 0);
}

void grammar_file_free(grammar_file *f)
{
    odmoe_grammar_free(f->grammar);
    odmoe_grammar_vocab_free(f->vocab);
    odmoe_tokenizer_close(f->tokenizer);
    *f = (grammar_file){0};
}
