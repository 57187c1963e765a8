#include "text/stop_filter.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

typedef struct stop_text {
    char *text;
    size_t length;
} stop_text;

struct stop_filter {
    stop_text stops[STOP_TEXTS_MAX];
    size_t count;
    char *buffer;
    size_t given, used, capacity; /* [0, given) was handed out by the last call, [given, used) waits */
    bool found;
};

static odmoe_status add_text(stop_filter *f, const char *text, odmoe_error *err)
{
    size_t length = strlen(text);
    if (!length)
        return ODMOE_OK;
    if (length > STOP_BYTES_MAX)
        return err_set(err, ODMOE_ERR_RANGE, "a stop string of %zu bytes; at most %d are possible", length,
                       STOP_BYTES_MAX);
    if (f->count == STOP_TEXTS_MAX)
        return err_set(err, ODMOE_ERR_RANGE, "more than %d stop strings", STOP_TEXTS_MAX);
    char *copy = mem_strdup(text, length, err);
    if (!copy)
        return ODMOE_ERR_MEMORY;
    f->stops[f->count++] = (stop_text){copy, length};
    return ODMOE_OK;
}

odmoe_status stop_filter_create(const char *const *texts, size_t count, stop_filter **out, odmoe_error *err)
{
    stop_filter *f = mem_calloc(1, sizeof *f, "stop strings", err);
    odmoe_status st = f ? ODMOE_OK : ODMOE_ERR_MEMORY;
    for (size_t i = 0; i < count && !st; i++)
        st = add_text(f, texts[i], err);
    if (st)
        stop_filter_free(f);
    else
        *out = f;
    return st;
}

void stop_filter_free(stop_filter *f)
{
    if (!f)
        return;
    for (size_t i = 0; i < f->count; i++)
        free(f->stops[i].text);
    free(f->buffer);
    free(f);
}

/* The first stop string that is complete in the buffer: where it begins. */
static bool find(const stop_filter *f, size_t *start)
{
    size_t best_end = SIZE_MAX;
    for (size_t i = 0; i < f->count; i++) {
        const char *at = memmem(f->buffer, f->used, f->stops[i].text, f->stops[i].length);
        if (!at)
            continue;
        size_t from = (size_t)(at - f->buffer), end = from + f->stops[i].length;
        if (end < best_end || (end == best_end && from < *start)) {
            best_end = end;
            *start = from;
        }
    }
    return best_end != SIZE_MAX;
}

/* Where the first beginning of a stop string stands that the buffer's end cuts off; the buffer's length if none does. */
static size_t find_beginning(const stop_filter *f)
{
    size_t first = f->used;
    for (size_t i = 0; i < f->count; i++) {
        size_t longest = f->stops[i].length - 1 < f->used ? f->stops[i].length - 1 : f->used;
        for (size_t n = longest; n > 0; n--)
            if (!memcmp(f->buffer + f->used - n, f->stops[i].text, n)) {
                first = f->used - n < first ? f->used - n : first;
                break;
            }
    }
    return first;
}

odmoe_status stop_filter_push(stop_filter *f, const char *text, size_t length, const char **out, size_t *out_length,
                              bool *found, odmoe_error *err)
{
    if (!f->found) {
        odmoe_status st = mem_grow((void **)&f->buffer, &f->capacity, f->used - f->given + length + 1, 1,
                                   "text that waits for a stop string", err);
        if (st)
            return st;
        memmove(f->buffer, f->buffer + f->given, f->used - f->given);
        f->used -= f->given;
        if (length)
            memcpy(f->buffer + f->used, text, length);
        f->used += length;
        f->found = find(f, &f->given);
        if (f->found)
            f->used = f->given;
        else
            f->given = find_beginning(f);
    } else {
        f->given = f->used = 0;
    }
    *out = f->buffer;
    *out_length = f->given;
    *found = f->found;
    return ODMOE_OK;
}

void stop_filter_flush(stop_filter *f, const char **out, size_t *out_length)
{
    *out = f->buffer ? f->buffer + f->given : "";
    *out_length = f->used - f->given;
    f->given = f->used = 0;
}
