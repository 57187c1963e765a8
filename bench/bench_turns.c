/* bench_turns.c - several sequences that decode under a cache: all in each pass, or some of them in turn?
 *
 * usage: bench_turns [-n SEQUENCES] [-s STEPS] [-p PROMPT] [-t THREADS] [--ram BYTES] [--same] [--greedy] [--cache EXPERTS,...]
 *                    [--turns GROUP:STEPS,...] [--policies NAME,...] MODEL.gguf | TRACE.jsonl
 *
 * Of a model, n sequences decode together once, and the choices of its routers are kept: prompts of random ids, or --same, one
 * prompt for all; then tokens drawn at temperature 1, or --greedy, the likeliest. Of a trace, sequence k begins at
 * k / n of it. What a sequence chooses does not depend on its neighbours, so each schedule is a replay: GROUP sequences take
 * STEPS steps together, then the next ones. Experts count as equally large.
 *
 * Prints a line for each cache, policy (belady: the optimum) and schedule: experts read for a token, hits, and different
 * experts in a pass. */
#include <math.h>

#include "base/mem.h"
#include "bench.h"
#include "odmoe.h"
#include "store/replay.h"

#define USAGE                                                                                                  \
    "usage: bench_turns [-n SEQUENCES] [-s STEPS] [-p PROMPT] [-t THREADS] [--ram BYTES] [--same] [--greedy] " \
    "[--cache EXPERTS,...] [--turns GROUP:STEPS,...] [--policies NAME,...] MODEL.gguf | TRACE.jsonl"

typedef struct bench {
    int n, steps, prompt, layers, experts, top_k;
    bool same, greedy;
    odmoe_options options;
    int32_t *chosen; /* [n][steps][layers][top_k] */
    int step;        /* being recorded */
    int32_t *token;  /* [n] the next one */
    uint64_t *seed;  /* [n] */
    int32_t vocab;
} bench;

static void check(odmoe_status status, const odmoe_error *err)
{
    if (status)
        stop("bench_turns", err->message);
}

static void *take(size_t n, size_t size)
{
    void *p = calloc(n, size);
    if (!p)
        stop("bench_turns", "no memory");
    return p;
}

static double draw(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (double)(*seed >> 11) / 9007199254740992.0;
}

static int32_t *choices(const bench *b, int sequence, int step, int layer)
{
    return b->chosen + (((size_t)sequence * (size_t)b->steps + (size_t)step) * (size_t)b->layers + (size_t)layer) *
                           (size_t)b->top_k;
}

/* ---- of a model ---- */

static void keep(void *user, const odmoe_tap *tap)
{
    bench *b = user;
    for (int64_t i = 0; tap->topk && b->step >= 0 && i < tap->n; i++)
        memcpy(choices(b, (int)(tap->first + i), b->step, tap->layer), tap->topk + i * b->top_k,
               (size_t)b->top_k * sizeof *b->chosen);
}

static void go_on(void *user, int32_t sequence, int32_t token, const float *logits)
{
    bench *b = user;
    double most = -INFINITY, sum = 0;
    for (int32_t i = 0; i < b->vocab; i++)
        if (logits[i] > most) {
            most = logits[i];
            b->token[sequence] = i;
        }
    if (b->greedy)
        return;
    for (int32_t i = 0; i < b->vocab; i++)
        sum += exp(logits[i] - most);
    double at = draw(&b->seed[sequence]) * sum;
    for (int32_t i = 0; i < b->vocab && at >= 0; i++) {
        b->token[sequence] = i;
        at -= exp(logits[i] - most);
    }
}

static void forward(bench *b, odmoe_model *model, odmoe_sequence *sequence, int32_t *prompts)
{
    odmoe_batch batch;
    odmoe_error err;
    odmoe_batch_init(&batch);
    batch.sequences = sequence;
    batch.n = b->n;
    batch.on_logits = go_on;
    batch.on_tap = keep;
    batch.user = b;
    for (int k = 0; k < b->n; k++) {
        sequence[k].tokens = prompts ? prompts + (size_t)k * (size_t)b->prompt : &b->token[k];
        sequence[k].n = prompts ? b->prompt : 1;
        sequence[k].phase = prompts ? ODMOE_PHASE_PROMPT : ODMOE_PHASE_DECODE;
        sequence[k].want_logits = ODMOE_LOGITS_LAST;
    }
    check(odmoe_forward(model, &batch, &err), &err);
}

