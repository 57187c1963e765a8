/* What libmicrohttpd does for http.h: sockets, framing, a thread per connection. Its own limits are left to the watcher
 * (http_watch): libmicrohttpd's timeout begins anew with every byte. */
#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "http.h"
#include "log.h"
#include "serve.h"

enum {
    HEADER_BYTES_MOST = 32 << 10, /* all header lines of a request */
    LINE_BYTES_MOST = 8 << 10,    /* one of them, or the request line */
    POOL_BYTES =
        56 << 10, /* what libmicrohttpd may use for a connection: header lines, parsed, and a piece of a reply */
    PIECE_BYTES = 16 << 10, /* of a reply, asked for at a time */
    COUNTS_MOST = 512,      /* pairs of endpoint and status */
    KEPT_BYTES = 64 << 10   /* of a stream's buffer, from piece to piece */
};

#ifdef __SANITIZE_ADDRESS__
enum { STACK_BYTES = 2 << 20 };
#else
enum { STACK_BYTES = 256 << 10 };
#endif

enum { IDLE, READING, WORKING, WRITING, CUT };

typedef struct connection {
    struct connection *next, *previous;
    int fd; /* a duplicate: libmicrohttpd closes its own before it says so, and the number may then be another's */
    _Atomic int state;
    _Atomic double since;
    char peer[64];
} connection;

struct http {
    struct server *server;
    http_options options;
    struct MHD_Daemon *daemon;
    pthread_mutex_t lock;    /* of connections and counts */
    connection *connections; /* a list */
    int connection_count;
    http_count counts[COUNTS_MOST];
    size_t count_count;
    _Atomic bool refusing;
};

/* One request and its reply. */
typedef struct exchange {
    http *http;
    connection *connection;
    http_request request;
    http_reply reply;
    const route *route;
    char *path;
    buffer body;
    size_t body_bytes; /* that came, kept or not */
    bool refused;      /* `reply` is there already: the body is read and dropped */
    bool last;         /* no further request on this connection */
    size_t sent;       /* of reply.body, or of `piece` */
    buffer piece;      /* of a stream */
    bool stream_ended;
    double begun;
} exchange;

/* ---- states ---- */

static void enter(connection *c, int state)
{
    int was = atomic_load(&c->state);
    atomic_store(&c->since, clock_seconds());
    while (was != CUT && !atomic_compare_exchange_weak(&c->state, &was, state))
        ;
}

/* Send an error past libmicrohttpd, which answers no request that is still coming. */
static void say(int fd, const http_request *request, const problem *p)
{
    http_reply reply = {0};
    buffer text = {0};
    reply_refusal(&reply, request, p);
    const char *body = reply.fixed ? reply.fixed : reply.body.data;
    buffer_print(&text, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nConnection: close\r\n", reply.status,
                 MHD_get_reason_phrase_for((unsigned)reply.status), reply.type);
    for (int i = 0; i < reply.header_count; i++)
        buffer_print(&text, "%s: %s\r\n", reply.headers[i].name, reply.headers[i].value);
    buffer_print(&text, "Content-Length: %zu\r\n\r\n%s", strlen(body), body);
    if (!text.failed)
        send(fd, text.data, text.length, MSG_DONTWAIT | MSG_NOSIGNAL);
    buffer_free(&text);
    http_reply_free(&reply);
}

/* End the connection; a client that is still sending is told why. p: NULL, nothing is said. */
static void cut_off(connection *c, const http_request *request, const problem *p)
{
    int was = atomic_load(&c->state);
    if (was == CUT || !atomic_compare_exchange_strong(&c->state, &was, CUT))
        return;
    if (was == READING && p)
        say(c->fd, request, p);
    shutdown(c->fd, SHUT_RDWR);
}

void http_watch(http *h)
{
    problem p;
    http_request unknown = {.path = ""}; /* how much of it has come, only its own thread knows */
    double limit = h->options.client_timeout;
    problem_set(&p, 408, "timeout", NULL, "the request took longer than --client-timeout");
    random_id(unknown.id, sizeof unknown.id, "req_");
    pthread_mutex_lock(&h->lock);
    for (connection *c = h->connections; c; c = c->next) {
        int state = atomic_load(&c->state);
        if (state != WORKING && state != CUT && clock_seconds() - atomic_load(&c->since) > limit)
            cut_off(c, &unknown, &p);
    }
    pthread_mutex_unlock(&h->lock);
}

static void peer_name(struct MHD_Connection *mhd, char *text, size_t room)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const struct sockaddr *address = info ? info->client_addr : NULL;
    snprintf(text, room, "unix");
    if (address && address->sa_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)address)->sin_addr, text, (socklen_t)room);
    else if (address && address->sa_family == AF_INET6)
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr, text, (socklen_t)room);
}

