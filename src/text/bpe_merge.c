#include "text/bpe_merge.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"

#define NONE UINT32_MAX

/* The piece is a chain of symbols, in place in one array: merging makes the left one longer and empties the right one.
 */
struct merge_symbol {
    uint32_t start, length; /* bytes; length 0: merged into a neighbour */
    uint32_t prev, next;    /* NONE at the ends */
    int32_t id;             /* -1: no token (yet) */
};

/* A pair that could be merged. Stale once one of the two has changed, which the joined length shows: symbols only grow.
 */
struct merge_candidate {
    uint64_t order; /* rank or falling score in the upper half, the left symbol in the lower: the smallest goes first */
    uint32_t right, length;
    int32_t id;
};

odmoe_status token_list_add(token_list *list, int32_t id, odmoe_error *err)
{
    odmoe_status st =
        mem_grow((void **)&list->ids, &list->capacity, list->count + 1, sizeof *list->ids, "token ids", err);
    if (!st)
        list->ids[list->count++] = id;
    return st;
}

void merge_scratch_free(merge_scratch *s)
{
    free(s->symbols);
    free(s->heap);
    *s = (merge_scratch){0};
}

/* A score as a number that is smaller the higher the score. */
static uint32_t falling(float score)
{
    uint32_t bits;
    score += 0.0f; /* -0 and 0 are the same score */
    memcpy(&bits, &score, 4);
    return bits & 0x80000000u ? bits : ~bits & 0x7FFFFFFFu;
}

static odmoe_status heap_push(merge_scratch *s, struct merge_candidate c, odmoe_error *err)
{
    odmoe_status st =
        mem_grow((void **)&s->heap, &s->heap_capacity, s->heap_count + 1, sizeof *s->heap, "merge candidates", err);
    if (st)
        return st;
    size_t at = s->heap_count++;
    for (; at && s->heap[(at - 1) / 2].order > c.order; at = (at - 1) / 2)
        s->heap[at] = s->heap[(at - 1) / 2];
    s->heap[at] = c;
    return ODMOE_OK;
}

static struct merge_candidate heap_pop(merge_scratch *s)
{
    struct merge_candidate top = s->heap[0], last = s->heap[--s->heap_count];
    size_t at = 0, child;
    for (; (child = 2 * at + 1) < s->heap_count; at = child) {
        if (child + 1 < s->heap_count && s->heap[child + 1].order < s->heap[child].order)
            child++;
        if (s->heap[child].order >= last.order)
            break;
        s->heap[at] = s->heap[child];
    }
    if (s->heap_count)
        s->heap[at] = last;
    return top;
}

/* Push the pair (left, its next) if it can be merged. */
static odmoe_status consider(const merge_model *m, merge_scratch *s, const char *text, uint32_t left, odmoe_error *err)
{
    if (left == NONE || s->symbols[left].next == NONE)
        return ODMOE_OK;
    const struct merge_symbol *a = &s->symbols[left], *b = &s->symbols[a->next];
    uint32_t priority;
    int32_t id;
    if (m->scored || m->by_id) {
        id = vocab_word(&m->vocab, text + a->start, a->length + b->length);
        if (id < 0)
            return ODMOE_OK;
        priority = m->by_id ? (uint32_t)id : falling(m->vocab.scores[id]);
    } else {
        if (a->id < 0 || b->id < 0)
            return ODMOE_OK;
        int64_t rank = vocab_merge(&m->vocab, (uint32_t)a->id, (uint32_t)b->id);
        if (rank < 0)
            return ODMOE_OK;
        priority = (uint32_t)rank;
        id = (int32_t)m->vocab.merges[rank].result;
    }
    return heap_push(s, (struct merge_candidate){(uint64_t)priority << 32 | left, a->next, a->length + b->length, id},
                     err);
}

/* The next symbol of a piece at text[0, left): bytes long, and its token or -1. */
static int next_symbol(const merge_model *m, const char *text, size_t left, int32_t *id)
{
    int bytes = m->byte_symbols ? 1 : utf8_char(text, left);
    if (bytes < 1)
        bytes = 1; /* a byte that is no character */
    *id = m->byte_symbols ? m->bytes[(unsigned char)*text] : vocab_word(&m->vocab, text, (size_t)bytes);
    return bytes;
}

