/* The added tokens of a Hugging Face folder: those of tokenizer.json, and what only the files beside it list.
 *
 *   tokenizer.json         "added_tokens": [{"id", "content", "special", "lstrip", "rstrip", "normalized",
 *                          "single_word"}...]
 *   tokenizer_config.json  "added_tokens_decoder": {id: the same members without "id"}
 *   added_tokens.json      {content: id}, of folders whose tokenizer_config.json has no "added_tokens_decoder" */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "text/tokenizer_json.h"

/* An added token into the set where it is looked for. A special token of the normalised text is in both: in
 * tokenizer_encode_parts only the text as given says which part it is from. */
static odmoe_status place_added(tokenizer *t, added_token token, const json_t *content, bool normalized,
                                normal_scratch *scratch, odmoe_error *err)
{
    const char *text = json_string_value(content), *normal;
    size_t length = json_string_length(content), n;
    odmoe_status st = ODMOE_OK;
    if (normalized) {
        scratch->room = ADDED_TEXT_MAX;
        st = normalize(t->normalize, t->normalize_count, scratch, text, length, &normal, &n, err);
        if (st == ODMOE_ERR_RANGE)
            st = err_set(err, ODMOE_ERR_FORMAT, "the added token %d has more than %u bytes, normalised", token.id,
                         ADDED_TEXT_MAX);
        if (!st)
            st = added_add(&t->added_normalized, &token, normal, n, err);
        token.only_in_parts = true;
    }
    return st || (normalized && !token.special) ? st : added_add(&t->added, &token, text, length, err);
}

static odmoe_status add_added(const json_reader *r, const json_t *object, normal_scratch *scratch)
{
    config_object c = {object, r->file};
    added_token token = {.id = (int32_t)json_integer_value(json_object_get(object, "id"))};
    bool normalized = false;
    odmoe_status st = config_bool(c, "special", false, false, &token.special, r->err);
    if (!st)
        st = config_bool(c, "lstrip", false, false, &token.strip_left, r->err);
    if (!st)
        st = config_bool(c, "rstrip", false, false, &token.strip_right, r->err);
    if (!st)
        st = config_bool(c, "single_word", false, false, &token.single_word, r->err);
    if (!st)
        st = config_bool(c, "normalized", false, !token.special, &normalized, r->err);
    if (st)
        return st;
    st = place_added(r->t, token, json_object_get(object, "content"), normalized, scratch, r->err);
    if (st)
        err_context(r->err, "%s: added_tokens", r->file);
    return st;
}

odmoe_status json_added_read(const json_reader *r, const json_t *root)
{
    const json_t *list = json_object_get(root, "added_tokens");
    normal_scratch scratch = {0};
    pattern_scratch *patterns;
    odmoe_status st = pattern_scratch_create(&patterns, r->err);
    if (st)
        return st;
    scratch.patterns = patterns;
    for (size_t i = 0; !st && i < json_array_size(list); i++)
        st = add_added(r, json_array_get(list, i), &scratch);
    normal_scratch_free(&scratch);
    pattern_scratch_free(patterns);
    return st;
}

/* ---- what only the files beside tokenizer.json list ----------------------------------------------------------- */

/* A growing list of added tokens. */
typedef struct merger {
    const json_reader *r;
    const char *file;  /* for messages */
    json_t *list;      /* root.added_tokens */
    json_t *known;     /* {content: null} of the list */
    const json_t *ids; /* model.vocab */
} merger;

static odmoe_status no_memory(const merger *m)
{
    return err_set(m->r->err, ODMOE_ERR_MEMORY, "%s: no memory for added tokens", m->file);
}

/* Append one token. One that the vocabulary has keeps the id that it has there, as in transformers. */
static odmoe_status merge_token(const merger *m, const char *content, int64_t id, json_t *token)
{
    const json_t *own = json_object_get(m->ids, content);
    if (!*content || json_object_get(m->known, content))
        return ODMOE_OK;
    if (json_is_integer(own))
        id = json_integer_value(own);
    if (json_object_set_new(token, "id", json_integer(id)) || json_object_set_new(m->known, content, json_null()) ||
        json_array_append(m->list, token))
        return no_memory(m);
    return ODMOE_OK;
}

