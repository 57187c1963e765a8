/* The interpreter of chat templates against the texts of jinja2 as transformers sets it up (tests/data/templates). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "support/template_data.h"
#include "text/template/conversation.h"

static int differences;

static void differs(const char *where, const char *source, const char *expected, const char *got)
{
    print_error("%s: %s\n  expected: %s\n  got:      %s\n", where, source, expected, got);
    differences++;
}

static bool is_text(const json_t *expected, const template_text *out)
{
    return json_is_string(expected) && json_string_length(expected) == out->length &&
           !memcmp(json_string_value(expected), out->text, out->length);
}

/* Templates of the limits are stored as [piece, times] pairs. */
static char *source_of(const json_t *row)
{
    const json_t *source = json_object_get(row, "template"), *piece;
    size_t i, length = 1, n = 0;
    if (json_is_string(source))
        return strdup(json_string_value(source));
    json_array_foreach(source, i, piece) length +=
        json_string_length(json_array_get(piece, 0)) * (size_t)json_integer_value(json_array_get(piece, 1));
    char *text = malloc(length);
    assert_non_null(text);
    json_array_foreach(source, i, piece)
    {
        const char *part = json_string_value(json_array_get(piece, 0));
        for (json_int_t k = json_integer_value(json_array_get(piece, 1)); k > 0; k--) {
            memcpy(text + n, part, strlen(part));
            n += strlen(part);
        }
    }
    text[n] = 0;
    return text;
}

/* The classes that callers tell apart. */
static const char *class_of(const char *error)
{
    return !strcmp(error, "syntax") || !strcmp(error, "raise") ? error : "other";
}

static void check_error(const char *where, const char *source, const json_t *expected, const template_fault *fault)
{
    const char *class = json_string_value(json_object_get(expected, "error")), *got = template_error_name(fault->kind);
    const json_t *message = json_object_get(expected, "message");
    if (!class || strcmp(class_of(class), class_of(got)) != 0)
        differs(where, source, class ? class : json_dumps(json_object_get(expected, "text"), JSON_ENCODE_ANY),
                fault->message);
    else if (message && (json_string_length(message) != fault->length ||
                         memcmp(json_string_value(message), fault->message, fault->length) != 0))
        differs(where, source, json_string_value(message), fault->message);
}

static void check_row(const json_t *row, const json_t *context)
{
    char *source = source_of(row);
    size_t length = json_is_string(json_object_get(row, "template"))
                        ? json_string_length(json_object_get(row, "template"))
                        : strlen(source);
    const char *group = json_string_value(json_object_get(row, "group"));
    const json_t *text = json_object_get(row, "text"), * or = json_object_get(row, "or");
    template_fault fault = {0};
    template_text out = {0};
    chat_program *t = template_compile(source, length, &fault);
    bool answer_is_right_too = json_object_get(row, "note") != NULL;
    if (!t || template_run(t, context, &out, &fault))
        check_error(group, source, row, &fault);
    else if (!is_text(text, &out) && !is_text(or, &out) && !answer_is_right_too)
        differs(group, source, text ? json_string_value(text) : json_string_value(json_object_get(row, "error")),
                out.text);
    template_text_free(&out);
    template_fault_free(&fault);
    template_free(t);
    free(source);
}

static void each_feature_of_the_language_gives_what_jinja2_gives(void **state)
{
    json_t *all = templates_json("language"), *row;
    size_t i;
    differences = 0;
    assert_int_equal(json_array_size(json_object_get(all, "rows")), 655);
    json_array_foreach(json_object_get(all, "rows"), i, row) check_row(row, json_object_get(all, "context"));
    json_decref(all);
    assert_int_equal(differences, 0);
}

/* ---- renderings ---- */

static json_t *context_of(const json_t *cases, const char *name)
{
    json_t *context = json_deep_copy(json_object_get(cases, "defaults"));
    const json_t *given = json_object_get(json_object_get(cases, "cases"), name),
                 *unset = json_object_get(given, "unset"), *v;
    const char *key;
    size_t i;
    json_object_foreach((json_t *)given, key, v)
    {
        if (!strcmp(key, "tools") && json_is_string(v))
            v = json_object_get(json_object_get(cases, "tool_sets"), json_string_value(v));
        if (strcmp(key, "unset") != 0 && strcmp(key, "about") != 0)
            json_object_set(context, key, (json_t *)v);
    }
    json_array_foreach(unset, i, v) json_object_del(context, json_string_value(v));
    return context;
}

static void check_case(const char *name, const chat_program *t, const char *at, const json_t *expected,
                       const json_t *cases)
{
    char where[200];
    template_fault fault = {0};
    template_text out = {0};
    json_t *context = context_of(cases, at);
    snprintf(where, sizeof where, "%s, %s", name, at);
    if (template_run(t, context, &out, &fault)) {
        if (json_is_string(expected))
            differs(where, "", json_string_value(expected), fault.message);
        else
            check_error(where, "", expected, &fault);
    } else if (!is_text(expected, &out) && !is_text(json_object_get(expected, "or"), &out)) {
        differs(where, "", json_is_string(expected) ? json_string_value(expected) : json_dumps(expected, 0), out.text);
    }
    json_decref(context);
    template_text_free(&out);
    template_fault_free(&fault);
}

