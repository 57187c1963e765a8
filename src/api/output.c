#include <assert.h>
#include <stdlib.h>

#include "api/handles.h"
#include "base/mem.h"
#include "text/output/output.h"

struct odmoe_output {
    output *o;
    void (*on_delta)(void *user, const odmoe_delta *delta);
    void *user;
};

const char *odmoe_output_format_at(int i)
{
    return i < 0 ? NULL : output_format_at((size_t)i);
}

const char *odmoe_template_output(const odmoe_template *t)
{
    size_t length;
    const char *source = template_source(t->program, &length);
    return output_format_name(output_format_of(source, length));
}

static void hand_on(void *user, const output_delta *d)
{
    static_assert((int)DELTA_CONTENT == ODMOE_DELTA_CONTENT && (int)DELTA_REASONING == ODMOE_DELTA_REASONING &&
                      (int)DELTA_CALL == ODMOE_DELTA_CALL,
                  "the public kinds are the output's");
    const odmoe_output *handle = user;
    handle->on_delta(handle->user, &(odmoe_delta){sizeof(odmoe_delta), d->kind, d->text, d->length, d->call, d->name,
                                                  d->id, d->whole});
}

static odmoe_status find_format(const char *name, const output_format **f, odmoe_error *err)
{
    *f = name ? output_format_find(name) : NULL;
    return *f ? ODMOE_OK
              : err_set(err, ODMOE_ERR_ARG, "%.40s: no such format of output; odmoe_output_format_at lists them",
                        name ? name : "NULL");
}

odmoe_status odmoe_output_reasoning(const char *format, const char *prompt, odmoe_reasoning *reasoning,
                                    odmoe_error *err)
{
    const output_format *f;
    odmoe_status status = find_format(format, &f, err);
    if (status)
        return status;
    output_place place = output_place_of(f, prompt);
    odmoe_reasoning all = {.open = output_reasoning_open(f),
                           .close = output_reasoning_close(f),
                           .end = output_reasoning_end(f),
                           .inside = place == PLACE_REASONING};
    all.possible = all.open && place != PLACE_ANSWER;
    copy_out(reasoning, &all, sizeof all);
    return ODMOE_OK;
}

odmoe_status odmoe_output_create(const char *format, const char *prompt, const char *tools,
                                 void (*on_delta)(void *user, const odmoe_delta *delta), void *user, odmoe_output **out,
                                 odmoe_error *err)
{
    const output_format *f;
    odmoe_status status = find_format(format, &f, err);
    if (!status && !on_delta)
        status = err_set(err, ODMOE_ERR_ARG, "a model's output needs a function that takes it");
    if (status)
        return status;
    odmoe_output *handle = mem_calloc(1, sizeof *handle, "a model's output", err);
    if (!handle)
        return ODMOE_ERR_MEMORY;
    *handle = (odmoe_output){.on_delta = on_delta, .user = user};
    status = output_create(f, prompt, tools, hand_on, handle, &handle->o, err);
    if (status)
        free(handle);
    else
        *out = handle;
    return status;
}

void odmoe_output_free(odmoe_output *handle)
{
    if (!handle)
        return;
    output_free(handle->o);
    free(handle);
}

odmoe_status odmoe_output_feed(odmoe_output *handle, const char *text, size_t length, odmoe_error *err)
{
    return output_feed(handle->o, text, length, err);
}

odmoe_status odmoe_output_end(odmoe_output *handle, odmoe_error *err)
{
    return output_end(handle->o, err);
}

void odmoe_output_stream_calls(odmoe_output *handle)
{
    output_stream_calls(handle->o);
}

int odmoe_output_reasons(const odmoe_output *handle)
{
    return output_reasons(handle->o);
}
