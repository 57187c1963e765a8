#include "conversation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "serve.h"

/* ---- messages ---- */

static const struct {
    const char *name, *role;
} roles[] = {{"system", "system"},       {"developer", "system"}, {"user", "user"},
             {"assistant", "assistant"}, {"tool", "tool"},        {"function", "tool"}};

/* The text of one part. */
static bool add_part(const json_t *part, const char *where, const char *const *types, buffer *out, problem *p)
{
    const char *type = NULL, *text = NULL;
    if (!json_is_object(part))
        return problem_value(p, where, NULL, "a part of a content is an object");
    if (!field_text(part, where, "type", &type, p))
        return false;
    while (*types && !(type && !strcmp(*types, type)))
        types++;
    if (!*types)
        return problem_unsupported(p, where, "type", "only text parts are supported: no images, sound or files");
    if (!field_text(part, where, strcmp(*types, "refusal") ? "text" : "refusal", &text, p))
        return false;
    buffer_text(out, text ? text : "");
    return true;
}

bool content_texts(const json_t *value, const char *where, const char *const *types, buffer *out, problem *p)
{
    const json_t *part;
    size_t i;
    if (json_is_string(value)) {
        buffer_text(out, json_string_value(value));
    } else if (json_is_array(value)) {
        json_array_foreach(value, i, part)
        {
            if (i)
                buffer_text(out, "\n");
            if (!add_part(part, field_index(where, i).text, types, out, p))
                return false;
        }
    } else if (value && !json_is_null(value)) {
        return problem_value(p, where, NULL, "a text or a list of parts is wanted");
    }
    return !out->failed || problem_memory(p);
}

/* A new string of a message's content. NULL with p->status 0: there is none. */
static json_t *content_text(const json_t *message, const char *where, problem *p)
{
    static const char *const types[] = {"text", "input_text", "output_text", "refusal", NULL};
    json_t *content = field_get(message, "content"), *joined = NULL;
    buffer text = {0};
    p->status = 0;
    if (!content || json_is_string(content))
        return json_incref(content);
    if (content_texts(content, field_at(where, "content").text, types, &text, p)) {
        joined = json_stringn(text.data ? text.data : "", text.length);
        if (!joined)
            problem_memory(p);
    }
    buffer_free(&text);
    return joined;
}

/* Calls of the messages so far, for results and calls that come without an id. */
typedef struct call_ids {
    json_t *waiting; /* ids of calls without a result, in their order */
    size_t made;
} call_ids;

static json_t *read_call(const json_t *call, const char *where, call_ids *ids, problem *p)
{
    json_t *function = NULL;
    const char *id = NULL, *name = NULL;
    char made[32];
    if (!json_is_object(call)) {
        problem_value(p, where, NULL, "a call is an object");
        return NULL;
    }
    if (!field_text(call, where, "id", &id, p) || !field_object(call, where, "function", &function, p))
        return NULL;
    if (!function) {
        problem_value(p, where, "function", "a call needs a function");
        return NULL;
    }
    field_path at = field_at(where, "function");
    if (!field_text(function, at.text, "name", &name, p))
        return NULL;
    json_t *arguments = field_get(function, "arguments");
    if (!name) {
        problem_value(p, at.text, "name", "a call needs the name of its function");
        return NULL;
    }
    if (arguments && !json_is_string(arguments) && !json_is_object(arguments)) {
        problem_value(p, at.text, "arguments", "a string or an object is wanted");
        return NULL;
    }
    if (!id || !*id) {
        snprintf(made, sizeof made, "call%05zu", ids->made++ % 100000);
        id = made;
    }
    json_array_append_new(ids->waiting, json_string(id));
    json_t *out = json_pack("{s:s, s:s, s:{s:s, s:o}}", "id", id, "type", "function", "function", "name", name,
                            "arguments", arguments ? json_incref(arguments) : json_string("{}"));
    if (!out)
        problem_memory(p);
    return out;
}

