/* tokenizer.json: what is done around the model. Each of "normalizer", "pre_tokenizer" and "decoder" is null, one step
 * {"type": ..., options}, or {"type": "Sequence"} with a list of steps. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "text/gguf_pretokenizers.h"
#include "text/tokenizer_json.h"

typedef odmoe_status (*step_fn)(json_reader *r, const json_t *step, const char *type);

const char *step_type(const json_t *step)
{
    const char *type = json_string_value(json_object_get(step, "type"));
    return type ? type : "";
}

static odmoe_status unsupported(const json_reader *r, const char *what, const char *name)
{
    return err_set(r->err, ODMOE_ERR_UNSUPPORTED, "%s: %s \"%s\" is not supported", r->file, what, name);
}

/* A step, or the steps of a Sequence, which name their list differently. Depth is bounded by config_read. */
static odmoe_status read_steps(json_reader *r, const json_t *step, const char *list, step_fn fn)
{
    if (!step || json_is_null(step))
        return ODMOE_OK;
    if (strcmp(step_type(step), "Sequence") != 0)
        return fn(r, step, step_type(step));
    const json_t *steps = json_object_get(step, list);
    if (!json_is_array(steps))
        return err_set(r->err, ODMOE_ERR_FORMAT, "%s: a Sequence without a list \"%s\"", r->file, list);
    odmoe_status st = ODMOE_OK;
    for (size_t i = 0; !st && i < json_array_size(steps); i++)
        st = read_steps(r, json_array_get(steps, i), list, fn);
    return st;
}

/* "pattern": {"String": text} or {"Regex": expression}. */
static odmoe_status read_pattern(const json_reader *r, const json_t *step, pattern **out)
{
    const json_t *object = json_object_get(step, "pattern");
    const json_t *text = json_object_get(object, "String"), *regex = json_object_get(object, "Regex");
    const json_t *value = text ? text : regex;
    if (!json_is_string(value))
        return err_set(r->err, ODMOE_ERR_FORMAT, "%s: %s.pattern is neither a String nor a Regex", r->file,
                       step_type(step));
    char where[ODMOE_ERROR_MESSAGE_MAX / 2];
    snprintf(where, sizeof where, "%s: %s.pattern", r->file, step_type(step));
    return pattern_compile(json_string_value(value), json_string_length(value), text != NULL, where, out, r->err);
}

static odmoe_status read_option(const json_reader *r, const json_t *step, const char *key, bool fallback, bool *out)
{
    return config_bool((config_object){step, r->file}, key, false, fallback, out, r->err);
}

/* The member `key` as text, copied to *out. */
static odmoe_status copy_text(const json_reader *r, const json_t *step, const char *key, char **out, size_t *length)
{
    const json_t *value = json_object_get(step, key);
    if (!json_is_string(value))
        return err_set(r->err, ODMOE_ERR_FORMAT, "%s: %s.%s is not a text", r->file, step_type(step), key);
    *length = json_string_length(value);
    *out = mem_strdup(json_string_value(value), *length, r->err);
    return *out ? ODMOE_OK : ODMOE_ERR_MEMORY;
}

/* ---- normalizer ------------------------------------------------------------------------------------------------ */

static odmoe_status read_normalizer(json_reader *r, const json_t *step, const char *type)
{
    static const char *const types[] = {
        [NORMALIZE_NFC] = "NFC",   [NORMALIZE_NFD] = "NFD",         [NORMALIZE_NFKC] = "NFKC",
        [NORMALIZE_NFKD] = "NFKD", [NORMALIZE_PREPEND] = "Prepend", [NORMALIZE_REPLACE] = "Replace"};
    tokenizer *t = r->t;
    size_t kind = 0, kinds = sizeof types / sizeof *types;
    while (kind < kinds && strcmp(types[kind], type) != 0)
        kind++;
    if (kind == kinds)
        return unsupported(r, "the normalizer", type);
    if (t->normalize_count == NORMALIZE_STEPS_MAX)
        return err_set(r->err, ODMOE_ERR_UNSUPPORTED, "%s: more than %d normalizers", r->file, NORMALIZE_STEPS_MAX);
    normalize_step *out = &t->normalize[t->normalize_count++];
    out->kind = (normalize_kind)kind;
    if (out->kind == NORMALIZE_PREPEND)
        return copy_text(r, step, "prepend", &out->text, &out->length);
    if (out->kind != NORMALIZE_REPLACE)
        return ODMOE_OK;
    odmoe_status st = read_pattern(r, step, &out->pattern);
    return st ? st : copy_text(r, step, "content", &out->text, &out->length);
}

