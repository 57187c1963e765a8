#include "text/template/str.h"

#include "base/utf8.h"

/* ---- making ---- */

static void check_length(tpl_state *s, size_t length)
{
    if (length > s->string_max)
        tpl_fail(s, TEMPLATE_LIMIT, "a string of more than %zu KiB", s->string_max >> 10);
}

str *str_new(tpl_state *s, const char *at, size_t length, bool foreign)
{
    check_length(s, length);
    str *a = tpl_alloc(s, 1, sizeof *a);
    a->length = length;
    a->flat = at;
    if (length) {
        a->one = (run){at, length, foreign};
        a->runs = &a->one;
        a->n = 1;
    }
    return a;
}

str *str_copy(tpl_state *s, const char *at, size_t length, bool foreign)
{
    check_length(s, length);
    char *copy = tpl_alloc(s, length, 1);
    if (length)
        memcpy(copy, at, length);
    return str_new(s, copy, length, foreign);
}

str *str_text(tpl_state *s, const char *text)
{
    return str_new(s, text, strlen(text), false);
}

str *str_join2(tpl_state *s, const str *a, const str *b)
{
    builder out = {0};
    build_str(s, &out, a);
    build_str(s, &out, b);
    return str_built(s, &out);
}

str *str_sub(tpl_state *s, const str *a, size_t from, size_t to)
{
    builder out = {0};
    build_sub(s, &out, a, from, to);
    str *r = str_built(s, &out);
    r->safe = a->safe;
    return r;
}

str *str_plain(tpl_state *s, str *a)
{
    if (!a->safe)
        return a;
    str *r = str_sub(s, a, 0, a->length);
    r->safe = false;
    return r;
}

str *str_marked(tpl_state *s, str *a)
{
    if (a->safe)
        return a;
    str *r = str_sub(s, a, 0, a->length);
    r->safe = true;
    return r;
}

const char *str_flat(tpl_state *s, const str *a)
{
    if (a->flat)
        return a->flat;
    tpl_work(s, a->length);
    char *bytes = tpl_alloc(s, a->length, 1);
    run *runs = tpl_alloc(s, a->n, sizeof *runs);
    size_t at = 0;
    for (size_t i = 0; i < a->n; i++) {
        memcpy(bytes + at, a->runs[i].at, a->runs[i].length);
        runs[i] = (run){bytes + at, a->runs[i].length, a->runs[i].foreign};
        at += a->runs[i].length;
    }
    str *known = (str *)a; /* the same string, laid out once */
    known->runs = runs;
    known->flat = bytes;
    s->escapes++;
    return bytes;
}

/* ---- comparing ---- */

bool str_equal(tpl_state *s, const str *a, const str *b)
{
    if (a->length != b->length)
        return false;
    return a == b || !a->length || !memcmp(str_flat(s, a), str_flat(s, b), a->length);
}

bool str_is(tpl_state *s, const str *a, const char *text)
{
    return a->length == strlen(text) && (!a->length || !memcmp(str_flat(s, a), text, a->length));
}

int str_compare(tpl_state *s, const str *a, const str *b)
{
    size_t n = a->length < b->length ? a->length : b->length;
    int c = n ? memcmp(str_flat(s, a), str_flat(s, b), n) : 0; /* UTF-8 sorts as its characters do */
    return c ? c : (a->length > b->length) - (a->length < b->length);
}

uint64_t str_hash(tpl_state *s, const str *a)
{
    const unsigned char *p = a->length ? (const unsigned char *)str_flat(s, a) : NULL;
    uint64_t h = 1469598103934665603u;
    for (size_t i = 0; i < a->length; i++)
        h = (h ^ p[i]) * 1099511628211u;
    return h ^ h >> 29;
}

bool str_foreign(const str *a, size_t byte)
{
    for (size_t i = 0; i < a->n; i++) {
        if (byte < a->runs[i].length)
            return a->runs[i].foreign;
        byte -= a->runs[i].length;
    }
    return false;
}

size_t str_find(tpl_state *s, const str *a, const str *b, size_t from, size_t to)
{
    if (from > to || to - from < b->length)
        return SIZE_MAX;
    if (!b->length)
        return from;
    tpl_work(s, to - from);
    const char *text = str_flat(s, a), *found = memmem(text + from, to - from, str_flat(s, b), b->length);
    return found ? (size_t)(found - text) : SIZE_MAX;
}

size_t str_rfind(tpl_state *s, const str *a, const str *b, size_t from, size_t to)
{
    if (from > to || to - from < b->length)
        return SIZE_MAX;
    if (!b->length)
        return to;
    const char *text = str_flat(s, a), *needle = str_flat(s, b);
    tpl_work(s, to - from);
    for (size_t at = to - b->length + 1; at-- > from;) {
        if (text[at] != needle[0])
            continue;
        tpl_work(s, b->length);
        if (!memcmp(text + at, needle, b->length))
            return at;
    }
    return SIZE_MAX;
}

/* ---- characters ---- */

static bool starts_char(char c)
{
    return ((unsigned char)c & 0xC0) != 0x80;
}

size_t str_chars(tpl_state *s, const str *a)
{
    tpl_work(s, a->length);
    size_t n = 0;
    for (size_t i = 0; i < a->n; i++)
        for (size_t k = 0; k < a->runs[i].length; k++)
            n += starts_char(a->runs[i].at[k]);
    return n;
}

size_t str_offset(tpl_state *s, const str *a, size_t i)
{
    size_t byte = 0;
    for (size_t r = 0; r < a->n; byte += a->runs[r++].length)
        for (size_t k = 0; k < a->runs[r].length; k++)
            if (starts_char(a->runs[r].at[k]) && i-- == 0) {
                tpl_work(s, byte + k);
                return byte + k;
            }
    tpl_work(s, byte);
    return byte;
}

