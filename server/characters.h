/* characters.h - UTF-8 that is one, of bytes that may not be. */
#ifndef ODMOE_SERVER_CHARACTERS_H
#define ODMOE_SERVER_CHARACTERS_H

#include <stddef.h>

/* characters_clean - text[0, n) with U+FFFD in place of what is no character: one for each unfinished or broken one. `out`
 * has room for characters_room(n) bytes; returns how many were written. */
static inline size_t characters_room(size_t n)
{
    return 3 * n;
}
size_t characters_clean(const char *text, size_t n, char *out);

#endif
