/* Predictors that learn: what the network learns, that nothing harms it, and how what was learned is kept. */
#include "support/layer_fixture.h"

enum { L = 6, H = 24, E = 16, K = 2, AHEAD = 4 };

static const char KEPT[] = "predictor-learned-test.safetensors", OTHER[] = "predictor-learned-test-2.safetensors";

typedef struct learner {
    odmoe_expert_predictor *predictor;
    odmoe_predictor p;
    float *router[L]; /* [E, H]: how the layers of this world choose */
    uint64_t seed;
    odmoe_error err;
} learner;

static void make_sized(learner *l, const char *kind, int hidden)
{
    odmoe_layer_options o;
    *l = (learner){.seed = 3};
    for (int i = 0; i < L; i++)
        l->router[i] = fixture_numbers((size_t)(E * hidden), 1, 70 + (uint64_t)i);
    odmoe_layer_options_init(&o);
    o.layers = L;
    o.experts = E;
    o.top_k = K;
    o.hidden = hidden;
    o.weights = (const float *const *)l->router;
    if (odmoe_expert_predictor_create(kind, &o, &l->predictor, &l->err))
        fail_msg("%s", l->err.message);
    l->p.size = sizeof l->p;
    odmoe_expert_predictor_table(l->predictor, &l->p);
}

static void make(learner *l, const char *kind)
{
    make_sized(l, kind, H);
}

static void drop(learner *l)
{
    odmoe_expert_predictor_free(l->predictor);
    for (int i = 0; i < L; i++)
        free(l->router[i]);
}

static void choose(const learner *l, int layer, const float *x, int32_t *topk)
{
    float logit[E];
    for (int e = 0; e < E; e++) {
        logit[e] = 0;
        for (int h = 0; h < H; h++)
            logit[e] += l->router[layer][e * H + h] * x[h];
    }
    for (int k = 0; k < K; k++) {
        topk[k] = 0;
        for (int e = 1; e < E; e++)
            if (logit[e] > logit[topk[k]])
                topk[k] = e;
        logit[topk[k]] = -INFINITY;
    }
}

static int guesses(learner *l, int layer, float scores[E])
{
    int32_t ids[E], n;
    float s[E];
    memset(scores, 0, E * sizeof *scores);
    assert_int_equal(l->p.predict(l->p.ctx, layer, ids, s, E, &n, &l->err), ODMOE_OK);
    for (int i = 0; i < n; i++)
        scores[ids[i]] = s[i];
    return n;
}

static int named(learner *l, int layer, const int32_t *topk)
{
    float scores[E];
    int found = 0;
    guesses(l, layer, scores);
    for (int k = 0; k < K; k++) {
        int better = 0;
        for (int e = 0; e < E; e++)
            better += scores[e] > scores[topk[k]];
        found += better < K && scores[topk[k]] > 0;
    }
    return found;
}

static void see(learner *l, int layer, const float *x, int64_t n)
{
    static const float even[8 * K] = {.5f, .5f, .5f, .5f, .5f, .5f, .5f, .5f, .5f, .5f, .5f, .5f, .5f, .5f, .5f, .5f};
    int32_t topk[8 * K];
    for (int64_t row = 0; row < n; row++)
        choose(l, layer, x + row * H, topk + row * K);
    odmoe_observation o = {sizeof o, n, x, topk, even};
    assert_int_equal(l->p.observe(l->p.ctx, layer, &o, &l->err), ODMOE_OK);
}

/* Tokens of this world, whose rows are `scale` long; share[d]: of the choices, named d + 1 layers before. */
static void live(learner *l, int tokens, float scale, double share[AHEAD])
{
    int found[AHEAD] = {0}, asked[AHEAD] = {0};
    for (int t = 0; t < tokens; t++) {
        float x[H];
        int32_t topk[K];
        for (int h = 0; h < H; h++)
            x[h] = fixture_normal(&l->seed) * scale;
        for (int layer = 0; layer < L; layer++) {
            see(l, layer, x, 1);
            for (int d = 0; d < AHEAD && layer + 1 + d < L; d++) {
                choose(l, layer + 1 + d, x, topk);
                found[d] += named(l, layer + 1 + d, topk);
                asked[d] += K;
            }
        }
    }
    for (int d = 0; d < AHEAD && share; d++)
        share[d] = (double)found[d] / asked[d];
}

static void network_learns_what_the_next_four_layers_choose(void **state)
{
    learner l;
    double before[AHEAD], after[AHEAD];
    make(&l, "network");
    odmoe_expert_predictor_freeze(l.predictor, 1);
    live(&l, 50, 1, before);
    odmoe_expert_predictor_freeze(l.predictor, 0);
    live(&l, 1500, 1, NULL);
    odmoe_expert_predictor_freeze(l.predictor, 1);
    live(&l, 200, 1, after);
    for (int d = 0; d < AHEAD; d++)
        if (after[d] < 0.6)
            fail_msg("%d ahead: %.2f of the choices named after learning, %.2f before", d + 1, after[d], before[d]);
    drop(&l);
}

