#include <stdio.h>

#include "api/handles.h"
#include "store/replay.h"

void odmoe_replay_options_init(odmoe_replay_options *options)
{
    *options = (odmoe_replay_options){.size = sizeof *options, .policy = "auto", .sequences = 1};
}

/* The trace of a file, n copies of it decoding together. */
static odmoe_status read_trace(const char *path, int32_t sequences, trace *out, odmoe_error *err)
{
    odmoe_status status = trace_read(path, out, err);
    if (status || sequences == 1)
        return status;
    trace one = *out;
    status = trace_decode_together(&one, sequences, out, err);
    trace_clear(&one);
    if (status)
        err_context(err, "%s", path);
    return status;
}

odmoe_status odmoe_replay(const char *trace_path, const odmoe_replay_options *options, odmoe_replay_result *result,
                          odmoe_error *err)
{
    odmoe_replay_options o;
    odmoe_replay_options_init(&o);
    odmoe_status status = copy_in(&o, options, sizeof o, "odmoe_replay_options_init", err);
    trace t;
    if (!status)
        status = read_trace(trace_path, o.sequences, &t, err);
    if (status)
        return status;
    replay_result r;
    status = replay_run(&t, o.cache_bytes, o.policy, false, &r, err);
    trace_clear(&t);
    if (status)
        return status;
    odmoe_replay_result all = {
        .hit_pct_cum = r.hit_pct_cum, .hit_pct_decode = r.hit_pct_decode, .bytes_read = r.bytes_read};
    snprintf(all.policy, sizeof all.policy, "%s", r.policy);
    copy_out(result, &all, sizeof all);
    return ODMOE_OK;
}
