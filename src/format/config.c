/* Parsing is jansson's, but what would hurt is taken out before: files too large, values nested too deep (its parser
 * recurses), more values than its tree of them may take memory for, and what Python writes and jansson doesn't take:
 * the words NaN and Infinity, and integers beyond 64 bits (transformers writes int(1e30) for "no limit"). They become
 * empty texts, so that a field that is not read may hold them, and one that is read is refused as no number. */
#include "format/config.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "format/file.h"
#include "format/json_walk.h"

#define INTEGER_IN_DOUBLE_MAX 0x1p53

/* An empty object, jansson's largest value, takes some 230 bytes for the three of "{},": so much is assumed for each
 * sign behind which a value may stand. The largest published tokenizer.json (Gemma's: 33 MB, 2 million such signs, for
 * half a million pairs of merges) comes to half of the limit, and really takes some 180 MB. */
#define VALUE_BYTES 230
#define TREE_BYTES_MAX ((size_t)1 << 30)

/* ---- the file --------------------------------------------------------------------------------------------- */

/* Replace the two or more bytes at `at` by an empty text of the same width; returns the last one. */
static char *blank(char *at, size_t length)
{
    memset(at, ' ', length);
    at[0] = at[1] = '"';
    return at + length - 1;
}

/* Blank `word`; returns its last byte, or `at` where another word stands. */
static char *blank_word(char *at, const char *end, const char *word)
{
    size_t length = strlen(word);
    return (size_t)(end - at) < length || memcmp(at, word, length) ? at : blank(at, length);
}

/* Is this an integer that int64_t can't hold? One with a leading 0 is none of JSON's, which jansson says. */
static bool is_huge_integer(const char *digits, size_t count, bool negative)
{
    const char *limit = negative ? "9223372036854775808" : "9223372036854775807";
    if (count < strlen(limit) || *digits == '0')
        return false;
    return count > strlen(limit) || memcmp(digits, limit, count) > 0;
}

/* The last byte of the number at `at`, which is blanked where it is an integer beyond 64 bits. */
static char *tame_number(char *at, const char *end)
{
    bool negative = *at == '-', integer = true;
    char *digits = at + negative, *to = digits;
    for (; to < end && ((*to >= '0' && *to <= '9') || (*to && strchr("+-.eE", *to))); to++)
        integer = integer && *to >= '0' && *to <= '9';
    if (integer && is_huge_integer(digits, (size_t)(to - digits), negative))
        return blank(at, (size_t)(to - at));
    return to - 1;
}

/* See the top of the file. */
static odmoe_status tame(char *text, size_t length, const char *path, odmoe_error *err)
{
    const char *end = text + length;
    size_t values = 0;
    int depth = 0;
    for (char *at = text; at < end; at++) {
        if (*at == '"') { /* to the closing quote */
            for (at++; at < end && *at != '"'; at++)
                if (*at == '\\')
                    at++;
        } else if (*at == '{' || *at == '[') {
            values++;
            if (++depth > JSON_DEPTH_MAX)
                return err_set(err, ODMOE_ERR_FORMAT, "%s: values are nested deeper than %d", path, JSON_DEPTH_MAX);
        } else if (*at == ',' || *at == ':') {
            values++;
        } else if (*at == '}' || *at == ']') {
            depth--;
        } else if (*at == '-' || (*at >= '0' && *at <= '9')) {
            at = tame_number(at, end);
        } else if (*at == 'N') {
            at = blank_word(at, end, "NaN");
        } else if (*at == 'I') {
            char *last = blank_word(at, end, "Infinity");
            if (last > at && at > text && at[-1] == '-')
                at[-1] = ' ';
            at = last;
        }
    }
    if (values > TREE_BYTES_MAX / VALUE_BYTES)
        return err_set(err, ODMOE_ERR_FORMAT, "%s: has %zu values; at most %zu can be read", path, values,
                       TREE_BYTES_MAX / VALUE_BYTES);
    return ODMOE_OK;
}

/* ---- U+0000 -------------------------------------------------------------------------------------------------
 * Jansson's keys end at a 0, so "\\u0000" is read as a character that the file has nowhere else: one of U+FDD0 to U+FDEF,
 * which no text means. Values get their 0 back; a reader of keys asks for the character. */

#define SIGNS 32

/* Does the text hold U+FDD0 + sign, as itself or as an escape? */
static bool holds_sign(const char *text, size_t length, int sign)
{
    const char raw[] = {'\xEF', '\xB7', (char)(0x90 + sign)};
    char escape[8];
    snprintf(escape, sizeof escape, "ufd%02x", 0xd0 + sign);
    if (memmem(text, length, raw, sizeof raw))
        return true;
    for (const char *at = text, *end = text + length; (at = memmem(at, (size_t)(end - at), "\\u", 2)); at += 2)
        if (end - at > 6 && !strncasecmp(at + 1, escape, 5))
            return true;
    return false;
}

