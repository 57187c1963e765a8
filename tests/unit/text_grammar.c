#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/grammar/grammar.h"

/* ---- help ------------------------------------------------------------------------------------------------------------ */

static grammar *compile(grammar_kind kind, const char *text, const vocab_tree *v, const grammar_options *o)
{
    grammar *g = NULL;
    odmoe_error err = {0};
    if (grammar_compile(kind, text, strlen(text), v, o, &g, NULL, &err))
        fail_msg("%s: %s", text, err.message);
    return g;
}

static grammar_state *begin(grammar *g)
{
    grammar_state *s = NULL;
    odmoe_error err;
    assert_int_equal(grammar_state_create(g, &s, &err), ODMOE_OK);
    return s;
}

/* How many bytes of the text the grammar takes; -1: all of it, and it may end there. */
static long taken_by(grammar *g, const char *text, size_t length)
{
    odmoe_error err;
    size_t taken;
    grammar_state *s = begin(g);
    odmoe_status st = grammar_accept_text(s, text, length, &taken, &err);
    assert_true(st == ODMOE_OK || st == ODMOE_ERR_ARG);
    assert_int_equal(st == ODMOE_OK, taken == length);
    bool whole = !st && grammar_may_end(s);
    grammar_state_free(s);
    return whole ? -1 : (long)taken;
}

/* ---- texts ------------------------------------------------------------------------------------------------------------ */

static const struct {
    const char *grammar, *text;
    long taken;
} texts[] = {
    {"root ::= \"yes\" | \"no\"", "no", -1},
    {"root ::= \"yes\" | \"no\"", "ye", 2},
    {"root ::= \"yes\" | \"no\"", "yex", 2},
    {"root ::= [a-c]+ # letters\n", "abcd", 3},
    {"root ::= [^a-c]", "\xF0\x9F\x98\x80", -1},
    {"root ::= [^a-c\\n]", "\n", 0},
    {"root ::= \".\" . \".\"", ".\n.", -1},
    {"root ::= [\xC3\xA9-\xE6\xBC\xA2]", "\xE6\xBC\xA2", -1},
    {"root ::= [\xC3\xA9-\xE6\xBC\xA2]", "\xE6\xBC\xA3", 2},
    {"root ::= .", "\xED\xA0\x80", 1}, /* a surrogate */
    {"root ::= .", "\xC0\x80", 0},
    {"root ::= .*", "a\xFF", 1},
    {"root ::= [\\x41\\u00e9\\U0001F600] \"\\n\\t\\\\\\\"\\x41\"", "\xC3\xA9\n\t\\\"A", -1},
    {"root ::= [a-]", "-", -1},
    {"root ::= [\\[\\]\\-^]{4}", "[]-^", -1},
    {"root ::= item{2,3}\nitem ::= [0-9] \",\"", "1,2,3,", -1},
    {"root ::= item{2,3}\nitem ::= [0-9] \",\"", "1,2,3,4", 6},
    {"root ::= item{2,3}\nitem ::= [0-9] \",\"", "1,", 2},
    {"root ::= \"a\"{2}", "aa", -1},
    {"root ::= \"a\"{2,}", "aaaaaaa", -1},
    {"root ::= \"a\"{2,}", "a", 1},
    {"root ::= \"a\"{0,3} \"b\"", "aaaab", 3},
    {"root ::= (\"a\"?){3,2000} \"b\"", "b", -1},
    {"root ::= (\"a\"?){3,4} \"b\"", "aaaaab", 4},
    {"root ::= ((\"a\" \"b\"){2} \"c\"){2}", "ababcababc", -1},
    {"root ::= ((\"a\" \"b\"){2} \"c\"){2}", "ababcabc", 7},
    {"root ::= (\"a\" | \"aa\"){2,3}", "aaaaaa", -1},
    {"root ::= (\"a\" | \"aa\"){2,3}", "aaaaaaa", 6},
    {"root ::= (\"aa\" | \"a\"){4} \"b\"", "aaaaab", -1},
    {"root ::= ((\"a\"*)*)*", "aaaa", -1},
    {"root ::= ((\"a\"*)+ \"b\"?)*", "aabab", -1},
    {"root ::= \"\" | \"x\"", "", -1},
    {"root ::= e\ne ::= t (\"+\" t)*\nt ::= [0-9] | \"(\" e \")\"", "((1+2)+(3))", -1},
    {"root ::= e\ne ::= t (\"+\" t)*\nt ::= [0-9] | \"(\" e \")\"", "((1+2)", 6},
    {"root ::= e\ne ::= t (\"+\" t)*\nt ::= [0-9] | \"(\" e \")\"", "(1))", 3},
    {"root ::= \"a\" root \"b\" | \"\"", "aaabbb", -1},
    {"root ::= \"a\" root \"b\" | \"\"", "aaabbbb", 6},
    {"root ::= \"a\" root | \"b\"", "aaaaaaaaaaaaaaaaaab", -1},
    {"root ::= r{2,3}\nr ::= \"a\" r | \"b\"", "aabaab", -1},
    {"root ::= a-b_c9\r\na-b_c9 ::= (\r\n  \"x\"  # one\r\n  |\r\n  \"y\"\r\n)\r\n", "y", -1},
    {"root ::= \"a\" |\n  \"b\"\n", "b", -1},
    {"# nothing\n\nroot ::=\n  \"a\"", "a", -1},
    {"root ::= \"a\" | dead\ndead ::= \"x\" dead", "a", -1},
    {"root ::= \"a\" | dead\ndead ::= \"x\" dead", "x", 0},
};

static void grammars_accept_their_texts(void **state)
{
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        grammar *g = compile(GRAMMAR_GBNF, texts[i].grammar, NULL, NULL);
        long taken = taken_by(g, texts[i].text, strlen(texts[i].text));
        if (taken != texts[i].taken)
            fail_msg("%s with \"%s\": %ld bytes, not %ld", texts[i].grammar, texts[i].text, taken, texts[i].taken);
        grammar_free(g);
    }
}

