#include "format/json_walk.h"

/* The next byte that is no blank, not consumed; 0 at the end (a 0 in the text is malformed everywhere). */
static char peek(json_walk *w)
{
    while (w->at < w->end && (*w->at == ' ' || *w->at == '\n' || *w->at == '\r' || *w->at == '\t'))
        w->at++;
    return w->at < w->end ? *w->at : 0;
}

static bool pass(json_walk *w, char c)
{
    if (peek(w) != c)
        return false;
    w->at++;
    return true;
}

bool json_walk_enter(json_walk *w, char bracket)
{
    return pass(w, bracket);
}

/* Before an element: 1 when one is next, 0 when `close` was passed, -1. */
static int element(json_walk *w, bool *first, char close)
{
    if (*first) {
        *first = false;
        if (pass(w, close))
            return 0;
        return peek(w) ? 1 : -1;
    }
    if (pass(w, ','))
        return peek(w) && peek(w) != close ? 1 : -1;
    return pass(w, close) ? 0 : -1;
}

int json_walk_member(json_walk *w, bool *first, char **key)
{
    int more = element(w, first, '}');
    if (more <= 0)
        return more;
    return json_walk_text(w, key) && pass(w, ':') ? 1 : -1;
}

int json_walk_item(json_walk *w, bool *first)
{
    return element(w, first, ']');
}

/* Four hexadecimal digits, or -1. */
static int32_t hex4(const char *at, const char *end)
{
    if (end - at < 4)
        return -1;
    int32_t value = 0;
    for (int i = 0; i < 4; i++) {
        char c = at[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0)
            return -1;
        value = value << 4 | digit;
    }
    return value;
}

static char *put_utf8(char *to, uint32_t code)
{
    if (code < 0x80) {
        *to++ = (char)code;
        return to;
    }
    if (code < 0x800) {
        *to++ = (char)(0xc0 | code >> 6);
    } else {
        if (code < 0x10000) {
            *to++ = (char)(0xe0 | code >> 12);
        } else {
            *to++ = (char)(0xf0 | code >> 18);
            *to++ = (char)(0x80 | (code >> 12 & 0x3f));
        }
        *to++ = (char)(0x80 | (code >> 6 & 0x3f));
    }
    *to++ = (char)(0x80 | (code & 0x3f));
    return to;
}

/* A \u escape, its 'u' passed: one UTF-16 unit or a pair. 0 for malformed ones, and for \u0000. */
static uint32_t unicode_escape(json_walk *w)
{
    int32_t unit = hex4(w->at, w->end);
    if (unit <= 0 || (unit >= 0xdc00 && unit <= 0xdfff))
        return 0;
    w->at += 4;
    if (unit < 0xd800 || unit > 0xdbff)
        return (uint32_t)unit;
    if (w->end - w->at < 6 || w->at[0] != '\\' || w->at[1] != 'u')
        return 0;
    int32_t low = hex4(w->at + 2, w->end);
    if (low < 0xdc00 || low > 0xdfff)
        return 0;
    w->at += 6;
    return 0x10000 + ((uint32_t)(unit - 0xd800) << 10) + (uint32_t)(low - 0xdc00);
}

/* The byte that a one-letter escape stands for, or 0. */
static char plain_escape(char c)
{
    switch (c) {
    case '"':
    case '\\':
    case '/':
        return c;
    case 'b':
        return '\b';
    case 'f':
        return '\f';
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    default:
        return 0;
    }
}

bool json_walk_text(json_walk *w, char **out)
{
    if (!pass(w, '"'))
        return false;
    char *start = w->at, *to = start; /* decoded text is never longer than its escapes */
    while (w->at < w->end && *w->at != '"') {
        char c = *w->at++;
        if ((unsigned char)c < 0x20)
            return false;
        if (c != '\\') {
            *to++ = c;
            continue;
        }
        if (w->at == w->end)
            return false;
        c = *w->at++;
        if (c == 'u') {
            uint32_t code = unicode_escape(w);
            if (!code)
                return false;
            to = put_utf8(to, code);
        } else if ((c = plain_escape(c))) {
            *to++ = c;
        } else {
            return false;
        }
    }
    if (w->at == w->end)
        return false;
    w->at++;
    *to = 0; /* at the closing quote or before it */
    *out = start;
    return true;
}

bool json_walk_uint(json_walk *w, uint64_t *out)
{
    uint64_t value = 0;
    char c = peek(w);
    if (c < '0' || c > '9')
        return false;
    const char *start = w->at;
    for (; w->at < w->end && *w->at >= '0' && *w->at <= '9'; w->at++)
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*w->at - '0'), &value))
            return false;
    if (*start == '0' && w->at - start > 1)
        return false;
    *out = value;
    return true;
}

/* Past the closing quote of a string whose opening quote is at `at`. */
static bool skip_text(json_walk *w)
{
    for (w->at++; w->at < w->end; w->at++) {
        if ((unsigned char)*w->at < 0x20)
            return false;
        if (*w->at == '"') {
            w->at++;
            return true;
        }
        if (*w->at == '\\' && ++w->at == w->end)
            return false;
    }
    return false;
}

bool json_walk_skip(json_walk *w)
{
    char open[JSON_DEPTH_MAX]; /* the brackets that are to be closed */
    int depth = 0;
    do {
        char c = peek(w);
        if (c == '"') {
            if (!skip_text(w))
                return false;
        } else if (c == '{' || c == '[') {
            if (depth == JSON_DEPTH_MAX)
                return false;
            open[depth++] = c == '{' ? '}' : ']';
            w->at++;
        } else if (c == '}' || c == ']') {
            if (!depth || open[--depth] != c)
                return false;
            w->at++;
        } else if (c == ',' || c == ':') {
            if (!depth)
                return false;
            w->at++;
        } else { /* a number or a word */
            const char *start = w->at;
            while (w->at < w->end && ((*w->at >= '0' && *w->at <= '9') || (*w->at >= 'a' && *w->at <= 'z') ||
                                      *w->at == '+' || *w->at == '-' || *w->at == '.' || *w->at == 'E'))
                w->at++;
            if (w->at == start)
                return false;
        }
    } while (depth);
    return true;
}

bool json_walk_done(json_walk *w)
{
    peek(w);
    return w->at == w->end;
}
