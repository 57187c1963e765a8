#include "text/chat.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "text/chat_formats.h"

/* A piece of a message; borrowed. */
typedef struct span {
    const char *at;
    size_t length;
} span;

typedef struct writer {
    const chat_template *c;
    const odmoe_message *messages;
    size_t n;
    const char *bos, *eos;
    chat_rendering *out;
    odmoe_error *err;
} writer;

/* ---- writing --------------------------------------------------------------------------------------------------- */

/* Append text as a part, or to the last part where that is of the same kind. Pointers are set when all is written. */
static odmoe_status put(const writer *w, span text, bool special)
{
    chat_rendering *r = w->out;
    if (!text.length)
        return ODMOE_OK;
    odmoe_status st =
        mem_grow((void **)&r->text, &r->capacity, r->length + text.length, 1, "a conversation's text", w->err);
    if (!st && (!r->count || r->parts[r->count - 1].special != special)) {
        st = mem_grow((void **)&r->parts, &r->parts_capacity, r->count + 1, sizeof *r->parts, "a conversation", w->err);
        if (!st)
            r->parts[r->count++] = (text_part){.special = special};
    }
    if (st)
        return st;
    memcpy(r->text + r->length, text.at, text.length);
    r->length += text.length;
    r->parts[r->count - 1].length += text.length;
    return ODMOE_OK;
}

static odmoe_status put_text(const writer *w, const char *text)
{
    return put(w, (span){text, strlen(text)}, true);
}

/* A text of the table, with its signs for the begin and end tokens. */
static odmoe_status put_format(const writer *w, const char *text)
{
    odmoe_status st = ODMOE_OK;
    while (!st && text && *text) {
        size_t n = strcspn(text, "\1\2");
        st = put(w, (span){text, n}, true);
        if (!st && text[n] == '\1' && w->c->has_bos)
            st = put_text(w, w->bos);
        if (!st && text[n] == '\2' && w->c->has_eos)
            st = put_text(w, w->eos);
        text += n + (text[n] != 0);
    }
    return st;
}

/* ---- what a message says ----------------------------------------------------------------------------------------- */

/* White space for Python, whose strip() the templates' `trim` is: the four separators U+001C to U+001F besides. */
static bool is_blank(uint32_t c)
{
    return utf8_is_space(c) || (c >= 0x1C && c <= 0x1F);
}

static span trim_left(span s)
{
    for (int n; s.length && (n = utf8_char(s.at, s.length)) > 0 && is_blank(utf8_decode(s.at, n));)
        s = (span){s.at + n, s.length - (size_t)n};
    return s;
}

static span trim_right(span s)
{
    while (s.length) {
        size_t n = 1;
        while (n < 4 && n < s.length && ((unsigned char)s.at[s.length - n] & 0xC0) == 0x80)
            n++;
        const char *last = s.at + s.length - n;
        if (utf8_char(last, n) != (int)n || !is_blank(utf8_decode(last, (int)n)))
            break;
        s.length -= n;
    }
    return s;
}

static span skip_lines(span s)
{
    while (s.length && *s.at == '\n')
        s = (span){s.at + 1, s.length - 1};
    return s;
}

static span cut_lines(span s)
{
    while (s.length && s.at[s.length - 1] == '\n')
        s.length--;
    return s;
}

static bool is_role(const writer *w, size_t i, const char *role)
{
    return !strcmp(w->messages[i].role, role);
}

static span content_of(const writer *w, size_t i, bool joined)
{
    span s = {w->messages[i].content, strlen(w->messages[i].content)};
    chat_trim trim = w->c->format->trim;
    if (trim == CHAT_TRIM_NONE || (trim == CHAT_TRIM_ANSWERS && !is_role(w, i, "assistant")))
        return s;
    return trim_right(trim == CHAT_TRIM_JOINED && joined ? s : trim_left(s));
}

/* The place behind the first or the last </think>, or NULL. */
static const char *behind_thinking(span s, bool last)
{
    static const char sign[] = "</think>";
    const char *found = NULL, *at = s.at, *end = s.at + s.length;
    while ((!found || last) && (at = memmem(at, (size_t)(end - at), sign, strlen(sign))))
        found = at += strlen(sign);
    return found;
}

