#include "text/normalize.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "text/unicode_versions.h"

odmoe_status text_append(text_buffer *b, const char *text, size_t length, odmoe_error *err)
{
    size_t limit = b->limit && b->limit < TEXT_MAX ? b->limit : TEXT_MAX;
    if (b->length > limit || length > limit - b->length)
        return err_set(err, ODMOE_ERR_RANGE, "the text grows beyond %zu bytes", limit);
    odmoe_status st = mem_grow((void **)&b->at, &b->capacity, b->length + length, 1, "a text", err);
    if (st)
        return st;
    if (length)
        memcpy(b->at + b->length, text, length);
    b->length += length;
    return ODMOE_OK;
}

void normalize_step_free(normalize_step *step)
{
    free(step->text);
    pattern_free(step->pattern);
    *step = (normalize_step){0};
}

/* Code points with room to grow. */
typedef struct code_points {
    utf8proc_int32_t *at;
    size_t count, capacity;
} code_points;

/* Put marks into ascending order of their combining class, equal ones as they came. A counting sort, because a hostile
 * text may be one long run of marks. spare has room for `count`. */
static void sort_marks(utf8proc_int32_t *marks, size_t count, utf8proc_int32_t *spare)
{
    size_t place[256] = {0}, before = 0;
    for (size_t i = 0; i < count; i++)
        place[(unsigned char)utf8proc_get_property(marks[i])->combining_class]++;
    for (int class = 0; class < 256; class ++) {
        size_t n = place[class];
        place[class] = before;
        before += n;
    }
    for (size_t i = 0; i < count; i++)
        spare[place[(unsigned char)utf8proc_get_property(marks[i])->combining_class]++] = marks[i];
    memcpy(marks, spare, count * sizeof *marks);
}

static odmoe_status order_marks(code_points *c, odmoe_error *err)
{
    utf8proc_int32_t *spare = NULL;
    for (size_t i = 0; i < c->count; i++) {
        size_t end = i;
        while (end < c->count && utf8proc_get_property(c->at[end])->combining_class)
            end++;
        if (end - i >= 2) {
            if (!spare && !(spare = mem_calloc(c->count, sizeof *spare, "a text's characters", err)))
                return ODMOE_ERR_MEMORY;
            sort_marks(c->at + i, end - i, spare);
        }
        i = end;
    }
    free(spare);
    return ODMOE_OK;
}

/* Decompose valid UTF-8 into c. */
static odmoe_status decompose(const char *text, size_t length, utf8proc_option_t options, code_points *c,
                              odmoe_error *err)
{
    for (size_t at = 0; at < length;) {
        int bytes = utf8_char(text + at, length - at), boundary = 0;
        /* No character decomposes into more than 18. */
        odmoe_status st = mem_grow((void **)&c->at, &c->capacity, c->count + 32, sizeof *c->at, "a text", err);
        if (st)
            return st;
        utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)utf8_decode(text + at, bytes), c->at + c->count,
                                                     32, options, &boundary);
        if (n < 0 || n > 32)
            return err_set(err, ODMOE_ERR_FORMAT, "cannot normalise the text: %s", utf8proc_errmsg(n));
        c->count += (size_t)n;
        at += (size_t)bytes;
    }
    return ODMOE_OK;
}

