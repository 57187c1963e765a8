/* The input is a list of tools; its first byte chooses the format, the second what is asked for. Where a grammar of calls
 * comes of it, its masks are checked, and an output that it lets through is read back as calls of those tools. */
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz_grammar.h"
#include "text/output/call_grammar.h"
#include "text/output/format.h"

typedef struct reader {
    const json_t *tools;
    size_t calls;
} reader;

static void stop(const char *what, const char *text)
{
    fprintf(stderr, "%s: %s\n", what, text);
    abort();
}

static void take(void *user, const output_delta *d)
{
    reader *r = user;
    const json_t *tool;
    size_t i;
    bool known = false;
    if (d->kind != DELTA_CALL)
        return;
    r->calls++;
    json_array_foreach(r->tools, i, tool)
    {
        const json_t *f = json_object_get(tool, "function"), *name = json_object_get(f ? f : tool, "name");
        known |= json_is_string(name) && !strcmp(json_string_value(name), d->name);
    }
    if (!known)
        stop("a tool that is not known", d->name);
    if (!scan_is_json(d->text, d->length) || d->text[scan_blanks(d->text, d->length)] != '{')
        stop("arguments that are no object", d->name);
}

static void read_back(const call_grammar *c, const char *text)
{
    reader r = {.tools = c->tools};
    output *o;
    odmoe_error err;
    char *tools = json_dumps(c->tools, 0);
    if (!tools || output_create(c->f, c->prompt, tools, take, &r, &o, &err))
        abort();
    if (output_feed(o, text, strlen(text), &err) || output_end(o, &err))
        abort();
    if ((c->required && !r.calls) || (c->one && r.calls > 1))
        stop("not the calls that were asked for", text);
    output_free(o);
    free(tools);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const prompts[] = {NULL, "<think>", "<think></think>", "<|start|>assistant"};
    if (size < 2)
        return 0;
    json_t *tools = json_loadb((const char *)data + 2, size - 2, 0, NULL);
    call_grammar c = {.f = &output_formats[data[0] % output_formats_count],
                      .tools = tools,
                      .required = data[1] & 1,
                      .one = data[1] & 2,
                      .prompt = prompts[data[1] >> 2 & 3]};
    if (json_is_array(tools)) {
        char *text = fuzz_use_written(call_grammar_write, &c, data[1]);
        if (text)
            read_back(&c, text);
        free(text);
    }
    json_decref(tools);
    return 0;
}
