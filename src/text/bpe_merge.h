/* bpe_merge.h - one piece of text into tokens by merging neighbours: ranked pairs (BPE) or scored texts
 * (SentencePiece). */
#ifndef ODMOE_TEXT_BPE_MERGE_H
#define ODMOE_TEXT_BPE_MERGE_H

#include "text/tokenizer.h"
#include "text/vocab.h"

/* How a model merges. */
typedef struct merge_model {
    vocab vocab;
    bool scored;        /* take the neighbours whose joined text is the token of the highest score; else the pair of the
                         * lowest rank. Ties go to the left. */
    bool by_id;         /* take the neighbours whose joined text is the token of the lowest id, as tiktoken does */
    bool byte_symbols;  /* symbols are bytes (byte-level BPE), else characters */
    bool byte_fallback; /* a character that is no token becomes the tokens of its bytes */
    bool whole_words;   /* a piece that is a token as a whole is taken without merging */
    bool fuse_unknown;  /* neighbouring unknown characters become one unknown token */
    int32_t unknown;    /* stands for what has no token, or -1: that is left out */
    int32_t bytes[256]; /* the token of each single byte, or -1 */
} merge_model;

/* Working memory of one thread, kept between pieces; zero-initialise. */
typedef struct merge_scratch {
    struct merge_symbol *symbols;
    size_t symbols_capacity;
    struct merge_candidate *heap;
    size_t heap_capacity, heap_count;
} merge_scratch;

/* merge_piece - append the tokens of text[0, length) (length < 2^31). O(length log length). ERR_MEMORY. */
odmoe_status merge_piece(const merge_model *m, merge_scratch *s, const char *text, size_t length, token_list *out,
                         odmoe_error *err);
void merge_scratch_free(merge_scratch *s);

/* token_list_add - append one id. ERR_MEMORY. */
odmoe_status token_list_add(token_list *list, int32_t id, odmoe_error *err);

#endif