static json_t *schemas(void)
{
    char path[4096];
    json_error_t bad;
    snprintf(path, sizeof path, "%s/grammar/schemas.json", getenv("ODMOE_TEST_DATA"));
    json_t *all = json_load_file(path, 0, &bad);
    assert_non_null(all);
    return all;
}

static void check_texts(grammar *g, const char *schema, const json_t *list, bool accepted)
{
    size_t i;
    const json_t *text;
    json_array_foreach(list, i, text)
    {
        const char *t = json_string_value(text);
        if ((taken_by(g, t, strlen(t)) == -1) != accepted)
            fail_msg("%s: %s is %saccepted", schema, t, accepted ? "not " : "");
    }
}

/* Also when the grammar is printed and read again. */
static void schemas_accept_what_jsonschema_says_is_valid(void **state)
{
    json_t *all = schemas(), *one;
    size_t i;
    odmoe_error err;
    json_array_foreach(all, i, one)
    {
        char *schema = json_dumps(json_object_get(one, "schema"), JSON_ENCODE_ANY);
        grammar *g = compile(GRAMMAR_SCHEMA, schema, NULL, NULL);
        char *printed = grammar_print(g, &err);
        assert_non_null(printed);
        grammar *again = compile(GRAMMAR_GBNF, printed, NULL, NULL);
        grammar *both[2] = {g, again};
        for (int k = 0; k < 2; k++) {
            check_texts(both[k], schema, json_object_get(one, "accept"), true);
            check_texts(both[k], schema, json_object_get(one, "reject"), false);
        }
        grammar_free(again);
        grammar_free(g);
        free(printed);
        free(schema);
    }
    assert_int_equal(i, 50);
    json_decref(all);
}

static const struct {
    const char *schema, *text;
    bool accepted;
} more_texts[] = {
    {"{\"type\":\"string\",\"format\":\"date\"}", "\"2024-02-29\"", true},
    {"{\"type\":\"string\",\"format\":\"date\"}", "\"2023-02-29\"", false},
    {"{\"type\":\"string\",\"format\":\"date\"}", "\"1900-02-29\"", false},
    {"{\"type\":\"string\",\"format\":\"date\"}", "\"2000-02-29\"", true},
    {"{\"type\":\"string\",\"format\":\"date\"}", "\"2023-04-31\"", false},
    {"{\"type\":\"string\",\"format\":\"date\"}", "\"2023-12-31\"", true},
    {"{\"type\":\"string\",\"format\":\"date\"}", "\"0000-01-01\"", false},
    {"{\"type\":\"string\",\"format\":\"time\"}", "\"23:59:59.25+01:00\"", true},
    {"{\"type\":\"string\",\"format\":\"time\"}", "\"24:00:00Z\"", false},
    {"{\"type\":\"string\",\"format\":\"date-time\"}", "\"2024-02-29T00:00:00Z\"", true},
    {"{\"type\":\"string\",\"format\":\"uuid\"}", "\"123e4567-e89b-12d3-a456-426614174000\"", true},
    {"{\"type\":\"string\",\"format\":\"uuid\"}", "\"123e4567-e89b-12d3-a456-42661417400\"", false},
    {"{\"type\":\"string\",\"format\":\"email\"}", "\"anything\"", true},
    {"{\"type\":\"string\",\"pattern\":\"b\"}", "\"abc\"", true},
    {"{\"type\":\"string\",\"pattern\":\"b\"}", "\"ac\"", false},
    {"{\"type\":\"string\",\"pattern\":\"^a|c$\"}", "\"xyzc\"", true},
    {"{\"type\":\"string\",\"pattern\":\"^.$\"}", "\"\\n\"", false},
    {"{\"type\":\"string\",\"pattern\":\"^[^a]$\"}", "\"\\n\"", true},
    {"{\"type\":\"string\",\"pattern\":\"^\\\\s\\\\S\\\\d\\\\D\\\\w\\\\W$\"}", "\" x1.a!\"", true},
    {"{\"type\":\"string\",\"pattern\":\"^\\\\W$\"}", "\"\xC3\xA9\"", false}, /* a letter in Python, none in ECMA-262 */
    {"{\"type\":\"string\",\"pattern\":\"^[\\\\w.-]+@\\\\w+\\\\.(?:com|org)$\"}", "\"a.b-c@d.org\"", true},
    {"{\"type\":\"string\",\"pattern\":\"^\\\\u00e9\\\\x41\\\\u{1F600}\\\\ud83d\\\\ude00$\"}",
     "\"\\u00e9A\\ud83d\\ude00\xF0\x9F\x98\x80\"", true},
    {"{\"type\":\"string\",\"pattern\":\"^\\\"\\\\\\\\/$\"}", "\"\\\"\\\\/\"", true},
    {"{\"type\":\"string\",\"pattern\":\"^a{2,3}?b*?$\",\"minLength\":2}", "\"aabb\"", true},
    {"{\"type\":\"number\",\"exclusiveMaximum\":0.5}", "0.49999999999999999999", false}, /* rounds to 0.5 */
    {"{\"type\":\"number\",\"exclusiveMaximum\":0.5}", "0.49999999999999994", true},
    {"{\"type\":\"number\",\"exclusiveMaximum\":0.5}", "-123456789.125", true},
    {"{\"type\":\"number\",\"exclusiveMinimum\":0}", "0.0", false},
    {"{\"type\":\"number\",\"exclusiveMinimum\":0}", "5e-07", true},
    {"{\"type\":\"number\"}", "-1.6976931348623157e+308", true},
    {"{\"type\":\"number\"}", "1.8e308", false},
    {"{\"type\":\"number\"}", "1e999", false},
    {"{\"type\":\"number\"}", "1e400", false},
    {"{\"type\":\"integer\"}", "12345678901234567890", true},
    {"{\"type\":\"integer\"}", "123456789012345678901", false},
    {"{\"type\":\"integer\",\"minimum\":9223372036854775807}", "9223372036854775807", true},
    {"{\"type\":\"integer\",\"minimum\":-9223372036854775808,\"maximum\":-9223372036854775807}", "-9223372036854775808",
     true},
    {"{\"type\":\"string\"}", "\"\\ud800\"", false},
    {"{\"type\":\"string\",\"maxLength\":1}", "\"\\ud83d\\ude00\"", true},
    {"{\"type\":\"array\"}", "[ 1 , 2 ]", true},
    {"{\"type\":\"array\"}", "[1,  2]", false},
    {"{\"type\":\"array\"}", "[1,\n2]", false},
    {"{\"allOf\":[{\"$ref\":\"#/$defs/a\"},{\"$ref\":\"#/$defs/a\"}],\"$defs\":{\"a\":{\"type\":\"null\"}}}", "null",
     true},
    {"{\"$ref\":\"#/$defs/a~1b%20c\",\"$defs\":{\"a/b c\":{\"const\":7}}}", "7", true},
    {"true", "{\"a\":[null]}", true},
    {"{\"type\":\"object\",\"minProperties\":1}", "{}", false},
    {"{\"type\":\"object\",\"minProperties\":1}", "{ \"a\": 1 , \"b\":2}", true},
    {"{\"type\":\"object\",\"maxProperties\":1}", "{}", true},
    {"{\"type\":\"object\",\"maxProperties\":1}", "{\"a\":1}", true},
    {"{\"type\":\"object\",\"maxProperties\":1}", "{\"a\":1,\"b\":2}", false},
    {"{\"type\":\"object\",\"maxProperties\":0}", "{}", true},
    {"{\"type\":\"object\",\"maxProperties\":0}", "{\"a\":1}", false},
#define THREE                                                                                                    \
    "{\"type\":\"object\",\"properties\":{\"a\":{},\"b\":{},\"c\":{}},\"required\":[\"b\"],\"minProperties\":2," \
    "\"maxProperties\":2"
    {THREE "}", "{\"b\":1}", false},
    {THREE "}", "{\"a\":1,\"b\":1}", true},
    {THREE "}", "{\"b\":1,\"c\":1}", true},
    {THREE "}", "{\"a\":1,\"c\":1}", false},
    {THREE "}", "{\"b\":1,\"x\":1}", true},
    {THREE "}", "{\"a\":1,\"b\":1,\"c\":1}", false},
    {THREE ",\"additionalProperties\":false}", "{\"b\":1,\"x\":1}", false},
    {THREE ",\"additionalProperties\":false}", "{\"a\":1,\"b\":1}", true},
};