static void network_names_nobody_beyond_four_layers_or_the_last_or_behind(void **state)
{
    learner l;
    float x[H] = {1}, scores[E];
    make(&l, "network");
    assert_int_equal(guesses(&l, 1, scores), 0); /* nothing seen yet */
    see(&l, 0, x, 1);
    for (int layer = 1; layer <= AHEAD; layer++)
        assert_int_equal(guesses(&l, layer, scores), E);
    assert_int_equal(guesses(&l, AHEAD + 1, scores), 0);
    see(&l, 1, x, 1);
    assert_int_equal(guesses(&l, 1, scores), 0);
    for (int layer = 2; layer < L; layer++)
        see(&l, layer, x, 1);
    for (int layer = 0; layer < L + AHEAD; layer++)
        assert_int_equal(guesses(&l, layer, scores), 0);
    drop(&l);
}

static void any_scale_of_inputs_is_learned_alike(void **state)
{
    const float scale[] = {1e-3f, 1e4f};
    for (int i = 0; i < 2; i++) {
        learner l;
        double share[AHEAD];
        make(&l, "network");
        live(&l, 1500, scale[i], NULL);
        live(&l, 200, scale[i], share);
        assert_true(share[0] > 0.6);
        drop(&l);
    }
}

static size_t contents(const char *path, char **out)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    size_t n = (size_t)ftell(f);
    rewind(f);
    *out = malloc(n);
    assert_int_equal(fread(*out, 1, n, f), n);
    fclose(f);
    return n;
}

static void keep(learner *l, const char *path)
{
    if (odmoe_expert_predictor_save(l->predictor, path, &l->err))
        fail_msg("%s", l->err.message);
}

static bool same_files(const char *a, const char *b)
{
    char *x, *y;
    size_t n = contents(a, &x), m = contents(b, &y);
    bool same = n == m && !memcmp(x, y, n);
    free(x);
    free(y);
    return same;
}

static void the_same_calls_learn_the_same(void **state)
{
    learner l[2];
    for (int i = 0; i < 2; i++) {
        make(&l[i], "network");
        live(&l[i], 100, 1, NULL);
        keep(&l[i], i ? OTHER : KEPT);
        drop(&l[i]);
    }
    assert_true(same_files(KEPT, OTHER));
}

static void what_cannot_be_matched_teaches_nothing(void **state)
{
    float x[2 * H] = {1, 2, 3};
    const char *kinds[] = {"network", "router_low_rank"};
    for (int i = 0; i < 2; i++) {
        learner l;
        make(&l, kinds[i]);
        live(&l, 50, 1, NULL);
        keep(&l, KEPT);
        for (int turn = 0; turn < 3; turn++)
            for (int layer = 0; layer < L; layer++)
                see(&l, layer, x, 1 + layer % 2); /* another number of rows each time */
        see(&l, 0, x, 1);
        see(&l, 3, x, 1); /* layers left out */
        see(&l, 0, x, 1);
        keep(&l, OTHER);
        assert_true(same_files(KEPT, OTHER));
        drop(&l);
    }
}

static void inputs_that_are_no_numbers_do_no_harm(void **state)
{
    const float bad[] = {NAN, INFINITY, -INFINITY, 3e38f};
    const char *kinds[] = {"network", "router_low_rank"};
    for (int i = 0; i < 2; i++) {
        learner l;
        double share[AHEAD];
        make(&l, kinds[i]);
        live(&l, 1500, 1, NULL);
        for (int b = 0; b < 4; b++)
            for (int layer = 0; layer < L; layer++) {
                float x[H];
                for (int h = 0; h < H; h++)
                    x[h] = h % 3 ? bad[b] : 1;
                see(&l, layer, x, 1);
            }
        live(&l, 200, 1, share);
        assert_true(share[0] > 0.6);
        keep(&l, KEPT); /* a file with anything that is not finite would be refused */
        assert_int_equal(odmoe_expert_predictor_load(l.predictor, KEPT, &l.err), ODMOE_OK);
        drop(&l);
    }
}

static void one_huge_row_does_not_spoil_what_was_learned(void **state)
{
    const char *kinds[] = {"network", "router_low_rank"};
    for (int i = 0; i < 2; i++) {
        learner l;
        double before[AHEAD], after[AHEAD];
        make(&l, kinds[i]);
        live(&l, 1500, 1, NULL);
        odmoe_expert_predictor_freeze(l.predictor, 1);
        live(&l, 200, 1, before);
        odmoe_expert_predictor_freeze(l.predictor, 0);
        live(&l, 1, 1e6f, NULL);
        odmoe_expert_predictor_freeze(l.predictor, 1);
        live(&l, 200, 1, after);
        if (after[0] < before[0] - 0.1)
            fail_msg("%s: %.2f of the choices named, %.2f before", kinds[i], after[0], before[0]);
        drop(&l);
    }
}

