/* template.h - chat templates: the Jinja dialect of Hugging Face's models, compiled once and run on data.
 *
 * The environment is transformers': trim_blocks, lstrip_blocks, break and continue, generation blocks, raise_exception,
 * strftime_now, tojson. A template sees its data and nothing else: no file, no import, no attribute beyond data. */
#ifndef ODMOE_TEXT_TEMPLATE_TEMPLATE_H
#define ODMOE_TEXT_TEMPLATE_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What went wrong. SYNTAX: refused when compiled, or a feature that does not exist. RAISE: the template called
 * raise_exception, and the message is its own. LIMIT: steps, depth, ranges, output or memory. MEMORY: the system gave
 * none. DATA: the data is not JSON. The others are named as Python's and Jinja's own errors. */
typedef enum template_error {
    TEMPLATE_OK,
    TEMPLATE_SYNTAX,
    TEMPLATE_RAISE,
    TEMPLATE_UNDEFINED,
    TEMPLATE_TYPE,
    TEMPLATE_VALUE,
    TEMPLATE_SECURITY,
    TEMPLATE_RUNTIME,
    TEMPLATE_LIMIT,
    TEMPLATE_REFUSED,
    TEMPLATE_DATA,
    TEMPLATE_MEMORY
} template_error;

/* template_error_name - "syntax", "raise" ...; a static text. */
const char *template_error_name(template_error kind);

/* An error: zero it before use, template_fault_free afterwards. `line` counts from 1; 0 where no line is to blame. */
typedef struct template_fault {
    template_error kind;
    int line;
    char *message; /* owned, [length], terminated; NULL where there was no memory for it */
    size_t length;
} template_fault;
void template_fault_free(template_fault *f);

typedef struct chat_program chat_program; /* a compiled template; immutable, any number of threads may run it */

/* template_compile - compile text[0, length), UTF-8, up to 1 MiB. NULL with *fault set. Free with template_free. */
chat_program *template_compile(const char *text, size_t length, template_fault *fault);
void template_free(chat_program *t);
const char *template_source(const chat_program *t, size_t *length); /* as it was given, newlines made \n */

/* A stretch of bytes [from, to). */
typedef struct text_range {
    size_t from, to;
} text_range;

/* What a run gives. Free with template_text_free; zeroed is fine. */
typedef struct template_text {
    char *text; /* owned, [length], terminated */
    size_t length, capacity;
    text_range *foreign; /* owned, [n]: what came from foreign data, ascending, neither empty nor touching */
    size_t n, foreign_capacity;
    size_t peak_bytes; /* the most memory that the run held at a time, the text included */
} template_text;
void template_text_free(template_text *t);

/* A variable from outside: a JSON text, of which nothing is copied that has no escapes. */
typedef struct template_variable {
    const char *name;
    const char *json; /* [length]; borrowed for the run. NULL: `text` is the value, a string */
    size_t length;
    const char *text;
    bool foreign; /* its strings are marked as foreign in the result */
} template_variable;

typedef struct template_limits {
    size_t memory_bytes; /* of the run's values */
    size_t output_bytes;
    uint64_t steps;
} template_limits;
extern const template_limits template_limits_default; /* 64 MiB, 64 MiB, 10 million: less than a second */

/* template_render - run t. Later variables replace earlier ones of the same name. now: seconds since 1970 of the time
 * that strftime_now shows. limits: NULL for the defaults. On an error *out is empty and *fault set. */
template_error template_render(const chat_program *t, const template_variable *variables, size_t n, int64_t now,
                               const template_limits *limits, template_text *out, template_fault *fault);

/* template_render_object - the same with the members of one JSON object as variables; those of messages, tools and
 * documents are foreign. */
template_error template_render_object(const chat_program *t, const char *json, size_t length, int64_t now,
                                      const template_limits *limits, template_text *out, template_fault *fault);

size_t template_bytes(const chat_program *t); /* memory that t holds, for the plan */

/* template_reads - does the template mention the variable or attribute `name` at all. */
bool template_reads(const chat_program *t, const char *name);

#endif
