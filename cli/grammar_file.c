#include "grammar_file.h"

#include <stdlib.h>
#include <string.h>

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

bool grammar_file_vocab_of(grammar_file *f, const odmoe_model *model, int *status)
{
    odmoe_error err;
    grammar_file_free(f);
    if (!odmoe_grammar_vocab_create(odmoe_model_tokenizer(model), &f->vocab, &err))
        return true;
    *status = fail(&err);
    return false;
}

/* The grammar takes the place of the one before. what: for the message. */
static bool compile(grammar_file *f, odmoe_grammar_kind kind, const char *text, size_t length,
                    const odmoe_grammar_options *options, const char *what, int *status)
{
    odmoe_error err;
    odmoe_grammar_free(f->grammar);
    f->grammar = NULL;
    if (!odmoe_grammar_compile(f->vocab, kind, text, length, options, &f->grammar, NULL, &err))
        return true;
    complain("%s%s%s", what, *what ? ": " : "", err.message);
    *status = STATUS_FAILED;
    return false;
}

bool grammar_file_compile(grammar_file *f, odmoe_grammar_kind kind, const char *path, const char *format,
                          const char *prompt, uint64_t memory, int *status)
{
    odmoe_grammar_options options;
    odmoe_grammar_options_init(&options);
    options.memory = memory;
    options.format = format;
    options.prompt = prompt;
    size_t length;
    char *text = read_whole(path, &length);
    if (!text)
        *status = STATUS_FAILED;
    bool done = text && compile(f, kind, text, length, &options, path, status);
    free(text);
    return done;
}

bool grammar_file_calls(grammar_file *f, const char *tools, const char *choice, const char *format, const char *prompt,
                        uint64_t memory, int *status)
{
    odmoe_grammar_options options;
    odmoe_grammar_options_init(&options);
    options.memory = memory;
    options.format = format;
    options.prompt = prompt;
    options.calls_required = choice && strcmp(choice, "auto") != 0;
    options.tool = options.calls_required && strcmp(choice, "required") != 0 ? choice : NULL;
    options.calls_single = options.tool != NULL;
    return compile(f, ODMOE_GRAMMAR_CALLS, tools, strlen(tools), &options, "--tools", status);
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
