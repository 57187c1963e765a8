#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "options.h"

/* tokenize and detokenize: the tokenizer alone. */

enum { KEY_SPECIAL = KEY_COMMAND };

typedef struct tokenize_options {
    const char *path, *text, *file;
    bool special;
} tokenize_options;

static error_t parse_tokenize(int key, char *arg, struct argp_state *state)
{
    tokenize_options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->path;
        return 0;
    case KEY_SPECIAL:
        o->special = true;
        return 0;
    case 'f':
        o->file = arg;
        return 0;
    case ARGP_KEY_ARG:
        if (o->text)
            usage_error("%s: one text only; put it into quotes", arg);
        o->text = arg;
        return 0;
    case ARGP_KEY_END:
        if (!o->text == !o->file)
            usage_error("one text is needed: TEXT or -f FILE");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp tokenize_argp = {
    .options =
        (const struct argp_option[]){{"special", KEY_SPECIAL, NULL, 0,
                                      "recognise special tokens in the text, and put the model's start token before it",
                                      0},
                                     {NULL, 'f', "FILE", 0, "read the text from FILE", 0},
                                     {0}},
    .parser = parse_tokenize,
    .args_doc = "-m MODEL (TEXT | -f FILE)",
    .doc = "Print the ids of a text on one line. Needs the tokenizer alone: any architecture, no weights.\v"
           "Example: odmoe tokenize -m models/demo.gguf \"In the beginning\"",
    .children = (const struct argp_child[]){{&path_argp, 0, NULL, 0}, {0}},
};

static odmoe_tokenizer *open_tokenizer(const char *path, int *status)
{
    odmoe_tokenizer *tokenizer = NULL;
    odmoe_error err;
    if (odmoe_tokenizer_open(path, &tokenizer, &err))
        *status = fail(&err);
    else if (!tokenizer)
        complain("%s: has no tokenizer", path);
    return tokenizer;
}

int command_tokenize(int argc, char **argv)
{
    tokenize_options o = {0};
    parse_options(&tokenize_argp, argc, argv, &o);
    size_t length = o.text ? strlen(o.text) : 0;
    char *read = o.text ? NULL : read_whole(o.file, &length);
    if (!o.text && !read)
        return STATUS_FAILED;
    int status = STATUS_FAILED;
    id_list ids = {0};
    odmoe_tokenizer *tokenizer = open_tokenizer(o.path, &status);
    if (tokenizer && tokenize_all(tokenizer, o.text ? o.text : read, length,
                                  o.special ? ODMOE_TOKENIZE_SPECIAL | ODMOE_TOKENIZE_START : 0, &ids)) {
        for (size_t i = 0; i < ids.n; i++)
            printf("%s%d", i ? " " : "", ids.ids[i]);
        putchar('\n');
        status = STATUS_DONE;
    }
    free(ids.ids);
    free(read);
    odmoe_tokenizer_close(tokenizer);
    return status;
}

typedef struct detokenize_options {
    const char *path;
    id_list ids;
} detokenize_options;

static error_t parse_detokenize(int key, char *arg, struct argp_state *state)
{
    detokenize_options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->path;
        return 0;
    case ARGP_KEY_ARG:
        if (!parse_ids(arg, "the command line", &o->ids))
            exit(STATUS_USAGE);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp detokenize_argp = {
    .parser = parse_detokenize,
    .args_doc = "-m MODEL ID...",
    .doc = "Print the text of token ids, nothing added.\v"
           "Example: odmoe detokenize -m models/demo.gguf 1011 262 3697",
    .children = (const struct argp_child[]){{&path_argp, 0, NULL, 0}, {0}},
};

int command_detokenize(int argc, char **argv)
{
    detokenize_options o = {0};
    parse_options(&detokenize_argp, argc, argv, &o);
    int status = STATUS_FAILED;
    char *text = NULL;
    size_t length = 0, capacity;
    odmoe_error err;
    odmoe_tokenizer *tokenizer = open_tokenizer(o.path, &status);
    if (!tokenizer)
        goto done;
    do {
        capacity = length;
        text = must_realloc(text, capacity + 1, 1);
        if (odmoe_detokenize(tokenizer, o.ids.ids, o.ids.n, text, capacity, &length, &err)) {
            status = fail(&err);
            goto done;
        }
    } while (length > capacity);
    fwrite(text, 1, length, stdout);
    status = STATUS_DONE;
done:
    free(text);
    free(o.ids.ids);
    odmoe_tokenizer_close(tokenizer);
    return status;
}