static bool read_calls(const json_t *message, const char *where, json_t *out, call_ids *ids, problem *p)
{
    json_t *calls = NULL, *call, *list;
    size_t i;
    if (!field_array(message, where, "tool_calls", &calls, p))
        return false;
    if (!json_array_size(calls))
        return true;
    list = json_array();
    if (!list || json_object_set_new(out, "tool_calls", list))
        return problem_memory(p);
    json_array_foreach(calls, i, call)
    {
        json_t *one = read_call(call, field_index(field_at(where, "tool_calls").text, i).text, ids, p);
        if (!one)
            return false;
        if (json_array_append_new(list, one))
            return problem_memory(p);
    }
    return true;
}

/* The id of a result: its own, or that of the first call that waits for one. */
static bool read_result_id(const json_t *message, const char *where, json_t *out, call_ids *ids, problem *p)
{
    const char *id = NULL;
    size_t i = 0;
    json_t *waiting;
    if (!field_text(message, where, "tool_call_id", &id, p))
        return false;
    json_array_foreach(ids->waiting, i, waiting) if (!id || !strcmp(id, json_string_value(waiting))) break;
    if (!id && i < json_array_size(ids->waiting))
        id = json_string_value(json_array_get(ids->waiting, i));
    json_object_set_new(out, "tool_call_id", json_string(id ? id : "call00000"));
    json_array_remove(ids->waiting, i);
    return true;
}

/* One message; a new object, or NULL. */
static json_t *read_message(const json_t *message, const char *where, call_ids *ids, problem *p)
{
    const char *given = NULL, *role = NULL, *name = NULL, *reasoning = NULL;
    if (!json_is_object(message)) {
        problem_value(p, where, NULL, "a message is an object");
        return NULL;
    }
    if (!field_text(message, where, "role", &given, p) || !field_text(message, where, "name", &name, p) ||
        !field_text(message, where, "reasoning", &reasoning, p) ||
        !field_text(message, where, "reasoning_content", &reasoning, p))
        return NULL;
    for (size_t i = 0; given && i < sizeof roles / sizeof roles[0]; i++)
        if (!strcmp(given, roles[i].name))
            role = roles[i].role;
    if (!role) {
        problem_value(p, where, "role", "system, developer, user, assistant, tool or function is wanted");
        return NULL;
    }
    json_t *content = content_text(message, where, p);
    if (!content && p->status)
        return NULL;
    json_t *out = json_pack("{s:s, s:o}", "role", role, "content", content ? content : json_string(""));
    if (!out) {
        problem_memory(p);
        return NULL;
    }
    bool done = true;
    if (name)
        json_object_set_new(out, "name", json_string(name));
    if (!strcmp(role, "assistant")) {
        if (reasoning && *reasoning)
            json_object_set_new(out, "reasoning_content", json_string(reasoning));
        done = read_calls(message, where, out, ids, p);
        if (done && !content && json_object_get(out, "tool_calls"))
            json_object_set_new(out, "content", json_null());
    } else if (!strcmp(role, "tool")) {
        done = read_result_id(message, where, out, ids, p);
    }
    if (!done) {
        json_decref(out);
        return NULL;
    }
    return out;
}

static const char *role_of(const json_t *message)
{
    const char *role = json_string_value(json_object_get(message, "role"));
    return role ? role : "";
}

/* A leading system message goes into the one before it. */
static bool merge_system(json_t *first, const json_t *next, problem *p)
{
    buffer text = {0};
    buffer_text(&text, json_string_value(json_object_get(first, "content")));
    buffer_text(&text, "\n\n");
    buffer_text(&text, json_string_value(json_object_get(next, "content")));
    bool done = !text.failed && !json_object_set_new(first, "content", json_stringn(text.data, text.length));
    buffer_free(&text);
    return done || problem_memory(p);
}

