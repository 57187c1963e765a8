#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "format/config.h"
#include "format/file.h"
#include "text/chat_formats.h"

#define TEMPLATE_MAX ((size_t)1 << 20) /* bytes; the largest published ones have some 20 KB */
#define TAG_MAX 256                    /* bytes of a tag that is looked at */
#define CONFIG_MAX ((size_t)4 << 20)

/* A copy in which every quote is " and every \n a new line: templates write the same text in either way. */
static char *plain_template(const char *text, size_t length, odmoe_error *err)
{
    char *copy = mem_strdup(text, length, err);
    if (!copy)
        return NULL;
    size_t n = 0;
    for (size_t i = 0; i < length; i++) {
        bool line = text[i] == '\\' && i + 1 < length && text[i + 1] == 'n';
        copy[n++] = line ? '\n' : text[i] == '\'' ? '"' : text[i] ? text[i] : ' ';
        i += line;
    }
    copy[n] = 0;
    return copy;
}

/* Blanks beside these don't count in an expression. */
static bool is_operator(char c)
{
    return c && strchr("+~|=!%{}-", c);
}

/* The `["name"]` at text as its length, 0 where there is none. */
static size_t subscript(const char *text)
{
    size_t n = strncmp(text, "[\"", 2) ? 0 : 2 + strspn(text + 2, "abcdefghijklmnopqrstuvwxyz_");
    return n > 2 && !strncmp(text + n, "\"]", 2) ? n + 2 : 0;
}

/* A copy in which one expression is written in one way: message["role"] is message.role, blanks beside operators are
 * gone, ~ is +, and texts that are put together stand as one. The table's signs are looked for in this. */
static char *reduced_template(const char *plain, odmoe_error *err)
{
    char *copy = mem_strdup(plain, strlen(plain), err);
    size_t n = 0;
    for (const char *at = plain; copy && *at; at++) {
        size_t name = subscript(at), blanks = strspn(at, " ");
        if (name) {
            copy[n++] = '.';
            memmove(copy + n, at + 2, name - 4);
            n += name - 4;
            at += name - 1;
        } else if (blanks && ((n && is_operator(copy[n - 1])) || is_operator(at[blanks]))) {
            at += blanks - 1;
        } else if (blanks) {
            memset(copy + n, ' ', blanks);
            n += blanks;
            at += blanks - 1;
        } else {
            copy[n++] = *at == '~' ? '+' : *at;
            if (n >= 3 && !memcmp(copy + n - 3, "\"+\"", 3))
                n -= 3;
        }
    }
    if (copy)
        copy[n] = 0;
    return copy;
}

static bool holds_one(const char *text, const char *const *signs, size_t count)
{
    for (size_t i = 0; i < count && signs[i]; i++)
        if (strstr(text, signs[i]))
            return true;
    return false;
}

#define COUNT(array) (sizeof(array) / sizeof *(array))

static bool fits(const chat_format *f, const char *text)
{
    for (size_t i = 0; i < COUNT(f->signs) && f->signs[i]; i++)
        if (!strstr(text, f->signs[i]))
            return false;
    return (!f->one_of[0] || holds_one(text, f->one_of, COUNT(f->one_of))) &&
           !holds_one(text, f->without, COUNT(f->without));
}

/* Does what is written at text + at stand directly behind a tag {% %}, and the tag is `else`, or holds this? */
static bool is_under(const char *text, size_t at, const char *condition, bool or_else)
{
    static const char *const between[] = {"\"", "-", "{{"}; /* from the text back to the tag */
    for (size_t i = 0; i < COUNT(between); i++) {
        size_t n = strlen(between[i]);
        at -= at >= n && !memcmp(text + at - n, between[i], n) ? n : 0;
    }
    while (at && strchr(" \n\t", text[at - 1]))
        at--;
    if (at < 2 || memcmp(text + at - 2, "%}", 2))
        return false;
    size_t end = at -= 2;
    while (at >= 2 && end - at < TAG_MAX && memcmp(text + at - 2, "{%", 2))
        at--;
    const char *tag = text + at;
    size_t length = end - at, minus = length && *tag == '-';
    return memmem(tag, length, condition, strlen(condition)) ||
           (or_else && length - minus >= 4 && !memcmp(tag + minus, "else", 4));
}

/* Where the turn that text is in ends at the latest: at the next header. Searching no farther keeps it linear. */
static const char *turn_limit(const chat_format *f, const char *text)
{
    const char *next = strstr(text, f->signs[0]);
    return next ? next : text + strlen(text);
}

/* A ChatML template writes system turns of its own besides those of the loop over the messages. Known are: the first
 * message's, those of tools, and one for conversations without a system text. One that refuses system texts is not. */
static bool system_turns_are_known(const chat_format *f, const char *reduced)
{
    static const char first[] = "\"+messages[0].content+\"<|im_end|>\n\"", named[] = "\"+system_message}}";
    const char *head = f->system[0], *tail = f->system[1];
    for (const char *at = reduced; (at = strstr(at, "raise_exception(")); at++)
        if (is_under(reduced, (size_t)(at - reduced), "==\"system\"", false))
            return false;
    bool named_is_first = strstr(reduced, "set system_message=messages[0].content%}");
    for (const char *at = reduced; (at = strstr(at, head));) {
        size_t place = (size_t)(at - reduced);
        at += strlen(head);
        if (!strncmp(at, first, strlen(first)) || (named_is_first && !strncmp(at, named, strlen(named))))
            continue;
        const char *limit = turn_limit(f, at), *quote = memchr(at, '"', (size_t)(limit - at));
        bool whole = memmem(at, (size_t)((quote ? quote : limit) - at), tail, strcspn(tail, "\n"));
        if (!whole && is_under(reduced, place, "if tools", false))
            continue;
        if (*at == '"' || *at == '{' || !is_under(reduced, place, "!=\"system\"", true))
            return false;
    }
    return true;
}

