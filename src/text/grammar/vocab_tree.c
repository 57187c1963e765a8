#include "text/grammar/vocab_tree.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "text/grammar/program.h"

#define NODES_MAX (1u << 24)
#define LAST_SLICE PLAIN_SLICES

/* The most plain characters of a slice's tokens; longer tokens are in the last slice. */
static const uint32_t slice_most[PLAIN_SLICES] = {1, 2, 3, 4, 6, 8, 12, 24};

/* ---- sorting tokens ------------------------------------------------------------------------------------------------ */

static bool is_plain(uint32_t c)
{
    return c >= 0x20 && c != '"' && c != '\\' && c != 0x7F;
}

static bool is_text(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)text[i] > TEXT_BYTE_MAX)
            return false;
    return length > 0;
}

/* The slice of a text that is not empty. */
static int slice_of(const char *text, size_t length)
{
    uint32_t characters = 0;
    for (size_t at = 0; at < length; characters++) {
        int n = utf8_char(text + at, length - at);
        if (n <= 0 || !is_plain(utf8_decode(text + at, n)))
            return LAST_SLICE;
        at += (size_t)n;
    }
    int s = 0;
    while (s < PLAIN_SLICES && characters > slice_most[s])
        s++;
    return s;
}

typedef struct sorted_token {
    const char *text;
    uint32_t length;
    int32_t id;
    int slice;
} sorted_token;

