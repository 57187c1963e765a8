#include "vocab_files.h"

#include <string.h>

#include "base/utf8.h"
#include "text/stream.h"

static odmoe_error err;
static tokenizer *by_bytes, *scored; /* ids of by_bytes below 256 are bytes */

static int setup(void **state)
{
    if (temp_setup(state))
        return -1;
    vocab_spec spec = spec_bpe();
    save_vocab(temp_path("bytes.gguf"), &spec);
    spec = spec_scored();
    save_vocab(temp_path("scored.gguf"), &spec);
    return tokenizer_open(temp_path("bytes.gguf"), &by_bytes, &err) ||
           tokenizer_open(temp_path("scored.gguf"), &scored, &err);
}

static int teardown(void **state)
{
    tokenizer_free(by_bytes);
    tokenizer_free(scored);
    return temp_teardown(state);
}

static text_stream *create(const tokenizer *t, unsigned flags)
{
    text_stream *s = NULL;
    assert_int_equal(text_stream_create(t, flags, &s, &err), ODMOE_OK);
    return s;
}

/* The text that a push gives must be `expected`. */
static void push(text_stream *s, int32_t id, const char *expected)
{
    const char *text;
    size_t n;
    text_stream_push(s, id, &text, &n);
    assert_int_equal(n, strlen(expected));
    assert_memory_equal(text, expected, n);
}

static void flush(text_stream *s, const char *expected)
{
    const char *text;
    size_t n;
    text_stream_flush(s, &text, &n);
    assert_int_equal(n, strlen(expected));
    assert_memory_equal(text, expected, n);
}

static void a_character_comes_with_its_last_byte(void **state)
{
    static const char text[] = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\xA6\x99z\xED\x9F\xBF\xF4\x8F\xBF\xBF";
    text_stream *s = create(by_bytes, 0);
    for (size_t at = 0; at < sizeof text - 1;) {
        int length = utf8_char(text + at, sizeof text - 1 - at);
        assert_in_range(length, 1, 4);
        char whole[5] = {0};
        memcpy(whole, text + at, (size_t)(length & 7));
        for (int i = 0; i < length; i++)
            push(s, (unsigned char)text[at + (size_t)i], i == length - 1 ? whole : "");
        at += (size_t)length;
    }
    flush(s, "");
    text_stream_free(s);
}

static void bytes_that_cannot_become_a_character_pass_at_once(void **state)
{
    text_stream *s = create(by_bytes, 0);
    push(s, 0x80, "\x80"); /* begins nothing */
    push(s, 0xC0, "\xC0");
    push(s, 0xFF, "\xFF");
    push(s, 0xF0, "");
    push(s, 0x80, "\xF0\x80"); /* overlong */
    push(s, 0xED, "");
    push(s, 0xA0, "\xED\xA0"); /* a surrogate */
    push(s, 0xF4, "");
    push(s, 0x90, "\xF4\x90"); /* above U+10FFFF */
    push(s, 0xE2, "");
    push(s, 0x82, "");
    push(s, 'x', "\xE2\x82x"); /* cut off by another character */
    push(s, 0xE2, "");
    push(s, 0xC3, "\xE2"); /* the next one begins */
    push(s, 0xA9, "\xC3\xA9");
    text_stream_free(s);
}

static void flushing_gives_what_waits_and_starts_anew(void **state)
{
    text_stream *s = create(by_bytes, 0);
    push(s, 0xF0, "");
    push(s, 0x9F, "");
    flush(s, "\xF0\x9F");
    flush(s, "");
    push(s, 259, "hello");
    push(s, 0xC3, "");
    flush(s, "\xC3");
    text_stream_free(s);
}

