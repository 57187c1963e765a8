/* The layer agrees with PyTorch's float64 autograd on all cases of tests/data/layer (make_layer.py), with every kernel
 * table of this machine, with room for one expert and for all. */
#include "support/layer_case.h"

static const int rooms[] = {1, 0};

/* Call fn for each case, table and room. */
static void each(void (*fn)(layer_case *c))
{
    for (int i = 0; i < LAYER_CASES; i++)
        for (int t = 0; odmoe_kernels_at(t); t++)
            for (int r = 0; r < 2; r++) {
                layer_case c;
                layer_case_load(&c, &layer_cases[i]);
                layer_case_open(&c, rooms[r], odmoe_kernels_at(t), 0);
                fn(&c);
                layer_case_close(&c);
            }
}

static void near(const layer_case *c, const char *what, const float *got, const char *name, double limit)
{
    size_t n;
    const float *expected = golden_f32(c->g, &n, "%s", name);
    double error = relative_error(got, expected, n);
    if (error > limit)
        fail_msg("%s: %s is off by %.2e", c->info->name, what, error);
}

static void check_forward(layer_case *c)
{
    size_t rows = (size_t)c->n, E = (size_t)c->E, k = (size_t)c->k;
    float *y = malloc(rows * (size_t)c->H * sizeof *y), *logits = malloc(rows * E * sizeof *logits),
          *probs = malloc(rows * E * sizeof *probs), *topw = malloc(rows * k * sizeof *topw);
    int32_t *topk = malloc(rows * k * sizeof *topk);
    uint64_t *counts = malloc(E * sizeof *counts);
    odmoe_routing r;
    odmoe_routing_init(&r);
    r.logits = logits;
    r.probs = probs;
    r.topk = topk;
    r.topw = topw;
    if (odmoe_layer_forward(c->layer, 0, c->x, c->n, y, &r, &c->err))
        fail_msg("%s", c->err.message);
    near(c, "y", y, "y", 1e-5);
    near(c, "logits", logits, "logits", 1e-5);
    near(c, "probs", probs, "probs", 1e-5);
    near(c, "topw", topw, "topw", 1e-5);
    float aux = (float)r.aux;
    near(c, "aux", &aux, "aux", 1e-5);
    assert_memory_equal(topk, golden_i32(c->g, NULL, "topk"), rows * k * sizeof *topk);
    odmoe_layer_stats s = {.size = sizeof s};
    assert_int_equal(odmoe_layer_stats_get(c->layer, 0, &s, counts, &c->err), ODMOE_OK);
    const int64_t *expected = golden_i64(c->g, NULL, "counts");
    for (size_t e = 0; e < E; e++)
        assert_int_equal(counts[e], expected[e]);
    float imbalance = (float)s.imbalance;
    near(c, "imbalance", &imbalance, "imbalance", 1e-5);
    assert_int_equal(s.selections, rows * k);
    free(y);
    free(logits);
    free(probs);
    free(topw);
    free(topk);
    free(counts);
}

static void forward_agrees(void **state)
{
    each(check_forward);
}

/* Flat gradients of all experts; those without rows stay zero. */
typedef struct collected {
    const layer_case *c;
    float *all;
    int last;
} collected;

static odmoe_status collect(void *user, const odmoe_expert *g, odmoe_error *err)
{
    collected *to = user;
    size_t piece = (size_t)to->c->H * (size_t)to->c->F;
    assert_true(g->expert > to->last);
    to->last = g->expert;
    assert_int_equal(g->n, 3);
    assert_int_equal(g->matrix[0].role, ODMOE_GATE);
    assert_int_equal(g->matrix[1].role, ODMOE_DOWN);
    assert_int_equal(g->matrix[2].role, ODMOE_UP);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(g->matrix[i].type, ODMOE_TYPE_F32);
        assert_true((const float *)g->matrix[i].data == (const float *)g->matrix[0].data + (size_t)i * piece);
    }
    memcpy(to->all + (size_t)g->expert * 3 * piece, g->matrix[0].data, 3 * piece * sizeof(float));
    return ODMOE_OK;
}

static void run_backward(layer_case *c, int keep, float *dx, float *drouter, float *dexperts)
{
    odmoe_tape *tape;
    float *y = malloc((size_t)c->n * (size_t)c->H * sizeof *y);
    assert_int_equal(odmoe_tape_create(keep, &tape, &c->err), ODMOE_OK);
    if (odmoe_layer_forward_train(c->layer, 0, c->x, c->n, y, NULL, tape, &c->err))
        fail_msg("%s", c->err.message);
    near(c, "y (recorded)", y, "y", 1e-5);
    collected to = {c, dexperts, -1};
    odmoe_backward b;
    odmoe_backward_init(&b);
    b.dy = c->dy;
    b.dx = dx;
    b.drouter = drouter;
    b.aux_coef = c->info->aux_coef;
    b.on_expert = collect;
    b.user = &to;
    if (odmoe_layer_backward(c->layer, tape, &b, &c->err))
        fail_msg("%s", c->err.message);
    odmoe_tape_free(tape);
    free(y);
}

static void check_backward(layer_case *c)
{
    size_t H = (size_t)c->H, E = (size_t)c->E, flat = 3 * H * (size_t)c->F;
    float *dx[2], *drouter[2], *dexperts[2];
    for (int keep = 0; keep < 2; keep++) {
        dx[keep] = malloc((size_t)c->n * H * sizeof(float));
        drouter[keep] = malloc(E * H * sizeof(float));
        dexperts[keep] = calloc(E * flat, sizeof(float));
        run_backward(c, keep, dx[keep], drouter[keep], dexperts[keep]);
        near(c, "dx", dx[keep], "dx", 1e-4);
        near(c, "drouter", drouter[keep], "drouter", 1e-4);
        near(c, "dexperts", dexperts[keep], "dexperts", 1e-4);
    }
    for (int keep = 0; keep < 2; keep++) {
        free(dx[keep]);
        free(drouter[keep]);
        free(dexperts[keep]);
    }
}

static void gradients_agree_kept_and_recomputed(void **state)
{
    each(check_backward);
}

static void room_for_one_expert_and_for_all_give_the_same_bytes(void **state)
{
    for (int i = 0; i < LAYER_CASES; i++) {
        layer_case c;
        float *y[2], *dx[2];
        layer_case_load(&c, &layer_cases[i]);
        size_t numbers = (size_t)c.n * (size_t)c.H;
        float *drouter = malloc((size_t)(c.E * c.H) * sizeof(float));
        float *dexperts = calloc((size_t)c.E * 3 * (size_t)c.H * (size_t)c.F, sizeof(float));
        for (int r = 0; r < 2; r++) {
            layer_case_open(&c, rooms[r], "auto", 0);
            y[r] = malloc(numbers * sizeof(float));
            dx[r] = malloc(numbers * sizeof(float));
            assert_int_equal(odmoe_layer_forward(c.layer, 0, c.x, c.n, y[r], NULL, &c.err), ODMOE_OK);
            run_backward(&c, 0, dx[r], drouter, dexperts);
            layer_case_shut(&c);
        }
        assert_memory_equal(y[0], y[1], numbers * sizeof(float));
        assert_memory_equal(dx[0], dx[1], numbers * sizeof(float));
        for (int r = 0; r < 2; r++) {
            free(y[r]);
            free(dx[r]);
        }
        free(drouter);
        free(dexperts);
        layer_case_close(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forward_agrees),
        cmocka_unit_test(gradients_agree_kept_and_recomputed),
        cmocka_unit_test(room_for_one_expert_and_for_all_give_the_same_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
