/* bench_grammar - how long the mask of a token takes.
 *
 * usage: bench_grammar VOCABULARY (--schema|--gbnf) FILE TEXT [REPEATS]
 *
 * The text (a file) must meet the grammar. For each of its tokens the mask is computed, then the token accepted, one
 * thread; each repeat compiles the grammar anew, so that nothing is cached from the one before. */
#include "bench.h"
#include "text/grammar/grammar.h"

static void die(const char *what, const odmoe_error *err)
{
    fprintf(stderr, "%s: %s\n", what, err ? err->message : "cannot be read");
    exit(1);
}

static char *read_file(const char *path, size_t *length)
{
    FILE *f = fopen(path, "rb");
    char *text = malloc(1 << 20);
    if (!f || !text)
        die(path, NULL);
    *length = fread(text, 1, 1 << 20, f);
    while (*length && text[*length - 1] == '\n')
        --*length;
    fclose(f);
    return text;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void report(const char *what, double *seconds, size_t n)
{
    double sum = 0;
    qsort(seconds, n, sizeof *seconds, by_value);
    for (size_t i = 0; i < n; i++)
        sum += seconds[i];
    printf("%-8s median %8.1f us   mean %8.1f   90%% %8.1f   99%% %8.1f   most %8.1f   (%zu)\n", what,
           1e6 * seconds[n / 2], 1e6 * sum / (double)n, 1e6 * seconds[n * 9 / 10], 1e6 * seconds[n * 99 / 100],
           1e6 * seconds[n - 1], n);
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr, "usage: bench_grammar VOCABULARY (--schema|--gbnf) FILE TEXT [REPEATS]\n");
        return 2;
    }
    odmoe_error err;
    tokenizer *t;
    vocab_tree v;
    token_list ids = {0};
    size_t source_length, text_length;
    int repeats = argc > 5 ? atoi(argv[5]) : 5;
    char *source = read_file(argv[3], &source_length), *text = read_file(argv[4], &text_length);
    if (tokenizer_open(argv[1], &t, &err))
        die(argv[1], &err);
    double start = now();
    if (vocab_tree_from_tokenizer(t, &v, &err))
        die(argv[1], &err);
    printf("%d tokens, tree of %.1f MB built in %.0f ms\n", v.count, 1e-6 * (double)vocab_tree_bytes(&v),
           1e3 * (now() - start));
    if (tokenizer_encode(t, text, text_length, 0, &ids, &err))
        die(argv[4], &err);
    size_t n = ids.count * (size_t)repeats;
    double *masks = calloc(n + 1, sizeof *masks), *accepts = calloc(n + 1, sizeof *accepts),
           *compiles = calloc((size_t)repeats + 1, sizeof *compiles);
    uint32_t *mask = calloc(v.words, sizeof *mask);
    if (!masks || !accepts || !compiles || !mask)
        die("memory", NULL);
    for (int r = 0; r < repeats; r++) {
        grammar *g;
        grammar_state *s;
        start = now();
        if (grammar_compile(strcmp(argv[2], "--gbnf") ? GRAMMAR_SCHEMA : GRAMMAR_GBNF, source, source_length, &v, NULL,
                            &g, NULL, &err) ||
            grammar_state_create(g, &s, &err))
            die(argv[3], &err);
        compiles[r] = now() - start;
        for (size_t i = 0; i < ids.count; i++) {
            size_t at = (size_t)r * ids.count + i;
            start = now();
            if (grammar_mask(s, mask, v.words, &err))
                die(argv[4], &err);
            masks[at] = now() - start;
            start = now();
            if (grammar_accept(s, ids.ids[i], &err))
                die(argv[4], &err);
            accepts[at] = now() - start;
        }
        if (!grammar_may_end(s))
            die("the text ends too early", NULL);
        grammar_state_free(s);
        grammar_free(g);
    }
    report("compile", compiles, (size_t)repeats);
    report("mask", masks, n);
    report("accept", accepts, n);
    free(masks);
    free(accepts);
    free(compiles);
    free(mask);
    free(source);
    free(text);
    free(ids.ids);
    vocab_tree_free(&v);
    tokenizer_free(t);
    return 0;
}
