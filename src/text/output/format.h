/* format.h - what a format of output is: one row of a table says how calls and reasoning are written. */
#ifndef ODMOE_TEXT_OUTPUT_FORMAT_H
#define ODMOE_TEXT_OUTPUT_FORMAT_H

#include <jansson.h>

#include "text/output/output.h"
#include "text/output/scan.h"

typedef enum call_style {
    CALLS_NONE,
    CALLS_JSON,   /* objects with name and arguments, alone, in a row or in an array */
    CALLS_HEADER, /* a name in a header, then arguments as JSON */
    CALLS_TAGS,   /* a tag for the function, tags for each parameter */
    CALLS_GEMMA,  /* a notation of its own */
    CALLS_PYTHON, /* NAME(key=value, ...), alone or in a list; or as CALLS_JSON */
    CALLS_WHOLE,  /* the whole answer is one object */
    CALLS_HARMONY /* messages with channels: harmony.c */
} call_style;

struct output_format {
    const char *name;
    const char *think[2];  /* tags around the reasoning, or NULL */
    const char *answer[2]; /* tags that may stand around the answer, and mean nothing */
    call_style style;
    const char *open[2]; /* what begins calls (of the second: also without the first); NULL: none */
    const char *close;   /* what ends them; may be missing */
    bool open_ends_thinking;
    /* HEADER: header `separator` arguments `call_close`. TAGS: `call_open` name `name_end` ... `call_close`. */
    const char *call_open, *call_close, *separator, *id_separator, *fence;
    bool name_in_id;      /* HEADER: functions.NAME:3 is the id */
    bool name_after_word; /* HEADER: the header is the word function; the name follows the separator */
    /* TAGS: `key_open` key `key_end` ... `value_open` value `value_close`. */
    const char *name_end, *key_open, *key_end, *value_open, *value_close;
    bool lines;  /* TAGS: a newline after the opening and before the closing tag is none of the value */
    bool marked; /* TAGS: string="true" or "false" says whether a value is text */
    /* How a grammar writes calls, as templates do: before them, a call, between two, behind them. %n is the name, %a the
     * arguments, %d the number of the call, %w nine letters or digits. NULL: an empty text. */
    const char *written[4];
    const char *parameter[3]; /* TAGS and PYTHON, in %a: before a key, between key and value, behind it */
    /* What a template of this format holds: all of these, and none of `without`. */
    const char *signs[2], *without;
};

/* A call that was read. Free name, id and arguments. */
typedef struct call {
    char *name, *id;
    text_out arguments;
    /* Where calls are given as they come (`stream`): with READ_MORE and `begun` the name is certain, and `arguments` are the
     * front of what they will be. `cut`: there is no more text, so that a value may be given up to where it ends. */
    bool stream, cut, begun;
    size_t read; /* bytes that name and arguments so far were read from; also where READ_NOT ends what had begun */
} call;
void call_free(call *c);

/* How reading went. READ_MORE: it may become a call. READ_NOT: it can't. */
typedef enum reading { READ_DONE, READ_MORE, READ_NOT, READ_NO_MEMORY } reading;
reading reading_of(scanned r);

/* call_read - the call at text[0, n). inside: the opening marker has been read already. *used: its bytes. *array is set
 * when it begins an array. */
reading call_read(const output_format *f, const json_t *tools, const char *text, size_t n, bool inside, call *out,
                  size_t *used, bool *array);
/* call_take_front - of arguments in JSON at text[at, n): as much as is certain, into a call that has begun with it. */
void call_take_front(const char *text, size_t n, size_t at, call *out);
reading call_read_json(const char *text, size_t n, call *out, size_t *used);
reading call_read_gemma(const char *text, size_t n, call *out, size_t *used);
reading call_read_python(const char *text, size_t n, call *out, size_t *used);
reading call_read_tags(const output_format *f, const json_t *tools, const char *text, size_t n, call *out,
                       size_t *used);
reading call_read_header(const output_format *f, const char *text, size_t n, call *out, size_t *used);

/* out_value - a parameter's text as JSON, by the type that the function's schema gives it. */
bool out_value(text_out *out, const json_t *tools, const char *function, const char *key, const char *text, size_t n);
/* out_value_is_text - does the schema say that it is text? */
bool out_value_is_text(const json_t *tools, const char *function, const char *key);
/* out_loose - JSON or Python's notation as JSON; false with nothing put when it is neither. */
bool out_loose(text_out *out, const char *text, size_t n);

extern const output_format output_formats[];
extern const size_t output_formats_count;

#endif