static void schemas_beyond_those_of_jsonschema(void **state)
{
    for (size_t i = 0; i < sizeof more_texts / sizeof *more_texts; i++) {
        grammar *g = compile(GRAMMAR_SCHEMA, more_texts[i].schema, NULL, NULL);
        if ((taken_by(g, more_texts[i].text, strlen(more_texts[i].text)) == -1) != more_texts[i].accepted)
            fail_msg("%s with %s", more_texts[i].schema, more_texts[i].text);
        grammar_free(g);
    }
}

/* ---- what is refused ---------------------------------------------------------------------------------------------------- */

static const struct {
    const char *grammar;
    unsigned line, column;
    const char *word;
} broken[] = {
    {"root ::= \"a", 1, 10, "end"},
    {"root ::= [a-", 1, 10, "end"},
    {"root = \"a\"", 1, 6, "::="},
    {"start ::= \"a\"", 1, 14, "root"},
    {"root ::= missing", 1, 10, "missing"},
    {"root ::= \"a\"\nx ::= y\n", 2, 7, "y"},
    {"root ::= root \"a\" | \"b\"", 1, 1, "left recursion"},
    {"root ::= a\na ::= b\nb ::= a \"x\"", 1, 10, "left recursion"},
    {"root ::= e root \"a\" | \"b\"\ne ::= \"\" | \"x\"", 1, 1, "left recursion"},
    {"root ::= (e? root \"a\")* \"b\"\ne ::= \"x\"", 1, 1, "left recursion"},
    {"root ::= \"a\" root", 1, 1, "no finite text"},
    {"root ::= (\"a\"", 1, 10, "closed"},
    {"root ::= \"a\" )", 1, 14, "neither"},
    {"root ::= \"a\"{3000}", 1, 13, "2000"},
    {"root ::= \"a\"{0,100000}", 1, 13, "2000"},
    {"root ::= \"a\"{99999999999999999999}", 1, 13, "2000"},
    {"root ::= \"a\"{3,2}", 1, 13, "least"},
    {"root ::= \"a\"{,2}", 1, 14, "number"},
    {"root ::= \"a\"\nroot ::= \"b\"", 2, 1, "already"},
    {"root ::= \"\\q\"", 1, 11, "escape"},
    {"root ::= \"\\u12\"", 1, 11, "hexadecimal"},
    {"root ::= \"\\ud800\"", 1, 11, "Unicode"},
    {"root ::= [z-a]", 1, 11, "range"},
    {"root ::= []", 1, 10, "empty"},
    {"root ::= \"\xFF\"", 1, 11, "UTF-8"},
    {"root ::= <think>", 1, 10, "vocabulary"},
    {"root ::= *", 1, 10, "neither"},
    {"::= x", 1, 1, "name"},
    {"", 1, 1, "root"},
};

static void what_is_wrong_with_a_grammar_is_said_with_its_place(void **state)
{
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        odmoe_error err = {0};
        grammar_fault fault;
        grammar *g;
        odmoe_status st =
            grammar_compile(GRAMMAR_GBNF, broken[i].grammar, strlen(broken[i].grammar), NULL, NULL, &g, &fault, &err);
        assert_true(st == ODMOE_ERR_FORMAT || st == ODMOE_ERR_RANGE || st == ODMOE_ERR_UNSUPPORTED);
        if (fault.line != broken[i].line || fault.column != broken[i].column || !strstr(err.message, broken[i].word))
            fail_msg("%s: line %u, column %u: %s", broken[i].grammar, fault.line, fault.column, err.message);
    }
}

