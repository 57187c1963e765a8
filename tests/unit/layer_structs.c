/* What a program may get wrong at the layer's border: structs of another size, a source that lends what it should not,
 * numbers out of range, inputs that are no numbers. */
#include "support/layer_fixture.h"

enum { H = 12, F = 20, E = 6, K = 2, N = 40 };
#define BEFORE(type, field) offsetof(type, field)
#define UNTOUCHED 0xa5

static void setup(layer_fixture *f)
{
    fixture_make(f, 1, H, F, E, K, N);
}

static float *run(layer_fixture *f, odmoe_layer *layer, odmoe_routing *routing)
{
    float *y = malloc(N * H * sizeof *y);
    if (odmoe_layer_forward(layer, 0, f->x, N, y, routing, &f->err))
        fail_msg("%s", f->err.message);
    return y;
}

static void says(const layer_fixture *f, odmoe_status got, odmoe_status status, const char *word)
{
    if (got != status || f->err.code != status || !strstr(f->err.message, word))
        fail_msg("status %d, '%s'; expected %d and '%s'", got, f->err.message, status, word);
}

/* ---- structs ---- */

static void a_size_that_was_never_set_is_an_error_that_names_the_function(void **state)
{
    layer_fixture f;
    float y[N * H];
    odmoe_layer *layer = NULL;
    odmoe_source *source = NULL;
    odmoe_expert_predictor *shipped = NULL;
    odmoe_tape *tape;
    setup(&f);
    odmoe_layer_options lo = f.options;
    lo.size = 0;
    says(&f, odmoe_layer_create(&lo, &layer, &f.err), ODMOE_ERR_ARG, "odmoe_layer_options_init");
    says(&f, odmoe_expert_predictor_create("router", &lo, &shipped, &f.err), ODMOE_ERR_ARG, "odmoe_layer_options_init");
    lo = f.options;
    f.ops.size = 0;
    says(&f, odmoe_layer_create(&lo, &layer, &f.err), ODMOE_ERR_ARG, "odmoe_source_ops");
    f.ops.size = sizeof f.ops;
    odmoe_predictor predictor = {.size = 0};
    lo.predictor = &predictor;
    says(&f, odmoe_layer_create(&lo, &layer, &f.err), ODMOE_ERR_ARG, "odmoe_predictor");
    predictor.size = BEFORE(odmoe_predictor, predict);
    says(&f, odmoe_layer_create(&lo, &layer, &f.err), ODMOE_ERR_ARG, "predict");
    odmoe_source_options so = {.path = "x"};
    says(&f, odmoe_source_open(&so, &source, &f.err), ODMOE_ERR_ARG, "odmoe_source_options_init");
    layer = fixture_layer(&f);
    odmoe_routing r = {.size = 0};
    says(&f, odmoe_layer_forward(layer, 0, f.x, N, y, &r, &f.err), ODMOE_ERR_ARG, "odmoe_routing_init");
    assert_int_equal(odmoe_tape_create(0, &tape, &f.err), ODMOE_OK);
    assert_int_equal(odmoe_layer_forward_train(layer, 0, f.x, N, y, NULL, tape, &f.err), ODMOE_OK);
    odmoe_backward b = {.dy = y};
    says(&f, odmoe_layer_backward(layer, tape, &b, &f.err), ODMOE_ERR_ARG, "odmoe_backward_init");
    odmoe_tape_free(tape);
    odmoe_layer_free(layer);
    fixture_free(&f);
}

