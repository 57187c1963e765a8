/* Small vocabularies made for the purpose: what a tokenizer promises beyond the published texts and ids. */
#include "vocab_files.h"

#include <stdlib.h>
#include <string.h>

#include "text/stream.h"
#include "text/tokenizer.h"

static odmoe_error err;

static tokenizer *open_spec(const vocab_spec *spec)
{
    tokenizer *t = NULL;
    save_vocab(temp_path("vocab.gguf"), spec);
    if (tokenizer_open(temp_path("vocab.gguf"), &t, &err))
        fail_msg("%s", err.message);
    return t;
}

/* The ids of text[0, length) must be those that follow, up to -1. */
static void check_ids(const tokenizer *t, const char *text, size_t length, unsigned flags, const int *ids)
{
    token_list got = {0};
    assert_int_equal(tokenizer_encode(t, text, length, flags, &got, &err), ODMOE_OK);
    size_t n = 0;
    for (; ids[n] >= 0; n++)
        assert_true(n < got.count && got.ids[n] == ids[n]);
    assert_int_equal(got.count, n);
    free(got.ids);
}

#define IDS(...) ((const int[]){__VA_ARGS__, -1})
#define NO_IDS ((const int[]){-1})
#define CHECK(t, text, flags, ids) check_ids(t, text, strlen(text), flags, ids)

static void merges_go_by_rank_then_from_the_left(void **state)
{
    vocab_spec spec = spec_bpe();
    tokenizer *t = open_spec(&spec);
    CHECK(t, "hello", 0, IDS(259));
    CHECK(t, "hello hello", 0, IDS(259, 260));
    CHECK(t, "hellll", 0, IDS(258, 257));
    CHECK(t, "lll", 0, IDS(257, 'l'));
    CHECK(t, "", 0, NO_IDS);
    tokenizer_free(t);
}

static void scored_pieces_go_by_score_and_unknown_text_falls_to_bytes(void **state)
{
    vocab_spec spec = spec_scored();
    tokenizer *t = open_spec(&spec);
    CHECK(t, "hello", 0, IDS(266));
    CHECK(t, "hello", TOKENIZER_START, IDS(1, 266));
    CHECK(t, "hellohe", 0, IDS(266, 264));
    CHECK(t, "  hell", 0, IDS(259, 259, 259, 267));
    CHECK(t, "x\xF0\x9F", 0, IDS(259, 3 + 'x', 3 + 0xF0, 3 + 0x9F));
    CHECK(t, "", 0, NO_IDS);
    CHECK(t, "", TOKENIZER_START, IDS(1));
    tokenizer_free(t);
}

static void kimi_may_leave_merges_out(void **state)
{
    vocab_spec spec = spec_bpe();
    spec.pre = "kimi-k2";
    spec.merges = NULL;
    spec.merge_count = 0;
    tokenizer *t = open_spec(&spec);
    CHECK(t, "hello hell", 0, IDS(259, ' ', 258)); /* ids are ranks */
    CHECK(t, "lll", 0, IDS(257, 'l'));
    CHECK(t, "<|end|>", 0, IDS('<', '|', 'e', 'n', 'd', '|', '>'));
    tokenizer_free(t);
}

static void a_text_outside_of_the_alphabet_hides_no_word(void **state)
{
    static const char *tokens[512];
    vocab_spec spec = spec_bpe();
    memcpy(tokens, spec.tokens, spec.token_count * sizeof *tokens);
    tokens[256] = "\u200D";             /* as itself: no merge makes it */
    tokens[257] = "\u00E2\u0122\u012F"; /* its bytes E2 80 8D, as Command-R has both */
    static const char *const merges[] = {"\u00E2 \u0122", "\u00E2\u0122 \u012F"};
    tokens[258] = "\u00E2\u0122";
    spec.tokens = tokens;
    spec.merges = merges;
    spec.merge_count = 2;
    tokenizer *t = open_spec(&spec);
    CHECK(t, "\u200D", 0, IDS(257));
    tokenizer_free(t);
}