bool conversation_read(ask *a, const json_t *messages, const char *where, problem *p)
{
    json_t *message;
    size_t i;
    if (!messages || json_is_null(messages))
        return problem_set(p, 400, "missing_required_parameter", where, "%s: the conversation is missing", where);
    if (!json_is_array(messages) || !json_array_size(messages))
        return problem_value(p, where, NULL, "a list of one or more messages is wanted");
    call_ids ids = {.waiting = json_array()};
    json_t *list = a->messages = json_array();
    bool done = (ids.waiting && list) || problem_memory(p);
    for (i = 0; done && i < json_array_size(messages); i++) {
        message = read_message(json_array_get(messages, i), field_index(where, i).text, &ids, p);
        if (!message) {
            done = false;
        } else if (json_array_size(list) == 1 && !strcmp(role_of(json_array_get(list, 0)), "system") &&
                   !strcmp(role_of(message), "system")) {
            done = merge_system(json_array_get(list, 0), message, p);
            json_decref(message);
        } else {
            done = !json_array_append_new(list, message) || problem_memory(p);
        }
    }
    json_decref(ids.waiting);
    if (!done)
        return false;
    message = json_array_get(list, json_array_size(list) - 1);
    if (json_object_get(message, "tool_calls"))
        return problem_value(p, field_index(where, json_array_size(messages) - 1).text, "tool_calls",
                             "calls without results cannot be continued: add their results");
    return true;
}

/* ---- rendering ---- */

enum {
    RENDER_LEAST = 256 << 10, /* memory of a template at work */
    RENDER_FACTOR = 32,       /* and what it may take for a byte of the conversation */
    TAIL_TOKENS = 64,         /* whose text is the end of a prompt */
    CHECKPOINTS_MOST = 3
};

void prompt_free(prompt *r)
{
    free(r->tokens);
    free(r->checkpoints);
    memory_give(r->taken);
    *r = (prompt){0};
}

/* A conversation as JSON texts, and the memory that a template may take for it. */
typedef struct rendering {
    buffer messages, tools, keywords;
    odmoe_chat chat;
    uint64_t taken;
    bool all; /* it got all the memory that a conversation of its size gets */
} rendering;

static void rendering_free(rendering *r)
{
    buffer_free(&r->messages);
    buffer_free(&r->tools);
    buffer_free(&r->keywords);
    memory_give(r->taken);
}

/* count: of the messages. false: p is filled. Free it whatever comes of it. */
static bool rendering_begin(const server *s, const ask *a, const json_t *messages, bool answer, rendering *r,
                            problem *p)
{
    *r = (rendering){0};
    if (!s->template)
        return problem_set(p, 400, "unsupported_parameter", a->prompt_param,
                           "%s: this model has no chat template that can be used; /v1/completions takes a text",
                           a->prompt_param);
    bool tools = a->tools && a->choice != TOOLS_NONE;
    buffer_json(&r->messages, messages);
    if (tools)
        buffer_json(&r->tools, a->tools);
    if (a->keywords)
        buffer_json(&r->keywords, a->keywords);
    if (r->messages.failed || r->tools.failed || r->keywords.failed)
        return problem_memory(p);
    size_t bytes = r->messages.length + r->tools.length + r->keywords.length;
    uint64_t wanted = RENDER_LEAST + (uint64_t)bytes * RENDER_FACTOR, most = memory_limit() / 2;
    wanted = wanted > most && most > RENDER_LEAST ? most : wanted;
    r->taken = memory_take_up_to(RENDER_LEAST, wanted);
    r->all = r->taken == wanted;
    if (!r->taken)
        return problem_memory(p);
    const json_t *last = json_array_get(messages, json_array_size(messages) - 1);
    odmoe_chat_init(&r->chat);
    r->chat.messages = r->messages.data;
    r->chat.tools = tools ? r->tools.data : NULL;
    r->chat.keywords = a->keywords ? r->keywords.data : NULL;
    r->chat.answer = answer;
    r->chat.go_on = answer && !strcmp(role_of(last), "assistant");
    r->chat.tell_calls = 1;
    r->chat.now = (int64_t)time(NULL);
    r->chat.memory_bytes = r->taken / 2;
    return true;
}

