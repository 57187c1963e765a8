/* chat.h - a conversation as the text that a model was trained on: the known chat formats, recognised by the model's
 * template (a Jinja program, which is not run). The formats are the table in chat_formats.c. */
#ifndef ODMOE_TEXT_CHAT_H
#define ODMOE_TEXT_CHAT_H

#include "text/tokenizer.h"

/* A recognised template. */
typedef struct chat_template {
    const struct chat_format *format; /* static */
    char *default_system;             /* owned: the system text of a conversation without one, or NULL */
    bool has_bos, has_eos;            /* does the template write them at all */
    bool has_thinking;                /* does it know </think> */
} chat_template;

/* chat_detect - recognise text[0, length). ERR_UNSUPPORTED for a format that is not known, or 1 MiB and more: the
 * message lists the known ones and says to use `run` without --chat. Free with chat_template_free (zeroed is fine). */
odmoe_status chat_detect(const char *text, size_t length, chat_template *out, odmoe_error *err);
void chat_template_free(chat_template *c);
const char *chat_name(const chat_template *c); /* "chatml", "llama3"...; a static text */

/* chat_detect_gguf, chat_detect_folder - the template of a GGUF file (tokenizer.chat_template) or of a Hugging Face
 * folder (chat_template.jinja, else tokenizer_config.json: a text, or the "default" of a list). ERR_UNSUPPORTED also
 * where there is none; ERR_IO, ERR_FORMAT, ERR_MEMORY. */
odmoe_status chat_detect_gguf(const gguf *g, chat_template *out, odmoe_error *err);
odmoe_status chat_detect_folder(const char *folder, chat_template *out, odmoe_error *err);

/* A conversation as text, cut into what the template wrote (parts[i].special) and what the messages say. Free with
 * chat_rendering_free; zeroed is fine. */
typedef struct chat_rendering {
    char *text; /* [length] */
    size_t length, capacity;
    text_part *parts; /* [count], in order, without gaps */
    size_t count, parts_capacity;
} chat_rendering;

/* chat_render - render messages[0, n), roles "system", "user" and "assistant". `prompt`: end where the assistant's
 * answer begins. bos, eos: the texts of these tokens. Errors: ERR_ARG (no messages, another role, an order that the
 * template refuses), ERR_UNSUPPORTED (system text, where the template takes none), ERR_MEMORY. */
odmoe_status chat_render(const chat_template *c, const odmoe_message *messages, size_t n, bool prompt, const char *bos,
                         const char *eos, chat_rendering *out, odmoe_error *err);
void chat_rendering_free(chat_rendering *r);

/* chat_encode - render with t's own begin and end tokens and append the ids. Special tokens come from the template
 * only: the text of one in a message stays text. */
odmoe_status chat_encode(const chat_template *c, const tokenizer *t, const odmoe_message *messages, size_t n,
                         bool prompt, token_list *out, odmoe_error *err);

#endif
