#include "characters.h"

#include <stdbool.h>
#include <string.h>

/* How many bytes of the character at text[0, left) are as they must be, and is it whole? At least 1. */
static size_t character(const unsigned char *p, size_t left, bool *whole)
{
    unsigned lead = p[0], low = 0x80, high = 0xBF;
    size_t length = lead < 0x80 ? 1 : lead < 0xC2 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF5 ? 4 : 0;
    if (lead == 0xE0) /* no overlong forms, no surrogates, nothing above U+10FFFF */
        low = 0xA0;
    else if (lead == 0xED)
        high = 0x9F;
    else if (lead == 0xF0)
        low = 0x90;
    else if (lead == 0xF4)
        high = 0x8F;
    size_t good = 1;
    while (good < length && good < left && p[good] >= low && p[good] <= high) {
        good++;
        low = 0x80;
        high = 0xBF;
    }
    *whole = good == length;
    return good;
}

size_t characters_clean(const char *text, size_t n, char *out)
{
    size_t used = 0;
    for (size_t i = 0; i < n;) {
        bool whole;
        size_t bytes = character((const unsigned char *)text + i, n - i, &whole);
        memcpy(out + used, whole ? text + i : "\xEF\xBF\xBD", whole ? bytes : 3);
        used += whole ? bytes : 3;
        i += bytes;
    }
    return used;
}