static const struct {
    const char *part, *word;
} refused[] = {
    {"{\"not\":{}}", ".not"},
    {"{\"if\":{},\"then\":{}}", ".if"},
    {"{\"patternProperties\":{\"^a\":{}}}", ".patternProperties"},
    {"{\"type\":\"integer\",\"multipleOf\":7}", ".multipleOf"},
    {"{\"type\":\"array\",\"uniqueItems\":true}", ".uniqueItems"},
    {"{\"contains\":{\"const\":1}}", ".contains"},
    {"{\"minProperties\":2}", ".minProperties"}, /* two members may have one name */
    {"{\"properties\":{\"a\":{}},\"minProperties\":3}", ".minProperties"},
    {"{\"propertyNames\":{}}", ".propertyNames"},
    {"{\"dependentRequired\":{\"a\":[\"b\"]}}", ".dependentRequired"},
    {"{\"unevaluatedProperties\":false}", ".unevaluatedProperties"},
    {"{\"$ref\":\"https://example.com/s.json\"}", ".$ref"},
    {"{\"$ref\":\"#/$defs/missing\"}", ".$ref"},
    {"{\"$ref\":\"#anchor\"}", ".$ref"},
    {"{\"$ref\":\"#/properties/p\"}", ".$ref"},
    {"{\"type\":\"stringg\"}", ".type"},
    {"{\"type\":[]}", ".type"},
    {"{\"enum\":[]}", ".enum"},
    {"{\"type\":\"string\",\"enum\":[1]}", ".enum"},
    {"{\"type\":\"object\",\"properties\":{\"a\":{}},\"required\":[\"b\"],\"additionalProperties\":false}",
     ".required"},
    {"{\"type\":\"integer\",\"minimum\":3,\"maximum\":2}", ".minimum"},
    {"{\"type\":\"integer\",\"exclusiveMinimum\":2,\"maximum\":2.9}", ".minimum"},
    {"{\"type\":\"string\",\"minLength\":3,\"maxLength\":2}", ".minLength"},
    {"{\"type\":\"string\",\"maxLength\":2001}", ".maxLength"},
    {"{\"type\":\"string\",\"maxLength\":-1}", ".maxLength"},
    {"{\"type\":\"array\",\"items\":[{}]}", ".items"},
    {"{\"type\":\"array\",\"items\":false,\"minItems\":1}", ".minItems"},
    {"{\"exclusiveMinimum\":true}", ".exclusiveMinimum"},
    {"{\"oneOf\":[{\"type\":\"integer\"},{\"type\":\"number\"}]}", ".oneOf"},
    {"{\"anyOf\":[]}", ".anyOf"},
    {"{\"anyOf\":[{\"type\":\"null\"},{\"not\":{}}]}", ".anyOf[1].not"},
    {"{\"type\":\"string\",\"pattern\":\"^a$\",\"minLength\":2}", ".pattern"},
    {"{\"type\":\"string\",\"pattern\":\"a\\\\b\"}", ".pattern"},
    {"{\"type\":\"string\",\"pattern\":\"(?=a)b\"}", ".pattern"},
    {"{\"type\":\"string\",\"pattern\":\"(?<!a)b\"}", ".pattern"},
    {"{\"type\":\"string\",\"pattern\":\"(a)\\\\1\"}", ".pattern"},
    {"{\"type\":\"string\",\"pattern\":\"\\\\p{L}\"}", ".pattern"},
    {"{\"type\":\"string\",\"pattern\":\"[a\"}", ".pattern"},
    {"{\"type\":\"string\",\"pattern\":\"a)\"}", ".pattern"},
    {"{\"type\":\"string\",\"pattern\":\"(^a)\"}", ".pattern"},
    {"{\"type\":\"string\",\"pattern\":\"a{3000}\"}", ".pattern"},
    {"{\"type\":\"string\",\"pattern\":\"*\"}", ".pattern"},
    {"7", ".p"},
};

static void what_cannot_be_enforced_is_refused_by_its_path(void **state)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        char schema[512];
        odmoe_error err = {0};
        grammar_fault fault;
        grammar *g;
        snprintf(schema, sizeof schema,
                 "{\"type\":\"object\",\"properties\":{\"ok\":{},\"p\":%s},\"required\":[\"p\"]}", refused[i].part);
        odmoe_status st = grammar_compile(GRAMMAR_SCHEMA, schema, strlen(schema), NULL, NULL, &g, &fault, &err);
        if (!st || !strstr(fault.path, "properties.p") || !strstr(fault.path, refused[i].word))
            fail_msg("%s: %s: %s", refused[i].part, fault.path, st ? err.message : "no error");
    }
}

static void limits_of_size_and_depth_are_errors(void **state)
{
    enum { MOST = 200000 };
    char *text = malloc(MOST);
    odmoe_error err;
    grammar *g;
    assert_non_null(text);
    for (int kind = 0; kind < 5; kind++) {
        size_t n = 0;
        if (kind == 0) /* too long */
            for (n = (size_t)sprintf(text, "root ::= \"0\""); n < 70000;)
                n += (size_t)sprintf(text + n, " | \"%zu\"", n);
        if (kind == 1) /* brackets */
            n = (size_t)sprintf(text, "root ::= %0300d", 0);
        for (int i = 0; kind == 1 && i < 300; i++)
            text[9 + i] = '(';
        if (kind == 2) /* rules */
            for (n = (size_t)sprintf(text, "root ::= \"a\"\n"); n < 65000;)
                n += (size_t)sprintf(text + n, "%zx::=\"\"\n", n);
        if (kind == 3 || kind == 4) { /* schemas in schemas: 65 are too many, 64 are not */
            for (int i = 0; i < 68 - kind; i++)
                n += (size_t)sprintf(text + n, "{\"type\":\"array\",\"items\":");
            n += (size_t)sprintf(text + n, "{}");
            for (int i = 0; i < 68 - kind; i++)
                text[n++] = '}';
        }
        odmoe_status st =
            grammar_compile(kind < 3 ? GRAMMAR_GBNF : GRAMMAR_SCHEMA, text, n, NULL, NULL, &g, NULL, &err);
        assert_int_equal(st, kind == 2 || kind == 4 ? ODMOE_OK : ODMOE_ERR_RANGE);
        if (!st)
            grammar_free(g);
    }
    free(text);
}

