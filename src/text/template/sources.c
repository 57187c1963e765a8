#include "text/template/sources.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "format/config.h"
#include "format/file.h"

enum { TEMPLATE_MAX = 1 << 20 };
#define CONFIG_MAX ((size_t)4 << 20)

static odmoe_status none(const char *name, odmoe_error *err)
{
    if (name)
        return err_set(err, ODMOE_ERR_UNSUPPORTED, "the model has no chat template named '%.60s'", name);
    return err_set(err, ODMOE_ERR_UNSUPPORTED,
                   "the model has no chat template: give one with --template, or use `run` without --chat");
}

/* Names go into paths and keys. */
static bool is_plain(const char *name)
{
    return name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")] == 0 && *name &&
           strlen(name) < 60;
}

odmoe_status template_source_gguf(const gguf *g, const char *name, char **text, size_t *length, odmoe_error *err)
{
    char key[128] = "tokenizer.chat_template";
    gguf_text found;
    bool other = name && strcmp(name, "default") != 0;
    if (other && !is_plain(name))
        return none(name, err);
    if (other)
        snprintf(key + strlen(key), sizeof key - strlen(key), ".%s", name);
    if (!gguf_has(g, key))
        return none(other ? name : NULL, err);
    odmoe_status status = gguf_get_text(g, key, &found, err);
    if (status)
        return status;
    *length = found.length;
    *text = mem_strdup(found.at, found.length, err);
    return *text ? ODMOE_OK : ODMOE_ERR_MEMORY;
}

/* ---- folders ---- */

/* folder/name; *text stays NULL where there is no such file. */
static odmoe_status load(const char *folder, const char *name, char **text, size_t *length, odmoe_error *err)
{
    char *path = file_join(folder, name, err);
    odmoe_status status = path ? file_load(path, TEMPLATE_MAX, true, text, length, err) : ODMOE_ERR_MEMORY;
    free(path);
    return status;
}

/* The template in the member chat_template of a JSON file. */
static odmoe_status from_config(const char *folder, const char *file, const char *name, char **text, size_t *length,
                                odmoe_error *err)
{
    json_t *config = NULL;
    odmoe_status status = config_read(folder, file, CONFIG_MAX, true, &config, err);
    const json_t *value = json_object_get(config, "chat_template"), *found = name ? NULL : value;
    for (size_t i = 0; !status && i < json_array_size(value); i++) {
        const json_t *one = json_array_get(value, i);
        const char *its = json_string_value(json_object_get(one, "name"));
        if (its && !strcmp(its, name ? name : "default"))
            found = json_object_get(one, "template");
    }
    if (!status && json_is_string(found)) {
        *length = json_string_length(found);
        *text = mem_strdup(json_string_value(found), *length, err);
        status = *text ? ODMOE_OK : ODMOE_ERR_MEMORY;
    }
    json_decref(config);
    return status;
}

odmoe_status template_source_folder(const char *folder, const char *name, char **text, size_t *length, odmoe_error *err)
{
    char file[128] = "chat_template.jinja";
    const char *other = name && strcmp(name, "default") != 0 ? name : NULL;
    *text = NULL;
    if (other && !is_plain(other))
        return none(name, err);
    if (other)
        snprintf(file, sizeof file, "additional_chat_templates/%s.jinja", other);
    odmoe_status status = load(folder, file, text, length, err);
    if (!status && !*text)
        status = from_config(folder, "chat_template.json", other, text, length, err);
    if (!status && !*text)
        status = from_config(folder, "tokenizer_config.json", other, text, length, err);
    if (!status && !*text)
        return none(other, err);
    return status;
}

odmoe_status template_source_open(const char *path, const char *name, char **text, size_t *length, odmoe_error *err)
{
    struct stat info;
    gguf *g = NULL;
    if (stat(path, &info))
        return err_set(err, ODMOE_ERR_IO, "%s: cannot be opened", path);
    if (S_ISDIR(info.st_mode))
        return template_source_folder(path, name, text, length, err);
    odmoe_status status = gguf_open(path, &g, err);
    if (!status)
        status = template_source_gguf(g, name, text, length, err);
    gguf_free(g);
    return status;
}
