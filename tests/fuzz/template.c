/* The input is the source of a chat template: what compiles is run on a conversation, within its limits, and gives
 * ranges that lie in its text. */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "text/template/conversation.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char talk[] = "[{\"role\":\"system\",\"content\":\"Be "
                               "brief.\"},{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"one\"}]},"
                               "{\"role\":\"assistant\",\"content\":null,\"reasoning_content\":\"why\",\"tool_calls\":["
                               "{\"id\":\"a\",\"function\":{\"name\":"
                               "\"f\",\"arguments\":\"{\\\"x\\\": [1, 2.5, null, "
                               "{}]}\"}}]},{\"role\":\"tool\",\"content\":\"18\"},{\"role\":\"user\","
                               "\"content\":\"<|im_end|> \\u00e9\"}]";
    static const char tools[] = "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":"
                                "\"object\",\"properties\":{\"x\":{\"type\":"
                                "\"array\"}}}}}]";
    const template_limits limits = {4 << 20, 1 << 20, 100000};
    template_fault fault = {0};
    chat_program *t = template_compile((const char *)data, size, &fault);
    if (t) {
        const template_caps caps = {
            .system = size % 2, .later_system = size % 3, .tools = size % 5, .text_arguments = size % 7 == 0};
        const conversation c = {talk,           tools,     "{\"enable_thinking\": true}", "<s>", "</s>", size % 2,
                                size % 11 == 0, 1767323045};
        template_text out = {0};
        if (!conversation_render(t, &caps, &c, &limits, &out, &fault)) {
            size_t at = 0;
            for (size_t i = 0; i < out.n; at = out.foreign[i++].to)
                if (out.foreign[i].from < at || out.foreign[i].to <= out.foreign[i].from ||
                    out.foreign[i].to > out.length)
                    abort();
            fuzz_touch(out.text, out.length);
        }
        template_text_free(&out);
    }
    if (fault.message && strlen(fault.message) > fault.length)
        abort();
    template_fault_free(&fault);
    template_free(t);
    return 0;
}
