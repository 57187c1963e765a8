/* The layer on its own: what it computes, how it uses its source and its predictor. */
#include <stdatomic.h>

#include "support/layer_fixture.h"

static float *run(layer_fixture *f, odmoe_layer *layer, int64_t n, odmoe_routing *routing)
{
    float *y = malloc((size_t)(n * f->H) * sizeof *y);
    assert_non_null(y);
    if (odmoe_layer_forward(layer, 0, f->x, n, y, routing, &f->err))
        fail_msg("%s", f->err.message);
    return y;
}

static void close_to(const float *got, const double *expected, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabs(got[i] - expected[i]) <= 2e-5 * (1 + fabs(expected[i]))))
            fail_msg("number %zu is %g, expected %g", i, got[i], expected[i]);
}

static void check_naive(int32_t H, int32_t F, int32_t E, int32_t k, int64_t n, uint64_t activation_bytes)
{
    layer_fixture f;
    fixture_make(&f, 1, H, F, E, k, n);
    f.options.activation_bytes = activation_bytes;
    odmoe_layer *layer = fixture_layer(&f);
    float *y = run(&f, layer, n, NULL);
    double *expected = malloc((size_t)(n * H) * sizeof *expected);
    naive_layer(&f, 0, f.x, n, expected);
    close_to(y, expected, (size_t)(n * H));
    free(y);
    free(expected);
    odmoe_layer_free(layer);
    fixture_free(&f);
}

static void output_equals_the_naive_loop_over_tokens(void **state)
{
    check_naive(24, 40, 7, 3, 50, 0);
}

/* Sizes of 1, no multiples of any vector, all experts chosen; few rows and many. */
static void odd_sizes_equal_the_naive_loop(void **state)
{
    static const int32_t sizes[][4] = {{1, 1, 1, 1},   {1, 3, 2, 2},    {3, 1, 5, 1},   {17, 33, 1, 1},
                                       {33, 17, 9, 9}, {65, 130, 3, 2}, {15, 16, 4, 4}, {31, 7, 64, 3}};
    static const int64_t rows[] = {1, 2, 5, 63, 300};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
            check_naive(sizes[s][0], sizes[s][1], sizes[s][2], sizes[s][3], rows[r], 0);
}

static void the_number_of_threads_and_of_other_rows_changes_no_byte(void **state)
{
    layer_fixture f;
    fixture_make(&f, 1, 37, 53, 7, 3, 700);
    float *expected = NULL;
    for (int threads = 1; threads <= 5; threads++) {
        f.options.threads = threads;
        odmoe_layer *layer = fixture_layer(&f);
        float *y = run(&f, layer, f.n, NULL), *some = run(&f, layer, 130, NULL);
        expected = expected ? expected : y;
        assert_memory_equal(y, expected, (size_t)(f.n * f.H) * sizeof *y);
        assert_memory_equal(some, expected, (size_t)(130 * f.H) * sizeof *y);
        if (y != expected)
            free(y);
        free(some);
        odmoe_layer_free(layer);
    }
    free(expected);
    fixture_free(&f);
}

static void one_token(void **state)
{
    check_naive(24, 40, 7, 3, 1, 0);
}

static void more_rows_than_a_chunk_give_the_same_bytes(void **state)
{
    layer_fixture f;
    fixture_make(&f, 1, 24, 40, 7, 3, 333);
    odmoe_layer *whole = fixture_layer(&f);
    f.options.activation_bytes = 120000;
    odmoe_layer *chunked = fixture_layer(&f);
    assert_true(odmoe_layer_chunk(chunked) < 150);
    assert_true(odmoe_layer_chunk(whole) > 333);
    float *a = run(&f, whole, f.n, NULL);
    int begins = f.begins;
    odmoe_routing r;
    odmoe_routing_init(&r);
    float *b = run(&f, chunked, f.n, &r);
    assert_true(f.begins - begins > 2);
    assert_memory_equal(a, b, (size_t)(f.n * f.H) * sizeof *a);
    free(a);
    free(b);
    odmoe_layer_free(whole);
    odmoe_layer_free(chunked);
    fixture_free(&f);
}

