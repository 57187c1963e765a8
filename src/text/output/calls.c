#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "text/output/format.h"

reading reading_of(scanned r)
{
    return r == SCAN_DONE ? READ_DONE : r == SCAN_MORE ? READ_MORE : READ_NOT;
}

void call_free(call *c)
{
    free(c->name);
    free(c->id);
    free(c->arguments.at);
    *c = (call){0};
}

/* A JSON object, which must be UTF-8: its text goes to the caller as it is. */
static reading read_object(const char *text, size_t n, size_t *used)
{
    if (!n || *text != '{')
        return n ? READ_NOT : READ_MORE;
    reading r = reading_of(scan_json(text, n, false, used));
    return r == READ_DONE && utf8_run(text, *used) != *used ? READ_NOT : r;
}

/* ---- objects with a name ---- */

/* Arguments as an object, or as a text that holds one. */
static reading take_arguments(const char *text, size_t n, call *out)
{
    char *inner = *text == '"' ? scan_word(text, n) : NULL;
    if (inner && scan_is_json(inner, strlen(inner)))
        out_word(&out->arguments, inner);
    else
        out_put(&out->arguments, text, n);
    free(inner);
    return out->arguments.failed ? READ_NO_MEMORY : READ_DONE;
}

/* The longest front of a text that JSON may begin with; the text as a whole is none. */
static size_t longest_front(const char *text, size_t n)
{
    size_t low = 0, high = n, used; /* low bytes may begin JSON, high bytes don't */
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (scan_json(text, middle, false, &used) == SCAN_MORE)
            low = middle;
        else
            high = middle;
    }
    return low;
}

void call_take_front(const char *text, size_t n, size_t at, call *out)
{
    size_t length;
    scanned r = scan_json(text + at, n - at, false, &length);
    if (r != SCAN_DONE)
        length = r == SCAN_MORE ? n - at : longest_front(text + at, n - at);
    length = utf8_run(text + at, length);
    out_put(&out->arguments, text + at, length);
    out->begun = true;
    out->read = at + length;
}

/* The place behind what stands at `at`, blanks and then a marker; 0: it does not. */
static size_t pass(const char *text, size_t n, size_t at, const char *marker)
{
    at += scan_blanks(text + at, n - at);
    return scan_marker(text + at, n - at, marker) == SCAN_DONE ? at + strlen(marker) : 0;
}

/* {"name": "NAME", "arguments": { : such a call may be given before its end is here. Sets its name; the place of its
 * arguments, or 0. */
static size_t begin_json(const char *text, size_t n, call *out)
{
    size_t length, at = pass(text, n, 0, "{");
    at = at ? pass(text, n, at, "\"name\"") : 0;
    at = at ? pass(text, n, at, ":") : 0;
    if (!at)
        return 0;
    at += scan_blanks(text + at, n - at);
    if (scan_json(text + at, n - at, false, &length) != SCAN_DONE || text[at] != '"')
        return 0;
    size_t name = at;
    at = pass(text, n, at + length, ",");
    size_t key = at ? pass(text, n, at, "\"arguments\"") : 0;
    key = key || !at ? key : pass(text, n, at, "\"parameters\"");
    at = key ? pass(text, n, key, ":") : 0;
    at = at ? pass(text, n, at, "{") : 0;
    out->name = at ? scan_word(text + name, length) : NULL;
    return out->name && *out->name ? at - 1 : 0;
}

reading call_read_json(const char *text, size_t n, call *out, size_t *used)
{
    const char *value;
    size_t length;
    reading r = read_object(text, n, used);
    size_t front = out->stream ? begin_json(text, n, out) : 0;
    if (front) { /* of members with one name the first counts, as it may have been given */
        if (r == READ_DONE && scan_member(text, *used, "id", &value, &length) && *value == '"')
            out->id = scan_word(value, length);
        call_take_front(text, n, front, out);
        return out->arguments.failed ? READ_NO_MEMORY : r;
    }
    if (r != READ_DONE)
        return r;
    free(out->name);
    out->name = NULL;
    if (scan_member(text, *used, "function", &value, &length) && *value == '{') {
        text = value;
        n = length;
    } else {
        n = *used;
    }
    if (!scan_member(text, n, "name", &value, &length) || *value != '"')
        return READ_NOT;
    out->name = scan_word(value, length);
    if (!out->name || !*out->name)
        return READ_NOT;
    if (scan_member(text, n, "id", &value, &length) && *value == '"')
        out->id = scan_word(value, length);
    if (!scan_member(text, n, "arguments", &value, &length) && !scan_member(text, n, "parameters", &value, &length)) {
        value = "{}";
        length = 2;
    }
    return take_arguments(value, length, out);
}

/* ---- a header with the name ---- */

enum { HEADER_MAX = 256 };

static bool plain_name(const char *text, size_t n)
{
    bool plain = n > 0;
    for (size_t i = 0; plain && i < n; i++)
        plain = (unsigned char)text[i] > ' ' && !strchr("<>{}[]\"'`=", text[i]);
    return plain;
}

static bool set_word(char **to, const char *text, size_t n)
{
    *to = mem_strdup(text, n, NULL);
    return *to != NULL;
}

