/* bench_prefetch.c - what prefetching is worth in a model's decoding, and what perfect prediction would give.
 *
 * usage: bench_prefetch [-n TOKENS] [-r ROUNDS] [-t THREADS] [--ram BYTES] [--io MODE] [--modes off,auto,oracle,liar]
 *                       [--text FILE] [--accuracy] [--trace FILE] MODEL
 *
 * A first run, not timed, records what each layer's router chooses for each token. Then each round decodes the same
 * tokens in each mode in turn, each time with a model opened anew, from an empty cache:
 *
 *   off     nothing is prefetched
 *   auto    the model's own routers, applied early; passes with and without are timed
 *   always  the same without the trial; always1 looks one layer ahead only, always2 two, ...
 *   oracle  the recorded choices are the candidates: each of them is right
 *   liar    the candidates are experts that are not chosen; the trial decides
 *
 * Prints a JSON object a line: the mode, tok/s, the median of a token's time, counters, and how much of what a token
 * chooses the token before chose (reuse). --accuracy: then how often candidates were right, by distance and rank. --trace: a line each time that a later layer's router is looked at, and at
 * each token's end: token, what, layer, seconds, seconds waited for the disk so far (bench/timeline.py). */
#include "api/handles.h"
#include "bench.h"

#define USAGE                                                                                              \
    "usage: bench_prefetch [-n TOKENS] [-r ROUNDS] [-t THREADS] [--ram BYTES] [--io MODE] [--modes LIST] " \
    "[--text FILE] [--accuracy] [--trace FILE] MODEL"

typedef struct bench {
    const char *path, *text;
    odmoe_options options;
    int n, rounds;
    bool accuracy;
    int32_t *tokens;              /* [n] */
    int layers, top_k, experts;   /* layers: those with experts */
    int32_t *chosen;              /* [n, layers, top_k] */
    double reuse;                 /* share of a token's experts that the token before chose as well */
    int token;                    /* being decoded */
    const model_config *recorded; /* of the model whose choices are being recorded */
    FILE *trace;                  /* NULL: none */
    lookahead_route routers;
    model *traced;
    bool lies;
    int32_t lie[64];
} bench;

static void check(odmoe_status status, const odmoe_error *err)
{
    if (status)
        stop("bench_prefetch", err->message);
}

static odmoe_model *open_model(bench *b, const char *prefetch)
{
    odmoe_model *handle;
    odmoe_error err;
    b->options.prefetch = prefetch;
    check(odmoe_model_open(b->path, &b->options, &handle, &err), &err);
    return handle;
}

/* ---- the course of a token, for bench/timeline.py ---- */

static void trace_event(const bench *b, const char *what, int layer, const model *m)
{
    store_totals t;
    store_totals_get(m->store, &t);
    fprintf(b->trace, "%d %s %d %.6f %.6f\n", b->token, what, layer, now(), 1e-9 * (double)t.stall_ns);
}

static lookahead_choice traced(void *ctx, int moe_layer, int64_t n)
{
    bench *b = ctx;
    trace_event(b, "look", moe_layer, b->traced);
    return b->routers(b->traced, moe_layer, n);
}

/* ---- recording ---- */

/* Of the present token in a layer with experts: [top_k]. */
static int32_t *chosen_in(const bench *b, int moe_layer)
{
    return b->chosen + ((size_t)b->token * (size_t)b->layers + (size_t)moe_layer) * (size_t)b->top_k;
}

static void keep(void *user, const odmoe_tap *tap)
{
    bench *b = user;
    if (tap->topk)
        memcpy(chosen_in(b, b->recorded->layer[tap->layer].moe_index), tap->topk, (size_t)b->top_k * sizeof *b->chosen);
}

static void decode(bench *b, odmoe_model *handle, bool record, double *seconds)
{
    odmoe_session *session;
    odmoe_error err;
    odmoe_batch batch;
    check(odmoe_session_create(handle, b->n, &session, &err), &err);
    odmoe_batch_init(&batch);
    batch.n = 1;
    batch.on_tap = record ? keep : NULL;
    batch.user = b;
    float *logits = malloc((size_t)handle->m.config.vocab * sizeof *logits);
    batch.logits = logits;
    for (b->token = 0; b->token < b->n; b->token++) {
        odmoe_sequence one = {.session = session,
                              .tokens = &b->tokens[b->token],
                              .n = 1,
                              .phase = ODMOE_PHASE_DECODE,
                              .want_logits = ODMOE_LOGITS_LAST};
        batch.sequences = &one;
        double start = now();
        check(odmoe_forward(handle, &batch, &err), &err);
        seconds[b->token] = now() - start;
        if (b->trace && !record)
            trace_event(b, "end", 0, &handle->m);
    }
    free(logits);
    odmoe_session_free(session);
}

