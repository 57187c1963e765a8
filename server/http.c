#include "http.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

#include "characters.h"
#include "serve.h"

/* Every table of routes, in the order in which paths are looked for. */
static const route *const tables[] = {chat_routes,  completion_routes, messages_routes, responses_routes,
                                      model_routes, text_routes,       stats_routes,    metrics_routes,
                                      page_routes,  unsupported_routes};
enum { TABLES = sizeof tables / sizeof tables[0] };

#define METHODS_OF_CORS "GET, HEAD, POST, OPTIONS"
#define HEADERS_OF_CORS                                                           \
    "authorization, content-type, x-api-key, anthropic-version, anthropic-beta, " \
    "anthropic-dangerous-direct-browser-access"

/* ---- replies ---- */

void random_id(char *text, size_t room, const char *prefix)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    unsigned char bytes[RANDOM_LETTERS] = {0};
    size_t at = strlen(prefix);
    if (getrandom(bytes, sizeof bytes, 0) < 0)
        memset(bytes, 0, sizeof bytes); /* cannot happen: such a small read never fails once the system is up */
    snprintf(text, room, "%s", prefix);
    for (size_t i = 0; i < sizeof bytes && at + 1 < room; i++)
        text[at++] = letters[bytes[i] % (sizeof letters - 1)];
    if (at < room)
        text[at] = 0;
}

void http_reply_free(http_reply *reply)
{
    buffer_free(&reply->body);
    if (reply->stream.free)
        reply->stream.free(reply->stream.user);
    *reply = (http_reply){0};
}

stream_step http_stream_next(http_reply *reply, buffer *out)
{
    memory_lend(true);
    stream_step step = reply->stream.next(reply->stream.user, out);
    memory_lend(false);
    return step;
}

void reply_header(http_reply *reply, const char *name, const char *format, ...)
{
    if (reply->header_count == HTTP_HEADERS_MOST)
        return;
    char *value = reply->headers[reply->header_count].value;
    va_list args;
    va_start(args, format);
    vsnprintf(value, sizeof reply->headers[0].value, format, args);
    va_end(args);
    reply->headers[reply->header_count++].name = name;
}

static int add_json(const char *text, size_t length, void *user)
{
    buffer *out = user;
    buffer_add(out, text, length);
    return out->failed ? -1 : 0;
}

void buffer_json(buffer *out, const json_t *value)
{
    if (!value || json_dump_callback(value, add_json, out, JSON_COMPACT | JSON_ENCODE_ANY))
        out->failed = true;
}

json_t *json_bytes_text(const char *bytes, size_t length)
{
    json_t *whole = json_stringn(bytes ? bytes : "", length);
    buffer text = {0};
    if (whole || !buffer_reserve(&text, characters_room(length)))
        return whole;
    whole = json_stringn(text.data, characters_clean(bytes, length, text.data));
    buffer_free(&text);
    return whole;
}

/* What is said where there is no memory for more. */
static const char *const no_memory[] = {
    [ERRORS_OPENAI] = "{\"error\":{\"message\":\"the memory for requests is used up\",\"type\":\"server_error\","
                      "\"param\":null,\"code\":\"no_memory\"}}",
    [ERRORS_ANTHROPIC] = "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"the memory for "
                         "requests is used up\"}}"};

/* A body that needs no memory of the account. */
static void reply_no_memory(http_reply *reply)
{
    buffer_free(&reply->body);
    reply->status = 503;
    reply->type = "application/json";
    reply->fixed = no_memory[reply->errors];
    reply_header(reply, "Retry-After", "1");
}

void reply_json(http_reply *reply, int status, json_t *value)
{
    buffer_free(&reply->body);
    reply->status = status;
    reply->type = "application/json";
    buffer_json(&reply->body, value);
    json_decref(value);
    if (reply->body.failed)
        reply_no_memory(reply);
}

void reply_text(http_reply *reply, int status, const char *type, const char *text, size_t length)
{
    buffer_free(&reply->body);
    reply->status = status;
    reply->type = type;
    buffer_add(&reply->body, text, length);
    if (reply->body.failed)
        reply_no_memory(reply);
}

void reply_stream(http_reply *reply, http_stream stream)
{
    reply->status = 200;
    reply->type = "text/event-stream; charset=utf-8";
    reply->stream = stream;
    reply->cacheable = true; /* it says no-cache itself */
    reply_header(reply, "Cache-Control", "no-cache");
    reply_header(reply, "X-Accel-Buffering", "no");
}

