/* POST /v1/messages and /v1/messages/count_tokens: Anthropic's interface. Requests become chat's shape, then all is shared. */
#include <stdlib.h>
#include <string.h>

#include "answer.h"
#include "log.h"
#include "serve.h"

/* ---- messages, in chat's shape ---- */

/* What the blocks of one message add up to. */
typedef struct turn {
    const char *role;
    json_t *out;      /* the list that messages go to; borrowed */
    json_t *parts;    /* text parts so far, or NULL */
    json_t *calls;    /* of an assistant, or NULL */
    buffer reasoning; /* the same */
} turn;

/* Text that came so far becomes a message of its own: results of tools follow it. */
static bool flush(turn *t)
{
    if (!t->parts && !t->calls && !t->reasoning.length)
        return true;
    json_t *made = json_pack("{s:s, s:o?}", "role", t->role, "content", t->parts);
    t->parts = NULL;
    if (made && t->calls)
        json_object_set_new(made, "tool_calls", t->calls);
    else
        json_decref(t->calls);
    t->calls = NULL;
    if (made && t->reasoning.length)
        json_object_set_new(made, "reasoning_content", json_bytes_text(t->reasoning.data, t->reasoning.length));
    bool done = !t->reasoning.failed && !json_array_append_new(t->out, made);
    buffer_free(&t->reasoning);
    return done;
}

static bool add_text(turn *t, const char *text)
{
    if (!t->parts)
        t->parts = json_array();
    return !json_array_append_new(t->parts, json_pack("{s:s, s:s}", "type", "text", "text", text));
}

static const char *const text_blocks[] = {"text", NULL};

static bool add_result(turn *t, const json_t *block, const char *where, problem *p)
{
    const char *id = NULL;
    bool wrong = false;
    buffer text = {0};
    field_path at = field_at(where, "content");
    bool read = field_text(block, where, "tool_use_id", &id, p) && field_bool(block, where, "is_error", &wrong, p);
    if (read && wrong) /* templates know no such mark: the text has to say it */
        buffer_text(&text, "Error: ");
    if (!read || !content_texts(json_object_get(block, "content"), at.text, text_blocks, &text, p)) {
        buffer_free(&text);
        return false;
    }
    bool done = flush(t) && !json_array_append_new(t->out, json_pack("{s:s, s:s?, s:s}", "role", "tool", "tool_call_id",
                                                                     id, "content", text.data ? text.data : ""));
    buffer_free(&text);
    return done || problem_memory(p);
}

static bool add_call(turn *t, const json_t *block, const char *where, problem *p)
{
    const char *id = NULL, *name = NULL;
    json_t *input = NULL;
    if (!field_text(block, where, "id", &id, p) || !field_text(block, where, "name", &name, p) ||
        !field_object(block, where, "input", &input, p))
        return false;
    if (!name)
        return problem_value(p, where, "name", "a call needs the name of its tool");
    if (!t->calls)
        t->calls = json_array();
    json_t *call = json_pack("{s:s?, s:s, s:{s:s, s:o}}", "id", id, "type", "function", "function", "name", name,
                             "arguments", input ? json_incref(input) : json_object());
    return !json_array_append_new(t->calls, call) || problem_memory(p);
}

static bool add_block(turn *t, const json_t *block, const char *where, problem *p)
{
    const char *type = NULL, *text = NULL;
    bool assistant = !strcmp(t->role, "assistant");
    if (!json_is_object(block))
        return problem_value(p, where, NULL, "a block is an object with a type");
    if (!field_text(block, where, "type", &type, p))
        return false;
    if (type && !strcmp(type, "text"))
        return field_text(block, where, "text", &text, p) && (add_text(t, text ? text : "") || problem_memory(p));
    if (type && !strcmp(type, "tool_result") && !assistant)
        return add_result(t, block, where, p);
    if (type && !strcmp(type, "tool_use") && assistant)
        return add_call(t, block, where, p);
    if (type && !strcmp(type, "redacted_thinking") && assistant)
        return true;
    if (type && !strcmp(type, "thinking") && assistant) {
        if (!field_text(block, where, "thinking", &text, p))
            return false;
        buffer_text(&t->reasoning, text ? text : "");
        return true;
    }
    return problem_unsupported(
        p, where, "type",
        "'%.40s' is not taken in a message of this role: text is, thinking and calls of tools of the "
        "assistant, and results of tools of the user",
        type ? type : "");
}