/* ---- pre_tokenizer ----------------------------------------------------------------------------------------------- */

static odmoe_status new_split(json_reader *r, pretokenize_kind kind, pretokenize_step **out)
{
    tokenizer *t = r->t;
    if (t->split_count == SPLIT_STEPS_MAX)
        return err_set(r->err, ODMOE_ERR_UNSUPPORTED, "%s: more than %d pre-tokenizers", r->file, SPLIT_STEPS_MAX);
    *out = &t->split[t->split_count++];
    (*out)->kind = kind;
    return ODMOE_OK;
}

static odmoe_status read_split(json_reader *r, const json_t *step)
{
    static const char *const behaviors[] = {[SPLIT_ISOLATED] = "Isolated",
                                            [SPLIT_REMOVED] = "Removed",
                                            [SPLIT_WITH_PREVIOUS] = "MergedWithPrevious",
                                            [SPLIT_WITH_NEXT] = "MergedWithNext",
                                            [SPLIT_CONTIGUOUS] = "Contiguous"};
    const char *name;
    odmoe_status st = config_text((config_object){step, r->file}, "behavior", true, NULL, &name, r->err);
    if (st)
        return st;
    size_t behavior = 0, count = sizeof behaviors / sizeof *behaviors;
    while (behavior < count && strcmp(behaviors[behavior], name) != 0)
        behavior++;
    if (behavior == count)
        return unsupported(r, "the behavior", name);
    pretokenize_step *out = NULL;
    st = new_split(r, SPLIT_PATTERN, &out);
    if (st)
        return st;
    out->matches = (pretokenize_matches)behavior;
    st = read_option(r, step, "invert", false, &out->invert);
    return st ? st : read_pattern(r, step, &out->pattern);
}

/* The sign for a blank, which decoding knows as U+2581 only: the member `key` of a step, or of its "pattern". */
static odmoe_status check_mark(const json_reader *r, const json_t *step, const json_t *object, const char *key)
{
    const json_t *mark = json_object_get(object, key);
    if (!json_is_string(mark) || strcmp(json_string_value(mark), BLANK_MARK) != 0)
        return err_set(r->err, ODMOE_ERR_UNSUPPORTED,
                       "%s: %s of %s is not U+2581, the only sign of a blank that is read", r->file, key,
                       step_type(step));
    return ODMOE_OK;
}

/* prepend_scheme, or add_prefix_space of older files. */
static odmoe_status read_prepend(const json_reader *r, const json_t *step, pretokenize_prepend *out)
{
    const char *scheme;
    bool prefix;
    odmoe_status st = read_option(r, step, "add_prefix_space", true, &prefix);
    if (!st)
        st = config_text((config_object){step, r->file}, "prepend_scheme", false, prefix ? "always" : "never", &scheme,
                         r->err);
    if (st)
        return st;
    *out = !strcmp(scheme, "always")  ? SPLIT_PREPEND_ALWAYS
           : !strcmp(scheme, "first") ? SPLIT_PREPEND_FIRST
                                      : SPLIT_PREPEND_NEVER;
    return *out == SPLIT_PREPEND_NEVER && strcmp(scheme, "never") != 0 ? unsupported(r, "the prepend_scheme", scheme)
                                                                       : ODMOE_OK;
}

