#include <stdlib.h>
#include <string.h>

#include "api/handles.h"
#include "base/mem.h"
#include "text/template/sources.h"

/* ---- errors ---- */

static odmoe_status status_of(template_error kind)
{
    switch (kind) {
    case TEMPLATE_OK:
        return ODMOE_OK;
    case TEMPLATE_RAISE:
    case TEMPLATE_DATA:
        return ODMOE_ERR_ARG;
    case TEMPLATE_SYNTAX:
    case TEMPLATE_REFUSED:
        return ODMOE_ERR_UNSUPPORTED;
    case TEMPLATE_LIMIT:
        return ODMOE_ERR_RANGE;
    case TEMPLATE_MEMORY:
        return ODMOE_ERR_MEMORY;
    default:
        return ODMOE_ERR_FORMAT;
    }
}

/* Hand a fault to the caller's structs, and free it. */
static odmoe_status give_fault(template_fault *f, odmoe_template_fault *to, odmoe_error *err)
{
    const char *text = f->message ? f->message : template_error_name(f->kind);
    odmoe_status status = status_of(f->kind);
    if (f->line && f->kind != TEMPLATE_RAISE)
        err_set(err, status, "chat template, line %d: %s", f->line, text);
    else
        err_set(err, status, "%s", text);
    if (to) {
        odmoe_template_fault all = {
            .kind = template_error_name(f->kind), .line = f->line, .message = f->message, .length = f->length};
        copy_out(to, &all, sizeof all);
        f->message = NULL;
    }
    template_fault_free(f);
    return status;
}

/* ---- opening ---- */

static odmoe_status compile(const char *source, size_t length, struct odmoe_template *out, odmoe_template_fault *fault,
                            odmoe_error *err)
{
    template_fault f = {0};
    out->program = template_compile(source, length, &f);
    if (!out->program)
        return give_fault(&f, fault, err);
    out->caps = template_probe(out->program);
    return ODMOE_OK;
}

static odmoe_status new_template(const char *source, size_t length, odmoe_template **out, odmoe_template_fault *fault,
                                 odmoe_error *err)
{
    odmoe_template *t = mem_calloc(1, sizeof *t, "a template's handle", err);
    odmoe_status status = t ? compile(source, length, t, fault, err) : ODMOE_ERR_MEMORY;
    if (status)
        free(t);
    else
        *out = t;
    return status;
}

odmoe_status odmoe_template_compile(const char *source, size_t length, odmoe_template **out,
                                    odmoe_template_fault *fault, odmoe_error *err)
{
    return new_template(source, length, out, fault, err);
}

const char *odmoe_template_source(const odmoe_template *t)
{
    size_t length;
    return template_source(t->program, &length);
}

odmoe_status odmoe_template_open(const char *path, const char *name, odmoe_template **out, odmoe_error *err)
{
    char *source = NULL;
    size_t length = 0;
    odmoe_status status = template_source_open(path, name, &source, &length, err);
    if (!status)
        status = new_template(source, length, out, NULL, err);
    free(source);
    return status;
}

void odmoe_template_close(odmoe_template *t)
{
    if (!t)
        return;
    template_free(t->program);
    free(t);
}

odmoe_status model_chat_open(const model_files *f, struct odmoe_template *out, odmoe_error *reason, odmoe_error *err)
{
    char *source = NULL;
    size_t length = 0;
    odmoe_status status = f->gguf ? template_source_gguf(f->gguf, NULL, &source, &length, reason)
                                  : template_source_folder(f->path, NULL, &source, &length, reason);
    if (!status) {
        odmoe_error why = {0};
        status = compile(source, length, out, NULL, &why);
        if (status)
            err_set(reason, status, "%s; give another one with --template, or use `run` without --chat", why.message);
    }
    free(source);
    if (status == ODMOE_ERR_MEMORY && err)
        *err = *reason;
    return status == ODMOE_ERR_MEMORY ? status : ODMOE_OK;
}

const odmoe_template *odmoe_model_template(const odmoe_model *handle, odmoe_error *err)
{
    if (!handle->chat.program && err)
        *err = handle->no_chat;
    return handle->chat.program ? &handle->chat : NULL;
}

/* ---- rendering ---- */

static odmoe_status give_text(template_text *text, odmoe_template_text *out, odmoe_error *err)
{
    odmoe_template_text all = {.text = text->text, .length = text->length, .n = text->n};
    all.foreign = mem_calloc(2 * text->n, sizeof *all.foreign, "a template's text", err);
    if (!all.foreign) {
        template_text_free(text);
        return ODMOE_ERR_MEMORY;
    }
    for (size_t i = 0; i < text->n; i++) {
        all.foreign[2 * i] = text->foreign[i].from;
        all.foreign[2 * i + 1] = text->foreign[i].to;
    }
    text->text = NULL;
    template_text_free(text);
    copy_out(out, &all, sizeof all);
    return ODMOE_OK;
}

