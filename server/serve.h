/* serve.h - the server: from options to the end, and what its handlers share. */
#ifndef ODMOE_SERVER_SERVE_H
#define ODMOE_SERVER_SERVE_H

#include <odmoe.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

#include "engine.h"
#include "http.h"
#include "stats.h"

/* As given on the command line; serve_options_init has the defaults. Everything is borrowed for serve_run. */
typedef struct serve_options {
    const char *model;
    odmoe_options lib; /* context, sessions 0: serve_sizes finds them (docs/server.md, "Start and end") */
    odmoe_sampler_options sampler;
    bool random_seed; /* a request without a seed gets one of its own */
    const char *host;
    int port;
    const char *unix_path; /* instead of host and port, or NULL */
    int queue, connections;
    const char *alias;
    const char *cache_dir;
    uint64_t cache_disk_bytes, cache_ram_bytes;
    bool has_cache_ram;
    const char *const *keys; /* [key_count] */
    size_t key_count;
    const char *const *origins; /* [origin_count] --cors */
    size_t origin_count;
    const char *const *hosts; /* [host_count] --allow-host */
    size_t host_count;
    uint64_t max_body; /* 0: min(8 MiB, server_bytes / 4) */
    double client_timeout, keepalive, drain;
    bool no_page;
    const char *log; /* a file, "-" for standard error, or NULL: standard error where that is a terminal */
    void (*warn)(const char *line); /* a warning for people */
} serve_options;

void serve_options_init(serve_options *options);

/* serve_bytes - server_bytes of a budget: what requests may hold. */
uint64_t serve_bytes(uint64_t ram);
/* serve_sizes - fill in context, sessions, ram_bytes of options->lib where they are 0; reserve_bytes, prefix_bytes, snapshots. Looks at the model's
 * headers. Errors: odmoe_plan_make's, but for ERR_BUDGET: that one comes when the model is opened. */
odmoe_status serve_sizes(serve_options *options, odmoe_error *err);

/* serve_run - bind, load, serve until a signal, drain. Writes the ready line to standard output. ODMOE_OK
 * after SIGINT or SIGTERM; else err is filled and says why. A second signal ends the process. */
odmoe_status serve_run(serve_options *options, odmoe_error *err);

/* How much a model reasons, as templates are asked for it (odmoe_template_reasoning). */
typedef enum effort { EFFORT_OFF, EFFORT_ON, EFFORT_LOW, EFFORT_MEDIUM, EFFORT_HIGH, EFFORTS } effort;

typedef enum server_state { SERVER_LOADING, SERVER_READY, SERVER_DRAINING } server_state;

/* What handlers see. Filled before SERVER_READY, then constant, but for `state` and `progress`. */
typedef struct server {
    const serve_options *options;
    _Atomic int state;                      /* server_state */
    _Atomic uint64_t loaded, loading_total; /* bytes, while loading */
    http *http;
    engine *engine;
    odmoe_model *model;
    const odmoe_tokenizer *tokenizer; /* NULL: the model has none; then requests for text are refused */
    const odmoe_template *template;   /* NULL: `no_template` says why */
    char no_template[ODMOE_ERROR_MESSAGE_MAX];
    const char *template_source; /* for /props, or NULL */
    const char *format;          /* of the model's output */
    bool thinks;                 /* its template knows reasoning: answers may begin with it though no prompt opens it */
    char *efforts[EFFORTS];      /* keywords of the template; NULL: it does not know this one */
    odmoe_grammar_vocab *vocab;
    uint64_t vocab_bytes;
    char name[256];        /* the model's id: --alias, or the file's name without its ending */
    char fingerprint[128]; /* system_fingerprint */
    int32_t context, sequences;
    time_t started;
    rates rates;
    bool loopback, has_keys, local; /* local: a Unix socket */
} server;

/* server_load - open the model and the engine of s->options, which are as serve_sizes left them, and fill in the rest; the state stays as it
 * is. Errors: odmoe_model_open's, engine_open's. server_unload - after its connections have ended; also after a load that failed. */
odmoe_status server_load(server *s, odmoe_error *err);
void server_unload(server *s);
/* serve_warn - give a line for people to options->warn, if that is set. */
void serve_warn(const serve_options *o, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
