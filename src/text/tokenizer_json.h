/* tokenizer_json.h - between the two files that read tokenizer.json. */
#ifndef ODMOE_TEXT_TOKENIZER_JSON_H
#define ODMOE_TEXT_TOKENIZER_JSON_H

#include "format/config.h"
#include "text/tokenizer_state.h"

typedef struct json_reader {
    tokenizer *t;
    const char *file; /* for messages: folder/tokenizer.json */
    bool byte_level;  /* the pre-tokenizer ends with ByteLevel: texts are in GPT-2's alphabet */
    odmoe_error *err;
} json_reader;

/* json_steps_read - normalizer, pre_tokenizer and decoder of tokenizer.json into r->t; sets r->byte_level.
 * ERR_UNSUPPORTED names a type or option that is not known. */
odmoe_status json_steps_read(json_reader *r, const json_t *root);

/* step_type - the "type" member of a step, "" where it has none. */
const char *step_type(const json_t *step);

#endif
