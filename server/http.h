/* http.h - requests and replies, whatever carries them.
 *
 * A protocol is a table of routes with handlers. A handler gets a request whose body is a JSON object, and fills a reply: an
 * error (a problem, in the shape that the route's clients know), a body, or a stream that is asked for its next bytes.
 * Handlers know no sockets: http_route runs one on a request made by hand, as tests and fuzzers do. http_open puts
 * libmicrohttpd under it, with a thread per connection, so that a handler or a stream may wait.
 *
 * States of a connection (connections.c; http_watch looks at them):
 *
 *   IDLE --request line--> READING --last byte--> WORKING --reply--> WRITING --all sent--> IDLE
 *                                                    ^--asked for more--'
 *   In IDLE, READING and WRITING a client is cut off after --client-timeout. WORKING is the server's own time.
 *
 * Threads: each request is handled by one. */
#ifndef ODMOE_SERVER_HTTP_H
#define ODMOE_SERVER_HTTP_H

#include <odmoe.h>
#include <stdbool.h>

#include "fields.h"
#include "memory.h"

struct server; /* serve.h */

/* ---- requests ---- */

/* What the log and the metrics say about a request beyond its status; a handler that generates fills it. */
typedef struct http_account {
    bool generated; /* the numbers below say something */
    int prompt_tokens, cached_tokens, generated_tokens;
    double queue_seconds, first_token_seconds;
    uint64_t expert_bytes;
    const char *finish; /* static */
} http_account;

typedef struct http_request {
    const char *method, *path; /* path without the query */
    const char *rest;          /* what follows a route's path that ends in "/" */
    json_t *json; /* the body of a POST: an object. A handler drops it before a long wait: http_request_done */
    char id[48];  /* "req_..." */
    int socket;   /* to watch for a client that leaves; -1: none */
    /* A header's value, by its name in any case; NULL: there is none. */
    const char *(*header)(const struct http_request *request, const char *name);
    void *user; /* of `header` */
    http_account account;
} http_request;

/* http_request_done - request->json is not needed any more: free its memory. */
void http_request_done(http_request *request);

/* ---- replies ---- */

typedef enum stream_step {
    STREAM_MORE,  /* `out` has the next bytes */
    STREAM_END,   /* `out` may have the last ones */
    STREAM_BROKEN /* the client has left, or there is no memory: close the connection */
} stream_step;

/* A stream: `next` appends to `out`, which comes empty, and may wait for what to append. `free` is called once, at the end. */
typedef struct http_stream {
    stream_step (*next)(void *user, buffer *out);
    void (*free)(void *user);
    void *user;
} http_stream;

enum { HTTP_HEADERS_MOST = 12 };

/* How errors are written. */
typedef enum error_shape { ERRORS_OPENAI, ERRORS_ANTHROPIC } error_shape;

/* http_route gives it zeroed to the handler, and frees it with http_reply_free. */
typedef struct http_reply {
    int status;
    const char *type; /* Content-Type; static */
    buffer body;
    const char *fixed;  /* a static text instead of body, where there is no memory for one */
    http_stream stream; /* instead of body, where .next is not NULL */
    bool gone;          /* the client has left: nothing is sent, the log says 499 */
    bool cacheable;     /* no Cache-Control: no-store */
    error_shape errors; /* of the error that there was no memory for the reply */
    struct {
        const char *name; /* static */
        char value[512];
    } headers[HTTP_HEADERS_MOST];
    int header_count;
} http_reply;

void http_reply_free(http_reply *reply);