static void published_templates_render_as_under_transformers(void **state)
{
    json_t *all = templates_json("renderings"), *cases = templates_json("cases"), *rows, *expected;
    const char *name, *at;
    size_t n = 0;
    differences = 0;
    json_object_foreach(all, name, rows)
    {
        template_fault fault = {0};
        char *source = templates_source(name);
        chat_program *t = template_compile(source, strlen(source), &fault);
        if (!t) {
            differs(name, "", "compiles", fault.message);
            template_fault_free(&fault);
            free(source);
            continue;
        }
        json_object_foreach(rows, at, expected)
        {
            const json_t *as = json_object_get(expected, "as");
            check_case(name, t, at, as ? json_object_get(rows, json_string_value(as)) : expected, cases);
            n++;
        }
        template_free(t);
        free(source);
    }
    json_decref(all);
    json_decref(cases);
    assert_int_equal(n, 4312);
    assert_int_equal(differences, 0);
}

static void older_templates_render_as_under_jinja2(void **state)
{
    json_t *all = templates_json("more"), *one, *row;
    const char *name;
    size_t i, n = 0;
    differences = 0;
    json_object_foreach(all, name, one)
    {
        const json_t *source = json_object_get(one, "template");
        template_fault fault = {0};
        chat_program *t = template_compile(json_string_value(source), json_string_length(source), &fault);
        assert_non_null(t);
        json_array_foreach(json_object_get(one, "rows"), i, row)
        {
            const json_t *text = json_object_get(row, "text");
            template_text out = {0};
            json_object_set_new(row, "bos_token", json_string("<BOS>"));
            json_object_set_new(row, "eos_token", json_string("<EOS>"));
            json_t *context = json_copy(row);
            json_object_del(context, "text");
            if (template_run(t, context, &out, &fault) ? json_is_string(text) : !is_text(text, &out))
                differs(name, "", json_is_string(text) ? json_string_value(text) : "an error",
                        fault.message ? fault.message : out.text);
            json_decref(context);
            template_text_free(&out);
            template_fault_free(&fault);
            n++;
        }
        template_free(t);
    }
    json_decref(all);
    assert_true(n > 300);
    assert_int_equal(differences, 0);
}

/* ---- whose text is whose ---- */

static bool covered(const template_text *out, size_t from, size_t to)
{
    for (size_t i = 0; i < out->n; i++)
        if (out->foreign[i].from <= from && to <= out->foreign[i].to)
            return true;
    return false;
}

static void control_tokens_of_a_conversation_are_marked_as_foreign(void **state)
{
    json_t *all = templates_json("injection"), *cases = templates_json("cases"), *row, *range;
    size_t i, k, n = 0;
    differences = 0;
    json_array_foreach(all, i, row)
    {
        const char *name = json_string_value(json_object_get(row, "template"));
        char *source = templates_source(name);
        template_fault fault = {0};
        template_text out = {0};
        chat_program *t = template_compile(source, strlen(source), &fault);
        json_t *context = json_copy(json_object_get(cases, "defaults"));
        json_object_update(context, json_object_get(row, "context"));
        if (!t || template_run(t, context, &out, &fault) || !is_text(json_object_get(row, "text"), &out))
            differs(name, "", json_string_value(json_object_get(row, "text")), out.text ? out.text : fault.message);
        json_array_foreach(json_object_get(row, "foreign"), k, range)
        {
            size_t from = (size_t)json_integer_value(json_array_get(range, 0)),
                   to = (size_t)json_integer_value(json_array_get(range, 1));
            if (!covered(&out, from, to))
                differs(name, json_string_value(json_object_get(row, "kind")), "foreign", "native");
            n++;
        }
        json_decref(context);
        template_text_free(&out);
        template_fault_free(&fault);
        template_free(t);
        free(source);
    }
    json_decref(all);
    json_decref(cases);
    assert_true(n > 200);
    assert_int_equal(differences, 0);
}

/* ---- around the template ---- */

