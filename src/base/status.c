#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

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

odmoe_status err_set(odmoe_error *err, odmoe_status code, const char *format, ...)
{
    if (!err)
        return code;
    va_list args;
    va_start(args, format);
    vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    one_line(err->message);
    err->code = code;
    return code;
}

odmoe_status err_context(odmoe_error *err, const char *format, ...)
{
    if (!err)
        return ODMOE_OK;
    char before[sizeof err->message], after[sizeof err->message];
    va_list args;
    va_start(args, format);
    vsnprintf(before, sizeof before, format, args);
    va_end(args);
    memcpy(after, err->message, sizeof after);
    size_t used = (size_t)snprintf(err->message, sizeof err->message, "%.200s: ", before);
    size_t room = sizeof err->message - 1 - used, length = strnlen(after, sizeof after - 1);
    memcpy(err->message + used, after, length < room ? length : room);
    err->message[used + (length < room ? length : room)] = 0;
    one_line(err->message);
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