static void special_tokens_are_recognised_only_when_asked_for(void **state)
{
    vocab_spec spec = spec_bpe();
    tokenizer *t = open_spec(&spec);
    CHECK(t, "<s>o", 0, IDS('<', 's', '>', 'o'));
    CHECK(t, "<s>o<|end|>", TOKENIZER_SPECIAL, IDS(262, 'o', 261));
    CHECK(t, "o<|end|>", 0,
          IDS('o', '<', '|', 'e', 'n', 'd', '|', '>')); /* the file's merge "o <|end|>" is no way in */
    CHECK(t, "<think>", 0, IDS(263));                   /* added, but not special */
    CHECK(t, "o", TOKENIZER_SPECIAL | TOKENIZER_START, IDS(262, 'o'));
    assert_true(tokenizer_is_special(t, 261) && tokenizer_is_special(t, 262));
    assert_false(tokenizer_is_special(t, 263) || tokenizer_is_special(t, 'o') || tokenizer_is_special(t, -1) ||
                 tokenizer_is_special(t, 264));
    tokenizer_free(t);
}

static void text_of_a_plain_part_never_gives_a_special_token(void **state)
{
    vocab_spec spec = spec_bpe();
    tokenizer *t = open_spec(&spec);
    static const text_part parts[] = {
        {"<s>he", 5, true}, {"ll<s>o<|e", 9, false}, {"nd|>", 4, true}, {"", 0, false}, {"<|end|>", 7, true}};
    token_list got = {0};
    assert_int_equal(tokenizer_encode_parts(t, parts, 5, TOKENIZER_START, &got, &err), ODMOE_OK);
    /* "he" + "ll" meet across the seam; the <|end|> that begins in the user's part stays text */
    static const int expected[] = {262, 262, 258, '<', 's', '>', 'o', '<', '|', 'e', 'n', 'd', '|', '>', 261};
    assert_int_equal(got.count, 15);
    for (int i = 0; i < 15; i++)
        assert_int_equal(got.ids[i], expected[i]);
    free(got.ids);
    got = (token_list){0};
    assert_int_equal(tokenizer_encode_parts(t, NULL, 0, 0, &got, &err), ODMOE_OK);
    assert_int_equal(got.count, 0);
    free(got.ids);
    tokenizer_free(t);
}

static void any_bytes_come_back(void **state)
{
    for (int kind = 0; kind < 2; kind++) {
        vocab_spec spec = kind ? spec_scored() : spec_bpe();
        tokenizer *t = open_spec(&spec);
        unsigned char text[3000];
        uint32_t random = 1;
        for (size_t i = 0; i < sizeof text; i++) {
            random = random * 1664525 + 1013904223;
            text[i] = (unsigned char)(i < 256 ? i
                                      : i % 3 ? random >> 24
                                              : (unsigned)"hello \xE2\x96\xF0"[random >> 29]);
        }
        for (size_t i = 0; kind && i + 2 < sizeof text; i++) /* U+2581 comes back as a blank */
            if (!memcmp(text + i, "\xE2\x96\x81", 3))
                text[i] = 'h';
        token_list ids = {0};
        assert_int_equal(tokenizer_encode(t, (char *)text, sizeof text, 0, &ids, &err), ODMOE_OK);
        text_stream *s;
        assert_int_equal(text_stream_create(t, TEXT_STREAM_START, &s, &err), ODMOE_OK);
        size_t at = 0, n;
        const char *piece;
        for (size_t i = 0; i <= ids.count; i++) {
            if (i < ids.count)
                text_stream_push(s, ids.ids[i], &piece, &n);
            else
                text_stream_flush(s, &piece, &n);
            assert_true(at + n <= sizeof text);
            assert_memory_equal(piece, text + at, n);
            at += n;
        }
        assert_int_equal(at, sizeof text);
        text_stream_free(s);
        free(ids.ids);
        tokenizer_free(t);
    }
}

static void a_long_hostile_text_takes_little_time(void **state)
{
    static const char *const units[] = {" ", "a", "\n", "he", " \n", "<", "\xCC\x81", "!", "1", "\xE2\x80\xA8"};
    for (int kind = 0; kind < 2; kind++) {
        vocab_spec spec = kind ? spec_scored() : spec_bpe();
        spec.pre = "deepseek-llm";
        tokenizer *t = open_spec(&spec);
        for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
            size_t length = 200000;
            char *text = malloc(length + 1);
            assert_non_null(text);
            for (size_t i = 0; i < length; i++)
                text[i] = units[u][i % strlen(units[u])];
            text[length] = '1'; /* what ends the run is no end of the text */
            token_list ids = {0};
            assert_int_equal(tokenizer_encode(t, text, length + 1, 0, &ids, &err), ODMOE_OK);
            assert_true(ids.count > 0);
            free(ids.ids);
            free(text);
        }
        tokenizer_free(t);
    }
}

