/* stream.h - token ids in, text out, in the order of generation, without ever cutting a UTF-8 character in two. */
#ifndef ODMOE_TEXT_STREAM_H
#define ODMOE_TEXT_STREAM_H

#include "text/tokenizer.h"

typedef struct text_stream text_stream;

enum text_stream_flags {
    TEXT_STREAM_START = 1,  /* the ids begin a text: the blank that SentencePiece puts first is dropped again, unless
                             * the text of a special token stands before it */
    TEXT_STREAM_SPECIAL = 2 /* special tokens give their text; without the flag they give nothing */
};

/* text_stream_create - `t` is borrowed and must outlive the stream. One thread at a time. ERR_MEMORY. */
odmoe_status text_stream_create(const tokenizer *t, unsigned flags, text_stream **out, odmoe_error *err);
void text_stream_free(text_stream *s);
/* text_stream_special - from now on special tokens give their text, or nothing. */
void text_stream_special(text_stream *s, bool shown);

/* text_stream_push - *bytes[0, *length) is the text that is certain now, perhaps nothing: up to three bytes that may be
 * the beginning of a character wait for the next push. Bytes that can't become valid UTF-8 are passed on as they are.
 * The text belongs to the stream and lasts until the next call. Ids outside the vocabulary give nothing. */
void text_stream_push(text_stream *s, int32_t id, const char **bytes, size_t *length);

/* text_stream_flush - what still waits, complete or not; the stream is then as newly created. */
void text_stream_flush(text_stream *s, const char **bytes, size_t *length);

#endif
