/* cursor.h - a place in the text of a grammar or pattern. */
#ifndef ODMOE_TEXT_GRAMMAR_CURSOR_H
#define ODMOE_TEXT_GRAMMAR_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

typedef struct cursor {
    const char *text;
    size_t at, length;
} cursor;

/* cursor_peek - the byte at the cursor, or -1 at the end. */
static inline int cursor_peek(const cursor *c)
{
    return c->at < c->length ? (unsigned char)c->text[c->at] : -1;
}

/* cursor_take - pass `text` if it comes next. */
static inline bool cursor_take(cursor *c, const char *text)
{
    size_t n = strlen(text);
    if (c->length - c->at < n || memcmp(c->text + c->at, text, n))
        return false;
    c->at += n;
    return true;
}

#endif
