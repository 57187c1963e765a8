#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "odmoe.h"

static odmoe_tokenizer *tokenizer;
static odmoe_grammar_vocab *vocab;
static odmoe_error err;

static int open_vocab(void **state)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/models/demo.gguf", getenv("ODMOE_SOURCE"));
    assert_int_equal(odmoe_tokenizer_open(path, &tokenizer, &err), ODMOE_OK);
    assert_int_equal(odmoe_grammar_vocab_create(tokenizer, &vocab, &err), ODMOE_OK);
    return 0;
}

static int close_vocab(void **state)
{
    odmoe_grammar_vocab_free(vocab);
    odmoe_tokenizer_close(tokenizer);
    return 0;
}

static odmoe_grammar *compile(odmoe_grammar_kind kind, const char *text, const odmoe_grammar_options *options)
{
    odmoe_grammar *g = NULL;
    assert_int_equal(odmoe_grammar_compile(vocab, kind, text, strlen(text), options, &g, NULL, &err), ODMOE_OK);
    return g;
}

static void the_memory_of_trees_and_grammars_is_stated(void **state)
{
    odmoe_grammar_options o;
    odmoe_grammar_options_init(&o);
    o.memory = 1 << 20;
    odmoe_grammar *small = compile(ODMOE_GRAMMAR_GBNF, "root ::= \"a\"", &o);
    odmoe_grammar *usual = compile(ODMOE_GRAMMAR_GBNF, "root ::= \"a\"", NULL);
    assert_in_range(odmoe_grammar_vocab_bytes(vocab), 4096 * 8, 1 << 20);
    assert_in_range(odmoe_grammar_bytes(small), 1 << 20, (1 << 20) + 65536);
    assert_in_range(odmoe_grammar_bytes(usual), 8 << 20, (8 << 20) + 65536);
    odmoe_grammar_free(small);
    odmoe_grammar_free(usual);
    o.memory = 1000;
    assert_int_equal(odmoe_grammar_compile(vocab, ODMOE_GRAMMAR_GBNF, "root ::= \"a\"", 12, &o, &small, NULL, &err),
                     ODMOE_ERR_RANGE);
}

/* Random logits of more rows than the tokenizer has tokens: what is sampled under the mask meets the grammar. */
static void sampling_under_the_mask_gives_an_answer_that_meets_the_grammar(void **state)
{
    static const char schema[] =
        "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\",\"maxLength\":9},\"b\":{\"enum\":[1,"
        "22,333]}},\"required\":[\"a\",\"b\"],\"additionalProperties\":false}";
    odmoe_grammar *g = compile(ODMOE_GRAMMAR_SCHEMA, schema, NULL);
    int32_t rows = odmoe_vocab_size(tokenizer) + 40;
    size_t words = ((size_t)rows + 31) / 32, length;
    float *logits = calloc((size_t)rows, sizeof *logits);
    uint32_t *mask = calloc(words, sizeof *mask), seed = 3;
    assert_true(logits && mask);
    for (int round = 0; round < 20; round++) {
        odmoe_sampler_options o;
        odmoe_sampler_options_init(&o);
        o.seed = (uint64_t)round;
        odmoe_sampler *sampler;
        odmoe_grammar_state *s, *check;
        assert_int_equal(odmoe_sampler_create(&o, rows, &sampler, &err), ODMOE_OK);
        assert_int_equal(odmoe_grammar_state_create(g, &s, &err), ODMOE_OK);
        int32_t ids[200], n = 0, token;
        while (n < 200 && !odmoe_grammar_must_end(s)) {
            for (int32_t i = 0; i < rows; i++)
                logits[i] = (float)((seed = seed * 1664525u + 1013904223u) >> 16) / 8192;
            assert_int_equal(odmoe_grammar_mask(s, mask, words, &err), ODMOE_OK);
            assert_int_equal(odmoe_sample(sampler, logits, mask, &token, &err), ODMOE_OK);
            assert_in_range(token, 0, odmoe_vocab_size(tokenizer) - 1);
            assert_int_equal(odmoe_grammar_accept(s, token, &err), ODMOE_OK);
            ids[n++] = token;
        }
        char text[4096];
        assert_int_equal(odmoe_detokenize(tokenizer, ids, (size_t)n, text, sizeof text, &length, &err), ODMOE_OK);
        assert_int_equal(odmoe_grammar_state_create(g, &check, &err), ODMOE_OK);
        assert_int_equal(odmoe_grammar_accept_text(check, text, length, NULL, &err), ODMOE_OK);
        assert_true(odmoe_grammar_may_end(check));
        odmoe_grammar_state_free(check);
        odmoe_grammar_state_free(s);
        odmoe_sampler_free(sampler);
    }
    free(logits);
    free(mask);
    odmoe_grammar_free(g);
}

