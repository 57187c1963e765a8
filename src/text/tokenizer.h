/* tokenizer.h - text to token ids and back, for the vocabularies of GGUF files, tokenizer.json and tiktoken.model.
 *
 * A tokenizer is immutable once opened: any number of threads may use one at the same time. Text is bytes with a
 * length; it is meant to be UTF-8, but any byte string tokenises and comes back unchanged where the vocabulary has byte
 * tokens.
 */
#ifndef ODMOE_TEXT_TOKENIZER_H
#define ODMOE_TEXT_TOKENIZER_H

#include <stdbool.h>

#include "base/status.h"
#include "format/gguf.h"

typedef struct tokenizer tokenizer;

/* tokenizer_open - read the tokenizer of `path`: a .gguf file (any architecture, tensors not needed; the first part of
 * a split one) or a Hugging Face folder (tokenizer.json or Kimi's tiktoken.model, and beside it tokenizer_config.json,
 * added_tokens.json, config.json and generation_config.json where present). What was parsed is freed again and given
 * back to the system. Errors: ERR_IO, ERR_MEMORY, ERR_FORMAT (names file and field), ERR_UNSUPPORTED (names the kind
 * that is not known). */
odmoe_status tokenizer_open(const char *path, tokenizer **out, odmoe_error *err);

/* tokenizer_from_gguf - the same from metadata that is open already; `path` is for messages. Borrows nothing of `g`. */
odmoe_status tokenizer_from_gguf(const gguf *g, const char *path, tokenizer **out, odmoe_error *err);

void tokenizer_free(tokenizer *t); /* NULL is fine */

/* A growing list of ids; zero-initialise, free(ids) at the end. */
typedef struct token_list {
    int32_t *ids;
    size_t count, capacity;
} token_list;

enum tokenizer_flags {
    TOKENIZER_SPECIAL = 1, /* texts of special tokens in the text become these tokens */
    TOKENIZER_START = 2    /* begin with the model's own start tokens, if it has any */
};

/* tokenizer_encode - append the ids of text[0, length) to `out`. The text may hold any bytes, 0 included.
 * Without TOKENIZER_SPECIAL no text can produce a special token. Tokens that a vocabulary adds without calling them
 * special (Qwen3's <think>) are recognised in either case, as in the reference implementations.
 * Cost: O(length log length). Memory: proportional to the text while it runs.
 * Errors: ERR_MEMORY, ERR_RANGE (2 GiB or more; the file's normaliser makes it many times as long), ERR_FORMAT (a
 * pattern of the file costs too much on this text); then `out` may have grown by a part of the ids. */
odmoe_status tokenizer_encode(const tokenizer *t, const char *text, size_t length, unsigned flags, token_list *out,
                              odmoe_error *err);

/* A part of a text, and whether the texts of special tokens in it count as special tokens. */
typedef struct text_part {
    const char *text; /* [length], borrowed */
    size_t length;
    bool special;
} text_part;

/* tokenizer_encode_parts - as tokenizer_encode on the parts joined (words are merged across the seams), but a special
 * token is recognised only where all of it lies in one part with `special` set. flags: TOKENIZER_START or 0. */
odmoe_status tokenizer_encode_parts(const tokenizer *t, const text_part *parts, size_t count, unsigned flags,
                                    token_list *out, odmoe_error *err);

/* tokenizer_piece - the bytes that token `id` stands for; special tokens give their own text. Copies at most `room`
 * bytes into `out` and returns the full length (0 for ids outside the vocabulary). Not terminated; may be part of a
 * UTF-8 character: see stream.h. */
size_t tokenizer_piece(const tokenizer *t, int32_t id, char *out, size_t room);
size_t tokenizer_longest_piece(const tokenizer *t); /* the longest piece's bytes */

/* tokenizer_size - ids are 0 .. size - 1. A model's embedding may have more rows (padding). */
int32_t tokenizer_size(const tokenizer *t);

/* tokenizer_bos - the begin-of-text token, or -1. tokenizer_eos - the first of the end tokens, or -1. */
int32_t tokenizer_bos(const tokenizer *t);
int32_t tokenizer_eos(const tokenizer *t);

/* tokenizer_ends - the tokens that end a generation, first of them the model's eos; *ids lives as long as t. Returns
 * how many. tokenizer_is_end - is id one of them. */
size_t tokenizer_ends(const tokenizer *t, const int32_t **ids);
bool tokenizer_is_end(const tokenizer *t, int32_t id);

/* tokenizer_starts - the tokens that TOKENIZER_START puts first (often one, often none). */
size_t tokenizer_starts(const tokenizer *t, const int32_t **ids);

/* tokenizer_is_special - a token that is no text of its own (control, unknown, or named special by the file). */
bool tokenizer_is_special(const tokenizer *t, int32_t id);

/* tokenizer_find - the token whose piece is exactly this text, special ones first; -1 when there is none. */
int32_t tokenizer_find(const tokenizer *t, const char *text, size_t length);

/* tokenizer_strips_space - true where encoding puts a blank before the text (SentencePiece), which decoding from the
 * start of a text takes away again. */
bool tokenizer_strips_space(const tokenizer *t);

/* tokenizer_bytes - memory that t holds, for the plan. */
size_t tokenizer_bytes(const tokenizer *t);

#endif