void sse_json(buffer *out, const char *event, json_t *value)
{
    if (event)
        buffer_print(out, "event: %s\n", event);
    buffer_text(out, "data: ");
    buffer_json(out, value);
    buffer_text(out, "\n\n");
    json_decref(value);
}

void sse_comment(buffer *out, const char *text)
{
    buffer_print(out, ": %s\n\n", text);
}

/* ---- errors ---- */

const char *problem_type(int status, error_shape shape)
{
    switch (status) {
    case 401:
        return "authentication_error";
    case 403:
        return "permission_error";
    case 404:
        return "not_found_error";
    case 413:
        return shape == ERRORS_ANTHROPIC ? "request_too_large" : "invalid_request_error";
    case 429:
        return "rate_limit_error";
    case 503:
        return shape == ERRORS_ANTHROPIC ? "overloaded_error" : "server_error";
    default:
        if (status >= 500)
            return shape == ERRORS_ANTHROPIC ? "api_error" : "server_error";
        return "invalid_request_error";
    }
}

/* A message or a path may quote a request, and be cut within a character of it. */
static json_t *whole_text(const char *text)
{
    return json_bytes_text(text, strlen(text));
}

json_t *problem_json(const problem *p, error_shape shape, const char *id)
{
    const char *type = problem_type(p->status, shape);
    if (shape == ERRORS_ANTHROPIC) {
        char too_long[96];
        snprintf(too_long, sizeof too_long, "prompt is too long: %lld tokens > %lld maximum",
                 (long long)p->n_prompt_tokens, (long long)p->n_context);
        return json_pack("{s:s, s:{s:s, s:o}, s:s}", "type", "error", "error", "type", type, "message",
                         whole_text(p->n_context ? too_long : p->message), "request_id", id);
    }
    json_t *error = json_pack("{s:o, s:s, s:o, s:s}", "message", whole_text(p->message), "type", type, "param",
                              *p->param ? whole_text(p->param) : json_null(), "code", p->code);
    if (error && p->n_context) {
        json_object_set_new(error, "n_prompt_tokens", json_integer(p->n_prompt_tokens));
        json_object_set_new(error, "n_ctx", json_integer(p->n_context));
    }
    return json_pack("{s:o}", "error", error);
}

void problem_of_library(problem *p, const odmoe_error *err)
{
    if (err->code == ODMOE_ERR_IO)
        problem_set(p, 500, "io_error", NULL, "reading the model failed; the server's log says where");
    else if (err->code == ODMOE_ERR_MEMORY || err->code == ODMOE_ERR_BUDGET)
        problem_memory(p);
    else
        problem_set(p, 500, "internal", NULL, "the answer ended with an internal error (%s)",
                    odmoe_status_text(err->code));
}

static void reply_problem(http_reply *reply, const problem *p, error_shape shape, const char *id)
{
    reply->errors = shape;
    reply_json(reply, p->status, problem_json(p, shape, id));
    if (p->retry_after && !reply->fixed) /* which has its own */
        reply_header(reply, "Retry-After", "%d", p->retry_after);
    if (p->status == 401)
        reply_header(reply, "WWW-Authenticate", "Bearer");
    if (p->allow)
        reply_header(reply, "Allow", "%s", p->allow);
}

void reply_refusal(http_reply *reply, const http_request *request, const problem *p)
{
    bool anthropic = !strncmp(request->path, "/v1/messages", 12) || !strncmp(request->path, "/messages", 9);
    reply_problem(reply, p, anthropic ? ERRORS_ANTHROPIC : ERRORS_OPENAI, request->id);
    reply_header(reply, "Cache-Control", "no-store");
    reply_header(reply, anthropic ? "request-id" : "x-request-id", "%s", request->id);
}

/* ---- access ---- */

static bool is_address(const char *host, size_t length)
{
    char text[64];
    struct in_addr v4;
    struct in6_addr v6;
    if (length >= 2 && host[0] == '[' && host[length - 1] == ']') {
        if (length - 2 >= sizeof text)
            return false;
        memcpy(text, host + 1, length - 2);
        text[length - 2] = 0;
        return inet_pton(AF_INET6, text, &v6) == 1;
    }
    if (length >= sizeof text)
        return false;
    memcpy(text, host, length);
    text[length] = 0;
    return inet_pton(AF_INET, text, &v4) == 1;
}

static bool same_name(const char *host, size_t length, const char *name)
{
    return strlen(name) == length && !strncasecmp(host, name, length);
}

static bool is_loopback(const char *host, size_t length)
{
    return same_name(host, length, "localhost") || same_name(host, length, "[::1]") ||
           (length > 4 && !strncmp(host, "127.", 4) && is_address(host, length));
}

