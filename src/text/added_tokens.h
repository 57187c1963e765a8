/* added_tokens.h - tokens that are found in the text as they stand, before any merging: special and added ones. */
#ifndef ODMOE_TEXT_ADDED_TOKENS_H
#define ODMOE_TEXT_ADDED_TOKENS_H

#include "text/tokenizer.h"

/* Bytes of an added token's text; those of published models have less than a tenth. Longer ones would make looking for
 * them quadratic: at each place as much of one may agree. */
#define ADDED_TEXT_MAX 1024u

/* A set of texts to look for. */
typedef struct added_token {
    char *text; /* [length], owned */
    uint32_t length;
    int32_t id;
    bool special;       /* only where special tokens are asked for */
    bool strip_left;    /* takes the white space before it along */
    bool strip_right;   /* and behind it */
    bool single_word;   /* only where no letter or digit touches it */
    bool only_in_parts; /* of tokenizer_encode_parts: elsewhere found in the normalised text instead */
} added_token;

typedef struct added_set {
    added_token *tokens; /* sorted by text once sealed */
    size_t count, capacity;
    bool begins[256]; /* some token begins with this byte */
} added_set;

/* added_add - copy `token` and its text into the set; an empty text is left out. added_seal - sort; the set is ready.
 * Of two tokens with one text the lower id counts, the other is dropped. ERR_MEMORY,
 * ERR_FORMAT (longer than ADDED_TEXT_MAX). */
odmoe_status added_add(added_set *set, const added_token *token, const char *text, size_t length, odmoe_error *err);
void added_seal(added_set *set);
size_t added_bytes(const added_set *set);
void added_free(added_set *set);

/* Where special tokens are allowed: inside one of these stretches (ascending, apart). */
typedef struct added_range {
    size_t from, to;
} added_range;

/* What was found: text[start, end) becomes `id`, white space that the token takes along included. `start` may lie
 * before the end of the match before, whose white space holds the token, and the text that is left begins at `end` even
 * where the match before ended later: tokenizers (Hugging Face) does the same. */
typedef struct added_match {
    size_t start, end;
    int32_t id;
} added_match;

/* Where a search for added tokens stands; zero-initialise. */
typedef struct added_walk {
    size_t at;    /* the next token begins here or later: behind the text of the last one, without its white space */
    size_t done;  /* the end of the last match: a token takes no white space before it */
    size_t range; /* the first of the ranges that may still count */
    size_t spaces_from, spaces_to; /* white space that a token took along: the next one in it need not go through it */
} added_walk;

/* added_next - the next match in text[0, length), the longest one at its place; false when there is none. `parts`: the
 * ranges come from tokenizer_encode_parts. */
bool added_next(const added_set *set, const char *text, size_t length, const added_range *ranges, size_t range_count,
                bool parts, added_walk *walk, added_match *out);

#endif
