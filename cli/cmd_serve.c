#include <stdlib.h>
#include <string.h>

#include "options.h"
#include "progress.h"
#include "serve.h"

enum {
    KEY_HOST = KEY_COMMAND,
    KEY_PORT,
    KEY_UNIX,
    KEY_PARALLEL,
    KEY_QUEUE,
    KEY_ALIAS,
    KEY_CACHE_DIR,
    KEY_CACHE_DISK,
    KEY_CACHE_RAM,
    KEY_API_KEY,
    KEY_API_KEY_FILE,
    KEY_CORS,
    KEY_ALLOW_HOST,
    KEY_MAX_BODY,
    KEY_CONNECTIONS,
    KEY_CLIENT_TIMEOUT,
    KEY_KEEPALIVE,
    KEY_DRAIN,
    KEY_NO_PAGE,
    KEY_LOG
};

enum { PARALLEL_MOST = 256, QUEUE_MOST = 100000, CONNECTIONS_MOST = 10000, SECONDS_MOST = 86400 };

/* A growing list of texts. */
typedef struct text_list {
    const char **texts;
    size_t n;
} text_list;

static void text_list_add(text_list *list, const char *text)
{
    list->texts = must_realloc(list->texts, list->n + 1, sizeof *list->texts);
    list->texts[list->n++] = text;
}

typedef struct command {
    model_options model;
    serve_options serve;
    text_list keys, origins, hosts;
    char **key_files; /* their texts, which the keys point into */
    size_t key_file_count;
} command;

static uint64_t parse_size(const char *option, const char *text)
{
    uint64_t bytes = 0;
    odmoe_error err;
    if (odmoe_size_parse(text, &bytes, &err))
        usage_error("%s: %s", option, err.message);
    return bytes;
}

static void add_key(command *c, const char *option, char *key)
{
    key += strspn(key, " \t\r");
    size_t n = strlen(key);
    while (n && strchr(" \t\r", key[n - 1]))
        key[--n] = 0;
    if (!*key)
        usage_error("%s: a key has one letter or more", option);
    text_list_add(&c->keys, key);
}

