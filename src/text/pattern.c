#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/pattern.h"

#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "text/normalize.h"
#include "text/unicode_versions.h"

#define PATTERN_MAX 65536       /* bytes of an expression */
#define SHOWN_MAX 48            /* bytes of an expression that messages show */
#define STEPS_FREE 256u         /* that a search may take at each place of a text without being counted */
#define STEPS_MAX 10000000u     /* beyond that, for all searches in a text together, besides ... */
#define STEPS_PER_BYTE 256u     /* of the text; the published patterns take some 10 on runs of white space */
#define HEAP_MAX_KIB 65536u     /* for one search */
#define JIT_STACK_MAX (1 << 20) /* bytes; beyond that the interpreter, which has HEAP_MAX_KIB, takes over */

struct pattern {
    pcre2_code *code;
    char shown[SHOWN_MAX + 1]; /* its beginning, for messages */
};

struct pattern_scratch {
    pcre2_match_data *data;
    pcre2_match_context *context;
    pcre2_jit_stack *stack; /* NULL where there is no JIT */
    uint64_t steps;         /* that are left for this text */
};

/* White_Space, as the inside of a class. PCRE2's own \s has U+180E besides. */
static const char SPACES[] =
    "\\x09-\\x0D\\x20\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}";

static const char NO_SPACES[] =
    "\\x{0}-\\x08\\x0E-\\x1F\\x21-\\x{84}\\x{86}-\\x{9F}\\x{A1}-\\x{167F}\\x{1681}-\\x{1FFF}"
    "\\x{200B}-\\x{2027}\\x{202A}-\\x{202E}\\x{2030}-\\x{205E}\\x{2060}-\\x{2FFF}"
    "\\x{3001}-\\x{10FFFF}";

/* Oniguruma's word characters: what is alphabetic, marks, decimal digits and connectors; add_words adds those that are
 * newer than this PCRE2. Outside of a class Oniguruma goes by a table of its own below U+0100, which has the fractions
 * and raised digits too. */
#define WORDS                                                                                                       \
    "\\p{L}\\p{M}\\p{Nl}\\p{Nd}\\p{Pc}\\x{24B6}-\\x{24E9}\\x{1F130}-\\x{1F149}\\x{1F150}-\\x{1F169}\\x{1F170}-\\x{" \
    "1F189}"
#define WORDS_OUTSIDE WORDS "\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}"

static odmoe_status add(text_buffer *b, const char *text, odmoe_error *err)
{
    return text_append(b, text, strlen(text), err);
}

/* Refuse a construct that PCRE2 would read otherwise without a word, or whose match depends on where the search began:
 * match_in_windows begins it anew. */
static odmoe_status refuse(const char *what, size_t length, const char *where, odmoe_error *err)
{
    return err_set(err, ODMOE_ERR_UNSUPPORTED, "%s: %.*s is not supported in a pattern", where, (int)length, what);
}

/* Append the class of these members, or only them where a class is open. */
static odmoe_status add_class(const char *members, bool negated, bool in_class, text_buffer *b, odmoe_error *err)
{
    odmoe_status st = in_class ? ODMOE_OK : add(b, negated ? "[^" : "[", err);
    if (!st)
        st = add(b, members, err);
    return st || in_class ? st : add(b, "]", err);
}

static odmoe_status add_words(bool negated, bool in_class, text_buffer *b, odmoe_error *err)
{
    static const char *const newer[] = {"L", "M", "Nd"};
    text_buffer members = {0};
    odmoe_status st = add(&members, in_class ? WORDS : WORDS_OUTSIDE, err);
    for (size_t i = 0; !st && i < sizeof newer / sizeof *newer; i++)
        st = add(&members, unicode_newer(newer[i]), err);
    if (!st)
        st = text_append(&members, "", 1, err);
    if (!st)
        st = add_class(members.at, negated, in_class, b, err);
    free(members.at);
    return st;
}

/* \b and \B: is the character on one side alone of a word, or on both or neither? */
static odmoe_status add_boundary(bool negated, text_buffer *b, odmoe_error *err)
{
    static const char *const parts[2][5] = {{"(?:(?<=", ")(?!", ")|(?<!", ")(?=", "))"},
                                            {"(?:(?<=", ")(?=", ")|(?<!", ")(?!", "))"}};
    odmoe_status st = ODMOE_OK;
    for (int i = 0; !st && i < 5; i++) {
        st = add(b, parts[negated][i], err);
        if (!st && i < 4)
            st = add_words(false, false, b, err);
    }
    return st;
}