/* http_stream_next - append the next bytes of a reply's stream. It always gets memory, since the status has been sent. */
stream_step http_stream_next(http_reply *reply, buffer *out);
/* reply_header - one more header; text is copied, cut at its room. */
void reply_header(http_reply *reply, const char *name, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* reply_json - status and a JSON value, whose reference is taken; NULL (no memory): 503. */
void reply_json(http_reply *reply, int status, json_t *value);
/* reply_refusal - an error before a route is known: 403, 404, 413 ... */
void reply_refusal(http_reply *reply, const http_request *request, const problem *p);
/* reply_text - a body that is copied. */
void reply_text(http_reply *reply, int status, const char *type, const char *text, size_t length);
/* reply_stream - 200 and a stream of server-sent events, with their headers. */
void reply_stream(http_reply *reply, http_stream stream);

/* sse_json - one event `data: {...}` of a value, whose reference is taken; event: its name, or NULL. NULL as value (no memory):
 * out->failed. sse_comment - a comment, which clients do not show. */
void sse_json(buffer *out, const char *event, json_t *value);
void sse_comment(buffer *out, const char *text);
/* buffer_json - a value as compact JSON text behind the buffer's; its reference is kept. */
void buffer_json(buffer *out, const json_t *value);
/* json_bytes_text - a JSON string of bytes[0, length), which may be cut within a character: U+FFFD replaces invalid bytes. A new
 * reference; NULL: no memory. bytes may be NULL where length is 0. */
json_t *json_bytes_text(const char *bytes, size_t length);

/* random_id - `prefix` and RANDOM_LETTERS random letters and digits. */
enum { RANDOM_LETTERS = 24 };
void random_id(char *text, size_t room, const char *prefix);

/* ---- routes ---- */

/* problem_type - "invalid_request_error" ... of a status. problem_json - the object of an error; id: the request's. */
const char *problem_type(int status, error_shape shape);
json_t *problem_json(const problem *p, error_shape shape, const char *id);
/* problem_of_library - the problem that an error of the library becomes at request time: ERR_IO 500 io_error, ERR_BUDGET and
 * ERR_MEMORY 503 no_memory, else 500 internal. The library's message does not reach the client: it may name files. */
void problem_of_library(problem *p, const odmoe_error *err);

enum route_flags {
    ROUTE_NO_KEY = 1,  /* open without a key */
    ROUTE_ALWAYS = 2,  /* answers while the model is loaded and while the server ends */
    ROUTE_NO_BODY = 4, /* a POST whose body is not looked at */
    ROUTE_NO_V1 = 8    /* only this path, not the same with or without /v1 */
};

/* A handler fills `reply`, or returns false with `p` filled. */
typedef bool (*http_handler)(struct server *s, http_request *request, http_reply *reply, problem *p);

typedef struct route {
    const char *method; /* "GET" (HEAD comes with it) or "POST"; NULL: any */
    const char *path;   /* "/v1/models"; with "/" at its end also all that is below it. "/v1/x" stands for "/x" too */
    const char *name;   /* for the log: "chat", "models" */
    http_handler handle;
    int flags;
    error_shape errors;
} route;

/* The tables of the protocols, each ending with {0}; http.c has the list of them. */
extern const route chat_routes[], completion_routes[], messages_routes[], responses_routes[], model_routes[],
    text_routes[], stats_routes[], metrics_routes[], page_routes[], unsupported_routes[];

/* http_access - may this Host, this Origin come in? false: reply is filled (403; 204 of a preflight). Adds the headers of
 * CORS. Comes first.
 * http_begin - find the route, check key and state: all that is known before the body. NULL: reply is filled.
 * http_finish - parse the body, which is freed, and run the handler. `reply` then has a status and a body or a stream, unless it is
 * `gone`.
 * http_route - the last two at once, of body[0, length). */
bool http_access(const struct server *s, const http_request *request, http_reply *reply);
const route *http_begin(struct server *s, http_request *request, http_reply *reply);
void http_finish(struct server *s, const route *r, http_request *request, buffer *body, http_reply *reply);
const route *http_route(struct server *s, http_request *request, const char *body, size_t length, http_reply *reply);

/* ---- libmicrohttpd ---- */

typedef struct http http;

typedef struct http_options {
    int listener; /* a listening socket, which http_open takes over on success */
    bool local;   /* it is a Unix socket */
    int connections;
    uint64_t body_bytes_most;
    double client_timeout; /* seconds */
} http_options;

odmoe_status http_open(struct server *s, const http_options *options, http **out, odmoe_error *err);
/* http_watch - cut off clients that take too long; to be called a few times a second. */
void http_watch(http *h);
/* http_refuse - accept no more connections: the listener is closed; connections that do nothing are closed too. */
void http_refuse(http *h);
/* http_settle - wait until no reply is under way, for `seconds` at most. */
void http_settle(http *h, double seconds);
/* http_close - end all connections and wait for their threads. NULL is fine. */
void http_close(http *h);

/* Requests answered so far, for /metrics. */
typedef struct http_count {
    const char *endpoint; /* a route's path, or "none" */
    int status;           /* 499: the client left */
    uint64_t count;
} http_count;
/* http_counts - fill counts [room]; returns how many there are. http_connections - open now. */
size_t http_counts(http *h, http_count *counts, size_t room);
int http_connections(http *h);

#endif