static void an_output_that_overlaps_the_input_is_refused(void **state)
{
    layer_fixture f;
    fixture_make(&f, 2, 16, 8, 8, 2, 30);
    odmoe_layer *layer = fixture_layer(&f);
    odmoe_tape *tape;
    const int64_t rows = 10, numbers = rows * f.H;
    float *middle = f.x + numbers, *kept = malloc((size_t)(f.n * f.H) * sizeof *kept);
    memcpy(kept, f.x, (size_t)(f.n * f.H) * sizeof *kept);
    assert_int_equal(odmoe_tape_create(0, &tape, &f.err), ODMOE_OK);
    float *const overlapping[] = {middle, middle + 1, middle + numbers - 1, middle - 1, middle - numbers + 1};
    for (int i = 0; i < 5; i++) {
        float *y = overlapping[i];
        assert_int_equal(odmoe_layer_forward(layer, 0, middle, rows, y, NULL, &f.err), ODMOE_ERR_ARG);
        assert_non_null(strstr(f.err.message, "overlaps"));
        assert_int_equal(odmoe_layer_forward_train(layer, 0, middle, rows, y, NULL, tape, &f.err), ODMOE_ERR_ARG);
        assert_int_equal(odmoe_layer_forward_stack(layer, middle, rows, y, NULL, &f.err), ODMOE_ERR_ARG);
    }
    assert_memory_equal(f.x, kept, (size_t)(f.n * f.H) * sizeof *kept);
    assert_int_equal(odmoe_layer_forward(layer, 0, middle, rows, middle + numbers, NULL, &f.err), ODMOE_OK);
    assert_int_equal(odmoe_layer_forward(layer, 0, middle, rows, middle - numbers, NULL, &f.err), ODMOE_OK);
    free(kept);
    odmoe_tape_free(tape);
    odmoe_layer_free(layer);
    fixture_free(&f);
}

static void a_budget_too_small_for_one_row_is_refused_with_the_figure(void **state)
{
    layer_fixture f;
    fixture_make(&f, 1, 24, 40, 7, 3, 1);
    f.options.activation_bytes = 100;
    odmoe_layer *layer = NULL;
    assert_int_equal(odmoe_layer_create(&f.options, &layer, &f.err), ODMOE_ERR_BUDGET);
    unsigned long long figure = 0;
    assert_int_equal(sscanf(strstr(f.err.message, "needs"), "needs %llu", &figure), 1);
    f.options.activation_bytes = figure;
    layer = fixture_layer(&f);
    assert_int_equal(odmoe_layer_chunk(layer), 1);
    odmoe_layer_free(layer);
    fixture_free(&f);
}

static void several_experts_are_asked_for_in_one_call_and_those_without_tokens_never(void **state)
{
    layer_fixture f;
    fixture_make(&f, 1, 16, 8, 8, 2, 30);
    for (int h = 0; h < f.H; h++) /* expert 5's logit is far below the others' for rows of positive sum, and... */
        f.router[0][5 * f.H + h] = 0;
    for (int64_t i = 0; i < f.n; i++)
        f.x[i * f.H] = 10; /* ...its first weight sees to it for all rows */
    f.router[0][5 * f.H] = -100;
    odmoe_layer *layer = fixture_layer(&f);
    uint64_t counts[8];
    odmoe_layer_stats s = {.size = sizeof s};
    free(run(&f, layer, f.n, NULL));
    assert_int_equal(f.begins, 1);
    assert_int_equal(odmoe_layer_stats_get(layer, 0, &s, counts, &f.err), ODMOE_OK);
    assert_int_equal(counts[5], 0);
    int used = 0;
    for (int e = 0; e < 8; e++)
        used += counts[e] > 0;
    assert_int_equal(f.batch_n, used);
    for (int i = 0; i < f.batch_n; i++) {
        assert_int_not_equal(f.batch[i], 5);
        assert_true(!i || f.batch[i] > f.batch[i - 1]);
    }
    odmoe_layer_free(layer);
    fixture_free(&f);
}

static void expert_weights_sum_to_one(void **state)
{
    layer_fixture f;
    fixture_make(&f, 1, 16, 8, 8, 3, 30);
    odmoe_layer *layer = fixture_layer(&f);
    float w[90];
    odmoe_routing r;
    odmoe_routing_init(&r);
    r.topw = w;
    free(run(&f, layer, f.n, &r));
    for (int t = 0; t < 30; t++)
        assert_float_equal(w[3 * t] + w[3 * t + 1] + w[3 * t + 2], 1, 1e-6);
    odmoe_layer_free(layer);
    fixture_free(&f);
}

