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

/* ---- outputs ---- */

/* How the grammar takes a text: -1 as a whole, -2 as one that must go on, else the bytes. */
static long taken_by(const odmoe_grammar *g, const char *text)
{
    odmoe_grammar_state *s;
    size_t taken;
    assert_int_equal(odmoe_grammar_state_create((odmoe_grammar *)g, &s, &err), ODMOE_OK);
    odmoe_status status = odmoe_grammar_accept_text(s, text, strlen(text), &taken, &err);
    long got = status ? (long)taken : odmoe_grammar_may_end(s) ? -1 : -2;
    odmoe_grammar_state_free(s);
    return got;
}

static void with_a_format_the_grammar_begins_where_the_answer_does(void **state)
{
    static const struct {
        const char *format, *prompt, *text;
        long taken;
    } rows[] = {
        {"hermes", NULL, "7", -1},
        {"hermes", NULL, "<think>So 7, or</think>\n\n7", -1},
        {"hermes", NULL, "<think>So 7, or", -2},
        {"hermes", NULL, "So 7", 0},
        {"hermes", "<think>\n", "So 7</think>x", 12},
        {"hermes", "<think>\n\n</think>\n\n", "<think>", 0},
        {"harmony", "<|start|>assistant", "<|channel|>final<|message|>7", -1},
        {"harmony", "<|start|>assistant",
         "<|channel|>analysis<|message|>So.<|end|><|start|>assistant<|channel|>final<|message|>7", -1},
        {"harmony", "<|start|>assistant", "7", 0},
        {"harmony", "<|start|>assistant<|channel|>final<|message|>", "7", -1},
        {"think", NULL, "<think></think>7", -1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        odmoe_grammar_options o;
        odmoe_grammar_options_init(&o);
        o.format = rows[i].format;
        o.prompt = rows[i].prompt;
        odmoe_grammar *schema = compile(ODMOE_GRAMMAR_SCHEMA, "{\"const\":7}", &o),
                      *gbnf = compile(ODMOE_GRAMMAR_GBNF, "root ::= \"7\"", &o);
        assert_int_equal(taken_by(schema, rows[i].text), rows[i].taken);
        assert_int_equal(taken_by(gbnf, rows[i].text), rows[i].taken);
        odmoe_grammar_free(schema);
        odmoe_grammar_free(gbnf);
    }
}

#define TOOLS(more)                                                                                                    \
    "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":\"object\",\"properties\":{\"x\":{" \
    "\"type\":\"integer\"" more                                                                                        \
    "}},\"required\":[\"x\"],\"additionalProperties\":false}}},{\"type\":\"function\",\"function\":"                   \
    "{\"name\":\"g\"}}]"

static void tools_are_called_in_the_way_of_the_format(void **state)
{
    odmoe_grammar_options o;
    odmoe_grammar_options_init(&o);
    o.format = "hermes";
    odmoe_grammar *g = compile(ODMOE_GRAMMAR_CALLS, TOOLS(""), &o);
    assert_int_equal(taken_by(g, "Free."), -1);
    assert_int_equal(taken_by(g, "Free.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 5}}\n</tool_call>"), -1);
    odmoe_grammar_free(g);
    o.calls_required = o.calls_single = 1;
    o.tool = "g";
    g = compile(ODMOE_GRAMMAR_CALLS, TOOLS(""), &o);
    assert_int_equal(taken_by(g, "Free."), 0);
    assert_int_equal(taken_by(g, "<tool_call>\n{\"name\": \"f"), 22);
    assert_int_equal(taken_by(g, "<tool_call>\n{\"name\": \"g\", \"arguments\": {}}\n</tool_call>"), -1);
    odmoe_grammar_free(g);
}

static void what_cannot_be_enforced_is_any_object_unless_it_is_strict(void **state)
{
    static const char plain[] = TOOLS(",\"multipleOf\":2"),
                      strict[] =
                          "[{\"function\":{\"name\":\"f\",\"strict\":true,\"parameters\":{\"uniqueItems\":true}}}]";
    odmoe_grammar_options o;
    odmoe_grammar_options_init(&o);
    odmoe_grammar_fault fault = {.size = sizeof fault};
    o.format = "hermes";
    o.calls_required = 1;
    odmoe_grammar *g = compile(ODMOE_GRAMMAR_CALLS, plain, &o);
    assert_int_equal(taken_by(g, "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"y\": [1]}}\n</tool_call>"), -1);
    odmoe_grammar_free(g);
    assert_int_equal(odmoe_grammar_compile(vocab, ODMOE_GRAMMAR_CALLS, strict, strlen(strict), &o, &g, &fault, &err),
                     ODMOE_ERR_UNSUPPORTED);
    assert_string_equal(fault.path, "[0].function.parameters.uniqueItems");
    assert_int_equal(fault.schema, 1);
}

static void formats_and_options_that_make_no_sense_are_refused(void **state)
{
    odmoe_grammar_options o;
    odmoe_grammar *g = NULL;
    const char *trigger = "x";
    odmoe_grammar_options_init(&o);
    assert_int_equal(
        odmoe_grammar_compile(vocab, ODMOE_GRAMMAR_CALLS, TOOLS(""), strlen(TOOLS("")), &o, &g, NULL, &err),
        ODMOE_ERR_ARG);
    o.format = "klingon";
    assert_int_equal(odmoe_grammar_compile(vocab, ODMOE_GRAMMAR_SCHEMA, "{}", 2, &o, &g, NULL, &err), ODMOE_ERR_ARG);
    assert_non_null(strstr(err.message, "klingon"));
    o.format = "hermes";
    assert_int_equal(odmoe_grammar_compile(vocab, ODMOE_GRAMMAR_CALLS, "{}", 2, &o, &g, NULL, &err), ODMOE_ERR_FORMAT);
    o.triggers = &trigger;
    o.trigger_count = 1;
    assert_int_equal(odmoe_grammar_compile(vocab, ODMOE_GRAMMAR_SCHEMA, "{}", 2, &o, &g, NULL, &err), ODMOE_ERR_ARG);
    assert_null(g);
}

static void the_texts_around_reasoning_are_those_of_the_format(void **state)
{
    static const struct {
        const char *format, *prompt, *open, *close, *end;
        int inside, possible;
    } rows[] = {
        {"hermes", "user\n<think>?\nassistant\n", "<think>", "</think>", "</think>", 0, 1},
        {"qwen3.5", "assistant\n<think>\n", "<think>", "</think>", "</think>", 1, 1},
        {"qwen3.5", "assistant\n<think>\n\n</think>\n\n", "<think>", "</think>", "</think>", 0, 0},
        {"gemma-4", NULL, "<|channel>thought\n", "<channel|>", "<channel|>", 0, 1},
        {"harmony", "<|start|>assistant", "<|channel|>analysis<|message|>", "<|end|>",
         "<|end|><|start|>assistant<|channel|>final<|message|>", 0, 1},
        {"harmony", "<|start|>assistant<|channel|>analysis<|message|>So", "<|channel|>analysis<|message|>", "<|end|>",
         "<|end|><|start|>assistant<|channel|>final<|message|>", 1, 1},
        {"harmony", "<|start|>assistant<|channel|>final<|message|>", "<|channel|>analysis<|message|>", "<|end|>",
         "<|end|><|start|>assistant<|channel|>final<|message|>", 0, 0},
    };
    odmoe_reasoning r = {.size = sizeof r};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(odmoe_output_reasoning(rows[i].format, rows[i].prompt, &r, &err), ODMOE_OK);
        assert_string_equal(r.open, rows[i].open);
        assert_string_equal(r.close, rows[i].close);
        assert_string_equal(r.end, rows[i].end);
        assert_int_equal(r.inside, rows[i].inside);
        assert_int_equal(r.possible, rows[i].possible);
    }
    assert_int_equal(odmoe_output_reasoning("klingon", NULL, &r, &err), ODMOE_ERR_ARG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_memory_of_trees_and_grammars_is_stated),
        cmocka_unit_test(sampling_under_the_mask_gives_an_answer_that_meets_the_grammar),
        cmocka_unit_test(the_text_of_a_special_token_is_a_trigger_in_both_forms),
        cmocka_unit_test(a_grammar_names_tokens_of_the_model),
        cmocka_unit_test(a_fault_of_an_older_version_is_filled_no_further),
        cmocka_unit_test(with_a_format_the_grammar_begins_where_the_answer_does),
        cmocka_unit_test(tools_are_called_in_the_way_of_the_format),
        cmocka_unit_test(what_cannot_be_enforced_is_any_object_unless_it_is_strict),
        cmocka_unit_test(formats_and_options_that_make_no_sense_are_refused),
        cmocka_unit_test(the_texts_around_reasoning_are_those_of_the_format),
    };
    return cmocka_run_group_tests(tests, open_vocab, close_vocab);
}
