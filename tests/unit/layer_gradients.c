/* Gradients by finite differences, for every variant of router that the goldens leave out, and the losses. */
#include "support/layer_fixture.h"

#include "api/layer_handles.h"

typedef struct problem {
    layer_fixture f;
    odmoe_layer *layer;
    float *dy;
    float aux_coef, z_coef;
    int aux_normalised;
} problem;

/* sum(y * dy) + losses, in double; the experts chosen must be `topk` (or it is filled where NULL). */
static double objective(problem *p, int32_t *topk)
{
    layer_fixture *f = &p->f;
    float *y = malloc((size_t)(f->n * f->H) * sizeof *y);
    odmoe_routing r;
    odmoe_balance *b;
    odmoe_routing_init(&r);
    assert_int_equal(odmoe_balance_create(f->E, &b, &f->err), ODMOE_OK);
    r.balance = b;
    r.topk = topk;
    if (odmoe_layer_forward(p->layer, 0, f->x, f->n, y, &r, &f->err))
        fail_msg("%s", f->err.message);
    double sum = p->aux_coef * odmoe_balance_loss(b, p->aux_normalised) + p->z_coef * r.z;
    for (int64_t i = 0; i < f->n * f->H; i++)
        sum += (double)y[i] * p->dy[i];
    odmoe_balance_free(b);
    free(y);
    return sum;
}

static odmoe_status take(void *user, const odmoe_expert *g, odmoe_error *err)
{
    problem *p = ((void **)user)[0];
    float *all = ((void **)user)[1];
    size_t flat = 3 * (size_t)(p->f.H * p->f.F);
    memcpy(all + (size_t)g->expert * flat, g->matrix[0].data, flat * sizeof *all);
    return ODMOE_OK;
}

/* Compare some entries of a gradient with differences; a step that changes a choice is left out. */
static void compare(problem *p, const char *what, float *at, const float *gradient, int64_t n, int64_t stride)
{
    size_t pairs = (size_t)(p->f.n * p->f.k);
    int32_t *same = malloc(pairs * sizeof *same), *now = malloc(pairs * sizeof *now);
    double worst = 0, scale = 0;
    int compared = 0;
    objective(p, same);
    for (int64_t i = 0; i < n; i += stride) {
        float kept = at[i];
        const float step = 4e-3f;
        at[i] = kept + step;
        double up = objective(p, now);
        bool usable = !memcmp(same, now, pairs * sizeof *now);
        double wide = (double)at[i];
        at[i] = kept - step;
        double down = objective(p, now);
        usable = usable && !memcmp(same, now, pairs * sizeof *now);
        wide -= (double)at[i];
        at[i] = kept;
        if (!usable)
            continue;
        double d = fabs((up - down) / wide - gradient[i]);
        worst = d > worst ? d : worst;
        scale = fabs(gradient[i]) > scale ? fabs(gradient[i]) : scale;
        compared++;
    }
    free(same);
    free(now);
    assert_true(compared > (n > 10 ? 10 : 3));
    if (worst > 4e-3 * scale)
        fail_msg("%s: differences are off by %g of %g", what, worst, scale);
}

static void check(const odmoe_router *router, float aux_coef, int aux_normalised, float z_coef)
{
    problem p = {.aux_coef = aux_coef, .aux_normalised = aux_normalised, .z_coef = z_coef};
    layer_fixture *f = &p.f;
    fixture_make(f, 1, 9, 7, 8, 3, 10);
    f->options.router = *router;
    float bias[8] = {0.3f, -0.2f, 0, 0.1f, -0.4f, 0.2f, 0, 0.5f}, dbias[8];
    const float scale[8] = {1, 0.5f, 2, -1, 1.5f, 0.7f, 1, 3}, *biases = bias, *scales = scale;
    f->options.linear_bias = &biases;
    f->options.expert_scale = &scales;
    p.layer = fixture_layer(f);
    p.dy = fixture_numbers((size_t)(f->n * f->H), 1, 41);
    size_t experts = (size_t)f->E * 3 * (size_t)(f->H * f->F);
    float *y = malloc((size_t)(f->n * f->H) * sizeof *y), *dx = malloc((size_t)(f->n * f->H) * sizeof *dx),
          *dr = malloc((size_t)(f->E * f->H) * sizeof *dr), *de = calloc(experts, sizeof *de);
    odmoe_tape *tape;
    odmoe_tape_create(1, &tape, &f->err);
    odmoe_backward b;
    odmoe_backward_init(&b);
    assert_int_equal(odmoe_layer_backward(p.layer, tape, &b, &f->err), ODMOE_ERR_STATE); /* nothing recorded */
    assert_int_equal(odmoe_layer_forward_train(p.layer, 0, f->x, f->n, y, NULL, tape, &f->err), ODMOE_OK);
    b.dy = p.dy;
    b.dx = dx;
    b.drouter = dr;
    b.dlinear_bias = dbias;
    b.aux_coef = aux_coef;
    b.aux_normalised = aux_normalised;
    b.z_coef = z_coef;
    b.on_expert = take;
    b.user = (void *[]){&p, de};
    if (odmoe_layer_backward(p.layer, tape, &b, &f->err))
        fail_msg("%s", f->err.message);
    compare(&p, "dx", f->x, dx, f->n * f->H, 1);
    compare(&p, "drouter", f->router[0], dr, f->E * f->H, 1);
    compare(&p, "dlinear_bias", bias, dbias, f->E, 1);
    compare(&p, "dexperts", f->experts[0], de, (int64_t)experts, 23);
    odmoe_tape_free(tape);
    odmoe_layer_free(p.layer);
    free(y);
    free(dx);
    free(dr);
    free(de);
    free(p.dy);
    fixture_free(f);
}