void odmoe_template_text_free(odmoe_template_text *text)
{
    free(text->text);
    free(text->foreign);
    *text = (odmoe_template_text){.size = text->size};
}

odmoe_status odmoe_template_run(const odmoe_template *t, const char *variables, size_t length, int64_t now,
                                odmoe_template_text *out, odmoe_template_fault *fault, odmoe_error *err)
{
    template_text text = {0};
    template_fault f = {0};
    if (template_render_object(t->program, variables, length, now, NULL, &text, &f))
        return give_fault(&f, fault, err);
    return give_text(&text, out, err);
}

odmoe_status odmoe_template_reasoning(const odmoe_template *t, const char *level, char **keywords, odmoe_error *err)
{
    return conversation_reasoning(t->program, &t->caps, level, keywords, err);
}

void odmoe_chat_init(odmoe_chat *chat)
{
    *chat = (odmoe_chat){.size = sizeof *chat, .answer = 1};
}

/* The text of token id (none for -1), terminated; NULL with err set. */
static char *piece_text(const odmoe_tokenizer *t, int32_t (*id)(const tokenizer *t), odmoe_error *err)
{
    size_t length = t ? tokenizer_piece(t->t, id(t->t), NULL, 0) : 0;
    char *text = mem_calloc(length + 1, 1, "a token's text", err);
    if (text && length)
        tokenizer_piece(t->t, id(t->t), text, length);
    return text;
}

static odmoe_status render(const odmoe_template *t, const odmoe_tokenizer *handle, const odmoe_chat *chat,
                           template_text *out, odmoe_error *err)
{
    odmoe_chat c;
    odmoe_chat_init(&c);
    odmoe_status status = copy_in(&c, chat, sizeof c, "odmoe_chat_init", err);
    if (status)
        return status;
    if (!c.messages)
        return err_set(err, ODMOE_ERR_ARG, "messages: there are none");
    template_limits limits = template_limits_default;
    if (c.memory_bytes)
        limits.memory_bytes = limits.output_bytes = (size_t)c.memory_bytes;
    template_fault f = {0};
    char *bos = piece_text(handle, tokenizer_bos, err), *eos = piece_text(handle, tokenizer_eos, err);
    conversation all = {c.messages, c.tools, c.keywords, bos, eos, c.answer, c.go_on, c.now, c.tell_calls};
    if (!bos || !eos)
        status = ODMOE_ERR_MEMORY;
    else if (conversation_render(t->program, &t->caps, &all, &limits, out, &f))
        status = give_fault(&f, NULL, err);
    free(bos);
    free(eos);
    return status;
}

odmoe_status odmoe_chat_render(const odmoe_template *t, const odmoe_tokenizer *handle, const odmoe_chat *chat,
                               odmoe_template_text *out, odmoe_error *err)
{
    template_text text = {0};
    odmoe_status status = render(t, handle, chat, &text, err);
    return status ? status : give_text(&text, out, err);
}

/* The text in parts, foreign or not. */
static odmoe_status parts_of(const template_text *text, text_part **parts, size_t *n, odmoe_error *err)
{
    size_t at = 0;
    *n = 0;
    *parts = mem_calloc(2 * text->n + 1, sizeof **parts, "a conversation", err);
    if (!*parts)
        return ODMOE_ERR_MEMORY;
    for (size_t i = 0; i <= text->n; i++) {
        size_t from = i < text->n ? text->foreign[i].from : text->length, to = i < text->n ? text->foreign[i].to : from;
        if (from > at)
            (*parts)[(*n)++] = (text_part){text->text + at, from - at, true};
        if (to > from)
            (*parts)[(*n)++] = (text_part){text->text + from, to - from, false};
        at = to;
    }
    return ODMOE_OK;
}

odmoe_status odmoe_chat_tokenize(const odmoe_template *t, const odmoe_tokenizer *handle, const odmoe_chat *chat,
                                 int32_t *ids, size_t capacity, size_t *n, odmoe_error *err)
{
    template_text text = {0};
    text_part *parts = NULL;
    token_list list = {0};
    size_t n_parts = 0;
    odmoe_status status =
        handle ? render(t, handle, chat, &text, err) : err_set(err, ODMOE_ERR_ARG, "a chat needs a tokenizer");
    if (!status)
        status = parts_of(&text, &parts, &n_parts, err);
    if (!status)
        status = tokenizer_encode_parts(handle->t, parts, n_parts, 0, &list, err);
    template_text_free(&text);
    free(parts);
    if (status)
        free(list.ids);
    else
        give_ids(&list, ids, capacity, n);
    return status;
}
