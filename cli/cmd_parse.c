#include <stdlib.h>
#include <string.h>

#include "batch.h"
#include "measure.h"
#include "options.h"

enum { KEY_BATCH = KEY_COMMAND };

static error_t parse(int key, char *arg, struct argp_state *state)
{
    bool *batch = state->input;
    switch (key) {
    case KEY_BATCH:
        *batch = true;
        return 0;
    case ARGP_KEY_END:
        if (!*batch)
            usage_error("parse: --batch is needed: the texts come from standard input, a JSON object a line");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp parse_argp = {
    .options =
        (const struct argp_option[]){
            {"batch", KEY_BATCH, NULL, 0,
             "read {\"format\", \"prompt\", \"tools\", \"text\", \"cut\"} a line, write a JSON object a line", 0},
            {0}},
    .parser = parse,
    .args_doc = "--batch",
    .doc = "Split a model's output into content, reasoning and tool calls.\v"
           "Example: echo '{\"format\": \"hermes\", \"text\": \"<think>Easy.</think>Blue.\"}' | odmoe parse --batch",
    .children = (const struct argp_child[]){{&help_argp, 0, NULL, 0}, {0}},
};

/* A growing text. */
typedef struct part {
    char *text;
    size_t length;
} part;

static void append(part *p, const char *text, size_t length)
{
    p->text = must_realloc(p->text, p->length + length + 1, 1);
    memcpy(p->text + p->length, text, length);
    p->length += length;
}

/* The sum of the deltas. */
typedef struct message {
    part content, reasoning;
    json_t *calls;
} message;

static void add_call(message *m, const odmoe_delta *d)
{
    if (d->call == json_array_size(m->calls)) {
        json_t *call = json_pack("{s:o, s:o, s:s}", "id", d->id ? json_text(d->id, strlen(d->id)) : json_null(), "name",
                                 json_text(d->name, strlen(d->name)), "arguments", "");
        json_array_append_new(m->calls, call);
    }
    json_t *call = json_array_get(m->calls, d->call);
    part arguments = {0};
    const char *before = json_string_value(json_object_get(call, "arguments"));
    append(&arguments, before, strlen(before));
    append(&arguments, d->text, d->length);
    json_object_set_new(call, "arguments", json_text(arguments.text, arguments.length));
    free(arguments.text);
}

static void take(void *user, const odmoe_delta *d)
{
    message *m = user;
    if (d->kind == ODMOE_DELTA_CALL)
        add_call(m, d);
    else
        append(d->kind == ODMOE_DELTA_REASONING ? &m->reasoning : &m->content, d->text, d->length);
}

/* Pieces of 1 to 7 bytes, drawn from the seed; the whole text without one. */
static odmoe_status feed(odmoe_output *output, const char *text, size_t length, const json_t *cut, odmoe_error *err)
{
    uint64_t seed = ((uint64_t)json_integer_value(cut) + 1) * 0x9E3779B97F4A7C15u;
    odmoe_status status = ODMOE_OK;
    for (size_t at = 0, n; !status && at < length; at += n) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        n = json_is_integer(cut) ? 1 + (size_t)((seed >> 32) % 7) : length;
        n = n < length - at ? n : length - at;
        status = odmoe_output_feed(output, text + at, n, err);
    }
    return status ? status : odmoe_output_end(output, err);
}

static json_t *error_of(const odmoe_error *err)
{
    return json_pack("{s:s, s:s}", "error", "value", "message", err->message);
}

static json_t *parse_line(const json_t *row)
{
    const json_t *text = json_object_get(row, "text"), *tools = json_object_get(row, "tools");
    message m = {.calls = json_array()};
    odmoe_output *output = NULL;
    odmoe_error err = {0};
    char *list = json_is_array(tools) ? json_dumps(tools, JSON_COMPACT) : NULL;
    odmoe_status status =
        odmoe_output_create(json_string_value(json_object_get(row, "format")),
                            json_string_value(json_object_get(row, "prompt")), list, take, &m, &output, &err);
    if (!status)
        status = feed(output, json_string_value(text) ? json_string_value(text) : "", json_string_length(text),
                      json_object_get(row, "cut"), &err);
    const char *finish = json_array_size(m.calls) ? "tool_calls" : "stop";
    json_t *out =
        status ? error_of(&err)
               : json_pack("{s:o, s:o, s:O, s:s}", "content",
                           json_text(m.content.text ? m.content.text : "", m.content.length), "reasoning_content",
                           json_text(m.reasoning.text ? m.reasoning.text : "", m.reasoning.length), "tool_calls",
                           m.calls, "finish", finish);
    odmoe_output_free(output);
    json_decref(m.calls);
    free(m.content.text);
    free(m.reasoning.text);
    free(list);
    return out;
}

int command_parse(int argc, char **argv)
{
    bool batch = false;
    parse_options(&parse_argp, argc, argv, &batch);
    return batch_lines(parse_line);
}
