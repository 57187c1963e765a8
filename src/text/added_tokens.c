#include "text/added_tokens.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/mem.h"
#include "base/utf8.h"

odmoe_status added_add(added_set *set, const added_token *token, const char *text, size_t length, odmoe_error *err)
{
    if (!length)
        return ODMOE_OK;
    if (length > ADDED_TEXT_MAX)
        return err_set(err, ODMOE_ERR_FORMAT, "the added token %d has a text of %zu bytes; at most %u are possible",
                       token->id, length, ADDED_TEXT_MAX);
    odmoe_status st =
        mem_grow((void **)&set->tokens, &set->capacity, set->count + 1, sizeof *set->tokens, "added tokens", err);
    if (st)
        return st;
    added_token copy = *token;
    copy.text = mem_strdup(text, length, err);
    if (!copy.text)
        return ODMOE_ERR_MEMORY;
    copy.length = (uint32_t)length;
    set->tokens[set->count++] = copy;
    set->begins[(unsigned char)text[0]] = true;
    return ODMOE_OK;
}

/* By bytes, a prefix before what it begins. Equal texts by id, so that the order does not depend on qsort. */
static int by_text(const void *a, const void *b)
{
    const added_token *x = a, *y = b;
    int c = memcmp(x->text, y->text, x->length < y->length ? x->length : y->length);
    if (!c)
        c = x->length < y->length ? -1 : x->length > y->length;
    return c ? c : x->id < y->id ? -1 : x->id > y->id;
}

/* Is `token` never found because `kept`, with the same text, comes first? A search takes the first token of a text; one
 * outside of tokenizer_encode_parts passes over those that are only for parts. */
static bool is_hidden(const added_token *kept, const added_token *token)
{
    return kept->length == token->length && !memcmp(kept->text, token->text, kept->length) &&
           (!kept->only_in_parts || token->only_in_parts);
}

void added_seal(added_set *set)
{
    size_t n = 0;
    if (set->count)
        qsort(set->tokens, set->count, sizeof *set->tokens, by_text);
    for (size_t i = 0; i < set->count; i++) {
        if (n && is_hidden(&set->tokens[n - 1], &set->tokens[i]))
            free(set->tokens[i].text);
        else
            set->tokens[n++] = set->tokens[i];
    }
    set->count = n;
}

size_t added_bytes(const added_set *set)
{
    size_t bytes = set->capacity * sizeof *set->tokens;
    for (size_t i = 0; i < set->count; i++)
        bytes += set->tokens[i].length + 1;
    return bytes;
}

void added_free(added_set *set)
{
    for (size_t i = 0; i < set->count; i++)
        free(set->tokens[i].text);
    free(set->tokens);
    *set = (added_set){0};
}

/* The character that ends at text + at, or U+FFFD for bytes that are none; *length its bytes. at >= 1. */
static uint32_t char_before(const char *text, size_t at, size_t *length)
{
    for (size_t n = 1; n <= 4 && n <= at; n++)
        if (utf8_char(text + at - n, n) == (int)n) {
            *length = n;
            return utf8_decode(text + at - n, (int)n);
        }
    *length = 1;
    return 0xFFFD;
}

static uint32_t char_at(const char *text, size_t length, size_t at, size_t *bytes)
{
    int n = utf8_char(text + at, length - at);
    *bytes = n > 0 ? (size_t)n : 1;
    return n > 0 ? utf8_decode(text + at, n) : 0xFFFD;
}

/* \w: letters, marks, digits, connectors and the two joiners. */
static bool is_word_char(uint32_t c)
{
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default:
        return c == 0x200C || c == 0x200D;
    }
}

static bool touches_word(const char *text, size_t length, size_t start, size_t end)
{
    size_t n;
    return (start && is_word_char(char_before(text, start, &n))) ||
           (end < length && is_word_char(char_at(text, length, end, &n)));
}

/* The longest token that text[at, length) begins with, NULL when there is none. Walks the sorted list as a tree: [low,
 * high) are the tokens that agree with the text so far. */
static const added_token *longest_at(const added_set *set, const char *text, size_t length, size_t at, bool parts)
{
    size_t low = 0, high = set->count;
    const added_token *best = NULL;
    for (size_t depth = 0; low < high; depth++) {
        /* Tokens that end here come first in the range. */
        for (; low < high && set->tokens[low].length == depth; low++) {
            const added_token *t = &set->tokens[low];
            if ((!t->only_in_parts || parts) && (!best || best->length < depth))
                best = t;
        }
        if (at + depth >= length)
            break;
        unsigned char c = (unsigned char)text[at + depth];
        size_t from = low, to = high;
        while (from < to) { /* the first with a byte >= c */
            size_t middle = from + (to - from) / 2;
            if ((unsigned char)set->tokens[middle].text[depth] < c)
                from = middle + 1;
            else
                to = middle;
        }
        low = from;
        to = high;
        while (from < to) { /* the first with a byte > c */
            size_t middle = from + (to - from) / 2;
            if ((unsigned char)set->tokens[middle].text[depth] <= c)
                from = middle + 1;
            else
                to = middle;
        }
        high = from;
    }
    return best;
}

/* The end of the white space at text + at. A run of it that consists of tokens is gone through once, not for each. */
static size_t spaces_end(const char *text, size_t length, size_t at, added_walk *walk)
{
    size_t n;
    if (at >= walk->spaces_from && at < walk->spaces_to)
        return walk->spaces_to;
    walk->spaces_from = at;
    while (at < length && utf8_is_space(char_at(text, length, at, &n)))
        at += n;
    walk->spaces_to = at;
    return at;
}

bool added_next(const added_set *set, const char *text, size_t length, const added_range *ranges, size_t range_count,
                bool parts, added_walk *walk, added_match *out)
{
    if (!set->count)
        return false;
    for (size_t at = walk->at; at < length; at++) {
        if (!set->begins[(unsigned char)text[at]])
            continue;
        while (walk->range < range_count && ranges[walk->range].to <= at)
            walk->range++;
        const added_range *r = walk->range < range_count ? &ranges[walk->range] : NULL;
        size_t special_to = r && r->from <= at ? r->to : 0;
        const added_token *t = longest_at(set, text, length, at, parts);
        if (!t)
            continue;
        size_t start = at, end = at + t->length, n;
        if ((t->special && end > special_to) || (t->single_word && touches_word(text, length, start, end))) {
            if (!parts)
                at = end - 1; /* as the reference does: no shorter token instead, nothing inside it */
            continue;
        }
        walk->at = end;
        while (t->strip_left && start > walk->done && utf8_is_space(char_before(text, start, &n)))
            start -= n;
        if (t->strip_right)
            end = spaces_end(text, length, end, walk);
        walk->done = end;
        *out = (added_match){start, end, t->id};
        return true;
    }
    return false;
}
