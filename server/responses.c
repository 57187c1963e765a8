/* POST /v1/responses: the stateless part of OpenAI's Responses. Items become chat's messages, then all is shared. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "answer.h"
#include "log.h"
#include "serve.h"

/* ---- items, in chat's shape ---- */

typedef struct reader {
    json_t *out;      /* chat's messages */
    buffer reasoning; /* of the assistant's next message */
} reader;

static bool append(reader *r, json_t *made, problem *p)
{
    if (made && r->reasoning.length && !strcmp(json_string_value(json_object_get(made, "role")), "assistant"))
        json_object_set_new(made, "reasoning_content", json_bytes_text(r->reasoning.data, r->reasoning.length));
    buffer_free(&r->reasoning);
    return !json_array_append_new(r->out, made) || problem_memory(p);
}

static bool add_message(reader *r, const json_t *item, const char *where, problem *p)
{
    static const char *const texts[] = {"input_text", "output_text", "text", "refusal", NULL};
    const char *role = NULL;
    buffer text = {0};
    if (!field_text(item, where, "role", &role, p))
        return false;
    if (!role ||
        (strcmp(role, "user") && strcmp(role, "assistant") && strcmp(role, "system") && strcmp(role, "developer")))
        return problem_value(p, where, "role", "user, assistant, system or developer is wanted");
    field_path at = field_at(where, "content");
    bool done = content_texts(json_object_get(item, "content"), at.text, texts, &text, p) &&
                append(r, json_pack("{s:s, s:s}", "role", role, "content", text.data ? text.data : ""), p);
    buffer_free(&text);
    return done;
}

/* Calls that follow an answer, or each other, belong to one message; reasoning between them begins the next. */
static bool add_call(reader *r, const json_t *item, const char *where, problem *p)
{
    const char *id = NULL, *name = NULL, *arguments = NULL;
    if (!field_text(item, where, "call_id", &id, p) || !field_text(item, where, "name", &name, p) ||
        !field_text(item, where, "arguments", &arguments, p))
        return false;
    if (!name)
        return problem_value(p, where, "name", "a call needs the name of its function");
    json_t *last = json_array_get(r->out, json_array_size(r->out) - 1), *calls;
    bool joins = last && !r->reasoning.length && !strcmp(json_string_value(json_object_get(last, "role")), "assistant");
    if (!joins) {
        if (!append(r, json_pack("{s:s, s:n}", "role", "assistant", "content"), p))
            return false;
        last = json_array_get(r->out, json_array_size(r->out) - 1);
    }
    calls = json_object_get(last, "tool_calls");
    if (!calls && json_object_set_new(last, "tool_calls", calls = json_array()))
        return problem_memory(p);
    return !json_array_append_new(calls,
                                  json_pack("{s:s?, s:s, s:{s:s, s:s}}", "id", id, "type", "function", "function",
                                            "name", name, "arguments", arguments ? arguments : "{}")) ||
           problem_memory(p);
}

static bool add_output(reader *r, const json_t *item, const char *where, problem *p)
{
    static const char *const texts[] = {"input_text", "output_text", "text", NULL};
    const char *id = NULL;
    buffer text = {0};
    field_path at = field_at(where, "output");
    bool done =
        field_text(item, where, "call_id", &id, p) &&
        content_texts(json_object_get(item, "output"), at.text, texts, &text, p) &&
        append(r,
               json_pack("{s:s, s:s?, s:s}", "role", "tool", "tool_call_id", id, "content", text.data ? text.data : ""),
               p);
    buffer_free(&text);
    return done;
}

static bool add_item(reader *r, const json_t *item, const char *where, problem *p)
{
    static const char *const texts[] = {"reasoning_text", "text", NULL};
    const char *type = NULL;
    if (!json_is_object(item))
        return problem_value(p, where, NULL, "an item is an object");
    if (!field_text(item, where, "type", &type, p))
        return false;
    if (!type || !strcmp(type, "message"))
        return add_message(r, item, where, p);
    if (!strcmp(type, "function_call"))
        return add_call(r, item, where, p);
    if (!strcmp(type, "function_call_output"))
        return add_output(r, item, where, p);
    if (!strcmp(type, "reasoning")) {
        field_path at = field_at(where, "content");
        buffer_free(&r->reasoning);
        return content_texts(json_object_get(item, "content"), at.text, texts, &r->reasoning, p);
    }
    return problem_unsupported(
        p, where, "type", "items of type '%.40s' are not supported: this server keeps nothing between requests", type);
}

