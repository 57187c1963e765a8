/* bench_predictors.c - how often each kind of predictor is right on a model's own routers, and how long a guess takes.
 *
 * usage: bench_predictors [-n TOKENS] [--stall CACHE] MODEL TEXT...
 *        -n       default: all tokens of the texts
 *        --stall  then the held-out tokens once more, their experts read from the file (GGUF) into CACHE bytes: what
 *                 guesses are worth (predictor_stall.c)
 *
 * The first three quarters of each text are for learning, in turn a piece of each; then learning is stopped and the
 * last quarters are guessed. The model runs over pieces of 512 tokens; its rows do not depend on how many go together,
 * so predictors are then shown them as decoding would: token by token, and of a token layer by layer. Prints tables in
 * Markdown, for bench/RESULTS.md and bench/plot_predictors.py:
 *
 *   of a later layer's top-k, the share that is among the best k, or 2k, of what was named one to four layers before
 *   microseconds of `observe` and `predict` for the next layer, on one thread, while learning and then
 *   the share among the best k of the next layer while learning, over what has been seen so far */
#include "bench_predictors.h"

#define USAGE "usage: bench_predictors [-n TOKENS] [--stall BYTES] MODEL TEXT..."

enum { PARTS = 8 };

typedef struct text {
    int32_t *tokens;
    int64_t n, held_out; /* where the last quarter begins */
} text;

static void keep(void *user, const odmoe_tap *tap)
{
    bench *b = user;
    if (!tap->input)
        return;
    size_t at = (size_t)b->model->m.config.layer[tap->layer].moe_index * PIECE + (size_t)tap->first;
    size_t n = (size_t)tap->n, hidden = (size_t)b->hidden, k = (size_t)b->top_k;
    memcpy(b->x + at * hidden, tap->input, n * hidden * sizeof *b->x);
    memcpy(b->topk + at * k, tap->topk, n * k * sizeof *b->topk);
    memcpy(b->topw + at * k, tap->topw, n * k * sizeof *b->topw);
}

static void run_model(bench *b, const int32_t *tokens, int64_t n)
{
    odmoe_error err;
    odmoe_session_reset(b->session);
    odmoe_sequence piece = {.session = b->session, .tokens = tokens, .n = (int32_t)n};
    odmoe_batch batch;
    odmoe_batch_init(&batch);
    batch.sequences = &piece;
    batch.n = 1;
    batch.on_tap = keep;
    batch.user = b;
    check(odmoe_forward(b->model, &batch, &err), &err);
}

/* What a guess for `layer` says of a token's choice there. */
static void judge(const bench *b, contestant *c, int ahead, const int32_t *topk, const int32_t *experts, float *scores,
                  int n)
{
    c->asked[ahead] += b->top_k;
    c->named[ahead] += n;
    for (int rank = 0; rank < 2 * b->top_k && rank < n; rank++) {
        int best = 0;
        for (int i = 1; i < n; i++)
            if (scores[i] > scores[best])
                best = i;
        scores[best] = -1;
        for (int i = 0; i < b->top_k; i++)
            if (topk[i] == experts[best]) {
                c->right[ahead] += rank < b->top_k;
                c->right2[ahead]++;
            }
    }
}

/* One token's rows through one predictor. */
static void follow(bench *b, contestant *c, int64_t token)
{
    int32_t experts[ROUTER_EXPERTS_MAX], n;
    float scores[ROUTER_EXPERTS_MAX];
    odmoe_error err;
    for (int l = 0; l < b->layers; l++) {
        int64_t at = (int64_t)l * PIECE + token;
        const odmoe_observation seen = {sizeof seen, 1, b->x + at * b->hidden, b->topk + at * b->top_k,
                                        b->topw + at * b->top_k};
        double start = now();
        check(c->p.observe(c->p.ctx, l, &seen, &err), &err);
        c->seconds += now() - start;
        for (int ahead = 0; ahead < SPAN && l + 1 + ahead < b->layers; ahead++) {
            start = now();
            check(c->p.predict(c->p.ctx, l + 1 + ahead, experts, scores, b->experts, &n, &err), &err);
            if (!ahead)
                c->seconds += now() - start;
            judge(b, c, ahead, b->topk + (at + (1 + ahead) * PIECE) * b->top_k, experts, scores, n);
        }
        c->guesses += l + 1 < b->layers;
    }
}

