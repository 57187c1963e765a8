/* The tokenizer of a Hugging Face folder: tokenizer.json or tiktoken.model, and the files beside it that say which
 * tokens begin and end a text. */
#include "text/tokenizer_folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "format/file.h"

#define CONFIG_JSON_MAX ((size_t)4 << 20) /* the largest published ones (Gemma's) have 1.2 MB */

/* ---- the files beside it ----------------------------------------------------------------------------------------- */

/* tokenizer_config.json writes a token as its text, or as an object with that in "content"; -1 where it names none. */
static int32_t named_token(const tokenizer *t, const json_t *config, const char *key)
{
    const json_t *value = json_object_get(config, key);
    if (json_is_object(value))
        value = json_object_get(value, "content");
    return json_is_string(value) ? tokenizer_find(t, json_string_value(value), json_string_length(value)) : -1;
}

/* What config.json says of the language model: of models that see or hear as well it is a part. */
static const json_t *language_config(const folder_files *f)
{
    const json_t *part = json_object_get(f->config, "text_config");
    return json_is_object(part) ? part : f->config;
}

/* eos_token_id: a number or a list of numbers. */
static void add_end_ids(tokenizer *t, const json_t *config)
{
    const json_t *ids = json_object_get(config, "eos_token_id");
    if (json_is_integer(ids))
        tokenizer_add_end(t, json_integer_value(ids));
    for (size_t i = 0; i < json_array_size(ids); i++)
        if (json_is_integer(json_array_get(ids, i)))
            tokenizer_add_end(t, json_integer_value(json_array_get(ids, i)));
}

static void apply_bos(tokenizer *t, const json_t *tokenizer_config, const json_t *config)
{
    const json_t *id = json_object_get(config, "bos_token_id"),
                 *add = json_object_get(tokenizer_config, "add_bos_token");
    t->bos = named_token(t, tokenizer_config, "bos_token");
    if (t->bos < 0 && json_is_integer(id) && json_integer_value(id) >= 0 &&
        json_integer_value(id) < t->model.vocab.count)
        t->bos = (int32_t)json_integer_value(id);
    if (json_is_false(add))
        t->start_count = 0;
    if (json_is_true(add) && t->bos >= 0 && !t->start_count)
        t->starts[t->start_count++] = t->bos;
    if (t->bos < 0 && t->start_count)
        t->bos = t->starts[0];
}

static odmoe_status files_read(const char *folder, folder_files *f, odmoe_error *err)
{
    odmoe_status st = config_read(folder, "tokenizer_config.json", CONFIG_JSON_MAX, true, &f->tokenizer_config, err);
    if (!st)
        st = config_read(folder, "config.json", CONFIG_JSON_MAX, true, &f->config, err);
    if (!st)
        st = config_read(folder, "generation_config.json", CONFIG_JSON_MAX, true, &f->generation, err);
    if (!st)
        st = config_read(folder, "added_tokens.json", CONFIG_JSON_MAX, true, &f->added_tokens, err);
    return st;
}

static void files_free(folder_files *f)
{
    json_decref(f->tokenizer_config);
    json_decref(f->config);
    json_decref(f->generation);
    json_decref(f->added_tokens);
}

static void apply_files(tokenizer *t, const folder_files *f)
{
    apply_bos(t, f->tokenizer_config, language_config(f));
    tokenizer_add_end(t, named_token(t, f->tokenizer_config, "eos_token"));
    add_end_ids(t, f->config);
    add_end_ids(t, language_config(f));
    add_end_ids(t, f->generation);
}

/* An eos_token that names no token does no harm where another token ends a text; without one no text would ever end. */
static odmoe_status check_end(const tokenizer *t, const folder_files *f, const char *folder, odmoe_error *err)
{
    const json_t *value = json_object_get(f->tokenizer_config, "eos_token");
    const char *name = json_string_value(json_is_object(value) ? json_object_get(value, "content") : value);
    if (!name || !*name || t->end_count)
        return ODMOE_OK;
    return err_set(err, ODMOE_ERR_FORMAT, "%s/tokenizer_config.json: eos_token \"%.60s\" is no token of the vocabulary",
                   file_label(folder), name);
}

static bool holds(const char *folder, const char *name)
{
    char path[4096];
    return (size_t)snprintf(path, sizeof path, "%s/%s", folder, name) < sizeof path && !access(path, F_OK);
}

/* A folder without tokenizer.json; what stands there instead is named. */
static odmoe_status no_tokenizer_json(const char *folder, odmoe_error *err)
{
    static const char *const others[] = {"tokenizer.model", "vocab.json", "spiece.model", "vocab.txt"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (holds(folder, others[i]))
            return err_set(
                err, ODMOE_ERR_UNSUPPORTED,
                "%s: has no tokenizer.json; %s alone is not read: save the tokenizer with transformers, which "
                "writes tokenizer.json",
                file_label(folder), others[i]);
    return err_set(err, ODMOE_ERR_UNSUPPORTED, "%s: has no tokenizer (no tokenizer.json)", file_label(folder));
}

odmoe_status tokenizer_from_folder(const char *folder, tokenizer **out, odmoe_error *err)
{
    folder_files f = {0};
    bool json = holds(folder, "tokenizer.json");
    if (!json && !holds(folder, "tiktoken.model"))
        return no_tokenizer_json(folder, err);
    tokenizer *t = mem_calloc(1, sizeof *t, "a tokenizer", err);
    if (!t)
        return ODMOE_ERR_MEMORY;
    t->bos = t->model.unknown = -1;
    odmoe_status st = files_read(folder, &f, err);
    if (!st)
        st = json ? tokenizer_json_read(folder, &f, t, err) : tokenizer_tiktoken_read(folder, &f, t, err);
    if (!st) {
        apply_files(t, &f);
        tokenizer_finish(t);
        st = check_end(t, &f, folder, err);
    }
    files_free(&f);
    if (st)
        tokenizer_free(t);
    else
        *out = t;
    return st;
}