/* ---- candidates from the recording ---- */

static lookahead_choice replay(void *ctx, int moe_layer, int64_t n)
{
    bench *b = ctx;
    const int32_t *right = chosen_in(b, moe_layer);
    if (!b->lies)
        return (lookahead_choice){right, NULL};
    for (int i = 0, e = 0; i < b->top_k && e < b->experts; e++) {
        bool wanted = false;
        for (int k = 0; k < b->top_k; k++)
            wanted |= right[k] == (e + b->token) % b->experts;
        if (!wanted)
            b->lie[i++] = (e + b->token) % b->experts;
    }
    return (lookahead_choice){b->lie, NULL};
}

/* ---- one run ---- */

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print_accuracy(const model_prefetch *p)
{
    for (int d = 0; d < PREFETCH_LOOKS; d++) {
        printf("  distance %d:", d);
        for (int rank = 0; rank < ACCURACY_RANKS; rank++) {
            const rank_tally *t = &p->engine.pooled[d].rank[rank];
            printf(" %.0f%%", 100 * t->right / t->seen);
        }
        printf("\n");
    }
}

/* Microseconds of one look at a later layer's router: the least of some rounds over all layers. */
static double look_us(model_prefetch *p, model *m)
{
    double least = 1e9;
    for (int round = 0; round < 50; round++) {
        double start = now();
        for (int l = 0; l < m->config.moe_layers; l++)
            p->route(p->route_ctx, l, 1);
        double us = 1e6 * (now() - start) / m->config.moe_layers;
        least = us < least ? us : least;
    }
    return least;
}

static void run(bench *b, const char *mode, int round)
{
    bool foretold = !strncmp(mode, "oracle", 6) || !strcmp(mode, "liar");
    int distances = atoi(mode + strcspn(mode, "123456789"));
    odmoe_model *handle = open_model(b, strcmp(mode, "off") ? "auto" : "off");
    model_prefetch *p = &handle->m.work.prefetch;
    double *seconds = calloc((size_t)b->n, sizeof *seconds), sum = 0;
    b->lies = !strcmp(mode, "liar");
    if (foretold) {
        p->route = replay;
        p->route_ctx = b;
    }
    if (b->trace && !foretold) {
        b->routers = p->route;
        b->traced = &handle->m;
        p->route = traced;
        p->route_ctx = b;
    }
    p->always = !strncmp(mode, "always", 6) || !strncmp(mode, "oracle", 6);
    if (distances)
        p->engine.distances = distances;
    decode(b, handle, false, seconds);
    odmoe_stats s = {.size = sizeof s};
    odmoe_stats_get(handle, &s);
    for (int i = 0; i < b->n; i++)
        sum += seconds[i];
    qsort(seconds, (size_t)b->n, sizeof *seconds, ascending);
    printf("{\"mode\": \"%s\", \"round\": %d, \"gen_tps\": %.3f, \"median_ms\": %.2f, \"stall_ms\": %.2f, ", mode,
           round, b->n / sum, 1e3 * seconds[b->n / 2], 1e3 * s.stall_seconds / b->n);
    printf("\"read_ms\": %.2f, \"compute_ms\": %.2f, \"mb_read\": %.1f, ", 1e3 * s.read_seconds / b->n,
           1e3 * s.compute_seconds / b->n, 1e-6 * (double)s.bytes_read / b->n);
    printf("\"mb_ahead\": %.1f, \"mb_ahead_used\": %.1f, \"hits\": %.4f, \"reuse\": %.4f}\n",
           1e-6 * (double)s.prefetch_bytes_read / b->n, 1e-6 * (double)s.prefetch_bytes_used / b->n,
           (double)s.cache_hits / (double)(s.cache_hits + s.cache_misses), b->reuse);
    if (b->accuracy && strcmp(mode, "off"))
        print_accuracy(p);
    if (b->accuracy && p->possible && !foretold)
        printf("  one look takes %.1f us\n", look_us(p, &handle->m));
    fflush(stdout);
    free(seconds);
    odmoe_model_close(handle);
}

