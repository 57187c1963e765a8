/* Predictors that ship: what each one guesses from. */
#include "support/layer_fixture.h"

enum { L = 2, H = 24, E = 16, K = 2 };

typedef struct bench {
    layer_fixture f;
    odmoe_expert_predictor *predictor;
    odmoe_predictor p;
} bench;

static void make(bench *b, const char *kind)
{
    fixture_make(&b->f, L, H, 8, E, K, 1);
    if (odmoe_expert_predictor_create(kind, &b->f.options, &b->predictor, &b->f.err))
        fail_msg("%s", b->f.err.message);
    b->p.size = sizeof b->p;
    odmoe_expert_predictor_table(b->predictor, &b->p);
}

static void drop(bench *b)
{
    odmoe_expert_predictor_free(b->predictor);
    fixture_free(&b->f);
}

static void see(bench *b, int layer, const float *x, const int32_t *topk, const float *topw)
{
    odmoe_observation o = {sizeof o, 1, x, topk, topw};
    assert_int_equal(b->p.observe(b->p.ctx, layer, &o, &b->f.err), ODMOE_OK);
}

/* The best `count` guesses for layer 1 into `best`; how many there were. */
static int ask(bench *b, int count, int32_t *best)
{
    int32_t ids[E], n;
    float scores[E];
    assert_int_equal(b->p.predict(b->p.ctx, 1, ids, scores, E, &n, &b->f.err), ODMOE_OK);
    for (int i = 0; i < count && i < n; i++) {
        int top = 0;
        for (int j = 1; j < n; j++)
            if (scores[j] > scores[top])
                top = j;
        best[i] = ids[top];
        scores[top] = -1;
    }
    return n;
}

static const float even[K] = {0.5f, 0.5f};

static void frequency_names_what_was_chosen_most_and_forgets_slowly(void **state)
{
    bench b;
    int32_t best[E];
    make(&b, "frequency");
    assert_int_equal(ask(&b, 1, best), 0);
    for (int i = 0; i < 30; i++)
        see(&b, 1, b.f.x, i % 3 ? (int32_t[]){4, 7} : (int32_t[]){9, 4}, even);
    assert_int_equal(ask(&b, 3, best), 3);
    assert_int_equal(best[0], 4);
    assert_int_equal(best[1], 7);
    assert_int_equal(best[2], 9);
    for (int i = 0; i < 200; i++)
        see(&b, 1, b.f.x, (int32_t[]){1, 2}, even);
    ask(&b, 2, best);
    assert_true(best[0] + best[1] == 3);
    drop(&b);
}

static void previous_names_the_last_choice_alone(void **state)
{
    bench b;
    int32_t best[E];
    make(&b, "previous");
    see(&b, 1, b.f.x, (int32_t[]){4, 7}, even);
    see(&b, 1, b.f.x, (int32_t[]){3, 8}, (float[]){0.4f, 0.6f});
    see(&b, 0, b.f.x, (int32_t[]){1, 2}, even);
    assert_int_equal(ask(&b, 2, best), 2);
    assert_int_equal(best[0], 8);
    assert_int_equal(best[1], 3);
    drop(&b);
}

/* A program's own calls may say anything; an infinite weight must not stand in the way of all later ones. */
static void a_weight_that_is_not_finite_is_forgotten(void **state)
{
    static const char *const kinds[] = {"frequency", "previous"};
    for (int k = 0; k < 2; k++) {
        bench b;
        int32_t best[E];
        make(&b, kinds[k]);
        see(&b, 1, b.f.x, (int32_t[]){4, 7}, (float[]){INFINITY, NAN});
        for (int i = 0; i < 3; i++)
            see(&b, 1, b.f.x, (int32_t[]){4, 7}, even);
        assert_int_equal(ask(&b, 2, best), 2);
        assert_int_equal(best[0] + best[1], 4 + 7);
        for (int i = 0; i < 50; i++)
            see(&b, 1, b.f.x, (int32_t[]){5, 7}, even);
        ask(&b, 2, best);
        assert_int_equal(best[0] + best[1], 5 + 7);
        drop(&b);
    }
}

static void after_the_last_layer_routers_name_nothing(void **state)
{
    static const char *const kinds[] = {"router", "router_low_rank"};
    for (int k = 0; k < 2; k++) {
        bench b;
        int32_t ids[E], n = -1;
        float scores[E];
        make(&b, kinds[k]);
        for (int l = 0; l < b.f.L; l++)
            see(&b, l, b.f.x, (int32_t[]){0, 1}, even);
        assert_int_equal(b.p.predict(b.p.ctx, 0, ids, scores, E, &n, &b.f.err), ODMOE_OK);
        assert_int_equal(n, 0);
        drop(&b);
    }
}

/* What layer 1's router chooses for x. */
static void choose(const layer_fixture *f, const float *x, int32_t *topk)
{
    double logit[E];
    for (int e = 0; e < E; e++) {
        logit[e] = 0;
        for (int h = 0; h < H; h++)
            logit[e] += (double)f->router[1][e * H + h] * x[h];
    }
    for (int k = 0; k < K; k++) {
        topk[k] = 0;
        for (int e = 1; e < E; e++)
            if (logit[e] > logit[topk[k]])
                topk[k] = e;
        logit[topk[k]] = -1e30;
    }
}

