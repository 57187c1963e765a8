/* tokenizer.json of a Hugging Face folder.
 *
 *   model          {"type": "BPE", "vocab": {text: id...}, "merges": ["left right"...] or [["left", "right"]...],
 *                  options}
 *                  or {"type": "Unigram", "vocab": [[text, score]...], "unk_id": id, options}
 *   added_tokens   tokenizer_json_added.c
 *   normalizer, pre_tokenizer, decoder: tokenizer_json_steps.c
 *   post_processor {"type": "TemplateProcessing"...}: what stands before the text */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "format/file.h"
#include "text/tokenizer_folder.h"
#include "text/tokenizer_json.h"

#define TOKENIZER_JSON_MAX ((size_t)256 << 20) /* bytes; the largest published ones have 35 MB */
#define IDS_SPARSE_MAX 65536                   /* ids may exceed the number of tokens by so many */

/* ---- tokens ---------------------------------------------------------------------------------------------------- */

/* The token of one id, while the table is put together. Texts are the JSON's. */
typedef struct slot {
    const json_t *text; /* of an added token, else NULL */
    const char *word;   /* of the model's vocabulary, else NULL; in a key U+0000 is json_reader.nul */
    size_t word_length;
    bool special;
} slot;

static odmoe_status read_id(const json_reader *r, const json_t *value, size_t limit, const char *what, size_t *out)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0 || (size_t)json_integer_value(value) >= limit)
        return err_set(r->err, ODMOE_ERR_FORMAT, "%s: %s has no id below %zu", r->file, what, limit);
    *out = (size_t)json_integer_value(value);
    return ODMOE_OK;
}

/* model.vocab of BPE: {text: id}. */
static odmoe_status collect_words(const json_reader *r, const json_t *words, slot *slots, size_t limit, size_t *count)
{
    const char *word;
    json_t *value;
    json_object_foreach((json_t *)words, word, value)
    {
        size_t id = 0;
        odmoe_status st = read_id(r, value, limit, "a token of model.vocab", &id);
        if (!st && slots[id].word)
            st = err_set(r->err, ODMOE_ERR_FORMAT, "%s: two tokens of model.vocab have the id %zu", r->file, id);
        if (st)
            return st;
        slots[id].word = word;
        slots[id].word_length = strlen(word);
        *count = id + 1 > *count ? id + 1 : *count;
    }
    return ODMOE_OK;
}

/* model.vocab of Unigram: [[text, score]], by id. */
static odmoe_status collect_pieces(const json_reader *r, const json_t *pieces, slot *slots, size_t *count)
{
    size_t id;
    json_t *pair;
    json_array_foreach((json_t *)pieces, id, pair)
    {
        const json_t *text = json_array_get(pair, 0);
        if (!json_is_string(text) || !json_is_number(json_array_get(pair, 1)))
            return err_set(r->err, ODMOE_ERR_FORMAT, "%s: model.vocab: %zu is no text and its score", r->file, id);
        slots[id].word = json_string_value(text);
        slots[id].word_length = json_string_length(text);
    }
    *count = json_array_size(pieces);
    return ODMOE_OK;
}

static odmoe_status collect_added(const json_reader *r, const json_t *added, slot *slots, size_t limit, size_t *count)
{
    size_t i;
    json_t *value;
    json_array_foreach(added, i, value)
    {
        const json_t *text = json_object_get(value, "content");
        size_t id = 0;
        odmoe_status st = read_id(r, json_object_get(value, "id"), limit, "a token of added_tokens", &id);
        if (!st && !json_is_string(text))
            st = err_set(r->err, ODMOE_ERR_FORMAT, "%s: added_tokens: %zu has no content", r->file, id);
        if (!st)
            st = config_bool((config_object){value, r->file}, "special", false, false, &slots[id].special, r->err);
        if (!st && i >= r->own_added && slots[id].word && strcmp(slots[id].word, json_string_value(text)) != 0)
            st = err_set(r->err, ODMOE_ERR_FORMAT, "%s: the id %zu is \"%.40s\", in the files beside it \"%.40s\"",
                         r->file, id, slots[id].word, json_string_value(text));
        if (st)
            return st;
        slots[id].text = text;
        *count = id + 1 > *count ? id + 1 : *count;
    }
    return ODMOE_OK;
}