static void shorter_structs_of_an_older_version_work_and_are_not_read_or_written_beyond(void **state)
{
    layer_fixture f;
    setup(&f);
    odmoe_layer *layer = fixture_layer(&f);
    float *expected = run(&f, layer, NULL);
    odmoe_layer_free(layer);
    /* a source without poll and what follows, options without a source's neighbours */
    odmoe_source_ops ops;
    memset(&ops, UNTOUCHED, sizeof ops);
    memcpy(&ops, &f.ops, BEFORE(odmoe_source_ops, poll));
    ops.size = BEFORE(odmoe_source_ops, poll);
    odmoe_layer_options lo;
    memset(&lo, UNTOUCHED, sizeof lo);
    memcpy(&lo, &f.options, BEFORE(odmoe_layer_options, predictor));
    lo.size = BEFORE(odmoe_layer_options, predictor);
    lo.source = &ops;
    assert_int_equal(odmoe_layer_create(&lo, &layer, &f.err), ODMOE_OK);
    /* a routing that ends before the balance */
    odmoe_routing r;
    int32_t topk[N * K];
    memset(&r, UNTOUCHED, sizeof r);
    r.size = BEFORE(odmoe_routing, topw);
    r.logits = r.probs = NULL;
    r.topk = topk;
    float *y = run(&f, layer, &r);
    assert_memory_equal(y, expected, N * H * sizeof *y);
    assert_true(topk[0] >= 0 && topk[0] < E);
    for (size_t i = r.size; i < sizeof r; i++)
        assert_int_equal(((unsigned char *)&r)[i], UNTOUCHED);
    free(y);
    /* a backward that ends before the callback, a statistic that ends before the reads */
    odmoe_tape *tape;
    float dx[N * H], again[N * H];
    odmoe_backward b;
    assert_int_equal(odmoe_tape_create(0, &tape, &f.err), ODMOE_OK);
    assert_int_equal(odmoe_layer_forward_train(layer, 0, f.x, N, again, NULL, tape, &f.err), ODMOE_OK);
    odmoe_backward_init(&b);
    b.dy = f.x;
    b.dx = dx;
    memset((char *)&b + BEFORE(odmoe_backward, balance), UNTOUCHED, sizeof b - BEFORE(odmoe_backward, balance));
    b.size = BEFORE(odmoe_backward, balance);
    if (odmoe_layer_backward(layer, tape, &b, &f.err))
        fail_msg("%s", f.err.message);
    odmoe_layer_stats s;
    memset(&s, UNTOUCHED, sizeof s);
    s.size = BEFORE(odmoe_layer_stats, hits);
    assert_int_equal(odmoe_layer_stats_get(layer, 0, &s, NULL, &f.err), ODMOE_OK);
    assert_int_equal(s.selections, 2 * N * K);
    for (size_t i = s.size; i < sizeof s; i++)
        assert_int_equal(((unsigned char *)&s)[i], UNTOUCHED);
    odmoe_tape_free(tape);
    odmoe_layer_free(layer);
    free(expected);
    fixture_free(&f);
}

static void longer_structs_of_a_newer_version_are_used_as_far_as_they_are_known(void **state)
{
    layer_fixture f;
    setup(&f);
    odmoe_layer *layer = fixture_layer(&f);
    float *expected = run(&f, layer, NULL);
    odmoe_layer_free(layer);
    struct {
        odmoe_source_ops known;
        char more[64];
    } ops = {.known = f.ops};
    struct {
        odmoe_layer_options known;
        char more[64];
    } lo = {.known = f.options};
    memset(ops.more, UNTOUCHED, sizeof ops.more);
    memset(lo.more, UNTOUCHED, sizeof lo.more);
    ops.known.size = sizeof ops;
    lo.known.size = sizeof lo;
    lo.known.source = &ops.known;
    assert_int_equal(odmoe_layer_create(&lo.known, &layer, &f.err), ODMOE_OK);
    float *y = run(&f, layer, NULL);
    assert_memory_equal(y, expected, N * H * sizeof *y);
    free(y);
    free(expected);
    odmoe_layer_free(layer);
    fixture_free(&f);
}

/* ---- a source that does not keep to its part ---- */

typedef enum mischief { BEYOND, NOT_ASKED, TWICE, OUT_OF_TURN, ENDS_EARLY, NO_DATA, NO_MATRIX, MISCHIEFS } mischief;
static mischief plan;
static int served;

static odmoe_status mischievous(void *ctx, void *batch, odmoe_expert *out, odmoe_error *err)
{
    layer_fixture *f = ctx;
    odmoe_status status = fixture_next(ctx, batch, out, err);
    if (status || out->expert < 0 || ++served != 2)
        return status;
    if (plan == BEYOND)
        out->expert = E;
    else if (plan == NOT_ASKED)
        out->expert = 5; /* without rows: see below */
    else if (plan == TWICE)
        out->expert = f->batch[0];
    else if (plan == OUT_OF_TURN)
        out->expert = f->batch[2];
    else if (plan == NO_DATA)
        out->matrix[2].data = NULL;
    else if (plan == NO_MATRIX)
        out->n = 0;
    if (plan == ENDS_EARLY) {
        out->expert = -1;
        f->given--;
    }
    return ODMOE_OK;
}