/* ---- masks --------------------------------------------------------------------------------------------------------------- */

enum { BYTES = 256, TOKEN_END = 300, TOKEN_THINK = 301, TOKEN_END_TOO = 302 };

/* 256 bytes; words, parts of characters, JSON's signs and doubles; tokens without text. */
static vocab_tree test_vocab(void)
{
    static const char *const words[] = {"ab",
                                        "abc",
                                        "a",
                                        "{\"",
                                        "\":",
                                        "\", \"",
                                        "\"}",
                                        "},",
                                        "true",
                                        "null",
                                        "12",
                                        "0.5",
                                        " ",
                                        "  ",
                                        "\n\n",
                                        "\\n",
                                        "\\u00",
                                        "hello",
                                        " hello",
                                        "\xC3\xA9",
                                        "\xE6\xBC",
                                        "\xBC\xA2",
                                        "a\xC3",
                                        "\xA9\"",
                                        "]]",
                                        "[[",
                                        "he said",
                                        "</think>",
                                        "nk>{",
                                        "</think>{\"",
                                        "{\"a\":{\"a\":",
                                        "abcabcab",
                                        "a",
                                        "\xF0\x9F",
                                        "\x98\x80",
                                        "<"};
    enum { WORDS = sizeof words / sizeof *words, COUNT = 310 };
    static char bytes[4096];
    uint32_t starts[COUNT + 1];
    size_t used = 0;
    for (uint32_t i = 0; i < COUNT; i++) {
        starts[i] = (uint32_t)used;
        if (i < BYTES)
            bytes[used++] = (char)i;
        else if (i - BYTES < WORDS) {
            memcpy(bytes + used, words[i - BYTES], strlen(words[i - BYTES]));
            used += strlen(words[i - BYTES]);
        }
    }
    starts[COUNT] = (uint32_t)used;
    const int32_t ends[] = {TOKEN_END, TOKEN_END_TOO};
    vocab_tree v;
    odmoe_error err;
    assert_int_equal(vocab_tree_build(bytes, starts, COUNT, ends, 2, &v, &err), ODMOE_OK);
    return v;
}

static bool bit(const uint32_t *mask, int32_t id)
{
    return mask[id / 32] >> id % 32 & 1;
}

/* Every bit of the mask against the text alone: a token is allowed where its bytes are, an end token where the text may
 * end. Gives the number of allowed tokens. */
static int check_mask(grammar_state *s, const vocab_tree *v, uint32_t *mask)
{
    odmoe_error err;
    int allowed = 0;
    assert_int_equal(grammar_mask(s, mask, v->words, &err), ODMOE_OK);
    for (int32_t id = 0; id < v->count; id++) {
        grammar_state *copy, *by_token;
        bool end = id == TOKEN_END || id == TOKEN_END_TOO, expected = end && grammar_may_end(s);
        size_t length = v->starts[id + 1] - v->starts[id];
        assert_int_equal(grammar_state_copy(s, &copy, &err), ODMOE_OK);
        assert_int_equal(grammar_state_copy(s, &by_token, &err), ODMOE_OK);
        if (length)
            expected = !grammar_accept_text(copy, v->texts + v->starts[id], length, NULL, &err);
        if (bit(mask, id) != expected || (grammar_accept(by_token, id, &err) == ODMOE_OK) != expected)
            fail_msg("token %d is %sin the mask", id, expected ? "not " : "");
        if (expected && !end)
            assert_int_equal(grammar_may_end(copy), grammar_may_end(by_token));
        allowed += expected;
        grammar_state_free(copy);
        grammar_state_free(by_token);
    }
    return allowed;
}

static const struct {
    grammar_kind kind;
    const char *text;
} masked[] = {
    {GRAMMAR_SCHEMA,
     "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\",\"maxLength\":5},\"b\":{\"$ref\":\"#\"}}}"},
    {GRAMMAR_SCHEMA, "{}"},
    {GRAMMAR_SCHEMA,
     "{\"type\":\"array\",\"items\":{\"type\":\"string\",\"pattern\":\"^a.b\xC3\xA9|\xE6\xBC\xA2+$\"},\"maxItems\":9}"},
    {GRAMMAR_GBNF, "root ::= (\"a\" | \"abc\" | \"hello\"){2,7} [^x]* \"\xC3\xA9\""},
    {GRAMMAR_GBNF, "root ::= .{0,6} | [a-z ]+ \"]\""},
    {GRAMMAR_GBNF, "root ::= \"[\" root \"]\" | [^\\x00-\\x7F]"},
};

static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

/* A token of those allowed. */
static int32_t pick(const uint32_t *mask, int32_t count, int allowed, uint32_t *seed)
{
    int n = (int)(next_random(seed) % (uint32_t)allowed);
    for (int32_t id = 0; id < count; id++)
        if (bit(mask, id) && n-- == 0)
            return id;
    return -1;
}