static bool add_message(json_t *out, const json_t *given, const char *where, problem *p)
{
    const char *role = NULL;
    const json_t *content = json_object_get(given, "content"), *block;
    size_t i;
    if (!json_is_object(given))
        return problem_value(p, where, NULL, "a message is an object");
    if (!field_text(given, where, "role", &role, p))
        return false;
    if (!role || (strcmp(role, "user") && strcmp(role, "assistant") && strcmp(role, "system")))
        return problem_value(p, where, "role", "user, assistant or system is wanted");
    if (!json_is_array(content)) {
        if (content && !json_is_string(content) && !json_is_null(content))
            return problem_value(p, where, "content", "a text or a list of blocks is wanted");
        const char *text = json_is_string(content) ? json_string_value(content) : "";
        return !json_array_append_new(out, json_pack("{s:s, s:s}", "role", role, "content", text)) || problem_memory(p);
    }
    turn t = {.role = role, .out = out};
    field_path list = field_at(where, "content");
    bool done = true;
    json_array_foreach(content, i, block) if (done) done = add_block(&t, block, field_index(list.text, i).text, p);
    if (done && !flush(&t))
        done = problem_memory(p);
    json_decref(t.parts);
    json_decref(t.calls);
    buffer_free(&t.reasoning);
    return done;
}

/* A block that changes with every request, and would cost the whole prefix. */
static bool is_billing(const json_t *block)
{
    static const char begin[] = "x-anthropic-billing-header:";
    const char *text = json_string_value(json_object_get(block, "text"));
    return text && !strncmp(text, begin, sizeof begin - 1);
}

static bool add_system(json_t *out, const json_t *body, problem *p)
{
    json_t *system = field_get(body, "system"), *kept = NULL, *block;
    buffer text = {0};
    size_t i;
    if (json_is_array(system)) {
        kept = json_array();
        json_array_foreach(system, i, block) if (!is_billing(block)) json_array_append(kept, block);
    }
    bool done = content_texts(kept ? kept : system, "system", text_blocks, &text, p);
    if (done && text.length)
        done = !json_array_append_new(out, json_pack("{s:s, s:s}", "role", "system", "content", text.data)) ||
               problem_memory(p);
    json_decref(kept);
    buffer_free(&text);
    return done;
}

static bool read_conversation(ask *a, const json_t *body, problem *p)
{
    json_t *messages = NULL, *out = json_array(), *one;
    size_t i;
    bool done = field_array(body, "", "messages", &messages, p) && add_system(out, body, p);
    if (done && !json_array_size(messages))
        done = problem_set(p, 400, "missing_required_parameter", "messages", "messages: there are none");
    json_array_foreach(messages, i, one) if (done) done = add_message(out, one, field_index("messages", i).text, p);
    done = done && conversation_read(a, out, "messages", p);
    json_decref(out);
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
    if (type && strcmp(type, "custom")) {
        log_line("a tool of type %.40s is left out: the server runs none of its own", type);
        return true;
    }
    return ask_add_tool(a, tool, "input_schema", where, p);
}