static void reasoning_has_the_names_that_transformers_gives_it(void **state)
{
    static const char source[] =
        "{% for m in messages %}{{ m.thinking | tojson if m.thinking is defined }}|{{ m.reasoning_content | tojson if "
        "m.reasoning_content is defined }};{% endfor %}";
    json_t *all = templates_json("apply"), *row;
    const template_caps caps = {.system = true, .later_system = true, .tools = true};
    template_fault fault = {0};
    chat_program *t = template_compile(source, strlen(source), &fault);
    assert_non_null(t);
    size_t i;
    json_array_foreach(json_object_get(all, "alias"), i, row)
    {
        template_text got = {0}, expected = {0};
        char *given = json_dumps(json_object_get(row, "given"), 0), *seen = json_dumps(json_object_get(row, "seen"), 0);
        const template_variable v = {.name = "messages", .json = seen, .length = strlen(seen)};
        assert_int_equal(conversation_render(t, &caps, &(conversation){.messages = given}, NULL, &got, &fault),
                         TEMPLATE_OK);
        assert_int_equal(template_render(t, &v, 1, 0, NULL, &expected, &fault), TEMPLATE_OK);
        assert_string_equal(got.text, expected.text);
        template_text_free(&got);
        template_text_free(&expected);
        free(given);
        free(seen);
    }
    assert_int_equal(i, 8);
    template_free(t);
    json_decref(all);
}

/* The conversations that are the same here and there: transformers refuses parts, goes on with a user's text and with
 * reasoning, and takes an empty answer for one to go on with. */
static bool goes_on(const char *name)
{
    static const char *const names[] = {"content",          "content-blank", "content-lines",
                                        "content-reasoned", "content-think", "after-result"};
    bool is = false;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        is |= !strcmp(name, names[i]);
    return is;
}

static void answers_are_gone_on_with_as_under_transformers(void **state)
{
    json_t *all = templates_json("apply"), *row;
    size_t i, n = 0;
    differences = 0;
    json_array_foreach(json_object_get(all, "continue"), i, row)
    {
        const char *name = json_string_value(json_object_get(row, "template")),
                   *at = json_string_value(json_object_get(row, "case"));
        const json_t *text = json_object_get(row, "text");
        if (!json_is_string(text) || !goes_on(at))
            continue;
        template_fault fault = {0};
        template_text out = {0};
        char *source = templates_source(name),
             *messages = json_dumps(json_object_get(json_object_get(all, "talks"), at), 0);
        chat_program *t = template_compile(source, strlen(source), &fault);
        template_caps caps = template_probe(t);
        const conversation c = {
            .messages = messages, .bos = "<BOS>", .eos = "<EOS>", .go_on = true, .now = TEMPLATE_TEST_NOW};
        if (conversation_render(t, &caps, &c, NULL, &out, &fault) || !is_text(text, &out))
            differs(name, at, json_string_value(text), out.text ? out.text : fault.message);
        template_text_free(&out);
        template_fault_free(&fault);
        template_free(t);
        free(source);
        free(messages);
        n++;
    }
    json_decref(all);
    assert_true(n > 200);
    assert_int_equal(differences, 0);
}

/* ---- how much to reason ---- */

static void a_level_of_reasoning_becomes_the_templates_own_keywords(void **state)
{
    static const struct {
        const char *template, *level, *keywords; /* or a part of the error */
    } rows[] = {
        {"Qwen-Qwen3-0.6B", "off", "{\"enable_thinking\": false}"},
        {"Qwen-Qwen3-0.6B", "on", "{\"enable_thinking\": true}"},
        {"Qwen-Qwen3-0.6B", "low", "reasoning low: this chat template knows off on"},
        {"openai-gpt-oss-120b", "high", "{\"reasoning_effort\": \"high\"}"},
        {"openai-gpt-oss-120b", "off", "this chat template knows low medium high"},
        {"ByteDance-Seed-OSS", "off", "{\"thinking_budget\": 0}"},
        {"ibm-granite-granite-3.3-2B-Instruct", "on", "{\"thinking\": true}"},
        {"Qwen3-Coder", "on", "this chat template knows no keyword for reasoning"},
        {"Qwen3-Coder", "loud", "reasoning loud"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *source = templates_source(rows[i].template), *keywords = NULL;
        template_fault fault = {0};
        odmoe_error err;
        assert_non_null(source);
        chat_program *t = template_compile(source, strlen(source), &fault);
        assert_non_null(t);
        template_caps caps = template_probe(t);
        odmoe_status status = conversation_reasoning(t, &caps, rows[i].level, &keywords, &err);
        if (*rows[i].keywords == '{')
            assert_string_equal(status ? err.message : keywords, rows[i].keywords);
        else if (!status || !strstr(err.message, rows[i].keywords))
            fail_msg("%s, %s: %s", rows[i].template, rows[i].level, status ? err.message : keywords);
        free(keywords);
        template_free(t);
        free(source);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_feature_of_the_language_gives_what_jinja2_gives),
        cmocka_unit_test(published_templates_render_as_under_transformers),
        cmocka_unit_test(older_templates_render_as_under_jinja2),
        cmocka_unit_test(control_tokens_of_a_conversation_are_marked_as_foreign),
        cmocka_unit_test(reasoning_has_the_names_that_transformers_gives_it),
        cmocka_unit_test(answers_are_gone_on_with_as_under_transformers),
        cmocka_unit_test(a_level_of_reasoning_becomes_the_templates_own_keywords),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