/* Replace each "\u0000"; *sign is what by, or -1 where the text has none. */
static odmoe_status replace_nul(char *text, size_t length, const char *path, int *sign, odmoe_error *err)
{
    *sign = -1;
    if (!memmem(text, length, "\\u0000", 6))
        return ODMOE_OK;
    for (*sign = 0; *sign < SIGNS && holds_sign(text, length, *sign);)
        ++*sign;
    if (*sign == SIGNS)
        return err_set(err, ODMOE_ERR_UNSUPPORTED, "%s: holds U+0000 and all of U+FDD0 to U+FDEF", path);
    for (size_t at = 0; at + 6 <= length; at++) {
        if (text[at] != '\\')
            continue;
        char escape[7];
        snprintf(escape, sizeof escape, "\\uFD%02X", 0xD0 + *sign);
        if (!memcmp(text + at, "\\u0000", 6))
            memcpy(text + at, escape, 6);
        at++; /* an escape's second character begins none */
    }
    return ODMOE_OK;
}

size_t config_restore_nul(char *text, size_t length, const char *nul)
{
    size_t n = 0;
    for (size_t at = 0; at < length;) {
        bool is_sign = length - at >= 3 && !memcmp(text + at, nul, 3);
        text[n++] = is_sign ? 0 : text[at];
        at += is_sign ? 3 : 1;
    }
    return n;
}

static odmoe_status restore_values(json_t *value, const char *nul, odmoe_error *err)
{
    odmoe_status status = ODMOE_OK;
    const char *key;
    json_t *member;
    size_t i;
    if (json_is_string(value) && strstr(json_string_value(value), nul)) {
        size_t length = json_string_length(value);
        char *text = mem_strdup(json_string_value(value), length, err);
        if (!text)
            return ODMOE_ERR_MEMORY;
        if (json_string_setn_nocheck(value, text, config_restore_nul(text, length, nul)))
            status = err_set(err, ODMOE_ERR_MEMORY, "no memory for a text");
        free(text);
        return status;
    }
    json_object_foreach(value, key, member) status = status ? status : restore_values(member, nul, err);
    json_array_foreach(value, i, member) status = status ? status : restore_values(member, nul, err);
    return status;
}

odmoe_status config_read(const char *folder, const char *name, size_t max_bytes, bool optional, json_t **out,
                         odmoe_error *err)
{
    char nul[4];
    return config_read_nul(folder, name, max_bytes, optional, out, nul, err);
}

odmoe_status config_read_nul(const char *folder, const char *name, size_t max_bytes, bool optional, json_t **out,
                             char nul[4], odmoe_error *err)
{
    int sign = -1;
    *nul = 0;
    char *path = file_join(folder, name, err), *text = NULL;
    size_t length = 0;
    json_t *root = NULL;
    json_error_t fault;
    if (!path)
        return ODMOE_ERR_MEMORY;
    odmoe_status status = file_load(path, max_bytes, optional, &text, &length, err);
    if (status || !text)
        goto done;
    status = tame(text, length, file_label(path), err);
    if (!status)
        status = replace_nul(text, length, file_label(path), &sign, err);
    if (status)
        goto done;
    if (sign >= 0)
        snprintf(nul, 4, "\xEF\xB7%c", 0x90 + sign);
    root = json_loadb(text, length, JSON_REJECT_DUPLICATES, &fault);
    if (!root && !fault.text[0]) /* jansson has no words for a failed allocation */
        status = err_set(err, ODMOE_ERR_MEMORY, "%s: no memory to parse it", file_label(path));
    else if (!root)
        status = err_set(err, ODMOE_ERR_FORMAT, "%s: line %d: %s", file_label(path), fault.line, fault.text);
    else if (!json_is_object(root))
        status = err_set(err, ODMOE_ERR_FORMAT, "%s: is not a JSON object", file_label(path));
    else if (sign >= 0)
        status = restore_values(root, nul, err);
done:
    free(path);
    free(text);
    if (status) {
        json_decref(root);
        return status;
    }
    *out = root;
    return ODMOE_OK;
}

/* ---- members ---------------------------------------------------------------------------------------------- */