static void special_tokens_show_only_when_wanted(void **state)
{
    text_stream *s = create(by_bytes, 0);
    push(s, 262, "");
    push(s, 259, "hello");
    push(s, 261, "");
    push(s, 263, "<think>"); /* not special */
    text_stream_free(s);
    s = create(by_bytes, TEXT_STREAM_SPECIAL);
    push(s, 262, "<s>");
    push(s, 261, "<|end|>");
    text_stream_special(s, false);
    push(s, 261, "");
    text_stream_special(s, true);
    push(s, 261, "<|end|>");
    text_stream_free(s);
}

static void ids_outside_the_vocabulary_give_nothing(void **state)
{
    text_stream *s = create(by_bytes, TEXT_STREAM_SPECIAL);
    push(s, -1, "");
    push(s, 264, "");
    push(s, INT32_MAX, "");
    push(s, 'a', "a");
    text_stream_free(s);
}

static void the_first_blank_of_sentencepiece_is_dropped_at_the_start_only(void **state)
{
    text_stream *s = create(scored, TEXT_STREAM_START);
    push(s, 1, "");
    push(s, 266, "hello");
    push(s, 266, " hello");
    flush(s, "");
    push(s, 259, "");
    push(s, 266, " hello");
    text_stream_free(s);
    s = create(scored, 0); /* the text goes on */
    push(s, 266, " hello");
    text_stream_free(s);
    s = create(by_bytes, TEXT_STREAM_START); /* byte-level puts none there */
    push(s, 260, " hello");
    text_stream_free(s);
}

static void a_blank_behind_a_special_token_that_is_shown_stays(void **state)
{
    text_stream *s = create(scored, TEXT_STREAM_START | TEXT_STREAM_SPECIAL);
    push(s, 1, "<s>");
    push(s, 266, " hello");
    flush(s, "");
    push(s, 266, "hello");
    text_stream_free(s);
}

static void byte_tokens_join_to_characters(void **state)
{
    text_stream *s = create(scored, 0);
    push(s, 3 + 0xF0, "");
    push(s, 3 + 0x9F, "");
    push(s, 3 + 0xA6, "");
    push(s, 3 + 0x99, "\xF0\x9F\xA6\x99");
    text_stream_free(s);
}

static void the_text_of_a_token_is_what_it_is_inside_of_a_text(void **state)
{
    odmoe_tokenizer *t;
    char text[16];
    size_t n;
    assert_int_equal(odmoe_tokenizer_open(temp_path("scored.gguf"), &t, &err), ODMOE_OK);
    assert_int_equal(odmoe_token_text(t, 266, text, sizeof text, &n, &err), ODMOE_OK);
    assert_int_equal(n, 6);
    assert_memory_equal(text, " hello", 6); /* odmoe_detokenize drops the blank at the begin */
    assert_int_equal(odmoe_token_text(t, 3 + 0xF0, text, sizeof text, &n, &err), ODMOE_OK);
    assert_int_equal(n, 1);
    assert_memory_equal(text, "\xF0", 1); /* no character for itself */
    assert_int_equal(odmoe_token_text(t, 1, NULL, 0, &n, &err), ODMOE_OK);
    assert_int_equal(n, 3); /* <s> */
    assert_int_equal(odmoe_token_text(t, odmoe_vocab_size(t), text, sizeof text, &n, &err), ODMOE_ERR_RANGE);
    odmoe_tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_character_comes_with_its_last_byte),
        cmocka_unit_test(bytes_that_cannot_become_a_character_pass_at_once),
        cmocka_unit_test(flushing_gives_what_waits_and_starts_anew),
        cmocka_unit_test(special_tokens_show_only_when_wanted),
        cmocka_unit_test(ids_outside_the_vocabulary_give_nothing),
        cmocka_unit_test(the_first_blank_of_sentencepiece_is_dropped_at_the_start_only),
        cmocka_unit_test(a_blank_behind_a_special_token_that_is_shown_stays),
        cmocka_unit_test(byte_tokens_join_to_characters),
        cmocka_unit_test(the_text_of_a_token_is_what_it_is_inside_of_a_text),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
