/* Grammars of calls: what a mask lets through, an output parser reads back as calls of known tools whose arguments meet
 * their schemas. For every format: random walks through the masks, with a vocabulary where the format's markers are plain
 * text, and with one where they are special tokens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/grammar/grammar.h"
#include "text/output/call_grammar.h"
#include "text/output/format.h"

/* ---- a vocabulary ---------------------------------------------------------------------------------------------------- */

enum { COUNT_MAX = 400, TOKEN_END = 0 };

typedef struct words {
    char texts[COUNT_MAX][40]; /* what a reader of the output sees */
    bool special[COUNT_MAX];
    int count;
    vocab_tree tree;
    char bytes[8192];
} words;

static void add_word(words *w, const char *text, bool special)
{
    for (int i = 1; i < w->count; i++)
        if (!strcmp(w->texts[i], text))
            return;
    assert_true(w->count < COUNT_MAX && strlen(text) < sizeof w->texts[0]);
    snprintf(w->texts[w->count], sizeof w->texts[0], "%s", text);
    w->special[w->count++] = special;
}

/* The markers that a reader knows, and some parts of them. */
static const char *const markers[] = {"Here are my reasoning steps:",
                                      "[BEGIN FINAL RESPONSE]",
                                      "<tool_call>",
                                      "</tool_call>",
                                      "<function=",
                                      "</function>",
                                      "<parameter=",
                                      "</parameter>",
                                      "<arg_key>",
                                      "</arg_key>",
                                      "<arg_value>",
                                      "</arg_value>",
                                      "<seed:tool_call>",
                                      "</seed:tool_call>",
                                      "<minimax:tool_call>",
                                      "</minimax:tool_call>",
                                      "</invoke>",
                                      "<tool_calls>",
                                      "</tool_calls>",
                                      "[TOOL_CALLS]",
                                      "[ARGS]",
                                      "[CALL_ID]",
                                      "<|tool_call|>",
                                      "<|tool_call>",
                                      "<tool_call|>",
                                      "<|\"|>",
                                      "<|tool_calls_section_begin|>",
                                      "<|tool_calls_section_end|>",
                                      "<|tool_call_begin|>",
                                      "<|tool_call_argument_begin|>",
                                      "<|tool_call_end|>",
                                      "<|tool_call_start|>",
                                      "<|channel|>",
                                      "<|message|>",
                                      "<|start|>",
                                      "<|end|>",
                                      "<|call|>",
                                      "<|constrain|>",
                                      "<think>",
                                      "</think>",
                                      "<seed:think>",
                                      "</seed:think>",
                                      "[THINK]",
                                      "[/THINK]",
                                      "<|channel>",
                                      "<channel|>",
                                      "<|python_tag|>",
                                      "</\xEF\xBD\x9C"
                                      "DSML\xEF\xBD\x9Cparameter>",
                                      "</\xEF\xBD\x9C"
                                      "DSML\xEF\xBD\x9Cinvoke>",
                                      "<\xEF\xBD\x9Ctool\xE2\x96\x81"
                                      "calls\xE2\x96\x81"
                                      "begin\xEF\xBD\x9C>",
                                      "<\xEF\xBD\x9Ctool\xE2\x96\x81"
                                      "calls\xE2\x96\x81"
                                      "end\xEF\xBD\x9C>",
                                      "<\xEF\xBD\x9Ctool\xE2\x96\x81"
                                      "call\xE2\x96\x81"
                                      "begin\xEF\xBD\x9C>",
                                      "<\xEF\xBD\x9Ctool\xE2\x96\x81"
                                      "call\xE2\x96\x81"
                                      "end\xEF\xBD\x9C>",
                                      "<\xEF\xBD\x9Ctool\xE2\x96\x81sep\xEF\xBD\x9C>"};