static void on_connection(void *user, struct MHD_Connection *mhd, void **context,
                          enum MHD_ConnectionNotificationCode what)
{
    http *h = user;
    connection *c = *context;
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
        c = calloc(1, sizeof *c);
        if (!c)
            return;
        c->fd = info ? dup(info->connect_fd) : -1;
        atomic_store(&c->since, clock_seconds());
        peer_name(mhd, c->peer, sizeof c->peer);
        pthread_mutex_lock(&h->lock);
        c->next = h->connections;
        if (c->next)
            c->next->previous = c;
        h->connections = c;
        h->connection_count++;
        pthread_mutex_unlock(&h->lock);
        *context = c;
    } else if (c) {
        pthread_mutex_lock(&h->lock);
        if (c->previous)
            c->previous->next = c->next;
        else
            h->connections = c->next;
        if (c->next)
            c->next->previous = c->previous;
        h->connection_count--;
        pthread_mutex_unlock(&h->lock);
        if (c->fd >= 0)
            close(c->fd);
        free(c);
        *context = NULL;
    }
}

static connection *connection_of(struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

/* The request line is there. */
static void *on_request_line(void *user, const char *uri, struct MHD_Connection *mhd)
{
    connection *c = connection_of(mhd);
    if (c)
        enter(c, READING);
    return NULL;
}

/* ---- replies ---- */

static const char *header_of(const http_request *request, const char *name)
{
    return MHD_lookup_connection_value(request->user, MHD_HEADER_KIND, name);
}

/* Bytes of a body that is there. */
static ssize_t read_body(void *user, uint64_t position, char *out, size_t room)
{
    exchange *x = user;
    const char *text = x->reply.fixed ? x->reply.fixed : x->reply.body.data;
    size_t length = x->reply.fixed ? strlen(text) : x->reply.body.length;
    size_t left = position < length ? length - (size_t)position : 0, n = left < room ? left : room;
    if (n == 0)
        return MHD_CONTENT_READER_END_OF_STREAM;
    memcpy(out, text + position, n);
    enter(x->connection, WRITING);
    return (ssize_t)n;
}

/* The next bytes of a stream; waits until there are some. */
static ssize_t read_stream(void *user, uint64_t position, char *out, size_t room)
{
    exchange *x = user;
    buffer *piece = &x->piece;
    enter(x->connection, WORKING);
    while (x->sent == piece->length) {
        if (x->stream_ended)
            return MHD_CONTENT_READER_END_OF_STREAM;
        if (piece->capacity > KEPT_BYTES)
            buffer_free(piece);
        piece->length = x->sent = 0;
        stream_step step = http_stream_next(&x->reply, piece);
        if (step == STREAM_BROKEN || piece->failed) {
            x->reply.gone = step == STREAM_BROKEN;
            return MHD_CONTENT_READER_END_WITH_ERROR;
        }
        x->stream_ended = step == STREAM_END;
    }
    size_t left = piece->length - x->sent, n = left < room ? left : room;
    memcpy(out, piece->data + x->sent, n);
    x->sent += n;
    enter(x->connection, WRITING);
    return (ssize_t)n;
}

static enum MHD_Result send_reply(exchange *x, struct MHD_Connection *mhd)
{
    http_reply *reply = &x->reply;
    struct MHD_Response *response;
    if (reply->gone)
        return MHD_NO;
    if (reply->stream.next)
        response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, PIECE_BYTES, read_stream, x, NULL);
    else if (!reply->fixed && !reply->body.length)
        response = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    else
        response = MHD_create_response_from_callback(reply->fixed ? strlen(reply->fixed) : reply->body.length,
                                                     PIECE_BYTES, read_body, x, NULL);
    if (!response)
        return MHD_NO;
    bool done = true;
    if (reply->type)
        done = MHD_add_response_header(response, "Content-Type", reply->type);
    for (int i = 0; done && i < reply->header_count; i++)
        done = MHD_add_response_header(response, reply->headers[i].name, reply->headers[i].value);
    if (done && (x->last || atomic_load(&x->http->refusing)))
        done = MHD_add_response_header(response, "Connection", "close");
    enter(x->connection, WRITING);
    enum MHD_Result result = done ? MHD_queue_response(mhd, (unsigned)reply->status, response) : MHD_NO;
    MHD_destroy_response(response);
    return result;
}

/* ---- requests ---- */

/* What header lines say about the body, and how large they are. */
typedef struct framing {
    size_t bytes, longest;
    int lengths, encodings;
    bool bad_length, chunked, bad_encoding;
    uint64_t length;
} framing;

