/* vocab.h - the token table: texts in one arena, found by text; merges, found by pair. Compact, immutable once sealed.
 *
 * Merging makes words and names, never special tokens: whatever a file's rules say, plain text can't become one. */
#ifndef ODMOE_TEXT_VOCAB_H
#define ODMOE_TEXT_VOCAB_H

#include <stdbool.h>

#include "base/status.h"

#define VOCAB_TOKENS_MAX (1u << 24)
#define VOCAB_TEXT_MAX 65535u

typedef enum token_kind {
    TOKEN_MISSING, /* an id that the file leaves out: no text */
    TOKEN_WORD,    /* merging may make it */
    TOKEN_BYTE,    /* <0xNN>: stands for one byte, never made by merging */
    TOKEN_NAME,    /* added to the vocabulary: matched in the text before merging, which may make it as well */
    TOKEN_ADDED,   /* the same, but merging can't make it */
    TOKEN_SPECIAL  /* matched only where special tokens are asked for, never made by merging */
} token_kind;

typedef struct merge_rule {
    uint32_t left, right, result; /* token ids; the rule's rank is its index */
} merge_rule;

typedef struct vocab {
    char *texts; /* all texts, one after the other */
    size_t texts_used, texts_capacity;
    uint32_t *starts; /* [count + 1] into texts */
    size_t starts_capacity;
    uint8_t *kinds; /* [count] token_kind */
    size_t kinds_capacity;
    float *scores; /* [count] or NULL */
    uint32_t count;
    uint64_t hash_key[2]; /* random */
    uint32_t longest;     /* bytes of the longest text in the index */
    uint32_t *word_slots; /* open addressing; id + 1, 0 is empty */
    uint32_t word_mask;
    char *joined; /* the text that a rule makes; until the merges are sealed */
    size_t joined_capacity;
    merge_rule *merges;
    size_t merges_count, merges_capacity;
    uint32_t *merge_slots; /* rank + 1 */
    uint32_t merge_mask;
} vocab;

/* vocab_add - append the next token. byte_level: the text of a word or name is written in GPT-2's visible alphabet, one
 * character a byte, and is stored as these bytes (a text with other characters in it is stored as it is, as
 * TOKEN_ADDED: merging can't make it). TOKEN_BYTE's text must be <0xNN>, the byte alone is stored. `where` names file
 * and field in messages. ERR_FORMAT, ERR_MEMORY. */
odmoe_status vocab_add(vocab *v, const char *text, size_t length, token_kind kind, bool byte_level, const char *where,
                       odmoe_error *err);

/* vocab_is_byte_sign - is the text one character of GPT-2's visible alphabet? Such a token of a byte-level vocabulary
 * is a byte, which texts need, whatever else a file says of it. vocab_spells_text - is it one in that alphabet whose
 * bytes are valid UTF-8? vocab_byte_token - the byte of a text "<0xNN>", else -1: the same for vocabularies of
 * pieces. */
bool vocab_is_byte_sign(const char *text, size_t length);
bool vocab_spells_text(const char *text, size_t length);
int vocab_byte_token(const char *text, size_t length);

/* vocab_seal - all tokens are there: build the index by text and shrink. Of several tokens with one text a word or name
 * counts before a special token, then the lower id. */
odmoe_status vocab_seal(vocab *v, odmoe_error *err);

/* vocab_add_merge - append a rule; left and right are texts in the alphabet of vocab_add. After vocab_seal. A rule that
 * needs a token which the vocabulary lacks (pruned vocabularies have such) is left out, one with a special token is
 * kept out of the index. ERR_FORMAT, ERR_MEMORY. vocab_seal_merges - build the index by pair. */
odmoe_status vocab_add_merge(vocab *v, const char *left, size_t left_length, const char *right, size_t right_length,
                             bool byte_level, const char *where, odmoe_error *err);
odmoe_status vocab_seal_merges(vocab *v, odmoe_error *err);

/* vocab_word - the word or name with this text, or -1. vocab_merge - the rank of the rule for this pair, or -1. */
int32_t vocab_word(const vocab *v, const char *text, size_t length);
int64_t vocab_merge(const vocab *v, uint32_t left, uint32_t right);

/* vocab_text - the stored text of a token, not terminated. */
static inline const char *vocab_text(const vocab *v, uint32_t id, size_t *length)
{
    *length = v->starts[id + 1] - v->starts[id];
    return v->texts + v->starts[id];
}

size_t vocab_bytes(const vocab *v);
void vocab_free(vocab *v); /* what it holds, not v itself */

#endif
