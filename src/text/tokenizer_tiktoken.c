/* tiktoken.model, as Kimi's models ship it: a line for each token, its bytes in base64 and its rank, which is its id.
 *
 *   aGVsbG8= 15339
 *
 * Behind the ranked tokens come SPECIAL_COUNT special ones; tokenizer_config.json names them in "added_tokens_decoder",
 * and the others are <|reserved_token_ID|>. The pattern that cuts a text stands in the model's program, not in a
 * file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "format/file.h"
#include "text/gguf_pretokenizers.h"
#include "text/tokenizer_folder.h"

#define TIKTOKEN_MAX ((size_t)64 << 20) /* bytes; Kimi's has 2.8 MB */
#define SPECIAL_COUNT 256
#define TOKENIZER_CLASS "TikTokenTokenizer" /* of tokenizer_config.json */

/* A token of the file; its bytes are decoded in place. */
typedef struct ranked {
    const char *text; /* NULL: no line has this rank */
    size_t length;
} ranked;

typedef struct reader {
    const char *file; /* for messages */
    tokenizer *t;
    const json_t *named; /* added_tokens_decoder, or NULL */
    odmoe_error *err;
} reader;

static int base64_digit(char c)
{
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '+'             ? 62
           : c == '/'             ? 63
                                  : -1;
}

/* Decode text[0, length) in place; *out the number of bytes. false: no base64, or nothing. */
static bool decode_base64(char *text, size_t length, size_t *out)
{
    size_t n = 0, padding = 0;
    if (!length || length % 4)
        return false;
    while (padding < 2 && text[length - 1 - padding] == '=')
        padding++;
    for (size_t at = 0; at < length; at += 4) {
        uint32_t bits = 0;
        size_t here = at + 4 == length ? 4 - padding : 4;
        for (size_t i = 0; i < here; i++) {
            int digit = base64_digit(text[at + i]);
            if (digit < 0)
                return false;
            bits |= (uint32_t)digit << (18 - 6 * i);
        }
        for (size_t i = 0; i + 1 < here; i++)
            text[n++] = (char)(bits >> (16 - 8 * i));
    }
    *out = n;
    return true;
}

/* One line at text[0, length), without its end. */
static odmoe_status read_line(const reader *r, char *text, size_t length, size_t line, ranked *tokens, size_t count)
{
    char *blank = memchr(text, ' ', length), *end = NULL;
    unsigned long long rank = blank && blank[1] >= '0' && blank[1] <= '9' ? strtoull(blank + 1, &end, 10) : 0;
    size_t bytes;
    if (!end || end != text + length || !decode_base64(text, (size_t)(blank - text), &bytes))
        return err_set(r->err, ODMOE_ERR_FORMAT, "%s: line %zu is no base64 text and a rank", r->file, line);
    if (rank >= count || tokens[rank].text)
        return err_set(r->err, ODMOE_ERR_FORMAT, "%s: line %zu: ranks are the numbers below %zu, each once", r->file,
                       line, count);
    tokens[rank] = (ranked){text, bytes};
    return ODMOE_OK;
}

/* The lines of text[0, length), which ends with a 0; blank lines at the end do not count. */
static size_t count_lines(const char *text, size_t *length)
{
    size_t lines = 0;
    while (*length && (text[*length - 1] == '\n' || text[*length - 1] == '\r'))
        --*length;
    for (size_t i = 0; i < *length; i++)
        lines += text[i] == '\n';
    return *length ? lines + 1 : 0;
}

static odmoe_status read_ranked(const reader *r, char *text, size_t length)
{
    size_t count = count_lines(text, &length), line = 0;
    text[length] = 0;
    ranked *tokens = mem_calloc(count, sizeof *tokens, "tokens", r->err);
    odmoe_status st = tokens ? ODMOE_OK : ODMOE_ERR_MEMORY;
    if (!st && !count)
        st = err_set(r->err, ODMOE_ERR_FORMAT, "%s: has no tokens", r->file);
    for (size_t at = 0; !st && at < length;) {
        char *end = memchr(text + at, '\n', length - at);
        size_t n = end ? (size_t)(end - text) - at : length - at;
        st = read_line(r, text + at, n && text[at + n - 1] == '\r' ? n - 1 : n, ++line, tokens, count);
        at += n + 1;
    }
    for (size_t i = 0; !st && i < count; i++)
        st = vocab_add(&r->t->model.vocab, tokens[i].text, tokens[i].length, TOKEN_WORD, false, r->file, r->err);
    free(tokens);
    return st;
}

