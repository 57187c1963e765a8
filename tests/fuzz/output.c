/* The input is a model's output: the first byte chooses the format, the second what the prompt ended with and how the text
 * is cut. Whole or in pieces it means the same message, its calls have JSON for arguments, and no text is lost
 * where no tools and no reasoning are looked for. The same where calls are given as they come: then those that are whole
 * have JSON. */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "text/output/format.h"

typedef struct message {
    text_out texts[2], calls, arguments; /* arguments: of the call that is given */
    bool stream;
} message;

static void take(void *user, const output_delta *d)
{
    message *m = user;
    if (d->kind != DELTA_CALL) {
        out_put(&m->texts[d->kind], d->text, d->length);
        return;
    }
    if (!d->name || !*d->name || (!m->stream && !d->whole))
        abort();
    if (!m->stream || (!d->length && !d->whole)) {
        out_put(&m->calls, d->name, strlen(d->name) + 1);
        m->arguments.n = 0;
    }
    out_put(&m->calls, d->text, d->length);
    out_put(&m->arguments, d->text, d->length);
    if (d->whole && !scan_is_json(m->arguments.at, m->arguments.n))
        abort();
}

static message parse(const uint8_t *data, size_t size, const char *tools, bool stream, unsigned cut)
{
    static const char *const prompts[] = {NULL, "<think>\n", "<|start|>assistant", "<seed:think>",
                                          "<|start|>assistant<|channel|>final<|message|>"};
    message m = {.stream = stream};
    output *o;
    odmoe_error err;
    if (output_create(&output_formats[data[0] % output_formats_count], prompts[data[1] % 5], tools, take, &m, &o, &err))
        abort();
    if (stream)
        output_stream_calls(o);
    for (size_t at = 2, n; at < size; at += n) {
        cut = cut * 1103515245 + 12345;
        n = cut ? 1 + (cut >> 16) % 7 : size;
        n = n < size - at ? n : size - at;
        if (output_feed(o, (const char *)data + at, n, &err))
            abort();
    }
    if (output_end(o, &err))
        abort();
    output_free(o);
    return m;
}

static bool same(const text_out *a, const text_out *b)
{
    return a->n == b->n && (!a->n || !memcmp(a->at, b->at, a->n));
}

static void message_free(message *m)
{
    free(m->texts[0].at);
    free(m->texts[1].at);
    free(m->calls.at);
    free(m->arguments.at);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const tools[] = {NULL, "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{"
                                              "\"properties\":{\"x\":{\"type\":\"string\"},\"y\":"
                                              "{\"type\":[\"integer\",\"null\"]}}}}}]"};
    if (size < 2)
        return 0;
    for (int i = 0; i < 3; i++) { /* without tools, with them, calls as they come */
        const char *list = tools[i > 0];
        message whole = parse(data, size, list, i == 2, 0), cut = parse(data, size, list, i == 2, data[1] + 1u);
        if (!same(&whole.texts[0], &cut.texts[0]) || !same(&whole.texts[1], &cut.texts[1]) ||
            !same(&whole.calls, &cut.calls))
            abort();
        message_free(&whole);
        message_free(&cut);
    }
    return 0;
}
