/* Models' outputs in every format, and the messages that they mean (tests/data/templates/outputs.json), fed whole and in
 * pieces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "support/template_data.h"
#include "text/output/output.h"

typedef struct message {
    char *texts[2]; /* by DELTA_CONTENT, DELTA_REASONING */
    size_t lengths[2];
    json_t *calls;
    bool cut; /* a call was never whole */
} message;

static void take(void *user, const output_delta *d)
{
    message *m = user;
    if (d->kind == DELTA_CALL) {
        assert_int_equal(d->call, json_array_size(m->calls)); /* a call comes whole */
        json_error_t fault;
        json_t *arguments = json_loadb(d->text, d->length, JSON_DECODE_ANY, &fault);
        if (!arguments)
            fail_msg("arguments that are no JSON: %.*s", (int)d->length, d->text);
        json_array_append_new(m->calls,
                              json_pack("{s:s, s:s?, s:o}", "name", d->name, "id", d->id, "arguments", arguments));
        return;
    }
    m->texts[d->kind] = realloc(m->texts[d->kind], m->lengths[d->kind] + d->length + 1);
    memcpy(m->texts[d->kind] + m->lengths[d->kind], d->text, d->length);
    m->lengths[d->kind] += d->length;
    m->texts[d->kind][m->lengths[d->kind]] = 0;
}

static uint64_t seed;

static size_t below(size_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (size_t)((seed >> 16) % n);
}

/* Calls as they come: the name first, then arguments, which "text" gathers. */
static void take_stream(void *user, const output_delta *d)
{
    message *m = user;
    if (d->kind != DELTA_CALL) {
        take(user, d);
        return;
    }
    json_t *one = json_array_get(m->calls, d->call), *whole = json_object_get(one, "whole");
    if (!one) {
        assert_int_equal(d->call, json_array_size(m->calls));
        assert_int_equal(d->length, 0);
        one = json_pack("{s:s, s:s, s:b}", "name", d->name, "text", "", "whole", 0);
        json_array_append_new(m->calls, one);
    }
    if (json_is_true(whole))
        fail_msg("more of a call that was whole");
    size_t before = json_string_length(json_object_get(one, "text"));
    char *text = malloc(before + d->length + 1);
    memcpy(text, json_string_value(json_object_get(one, "text")), before);
    memcpy(text + before, d->text, d->length);
    json_t *joined = json_stringn(text, before + d->length);
    if (!joined)
        fail_msg("arguments of broken characters");
    json_object_set_new(one, "text", joined);
    free(text);
    if (d->id)
        json_object_set_new(one, "id", json_string(d->id));
    if (!d->whole)
        return;
    json_object_set_new(one, "whole", json_true());
    json_t *arguments = json_loads(json_string_value(joined), JSON_DECODE_ANY, NULL);
    if (!arguments)
        fail_msg("arguments that are no JSON: %s", json_string_value(joined));
    json_object_set_new(one, "arguments", arguments);
}

/* split 0: the text at once, else pieces of 1 to 7 bytes. */
static message read_row(const json_t *row, const char *tools, uint64_t split, bool stream)
{
    message m = {.calls = json_array()};
    output *o;
    odmoe_error err;
    const json_t *text = json_object_get(row, "text");
    const output_format *f = output_format_find(json_string_value(json_object_get(row, "format")));
    assert_non_null(f);
    assert_int_equal(output_create(f, json_string_value(json_object_get(row, "prompt")), tools,
                                   stream ? take_stream : take, &m, &o, &err),
                     ODMOE_OK);
    if (stream)
        output_stream_calls(o);
    seed = split * 0x9E3779B97F4A7C15u + 1;
    for (size_t at = 0, n; at < json_string_length(text); at += n) {
        n = split ? 1 + below(7) : json_string_length(text);
        n = n < json_string_length(text) - at ? n : json_string_length(text) - at;
        char *piece = malloc(n); /* of its own size, so that a sanitizer sees one byte too many */
        memcpy(piece, json_string_value(text) + at, n);
        assert_int_equal(output_feed(o, piece, n, &err), ODMOE_OK);
        free(piece);
    }
    assert_int_equal(output_end(o, &err), ODMOE_OK);
    output_free(o);
    const json_t *one;
    size_t i;
    json_array_foreach(m.calls, i, one) m.cut |= json_is_false(json_object_get(one, "whole"));
    return m;
}

