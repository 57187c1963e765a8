/* metrics.c - GET /metrics: Prometheus' text format, version 0.0.4. Nothing here waits for a pass, and no label comes
 * from a request. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "http.h"
#include "serve.h"

/* ---- the format ---- */

static void family(buffer *out, const char *name, const char *type, const char *help)
{
    buffer_print(out, "# HELP odmoe_%s %s\n# TYPE odmoe_%s %s\n", name, help, name, type);
}

/* labels: "" or "{...}" */
static void whole(buffer *out, const char *name, const char *labels, uint64_t value)
{
    buffer_print(out, "odmoe_%s%s %" PRIu64 "\n", name, labels, value);
}

static void real(buffer *out, const char *name, const char *labels, double value)
{
    buffer_print(out, "odmoe_%s%s %.9g\n", name, labels, value);
}

static void counter(buffer *out, const char *name, const char *help, uint64_t value)
{
    family(out, name, "counter", help);
    whole(out, name, "", value);
}

static void seconds(buffer *out, const char *name, const char *help, double value)
{
    family(out, name, "counter", help);
    real(out, name, "", value);
}

static void gauge(buffer *out, const char *name, const char *help, uint64_t value)
{
    family(out, name, "gauge", help);
    whole(out, name, "", value);
}

/* The samples of one histogram; label: "" or "name=\"value\",". */
static void histogram_samples(buffer *out, const char *name, const char *label, const histogram *h)
{
    uint64_t below = 0;
    for (int i = 0; i < h->n; i++) {
        below += h->counts[i];
        buffer_print(out, "odmoe_%s_bucket{%sle=\"%g\"} %" PRIu64 "\n", name, label, h->bounds[i], below);
    }
    buffer_print(out, "odmoe_%s_bucket{%sle=\"+Inf\"} %" PRIu64 "\n", name, label, h->count);
    char of[64] = "";
    if (*label)
        snprintf(of, sizeof of, "{%.*s}", (int)strlen(label) - 1, label);
    buffer_print(out, "odmoe_%s_sum%s %.9g\nodmoe_%s_count%s %" PRIu64 "\n", name, of, h->sum, name, of, h->count);
}

static void histogram_family(buffer *out, const char *name, const char *help, const histogram *h)
{
    family(out, name, "histogram", help);
    histogram_samples(out, name, "", h);
}

/* ---- what there is ---- */

