#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "format/config.h"
#include "format/file.h"
#include "text/chat_formats.h"

#define TEMPLATE_MAX ((size_t)1 << 20) /* bytes; the largest published ones have some 20 KB */
#define CONFIG_MAX ((size_t)16 << 20)

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

static bool fits(const chat_format *f, const char *text)
{
    for (size_t i = 0; i < sizeof f->signs / sizeof *f->signs && f->signs[i]; i++)
        if (!strstr(text, f->signs[i]))
            return false;
    for (size_t i = 0; i < sizeof f->without / sizeof *f->without && f->without[i]; i++)
        if (strstr(text, f->without[i]))
            return false;
    return true;
}

/* ChatML templates hold the system text of conversations without one as it is written, header and end token around it.
 * Each header is searched up to the next one only, which keeps this linear. */
static odmoe_status find_default_system(const char *text, const chat_format *f, char **out, odmoe_error *err)
{
    const char *head = f->system[0], *tail = f->system[1], *turn = f->signs[0], *stop = text + strlen(text);
    for (const char *at = text; (at = strstr(at, head));) {
        at += strlen(head);
        const char *next = strstr(at, turn);
        const char *end = memmem(at, (size_t)((next ? next : stop) - at), tail, strcspn(tail, "\n"));
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
    char *plain = plain_template(text, length, err);
    if (!plain)
        return ODMOE_ERR_MEMORY;
    chat_template c = {0};
    for (size_t i = 0; !c.format && i < chat_formats_count; i++)
        if (fits(&chat_formats[i], plain))
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