/* "added_tokens_decoder": {"7": {"content": ...}} */
static odmoe_status merge_decoder(const merger *m, json_t *decoder)
{
    odmoe_status st = ODMOE_OK;
    const char *key;
    json_t *token;
    json_object_foreach(decoder, key, token)
    {
        char *end;
        errno = 0;
        long long id = strtoll(key, &end, 10);
        const char *content = json_string_value(json_object_get(token, "content"));
        if (!st && (errno || end == key || *end || !content))
            st = err_set(m->r->err, ODMOE_ERR_FORMAT,
                         "%s: added_tokens_decoder: \"%.40s\" is no id of a token with content", m->file, key);
        if (!st)
            st = merge_token(m, content, id, token);
    }
    return st;
}

/* Is it the text of one of the roles (bos_token, additional_special_tokens...) of tokenizer_config.json? */
static bool has_role(const json_t *config, const char *content)
{
    static const char *const roles[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                        "pad_token", "cls_token", "mask_token"};
    const json_t *more = json_object_get(config, "additional_special_tokens");
    bool found = false;
    for (size_t i = 0; i < sizeof roles / sizeof *roles + json_array_size(more); i++) {
        const json_t *value = i < sizeof roles / sizeof *roles ? json_object_get(config, roles[i])
                                                               : json_array_get(more, i - sizeof roles / sizeof *roles);
        const char *text = json_string_value(json_is_object(value) ? json_object_get(value, "content") : value);
        found |= text && !strcmp(text, content);
    }
    return found;
}

/* added_tokens.json: {content: id} */
static odmoe_status merge_pairs(const merger *m, json_t *pairs, const json_t *config)
{
    odmoe_status st = ODMOE_OK;
    const char *content;
    json_t *id;
    json_object_foreach(pairs, content, id)
    {
        if (st)
            break;
        if (!json_is_integer(id))
            return err_set(m->r->err, ODMOE_ERR_FORMAT, "%s: \"%.40s\" has no id", m->file, content);
        bool special = has_role(config, content);
        json_t *token = json_pack("{s:s,s:b,s:b}", "content", content, "special", special, "normalized", !special);
        st = token ? merge_token(m, content, json_integer_value(id), token) : no_memory(m);
        json_decref(token);
    }
    return st;
}

static odmoe_status merge_open(merger *m, json_t *root)
{
    m->ids = json_object_get(json_object_get(root, "model"), "vocab");
    m->list = json_object_get(root, "added_tokens");
    m->known = json_object();
    if (m->known && !json_is_array(m->list) && !json_object_set_new(root, "added_tokens", json_array()))
        m->list = json_object_get(root, "added_tokens");
    size_t i;
    const json_t *token;
    bool failed = !m->known || !m->list;
    json_array_foreach(m->list, i, token)
    {
        const char *content = json_string_value(json_object_get(token, "content"));
        failed |= content && json_object_set_new(m->known, content, json_null());
    }
    return failed ? no_memory(m) : ODMOE_OK;
}

odmoe_status json_added_merge(json_reader *r, json_t *root, const json_t *tokenizer_config, json_t *pairs)
{
    r->own_added = json_array_size(json_object_get(root, "added_tokens"));
    json_t *decoder = json_object_get(tokenizer_config, "added_tokens_decoder");
    bool has_decoder = json_is_object(decoder);
    if (!has_decoder && !pairs)
        return ODMOE_OK;
    merger m = {.r = r, .file = has_decoder ? "tokenizer_config.json" : "added_tokens.json"};
    odmoe_status st = merge_open(&m, root);
    if (!st)
        st = has_decoder ? merge_decoder(&m, decoder) : merge_pairs(&m, pairs, tokenizer_config);
    json_decref(m.known);
    return st;
}
