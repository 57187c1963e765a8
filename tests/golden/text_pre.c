/* Every name that tokenizer.ggml.pre may have for a family of models, against what the `tokenizers` package makes of
 * the patterns that the models publish (tests/data/tokenizers/make_pre.py). */
#include "vocab_files.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "text/tokenizer.h"

static json_t *expected;
static const char **tokens, **merges; /* of `expected` */
static size_t token_count, merge_count;
static odmoe_error err;

static const char **list(const char *key, size_t *count)
{
    const json_t *array = json_object_get(expected, key);
    *count = json_array_size(array);
    const char **texts = calloc(*count, sizeof *texts);
    for (size_t i = 0; texts && i < *count; i++)
        texts[i] = json_string_value(json_array_get(array, i));
    return texts;
}

static int setup(void **state)
{
    json_error_t fault;
    if (temp_setup(state))
        return -1;
    expected = json_load_file(data_path("tokenizers/pre.json"), JSON_ALLOW_NUL, &fault);
    tokens = list("tokens", &token_count);
    merges = list("merges", &merge_count);
    return !tokens || !merges;
}

static int teardown(void **state)
{
    free(tokens);
    free(merges);
    json_decref(expected);
    return temp_teardown(state);
}

static void check_text(const tokenizer *t, const char *name, size_t i, const json_t *ids)
{
    const json_t *text = json_array_get(json_object_get(expected, "texts"), i);
    token_list got = {0};
    if (tokenizer_encode(t, json_string_value(text), json_string_length(text), 0, &got, &err))
        fail_msg("%s", err.message);
    bool same = got.count == json_array_size(ids);
    for (size_t k = 0; same && k < got.count; k++)
        same = got.ids[k] == json_integer_value(json_array_get(ids, k));
    if (!same)
        fail_msg("%s: text %zu \"%s\"", name, i, json_string_value(text));
    free(got.ids);
}

static void texts_are_cut_as_the_models_own_pattern_cuts_them(void **state)
{
    const char *name;
    json_t *texts;
    size_t names = 0;
    json_object_foreach(json_object_get(expected, "ids"), name, texts)
    {
        vocab_spec spec = {.model = "gpt2",
                           .pre = name,
                           .tokens = tokens,
                           .token_count = token_count,
                           .merges = merges,
                           .merge_count = merge_count,
                           .bos = -1,
                           .eos = -1,
                           .eot = -1,
                           .unknown = -1,
                           .add_bos = 0};
        tokenizer *t;
        save_vocab(temp_path("vocab.gguf"), &spec);
        if (tokenizer_open(temp_path("vocab.gguf"), &t, &err))
            fail_msg("%s", err.message);
        assert_true(json_array_size(texts) > 80);
        for (size_t i = 0; i < json_array_size(texts); i++)
            check_text(t, name, i, json_array_get(texts, i));
        tokenizer_free(t);
        names++;
    }
    assert_true(names >= 24);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_cut_as_the_models_own_pattern_cuts_them),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
