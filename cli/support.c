#include "cli.h"

#include "progress.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

/* Names and texts from elsewhere may hold line ends, or bytes that steer a terminal (those of UTF-8 from U+0080 to
 * U+009F as well): a message is one line of text. */
static void hide_controls(char *text)
{
    for (unsigned char *at = (unsigned char *)text; *at; at++) {
        bool late = at[0] == 0xc2 && at[1] >= 0x80 && at[1] < 0xa0;
        if (*at < 0x20 || *at == 0x7f || late)
            *at = '?';
        if (late)
            *++at = '?';
    }
}

static void complain_list(const char *format, va_list args)
{
    char *text = NULL;
    progress_clear();
    if (vasprintf(&text, format, args) < 0) {
        fputs("odmoe: no memory for a message\n", stderr);
        return;
    }
    hide_controls(text);
    fprintf(stderr, "odmoe: %s\n", text);
    free(text);
}

void complain(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    complain_list(format, args);
    va_end(args);
}

void usage_error(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    complain_list(format, args);
    va_end(args);
    exit(STATUS_USAGE);
}

int fail(const odmoe_error *err)
{
    complain("%s", err->message);
    switch (err->code) {
    case ODMOE_ERR_BUDGET:
        return STATUS_BUDGET;
    case ODMOE_ERR_ARG:
        return STATUS_USAGE;
    default:
        return STATUS_FAILED;
    }
}

size_t drop_line_end(char *text, size_t length)
{
    if (length == 0 || text[length - 1] != '\n')
        return length;
    length--;
    if (length > 0 && text[length - 1] == '\r')
        length--;
    text[length] = 0;
    return length;
}

static int output_error; /* the first errno of standard output: a stream remembers only that there was one */

bool flush_output(void)
{
    errno = EIO;
    if ((fflush(stdout) || ferror(stdout)) && !output_error)
        output_error = errno;
    return !output_error;
}

int output_done(int status)
{
    if (flush_output() || status != STATUS_DONE)
        return status;
    complain("standard output: %s", strerror(output_error));
    return STATUS_FAILED;
}

int64_t parse_integer(const char *option, const char *text, int64_t low, int64_t high)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (end == text || *end || errno || value < low || value > high)
        usage_error("%s %s: a whole number from %lld to %lld is needed", option, text, (long long)low, (long long)high);
    return value;
}

double parse_real(const char *option, const char *text, double low, double high)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !(value >= low && value <= high))
        usage_error("%s %s: a number from %g to %g is needed", option, text, low, high);
    return value;
}

void *must_alloc(size_t count, size_t size)
{
    void *p = calloc(count ? count : 1, size);
    if (!p) {
        complain("no memory for %zu x %zu bytes", count, size);
        exit(STATUS_FAILED);
    }
    return p;
}

void *must_realloc(void *p, size_t count, size_t size)
{
    void *q = reallocarray(p, count, size);
    if (!q) {
        complain("no memory for %zu x %zu bytes", count, size);
        exit(STATUS_FAILED);
    }
    return q;
}

void id_list_add(id_list *list, int32_t id)
{
    if (list->n == list->capacity) {
        list->capacity = list->capacity ? 2 * list->capacity : 256;
        list->ids = must_realloc(list->ids, list->capacity, sizeof *list->ids);
    }
    list->ids[list->n++] = id;
}

char *read_whole(const char *path, size_t *length)
{
    return read_most(path, SIZE_MAX, "", length);
}

char *read_most(const char *path, size_t most, const char *why, size_t *length)
{
    const char *name = path ? path : "standard input";
    FILE *file = path ? fopen(path, "re") : stdin;
    struct stat st;
    if (!file || (fstat(fileno(file), &st) == 0 && S_ISDIR(st.st_mode) && (errno = EISDIR))) {
        complain("%s: %s", name, strerror(errno));
        if (path && file)
            fclose(file);
        return NULL;
    }
    size_t n = 0, capacity = 1 << 16;
    char *text = must_alloc(capacity, 1);
    for (size_t got; n <= most && (got = fread(text + n, 1, capacity - n - 1, file)) > 0;) {
        n += got;
        if (n + 1 == capacity)
            text = must_realloc(text, capacity *= 2, 1);
    }
    bool bad = ferror(file);
    if (bad)
        complain("%s: %s", name, strerror(errno));
    if (!bad && n > most)
        complain("%s: more than %zu bytes: %s", name, most, why);
    if (path)
        fclose(file);
    if (bad || n > most) {
        free(text);
        return NULL;
    }
    text[n] = 0;
    *length = n;
    return text;
}

bool parse_ids(const char *text, const char *where, id_list *list)
{
    const char *at = text + strspn(text, ", \t\r\n");
    while (*at) {
        char *end;
        errno = 0;
        long id = strtol(at, &end, 10);
        if (end == at || errno || id < 0 || id > INT32_MAX || !strchr(", \t\r\n", *end)) {
            complain("%s: '%.20s' is not a token id", where, at);
            return false;
        }
        id_list_add(list, (int32_t)id);
        at = end + strspn(end, ", \t\r\n");
    }
    return true;
}

bool tokenize_all(const odmoe_tokenizer *tokenizer, const char *text, size_t length, int flags, id_list *list)
{
    odmoe_error err;
    size_t n = 0;
    *list = (id_list){0};
    do {
        list->capacity = n ? n : length / 2 + 16;
        list->ids = must_realloc(list->ids, list->capacity, sizeof *list->ids);
        if (odmoe_tokenize(tokenizer, text, length, flags, list->ids, list->capacity, &n, &err)) {
            free(list->ids);
            *list = (id_list){0};
            fail(&err);
            return false;
        }
    } while (n > list->capacity);
    list->n = n;
    return true;
}

double now_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}