static void softmax_renormalised(void **state)
{
    check(&(odmoe_router){.size = sizeof(odmoe_router),
                          .score = ODMOE_SCORE_SOFTMAX,
                          .renormalise = 1,
                          .scale = 1,
                          .groups = 0,
                          .groups_used = 0},
          0.5f, 0, 0.1f);
}

static void softmax_not_renormalised_and_scaled(void **state)
{
    check(&(odmoe_router){.size = sizeof(odmoe_router),
                          .score = ODMOE_SCORE_SOFTMAX,
                          .renormalise = 0,
                          .scale = 2.5f,
                          .groups = 0,
                          .groups_used = 0},
          0.5f, 1, 0);
}

static void softmax_of_the_chosen(void **state)
{
    check(&(odmoe_router){.size = sizeof(odmoe_router), .score = ODMOE_SCORE_SOFTMAX_CHOSEN, .scale = 1.2f}, 0.5f, 0,
          0.1f);
}

static void square_root_of_softplus_renormalised_with_something_added_to_the_sum(void **state)
{
    check(&(odmoe_router){.size = sizeof(odmoe_router),
                          .score = ODMOE_SCORE_SQRT_SOFTPLUS,
                          .renormalise = 1,
                          .sum_add = 0.3f,
                          .scale = 1.5f},
          0.5f, 0, 0.1f);
}

static void a_sum_below_its_floor_does_not_move_with_the_scores(void **state)
{
    check(
        &(odmoe_router){
            .size = sizeof(odmoe_router), .score = ODMOE_SCORE_SIGMOID, .renormalise = 1, .sum_floor = 50, .scale = 30},
        0.5f, 0, 0.1f);
}

static void sigmoid_renormalised_with_balance_and_z_loss(void **state)
{
    check(&(odmoe_router){.size = sizeof(odmoe_router),
                          .score = ODMOE_SCORE_SIGMOID,
                          .renormalise = 1,
                          .scale = 1.5f,
                          .groups = 0,
                          .groups_used = 0},
          0.5f, 0, 0.1f);
}

static void sigmoid_limited_to_groups(void **state)
{
    check(&(odmoe_router){.size = sizeof(odmoe_router),
                          .score = ODMOE_SCORE_SIGMOID,
                          .renormalise = 0,
                          .scale = 1,
                          .groups = 4,
                          .groups_used = 2},
          0.5f, 1, 0);
}

/* One expert, one row: the router's gradient is dy * output * s'(logit) * x, in double. From logits of 17 on, a score
 * in float is 1, and says nothing of its distance from it. */
static void a_sigmoid_far_from_zero_keeps_the_digits_of_its_gradient(void **state)
{
    static const float logits[] = {-30, -17, -5, 0, 5, 12, 17, 20, 40, 80};
    for (size_t i = 0; i < sizeof logits / sizeof *logits; i++) {
        layer_fixture f;
        fixture_make(&f, 1, 1, 1, 1, 1, 1);
        f.x[0] = 1;
        f.router[0][0] = logits[i];
        f.experts[0][0] = f.experts[0][1] = f.experts[0][2] = 1;
        f.options.router = (odmoe_router){.size = sizeof(odmoe_router),
                                          .score = ODMOE_SCORE_SIGMOID,
                                          .renormalise = 0,
                                          .scale = 1,
                                          .groups = 0,
                                          .groups_used = 0};
        odmoe_layer *layer = fixture_layer(&f);
        odmoe_tape *tape;
        float y, dy = 1, dr = NAN;
        odmoe_tape_create(0, &tape, &f.err);
        assert_int_equal(odmoe_layer_forward_train(layer, 0, f.x, 1, &y, NULL, tape, &f.err), ODMOE_OK);
        odmoe_backward b;
        odmoe_backward_init(&b);
        b.dy = &dy;
        b.drouter = &dr;
        assert_int_equal(odmoe_layer_backward(layer, tape, &b, &f.err), ODMOE_OK);
        double e = exp(-fabs((double)logits[i])), expected = 1 / (1 + exp(-1.0)) * e / ((1 + e) * (1 + e));
        if (!(fabs(dr - expected) <= 1e-5 * expected))
            fail_msg("logit %g: gradient %g, expected %g", (double)logits[i], (double)dr, expected);
        odmoe_tape_free(tape);
        odmoe_layer_free(layer);
        fixture_free(&f);
    }
}