/* The length of the host in "host[:port]"; 0: it is none. Letters, digits and - . _ only, or an address in brackets. */
static size_t host_length(const char *text)
{
    size_t n = *text == '[' ? strcspn(text, "]")
                            : strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                           "0123456789-._");
    if (*text == '[')
        n = text[n] ? n + 1 : 0;
    const char *port = text + n;
    if (*port == ':')
        port += 1 + strspn(port + 1, "0123456789");
    return *port ? 0 : n;
}

static bool host_allowed(const server *s, const http_request *request)
{
    const char *host = request->header(request, "host");
    if (s->local || !s->loopback || s->has_keys || !host)
        return true;
    size_t n = host_length(host);
    if (!n)
        return false;
    if (is_address(host, n) || same_name(host, n, "localhost"))
        return true;
    for (size_t i = 0; i < s->options->host_count; i++)
        if (same_name(host, n, s->options->hosts[i]))
            return true;
    return false;
}

static bool origin_allowed(const server *s, const http_request *request, const char *origin)
{
    for (size_t i = 0; i < s->options->origin_count; i++) {
        const char *named = s->options->origins[i];
        if (!strcasecmp(named, origin) || (!strcmp(named, "*") && strcmp(origin, "null")))
            return true;
    }
    const char *host = NULL, *asked = request->header(request, "host");
    if (!strncasecmp(origin, "http://", 7))
        host = origin + 7;
    else if (!strncasecmp(origin, "https://", 8))
        host = origin + 8;
    size_t n = host ? host_length(host) : 0;
    return n && (is_loopback(host, n) || (is_address(host, n) && asked && !strcasecmp(host, asked)));
}