/* The slots of all ids; *count is one more than the highest. */
static odmoe_status collect_tokens(const json_reader *r, const json_t *words, const json_t *added, slot **out,
                                   size_t *count)
{
    bool pieces = json_is_array(words);
    size_t listed = pieces ? json_array_size(words) : json_object_size(words);
    size_t limit = listed + json_array_size(added) + IDS_SPARSE_MAX;
    *out = mem_calloc(limit, sizeof **out, "tokens", r->err);
    *count = 0;
    odmoe_status st = *out ? ODMOE_OK : ODMOE_ERR_MEMORY;
    if (!st)
        st = pieces ? collect_pieces(r, words, *out, count) : collect_words(r, words, *out, limit, count);
    return st ? st : collect_added(r, added, *out, limit, count);
}

/* What an id is. added_tokens may list a token of the vocabulary again; one that is a byte stays one, because without
 * it the byte would vanish from every text. */
static token_kind kind_of(const json_reader *r, const slot *s)
{
    size_t length = s->word_length;
    if (length && r->t->model.byte_fallback && vocab_byte_token(s->word, length) >= 0)
        return TOKEN_BYTE;
    if (length && r->byte_level && vocab_is_byte_sign(s->word, length))
        return TOKEN_WORD;
    if (s->special)
        return TOKEN_SPECIAL;
    if (s->text)
        return s->word ? TOKEN_NAME : TOKEN_ADDED;
    return length ? TOKEN_WORD : TOKEN_MISSING;
}

/* The next token, of the model's vocabulary. */
static odmoe_status add_word(const json_reader *r, const slot *s, token_kind kind)
{
    vocab *v = &r->t->model.vocab;
    const char *word = s->word ? s->word : "";
    if (!*r->nul || !strstr(word, r->nul))
        return vocab_add(v, word, s->word_length, kind, r->byte_level, r->file, r->err);
    char *text = mem_strdup(word, s->word_length, r->err);
    if (!text)
        return ODMOE_ERR_MEMORY;
    size_t length = config_restore_nul(text, s->word_length, r->nul);
    odmoe_status st = vocab_add(v, text, length, kind, r->byte_level, r->file, r->err);
    free(text);
    return st;
}

static odmoe_status add_tokens(const json_reader *r, const slot *slots, size_t count)
{
    vocab *v = &r->t->model.vocab;
    odmoe_status st = ODMOE_OK;
    for (size_t id = 0; !st && id < count; id++) {
        const slot *s = &slots[id];
        token_kind kind = kind_of(r, s);
        if (kind == TOKEN_SPECIAL || kind == TOKEN_ADDED)
            st = vocab_add(v, json_string_value(s->text), json_string_length(s->text), kind, r->byte_level, r->file,
                           r->err);
        else
            st = add_word(r, s, kind);
    }
    return st ? st : vocab_seal(v, r->err);
}

static odmoe_status read_tokens(const json_reader *r, const json_t *root, const json_t *model)
{
    const json_t *words = json_object_get(model, "vocab"), *added = json_object_get(root, "added_tokens");
    bool listed = r->unigram ? json_array_size(words) > 0 : json_object_size(words) > 0;
    if (!listed)
        return err_set(r->err, ODMOE_ERR_FORMAT, "%s: model.vocab is no %s, or is empty", r->file,
                       r->unigram ? "list" : "object");
    slot *slots = NULL;
    size_t count;
    odmoe_status st = collect_tokens(r, words, added, &slots, &count);
    if (!st)
        st = add_tokens(r, slots, count);
    free(slots);
    return st;
}

/* ---- merges ---------------------------------------------------------------------------------------------------- */

static odmoe_status read_merge(const json_reader *r, const json_t *merge, size_t rank)
{
    const json_t *left = json_array_get(merge, 0), *right = json_array_get(merge, 1);
    vocab *v = &r->t->model.vocab;
    if (json_array_size(merge) == 2 && json_is_string(left) && json_is_string(right))
        return vocab_add_merge(v, json_string_value(left), json_string_length(left), json_string_value(right),
                               json_string_length(right), r->byte_level, r->file, r->err);
    const char *text = json_string_value(merge);
    size_t length = json_string_length(merge);
    const char *blank = length ? memchr(text + 1, ' ', length - 1) : NULL;
    if (!blank)
        return err_set(r->err, ODMOE_ERR_FORMAT, "%s: model.merges: %zu is not a pair", r->file, rank);
    return vocab_add_merge(v, text, (size_t)(blank - text), blank + 1, length - (size_t)(blank - text) - 1,
                           r->byte_level, r->file, r->err);
}

static odmoe_status read_merges(const json_reader *r, const json_t *model)
{
    const json_t *merges = json_object_get(model, "merges");
    if (!json_is_array(merges))
        return err_set(r->err, ODMOE_ERR_FORMAT, "%s: model.merges is no list", r->file);
    odmoe_status st = ODMOE_OK;
    for (size_t i = 0; !st && i < json_array_size(merges); i++)
        st = read_merge(r, json_array_get(merges, i), i);
    return st ? st : vocab_seal_merges(&r->t->model.vocab, r->err);
}