/* By slice, then by bytes; of equal texts the lower id first. */
static int by_text(const void *a, const void *b)
{
    const sorted_token *x = a, *y = b;
    if (x->slice != y->slice)
        return x->slice - y->slice;
    int order = memcmp(x->text, y->text, x->length < y->length ? x->length : y->length);
    if (order)
        return order;
    if (x->length != y->length)
        return x->length < y->length ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* ---- building ------------------------------------------------------------------------------------------------------- */

static odmoe_status add_node(vocab_slice *s, uint8_t byte, odmoe_error *err)
{
    if (s->count == NODES_MAX - 1)
        return err_set(err, ODMOE_ERR_RANGE, "the vocabulary's texts are too long for a prefix tree");
    odmoe_status st =
        mem_grow((void **)&s->nodes, &s->capacity, s->count + 1, sizeof *s->nodes, "a vocabulary's tree", err);
    if (!st)
        s->nodes[s->count++] = (tree_node){.byte = byte};
    return st;
}

/* Tokens tokens[0, n) of one slice, sorted. path [longest]: the nodes of the text before. */
static odmoe_status build_slice(vocab_slice *s, const sorted_token *tokens, size_t n, uint32_t *path, odmoe_error *err)
{
    size_t depth = 0;
    odmoe_status st = ODMOE_OK;
    for (size_t i = 0; i < n && !st; i++) {
        const sorted_token *t = &tokens[i];
        size_t common = 0;
        while (common < depth && common < t->length && s->nodes[path[common]].byte == (unsigned char)t->text[common])
            common++;
        if (common == t->length)
            common--; /* the same text again: a leaf beside the other one */
        for (; depth > common; depth--)
            s->nodes[path[depth - 1]].skip = (uint32_t)(s->count - path[depth - 1]) & 0xFFFFFF;
        for (; depth < t->length && !st; depth++) {
            path[depth] = (uint32_t)s->count;
            st = add_node(s, (uint8_t)t->text[depth], err);
        }
        if (!st)
            s->nodes[s->count - 1].token = (uint32_t)t->id + 1;
    }
    for (; depth > 0 && !st; depth--)
        s->nodes[path[depth - 1]].skip = (uint32_t)(s->count - path[depth - 1]) & 0xFFFFFF;
    return st;
}

static odmoe_status shrink(vocab_slice *s, odmoe_error *err)
{
    tree_node *nodes = realloc(s->nodes, (s->count ? s->count : 1) * sizeof *nodes);
    if (!nodes)
        return err_set(err, ODMOE_ERR_MEMORY, "no memory for a vocabulary's tree");
    s->nodes = nodes;
    s->capacity = s->count ? s->count : 1;
    return ODMOE_OK;
}

static odmoe_status build_slices(vocab_tree *v, const sorted_token *tokens, size_t n, odmoe_error *err)
{
    uint32_t *path = mem_calloc(v->longest, sizeof *path, "a vocabulary's tree", err);
    odmoe_status st = path ? ODMOE_OK : ODMOE_ERR_MEMORY;
    for (size_t i = 0, at = 0; i < VOCAB_SLICES && !st; i++) {
        vocab_slice *s = &v->slices[i];
        size_t end = at;
        while (end < n && tokens[end].slice == (int)i)
            end++;
        s->least = i > 0 && i < LAST_SLICE ? slice_most[i - 1] + 1 : 1;
        s->most = i < LAST_SLICE ? slice_most[i] : 0;
        st = build_slice(s, tokens + at, end - at, path, err);
        if (!st)
            st = shrink(s, err);
        if (!st && i < LAST_SLICE) {
            s->mask = mem_calloc(v->words, sizeof *s->mask, "a vocabulary's tree", err);
            st = s->mask ? ODMOE_OK : ODMOE_ERR_MEMORY;
        }
        for (size_t k = at; k < end && !st && s->mask; k++)
            s->mask[tokens[k].id / 32] |= 1u << tokens[k].id % 32;
        at = end;
    }
    free(path);
    return st;
}

static odmoe_status copy_texts(vocab_tree *v, const char *texts, const uint32_t *starts, const int32_t *ends,
                               odmoe_error *err)
{
    size_t count = (size_t)v->count;
    v->texts = mem_strdup(texts, starts[count], err);
    v->starts = mem_calloc(count + 1, sizeof *v->starts, "a vocabulary's tree", err);
    v->ends = mem_calloc(v->end_count, sizeof *v->ends, "a vocabulary's tree", err);
    size_t textless = 0;
    for (size_t i = 0; i < count; i++)
        textless += !is_text(texts + starts[i], starts[i + 1] - starts[i]);
    v->textless = mem_calloc(textless, sizeof *v->textless, "a vocabulary's tree", err);
    if (!v->texts || !v->starts || !v->ends || !v->textless)
        return ODMOE_ERR_MEMORY;
    memcpy(v->starts, starts, (count + 1) * sizeof *starts);
    if (v->end_count)
        memcpy(v->ends, ends, v->end_count * sizeof *ends);
    for (size_t i = 0; i < count; i++)
        if (starts[i + 1] - starts[i] > v->longest)
            v->longest = starts[i + 1] - starts[i];
    return ODMOE_OK;
}

odmoe_status vocab_tree_build(const char *texts, const uint32_t *starts, int32_t count, const int32_t *ends,
                              size_t end_count, vocab_tree *out, odmoe_error *err)
{
    *out = (vocab_tree){.count = count, .words = ((size_t)count + 31) / 32, .end_count = end_count};
    if (count < 1 || count > 1 << 24)
        return err_set(err, ODMOE_ERR_RANGE, "a vocabulary of %d tokens; 1 to 2^24 are possible", count);
    odmoe_status st = copy_texts(out, texts, starts, ends, err);
    sorted_token *tokens = st ? NULL : mem_calloc((size_t)count, sizeof *tokens, "a vocabulary's tree", err);
    if (!st && !tokens)
        st = ODMOE_ERR_MEMORY;
    size_t n = 0;
    for (int32_t i = 0; i < count && !st; i++) {
        sorted_token t = {.text = out->texts + starts[i], .length = starts[i + 1] - starts[i], .id = i};
        if (!is_text(t.text, t.length)) {
            out->textless[out->textless_count++] = i;
            continue;
        }
        t.slice = slice_of(t.text, t.length);
        tokens[n++] = t;
    }
    if (!st) {
        qsort(tokens, n, sizeof *tokens, by_text);
        st = build_slices(out, tokens, n, err);
    }
    free(tokens);
    if (st)
        vocab_tree_free(out);
    return st;
}

/* All tokens' texts one after the other; special tokens have none. */
static odmoe_status collect_texts(const tokenizer *t, char **texts, uint32_t *starts, odmoe_error *err)
{
    size_t used = 0, capacity = 0;
    for (int32_t i = 0; i < tokenizer_size(t); i++) {
        size_t length = tokenizer_is_special(t, i) ? 0 : tokenizer_piece(t, i, NULL, 0);
        if (used + length > UINT32_MAX)
            return err_set(err, ODMOE_ERR_RANGE, "the vocabulary's texts are longer than 4 GiB");
        odmoe_status st = mem_grow((void **)texts, &capacity, used + length, 1, "a vocabulary's texts", err);
        if (st)
            return st;
        starts[i] = (uint32_t)used;
        if (length)
            tokenizer_piece(t, i, *texts + used, length);
        used += length;
    }
    starts[tokenizer_size(t)] = (uint32_t)used;
    return ODMOE_OK;
}

odmoe_status vocab_tree_from_tokenizer(const tokenizer *t, vocab_tree *out, odmoe_error *err)
{
    char *texts = NULL;
    const int32_t *ends;
    size_t end_count = tokenizer_ends(t, &ends);
    uint32_t *starts = mem_calloc((size_t)tokenizer_size(t) + 1, sizeof *starts, "a vocabulary's texts", err);
    odmoe_status st = starts ? collect_texts(t, &texts, starts, err) : ODMOE_ERR_MEMORY;
    if (!st)
        st = vocab_tree_build(texts ? texts : "", starts, tokenizer_size(t), ends, end_count, out, err);
    free(texts);
    free(starts);
    return st;
}

void vocab_tree_free(vocab_tree *v)
{
    for (int i = 0; i < VOCAB_SLICES; i++) {
        free(v->slices[i].nodes);
        free(v->slices[i].mask);
    }
    free(v->texts);
    free(v->starts);
    free(v->ends);
    free(v->textless);
    *v = (vocab_tree){0};
}

size_t vocab_tree_bytes(const vocab_tree *v)
{
    size_t bytes = ((size_t)v->count + 1) * sizeof *v->starts + v->starts[v->count] +
                   (v->end_count + v->textless_count) * sizeof *v->ends;
    for (int i = 0; i < VOCAB_SLICES; i++)
        bytes += v->slices[i].capacity * sizeof(tree_node) + (v->slices[i].mask ? v->words * sizeof(uint32_t) : 0);
    return bytes;
}