static void take_tokens(bench *b, const odmoe_model *handle)
{
    uint64_t random = 1;
    odmoe_error err;
    b->tokens = calloc((size_t)b->n, sizeof *b->tokens);
    for (int i = 0; i < b->n; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        b->tokens[i] = (int32_t)((random >> 33) % (uint64_t)handle->m.config.vocab);
    }
    if (!b->text)
        return;
    size_t bytes = 1 << 20, n;
    char *text = malloc(bytes);
    FILE *f = fopen(b->text, "rb");
    if (!f || !handle->tokenizer.t)
        stop(b->text, f ? "the model has no tokenizer" : "cannot be read");
    bytes = fread(text, 1, bytes, f);
    fclose(f);
    check(odmoe_tokenize(odmoe_model_tokenizer(handle), text, bytes, 0, b->tokens, (size_t)b->n, &n, &err), &err);
    b->n = (int64_t)n < b->n ? (int)n : b->n;
    free(text);
}

static void measure_reuse(bench *b)
{
    int64_t again = 0, row = (int64_t)b->layers * b->top_k, pairs = (b->n - 1) * row;
    for (int64_t i = row; i < b->n * row; i++) {
        const int32_t *before = b->chosen + (i - row) / b->top_k * b->top_k;
        for (int k = 0; k < b->top_k; k++)
            again += before[k] == b->chosen[i];
    }
    b->reuse = pairs > 0 ? (double)again / (double)pairs : 0;
}

static void record(bench *b)
{
    odmoe_model *handle = open_model(b, "off");
    const model_config *c = &handle->m.config;
    b->recorded = c;
    b->layers = c->moe_layers;
    b->top_k = c->router.top_k;
    b->experts = c->router.experts;
    if (b->top_k > 64)
        stop("bench_prefetch", "a model with top-k up to 64 is needed");
    take_tokens(b, handle);
    b->chosen = calloc((size_t)b->n * (size_t)b->layers * (size_t)b->top_k, sizeof *b->chosen);
    double *ignored = calloc((size_t)b->n, sizeof *ignored);
    decode(b, handle, true, ignored);
    measure_reuse(b);
    free(ignored);
    odmoe_model_close(handle);
}

int main(int argc, char **argv)
{
    bench b = {.n = 48, .rounds = 3};
    char modes[128] = "off,auto,oracle";
    odmoe_options_init(&b.options);
    for (; argc > 2 && argv[1][0] == '-'; argv += 2, argc -= 2) {
        if (!strcmp(argv[1], "--accuracy")) {
            b.accuracy = true;
            argv--;
            argc++;
        } else if (!strcmp(argv[1], "-n"))
            b.n = atoi(argv[2]);
        else if (!strcmp(argv[1], "-r"))
            b.rounds = atoi(argv[2]);
        else if (!strcmp(argv[1], "--io"))
            b.options.io = argv[2];
        else if (!strcmp(argv[1], "-t"))
            b.options.threads = atoi(argv[2]);
        else if (!strcmp(argv[1], "--text"))
            b.text = argv[2];
        else if (!strcmp(argv[1], "--trace"))
            b.trace = fopen(argv[2], "w");
        else if (!strcmp(argv[1], "--modes"))
            snprintf(modes, sizeof modes, "%s", argv[2]);
        else if (strcmp(argv[1], "--ram") || odmoe_size_parse(argv[2], &b.options.ram_bytes, NULL))
            stop("bench_prefetch", USAGE);
    }
    if (argc != 2 || b.n < 1)
        stop("bench_prefetch", USAGE);
    b.path = argv[1];
    b.options.context = b.n;
    record(&b);
    for (int round = 1; round <= b.rounds; round++) {
        char list[128], *rest = list;
        snprintf(list, sizeof list, "%s", modes);
        for (char *mode; (mode = strsep(&rest, ","));)
            run(&b, mode, round);
    }
    free(b.tokens);
    free(b.chosen);
    return 0;
}