/* ---- the model -------------------------------------------------------------------------------------------------- */

/* Options that change what merging gives and that no published model of ours uses. */
static odmoe_status check_bpe(const json_reader *r, const json_t *model)
{
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (int i = 0; i < 2; i++) {
        const char *affix = json_string_value(json_object_get(model, affixes[i]));
        if (affix && *affix)
            return err_set(r->err, ODMOE_ERR_UNSUPPORTED, "%s: model.%s is not supported", r->file, affixes[i]);
    }
    if (json_number_value(json_object_get(model, "dropout")) != 0)
        return err_set(r->err, ODMOE_ERR_UNSUPPORTED, "%s: model.dropout is not supported", r->file);
    return ODMOE_OK;
}

static odmoe_status read_bpe(json_reader *r, const json_t *root, const json_t *model)
{
    merge_model *m = &r->t->model;
    config_object c = {model, r->file};
    odmoe_status st = check_bpe(r, model);
    if (!st)
        st = config_bool(c, "ignore_merges", false, false, &m->whole_words, r->err);
    if (!st)
        st = config_bool(c, "fuse_unk", false, false, &m->fuse_unknown, r->err);
    if (!st)
        st = read_tokens(r, root, model);
    if (!st)
        st = read_merges(r, model);
    if (st)
        return st;
    m->byte_symbols = r->byte_level;
    tokenizer_find_bytes(r->t, r->byte_level);
    const char *unknown = json_string_value(json_object_get(model, "unk_token"));
    const json_t *id = unknown ? json_object_get(json_object_get(model, "vocab"), unknown) : NULL;
    if (json_is_integer(id)) /* an id of vocab: checked by collect_words */
        m->unknown = (int32_t)json_integer_value(id);
    return r->byte_level ? ODMOE_OK : tokenizer_split_at_marks(r->t, r->err);
}

/* The score that tokenizers reads where the file says x: the shortest digits of x as one number, divided by a power of
 * ten, each step rounded (serde_json). The last bit decides between ways that are equally good, as "-" "--" and "--"
 * "-". */
static double score_as_read(double x)
{
    char text[40], power[16];
    for (int digits = 15; digits <= 17; digits++) { /* 15 are always exact enough to be shown */
        snprintf(text, sizeof text, "%.*e", digits - 1, x);
        if (strtod(text, NULL) == x)
            break;
    }
    uint64_t significand = 0, whole = 0;
    int behind = -1, kept = 0;
    char *at = text;
    for (; *at && *at != 'e'; at++) {
        if (*at < '0' || *at > '9')
            continue; /* the sign, and the point of whichever locale */
        whole = whole * 10 + (uint64_t)(*at - '0');
        behind++;
        if (*at != '0') {
            significand = whole;
            kept = behind;
        }
    }
    int exponent = (int)strtol(*at ? at + 1 : at, NULL, 10) - kept;
    snprintf(power, sizeof power, "1e%d", abs(exponent));
    double value = exponent < 0 ? (double)significand / strtod(power, NULL) : (double)significand * strtod(power, NULL);
    return x < 0 ? -value : value;
}

static odmoe_status read_scores(const json_reader *r, const json_t *pieces)
{
    const vocab *v = &r->t->model.vocab;
    double *scores = mem_calloc(v->count, sizeof *scores, "token scores", r->err); /* added tokens have none */
    if (!scores)
        return ODMOE_ERR_MEMORY;
    r->t->unigram.scores = scores;
    for (size_t i = 0; i < json_array_size(pieces); i++) {
        scores[i] = json_number_value(json_array_get(json_array_get(pieces, i), 1));
        if (!isfinite(scores[i]))
            return err_set(r->err, ODMOE_ERR_FORMAT, "%s: model.vocab: the score of %zu is no number", r->file, i);
        scores[i] = score_as_read(scores[i]);
    }
    return unigram_seal(&r->t->unigram, v, r->file, r->err);
}

static odmoe_status read_unigram(json_reader *r, const json_t *root, const json_t *model)
{
    const json_t *pieces = json_object_get(model, "vocab"), *unknown = json_object_get(model, "unk_id");
    size_t id = 0;
    odmoe_status st = ODMOE_OK;
    if (r->byte_level)
        st = err_set(r->err, ODMOE_ERR_UNSUPPORTED, "%s: the model Unigram behind ByteLevel is not supported", r->file);
    if (!st)
        st = read_tokens(r, root, model);
    if (!st)
        st = read_scores(r, pieces);
    if (!st && unknown && !json_is_null(unknown)) {
        st = read_id(r, unknown, json_array_size(pieces), "model.unk_id", &id);
        r->t->model.unknown = (int32_t)id;
    }
    tokenizer_find_bytes(r->t, false);
    return st;
}

