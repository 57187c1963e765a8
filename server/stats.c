/* stats.c - GET /stats and /stats/experts (docs/server.md, "Endpoints"). */
#include "stats.h"

#include "clock.h"
#include "http.h"
#include "serve.h"

void rates_tick(rates *r, odmoe_model *model)
{
    double now = clock_seconds();
    pthread_mutex_lock(&r->lock);
    bool due = !r->count || now - r->sample[(r->count - 1) % RATE_SAMPLES].time >= 1;
    pthread_mutex_unlock(&r->lock);
    if (!due)
        return;
    odmoe_stats stats = {.size = sizeof stats};
    odmoe_stats_get(model, &stats);
    pthread_mutex_lock(&r->lock);
    int at = r->count++ % RATE_SAMPLES;
    r->sample[at].time = now;
    r->sample[at].tokens = stats.tokens;
    r->sample[at].bytes_read = stats.bytes_read;
    r->sample[at].hits = stats.cache_hits;
    r->sample[at].misses = stats.cache_misses;
    r->sample[at].stall = stats.stall_seconds;
    r->sample[at].compute = stats.compute_seconds;
    pthread_mutex_unlock(&r->lock);
}

/* What happened between the oldest sample and the latest one, a second. */
static json_t *rates_json(rates *r)
{
    double seconds = 0, tokens = 0, bytes = 0, hits = 0, fetched = 0, stall = 0, busy = 0;
    pthread_mutex_lock(&r->lock);
    if (r->count > 1) {
        int last = (r->count - 1) % RATE_SAMPLES, first = r->count > RATE_SAMPLES ? r->count % RATE_SAMPLES : 0;
        seconds = r->sample[last].time - r->sample[first].time;
        tokens = (double)(r->sample[last].tokens - r->sample[first].tokens);
        bytes = (double)(r->sample[last].bytes_read - r->sample[first].bytes_read);
        hits = (double)(r->sample[last].hits - r->sample[first].hits);
        fetched = hits + (double)(r->sample[last].misses - r->sample[first].misses);
        stall = r->sample[last].stall - r->sample[first].stall;
        busy = stall + r->sample[last].compute - r->sample[first].compute;
    }
    pthread_mutex_unlock(&r->lock);
    return json_pack("{s:f,s:f,s:f,s:f,s:f}", "seconds", seconds, "tokens_per_second",
                     seconds > 0 ? tokens / seconds : 0, "bytes_per_second", seconds > 0 ? bytes / seconds : 0,
                     "hit_share", fetched > 0 ? hits / fetched : 0, "stall_share", busy > 0 ? stall / busy : 0);
}

static json_t *plan_json(const server *s)
{
    odmoe_plan p = {.size = sizeof p};
    odmoe_model_plan(s->model, &p);
    uint64_t requests = s->options->lib.reserve_bytes; /* which the library counts in other_bytes */
    return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:i,s:i,s:i}", "ram_bytes", (json_int_t)p.ram_bytes,
                     "resident_bytes", (json_int_t)p.resident_bytes, "kv_bytes", (json_int_t)p.kv_bytes,
                     "activation_bytes", (json_int_t)p.activation_bytes, "server_bytes", (json_int_t)requests,
                     "prefix_bytes", (json_int_t)p.prefix_bytes, "other_bytes", (json_int_t)(p.other_bytes - requests),
                     "cache_bytes", (json_int_t)p.cache_bytes, "cache_experts", (json_int_t)p.cache_experts, "context",
                     s->context, "sessions", s->sequences, "threads", p.threads);
}

static json_t *stats_json(const odmoe_stats *t)
{
    return json_pack("{s:I,s:I,s:I,s:f,s:f,s:f,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:s,s:s,s:s,s:s,s:i}", "tokens",
                     (json_int_t)t->tokens, "bytes_read", (json_int_t)t->bytes_read, "reads", (json_int_t)t->reads,
                     "read_seconds", t->read_seconds, "stall_seconds", t->stall_seconds, "compute_seconds",
                     t->compute_seconds, "expert_uses", (json_int_t)t->expert_uses, "cache_hits",
                     (json_int_t)t->cache_hits, "cache_misses", (json_int_t)t->cache_misses, "evictions",
                     (json_int_t)t->evictions, "cache_used_bytes", (json_int_t)t->cache_used_bytes, "ahead_bytes_read",
                     (json_int_t)t->prefetch_bytes_read, "ahead_bytes_used", (json_int_t)t->prefetch_bytes_used,
                     "embedding_hits", (json_int_t)t->embedding_hits, "embedding_misses",
                     (json_int_t)t->embedding_misses, "embedding_bytes_read", (json_int_t)t->embedding_bytes_read, "io",
                     t->io, "kernels", t->kernels, "kv", t->kv, "policy", t->policy, "threads", t->threads);
}

static bool stats(server *s, http_request *request, http_reply *reply, problem *p)
{
    (void)request, (void)p;
    odmoe_stats t = {.size = sizeof t};
    odmoe_stats_get(s->model, &t);
    engine_stats e;
    engine_stats_get(s->engine, &e);
    reply_json(reply, 200,
               json_pack("{s:o,s:o,s:{s:i,s:i},s:o}", "plan", plan_json(s), "stats", stats_json(&t), "queue", "running",
                         e.running, "queued", e.queued, "rates", rates_json(&s->rates)));
    return true;
}

/* One list of numbers a layer. */
typedef struct expert_tables {
    json_t *uses, *hits, *cached;
} expert_tables;

static bool add_layer(const server *s, expert_tables *t, int layer, int experts)
{
    json_t *uses = json_array(), *hits = json_array(), *cached = json_array();
    json_array_append_new(t->uses, uses);
    json_array_append_new(t->hits, hits);
    json_array_append_new(t->cached, cached);
    for (int expert = 0; expert < experts; expert++) {
        odmoe_expert_stats x = {.size = sizeof x};
        if (odmoe_expert_stats_get(s->model, layer, expert, &x, NULL) ||
            json_array_append_new(uses, json_integer((json_int_t)x.uses)) ||
            json_array_append_new(hits, json_integer((json_int_t)x.hits)) ||
            json_array_append_new(cached, json_integer(x.cached != 0)))
            return false;
    }
    return true;
}

static bool stats_experts(server *s, http_request *request, http_reply *reply, problem *p)
{
    (void)request;
    odmoe_info info = {.size = sizeof info};
    odmoe_model_info(s->model, &info);
    expert_tables t = {json_array(), json_array(), json_array()};
    bool complete = t.uses && t.hits && t.cached;
    for (int layer = 0; complete && layer < info.moe_layers; layer++)
        complete = add_layer(s, &t, layer, info.experts);
    json_t *all = json_pack("{s:i,s:i,s:o,s:o,s:o}", "layers", info.moe_layers, "experts", info.experts, "uses", t.uses,
                            "hits", t.hits, "cached", t.cached);
    if (!complete) {
        json_decref(all);
        return problem_memory(p);
    }
    reply_json(reply, 200, all);
    return true;
}

const route stats_routes[] = {
    {"GET", "/stats", "stats", stats, ROUTE_NO_V1, ERRORS_OPENAI},
    {"GET", "/stats/experts", "stats", stats_experts, ROUTE_NO_V1, ERRORS_OPENAI},
    {0},
};