bool tpl_char_is_space(uint32_t c)
{
    return utf8_is_space(c) || (c >= 0x1C && c <= 0x1F);
}

size_t tpl_char_write(char *out, uint32_t c)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xC0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xE0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3F));
        out[2] = (char)(0x80 | (c & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3F));
    out[2] = (char)(0x80 | (c >> 6 & 0x3F));
    out[3] = (char)(0x80 | (c & 0x3F));
    return 4;
}

bool str_walk_next(str_walk *w)
{
    w->byte += w->length;
    if (w->run < w->of->n && w->at >= w->of->runs[w->run].length) {
        w->run++;
        w->at = 0;
    }
    if (w->run >= w->of->n)
        return false;
    const run *r = &w->of->runs[w->run];
    int n = utf8_char(r->at + w->at, r->length - w->at);
    w->bytes = r->at + w->at;
    w->length = n > 0 ? (size_t)n : 1;
    w->c = n > 0 ? utf8_decode(w->bytes, n) : 0xFFFD;
    w->foreign = r->foreign;
    w->at += w->length;
    return true;
}

/* ---- building ---- */

void build_run(tpl_state *s, builder *b, const char *at, size_t length, bool foreign)
{
    if (!length)
        return;
    check_length(s, b->length + length);
    b->length += length;
    run *last = b->n ? &b->runs[b->n - 1] : NULL;
    if (last && last->foreign == foreign && last->at + last->length == at) {
        last->length += length;
        return;
    }
    tpl_grow(s, (void **)&b->runs, &b->capacity, b->n, b->n + 1, sizeof *b->runs);
    b->runs[b->n++] = (run){at, length, foreign};
}

void build_sub(tpl_state *s, builder *b, const str *a, size_t from, size_t to)
{
    tpl_work(s, a->n * 8);
    size_t at = 0;
    for (size_t i = 0; i < a->n && at < to; at += a->runs[i++].length) {
        const run *r = &a->runs[i];
        if (at + r->length <= from)
            continue;
        size_t begin = from > at ? from - at : 0, end = to - at < r->length ? to - at : r->length;
        build_run(s, b, r->at + begin, end - begin, r->foreign);
    }
}

void build_str(tpl_state *s, builder *b, const str *a)
{
    build_sub(s, b, a, 0, a->length);
}

void build_text(tpl_state *s, builder *b, const char *text)
{
    build_run(s, b, text, strlen(text), false);
}

void build_bytes(tpl_state *s, builder *b, const char *at, size_t length, bool foreign)
{
    if (!length)
        return;
    check_length(s, b->length + length);
    if (b->room_size - b->room_used < length) {
        size_t want = b->room_size * 2 < 64 ? 64 : b->room_size * 2 > (64 << 10) ? 64 << 10 : b->room_size * 2;
        b->room_size = want > length ? want : length;
        b->room = tpl_alloc(s, b->room_size, 1);
        b->room_used = 0;
    }
    char *to = b->room + b->room_used;
    memcpy(to, at, length);
    b->room_used += length;
    build_run(s, b, to, length, foreign);
}

void build_char(tpl_state *s, builder *b, uint32_t c, bool foreign)
{
    char bytes[4];
    size_t n = tpl_char_write(bytes, c);
    build_bytes(s, b, bytes, n, foreign);
}

void build_repeat(tpl_state *s, builder *b, const char *text, size_t times)
{
    size_t n = strlen(text), bytes;
    if (!n || !times)
        return;
    if (__builtin_mul_overflow(n, times, &bytes))
        check_length(s, SIZE_MAX);
    check_length(s, bytes);
    check_length(s, b->length + bytes);
    tpl_work(s, bytes);
    char *to = tpl_alloc(s, bytes, 1);
    for (size_t i = 0; i < times; i++)
        memcpy(to + i * n, text, n);
    build_run(s, b, to, bytes, false);
}

str *str_built(tpl_state *s, builder *b)
{
    str *a = tpl_alloc(s, 1, sizeof *a);
    a->length = b->length;
    a->n = b->n;
    a->runs = b->runs;
    if (b->n <= 1)
        a->flat = b->n ? b->runs[0].at : "";
    bool one_piece = true;
    for (size_t i = 1; i < b->n && one_piece; i++)
        one_piece = b->runs[i - 1].at + b->runs[i - 1].length == b->runs[i].at;
    if (one_piece && b->n)
        a->flat = b->runs[0].at;
    if (b->n == 1) { /* the row of runs may be larger than needed, but then it is small */
        a->one = b->runs[0];
        a->runs = &a->one;
    }
    return a;
}

/* ---- HTML ---- */

str *str_escape(tpl_state *s, const str *a)
{
    if (a->safe)
        return (str *)a;
    tpl_work(s, a->length);
    builder b = {0};
    for (size_t i = 0; i < a->n; i++) {
        const run *r = &a->runs[i];
        for (size_t k = 0; k < r->length;) {
            size_t plain = k;
            while (plain < r->length && !strchr("&<>\"'", r->at[plain] ? r->at[plain] : 'x'))
                plain++;
            build_run(s, &b, r->at + k, plain - k, r->foreign);
            if (plain < r->length) {
                char c = r->at[plain];
                const char *as = c == '&'   ? "&amp;"
                                 : c == '<' ? "&lt;"
                                 : c == '>' ? "&gt;"
                                 : c == '"' ? "&#34;"
                                            : "&#39;";
                build_run(s, &b, as, strlen(as), r->foreign);
            }
            k = plain + (plain < r->length);
        }
    }
    str *out = str_built(s, &b);
    out->safe = true;
    return out;
}