static void ties_go_to_the_lower_index(void **state)
{
    layer_fixture f;
    fixture_make(&f, 1, 16, 8, 6, 2, 5);
    for (int e = 0; e < 6; e++) /* 1 and 4 alike and best, the others alike */
        for (int h = 0; h < 16; h++)
            f.router[0][e * 16 + h] = h == 0 && (e == 1 || e == 4) ? 1 : 0;
    for (int t = 0; t < 5; t++)
        f.x[t * 16] = 3;
    odmoe_layer *layer = fixture_layer(&f);
    int32_t top[10];
    odmoe_routing r;
    odmoe_routing_init(&r);
    r.topk = top;
    free(run(&f, layer, 5, &r));
    for (int t = 0; t < 5; t++) {
        assert_int_equal(top[2 * t], 1);
        assert_int_equal(top[2 * t + 1], 4);
    }
    for (int t = 0; t < 5; t++)
        f.x[t * 16] = 0; /* all alike */
    free(run(&f, layer, 5, &r));
    for (int t = 0; t < 5; t++) {
        assert_int_equal(top[2 * t], 0);
        assert_int_equal(top[2 * t + 1], 1);
    }
    odmoe_layer_free(layer);
    fixture_free(&f);
}

static void the_loss_is_top_k_for_a_uniform_router_and_the_experts_for_a_collapsed_top_1(void **state)
{
    layer_fixture f;
    fixture_make(&f, 1, 16, 8, 6, 2, 20);
    memset(f.router[0], 0, 6 * 16 * sizeof(float));
    odmoe_layer *layer = fixture_layer(&f);
    odmoe_balance *b;
    assert_int_equal(odmoe_balance_create(6, &b, &f.err), ODMOE_OK);
    odmoe_routing r;
    odmoe_routing_init(&r);
    r.balance = b;
    free(run(&f, layer, f.n, &r));
    assert_float_equal(r.aux, 2, 1e-6);
    assert_float_equal(odmoe_balance_loss(b, 0), 2, 1e-6);
    assert_float_equal(odmoe_balance_loss(b, 1), 1, 1e-6);
    odmoe_layer_free(layer);
    f.options.top_k = f.k = 1;
    for (int t = 0; t < 20; t++)
        f.x[t * 16] = 1;
    f.router[0][3 * 16] = 100;
    layer = fixture_layer(&f);
    odmoe_balance_reset(b);
    free(run(&f, layer, f.n, &r));
    assert_float_equal(r.aux, 6, 1e-5);
    odmoe_layer_free(layer);
    odmoe_balance_free(b);
    fixture_free(&f);
}

static void telemetry_of_a_collapsed_router_reads_high(void **state)
{
    layer_fixture f;
    fixture_make(&f, 1, 16, 8, 16, 1, 40);
    for (int t = 0; t < 40; t++)
        f.x[t * 16] = 1;
    f.router[0][3 * 16] = 100;
    odmoe_layer *layer = fixture_layer(&f);
    odmoe_layer_stats s = {.size = sizeof s};
    uint64_t counts[16];
    free(run(&f, layer, f.n, NULL));
    assert_int_equal(odmoe_layer_stats_get(layer, 0, &s, counts, &f.err), ODMOE_OK);
    assert_int_equal(s.selections, 40);
    assert_int_equal(counts[3], 40);
    assert_float_equal(s.imbalance, 1 + sqrt(15), 1e-9); /* one of 16 has all: std / mean = sqrt(15) */
    assert_float_equal(s.max_violation, 15, 1e-9);
    assert_float_equal(s.entropy, 0, 1e-9);
    char *json;
    assert_int_equal(odmoe_layer_stats_json(layer, 0, &json, &f.err), ODMOE_OK);
    assert_non_null(strstr(json, "\"counts\":[0,0,0,40,0,"));
    assert_non_null(strstr(json, "\"selections\":40"));
    odmoe_string_free(json);
    odmoe_layer_stats_reset(layer);
    assert_int_equal(odmoe_layer_stats_get(layer, 0, &s, counts, &f.err), ODMOE_OK);
    assert_int_equal(s.selections, 0);
    assert_int_equal(s.rows, 0);
    assert_int_equal(counts[3], 0);
    odmoe_layer_free(layer);
    fixture_free(&f);
}

