#include "text/stream.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"

#define WAITING_MAX 3 /* the longest beginning of a character that is not yet one */

struct text_stream {
    const tokenizer *t;
    unsigned flags;
    bool at_start;     /* no text so far: a leading blank is the one that encoding put there */
    size_t given;      /* bytes at the front of buffer that the last call handed out */
    size_t used, room; /* bytes in buffer; what follows `given` waits */
    char buffer[];     /* [room] the waiting bytes and the longest piece */
};

odmoe_status text_stream_create(const tokenizer *t, unsigned flags, text_stream **out, odmoe_error *err)
{
    size_t room = WAITING_MAX + tokenizer_longest_piece(t);
    text_stream *s = mem_calloc(1, sizeof *s + room, "a text stream", err);
    if (!s)
        return ODMOE_ERR_MEMORY;
    s->t = t;
    s->flags = flags;
    s->at_start = true;
    s->room = room;
    *out = s;
    return ODMOE_OK;
}

void text_stream_free(text_stream *s)
{
    free(s);
}

void text_stream_special(text_stream *s, bool shown)
{
    s->flags = shown ? s->flags | TEXT_STREAM_SPECIAL : s->flags & ~(unsigned)TEXT_STREAM_SPECIAL;
}

/* The length of the front of the text that no further byte can change: all but a beginning of a character at the end.
 */
static size_t certain(const char *text, size_t length)
{
    for (size_t back = 1; back <= WAITING_MAX && back <= length; back++) {
        int n = utf8_char(text + length - back, back);
        if (n < 0)
            return length - back;
        if (n > 0)
            break; /* a whole character begins here: what follows it is junk, not a beginning */
    }
    return length;
}

void text_stream_push(text_stream *s, int32_t id, const char **bytes, size_t *length)
{
    memmove(s->buffer, s->buffer + s->given, s->used - s->given);
    s->used -= s->given;
    bool special = tokenizer_is_special(s->t, id);
    if (!special || s->flags & TEXT_STREAM_SPECIAL) {
        bool strips = s->at_start && s->flags & TEXT_STREAM_START && tokenizer_strips_space(s->t);
        char *to = s->buffer + s->used;
        size_t n = tokenizer_piece(s->t, id, to, s->room - s->used);
        s->at_start &= !n;
        if (strips && n && to[0] == ' ')
            memmove(to, to + 1, --n);
        s->used += n;
    }
    s->given = certain(s->buffer, s->used);
    *bytes = s->buffer;
    *length = s->given;
}

void text_stream_flush(text_stream *s, const char **bytes, size_t *length)
{
    *bytes = s->buffer + s->given;
    *length = s->used - s->given;
    s->used = s->given = 0;
    s->at_start = true;
}