static void write_memory(buffer *out, const server *s)
{
    odmoe_plan p = {.size = sizeof p};
    odmoe_model_plan(s->model, &p);
    gauge(out, "ram_budget_bytes", "the budget, --ram", p.ram_bytes);
    family(out, "ram_plan_bytes", "gauge", "how the budget is divided");
    uint64_t requests = s->options->lib.reserve_bytes;
    const struct {
        const char *labels;
        uint64_t bytes;
    } parts[] = {{"{part=\"weights\"}", p.resident_bytes},
                 {"{part=\"context\"}", p.kv_bytes},
                 {"{part=\"activations\"}", p.activation_bytes},
                 {"{part=\"server\"}", requests},
                 {"{part=\"prefixes\"}", p.prefix_bytes},
                 {"{part=\"other\"}", p.other_bytes - requests},
                 {"{part=\"cache\"}", p.cache_bytes}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        whole(out, "ram_plan_bytes", parts[i].labels, parts[i].bytes);
    gauge(out, "expert_cache_size_bytes", "room for experts", p.cache_bytes);
}

/* A line "name: number kB" of /proc/self/status, in bytes. */
static uint64_t status_bytes(const char *text, const char *name)
{
    const char *at = strstr(text, name);
    return at ? strtoull(at + strlen(name), NULL, 10) << 10 : 0;
}

static void write_process(buffer *out, const server *s)
{
    char text[4096] = "";
    FILE *f = fopen("/proc/self/status", "re");
    if (f) {
        size_t n = fread(text, 1, sizeof text - 1, f);
        text[n] = 0;
        fclose(f);
    }
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    gauge(out, "anonymous_bytes", "anonymous memory of the process (RssAnon)", status_bytes(text, "\nRssAnon:"));
    double cpu = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
                 (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e-6;
    buffer_print(out, "# HELP process_cpu_seconds_total processor time\n# TYPE process_cpu_seconds_total counter\n");
    buffer_print(out, "process_cpu_seconds_total %.3f\n", cpu);
    const struct {
        const char *name, *help;
        uint64_t value;
    } rows[] = {{"process_resident_memory_bytes", "memory in use", status_bytes(text, "\nVmRSS:")},
                {"process_virtual_memory_bytes", "addresses in use", status_bytes(text, "\nVmSize:")},
                {"process_start_time_seconds", "when it started, since 1970", (uint64_t)s->started}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        buffer_print(out, "# HELP %s %s\n# TYPE %s gauge\n%s %" PRIu64 "\n", rows[i].name, rows[i].help, rows[i].name,
                     rows[i].name, rows[i].value);
}

static void write_experts(buffer *out, const server *s)
{
    odmoe_stats t = {.size = sizeof t};
    odmoe_stats_get(s->model, &t);
    family(out, "build_info", "gauge", "version, and what runs");
    buffer_print(out, "odmoe_build_info{version=\"%s\",kernels=\"%s\",io=\"%s\",kv=\"%s\",policy=\"%s\"} 1\n",
                 odmoe_version(), t.kernels, t.io, t.kv, t.policy);
    counter(out, "expert_hits_total", "experts that were in memory when they were needed", t.cache_hits);
    counter(out, "expert_misses_total", "experts that had to be read", t.cache_misses);
    counter(out, "expert_uses_total", "pairs of a token and an expert", t.expert_uses);
    counter(out, "expert_read_bytes_total", "bytes of experts read from the disk", t.bytes_read);
    counter(out, "expert_reads_total", "reads from the disk", t.reads);
    seconds(out, "expert_read_seconds_total", "time with at least one read under way", t.read_seconds);
    seconds(out, "expert_stall_seconds_total", "time that computing waited for the disk", t.stall_seconds);
    seconds(out, "compute_seconds_total", "time of passes without that waiting", t.compute_seconds);
    counter(out, "expert_evictions_total", "experts that made room for others", t.evictions);
    gauge(out, "expert_cache_used_bytes", "bytes of experts in memory", t.cache_used_bytes);
    counter(out, "ahead_read_bytes_total", "bytes read before the router had chosen", t.prefetch_bytes_read);
    counter(out, "ahead_used_bytes_total", "of these, bytes of experts that it then chose", t.prefetch_bytes_used);
    counter(out, "embedding_hits_total", "rows of a token embedding on the disk that were in memory", t.embedding_hits);
    counter(out, "embedding_misses_total", "rows of a token embedding on the disk that had to be read",
            t.embedding_misses);
    counter(out, "embedding_read_bytes_total", "bytes of these rows; not in expert_read_bytes_total",
            t.embedding_bytes_read);
}

/* Ends of the ranges of odmoe_moe_layer_stats.stalls. */
static const double stall_bounds[ODMOE_STALL_RANGES - 1] = {0.001, 0.01, 0.1, 1, 10};

static void write_layers(buffer *out, const server *s)
{
    odmoe_info info = {.size = sizeof info};
    odmoe_model_info(s->model, &info);
    static const char *const names[] = {"layer_expert_hits_total", "layer_expert_misses_total",
                                        "layer_expert_read_bytes_total"};
    static const char *const helps[] = {"experts of a layer that were in memory when they were needed",
                                        "experts of a layer that had to be read", "bytes of a layer's experts read"};
    char label[32];
    odmoe_moe_layer_stats x = {.size = sizeof x};
    for (int what = 0; what < 3; what++) {
        family(out, names[what], "counter", helps[what]);
        for (int layer = 0; layer < info.moe_layers; layer++) {
            if (odmoe_moe_layer_stats_get(s->model, layer, &x, NULL))
                continue;
            snprintf(label, sizeof label, "{layer=\"%d\"}", layer);
            whole(out, names[what], label, what == 0 ? x.hits : what == 1 ? x.misses : x.bytes);
        }
    }
    family(out, "layer_stall_seconds", "histogram", "time that a pass waited for the disk in a layer");
    for (int layer = 0; layer < info.moe_layers; layer++) {
        if (odmoe_moe_layer_stats_get(s->model, layer, &x, NULL))
            continue;
        histogram h = {.bounds = stall_bounds, .n = ODMOE_STALL_RANGES - 1, .sum = x.stall_seconds};
        for (int i = 0; i < ODMOE_STALL_RANGES; i++)
            h.count += h.counts[i] = x.stalls[i];
        snprintf(label, sizeof label, "layer=\"%d\",", layer);
        histogram_samples(out, "layer_stall_seconds", label, &h);
    }
}

static void write_requests(buffer *out, const server *s, const engine_stats *e)
{
    enum { COUNTS_MOST = 256 };
    http_count counts[COUNTS_MOST];
    size_t n = http_counts(s->http, counts, COUNTS_MOST);
    family(out, "requests_total", "counter", "requests answered");
    for (size_t i = 0; i < n && i < COUNTS_MOST; i++)
        buffer_print(out, "odmoe_requests_total{endpoint=\"%s\",code=\"%d\"} %" PRIu64 "\n", counts[i].endpoint,
                     counts[i].status, counts[i].count);
    family(out, "requests_cancelled_total", "counter", "requests whose client left, by what they were doing");
    whole(out, "requests_cancelled_total", "{state=\"queued\"}", e->cancelled_queued);
    whole(out, "requests_cancelled_total", "{state=\"prompt\"}", e->cancelled_prompt);
    whole(out, "requests_cancelled_total", "{state=\"decode\"}", e->cancelled_decode);
    gauge(out, "requests_running", "requests that have a sequence", (uint64_t)e->running);
    gauge(out, "requests_queued", "requests that wait for one", (uint64_t)e->queued);
    gauge(out, "http_connections", "open connections", (uint64_t)http_connections(s->http));
    family(out, "finish_total", "counter", "answers, by why they ended");
    whole(out, "finish_total", "{reason=\"stop\"}", e->finished_stop);
    whole(out, "finish_total", "{reason=\"length\"}", e->finished_length);
    whole(out, "finish_total", "{reason=\"tool_calls\"}", e->finished_calls);
    whole(out, "finish_total", "{reason=\"error\"}", e->finished_failed);
    histogram_family(out, "queue_seconds", "time in the queue", &e->queue_seconds);
    histogram_family(out, "time_to_first_token_seconds", "from the request to its first token",
                     &e->first_token_seconds);
    histogram_family(out, "inter_token_seconds", "from one token to the next", &e->inter_token_seconds);
    histogram_family(out, "request_seconds", "from the request to the end of its answer", &e->request_seconds);
}

static void write_tokens(buffer *out, const engine_stats *e)
{
    counter(out, "prompt_tokens_total", "tokens of prompts that were computed", e->prompt_tokens_computed);
    family(out, "prompt_cached_tokens_total", "counter", "tokens of prompts that were found, and not computed");
    whole(out, "prompt_cached_tokens_total", "{source=\"memory\"}", e->prompt_tokens_cached[PREFIX_MEMORY]);
    whole(out, "prompt_cached_tokens_total", "{source=\"disk\"}", e->prompt_tokens_cached[PREFIX_DISK]);
    counter(out, "generated_tokens_total", "tokens sampled", e->generated_tokens);
    counter(out, "passes_total", "passes through the model", e->passes);
    histogram_family(out, "pass_sequences", "sequences in a pass", &e->pass_sequences);
}

static void by_place(buffer *out, const char *name, const uint64_t values[PREFIX_WHERES])
{
    whole(out, name, "{where=\"memory\"}", values[PREFIX_MEMORY]);
    whole(out, name, "{where=\"disk\"}", values[PREFIX_DISK]);
}

static void write_prefixes(buffer *out, const engine_stats *e)
{
    family(out, "prefix_entries", "gauge", "prefixes kept");
    by_place(out, "prefix_entries", e->prefix_entries);
    family(out, "prefix_bytes", "gauge", "bytes of prefixes kept");
    by_place(out, "prefix_bytes", e->prefix_bytes);
    counter(out, "prefix_saves_total", "prefixes written", e->prefix_saves);
    counter(out, "prefix_loads_total", "prefixes read", e->prefix_loads);
    family(out, "prefix_evictions_total", "counter", "prefixes that made room for others");
    by_place(out, "prefix_evictions_total", e->prefix_evictions);
    counter(out, "prefix_failures_total", "prefixes that could not be written or read", e->prefix_failures);
}

static bool metrics(server *s, http_request *request, http_reply *reply, problem *p)
{
    (void)request;
    engine_stats e;
    engine_stats_get(s->engine, &e);
    buffer *out = &reply->body;
    write_memory(out, s);
    write_process(out, s);
    write_experts(out, s);
    write_layers(out, s);
    write_tokens(out, &e);
    write_requests(out, s, &e);
    write_prefixes(out, &e);
    if (out->failed)
        return problem_memory(p);
    reply->status = 200;
    reply->type = "text/plain; version=0.0.4; charset=utf-8";
    return true;
}

const route metrics_routes[] = {
    {"GET", "/metrics", "metrics", metrics, ROUTE_NO_V1, ERRORS_OPENAI},
    {0},
};
