#include "text/unigram.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "text/bpe_merge.h"

#define UNKNOWN_PENALTY 10.0 /* an unknown character scores so much less than the worst token */

/* The best way to the text's front that ends here: its score, and where its last token begins. */
struct unigram_node {
    double score;
    uint32_t start; /* NONE: no way ends here */
    int32_t id;     /* -1: a character without a token */
};

#define NONE UINT32_MAX

/* Texts by bytes, a prefix before what it begins; qsort_r's context is the vocabulary. */
static int by_text(const void *a, const void *b, void *context)
{
    const vocab *v = context;
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    size_t n, m;
    const char *s = vocab_text(v, x, &n), *t = vocab_text(v, y, &m);
    int c = memcmp(s, t, n < m ? n : m);
    if (!c)
        c = n < m ? -1 : n > m;
    return c ? c : x < y ? -1 : x > y;
}

odmoe_status unigram_seal(unigram_model *m, const vocab *v, const char *where, odmoe_error *err)
{
    m->sorted = mem_calloc(v->count, sizeof *m->sorted, "tokens by text", err);
    if (!m->sorted)
        return ODMOE_ERR_MEMORY;
    double least = v->count ? m->scores[0] : 0;
    for (uint32_t id = 0; id < v->count; id++) {
        size_t length;
        vocab_text(v, id, &length);
        least = m->scores[id] < least ? m->scores[id] : least;
        if (!length || (v->kinds[id] != TOKEN_WORD && v->kinds[id] != TOKEN_NAME))
            continue;
        if (length > UNIGRAM_TEXT_MAX)
            return err_set(err, ODMOE_ERR_FORMAT, "%s: token %u has a text of %zu bytes; at most %u are possible",
                           where, id, length, UNIGRAM_TEXT_MAX);
        m->sorted[m->sorted_count++] = id;
    }
    m->unknown_score = least - UNKNOWN_PENALTY;
    qsort_r(m->sorted, m->sorted_count, sizeof *m->sorted, by_text, (void *)v);
    return ODMOE_OK;
}

size_t unigram_bytes(const unigram_model *m, const vocab *v)
{
    return m->scores ? v->count * (sizeof *m->scores + sizeof *m->sorted) : 0;
}

void unigram_free(unigram_model *m)
{
    free(m->scores);
    free(m->sorted);
    *m = (unigram_model){0};
}

void unigram_scratch_free(unigram_scratch *s)
{
    free(s->nodes);
    *s = (unigram_scratch){0};
}

/* The tokens that a text begins with, shortest first: a walk over the sorted list as a tree. [low, high) agree with the
 * text's first `depth` bytes. */
typedef struct prefixes {
    const unigram_model *m;
    const vocab *v;
    size_t low, high, depth;
} prefixes;

/* The first of [low, high) whose byte at `depth` is at least `byte`. */
static size_t lower_bound(const prefixes *p, size_t low, unsigned byte)
{
    size_t high = p->high;
    while (low < high) {
        size_t middle = low + (high - low) / 2, n;
        const char *text = vocab_text(p->v, p->m->sorted[middle], &n);
        if ((unsigned char)text[p->depth] < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The next longer token, its length p->depth; -1 when there is none. */
static int32_t next_prefix(prefixes *p, const char *text, size_t length)
{
    while (p->low < p->high && p->depth < length) {
        unsigned byte = (unsigned char)text[p->depth];
        int32_t found = -1;
        p->low = lower_bound(p, p->low, byte);
        p->high = lower_bound(p, p->low, byte + 1);
        p->depth++;
        for (size_t n; p->low < p->high; p->low++) { /* of equal texts the last one counts, as in tokenizers */
            vocab_text(p->v, p->m->sorted[p->low], &n);
            if (n != p->depth)
                break;
            found = (int32_t)p->m->sorted[p->low];
        }
        if (found >= 0)
            return found;
    }
    return -1;
}

/* A way of this score ends at `to`, with the token `id` from `from` on. */
static void improve(struct unigram_node *nodes, size_t from, size_t to, double score, int32_t id)
{
    if (nodes[to].start == NONE || score > nodes[to].score)
        nodes[to] = (struct unigram_node){score, (uint32_t)from, id};
}

static void find_best(const unigram_model *m, const vocab *v, struct unigram_node *nodes, const char *text,
                      size_t length)
{
    for (size_t i = 0; i <= length; i++)
        nodes[i] = (struct unigram_node){0, NONE, -1};
    for (size_t at = 0; at < length;) {
        int bytes = utf8_char(text + at, length - at);
        size_t character = bytes > 0 ? (size_t)bytes : 1;
        bool known = false;
        prefixes p = {m, v, 0, m->sorted_count, 0};
        for (int32_t id; (id = next_prefix(&p, text + at, length - at)) >= 0;) {
            improve(nodes, at, at + p.depth, nodes[at].score + m->scores[id], id);
            known |= p.depth == character;
        }
        if (!known)
            improve(nodes, at, at + character, nodes[at].score + m->unknown_score, -1);
        at += character;
    }
}

/* The tokens of a run of characters without one. */
static odmoe_status add_unknown(const unigram_unknown *unknown, const char *text, size_t length, token_list *out,
                                odmoe_error *err)
{
    odmoe_status st = ODMOE_OK;
    bool bytes = unknown->bytes != NULL;
    for (size_t i = 0; bytes && i < length; i++)
        bytes = unknown->bytes[(unsigned char)text[i]] >= 0;
    if (!bytes)
        return unknown->id >= 0 ? token_list_add(out, unknown->id, err) : ODMOE_OK;
    for (size_t i = 0; !st && i < length; i++)
        st = token_list_add(out, unknown->bytes[(unsigned char)text[i]], err);
    return st;
}

odmoe_status unigram_piece(const unigram_model *m, const vocab *v, const unigram_unknown *unknown, unigram_scratch *s,
                           const char *text, size_t length, token_list *out, odmoe_error *err)
{
    odmoe_status st =
        mem_grow((void **)&s->nodes, &s->capacity, length + 1, sizeof *s->nodes, "the ways through a word", err);
    if (st)
        return st;
    find_best(m, v, s->nodes, text, length);
    /* Turn the chain of starts round: each node of the way then says where its token ends. */
    uint32_t next = NONE;
    for (uint32_t at = (uint32_t)length; at != NONE;) {
        uint32_t start = at ? s->nodes[at].start : NONE;
        s->nodes[at].start = next; /* the end of the token that begins here */
        next = at;
        at = start;
    }
    for (uint32_t at = 0; !st && at < length;) {
        uint32_t end = s->nodes[at].start;
        int32_t id = s->nodes[end].id;
        while (id < 0 && end < length && s->nodes[s->nodes[end].start].id < 0)
            end = s->nodes[end].start;
        st = id >= 0 ? token_list_add(out, id, err) : add_unknown(unknown, text + at, end - at, out, err);
        at = end;
    }
    return st;
}
