#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "text/output/format.h"

/* NAME(key=value, ...): values are JSON or Python's, a key that is no plain word stands in quotes. */

enum { NAME_MAX_BYTES = 256 };

typedef struct python {
    const char *text;
    size_t n, at;
    call *out;
} python;

static size_t left(const python *p)
{
    return p->n - p->at;
}

static void skip_blanks(python *p)
{
    p->at += scan_blanks(p->text + p->at, left(p));
}

static bool is_word_byte(char c)
{
    return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') || (unsigned char)c >= 0x80 ||
           (c && strchr("_-.", c));
}

/* The bytes of a word, in which those of `more` may stand, too; what follows must be here. */
static reading read_word(const python *p, const char *more, size_t *length)
{
    size_t n = 0;
    const char *text = p->text + p->at;
    while (n < left(p) && n <= NAME_MAX_BYTES && (is_word_byte(text[n]) || (text[n] && strchr(more, text[n]))))
        n++;
    *length = n;
    return n > NAME_MAX_BYTES ? READ_NOT : n == left(p) ? READ_MORE : n ? READ_DONE : READ_NOT;
}

/* The bytes of the text in quotes that begins at text[0, n), n > 0, with them; 0: its end is not here. */
static size_t quoted(const char *text, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        if (text[i] == *text)
            return i + 1;
        i += text[i] == '\\';
    }
    return 0;
}

/* The bytes of a value: up to the comma or parenthesis behind it, which texts and brackets hide. */
static reading value_length(const python *p, size_t *length)
{
    const char *text = p->text + p->at;
    int depth = 0;
    for (size_t i = 0; i < left(p); i++) {
        char c = text[i];
        if (c == '"' || c == '\'') {
            size_t n = quoted(text + i, left(p) - i);
            if (!n)
                return READ_MORE;
            i += n - 1;
        } else if (c == '[' || c == '{') {
            depth++;
        } else if (c == ']' || c == '}') {
            if (depth-- == 0)
                return READ_NOT;
        } else if (!depth && (c == ',' || c == ')')) {
            *length = i;
            return READ_DONE;
        } else if (c == '(' || c == ')' || c == '<') {
            return READ_NOT;
        }
    }
    return READ_MORE;
}

/* The bytes of a key; behind it there is its sign. */
static reading read_key(python *p, size_t *from, size_t *length)
{
    *from = p->at;
    reading r;
    if (p->text[p->at] == '"' || p->text[p->at] == '\'') {
        *length = quoted(p->text + p->at, left(p));
        r = *length ? READ_DONE : READ_MORE;
    } else {
        r = read_word(p, "", length);
    }
    if (r != READ_DONE)
        return r;
    p->at += *length;
    skip_blanks(p);
    if (!left(p))
        return READ_MORE;
    return p->text[p->at++] == '=' ? READ_DONE : READ_NOT;
}

static bool put_key(python *p, const char *key, size_t length)
{
    text_out *o = &p->out->arguments;
    out_word(o, o->n > 1 ? ", " : "");
    bool done = true;
    if (*key == '"' || *key == '\'')
        done = out_loose(o, key, length);
    else
        out_json_text(o, key, length);
    out_word(o, ": ");
    return done;
}

/* A value that the end of the text cuts, as far as it has come; Python's own words are left out. */
static void put_front(python *p, const char *key, size_t length)
{
    size_t used;
    skip_blanks(p);
    if (left(p) && scan_json(p->text + p->at, left(p), false, &used) == SCAN_MORE && put_key(p, key, length))
        out_put(&p->out->arguments, p->text + p->at, scan_whole(p->text + p->at, left(p)));
}

static reading read_parameter(python *p)
{
    text_out *o = &p->out->arguments;
    size_t from, key, length, before = o->n;
    reading r = read_key(p, &from, &key);
    if (r != READ_DONE)
        return r;
    if (p->out->stream && !p->out->begun) {
        p->out->begun = true;
        p->out->read = p->at;
    }
    r = value_length(p, &length);
    if (r == READ_MORE && p->out->cut)
        put_front(p, p->text + from, key);
    if (r != READ_DONE)
        return r;
    if (!put_key(p, p->text + from, key) || !out_loose(o, p->text + p->at, length)) {
        o->n = before; /* at least the brace */
        o->at[before] = 0;
        return READ_NOT;
    }
    p->at += length;
    p->at += p->text[p->at] == ',';
    p->out->read = p->at;
    return READ_DONE;
}

reading call_read_python(const char *text, size_t n, call *out, size_t *used)
{
    python p = {text, n, 0, out};
    size_t name;
    reading r = read_word(&p, ":/$", &name);
    if (r != READ_DONE || text[name] != '(')
        return r == READ_DONE ? READ_NOT : r;
    out->name = mem_strdup(text, name, NULL);
    if (!out->name)
        return READ_NO_MEMORY;
    p.at = name + 1;
    out_word(&out->arguments, "{");
    for (;;) {
        skip_blanks(&p);
        r = left(&p) ? READ_DONE : READ_MORE;
        if (r == READ_MORE || text[p.at] == ')')
            break;
        r = read_parameter(&p);
        if (r != READ_DONE)
            break;
    }
    if (r == READ_DONE) {
        out_word(&out->arguments, "}");
        p.at++;
    }
    *used = p.at;
    return r == READ_DONE && out->arguments.failed ? READ_NO_MEMORY : r;
}