static void what_a_source_lends_wrongly_is_an_error_not_a_wrong_result(void **state)
{
    layer_fixture f;
    float y[N * H];
    setup(&f);
    for (int t = 0; t < N; t++)
        f.x[t * H] = 10;
    f.router[0][5 * H] = -100; /* expert 5 has no rows */
    odmoe_layer *layer = fixture_layer(&f);
    float *expected = run(&f, layer, NULL);
    odmoe_layer_free(layer);
    for (int with_poll = 0; with_poll < 2; with_poll++) {
        f.ops.next = mischievous;
        f.ops.poll = with_poll ? mischievous : NULL;
        layer = fixture_layer(&f);
        /* few rows: any order is right, so OUT_OF_TURN is for many */
        for (int64_t n = 20; n <= N; n += N - 20)
            for (plan = 0; plan < MISCHIEFS; plan++) {
                if (plan == OUT_OF_TURN && n < N)
                    continue;
                served = 0;
                odmoe_status status = odmoe_layer_forward(layer, 0, f.x, n, y, NULL, &f.err);
                says(&f, status, ODMOE_ERR_FORMAT, plan == ENDS_EARLY ? "the source" : "layer 0, expert");
                assert_int_equal(f.given, 0);
            }
        served = 1000; /* good again: so is the layer */
        assert_int_equal(odmoe_layer_forward(layer, 0, f.x, N, y, NULL, &f.err), ODMOE_OK);
        assert_memory_equal(y, expected, sizeof y);
        odmoe_layer_free(layer);
    }
    free(expected);
    fixture_free(&f);
}

/* ---- numbers ---- */

