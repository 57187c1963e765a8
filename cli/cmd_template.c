#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "batch.h"
#include "measure.h"
#include "template_options.h"

enum { KEY_MESSAGES = KEY_COMMAND, KEY_TOOLS, KEY_NOW, KEY_IDS, KEY_BATCH };

typedef struct show_options {
    const char *path, *messages, *tools;
    template_options template;
    int64_t now;
    bool has_now, ids, batch;
} show_options;

static error_t parse(int key, char *arg, struct argp_state *state)
{
    show_options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->template;
        state->child_inputs[1] = NULL;
        return 0;
    case 'm':
        o->path = arg;
        return 0;
    case KEY_MESSAGES:
        o->messages = arg;
        return 0;
    case KEY_TOOLS:
        o->tools = arg;
        return 0;
    case KEY_NOW:
        o->now = parse_integer("--now", arg, INT64_MIN, INT64_MAX);
        o->has_now = true;
        return 0;
    case KEY_IDS:
        o->ids = true;
        return 0;
    case KEY_BATCH:
        o->batch = true;
        return 0;
    case ARGP_KEY_END:
        if (!o->batch && !o->path && !o->template.file)
            usage_error("a template is needed: -m MODEL or --template FILE");
        if (o->ids && !o->path)
            usage_error("--ids: the tokenizer of a model is needed: -m MODEL");
        if (!o->batch && !o->messages && isatty(STDIN_FILENO))
            usage_error("a conversation is needed: --messages FILE or standard input");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp show_argp = {
    .options =
        (const struct argp_option[]){
            {NULL, 'm', "MODEL", 0, "a .gguf file or a Hugging Face folder; its tensors are not needed", 0},
            {"messages", KEY_MESSAGES, "FILE", 0,
             "the conversation: a JSON list of messages as OpenAI writes them, or an object with `messages` and "
             "`tools`; "
             "without it from standard input",
             0},
            {"tools", KEY_TOOLS, "FILE", 0, "a JSON list of tools", 0},
            {"now", KEY_NOW, "SECONDS", 0, "the time that the template sees, since 1970, UTC; default: this place's",
             0},
            {"ids", KEY_IDS, NULL, 0, "print token ids", 0},
            {"batch", KEY_BATCH, NULL, 0,
             "read {\"template\", \"context\", \"now\"} a line, write a JSON object a line", 0},
            {0}},
    .parser = parse,
    .args_doc = "(-m MODEL | --template FILE | --batch)",
    .doc = "Print a conversation as a chat template renders it. Needs no tensors.\v"
           "Example: echo '[{\"role\": \"user\", \"content\": \"Hello\"}]' | odmoe template -m models/demo.gguf",
    .children = (const struct argp_child[]){{&template_argp, 0, NULL, 0}, {&help_argp, 0, NULL, 0}, {0}},
};

/* ---- one conversation ---- */

/* The JSON of a file (NULL: standard input). NULL: complained. */
static json_t *read_json_file(const char *path)
{
    json_error_t fault;
    size_t length;
    char *text = read_whole(path, &length);
    if (!text)
        return NULL;
    json_t *v = json_loadb(text, length, 0, &fault);
    if (!v)
        complain("%s: line %d: %s", path ? path : "standard input", fault.line, fault.text);
    free(text);
    return v;
}

static bool print_ids(const odmoe_template *t, const odmoe_tokenizer *tokenizer, const odmoe_chat *chat)
{
    odmoe_error err;
    size_t n = 0, capacity;
    int32_t *ids = NULL;
    odmoe_status status;
    do {
        capacity = n;
        ids = must_realloc(ids, capacity + 1, sizeof *ids);
        status = odmoe_chat_tokenize(t, tokenizer, chat, ids, capacity, &n, &err);
    } while (!status && n > capacity);
    if (status)
        fail(&err);
    for (size_t i = 0; !status && i < n; i++)
        printf("%s%d", i ? " " : "", ids[i]);
    if (!status)
        putchar('\n');
    free(ids);
    return !status;
}

static bool print_text(const odmoe_template *t, const odmoe_tokenizer *tokenizer, const odmoe_chat *chat)
{
    odmoe_error err;
    odmoe_template_text text = {.size = sizeof text};
    if (odmoe_chat_render(t, tokenizer, chat, &text, &err)) {
        fail(&err);
        return false;
    }
    fwrite(text.text, 1, text.length, stdout);
    if (isatty(STDOUT_FILENO))
        putchar('\n');
    odmoe_template_text_free(&text);
    return true;
}

static int show(const show_options *o, const odmoe_template *t, const odmoe_tokenizer *tokenizer)
{
    bool done = false;
    json_t *messages = read_json_file(o->messages), *tools = NULL;
    if (!messages || (o->tools && !(tools = read_json_file(o->tools))))
        goto done;
    if (json_is_object(messages)) {
        json_t *list = json_incref(json_object_get(messages, "messages"));
        if (!tools)
            tools = json_incref(json_object_get(messages, "tools"));
        json_decref(messages);
        messages = list;
    }
    odmoe_chat chat;
    odmoe_chat_init(&chat);
    char *list = json_dumps(messages, JSON_COMPACT | JSON_ENCODE_ANY),
         *tool_list = tools ? json_dumps(tools, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    chat.messages = list;
    chat.tools = tool_list;
    chat.keywords = o->template.keywords;
    chat.now = o->has_now ? o->now : chat_now();
    done = o->ids ? print_ids(t, tokenizer, &chat) : print_text(t, tokenizer, &chat);
    free(list);
    free(tool_list);
done:
    json_decref(messages);
    json_decref(tools);
    return done ? STATUS_DONE : STATUS_FAILED;
}

static int show_of_model(const show_options *o)
{
    odmoe_template *t = NULL;
    odmoe_tokenizer *tokenizer = NULL;
    odmoe_error err;
    int status = STATUS_FAILED;
    if (o->template.file)
        t = template_load(o->template.file);
    else if (odmoe_template_open(o->path, NULL, &t, &err))
        status = fail(&err);
    if (t && o->path && odmoe_tokenizer_open(o->path, &tokenizer, &err))
        status = fail(&err);
    else if (t)
        status = show(o, t, tokenizer);
    odmoe_template_close(t);
    odmoe_tokenizer_close(tokenizer);
    return status;
}

/* ---- many templates ---- */

static json_t *error_object(const char *kind, const char *message, size_t length, int line)
{
    if (!strcmp(kind, "data") || !strcmp(kind, "memory"))
        kind = *kind == 'd' ? "value" : "limit";
    return json_pack("{s:s, s:o, s:i}", "error", kind, "message", json_text(message, length), "line", line);
}

static json_t *fault_object(odmoe_template_fault *fault)
{
    json_t *out = error_object(fault->kind, fault->message ? fault->message : "", fault->length, fault->line);
    odmoe_string_free(fault->message);
    return out;
}

static json_t *run_line(const json_t *row)
{
    const json_t *source = json_object_get(row, "template"), *context = json_object_get(row, "context");
    odmoe_template *t;
    odmoe_template_fault fault = {.size = sizeof fault};
    odmoe_template_text text = {.size = sizeof text};
    odmoe_error err;
    if (!json_is_string(source) || (context && !json_is_object(context)))
        return error_object("value", "a line needs a template and a context", 37, 0);
    if (odmoe_template_compile(json_string_value(source), json_string_length(source), &t, &fault, &err))
        return fault_object(&fault);
    char *variables = context ? json_dumps(context, JSON_COMPACT) : strdup("{}");
    json_t *out;
    if (odmoe_template_run(t, variables ? variables : "{}", variables ? strlen(variables) : 2,
                           json_integer_value(json_object_get(row, "now")), &text, &fault, &err)) {
        out = fault_object(&fault);
    } else {
        json_t *foreign = json_array();
        for (size_t i = 0; i < text.n; i++)
            json_array_append_new(
                foreign, json_pack("[I, I]", (json_int_t)text.foreign[2 * i], (json_int_t)text.foreign[2 * i + 1]));
        out = json_pack("{s:o, s:o}", "text", json_text(text.text, text.length), "foreign", foreign);
        odmoe_template_text_free(&text);
    }
    free(variables);
    odmoe_template_close(t);
    return out;
}

int command_template(int argc, char **argv)
{
    show_options o = {0};
    parse_options(&show_argp, argc, argv, &o);
    return o.batch ? batch_lines(run_line) : show_of_model(&o);
}