/* One key a line; empty lines and those that begin with # are none. */
static void add_key_file(command *c, const char *path)
{
    size_t length, before = c->keys.n;
    char *text = read_whole(path, &length), *rest;
    if (!text)
        exit(STATUS_FAILED);
    c->key_files = must_realloc(c->key_files, c->key_file_count + 1, sizeof *c->key_files);
    c->key_files[c->key_file_count++] = text;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        if (line[strspn(line, " \t\r")] && line[strspn(line, " \t")] != '#')
            add_key(c, "--api-key-file", line);
    if (c->keys.n == before)
        usage_error("--api-key-file %s: there is no key in it; without a key anybody could come in", path);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    command *c = state->input;
    serve_options *o = &c->serve;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->sampler;
        state->child_inputs[1] = &c->model;
        return 0;
    case KEY_HOST:
        o->host = arg;
        return 0;
    case KEY_PORT:
        o->port = (int)parse_integer("--port", arg, 0, 65535);
        return 0;
    case KEY_UNIX:
        o->unix_path = arg;
        return 0;
    case KEY_PARALLEL:
        c->model.lib.sessions = (int32_t)parse_integer("--parallel", arg, 1, PARALLEL_MOST);
        return 0;
    case KEY_QUEUE:
        o->queue = (int)parse_integer("--queue", arg, 0, QUEUE_MOST);
        return 0;
    case KEY_ALIAS:
        if (!*arg || strchr(arg, '/'))
            usage_error("--alias '%s': a name without / is wanted", arg);
        o->alias = arg;
        return 0;
    case KEY_CACHE_DIR:
        o->cache_dir = arg;
        return 0;
    case KEY_CACHE_DISK:
        o->cache_disk_bytes = parse_size("--cache-disk", arg);
        return 0;
    case KEY_CACHE_RAM:
        o->cache_ram_bytes = parse_size("--cache-ram", arg);
        o->has_cache_ram = true;
        return 0;
    case KEY_API_KEY:
        add_key(c, "--api-key", arg);
        return 0;
    case KEY_API_KEY_FILE:
        add_key_file(c, arg);
        return 0;
    case KEY_CORS:
        text_list_add(&c->origins, arg);
        return 0;
    case KEY_ALLOW_HOST:
        text_list_add(&c->hosts, arg);
        return 0;
    case KEY_MAX_BODY:
        o->max_body = parse_size("--max-body", arg);
        return 0;
    case KEY_CONNECTIONS:
        o->connections = (int)parse_integer("--connections", arg, 1, CONNECTIONS_MOST);
        return 0;
    case KEY_CLIENT_TIMEOUT:
        o->client_timeout = parse_real("--client-timeout", arg, 0.1, SECONDS_MOST);
        return 0;
    case KEY_KEEPALIVE:
        o->keepalive = parse_real("--keepalive", arg, 0.1, SECONDS_MOST);
        return 0;
    case KEY_DRAIN:
        o->drain = parse_real("--drain", arg, 0, SECONDS_MOST);
        return 0;
    case KEY_NO_PAGE:
        o->no_page = true;
        return 0;
    case KEY_LOG:
        o->log = arg;
        return 0;
    case ARGP_KEY_END:
        if (c->model.json)
            usage_error("--json: the server writes no summary; see /stats and /metrics");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* The options, by what they are about. */
static const struct argp serve_argp = {
    .options =
        (const struct argp_option[]){
            {"host", KEY_HOST, "ADDRESS", 0, "where to listen; default 127.0.0.1: this machine alone", 1},
            {"port", KEY_PORT, "N", 0, "default 8080; 0: any free port", 1},
            {"unix", KEY_UNIX, "PATH", 0, "listen on a Unix socket instead", 1},
            {"parallel", KEY_PARALLEL, "N", 0, "answers at the same time; default 1 to 4, as the budget allows", 1},
            {"queue", KEY_QUEUE, "N", 0, "requests that may wait; default 32", 1},
            {"alias", KEY_ALIAS, "NAME", 0, "the model's name for clients; default its file's", 1},
            {"cache-dir", KEY_CACHE_DIR, "DIR", 0,
             "keep computed prompts in files there (which contain the conversations); default: none", 2},
            {"cache-disk", KEY_CACHE_DISK, "SIZE", 0, "most that these files may take; default 8GiB", 2},
            {"cache-ram", KEY_CACHE_RAM, "SIZE", 0,
             "memory for computed prompts beside the running ones; default one context, 0 with --cache-dir", 2},
            {"api-key", KEY_API_KEY, "KEY", 0, "answer only requests that bring KEY; may be given several times", 3},
            {"api-key-file", KEY_API_KEY_FILE, "FILE", 0, "keys from FILE, one on each line (ps does not show them)",
             3},
            {"cors", KEY_CORS, "ORIGIN", 0,
             "let web pages of ORIGIN use the server, as https://chat.example; * for all", 3},
            {"allow-host", KEY_ALLOW_HOST, "NAME", 0, "a host name that clients may use for this machine", 3},
            {"max-body", KEY_MAX_BODY, "SIZE", 0, "largest request; default 8MiB, less in a small budget", 4},
            {"connections", KEY_CONNECTIONS, "N", 0, "connections open at the same time; default 128", 4},
            {"client-timeout", KEY_CLIENT_TIMEOUT, "SECONDS", 0,
             "until a client is cut off: request not complete, connection idle, answer not read; default 30", 4},
            {"keepalive", KEY_KEEPALIVE, "SECONDS", 0,
             "of silence after which a stream gets a sign of life; default 10", 4},
            {"drain", KEY_DRAIN, "SECONDS", 0, "that running answers get to finish when the server ends; default 30",
             4},
            {"no-page", KEY_NO_PAGE, NULL, 0, "no web page at /", 4},
            {"log", KEY_LOG, "FILE", 0,
             "write a line for each request to FILE, or - for stderr; never prompts or answers", 4},
            {0}},
    .parser = parse,
    .args_doc = "-m MODEL",
    .doc = "Serve a model to programs that speak OpenAI's or Anthropic's interface, and a page at /. When it is ready "
           "it prints one line; SIGINT or SIGTERM ends it.\v"
           "Without -c and --parallel: 1 to 4 sequences of at most 32768 tokens, as the budget allows ('odmoe plan "
           "--serve' shows it).\n\n"
           "Example:\n"
           "  odmoe serve -m models/demo.gguf --ram 48MiB --port 8080 &\n"
           "  curl localhost:8080/v1/completions -d '{\"prompt\": \"The sea\"}'\n"
           "\n"
           "Endpoints, fields, clients' configuration and a systemd unit: docs/server.md",
    .children = (const struct argp_child[]){{&sampler_argp, 0, "Sampling, where a request does not say:", 5},
                                            {&chat_model_argp, 0, "Model:", 6},
                                            {0}},
};

static void warning(const char *line)
{
    complain("%s", line);
}

int command_serve(int argc, char **argv)
{
    command c = {0};
    odmoe_error err = {0};
    model_options_init(&c.model);
    serve_options_init(&c.serve);
    c.model.lib.sessions = 0;
    c.serve.sampler.seed = UINT64_MAX; /* --seed takes none above INT64_MAX */
    parse_options(&serve_argp, argc, argv, &c);
    c.serve.random_seed = c.serve.sampler.seed == UINT64_MAX;
    c.serve.model = c.model.path;
    c.serve.lib = c.model.lib;
    c.serve.keys = c.keys.texts;
    c.serve.key_count = c.keys.n;
    c.serve.origins = c.origins.texts;
    c.serve.origin_count = c.origins.n;
    c.serve.hosts = c.hosts.texts;
    c.serve.host_count = c.hosts.n;
    c.serve.warn = warning;
    odmoe_status status = serve_run(&c.serve, &err);
    int result = status ? fail(&err) : STATUS_DONE;
    for (size_t i = 0; i < c.key_file_count; i++)
        free(c.key_files[i]);
    free(c.key_files);
    free(c.keys.texts);
    free(c.origins.texts);
    free(c.hosts.texts);
    return result;
}