static void router_names_what_the_next_router_makes_of_this_input(void **state)
{
    bench b;
    make(&b, "router");
    uint64_t seed = 5;
    for (int i = 0; i < 50; i++) {
        float x[H];
        int32_t topk[K], best[K];
        for (int h = 0; h < H; h++)
            x[h] = fixture_normal(&seed);
        choose(&b.f, x, topk);
        see(&b, 0, x, (int32_t[]){0, 1}, even);
        assert_int_equal(ask(&b, K, best), E);
        assert_memory_equal(best, topk, sizeof best);
    }
    drop(&b);
}

/* Between the layers x changes by a linear map of three dimensions; the share of choices that are named. */
static double share_named(const char *kind)
{
    bench b;
    make(&b, kind);
    uint64_t seed = 9;
    float u[3][H], v[3][H];
    int named = 0, asked = 0;
    for (int i = 0; i < 3 * H; i++) {
        u[i / H][i % H] = fixture_normal(&seed);
        v[i / H][i % H] = fixture_normal(&seed) / sqrtf(H);
    }
    for (int i = 0; i < 6000; i++) {
        float x[H], next[H];
        int32_t topk[K], best[K];
        for (int h = 0; h < H; h++)
            next[h] = x[h] = fixture_normal(&seed);
        for (int d = 0; d < 3; d++) {
            float along = 0;
            for (int h = 0; h < H; h++)
                along += v[d][h] * x[h];
            for (int h = 0; h < H; h++)
                next[h] += along * u[d][h];
        }
        choose(&b.f, next, topk);
        see(&b, 0, x, (int32_t[]){0, 1}, even);
        ask(&b, K, best);
        for (int j = 0; j < K && i >= 5000; j++, asked++)
            named += best[j] == topk[0] || best[j] == topk[1];
        see(&b, 1, next, topk, even);
    }
    drop(&b);
    return (double)named / asked;
}

static void a_trained_correction_names_more_than_the_router_alone(void **state)
{
    double plain = share_named("router"), corrected = share_named("router_low_rank");
    if (corrected < plain + 0.1)
        fail_msg("%.3f of the choices named, without the correction %.3f", corrected, plain);
}

static void unknown_kinds_and_missing_routers_are_refused(void **state)
{
    bench b;
    odmoe_expert_predictor *s = NULL;
    make(&b, "previous");
    assert_int_equal(odmoe_expert_predictor_create("oracle", &b.f.options, &s, &b.f.err), ODMOE_ERR_ARG);
    for (int i = 0; odmoe_expert_predictor_at(i); i++)
        assert_non_null(strstr(b.f.err.message, odmoe_expert_predictor_at(i)));
    b.f.options.weights = NULL;
    assert_int_equal(odmoe_expert_predictor_create("router", &b.f.options, &s, &b.f.err), ODMOE_ERR_ARG);
    drop(&b);
}

static void a_stack_gives_the_same_bytes_with_each_of_them(void **state)
{
    layer_fixture f;
    fixture_make(&f, 3, H, 8, E, K, 5);
    float *y[8];
    for (int i = -1; i < 0 || odmoe_expert_predictor_at(i); i++) {
        odmoe_expert_predictor *s = NULL;
        odmoe_predictor p = {.size = sizeof p};
        if (i >= 0) {
            assert_int_equal(odmoe_expert_predictor_create(odmoe_expert_predictor_at(i), &f.options, &s, &f.err),
                             ODMOE_OK);
            odmoe_expert_predictor_table(s, &p);
        }
        f.options.predictor = s ? &p : NULL;
        odmoe_layer *layer = fixture_layer(&f);
        y[i + 1] = malloc((size_t)(f.n * H) * sizeof(float));
        for (int turn = 0; turn < 5; turn++)
            assert_int_equal(odmoe_layer_forward_stack(layer, f.x, f.n, y[i + 1], NULL, &f.err), ODMOE_OK);
        odmoe_layer_free(layer);
        odmoe_expert_predictor_free(s);
        assert_memory_equal(y[0], y[i + 1], (size_t)(f.n * H) * sizeof(float));
        if (i >= 0)
            free(y[i + 1]);
    }
    free(y[0]);
    fixture_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frequency_names_what_was_chosen_most_and_forgets_slowly),
        cmocka_unit_test(previous_names_the_last_choice_alone),
        cmocka_unit_test(a_weight_that_is_not_finite_is_forgotten),
        cmocka_unit_test(after_the_last_layer_routers_name_nothing),
        cmocka_unit_test(router_names_what_the_next_router_makes_of_this_input),
        cmocka_unit_test(a_trained_correction_names_more_than_the_router_alone),
        cmocka_unit_test(unknown_kinds_and_missing_routers_are_refused),
        cmocka_unit_test(a_stack_gives_the_same_bytes_with_each_of_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