static void record(bench *b, const char *path)
{
    odmoe_model *model;
    odmoe_error err;
    odmoe_info info = {.size = sizeof info};
    check(odmoe_inspect(path, &info, &err), &err);
    b->layers = info.moe_layers;
    b->experts = info.experts;
    b->top_k = info.top_k;
    b->vocab = info.vocab;
    b->options.sessions = b->n;
    b->options.context = b->prompt + b->steps + 1;
    b->chosen = take((size_t)b->n * (size_t)b->steps * (size_t)b->layers * (size_t)b->top_k, sizeof *b->chosen);
    b->token = take((size_t)b->n, sizeof *b->token);
    b->seed = take((size_t)b->n, sizeof *b->seed);
    odmoe_sequence *sequence = take((size_t)b->n, sizeof *sequence);
    int32_t *prompts = take((size_t)b->n * (size_t)b->prompt, sizeof *prompts);
    check(odmoe_model_open(path, &b->options, &model, &err), &err);
    for (int k = 0; k < b->n; k++) {
        uint64_t seed = b->same ? 1 : 1 + (uint64_t)k;
        check(odmoe_session_create(model, b->options.context, &sequence[k].session, &err), &err);
        for (int i = 0; i < b->prompt; i++)
            prompts[(size_t)k * (size_t)b->prompt + (size_t)i] = (int32_t)(draw(&seed) * b->vocab);
        b->seed[k] = 1000 + (uint64_t)k;
    }
    b->step = -1;
    forward(b, model, sequence, prompts);
    for (b->step = 0; b->step < b->steps; b->step++)
        forward(b, model, sequence, NULL);
    for (int k = 0; k < b->n; k++)
        odmoe_session_free(sequence[k].session);
    odmoe_model_close(model);
    free(sequence);
    free(prompts);
}

/* ---- of a trace ---- */

static void cut(bench *b, const char *path)
{
    trace t;
    odmoe_error err;
    check(trace_read(path, &t, &err), &err);
    b->layers = t.layers;
    b->experts = t.experts;
    for (size_t i = 0; i < t.fetches; i++)
        b->top_k = t.fetch[i].size.phase == FETCH_DECODE && t.fetch[i].n > b->top_k ? t.fetch[i].n : b->top_k;
    int steps = 0;
    for (size_t i = 0; i < t.fetches; i++)
        steps += t.fetch[i].size.phase == FETCH_DECODE && t.fetch[i].layer == t.layers - 1;
    b->steps = steps;
    b->chosen = take((size_t)b->n * (size_t)steps * (size_t)b->layers * (size_t)b->top_k, sizeof *b->chosen);
    memset(b->chosen, -1, (size_t)b->n * (size_t)steps * (size_t)b->layers * (size_t)b->top_k * sizeof *b->chosen);
    for (int k = 0; k < b->n; k++) {
        int step = (steps - k * steps / b->n) % steps;
        for (size_t i = 0; i < t.fetches; i++) {
            const trace_fetch *f = &t.fetch[i];
            if (f->size.phase != FETCH_DECODE)
                continue;
            memcpy(choices(b, k, step, f->layer), t.expert + f->first, (size_t)f->n * sizeof *t.expert);
            if (f->layer == t.layers - 1)
                step = (step + 1) % steps;
        }
    }
    trace_clear(&t);
}

/* ---- schedules ---- */

static void add_pass(const bench *b, trace *t, const int *sequence, const int *step, int n)
{
    for (int layer = 0; layer < b->layers; layer++) {
        trace_fetch *f = &t->fetch[t->fetches++];
        *f = (trace_fetch){layer, {FETCH_DECODE, n, n}, (int32_t)t->uses, 0};
        for (int k = 0; k < n; k++)
            for (int i = 0; i < b->top_k; i++) {
                int32_t expert = choices(b, sequence[k], step[sequence[k]], layer)[i], at = f->first;
                if (expert < 0)
                    continue;
                while (at < f->first + f->n && t->expert[at] != expert)
                    at++;
                if (at == f->first + f->n) {
                    t->expert[at] = expert;
                    t->tokens[at] = 0;
                    f->n++;
                }
                t->tokens[at]++;
            }
        t->uses += (size_t)f->n;
    }
}

