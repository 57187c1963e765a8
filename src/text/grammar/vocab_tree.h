/* vocab_tree.h - the vocabulary as prefix trees over the tokens' bytes, so that a mask needs one step a tree node and
 * leaves out whole subtrees. Immutable once built: any number of threads and grammars may use one.
 *
 * Tokens are in several trees, the slices. Those of plain characters alone (see automaton_plain) are sorted into slices
 * by their length in characters: where a grammar takes plain characters freely, as inside a JSON string, such a slice is
 * allowed or left out as a whole. All other tokens (with quotes, line ends, parts of characters) are in the last slice.
 *
 * Memory: 8 bytes a tree node, the texts, 4 bytes a token and 1 bit a token and slice. For the 151,936 tokens of Qwen2:
 * about 5 MB. */
#ifndef ODMOE_TEXT_GRAMMAR_VOCAB_TREE_H
#define ODMOE_TEXT_GRAMMAR_VOCAB_TREE_H

#include "text/tokenizer.h"

#define PLAIN_SLICES 8
#define VOCAB_SLICES (PLAIN_SLICES + 1)

/* Nodes stand in depth-first order: a node's children follow it, and node + skip is the first one behind its subtree.
 * Tokens with the same bytes are leaves side by side. */
typedef struct tree_node {
    uint32_t byte : 8, skip : 24;
    uint32_t token; /* id + 1, or 0: no token ends here */
} tree_node;

typedef struct vocab_slice {
    tree_node *nodes;
    size_t count, capacity;
    uint32_t *mask;       /* [words] its tokens; NULL for the last slice */
    uint32_t least, most; /* plain characters of its tokens */
} vocab_slice;

typedef struct vocab_tree {
    int32_t count;    /* tokens */
    size_t words;     /* 32-bit words of a mask */
    char *texts;      /* the tokens' bytes, one after the other; a token without text has none */
    uint32_t *starts; /* [count + 1] into texts */
    vocab_slice slices[VOCAB_SLICES];
    size_t longest;    /* bytes of the longest text */
    int32_t *ends;     /* [end_count] the tokens that end a text */
    int32_t *textless; /* [textless_count] tokens without text, or with bytes that no text has (0xFE, 0xFF) */
    size_t end_count, textless_count;
} vocab_tree;

/* vocab_tree_build - from texts: token i is texts[starts[i], starts[i + 1]); one that is empty or has a byte
 * above 0xFD can only be named by its id. All is copied. ERR_MEMORY; ERR_RANGE: more than 2^24 tokens or tree nodes. */
odmoe_status vocab_tree_build(const char *texts, const uint32_t *starts, int32_t count, const int32_t *ends,
                              size_t end_count, vocab_tree *out, odmoe_error *err);

/* vocab_tree_from_tokenizer - special tokens have no text here. Borrows nothing. */
odmoe_status vocab_tree_from_tokenizer(const tokenizer *t, vocab_tree *out, odmoe_error *err);

void vocab_tree_free(vocab_tree *v); /* what it holds */
size_t vocab_tree_bytes(const vocab_tree *v);

#endif