/* ChatML templates hold the system text of conversations without one as it is, header and end token around it. */
static odmoe_status find_default_system(const char *text, const chat_format *f, char **out, odmoe_error *err)
{
    const char *head = f->system[0], *tail = f->system[1];
    for (const char *at = text; (at = strstr(at, head));) {
        at += strlen(head);
        const char *end = memmem(at, (size_t)(turn_limit(f, at) - at), tail, strcspn(tail, "\n"));
        size_t length = end ? (size_t)(end - at) : 0;
        if (!length || *at == '"' || memchr(at, '{', length) || memchr(at, '}', length))
            continue; /* put together from variables */
        *out = mem_strdup(at, length, err);
        return *out ? ODMOE_OK : ODMOE_ERR_MEMORY;
    }
    return ODMOE_OK;
}

/* "chatml, phi3..." */
static void list_names(char *out, size_t room)
{
    size_t n = 0;
    *out = 0;
    for (size_t i = 0; i < chat_formats_count; i++)
        if (!i || strcmp(chat_formats[i].name, chat_formats[i - 1].name) != 0)
            n += (size_t)snprintf(out + n, n < room ? room - n : 0, "%s%s", n ? ", " : "", chat_formats[i].name);
}

odmoe_status chat_detect(const char *text, size_t length, chat_template *out, odmoe_error *err)
{
    if (length > TEMPLATE_MAX)
        return err_set(err, ODMOE_ERR_UNSUPPORTED,
                       "the model's chat template has %zu bytes, at most %zu are read; use `run` without --chat",
                       length, TEMPLATE_MAX);
    char *plain = plain_template(text, length, err), *reduced = plain ? reduced_template(plain, err) : NULL;
    if (!reduced) {
        free(plain);
        return ODMOE_ERR_MEMORY;
    }
    chat_template c = {0};
    for (size_t i = 0; !c.format && i < chat_formats_count; i++)
        if (fits(&chat_formats[i], reduced) &&
            (!chat_formats[i].default_system || system_turns_are_known(&chat_formats[i], reduced)))
            c.format = &chat_formats[i];
    c.has_bos = strstr(plain, "bos_token");
    c.has_eos = strstr(plain, "eos_token");
    c.has_thinking = strstr(plain, "</think>");
    odmoe_status st = ODMOE_OK;
    if (!c.format) {
        char names[256];
        list_names(names, sizeof names);
        st = err_set(err, ODMOE_ERR_UNSUPPORTED,
                     "the model's chat template is of no known format (%s); use `run` without --chat", names);
    } else if (c.format->default_system) {
        st = find_default_system(plain, c.format, &c.default_system, err);
    }
    free(reduced);
    free(plain);
    if (!st)
        *out = c;
    return st;
}

void chat_template_free(chat_template *c)
{
    free(c->default_system);
    *c = (chat_template){0};
}

const char *chat_name(const chat_template *c)
{
    return c->format->name;
}

static odmoe_status no_template(odmoe_error *err)
{
    return err_set(err, ODMOE_ERR_UNSUPPORTED, "the model has no chat template; use `run` without --chat");
}

odmoe_status chat_detect_gguf(const gguf *g, chat_template *out, odmoe_error *err)
{
    static const char key[] = "tokenizer.chat_template";
    gguf_text text;
    if (!gguf_has(g, key))
        return no_template(err);
    odmoe_status st = gguf_get_text(g, key, &text, err);
    return st ? st : chat_detect(text.at, text.length, out, err);
}

/* chat_template of tokenizer_config.json: a text, or a list of {"name", "template"}. */
static const json_t *config_template(const json_t *config)
{
    const json_t *value = json_object_get(config, "chat_template");
    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *one = json_array_get(value, i);
        const char *name = json_string_value(json_object_get(one, "name"));
        if (name && !strcmp(name, "default"))
            return json_object_get(one, "template");
    }
    return value;
}

odmoe_status chat_detect_folder(const char *folder, chat_template *out, odmoe_error *err)
{
    char *text = NULL, *path = file_join(folder, "chat_template.jinja", err);
    size_t length;
    json_t *config = NULL;
    odmoe_status st = path ? file_load(path, TEMPLATE_MAX, true, &text, &length, err) : ODMOE_ERR_MEMORY;
    if (!st && text) {
        st = chat_detect(text, length, out, err);
    } else if (!st) {
        st = config_read(folder, "tokenizer_config.json", CONFIG_MAX, true, &config, err);
        const json_t *found = config_template(config);
        if (!st)
            st = json_is_string(found) ? chat_detect(json_string_value(found), json_string_length(found), out, err)
                                       : no_template(err);
    }
    json_decref(config);
    free(text);
    free(path);
    return st;
}
