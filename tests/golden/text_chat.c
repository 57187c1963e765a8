/* The chat formats against the texts that the published templates themselves render (tests/data/templates). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/chat.h"

static json_t *renderings;

static odmoe_status detect(const char *name, chat_template *out, odmoe_error *err)
{
    char path[4096], text[65536];
    snprintf(path, sizeof path, "%s/templates/%s.jinja", getenv("ODMOE_TEST_DATA"), name);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t n = fread(text, 1, sizeof text, f);
    assert_true(n < sizeof text);
    fclose(f);
    return chat_detect(text, n, out, err);
}

/* Render one conversation and compare; a text of null must be refused. */
static void check_row(const char *name, const chat_template *c, const json_t *row)
{
    const json_t *list = json_object_get(row, "messages"), *m, *expected = json_object_get(row, "text");
    odmoe_message messages[8];
    odmoe_error err = {0};
    size_t k;
    json_array_foreach(list, k, m) messages[k] = (odmoe_message){json_string_value(json_object_get(m, "role")),
                                                                 json_string_value(json_object_get(m, "content"))};
    chat_rendering r = {0};
    bool prompt = json_is_true(json_object_get(row, "add_generation_prompt"));
    odmoe_status st = chat_render(c, messages, json_array_size(list), prompt, "<BOS>", "<EOS>", &r, &err);
    if (!json_is_string(expected)) {
        if (st != ODMOE_ERR_ARG && st != ODMOE_ERR_UNSUPPORTED)
            fail_msg("%s: rendered what the template refuses: \"%.*s\"", name, (int)r.length, r.text);
    } else if (st) {
        fail_msg("%s: %s", name, err.message);
    } else if (r.length != json_string_length(expected) || memcmp(r.text, json_string_value(expected), r.length) != 0) {
        fail_msg("%s: \"%.*s\" is not \"%s\"", name, (int)r.length, r.text, json_string_value(expected));
    }
    size_t covered = 0;
    for (k = 0; !st && k < r.count; covered += r.parts[k++].length)
        assert_ptr_equal(r.parts[k].text, r.text + covered);
    assert_true(st || covered == r.length);
    chat_rendering_free(&r);
}

static void texts_are_those_of_the_template(void **state)
{
    const char *name = *state;
    chat_template c = {0};
    odmoe_error err = {0};
    assert_int_equal(detect(name, &c, &err), ODMOE_OK);
    const json_t *rows = json_object_get(renderings, name), *row;
    size_t i;
    assert_int_equal(json_array_size(rows), 8);
    json_array_foreach(rows, i, row) check_row(name, &c, row);
    chat_template_free(&c);
}

static void further_templates_are_recognised_and_rendered(void **state)
{
    char path[4096];
    json_error_t fault;
    snprintf(path, sizeof path, "%s/templates/more.json", getenv("ODMOE_TEST_DATA"));
    json_t *all = json_load_file(path, 0, &fault), *one, *row;
    assert_int_equal(json_object_size(all), 30);
    const char *name;
    size_t i;
    json_object_foreach(all, name, one)
    {
        const json_t *text = json_object_get(one, "template");
        chat_template c = {0};
        odmoe_error err = {0};
        if (chat_detect(json_string_value(text), json_string_length(text), &c, &err))
            fail_msg("%s: %s", name, err.message);
        assert_string_equal(chat_name(&c), json_string_value(json_object_get(one, "format")));
        json_array_foreach(json_object_get(one, "rows"), i, row) check_row(name, &c, row);
        chat_template_free(&c);
    }
    json_decref(all);
}

static void other_templates_are_refused_with_a_hint(void **state)
{
    static const char *const names[] = {"GLM-4.6", "ibm-granite-granite-3.3-2B-Instruct", "moonshotai-Kimi-K2",
                                        "openai-gpt-oss-120b"};
    for (size_t i = 0; i < 4; i++) {
        chat_template c = {0};
        odmoe_error err = {0};
        assert_int_equal(detect(names[i], &c, &err), ODMOE_ERR_UNSUPPORTED);
        assert_non_null(strstr(err.message, "`run` without --chat"));
        assert_non_null(strstr(err.message, "chatml, phi3"));
    }
}

/* The template `name` of more.json with `from` replaced by `to` everywhere. The caller frees it. */
static char *changed(const json_t *all, const char *name, const char *from, const char *to)
{
    const char *text = json_string_value(json_object_get(json_object_get(all, name), "template"));
    if (!text || !strstr(text, from))
        fail_msg("%s: holds no %s", name, from);
    char *out = calloc(1, 4 * strlen(text) + strlen(to) + 1);
    assert_non_null(out);
    for (const char *at; (at = strstr(text, from)); text = at + strlen(from)) {
        strncat(out, text, (size_t)(at - text));
        strcat(out, to);
    }
    return strcat(out, text);
}

