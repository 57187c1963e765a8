#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/grammar/parameter.h"
#include "text/output/format.h"

/* ---- Python's notation ---- */

typedef struct loose {
    const char *at, *end;
    text_out *out;
    int depth;
} loose;

static bool loose_value(loose *l);

static void skip(loose *l)
{
    l->at += scan_blanks(l->at, (size_t)(l->end - l->at));
}

/* The number in n hexadecimal digits at l->at + from; -1: they are not there. */
static int32_t hex(const loose *l, size_t from, size_t n)
{
    static const char digits[] = "0123456789abcdefABCDEF";
    int32_t c = 0;
    if ((size_t)(l->end - l->at) < from + n)
        return -1;
    for (size_t i = from; i < from + n; i++) {
        const char *digit = l->at[i] ? strchr(digits, l->at[i]) : NULL;
        if (!digit)
            return -1;
        c = c << 4 | (int32_t)(digit - digits < 16 ? digit - digits : digit - digits - 6);
    }
    return c;
}

/* \xHH, \uHHHH or two of the latter for one character, behind the backslash. false: it is none of these. */
static bool loose_code(loose *l, text_out *plain)
{
    size_t used = *l->at == 'x' ? 3 : 5;
    int32_t c = *l->at == 'x' || *l->at == 'u' ? hex(l, 1, used - 1) : -1;
    if (c < 0)
        return false;
    if (c >= 0xD800 && c < 0xE000) { /* half of a character */
        bool pair = (size_t)(l->end - l->at) > 6 && l->at[5] == '\\' && l->at[6] == 'u';
        int32_t low = pair ? hex(l, 7, 4) : -1;
        pair = c < 0xDC00 && low >= 0xDC00 && low < 0xE000;
        used += pair ? 6 : 0;
        c = pair ? 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00) : 0xFFFD;
    }
    char text[4];
    out_put(plain, text, utf8_encode((uint32_t)c, text));
    l->at += used;
    return true;
}

/* A text in single or double quotes. */
static bool loose_text(loose *l)
{
    char quote = *l->at++;
    text_out plain = {0};
    bool done = false;
    while (!done && l->at < l->end) {
        char c = *l->at++;
        done = c == quote;
        if (!done && c == '\\' && l->at < l->end) {
            static const char from[] = "nrtbf\\'\"", to[] = "\n\r\t\b\f\\'\"";
            const char *known = *l->at ? strchr(from, *l->at) : NULL;
            if (loose_code(l, &plain))
                continue;
            if (known)
                out_put(&plain, &to[known - from], 1);
            else
                out_put(&plain, l->at - 1, 2);
            l->at++;
        } else if (!done) {
            out_put(&plain, &c, 1);
        }
    }
    out_json_text(l->out, plain.at ? plain.at : "", plain.n);
    l->out->failed |= plain.failed;
    free(plain.at);
    return done;
}

static bool loose_items(loose *l, char close)
{
    out_put(l->out, l->at++, 1);
    for (bool first = true;; first = false) {
        skip(l);
        if (l->at < l->end && *l->at == close) {
            out_put(l->out, l->at++, 1);
            return true;
        }
        if (!first)
            out_word(l->out, ", ");
        if (close == '}') {
            if (l->at >= l->end || (*l->at != '"' && *l->at != '\'') || !loose_text(l))
                return false;
            skip(l);
            if (l->at >= l->end || *l->at++ != ':')
                return false;
            out_word(l->out, ": ");
        }
        if (!loose_value(l))
            return false;
        skip(l);
        if (l->at < l->end && *l->at == ',')
            l->at++;
        else if (l->at >= l->end || *l->at != close)
            return false;
    }
}

static bool loose_value(loose *l)
{
    static const struct {
        const char *word, *json;
    } words[] = {{"True", "true"}, {"False", "false"}, {"None", "null"}};
    skip(l);
    if (l->at >= l->end || ++l->depth > 100)
        return false;
    bool done;
    size_t used, n = (size_t)(l->end - l->at);
    for (int i = 0; i < 3; i++)
        if (scan_marker(l->at, n, words[i].word) == SCAN_DONE) {
            out_word(l->out, words[i].json);
            l->at += strlen(words[i].word);
            l->depth--;
            return true;
        }
    if (*l->at == '{' || *l->at == '[') {
        done = loose_items(l, *l->at == '{' ? '}' : ']');
    } else if (*l->at == '\'') {
        done = loose_text(l);
    } else {
        done = scan_json(l->at, n, true, &used) == SCAN_DONE;
        if (done) {
            out_put(l->out, l->at, used);
            l->at += used;
        } else if (*l->at == '"') { /* with escapes that JSON does not know */
            done = loose_text(l);
        }
    }
    l->depth--;
    return done;
}

bool out_loose(text_out *out, const char *text, size_t n)
{
    size_t front = scan_blanks(text, n), before = out->n;
    text += front;
    n = scan_trim(text, n - front);
    if (scan_is_json(text, n)) {
        out_put(out, text, n);
        return true;
    }
    loose l = {text, text + n, out, 0};
    if (loose_value(&l) && l.at == l.end && scan_is_json(out->at + before, out->n - before))
        return true;
    out->n = before;
    if (out->at)
        out->at[before] = 0;
    return false;
}

/* ---- types ---- */

static const json_t *parameters_of(const json_t *tools, const char *function)
{
    size_t i;
    const json_t *tool;
    json_array_foreach(tools, i, tool)
    {
        const json_t *f = json_object_get(tool, "function");
        f = f ? f : tool;
        const char *name = json_string_value(json_object_get(f, "name"));
        if (name && !strcmp(name, function))
            return json_object_get(f, "parameters");
    }
    return NULL;
}

bool out_value_is_text(const json_t *tools, const char *function, const char *key)
{
    bool nullable;
    return parameter_kind_of(parameters_of(tools, function), key, &nullable) == PARAMETER_TEXT;
}

bool out_value(text_out *out, const json_t *tools, const char *function, const char *key, const char *text, size_t n)
{
    bool nullable, null = (n == 4 && (!memcmp(text, "null", 4) || !memcmp(text, "None", 4)));
    bool is_text = parameter_kind_of(parameters_of(tools, function), key, &nullable) == PARAMETER_TEXT;
    if ((is_text && !(null && nullable)) || !out_loose(out, text, n))
        out_json_text(out, text, n);
    return !out->failed;
}
