/* How a server divides its budget: requests, contexts, sequences (docs/server.md, "Start and end"). */
#include <string.h>

#include "serve.h"

enum { CONTEXT_WANTED = 32768, CONTEXT_LEAST = 4096, SEQUENCES_WANTED = 4, CONTEXT_STEP = 256 };

uint64_t serve_bytes(uint64_t ram)
{
    const uint64_t least = UINT64_C(4) << 20, most = UINT64_C(64) << 20;
    return ram / 16 < least ? least : ram / 16 > most ? most : ram / 16;
}

/* The plan with so many sequences of so many tokens. A budget that is too small is no error here. */
static odmoe_status plan_with(const serve_options *o, int32_t context, int32_t sessions, odmoe_plan *plan,
                              odmoe_error *err)
{
    odmoe_options lib = o->lib;
    lib.context = context;
    lib.sessions = sessions;
    *plan = (odmoe_plan){.size = sizeof *plan};
    odmoe_status status = odmoe_plan_make(o->model, &lib, plan, err);
    return status == ODMOE_ERR_BUDGET ? ODMOE_OK : status;
}

/* The largest context, in steps and not beyond `most`, of which `sessions` take at most `bytes`; at least `least`. */
static odmoe_status largest_context(const serve_options *o, int32_t sessions, uint64_t bytes, int32_t least,
                                    int32_t most, int32_t *context, odmoe_error *err)
{
    odmoe_plan plan;
    int32_t low = least, high = most;
    while (high - low >= CONTEXT_STEP) {
        int32_t middle = low + ((high - low) / 2 / CONTEXT_STEP + 1) * CONTEXT_STEP;
        middle = middle > high ? high : middle;
        if (plan_with(o, middle, sessions, &plan, err))
            return err->code;
        if (plan.kv_bytes <= bytes)
            low = middle;
        else
            high = middle - 1;
    }
    *context = low;
    return ODMOE_OK;
}

static odmoe_status find_sizes(serve_options *o, int32_t model_context, uint64_t quarter, odmoe_error *err)
{
    odmoe_plan plan;
    int32_t wanted = model_context < CONTEXT_WANTED ? model_context : CONTEXT_WANTED;
    int32_t least = model_context < CONTEXT_LEAST ? model_context : CONTEXT_LEAST;
    int32_t context = o->lib.context ? o->lib.context : wanted;
    int32_t most = o->lib.sessions ? o->lib.sessions : SEQUENCES_WANTED;
    for (int32_t n = most; n >= 1; n--) {
        if (plan_with(o, context, n, &plan, err))
            return err->code;
        if (plan.kv_bytes <= quarter || o->lib.sessions || n == 1) {
            o->lib.sessions = n;
            break;
        }
    }
    if (o->lib.context || plan.kv_bytes <= quarter) {
        o->lib.context = context;
        return ODMOE_OK;
    }
    return largest_context(o, o->lib.sessions, quarter, least, wanted, &o->lib.context, err);
}

/* Room for prefixes beside the sequences: what was asked for; else one context's bytes, where the plan has room for it and still caches
 * the experts of a token. With a folder the same bytes serve what is being written. */
static odmoe_status find_prefix_bytes(serve_options *o, odmoe_error *err)
{
    odmoe_plan plan;
    if (o->has_cache_ram)
        o->lib.prefix_bytes = o->cache_ram_bytes;
    if (plan_with(o, o->lib.context, o->lib.sessions, &plan, err))
        return err->code;
    uint64_t share = plan.kv_bytes / (uint64_t)o->lib.sessions, before = o->lib.prefix_bytes;
    if (o->has_cache_ram && (!o->cache_dir || before >= share))
        return ODMOE_OK;
    o->lib.prefix_bytes = share;
    if (plan_with(o, o->lib.context, o->lib.sessions, &plan, err))
        return err->code;
    if (!plan.fits || plan.cache_bytes < plan.cache_token_bytes)
        o->lib.prefix_bytes = before;
    if (!o->has_cache_ram)
        o->cache_ram_bytes = o->cache_dir ? 0 : o->lib.prefix_bytes;
    return ODMOE_OK;
}

odmoe_status serve_sizes(serve_options *o, odmoe_error *err)
{
    odmoe_plan plan;
    odmoe_info info = {.size = sizeof info};
    if (odmoe_inspect(o->model, &info, err))
        return err->code;
    if (plan_with(o, o->lib.context ? o->lib.context : 1, 1, &plan, err))
        return err->code;
    o->lib.ram_bytes = plan.ram_bytes;
    o->lib.reserve_bytes = serve_bytes(plan.ram_bytes);
    uint64_t left = plan.ram_bytes > plan.resident_bytes ? plan.ram_bytes - plan.resident_bytes : 0;
    if ((!o->lib.context || !o->lib.sessions) && find_sizes(o, info.context, left / 4, err))
        return err->code;
    o->lib.snapshots = ENGINE_SNAPSHOTS;
    if (find_prefix_bytes(o, err))
        return err->code;
    /* The figure that would do has to hold what requests get of that figure. */
    for (int i = 0; i < 8; i++) {
        if (plan_with(o, o->lib.context, o->lib.sessions, &plan, err))
            return err->code;
        if (plan.fits || serve_bytes(plan.floor_bytes) <= o->lib.reserve_bytes)
            break;
        o->lib.reserve_bytes = serve_bytes(plan.floor_bytes);
    }
    return ODMOE_OK;
}
