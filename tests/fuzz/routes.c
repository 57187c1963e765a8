/* The input is a request as text: "POST /v1/chat/completions", header lines, an empty line, the body. It goes to the server's routes over
 * the demo model, as it would from a socket. Whatever it holds: a status that docs/server.md lists, JSON where JSON is said, and
 * afterwards requests hold no memory. */
#include "fuzz.h"

#include <odmoe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "../../server/serve.h"

enum { HEADERS_MOST = 16 };

static serve_options options;
static server the_server;
static uint64_t idle_bytes;

/* The server counts its connections: it has a socket, to which nobody connects, of a name that the kernel finds. */
static bool listen_to_nobody(odmoe_error *err)
{
    const struct sockaddr nobody = {.sa_family = AF_UNIX};
    http_options o = {.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0),
                      .connections = 1,
                      .body_bytes_most = 1 << 20,
                      .client_timeout = 30};
    return o.listener >= 0 && !bind(o.listener, &nobody, sizeof nobody.sa_family) && !listen(o.listener, 1) &&
           !http_open(&the_server, &o, &the_server.http, err);
}

static void start(void)
{
    static char path[4096];
    odmoe_error err = {0};
    snprintf(path, sizeof path, "%s/models/demo.gguf", getenv("ODMOE_SOURCE") ? getenv("ODMOE_SOURCE") : ".");
    serve_options_init(&options);
    options.model = path;
    options.lib.ram_bytes = 64 << 20;
    options.lib.context = 64; /* answers are short */
    options.lib.sessions = 1;
    options.lib.threads = 1;
    memory_start();
    the_server = (server){.options = &options, .loopback = true};
    if (serve_sizes(&options, &err) || server_load(&the_server, &err) || !listen_to_nobody(&err)) {
        fprintf(stderr, "%s\n", err.message);
        abort();
    }
    atomic_store(&the_server.state, SERVER_READY);
    idle_bytes = memory_used();
}

/* The lines between the request line and the body. */
typedef struct headers {
    char *names[HEADERS_MOST], *values[HEADERS_MOST];
    size_t n;
} headers;

static const char *header(const http_request *request, const char *name)
{
    const headers *h = request->user;
    for (size_t i = 0; i < h->n; i++)
        if (!strcasecmp(h->names[i], name))
            return h->values[i];
    return NULL;
}

static void check(const http_reply *reply)
{
    static const int known[] = {200, 204, 400, 401, 403, 404, 405, 413, 429, 500, 501, 503};
    bool listed = false;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        listed |= reply->status == known[i];
    if (!listed && !reply->gone)
        abort();
    if (reply->type && !strcmp(reply->type, "application/json") && !reply->fixed) {
        json_t *value = json_loadb(reply->body.data, reply->body.length, JSON_ALLOW_NUL | JSON_DECODE_ANY, NULL);
        if (!value)
            abort();
        json_decref(value);
    }
}

static void run(const char *method, const char *path, headers *h, const char *body, size_t length)
{
    http_request request = {
        .method = method, .path = path, .id = "req_fuzz", .socket = -1, .header = header, .user = h};
    http_reply reply = {0};
    if (http_access(&the_server, &request, &reply))
        http_route(&the_server, &request, body, length, &reply);
    json_decref(request.json);
    request.json = NULL;
    check(&reply);
    stream_step step = reply.stream.next ? STREAM_MORE : STREAM_END;
    while (step == STREAM_MORE) {
        buffer piece = {0};
        step = http_stream_next(&reply, &piece);
        buffer_free(&piece);
    }
    http_reply_free(&reply);
    if (memory_used() != idle_bytes)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!the_server.model)
        start();
    char *text = malloc(size + 1), *at = text;
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = 0;
    headers h = {0};
    char *end = memchr(at, '\n', size), *method = at, *path = "/";
    if (end) {
        *end = 0;
        at = end + 1;
    } else {
        at = text + size;
    }
    char *blank = strchr(method, ' ');
    if (blank) {
        *blank = 0;
        path = blank + 1;
    }
    while (h.n < HEADERS_MOST && at < text + size && *at != '\n') {
        end = memchr(at, '\n', (size_t)(text + size - at));
        if (!end)
            break;
        *end = 0;
        char *colon = strchr(at, ':');
        if (colon) {
            *colon = 0;
            h.names[h.n] = at;
            h.values[h.n++] = colon + 1 + strspn(colon + 1, " ");
        }
        at = end + 1;
    }
    if (at < text + size && *at == '\n')
        at++;
    run(method, path, &h, at, (size_t)(text + size - at));
    free(text);
    return 0;
}