/* Qwen3 shows the thoughts of an answer that nobody has replied to yet, in a form of its own. */
static odmoe_status put_thoughts(const writer *w, span content)
{
    const char *end = behind_thinking(content, false);
    span thoughts = {content.at, end ? (size_t)(end - content.at) - strlen("</think>") : 0};
    for (const char *at; (at = memmem(thoughts.at, thoughts.length, "<think>", 7));)
        thoughts = (span){at + 7, thoughts.length - (size_t)(at + 7 - thoughts.at)};
    odmoe_status st = put_text(w, "<think>\n");
    if (!st)
        st = put(w, cut_lines(skip_lines(cut_lines(thoughts))), false);
    return st ? st : put_text(w, "\n</think>\n\n");
}

static odmoe_status put_answer(const writer *w, size_t i, bool unanswered)
{
    chat_thinking thinking = w->c->has_thinking ? w->c->format->thinking : CHAT_THINKING_KEPT;
    span content = content_of(w, i, false);
    const char *from = NULL;
    odmoe_status st = ODMOE_OK;
    if (thinking == CHAT_THINKING_QWEN3 && unanswered && (i == w->n - 1 || behind_thinking(content, true)))
        st = put_thoughts(w, content);
    if (thinking != CHAT_THINKING_KEPT)
        from = behind_thinking(content, thinking != CHAT_THINKING_DROPPED);
    if (from)
        content = (span){from, content.length - (size_t)(from - content.at)};
    if (thinking == CHAT_THINKING_QWQ || (thinking == CHAT_THINKING_QWEN3 && (from || unanswered)))
        content = skip_lines(content);
    return st ? st : put(w, content, false);
}

/* ---- the conversation ----------------------------------------------------------------------------------------------
 */

static odmoe_status check_messages(const writer *w)
{
    if (!w->n)
        return err_set(w->err, ODMOE_ERR_ARG, "a conversation without messages");
    for (size_t i = 0; i < w->n; i++)
        if (!is_role(w, i, "system") && !is_role(w, i, "user") && !is_role(w, i, "assistant"))
            return err_set(w->err, ODMOE_ERR_ARG, "message %zu: the role \"%.40s\" is not system, user or assistant", i,
                           w->messages[i].role);
    const chat_format *f = w->c->format;
    size_t first = is_role(w, 0, "system");
    if (f->system_at == CHAT_SYSTEM_NONE && first)
        return err_set(w->err, ODMOE_ERR_UNSUPPORTED, "the model's chat format (%s) takes no system text", f->name);
    for (size_t i = first; f->alternates && i < w->n; i++)
        if (!is_role(w, i, (i - first) % 2 ? "assistant" : "user"))
            return err_set(w->err, ODMOE_ERR_ARG,
                           "message %zu: in the model's chat format (%s) user and assistant must take turns", i,
                           f->name);
    return ODMOE_OK;
}

static odmoe_status put_system_turn(const writer *w, const char *always, span text)
{
    const chat_format *f = w->c->format;
    odmoe_status st = put_format(w, f->system[0]);
    if (!st)
        st = put_format(w, always);
    if (!st)
        st = put(w, text, false);
    return st ? st : put_format(w, f->system[1]);
}

/* What stands before the first turn. */
static odmoe_status put_opening(const writer *w)
{
    const chat_format *f = w->c->format;
    odmoe_status st = f->user[0][0] == '\1' ? ODMOE_OK : put_format(w, "\1");
    if (f->system_at == CHAT_SYSTEM_TURN && !is_role(w, 0, "system")) {
        const char *text = w->c->default_system ? w->c->default_system : "";
        if (!st && (*text || f->system_always))
            st = put_system_turn(w, f->system_always, (span){text, strlen(text)});
    }
    bool any = false;
    for (size_t i = 0; !st && f->system_at == CHAT_SYSTEM_GATHERED && i < w->n; i++) {
        if (!is_role(w, i, "system"))
            continue;
        if (any)
            st = put_text(w, "\n\n");
        if (!st)
            st = put(w, content_of(w, i, false), false);
        any = true;
    }
    return st;
}

