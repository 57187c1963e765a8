#include <string.h>

#include "text/output/output.h"
#include "text/template/conversation.h"

/* What a template takes, found out by rendering: facts about it that no reading of its source would tell. */

static const char ASK[] = "{\"role\":\"user\",\"content\":\"QUESTION\"}";
static const char WEATHER[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"TOOL_NAME\",\"description\":\"d\",\"parameters\":"
    "{\"type\":\"object\",\"properties\":{\"city\":{\"type\":\"string\",\"description\":\"c\"}},\"required\":[\"city\"]"
    "}}}]";

typedef struct shown {
    template_text text;
    bool ok;
} shown;

static shown try_render(const chat_program *t, const char *messages, const char *tools)
{
    template_variable all[] = {
        {.name = "messages", .json = messages, .length = strlen(messages)},
        {.name = "tools", .json = tools, .length = strlen(tools)},
        {.name = "documents", .json = "null", .length = 4},
        {.name = "add_generation_prompt", .json = "true", .length = 4},
        {.name = "bos_token", .text = ""},
        {.name = "eos_token", .text = ""},
    };
    const template_limits limits = {8 << 20, 1 << 20, 200000};
    template_fault fault = {0};
    shown out = {0};
    out.ok = !template_render(t, all, sizeof all / sizeof *all, 0, &limits, &out.text, &fault);
    template_fault_free(&fault);
    return out;
}

/* Does the template render this, and do the words stand in it? NULL ends them. ordered: in this order. */
static bool shows_words(const chat_program *t, const char *messages, const char *tools, bool ordered,
                        const char *const *words)
{
    shown r = try_render(t, messages, tools);
    const char *at = r.ok ? r.text.text : NULL;
    for (size_t i = 0; at && words[i]; i++)
        at = strstr(ordered ? at : r.text.text, words[i]);
    template_text_free(&r.text);
    return at != NULL;
}

static bool shows(const chat_program *t, const char *messages, const char *tools, const char *const *words)
{
    return shows_words(t, messages, tools, true, words);
}

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* A question, a call with these arguments and this id, its result. extra: further members of the call's message. */
static bool takes_call(const chat_program *t, const char *arguments, const char *id, const char *extra,
                       const char *const *words)
{
    char talk[1024] = "";
    strcat(strcat(talk, "["), ASK);
    strcat(strcat(strcat(talk, ",{\"role\":\"assistant\""), extra), ",\"tool_calls\":[{\"id\":\"");
    strcat(strcat(talk, id), "\",\"type\":\"function\",\"function\":{\"name\":\"TOOL_NAME\",\"arguments\":");
    strcat(strcat(strcat(talk, arguments),
                  "}}]},{\"role\":\"tool\",\"name\":\"TOOL_NAME\",\"content\":\"18\",\"tool_call_id\":\""),
           id);
    strcat(talk, "\"}]");
    return shows_words(t, talk, "null", false, words);
}

template_caps template_probe(const chat_program *t)
{
    static const char object[] = "{\"city\":\"PARIS\"}", text[] = "\"{\\\"city\\\": \\\"PARIS\\\"}\"",
                      empty[] = ",\"content\":\"\"";
    template_caps c = {.system = true, .later_system = true, .tools = true};
    if (!template_reads(t, "messages"))
        return c;
    c.system =
        shows(t, "[{\"role\":\"system\",\"content\":\"SYSTEM_TEXT\"},{\"role\":\"user\",\"content\":\"QUESTION\"}]",
              "null", WORDS("SYSTEM_TEXT"));
    c.later_system =
        c.system &&
        shows(t,
              "[{\"role\":\"user\",\"content\":\"QUESTION\"},{\"role\":\"assistant\",\"content\":\"ANSWER\"},"
              "{\"role\":\"system\",\"content\":\"SYSTEM_TEXT\"},{\"role\":\"user\",\"content\":\"SECOND\"}]",
              "null", WORDS("ANSWER", "SYSTEM_TEXT", "SECOND"));
    c.tools = template_reads(t, "tools") &&
              shows(t, "[{\"role\":\"user\",\"content\":\"QUESTION\"}]", WEATHER, WORDS("TOOL_NAME"));
    const char *const *call = WORDS("TOOL_NAME", "PARIS");
    bool as_object = takes_call(t, object, "abcd01234", empty, call);
    size_t length;
    const char *source = template_source(t, &length);
    c.hidden_calls = !as_object && !template_reads(t, "tool_calls");
    c.python_calls = c.hidden_calls && c.tools && output_format_in_python(output_format_of(source, length));
    if (c.hidden_calls)
        return c;
    c.text_arguments = !as_object && takes_call(t, text, "abcd01234", empty, call);
    const char *arguments = c.text_arguments ? text : object;
    if (!as_object && !c.text_arguments)
        return c;
    c.short_ids = !takes_call(t, arguments, "call_0123456789abcdef", empty, call);
    c.thinking_or_content =
        template_reads(t, "thinking") &&
        !takes_call(t, arguments, "abcd01234", ",\"content\":\"SAID\",\"thinking\":\"THOUGHT\"", call);
    return c;
}
