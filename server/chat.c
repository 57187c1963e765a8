/* POST /v1/chat/completions: OpenAI's chat. */
#include <stdlib.h>
#include <string.h>

#include "answer.h"
#include "serve.h"

static bool is_number(const json_t *v, double wanted)
{
    return json_is_number(v) && json_number_value(v) == wanted;
}

/* Fields whose meaning cannot be honoured. */
static bool check_refused(const json_t *body, problem *p)
{
    static const struct {
        const char *key, *why;
    } refused[] = {
        {"audio", "there is no sound here"},
        {"web_search_options", "the model sees no web"},
        {"functions", "write them as tools"},
        {"function_call", "write it as tool_choice, with tools"},
        {"structured_outputs", "write it as response_format, or grammar"},
    };
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        if (field_get(body, refused[i].key))
            return problem_unsupported(p, "", refused[i].key, "%s", refused[i].why);
    json_t *n = field_get(body, "n"), *modalities = NULL, *one;
    const char *key;
    size_t i;
    json_object_foreach((json_t *)body, key, one)
    {
        if (!strncmp(key, "guided_", 7) && !json_is_null(one))
            return problem_unsupported(p, "", key, "write it as response_format, json_schema or grammar (GBNF)");
    }
    if (n && !is_number(n, 1))
        return problem_unsupported(p, "", "n", "only 1 is supported: one choice for each request");
    if (!field_array(body, "", "modalities", &modalities, p))
        return false;
    json_array_foreach(
        modalities, i,
        one) if (!json_is_string(one) ||
                 strcmp(json_string_value(one), "text")) return problem_unsupported(p, "", "modalities",
                                                                                    "answers are text: [\"text\"]");
    return true;
}

static bool read_logprobs(ask *a, const json_t *body, problem *p)
{
    bool wanted = false;
    int64_t best = 0;
    if (!field_bool(body, "", "logprobs", &wanted, p) ||
        !field_int(body, "", "top_logprobs", 0, LOGPROBS_MOST, &best, p))
        return false;
    if (field_get(body, "top_logprobs") && !wanted)
        return problem_value(p, "", "top_logprobs", "it needs \"logprobs\": true");
    a->logprobs = wanted ? (int)best : -1;
    return true;
}

static bool read_chat(const struct server *s, ask *a, const json_t *body, problem *p)
{
    const char *model = NULL;
    return field_text(body, "", "model", &model, p) && check_refused(body, p) && ask_read_common(s, a, body, p) &&
           ask_read_limit(a, body, "max_tokens", p) && ask_read_limit(a, body, "max_completion_tokens", p) &&
           ask_read_stop(a, body, "stop", p) && read_logprobs(a, body, p) && ask_read_stream(a, body, p) &&
           ask_read_format(a, body, p) && ask_read_tools(a, body, p) &&
           conversation_read(a, json_object_get(body, "messages"), "messages", p);
}

/* One request. */
typedef struct chat {
    struct server *server;
    ask ask; /* without what the job has copied */
    answer answer;
    char id[48];
    json_int_t created;
    bool begun; /* of a stream: the chunk with the role is out */
    char (*call_ids)[48];
    size_t call_count;
} chat;

static void chat_free(void *user)
{
    chat *c = user;
    answer_free(&c->answer);
    ask_free(&c->ask);
    free(c->call_ids);
    free(c);
}

static json_t *head(const chat *c, const char *object)
{
    return json_pack("{s:s, s:s, s:I, s:s, s:s}", "id", c->id, "object", object, "created", c->created, "model",
                     c->server->name, "system_fingerprint", c->server->fingerprint);
}

/* ---- unstreamed ---- */

static json_t *message_json(const message *m)
{
    json_t *out = json_pack("{s:s}", "role", "assistant"), *calls;
    bool bare = m->call_count && !m->content.length;
    json_object_set_new(out, "content", bare ? json_null() : json_bytes_text(m->content.data, m->content.length));
    json_object_set_new(out, "refusal", json_null());
    if (m->reasoning.length)
        json_object_set_new(out, "reasoning_content", json_bytes_text(m->reasoning.data, m->reasoning.length));
    if (!m->call_count)
        return out;
    json_object_set_new(out, "tool_calls", calls = json_array());
    for (size_t i = 0; i < m->call_count; i++)
        json_array_append_new(
            calls, json_pack("{s:s, s:s, s:{s:o, s:o}}", "id", m->calls[i].id, "type", "function", "function", "name",
                             json_bytes_text(m->calls[i].name.data, m->calls[i].name.length), "arguments",
                             json_bytes_text(m->calls[i].arguments.data, m->calls[i].arguments.length)));
    return out;
}

static json_t *logprobs_json(json_t *list, bool wanted)
{
    return wanted ? json_pack("{s:o, s:n}", "content", list ? json_incref(list) : json_array(), "refusal")
                  : json_null();
}

static bool reply_whole(chat *c, http_reply *reply, problem *p)
{
    message m = {.best = c->ask.logprobs};
    bool done = false;
    switch (answer_collect(&c->answer, &m, "call_", p)) {
    case ANSWER_GONE:
        reply->gone = done = true;
        break;
    case ANSWER_QUIET:
        break;
    default: {
        const job_usage *u = &c->answer.usage;
        json_t *out = head(c, "chat.completion");
        json_object_set_new(out, "choices",
                            json_pack("[{s:i, s:o, s:o, s:s}]", "index", 0, "message", message_json(&m), "logprobs",
                                      logprobs_json(m.logprobs, c->ask.logprobs >= 0), "finish_reason",
                                      answer_finish(&c->answer, p)));
        json_object_set_new(out, "usage", usage_json(u));
        json_object_set_new(out, "timings", timings_json(u));
        reply_json(reply, 200, out);
        done = true;
    }
    }
    message_free(&m);
    return done;
}

