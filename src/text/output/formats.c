#include <stdint.h>
#include <string.h>

#include "text/output/format.h"

#define DS(name) "<\xEF\xBD\x9C" name "\xEF\xBD\x9C>" /* DeepSeek writes its tokens with a wide bar */
#define US "\xE2\x96\x81"
#define DSML       \
    "\xEF\xBD\x9C" \
    "DSML"         \
    "\xEF\xBD\x9C"

#define OBJECT "{\"name\": \"%n\", \"arguments\": %a}"

#define THINK .think = {"<think>", "</think>"}
#define QWEN_TAGS                                                                        \
    .style = CALLS_TAGS, .open = {"<tool_call>", "<function="}, .close = "</tool_call>", \
    .call_open = "<function=", .name_end = ">", .call_close = "</function>",             \
    .key_open = "<parameter=", .key_end = ">", .value_close = "</parameter>",            \
    .written = {NULL, "<tool_call>\n<function=%n>\n%a</function>\n</tool_call>", "\n"},  \
    .parameter = {"<parameter=", ">\n", "\n</parameter>\n"}
#define GLM_TAGS                                                                                         \
    .style = CALLS_TAGS, .open = {"<tool_call>"}, .call_close = "</tool_call>", .key_open = "<arg_key>", \
    .key_end = "</arg_key>", .value_open = "<arg_value>", .value_close = "</arg_value>"
#define DSML_TAGS                                                                                                      \
    .style = CALLS_TAGS, .call_open = "<" DSML "invoke name=\"", .name_end = "\">", .call_close = "</" DSML "invoke>", \
    .key_open = "<" DSML "parameter name=\"", .key_end = "\"", .value_open = ">",                                      \
    .value_close = "</" DSML "parameter>", .marked = true,                                                             \
    .parameter = {"<" DSML "parameter name=\"", "\" string=\"true\">", "</" DSML "parameter>\n"}
#define DSML_CALL "<" DSML "invoke name=\"%n\">\n%a</" DSML "invoke>\n"
#define DEEPSEEK_CALLS                                                                                  \
    .style = CALLS_HEADER, .open = {DS("tool" US "calls" US "begin"), DS("tool" US "call" US "begin")}, \
    .close = DS("tool" US "calls" US "end"), .call_open = DS("tool" US "call" US "begin"),              \
    .call_close = DS("tool" US "call" US "end"), .separator = DS("tool" US "sep")