static odmoe_status read_metaspace(json_reader *r, const json_t *step)
{
    pretokenize_step *out = NULL;
    odmoe_status st = check_mark(r, step, step, "replacement");
    if (!st)
        st = new_split(r, SPLIT_META, &out);
    if (!st)
        st = copy_text(r, step, "replacement", &out->text, &out->length);
    if (!st)
        st = read_option(r, step, "split", true, &out->cut);
    return st ? st : read_prepend(r, step, &out->prepend);
}

static odmoe_status read_byte_level(json_reader *r, const json_t *step)
{
    bool prefix, regex;
    pretokenize_step *out = NULL;
    r->byte_level = true;
    odmoe_status st = read_option(r, step, "add_prefix_space", true, &prefix);
    if (!st)
        st = read_option(r, step, "use_regex", true, &regex);
    if (!st && prefix)
        st = new_split(r, SPLIT_PREFIX, &out);
    if (!st && regex)
        st = tokenizer_add_pattern(r->t, GPT2_PATTERN "|\\s+", r->file, r->err);
    return st;
}

static odmoe_status read_pre_tokenizer(json_reader *r, const json_t *step, const char *type)
{
    bool individual;
    if (r->byte_level)
        return err_set(r->err, ODMOE_ERR_UNSUPPORTED, "%s: a pre-tokenizer (\"%s\") after ByteLevel is not supported",
                       r->file, type);
    if (!strcmp(type, "Split"))
        return read_split(r, step);
    if (!strcmp(type, "ByteLevel"))
        return read_byte_level(r, step);
    if (!strcmp(type, "Metaspace"))
        return read_metaspace(r, step);
    if (strcmp(type, "Digits") != 0)
        return unsupported(r, "the pre-tokenizer", type);
    odmoe_status st = read_option(r, step, "individual_digits", false, &individual);
    return st ? st : tokenizer_add_pattern(r->t, individual ? DIGIT_PATTERN : DIGIT_PATTERN "+", r->file, r->err);
}

/* ---- decoder ------------------------------------------------------------------------------------------------------
 */

static odmoe_status read_decoder(json_reader *r, const json_t *step, const char *type)
{
    tokenizer *t = r->t;
    if (!strcmp(type, "ByteLevel") || !strcmp(type, "ByteFallback") || !strcmp(type, "Fuse"))
        return ODMOE_OK; /* what the vocabulary says already */
    if (!strcmp(type, "Metaspace")) {
        pretokenize_prepend prepend = SPLIT_PREPEND_NEVER;
        odmoe_status st = check_mark(r, step, step, "replacement");
        if (!st)
            st = read_prepend(r, step, &prepend);
        t->marks_are_blanks = true;
        t->strips_space = prepend != SPLIT_PREPEND_NEVER;
        return st;
    }
    if (!strcmp(type, "Replace")) {
        odmoe_status st = check_mark(r, step, json_object_get(step, "pattern"), "String");
        const char *content = json_string_value(json_object_get(step, "content"));
        if (!st && (!content || strcmp(content, " ") != 0))
            st = unsupported(r, "the decoder's replacement", content ? content : "");
        t->marks_are_blanks = true;
        return st;
    }
    if (!strcmp(type, "Strip")) {
        int64_t start = 0;
        const char *content = json_string_value(json_object_get(step, "content"));
        odmoe_status st = config_int((config_object){step, r->file}, "start", false, 0, 1, 0, &start, r->err);
        if (!st && (!content || strcmp(content, " ") != 0))
            st = unsupported(r, "the decoder's strip", content ? content : "");
        t->strips_space = start == 1;
        return st;
    }
    return unsupported(r, "the decoder", type);
}

odmoe_status json_steps_read(json_reader *r, const json_t *root)
{
    odmoe_status st = read_steps(r, json_object_get(root, "normalizer"), "normalizers", read_normalizer);
    if (!st)
        st = read_steps(r, json_object_get(root, "pre_tokenizer"), "pretokenizers", read_pre_tokenizer);
    return st ? st : read_steps(r, json_object_get(root, "decoder"), "decoders", read_decoder);
}