static bool read_input(ask *a, const json_t *body, problem *p)
{
    json_t *input = field_get(body, "input"), *item;
    const char *instructions = NULL;
    reader r = {.out = json_array()};
    size_t i;
    bool done = field_text(body, "", "instructions", &instructions, p);
    if (done && instructions)
        done = append(&r, json_pack("{s:s, s:s}", "role", "system", "content", instructions), p);
    if (done && json_is_string(input))
        done = append(&r, json_pack("{s:s, s:O}", "role", "user", "content", input), p);
    else if (done && (!json_is_array(input) || !json_array_size(input)))
        done = problem_set(p, 400, input ? "invalid_value" : "missing_required_parameter", "input",
                           "input: a text or a list of items is wanted");
    else
        json_array_foreach(input, i, item) if (done) done = add_item(&r, item, field_index("input", i).text, p);
    done = done && conversation_read(a, r.out, "input", p);
    json_decref(r.out);
    buffer_free(&r.reasoning);
    return done;
}

/* ---- tools and the rest ---- */

static bool add_tool(ask *a, const json_t *tool, const char *where, problem *p)
{
    const char *type = NULL;
    if (!json_is_object(tool))
        return problem_value(p, where, NULL, "a tool is an object");
    if (!field_text(tool, where, "type", &type, p))
        return false;
    if (!type || !strcmp(type, "custom"))
        return problem_unsupported(p, where, "type", "only functions with arguments in JSON are supported as tools");
    if (strcmp(type, "function")) {
        log_line("a tool of type %.40s is left out: the server runs none of its own", type);
        return true;
    }
    return ask_add_tool(a, tool, "parameters", where, p);
}

static bool read_choice(ask *a, const json_t *body, problem *p)
{
    json_t *choice = field_get(body, "tool_choice");
    const char *text = json_string_value(choice), *type = NULL;
    if (json_is_object(choice) && (!field_text(choice, "tool_choice", "type", &type, p) ||
                                   !field_text(choice, "tool_choice", "name", &a->tool_name, p)))
        return false;
    if (type && !strcmp(type, "function") && a->tool_name)
        a->choice = TOOLS_NAMED;
    else if (text && !strcmp(text, "none"))
        a->choice = TOOLS_NONE;
    else if (text && !strcmp(text, "required"))
        a->choice = TOOLS_REQUIRED;
    else if (choice && (!text || strcmp(text, "auto")))
        return problem_value(p, "", "tool_choice", "none, auto, required, or a function by its name is wanted");
    return ask_check_tools(a, "tool_choice", p);
}

static bool read_tools(ask *a, const json_t *body, problem *p)
{
    json_t *tools = NULL, *tool;
    size_t i;
    bool many = true;
    if (!field_array(body, "", "tools", &tools, p) || !field_bool(body, "", "parallel_tool_calls", &many, p))
        return false;
    json_array_foreach(tools, i, tool) if (!add_tool(a, tool, field_index("tools", i).text, p)) return false;
    a->one_call = !many;
    return read_choice(a, body, p);
}

static bool read_format(ask *a, const json_t *body, problem *p)
{
    json_t *text = NULL, *format = NULL, *schema;
    const char *type = NULL;
    if (!field_object(body, "", "text", &text, p))
        return false;
    if (!text)
        return true;
    if (!field_object(text, "text", "format", &format, p))
        return false;
    if (!format)
        return true;
    if (!field_text(format, "text.format", "type", &type, p))
        return false;
    if (!type || !strcmp(type, "text"))
        return true;
    if (!strcmp(type, "json_object"))
        return ask_set_object(a, "text.format", p);
    schema = field_get(format, "schema");
    if (strcmp(type, "json_schema") || !schema)
        return problem_value(p, "text.format", NULL, "text, json_object, or json_schema with a schema is wanted");
    return ask_set_schema(a, schema, "text.format.schema", p);
}