static void what_was_kept_guesses_the_same(void **state)
{
    const char *kinds[] = {"network", "router_low_rank"};
    for (int i = 0; i < 2; i++) {
        learner old, new;
        float x[H] = {0.5f, -1, 2}, a[E], b[E];
        make(&old, kinds[i]);
        make(&new, kinds[i]);
        live(&old, 200, 1, NULL);
        keep(&old, KEPT);
        assert_int_equal(odmoe_expert_predictor_load(new.predictor, KEPT, &new.err), ODMOE_OK);
        see(&old, 0, x, 1);
        see(&new, 0, x, 1);
        assert_int_equal(guesses(&old, 1, a), guesses(&new, 1, b));
        assert_memory_equal(a, b, sizeof a);
        drop(&old);
        drop(&new);
    }
}

static void frozen_it_guesses_and_learns_no_more(void **state)
{
    const char *kinds[] = {"network", "router_low_rank"};
    for (int i = 0; i < 2; i++) {
        learner l;
        make(&l, kinds[i]);
        live(&l, 50, 1, NULL);
        keep(&l, KEPT);
        odmoe_expert_predictor_freeze(l.predictor, 1);
        live(&l, 20, 1, NULL);
        keep(&l, OTHER);
        assert_true(same_files(KEPT, OTHER));
        odmoe_expert_predictor_freeze(l.predictor, 0);
        live(&l, 20, 1, NULL);
        keep(&l, OTHER);
        assert_false(same_files(KEPT, OTHER));
        drop(&l);
    }
}

static void kinds_that_learn_nothing_say_so(void **state)
{
    const char *kinds[] = {"frequency", "previous", "router"};
    for (int i = 0; i < 3; i++) {
        learner l;
        make(&l, kinds[i]);
        odmoe_expert_predictor_freeze(l.predictor, 1);
        assert_int_equal(odmoe_expert_predictor_save(l.predictor, KEPT, &l.err), ODMOE_ERR_ARG);
        assert_non_null(strstr(l.err.message, kinds[i]));
        assert_int_equal(odmoe_expert_predictor_load(l.predictor, KEPT, &l.err), ODMOE_ERR_ARG);
        drop(&l);
    }
}

/* Loading must fail so, name `word`, and leave the learner as it was. */
static void assert_refused(learner *l, const char *path, odmoe_status status, const char *word)
{
    static const char now[] = "predictor-learned-test-3.safetensors", then[] = "predictor-learned-test-4.safetensors";
    keep(l, then);
    assert_int_equal(odmoe_expert_predictor_load(l->predictor, path, &l->err), status);
    if (!strstr(l->err.message, word))
        fail_msg("'%s' does not name '%s'", l->err.message, word);
    keep(l, now);
    assert_true(same_files(now, then));
    unlink(now);
    unlink(then);
}

static void write_file(const char *path, const char *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    fclose(f);
}

static void files_that_do_not_fit_are_refused_and_change_nothing(void **state)
{
    learner l, other, small;
    char *bytes;
    make(&l, "network");
    live(&l, 30, 1, NULL);
    assert_refused(&l, "no-such-file.safetensors", ODMOE_ERR_IO, "no-such-file");

    make(&other, "router_low_rank");
    keep(&other, OTHER);
    assert_refused(&l, OTHER, ODMOE_ERR_FORMAT, "network.w1");
    drop(&other);

    make_sized(&small, "network", H / 2);
    keep(&small, OTHER);
    assert_refused(&l, OTHER, ODMOE_ERR_FORMAT, "network.w1");
    drop(&small);

    keep(&l, KEPT);
    size_t n = contents(KEPT, &bytes);
    write_file(OTHER, bytes, n - 5);
    assert_refused(&l, OTHER, ODMOE_ERR_FORMAT, "predictor-learned-test-2");
    const float nan = NAN;
    memcpy(bytes + n - 4, &nan, 4);
    write_file(OTHER, bytes, n);
    assert_refused(&l, OTHER, ODMOE_ERR_FORMAT, "not finite");
    free(bytes);
    drop(&l);
}

static int remove_files(void **state)
{
    unlink(KEPT);
    unlink(OTHER);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(network_learns_what_the_next_four_layers_choose),
        cmocka_unit_test(network_names_nobody_beyond_four_layers_or_the_last_or_behind),
        cmocka_unit_test(any_scale_of_inputs_is_learned_alike),
        cmocka_unit_test(the_same_calls_learn_the_same),
        cmocka_unit_test(what_cannot_be_matched_teaches_nothing),
        cmocka_unit_test(inputs_that_are_no_numbers_do_no_harm),
        cmocka_unit_test(one_huge_row_does_not_spoil_what_was_learned),
        cmocka_unit_test(what_was_kept_guesses_the_same),
        cmocka_unit_test(frozen_it_guesses_and_learns_no_more),
        cmocka_unit_test(kinds_that_learn_nothing_say_so),
        cmocka_unit_test(files_that_do_not_fit_are_refused_and_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, remove_files);
}