/* The special token of this id, as the vocabulary and what is looked for in texts. */
static odmoe_status add_special(const reader *r, uint32_t id)
{
    char name[48];
    snprintf(name, sizeof name, "%u", id);
    const json_t *object = json_object_get(r->named, name), *content = json_object_get(object, "content");
    snprintf(name, sizeof name, "<|reserved_token_%u|>", id);
    const char *text = json_is_string(content) ? json_string_value(content) : name;
    size_t length = json_is_string(content) ? json_string_length(content) : strlen(name);
    added_token token = {.id = (int32_t)id, .special = true};
    odmoe_status st =
        config_bool((config_object){object, "tokenizer_config.json"}, "special", false, true, &token.special, r->err);
    if (!st)
        st = vocab_add(&r->t->model.vocab, text, length, token.special ? TOKEN_SPECIAL : TOKEN_ADDED, false, r->file,
                       r->err);
    return st ? st : added_add(&r->t->added, &token, text, length, r->err);
}

/* An id of added_tokens_decoder that is none of the special ones would be left out. */
static odmoe_status check_named(const reader *r, uint32_t first)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)r->named, key, value)
    {
        char *end;
        unsigned long long id = strtoull(key, &end, 10);
        if (*key < '0' || *key > '9' || *end || id < first || id - first >= SPECIAL_COUNT)
            return err_set(r->err, ODMOE_ERR_FORMAT,
                           "tokenizer_config.json: added_tokens_decoder: \"%.40s\" is none of the ids %u to %u", key,
                           first, first + SPECIAL_COUNT - 1);
    }
    return ODMOE_OK;
}

static odmoe_status read_vocabulary(const reader *r, char *text, size_t length)
{
    vocab *v = &r->t->model.vocab;
    odmoe_status st = read_ranked(r, text, length);
    uint32_t first = v->count;
    if (!st)
        st = check_named(r, first);
    for (uint32_t i = 0; !st && i < SPECIAL_COUNT; i++)
        st = add_special(r, first + i);
    if (!st)
        st = vocab_seal(v, r->err);
    if (!st)
        st = tokenizer_add_pattern(r->t, KIMI_PATTERN, r->file, r->err);
    if (st)
        return st;
    r->t->model.by_id = true;
    r->t->model.byte_symbols = true;
    r->t->model.whole_words = true;
    tokenizer_find_bytes(r->t, true);
    return ODMOE_OK;
}

odmoe_status tokenizer_tiktoken_read(const char *folder, const folder_files *files, tokenizer *t, odmoe_error *err)
{
    const char *class = json_string_value(json_object_get(files->tokenizer_config, "tokenizer_class"));
    char *path = file_join(folder, "tiktoken.model", err), *text = NULL;
    size_t length = 0;
    if (!path)
        return ODMOE_ERR_MEMORY;
    reader r = {file_label(path), t, json_object_get(files->tokenizer_config, "added_tokens_decoder"), err};
    odmoe_status st = ODMOE_OK;
    if (!class || strcmp(class, TOKENIZER_CLASS) != 0)
        st = err_set(err, class ? ODMOE_ERR_UNSUPPORTED : ODMOE_ERR_FORMAT,
                     "%s: tokenizer_config.json must name the tokenizer_class " TOKENIZER_CLASS
                     " (Kimi's): the file does not say how a text is cut, and of \"%.40s\" it is not known",
                     r.file, class ? class : "");
    if (!st)
        st = file_load(path, TIKTOKEN_MAX, false, &text, &length, err);
    if (!st)
        st = read_vocabulary(&r, text, length);
    free(text);
    free(path);
    return st;
}
