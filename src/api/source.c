#include <stdlib.h>

#include "api/handles.h"
#include "api/layer_handles.h"
#include "base/mem.h"

struct odmoe_source {
    file_source s;
};

void odmoe_source_options_init(odmoe_source_options *options)
{
    *options = (odmoe_source_options){.size = sizeof *options, .layers = 1};
}

odmoe_status odmoe_source_open(const odmoe_source_options *options, odmoe_source **out, odmoe_error *err)
{
    odmoe_source_options o;
    io_mode io;
    odmoe_source_options_init(&o);
    odmoe_status status = copy_in(&o, options, sizeof o, "odmoe_source_options_init", err);
    if (!status)
        status = options_io(o.io, &io, err);
    if (status)
        return status;
    odmoe_source *source = mem_calloc(1, sizeof *source, "an expert source", err);
    if (!source)
        return ODMOE_ERR_MEMORY;
    status = file_source_open(&o, io, &source->s, err);
    if (status)
        odmoe_source_close(source);
    else
        *out = source;
    return status;
}

void odmoe_source_close(odmoe_source *source)
{
    if (!source)
        return;
    file_source_close(&source->s);
    free(source);
}

void odmoe_source_table(odmoe_source *source, odmoe_source_ops *ops)
{
    odmoe_source_ops all = file_source_ops(&source->s);
    copy_out(ops, &all, sizeof all);
}

void odmoe_source_invalidate(odmoe_source *source, int32_t layer, int32_t expert)
{
    store_invalidate(source->s.store, layer, expert);
}

uint64_t odmoe_source_floor(const odmoe_source *source)
{
    return store_floor(source->s.files.experts.index);
}

const char *odmoe_source_io(const odmoe_source *source)
{
    store_totals t;
    store_totals_get(source->s.store, &t);
    return t.io;
}