/* The i-th text of 8 bytes that falls into the first slot of a table hashed without a secret: the last two steps of
 * that hash, undone. */
static void colliding_text(uint64_t i, char text[9])
{
    uint64_t h = (i << 32 | i) * 0x9CB4B2F8129337DBu; /* the inverse of 0xC4CEB9FE1A85EC53 */
    h ^= h >> 32;
    h = h * 0x4F74430C22A54005u ^ 8 * 0x9E3779B97F4A7C15u; /* the inverse of 0xFF51AFD7ED558CCD */
    memcpy(text, &h, 8);
    text[8] = 0;
}

static void no_file_can_choose_texts_that_collide(void **state)
{
    enum { COUNT = 100000 };
    static char texts[COUNT][9];
    static const char *tokens[COUNT];
    static float scores[COUNT];
    uint64_t next = 1;
    for (size_t i = 0; i < COUNT; i++) {
        do
            colliding_text(next++, texts[i]);
        while (memchr(texts[i], 0, 8));
        tokens[i] = texts[i];
    }
    vocab_spec spec = spec_scored(); /* texts are kept as they are */
    spec.tokens = tokens;
    spec.token_count = COUNT;
    spec.type_count = 0;
    spec.types = NULL;
    spec.scores = scores;
    spec.score_count = COUNT;
    tokenizer *t = open_spec(&spec); /* minutes, if they did */
    assert_int_equal(tokenizer_find(t, tokens[COUNT - 1], 8), COUNT - 1);
    tokenizer_free(t);
}

static void many_added_tokens_with_one_text_are_as_fast_as_one(void **state)
{
    enum { COUNT = 100000 };
    static const char *tokens[COUNT];
    static int types[COUNT];
    vocab_spec spec = spec_bpe();
    for (size_t i = 0; i < COUNT; i++) {
        tokens[i] = i < 256 ? spec.tokens[i] : "a!";
        types[i] = i < 256 ? 1 : 4;
    }
    spec.tokens = tokens;
    spec.types = types;
    spec.token_count = spec.type_count = COUNT;
    spec.merge_count = 0;
    spec.eos = spec.bos = spec.eot = spec.unknown = -1;
    tokenizer *t = open_spec(&spec);
    CHECK(t, "a!b", 0, IDS(256, 'b'));
    static char text[400000];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = "a!"[i % 2];
    token_list ids = {0};
    assert_int_equal(tokenizer_encode(t, text, sizeof text, 0, &ids, &err), ODMOE_OK); /* a minute, if not */
    assert_int_equal(ids.count, sizeof text / 2);
    free(ids.ids);
    tokenizer_free(t);
}

static void end_tokens_are_all_that_the_file_names(void **state)
{
    vocab_spec spec = spec_bpe();
    spec.eos = 'x';
    spec.eot = 'y';
    spec.bos = 100000; /* not in the vocabulary */
    tokenizer *t = open_spec(&spec);
    const int32_t *ids;
    assert_int_equal(tokenizer_ends(t, &ids), 3);
    assert_int_equal(ids[0], 'x');
    assert_int_equal(ids[1], 'y');
    assert_int_equal(ids[2], 261); /* <|end|>, known by its text */
    assert_true(tokenizer_is_end(t, 'y') && !tokenizer_is_end(t, 'z') && !tokenizer_is_end(t, -1));
    assert_int_equal(tokenizer_eos(t), 'x');
    assert_int_equal(tokenizer_bos(t), -1);
    assert_int_equal(tokenizer_starts(t, &ids), 0);
    tokenizer_free(t);
}

static void an_end_token_that_the_file_calls_a_word_is_special_all_the_same(void **state)
{
    vocab_spec spec = spec_bpe();
    int types[264];
    for (int i = 0; i < 264; i++)
        types[i] = 1;
    spec.types = types;
    tokenizer *t = open_spec(&spec);
    assert_true(tokenizer_is_special(t, 261));
    CHECK(t, "<|end|>", 0, IDS('<', '|', 'e', 'n', 'd', '|', '>'));
    tokenizer_free(t);
}

static void phi3_tokens_take_the_white_space_behind_them_along(void **state)
{
    vocab_spec spec = spec_scored();
    spec.name = "Some Phi-3 model";
    tokenizer *t = open_spec(&spec);
    CHECK(t, "</s> \n\xC2\xA0hello", TOKENIZER_SPECIAL, IDS(2, 266));
    CHECK(t, "<s> hello", TOKENIZER_SPECIAL, IDS(1, 259, 266)); /* not this one */
    tokenizer_free(t);
}