/* A layer of these sizes that lies where the one that recorded the tape lay, before it was freed. */
static odmoe_status backward_in_its_place(odmoe_tape *tape, int32_t L, int32_t H, int32_t F, int32_t E, int32_t k)
{
    layer_fixture f;
    fixture_make(&f, L, H, F, E, k, 30);
    odmoe_layer *layer = fixture_layer(&f);
    moe_layer *recorded = tape->t.m;
    odmoe_backward b;
    odmoe_backward_init(&b);
    b.dy = f.x;
    b.drouter = malloc((size_t)(E * H) * sizeof(float));
    tape->t.m = &layer->m;
    odmoe_status status = odmoe_layer_backward(layer, tape, &b, &f.err);
    tape->t.m = recorded;
    free(b.drouter);
    odmoe_layer_free(layer);
    fixture_free(&f);
    return status;
}

static void a_tape_does_not_fit_a_layer_of_other_sizes_at_the_same_address(void **state)
{
    layer_fixture f;
    fixture_make(&f, 2, 9, 7, 8, 3, 30);
    odmoe_layer *layer = fixture_layer(&f);
    float *y = malloc((size_t)(f.n * f.H) * sizeof *y);
    odmoe_tape *tape;
    odmoe_tape_create(1, &tape, &f.err);
    assert_int_equal(odmoe_layer_forward_train(layer, 1, f.x, f.n, y, NULL, tape, &f.err), ODMOE_OK);
    static const int32_t others[][5] = {
        {1, 9, 7, 8, 3}, {2, 8, 7, 8, 3}, {2, 9, 6, 8, 3}, {2, 9, 7, 9, 3}, {2, 9, 7, 8, 2}};
    for (int i = 0; i < 5; i++)
        assert_int_equal(
            backward_in_its_place(tape, others[i][0], others[i][1], others[i][2], others[i][3], others[i][4]),
            ODMOE_ERR_STATE);
    assert_int_equal(backward_in_its_place(tape, 2, 9, 7, 8, 3), ODMOE_OK);
    free(y);
    odmoe_tape_free(tape);
    odmoe_layer_free(layer);
    fixture_free(&f);
}

static odmoe_status refuse(void *user, const odmoe_expert *g, odmoe_error *err)
{
    ++*(int *)user;
    return g->expert >= 2 ? ODMOE_ERR_CANCELLED : ODMOE_OK;
}

static void a_callback_or_a_source_that_fails_ends_backward(void **state)
{
    layer_fixture f;
    fixture_make(&f, 1, 9, 7, 8, 3, 30);
    odmoe_layer *layer = fixture_layer(&f);
    float *y = malloc((size_t)(f.n * f.H) * sizeof *y);
    odmoe_tape *tape;
    int calls = 0;
    odmoe_tape_create(0, &tape, &f.err);
    assert_int_equal(odmoe_layer_forward_train(layer, 0, f.x, f.n, y, NULL, tape, &f.err), ODMOE_OK);
    odmoe_backward b;
    odmoe_backward_init(&b);
    b.dy = f.x;
    b.on_expert = refuse;
    b.user = &calls;
    assert_int_equal(odmoe_layer_backward(layer, tape, &b, &f.err), ODMOE_ERR_CANCELLED);
    assert_int_equal(calls, 3);
    assert_int_equal(f.given, 0);
    f.fail_expert = 1;
    assert_int_equal(odmoe_layer_backward(layer, tape, &b, &f.err), ODMOE_ERR_IO);
    assert_int_equal(calls, 4);
    odmoe_tape_free(tape);
    free(y);
    odmoe_layer_free(layer);
    fixture_free(&f);
}