static bool check_refused(const json_t *body, problem *p)
{
    static const char *const refused[] = {"previous_response_id", "conversation", "prompt"};
    bool background = false;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        if (field_get(body, refused[i]))
            return problem_unsupported(p, "", refused[i],
                                       "this server keeps nothing between requests; send all items in input");
    if (!field_bool(body, "", "background", &background, p))
        return false;
    return !background ||
           problem_unsupported(p, "", "background",
                               "background answers are not supported; the answer comes at once or as a stream");
}

static bool read_request(const struct server *s, ask *a, const json_t *body, problem *p)
{
    json_t *reasoning = NULL;
    const char *level = NULL;
    a->prompt_param = "input";
    if (!check_refused(body, p) || !field_object(body, "", "reasoning", &reasoning, p) ||
        (reasoning && !field_text(reasoning, "reasoning", "effort", &level, p)))
        return false;
    return ask_read_common(s, a, body, p) && (!level || ask_set_effort(s, a, level, "reasoning.effort", p)) &&
           ask_read_limit(a, body, "max_output_tokens", p) && read_format(a, body, p) && read_tools(a, body, p) &&
           read_input(a, body, p);
}

/* ---- one request ---- */

/* An item of the output: reasoning, the message, or a call. */
typedef struct item {
    int kind; /* ODMOE_DELTA_* */
    size_t call;
    char id[48], call_id[48];
    buffer name, text; /* text: arguments of a call */
} item;

typedef struct exchange {
    struct server *server;
    ask ask; /* without what the job has copied */
    answer answer;
    char id[48];
    json_int_t created;
    buffer
        repeated;   /* an object: what the reply repeats of the request. As text, which takes less memory than a tree */
    json_t *output; /* items that are done */
    /* of a stream */
    item item; /* the open one */
    bool open, started;
    int sequence; /* number of the next event */
} exchange;

static void item_free(item *i)
{
    buffer_free(&i->name);
    buffer_free(&i->text);
}

static void exchange_free(void *user)
{
    exchange *x = user;
    answer_free(&x->answer);
    ask_free(&x->ask);
    buffer_free(&x->repeated);
    json_decref(x->output);
    item_free(&x->item);
    free(x);
}

static void item_begin(item *i, int kind, size_t call, const char *name)
{
    static const char *const prefixes[] = {
        [ODMOE_DELTA_CONTENT] = "msg_", [ODMOE_DELTA_REASONING] = "rs_", [ODMOE_DELTA_CALL] = "fc_"};
    *i = (item){.kind = kind, .call = call};
    random_id(i->id, sizeof i->id, prefixes[kind]);
    random_id(i->call_id, sizeof i->call_id, "call_");
    buffer_text(&i->name, name ? name : "");
}

static json_t *text_of(const item *i)
{
    return json_bytes_text(i->text.data, i->text.length);
}

/* The part of a message or of reasoning; with its text, or empty. */
static json_t *part_json(const item *i, bool whole)
{
    json_t *text = whole ? text_of(i) : json_string("");
    if (i->kind == ODMOE_DELTA_REASONING)
        return json_pack("{s:s, s:o}", "type", "reasoning_text", "text", text);
    return json_pack("{s:s, s:o, s:[], s:[]}", "type", "output_text", "text", text, "annotations", "logprobs");
}

/* status: "in_progress" (it has begun, and holds nothing), "completed" or "incomplete". */
static json_t *item_json(const item *i, const char *status)
{
    bool whole = strcmp(status, "in_progress") != 0;
    if (i->kind == ODMOE_DELTA_CALL)
        return json_pack("{s:s, s:s, s:s, s:s, s:o, s:o}", "id", i->id, "type", "function_call", "status", status,
                         "call_id", i->call_id, "name", json_bytes_text(i->name.data, i->name.length), "arguments",
                         whole ? text_of(i) : json_string(""));
    json_t *content = json_array();
    if (whole)
        json_array_append_new(content, part_json(i, true));
    if (i->kind == ODMOE_DELTA_REASONING)
        return json_pack("{s:s, s:s, s:s, s:[], s:o}", "id", i->id, "type", "reasoning", "status", status, "summary",
                         "content", content);
    return json_pack("{s:s, s:s, s:s, s:s, s:o}", "id", i->id, "type", "message", "status", status, "role", "assistant",
                     "content", content);
}

