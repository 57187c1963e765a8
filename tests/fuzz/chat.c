/* The input is a conversation: the first byte chooses a template, the rest are messages as JSON. Whatever they hold, each
 * byte of the text is known to be theirs or the template's: the control tokens of these templates begin with ~, which
 * the messages are cleared of, and only messages hold @. */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "text/template/conversation.h"

static const char *const sources[] = {
    "{% for m in messages %}~s{{ m.role }}\n{{ m.content | trim }}~e{% endfor %}{% if add_generation_prompt %}~s{% "
    "endif %}",
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no') }}{% endif %}{{ '~s' + "
    "m['content'].split('x')[-1].replace('a', 'bb') + '~e' }}"
    "{% for c in m.tool_calls %}~c{{ c | tojson(indent=2) }}{{ c.function.arguments }}{% endfor %}{% endfor %}",
    "{% macro f(v) %}{% if v is mapping %}{% for k, x in v | dictsort %}~k{{ k | upper }}{{ f(x) }}{% endfor %}{% elif "
    "v is string %}{{ v[1:] ~ v[::-1] }}{% elif v is "
    "iterable %}{% for x in v %}{{ f(x) }}{% endfor %}{% else %}{{ '%s' % v }}{% endif %}{% endmacro %}{{ f(messages) "
    "}}{{ messages | map(attribute='content') | join('~j') "
    "| indent }}",
};

/* Texts of the template have no @, those of messages no ~. */
static void check(const template_text *out)
{
    size_t at = 0;
    for (size_t i = 0; i <= out->n; i++) {
        size_t from = i < out->n ? out->foreign[i].from : out->length, to = i < out->n ? out->foreign[i].to : from;
        if (memchr(out->text + at, '@', from - at) || memchr(out->text + from, '~', to - from))
            abort();
        at = to;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    char *json = malloc(size);
    if (!json)
        return 0;
    memcpy(json, data + 1, size - 1);
    json[size - 1] = 0;
    for (size_t i = 0; i + 1 < size; i++)
        if (json[i] == '~')
            json[i] = '-';
    const char *source = sources[data[0] % 3];
    const template_limits limits = {4 << 20, 1 << 20, 100000};
    template_fault fault = {0};
    template_text out = {0};
    chat_program *t = template_compile(source, strlen(source), &fault);
    if (!t)
        abort();
    const template_caps caps = {.system = data[0] & 4,
                                .later_system = data[0] & 8,
                                .tools = true,
                                .text_arguments = data[0] & 16,
                                .short_ids = data[0] & 32,
                                .hidden_calls = data[0] & 128,
                                .python_calls = data[0] & 4};
    const conversation c = {json, NULL, NULL, "", "", true, data[0] & 64, 0, true};
    if (!strstr(json, "007e") && !strstr(json, "007E") && !conversation_render(t, &caps, &c, &limits, &out, &fault))
        check(&out);
    template_text_free(&out);
    template_fault_free(&fault);
    template_free(t);
    free(json);
    return 0;
}
