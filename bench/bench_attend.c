/* bench_attend.c - attention over the cache of keys and values, beside the machine's limits measured in the same run.
 *
 * usage: bench_attend [-t THREADS] [-n POSITIONS] [-r RUNS] [TABLE [KV...]]
 *        default: 2 threads, 8192 positions, 3 runs, every table but ref, f16 q8_0 f32
 *
 * The cache is that of a model of 16 layers with 4 key/value heads of 128. Decode: 1, 4 or 8 queries (the heads that
 * share keys and values) over the whole cache, which is larger than the processor's, layer after layer as a token does
 * it; in ms a token and GB/s of keys and values. Prompt: many queries over causal ranges of the first 2,048 positions
 * of a head, in GFLOP/s of the products within the ranges. The best of RUNS. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/threads.h"
#include "kernels/kernels.h"
#include "bench.h"
#include "limits.h"

enum { LAYERS = 16, HEADS = 4, DIM = 128, MOST = 512, SPAN = 2048, WORKERS = 64, MOST_PAGES = 4096 };

static const char *const kv_names[KV_COUNT] = {[KV_F32] = "f32", [KV_F16] = "f16", [KV_Q8_0] = "q8_0"};

typedef struct work {
    const kernel_table *table;
    kv_type type;
    char *cache;  /* [LAYERS][keys, values][HEADS][positions] */
    size_t bytes; /* of a head's keys or values */
    int64_t positions, layer, m, last[MOST];
    const void *pages[WORKERS][2][MOST_PAGES]; /* of keys, of values */
    float q[MOST][DIM], out[WORKERS][MOST][DIM];
    _Alignas(64) char scratch[WORKERS][ATTEND_SCRATCH];
} work;

static char *head_of(const work *w, int64_t layer, int values, int64_t head)
{
    return w->cache + (size_t)((layer * 2 + values) * HEADS + head) * w->bytes;
}

/* The pages of one head of the layer. */
static const void *const *pages_of(work *w, int values, int64_t head, int worker)
{
    const void **page = w->pages[worker][values];
    for (int64_t i = 0; i < w->positions / ATTEND_BLOCK; i++)
        page[i] = head_of(w, w->layer, values, head) + (size_t)i * ATTEND_BLOCK * kv_bytes(w->type, DIM);
    return page;
}

static void attend_head(void *ctx, int64_t head, int worker)
{
    static const int64_t first[MOST];
    work *w = ctx;
    w->table->attend(&(attend_args){.type = w->type,
                                    .key_dim = DIM,
                                    .value_dim = DIM,
                                    .scale = 1 / sqrtf(DIM),
                                    .key_pages = pages_of(w, 0, head, worker),
                                    .value_pages = pages_of(w, 1, head, worker),
                                    .value_stride = (int64_t)kv_bytes(w->type, DIM),
                                    .n = w->m,
                                    .first = first,
                                    .last = w->last,
                                    .q = &w->q[0][0],
                                    .q_stride = DIM,
                                    .out = &w->out[worker][0][0],
                                    .out_stride = DIM,
                                    .scratch = w->scratch[worker]});
}

/* Seconds of `layers` layers; the best of several runs. */
static double seconds(pool *p, work *w, int layers, int runs)
{
    double best = 1e9;
    for (int i = 0; i < runs; i++) {
        double start = now();
        for (w->layer = 0; w->layer < layers; w->layer++)
            pool_run(p, HEADS, attend_head, w);
        double t = now() - start;
        best = t < best ? t : best;
    }
    return best;
}

/* One head's keys and values, copied to the others: what the numbers are costs no time. */
static void fill(work *w, int64_t positions)
{
    float x[DIM];
    uint32_t bits = 1;
    char *keys = head_of(w, 0, 0, 0), *values = head_of(w, 0, 1, 0);
    for (int64_t p = 0; p < positions; p++)
        for (int value = 0; value < 2; value++) {
            for (int c = 0; c < DIM; c++) {
                bits = bits * 1664525u + 1013904223u;
                x[c] = (float)(bits >> 8) * 0x1p-23f - 1;
            }
            if (value)
                w->table->kv_store(w->type, x, values + (size_t)p * kv_bytes(w->type, DIM), DIM);
            else
                w->table->key_store(w->type, x, keys + (size_t)(p - p % ATTEND_BLOCK) * kv_bytes(w->type, DIM),
                                    p % ATTEND_BLOCK, DIM);
        }
    for (int64_t layer = 0; layer < LAYERS; layer++)
        for (int64_t head = 0; head < HEADS; head++)
            if (layer || head) {
                memcpy(head_of(w, layer, 0, head), keys, w->bytes);
                memcpy(head_of(w, layer, 1, head), values, w->bytes);
            }
}