static bool read_tools(ask *a, const json_t *body, problem *p)
{
    json_t *tools = NULL, *choice = NULL, *tool;
    const char *type = NULL;
    bool single = false;
    size_t i;
    if (!field_array(body, "", "tools", &tools, p) || !field_object(body, "", "tool_choice", &choice, p))
        return false;
    json_array_foreach(tools, i, tool) if (!add_tool(a, tool, field_index("tools", i).text, p)) return false;
    if (!choice)
        return true;
    if (!field_text(choice, "tool_choice", "type", &type, p) ||
        !field_text(choice, "tool_choice", "name", &a->tool_name, p) ||
        !field_bool(choice, "tool_choice", "disable_parallel_tool_use", &single, p))
        return false;
    a->one_call = single;
    if (type && !strcmp(type, "none"))
        a->choice = TOOLS_NONE;
    else if (type && !strcmp(type, "any"))
        a->choice = TOOLS_REQUIRED;
    else if (type && !strcmp(type, "tool") && a->tool_name)
        a->choice = TOOLS_NAMED;
    else if (!type || strcmp(type, "auto"))
        return problem_value(p, "", "tool_choice", "type auto, any, tool with a name, or none is wanted");
    return ask_check_tools(a, "tool_choice", p);
}

static bool read_output(const struct server *s, ask *a, const json_t *body, problem *p)
{
    json_t *config = NULL, *format = NULL, *schema;
    const char *level = NULL, *type = NULL;
    if (!field_object(body, "", "output_config", &config, p))
        return false;
    if (!config)
        return true;
    if (!field_text(config, "output_config", "effort", &level, p) ||
        !field_object(config, "output_config", "format", &format, p))
        return false;
    if (level && !ask_set_effort(s, a, level, "output_config.effort", p))
        return false;
    if (!format)
        return true;
    if (!field_text(format, "output_config.format", "type", &type, p))
        return false;
    schema = field_get(format, "schema");
    if (!type || strcmp(type, "json_schema") || !schema)
        return problem_value(p, "output_config.format", NULL, "type json_schema with a schema is wanted");
    return ask_set_schema(a, schema, "output_config.format.schema", p);
}

static bool read_request(const struct server *s, ask *a, const json_t *body, problem *p)
{
    if (field_get(body, "mcp_servers") || field_get(body, "container"))
        return problem_unsupported(p, "", field_get(body, "container") ? "container" : "mcp_servers",
                                   "the server runs no tools: list them in tools, and answer their calls");
    if (field_get(body, "output_format"))
        return problem_unsupported(p, "", "output_format", "write it as output_config.format");
    return ask_read_common(s, a, body, p) && ask_read_limit(a, body, "max_tokens", p) &&
           ask_read_stop(a, body, "stop_sequences", p) && read_output(s, a, body, p) && read_tools(a, body, p) &&
           read_conversation(a, body, p);
}

/* ---- one request ---- */

enum { NO_BLOCK = -1 };

typedef struct exchange {
    struct server *server;
    ask ask; /* without what the job has copied */
    answer answer;
    json_t *stops; /* the stop strings, in the order of the ask's */
    char id[48];
    /* of a stream */
    int kind;     /* of the open block: ODMOE_DELTA_*, or NO_BLOCK */
    size_t call;  /* of an open block of a call */
    int blocks;   /* begun */
    bool started; /* message_start is out */
} exchange;

static void exchange_free(void *user)
{
    exchange *x = user;
    answer_free(&x->answer);
    ask_free(&x->ask);
    json_decref(x->stops);
    free(x);
}

static json_t *usage(const job_usage *u)
{
    return json_pack("{s:i, s:i, s:i, s:i}", "input_tokens", u->prompt_tokens - u->cached_tokens,
                     "cache_creation_input_tokens", 0, "cache_read_input_tokens", u->cached_tokens, "output_tokens",
                     u->sampled_tokens);
}

/* stop_reason, and the string that ended the answer; NULL: it failed, p says why. */
static const char *stop_reason(const exchange *x, const char **sequence, problem *p)
{
    const char *finish = answer_finish(&x->answer, p);
    *sequence = NULL;
    if (!finish || !strcmp(finish, "length"))
        return finish ? "max_tokens" : NULL;
    if (!strcmp(finish, "tool_calls"))
        return "tool_use";
    if (x->answer.finish != JOB_STOPPED_AT_STRING)
        return "end_turn";
    *sequence = json_string_value(json_array_get(x->stops, (size_t)x->answer.stop_index));
    return "stop_sequence";
}