/* Append the translation of \p{name}, \p{^name} or \P{name} at text[0] == '\' and set *used to its length. Characters
 * that are newer than this PCRE2 are named one by one; a negated property in a class can't leave them out. */
static odmoe_status translate_property(const char *text, size_t left, bool in_class, const char *where, text_buffer *b,
                                       size_t *used, odmoe_error *err)
{
    const char *end = memchr(text, '}', left);
    bool caret = left > 3 && text[3] == '^', negated = caret != (text[1] == 'P');
    const char *name = text + 3 + caret;
    unicode_property property;
    if (!end || end < name || !unicode_find(name, (size_t)(end - name), &property))
        return refuse(text, end ? (size_t)(end - text) + 1 : 2, where, err);
    *used = (size_t)(end - text) + 1;
    char class[sizeof property.name + 8];
    bool listed = *property.newer && !(negated && in_class);
    snprintf(class, sizeof class, "\\%c{%s}", negated && !listed ? 'P' : 'p', property.name);
    if (!listed)
        return add(b, class, err);
    odmoe_status st = in_class ? ODMOE_OK : add(b, negated ? "[^" : "[", err);
    if (!st)
        st = add(b, class, err);
    if (!st)
        st = add(b, property.newer, err);
    return st || in_class ? st : add(b, "]", err);
}

static bool is_hex(const char *text, size_t count)
{
    return strspn(text, "0123456789abcdefABCDEF") >= count;
}

/* Append the translation of the escape at text[0] == '\' and set *used to its length. */
static odmoe_status translate_escape(const char *text, size_t left, bool in_class, const char *where, text_buffer *b,
                                     size_t *used, odmoe_error *err)
{
    char kind = left > 1 ? text[1] : 0, next = left > 2 ? text[2] : 0;
    *used = left > 1 ? 2 : 1;
    if ((kind && strchr("hHGX", kind)) || (in_class && kind == 'W') || ((kind == 'p' || kind == 'P') && next != '{'))
        return refuse(text, 2, where, err);
    if (kind == 'u' && left >= 6 && is_hex(text + 2, 4)) {
        const char code[] = {'\\', 'x', '{', text[2], text[3], text[4], text[5], '}', 0};
        *used = 6;
        return add(b, code, err);
    }
    if (kind == 'w' || kind == 'W')
        return add_words(kind == 'W', in_class, b, err);
    if (!in_class && (kind == 'b' || kind == 'B'))
        return add_boundary(kind == 'B', b, err);
    if (kind == 'p' || kind == 'P')
        return translate_property(text, left, in_class, where, b, used, err);
    if (kind == 'S' && in_class)
        return add(b, NO_SPACES, err);
    if (kind == 's' || kind == 'S')
        return add_class(SPACES, kind == 'S', in_class, b, err);
    return text_append(b, text, *used, err);
}

/* Where the class that begins at text[0] == '[' has its first member. */
static size_t class_head(const char *text, size_t left)
{
    size_t n = 1;
    if (n < left && text[n] == '^')
        n++;
    if (n < left && text[n] == ']')
        n++; /* a literal bracket */
    return n;
}

/* At text[0] == '{': {n}, {n,} or {n,m} with a + behind it is possessive in PCRE2, a repeated repetition elsewhere;
 * {,m} is a repetition elsewhere and plain text in PCRE2. */
static odmoe_status check_count(const char *text, size_t left, const char *where, odmoe_error *err)
{
    size_t n = 1;
    while (n < left && ((text[n] >= '0' && text[n] <= '9') || text[n] == ','))
        n++;
    if (n == 1 || n == left || text[n] != '}')
        return ODMOE_OK;
    if (n > 2 && text[1] == ',')
        return refuse("\"{,\"", 4, where, err);
    return n + 1 < left && text[n + 1] == '+' ? refuse("\"}+\"", 4, where, err) : ODMOE_OK;
}

/* At text[0] == '(': Oniguruma has no verbs, and reads options other than i differently. (?i) that holds to the end of
 * the group covers other alternatives there, unless it stands first in the pattern. */
static odmoe_status check_group(const char *text, size_t left, bool first, const char *where, odmoe_error *err)
{
    size_t n = 2;
    if (left >= 2 && text[1] == '*')
        return refuse("\"(*\"", 4, where, err);
    if (left < 3 || text[1] != '?')
        return ODMOE_OK;
    while (n < left && ((text[n] >= 'a' && text[n] <= 'z') || text[n] == '-'))
        n++;
    bool options = n > 2 && n < left && (text[n] == ':' || text[n] == ')');
    size_t plain = 2;
    while (plain < n && (text[plain] == 'i' || text[plain] == '-'))
        plain++;
    return options && (plain < n || (text[n] == ')' && !first)) ? refuse(text, n + 1, where, err) : ODMOE_OK;
}

