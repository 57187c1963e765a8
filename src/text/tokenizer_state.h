/* tokenizer_state.h - what a tokenizer is made of; filled by tokenizer_gguf.c, tokenizer_json.c or tokenizer_tiktoken.c,
 * used by tokenizer.c.
 *
 * text -> added tokens cut out -> each stretch between: normalised -> added tokens of the normalised text cut out ->
 * split into pieces -> each piece merged into tokens. */
#ifndef ODMOE_TEXT_TOKENIZER_STATE_H
#define ODMOE_TEXT_TOKENIZER_STATE_H

#include "text/added_tokens.h"
#include "text/bpe_merge.h"
#include "text/normalize.h"
#include "text/pretokenize.h"
#include "text/unigram.h"

#define NORMALIZE_STEPS_MAX 16
#define START_TOKENS_MAX 8
#define END_TOKENS_MAX 64

struct tokenizer {
    merge_model model;
    unigram_model unigram;      /* scores is NULL where model merges */
    added_set added;            /* looked for in the text as given */
    added_set added_normalized; /* looked for in the normalised text */
    normalize_step normalize[NORMALIZE_STEPS_MAX];
    size_t normalize_count;
    pretokenize_step split[SPLIT_STEPS_MAX];
    size_t split_count;
    bool marks_are_blanks; /* U+2581 in a word's text stands for a blank */
    bool strips_space;     /* decoding drops the blank that encoding put first */
    int32_t bos;           /* or -1 */
    int32_t starts[START_TOKENS_MAX];
    size_t start_count;
    int32_t ends[END_TOKENS_MAX];
    size_t end_count;
    size_t longest_piece;
};

/* U+2581, SentencePiece's sign for a blank. */
#define BLANK_MARK "\xE2\x96\x81"

/* tokenizer_add_end - note an end token; ids outside the vocabulary and those already noted are left out, as are more
 * than END_TOKENS_MAX. */
void tokenizer_add_end(tokenizer *t, int64_t id);

/* tokenizer_add_pattern - append a split step: the matches of this pattern are pieces of their own. */
odmoe_status tokenizer_add_pattern(tokenizer *t, const char *expression, const char *where, odmoe_error *err);

/* tokenizer_split_at_marks - let pieces begin at U+2581, where no token has it behind another character: merging gives
 * the same tokens then, with less memory. For models that write blanks so. ERR_MEMORY. */
odmoe_status tokenizer_split_at_marks(tokenizer *t, odmoe_error *err);

/* tokenizer_find_bytes - fill model.bytes: from TOKEN_BYTE tokens, or from one-byte words. */
void tokenizer_find_bytes(tokenizer *t, bool byte_level);

/* tokenizer_ends_turn - is this the text of a token that ends a turn wherever it is in use (<|im_end|>...). */
bool tokenizer_ends_turn(const char *text, size_t length);

/* tokenizer_finish - the last step of opening: sets are sealed, known end-of-turn tokens noted, figures computed. */
void tokenizer_finish(tokenizer *t);

/* tokenizer_from_folder - tokenizer.json or tiktoken.model, and the files beside it. */
odmoe_status tokenizer_from_folder(const char *folder, tokenizer **out, odmoe_error *err);

#endif