static void a_mask_holds_exactly_the_tokens_whose_bytes_are_allowed(void **state)
{
    vocab_tree v = test_vocab();
    uint32_t mask[16], seed = 1;
    odmoe_error err;
    for (size_t i = 0; i < sizeof masked / sizeof *masked; i++)
        for (int walk = 0; walk < 6; walk++) {
            grammar *g = compile(masked[i].kind, masked[i].text, &v, NULL);
            grammar_state *s = begin(g);
            for (int step = 0; step < 25; step++) {
                int allowed = check_mask(s, &v, mask);
                int32_t id = pick(mask, v.count, allowed, &seed);
                assert_int_equal(grammar_accept(s, id, &err), ODMOE_OK);
                if (id >= TOKEN_END)
                    break;
            }
            grammar_state_free(s);
            grammar_free(g);
        }
    vocab_tree_free(&v);
}

static void after_an_end_token_only_end_tokens_are_allowed(void **state)
{
    vocab_tree v = test_vocab();
    uint32_t mask[16];
    odmoe_error err;
    grammar *g = compile(GRAMMAR_GBNF, "root ::= \"ab\" \"c\"*", &v, NULL);
    grammar_state *s = begin(g);
    assert_int_equal(grammar_accept(s, TOKEN_END, &err), ODMOE_ERR_ARG);
    assert_int_equal(grammar_accept(s, BYTES, &err), ODMOE_OK); /* "ab" */
    assert_true(grammar_may_end(s));
    assert_false(grammar_must_end(s));
    assert_int_equal(grammar_accept(s, TOKEN_END, &err), ODMOE_OK);
    assert_true(grammar_must_end(s));
    assert_int_equal(grammar_mask(s, mask, 16, &err), ODMOE_OK);
    for (int32_t id = 0; id < 512; id++)
        assert_int_equal(bit(mask, id), id == TOKEN_END || id == TOKEN_END_TOO);
    assert_int_equal(grammar_accept(s, 'c', &err), ODMOE_ERR_ARG);
    grammar_state_free(s);
    grammar_free(g);
    vocab_tree_free(&v);
}

static void a_copy_goes_its_own_way(void **state)
{
    vocab_tree v = test_vocab();
    odmoe_error err;
    grammar *g = compile(GRAMMAR_SCHEMA, "{\"type\":\"array\",\"items\":{\"type\":\"boolean\"}}", &v, NULL);
    grammar_state *s = begin(g), *copy;
    assert_int_equal(grammar_accept(s, '[', &err), ODMOE_OK);
    assert_int_equal(grammar_state_copy(s, &copy, &err), ODMOE_OK);
    assert_int_equal(grammar_accept(copy, ']', &err), ODMOE_OK);
    assert_true(grammar_must_end(copy));
    assert_false(grammar_may_end(s));
    assert_int_equal(grammar_accept(s, 't', &err), ODMOE_OK);
    grammar_state_free(s);
    assert_true(grammar_must_end(copy));
    grammar_state_free(copy);
    grammar_free(g);
    vocab_tree_free(&v);
}

/* With the least memory the cache is emptied again and again. */
static void masks_do_not_depend_on_what_the_cache_holds(void **state)
{
    static const char schema[] =
        "{\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\","
        "\"maxLength\":1900},\"b\":{\"$ref\":\"#\"},\"c\":{\"type\":\"number\",\"minimum\":0.123}}}}";
    vocab_tree v = test_vocab();
    uint32_t mask[16], other[16], seed = 5;
    odmoe_error err;
    grammar *small = compile(GRAMMAR_SCHEMA, schema, &v, &(grammar_options){.memory = GRAMMAR_MEMORY_MIN});
    grammar *large = compile(GRAMMAR_SCHEMA, schema, &v, &(grammar_options){.memory = (size_t)64 << 20});
    for (int walk = 0; walk < 3; walk++) {
        grammar_state *s = begin(small), *t = begin(large);
        for (int step = 0; step < 1500; step++) {
            int allowed = 0;
            assert_int_equal(grammar_mask(s, mask, 16, &err), ODMOE_OK);
            assert_int_equal(grammar_mask(t, other, 16, &err), ODMOE_OK);
            assert_memory_equal(mask, other, sizeof mask);
            for (int32_t id = 0; id < TOKEN_END; id++)
                allowed += bit(mask, id);
            if (!allowed)
                break;
            int32_t id = pick(mask, TOKEN_END, allowed, &seed);
            assert_int_equal(grammar_accept(s, id, &err), ODMOE_OK);
            assert_int_equal(grammar_accept(t, id, &err), ODMOE_OK);
        }
        grammar_state_free(s);
        grammar_state_free(t);
    }
    grammar_free(small);
    grammar_free(large);
    vocab_tree_free(&v);
}

/* ---- tokens and triggers ---------------------------------------------------------------------------------------------------- */

static int32_t find_token(const void *user, const char *text, size_t length)
{
    return length == 7 && !memcmp(text, "<think>", 7) ? TOKEN_THINK : -1;
}

static void a_grammar_may_name_tokens(void **state)
{
    vocab_tree v = test_vocab();
    uint32_t mask[16];
    odmoe_error err;
    grammar_options o = {.lookup = find_token};
    grammar *g = compile(GRAMMAR_GBNF, "root ::= <think> !<[97]>* <[97]> \"b\"", &v, &o);
    grammar_state *s = begin(g);
    assert_int_equal(grammar_mask(s, mask, 16, &err), ODMOE_OK);
    for (int32_t id = 0; id < 512; id++)
        assert_int_equal(bit(mask, id), id == TOKEN_THINK);
    assert_int_equal(grammar_accept(s, TOKEN_THINK, &err), ODMOE_OK);
    assert_int_equal(grammar_mask(s, mask, 16, &err), ODMOE_OK);
    for (int32_t id = 0; id < v.count; id++)
        assert_int_equal(bit(mask, id), id != TOKEN_END && id != TOKEN_END_TOO);
    assert_int_equal(grammar_accept(s, 0xFF, &err), ODMOE_OK);
    assert_int_equal(grammar_accept(s, 305, &err), ODMOE_OK);
    assert_int_equal(grammar_accept(s, 'a', &err), ODMOE_OK);
    assert_int_equal(grammar_mask(s, mask, 16, &err), ODMOE_OK);
    for (int32_t id = 0; id < 512; id++)
        assert_int_equal(bit(mask, id), id == 'b');
    grammar_state_free(s);
    grammar_free(g);
    grammar_fault fault;
    const char unknown[] = "root ::= <other>", beyond[] = "root ::= <[310]>";
    assert_int_equal(grammar_compile(GRAMMAR_GBNF, unknown, strlen(unknown), &v, &o, &g, &fault, &err),
                     ODMOE_ERR_FORMAT);
    assert_int_equal(grammar_compile(GRAMMAR_GBNF, beyond, strlen(beyond), &v, &o, &g, &fault, &err), ODMOE_ERR_FORMAT);
    vocab_tree_free(&v);
}