static void numbers_that_make_no_sense_are_refused_by_name(void **state)
{
    layer_fixture f;
    setup(&f);
    static const struct {
        const char *name;
        size_t at;
        int32_t wrong[3];
        odmoe_status status;
    } fields[] = {
        {"layers", offsetof(odmoe_layer_options, layers), {0, -1, INT32_MAX}, ODMOE_ERR_RANGE},
        {"hidden", offsetof(odmoe_layer_options, hidden), {0, -1, INT32_MAX}, ODMOE_ERR_RANGE},
        {"ffn", offsetof(odmoe_layer_options, ffn), {0, -1, INT32_MAX}, ODMOE_ERR_RANGE},
        {"experts", offsetof(odmoe_layer_options, experts), {0, -1, INT32_MAX}, ODMOE_ERR_RANGE},
        {"top-k", offsetof(odmoe_layer_options, top_k), {0, -1, E + 1}, ODMOE_ERR_RANGE},
        {"score", offsetof(odmoe_layer_options, router.score), {-1, ODMOE_SCORE_COUNT, INT32_MAX}, ODMOE_ERR_RANGE},
        {"groups", offsetof(odmoe_layer_options, router.groups), {-1, 4, INT32_MAX}, ODMOE_ERR_RANGE},
        {"activation",
         offsetof(odmoe_layer_options, activation),
         {-1, ODMOE_ACTIVATION_COUNT, INT32_MAX},
         ODMOE_ERR_RANGE},
        {"prefetch", offsetof(odmoe_layer_options, prefetch), {-1, INT32_MIN, INT32_MAX}, ODMOE_ERR_RANGE},
        {"threads", offsetof(odmoe_layer_options, threads), {-1, 257, INT32_MAX}, ODMOE_ERR_RANGE},
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        for (int w = 0; w < 3; w++) {
            odmoe_layer_options o = f.options;
            odmoe_layer *layer = NULL;
            memcpy((char *)&o + fields[i].at, &fields[i].wrong[w], sizeof(int32_t));
            says(&f, odmoe_layer_create(&o, &layer, &f.err), fields[i].status, fields[i].name);
            assert_null(layer);
        }
    odmoe_layer *layer = fixture_layer(&f);
    float y[H];
    static const int64_t rows[] = {0, -1, INT64_MIN, INT64_MAX};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        says(&f, odmoe_layer_forward(layer, 0, f.x, rows[i], y, NULL, &f.err), ODMOE_ERR_RANGE, "tokens");
        says(&f, odmoe_layer_forward_stack(layer, f.x, rows[i], y, NULL, &f.err), ODMOE_ERR_RANGE, "tokens");
    }
    static const int32_t indices[] = {-1, 1, INT32_MAX};
    odmoe_layer_stats s = {.size = sizeof s};
    char *json = NULL;
    odmoe_tape *tape;
    assert_int_equal(odmoe_tape_create(0, &tape, &f.err), ODMOE_OK);
    for (int i = 0; i < 3; i++) {
        says(&f, odmoe_layer_forward(layer, indices[i], f.x, 1, y, NULL, &f.err), ODMOE_ERR_RANGE, "layer");
        says(&f, odmoe_layer_stats_get(layer, indices[i], &s, NULL, &f.err), ODMOE_ERR_RANGE, "layer");
        says(&f, odmoe_layer_stats_json(layer, indices[i], &json, &f.err), ODMOE_ERR_RANGE, "layer");
    }
    says(&f, odmoe_layer_forward_train(layer, 0, f.x, 1ll << 40, y, NULL, tape, &f.err), ODMOE_ERR_RANGE, "tape");
    odmoe_balance *b;
    odmoe_routing r;
    odmoe_routing_init(&r);
    says(&f, odmoe_balance_create(0, &b, &f.err), ODMOE_ERR_RANGE, "experts");
    assert_int_equal(odmoe_balance_create(E + 1, &b, &f.err), ODMOE_OK);
    r.balance = b;
    says(&f, odmoe_layer_forward(layer, 0, f.x, 1, y, &r, &f.err), ODMOE_ERR_RANGE, "balance");
    odmoe_balance_free(b);
    odmoe_tape_free(tape);
    odmoe_layer_free(layer);
    fixture_free(&f);
}

static void a_token_that_is_no_number_is_an_error_and_a_huge_one_spoils_itself_alone(void **state)
{
    static const float values[] = {NAN, INFINITY, -INFINITY, 1e37f};
    layer_fixture f;
    for (int t = 0; odmoe_kernels_at(t); t++) {
        setup(&f);
        f.options.kernels = odmoe_kernels_at(t);
        odmoe_layer *layer = fixture_layer(&f);
        float *expected = run(&f, layer, NULL);
        static float y[N * H];
        odmoe_routing r;
        odmoe_routing_init(&r);
        for (size_t v = 0; v < sizeof values / sizeof *values; v++) {
            const int row = 7;
            float right = f.x[row * H + 3];
            f.x[row * H + 3] = values[v];
            odmoe_status status = odmoe_layer_forward(layer, 0, f.x, N, y, &r, &f.err);
            f.x[row * H + 3] = right;
            if (!isfinite(values[v])) {
                says(&f, status, ODMOE_ERR_RANGE, "layer 0, token 7");
                continue;
            }
            assert_int_equal(status, ODMOE_OK);
            assert_memory_equal(y, expected, row * H * sizeof *y);
            assert_memory_equal(y + (row + 1) * H, expected + (row + 1) * H, (N - row - 1) * H * sizeof *y);
            assert_true(isfinite(r.aux));
        }
        free(expected);
        odmoe_layer_free(layer);
        fixture_free(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_size_that_was_never_set_is_an_error_that_names_the_function),
        cmocka_unit_test(shorter_structs_of_an_older_version_work_and_are_not_read_or_written_beyond),
        cmocka_unit_test(longer_structs_of_a_newer_version_are_used_as_far_as_they_are_known),
        cmocka_unit_test(what_a_source_lends_wrongly_is_an_error_not_a_wrong_result),
        cmocka_unit_test(numbers_that_make_no_sense_are_refused_by_name),
        cmocka_unit_test(a_token_that_is_no_number_is_an_error_and_a_huge_one_spoils_itself_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