/* One member or bracket of an open class. */
static odmoe_status check_member(const char *text, size_t left, const char *where, odmoe_error *err)
{
    if (left > 1 && text[0] == '[' && text[1] == ':')
        return refuse("a class [:name:]", 16, where, err);
    if (text[0] == '[')
        return refuse("a class inside a class", 22, where, err);
    return left > 1 && text[0] == '&' && text[1] == '&' ? refuse("\"&&\" in a class", 15, where, err) : ODMOE_OK;
}

/* The length of the class that text[0] == '[' begins, classes in it included; 0 where it has no end. *and_at: the place
 * of the first "&&" that is the class's own, or 0. */
static size_t class_length(const char *text, size_t left, size_t *and_at)
{
    size_t depth = 1, at = class_head(text, left);
    *and_at = 0;
    for (; at < left && depth; at++) {
        if (text[at] == '\\')
            at++;
        else if (text[at] == '[')
            depth++;
        else if (text[at] == ']')
            depth--;
        else if (depth == 1 && !*and_at && text[at] == '&' && at + 1 < left && text[at + 1] == '&')
            *and_at = at;
    }
    return depth ? 0 : at;
}

static odmoe_status translate_plain(const char *text, size_t length, const char *where, text_buffer *b,
                                    odmoe_error *err)
{
    odmoe_status st = ODMOE_OK;
    bool in_class = false;
    for (size_t at = 0, used; !st && at < length; at += used) {
        const char *p = text + at;
        used = 1;
        if (*p == '\\') {
            st = translate_escape(p, length - at, in_class, where, b, &used, err);
            continue;
        }
        if (in_class) {
            st = check_member(p, length - at, where, err);
            in_class = *p != ']';
        } else if (*p == '[') {
            in_class = true;
            used = class_head(p, length - at);
        } else if (*p == '{') {
            st = check_count(p, length - at, where, err);
        } else if (*p == '(') {
            st = check_group(p, length - at, b->length == 0, where, err);
        }
        if (!st)
            st = text_append(b, p, used, err);
    }
    return st;
}

/* [members&&[others]]: a character of both, which PCRE2 says with a look ahead. The class has `length` bytes, its && is
 * at and_at; a negated one, and more than one &&, are refused. */
static odmoe_status translate_both(const char *text, size_t length, size_t and_at, const char *where, text_buffer *b,
                                   odmoe_error *err)
{
    const char *right = text + and_at + 2;
    size_t n = length - and_at - 3, nested = 0;
    bool class = n && right[0] == '[' && class_length(right, n, &nested) == n;
    if (text[1] == '^' || and_at == 1 || !class || nested)
        return refuse("\"&&\" in a class, but for [members&&[others]],", 45, where, err);
    odmoe_status st = add(b, "(?:(?=", err);
    if (!st)
        st = translate_plain(right, n, where, b, err);
    if (!st)
        st = add(b, ")", err);
    text_buffer left = {0}; /* with a bracket of its own */
    if (!st)
        st = text_append(&left, text, and_at, err);
    if (!st)
        st = add(&left, "]", err);
    if (!st)
        st = translate_plain(left.at, left.length, where, b, err);
    free(left.at);
    return st ? st : add(b, ")", err);
}

static odmoe_status translate(const char *text, size_t length, const char *where, text_buffer *b, odmoe_error *err)
{
    odmoe_status st = ODMOE_OK;
    /* Split by `\s+$`, which takes quadratic time on a long run of white space: the leftmost match begins where the run
     * does, so saying that changes nothing else. */
    if (length == 4 && !memcmp(text, "\\s+$", 4)) {
        st = add(b, "(?<!", err);
        size_t used;
        if (!st)
            st = translate_escape(text, 2, false, where, b, &used, err);
        if (!st)
            st = add(b, ")", err);
    }
    size_t done = 0, and_at;
    for (size_t at = 0; !st && at < length; at++) {
        if (text[at] == '\\') {
            at++;
            continue;
        }
        if (text[at] != '[')
            continue;
        size_t n = class_length(text + at, length - at, &and_at);
        if (!n)
            break; /* PCRE2 says so */
        if (and_at) {
            st = translate_plain(text + done, at - done, where, b, err);
            if (!st)
                st = translate_both(text + at, n, and_at, where, b, err);
            done = at + n;
        }
        at += n - 1;
    }
    return st ? st : translate_plain(text + done, length - done, where, b, err);
}