/* The texts' first or held-out parts, a piece of each in turn, without the first `done` tokens and until `most` have
 * been run; how many. stall: NULL, or measure that with them instead. */
static int64_t run_texts(bench *b, const text *texts, int n, bool held_out, int64_t done, int64_t most,
                         stall_bench *stall)
{
    int64_t passed = 0, run = 0;
    bool more = true;
    for (int64_t piece = 0; more && run < most; piece++) {
        more = false;
        for (int i = 0; i < n && run < most; i++) {
            int64_t first = (held_out ? texts[i].held_out : 0) + piece * PIECE;
            int64_t end = held_out ? texts[i].n : texts[i].held_out, count = end - first < PIECE ? end - first : PIECE;
            if (count <= 0)
                continue;
            more = true;
            passed += count;
            if (passed <= done)
                continue;
            run_model(b, texts[i].tokens + first, count);
            if (stall)
                stall_piece(stall, b, count);
            for (int k = 0; !stall && k < b->kinds; k++)
                for (int64_t token = 0; token < count; token++)
                    follow(b, &b->kind[k], token);
            run += count;
        }
    }
    return run;
}

static void forget_counts(bench *b)
{
    for (int k = 0; k < b->kinds; k++) {
        contestant *c = &b->kind[k];
        *c = (contestant){.predictor = c->predictor, .p = c->p};
    }
}

static text read_text(const bench *b, const char *path, int64_t most)
{
    const odmoe_tokenizer *t = odmoe_model_tokenizer(b->model);
    FILE *f = fopen(path, "rb");
    odmoe_error err;
    size_t n, bytes = 1 << 24;
    if (!f || !t)
        stop(path, f ? "the model has no tokenizer" : "cannot be read");
    char *chars = room(bytes, 1);
    bytes = fread(chars, 1, bytes, f);
    fclose(f);
    check(odmoe_tokenize(t, chars, bytes, 0, NULL, 0, &n, &err), &err);
    int32_t *tokens = room(n, sizeof *tokens);
    check(odmoe_tokenize(t, chars, bytes, 0, tokens, n, &n, &err), &err);
    free(chars);
    int64_t used = (int64_t)n < most ? (int64_t)n : most;
    return (text){tokens, used, used / 4 * 3};
}

static void open_model(bench *b)
{
    odmoe_options o;
    odmoe_error err;
    odmoe_options_init(&o);
    o.context = PIECE;
    check(odmoe_model_open(b->path, &o, &b->model, &err), &err);
    check(odmoe_session_create(b->model, PIECE, &b->session, &err), &err);
    const model_config *c = &b->model->m.config;
    b->layers = c->moe_layers;
    b->experts = c->router.experts;
    b->top_k = c->router.top_k;
    b->hidden = c->hidden;
    size_t rows = (size_t)b->layers * PIECE;
    b->x = room(rows * (size_t)b->hidden, sizeof *b->x);
    b->topk = room(rows * (size_t)b->top_k, sizeof *b->topk);
    b->topw = room(rows * (size_t)b->top_k, sizeof *b->topw);
}

/* Every kind, over the model's own routers. */
static void make_predictors(bench *b)
{
    const model *m = &b->model->m;
    odmoe_layer_options o;
    odmoe_error err;
    b->routers = room((size_t)b->layers, sizeof *b->routers);
    for (int l = 0; l < m->config.layers; l++) {
        int at = m->config.layer[l].moe_index;
        if (at < 0)
            continue;
        const matrix *w = &m->weights.layers[l].frame[W_ROUTER].w;
        b->routers[at] = room((size_t)(w->rows * w->cols), sizeof **b->routers);
        m->compute.kernels->ops[w->type].dequantise(w->data, b->routers[at], w->rows * w->cols);
    }
    odmoe_layer_options_init(&o);
    o.layers = b->layers;
    o.experts = b->experts;
    o.top_k = b->top_k;
    o.hidden = (int32_t)b->hidden;
    o.weights = (const float *const *)b->routers;
    for (; b->kinds < KINDS && odmoe_expert_predictor_at(b->kinds); b->kinds++) {
        contestant *c = &b->kind[b->kinds];
        check(odmoe_expert_predictor_create(odmoe_expert_predictor_at(b->kinds), &o, &c->predictor, &err), &err);
        c->p.size = sizeof c->p;
        odmoe_expert_predictor_table(c->predictor, &c->p);
    }
}