static words *make_words(bool special)
{
    static const char *const others[] = {"</para",
                                         "meter>",
                                         "</",
                                         "\",",
                                         "\"}",
                                         "\"]",
                                         "the",
                                         " a",
                                         "null",
                                         "true",
                                         "{\"",
                                         "\":",
                                         "```",
                                         "ends here",
                                         "\xC3\xA9",
                                         "\xE6\xBC\xA2",
                                         "\xF0\x9F\x98\x80",
                                         "&<>",
                                         "<|",
                                         "|>"};
    words *w = calloc(1, sizeof *w);
    uint32_t starts[COUNT_MAX + 1];
    size_t used = 0;
    odmoe_error err;
    add_word(w, "", false); /* the end */
    for (char c = ' '; c < 0x7F; c++)
        add_word(w, (char[]){c, 0}, false);
    add_word(w, "\n", false);
    add_word(w, "\t", false);
    for (int b = 0xC2; b < 0xF5; b++) /* the bytes of characters, so that there is no dead end */
        add_word(w, (char[]){(char)b, 0}, false);
    for (int b = 0x80; b < 0xC0; b++)
        add_word(w, (char[]){(char)b, 0}, false);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        add_word(w, others[i], false);
    for (size_t i = 0; i < sizeof markers / sizeof *markers; i++)
        add_word(w, markers[i], special);
    for (int i = 0; i < w->count; i++) {
        starts[i] = (uint32_t)used;
        if (!w->special[i]) {
            memcpy(w->bytes + used, w->texts[i], strlen(w->texts[i]));
            used += strlen(w->texts[i]);
        }
    }
    starts[w->count] = (uint32_t)used;
    assert_int_equal(vocab_tree_build(w->bytes, starts, w->count, (const int32_t[]){TOKEN_END}, 1, &w->tree, &err),
                     ODMOE_OK);
    return w;
}

static void free_words(words *w)
{
    vocab_tree_free(&w->tree);
    free(w);
}

static int32_t find_special(const void *user, const char *text, size_t length)
{
    const words *w = user;
    for (int i = 1; i < w->count; i++)
        if (w->special[i] && strlen(w->texts[i]) == length && !memcmp(w->texts[i], text, length))
            return i;
    return -1;
}

/* ---- tools ----------------------------------------------------------------------------------------------------------- */

