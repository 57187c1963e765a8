/* Grammars, masks, stop strings and samplers while memory runs out. */
#include "failing_memory.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "text/grammar/grammar.h"
#include "text/output/call_grammar.h"
#include "text/sampler.h"
#include "text/stop_filter.h"

static const char TEXTS[] = "ab{\"}:,1[]xtruenull";

/* Each byte of TEXTS a token, then an end token. */
static odmoe_status build_vocab(vocab_tree *v, odmoe_error *err)
{
    uint32_t starts[sizeof TEXTS + 1];
    const int32_t end = sizeof TEXTS - 1;
    for (uint32_t i = 0; i < sizeof TEXTS; i++)
        starts[i] = i;
    starts[sizeof TEXTS] = sizeof TEXTS - 1;
    return vocab_tree_build(TEXTS, starts, sizeof TEXTS, &end, 1, v, err);
}

static odmoe_status build(const void *unused, odmoe_error *err)
{
    vocab_tree v;
    odmoe_status st = build_vocab(&v, err);
    if (!st)
        vocab_tree_free(&v);
    return st;
}

static void building_the_trees_of_a_vocabulary(void **state)
{
    fail_each(build, NULL, 15, ODMOE_ERR_MEMORY);
}

typedef struct source {
    grammar_kind kind;
    const char *text, *sample;
    const vocab_tree *v;
} source;

static odmoe_status follow(grammar *g, const source *s, odmoe_error *err)
{
    grammar_state *state, *copy = NULL;
    uint32_t mask[1];
    odmoe_status st = grammar_state_create(g, &state, err);
    if (st)
        return st;
    for (const char *p = s->sample; *p && !st; p++) {
        st = grammar_mask(state, mask, 1, err);
        if (!st)
            st = grammar_accept(state, (int32_t)(strchr(TEXTS, *p) - TEXTS), err);
    }
    if (!st)
        st = grammar_state_copy(state, &copy, err);
    if (!st)
        st = grammar_accept_text(copy, "}", 1, NULL, err);
    grammar_state_free(copy);
    grammar_state_free(state);
    return st;
}

static odmoe_status use(const void *ctx, odmoe_error *err)
{
    const source *s = ctx;
    const grammar_trigger trigger = {"b", 1, -1};
    for (size_t triggers = 0; triggers < 2; triggers++) {
        grammar *g;
        odmoe_status st =
            grammar_compile(s->kind, s->text, strlen(s->text), s->v,
                            &(grammar_options){.triggers = &trigger, .trigger_count = triggers}, &g, NULL, err);
        if (!st) {
            st = triggers ? ODMOE_OK : follow(g, s, err);
            char *printed = st ? NULL : grammar_print(g, err);
            if (!st && !printed)
                st = ODMOE_ERR_MEMORY;
            free(printed);
            grammar_free(g);
        }
        if (st)
            return st;
    }
    return ODMOE_OK;
}

static void compiling_and_following_a_grammar(void **state)
{
    vocab_tree v;
    odmoe_error err;
    assert_int_equal(build_vocab(&v, &err), ODMOE_OK);
    const source
        gbnf = {GRAMMAR_GBNF, "root ::= \"{\" x{2,5} ([^a-z] | <[3]> | !<[4]>)? \"}\"\nx ::= \"a\" x \"b\" | \"x\"",
                "{xaxb", &v},
        schema = {
            GRAMMAR_SCHEMA,
            "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"number\",\"minimum\":0.5},\"x\":{\"$ref\":\"#\"},"
            "\"t\":{\"type\":\"string\",\"pattern\":\"^[^a]b{2}\"}},\"additionalProperties\":{\"anyOf\":[{\"enum\":[1,"
            "\"\xC3\xA9\"]},"
            "{\"type\":\"array\",\"prefixItems\":[{},{}]}]}}",
            "{\"a\":1", &v};
    fail_each(use, &gbnf, 50, ODMOE_ERR_MEMORY);
    json_set_alloc_funcs(__wrap_malloc, __wrap_free); /* which says of some failures that the text is malformed */
    fail_each(use, &schema, 100, ODMOE_ERR_FORMAT);
    json_set_alloc_funcs(malloc, free);
    vocab_tree_free(&v);
}

static odmoe_status hold_to_calls(const void *ctx, odmoe_error *err)
{
    grammar *g;
    grammar_options o = {.write = call_grammar_write, .write_user = (void *)ctx};
    odmoe_status st = grammar_compile(GRAMMAR_WRITTEN, "", 0, NULL, &o, &g, NULL, err);
    if (!st)
        grammar_free(g);
    return st;
}

static void compiling_calls_of_tools(void **state)
{
    static const char *const formats[] = {"hermes", "qwen3-coder", "deepseek-v4", "gemma-4", "harmony", "llama3"};
    json_t *tools = json_loads("[{\"name\":\"f\"},{\"name\":\"g\",\"parameters\":{\"type\":\"object\",\"properties\":{"
                               "\"x\":{\"type\":[\"string\","
                               "\"null\"]}},\"minProperties\":1}},{\"name\":\"h\",\"parameters\":{\"not\":{}}}]",
                               0, NULL);
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        for (int required = 0; required < 2; required++) {
            const call_grammar c = {.f = output_format_find(formats[i]), .tools = tools, .required = required};
            fail_each(hold_to_calls, &c, 50, ODMOE_ERR_MEMORY);
        }
    json_decref(tools);
}

static odmoe_status filter(const void *unused, odmoe_error *err)
{
    static const char *const stops[] = {"stop", "end"};
    const char *out;
    size_t length;
    bool found;
    stop_filter *f;
    odmoe_status st = stop_filter_create(stops, 2, &f, err);
    if (st)
        return st;
    st = stop_filter_push(f, "some st", 7, &out, &length, &found, err);
    stop_filter_free(f);
    return st;
}

static odmoe_status create_sampler(const void *options, odmoe_error *err)
{
    sampler *s;
    odmoe_status st = sampler_create(options, 1000, &s, err);
    if (!st)
        sampler_free(s);
    return st;
}

static void stopping_and_sampling(void **state)
{
    const odmoe_logit_bias bias = {3, 1};
    const odmoe_sampler_options options = {
        .temperature = 1, .top_p = 1, .repeat_penalty = 1, .presence_penalty = 1, .bias = &bias, .bias_count = 1};
    fail_each(filter, NULL, 4, ODMOE_ERR_MEMORY);
    fail_each(create_sampler, &options, 3, ODMOE_ERR_MEMORY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(building_the_trees_of_a_vocabulary),
        cmocka_unit_test(compiling_and_following_a_grammar),
        cmocka_unit_test(compiling_calls_of_tools),
        cmocka_unit_test(stopping_and_sampling),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
