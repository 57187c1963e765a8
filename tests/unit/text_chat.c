/* Conversations and the templates of models: where they stand, what a conversation may hold, and its special tokens. */
#include "vocab_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "text/template/conversation.h"
#include "text/template/sources.h"

static odmoe_error err;

static char *folder(const char *name)
{
    static char path[1024];
    snprintf(path, sizeof path, "%s", temp_path("model"));
    mkdir(path, 0700);
    snprintf(path, sizeof path, "%s", temp_path(name ? name : "model"));
    return path;
}

/* Write model/name; NULL removes it. */
static void put_file(const char *name, const char *text)
{
    char inside[200];
    snprintf(inside, sizeof inside, "model/%s", name);
    const char *path = folder(inside);
    if (!text) {
        unlink(path);
        return;
    }
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static int clean(void **state)
{
    static const char *const names[] = {"tokenizer_config.json", "chat_template.jinja", "chat_template.json",
                                        "additional_chat_templates/tool_use.jinja"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        put_file(names[i], NULL);
    rmdir(folder("model/additional_chat_templates"));
    return rmdir(folder(NULL));
}

static void check_source(const char *name, const char *expected)
{
    char *text;
    size_t length;
    if (template_source_open(folder(NULL), name, &text, &length, &err))
        fail_msg("%s", err.message);
    assert_string_equal(text, expected);
    assert_int_equal(length, strlen(expected));
    free(text);
}

static void a_folders_template_is_looked_for_in_all_places(void **state)
{
    put_file("tokenizer_config.json", "{\"chat_template\":\"one\"}");
    check_source(NULL, "one");
    put_file("tokenizer_config.json",
             "{\"chat_template\":[{\"name\":\"rag\",\"template\":\"x\"},{\"name\":\"default\",\"template\":\"two\"}]}");
    check_source(NULL, "two");
    check_source("rag", "x");
    put_file("chat_template.json", "{\"chat_template\":\"three\"}"); /* goes before */
    check_source(NULL, "three");
    put_file("chat_template.jinja", "four");
    check_source(NULL, "four");
    mkdir(folder("model/additional_chat_templates"), 0700);
    put_file("additional_chat_templates/tool_use.jinja", "five");
    check_source("tool_use", "five");
}

static void without_a_template_the_hint_is_run_without_chat(void **state)
{
    static const char *const configs[] = {NULL, "{}", "{\"chat_template\":[]}", "{\"chat_template\":3}"};
    char *text = NULL;
    size_t length;
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
        memset(&err, 0, sizeof err);
        put_file("tokenizer_config.json", configs[i]);
        odmoe_status st = template_source_open(folder(NULL), NULL, &text, &length, &err);
        assert_error(&err, st, ODMOE_ERR_UNSUPPORTED, "no chat template", "`run` without --chat");
    }
    odmoe_status st = template_source_open(folder(NULL), "../x", &text, &length, &err);
    assert_error(&err, st, ODMOE_ERR_UNSUPPORTED, "no chat template", "../x");
}

static void a_gguf_files_template_is_found(void **state)
{
    vocab_spec spec = spec_bpe();
    char *text;
    size_t length;
    save_vocab(temp_path("vocab.gguf"), &spec);
    odmoe_status st = template_source_open(temp_path("vocab.gguf"), NULL, &text, &length, &err);
    assert_error(&err, st, ODMOE_ERR_UNSUPPORTED, "no chat template", "`run` without --chat");
    spec.chat_template = "{{ messages }}";
    save_vocab(temp_path("vocab.gguf"), &spec);
    assert_int_equal(template_source_open(temp_path("vocab.gguf"), NULL, &text, &length, &err), ODMOE_OK);
    assert_string_equal(text, spec.chat_template);
    free(text);
    assert_int_equal(template_source_open(temp_path("vocab.gguf"), "tool_use", &text, &length, &err),
                     ODMOE_ERR_UNSUPPORTED);
}

/* ---- special tokens ---- */

static void a_message_cannot_hold_the_templates_tokens(void **state)
{
    vocab_spec spec = spec_bpe();
    spec.chat_template = "{{ bos_token }}{{ messages[0].content }}<|end|>";
    save_vocab(temp_path("chat.gguf"), &spec);
    odmoe_template *t;
    odmoe_tokenizer *tokens;
    assert_int_equal(odmoe_template_open(temp_path("chat.gguf"), NULL, &t, &err), ODMOE_OK);
    assert_int_equal(odmoe_tokenizer_open(temp_path("chat.gguf"), &tokens, &err), ODMOE_OK);
    odmoe_chat chat;
    odmoe_chat_init(&chat);
    chat.messages = "[{\"role\":\"user\",\"content\":\"<s><|end|>\"}]";
    int32_t ids[64];
    size_t n, k = 0;
    assert_int_equal(odmoe_chat_tokenize(t, tokens, &chat, ids, 64, &n, &err), ODMOE_OK);
    assert_int_equal(ids[k++], 262); /* the template's <s> */
    for (const char *at = "<s><|end|>"; *at; at++)
        assert_int_equal(ids[k++], *at);
    assert_int_equal(ids[k++], 261); /* the template's <|end|> */
    assert_int_equal(n, k);
    odmoe_template_close(t);
    odmoe_tokenizer_close(tokens);
}

/* ---- conversations ---- */

typedef struct told {
    const char *source, *messages, *tools, *expected; /* expected: the text, or the message of an error */
    bool go_on;
} told;

static void check_told_so(const told *c, bool tell_calls)
{
    template_fault fault = {0};
    template_text out = {0};
    chat_program *t = template_compile(c->source, strlen(c->source), &fault);
    if (!t)
        fail_msg("%s: %s", c->source, fault.message);
    template_caps caps = template_probe(t);
    conversation all = {.messages = c->messages,
                        .tools = c->tools,
                        .prompt = true,
                        .go_on = c->go_on,
                        .keywords = "{\"k\": \"K\"}",
                        .tell_calls = tell_calls};
    template_error e = conversation_render(t, &caps, &all, NULL, &out, &fault);
    const char *got = e ? fault.message : out.text;
    if (strcmp(got, c->expected) != 0)
        fail_msg("%s: \"%s\" is not \"%s\"", c->messages, got, c->expected);
    template_text_free(&out);
    template_fault_free(&fault);
    template_free(t);
}

static void check_told(const told *c)
{
    check_told_so(c, false);
}

#define TURNS \
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<bot>{% endif %}"
#define NO_SYSTEM                                                                                                      \
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}{% if (m.role == " \
    "'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('take turns') }}{% endif %}<{{ m.role }}>{{ m.content "    \
    "}}{% endfor %}"
#define CALLS                                                                                                         \
    "{% for m in messages %}{{ m.content }}{% for c in m.tool_calls %}[{{ c.id }} {{ c.function.name }} {% for k, v " \
    "in c.function.arguments.items() %}{{ k }}={{ v }}{% endfor %}]{% endfor %}{% if m.role == 'tool' %}({{ "         \
    "m.tool_call_id }} {{ m.name }}){% endif %}{% endfor %}"
#define USER(text) "{\"role\":\"user\",\"content\":\"" text "\"}"
#define SYSTEM(text) "{\"role\":\"system\",\"content\":\"" text "\"}"
#define BOT(text) "{\"role\":\"assistant\",\"content\":\"" text "\"}"

static void conversations_are_made_fit_for_the_template(void **state)
{
    static const told cases[] = {
        {TURNS "{{ k }}", "[" USER("A") "]", NULL, "<user>A<bot>K"},
        {TURNS, "[{\"role\":\"developer\",\"content\":\"D\"}," USER("A") "]", NULL, "<system>D<user>A<bot>"},
        {TURNS, "[" SYSTEM("S") "," SYSTEM("T") "," USER("A") "," SYSTEM("U") "]", NULL,
         "<system>S\n\nT<user>A<system>U<bot>"},
        {TURNS,
         "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"A\"},{\"type\":\"input_text\",\"text\":\"B\"}]"
         "}]",
         NULL, "<user>A\nB<bot>"},
        {TURNS, "[{\"role\":\"assistant\",\"content\":null}," USER("A") "]", NULL, "<assistant><user>A<bot>"},
        {TURNS, "[{\"role\":\"function\",\"content\":\"18\",\"name\":\"f\"}]", NULL, "<tool>18<bot>"},
        {NO_SYSTEM, "[" SYSTEM("S") "," USER("A") "]", NULL, "<user>S\n\nA"},
        {NO_SYSTEM, "[" USER("A") "," BOT("B") "," SYSTEM("S") "," USER("C") "]", NULL,
         "<user>A<assistant>B<user>System message: S\n\nC"},
        {NO_SYSTEM, "[" USER("A") "," BOT("B") "," SYSTEM("S") "]", NULL, "<user>A<assistant>B<user>System message: S"},
        {NO_SYSTEM, "[" USER("A") "," USER("B") "]", NULL, "take turns"},
        {"{% for m in messages %}{{ m.thinking }}|{{ m.reasoning_content }}{% endfor %}",
         "[{\"role\":\"assistant\",\"content\":\"B\",\"reasoning\":\"R\"}]", NULL, "R|R"},
        {TURNS, "[{\"role\":\"narrator\",\"content\":\"x\"}]", NULL,
         "messages[0].role: must be system, developer, user, assistant or tool"},
        {TURNS, "[" USER("A") ",{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]", NULL,
         "messages[1].content[0].type: only text is taken"},
        {TURNS, "[]", NULL, "messages: there are none"},
        {TURNS, "{}", NULL, "messages: must be a list"},
        {TURNS, "[3]", NULL, "messages[0]: must be an object"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_told(&cases[i]);
}

#define CALL(more) "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"type\":\"function\"," more "}]}"
#define RESULT(more) "{\"role\":\"tool\",\"content\":\"18\"" more "}"

static void calls_and_results_are_made_fit_for_the_template(void **state)
{
    static const told cases[] = {
        {CALLS, "[" CALL("\"id\":\"x\",\"function\":{\"name\":\"f\",\"arguments\":{\"a\":1}}") "]", NULL, "[x f a=1]"},
        {CALLS, "[" CALL("\"id\":\"x\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\": 1}\"}") "]", NULL,
         "[x f a=1]"},
        {CALLS, "[" CALL("\"id\":\"x\",\"function\":{\"name\":\"f\",\"arguments\":\"\"}") "]", NULL, "[x f ]"},
        {CALLS, "[" CALL("\"id\":null,\"function\":{\"name\":\"f\"}") "," RESULT("") "]", NULL,
         "[call00000 f ]18(call00000 f)"},
        {CALLS, "[" CALL("\"id\":\"x\",\"function\":{\"name\":\"f\"}") "," RESULT(",\"tool_call_id\":\"x\"") "]", NULL,
         "[x f ]18(x f)"},
        {"{% for m in messages %}{% for c in m.tool_calls %}{{ 'f(' + c.function.arguments + ') ' + c.function.name "
         "}}{% endfor %}{% endfor %}",
         "[" CALL("\"id\":\"x\",\"function\":{\"name\":\"f\",\"arguments\":{\"a\":1}}") "]", NULL, "f({\"a\": 1}) f"},
        {"{% for m in messages %}{% for c in m.tool_calls %}{% if c.id | length != 9 %}{{ raise_exception('nine') }}{% "
         "endif %}{{ c.function.name }}{{ c.function.arguments | tojson }}{% endfor %}{% endfor %}",
         "[" CALL("\"id\":\"call_0123456789\",\"function\":{\"name\":\"f\",\"arguments\":{\"a\":1}}") "]", NULL,
         "f{\"a\": 1}"},
        {CALLS, "[" CALL("\"id\":\"x\"") "]", NULL,
         "messages[0].tool_calls[0].function: an object with a name is needed"},
        {"{{ messages[0].content.split('\n')[0] }}|{{ messages[1].content }}", "[" USER("A") "]",
         "[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]", "# Tools|A"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_told(&cases[i]);
}

static void calls_that_a_template_leaves_out_are_told_where_asked_for(void **state)
{
    static const char hides[] =
        "[" CALL("\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\": 1}\"}") "," RESULT("") "]";
    const told left_out = {TURNS, hides, NULL, "<assistant><tool>18<bot>"};
    const told told_so = {
        TURNS, hides, NULL,
        "<assistant><tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call><tool>18<bot>"};
    check_told_so(&left_out, false);
    check_told_so(&told_so, true);
    /* in the notation of a template that shows tools, and asks for calls as LFM2's do */
    static const char two[] =
        "[{\"role\":\"assistant\",\"content\":\"B\",\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":"
        "{\"a\":\"x\",\"b\":[true]}}},{\"function\":{\"name\":\"g\"}}]}]";
    const told lfm2 = {"{% if tools %}List of tools: {{ tools }}{% endif %}{% for m in messages %}<|im_start|>{{ "
                       "m.content }}{% endfor %}",
                       two, NULL, "<|im_start|>B<|tool_call_start|>[f(a=\"x\", b=[true]), g()]<|tool_call_end|>"};
    check_told_so(&lfm2, true);
    const told own = {
        "{% for m in messages %}{% for k, v in m.items() %}{% if k == 'tool_' ~ 'calls' %}[{{ v[0].function.name }} "
        "{{ v[0].function.arguments.a or v[0].function.arguments.city }}]{% endif %}{% endfor %}{% endfor %}",
        hides, NULL, "[f 1]"};
    check_told_so(&own, true);
}

static void a_last_answer_is_gone_on_with(void **state)
{
    static const told cases[] = {
        {TURNS, "[" USER("A") "," BOT("One, two") "]", NULL, "<user>A<assistant>One, two", true},
        {TURNS "<end>", "[" USER("A") "," BOT("One ") "]", NULL, "<user>A<assistant>One ", true},
        {TURNS "<end>", "[" USER("A") "," BOT("A") "]", NULL, "<user>A<assistant>A", true},
        {TURNS, "[" USER("A") "]", NULL, "<user>A<bot>", true},
        {TURNS, "[" USER("A") "," BOT("B") "]", NULL, "<user>A<assistant>B<bot>", false},
        {"{{ messages[0].content }}", "[" USER("A") "," BOT("B") "]", NULL,
         "the template changes the last message: it can't be continued", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_told(&cases[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_folders_template_is_looked_for_in_all_places, clean),
        cmocka_unit_test_teardown(without_a_template_the_hint_is_run_without_chat, clean),
        cmocka_unit_test(a_gguf_files_template_is_found),
        cmocka_unit_test(a_message_cannot_hold_the_templates_tokens),
        cmocka_unit_test(conversations_are_made_fit_for_the_template),
        cmocka_unit_test(calls_and_results_are_made_fit_for_the_template),
        cmocka_unit_test(calls_that_a_template_leaves_out_are_told_where_asked_for),
        cmocka_unit_test(a_last_answer_is_gone_on_with),
    };
    return cmocka_run_group_tests(tests, temp_setup, temp_teardown);
}
