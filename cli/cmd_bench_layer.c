/* odmoe bench-layer: the speed of one layer with random experts, beside what the machine can do. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "limits.h"
#include "measure.h"
#include "options.h"
#include "random_experts.h"
#include "odmoe_layer.h"

enum {
    KEY_HIDDEN = KEY_COMMAND,
    KEY_FFN,
    KEY_EXPERTS,
    KEY_TOP_K,
    KEY_TOKENS,
    KEY_DTYPE,
    KEY_FILE,
    KEY_RAM,
    KEY_DISTINCT,
    KEY_KERNELS,
    KEY_IO,
    KEY_JSON
};
enum { CALLS_LEAST = 5, CALLS_MOST = 1000, DISK_DEPTH = 32 };
#define CALLS_SECONDS 1.0 /* more than CALLS_LEAST calls until then: a median of some milliseconds wants many */
#define DISK_BLOCK (1u << 20)
#define DISK_BYTES (4ull << 30)

typedef struct bench_options {
    expert_shape shape;
    int32_t top_k, threads;
    int64_t tokens;
    const char *file, *kernels, *io;
    uint64_t ram;
    bool json;
} bench_options;

static error_t parse(int key, char *arg, struct argp_state *state)
{
    bench_options *o = state->input;
    switch (key) {
    case KEY_HIDDEN:
        o->shape.hidden = (int32_t)parse_integer("--hidden", arg, 1, 1 << 20);
        return 0;
    case KEY_FFN:
        o->shape.ffn = (int32_t)parse_integer("--ffn", arg, 1, 1 << 20);
        return 0;
    case KEY_EXPERTS:
        o->shape.experts = (int32_t)parse_integer("--experts", arg, 1, 4096);
        return 0;
    case KEY_TOP_K:
        o->top_k = (int32_t)parse_integer("--top-k", arg, 1, 64);
        return 0;
    case KEY_TOKENS:
        o->tokens = parse_integer("--tokens", arg, 1, 1 << 24);
        return 0;
    case KEY_DISTINCT:
        o->shape.distinct = (int32_t)parse_integer("--distinct", arg, 1, 4096);
        return 0;
    case 't':
        o->threads = (int32_t)parse_integer("-t", arg, 1, THREADS_MOST);
        return 0;
    case KEY_DTYPE:
        o->shape.type = expert_type_find(arg);
        if (o->shape.type < 0)
            usage_error("--dtype %s: there are f32, f16, bf16, q8_0, q4_k", arg);
        return 0;
    case KEY_FILE:
        o->file = arg;
        return 0;
    case KEY_RAM:
        o->ram = parse_ram(arg, "give room for experts, or leave the option out for all of them, at most 1 GiB");
        return 0;
    case KEY_KERNELS:
        o->kernels = arg;
        return 0;
    case KEY_IO:
        o->io = arg;
        return 0;
    case KEY_JSON:
        o->json = true;
        return 0;
    case ARGP_KEY_END:
        if (!o->shape.distinct)
            o->shape.distinct = o->shape.experts;
        if (o->top_k > o->shape.experts || o->shape.distinct > o->shape.experts)
            usage_error("--top-k and --distinct can be at most --experts");
        if (!expert_bytes(&o->shape))
            usage_error("--hidden and --ffn must be multiples of the type's block");
        if ((o->ram || o->io) && !o->file)
            usage_error("%s is for experts in a --file; without it all are in memory", o->ram ? "--ram" : "--io");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp bench_argp = {
    .options =
        (const struct argp_option[]){
            {"hidden", KEY_HIDDEN, "H", 0, "default 128", 0},
            {"ffn", KEY_FFN, "F", 0, "default 256", 0},
            {"experts", KEY_EXPERTS, "E", 0, "default 16", 0},
            {"top-k", KEY_TOP_K, "K", 0, "default 4", 0},
            {"tokens", KEY_TOKENS, "N", 0, "default 256", 0},
            {"dtype", KEY_DTYPE, "TYPE", 0, "f32, f16, bf16, q8_0 or q4_k; default f32", 0},
            {"file", KEY_FILE, "PATH", 0,
             "a file that is created with the experts unless it has them, to stream them cold; "
             "without it they are in memory",
             0},
            {"ram", KEY_RAM, "SIZE", 0, "room for experts with --file; default: all, at most 1 GiB", 0},
            {"distinct", KEY_DISTINCT, "D", 0, "stored experts that stand for all; default: all", 0},
            {"kernels", KEY_KERNELS, "K", 0, "auto, ref, ...; default auto", 0},
            {"io", KEY_IO, "MODE", 0, "auto, uring, pread, buffered; default auto", 0},
            {NULL, 't', "N", 0, "threads; default: physical cores", 0},
            {"json", KEY_JSON, NULL, 0, "one object on standard output", 0},
            {0}},
    .parser = parse,
    .doc = "Measure one layer with random experts, beside this machine's limits.\v"
           "Example: odmoe bench-layer --hidden 128 --ffn 256 --experts 16 --top-k 4 --tokens 256 --json",
    .children = (const struct argp_child[]){{&help_argp, 0, NULL, 0}, {0}},
};

/* About normally distributed: the sum of four uniform numbers. */
static void fill_normal(float *out, int64_t n, float scale, uint64_t seed)
{
    for (int64_t i = 0; i < n; i++) {
        float sum = 0;
        for (int j = 0; j < 4; j++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            sum += (float)(seed >> 40) * 0x1p-24f - 0.5f;
        }
        out[i] = sum * 1.7320508f * scale;
    }
}

typedef struct bench_result {
    double seconds;
    int calls;
    odmoe_source_counters counters;
    int32_t distinct; /* stored experts that the tokens needed */
    int32_t experts;  /* experts that they needed */
    int64_t chunk;
} bench_result;

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static odmoe_status measure_calls(const bench_options *o, odmoe_layer *layer, const float *x, float *y, bench_result *r,
                                  odmoe_error *err)
{
    double times[CALLS_MOST], start = now_seconds();
    odmoe_status status = ODMOE_OK;
    if (!o->file) /* the first call warms up */
        status = odmoe_layer_forward(layer, 0, x, o->tokens, y, NULL, err);
    int most = o->file ? 1 : CALLS_MOST;
    for (r->calls = 0; !status && r->calls < most; r->calls++) {
        if (r->calls >= CALLS_LEAST && now_seconds() - start > CALLS_SECONDS)
            break;
        double since = now_seconds();
        status = odmoe_layer_forward(layer, 0, x, o->tokens, y, NULL, err);
        times[r->calls] = now_seconds() - since;
    }
    if (status)
        return status;
    qsort(times, (size_t)r->calls, sizeof *times, compare);
    r->seconds = times[r->calls / 2];
    return ODMOE_OK;
}

static void count_experts(const bench_options *o, odmoe_layer *layer, bench_result *r)
{
    odmoe_layer_stats stats = {.size = sizeof stats};
    uint64_t *counts = must_alloc((size_t)o->shape.experts, sizeof *counts);
    if (!odmoe_layer_stats_get(layer, 0, &stats, counts, NULL)) {
        int32_t last = -1;
        for (int32_t e = 0; e < o->shape.experts; e++) {
            int32_t stored = (int32_t)((int64_t)e * o->shape.distinct / o->shape.experts);
            r->experts += counts[e] > 0;
            r->distinct += counts[e] && stored != last;
            last = counts[e] ? stored : last;
        }
    }
    free(counts);
}

static int measure_layer(const bench_options *o, random_experts *experts, bench_result *r)
{
    odmoe_error err;
    odmoe_layer *layer = NULL;
    odmoe_source_ops ops;
    odmoe_layer_options lo;
    int64_t H = o->shape.hidden, E = o->shape.experts;
    float *router = must_alloc((size_t)(E * H), sizeof *router);
    float *x = must_alloc((size_t)(o->tokens * H), sizeof *x), *y = must_alloc((size_t)(o->tokens * H), sizeof *y);
    const float *weights = router;
    fill_normal(router, E * H, 1 / sqrtf((float)H), 1);
    fill_normal(x, o->tokens * H, 1, 2);
    memset(y, 0, (size_t)(o->tokens * H) * sizeof *y); /* its pages are there before the clock runs */
    random_experts_table(experts, &ops);
    odmoe_layer_options_init(&lo);
    lo.hidden = (int32_t)H;
    lo.ffn = o->shape.ffn;
    lo.experts = (int32_t)E;
    lo.top_k = o->top_k;
    lo.weights = &weights;
    lo.source = &ops;
    lo.threads = o->threads;
    lo.kernels = o->kernels;
    odmoe_status status = odmoe_layer_create(&lo, &layer, &err);
    if (!status) {
        r->chunk = odmoe_layer_chunk(layer);
        status = measure_calls(o, layer, x, y, r, &err);
    }
    if (!status) {
        r->counters = random_experts_counters(experts);
        count_experts(o, layer, r);
    }
    odmoe_layer_free(layer);
    free(router);
    free(x);
    free(y);
    return status ? fail(&err) : STATUS_DONE;
}

static double disk_limit(const bench_options *o)
{
    uint64_t bytes = expert_bytes(&o->shape) / 4096 * 4096;
    limits_pattern p = {.block = bytes < 4096         ? 4096
                                 : bytes < DISK_BLOCK ? bytes
                                                      : DISK_BLOCK,
                        .depth = DISK_DEPTH,
                        .bytes = DISK_BYTES};
    return o->file ? limits_disk(o->file, &p) : 0;
}

static void report(const bench_options *o, const bench_result *r, double peak, double memory, double disk)
{
    double flops = (double)o->tokens * o->top_k * 6.0 * o->shape.hidden * o->shape.ffn;
    double tps = (double)o->tokens / r->seconds, gflops = flops / r->seconds * 1e-9;
    double read_gbps = r->counters.read_seconds > 0 ? (double)r->counters.bytes / r->counters.read_seconds * 1e-9 : 0;
    if (o->json) {
        json_print(json_pack("{sf sf sf sI sf si si sI sf sf sf sf si}", "seconds", r->seconds, "tokens_per_second",
                             tps, "gflops", gflops, "bytes_read", (json_int_t)r->counters.bytes, "read_seconds",
                             r->counters.read_seconds, "distinct_experts", r->distinct, "experts", r->experts, "chunk",
                             (json_int_t)r->chunk, "stall_seconds", r->counters.stall_seconds, "peak_gflops", peak,
                             "memory_gbps", memory, "disk_gbps", disk, "calls", r->calls),
                   stdout);
        return;
    }
    printf("%.3f ms, %.0f tokens/s, %.1f GFLOP/s (%.0f%% of %.1f), %d experts", r->seconds * 1e3, tps, gflops,
           100 * gflops / peak, peak, r->experts);
    if (r->distinct < r->experts)
        printf(" stored as %d", r->distinct);
    if (o->file)
        printf("; read %.1f MB at %.2f GB/s (disk %.2f), stalled %.3f s", (double)r->counters.bytes * 1e-6, read_gbps,
               disk, r->counters.stall_seconds);
    printf("; memory %.1f GB/s\n", memory);
}

int command_bench_layer(int argc, char **argv)
{
    bench_options o = {.shape = {.hidden = 128, .ffn = 256, .experts = 16}, .top_k = 4, .tokens = 256};
    parse_options(&bench_argp, argc, argv, &o);
    int status = STATUS_FAILED, cores = (int)sysconf(_SC_NPROCESSORS_ONLN);
    int threads = o.threads ? o.threads : cores;
    bench_result r = {0};
    /* limits before and after would only add noise: once, before, while the machine is as idle as it will be */
    double peak = limits_gflops(threads), memory = limits_memory(threads);
    random_experts *experts =
        o.file ? random_experts_file(&o.shape, o.file, o.ram, o.io, &status) : random_experts_memory(&o.shape);
    if (!experts)
        return status;
    double disk = disk_limit(&o);
    status = measure_layer(&o, experts, &r);
    random_experts_free(experts);
    if (status == STATUS_DONE)
        report(&o, &r, peak, memory, disk);
    return status;
}
