/* output.h - split a model's text, while it comes, into reasoning, answer and tool calls.
 *
 * The text may be fed in any pieces; the deltas add up to the same message. A delta is never taken back: text is held while
 * it may still be part of a marker or of a call. No text is an error: what is neither call nor reasoning is content. */
#ifndef ODMOE_TEXT_OUTPUT_OUTPUT_H
#define ODMOE_TEXT_OUTPUT_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

typedef enum delta_kind { DELTA_CONTENT, DELTA_REASONING, DELTA_CALL } delta_kind;

/* A step of the message; texts are valid during the call. */
typedef struct output_delta {
    delta_kind kind;
    const char *text; /* [length]: content, reasoning; of a call its arguments, JSON */
    size_t length;
    size_t call;      /* number of the call, from 0 */
    const char *name; /* of a call, terminated */
    const char *id;   /* as the model wrote it, or NULL */
    bool whole;       /* of a call: it is complete with this */
} output_delta;
typedef void (*output_sink)(void *user, const output_delta *d);

typedef struct output_format output_format; /* static */

/* output_format_find - by name ("hermes", "harmony" ...), or NULL. output_format_at - the name of the i-th, or NULL.
 * output_format_of - the one that fits a chat template's source; never NULL. */
const output_format *output_format_find(const char *name);
const char *output_format_at(size_t i);
const char *output_format_name(const output_format *f);
const output_format *output_format_of(const char *source, size_t length);
bool output_format_in_python(const output_format *f); /* its calls are in Python's notation */

/* Where a prompt leaves off. */
typedef enum output_place {
    PLACE_OPEN,      /* reasoning may begin, or the answer */
    PLACE_REASONING, /* the prompt has opened the reasoning */
    PLACE_ANSWER     /* the prompt has ended it, or has begun the answer */
} output_place;

/* output_place_of - prompt: its end is enough; NULL is PLACE_OPEN. */
output_place output_place_of(const output_format *f, const char *prompt);
/* output_reasoning_open, _close - the texts around reasoning, or NULL. output_reasoning_end - what to write to end it and to
 * go on with the answer. Static strings. */
const char *output_reasoning_open(const output_format *f);
const char *output_reasoning_close(const output_format *f);
const char *output_reasoning_end(const output_format *f);

typedef struct output output;

/* output_create - prompt: what the text continues (its end is enough), or NULL. tools: JSON, a list as OpenAI writes it;
 * NULL or empty: calls are not looked for. Everything is copied. ERR_ARG (tools are no list), ERR_MEMORY. */
odmoe_status output_create(const output_format *f, const char *prompt, const char *tools, output_sink sink, void *user,
                           output **out, odmoe_error *err);
void output_free(output *o);

/* output_stream_calls - from now on calls are given as they come: first a delta without text once the name is certain, then
 * arguments in pieces, the last of them `whole`. A call that the end of the text cuts keeps what has come, and is never
 * whole; so does a call whose text turns out not to be a call, and the rest of that text is content. Without it a call is one
 * delta, and what is no whole call is content. */
void output_stream_calls(output *o);

/* output_feed - the next bytes of the text, cut anywhere. output_end - there is no more: what is held goes out.
 * ERR_MEMORY; then the message is what has been given so far. */
odmoe_status output_feed(output *o, const char *text, size_t length, odmoe_error *err);
odmoe_status output_end(output *o, odmoe_error *err);
/* output_reasons - has the reasoning begun, by the prompt or the text, and not ended? */
bool output_reasons(const output *o);

#endif