static void free_text_goes_on_until_a_trigger(void **state)
{
    vocab_tree v = test_vocab();
    uint32_t mask[16];
    odmoe_error err;
    const grammar_trigger triggers[] = {{"</think>", 8, -1}, {NULL, 0, TOKEN_THINK}};
    for (int by_token = 0; by_token < 2; by_token++) {
        grammar *g = compile(GRAMMAR_GBNF, "root ::= \"{\" [a-z]+", &v,
                             &(grammar_options){.triggers = triggers, .trigger_count = 2});
        grammar_state *s = begin(g);
        assert_true(grammar_may_end(s));
        assert_int_equal(grammar_accept_text(s, "<</thi", 6, NULL, &err), ODMOE_OK);
        assert_int_equal(grammar_mask(s, mask, 16, &err), ODMOE_OK);
        for (int32_t id = 0; id < v.count; id++)
            assert_int_equal(bit(mask, id),
                             id != BYTES + 29); /* </think>{" ends the trigger with too much; "nk>{" may */
        if (by_token)
            assert_int_equal(grammar_accept(s, TOKEN_THINK, &err), ODMOE_OK);
        else
            assert_int_equal(grammar_accept_text(s, "nk>", 3, NULL, &err), ODMOE_OK);
        assert_false(grammar_may_end(s));
        assert_int_equal(grammar_mask(s, mask, 16, &err), ODMOE_OK);
        for (int32_t id = 0; id < 512; id++)
            assert_int_equal(bit(mask, id), id == '{');
        grammar_state_free(s);
        grammar_free(g);
    }
    vocab_tree_free(&v);
}

static void a_token_may_end_a_trigger_only_where_its_rest_is_allowed(void **state)
{
    vocab_tree v = test_vocab();
    uint32_t mask[16];
    odmoe_error err;
    const grammar_trigger trigger = {"</think>", 8, -1};
    grammar *g = compile(GRAMMAR_GBNF, "root ::= \"{\" [a-z]+", &v,
                         &(grammar_options){.triggers = &trigger, .trigger_count = 1});
    grammar_state *s = begin(g);
    assert_int_equal(grammar_mask(s, mask, 16, &err), ODMOE_OK);
    assert_true(bit(mask, BYTES + 27));  /* </think> */
    assert_false(bit(mask, BYTES + 29)); /* </think>{" : the grammar wants a letter behind the brace */
    grammar_state_free(s);
    grammar_free(g);
    vocab_tree_free(&v);
}

static void behind_the_grammar_the_text_may_be_free_again(void **state)
{
    vocab_tree v = test_vocab();
    odmoe_error err;
    size_t taken;
    const grammar_trigger trigger = {"<<", 2, -1};
    grammar *g = compile(GRAMMAR_GBNF, "root ::= \"x\" [0-9] \">\"", &v,
                         &(grammar_options){.triggers = &trigger, .trigger_count = 1, .again = true});
    grammar_state *s = begin(g);
    assert_int_equal(grammar_accept_text(s, "any < <<x1> more <<x2><<x", 25, &taken, &err), ODMOE_OK);
    assert_false(grammar_may_end(s));
    assert_int_equal(grammar_accept_text(s, "y", 1, &taken, &err), ODMOE_ERR_ARG);
    assert_int_equal(grammar_accept_text(s, "3>", 2, &taken, &err), ODMOE_OK);
    assert_true(grammar_may_end(s));
    assert_int_equal(grammar_accept_text(s, "end", 3, &taken, &err), ODMOE_OK);
    grammar_state_free(s);
    grammar_free(g);
    vocab_tree_free(&v);
}

static void a_grammar_may_refer_to_schemas(void **state)
{
    static const char source[] =
        "root ::= \"<call>\" (\"{\\\"name\\\": \\\"f\\\", \\\"arguments\\\": \" args-f | \"g:\" args-g) \"}</call>\"";
    static const char f[] = "{\"type\":\"object\",\"properties\":{\"n\":{\"type\":\"integer\"}},\"required\":[\"n\"]}",
                      list_of_texts[] = "{\"type\":\"array\",\"items\":{\"type\":\"string\"}}";
    const grammar_schema schemas[] = {{"args-f", f, strlen(f)}, {"args-g", list_of_texts, strlen(list_of_texts)}};
    grammar_options o = {.schemas = schemas, .schema_count = 2};
    odmoe_error err;
    grammar_fault fault;
    grammar *g = compile(GRAMMAR_GBNF, source, NULL, &o), *again;
    char *printed = grammar_print(g, &err);
    assert_non_null(printed);
    again = compile(GRAMMAR_GBNF, printed, NULL, NULL);
    grammar *both[2] = {g, again};
    for (int i = 0; i < 2; i++) {
        static const char good[] = "<call>{\"name\": \"f\", \"arguments\": {\"n\": 3, \"m\": \"x\"}}</call>",
                          list[] = "<call>g:[\"a\"]}</call>", bad[] = "<call>g:[1]}</call>";
        assert_int_equal(taken_by(both[i], good, strlen(good)), -1);
        assert_int_equal(taken_by(both[i], list, strlen(list)), -1);
        assert_int_equal(taken_by(both[i], bad, strlen(bad)), 9);
    }
    grammar_free(again);
    grammar_free(g);
    free(printed);
    const grammar_schema wrong[] = {schemas[0], {"b", "{\"not\":{}}", 10}}, twice[] = {schemas[0], schemas[0]},
                         name[] = {{"a b", "{}", 2}};
    o.schemas = wrong;
    assert_int_equal(grammar_compile(GRAMMAR_GBNF, source, strlen(source), NULL, &o, &g, &fault, &err),
                     ODMOE_ERR_UNSUPPORTED);
    assert_int_equal(fault.schema, 2);
    assert_string_equal(fault.path, "not");
    o.schemas = twice;
    assert_int_equal(grammar_compile(GRAMMAR_GBNF, source, strlen(source), NULL, &o, &g, &fault, &err), ODMOE_ERR_ARG);
    o.schemas = name;
    o.schema_count = 1;
    assert_int_equal(grammar_compile(GRAMMAR_GBNF, source, strlen(source), NULL, &o, &g, &fault, &err), ODMOE_ERR_ARG);
}