static const char tools_text[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"get_weather\",\"parameters\":{\"type\":\"object\",\"properties\":"
    "{\"city\":{\"type\":\"string\"},\"unit\":{\"type\":\"string\",\"enum\":[\"celsius\",\"fahrenheit\"]}},"
    "\"required\":"
    "[\"city\"],\"additionalProperties\":false}}},"
    "{\"type\":\"function\",\"function\":{\"name\":\"add-2\",\"strict\":true,\"parameters\":{\"type\":\"object\","
    "\"properties\":"
    "{\"a\":{\"type\":\"integer\",\"minimum\":-3,\"maximum\":1200},\"b\":{\"type\":\"number\"},\"c\":{\"type\":["
    "\"integer\","
    "\"null\"]}},\"required\":[\"a\",\"b\"],\"additionalProperties\":false}}},"
    "{\"type\":\"function\",\"function\":{\"name\":\"write\",\"parameters\":{\"type\":\"object\",\"properties\":{"
    "\"content\":{\"type\":\"string\"},\"mode\":{\"anyOf\":[{\"$ref\":\"#/$defs/Mode\"},{\"type\":\"null\"}]},"
    "\"edits\":{\"type\":\"array\",\"maxItems\":2,\"items\":{\"type\":\"object\",\"properties\":{\"old\":{\"type\":"
    "\"string\"},"
    "\"new\":{\"type\":\"string\",\"maxLength\":9}},\"required\":[\"old\",\"new\"],\"additionalProperties\":false}},"
    "\"deep\":"
    "{\"type\":\"boolean\"}},\"required\":[\"edits\",\"content\"],\"additionalProperties\":false,\"$defs\":{\"Mode\":{"
    "\"enum\":"
    "[\"append\",\"5\",\"</parameter>\"],\"type\":\"string\"}}}}},"
    "{\"type\":\"function\",\"function\":{\"name\":\"ping\"}},"
    "{\"type\":\"function\",\"function\":{\"name\":\"find.it\",\"parameters\":{\"type\":\"object\",\"properties\":{"
    "\"q\":{\"type\":"
    "\"string\",\"pattern\":\"^[a-z<]{2,5}$\"},\"when\":{\"type\":\"string\",\"format\":\"date\"},\"tag\":{\"enum\":[1,"
    "\"x\",null]},"
    "\"word\":{\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"string\",\"minLength\":2}]},\"n\":{\"type\":[\"string\","
    "\"null\"],"
    "\"maxLength\":4}},\"required\":[\"q\",\"tag\",\"n\"],\"additionalProperties\":{\"type\":\"integer\"}}}},"
    "{\"type\":\"function\",\"function\":{\"name\":\"loose\",\"parameters\":{\"type\":\"object\",\"properties\":{\"x\":"
    "{\"type\":"
    "\"integer\",\"multipleOf\":2}},\"required\":[\"x\"]}}},"
    "{\"type\":\"function\",\"function\":{\"name\":\"nest\",\"parameters\":{\"type\":\"object\",\"properties\":{"
    "\"a key\":{\"type\":\"boolean\"},\"counts\":{\"type\":\"object\",\"properties\":{\"n\":{\"type\":\"null\"}},"
    "\"additionalProperties\":{\"type\":\"integer\"}}},\"required\":[\"counts\"],\"additionalProperties\":false}}},"
    "{\"type\":\"function\",\"function\":{\"name\":\"all\",\"parameters\":{\"type\":\"object\",\"properties\":{\"x\":{"
    "\"type\":"
    "\"string\",\"minLength\":1}},\"allOf\":[{\"properties\":{\"y\":{\"type\":\"string\"}},\"required\":[\"y\"]}]}}}]";

static json_t *tools;

static const json_t *parameters_of(const char *name)
{
    size_t i;
    json_t *tool;
    json_array_foreach(tools, i,
                       tool) if (!strcmp(json_string_value(json_object_get(json_object_get(tool, "function"), "name")),
                                         name)) return json_object_get(json_object_get(tool, "function"), "parameters");
    return NULL;
}

/* ---- what a reader makes of it ----------------------------------------------------------------------------------------- */

typedef struct message {
    char *content;
    size_t length;
    json_t *calls; /* [{name, arguments as text}] */
} message;

static void take(void *user, const output_delta *d)
{
    message *m = user;
    if (d->kind == DELTA_REASONING)
        return;
    if (d->kind == DELTA_CONTENT) {
        m->content = realloc(m->content, m->length + d->length + 1);
        memcpy(m->content + m->length, d->text, d->length);
        m->length += d->length;
        m->content[m->length] = 0;
        return;
    }
    while (json_array_size(m->calls) <= d->call)
        json_array_append_new(m->calls, json_pack("{s:s, s:s}", "name", d->name, "arguments", ""));
    json_t *one = json_array_get(m->calls, d->call), *before = json_object_get(one, "arguments"),
           *more = json_stringn(d->text, d->length);
    if (!more)
        fail_msg("arguments that are no UTF-8: %.*s", (int)d->length, d->text);
    char *all = malloc(json_string_length(before) + json_string_length(more) + 1);
    sprintf(all, "%s%s", json_string_value(before), json_string_value(more));
    json_object_set_new(one, "arguments", json_string(all));
    json_decref(more);
    free(all);
}

static message parse(const output_format *f, const char *prompt, const char *text, uint32_t seed)
{
    message m = {.calls = json_array()};
    output *o;
    odmoe_error err;
    assert_int_equal(output_create(f, prompt, tools_text, take, &m, &o, &err), ODMOE_OK);
    size_t length = strlen(text);
    if (seed & 1)
        output_stream_calls(o);
    for (size_t at = 0, n; at < length; at += n) {
        seed = seed * 1664525u + 1013904223u;
        n = 1 + (seed >> 16) % 9;
        n = n < length - at ? n : length - at;
        assert_int_equal(output_feed(o, text + at, n, &err), ODMOE_OK);
    }
    assert_int_equal(output_end(o, &err), ODMOE_OK);
    output_free(o);
    return m;
}

static bool is_type(const json_t *v, const char *type)
{
    return (!strcmp(type, "string") && json_is_string(v)) ||
           (!strcmp(type, "integer") && json_is_real(v) && floor(json_real_value(v)) == json_real_value(v)) ||
           (!strcmp(type, "number") && json_is_number(v)) || (!strcmp(type, "boolean") && json_is_boolean(v)) ||
           (!strcmp(type, "null") && json_is_null(v)) || (!strcmp(type, "array") && json_is_array(v)) ||
           (!strcmp(type, "object") && json_is_object(v));
}

static bool same(const json_t *a, const json_t *b)
{
    return json_is_number(a) && json_is_number(b) ? json_number_value(a) == json_number_value(b) : json_equal(a, b);
}

/* A validator for what the tools above say, of its own. */
static bool valid(const json_t *root, const json_t *schema, const json_t *v)
{
    const json_t *type = json_object_get(schema, "type"), *one, *properties = json_object_get(schema, "properties"),
                 *others = json_object_get(schema, "additionalProperties");
    const char *key;
    json_t *value;
    size_t i;
    bool ok = !type || (json_is_string(type) && is_type(v, json_string_value(type)));
    json_array_foreach(type, i, one) ok |= is_type(v, json_string_value(one));
    if (json_object_get(schema, "$ref"))
        ok &= valid(root, json_object_get(json_object_get(root, "$defs"), "Mode"), v);
    bool any = !json_object_get(schema, "anyOf"), listed = !json_object_get(schema, "enum");
    json_array_foreach(json_object_get(schema, "anyOf"), i, one) any |= valid(root, one, v);
    json_array_foreach(json_object_get(schema, "enum"), i, one) listed |= same(one, v);
    json_array_foreach(json_object_get(schema, "allOf"), i, one) ok &= valid(root, one, v);
    json_array_foreach(json_object_get(schema, "required"), i, one) ok &=
        !json_is_object(v) || json_object_get(v, json_string_value(one));
    if (json_is_object(v))
        json_object_foreach((json_t *)v, key, value)
        {
            const json_t *own = json_object_get(properties, key);
            ok &= own ? valid(root, own, value) : !others || (json_is_object(others) && valid(root, others, value));
        }
    json_array_foreach(v, i, one) ok &=
        !json_object_get(schema, "items") || valid(root, json_object_get(schema, "items"), one);
    const json_t *most = json_object_get(schema, "maxLength"), *least = json_object_get(schema, "minLength");
    size_t characters = 0;
    for (const char *p = json_is_string(v) ? json_string_value(v) : ""; *p; p++)
        characters += (*p & 0xC0) != 0x80;
    if (json_is_string(v))
        ok &= (!most || characters <= (size_t)json_integer_value(most)) &&
              (!least || characters >= (size_t)json_integer_value(least));
    if (json_is_number(v) && json_object_get(schema, "maximum"))
        ok &= json_number_value(v) <= 1200 && json_number_value(v) >= -3;
    if (json_is_array(v) && json_object_get(schema, "maxItems"))
        ok &= json_array_size(v) <= 2;
    return ok && any && listed;
}

/* ---- walks ------------------------------------------------------------------------------------------------------------- */

static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

/* Tokens that end something. */
static bool closes(const char *text)
{
    static const char *const ends[] = {"", "\n", "\"", "}", "]", ")", "<|\"|>", NULL};
    for (int i = 0; ends[i]; i++)
        if (!strcmp(text, ends[i]))
            return true;
    return strlen(text) > 3 &&
           (text[1] == '/' || !strcmp(text, "<channel|>") || !strcmp(text, "[BEGIN FINAL RESPONSE]"));
}

/* An allowed token: a quarter of them end something, where such are allowed; in long texts most. */
static int32_t pick(const words *w, const uint32_t *mask, size_t length, uint32_t *seed)
{
    for (int closing = next_random(seed) % 100 < (length > 2000 ? 75 : 25); closing >= 0; closing--) {
        int32_t ids[COUNT_MAX];
        uint32_t n = 0;
        for (int32_t id = 0; id < w->count; id++)
            if ((mask[id / 32] >> id % 32 & 1) && (!closing || closes(w->texts[id])))
                ids[n++] = id;
        if (n)
            return ids[next_random(seed) % n];
    }
    fail_msg("nothing is allowed");
    return 0;
}

static grammar *compile(const words *w, call_grammar *c)
{
    grammar *g = NULL;
    odmoe_error err = {0};
    grammar_options o = {.special = {find_special, w}, .write = call_grammar_write, .write_user = c};
    if (grammar_compile(GRAMMAR_WRITTEN, "", 0, &w->tree, &o, &g, NULL, &err))
        fail_msg("%s: %s", output_format_name(c->f), err.message);
    return g;
}

/* Goes on from the state until the end or `most` tokens; false: it has not ended. */
static bool walk(const words *w, grammar_state *s, char *text, size_t room, int most, uint32_t *seed)
{
    uint32_t mask[COUNT_MAX / 32 + 1];
    odmoe_error err;
    for (int i = 0; i < most; i++) {
        if (grammar_mask(s, mask, w->tree.words, &err))
            fail_msg("%s: %s", text, err.message);
        int32_t id = pick(w, mask, strlen(text), seed);
        assert_int_equal(grammar_accept(s, id, &err), ODMOE_OK);
        if (id == TOKEN_END)
            return true;
        assert_true(strlen(text) + strlen(w->texts[id]) < room);
        strcat(text, w->texts[id]);
    }
    return false;
}

static void check(const output_format *f, const char *prompt, const char *text, const call_grammar *c, size_t least)
{
    message m = parse(f, prompt, text, (uint32_t)strlen(text));
    size_t i;
    json_t *one;
    if (json_array_size(m.calls) < least || (c->one && json_array_size(m.calls) > 1) || (c->required && m.length))
        fail_msg("%s: %zu calls, content \"%s\" in: %s", output_format_name(f), json_array_size(m.calls),
                 m.content ? m.content : "", text);
    json_array_foreach(m.calls, i, one)
    {
        const char *name = json_string_value(json_object_get(one, "name"));
        json_t *arguments =
            json_loads(json_string_value(json_object_get(one, "arguments")), JSON_DECODE_INT_AS_REAL, NULL);
        const json_t *parameters = parameters_of(name);
        if (!parameters && strcmp(name, "ping"))
            fail_msg("%s: an unknown tool %s in: %s", output_format_name(f), name, text);
        if (c->only && strcmp(c->only, name))
            fail_msg("%s: %s was not asked for: %s", output_format_name(f), name, text);
        bool right = json_is_object(arguments);
        if (right && !strcmp(name, "ping"))
            right = !json_object_size(arguments);
        else if (right && strcmp(name, "loose"))
            right = valid(parameters, parameters, arguments);
        if (!right)
            fail_msg("%s: %s with arguments %s in: %s", output_format_name(f), name,
                     json_string_value(json_object_get(one, "arguments")), text);
        json_decref(arguments);
    }
    json_decref(m.calls);
    free(m.content);
}

enum { WALKS = 24, TOKENS = 4000, ROOM = 65536 };

static void walk_format(const words *w, const output_format *f, call_grammar *c, int walks, uint32_t seed)
{
    grammar *g = compile(w, c);
    char *text = malloc(ROOM);
    int ended = 0;
    odmoe_error err;
    for (int i = 0; i < walks; i++) {
        grammar_state *s;
        assert_int_equal(grammar_state_create(g, &s, &err), ODMOE_OK);
        *text = 0;
        if (walk(w, s, text, ROOM, TOKENS, &seed)) {
            check(f, c->prompt, text, c, c->required);
            ended++;
        }
        grammar_state_free(s);
    }
    if (ended < walks / 2)
        fail_msg("%s: only %d of %d walks ended", output_format_name(f), ended, walks);
    free(text);
    grammar_free(g);
}

static const char *prompt_of(const output_format *f)
{
    return f->style == CALLS_HARMONY ? "<|start|>assistant" : NULL;
}

static bool has_calls(const output_format *f)
{
    return f->style != CALLS_NONE;
}

static void each_format(void (*run)(const words *w, const output_format *f))
{
    for (int special = 0; special < 2; special++) {
        words *w = make_words(special);
        for (size_t i = 0; i < output_formats_count; i++)
            if (has_calls(&output_formats[i]))
                run(w, &output_formats[i]);
        free_words(w);
    }
}

static void require(const words *w, const output_format *f)
{
    walk_format(w, f, &(call_grammar){.f = f, .prompt = prompt_of(f), .tools = tools, .required = true}, WALKS, 1);
}

static void a_required_call_is_read_back_as_a_call_of_a_known_tool(void **state)
{
    each_format(require);
}

static void require_one(const words *w, const output_format *f)
{
    for (size_t i = 0; i < json_array_size(tools); i++) {
        const char *name =
            json_string_value(json_object_get(json_object_get(json_array_get(tools, i), "function"), "name"));
        walk_format(w, f,
                    &(call_grammar){
                        .f = f, .prompt = prompt_of(f), .tools = tools, .only = name, .required = true, .one = true},
                    4, (uint32_t)i);
    }
}

static void a_named_tool_is_called_once(void **state)
{
    each_format(require_one);
}

/* ---- calls that the model begins itself ---------------------------------------------------------------------------------- */

/* The text goes on with this, its special tokens as tokens. false: it is not allowed. */
static bool accept(const words *w, grammar_state *s, const char *text)
{
    odmoe_error err;
    while (*text) {
        int32_t id = -1;
        size_t n = strlen(text);
        while (n > 1 && (id = find_special(w, text, n)) < 0)
            n--;
        if (id >= 0 ? grammar_accept(s, id, &err) : grammar_accept_text(s, text, 1, NULL, &err))
            return false;
        text += id >= 0 ? n : 1;
    }
    return true;
}

/* What opens a call in the format, behind some text where calls may stand behind text. */
static const char *beginning(const output_format *f)
{
    static char text[128];
    if (f->style == CALLS_WHOLE)
        return "{\"name\"";
    if (f->style == CALLS_HARMONY)
        return "<|channel|>final<|message|>Sure: to=functions.x<|end|><|start|>assistant<|channel|>commentary "
               "to=functions.";
    snprintf(text, sizeof text, "Sure, 5 < 6.%s", f->open[0]);
    return text;
}

static void hold(const words *w, const output_format *f)
{
    call_grammar c = {.f = f, .prompt = prompt_of(f), .tools = tools};
    grammar *g = compile(w, &c);
    char *text = malloc(ROOM);
    uint32_t seed = 5;
    odmoe_error err;
    int ended = 0;
    for (int i = 0; i < WALKS / 2; i++) {
        grammar_state *s;
        assert_int_equal(grammar_state_create(g, &s, &err), ODMOE_OK);
        assert_true(grammar_may_end(s));
        snprintf(text, ROOM, "%s", beginning(f));
        if (!accept(w, s, text))
            fail_msg("%s: %s is not allowed", output_format_name(f), text);
        assert_false(grammar_may_end(s));
        if (walk(w, s, text, ROOM, TOKENS, &seed)) {
            check(f, c.prompt, text, &c, 1);
            ended++;
        }
        grammar_state_free(s);
    }
    assert_true(ended > WALKS / 4);
    free(text);
    grammar_free(g);
}

static void from_its_opening_marker_on_a_call_is_held_to_a_known_tool(void **state)
{
    each_format(hold);
}

static void free_text_ends_or_calls(const words *w, const output_format *f)
{
    call_grammar c = {.f = f, .prompt = prompt_of(f), .tools = tools};
    walk_format(w, f, &c, WALKS / 2, 9);
}

static void what_begins_no_call_is_free(void **state)
{
    each_format(free_text_ends_or_calls);
}

/* ---- examples ------------------------------------------------------------------------------------------------------------ */

/* How the grammar takes a text: as a whole, as one that has to go on, or up to the byte before `refused`. */
enum { WHOLE, MORE };

static const struct {
    const char *format, *prompt;
    bool required, one;
    const char *text, *refused;
    int end;
} examples[] = {
#define CALL "<tool_call>\n{\"name\": \"ping\", \"arguments\": {}}\n</tool_call>"
#define DS_CALL                     \
    "<\xEF\xBD\x9Ctool\xE2\x96\x81" \
    "call\xE2\x96\x81"              \
    "begin\xEF\xBD\x9C>"
    {"hermes", NULL, true, false, CALL, NULL, WHOLE},
    {"hermes", NULL, true, false, CALL "\n" CALL, NULL, WHOLE},
    {"hermes", NULL, true, true, CALL, "\n", WHOLE},
    /* behind a call further ones or the end: in all templates the content stands in front */
    {"hermes", NULL, false, false, "Hm. " CALL "\n" CALL, " ", WHOLE},
    {"hermes", NULL, false, true, CALL, CALL, WHOLE},
    {"hermes", NULL, true, false, "", "Hello", MORE},
    {"hermes", NULL, false, false, "Hello <tool_cal>l", NULL, WHOLE},
    {"hermes", NULL, false, false, "Hello <tool_call>\n{\"name\": \"p", "ong", MORE},
    /* reasoning: calls in it are text, it may be opened where the prompt has not ended it, and a call comes behind it */
    {"hermes", NULL, true, false, "<think>\nA " CALL " is it.\n</think>\n\n" CALL, NULL, WHOLE},
    {"hermes", NULL, true, false, "<think>\nSo", NULL, MORE},
    {"hermes", NULL, false, false, "<think>\nSo", NULL, WHOLE},
    {"hermes", "assistant\n<think>\n", true, false, "So.</think>\n\n<tool_call>\n{\"name\": \"", "x", MORE},
    {"hermes", "assistant\n<think>\n", false, false, "<tool_call>x</think><tool_call>", "x", MORE},
    {"hermes", "assistant\n<think>\n\n</think>\n\n", true, false, "<t", "hink>", MORE},
    {"kimi-k2", "<think>", true, false, "So <|tool_calls_section_begin|><|tool_call_begin|>functions.ping:0", NULL,
     MORE},
    /* without the outer marker */
    {"qwen3-coder", NULL, false, false, "Hm <function=ping>\n</function>\n</tool_call>", NULL, WHOLE},
    {"qwen3-coder", NULL, false, false, "Hm <function=p", "ong", MORE},
    {"deepseek-v3.1", NULL, false, false, DS_CALL "ping", "o", MORE},
    /* values */
    {"qwen3-coder", NULL, true, false, "<tool_call>\n<function=write>\n<parameter=content>\n</p> \"5\n</parameter>\n<",
     "/f", MORE},
    {"qwen3-coder", NULL, true, false, "<tool_call>\n<function=get_weather>\n<parameter=", "unit", MORE},
    {"glm-4.6", NULL, true, false,
     "<tool_call>add-2\n<arg_key>a</arg_key>\n<arg_value>7</arg_value>\n<arg_key>b</arg_key>\n<arg_value>0.5</"
     "arg_value>\n</tool_call>",
     NULL, WHOLE},
    {"gemma-4", NULL, true, false,
     "<|tool_call>call:get_weather{city:<|\"|>Z, {\"}<|\"|>,unit:<|\"|>celsius<|\"|>}<tool_call|>", NULL, WHOLE},
    {"lfm2", NULL, true, false, "<|tool_call_start|>[ping(), add-2(a=7, b=0.5)]<|tool_call_end|>", NULL, WHOLE},
    {"lfm2", NULL, true, false, "<|tool_call_start|>[get_weather(city=\"Z, (\\\"=\", unit=\"c", "\"", MORE},
    {"lfm2", NULL, true, false, "<|tool_call_start|>[nest(counts={\"n\": null, ", "x", MORE},
    {"lfm2", NULL, true, true, "<|tool_call_start|>[nest(\"a key\"=true, counts={})", ",", MORE},
    {"mistral-call-id", NULL, true, false, "[TOOL_CALLS]ping[CALL_ID]abcdefgh9[ARGS]{}", NULL, WHOLE},
    /* the answer as a whole */
    {"llama3", NULL, false, false, " {\"name\": \"", "x", MORE},
    {"llama3", NULL, false, false, "{\"nam\": 1}", NULL, WHOLE},
    {"llama3", NULL, false, false, "Say {\"name\": 1}", NULL, WHOLE},
    /* Harmony: both places of the recipient */
    {"harmony", "<|start|>assistant", true, false,
     "<|channel|>commentary to=functions.ping <|constrain|>json<|message|>{}", NULL, WHOLE},
    {"harmony", "<|start|>assistant", true, false, " to=functions.ping<|channel|>commentary json<|message|>{}", NULL,
     WHOLE},
    {"harmony", "<|start|>assistant", true, false,
     "<|channel|>analysis<|message|>Hm<|end|><|start|>assistant<|channel|>commentary to=functions.ping<|message|>{}",
     NULL, WHOLE},
    {"harmony", "<|start|>assistant", true, false, "<|channel|>", "final", MORE},
    {"harmony", "<|start|>assistant", false, false, "<|channel|>final<|message|>to=functions.", NULL, WHOLE},
    {"harmony", "<|start|>assistant<|channel|>analysis<|message|>So", true, false,
     "x<|end|><|start|>assistant to=functions.p", NULL, MORE},
};

static void examples_of_what_is_allowed(void **state)
{
    words *w = make_words(false);
    for (size_t i = 0; i < sizeof examples / sizeof *examples; i++) {
        call_grammar c = {.f = output_format_find(examples[i].format),
                          .prompt = examples[i].prompt,
                          .tools = tools,
                          .required = examples[i].required,
                          .one = examples[i].one};
        grammar *g = compile(w, &c);
        grammar_state *s;
        odmoe_error err;
        size_t taken;
        assert_int_equal(grammar_state_create(g, &s, &err), ODMOE_OK);
        if (grammar_accept_text(s, examples[i].text, strlen(examples[i].text), &taken, &err))
            fail_msg("%s: only %zu bytes of: %s", examples[i].format, taken, examples[i].text);
        if (grammar_may_end(s) != (examples[i].end == WHOLE))
            fail_msg("%s: the end is wrong: %s", examples[i].format, examples[i].text);
        if (examples[i].refused &&
            !grammar_accept_text(s, examples[i].refused, strlen(examples[i].refused), &taken, &err))
            fail_msg("%s: %s is allowed behind: %s", examples[i].format, examples[i].refused, examples[i].text);
        assert_true(!examples[i].refused || taken == 0);
        grammar_state_free(s);
        grammar_free(g);
    }
    free_words(w);
}

/* ---- errors -------------------------------------------------------------------------------------------------------------- */

#define TOOL(name, more) "[{\"type\":\"function\",\"function\":{\"name\":\"" name "\"" more "}}]"

static const struct {
    const char *format, *tools, *only;
    odmoe_status status;
    const char *path, *message;
} faults[] = {
    {"think", TOOL("f", ""), NULL, ODMOE_ERR_UNSUPPORTED, "", "think have no calls"},
    {"hermes", "[]", NULL, ODMOE_ERR_ARG, "", "no tools"},
    {"hermes", TOOL("f", ""), "g", ODMOE_ERR_ARG, "", "no tool named g"},
    {"hermes", TOOL("a b", ""), NULL, ODMOE_ERR_ARG, "[0].function.name", "tools[0].function.name"},
    {"hermes", TOOL("f", ",\"strict\":true,\"parameters\":{\"properties\":{\"x\":{\"not\":{}}}}"), NULL,
     ODMOE_ERR_UNSUPPORTED, "[0].function.parameters.properties.x.not",
     "tools[0].function.parameters.properties.x.not: "},
    {"glm-4.6", TOOL("f", ",\"strict\":true,\"parameters\":{\"properties\":{\"x\":{\"type\":\"text\"}}}"), NULL,
     ODMOE_ERR_FORMAT, "[0].function.parameters.properties.x.type", "null boolean"},
};

static void errors_name_the_tool_and_the_path(void **state)
{
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        json_t *list = json_loads(faults[i].tools, 0, NULL);
        call_grammar c = {
            .f = output_format_find(faults[i].format), .tools = list, .only = faults[i].only, .required = true};
        grammar_options o = {.write = call_grammar_write, .write_user = &c};
        grammar *g = NULL;
        grammar_fault fault;
        odmoe_error err;
        odmoe_status status = grammar_compile(GRAMMAR_WRITTEN, "", 0, NULL, &o, &g, &fault, &err);
        if (status != faults[i].status || strcmp(fault.path, faults[i].path) || !strstr(err.message, faults[i].message))
            fail_msg("%d, %s, %s", status, fault.path, err.message);
        assert_int_equal(fault.schema, *faults[i].path ? 1 : 0);
        json_decref(list);
    }
}

int main(void)
{
    tools = json_loads(tools_text, 0, NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_required_call_is_read_back_as_a_call_of_a_known_tool),
        cmocka_unit_test(a_named_tool_is_called_once),
        cmocka_unit_test(from_its_opening_marker_on_a_call_is_held_to_a_known_tool),
        cmocka_unit_test(what_begins_no_call_is_free),
        cmocka_unit_test(examples_of_what_is_allowed),
        cmocka_unit_test(errors_name_the_tool_and_the_path),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    json_decref(tools);
    return failed;
}