/* The member's value, NULL when missing (or null) and not required. */
static odmoe_status member(config_object c, const char *key, bool required, json_t **out, odmoe_error *err)
{
    json_t *value = json_object_get(c.object, key);
    if (json_is_null(value))
        value = NULL;
    if (!value && required)
        return err_set(err, ODMOE_ERR_FORMAT, "%s: '%s' is missing", file_label(c.file), key);
    *out = value;
    return ODMOE_OK;
}

static odmoe_status wrong_kind(config_object c, const char *key, const char *wanted, odmoe_error *err)
{
    return err_set(err, ODMOE_ERR_FORMAT, "%s: '%s' must be %s", file_label(c.file), key, wanted);
}

odmoe_status config_int(config_object c, const char *key, bool required, int64_t min, int64_t max, int64_t fallback,
                        int64_t *out, odmoe_error *err)
{
    json_t *value = NULL;
    int64_t number;
    odmoe_status status = member(c, key, required, &value, err);
    if (status)
        return status;
    if (!value) {
        *out = fallback;
        return ODMOE_OK;
    }
    double real = json_real_value(value); /* 4096.0 is taken for 4096 */
    if (json_is_integer(value))
        number = json_integer_value(value);
    else if (json_is_real(value) && fabs(real) <= INTEGER_IN_DOUBLE_MAX && real == floor(real))
        number = (int64_t)real;
    else
        return wrong_kind(c, key, "an integer", err);
    if (number < min || number > max)
        return err_set(err, ODMOE_ERR_FORMAT, "%s: '%s' is %lld, must be %lld to %lld", file_label(c.file), key,
                       (long long)number, (long long)min, (long long)max);
    *out = number;
    return ODMOE_OK;
}

odmoe_status config_float(config_object c, const char *key, bool required, double min, double max, double fallback,
                          double *out, odmoe_error *err)
{
    json_t *value = NULL;
    odmoe_status status = member(c, key, required, &value, err);
    if (status)
        return status;
    if (!value) {
        *out = fallback;
        return ODMOE_OK;
    }
    if (!json_is_number(value))
        return wrong_kind(c, key, "a finite number", err);
    double number = json_number_value(value);
    if (!(number >= min && number <= max))
        return err_set(err, ODMOE_ERR_FORMAT, "%s: '%s' is %g, must be %g to %g", file_label(c.file), key, number, min,
                       max);
    *out = number;
    return ODMOE_OK;
}

odmoe_status config_bool(config_object c, const char *key, bool required, bool fallback, bool *out, odmoe_error *err)
{
    json_t *value = NULL;
    odmoe_status status = member(c, key, required, &value, err);
    if (status)
        return status;
    if (value && !json_is_boolean(value))
        return wrong_kind(c, key, "true or false", err);
    *out = value ? json_is_true(value) : fallback;
    return ODMOE_OK;
}

odmoe_status config_text(config_object c, const char *key, bool required, const char *fallback, const char **out,
                         odmoe_error *err)
{
    json_t *value = NULL;
    odmoe_status status = member(c, key, required, &value, err);
    if (status)
        return status;
    if (value && !json_is_string(value))
        return wrong_kind(c, key, "a text", err);
    *out = value ? json_string_value(value) : fallback;
    return ODMOE_OK;
}

odmoe_status config_part(config_object c, const char *key, config_object *out, odmoe_error *err)
{
    json_t *value = NULL;
    odmoe_status status = member(c, key, false, &value, err);
    if (status)
        return status;
    if (value && !json_is_object(value))
        return wrong_kind(c, key, "an object", err);
    *out = (config_object){value, c.file};
    return ODMOE_OK;
}

odmoe_status config_numbers(config_object c, const char *key, double min, double max, float **out, int *n,
                            odmoe_error *err)
{
    json_t *value = NULL;
    odmoe_status status = member(c, key, false, &value, err);
    *out = NULL;
    *n = 0;
    if (status || !value)
        return status;
    size_t count = json_array_size(value);
    if (!json_is_array(value))
        return wrong_kind(c, key, "a list of numbers", err);
    if (!count || count > CONFIG_NUMBERS_MAX)
        return err_set(err, ODMOE_ERR_FORMAT, "%s: '%s' is a list of %zu numbers, expected 1 to %d", file_label(c.file),
                       key, count, CONFIG_NUMBERS_MAX);
    float *list = mem_calloc(count, sizeof *list, "a list of config.json", err);
    if (!list)
        return ODMOE_ERR_MEMORY;
    for (size_t i = 0; i < count; i++) {
        const json_t *entry = json_array_get(value, i);
        double number = json_is_number(entry) ? json_number_value(entry) : NAN;
        if (!(number >= min && number <= max)) {
            free(list);
            return err_set(err, ODMOE_ERR_FORMAT, "%s: '%s': entry %zu is not a number from %g to %g",
                           file_label(c.file), key, i, min, max);
        }
        list[i] = (float)number;
    }
    *out = list;
    *n = (int)count;
    return ODMOE_OK;
}