/* ---- what goes wrong later ------------------------------------------------------------------------------------------------------ */

static void too_many_ways_are_an_error_and_never_a_guess(void **state)
{
    vocab_tree v = test_vocab();
    uint32_t mask[16];
    odmoe_error err;
    size_t taken;
    grammar *g =
        compile(GRAMMAR_GBNF, "root ::= \"a\" root \"x\" | \"a\" root \"y\" | \"a\" root \"z\" | \"\"", &v, NULL);
    grammar_state *s = begin(g);
    odmoe_status st = ODMOE_OK;
    for (int i = 0; i < 40 && !st; i++)
        st = grammar_accept_text(s, "a", 1, &taken, &err);
    assert_true(st == ODMOE_ERR_RANGE || st == ODMOE_ERR_BUDGET);
    assert_int_equal(taken, 0);
    assert_non_null(strstr(err.message, "grammar"));
    st = grammar_mask(s, mask, 16, &err);
    assert_true(st == ODMOE_ERR_RANGE || st == ODMOE_ERR_BUDGET);
    for (int i = 0; i < 16; i++)
        assert_int_equal(mask[i], 0);
    assert_int_equal(grammar_accept_text(s, "x", 1, &taken, &err), ODMOE_OK); /* the state is where it was */
    grammar_state_free(s);
    grammar_free(g);
    vocab_tree_free(&v);
}

static void a_vocabulary_without_the_wanted_bytes_is_a_dead_end(void **state)
{
    const char texts_ab[] = "ab";
    const uint32_t starts[] = {0, 1, 2, 2};
    const int32_t end = 2;
    vocab_tree v;
    uint32_t mask[1];
    odmoe_error err;
    assert_int_equal(vocab_tree_build(texts_ab, starts, 3, &end, 1, &v, &err), ODMOE_OK);
    grammar *g = compile(GRAMMAR_GBNF, "root ::= \"a\" [bc]? \"d\"", &v, NULL);
    grammar_state *s = begin(g);
    assert_int_equal(grammar_accept(s, 0, &err), ODMOE_OK);
    assert_int_equal(grammar_mask(s, mask, 1, &err), ODMOE_OK);
    assert_int_equal(mask[0], 2);
    assert_int_equal(grammar_accept(s, 1, &err), ODMOE_OK);
    assert_int_equal(grammar_mask(s, mask, 1, &err), ODMOE_ERR_STATE);
    assert_non_null(strstr(err.message, "after 2 bytes"));
    assert_int_equal(mask[0], 0);
    grammar_state_free(s);
    grammar_free(g);
    vocab_tree_free(&v);
}

static void what_nests_too_deep_is_not_allowed_and_the_rest_is(void **state)
{
    grammar *g = compile(GRAMMAR_SCHEMA, "{\"type\":\"array\"}", NULL, NULL);
    grammar_state *s = begin(g);
    odmoe_error err;
    size_t depth = 0;
    while (depth < 3000 && !grammar_accept_text(s, "[", 1, NULL, &err))
        depth++;
    assert_in_range(depth, 300, 2000);
    assert_int_equal(err.code, ODMOE_ERR_ARG);
    for (; depth > 0; depth--)
        assert_int_equal(grammar_accept_text(s, "]", 1, NULL, &err), ODMOE_OK);
    assert_true(grammar_must_end(s));
    grammar_state_free(s);
    grammar_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grammars_accept_their_texts),
        cmocka_unit_test(schemas_accept_what_jsonschema_says_is_valid),
        cmocka_unit_test(schemas_beyond_those_of_jsonschema),
        cmocka_unit_test(what_is_wrong_with_a_grammar_is_said_with_its_place),
        cmocka_unit_test(what_cannot_be_enforced_is_refused_by_its_path),
        cmocka_unit_test(limits_of_size_and_depth_are_errors),
        cmocka_unit_test(a_mask_holds_exactly_the_tokens_whose_bytes_are_allowed),
        cmocka_unit_test(after_an_end_token_only_end_tokens_are_allowed),
        cmocka_unit_test(a_copy_goes_its_own_way),
        cmocka_unit_test(masks_do_not_depend_on_what_the_cache_holds),
        cmocka_unit_test(a_grammar_may_name_tokens),
        cmocka_unit_test(a_grammar_may_refer_to_schemas),
        cmocka_unit_test(free_text_goes_on_until_a_trigger),
        cmocka_unit_test(a_token_may_end_a_trigger_only_where_its_rest_is_allowed),
        cmocka_unit_test(behind_the_grammar_the_text_may_be_free_again),
        cmocka_unit_test(too_many_ways_are_an_error_and_never_a_guess),
        cmocka_unit_test(a_vocabulary_without_the_wanted_bytes_is_a_dead_end),
        cmocka_unit_test(what_nests_too_deep_is_not_allowed_and_the_rest_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
