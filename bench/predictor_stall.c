/* predictor_stall.c - what a predictor's guesses are worth: the model's layers with experts as an odmoe_layer of their
 * own, fed with what the routers of the model saw, token by token, their experts read from the model's file into a
 * small cache. Attention is not there, so guesses have less time than in the model: between two layers the caller works
 * for BETWEEN seconds in its place. Contestants take a piece each in turn, so that a disk that changes changes for all.
 */
#include "bench_predictors.h"

#define BETWEEN 100e-6

typedef struct runner {
    const char *name;
    odmoe_source *source;
    odmoe_layer *layer;
    double seconds;
} runner;

struct stall_bench {
    int n;
    runner runner[KINDS + 1];
    uint64_t cache;
    int64_t tokens;
    int layers;
    float *y;
};

static void open_source(runner *r, const bench *b, uint64_t cache)
{
    static const odmoe_expert_tensor tensors[] = {{"blk.{layer}.ffn_gate_exps.weight", ODMOE_GATE, 0, 0},
                                                  {"blk.{layer}.ffn_up_exps.weight", ODMOE_UP, 0, 0},
                                                  {"blk.{layer}.ffn_down_exps.weight", ODMOE_DOWN, 0, 0}};
    const model_config *c = &b->model->m.config;
    odmoe_source_options o;
    odmoe_error err;
    odmoe_source_options_init(&o);
    o.path = b->path;
    o.tensors = tensors;
    o.n_tensors = 3;
    o.layers = b->layers;
    o.experts = b->experts;
    o.hidden = (int32_t)b->hidden;
    o.ffn = (int32_t)c->expert_ffn;
    o.first_layer = c->layers - b->layers;
    o.cache_bytes = cache;
    o.io = "pread"; /* what slow_disk.c can hold back */
    check(odmoe_source_open(&o, &r->source, &err), &err);
}

static void open_layer(runner *r, const bench *b, const odmoe_predictor *predictor)
{
    odmoe_source_ops table = {.size = sizeof table};
    odmoe_layer_options o;
    odmoe_error err;
    odmoe_source_table(r->source, &table);
    odmoe_layer_options_init(&o);
    o.layers = b->layers;
    o.hidden = (int32_t)b->hidden;
    o.ffn = (int32_t)b->model->m.config.expert_ffn;
    o.experts = b->experts;
    o.top_k = b->top_k;
    o.weights = (const float *const *)b->routers;
    o.source = &table;
    o.predictor = predictor;
    check(odmoe_layer_create(&o, &r->layer, &err), &err);
}

stall_bench *stall_open(bench *b, uint64_t cache)
{
    stall_bench *s = room(1, sizeof *s);
    s->cache = cache;
    s->layers = b->layers;
    s->y = room((size_t)b->hidden, sizeof *s->y);
    for (; s->n <= b->kinds; s->n++) {
        runner *r = &s->runner[s->n];
        r->name = s->n ? odmoe_expert_predictor_at(s->n - 1) : "none";
        open_source(r, b, cache);
        open_layer(r, b, s->n ? &b->kind[s->n - 1].p : NULL);
    }
    return s;
}

void stall_piece(stall_bench *s, const bench *b, int64_t n)
{
    odmoe_error err;
    for (int i = 0; i < s->n; i++) {
        runner *r = &s->runner[i];
        double start = now();
        for (int64_t token = 0; token < n; token++)
            for (int l = 0; l < b->layers; l++) {
                const float *x = b->x + ((int64_t)l * PIECE + token) * b->hidden;
                check(odmoe_layer_forward(r->layer, l, x, 1, s->y, NULL, &err), &err);
                for (double until = now() + BETWEEN; now() < until;)
                    ;
            }
        r->seconds += now() - start;
    }
    s->tokens += n;
}

void stall_print(const stall_bench *s)
{
    double none = 0, none_read = 0;
    printf("\nexperts' cache %.2f MB, %lld tokens, %.0f us of other work between layers\n\n", 1e-6 * (double)s->cache,
           (long long)s->tokens, 1e6 * BETWEEN);
    printf("| kind | tokens/s | stall, ms a token | MB read a token | hits | stall removed, ms a MB more | no guess in "
           "time |\n");
    printf("|---|---|---|---|---|---|---|\n");
    for (int i = 0; i < s->n; i++) {
        const runner *r = &s->runner[i];
        double stall = 0, bytes = 0, hits = 0, all = 0, asked = 0, failed = 0;
        for (int l = 0; l < s->layers; l++) {
            odmoe_layer_stats stats = {.size = sizeof stats};
            odmoe_error err;
            check(odmoe_layer_stats_get(r->layer, l, &stats, NULL, &err), &err);
            stall += stats.stall_seconds;
            bytes += (double)stats.bytes;
            hits += (double)stats.hits;
            all += (double)(stats.hits + stats.misses);
            asked += (double)stats.predictions;
            failed += (double)stats.prediction_failures;
        }
        double n = (double)s->tokens, stall_ms = 1e3 * stall / n, read = 1e-6 * bytes / n;
        printf("| %s | %.1f | %.2f | %.2f | %.1f%% |", r->name, n / r->seconds, stall_ms, read, 100 * hits / all);
        if (i == 0) {
            none = stall_ms;
            none_read = read;
            printf(" – | – |\n");
        } else {
            printf(" %.2f | %.1f%% |\n", (none - stall_ms) / (read - none_read), 100 * failed / asked);
        }
    }
}

void stall_close(stall_bench *s)
{
    for (int i = 0; i < s->n; i++) {
        odmoe_layer_free(s->runner[i].layer);
        odmoe_source_close(s->runner[i].source);
    }
    free(s->y);
    free(s);
}
