#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "text/output/format.h"

/* call:NAME{key:value,...}: keys are bare, texts stand between <|"|>, the rest is as in JSON. */

#define QUOTE "<|\"|>"

typedef struct gemma {
    const char *text;
    size_t n, at;
    text_out *out;
    int depth;
    bool cut;
} gemma;

static size_t left(const gemma *g)
{
    return g->n - g->at;
}

static reading read_value(gemma *g);

static reading read_text(gemma *g)
{
    g->at += strlen(QUOTE);
    size_t end = scan_find(g->text + g->at, left(g), QUOTE);
    if (end == SIZE_MAX) {
        size_t n = left(g) - scan_partial(g->text + g->at, left(g), QUOTE);
        if (g->cut)
            out_json_front(g->out, g->text + g->at, scan_whole(g->text + g->at, n));
        return READ_MORE;
    }
    out_json_text(g->out, g->text + g->at, end);
    g->at += end + strlen(QUOTE);
    return READ_DONE;
}

/* A key up to its colon, bare or as a text. */
static reading read_key(gemma *g)
{
    scanned quoted = scan_marker(g->text + g->at, left(g), QUOTE);
    if (quoted == SCAN_MORE)
        return READ_MORE;
    size_t n = 0;
    if (quoted == SCAN_DONE) {
        reading r = read_text(g);
        if (r != READ_DONE)
            return r;
    } else {
        while (n < left(g) && !strchr(":,{}[]", g->text[g->at + n] ? g->text[g->at + n] : ','))
            n++;
        if (n == left(g))
            return READ_MORE;
        if (!n)
            return READ_NOT;
        out_json_text(g->out, g->text + g->at, n);
        g->at += n;
    }
    if (!left(g))
        return READ_MORE;
    out_word(g->out, ": ");
    return g->text[g->at++] == ':' ? READ_DONE : READ_NOT;
}

static reading read_items(gemma *g, char close)
{
    out_put(g->out, g->text + g->at++, 1);
    for (bool first = true;; first = false) {
        g->at += scan_blanks(g->text + g->at, left(g));
        if (!left(g))
            return READ_MORE;
        char c = g->text[g->at];
        if (c == close) {
            out_put(g->out, g->text + g->at++, 1);
            return READ_DONE;
        }
        if (!first) {
            if (c != ',')
                return READ_NOT;
            g->at++;
            out_word(g->out, ", ");
        }
        reading r = close == '}' ? read_key(g) : READ_DONE;
        if (r == READ_DONE)
            r = read_value(g);
        if (r != READ_DONE)
            return r;
    }
}

/* A number or word, up to what ends it; what is none of JSON's is a text. */
static reading read_bare(gemma *g)
{
    size_t n = 0;
    while (n < left(g) && !strchr(",{}[]<", g->text[g->at + n] ? g->text[g->at + n] : ','))
        n++;
    if (n == left(g))
        return READ_MORE;
    if (!n)
        return READ_NOT;
    const char *text = g->text + g->at;
    g->at += n;
    if (!out_loose(g->out, text, n))
        out_json_text(g->out, text, scan_trim(text, n));
    return READ_DONE;
}

static reading read_value(gemma *g)
{
    g->at += scan_blanks(g->text + g->at, left(g));
    if (!left(g))
        return READ_MORE;
    if (++g->depth > 100)
        return READ_NOT;
    char c = g->text[g->at];
    scanned quoted = scan_marker(g->text + g->at, left(g), QUOTE);
    reading r;
    if (c == '{' || c == '[')
        r = read_items(g, c == '{' ? '}' : ']');
    else if (quoted != SCAN_BAD)
        r = quoted == SCAN_DONE ? read_text(g) : READ_MORE;
    else
        r = read_bare(g);
    g->depth--;
    return r;
}

reading call_read_gemma(const char *text, size_t n, call *out, size_t *used)
{
    gemma g = {text, n, 0, &out->arguments, 0, out->cut};
    scanned begins = scan_marker(text, n, "call:");
    if (begins != SCAN_DONE)
        return reading_of(begins);
    g.at = strlen("call:");
    size_t name = 0;
    while (name < left(&g) && (unsigned char)g.text[g.at + name] > ' ' && !strchr("{}<>[]\"", g.text[g.at + name]))
        name++;
    if (name == left(&g) && name <= 256)
        return READ_MORE;
    if (!name || name > 256 || g.text[g.at + name] != '{')
        return READ_NOT;
    out->name = mem_strdup(g.text + g.at, name, NULL);
    g.at += name;
    if (!out->name)
        return READ_NO_MEMORY;
    reading r = read_items(&g, '}');
    *used = out->read = g.at;
    out->begun = out->stream;
    return r == READ_DONE && out->arguments.failed ? READ_NO_MEMORY : r;
}
