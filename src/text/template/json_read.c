#include "base/utf8.h"
#include "text/template/number.h"
#include "text/template/print.h"

/* JSON straight into the arena: a tree of another library would be dozens of times the text, outside of every limit. */

typedef struct reader {
    tpl_state *s;
    const char *at, *end;
    bool foreign, bad;
    int depth;
} reader;

enum { JSON_NESTED_MAX = 256 };

static value fail(reader *r)
{
    r->bad = true;
    return val_none();
}

static void blanks(reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\n' || *r->at == '\t' || *r->at == '\r'))
        r->at++;
}

static bool skip(reader *r, char c)
{
    blanks(r);
    if (r->at >= r->end || *r->at != c)
        return false;
    r->at++;
    return true;
}

static int32_t hex4(reader *r)
{
    int32_t c = 0;
    if (r->end - r->at < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        char d = *r->at++;
        int v = d >= '0' && d <= '9' ? d - '0' : (d | 32) >= 'a' && (d | 32) <= 'f' ? (d | 32) - 'a' + 10 : -1;
        if (v < 0)
            return -1;
        c = c << 4 | v;
    }
    return c;
}

/* Behind \u. */
static bool unicode_escape(reader *r, builder *b)
{
    int32_t c = hex4(r);
    if (c >= 0xD800 && c < 0xDC00) {
        if (r->end - r->at < 2 || r->at[0] != '\\' || r->at[1] != 'u')
            return false;
        r->at += 2;
        int32_t low = hex4(r);
        if (low < 0xDC00 || low >= 0xE000)
            return false;
        c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
    } else if (c < 0 || (c >= 0xDC00 && c < 0xE000)) {
        return false;
    }
    build_char(r->s, b, (uint32_t)c, r->foreign);
    return true;
}

static str *read_text(reader *r)
{
    builder b = {0};
    tpl_work(r->s, 0);
    for (;;) {
        const char *plain = r->at;
        while (r->at < r->end && *r->at != '"' && *r->at != '\\' && (unsigned char)*r->at >= 0x20)
            r->at++;
        size_t n = (size_t)(r->at - plain);
        if (utf8_run(plain, n) != n)
            break;
        build_run(r->s, &b, plain, n, r->foreign);
        if (r->at >= r->end || (*r->at != '"' && *r->at != '\\'))
            break;
        if (*r->at++ == '"')
            return str_built(r->s, &b);
        static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
        const char *known = r->at < r->end && *r->at ? strchr(from, *r->at) : NULL;
        if (known) {
            build_char(r->s, &b, (unsigned char)to[known - from], r->foreign);
            r->at++;
        } else if (r->at >= r->end || *r->at++ != 'u' || !unicode_escape(r, &b)) {
            break;
        }
    }
    r->bad = true;
    return NULL;
}

static bool is_digit(const reader *r)
{
    return r->at < r->end && *r->at >= '0' && *r->at <= '9';
}

static value read_number(reader *r)
{
    const char *begin = r->at;
    bool real = false, negative = r->at < r->end && *r->at == '-';
    r->at += negative;
    if (!is_digit(r))
        return fail(r);
    bool zero = *r->at == '0';
    wide i = 0;
    bool wide_enough = true;
    for (const char *from = r->at; is_digit(r); r->at++) {
        if (zero && r->at > from)
            return fail(r);
        wide_enough = wide_enough && !__builtin_mul_overflow(i, (wide)10, &i) &&
                      !__builtin_add_overflow(i, (wide)(*r->at - '0'), &i);
    }
    if (r->at < r->end && *r->at == '.') {
        real = true;
        r->at++;
        if (!is_digit(r))
            return fail(r);
        while (is_digit(r))
            r->at++;
    }
    if (r->at < r->end && (*r->at | 32) == 'e') {
        real = true;
        r->at++;
        if (r->at < r->end && (*r->at == '+' || *r->at == '-'))
            r->at++;
        if (!is_digit(r))
            return fail(r);
        while (is_digit(r))
            r->at++;
    }
    if (!real && wide_enough)
        return val_int(negative ? -i : i);
    return val_float(number_read(begin, (size_t)(r->at - begin)));
}

static value read_value(reader *r);

static value read_list(reader *r)
{
    value v = val_list(r->s, VAL_LIST, 0);
    if (skip(r, ']'))
        return v;
    do
        list_push(r->s, v.l, read_value(r));
    while (!r->bad && skip(r, ','));
    return r->bad || !skip(r, ']') ? fail(r) : v;
}

static value read_dict(reader *r)
{
    value v = val_dict(r->s);
    if (skip(r, '}'))
        return v;
    do {
        str *key = skip(r, '"') ? read_text(r) : NULL;
        if (!key || !skip(r, ':'))
            return fail(r);
        value item = read_value(r);
        if (!r->bad)
            dict_set(r->s, v.d, val_str(key), item);
    } while (!r->bad && skip(r, ','));
    return r->bad || !skip(r, '}') ? fail(r) : v;
}

static value read_word(reader *r)
{
    static const struct {
        const char *word;
        value v;
    } words[] = {{"true", {.kind = VAL_BOOL, .b = true}}, {"false", {.kind = VAL_BOOL}}, {"null", {.kind = VAL_NONE}}};
    for (size_t i = 0; i < 3; i++) {
        size_t n = strlen(words[i].word);
        if ((size_t)(r->end - r->at) >= n && !memcmp(r->at, words[i].word, n)) {
            r->at += n;
            return words[i].v;
        }
    }
    return fail(r);
}

static value read_value(reader *r)
{
    value v;
    tpl_work(r->s, 0);
    blanks(r);
    if (r->at >= r->end || ++r->depth > JSON_NESTED_MAX)
        return fail(r);
    char c = *r->at;
    if (c == '{' || c == '[') {
        r->at++;
        v = c == '{' ? read_dict(r) : read_list(r);
    } else if (c == '"') {
        r->at++;
        str *text = read_text(r);
        v = text ? val_str(text) : val_none();
    } else if (c == '-' || (c >= '0' && c <= '9')) {
        v = read_number(r);
    } else {
        v = read_word(r);
    }
    r->depth--;
    return v;
}

bool tpl_read_json(tpl_state *s, const char *text, size_t length, bool foreign, value *out, size_t *at)
{
    reader r = {.s = s, .at = text, .end = text + length, .foreign = foreign};
    *out = read_value(&r);
    blanks(&r);
    *at = (size_t)(r.at - text);
    return !r.bad && r.at == r.end;
}

bool tpl_read_json_members(tpl_state *s, const char *text, size_t length, json_member take, void *user, size_t *at)
{
    reader r = {.s = s, .at = text, .end = text + length};
    bool open = skip(&r, '{');
    if (open && !skip(&r, '}')) {
        do {
            r.foreign = false;
            str *key = skip(&r, '"') ? read_text(&r) : NULL;
            if (!key || !skip(&r, ':')) {
                r.bad = true;
                break;
            }
            r.foreign = take(s, key, NULL, user);
            value v = read_value(&r);
            if (!r.bad)
                take(s, key, &v, user);
        } while (!r.bad && skip(&r, ','));
        r.bad = r.bad || !skip(&r, '}');
    }
    blanks(&r);
    *at = (size_t)(r.at - text);
    return open && !r.bad && r.at == r.end;
}