/* ---- position encoding ------------------------------------------------------------------------------------ */

#define THETA_MAX 1e15
#define FACTOR_MAX 65536.0
#define CONTEXT_MAX INT32_MAX

/* How much longer contexts sharpen attention (YaRN, eq. 22), with the weight that DeepSeek's configs give. */
static double yarn_mscale(double factor, double weight)
{
    return factor <= 1 ? 1 : 0.1 * weight * log(factor) + 1;
}

/* c: the whole file, whose original_max_position_embeddings goes before that of its part `rope`. */
static odmoe_status read_original_context(config_object c, config_object rope, int64_t max_context, rope_config *out,
                                          odmoe_error *err)
{
    static const char key[] = "original_max_position_embeddings";
    odmoe_status status = config_int(rope, key, false, 1, CONTEXT_MAX, max_context, &out->original_context, err);
    return status ? status
                  : config_int(c, key, false, 1, CONTEXT_MAX, out->original_context, &out->original_context, err);
}

/* A factor that is missing stretches the original context to the model's. */
static odmoe_status read_stretch(config_object c, config_object rope, int64_t max_context, rope_config *out,
                                 odmoe_error *err)
{
    odmoe_status status = read_original_context(c, rope, max_context, out, err);
    double factor = (double)max_context / (double)out->original_context;
    return status ? status
                  : config_float(rope, "factor", false, 1, FACTOR_MAX, fmin(fmax(factor, 1), FACTOR_MAX), &out->factor,
                                 err);
}

static odmoe_status read_yarn(config_object c, config_object rope, int64_t max_context, rope_config *out,
                              odmoe_error *err)
{
    double mscale;
    odmoe_status status = read_stretch(c, rope, max_context, out, err);
    if (!status)
        status = config_float(rope, "beta_fast", false, 1e-6, 1e6, 32, &out->beta_fast, err);
    if (!status)
        status = config_float(rope, "beta_slow", false, 1e-6, 1e6, 1, &out->beta_slow, err);
    if (!status)
        status = config_bool(rope, "truncate", false, true, &out->truncate, err);
    if (!status)
        status = config_float(rope, "attention_factor", false, 1e-6, 1e6, 0, &out->attention_factor, err);
    if (!status)
        status = config_float(rope, "mscale", false, 0, 1e6, 0, &mscale, err);
    if (!status)
        status = config_float(rope, "mscale_all_dim", false, 0, 1e6, 0, &out->mscale_all_dim, err);
    if (!status && out->attention_factor == 0 && mscale > 0 && out->mscale_all_dim > 0)
        out->attention_factor = yarn_mscale(out->factor, mscale) / yarn_mscale(out->factor, out->mscale_all_dim);
    return status;
}

/* low_freq_factor and high_freq_factor: how many turns over the original context are few, and how many are many. */
static odmoe_status read_llama3(config_object c, config_object rope, int64_t max_context, rope_config *out,
                                odmoe_error *err)
{
    odmoe_status status = read_original_context(c, rope, max_context, out, err);
    if (!status)
        status = config_float(rope, "factor", true, 1, FACTOR_MAX, 1, &out->factor, err);
    if (!status)
        status = config_float(rope, "low_freq_factor", true, 1e-6, 1e6, 1, &out->beta_slow, err);
    return status ? status : config_float(rope, "high_freq_factor", true, out->beta_slow, 1e6, 1, &out->beta_fast, err);
}

/* The lists of factors are the caller's to read: config_rope_object. Phi-3.5-MoE says what multiplies cos and sin for
 * either list (short_mscale, long_mscale); others have it follow from how far the context was stretched. */
static odmoe_status read_long(config_object c, config_object rope, int64_t max_context, rope_config *out,
                              odmoe_error *err)
{
    odmoe_status status = read_stretch(c, rope, max_context, out, err);
    if (!status)
        status = config_float(rope, "attention_factor", false, 1e-6, 1e6, 0, &out->attention_factor, err);
    out->long_attention = out->attention_factor;
    if (!status)
        status = config_float(rope, "long_mscale", false, 1e-6, 1e6, out->long_attention, &out->long_attention, err);
    return status ? status
                  : config_float(rope, "short_mscale", false, 1e-6, 1e6, out->attention_factor, &out->attention_factor,
                                 err);
}

static const char *nested_object(config_object c)
{
    json_t *members = (json_t *)c.object;
    for (void *m = json_object_iter(members); m; m = json_object_iter_next(members, m))
        if (json_is_object(json_object_iter_value(m)))
            return json_object_iter_key(m);
    return NULL;
}