static json_t *usage(const job_usage *u)
{
    return json_pack("{s:i, s:{s:i, s:i}, s:i, s:{s:i}, s:i}", "input_tokens", u->prompt_tokens, "input_tokens_details",
                     "cached_tokens", u->cached_tokens, "cache_write_tokens", 0, "output_tokens", u->sampled_tokens,
                     "output_tokens_details", "reasoning_tokens", u->reasoning_tokens, "total_tokens",
                     u->prompt_tokens + u->sampled_tokens);
}

/* A field of the request as it came; `otherwise`, which is taken, where it is absent or of another type. */
static json_t *as_given(const json_t *body, const char *key, json_type type, json_t *otherwise)
{
    json_t *value = json_object_get(body, key);
    if (!value || json_typeof(value) != type)
        return otherwise;
    json_decref(otherwise);
    return json_incref(value);
}

/* What the reply repeats of a request that was read without a fault: also what is ignored and what clients only look for. Of the
 * tools those that the model was shown. */
static void repeat(const json_t *body, buffer *out)
{
    json_t *choice = field_get(body, "tool_choice"), *tools = json_array(), *tool;
    json_t *text = json_copy(field_get(body, "text")), *r;
    size_t i;
    json_array_foreach(json_object_get(body, "tools"), i,
                       tool) if (!strcmp(json_string_value(json_object_get(tool, "type")), "function"))
        json_array_append(tools, tool);
    if (!text)
        text = json_object();
    if (!field_get(text, "format"))
        json_object_set_new(text, "format", json_pack("{s:s}", "type", "text"));
    r = json_pack("{s:o, s:o, s:o, s:o, s:o, s:{s:o, s:n}, s:o, s:o, s:o, s:n, s:i, s:s, s:s}", "instructions",
                  as_given(body, "instructions", JSON_STRING, json_null()), "metadata",
                  as_given(body, "metadata", JSON_OBJECT, json_object()), "tools", tools, "tool_choice",
                  choice ? json_incref(choice) : json_string("auto"), "text", text, "reasoning", "effort",
                  as_given(json_object_get(body, "reasoning"), "effort", JSON_STRING, json_null()), "summary", "user",
                  as_given(body, "user", JSON_STRING, json_null()), "safety_identifier",
                  as_given(body, "safety_identifier", JSON_STRING, json_null()), "prompt_cache_key",
                  as_given(body, "prompt_cache_key", JSON_STRING, json_null()), "max_tool_calls", "top_logprobs", 0,
                  "service_tier", "default", "truncation", "disabled");
    buffer_json(out, r);
    json_decref(r);
}

/* A float as it was given: 0.7, not the nearest that 32 bits hold. */
static json_t *short_real(float x)
{
    char text[32];
    snprintf(text, sizeof text, "%.7g", (double)x);
    return json_real(strtod(text, NULL));
}

/* The whole object. why: of a failure, or NULL. */
static void write_response(const exchange *x, const char *status, const problem *why, buffer *out)
{
    const ask *a = &x->ask;
    json_t *r = json_pack("{s:s, s:s, s:I, s:n, s:s, s:s, s:b, s:b, s:b, s:n, s:n, s:n, s:n, s:n}", "id", x->id,
                          "object", "response", "created_at", x->created, "completed_at", "model", x->server->name,
                          "status", status, "background", 0, "store", 0, "parallel_tool_calls", !a->one_call,
                          "previous_response_id", "error", "incomplete_details", "usage", "max_output_tokens");
    json_object_set_new(r, "temperature", short_real(a->sampling.temperature));
    json_object_set_new(r, "top_p", short_real(a->sampling.top_p));
    json_object_set_new(r, "output", json_copy(x->output));
    if (a->max_tokens >= 0)
        json_object_set_new(r, "max_output_tokens", json_integer(a->max_tokens));
    if (strcmp(status, "in_progress"))
        json_object_set_new(r, "usage", usage(&x->answer.usage));
    if (!strcmp(status, "completed"))
        json_object_set_new(r, "completed_at", json_integer((json_int_t)time(NULL)));
    if (!strcmp(status, "incomplete"))
        json_object_set_new(r, "incomplete_details", json_pack("{s:s}", "reason", "max_output_tokens"));
    if (why) /* of the codes that clients know of a response, this one stands for all that fails here */
        json_object_set_new(r, "error", json_pack("{s:s, s:s}", "code", "server_error", "message", why->message));
    buffer_json(out, r);
    json_decref(r);
    if (out->failed)
        return;
    out->data[out->length - 1] = ','; /* the members of `repeated` follow within the same braces */
    buffer_add(out, x->repeated.data + 1, x->repeated.length - 1);
}

