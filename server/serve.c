#include "serve.h"

#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "listen.h"
#include "log.h"

enum {
    WATCH_MS = 100,     /* how often slow clients and the end are looked for */
    SETTLE_SECONDS = 5, /* for last replies, when the server ends */
    FILES_BESIDE = 64   /* open files beside connections */
};

void serve_options_init(serve_options *options)
{
    *options = (serve_options){.host = "127.0.0.1",
                               .port = 8080,
                               .random_seed = true,
                               .queue = 32,
                               .connections = 128,
                               .cache_disk_bytes = UINT64_C(8) << 30,
                               .client_timeout = 30,
                               .keepalive = 10,
                               .drain = 30};
    odmoe_options_init(&options->lib);
    odmoe_sampler_options_init(&options->sampler);
    options->lib.context = options->lib.sessions = 0;
}

/* The server, and what its threads tell each other. */
typedef struct service {
    server server;
    serve_options *options;
    odmoe_error error;
    odmoe_status status;
    _Atomic bool stop;     /* a signal has come */
    _Atomic bool finished; /* the worker has */
    pthread_mutex_t lock;
    pthread_cond_t stopped;
} service;

static int on_progress(void *user, odmoe_stage stage, uint64_t done, uint64_t total)
{
    service *v = user;
    if (stage == ODMOE_STAGE_OPEN) {
        atomic_store(&v->server.loaded, done);
        atomic_store(&v->server.loading_total, total);
    }
    return atomic_load(&v->stop);
}

/* ---- life ---- */

static void ready(service *v, const char *where)
{
    server *s = &v->server;
    s->started = time(NULL);
    atomic_store(&s->state, SERVER_READY);
    printf("odmoe: listening on %s\n", where);
    fflush(stdout);
    log_line("listening on %s: %s, %d sequences of %d tokens", where, s->name, s->sequences, s->context);
}

typedef struct worker {
    service *service;
    const char *where;
} worker;

/* Load, serve until the signal, end. */
static void *work(void *user)
{
    worker *w = user;
    service *v = w->service;
    server *s = &v->server;
    v->status = server_load(s, &v->error);
    if (v->status == ODMOE_ERR_CANCELLED && atomic_load(&v->stop))
        v->status = ODMOE_OK;
    else if (!v->status)
        ready(v, w->where);
    if (!v->status) {
        pthread_mutex_lock(&v->lock);
        while (!atomic_load(&v->stop))
            pthread_cond_wait(&v->stopped, &v->lock);
        pthread_mutex_unlock(&v->lock);
        log_line("ending: no new connections");
    }
    atomic_store(&s->state, SERVER_DRAINING);
    http_refuse(s->http);
    if (s->engine)
        engine_drain(s->engine, v->options->drain);
    http_settle(s->http, SETTLE_SECONDS);
    atomic_store(&v->finished, true);
    return NULL;
}

/* Signals, and slow clients, until the worker has finished. */
static void watch(service *v, const sigset_t *signals, const char *socket_path)
{
    const struct timespec pause = {.tv_nsec = WATCH_MS * 1000000L};
    while (!atomic_load(&v->finished)) {
        int signal = sigtimedwait(signals, NULL, &pause);
        if (signal == SIGHUP) {
            log_reopen();
        } else if (signal > 0 && atomic_load(&v->stop)) {
            if (socket_path)
                unlink(socket_path);
            _exit(128 + signal);
        } else if (signal > 0) {
            pthread_mutex_lock(&v->lock);
            atomic_store(&v->stop, true);
            pthread_cond_signal(&v->stopped);
            pthread_mutex_unlock(&v->lock);
        }
        http_watch(v->server.http);
        if (atomic_load(&v->server.state) == SERVER_READY)
            rates_tick(&v->server.rates, v->server.model);
    }
}

/* Each connection takes two descriptors (connections.c). */
static void raise_file_limit(int connections)
{
    struct rlimit limit;
    rlim_t wanted = 2 * (rlim_t)connections + FILES_BESIDE;
    if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur >= wanted)
        return;
    limit.rlim_cur = limit.rlim_max == RLIM_INFINITY || limit.rlim_max > wanted ? wanted : limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

/* Threads of many connections allocate: few arenas, and what is freed goes back, so that the account is the truth. */
static void tame_malloc(void)
{
    mallopt(M_ARENA_MAX, 2);
    mallopt(M_MMAP_THRESHOLD, 128 << 10);
    mallopt(M_TRIM_THRESHOLD, 256 << 10);
}

odmoe_status serve_run(serve_options *o, odmoe_error *err)
{
    service v = {.options = o, .server = {.options = o, .has_keys = o->key_count, .local = o->unix_path}};
    listener l;
    sigset_t signals;
    pthread_t thread;
    tame_malloc();
    raise_file_limit(o->connections);
    memory_start();
    if (log_open(o->log, err) || listener_open(o->unix_path, o->host, o->port, &l, err))
        return err->code;
    v.server.loopback = l.loopback;
    if (!l.loopback && !o->key_count && !o->unix_path)
        serve_warn(o, "warning: %s answers everybody who can reach it; --api-key KEY makes it ask for a key", l.where);
    if (serve_sizes(o, err)) {
        listener_close(&l, o->unix_path);
        return err->code;
    }
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);

    uint64_t most = serve_bytes(o->lib.ram_bytes) / 4;
    most = most < (8 << 20) ? most : 8 << 20;
    o->lib.progress = on_progress;
    o->lib.user = &v;
    http_options h = {.listener = l.fd,
                      .connections = o->connections,
                      .body_bytes_most = o->max_body ? o->max_body : most,
                      .client_timeout = o->client_timeout};
    worker w = {&v, l.where};
    pthread_mutex_init(&v.lock, NULL);
    pthread_mutex_init(&v.server.rates.lock, NULL);
    pthread_cond_init(&v.stopped, NULL);
    odmoe_status status = http_open(&v.server, &h, &v.server.http, err);
    if (status) {
        listener_close(&l, o->unix_path);
        return status;
    }
    if (pthread_create(&thread, NULL, work, &w)) {
        *err = (odmoe_error){ODMOE_ERR_MEMORY, "no thread for the server"};
        http_close(v.server.http);
        return err->code;
    }
    watch(&v, &signals, o->unix_path);
    pthread_join(thread, NULL);
    http_close(v.server.http);
    server_unload(&v.server);
    log_line("ended");
    if (o->unix_path)
        unlink(o->unix_path);
    log_close();
    pthread_mutex_destroy(&v.lock);
    pthread_mutex_destroy(&v.server.rates.lock);
    pthread_cond_destroy(&v.stopped);
    if (v.status)
        *err = v.error;
    return v.status;
}