static void tokens_are_found_by_their_text(void **state)
{
    vocab_spec spec = spec_bpe();
    tokenizer *t = open_spec(&spec);
    assert_int_equal(tokenizer_find(t, "<|end|>", 7), 261);
    assert_int_equal(tokenizer_find(t, " hello", 6), 260);
    assert_int_equal(tokenizer_find(t, "\n", 1), '\n');
    assert_int_equal(tokenizer_find(t, "nothing", 7), -1);
    assert_int_equal(tokenizer_find(t, "", 0), -1);
    assert_int_equal(tokenizer_size(t), 264);
    char text[8] = "???????";
    assert_int_equal(tokenizer_piece(t, 260, text, 3), 6);
    assert_memory_equal(text, " he?", 4);
    assert_int_equal(tokenizer_piece(t, 264, text, 3), 0);
    assert_int_equal(tokenizer_piece(t, -1, text, 3), 0);
    assert_int_equal(tokenizer_longest_piece(t), 7);
    assert_in_range(tokenizer_bytes(t), 4000, 200000);
    tokenizer_free(t);
    tokenizer_free(NULL);
}

static void of_two_tokens_with_one_text_the_lower_id_counts(void **state)
{
    const char *texts[264];
    vocab_spec spec = spec_bpe();
    memcpy(texts, spec.tokens, sizeof texts);
    texts[257] = "he";
    spec.tokens = texts;
    tokenizer *t = open_spec(&spec);
    CHECK(t, "he", 0, IDS(256));
    tokenizer_free(t);
}

/* ---- broken files --------------------------------------------------------------------------------------------------
 */

static void check_refused(const vocab_spec *spec, odmoe_status status, const char *word, const char *word2)
{
    tokenizer *t = NULL;
    memset(&err, 0, sizeof err);
    save_vocab(temp_path("vocab.gguf"), spec);
    odmoe_status st = tokenizer_open(temp_path("vocab.gguf"), &t, &err);
    assert_error(&err, st, status, word, word2);
    assert_null(t);
}

static void kinds_that_are_not_known_are_named(void **state)
{
    vocab_spec spec = spec_bpe();
    spec.model = "t5";
    check_refused(&spec, ODMOE_ERR_UNSUPPORTED, "vocab.gguf", "\"t5\"");
    spec = spec_bpe();
    spec.pre = "martian";
    check_refused(&spec, ODMOE_ERR_UNSUPPORTED, "vocab.gguf", "\"martian\"");
    spec.pre = "gpt-2 olmo"; /* two names are no name */
    check_refused(&spec, ODMOE_ERR_UNSUPPORTED, "tokenizer.ggml.pre", "gpt-2 olmo");
}

static void what_is_missing_is_named(void **state)
{
    vocab_spec spec = spec_bpe();
    spec.model = NULL;
    check_refused(&spec, ODMOE_ERR_UNSUPPORTED, "vocab.gguf", "tokenizer.ggml.model");
    spec = spec_bpe();
    spec.tokens = NULL;
    check_refused(&spec, ODMOE_ERR_FORMAT, "vocab.gguf", "tokenizer.ggml.tokens");
    spec = spec_bpe();
    spec.token_count = spec.type_count = 0;
    check_refused(&spec, ODMOE_ERR_FORMAT, "tokenizer.ggml.tokens", "empty");
    spec = spec_bpe();
    spec.merges = NULL;
    check_refused(&spec, ODMOE_ERR_FORMAT, "vocab.gguf", "tokenizer.ggml.merges");
    spec = spec_scored();
    spec.scores = NULL;
    check_refused(&spec, ODMOE_ERR_FORMAT, "vocab.gguf", "tokenizer.ggml.scores");
}

static void arrays_that_do_not_fit_the_tokens_are_refused(void **state)
{
    vocab_spec spec = spec_bpe();
    spec.type_count--;
    check_refused(&spec, ODMOE_ERR_FORMAT, "tokenizer.ggml.token_type", "263");
    spec = spec_scored();
    spec.score_count = 3;
    check_refused(&spec, ODMOE_ERR_FORMAT, "tokenizer.ggml.scores", "3 elements");
}