static void message_free(message *m)
{
    free(m->texts[0]);
    free(m->texts[1]);
    json_decref(m->calls);
}

/* Without the white space around it, or without any. */
static char *plain(const char *text, bool no_blanks)
{
    char *out = strdup(text ? text : "");
    size_t n = 0, from = strspn(out, " \n\t\r");
    for (size_t i = from; out[i]; i++)
        if (!no_blanks || !strchr(" \n\t\r", out[i]))
            out[n++] = out[i];
    out[n] = 0;
    while (n && strchr(" \n\t\r", out[n - 1]))
        out[--n] = 0;
    return out;
}

static bool same_text(const char *got, const json_t *expected, const char *tail, bool no_blanks)
{
    char joined[8192];
    snprintf(joined, sizeof joined, "%s%s%s", json_string_value(expected) ? json_string_value(expected) : "",
             tail ? "\n" : "", tail ? tail : "");
    char *a = plain(got, no_blanks || tail), *b = plain(joined, no_blanks || tail);
    bool same = !strcmp(a, b);
    free(a);
    free(b);
    return same;
}

static bool same_calls(const json_t *got, const json_t *expected)
{
    size_t i;
    const json_t *call;
    if (json_array_size(got) != json_array_size(expected))
        return false;
    json_array_foreach(expected, i, call)
    {
        const json_t *its = json_array_get(got, i), *arguments = json_object_get(call, "arguments"),
                     *id = json_object_get(call, "id");
        if (!json_equal(json_object_get(its, "name"), json_object_get(call, "name")) ||
            (arguments && !json_equal(json_object_get(its, "arguments"), arguments)) ||
            (json_is_string(id) && !json_equal(json_object_get(its, "id"), id)))
            return false;
    }
    return true;
}

static bool means(const message *m, const json_t *row, const json_t *expected)
{
    bool no_blanks = json_object_get(row, "blanks") != NULL;
    const json_t *open = json_object_get(row, "open"), *content = json_object_get(expected, "content");
    bool right = same_text(m->texts[DELTA_CONTENT], content, NULL, no_blanks) ||
                 (open && same_text(m->texts[DELTA_CONTENT], content, json_string_value(json_object_get(open, "raw")),
                                    no_blanks));
    return right && same_text(m->texts[DELTA_REASONING], json_object_get(expected, "reasoning"), NULL, no_blanks) &&
           same_calls(m->calls, json_object_get(expected, "calls"));
}

static void check_row(const json_t *row, const char *tools, uint64_t split, bool stream, int *wrong)
{
    message m = read_row(row, json_is_false(json_object_get(row, "tools")) ? NULL : tools, split, stream);
    const json_t *any_of = json_object_get(row, "any_of"), *one;
    size_t i;
    bool right = (!any_of && means(&m, row, row)) || m.cut; /* what a call that is cut gives: below */
    /* A call of no tool of the request: where calls are streamed it stays text, but for Harmony, whose calls are messages of their own. */
    if (stream && !strcmp(json_string_value(json_object_get(row, "name")), "unknown function"))
        right |=
            !json_array_size(m.calls) && same_text(m.texts[DELTA_CONTENT], json_object_get(row, "text"), NULL, true);
    json_array_foreach(any_of, i, one) right |= means(&m, row, one);
    if (!right) {
        char *calls = json_dumps(m.calls, 0);
        print_error("%s, %s, split %d: content \"%s\", reasoning \"%s\", calls %s\n",
                    json_string_value(json_object_get(row, "format")), json_string_value(json_object_get(row, "name")),
                    (int)split, m.texts[0] ? m.texts[0] : "", m.texts[1] ? m.texts[1] : "", calls);
        free(calls);
        ++*wrong;
    }
    message_free(&m);
}

