/* vocab_files.h - small vocabularies as GGUF files, with one thing or another wrong. */
#ifndef ODMOE_TESTS_VOCAB_FILES_H
#define ODMOE_TESTS_VOCAB_FILES_H

#include "format_files.h"

/* The metadata of a vocabulary; members that are NULL or 0 are left out of the file. Ids: -1 left out. */
typedef struct vocab_spec {
    const char *model, *pre, *name;
    const char *const *tokens;
    const int *types;
    const float *scores;
    size_t token_count, type_count, score_count;
    const char *const *merges;
    size_t merge_count;
    long bos, eos, eot, unknown;
    int add_bos; /* -1 left out */
    const char *chat_template;
} vocab_spec;

/* spec_bpe - 256 byte tokens (id = byte), then "he" 256, "ll" 257, "hell" 258, "hello" 259, " hello" 260, the special
 * <|end|> 261 and <s> 262, the added <think> 263. bos 262, eos 261. spec_scored - <unk> 0, <s> 1, </s> 2, 256 byte
 * tokens from 3, then U+2581, h, e, l, o, "he", "ll", U+2581 "hello" and the two between. Both are good; change what
 * you like. */
vocab_spec spec_bpe(void);
vocab_spec spec_scored(void);

/* save_vocab - write the spec as GGUF. */
void save_vocab(const char *path, const vocab_spec *spec);

#endif