static void print_share(const contestant *c, const double *right, int ahead)
{
    if (c->named[ahead] > 0)
        printf(" %.1f%% |", 100 * right[ahead] / c->asked[ahead]);
    else
        printf(" – |");
}

static void print_head(const char *first, const char *const *columns, int n)
{
    printf("| %s |", first);
    for (int i = 0; i < n; i++)
        printf(" %s |", columns[i]);
    printf("\n|---|");
    for (int i = 0; i < n; i++)
        printf("---|");
    printf("\n");
}

int main(int argc, char **argv)
{
    int64_t most = INT64_MAX, learn = 0, learned = 0;
    uint64_t cache = 0;
    bench b = {0};
    for (; argc > 2 && argv[1][0] == '-'; argv += 2, argc -= 2) {
        if (!strcmp(argv[1], "-n"))
            most = atoll(argv[2]);
        else if (!strcmp(argv[1], "--stall"))
            cache = strtoull(argv[2], NULL, 10);
        else
            stop("bench_predictors", USAGE);
    }
    if (argc < 3)
        stop("bench_predictors", USAGE);
    int n = argc - 2;
    b.path = argv[1];
    open_model(&b);
    text *texts = room((size_t)n, sizeof *texts);
    make_predictors(&b);
    for (int i = 0; i < n; i++) {
        texts[i] = read_text(&b, argv[2 + i], most / n);
        learn += texts[i].held_out;
    }

    double shares[KINDS][PARTS], learning[KINDS];
    int64_t seen[PARTS];
    int n_parts = 0;
    for (; n_parts < PARTS && learned < learn; n_parts++) {
        int part = n_parts;
        forget_counts(&b);
        learned += run_texts(&b, texts, n, false, learned, learn / PARTS + 1, NULL);
        seen[part] = learned;
        for (int k = 0; k < b.kinds; k++) {
            shares[k][part] = 100 * b.kind[k].right[0] / b.kind[k].asked[0];
            learning[k] = 1e6 * b.kind[k].seconds / b.kind[k].guesses;
        }
    }
    forget_counts(&b);
    for (int k = 0; k < b.kinds; k++)
        odmoe_expert_predictor_freeze(b.kind[k].predictor, 1);
    int64_t tokens = run_texts(&b, texts, n, true, 0, INT64_MAX, NULL);

    static const char *const columns[] = {"1 ahead, k", "2k",         "2 ahead, k", "2k",         "3 ahead, k",
                                          "2k",         "4 ahead, k", "2k",         "us a guess", "us, learning"};
    printf("%d layers, %d experts, top-k %d; kernels %s; %lld tokens for learning, then %lld held out\n\n", b.layers,
           b.experts, b.top_k, b.model->m.compute.kernels->name, (long long)learned, (long long)tokens);
    print_head("kind", columns, 10);
    for (int k = 0; k < b.kinds; k++) {
        const contestant *c = &b.kind[k];
        printf("| %s |", odmoe_expert_predictor_at(k));
        for (int ahead = 0; ahead < SPAN; ahead++) {
            print_share(c, c->right, ahead);
            print_share(c, c->right2, ahead);
        }
        printf(" %.1f | %.1f |\n", 1e6 * c->seconds / c->guesses, learning[k]);
    }
    char numbers[PARTS][24];
    const char *parts[PARTS];
    for (int part = 0; part < n_parts; part++) {
        snprintf(numbers[part], sizeof numbers[part], "%lld", (long long)seen[part]);
        parts[part] = numbers[part];
    }
    printf("\n");
    print_head("learning, tokens seen", parts, n_parts);
    for (int k = 0; k < b.kinds; k++) {
        printf("| %s |", odmoe_expert_predictor_at(k));
        for (int part = 0; part < n_parts; part++)
            printf(" %.1f%% |", shares[k][part]);
        printf("\n");
    }

    if (cache) {
        stall_bench *stall = stall_open(&b, cache);
        run_texts(&b, texts, n, true, 0, INT64_MAX, stall);
        stall_print(stall);
        stall_close(stall);
    }

    for (int k = 0; k < b.kinds; k++)
        odmoe_expert_predictor_free(b.kind[k].predictor);
    for (int l = 0; l < b.layers; l++)
        free(b.routers[l]);
    for (int i = 0; i < n; i++)
        free(texts[i].tokens);
    free(b.routers);
    free(texts);
    free(b.x);
    free(b.topk);
    free(b.topw);
    odmoe_session_free(b.session);
    odmoe_model_close(b.model);
    return 0;
}