static void bench(pool *p, work *w, int64_t positions, int runs, double gbps, double peak)
{
    static const int64_t few[] = {1, 4, 8}, many[] = {64, 256, MOST};
    printf("%-8s %-5s", w->table->name, kv_names[w->type]);
    for (int i = 0; i < 3; i++) {
        w->m = few[i];
        for (int64_t k = 0; k < w->m; k++)
            w->last[k] = positions;
        double t = seconds(p, w, LAYERS, runs), rate = 2.0 * LAYERS * HEADS * (double)w->bytes / t / 1e9;
        printf("  %6.2f ms %5.1f GB/s %3.0f%%", t * 1e3, rate, 100 * rate / gbps);
    }
    for (int i = 0; i < 3; i++) {
        double products = 0;
        w->m = many[i];
        for (int64_t k = 0; k < w->m; k++) { /* rows of HEADS queries at one position, the last row the last */
            w->last[k] = (positions < SPAN ? positions : SPAN) - (w->m - 1 - k) / HEADS;
            products += 2.0 * DIM * (double)w->last[k];
        }
        double rate = 2 * products * HEADS / seconds(p, w, 1, 2 * runs) / 1e9;
        printf("  %6.1f GFLOP/s %3.0f%%", rate, 100 * rate / peak);
    }
    printf("\n");
    fflush(stdout);
}

int main(int argc, char **argv)
{
    int threads = 2, at = 1, runs = 3;
    int64_t positions = 8192;
    for (; at + 1 < argc && argv[at][0] == '-'; at += 2) {
        int value = atoi(argv[at + 1]);
        if (!strcmp(argv[at], "-t"))
            threads = value;
        else if (!strcmp(argv[at], "-n"))
            positions = value;
        else if (!strcmp(argv[at], "-r"))
            runs = value;
        else
            stop("bench_attend", "unknown option");
    }
    if (threads < 1 || threads > WORKERS || positions < MOST / HEADS || positions > MOST_PAGES * ATTEND_BLOCK ||
        positions % ATTEND_BLOCK || runs < 1)
        stop("bench_attend", "1 to 64 threads, whole blocks of 64 positions, 128 to 262144 of them, at least one run");
    const char *only = at < argc ? argv[at++] : NULL;
    odmoe_error err;
    pool *p;
    if (pool_create(threads, &p, &err))
        stop("bench_attend", "cannot start the threads");
    size_t most = 2 * LAYERS * HEADS * (size_t)positions * kv_bytes(KV_F32, DIM);
    static work w;
    w.cache = mem_pages_alloc(most, "the cache", &err);
    if (!w.cache)
        stop("bench_attend", "out of memory");
    for (int64_t i = 0; i < MOST * DIM; i++)
        w.q[i / DIM][i % DIM] = (float)(i * 7919 % 2001 - 1000) * 1e-3f;
    double gbps = limits_memory(threads), peak = limits_gflops(threads);
    printf("%d threads, %lld positions: memory %.1f GB/s, peak %.1f GFLOP/s (float32)\n", threads, (long long)positions,
           gbps, peak);
    printf("%-8s %-5s  %25s  %25s  %25s  %19s  %19s  %19s\n", "table", "kv", "1 query", "4 queries", "8 queries",
           "64 queries", "256", "512");
    const kernel_table *table;
    static const kv_type types[] = {KV_F16, KV_Q8_0, KV_F32};
    for (int i = 0; (table = kernel_table_at(i)); i++) {
        if (only ? strcmp(only, table->name) : !strcmp("ref", table->name))
            continue;
        for (int k = 0; k < KV_COUNT; k++)
            if (chosen(argc - at, argv + at, kv_names[types[k]])) {
                w.table = table;
                w.type = types[k];
                w.positions = positions;
                w.bytes = (size_t)positions * kv_bytes(w.type, DIM);
                fill(&w, positions);
                bench(p, &w, positions, runs, gbps, peak);
            }
    }
    mem_pages_free(w.cache, most);
    pool_free(p);
    return 0;
}