static void each_output_means_its_message_in_whatever_pieces_it_comes(void **state)
{
    json_t *all = templates_json("outputs"), *row;
    char *tools = json_dumps(json_object_get(all, "tools"), JSON_COMPACT);
    size_t i;
    int wrong = 0;
    assert_int_equal(json_array_size(json_object_get(all, "rows")), 424);
    json_array_foreach(json_object_get(all, "rows"), i, row) for (uint64_t split = 0; split < 4;
                                                                  split++) for (int stream = 0; stream < 2; stream++)
        check_row(row, tools, split, stream, &wrong);
    free(tools);
    json_decref(all);
    assert_int_equal(wrong, 0);
}

static void calls_that_are_given_as_they_come_are_the_same_in_whatever_pieces(void **state)
{
    json_t *all = templates_json("outputs"), *row;
    char *tools = json_dumps(json_object_get(all, "tools"), JSON_COMPACT);
    size_t i;
    json_array_foreach(json_object_get(all, "rows"), i, row)
    {
        message whole = read_row(row, tools, 0, true);
        for (uint64_t split = 1; split < 6; split++) {
            message m = read_row(row, tools, split, true);
            for (int k = 0; k < 2; k++)
                if (m.lengths[k] != whole.lengths[k] ||
                    (m.lengths[k] && memcmp(m.texts[k], whole.texts[k], m.lengths[k])))
                    fail_msg("%s: \"%s\", whole \"%s\"", json_string_value(json_object_get(row, "text")), m.texts[k],
                             whole.texts[k]);
            if (!json_equal(m.calls, whole.calls))
                fail_msg("%s: calls differ", json_string_value(json_object_get(row, "text")));
            message_free(&m);
        }
        message_free(&whole);
    }
    free(tools);
    json_decref(all);
}

/* Texts that end inside a call, and ones that go on as none. */
static const struct {
    const char *format, *text, *name, *arguments, *content;
} cut[] = {
    {"hermes", "Hm.<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1, \"b", "add", "{\"a\": 1, \"b", "Hm."},
    {"hermes", "<tool_call>\n{\"name\": \"ad", NULL, NULL, "<tool_call>\n{\"name\": \"ad"},
    {"hermes", "<tool_call>{\"name\": \"add\", \"arguments\": {\"a\": 1, b: 2}} so", "add", "{\"a\": 1, ", "b: 2}} so"},
    {"hermes", "<tool_call>{\"name\": \"run\", \"arguments\": {\"code\": \"\xC3\xA9\xC3", "run",
     "{\"code\": \"\xC3\xA9", NULL},
    {"mistral-args", "[TOOL_CALLS]add[ARGS]{\"a\": tr", "add", "{\"a\": tr", NULL},
    {"kimi-k2", "<|tool_calls_section_begin|><|tool_call_begin|>functions.add:0<|tool_call_argument_begin|>{\"a\"",
     "add", "{\"a\"", NULL},
    {"deepseek-v3.1",
     "<\xEF\xBD\x9Ctool\xE2\x96\x81"
     "calls\xE2\x96\x81"
     "begin\xEF\xBD\x9C><\xEF\xBD\x9Ctool\xE2\x96\x81"
     "call\xE2\x96\x81"
     "begin\xEF\xBD\x9C>add<\xEF\xBD\x9Ctool\xE2\x96\x81sep\xEF\xBD\x9C>{\"a\": [",
     "add", "{\"a\": [", NULL},
    {"harmony", "<|channel|>commentary to=functions.add <|constrain|>json<|message|>{\"a\": 2", "add", "{\"a\": 2",
     NULL},
    {"harmony", "<|channel|>commentary to=functions.add<|message|>{\"a\": 2 and<|end|>", "add", "{\"a\": 2 ", "and"},
    {"harmony", "<|channel|>commentary to=functions.run<|message|>{\"code\": \"a <| b<|end|>", "run",
     "{\"code\": \"a <| b", NULL},
    {"llama3", "{\"name\": \"add\", \"parameters\": {\"a\": 2", "add", "{\"a\": 2", NULL},
    {"llama3", "{\"name\": \"Bob\", \"parameters\": {\"a\": 2", NULL, NULL,
     "{\"name\": \"Bob\", \"parameters\": {\"a\": 2"},
    {"qwen3-coder", "<tool_call>\n<function=store>\n<parameter=level>\n7\n</parameter>\n<parameter=note>\nOne\ntw",
     "store", "{\"level\": 7, \"note\": \"One\\ntw", NULL},
    {"qwen3-coder",
     "<tool_call>\n<function=store>\n<parameter=level>\n7\n</parameter>\n<parameter=data>\n{\"x\": 1\n</par", "store",
     "{\"level\": 7, \"data\": {\"x\": 1", NULL},
    {"qwen3-coder", "<tool_call>\n<function=store>\n", NULL, NULL, "<tool_call>\n<function=store>"},
    {"glm-4.6", "<tool_call>add\n<arg_key>a</arg_key>\n<arg_value>1</arg_value> but", "add", "{\"a\": 1", "but"},
    {"gemma-4", "<|tool_call>call:run{code:<|\"|>a \"b", "run", "{\"code\": \"a \\\"b", NULL},
    {"lfm2", "<|tool_call_start|>[add(a=1, b=0.", "add", "{\"a\": 1, \"b\": 0.", NULL},
    {"lfm2", "<|tool_call_start|>[run(code='a", "run", "{", NULL},
    {"lfm2", "<|tool_call_start|>[add(a=1, b=two) so", "add", "{\"a\": 1", "b=two) so"},
    {"lfm2", "<|tool_call_start|>[ru", NULL, NULL, "<|tool_call_start|>[ru"},
};