/* `rope_scaling` or `rope_parameters`, whichever holds something; object NULL when neither. Families that rotate some
 * layers in another way put one object a layer type there. */
static odmoe_status rope_object(config_object c, const char *layers, config_object *out, const char **key,
                                odmoe_error *err)
{
    *key = "rope_scaling";
    odmoe_status status = config_part(c, *key, out, err);
    if (!status && !json_object_size(out->object)) {
        *key = "rope_parameters";
        status = config_part(c, *key, out, err);
    }
    if (status)
        return status;
    const char *nested = nested_object(*out);
    if (!layers && nested)
        return err_set(err, ODMOE_ERR_UNSUPPORTED, "%s: '%s' differs between layers ('%.100s')", file_label(c.file),
                       *key, nested);
    if (!layers || !json_object_size(out->object))
        return ODMOE_OK;
    config_object whole = *out;
    status = config_part(whole, layers, out, err);
    if (!status && !out->object)
        status =
            err_set(err, ODMOE_ERR_FORMAT, "%s: '%s' has no entry for '%s' layers", file_label(c.file), *key, layers);
    return status;
}

odmoe_status config_rope_object(config_object c, const char *layers, config_object *out, odmoe_error *err)
{
    const char *key;
    return rope_object(c, layers, out, &key, err);
}

/* The numbers of a scaling that is known by its name. */
static odmoe_status read_scaling(config_object c, config_object rope, const char *type, int64_t max_context,
                                 rope_config *r, odmoe_error *err)
{
    if (!strcmp(type, "linear")) {
        r->scaling = ROPE_LINEAR;
        return config_float(rope, "factor", true, 1, FACTOR_MAX, 1, &r->factor, err);
    }
    if (!strcmp(type, "proportional")) {
        r->scaling = ROPE_PROPORTIONAL;
        odmoe_status status = config_float(rope, "factor", false, 1, FACTOR_MAX, 1, &r->factor, err);
        return status ? status : config_float(rope, "partial_rotary_factor", false, 0, 1, 1, &r->part, err);
    }
    if (!strcmp(type, "yarn")) {
        r->scaling = ROPE_YARN;
        return read_yarn(c, rope, max_context, r, err);
    }
    if (!strcmp(type, "llama3")) {
        r->scaling = ROPE_LLAMA3;
        return read_llama3(c, rope, max_context, r, err);
    }
    r->scaling = ROPE_LONG;
    return read_long(c, rope, max_context, r, err);
}

odmoe_status config_rope_of(config_object c, const char *layers, double default_theta, int64_t max_context,
                            rope_config *out, odmoe_error *err)
{
    rope_config r = {.scaling = ROPE_NONE,
                     .factor = 1,
                     .part = 1,
                     .original_context = max_context,
                     .beta_fast = 32,
                     .beta_slow = 1,
                     .truncate = true};
    static const char *const known[] = {"linear", "yarn", "proportional", "llama3", "longrope"};
    config_object rope;
    const char *key, *type;
    odmoe_status status = config_float(c, "rope_theta", false, 1e-3, THETA_MAX, default_theta, &r.theta, err);
    if (!status)
        status = rope_object(c, layers, &rope, &key, err);
    if (!status)
        status = config_float(rope, "rope_theta", false, 1e-3, THETA_MAX, r.theta, &r.theta, err);
    if (!status)
        status = config_text(rope, "type", false, "default", &type, err);
    if (!status)
        status = config_text(rope, "rope_type", false, type, &type, err);
    if (status)
        return status;
    size_t i = 0;
    while (i < sizeof known / sizeof *known && strcmp(type, known[i]))
        i++;
    if (i < sizeof known / sizeof *known)
        status = read_scaling(c, rope, type, max_context, &r, err);
    else if (!strcmp(type, "dynamic") && json_object_get(rope.object, "alpha"))
        status = config_float(rope, "alpha", true, 1, FACTOR_MAX, 1, &r.ntk_alpha, err);
    else if (strcmp(type, "default"))
        status = err_set(err, ODMOE_ERR_UNSUPPORTED,
                         "%s: '%s' is of type '%.100s'; default, linear, yarn, proportional, llama3 and longrope are "
                         "supported",
                         file_label(c.file), key, type);
    if (!status)
        *out = r;
    return status;
}

odmoe_status config_rope(config_object c, double default_theta, int64_t max_context, rope_config *out, odmoe_error *err)
{
    return config_rope_of(c, NULL, default_theta, max_context, out, err);
}
