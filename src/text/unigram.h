/* unigram.h - one piece of text into the tokens whose scores add up to the most (SentencePiece's Unigram). */
#ifndef ODMOE_TEXT_UNIGRAM_H
#define ODMOE_TEXT_UNIGRAM_H

#include "text/tokenizer.h"
#include "text/vocab.h"

/* Bytes of a token's text. At each place of a text as many may agree: longer ones would make the search quadratic. */
#define UNIGRAM_TEXT_MAX 1024u

typedef struct unigram_model {
    double *scores; /* [vocab.count], logarithms of probabilities */
    double unknown_score;
    uint32_t *sorted; /* [sorted_count] the words and names by their bytes */
    size_t sorted_count;
} unigram_model;

/* unigram_seal - the vocabulary is sealed and m->scores filled: compute the rest. ERR_MEMORY, ERR_FORMAT (a token
 * longer than UNIGRAM_TEXT_MAX). unigram_free - what it holds. */
odmoe_status unigram_seal(unigram_model *m, const vocab *v, const char *where, odmoe_error *err);
size_t unigram_bytes(const unigram_model *m, const vocab *v);
void unigram_free(unigram_model *m);

/* What stands for characters without a token. */
typedef struct unigram_unknown {
    const int32_t *bytes; /* [256] the token of each byte or -1; NULL: bytes have none */
    int32_t id;           /* else this one for a run of them, or -1: the run is left out */
} unigram_unknown;

/* Working memory of one thread, kept between pieces; zero-initialise. */
typedef struct unigram_scratch {
    struct unigram_node *nodes;
    size_t capacity;
} unigram_scratch;

/* unigram_piece - append the tokens of text[0, length). O(length * longest token * log tokens). ERR_MEMORY. */
odmoe_status unigram_piece(const unigram_model *m, const vocab *v, const unigram_unknown *unknown, unigram_scratch *s,
                           const char *text, size_t length, token_list *out, odmoe_error *err);
void unigram_scratch_free(unigram_scratch *s);

#endif