static odmoe_status compile(const text_buffer *b, bool literal, const char *where, pattern *p, odmoe_error *err)
{
    int code;
    PCRE2_SIZE at;
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context)
        return err_set(err, ODMOE_ERR_MEMORY, "no memory for a pattern");
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    pcre2_set_bsr(context, PCRE2_BSR_UNICODE);
    uint32_t options = PCRE2_UTF | PCRE2_USE_OFFSET_LIMIT |
                       (literal ? PCRE2_LITERAL : PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C);
    p->code = pcre2_compile((PCRE2_SPTR)b->at, b->length, options, &code, &at, context);
    pcre2_compile_context_free(context);
    if (!p->code && code == PCRE2_ERROR_HEAP_FAILED)
        return err_set(err, ODMOE_ERR_MEMORY, "no memory for a pattern");
    if (!p->code) {
        PCRE2_UCHAR text[160];
        pcre2_get_error_message(code, text, sizeof text);
        size_t to = at < b->length ? at : b->length, from = to > SHOWN_MAX / 2 ? to - SHOWN_MAX / 2 : 0;
        return err_set(err, ODMOE_ERR_FORMAT, "%s: the pattern is not valid behind \"%.*s\": %s", where,
                       (int)(to - from), b->at + from, (const char *)text);
    }
    pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE); /* refused (no JIT, hardened kernels): the interpreter does it */
    return ODMOE_OK;
}

odmoe_status pattern_compile(const char *text, size_t length, bool literal, const char *where, pattern **out,
                             odmoe_error *err)
{
    if (!length || length > PATTERN_MAX)
        return err_set(err, ODMOE_ERR_FORMAT, "%s: a pattern of %zu bytes; 1 to %d are possible", where, length,
                       PATTERN_MAX);
    text_buffer b = {0};
    pattern *p = mem_calloc(1, sizeof *p, "a pattern", err);
    odmoe_status st = p ? ODMOE_OK : ODMOE_ERR_MEMORY;
    if (!st)
        snprintf(p->shown, sizeof p->shown, "%.*s", (int)(length < SHOWN_MAX ? length : SHOWN_MAX), text);
    if (!st)
        st = literal ? text_append(&b, text, length, err) : translate(text, length, where, &b, err);
    if (!st)
        st = compile(&b, literal, where, p, err);
    free(b.at);
    if (st)
        pattern_free(p);
    else
        *out = p;
    return st;
}

void pattern_free(pattern *p)
{
    if (!p)
        return;
    pcre2_code_free(p->code);
    free(p);
}

size_t pattern_bytes(const pattern *p)
{
    size_t code = 0, jit = 0;
    pcre2_pattern_info(p->code, PCRE2_INFO_SIZE, &code);
    pcre2_pattern_info(p->code, PCRE2_INFO_JITSIZE, &jit);
    return sizeof *p + code + jit;
}

odmoe_status pattern_scratch_create(pattern_scratch **out, odmoe_error *err)
{
    pattern_scratch *s = mem_calloc(1, sizeof *s, "pattern matching", err);
    if (!s)
        return ODMOE_ERR_MEMORY;
    s->data = pcre2_match_data_create(1, NULL);
    s->context = pcre2_match_context_create(NULL);
    if (!s->data || !s->context) {
        pattern_scratch_free(s);
        return err_set(err, ODMOE_ERR_MEMORY, "no memory for pattern matching");
    }
    pcre2_set_heap_limit(s->context, HEAP_MAX_KIB);
    pattern_scratch_begin(s, 0);
    s->stack = pcre2_jit_stack_create(32 * 1024, JIT_STACK_MAX, NULL);
    if (s->stack)
        pcre2_jit_stack_assign(s->context, NULL, s->stack);
    *out = s;
    return ODMOE_OK;
}

void pattern_scratch_begin(pattern_scratch *s, size_t length)
{
    s->steps = STEPS_MAX + STEPS_PER_BYTE * (uint64_t)length;
}

void pattern_scratch_free(pattern_scratch *s)
{
    if (!s)
        return;
    pcre2_match_data_free(s->data);
    pcre2_match_context_free(s->context);
    pcre2_jit_stack_free(s->stack);
    free(s);
}