static void a_call_that_is_cut_keeps_the_arguments_that_have_come(void **state)
{
    json_t *all = templates_json("outputs");
    char *tools = json_dumps(json_object_get(all, "tools"), JSON_COMPACT);
    for (size_t i = 0; i < sizeof cut / sizeof *cut; i++)
        for (uint64_t split = 0; split < 4; split++) {
            json_t *text = json_stringn_nocheck(cut[i].text, strlen(cut[i].text)), *row = json_object();
            json_object_set_new(row, "format", json_string(cut[i].format));
            json_object_set_new(row, "text", text);
            if (!strcmp(cut[i].format, "harmony"))
                json_object_set_new(row, "prompt", json_string("<|start|>assistant"));
            message m = read_row(row, tools, split, true);
            const json_t *one = json_array_get(m.calls, 0);
            const char *arguments = json_string_value(json_object_get(one, "text")),
                       *content = m.texts[DELTA_CONTENT] ? m.texts[DELTA_CONTENT] : "";
            if (json_array_size(m.calls) != (cut[i].name ? 1 : 0) ||
                (cut[i].name && (!m.cut || strcmp(json_string_value(json_object_get(one, "name")), cut[i].name) ||
                                 strcmp(arguments, cut[i].arguments))) ||
                strncmp(content, cut[i].content ? cut[i].content : "", strlen(cut[i].content ? cut[i].content : "")) ||
                (!cut[i].content && *content))
                fail_msg("%s, split %d: %zu calls, arguments %s, content \"%s\"", cut[i].text, (int)split,
                         json_array_size(m.calls), arguments ? arguments : "-", content);
            message_free(&m);
            json_decref(row);
        }
    free(tools);
    json_decref(all);
}

/* What each byte brings: the name when it is certain, then arguments byte for byte. */
static void arguments_come_as_they_are_written(void **state)
{
    static const char text[] = "<tool_call>{\"name\": \"add\", \"arguments\": {\"a\": 1}}</tool_call>";
    message m = {.calls = json_array()};
    output *o;
    odmoe_error err;
    const size_t name = strlen("<tool_call>{\"name\": \"add\", \"arguments\": {"),
                 end = strlen("<tool_call>{\"name\": \"add\", \"arguments\": {\"a\": 1}");
    assert_int_equal(
        output_create(output_format_find("hermes"), NULL, "[{\"name\":\"add\"}]", take_stream, &m, &o, &err), ODMOE_OK);
    output_stream_calls(o);
    for (size_t i = 0; i < sizeof text - 1; i++) {
        assert_int_equal(output_feed(o, text + i, 1, &err), ODMOE_OK);
        const json_t *one = json_array_get(m.calls, 0);
        assert_int_equal(one != NULL, i + 1 >= name);
        if (one)
            assert_int_equal(json_string_length(json_object_get(one, "text")), (i + 1 < end ? i + 1 : end) - name + 1);
    }
    assert_true(json_is_true(json_object_get(json_array_get(m.calls, 0), "whole")));
    output_free(o);
    message_free(&m);
}

