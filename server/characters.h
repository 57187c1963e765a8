/* characters.h - valid UTF-8 from bytes that may not be valid. */
#ifndef ODMOE_SERVER_CHARACTERS_H
#define ODMOE_SERVER_CHARACTERS_H

#include <stddef.h>

/* characters_clean - text[0, n) with one U+FFFD in place of each unfinished or broken character. `out`
 * has room for characters_room(n) bytes; returns how many were written. */
static inline size_t characters_room(size_t n)
{
    return 3 * n;
}
size_t characters_clean(const char *text, size_t n, char *out);

#endif