/* "completed" or "incomplete"; NULL: it failed, p says why. */
static const char *status_of(const exchange *x, problem *p)
{
    const char *finish = answer_finish(&x->answer, p);
    return !finish ? NULL : !strcmp(finish, "length") ? "incomplete" : "completed";
}

static void keep_item(exchange *x, const item *i, const char *status)
{
    json_array_append_new(x->output, item_json(i, status));
}

/* Items of a whole answer: only the last one can be cut. */
static void keep_message(exchange *x, message *m, const char *status)
{
    item i;
    if (m->reasoning.length) {
        item_begin(&i, ODMOE_DELTA_REASONING, 0, NULL);
        i.text = m->reasoning;
        keep_item(x, &i, m->content.length || m->call_count ? "completed" : status);
        buffer_free(&i.name);
    }
    if (m->content.length || !m->call_count) {
        item_begin(&i, ODMOE_DELTA_CONTENT, 0, NULL);
        i.text = m->content;
        keep_item(x, &i, m->call_count ? "completed" : status);
        buffer_free(&i.name);
    }
    for (size_t k = 0; k < m->call_count; k++) {
        item_begin(&i, ODMOE_DELTA_CALL, k, NULL);
        buffer_free(&i.name);
        i.name = m->calls[k].name;
        i.text = m->calls[k].arguments;
        keep_item(x, &i, k + 1 < m->call_count ? "completed" : status);
    }
}

static bool reply_whole(exchange *x, http_reply *reply, problem *p)
{
    message m = {.best = -1};
    bool done = false;
    answer_step step = answer_collect(&x->answer, &m, "call_", p);
    if (step == ANSWER_GONE) {
        reply->gone = done = true;
    } else if (step == ANSWER_EVENT) {
        const char *status = status_of(x, p);
        done = status;
        if (done) {
            keep_message(x, &m, status);
            reply->status = 200;
            reply->type = "application/json";
            write_response(x, status, NULL, &reply->body);
            done = !reply->body.failed || problem_memory(p);
        }
    }
    message_free(&m);
    return done;
}

/* ---- streamed ---- */

static void event_json(exchange *x, buffer *out, const char *type, json_t *value)
{
    if (value) {
        json_object_set_new(value, "type", json_string(type));
        json_object_set_new(value, "sequence_number", json_integer(x->sequence++));
    }
    sse_json(out, type, value);
}

/* An event with the whole object. */
static void response_event(exchange *x, buffer *out, const char *type, const char *status, const problem *why)
{
    buffer_print(out, "event: %s\ndata: {\"type\":\"%s\",\"sequence_number\":%d,\"response\":", type, type,
                 x->sequence++);
    write_response(x, status, why, out);
    buffer_text(out, "}\n\n");
}

/* An event of the open item: its id and number, `key` with `value`. */
static void item_event(exchange *x, buffer *out, const char *type, const char *key, json_t *value)
{
    json_t *event = json_pack("{s:s, s:i, s:o}", "item_id", x->item.id, "output_index", (int)json_array_size(x->output),
                              key, value);
    if (event && x->item.kind != ODMOE_DELTA_CALL)
        json_object_set_new(event, "content_index", json_integer(0));
    if (event && x->item.kind == ODMOE_DELTA_CONTENT && strcmp(key, "part"))
        json_object_set_new(event, "logprobs", json_array());
    event_json(x, out, type, event);
}

static void open_item(exchange *x, int kind, size_t call, const char *name, buffer *out)
{
    item_begin(&x->item, kind, call, name);
    x->open = true;
    event_json(x, out, "response.output_item.added",
               json_pack("{s:i, s:o}", "output_index", (int)json_array_size(x->output), "item",
                         item_json(&x->item, "in_progress")));
    if (kind != ODMOE_DELTA_CALL)
        item_event(x, out, "response.content_part.added", "part", part_json(&x->item, false));
}

