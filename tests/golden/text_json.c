/* tokenizer.json against what the `tokenizers` package makes of the same files
 * (tests/data/tokenizers/json/make_json.py), and the demo model's GGUF file against its tokenizer.json. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/normalize.h"
#include "text/stream.h"
#include "text/tokenizer.h"

static json_t *texts;

static json_t *load(const char *name)
{
    char path[4096];
    json_error_t fault;
    snprintf(path, sizeof path, "%s/tokenizers/json/%s", getenv("ODMOE_TEST_DATA"), name);
    json_t *root = json_load_file(path, JSON_ALLOW_NUL, &fault);
    assert_non_null(root);
    return root;
}

static tokenizer *open_at(const char *variable, const char *name)
{
    char path[4096];
    odmoe_error err = {0};
    tokenizer *t = NULL;
    snprintf(path, sizeof path, "%s/%s", getenv(variable), name);
    odmoe_status st = tokenizer_open(path, &t, &err);
    if (st)
        fail_msg("%s", err.message);
    return t;
}

static token_list encode(const tokenizer *t, size_t i, unsigned flags)
{
    const json_t *text = json_array_get(texts, i);
    token_list ids = {0};
    odmoe_error err = {0};
    if (tokenizer_encode(t, json_string_value(text), json_string_length(text), flags, &ids, &err))
        fail_msg("%s", err.message);
    return ids;
}

static void check_ids(const char *kind, const tokenizer *t, size_t i, unsigned flags, const json_t *expected)
{
    token_list ids = encode(t, i, flags);
    bool same = ids.count == json_array_size(expected);
    for (size_t k = 0; same && k < ids.count; k++)
        same = ids.ids[k] == json_integer_value(json_array_get(expected, k));
    if (!same)
        fail_msg("%s: text %zu \"%s\", flags %u", kind, i, json_string_value(json_array_get(texts, i)), flags);
    free(ids.ids);
}

static void check_text(const char *kind, const tokenizer *t, const json_t *ids, const json_t *expected)
{
    odmoe_error err;
    text_stream *s;
    const char *bytes;
    size_t n, at = 0, length = json_string_length(expected);
    assert_int_equal(text_stream_create(t, TEXT_STREAM_START | TEXT_STREAM_SPECIAL, &s, &err), ODMOE_OK);
    for (size_t i = 0; i <= json_array_size(ids); i++) {
        if (i < json_array_size(ids))
            text_stream_push(s, (int32_t)json_integer_value(json_array_get(ids, i)), &bytes, &n);
        else
            text_stream_flush(s, &bytes, &n);
        if (at + n > length || memcmp(bytes, json_string_value(expected) + at, n) != 0)
            fail_msg("%s: decoding does not give \"%s\"", kind, json_string_value(expected));
        at += n;
    }
    assert_int_equal(at, length);
    text_stream_free(s);
}

static void ids_and_texts_are_those_of_the_package(void **state)
{
    const char *kind = *state;
    char name[256];
    snprintf(name, sizeof name, "%s/expected.json", kind);
    json_t *expected = load(name);
    snprintf(name, sizeof name, "tokenizers/json/%s", kind);
    tokenizer *t = open_at("ODMOE_TEST_DATA", strcmp(kind, "demo-hf") ? name : kind);
    assert_true(json_array_size(texts) > 300);
    for (size_t i = 0; i < json_array_size(texts); i++) {
        const json_t *plain = json_array_get(json_object_get(expected, "plain"), i);
        if (json_is_null(plain)) /* the package differs, on purpose: make_json.py says why */
            continue;
        check_ids(kind, t, i, 0, plain);
        check_ids(kind, t, i, TOKENIZER_SPECIAL | TOKENIZER_START,
                  json_array_get(json_object_get(expected, "special"), i));
        check_text(kind, t, plain, json_array_get(json_object_get(expected, "text"), i));
    }
    tokenizer_free(t);
    json_decref(expected);
}

/* The ids of texts[i] in NFC. */
static token_list encode_composed(const tokenizer *t, size_t i, unsigned flags)
{
    const json_t *text = json_array_get(texts, i);
    const normalize_step step = {.kind = NORMALIZE_NFC};
    normal_scratch scratch = {.room = normalize_room(json_string_length(text))};
    token_list ids = {0};
    odmoe_error err = {0};
    const char *composed;
    size_t n;
    if (normalize(&step, 1, &scratch, json_string_value(text), json_string_length(text), &composed, &n, &err) ||
        tokenizer_encode(t, composed, n, flags, &ids, &err))
        fail_msg("%s", err.message);
    normal_scratch_free(&scratch);
    return ids;
}

/* The demo model's own tokenizer.json has no normalizer; its GGUF file says "qwen2", which Qwen's models begin with
 * NFC. */
static void the_demo_models_two_forms_agree_on_composed_texts(void **state)
{
    tokenizer *folder = open_at("ODMOE_TEST_DATA", "demo-hf"), *file = open_at("ODMOE_SOURCE", "models/demo.gguf");
    assert_int_equal(tokenizer_size(folder), tokenizer_size(file));
    for (size_t i = 0; i < json_array_size(texts); i++)
        for (unsigned flags = 0; flags < 4; flags++) {
            token_list a = encode_composed(folder, i, flags), b = encode(file, i, flags);
            assert_int_equal(a.count, b.count);
            if (a.count)
                assert_memory_equal(a.ids, b.ids, a.count * sizeof *a.ids);
            free(a.ids);
            free(b.ids);
        }
    const int32_t *a, *b;
    assert_int_equal(tokenizer_ends(folder, &a), 2);
    assert_int_equal(tokenizer_ends(file, &b), 2);
    assert_memory_equal(a, b, 2 * sizeof *a);
    assert_int_equal(a[0], 4093);
    assert_int_equal(a[1], 4095);
    tokenizer_free(folder);
    tokenizer_free(file);
}

int main(void)
{
#define KIND(name)                                                                                                \
    {                                                                                                             \
        name ": ids and texts are those of the package", ids_and_texts_are_those_of_the_package, NULL, NULL, name \
    }
    const struct CMUnitTest tests[] = {
        KIND("demo-hf"),
        KIND("gpt2"),
        KIND("qwen3"),
        KIND("llama3"),
        KIND("gpt-4o"),
        KIND("deepseek-llm"),
        KIND("deepseek-v3"),
        KIND("behaviors"),
        KIND("added"),
        KIND("llama2"),
        KIND("phi3"),
        KIND("mistral"),
        KIND("gemma"),
        KIND("characters"),
        KIND("normalized-specials"),
        KIND("metaspace-unknown"),
        KIND("metaspace-fused"),
        KIND("kimi"),
        KIND("unigram"),
        KIND("unigram-bytes"),
        cmocka_unit_test(the_demo_models_two_forms_agree_on_composed_texts),
    };
    texts = load("texts.json");
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    json_decref(texts);
    return failed;
}