static void a_read_error_in_the_middle_of_a_layer_travels_up_and_the_layer_goes_on(void **state)
{
    layer_fixture f;
    fixture_make(&f, 1, 16, 8, 6, 2, 60);
    odmoe_layer *layer = fixture_layer(&f);
    float *before = run(&f, layer, f.n, NULL), *y = malloc((size_t)(f.n * f.H) * sizeof *y);
    f.fail_expert = 3;
    assert_int_equal(odmoe_layer_forward(layer, 0, f.x, f.n, y, NULL, &f.err), ODMOE_ERR_IO);
    assert_string_equal(f.err.message, "expert 3: the test's disk is broken");
    assert_int_equal(f.given, 0);
    f.fail_expert = -1;
    free(y);
    y = run(&f, layer, f.n, NULL);
    assert_memory_equal(before, y, (size_t)(f.n * f.H) * sizeof *y);
    free(before);
    free(y);
    odmoe_layer_free(layer);
    fixture_free(&f);
}

static odmoe_status wrong_shape(void *ctx, void *batch, odmoe_expert *out, odmoe_error *err)
{
    odmoe_status status = fixture_next(ctx, batch, out, err);
    out->matrix[1].rows++;
    return status;
}

static void an_expert_of_another_shape_is_refused_not_read(void **state)
{
    layer_fixture f;
    fixture_make(&f, 1, 16, 8, 6, 2, 4);
    for (int with_poll = 0; with_poll < 2; with_poll++) {
        f.ops.next = with_poll ? fixture_next : wrong_shape;
        f.ops.poll = with_poll ? wrong_shape : NULL;
        odmoe_layer *layer = fixture_layer(&f);
        float y[64];
        assert_int_equal(odmoe_layer_forward(layer, 0, f.x, f.n, y, NULL, &f.err), ODMOE_ERR_FORMAT);
        assert_non_null(strstr(f.err.message, "shape"));
        odmoe_layer_free(layer);
    }
    fixture_free(&f);
}

/* ---- predictors ---- */

typedef struct guesser {
    odmoe_status status;
    int32_t ids[4], n;
    atomic_int observed, asked, highest;
    pthread_mutex_t *hold; /* predict waits for it */
} guesser;

static odmoe_status observe(void *ctx, int32_t layer, const odmoe_observation *rows, odmoe_error *err)
{
    guesser *g = ctx;
    assert_true(rows->n >= 1 && rows->n <= 64);
    g->observed++;
    return ODMOE_OK;
}

static odmoe_status predict(void *ctx, int32_t next, int32_t *experts, float *scores, int32_t capacity, int32_t *n,
                            odmoe_error *err)
{
    guesser *g = ctx;
    g->asked++;
    if (next > g->highest)
        g->highest = next;
    if (g->hold) {
        pthread_mutex_lock(g->hold);
        pthread_mutex_unlock(g->hold);
    }
    for (int i = 0; i < g->n; i++) {
        experts[i] = g->ids[i];
        scores[i] = (float)i;
    }
    *n = g->n;
    return g->status;
}

static float *run_stack(layer_fixture *f, odmoe_layer *layer)
{
    float *y = malloc((size_t)(f->n * f->H) * sizeof *y);
    if (odmoe_layer_forward_stack(layer, f->x, f->n, y, NULL, &f->err))
        fail_msg("%s", f->err.message);
    return y;
}

static void the_next_layer_is_asked_for_while_one_computes_and_never_one_past_the_last(void **state)
{
    layer_fixture f;
    fixture_make(&f, 4, 16, 8, 6, 2, 3);
    guesser g = {.ids = {2, 4, 0, 1}, .n = 4};
    odmoe_predictor p = {sizeof p, &g, observe, predict};
    f.options.predictor = &p;
    f.options.prefetch = 3;
    f.wait_for_prefetch = true; /* layer l does not go on before l + 1 has been asked for */
    odmoe_layer *layer = fixture_layer(&f);
    free(run_stack(&f, layer));
    odmoe_layer_stats s = {.size = sizeof s};
    assert_int_equal(odmoe_layer_stats_get(layer, 2, &s, NULL, &f.err), ODMOE_OK);
    assert_int_equal(s.predictions, 1);
    odmoe_layer_free(layer); /* waits for the thread */
    assert_int_equal(f.prefetches, 3);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(f.prefetch_layer[i], i + 1);
        assert_int_equal(f.prefetch_n[i], 3);
        assert_int_equal(f.prefetch_first[i], 1); /* the best score first */
    }
    assert_int_equal(g.highest, 3);
    fixture_free(&f);
}