static void close_item(exchange *x, const char *status, buffer *out)
{
    static const char *const done[][2] = {[ODMOE_DELTA_CONTENT] = {"response.output_text.done", "text"},
                                          [ODMOE_DELTA_REASONING] = {"response.reasoning_text.done", "text"},
                                          [ODMOE_DELTA_CALL] = {"response.function_call_arguments.done", "arguments"}};
    if (!x->open)
        return;
    x->open = false;
    item_event(x, out, done[x->item.kind][0], done[x->item.kind][1], text_of(&x->item));
    if (x->item.kind != ODMOE_DELTA_CALL)
        item_event(x, out, "response.content_part.done", "part", part_json(&x->item, true));
    json_t *whole = item_json(&x->item, status);
    event_json(x, out, "response.output_item.done",
               json_pack("{s:i, s:O?}", "output_index", (int)json_array_size(x->output), "item", whole));
    json_array_append_new(x->output, whole);
    out->failed |= x->item.text.failed || x->item.name.failed;
    item_free(&x->item);
}

static void write_delta(exchange *x, const odmoe_delta *delta, buffer *out)
{
    static const char *const types[] = {[ODMOE_DELTA_CONTENT] = "response.output_text.delta",
                                        [ODMOE_DELTA_REASONING] = "response.reasoning_text.delta",
                                        [ODMOE_DELTA_CALL] = "response.function_call_arguments.delta"};
    bool same =
        x->open && x->item.kind == delta->kind && (delta->kind != ODMOE_DELTA_CALL || x->item.call == delta->call);
    if (!same) {
        close_item(x, "completed", out);
        open_item(x, delta->kind, delta->call, delta->name, out);
    }
    if (!delta->length)
        return;
    buffer_add(&x->item.text, delta->text, delta->length);
    item_event(x, out, types[delta->kind], "delta", json_bytes_text(delta->text, delta->length));
}

static void write_end(exchange *x, buffer *out)
{
    problem p;
    const char *status = status_of(x, &p);
    if (status && !x->open && !json_array_size(x->output))
        open_item(x, ODMOE_DELTA_CONTENT, 0, NULL, out);
    close_item(x, status ? status : "incomplete", out);
    const char *type = !status                        ? "response.failed"
                       : !strcmp(status, "completed") ? "response.completed"
                                                      : "response.incomplete";
    response_event(x, out, type, status ? status : "failed", status ? NULL : &p);
}

static void write_event(void *user, const job_event *event, buffer *out)
{
    exchange *x = user;
    if (!x->started) {
        x->started = true;
        response_event(x, out, "response.created", "in_progress", NULL);
        response_event(x, out, "response.in_progress", "in_progress", NULL);
    }
    if (event->kind == JOB_DELTA)
        write_delta(x, &event->delta, out);
    else if (event->kind == JOB_END)
        write_end(x, out);
}

static const answer_writer writer = {.event = write_event, .free = exchange_free};

static bool responses(struct server *s, http_request *request, http_reply *reply, problem *p)
{
    exchange *x = calloc(1, sizeof *x);
    if (!x)
        return problem_memory(p);
    x->server = s;
    x->created = (json_int_t)time(NULL);
    x->output = json_array();
    random_id(x->id, sizeof x->id, "resp_");
    ask_init(s, &x->ask);
    bool done = read_request(s, &x->ask, request->json, p);
    if (done)
        repeat(request->json, &x->repeated);
    if (x->repeated.failed)
        done = problem_memory(p);
    if (!done || !answer_ask(s, request, &x->ask, &x->answer, p)) {
        exchange_free(x);
        return false;
    }
    ask_forget(&x->ask);
    http_request_done(request);
    if (x->ask.stream)
        return answer_stream(reply, &x->answer, &writer, x, p);
    done = reply_whole(x, reply, p);
    exchange_free(x);
    return done;
}

const route responses_routes[] = {{"POST", "/v1/responses", "responses", responses, 0, ERRORS_OPENAI}, {0}};