static json_t *head(const exchange *x, json_t *content, const char *reason, const char *sequence)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:o, s:s?, s:s?, s:o}", "id", x->id, "type", "message", "role", "assistant",
                     "model", x->server->name, "content", content, "stop_reason", reason, "stop_sequence", sequence,
                     "usage", usage(&x->answer.usage));
}

#define SIGNATURE "odmoe" /* clients want one and send it back; nothing depends on it */

static json_t *content_json(const message *m)
{
    json_t *content = json_array();
    if (m->reasoning.length)
        json_array_append_new(content, json_pack("{s:s, s:o, s:s}", "type", "thinking", "thinking",
                                                 json_bytes_text(m->reasoning.data, m->reasoning.length), "signature",
                                                 SIGNATURE));
    if (m->content.length || !m->call_count)
        json_array_append_new(content, json_pack("{s:s, s:o}", "type", "text", "text",
                                                 json_bytes_text(m->content.data, m->content.length)));
    for (size_t i = 0; i < m->call_count; i++) {
        const buffer *arguments = &m->calls[i].arguments;
        json_t *input = json_loadb(arguments->data ? arguments->data : "", arguments->length, 0, NULL);
        json_array_append_new(content,
                              json_pack("{s:s, s:s, s:o, s:o}", "type", "tool_use", "id", m->calls[i].id, "name",
                                        json_bytes_text(m->calls[i].name.data, m->calls[i].name.length), "input",
                                        input ? input : json_object() /* it was cut */));
    }
    return content;
}

static bool reply_whole(exchange *x, http_reply *reply, problem *p)
{
    message m = {.best = -1};
    bool done = false;
    answer_step step = answer_collect(&x->answer, &m, "toolu_", p);
    if (step == ANSWER_GONE) {
        reply->gone = done = true;
    } else if (step == ANSWER_EVENT) {
        const char *sequence, *reason = stop_reason(x, &sequence, p);
        done = reason;
        if (done)
            reply_json(reply, 200, head(x, content_json(&m), reason, sequence));
    }
    message_free(&m);
    return done;
}

/* ---- streamed ---- */

static void event_json(buffer *out, const char *type, json_t *value)
{
    if (value)
        json_object_set_new(value, "type", json_string(type));
    sse_json(out, type, value);
}

static void start(exchange *x, buffer *out)
{
    if (!x->started)
        event_json(out, "message_start", json_pack("{s:o}", "message", head(x, json_array(), NULL, NULL)));
    x->started = true;
}

/* While the message waits, too: it has begun then. */
static void ping(void *user, buffer *out)
{
    start(user, out);
    event_json(out, "ping", json_object());
}

static void end_block(exchange *x, buffer *out)
{
    if (x->kind == NO_BLOCK)
        return;
    if (x->kind == ODMOE_DELTA_REASONING)
        event_json(out, "content_block_delta",
                   json_pack("{s:i, s:{s:s, s:s}}", "index", x->blocks - 1, "delta", "type", "signature_delta",
                             "signature", SIGNATURE));
    event_json(out, "content_block_stop", json_pack("{s:i}", "index", x->blocks - 1));
    x->kind = NO_BLOCK;
}

static void begin_block(exchange *x, int kind, size_t call, const char *name, buffer *out)
{
    char id[48];
    json_t *block;
    if (kind == ODMOE_DELTA_CALL) {
        random_id(id, sizeof id, "toolu_");
        block = json_pack("{s:s, s:s, s:s, s:{}}", "type", "tool_use", "id", id, "name", name ? name : "", "input");
    } else if (kind == ODMOE_DELTA_REASONING) {
        block = json_pack("{s:s, s:s, s:s}", "type", "thinking", "thinking", "", "signature", "");
    } else {
        block = json_pack("{s:s, s:s}", "type", "text", "text", "");
    }
    event_json(out, "content_block_start", json_pack("{s:i, s:o}", "index", x->blocks, "content_block", block));
    x->blocks++;
    x->kind = kind;
    x->call = call;
}

