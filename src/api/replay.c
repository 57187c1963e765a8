#include <stdio.h>

#include "api/handles.h"
#include "store/replay.h"

odmoe_status odmoe_replay(const char *trace_path, uint64_t cache_bytes, const char *policy, odmoe_replay_result *result,
                          odmoe_error *err)
{
    trace t;
    odmoe_status status = trace_read(trace_path, &t, err);
    if (status)
        return status;
    replay_result r;
    status = replay_run(&t, cache_bytes, policy, false, &r, err);
    trace_clear(&t);
    if (status)
        return status;
    odmoe_replay_result all = {
        .hit_pct_cum = r.hit_pct_cum, .hit_pct_decode = r.hit_pct_decode, .bytes_read = r.bytes_read};
    snprintf(all.policy, sizeof all.policy, "%s", r.policy);
    copy_out(result, &all, sizeof all);
    return ODMOE_OK;
}