static bool has_bytes(const merge_model *m, const char *text, size_t length)
{
    bool all = m->byte_fallback;
    for (size_t i = 0; all && i < length; i++)
        all = m->bytes[(unsigned char)text[i]] >= 0;
    return all;
}

/* Cut the piece into its first symbols. With ranked pairs an unknown character is settled at once: it falls to its
 * bytes, which rules may join, or is left out, so that its neighbours meet, or stays in the way as an unknown token.
 * Returns how many. */
static size_t first_symbols(const merge_model *m, struct merge_symbol *symbols, const char *text, size_t length)
{
    size_t n = 0;
    for (size_t at = 0; at < length;) {
        int32_t id;
        int bytes = next_symbol(m, text + at, length - at, &id);
        bool unknown = id < 0 && !m->scored, split = unknown && has_bytes(m, text + at, (size_t)bytes);
        int count = split ? bytes : unknown && m->unknown < 0 ? 0 : 1;
        for (int i = 0; i < count; i++, n++)
            symbols[n] = (struct merge_symbol){.start = (uint32_t)at + (uint32_t)i,
                                               .length = split ? 1 : (uint32_t)bytes,
                                               .prev = n ? (uint32_t)n - 1 : NONE,
                                               .next = (uint32_t)n + 1,
                                               .id = split ? m->bytes[(unsigned char)text[at + (size_t)i]] : id};
        at += (size_t)bytes;
    }
    if (n)
        symbols[n - 1].next = NONE;
    return n;
}

static odmoe_status merge_all(const merge_model *m, merge_scratch *s, const char *text, size_t count, odmoe_error *err)
{
    odmoe_status st = ODMOE_OK;
    s->heap_count = 0;
    for (size_t i = 0; !st && i + 1 < count; i++)
        st = consider(m, s, text, (uint32_t)i, err);
    while (!st && s->heap_count) {
        struct merge_candidate c = heap_pop(s);
        uint32_t left = (uint32_t)c.order;
        struct merge_symbol *a = &s->symbols[left], *b = &s->symbols[c.right];
        if (!a->length || !b->length || a->length + b->length != c.length)
            continue;
        a->length = c.length;
        a->id = c.id;
        a->next = b->next;
        b->length = 0;
        if (a->next != NONE)
            s->symbols[a->next].prev = left;
        st = consider(m, s, text, a->prev, err);
        if (!st)
            st = consider(m, s, text, left, err);
    }
    return st;
}

/* A symbol that is no token: its bytes where the vocabulary has them all, else the unknown token. */
static odmoe_status add_unknown(const merge_model *m, const char *text, size_t length, bool fuse, token_list *out,
                                odmoe_error *err)
{
    odmoe_status st = ODMOE_OK;
    if (has_bytes(m, text, length))
        for (size_t i = 0; !st && i < length; i++)
            st = token_list_add(out, m->bytes[(unsigned char)text[i]], err);
    else if (m->unknown >= 0 && !fuse)
        st = token_list_add(out, m->unknown, err);
    return st;
}

odmoe_status merge_piece(const merge_model *m, merge_scratch *s, const char *text, size_t length, token_list *out,
                         odmoe_error *err)
{
    if (!length)
        return ODMOE_OK;
    if (m->whole_words) {
        int32_t id = vocab_word(&m->vocab, text, length);
        if (id >= 0)
            return token_list_add(out, id, err);
    }
    odmoe_status st =
        mem_grow((void **)&s->symbols, &s->symbols_capacity, length, sizeof *s->symbols, "the pieces of a word", err);
    if (st)
        return st;
    size_t count = first_symbols(m, s->symbols, text, length);
    st = merge_all(m, s, text, count, err);
    bool after_unknown = false;
    for (uint32_t i = count ? 0 : NONE; !st && i != NONE; i = s->symbols[i].next) {
        const struct merge_symbol *symbol = &s->symbols[i];
        if (symbol->id >= 0)
            st = token_list_add(out, symbol->id, err);
        else
            st = add_unknown(m, text + symbol->start, symbol->length, after_unknown && m->fuse_unknown, out, err);
        after_unknown = symbol->id < 0;
    }
    return st;
}