static bool render_problem(const ask *a, const rendering *r, const odmoe_error *err, problem *p)
{
    if (err->code == ODMOE_ERR_MEMORY || (err->code == ODMOE_ERR_RANGE && !r->all))
        return problem_memory(p);
    if (err->code == ODMOE_ERR_RANGE)
        return problem_value(p, a->prompt_param, NULL, "they are too large to be rendered in this server's budget");
    return problem_set(p, 400, "invalid_value", a->prompt_param, "%s: the model's template does not take them: %s",
                       a->prompt_param, err->message);
}

bool conversation_text(const struct server *s, const ask *a, bool answer, buffer *out, problem *p)
{
    rendering r;
    odmoe_error err;
    odmoe_template_text text = {.size = sizeof text};
    bool done = rendering_begin(s, a, a->messages, answer, &r, p);
    if (done && odmoe_chat_render(s->template, s->tokenizer, &r.chat, &text, &err))
        done = render_problem(a, &r, &err, p);
    else if (done) {
        buffer_add(out, text.text, text.length);
        odmoe_template_text_free(&text);
        done = !out->failed || problem_memory(p);
    }
    rendering_free(&r);
    return done;
}

static bool too_long(const server *s, const char *param, size_t n, problem *p)
{
    problem_set(p, 400, "context_length_exceeded", param,
                "This model's maximum context length is %d tokens. However, your %s resulted in %zu tokens. Please "
                "shorten it, or start the server with a larger -c.",
                s->context, param, n);
    p->n_prompt_tokens = (int64_t)n;
    p->n_context = s->context;
    return false;
}

/* Room for the longest prompt. */
static bool prompt_begin(const server *s, prompt *out, problem *p)
{
    uint64_t bytes = (uint64_t)s->context * sizeof *out->tokens;
    if (!memory_take(bytes))
        return problem_memory(p);
    out->taken = bytes;
    out->tokens = malloc(bytes);
    return out->tokens || problem_memory(p);
}

/* The prompt is there: what it ends with. */
static void prompt_end(const server *s, size_t n, prompt *out)
{
    char text[4096];
    size_t length = 0, from = n > TAIL_TOKENS ? n - TAIL_TOKENS : 0, room = sizeof out->tail - 1;
    out->n = (int32_t)n;
    if (odmoe_detokenize(s->tokenizer, out->tokens + from, n - from, text, sizeof text, &length, NULL))
        length = 0;
    length = length < sizeof text ? length : sizeof text;
    size_t skip = length > room ? length - room : 0;
    memcpy(out->tail, text + skip, length - skip);
    out->tail[length - skip] = 0;
}

/* Where a prompt of the first `count` messages ends in the whole one: tokens that they have in common. */
static int32_t common_prefix(const server *s, const ask *a, size_t count, const prompt *whole)
{
    rendering r;
    problem p;
    size_t n = 0, same = 0, most = (size_t)whole->n;
    json_t *messages = json_array();
    int32_t *ids = malloc(most * sizeof *ids);
    for (size_t i = 0; i < count; i++)
        json_array_append(messages, json_array_get(a->messages, i));
    if (ids && messages && rendering_begin(s, a, messages, false, &r, &p)) {
        if (!odmoe_chat_tokenize(s->template, s->tokenizer, &r.chat, ids, most, &n, NULL))
            while (same < n && same < most && ids[same] == whole->tokens[same])
                same++;
        rendering_free(&r);
    } else if (ids && messages) {
        rendering_free(&r);
    }
    free(ids);
    json_decref(messages);
    return (int32_t)same;
}