static odmoe_status read_model(json_reader *r, const json_t *root)
{
    const json_t *model = json_object_get(root, "model");
    if (!json_is_object(model))
        return err_set(r->err, ODMOE_ERR_FORMAT, "%s: has no model", r->file);
    const char *type = step_type(model); /* old files leave it out */
    r->unigram = !strcmp(type, "Unigram");
    if (!r->unigram && strcmp(type, "BPE") != 0 && (*type || !json_object_get(model, "merges")))
        return err_set(r->err, ODMOE_ERR_UNSUPPORTED, "%s: the model \"%s\" is not supported; BPE and Unigram are",
                       r->file, type);
    odmoe_status st =
        config_bool((config_object){model, r->file}, "byte_fallback", false, false, &r->t->model.byte_fallback, r->err);
    if (st)
        return st;
    return r->unigram ? read_unigram(r, root, model) : read_bpe(r, root, model);
}

/* ---- what stands before a text ---------------------------------------------------------------------------------- */

static odmoe_status add_start(const json_reader *r, const json_t *id)
{
    tokenizer *t = r->t;
    size_t value = 0;
    odmoe_status st = read_id(r, id, t->model.vocab.count, "a token of post_processor", &value);
    if (!st && t->start_count == START_TOKENS_MAX)
        st = err_set(r->err, ODMOE_ERR_UNSUPPORTED, "%s: post_processor puts more than %d tokens before a text",
                     r->file, START_TOKENS_MAX);
    if (!st)
        t->starts[t->start_count++] = (int32_t)value;
    return st;
}

/* "single": [{"SpecialToken": {"id": name}}..., {"Sequence": {"id": "A"}}, ...]; names are in "special_tokens". */
static odmoe_status read_template(const json_reader *r, const json_t *processor)
{
    const json_t *single = json_object_get(processor, "single"), *names = json_object_get(processor, "special_tokens");
    odmoe_status st = ODMOE_OK;
    for (size_t i = 0; !st && i < json_array_size(single); i++) {
        const json_t *special = json_object_get(json_array_get(single, i), "SpecialToken");
        if (!special)
            break; /* the text itself: what follows it is not for generation */
        const char *name = json_string_value(json_object_get(special, "id"));
        const json_t *ids = json_object_get(name ? json_object_get(names, name) : NULL, "ids");
        if (!json_is_array(ids))
            st = err_set(r->err, ODMOE_ERR_FORMAT, "%s: post_processor names a token that it doesn't list", r->file);
        for (size_t k = 0; !st && k < json_array_size(ids); k++)
            st = add_start(r, json_array_get(ids, k));
    }
    return st;
}

static odmoe_status read_post_processor(const json_reader *r, const json_t *processor)
{
    const char *type = step_type(processor);
    const json_t *list = json_object_get(processor, "processors");
    odmoe_status st = ODMOE_OK;
    if (!strcmp(type, "TemplateProcessing"))
        return read_template(r, processor);
    if (!strcmp(type, "Sequence"))
        for (size_t i = 0; !st && i < json_array_size(list); i++)
            st = read_post_processor(r, json_array_get(list, i));
    else if (*type && strcmp(type, "ByteLevel") != 0)
        st = err_set(r->err, ODMOE_ERR_UNSUPPORTED, "%s: the post_processor \"%s\" is not supported", r->file, type);
    return st;
}

/* ---- all of it --------------------------------------------------------------------------------------------------- */

static odmoe_status read_root(json_reader *r, json_t *root, const folder_files *files)
{
    odmoe_status st = json_added_merge(r, root, files->tokenizer_config, files->added_tokens);
    if (!st)
        st = json_steps_read(r, root);
    if (!st)
        st = read_model(r, root);
    if (!st)
        st = json_added_read(r, root);
    return st ? st : read_post_processor(r, json_object_get(root, "post_processor"));
}

odmoe_status tokenizer_json_read(const char *folder, const folder_files *files, tokenizer *t, odmoe_error *err)
{
    json_t *root = NULL;
    char *path = file_join(folder, "tokenizer.json", err);
    if (!path)
        return ODMOE_ERR_MEMORY;
    json_reader r = {.t = t, .file = file_label(path), .err = err};
    odmoe_status st = config_read_nul(folder, "tokenizer.json", TOKENIZER_JSON_MAX, false, &root, r.nul, err);
    if (!st)
        st = read_root(&r, root, files);
    json_decref(root);
    free(path);
    return st;
}