static void write_delta(exchange *x, const odmoe_delta *delta, buffer *out)
{
    static const char *const types[][2] = {[ODMOE_DELTA_CONTENT] = {"text_delta", "text"},
                                           [ODMOE_DELTA_REASONING] = {"thinking_delta", "thinking"},
                                           [ODMOE_DELTA_CALL] = {"input_json_delta", "partial_json"}};
    if (x->kind != delta->kind || (delta->kind == ODMOE_DELTA_CALL && x->call != delta->call)) {
        end_block(x, out);
        begin_block(x, delta->kind, delta->call, delta->name, out);
    }
    if (!delta->length)
        return;
    const char *const *type = types[delta->kind];
    event_json(out, "content_block_delta",
               json_pack("{s:i, s:{s:s, s:o}}", "index", x->blocks - 1, "delta", "type", type[0], type[1],
                         json_bytes_text(delta->text, delta->length)));
}

static void write_end(exchange *x, buffer *out)
{
    problem p;
    const char *sequence, *reason = stop_reason(x, &sequence, &p);
    if (!reason) {
        sse_json(out, "error", problem_json(&p, ERRORS_ANTHROPIC, x->answer.request->id));
        return;
    }
    if (!x->blocks)
        begin_block(x, ODMOE_DELTA_CONTENT, 0, NULL, out);
    end_block(x, out);
    event_json(out, "message_delta",
               json_pack("{s:{s:s, s:s?}, s:o}", "delta", "stop_reason", reason, "stop_sequence", sequence, "usage",
                         usage(&x->answer.usage)));
    event_json(out, "message_stop", json_object());
}

static void write_event(void *user, const job_event *event, buffer *out)
{
    exchange *x = user;
    if (!x->started && (event->kind == JOB_ADMITTED || event->kind == JOB_DELTA))
        ping(x, out);
    if (event->kind == JOB_DELTA)
        write_delta(x, &event->delta, out);
    else if (event->kind == JOB_END)
        write_end(x, out);
}

static const answer_writer writer = {.event = write_event, .quiet = ping, .free = exchange_free};

static bool messages(struct server *s, http_request *request, http_reply *reply, problem *p)
{
    exchange *x = calloc(1, sizeof *x);
    if (!x)
        return problem_memory(p);
    x->server = s;
    x->kind = NO_BLOCK;
    random_id(x->id, sizeof x->id, "msg_");
    ask_init(s, &x->ask);
    bool done = read_request(s, &x->ask, request->json, p);
    x->stops = json_array();
    for (size_t i = 0; done && i < x->ask.stop_count; i++)
        json_array_append_new(x->stops, json_string(x->ask.stop[i]));
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

/* Prompts beyond the context are counted, too. */
static bool count_tokens(struct server *s, http_request *request, http_reply *reply, problem *p)
{
    ask a;
    prompt r = {0};
    ask_init(s, &a);
    bool done = read_request(s, &a, request->json, p);
    int64_t n = 0;
    if (done) {
        done = conversation_tokens(s, &a, &r, p);
        n = done ? r.n : p->n_prompt_tokens;
        done = done || p->n_context;
    }
    if (done)
        reply_json(reply, 200, json_pack("{s:I}", "input_tokens", (json_int_t)n));
    prompt_free(&r);
    ask_free(&a);
    return done;
}

const route messages_routes[] = {
    {"POST", "/v1/messages", "messages", messages, 0, ERRORS_ANTHROPIC},
    {"POST", "/v1/messages/count_tokens", "count_tokens", count_tokens, 0, ERRORS_ANTHROPIC},
    {0},
};