static void the_format_is_found_from_the_template(void **state)
{
    json_t *all = templates_json("outputs"), *about;
    const char *name;
    json_object_foreach(json_object_get(all, "formats"), name, about)
    {
        const char *template = json_string_value(json_object_get(about, "template"));
        char *source = template ? templates_source(template) : NULL;
        if (source)
            assert_string_equal(output_format_name(output_format_of(source, strlen(source))), name);
        free(source);
    }
    static const char lfm2[] =
        "{{- 'List of tools: <|tool_list_start|>[' -}}{{- '<|im_start|>assistant' -}}"; /* what its templates share */
    assert_string_equal(output_format_name(output_format_of(lfm2, sizeof lfm2 - 1)), "lfm2");
    assert_string_equal(output_format_name(output_format_of("no template", 11)), "hermes");
    json_decref(all);
}

/* ---- what may be held back ---- */

static void text_is_given_as_soon_as_it_can_be_no_marker(void **state)
{
    message m = {.calls = json_array()};
    output *o;
    odmoe_error err;
    assert_int_equal(output_create(output_format_find("hermes"), NULL,
                                   "[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]", take, &m, &o, &err),
                     ODMOE_OK);
    /* what has been given after each piece: what may be the beginning of <tool_call> is held, and blanks before it */
    static const struct {
        const char *piece, *given;
    } steps[] = {{"One", "One"},
                 {" <to", "One"},
                 {"ol ", "One <tool"},
                 {"<tool_call>", "One <tool"},
                 {"no", "One <tool <tool_call>no"},
                 {" \xC3", "One <tool <tool_call>no"},
                 {"\xA9", "One <tool <tool_call>no \xC3\xA9"}};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        assert_int_equal(output_feed(o, steps[i].piece, strlen(steps[i].piece), &err), ODMOE_OK);
        assert_string_equal(m.texts[DELTA_CONTENT], steps[i].given);
    }
    output_end(o, &err);
    output_free(o);
    message_free(&m);
}

/* Feed a format's text in parts; after each of them the text must be in its reasoning, or not. */
static void reasons(const char *format, const char *prompt, const char *const *parts, const bool *expected, size_t n)
{
    output *o;
    odmoe_error err;
    message m = {.calls = json_array()};
    assert_int_equal(output_create(output_format_find(format), prompt, NULL, take, &m, &o, &err), ODMOE_OK);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(output_feed(o, parts[i], strlen(parts[i]), &err), ODMOE_OK);
        assert_int_equal(output_reasons(o), expected[i]);
    }
    output_free(o);
    json_decref(m.calls);
    free(m.texts[0]);
    free(m.texts[1]);
}

static void a_text_says_whether_it_is_reasoning_now(void **state)
{
    static const char *const opened[] = {"", "let me see", "</thi", "nk>", "yes"};
    static const bool opened_is[] = {true, true, true, false, false};
    reasons("hermes", "<|im_start|>assistant\n<think>\n", opened, opened_is, 5);
    static const char *const own[] = {"", "<think>", "so", "</think>\n\n", "yes"};
    static const bool own_is[] = {false, true, true, false, false};
    reasons("hermes", "<|im_start|>assistant\n", own, own_is, 5);
    static const char *const channels[] = {"<|channel|>analysis", "<|message|>", "so", "<|end|>",
                                           "<|start|>assistant<|channel|>final<|message|>yes"};
    static const bool channels_are[] = {false, true, true, false, false};
    reasons("harmony", "<|start|>assistant", channels, channels_are, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_text_says_whether_it_is_reasoning_now),
        cmocka_unit_test(each_output_means_its_message_in_whatever_pieces_it_comes),
        cmocka_unit_test(calls_that_are_given_as_they_come_are_the_same_in_whatever_pieces),
        cmocka_unit_test(a_call_that_is_cut_keeps_the_arguments_that_have_come),
        cmocka_unit_test(arguments_come_as_they_are_written),
        cmocka_unit_test(the_format_is_found_from_the_template),
        cmocka_unit_test(text_is_given_as_soon_as_it_can_be_no_marker),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
