/* gguf_pretokenizers.h - how each pre-tokenizer that tokenizer.ggml.pre names cuts a text. */
#ifndef ODMOE_TEXT_GGUF_PRETOKENIZERS_H
#define ODMOE_TEXT_GGUF_PRETOKENIZERS_H

#include <stdbool.h>
#include <stddef.h>

typedef struct gguf_pretokenizer {
    const char *names;       /* separated by blanks */
    const char *patterns[7]; /* one inside the other; up to NULL */
    bool whole_words;        /* a piece that is a token as a whole is taken without merging */
    bool adds_bos;           /* where the file does not say */
    bool nfc;                /* the model's own tokenizer begins with that; GGUF has no place for it */
    bool by_id;              /* a file may leave merges out: ids are their ranks */
    bool marks;              /* blanks are U+2581 and texts are as they are, not in GPT-2's alphabet */
} gguf_pretokenizer;

/* gguf_pretokenizer_find - the one of this name, NULL where none is known. Static. */
const gguf_pretokenizer *gguf_pretokenizer_find(const char *name, size_t length);

/* GPT-2's published pattern. ByteLevel of a tokenizer.json cuts by it too, then with "|\\s+" behind it. */
#define GPT2_PATTERN "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)"

/* What the pre-tokenizer Digits cuts by: Unicode 17's numbers, where \p{N} of a pattern is Unicode 16's. */
#define DIGIT_PATTERN "[\\p{N}\\x{11DE0}-\\x{11DE9}\\x{16FF4}-\\x{16FF6}]"

/* (?i:'s|'t|'re|'ve|'m|'ll|'d), which published patterns say: one look where no apostrophe is. */
#define CONTRACTIONS "'(?i:[sdmt]|ll|ve|re)"

/* The pattern of Kimi's models, whose tiktoken.model has no place for it. Written there as a class without \p{Han}. */
#define KIMI_PATTERN                                                                      \
    "\\p{Han}+|[^\\r\\n\\p{L}\\p{N}]?" KIMI_UPPER "*" KIMI_LOWER "+(?:" CONTRACTIONS ")?" \
    "|[^\\r\\n\\p{L}\\p{N}]?" KIMI_UPPER "+" KIMI_LOWER "*(?:" CONTRACTIONS ")?"          \
    "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define KIMI_UPPER "(?:(?!\\p{Han})[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}])"
#define KIMI_LOWER "(?:(?!\\p{Han})[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}])"

#endif
