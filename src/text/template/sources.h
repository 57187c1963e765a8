/* sources.h - where a model's chat template stands.
 *
 * GGUF: tokenizer.chat_template, and tokenizer.chat_template.NAME for further ones. A Hugging Face folder, first found
 * first: chat_template.jinja (additional_chat_templates/NAME.jinja), chat_template.json, tokenizer_config.json, whose
 * chat_template is a text or a list of {name, template}. */
#ifndef ODMOE_TEXT_TEMPLATE_SOURCES_H
#define ODMOE_TEXT_TEMPLATE_SOURCES_H

#include "format/gguf.h"

/* template_source_gguf, template_source_folder - the source of the template `name` (NULL: the default one) as a copy to
 * free, terminated. ERR_UNSUPPORTED where the model has none; ERR_IO, ERR_FORMAT, ERR_MEMORY. */
odmoe_status template_source_gguf(const gguf *g, const char *name, char **text, size_t *length, odmoe_error *err);
odmoe_status template_source_folder(const char *folder, const char *name, char **text, size_t *length,
                                    odmoe_error *err);
/* template_source_open - the same for a path: a .gguf file or a folder. */
odmoe_status template_source_open(const char *path, const char *name, char **text, size_t *length, odmoe_error *err);

#endif
