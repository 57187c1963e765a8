#include "text/output/scan.h"

#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"

/* ---- writing ---- */

void out_put(text_out *o, const char *text, size_t n)
{
    if (o->failed || mem_grow((void **)&o->at, &o->capacity, o->n + n + 1, 1, "a model's output", NULL)) {
        o->failed = true;
        return;
    }
    if (n)
        memcpy(o->at + o->n, text, n);
    o->n += n;
    o->at[o->n] = 0;
}

void out_word(text_out *o, const char *text)
{
    out_put(o, text, strlen(text));
}

void out_json_text(text_out *o, const char *text, size_t n)
{
    out_json_front(o, text, n);
    out_word(o, "\"");
}

void out_json_front(text_out *o, const char *text, size_t n)
{
    static const char hex[] = "0123456789abcdef";
    out_word(o, "\"");
    for (size_t i = 0; i < n;) {
        unsigned char c = (unsigned char)text[i];
        int length = utf8_char(text + i, n - i);
        if (length <= 0) {
            out_word(o, "\xEF\xBF\xBD");
            i++;
            continue;
        }
        if (c == '"' || c == '\\') {
            out_put(o, (char[]){'\\', (char)c}, 2);
        } else if (c == '\n' || c == '\t' || c == '\r') {
            out_put(o, (char[]){'\\', c == '\n' ? 'n' : c == '\t' ? 't' : 'r'}, 2);
        } else if (c < 0x20) {
            out_put(o, (char[]){'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]}, 6);
        } else {
            out_put(o, text + i, (size_t)length);
        }
        i += (size_t)length;
    }
}

/* ---- blanks and markers ---- */

bool scan_is_blank(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

size_t scan_blanks(const char *text, size_t n)
{
    size_t i = 0;
    while (i < n && scan_is_blank(text[i]))
        i++;
    return i;
}

size_t scan_trim(const char *text, size_t n)
{
    while (n && scan_is_blank(text[n - 1]))
        n--;
    return n;
}

size_t scan_whole(const char *text, size_t n)
{
    for (size_t back = 1; back <= 3 && back <= n; back++) {
        const char *last = text + n - back;
        if (((unsigned char)*last & 0xC0) == 0x80)
            continue;
        return utf8_char(last, back) < 0 ? n - back : n;
    }
    return n;
}

scanned scan_marker(const char *text, size_t n, const char *marker)
{
    size_t length = strlen(marker), least = n < length ? n : length;
    if (memcmp(text, marker, least) != 0)
        return SCAN_BAD;
    return n < length ? SCAN_MORE : SCAN_DONE;
}

size_t scan_find(const char *text, size_t n, const char *marker)
{
    const char *at = memmem(text, n, marker, strlen(marker));
    return at ? (size_t)(at - text) : SIZE_MAX;
}

size_t scan_partial(const char *text, size_t n, const char *marker)
{
    size_t length = strlen(marker), most = n < length ? n : length - 1;
    while (most && memcmp(text + n - most, marker, most) != 0)
        most--;
    return most;
}

/* ---- JSON ---- */

enum { JSON_NESTED_MAX = 200 };

typedef struct json_scan {
    const char *at, *end;
    bool whole;
    int depth;
} json_scan;

static void skip(json_scan *s)
{
    s->at += scan_blanks(s->at, (size_t)(s->end - s->at));
}

/* Behind the opening quote. */
static scanned scan_text(json_scan *s)
{
    while (s->at < s->end) {
        unsigned char c = (unsigned char)*s->at++;
        if (c == '"')
            return SCAN_DONE;
        if (c < 0x20)
            return SCAN_BAD;
        if (c != '\\')
            continue;
        if (s->at >= s->end)
            return SCAN_MORE;
        c = (unsigned char)*s->at++;
        if (!strchr("\"\\/bfnrtu", c) || !c)
            return SCAN_BAD;
        for (int i = 0; c == 'u' && i < 4; i++, s->at++) {
            if (s->at >= s->end)
                return SCAN_MORE;
            if (!strchr("0123456789abcdefABCDEF", *s->at) || !*s->at)
                return SCAN_BAD;
        }
    }
    return SCAN_MORE;
}

static bool digits(json_scan *s)
{
    const char *from = s->at;
    while (s->at < s->end && *s->at >= '0' && *s->at <= '9')
        s->at++;
    return s->at > from;
}

static scanned scan_number(json_scan *s)
{
    s->at += *s->at == '-';
    bool zero = s->at < s->end && *s->at == '0';
    const char *from = s->at;
    if (!digits(s))
        return s->at < s->end || s->whole ? SCAN_BAD : SCAN_MORE;
    if (zero && s->at - from > 1)
        return SCAN_BAD;
    if (s->at < s->end && *s->at == '.') {
        s->at++;
        if (!digits(s))
            return s->at < s->end || s->whole ? SCAN_BAD : SCAN_MORE;
    }
    if (s->at < s->end && (*s->at == 'e' || *s->at == 'E')) {
        s->at++;
        s->at += s->at < s->end && (*s->at == '+' || *s->at == '-');
        if (!digits(s))
            return s->at < s->end || s->whole ? SCAN_BAD : SCAN_MORE;
    }
    return s->at < s->end || s->whole ? SCAN_DONE : SCAN_MORE;
}

static scanned scan_literal(json_scan *s)
{
    static const char *const words[] = {"true", "false", "null"};
    for (int i = 0; i < 3; i++) {
        scanned r = scan_marker(s->at, (size_t)(s->end - s->at), words[i]);
        if (r == SCAN_DONE)
            s->at += strlen(words[i]);
        if (r != SCAN_BAD)
            return r == SCAN_MORE && s->whole ? SCAN_BAD : r;
    }
    return SCAN_BAD;
}

static scanned scan_value(json_scan *s);

/* Behind the opening bracket of an object or array. */
static scanned scan_items(json_scan *s, char close)
{
    for (bool first = true;; first = false) {
        skip(s);
        if (s->at >= s->end)
            return SCAN_MORE;
        if (*s->at == close && first) {
            s->at++;
            return SCAN_DONE;
        }
        scanned r;
        if (close == '}') {
            if (*s->at++ != '"')
                return SCAN_BAD;
            r = scan_text(s);
            if (r != SCAN_DONE)
                return r;
            skip(s);
            if (s->at >= s->end)
                return SCAN_MORE;
            if (*s->at++ != ':')
                return SCAN_BAD;
        }
        r = scan_value(s);
        if (r != SCAN_DONE)
            return r;
        skip(s);
        if (s->at >= s->end)
            return SCAN_MORE;
        char c = *s->at++;
        if (c == close)
            return SCAN_DONE;
        if (c != ',')
            return SCAN_BAD;
    }
}

static scanned scan_value(json_scan *s)
{
    skip(s);
    if (s->at >= s->end)
        return SCAN_MORE;
    if (++s->depth > JSON_NESTED_MAX)
        return SCAN_BAD;
    char c = *s->at;
    scanned r;
    if (c == '{' || c == '[') {
        s->at++;
        r = scan_items(s, c == '{' ? '}' : ']');
    } else if (c == '"') {
        s->at++;
        r = scan_text(s);
    } else {
        r = c == '-' || (c >= '0' && c <= '9') ? scan_number(s) : scan_literal(s);
    }
    s->depth--;
    return r;
}

scanned scan_json(const char *text, size_t n, bool whole, size_t *used)
{
    json_scan s = {text, text + n, whole, 0};
    scanned r = scan_value(&s);
    *used = (size_t)(s.at - text);
    return r;
}

bool scan_is_json(const char *text, size_t n)
{
    size_t used;
    return scan_json(text, n, true, &used) == SCAN_DONE && used + scan_blanks(text + used, n - used) == n &&
           utf8_run(text, n) == n;
}

bool scan_member(const char *object, size_t n, const char *key, const char **value, size_t *length)
{
    json_scan s = {object, object + n, true, 0};
    size_t key_length = strlen(key);
    bool found = false;
    skip(&s);
    s.at++;
    for (;;) {
        skip(&s);
        if (s.at >= s.end || *s.at++ != '"')
            return found;
        const char *name = s.at;
        if (scan_text(&s) != SCAN_DONE)
            return found;
        bool is = (size_t)(s.at - 1 - name) == key_length && !memcmp(name, key, key_length);
        skip(&s);
        s.at++;
        skip(&s);
        const char *from = s.at;
        if (scan_value(&s) != SCAN_DONE)
            return found;
        if (is) { /* the last one counts */
            *value = from;
            *length = (size_t)(s.at - from);
            found = true;
        }
        skip(&s);
        if (s.at >= s.end || *s.at++ != ',')
            return found;
    }
}

char *scan_word(const char *text, size_t n)
{
    json_error_t fault;
    json_t *v = json_loadb(text, n, JSON_DECODE_ANY, &fault);
    char *word = json_is_string(v) ? mem_strdup(json_string_value(v), json_string_length(v), NULL) : NULL;
    json_decref(v);
    return word;
}