/* Hugging Face's loss is taken over the rows of all layers: E * sum_i (slots_i / rows) * (probabilities_i / rows). */
static void one_balance_for_all_layers_is_the_loss_over_concatenated_layers(void **state)
{
    layer_fixture f;
    enum { L = 3, E = 6, ROWS = 25 };
    fixture_make(&f, L, 12, 8, E, 2, ROWS);
    odmoe_layer *layer = fixture_layer(&f);
    odmoe_balance *all;
    float *y = malloc((size_t)(f.n * f.H) * sizeof *y), probs[L][ROWS * E];
    int32_t topk[L][ROWS * 2];
    double slots[E] = {0}, sums[E] = {0}, expected = 0, apart = 0;
    assert_int_equal(odmoe_balance_create(E, &all, &f.err), ODMOE_OK);
    for (int l = 0; l < L; l++) {
        odmoe_routing r;
        odmoe_routing_init(&r);
        r.balance = all;
        r.probs = probs[l];
        r.topk = topk[l];
        assert_int_equal(odmoe_layer_forward(layer, l, f.x, f.n, y, &r, &f.err), ODMOE_OK);
        apart += r.aux / L;
        for (int i = 0; i < ROWS * 2; i++)
            slots[topk[l][i]]++;
        for (int i = 0; i < ROWS * E; i++)
            sums[i % E] += probs[l][i];
    }
    for (int e = 0; e < E; e++)
        expected += E * slots[e] / (L * ROWS) * sums[e] / (L * ROWS);
    assert_float_equal(odmoe_balance_loss(all, 0), expected, 1e-6);
    assert_true(fabs(apart - expected) > 1e-4); /* the mean of the layers' own losses is another number */
    odmoe_balance_free(all);
    free(y);
    odmoe_layer_free(layer);
    fixture_free(&f);
}

static void the_bias_moves_against_the_load_and_changes_the_selection_only(void **state)
{
    layer_fixture f;
    fixture_make(&f, 1, 12, 8, 6, 2, 200);
    for (int t = 0; t < 200; t++)
        f.x[t * 12] = 1;
    f.router[0][2 * 12] = 3; /* expert 2 takes a slot of nearly every row */
    float bias[6] = {0}, w[400];
    const float *biases = bias;
    f.options.selection_bias = &biases;
    f.options.router.renormalise = 0;
    odmoe_layer *layer = fixture_layer(&f);
    odmoe_balance *b;
    odmoe_balance_create(6, &b, &f.err);
    float *y = malloc((size_t)(f.n * f.H) * sizeof *y), probs[1200];
    int32_t topk[400];
    odmoe_layer_stats s = {.size = sizeof s};
    double first = 0;
    for (int step = 0; step < 600; step++) {
        odmoe_routing r;
        odmoe_routing_init(&r);
        r.balance = b;
        r.topk = topk;
        r.topw = w;
        r.probs = probs;
        odmoe_balance_reset(b);
        odmoe_layer_stats_reset(layer);
        assert_int_equal(odmoe_layer_forward(layer, 0, f.x, f.n, y, &r, &f.err), ODMOE_OK);
        odmoe_layer_stats_get(layer, 0, &s, NULL, &f.err);
        first = step ? first : s.imbalance;
        odmoe_balance_update_bias(b, 0.003f, bias);
        for (int i = 0; i < 400; i++) /* the weight is the score, not score and bias */
            assert_float_equal(w[i], probs[i / 2 * 6 + topk[i]], 1e-7);
    }
    assert_true(first > 1.6);
    assert_true(s.imbalance < 1.15);
    odmoe_balance_free(b);
    free(y);
    odmoe_layer_free(layer);
    fixture_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(softmax_renormalised),
        cmocka_unit_test(softmax_not_renormalised_and_scaled),
        cmocka_unit_test(softmax_of_the_chosen),
        cmocka_unit_test(square_root_of_softplus_renormalised_with_something_added_to_the_sum),
        cmocka_unit_test(a_sum_below_its_floor_does_not_move_with_the_scores),
        cmocka_unit_test(sigmoid_renormalised_with_balance_and_z_loss),
        cmocka_unit_test(sigmoid_limited_to_groups),
        cmocka_unit_test(a_sigmoid_far_from_zero_keeps_the_digits_of_its_gradient),
        cmocka_unit_test(a_tape_does_not_fit_a_layer_of_other_sizes_at_the_same_address),
        cmocka_unit_test(a_callback_or_a_source_that_fails_ends_backward),
        cmocka_unit_test(one_balance_for_all_layers_is_the_loss_over_concatenated_layers),
        cmocka_unit_test(the_bias_moves_against_the_load_and_changes_the_selection_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
