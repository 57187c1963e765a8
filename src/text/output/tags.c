#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "text/output/format.h"

/* A tag for the function, tags for each parameter. */

enum { NAME_MAX_BYTES = 256 };

typedef struct tag_reader {
    const output_format *f;
    const json_t *tools;
    const char *text;
    size_t n, at;
    call *out;
} tag_reader;

static size_t left(const tag_reader *t)
{
    return t->n - t->at;
}

static void skip_blanks(tag_reader *t)
{
    t->at += scan_blanks(t->text + t->at, left(t));
}

/* The marker's place, which must not be far; READ_DONE with *at. */
static reading find_near(const tag_reader *t, const char *marker, size_t *at)
{
    *at = scan_find(t->text + t->at, left(t), marker);
    if (*at <= NAME_MAX_BYTES)
        return READ_DONE;
    return *at != SIZE_MAX || left(t) >= NAME_MAX_BYTES + strlen(marker) ? READ_NOT : READ_MORE;
}

/* Pass the marker that must stand here. */
static reading expect(tag_reader *t, const char *marker)
{
    scanned r = scan_marker(t->text + t->at, left(t), marker);
    if (r == SCAN_DONE)
        t->at += strlen(marker);
    return reading_of(r);
}

static bool is_name_byte(char c)
{
    return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') || (unsigned char)c >= 0x80 ||
           (c && strchr("_-.:/$", c));
}

/* The function's name, up to `end`; without one up to a blank or a tag. */
static reading read_name(tag_reader *t)
{
    const char *end = t->f->name_end;
    size_t n = 0;
    while (n < left(t) && is_name_byte(t->text[t->at + n]))
        n++;
    if (n > NAME_MAX_BYTES)
        return READ_NOT;
    if (n == left(t))
        return READ_MORE;
    t->out->name = n ? mem_strdup(t->text + t->at, n, NULL) : NULL;
    t->at += n;
    if (!t->out->name)
        return n ? READ_NO_MEMORY : READ_NOT;
    if (end)
        return expect(t, end);
    return scan_is_blank(t->text[t->at]) || t->text[t->at] == '<' ? READ_DONE : READ_NOT;
}

/* string="true" between a key and its value: 1, 0; -1: it says nothing. */
static int marked_text(const char *text, size_t n)
{
    if (scan_find(text, n, "string=\"true\"") != SIZE_MAX)
        return 1;
    return scan_find(text, n, "string=\"false\"") != SIZE_MAX ? 0 : -1;
}

static void put_key(tag_reader *t, const char *key)
{
    text_out *o = &t->out->arguments;
    out_word(o, o->n > 1 ? ", " : "");
    out_json_text(o, key, strlen(key));
    out_word(o, ": ");
}

static bool put_parameter(tag_reader *t, const char *key, const char *text, size_t n, int is_text)
{
    text_out *o = &t->out->arguments;
    put_key(t, key);
    if (is_text > 0)
        out_json_text(o, text, n);
    else if (is_text < 0)
        return out_value(o, t->tools, t->out->name, key, text, n);
    else if (!out_loose(o, text, n))
        out_json_text(o, text, n);
    return !o->failed;
}

/* A value that the end of the text cuts, as far as it has come. */
static reading put_front(tag_reader *t, const char *key_text, size_t key_length, int is_text)
{
    const char *text = t->text + t->at;
    size_t n = left(t) - scan_partial(text, left(t), t->f->value_close), front = t->f->lines && n && *text == '\n';
    n -= front;
    n -= t->f->lines && n && text[front + n - 1] == '\n';
    char *key = mem_strdup(key_text, key_length, NULL);
    if (!key)
        return READ_NO_MEMORY;
    put_key(t, key);
    if (is_text > 0 || (is_text < 0 && out_value_is_text(t->tools, t->out->name, key)))
        out_json_front(&t->out->arguments, text + front, scan_whole(text + front, n));
    else
        out_put(&t->out->arguments, text + front, utf8_run(text + front, n));
    free(key);
    return READ_MORE;
}

/* Behind key_open. */
static reading read_parameter(tag_reader *t)
{
    const output_format *f = t->f;
    size_t end, close;
    reading r = find_near(t, f->key_end, &end);
    if (r != READ_DONE)
        return r;
    const char *key_text = t->text + t->at;
    t->at += end + strlen(f->key_end);
    int is_text = -1;
    if (f->marked) {
        r = find_near(t, f->value_open, &close);
        if (r != READ_DONE)
            return r;
        is_text = marked_text(t->text + t->at, close);
        t->at += close + strlen(f->value_open);
    } else if (f->value_open) {
        skip_blanks(t);
        r = expect(t, f->value_open);
        if (r != READ_DONE)
            return r;
    }
    size_t n = scan_find(t->text + t->at, left(t), f->value_close);
    if (n == SIZE_MAX)
        return t->out->cut ? put_front(t, key_text, end, is_text) : READ_MORE;
    const char *text = t->text + t->at;
    t->at += n + strlen(f->value_close);
    if (f->lines) {
        size_t front = n && *text == '\n';
        text += front;
        n -= front;
        n -= n && text[n - 1] == '\n';
    }
    char *key = mem_strdup(key_text, end, NULL);
    bool done = key && put_parameter(t, key, text, n, is_text);
    free(key);
    return done ? READ_DONE : READ_NO_MEMORY;
}

reading call_read_tags(const output_format *f, const json_t *tools, const char *text, size_t n, call *out, size_t *used)
{
    tag_reader t = {f, tools, text, n, 0, out};
    reading r = READ_DONE;
    if (f->call_open)
        r = expect(&t, f->call_open);
    if (r == READ_DONE)
        r = read_name(&t);
    out_word(&out->arguments, "{");
    while (r == READ_DONE) {
        skip_blanks(&t);
        reading key = expect(&t, f->key_open), close = key == READ_DONE ? READ_NOT : expect(&t, f->call_close);
        if (close == READ_DONE)
            break;
        if (key == READ_DONE && out->stream && !out->begun) {
            out->begun = true;
            out->read = t.at;
        }
        r = key == READ_DONE ? read_parameter(&t) : key == READ_MORE || close == READ_MORE ? READ_MORE : READ_NOT;
        if (r == READ_DONE)
            out->read = t.at;
    }
    if (r == READ_DONE)
        out_word(&out->arguments, "}");
    *used = t.at;
    return r == READ_DONE && out->arguments.failed ? READ_NO_MEMORY : r;
}