static bool is_field_name_list(const char *text)
{
    return text[strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_, ")] == 0 &&
           strlen(text) < 256;
}

bool http_access(const struct server *s, const http_request *request, http_reply *reply)
{
    problem p;
    if (!host_allowed(s, request)) {
        problem_set(
            &p, 403, "host_not_allowed", NULL,
            "the Host of this request is not a name of this server; start it with --allow-host NAME to allow it");
        reply_refusal(reply, request, &p);
        return false;
    }
    const char *origin = s->local ? NULL : request->header(request, "origin");
    bool preflight = !strcmp(request->method, "OPTIONS");
    bool allowed = origin && strlen(origin) < 256 && origin_allowed(s, request, origin);
    if (origin && !allowed && (preflight || !strcmp(request->method, "POST"))) {
        problem_set(&p, 403, "origin_not_allowed", NULL,
                    "pages of this origin may not use this server; --cors ORIGIN allows it");
        reply_refusal(reply, request, &p);
        return false;
    }
    if (allowed) {
        reply_header(reply, "Access-Control-Allow-Origin", "%s", origin);
        reply_header(reply, "Vary", "Origin");
    }
    if (preflight) {
        const char *asked = request->header(request, "access-control-request-headers");
        bool repeat = asked && *asked && is_field_name_list(asked);
        reply->status = 204;
        reply_header(reply, "Cache-Control", "no-store");
        reply_header(reply, "Access-Control-Allow-Methods", METHODS_OF_CORS);
        reply_header(reply, "Access-Control-Allow-Headers", "%s%s%s", HEADERS_OF_CORS, repeat ? ", " : "",
                     repeat ? asked : "");
        reply_header(reply, "Access-Control-Max-Age", "600");
        reply_header(reply, "Allow", METHODS_OF_CORS);
        reply_header(reply, "x-request-id", "%s", request->id);
        return false;
    }
    return true;
}

/* Are they the same? The time depends on the lengths alone. */
static bool same_key(const char *given, const char *key)
{
    size_t n = strlen(key), m = strlen(given);
    unsigned char differs = n != m;
    for (size_t i = 0; i < m; i++)
        differs |= (unsigned char)(given[i] ^ key[n ? i % n : 0]);
    return !differs;
}

static bool key_is_right(const server *s, const http_request *request)
{
    if (!s->has_keys)
        return true;
    /* Some clients send both, one of them a dummy: either opens. */
    const char *bearer = request->header(request, "authorization"), *key = request->header(request, "x-api-key");
    bool is_bearer = bearer && !strncasecmp(bearer, "Bearer ", 7), right = false;
    if (is_bearer)
        bearer += 7 + strspn(bearer + 7, " ");
    for (size_t i = 0; i < s->options->key_count; i++) {
        right |= is_bearer && same_key(bearer, s->options->keys[i]);
        right |= key && same_key(key, s->options->keys[i]);
    }
    return right;
}

/* ---- routes ---- */

/* Does `path` lead to the route? rest: what follows. */
static bool path_matches(const route *r, const char *path, const char **rest)
{
    const char *want = r->path;
    if (!(r->flags & ROUTE_NO_V1)) {
        if (!strncmp(path, "/v1/", 4))
            path += 3;
        if (!strncmp(want, "/v1/", 4))
            want += 3;
    }
    size_t n = strlen(want);
    if (n > 1 && want[n - 1] == '/') {
        if (strncmp(path, want, n) || !path[n])
            return false;
        *rest = path + n;
        return true;
    }
    return !strcmp(path, want);
}

static bool method_matches(const route *r, const char *method)
{
    return !r->method || !strcmp(r->method, method) || (!strcmp(r->method, "GET") && !strcmp(method, "HEAD"));
}

/* The route of a request; NULL: 404 or 405, or 503 while nothing else is served. */
static const route *find_route(const server *s, http_request *request, problem *p)
{
    const char *allow = NULL;
    for (size_t t = 0; t < TABLES; t++)
        for (const route *r = tables[t]; r->path; r++) {
            if (!path_matches(r, request->path, &request->rest))
                continue;
            if (method_matches(r, request->method))
                return r;
            allow = !strcmp(r->method, "GET") ? "GET, HEAD" : r->method;
        }
    if (allow)
        problem_set(p, 405, "method_not_allowed", NULL, "this path takes %s", allow);
    else
        problem_set(p, 404, "not_found", NULL, "there is nothing at this path; docs/server.md lists the endpoints");
    p->allow = allow;
    return NULL;
}

static bool state_allows(const server *s, const route *r, problem *p)
{
    if (r && r->flags & ROUTE_ALWAYS)
        return true;
    switch (atomic_load(&s->state)) {
    case SERVER_LOADING:
        problem_set(p, 503, "loading", NULL, "the model is being loaded; try again soon");
        p->retry_after = 2;
        return false;
    case SERVER_DRAINING:
        problem_set(p, 503, "shutting_down", NULL, "the server is about to end");
        p->retry_after = 10;
        return false;
    default:
        return true;
    }
}

const route *http_begin(struct server *s, http_request *request, http_reply *reply)
{
    problem p, not_found = {0};
    const route *r = find_route(s, request, &not_found);
    if (!(r && r->flags & ROUTE_NO_KEY) && !key_is_right(s, request))
        problem_set(&p, 401, "invalid_api_key", NULL, "a key is needed: Authorization: Bearer KEY, or x-api-key: KEY");
    else if (state_allows(s, r, &p)) {
        if (r)
            return r;
        p = not_found;
    }
    reply_refusal(reply, request, &p);
    return NULL;
}

void http_request_done(http_request *request)
{
    json_decref(request->json);
    request->json = NULL;
}

/* What a handler has put into a reply that has had so many header lines. */
static void take_back(http_reply *reply, int header_count)
{
    buffer_free(&reply->body);
    if (reply->stream.free)
        reply->stream.free(reply->stream.user);
    reply->stream = (http_stream){0};
    reply->header_count = header_count;
    reply->cacheable = false;
    reply->fixed = NULL;
}

void http_finish(struct server *s, const route *r, http_request *request, buffer *body, http_reply *reply)
{
    problem p = {0};
    bool done = true;
    int header_count = reply->header_count;
    memory_json_short(true);
    if (!strcmp(request->method, "POST") && !(r->flags & ROUTE_NO_BODY))
        done = (request->json = field_parse(body->data, body->length, &p));
    buffer_free(body);
    reply->errors = r->errors;
    if (done)
        done = r->handle(s, request, reply, &p);
    /* Lists that could not grow lack their ends: neither an answer nor an error can be believed then. */
    if (memory_json_short(true))
        done = problem_memory(&p);
    if (!done) {
        take_back(reply, header_count);
        reply_problem(reply, &p, r->errors, request->id);
    }
    if (!reply->cacheable)
        reply_header(reply, "Cache-Control", "no-store");
    reply_header(reply, r->errors == ERRORS_ANTHROPIC ? "request-id" : "x-request-id", "%s", request->id);
}

const route *http_route(struct server *s, http_request *request, const char *body, size_t length, http_reply *reply)
{
    const route *r = http_begin(s, request, reply);
    buffer copy = {0};
    if (r) {
        buffer_add(&copy, body, length);
        http_finish(s, r, request, &copy, reply);
    }
    return r;
}