/* Each of these renders something that the row for the template it is made of doesn't. */
static void templates_that_differ_in_what_they_write_are_refused(void **state)
{
#define EACH "message['content']"
#define LOOP "{% for message in messages %}"
    static const struct {
        const char *name, *from, *to;
    } cases[] = {
        {"chatml", "'<|im_end|>' + '\\n'", "'<|im_end|>'"},
        {"chatml", EACH, EACH " | trim"},
        {"chatml", "message['role']", "('model' if message['role'] == 'assistant' else message['role'])"},
        {"chatml", LOOP, "{{ '<|im_start|>system\\nBe brief.<|im_end|>\\n' }}" LOOP},
        {"chatml", LOOP, "<|im_start|>system\nBe brief.<|im_end|>\n" LOOP},
        {"chatml", LOOP, "{% if tools %}<|im_start|>system\nUse them.<|im_end|>\n{% endif %}" LOOP},
        {"chatml", LOOP,
         "{% if messages[0]['role'] != 'system' %}{% set s = 'Be brief.' %}"
         "{{ '<|im_start|>system\\n' + s + '<|im_end|>\\n' }}{% endif %}" LOOP},
        {"chatml", LOOP, "{% set s = 'Be brief.' %}{{ '<|im_start|>system\\n' }}{{ s + '<|im_end|>\\n' }}" LOOP},
        {"chatml", LOOP, LOOP "{% if message['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}"},
        {"chatml", "assistant\\n'",
         "assistant\\n' }}{% if think is false %}{{ '<think>\\n\\n</think>\\n\\n' }}"
         "{% else %}{{ '<think>\\n'"},
        {"chatml", "assistant\\n'", "assistant\\n<think>\\n\\n</think>\\n\\n'"},
        {"qwen1.5", " or not loop.last", ""},
        {"qwen3-instruct", "content = message.content %}", "content = message.content | trim %}"},
        {"qwen3", "'<think>\\n\\n</think>\\n\\n' }}", "'<think>\\n\\n</think>\\n\\n' }}{% else %}{{ '<think>\\n' }}"},
        {"qwen3", "reasoning_content.strip('\\n')", "reasoning_content"},
        {"qwen3-thinking", "{%- if add_generation_prompt %}",
         "{%- if no_thoughts %}{{ '<|im_start|>assistant\\n' }}{%- elif add_generation_prompt %}"},
        {"qwq", "content = message.content.split('</think>')[-1].lstrip('\\n') %}",
         "content = message.content %}{% if not loop.last %}{% set content = "
         "message.content.split('</think>')[-1].lstrip('\\n') %}{% endif %}"},
        {"llama3", " | trim", ""},
        {"llama3", "{% for", "{{ '<|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>' }}{% for"},
        {"llama3.1", "26 Jul 2024", "27 Jul 2024"},
        {"llama3.1", "December 2023", "January 2024"},
        {"llama3.1", "|trim", ""},
        {"llama3.1", "{{- bos_token }}", "{% set date_string = strftime_now('%d %b %Y') %}{{- bos_token }}"},
        {"gemma", "| trim", ""},
        {"gemma", "'model'", "'assistant'"},
        {"gemma3", "| trim", ""},
        {"gemma3", "messages[0]['content'] + ", "'Always: ' + messages[0]['content'] + "},
    };
    char path[4096];
    json_error_t fault;
    snprintf(path, sizeof path, "%s/templates/more.json", getenv("ODMOE_TEST_DATA"));
    json_t *all = json_load_file(path, 0, &fault);
    assert_non_null(all);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *text = changed(all, cases[i].name, cases[i].from, cases[i].to);
        chat_template c = {0};
        odmoe_error err = {0};
        if (chat_detect(text, strlen(text), &c, &err) != ODMOE_ERR_UNSUPPORTED)
            fail_msg("%s with %s is taken for known", cases[i].name, cases[i].to);
        free(text);
    }
    json_decref(all);
}

static void templates_that_are_only_written_otherwise_are_recognised(void **state)
{
    static const char *const same[] = {
        "{%- for message in messages -%}{{-'<|im_start|>'+message.role+\"\\n\"+message.content+\"<|im_end|>\\n\"-}}{%- "
        "endfor -%}",
        "{% for message in messages %}{{ '<|im_start|>' ~ message['role'] ~ '\\n' ~ message['content'] ~ "
        "'<|im_end|>\\n' "
        "}}{% endfor %}",
        "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}",
    };
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        chat_template c = {0};
        odmoe_error err = {0};
        if (chat_detect(same[i], strlen(same[i]), &c, &err))
            fail_msg("%s: %s", same[i], err.message);
        assert_string_equal(chat_name(&c), "chatml");
    }
}

int main(void)
{
#define TEMPLATE(name)                                                                              \
    {                                                                                               \
        name ": texts are those of the template", texts_are_those_of_the_template, NULL, NULL, name \
    }
    const struct CMUnitTest tests[] = {
        TEMPLATE("Qwen-Qwen2.5-7B-Instruct"),
        TEMPLATE("Qwen-Qwen3-0.6B"),
        TEMPLATE("microsoft-Phi-3.5-mini-instruct"),
        TEMPLATE("mistralai-Mistral-Nemo-Instruct-2407"),
        TEMPLATE("deepseek-ai-DeepSeek-V3.1"),
        cmocka_unit_test(further_templates_are_recognised_and_rendered),
        cmocka_unit_test(other_templates_are_refused_with_a_hint),
        cmocka_unit_test(templates_that_differ_in_what_they_write_are_refused),
        cmocka_unit_test(templates_that_are_only_written_otherwise_are_recognised),
    };
    char path[4096];
    json_error_t fault;
    snprintf(path, sizeof path, "%s/templates/renderings.json", getenv("ODMOE_TEST_DATA"));
    renderings = json_load_file(path, 0, &fault);
    int failed = renderings ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
    json_decref(renderings);
    return failed;
}