static void broken_elements_are_refused_by_number(void **state)
{
    vocab_spec spec = spec_bpe();
    spec.merges = (const char *const[]){"h e", "together"};
    spec.merge_count = 2;
    check_refused(&spec, ODMOE_ERR_FORMAT, "tokenizer.ggml.merges", "merge 1");

    float scores[269] = {0};
    spec = spec_scored();
    scores[100] = __builtin_nanf("");
    spec.scores = scores;
    check_refused(&spec, ODMOE_ERR_FORMAT, "tokenizer.ggml.scores", "token 100");

    const char *texts[269];
    spec = spec_scored();
    memcpy(texts, spec.tokens, sizeof texts);
    texts[7] = "<0xZZ>";
    spec.tokens = texts;
    check_refused(&spec, ODMOE_ERR_FORMAT, "token 7", "<0xNN>");

    char *huge = malloc(70001);
    assert_non_null(huge);
    memset(huge, 'a', 70000);
    huge[70000] = 0;
    texts[7] = huge;
    check_refused(&spec, ODMOE_ERR_FORMAT, "token 7", "70000");
    free(huge);
}

static void a_name_that_would_make_looking_for_it_slow_is_refused(void **state)
{
    const char *texts[264];
    int types[264];
    static char text[1026];
    vocab_spec spec = spec_bpe();
    memcpy(texts, spec.tokens, sizeof texts);
    memcpy(types, spec.types, sizeof types);
    memset(text, ' ', 1025);
    texts[263] = text;
    types[263] = 4;
    spec.tokens = texts;
    spec.types = types;
    check_refused(&spec, ODMOE_ERR_FORMAT, "vocab.gguf: tokenizer.ggml.tokens", "token 263 has a text of 1025 bytes");
    text[1024] = 0;
    tokenizer *t = open_spec(&spec);
    check_ids(t, text, 1024, 0, IDS(263));
    tokenizer_free(t);
}

static void merges_of_tokens_that_are_not_there_are_left_out(void **state)
{
    vocab_spec spec = spec_bpe();
    spec.merges = (const char *const[]){"q q", "h e", "zzzz y", "he h"};
    spec.merge_count = 4;
    tokenizer *t = open_spec(&spec);
    CHECK(t, "heqq", 0, IDS(256, 'q', 'q'));
    tokenizer_free(t);
}

static void a_path_that_is_not_there_is_an_io_error(void **state)
{
    tokenizer *t = NULL;
    odmoe_status st = tokenizer_open(temp_path("nothing.gguf"), &t, &err);
    assert_error(&err, st, ODMOE_ERR_IO, "nothing.gguf", " ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges_go_by_rank_then_from_the_left),
        cmocka_unit_test(scored_pieces_go_by_score_and_unknown_text_falls_to_bytes),
        cmocka_unit_test(kimi_may_leave_merges_out),
        cmocka_unit_test(a_text_outside_of_the_alphabet_hides_no_word),
        cmocka_unit_test(special_tokens_are_recognised_only_when_asked_for),
        cmocka_unit_test(text_of_a_plain_part_never_gives_a_special_token),
        cmocka_unit_test(any_bytes_come_back),
        cmocka_unit_test(a_long_hostile_text_takes_little_time),
        cmocka_unit_test(no_file_can_choose_texts_that_collide),
        cmocka_unit_test(many_added_tokens_with_one_text_are_as_fast_as_one),
        cmocka_unit_test(end_tokens_are_all_that_the_file_names),
        cmocka_unit_test(an_end_token_that_the_file_calls_a_word_is_special_all_the_same),
        cmocka_unit_test(phi3_tokens_take_the_white_space_behind_them_along),
        cmocka_unit_test(tokens_are_found_by_their_text),
        cmocka_unit_test(of_two_tokens_with_one_text_the_lower_id_counts),
        cmocka_unit_test(kinds_that_are_not_known_are_named),
        cmocka_unit_test(what_is_missing_is_named),
        cmocka_unit_test(arrays_that_do_not_fit_the_tokens_are_refused),
        cmocka_unit_test(broken_elements_are_refused_by_number),
        cmocka_unit_test(a_name_that_would_make_looking_for_it_slow_is_refused),
        cmocka_unit_test(merges_of_tokens_that_are_not_there_are_left_out),
        cmocka_unit_test(a_path_that_is_not_there_is_an_io_error),
    };
    return cmocka_run_group_tests(tests, temp_setup, temp_teardown);
}
