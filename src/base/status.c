#include "base/status.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

enum {
    BEGINNING = 120,  /* bytes of a long message before the gap */
    CONTEXT_MAX = 201 /* of a context, with its end */
};

static void one_line(char *text)
{
    for (size_t left = strlen(text); left;) {
        int n = utf8_char(text, left);
        if (n < 1 || utf8_is_control(utf8_decode(text, n))) {
            n = n < 1 ? 1 : n;
            memset(text, '?', (size_t)n);
        }
        text += n;
        left -= (size_t)n;
    }
}

static bool goes_on(char byte) /* inside a UTF-8 character */
{
    return ((unsigned char)byte & 0xC0) == 0x80;
}

/* text[0, length) as far as a message has room: its beginning says where, its end says why, so that the middle goes. */
static void put_message(odmoe_error *err, const char *text, size_t length)
{
    static const char gap[] = "...";
    const size_t room = sizeof err->message - 1;
    if (length <= room) {
        memcpy(err->message, text, length);
        err->message[length] = 0;
    } else {
        size_t head = BEGINNING, tail = room - BEGINNING - (sizeof gap - 1);
        while (head && goes_on(text[head]))
            head--;
        while (tail && goes_on(text[length - tail]))
            tail--;
        snprintf(err->message, sizeof err->message, "%.*s%s%.*s", (int)head, text, gap, (int)tail,
                 text + length - tail);
    }
    one_line(err->message);
}

odmoe_status err_set(odmoe_error *err, odmoe_status code, const char *format, ...)
{
    if (!err)
        return code;
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    char *whole = length >= (int)sizeof err->message ? malloc((size_t)length + 1) : NULL;
    if (whole) {
        vsnprintf(whole, (size_t)length + 1, format, again);
        put_message(err, whole, (size_t)length);
        free(whole);
    } else { /* it fits, or its end is lost for want of memory */
        one_line(err->message);
    }
    va_end(again);
    err->code = code;
    return code;
}

odmoe_status err_context(odmoe_error *err, const char *format, ...)
{
    if (!err)
        return ODMOE_OK;
    char where[CONTEXT_MAX], whole[CONTEXT_MAX + 2 + sizeof err->message];
    va_list args;
    va_start(args, format);
    vsnprintf(where, sizeof where, format, args);
    va_end(args);
    int length = snprintf(whole, sizeof whole, "%s: %s", where, err->message);
    put_message(err, whole, (size_t)length);
    return err->code;
}

const char *odmoe_status_text(odmoe_status status)
{
    switch (status) {
#define STATUS_CASE(name, value, text) \
    case ODMOE_##name:                 \
        return text;
        ODMOE_STATUS_LIST(STATUS_CASE)
#undef STATUS_CASE
    }
    return "unknown status";
}