/* One valid stretch into its normal form. */
static odmoe_status normal_form(normalize_kind kind, const char *text, size_t length, text_buffer *out,
                                odmoe_error *err)
{
    bool compat = kind == NORMALIZE_NFKC || kind == NORMALIZE_NFKD;
    bool compose = kind == NORMALIZE_NFC || kind == NORMALIZE_NFKC;
    utf8proc_option_t options = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | (compat ? UTF8PROC_COMPAT : 0);
    code_points c = {0};
    odmoe_status st = decompose(text, length, options, &c, err);
    if (!st)
        st = order_marks(&c, err);
    if (!st && compose && c.count) {
        utf8proc_ssize_t n =
            utf8proc_normalize_utf32(c.at, (utf8proc_ssize_t)c.count, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
        if (n < 0)
            st = err_set(err, ODMOE_ERR_FORMAT, "cannot normalise the text: %s", utf8proc_errmsg(n));
        else
            c.count = (size_t)n;
    }
    for (size_t i = 0; !st && i < c.count; i++) {
        utf8proc_uint8_t bytes[4];
        st = text_append(out, (char *)bytes, (size_t)utf8proc_encode_char(c.at[i], bytes), err);
    }
    free(c.at);
    return st;
}

/* The bytes at the front that are as they should be: characters below U+0300 (bytes below 0xCC) in NFC, ASCII in every
 * form. None of them changes with the character before it. */
static size_t normal_front(normalize_kind kind, const char *text, size_t length)
{
    unsigned char limit = kind == NORMALIZE_NFC ? 0xCC : 0x80;
    size_t n = 0;
    while (n < length && (unsigned char)text[n] < limit)
        n++;
    return n;
}

/* The length of the front of valid UTF-8 without a plain character; *plain: the bytes of the one behind it, or 0. */
static size_t before_plain(const char *text, size_t length, size_t *plain)
{
    for (size_t at = 0; at < length;) {
        size_t bytes = (size_t)utf8_char(text + at, length - at);
        *plain = bytes;
        if (bytes > 1 && unicode_is_plain(utf8_decode(text + at, (int)bytes)))
            return at;
        at += bytes;
    }
    *plain = 0;
    return length;
}

/* A valid stretch into its normal form: what stands between plain characters is normalised on its own. */
static odmoe_status apply_between(normalize_kind kind, const char *text, size_t length, text_buffer *out,
                                  odmoe_error *err)
{
    odmoe_status st = ODMOE_OK;
    for (size_t at = 0; !st && at < length;) {
        size_t plain, n = before_plain(text + at, length - at, &plain);
        st = normal_form(kind, text + at, n, out, err);
        if (!st)
            st = text_append(out, text + at + n, plain, err);
        at += n + plain;
    }
    return st;
}

/* Valid UTF-8, most of which may be as it should be: only the rest is normalised, with the character before it. */
static odmoe_status apply_valid(normalize_kind kind, const char *text, size_t length, text_buffer *out,
                                odmoe_error *err)
{
    odmoe_status st = ODMOE_OK;
    for (size_t at = 0; !st && at < length;) {
        size_t front = normal_front(kind, text + at, length - at), end = at + front, last = end;
        if (end < length && front)
            do
                last--;
            while (((unsigned char)text[last] & 0xC0) == 0x80);
        st = text_append(out, text + at, last - at, err);
        while (end < length && !normal_front(kind, text + end, 1))
            end += (size_t)utf8_char(text + end, length - end);
        if (!st)
            st = apply_between(kind, text + last, end - last, out, err);
        at = end;
    }
    return st;
}

static odmoe_status apply_form(normalize_kind kind, const char *text, size_t length, text_buffer *out, odmoe_error *err)
{
    odmoe_status st = ODMOE_OK;
    for (size_t at = 0; !st && at < length;) {
        size_t valid = utf8_run(text + at, length - at);
        st = apply_valid(kind, text + at, valid, out, err);
        size_t junk = utf8_junk(text + at + valid, length - at - valid);
        if (!st)
            st = text_append(out, text + at + valid, junk, err);
        at += valid + junk;
    }
    return st;
}

static odmoe_status apply_replace(const normalize_step *step, pattern_scratch *scratch, const char *text, size_t length,
                                  text_buffer *out, odmoe_error *err)
{
    odmoe_status st = ODMOE_OK;
    for (size_t at = 0; !st && at < length;) {
        size_t valid = utf8_run(text + at, length - at), done = 0;
        pattern_walk walk = PATTERN_WALK_START;
        for (;;) {
            st = pattern_next(step->pattern, scratch, text + at, valid, &walk, err);
            if (st || !walk.found)
                break;
            st = text_append(out, text + at + done, walk.start - done, err);
            if (!st)
                st = text_append(out, step->text, step->length, err);
            if (st)
                break;
            done = walk.end;
        }
        size_t junk = utf8_junk(text + at + valid, length - at - valid);
        if (!st)
            st = text_append(out, text + at + done, valid - done + junk, err);
        at += valid + junk;
    }
    return st;
}

odmoe_status normalize(const normalize_step *steps, size_t count, normal_scratch *s, const char *text, size_t length,
                       const char **out, size_t *out_length, odmoe_error *err)
{
    const char *given = text;
    odmoe_status st = ODMOE_OK;
    int target = 0;
    for (size_t i = 0; !st && i < count && length; i++) {
        const normalize_step *step = &steps[i];
        text_buffer *b = &s->buffers[target];
        b->length = 0;
        b->limit = s->room ? s->room : 1;
        if (step->kind == NORMALIZE_PREPEND) {
            st = text_append(b, step->text, step->length, err);
            if (!st)
                st = text_append(b, text, length, err);
        } else if (step->kind == NORMALIZE_REPLACE) {
            st = apply_replace(step, s->patterns, text, length, b, err);
        } else if (normal_front(step->kind, text, length) == length) {
            continue;
        } else {
            st = apply_form(step->kind, text, length, b, err);
        }
        text = b->at;
        length = b->length;
        target ^= 1; /* the next step reads this buffer and writes the other */
    }
    if (!st && text != given)
        s->room -= length < s->room ? length : s->room;
    *out = text ? text : ""; /* a replacement may leave nothing */
    *out_length = length;
    return st;
}

void normal_scratch_free(normal_scratch *s)
{
    free(s->buffers[0].at);
    free(s->buffers[1].at);
    *s = (normal_scratch){0};
}