static enum MHD_Result look_at_header(void *user, enum MHD_ValueKind kind, const char *name, const char *value)
{
    framing *f = user;
    size_t bytes = strlen(name) + (value ? strlen(value) : 0) + 4;
    f->bytes += bytes;
    f->longest = bytes > f->longest ? bytes : f->longest;
    if (!strcasecmp(name, "content-length")) {
        f->lengths++;
        char *end = NULL;
        errno = 0;
        f->length = value ? strtoull(value, &end, 10) : 0;
        f->bad_length |= !value || !*value || value[strspn(value, "0123456789")] || errno;
    } else if (!strcasecmp(name, "transfer-encoding")) {
        f->encodings++;
        f->chunked = value && !strcasecmp(value, "chunked");
        f->bad_encoding |= !f->chunked;
    }
    return MHD_YES;
}

/* What is answered before the body is read, and ends the connection. false: reply is filled. */
static bool framing_is_right(exchange *x, struct MHD_Connection *mhd, const char *url)
{
    framing f = {0};
    problem p;
    MHD_get_connection_values(mhd, MHD_HEADER_KIND, look_at_header, &f);
    const char *coding = x->request.header(&x->request, "content-encoding");
    if (f.bytes > HEADER_BYTES_MOST || f.longest > LINE_BYTES_MOST || strlen(url) > LINE_BYTES_MOST)
        problem_set(&p, 431, "headers_too_large", NULL, "header lines take at most %d KiB, each at most %d KiB",
                    HEADER_BYTES_MOST >> 10, LINE_BYTES_MOST >> 10);
    else if (f.lengths > 1 || f.encodings > 1 || (f.lengths && f.encodings) || f.bad_length || f.bad_encoding)
        problem_set(&p, 400, "invalid_value", NULL,
                    "one Content-Length, or Transfer-Encoding: chunked, must say how long the body is");
    else if (coding && strcasecmp(coding, "identity"))
        problem_set(&p, 415, "unsupported_encoding", NULL,
                    "Content-Encoding is not supported; send the body uncompressed");
    else if (f.length > x->http->options.body_bytes_most)
        problem_set(&p, 413, "body_too_large", NULL, "a body may have %llu bytes (--max-body)",
                    (unsigned long long)x->http->options.body_bytes_most);
    else
        return true;
    x->last = true;
    reply_refusal(&x->reply, &x->request, &p);
    return false;
}

static exchange *exchange_create(http *h, struct MHD_Connection *mhd, const char *url, const char *method)
{
    connection *c = connection_of(mhd);
    exchange *x = c ? calloc(1, sizeof *x) : NULL;
    if (!x)
        return NULL;
    x->path = strdup(url);
    if (!x->path) {
        free(x);
        return NULL;
    }
    x->http = h;
    x->connection = c;
    x->begun = clock_seconds();
    x->request = (http_request){.method = method, .path = x->path, .socket = c->fd, .header = header_of, .user = mhd};
    random_id(x->request.id, sizeof x->request.id, "req_");
    return x;
}

/* The header lines are there. */
static enum MHD_Result begin(exchange *x, struct MHD_Connection *mhd)
{
    const char *expect = x->request.header(&x->request, "expect");
    if (!framing_is_right(x, mhd, x->path))
        return send_reply(x, mhd);
    if (http_access(x->http->server, &x->request, &x->reply))
        x->route = http_begin(x->http->server, &x->request, &x->reply);
    x->refused = !x->route;
    if (x->refused && expect) { /* the client waits to be told whether the body is wanted */
        x->last = true;
        return send_reply(x, mhd);
    }
    return MHD_YES;
}

/* A piece of the body. */
static enum MHD_Result take_body(exchange *x, const char *data, size_t length)
{
    uint64_t most = x->http->options.body_bytes_most;
    problem p;
    x->body_bytes += length;
    if (x->body_bytes > most) {
        buffer_free(&x->body);
        problem_set(&p, 413, "body_too_large", NULL, "the body is larger than --max-body");
        cut_off(x->connection, &x->request, &p);
        x->reply.status = 413;
        return MHD_NO;
    }
    if (x->refused)
        return MHD_YES;
    buffer_add(&x->body, data, length);
    if (x->body.failed) {
        buffer_free(&x->body);
        problem_memory(&p);
        reply_refusal(&x->reply, &x->request, &p);
        x->refused = true;
    }
    return MHD_YES;
}

static enum MHD_Result on_request(void *user, struct MHD_Connection *mhd, const char *url, const char *method,
                                  const char *version, const char *data, size_t *length, void **context)
{
    http *h = user;
    exchange *x = *context;
    if (!x) {
        x = *context = exchange_create(h, mhd, url, method);
        return x ? begin(x, mhd) : MHD_NO;
    }
    if (*length) {
        size_t n = *length;
        *length = 0;
        return take_body(x, data, n);
    }
    enter(x->connection, WORKING);
    if (atomic_load(&x->connection->state) == CUT)
        return MHD_NO;
    if (!x->refused)
        http_finish(h->server, x->route, &x->request, &x->body, &x->reply);
    http_request_done(&x->request);
    return send_reply(x, mhd);
}

