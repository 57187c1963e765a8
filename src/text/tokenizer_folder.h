/* tokenizer_folder.h - between the files that read the tokenizer of a Hugging Face folder. */
#ifndef ODMOE_TEXT_TOKENIZER_FOLDER_H
#define ODMOE_TEXT_TOKENIZER_FOLDER_H

#include "format/config.h"
#include "text/tokenizer_state.h"

/* The files beside the vocabulary, parsed; NULL where there is none. */
typedef struct folder_files {
    json_t *tokenizer_config, *config, *generation, *added_tokens;
} folder_files;

/* tokenizer_json_read - fill *t from folder/tokenizer.json. tokenizer_tiktoken_read - from folder/tiktoken.model, as
 * Kimi's models have it. All but the end and start tokens that `files` name. ERR_IO, ERR_MEMORY, ERR_FORMAT,
 * ERR_UNSUPPORTED. */
odmoe_status tokenizer_json_read(const char *folder, const folder_files *files, tokenizer *t, odmoe_error *err);
odmoe_status tokenizer_tiktoken_read(const char *folder, const folder_files *files, tokenizer *t, odmoe_error *err);

#endif