/* Layer 1's router chooses what it chooses: the least likely expert of row 0 is never among it, the likeliest always.
 */
static void extremes_of_layer_1(const layer_fixture *f, int32_t *best, int32_t *worst)
{
    double lowest = INFINITY, highest = -INFINITY;
    *best = *worst = 0;
    for (int32_t e = 0; e < f->E; e++) {
        double logit = 0;
        for (int32_t h = 0; h < f->H; h++)
            logit += (double)f->router[1][e * f->H + h] * f->x[h];
        if (logit < lowest)
            *worst = e;
        if (logit > highest)
            *best = e;
        lowest = fmin(lowest, logit);
        highest = fmax(highest, logit);
    }
}

static int asked_missing(layer_fixture *f)
{
    pthread_mutex_lock(&f->lock);
    int n = f->asked_missing;
    pthread_mutex_unlock(&f->lock);
    return n;
}

/* Two layers over and over, one row, the first one `calls` times; what follows begins when the first one's guess of one
 * expert has been taken up, the next round when the last has been judged. How many experts were read ahead in the last
 * 10 rounds. */
static int read_ahead_at_last(layer_fixture *f, guesser *g, odmoe_layer *layer, int rounds, int calls)
{
    float *y = malloc((size_t)f->H * sizeof *y);
    int read = 0;
    for (int round = 0; round < rounds; round++) {
        pthread_mutex_lock(&f->lock);
        f->prefetches = f->asked_missing = 0;
        pthread_mutex_unlock(&f->lock);
        g->observed = 0;
        for (int call = 1; call <= calls; call++) {
            assert_int_equal(odmoe_layer_forward(layer, 0, f->x, 1, y, NULL, &f->err), ODMOE_OK);
            while (asked_missing(f) < call)
                usleep(20);
        }
        assert_int_equal(odmoe_layer_forward(layer, 1, f->x, 1, y, NULL, &f->err), ODMOE_OK);
        while (g->observed < calls + 1)
            usleep(20);
        pthread_mutex_lock(&f->lock);
        for (int i = 0; round >= rounds - 10 && i < f->prefetches; i++)
            read += f->prefetch_n[i];
        pthread_mutex_unlock(&f->lock);
    }
    free(y);
    return read;
}

static void a_predictor_that_is_wrong_stops_reading_and_one_that_is_right_goes_on(void **state)
{
    layer_fixture f;
    fixture_make(&f, 2, 16, 8, 6, 2, 1);
    int32_t best, worst;
    extremes_of_layer_1(&f, &best, &worst);
    guesser right = {.ids = {best}, .n = 1}, wrong = {.ids = {worst}, .n = 1};
    odmoe_predictor p = {sizeof p, &right, observe, predict};
    f.options.predictor = &p;
    odmoe_layer *layer = fixture_layer(&f);
    assert_int_equal(read_ahead_at_last(&f, &right, layer, 40, 1), 10);
    odmoe_layer_free(layer);
    p.ctx = &wrong;
    layer = fixture_layer(&f);
    assert_int_equal(read_ahead_at_last(&f, &wrong, layer, 40, 1), 0);
    wrong.ids[0] = best; /* it is still judged: what proves itself reads again */
    assert_int_equal(read_ahead_at_last(&f, &wrong, layer, 120, 1), 10);
    odmoe_layer_free(layer);
    fixture_free(&f);
}

/* Chunks of a call, and the micro-batches of a program that trains, come to one layer several times. */
static void a_guess_is_judged_by_the_layer_that_it_names_not_by_the_same_one_again(void **state)
{
    layer_fixture f;
    fixture_make(&f, 2, 16, 8, 6, 2, 1);
    int32_t best, worst;
    extremes_of_layer_1(&f, &best, &worst);
    for (int32_t h = 0; h < f.H; h++)
        f.router[0][best * f.H + h] = -f.x[h]; /* layer 0 never chooses what layer 1 always does */
    guesser right = {.ids = {best}, .n = 1};
    odmoe_predictor p = {sizeof p, &right, observe, predict};
    f.options.predictor = &p;
    odmoe_layer *layer = fixture_layer(&f);
    assert_int_equal(read_ahead_at_last(&f, &right, layer, 40, 2), 20);
    odmoe_layer_free(layer);
    fixture_free(&f);
}