static odmoe_status put_user(const writer *w, size_t i, bool with_system)
{
    const chat_format *f = w->c->format;
    odmoe_status st = put_format(w, f->user[0]);
    if (!st && with_system)
        st = put_format(w, f->system[0]);
    if (!st && with_system)
        st = put(w, (span){w->messages[0].content, strlen(w->messages[0].content)}, false);
    if (!st && with_system)
        st = put_format(w, f->system[1]);
    if (!st)
        st = put(w, content_of(w, i, with_system), false);
    return st ? st : put_format(w, f->user[1]);
}

static odmoe_status put_turns(const writer *w)
{
    const chat_format *f = w->c->format;
    size_t first = is_role(w, 0, "system"), question = w->n - 1; /* the last one */
    for (size_t i = w->n; i-- > 0;)
        if (is_role(w, i, "user")) {
            question = i;
            break;
        }
    odmoe_status st = ODMOE_OK;
    for (size_t i = 0; !st && i < w->n; i++) {
        if (is_role(w, i, "system")) {
            if (f->system_at == CHAT_SYSTEM_TURN)
                st = put_system_turn(w, i ? NULL : f->system_always, content_of(w, i, false));
        } else if (is_role(w, i, "user")) {
            st = put_user(w, i,
                          first && ((f->system_at == CHAT_SYSTEM_FIRST_USER && i == first) ||
                                    (f->system_at == CHAT_SYSTEM_LAST_USER && i == w->n - 1)));
        } else {
            if (!f->answers_only || (i && is_role(w, i - 1, "user")))
                st = put_format(w, f->assistant[0]);
            if (!st)
                st = put_answer(w, i, i > question);
            if (!st)
                st = put_format(w, i == w->n - 1 && f->last_answer ? f->last_answer : f->assistant[1]);
        }
    }
    return st;
}

odmoe_status chat_render(const chat_template *c, const odmoe_message *messages, size_t n, bool prompt, const char *bos,
                         const char *eos, chat_rendering *out, odmoe_error *err)
{
    writer w = {c, messages, n, bos, eos, out, err};
    odmoe_status st = check_messages(&w);
    if (!st)
        st = put_opening(&w);
    if (!st)
        st = put_turns(&w);
    if (!st && !prompt)
        st = put_format(&w, c->format->end);
    if (!st && prompt && (!c->format->answers_only || is_role(&w, n - 1, "user")))
        st = put_format(&w, c->format->prompt);
    const char *at = out->text;
    for (size_t i = 0; !st && i < out->count; i++) {
        out->parts[i].text = at;
        at += out->parts[i].length;
    }
    return st;
}

void chat_rendering_free(chat_rendering *r)
{
    free(r->text);
    free(r->parts);
    *r = (chat_rendering){0};
}

/* The text of token id (none for -1), terminated; NULL with err set. */
static char *piece_text(const tokenizer *t, int32_t id, odmoe_error *err)
{
    size_t length = tokenizer_piece(t, id, NULL, 0);
    char *text = mem_calloc(length + 1, 1, "a token's text", err);
    if (text)
        tokenizer_piece(t, id, text, length);
    return text;
}

odmoe_status chat_encode(const chat_template *c, const tokenizer *t, const odmoe_message *messages, size_t n,
                         bool prompt, token_list *out, odmoe_error *err)
{
    chat_rendering r = {0};
    char *bos = piece_text(t, tokenizer_bos(t), err), *eos = piece_text(t, tokenizer_eos(t), err);
    odmoe_status st = bos && eos ? ODMOE_OK : ODMOE_ERR_MEMORY;
    if (!st)
        st = chat_render(c, messages, n, prompt, bos, eos, &r, err);
    if (!st)
        st = tokenizer_encode_parts(t, r.parts, r.count, 0, out, err);
    chat_rendering_free(&r);
    free(bos);
    free(eos);
    return st;
}