/* A match that begins in [at, last]. PCRE2 counts the steps for each place where it may begin anew. */
static int match(const pattern *p, pattern_scratch *s, const char *text, size_t length, size_t at, size_t last,
                 uint64_t steps)
{
    pcre2_set_match_limit(s->context, steps < UINT32_MAX ? (uint32_t)steps : UINT32_MAX);
    pcre2_set_offset_limit(s->context, last);
    uint32_t options = PCRE2_NO_UTF_CHECK;
    int rc = pcre2_match(p->code, (PCRE2_SPTR)text, length, at, options, s->data, s->context);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
        rc = pcre2_match(p->code, (PCRE2_SPTR)text, length, at, options | PCRE2_NO_JIT, s->data, s->context);
    return rc;
}

/* A match that begins at `at`, with as many of the steps that are left as it takes. PCRE2 doesn't say how many it took:
 * the limit grows from try to try, and all of it is counted. */
static int match_counted(const pattern *p, pattern_scratch *s, const char *text, size_t length, size_t at)
{
    int rc = PCRE2_ERROR_MATCHLIMIT;
    for (uint64_t steps = 4 * STEPS_FREE; rc == PCRE2_ERROR_MATCHLIMIT && s->steps; steps *= 4) {
        if (steps > s->steps)
            steps = s->steps;
        s->steps -= steps;
        rc = match(p, s, text, length, at, at, steps);
    }
    return rc;
}

/* As a match from `at` on, for a text in which some place takes more steps than are free: places are tried in windows
 * that shrink to the costly place, and only its steps are counted. */
static int match_in_windows(const pattern *p, pattern_scratch *s, const char *text, size_t length, size_t at)
{
    for (size_t width = 1; at <= length;) {
        size_t last = width - 1 < length - at ? at + width - 1 : length;
        int rc = match(p, s, text, length, at, last, STEPS_FREE);
        if (rc == PCRE2_ERROR_MATCHLIMIT && width > 1) {
            width /= 2;
            continue;
        }
        if (rc == PCRE2_ERROR_MATCHLIMIT)
            rc = match_counted(p, s, text, length, at);
        if (rc != PCRE2_ERROR_NOMATCH)
            return rc;
        for (at = last + 1; at < length && ((unsigned char)text[at] & 0xC0) == 0x80;)
            at++; /* to a character's first byte */
        width *= 2;
    }
    return PCRE2_ERROR_NOMATCH;
}

/* One search from `at`; *found. */
static odmoe_status search(const pattern *p, pattern_scratch *s, const char *text, size_t length, size_t at,
                           bool *found, odmoe_error *err)
{
    int rc = match(p, s, text, length, at, length, STEPS_FREE);
    if (rc == PCRE2_ERROR_MATCHLIMIT)
        rc = match_in_windows(p, s, text, length, at);
    *found = rc >= 0; /* 0: more groups than the one pair that we ask for */
    if (rc >= 0 || rc == PCRE2_ERROR_NOMATCH)
        return ODMOE_OK;
    if (rc == PCRE2_ERROR_NOMEMORY)
        return err_set(err, ODMOE_ERR_MEMORY, "no memory for pattern matching");
    PCRE2_UCHAR message[160];
    pcre2_get_error_message(rc, message, sizeof message);
    return err_set(err, ODMOE_ERR_FORMAT, "the tokenizer's pattern \"%s\" is too costly on this text: %s", p->shown,
                   (const char *)message);
}

odmoe_status pattern_next(const pattern *p, pattern_scratch *s, const char *text, size_t length, pattern_walk *walk,
                          odmoe_error *err)
{
    walk->found = false;
    while (walk->at <= length) {
        bool found;
        odmoe_status st = search(p, s, text, length, walk->at, &found, err);
        if (st || !found)
            return st;
        const PCRE2_SIZE *pair = pcre2_get_ovector_pointer(s->data);
        size_t start = pair[0], end = pair[1];
        if (end < start || start < walk->at) /* \K in a group that a lookaround calls can do both */
            return err_set(err, ODMOE_ERR_FORMAT, "the tokenizer's pattern \"%s\" matches backwards", p->shown);
        if (start == end && end == walk->last_end) {
            walk->at = end + (end < length ? (size_t)utf8_char(text + end, length - end) : 1);
            continue;
        }
        walk->start = start;
        walk->at = walk->last_end = walk->end = end;
        walk->found = true;
        return ODMOE_OK;
    }
    return ODMOE_OK;
}