static void check_harmless(const guesser *prototype, bool expect_failures)
{
    layer_fixture f;
    fixture_make(&f, 3, 16, 8, 6, 2, 3);
    odmoe_layer *layer = fixture_layer(&f);
    float *expected = run_stack(&f, layer);
    odmoe_layer_free(layer);
    guesser g = *prototype;
    pthread_mutex_t hold = PTHREAD_MUTEX_INITIALIZER;
    bool hangs = prototype->hold;
    if (hangs) {
        g.hold = &hold;
        pthread_mutex_lock(&hold);
    }
    odmoe_predictor p = {sizeof p, &g, observe, predict};
    f.options.predictor = &p;
    layer = fixture_layer(&f);
    for (int i = 0; i < 20; i++) {
        float *y = run_stack(&f, layer);
        assert_memory_equal(y, expected, (size_t)(f.n * f.H) * sizeof *y);
        free(y);
    }
    if (hangs)
        pthread_mutex_unlock(&hold);
    odmoe_layer_stats s = {.size = sizeof s};
    odmoe_layer_stats_get(layer, 1, &s, NULL, &f.err);
    odmoe_layer_free(layer);
    assert_true(!expect_failures || s.prediction_failures > 0);
    if (expect_failures)
        assert_true(f.prefetches <= 1);
    for (int i = 0; i < f.prefetches; i++)
        assert_true(f.prefetch_n[i] <= 4 && f.prefetch_first[i] >= 0 && f.prefetch_first[i] < 6);
    free(expected);
    fixture_free(&f);
}

static void a_predictor_that_errs_costs_nothing_but_speed(void **state)
{
    check_harmless(&(guesser){.status = ODMOE_ERR_STATE, .n = 1}, true);
}

static void a_predictor_that_hangs_costs_nothing_but_speed(void **state)
{
    pthread_mutex_t marker;
    check_harmless(&(guesser){.n = 2, .hold = &marker}, true);
}

static void a_predictor_that_names_experts_that_do_not_exist_is_not_believed(void **state)
{
    check_harmless(&(guesser){.n = 4, .ids = {-5, 3, 6, 1 << 30}}, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(output_equals_the_naive_loop_over_tokens),
        cmocka_unit_test(odd_sizes_equal_the_naive_loop),
        cmocka_unit_test(the_number_of_threads_and_of_other_rows_changes_no_byte),
        cmocka_unit_test(one_token),
        cmocka_unit_test(more_rows_than_a_chunk_give_the_same_bytes),
        cmocka_unit_test(an_output_that_overlaps_the_input_is_refused),
        cmocka_unit_test(a_budget_too_small_for_one_row_is_refused_with_the_figure),
        cmocka_unit_test(several_experts_are_asked_for_in_one_call_and_those_without_tokens_never),
        cmocka_unit_test(expert_weights_sum_to_one),
        cmocka_unit_test(ties_go_to_the_lower_index),
        cmocka_unit_test(the_loss_is_top_k_for_a_uniform_router_and_the_experts_for_a_collapsed_top_1),
        cmocka_unit_test(telemetry_of_a_collapsed_router_reads_high),
        cmocka_unit_test(a_read_error_in_the_middle_of_a_layer_travels_up_and_the_layer_goes_on),
        cmocka_unit_test(an_expert_of_another_shape_is_refused_not_read),
        cmocka_unit_test(the_next_layer_is_asked_for_while_one_computes_and_never_one_past_the_last),
        cmocka_unit_test(a_predictor_that_is_wrong_stops_reading_and_one_that_is_right_goes_on),
        cmocka_unit_test(a_guess_is_judged_by_the_layer_that_it_names_not_by_the_same_one_again),
        cmocka_unit_test(a_predictor_that_errs_costs_nothing_but_speed),
        cmocka_unit_test(a_predictor_that_hangs_costs_nothing_but_speed),
        cmocka_unit_test(a_predictor_that_names_experts_that_do_not_exist_is_not_believed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