/* For a template the first that fits counts: special ones first. The texts are those of the published templates. */
const output_format output_formats[] = {
    {.name = "harmony", .style = CALLS_HARMONY, .signs = {"<|channel|>", "<|message|>"}},
    {.name = "deepseek-v3.2",
     THINK,
     DSML_TAGS,
     .open = {"<" DSML "function_calls>"},
     .written = {"<" DSML "function_calls>\n", DSML_CALL, NULL, "</" DSML "function_calls>"},
     .close = "</" DSML "function_calls>",
     .signs = {DSML, "function_calls"}},
    {.name = "deepseek-v4",
     THINK,
     DSML_TAGS,
     .open = {"<" DSML "tool_calls>"},
     .written = {"<" DSML "tool_calls>\n", DSML_CALL, NULL, "</" DSML "tool_calls>"},
     .close = "</" DSML "tool_calls>",
     .signs = {DSML}},
    {.name = "deepseek-r1",
     THINK,
     DEEPSEEK_CALLS,
     .name_after_word = true,
     .fence = "```",
     .written = {DS("tool" US "calls" US "begin"),
                 DS("tool" US "call" US
                    "begin") "function" DS("tool" US "sep") "%n\n```json\n%a\n```" DS("tool" US "call" US "end"),
                 "\n", DS("tool" US "calls" US "end")},
     .signs = {"tool" US "sep", "```json"}},
    {.name = "deepseek-v3.1",
     THINK,
     DEEPSEEK_CALLS,
     .written = {DS("tool" US "calls" US "begin"),
                 DS("tool" US "call" US "begin") "%n" DS("tool" US "sep") "%a" DS("tool" US "call" US "end"), NULL,
                 DS("tool" US "calls" US "end")},
     .signs = {"tool" US "sep"}},
    {.name = "kimi-k2",
     THINK,
     .style = CALLS_HEADER,
     .open = {"<|tool_calls_section_begin|>", "<|tool_call_begin|>"},
     .close = "<|tool_calls_section_end|>",
     .call_open = "<|tool_call_begin|>",
     .call_close = "<|tool_call_end|>",
     .separator = "<|tool_call_argument_begin|>",
     .name_in_id = true,
     .open_ends_thinking = true,
     .written = {"<|tool_calls_section_begin|>",
                 "<|tool_call_begin|>functions.%n:%d<|tool_call_argument_begin|>%a<|tool_call_end|>", NULL,
                 "<|tool_calls_section_end|>"},
     .signs = {"<|tool_calls_section_begin|>"}},
    {.name = "minimax-m2",
     THINK,
     .style = CALLS_TAGS,
     .open = {"<minimax:tool_call>"},
     .close = "</minimax:tool_call>",
     .call_open = "<invoke name=\"",
     .name_end = "\">",
     .call_close = "</invoke>",
     .key_open = "<parameter name=\"",
     .key_end = "\">",
     .value_close = "</parameter>",
     .written = {"<minimax:tool_call>\n", "<invoke name=\"%n\">\n%a</invoke>\n", NULL, "</minimax:tool_call>"},
     .parameter = {"<parameter name=\"", "\">", "</parameter>\n"},
     .signs = {"minimax:tool_call"}},
    {.name = "seed-oss",
     .think = {"<seed:think>", "</seed:think>"},
     .style = CALLS_TAGS,
     .open = {"<seed:tool_call>"},
     .close = "</seed:tool_call>",
     .call_open = "<function=",
     .name_end = ">",
     .call_close = "</function>",
     .key_open = "<parameter=",
     .key_end = ">",
     .value_close = "</parameter>",
     .written = {NULL, "<seed:tool_call>\n<function=%n>\n%a</function>\n</seed:tool_call>", "\n"},
     .parameter = {"<parameter=", ">", "</parameter>\n"},
     .signs = {"seed:tool_call"}},
    {.name = "gemma-4",
     .think = {"<|channel>thought\n", "<channel|>"},
     .style = CALLS_GEMMA,
     .open = {"<|tool_call>"},
     .close = "<tool_call|>",
     .written = {NULL, "<|tool_call>call:%n%a<tool_call|>"},
     .signs = {"<|tool_call>", "call:"}},
    {.name = "mistral-call-id",
     .think = {"[THINK]", "[/THINK]"},
     .style = CALLS_HEADER,
     .open = {"[TOOL_CALLS]"},
     .call_open = "[TOOL_CALLS]",
     .separator = "[ARGS]",
     .id_separator = "[CALL_ID]",
     .written = {NULL, "[TOOL_CALLS]%n[CALL_ID]%w[ARGS]%a"},
     .signs = {"[CALL_ID]"}},
    {.name = "mistral-args",
     .think = {"[THINK]", "[/THINK]"},
     .style = CALLS_HEADER,
     .open = {"[TOOL_CALLS]"},
     .call_open = "[TOOL_CALLS]",
     .separator = "[ARGS]",
     .written = {NULL, "[TOOL_CALLS]%n[ARGS]%a"},
     .signs = {"[ARGS]"}},
    {.name = "mistral-nemo",
     .think = {"[THINK]", "[/THINK]"},
     .style = CALLS_JSON,
     .open = {"[TOOL_CALLS]"},
     .written = {"[TOOL_CALLS][", "{\"name\": \"%n\", \"arguments\": %a, \"id\": \"%w\"}", ", ", "]"},
     .signs = {"[TOOL_CALLS]"}},
    {.name = "glm-4.6",
     THINK,
     GLM_TAGS,
     .written = {NULL, "<tool_call>%n\n%a</tool_call>", "\n"},
     .parameter = {"<arg_key>", "</arg_key>\n<arg_value>", "</arg_value>\n"},
     .signs = {"<arg_key>", "</arg_value>\n"}},
    {.name = "glm-4.7",
     THINK,
     GLM_TAGS,
     .written = {NULL, "<tool_call>%n%a</tool_call>"},
     .parameter = {"<arg_key>", "</arg_key><arg_value>", "</arg_value>"},
     .signs = {"<arg_key>"}},
    {.name = "lfm2",
     THINK,
     .style = CALLS_PYTHON,
     .open = {"<|tool_call_start|>"},
     .close = "<|tool_call_end|>",
     .written = {"<|tool_call_start|>[", "%n(%a)", ", ", "]<|tool_call_end|>"},
     .parameter = {"", "=", ""},
     .signs = {"List of tools: ", "<|im_start|>"}},
    {.name = "qwen3.5", THINK, QWEN_TAGS, .lines = true, .signs = {"<function=", "</think>"}},
    {.name = "qwen3-coder", THINK, QWEN_TAGS, .lines = true, .signs = {"<function="}},
    {.name = "granite-3.3",
     THINK,
     .answer = {"<response>", "</response>"},
     .style = CALLS_JSON,
     .open = {"<|tool_call|>", "<tool_call>"},
     .close = "</tool_call>",
     .written = {"<|tool_call|>[", OBJECT, ", ", "]"},
     .signs = {"<|tool_call|>"}},
    {.name = "apriel",
     .think = {"Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]"},
     .style = CALLS_JSON,
     .open = {"<tool_calls>"},
     .close = "</tool_calls>",
     .written = {"<tool_calls>[", OBJECT, ", ", "]</tool_calls>"},
     .signs = {"<tool_calls>["}},
    {.name = "minimax-m1",
     THINK,
     .style = CALLS_JSON,
     .open = {"<tool_calls>"},
     .close = "</tool_calls>",
     .written = {"<tool_calls>\n", OBJECT, "\n", "\n</tool_calls>"},
     .signs = {"<tool_calls>"}},
    {.name = "llama3",
     THINK,
     .style = CALLS_WHOLE,
     .open = {"<|python_tag|>"},
     .written = {NULL, "{\"name\": \"%n\", \"parameters\": %a}"},
     .signs = {"<|start_header_id|>", "parameters"},
     .without = "<tool_call>"},
    {.name = "hermes",
     THINK,
     .style = CALLS_JSON,
     .open = {"<tool_call>"},
     .close = "</tool_call>",
     .written = {NULL, "<tool_call>\n" OBJECT "\n</tool_call>", "\n"},
     .signs = {"<tool_call>"}},
    {.name = "think", THINK, .style = CALLS_NONE},
};
const size_t output_formats_count = sizeof output_formats / sizeof *output_formats;

const output_format *output_format_find(const char *name)
{
    for (size_t i = 0; i < output_formats_count; i++)
        if (!strcmp(output_formats[i].name, name))
            return &output_formats[i];
    return NULL;
}

const char *output_format_at(size_t i)
{
    return i < output_formats_count ? output_formats[i].name : NULL;
}

const char *output_format_name(const output_format *f)
{
    return f->name;
}

bool output_format_in_python(const output_format *f)
{
    return f->style == CALLS_PYTHON;
}

static bool holds(const char *source, size_t length, const char *sign)
{
    return scan_find(source, length, sign) != SIZE_MAX;
}

const output_format *output_format_of(const char *source, size_t length)
{
    for (size_t i = 0; i < output_formats_count; i++) {
        const output_format *f = &output_formats[i];
        if (f->signs[0] && holds(source, length, f->signs[0]) && (!f->signs[1] || holds(source, length, f->signs[1])) &&
            (!f->without || !holds(source, length, f->without)))
            return f;
    }
    return output_format_find("hermes"); /* what templates without tools are told to use */
}