static void count(http *h, const char *endpoint, int status)
{
    size_t i = 0;
    pthread_mutex_lock(&h->lock);
    while (i < h->count_count && (strcmp(h->counts[i].endpoint, endpoint) || h->counts[i].status != status))
        i++;
    if (i == h->count_count && i < COUNTS_MOST)
        h->counts[h->count_count++] = (http_count){endpoint, status, 0};
    if (i < COUNTS_MOST)
        h->counts[i].count++;
    pthread_mutex_unlock(&h->lock);
}

static void on_completed(void *user, struct MHD_Connection *mhd, void **context, enum MHD_RequestTerminationCode why)
{
    http *h = user;
    exchange *x = *context;
    if (!x)
        return;
    *context = NULL;
    http_request *request = &x->request;
    bool left = x->reply.gone || (why != MHD_REQUEST_TERMINATED_COMPLETED_OK &&
                                  why != MHD_REQUEST_TERMINATED_DAEMON_SHUTDOWN && x->reply.status < 400);
    int status = left ? 499 : x->reply.status;
    const char *endpoint = x->route ? x->route->name : "none";
    /* A stream is freed before: its job's last numbers are then in the account. */
    if (x->reply.stream.free)
        x->reply.stream.free(x->reply.stream.user);
    x->reply.stream.free = NULL;
    log_request(request, x->connection->peer, endpoint, status, clock_seconds() - x->begun);
    count(h, x->route ? x->route->path : "none", status);
    http_reply_free(&x->reply);
    buffer_free(&x->body);
    buffer_free(&x->piece);
    json_decref(request->json);
    enter(x->connection, IDLE);
    free(x->path);
    free(x);
}

/* ---- the daemon ---- */

odmoe_status http_open(struct server *s, const http_options *options, http **out, odmoe_error *err)
{
    http *h = calloc(1, sizeof *h);
    if (!h) {
        *err = (odmoe_error){ODMOE_ERR_MEMORY, "no memory for the server"};
        return err->code;
    }
    h->server = s;
    h->options = *options;
    pthread_mutex_init(&h->lock, NULL);
    h->daemon = MHD_start_daemon(
        MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL | MHD_USE_ITC, 0, NULL, NULL,
        on_request, h, MHD_OPTION_LISTEN_SOCKET, options->listener, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)options->connections, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)POOL_BYTES,
        MHD_OPTION_CONNECTION_TIMEOUT, 0u, MHD_OPTION_THREAD_STACK_SIZE, (size_t)STACK_BYTES,
        MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_URI_LOG_CALLBACK, on_request_line, h, MHD_OPTION_NOTIFY_COMPLETED,
        on_completed, h, MHD_OPTION_NOTIFY_CONNECTION, on_connection, h, MHD_OPTION_END);
    if (!h->daemon) {
        pthread_mutex_destroy(&h->lock);
        free(h);
        *err = (odmoe_error){ODMOE_ERR_STATE, "libmicrohttpd does not start; see the limits of threads and open files"};
        return err->code;
    }
    *out = h;
    return ODMOE_OK;
}

void http_refuse(http *h)
{
    atomic_store(&h->refusing, true);
    MHD_socket listener = MHD_quiesce_daemon(h->daemon);
    if (listener != MHD_INVALID_SOCKET)
        close(listener);
    pthread_mutex_lock(&h->lock);
    for (connection *c = h->connections; c; c = c->next)
        if (atomic_load(&c->state) == IDLE || atomic_load(&c->state) == READING)
            cut_off(c, NULL, NULL);
    pthread_mutex_unlock(&h->lock);
}

void http_settle(http *h, double seconds)
{
    double end = clock_seconds() + seconds;
    bool busy = true;
    while (busy && clock_seconds() < end) {
        busy = false;
        pthread_mutex_lock(&h->lock);
        for (connection *c = h->connections; c; c = c->next)
            busy |= atomic_load(&c->state) == WORKING || atomic_load(&c->state) == WRITING;
        pthread_mutex_unlock(&h->lock);
        if (busy)
            nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
}

void http_close(http *h)
{
    if (!h)
        return;
    MHD_stop_daemon(h->daemon);
    pthread_mutex_destroy(&h->lock);
    free(h);
}

size_t http_counts(http *h, http_count *counts, size_t room)
{
    pthread_mutex_lock(&h->lock);
    size_t n = h->count_count;
    memcpy(counts, h->counts, (n < room ? n : room) * sizeof *counts);
    pthread_mutex_unlock(&h->lock);
    return n;
}

int http_connections(http *h)
{
    pthread_mutex_lock(&h->lock);
    int n = h->connection_count;
    pthread_mutex_unlock(&h->lock);
    return n;
}