/* The end of system and tools, and the begin of the last user turn: earlier turns had theirs in earlier requests. */
static void find_checkpoints(const server *s, const ask *a, prompt *out)
{
    size_t count = json_array_size(a->messages), last = count;
    out->checkpoints = calloc(CHECKPOINTS_MOST, sizeof *out->checkpoints);
    if (!out->checkpoints)
        return;
    while (last > 0 && strcmp(role_of(json_array_get(a->messages, last - 1)), "user"))
        last--;
    bool system = !strcmp(role_of(json_array_get(a->messages, 0)), "system");
    const size_t ends[] = {system ? 1 : 0, last ? last - 1 : 0};
    for (size_t i = 0; i < 2; i++) {
        int32_t at = ends[i] && (i == 0 || ends[i] != ends[0]) ? common_prefix(s, a, ends[i], out) : 0;
        if (at > 0 && at < out->n && (!out->checkpoint_count || at > out->checkpoints[out->checkpoint_count - 1]))
            out->checkpoints[out->checkpoint_count++] = at;
    }
}

bool conversation_tokens(const struct server *s, const ask *a, prompt *out, problem *p)
{
    rendering r;
    odmoe_error err;
    size_t n = 0, capacity = (size_t)s->context;
    if (!prompt_begin(s, out, p))
        return false;
    bool done = rendering_begin(s, a, a->messages, true, &r, p);
    out->goes_on = done && r.chat.go_on;
    if (done && odmoe_chat_tokenize(s->template, s->tokenizer, &r.chat, out->tokens, capacity, &n, &err))
        done = render_problem(a, &r, &err, p);
    rendering_free(&r);
    if (!done)
        return false;
    if (n >= capacity)
        return too_long(s, a->prompt_param, n, p);
    if (n == 0)
        return problem_value(p, a->prompt_param, NULL, "the prompt is empty");
    prompt_end(s, n, out);
    find_checkpoints(s, a, out);
    return true;
}

bool text_tokens(const struct server *s, const char *text, size_t length, int flags, int32_t **tokens, size_t *n,
                 uint64_t *taken, problem *p)
{
    odmoe_error err;
    /* Most tokens stand for two bytes or more; where they do not, the second try knows how many there are. */
    size_t capacity = length / 2 + 16;
    *tokens = NULL;
    *taken = 0;
    if (!s->tokenizer)
        return problem_set(p, 400, "unsupported_parameter", NULL, "this model has no tokenizer that can be used");
    for (;;) {
        uint64_t bytes = capacity * sizeof **tokens;
        if (!memory_take(bytes))
            return problem_memory(p);
        *taken = bytes;
        *tokens = malloc(bytes);
        if (!*tokens) {
            memory_give(bytes);
            return problem_memory(p);
        }
        if (odmoe_tokenize(s->tokenizer, text, length, flags, *tokens, capacity, n, &err)) {
            problem_of_library(p, &err);
        } else if (*n <= capacity) {
            return true;
        } else {
            p->status = 0;
        }
        free(*tokens);
        memory_give(bytes);
        *tokens = NULL;
        *taken = 0;
        if (p->status)
            return false;
        capacity = *n;
    }
}

bool prompt_from_text(const struct server *s, const char *text, size_t length, const char *param, prompt *out,
                      problem *p)
{
    size_t n = 0;
    int32_t *tokens;
    p->status = 0;
    if (!text_tokens(s, text, length, ODMOE_TOKENIZE_SPECIAL | ODMOE_TOKENIZE_START, &tokens, &n, &out->taken, p))
        return false;
    out->tokens = tokens;
    if (n >= (size_t)s->context)
        return too_long(s, param, n, p);
    if (n == 0)
        return problem_value(p, param, NULL, "the prompt is empty, and this model has no start token to begin with");
    prompt_end(s, n, out);
    return true;
}

bool prompt_from_tokens(const struct server *s, const int32_t *tokens, size_t n, const char *param, prompt *out,
                        problem *p)
{
    if (n >= (size_t)s->context)
        return too_long(s, param, n, p);
    if (!prompt_begin(s, out, p))
        return false;
    memcpy(out->tokens, tokens, n * sizeof *tokens);
    prompt_end(s, n, out);
    return true;
}
