/* The inputs of tests/data/tokenizers/reported (public bug reports of programs like this one) and what the reference
 * implementations make of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/stream.h"
#include "text/tokenizer.h"

static odmoe_error err;

static tokenizer *open_reported(const char *name)
{
    char path[4096];
    tokenizer *t = NULL;
    snprintf(path, sizeof path, "%s/tokenizers/reported/%s", getenv("ODMOE_TEST_DATA"), name);
    if (tokenizer_open(path, &t, &err))
        fail_msg("%s", err.message);
    return t;
}

static void check_ids(const tokenizer *t, const char *text, size_t length, unsigned flags, const int *ids)
{
    token_list got = {0};
    assert_int_equal(tokenizer_encode(t, text, length, flags, &got, &err), ODMOE_OK);
    size_t n = 0;
    for (; ids[n] >= 0; n++)
        if (n >= got.count || got.ids[n] != ids[n])
            fail_msg("\"%s\": id %zu of %zu is %d, not %d", text, n, got.count, n < got.count ? got.ids[n] : -1,
                     ids[n]);
    assert_int_equal(got.count, n);
    free(got.ids);
}
#define CHECK(t, text, flags, ...) check_ids(t, text, strlen(text), flags, (const int[]){__VA_ARGS__, -1})

static void check_piece(const tokenizer *t, int32_t id, const char *expected)
{
    char piece[64];
    size_t n = tokenizer_piece(t, id, piece, sizeof piece);
    assert_int_equal(n, strlen(expected));
    assert_memory_equal(piece, expected, n);
}

/* "ä" is the sign of the byte E4 in a byte-level vocabulary, and listed as an added token too. */
static void an_added_token_leaves_the_byte_whose_sign_it_is(void **state)
{
    tokenizer *t = open_reported("added-token-is-a-byte-sign");
    CHECK(t, "\u4e2d", 0, 160, 116, 255);
    CHECK(t, "\u00e4", 0, 160);
    CHECK(t, "\u4eba \u00e4", 0, 160, 118, 118, 220, 160);
    check_piece(t, 160, "\xE4");
    tokenizer_free(t);
}

static void tokens_that_only_tokenizer_config_lists_are_added(void **state)
{
    tokenizer *t = open_reported("added-tokens-decoder");
    CHECK(t, "<|im_start|>user", TOKENIZER_SPECIAL, 282, 84, 82, 266);
    assert_true(tokenizer_is_end(t, 283));
    assert_true(tokenizer_is_special(t, 282));
    assert_int_equal(tokenizer_size(t), 284);
    tokenizer_free(t);
}

static void white_space_tokens_stay_behind_a_token_that_takes_white_space_along(void **state)
{
    tokenizer *t = open_reported("rstrip-swallows-tokens");
    CHECK(t, "<a>  x", TOKENIZER_SPECIAL, 282, 283, 87);
    tokenizer_free(t);
}

static void a_script_in_a_pattern_is_the_property_script(void **state)
{
    tokenizer *t = open_reported("script-property");
    CHECK(t, "\u4e2d\u3002\n\u4e2d", 0, 160, 116, 255, 284, 160, 116, 255);
    tokenizer_free(t);
}

static void a_vocabulary_may_hold_the_character_0(void **state)
{
    tokenizer *t = open_reported("tokenizer-json-nul");
    CHECK(t, "the river", 0, 257, 281);
    tokenizer_free(t);
}

static void qwen_from_gguf_normalises_as_its_own_tokenizer_does(void **state)
{
    tokenizer *t = open_reported("gguf-qwen-without-nfc.gguf");
    CHECK(t, "e\u0301", 0, 127, 102);
    CHECK(t, "\u00e9", 0, 127, 102);
    tokenizer_free(t);
}

static void a_blank_behind_a_leading_special_token_comes_back(void **state)
{
    static const int32_t ids[] = {1, 3, 5, 4};
    tokenizer *t = open_reported("detokenize-loses-a-blank.gguf");
    char text[64];
    size_t at = 0, n;
    text_stream *s;
    assert_int_equal(text_stream_create(t, TEXT_STREAM_START | TEXT_STREAM_SPECIAL, &s, &err), ODMOE_OK);
    for (size_t i = 0; i < 4; i++) {
        const char *bytes;
        text_stream_push(s, ids[i], &bytes, &n);
        assert_true(at + n < sizeof text);
        memcpy(text + at, bytes, n);
        at += n;
    }
    text[at] = 0;
    assert_string_equal(text, "<s>[INST] hi[/INST]");
    text_stream_free(s);
    tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_added_token_leaves_the_byte_whose_sign_it_is),
        cmocka_unit_test(tokens_that_only_tokenizer_config_lists_are_added),
        cmocka_unit_test(white_space_tokens_stay_behind_a_token_that_takes_white_space_along),
        cmocka_unit_test(a_script_in_a_pattern_is_the_property_script),
        cmocka_unit_test(a_vocabulary_may_hold_the_character_0),
        cmocka_unit_test(qwen_from_gguf_normalises_as_its_own_tokenizer_does),
        cmocka_unit_test(a_blank_behind_a_leading_special_token_comes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
