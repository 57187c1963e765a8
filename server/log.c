#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LINE_BYTES = 1024 };

/* A process has one log, as it has one standard error. */
static struct {
    pthread_mutex_t lock;
    const char *path; /* borrowed; NULL: no file */
    int fd;           /* -1: nowhere */
} the_log = {.lock = PTHREAD_MUTEX_INITIALIZER, .fd = -1};

static int open_file(const char *path)
{
    return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
}

odmoe_status log_open(const char *path, odmoe_error *err)
{
    if (!path || !strcmp(path, "-")) {
        the_log.fd = path || isatty(STDERR_FILENO) ? STDERR_FILENO : -1;
        return ODMOE_OK;
    }
    int fd = open_file(path);
    if (fd < 0) {
        err->code = ODMOE_ERR_IO;
        snprintf(err->message, sizeof err->message, "--log %.300s: %s", path, strerror(errno));
        return err->code;
    }
    the_log.path = path;
    the_log.fd = fd;
    return ODMOE_OK;
}

void log_reopen(void)
{
    pthread_mutex_lock(&the_log.lock);
    int fd = the_log.path ? open_file(the_log.path) : -1;
    if (fd >= 0) {
        close(the_log.fd);
        the_log.fd = fd;
    }
    pthread_mutex_unlock(&the_log.lock);
}

void log_close(void)
{
    pthread_mutex_lock(&the_log.lock);
    if (the_log.path)
        close(the_log.fd);
    the_log.path = NULL;
    the_log.fd = -1;
    pthread_mutex_unlock(&the_log.lock);
}

/* One write: lines of several threads stay whole. A log that takes nothing is no reason to stop. */
static void write_line(char *line, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = '?';
    line[length++] = '\n';
    pthread_mutex_lock(&the_log.lock);
    ssize_t written = write(the_log.fd, line, length);
    (void)written;
    pthread_mutex_unlock(&the_log.lock);
}

static size_t stamp(char *line)
{
    time_t seconds = time(NULL);
    struct tm t;
    gmtime_r(&seconds, &t);
    return strftime(line, LINE_BYTES, "odmoe: %Y-%m-%dT%H:%M:%SZ ", &t);
}

void log_line(const char *format, ...)
{
    char line[LINE_BYTES];
    if (the_log.fd < 0)
        return;
    size_t at = stamp(line);
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line + at, sizeof line - 1 - at, format, args);
    va_end(args);
    at += n < 0 ? 0 : (size_t)n < sizeof line - 1 - at ? (size_t)n : sizeof line - 2 - at;
    write_line(line, at);
}

/* A path as a client sent it may hold anything: letters of paths are shown, others as ? */
static void show_path(const char *path, char *text, size_t room)
{
    size_t i = 0;
    for (; path[i] && i + 1 < room; i++)
        text[i] = path[i] > ' ' && path[i] < 0x7f ? path[i] : '?';
    text[i] = 0;
}

void log_request(const http_request *request, const char *peer, const char *endpoint, int status, double seconds)
{
    const http_account *a = &request->account;
    char path[128], method[16];
    show_path(request->path, path, sizeof path);
    show_path(request->method, method, sizeof method);
    if (!a->generated) {
        log_line("%s %s %s %s %d %s %.3f s", request->id, peer, method, path, status, endpoint, seconds);
        return;
    }
    double decoding = seconds - a->first_token_seconds;
    log_line("%s %s %s %s %d %s prompt %d cached %d generated %d queue %.3f first %.3f total %.3f s, %.1f tok/s, "
             "experts %llu bytes, %s",
             request->id, peer, method, path, status, endpoint, a->prompt_tokens, a->cached_tokens, a->generated_tokens,
             a->queue_seconds, a->first_token_seconds, seconds,
             decoding > 0 && a->generated_tokens > 1 ? (a->generated_tokens - 1) / decoding : 0.0,
             (unsigned long long)a->expert_bytes, a->finish ? a->finish : "none");
}