static void the_text_of_a_special_token_is_a_trigger_in_both_forms(void **state)
{
    static const char marker[] = "<|im_start|>";
    const char *triggers[] = {marker};
    int32_t id;
    size_t n;
    odmoe_grammar_options o;
    odmoe_grammar_options_init(&o);
    o.triggers = triggers;
    o.trigger_count = 1;
    assert_int_equal(odmoe_tokenize(tokenizer, marker, strlen(marker), ODMOE_TOKENIZE_SPECIAL, &id, 1, &n, &err),
                     ODMOE_OK);
    assert_int_equal(n, 1);
    odmoe_grammar *g = compile(ODMOE_GRAMMAR_GBNF, "root ::= \"x\"", &o);
    for (int form = 0; form < 2; form++) {
        odmoe_grammar_state *s;
        assert_int_equal(odmoe_grammar_state_create(g, &s, &err), ODMOE_OK);
        assert_true(odmoe_grammar_may_end(s));
        assert_int_equal(odmoe_grammar_accept_text(s, "free", 4, NULL, &err), ODMOE_OK);
        assert_int_equal(form ? odmoe_grammar_accept(s, id, &err)
                              : odmoe_grammar_accept_text(s, marker, strlen(marker), NULL, &err),
                         ODMOE_OK);
        assert_false(odmoe_grammar_may_end(s));
        assert_int_equal(odmoe_grammar_accept_text(s, "y", 1, NULL, &err), ODMOE_ERR_ARG);
        assert_int_equal(odmoe_grammar_accept_text(s, "x", 1, NULL, &err), ODMOE_OK);
        assert_true(odmoe_grammar_must_end(s));
        odmoe_grammar_state_free(s);
    }
    odmoe_grammar_free(g);
}

static void a_grammar_names_tokens_of_the_model(void **state)
{
    odmoe_grammar *g = compile(ODMOE_GRAMMAR_GBNF, "root ::= \"a\" <|im_start|>", NULL);
    char text[64];
    size_t length;
    assert_int_equal(odmoe_grammar_print(g, text, sizeof text, &length, &err), ODMOE_OK);
    assert_memory_equal(text, "root ::= \"a\" <[", 15);
    odmoe_grammar_free(g);
}

static void a_fault_of_an_older_version_is_filled_no_further(void **state)
{
    odmoe_grammar_fault fault;
    odmoe_grammar *g;
    memset(&fault, 7, sizeof fault);
    fault.size = offsetof(odmoe_grammar_fault, path);
    assert_int_equal(odmoe_grammar_compile(NULL, ODMOE_GRAMMAR_GBNF, "root ::=\n x", 11, NULL, &g, &fault, &err),
                     ODMOE_ERR_FORMAT);
    assert_int_equal(fault.line, 2);
    assert_int_equal(fault.column, 2);
    assert_int_equal(fault.offset, 10);
    assert_int_equal(fault.path[0], 7);
    assert_int_equal(odmoe_grammar_compile(NULL, (odmoe_grammar_kind)9, "", 0, NULL, &g, NULL, &err), ODMOE_ERR_ARG);
    odmoe_grammar_options o = {0};
    assert_int_equal(odmoe_grammar_compile(NULL, ODMOE_GRAMMAR_GBNF, "root ::= \"a\"", 12, &o, &g, NULL, &err),
                     ODMOE_ERR_ARG);
    assert_non_null(strstr(err.message, "odmoe_grammar_options_init"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_memory_of_trees_and_grammars_is_stated),
        cmocka_unit_test(sampling_under_the_mask_gives_an_answer_that_meets_the_grammar),
        cmocka_unit_test(the_text_of_a_special_token_is_a_trigger_in_both_forms),
        cmocka_unit_test(a_grammar_names_tokens_of_the_model),
        cmocka_unit_test(a_fault_of_an_older_version_is_filled_no_further),
    };
    return cmocka_run_group_tests(tests, open_vocab, close_vocab);
}