/* ---- streamed ---- */

/* One chunk with a delta. */
static void chunk(chat *c, buffer *out, json_t *delta, json_t *logprobs, const char *finish)
{
    json_t *value = head(c, "chat.completion.chunk");
    json_object_set_new(value, "choices",
                        json_pack("[{s:i, s:o, s:o, s:s?}]", "index", 0, "delta", delta, "logprobs",
                                  logprobs ? logprobs : json_null(), "finish_reason", finish));
    if (c->ask.include_usage)
        json_object_set_new(value, "usage", json_null());
    else if (finish)
        json_object_set_new(value, "timings", timings_json(&c->answer.usage));
    sse_json(out, NULL, value);
}

/* The first chunk comes with the first token. */
static void begin(chat *c, buffer *out)
{
    if (c->begun)
        return;
    c->begun = true;
    chunk(c, out, json_pack("{s:s, s:s}", "role", "assistant", "content", ""), NULL, NULL);
}

/* Name and id of a call come once, before its arguments. */
static void call_head(chat *c, const odmoe_delta *delta, buffer *out)
{
    while (c->call_count <= delta->call) {
        char(*ids)[48] = realloc(c->call_ids, (c->call_count + 1) * sizeof *ids);
        if (!ids) {
            out->failed = true;
            return;
        }
        c->call_ids = ids;
        random_id(ids[c->call_count], sizeof ids[0], "call_");
        chunk(c, out,
              json_pack("{s:[{s:i, s:s, s:s, s:{s:s, s:s}}]}", "tool_calls", "index", (int)c->call_count, "id",
                        ids[c->call_count], "type", "function", "function", "name", delta->name ? delta->name : "",
                        "arguments", ""),
              NULL, NULL);
        c->call_count++;
    }
}

static void write_delta(chat *c, const job_event *event, buffer *out)
{
    const odmoe_delta *delta = &event->delta;
    json_t *logprobs = NULL, *list;
    begin(c, out);
    if (event->logprob_count && delta->kind == ODMOE_DELTA_CONTENT) {
        list = json_array();
        for (size_t i = 0; i < event->logprob_count; i++)
            json_array_append_new(list, logprob_json(c->server, &event->logprobs[i], c->ask.logprobs));
        logprobs = json_pack("{s:o, s:n}", "content", list, "refusal");
    }
    if (delta->kind == ODMOE_DELTA_CALL) {
        call_head(c, delta, out);
        if (delta->length)
            chunk(c, out,
                  json_pack("{s:[{s:i, s:{s:o}}]}", "tool_calls", "index", (int)delta->call, "function", "arguments",
                            json_bytes_text(delta->text, delta->length)),
                  NULL, NULL);
        return;
    }
    const char *key = delta->kind == ODMOE_DELTA_REASONING ? "reasoning_content" : "content";
    chunk(c, out, json_pack("{s:o}", key, json_bytes_text(delta->text, delta->length)), logprobs, NULL);
}

static void write_end(chat *c, buffer *out)
{
    problem p;
    const char *finish = answer_finish(&c->answer, &p);
    if (!finish) {
        sse_json(out, NULL, problem_json(&p, ERRORS_OPENAI, c->id));
        return;
    }
    begin(c, out);
    chunk(c, out, json_object(), NULL, finish);
    if (c->ask.include_usage) {
        json_t *value = head(c, "chat.completion.chunk");
        json_object_set_new(value, "choices", json_array());
        json_object_set_new(value, "usage", usage_json(&c->answer.usage));
        json_object_set_new(value, "timings", timings_json(&c->answer.usage));
        sse_json(out, NULL, value);
    }
    buffer_text(out, "data: [DONE]\n\n");
}

static void write_event(void *user, const job_event *event, buffer *out)
{
    if (event->kind == JOB_DELTA)
        write_delta(user, event, out);
    else if (event->kind == JOB_END)
        write_end(user, out);
}

static const answer_writer writer = {.event = write_event, .free = chat_free};

static bool handle(struct server *s, http_request *request, http_reply *reply, problem *p)
{
    chat *c = calloc(1, sizeof *c);
    if (!c)
        return problem_memory(p);
    c->server = s;
    c->created = (json_int_t)time(NULL);
    random_id(c->id, sizeof c->id, "chatcmpl-");
    ask_init(s, &c->ask);
    if (!read_chat(s, &c->ask, request->json, p) || !answer_ask(s, request, &c->ask, &c->answer, p)) {
        chat_free(c);
        return false;
    }
    /* The job has what it needs of the request: while it runs, memory is for others. */
    ask_forget(&c->ask);
    http_request_done(request);
    if (c->ask.stream)
        return answer_stream(reply, &c->answer, &writer, c, p);
    bool done = reply_whole(c, reply, p);
    chat_free(c);
    return done;
}

const route chat_routes[] = {{"POST", "/v1/chat/completions", "chat", handle, 0, ERRORS_OPENAI}, {0}};
