/* tokenizer_json.h - between the files that read tokenizer.json. */
#ifndef ODMOE_TEXT_TOKENIZER_JSON_H
#define ODMOE_TEXT_TOKENIZER_JSON_H

#include "format/config.h"
#include "text/tokenizer_state.h"

typedef struct json_reader {
    tokenizer *t;
    const char *file; /* for messages: folder/tokenizer.json */
    bool byte_level;  /* the pre-tokenizer ends with ByteLevel: texts are in GPT-2's alphabet */
    bool unigram;     /* the model is Unigram, else BPE */
    size_t own_added; /* of added_tokens, as many are tokenizer.json's own; the files beside it list the others */
    char nul[4];      /* stands for U+0000 in keys of the file; "" where it has none */
    odmoe_error *err;
} json_reader;

/* json_steps_read - normalizer, pre_tokenizer and decoder of tokenizer.json into r->t; sets r->byte_level.
 * ERR_UNSUPPORTED names a type or option that is not known. */
odmoe_status json_steps_read(json_reader *r, const json_t *root);

/* json_added_merge - append to root.added_tokens what only `added_tokens_decoder` of tokenizer_config.json lists, or
 * where that has none, `pairs` of added_tokens.json. Either may be NULL. ERR_FORMAT, ERR_MEMORY.
 * json_added_read - the tokens of root.added_tokens into r->t, whose vocabulary and normalizers are there. */
odmoe_status json_added_merge(json_reader *r, json_t *root, const json_t *tokenizer_config, json_t *pairs);
odmoe_status json_added_read(const json_reader *r, const json_t *root);

/* step_type - the "type" member of a step, "" where it has none. */
const char *step_type(const json_t *step);

#endif