/* functions.NAME:3 is an id, and NAME the name. */
static reading take_id(const char *text, size_t n, call *out)
{
    static const char prefix[] = "functions.";
    if (!plain_name(text, n))
        return READ_NOT;
    if (!set_word(&out->id, text, n))
        return READ_NO_MEMORY;
    size_t end = n;
    while (end && text[end - 1] >= '0' && text[end - 1] <= '9')
        end--;
    n = end && end < n && text[end - 1] == ':' ? end - 1 : n;
    size_t skip = n > strlen(prefix) && !memcmp(text, prefix, strlen(prefix)) ? strlen(prefix) : 0;
    return set_word(&out->name, text + skip, n - skip) ? READ_DONE : READ_NO_MEMORY;
}

static reading take_header(const output_format *f, const char *text, size_t n, call *out)
{
    size_t front = scan_blanks(text, n);
    text += front;
    n = scan_trim(text, n - front);
    if (f->name_in_id)
        return take_id(text, n, out);
    size_t id = f->id_separator ? scan_find(text, n, f->id_separator) : SIZE_MAX;
    if (id != SIZE_MAX) {
        size_t from = id + strlen(f->id_separator);
        if (!set_word(&out->id, text + from, n - from))
            return READ_NO_MEMORY;
        n = id;
    }
    if (!plain_name(text, n))
        return READ_NOT;
    return set_word(&out->name, text, n) ? READ_DONE : READ_NO_MEMORY;
}

/* Behind the separator where the name stands there: NAME, a line end, ```json. */
static reading take_fence(const char *text, size_t n, call *out, size_t *at)
{
    size_t from = *at;
    const char *end = memchr(text + from, '\n', n - from < HEADER_MAX ? n - from : HEADER_MAX);
    if (!end)
        return n - from >= HEADER_MAX ? READ_NOT : READ_MORE;
    size_t to = (size_t)(end - text);
    free(out->name);
    out->name = NULL;
    if (!plain_name(text + from, to - from))
        return READ_NOT;
    if (!set_word(&out->name, text + from, to - from))
        return READ_NO_MEMORY;
    *at = to + scan_blanks(text + to, n - to);
    scanned r = scan_marker(text + *at, n - *at, "```json");
    if (r == SCAN_DONE)
        *at += strlen("```json");
    return reading_of(r);
}

reading call_read_header(const output_format *f, const char *text, size_t n, call *out, size_t *used)
{
    size_t at = scan_blanks(text, n);
    scanned begins = scan_marker(text + at, n - at, f->call_open);
    if (begins != SCAN_DONE)
        return reading_of(begins);
    at += strlen(f->call_open);
    size_t separator = scan_find(text + at, n - at, f->separator);
    if (separator > HEADER_MAX)
        return separator != SIZE_MAX || n - at >= HEADER_MAX + strlen(f->separator) ? READ_NOT : READ_MORE;
    reading r = take_header(f, text + at, separator, out);
    at += separator + strlen(f->separator);
    if (r == READ_DONE && f->name_after_word)
        r = take_fence(text, n, out, &at);
    if (r != READ_DONE)
        return r;
    at += scan_blanks(text + at, n - at);
    size_t length;
    r = read_object(text + at, n - at, &length);
    if (r != READ_DONE && out->stream && at < n && text[at] == '{')
        call_take_front(text, n, at, out);
    if (r != READ_DONE)
        return r;
    out_put(&out->arguments, text + at, length);
    *used = at + length;
    return out->arguments.failed ? READ_NO_MEMORY : READ_DONE;
}

/* ---- any ---- */

/* The opening marker at text[0, n): its length and whether it may be left out of what follows. */
static scanned skip_open(const output_format *f, const char *text, size_t n, size_t *length)
{
    scanned all = SCAN_BAD;
    *length = 0;
    for (int i = 0; i < 2 && f->open[i]; i++) {
        scanned r = scan_marker(text, n, f->open[i]);
        if (r == SCAN_DONE) {
            bool begins_call = f->call_open && !strcmp(f->call_open, f->open[i]);
            *length = begins_call ? 0 : strlen(f->open[i]);
            return SCAN_DONE;
        }
        if (r == SCAN_MORE)
            all = SCAN_MORE;
    }
    return all;
}

reading call_read(const output_format *f, const json_t *tools, const char *text, size_t n, bool inside, call *out,
                  size_t *used, bool *array)
{
    size_t at = 0, length = 0;
    *array = false;
    if (!inside) {
        scanned open = skip_open(f, text, n, &at);
        if (open != SCAN_DONE)
            return reading_of(open);
    }
    at += scan_blanks(text + at, n - at);
    if ((f->style == CALLS_JSON || f->style == CALLS_PYTHON) && !inside && at < n && text[at] == '[') {
        *array = true;
        at++;
        at += scan_blanks(text + at, n - at);
    }
    call_style style = f->style == CALLS_PYTHON && at < n && text[at] == '{' ? CALLS_JSON : f->style;
    reading r;
    switch (style) {
    case CALLS_JSON:
        r = call_read_json(text + at, n - at, out, &length);
        break;
    case CALLS_PYTHON:
        r = call_read_python(text + at, n - at, out, &length);
        break;
    case CALLS_HEADER:
        r = call_read_header(f, text + at, n - at, out, &length);
        break;
    case CALLS_TAGS:
        r = call_read_tags(f, tools, text + at, n - at, out, &length);
        break;
    default:
        r = call_read_gemma(text + at, n - at, out, &length);
    }
    *used = at + length;
    out->read += at;
    return r;
}
