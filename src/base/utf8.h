/* utf8.h - one character at a time, strict: no overlong forms, no surrogates, nothing above U+10FFFF. */
#ifndef ODMOE_BASE_UTF8_H
#define ODMOE_BASE_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* utf8_char - the length of the character at p[0, left) (1 to 4); 0 where these bytes can't begin one; -1 where they
 * are the beginning of one that `left` cuts off. left >= 1. */
static inline int utf8_char(const char *text, size_t left)
{
    const unsigned char *p = (const unsigned char *)text;
    unsigned lead = p[0], low = 0x80, high = 0xBF;
    int length = lead < 0x80 ? 1 : lead < 0xC2 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF5 ? 4 : 0;
    if (length <= 1)
        return length;
    /* The second byte's range excludes overlong forms, surrogates and what lies above U+10FFFF. */
    if (lead == 0xE0)
        low = 0xA0;
    else if (lead == 0xED)
        high = 0x9F;
    else if (lead == 0xF0)
        low = 0x90;
    else if (lead == 0xF4)
        high = 0x8F;
    for (int i = 1; i < length; i++) {
        if ((size_t)i >= left)
            return -1;
        if (p[i] < low || p[i] > high)
            return 0;
        low = 0x80;
        high = 0xBF;
    }
    return length;
}

/* utf8_decode - the code point of a character whose length utf8_char gave. */
static inline uint32_t utf8_decode(const char *text, int length)
{
    const unsigned char *p = (const unsigned char *)text;
    switch (length) {
    case 1:
        return p[0];
    case 2:
        return (p[0] & 0x1Fu) << 6 | (p[1] & 0x3Fu);
    case 3:
        return (p[0] & 0x0Fu) << 12 | (p[1] & 0x3Fu) << 6 | (p[2] & 0x3Fu);
    default:
        return (p[0] & 0x07u) << 18 | (p[1] & 0x3Fu) << 12 | (p[2] & 0x3Fu) << 6 | (p[3] & 0x3Fu);
    }
}

/* utf8_encode - the character c (at most U+10FFFF, no surrogate) into to[4]; its length. */
static inline size_t utf8_encode(uint32_t c, char *to)
{
    if (c < 0x80) {
        to[0] = (char)c;
        return 1;
    }
    size_t length = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = length - 1; i > 0; i--, c >>= 6)
        to[i] = (char)(0x80 | (c & 0x3F));
    to[0] = (char)((0xF00u >> length & 0xF0) | c); /* as many ones in front as there are bytes */
    return length;
}

/* utf8_run - the length of the longest valid stretch that text[0, length) begins with. */
static inline size_t utf8_run(const char *text, size_t length)
{
    size_t at = 0;
    while (at < length) {
        int n = utf8_char(text + at, length - at);
        if (n <= 0)
            break;
        at += (size_t)n;
    }
    return at;
}

/* utf8_junk - the number of bytes up to the next byte that begins a valid character. */
static inline size_t utf8_junk(const char *text, size_t length)
{
    size_t at = 0;
    while (at < length && utf8_char(text + at, length - at) <= 0)
        at++;
    return at;
}

/* utf8_is_control - the characters that steer a terminal: C0, DEL and C1. */
static inline int utf8_is_control(uint32_t c)
{
    return c < 0x20 || (c >= 0x7F && c <= 0x9F);
}

/* utf8_is_space - Unicode's White_Space property. */
static inline int utf8_is_space(uint32_t c)
{
    return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
           c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

#endif