static void make(const bench *b, int group, int turn, trace *t)
{
    size_t fetches = (size_t)b->n * (size_t)b->steps * (size_t)b->layers;
    *t = (trace){.layers = b->layers, .experts = b->experts};
    t->fetch = take(fetches, sizeof *t->fetch);
    t->expert = take(fetches * (size_t)b->top_k, sizeof *t->expert);
    t->tokens = take(fetches * (size_t)b->top_k, sizeof *t->tokens);
    t->expert_bytes = take((size_t)b->layers, sizeof *t->expert_bytes);
    for (int i = 0; i < b->layers; i++)
        t->expert_bytes[i] = TRACE_EXPERT_BYTES;
    int *step = take((size_t)b->n, sizeof *step), *sequence = take((size_t)b->n, sizeof *sequence);
    for (bool more = true; more;) {
        more = false;
        for (int first = 0; first < b->n; first += group) {
            int n = first + group <= b->n ? group : b->n - first;
            for (int k = 0; k < n; k++)
                sequence[k] = first + k;
            for (int i = 0; i < turn && step[first] < b->steps; i++) {
                add_pass(b, t, sequence, step, n);
                for (int k = 0; k < n; k++)
                    step[first + k]++;
            }
            more |= step[first] < b->steps;
        }
    }
    free(step);
    free(sequence);
}

static void replay(const bench *b, const char *caches, const char *policies, const char *turns)
{
    char list[200];
    for (const char *at = turns; at; at = strchr(at, ','), at += at != NULL) {
        int group = 1, turn = 1;
        if (sscanf(at, "%d:%d", &group, &turn) < 1 || group < 1 || turn < 1)
            stop("bench_turns", "--turns: GROUP:STEPS, 1 or more of each");
        trace t;
        make(b, group, turn, &t);
        for (const char *c = caches; c; c = strchr(c, ','), c += c != NULL) {
            snprintf(list, sizeof list, "%s", policies);
            for (char *save, *name = strtok_r(list, ",", &save); name; name = strtok_r(NULL, ",", &save)) {
                replay_result r;
                odmoe_error err;
                check(replay_run(&t, strtoull(c, NULL, 10) * TRACE_EXPERT_BYTES, name, true, &r, &err), &err);
                printf("%d sequences, cache %4d, %d for %2d steps, %-8s: %6.1f read a token, %4.1f%% hits, %5.1f "
                       "different a pass\n",
                       b->n, atoi(c), group, turn, name, (double)(r.fetched - r.hits) / b->n / b->steps, r.hit_pct_cum,
                       (double)r.fetched * b->layers / (double)t.fetches);
            }
        }
        trace_clear(&t);
    }
}

int main(int argc, char **argv)
{
    bench b = {.n = 4, .steps = 64, .prompt = 16};
    const char *path = NULL, *caches = "128", *policies = "next,belady", *turns = "1:64,1:8,2:8,4:1";
    odmoe_options_init(&b.options);
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (!strcmp(argv[i], "--same"))
            b.same = true;
        else if (!strcmp(argv[i], "--greedy"))
            b.greedy = true;
        else if (!strcmp(argv[i], "-n") && ++i)
            b.n = atoi(value);
        else if (!strcmp(argv[i], "-s") && ++i)
            b.steps = atoi(value);
        else if (!strcmp(argv[i], "-p") && ++i)
            b.prompt = atoi(value);
        else if (!strcmp(argv[i], "-t") && ++i)
            b.options.threads = atoi(value);
        else if (!strcmp(argv[i], "--ram") && ++i)
            b.options.ram_bytes = strtoull(value, NULL, 10);
        else if (!strcmp(argv[i], "--cache") && ++i)
            caches = value;
        else if (!strcmp(argv[i], "--policies") && ++i)
            policies = value;
        else if (!strcmp(argv[i], "--turns") && ++i)
            turns = value;
        else if (argv[i][0] != '-' && !path)
            path = argv[i];
        else
            stop("bench_turns", USAGE);
    }
    if (!path || b.n < 1 || b.steps < 1 || b.prompt < 1)
        stop("bench_turns", USAGE);
    size_t length = strlen(path);
    bool is_model = length > 5 && !strcmp(path + length - 5, ".gguf");
    if (is_model)
        record(&b, path);
    else
        cut(&b, path);
    replay(&b, caches, policies, turns);
    free(b.chosen);
    free(b.token);
    free(b.seed);
    return 0;
}
