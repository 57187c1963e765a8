/* The trainer: its optimiser by the book, and a checkpoint that is whole. */
#include "format/safetensors.h"
#include "support/golden.h"
#include "support/layer_fixture.h"
#include "trainer.h"

static void adamw_follows_the_formula_and_decays_apart_from_the_gradient(void **state)
{
    /* two steps by hand: b1 0.5, b2 0.75, rate 0.1, decay 0.2, epsilon 0; gradients 2 then -1 */
    adamw a = {.rate = 0.1f, .beta1 = 0.5f, .beta2 = 0.75f, .epsilon = 0, .weight_decay = 0.2f};
    float w = 3, g = 2, m = 0, v = 0;
    adamw_update(&a, 1, &w, &g, 1, &m, &v, 1);
    assert_float_equal(w, 3 - 0.1 * (1 + 0.2 * 3), 1e-6); /* m / (1 - b1) = 2, v / (1 - b2) = 4 */
    float before = w;
    g = -2; /* clipped by half */
    adamw_update(&a, 2, &w, &g, 0.5f, &m, &v, 1);
    assert_float_equal(m, 0.5 * 1 + 0.5 * -1, 1e-6);
    assert_float_equal(v, 0.75 * 1 + 0.25 * 1, 1e-6);
    assert_float_equal(w, before - 0.1 * (0 + 0.2 * before), 1e-6);
}

static void clipping_limits_the_norm_of_all_gradients_together(void **state)
{
    assert_float_equal(adamw_clip(100, 5), 0.5, 1e-7);
    assert_float_equal(adamw_clip(16, 5), 1, 1e-7);
    assert_float_equal(adamw_clip(100, 0), 1, 1e-7);
}

static double half_square(void *user, const float *y, int64_t n, float *dy)
{
    layer_fixture *f = user;
    double sum = 0;
    for (int64_t i = 0; i < n * f->H; i++) {
        float d = y[i] - 1;
        sum += 0.5 * d * d;
        dy[i] = d;
    }
    return sum;
}

static void a_checkpoint_holds_what_the_layer_computes_with_and_room_changes_nothing(void **state)
{
    layer_fixture f;
    fixture_make(&f, 1, 12, 8, 6, 2, 40);
    float *y[2];
    trainer_report r = {0};
    for (int room = 0; room < 2; room++) {
        trainer_options o;
        trainer *t;
        trainer_options_init(&o);
        o.hidden = f.H;
        o.ffn = f.F;
        o.experts = f.E;
        o.top_k = f.k;
        o.aux_coef = 0.01f;
        o.folder = ".";
        o.cache_bytes = room ? 16384 : 0; /* one expert */
        o.keep_activations = room;
        if (trainer_create(&o, f.router[0], f.experts[0], &t, &f.err))
            fail_msg("%s", f.err.message);
        double first = 0;
        for (int step = 0; step < 20; step++) {
            if (trainer_step(t, f.x, f.n, half_square, &f, &r, &f.err))
                fail_msg("%s", f.err.message);
            first = step ? first : r.loss;
        }
        assert_true(r.loss < first);
        y[room] = malloc((size_t)(f.n * f.H) * sizeof(float));
        assert_int_equal(trainer_forward(t, f.x, f.n, y[room], NULL, &f.err), ODMOE_OK);
        assert_int_equal(trainer_save(t, "checkpoint-test.safetensors", &f.err), ODMOE_OK);
        assert_int_equal(trainer_save(t, "/nowhere/checkpoint.safetensors", &f.err), ODMOE_ERR_IO);
        trainer_free(t);
    }
    assert_memory_equal(y[0], y[1], (size_t)(f.n * f.H) * sizeof(float));
    golden *g = golden_open("checkpoint-test.safetensors");
    assert_int_equal(golden_i64(g, NULL, "step")[0], 20);
    memcpy(f.router[0], golden_f32(g, NULL, "router"), (size_t)(f.E * f.H) * sizeof(float));
    memcpy(f.experts[0], golden_f32(g, NULL, "experts"), (size_t)(f.E * 3 * f.H * f.F) * sizeof(float));
    golden_close(g);
    odmoe_layer *layer = fixture_layer(&f);
    float *again = malloc((size_t)(f.n * f.H) * sizeof *again);
    assert_int_equal(odmoe_layer_forward(layer, 0, f.x, f.n, again, NULL, &f.err), ODMOE_OK);
    assert_memory_equal(again, y[0], (size_t)(f.n * f.H) * sizeof *again);
    odmoe_layer_free(layer);
    free(again);
    free(y[0]);
    free(y[1]);
    unlink("checkpoint-test.safetensors");
    fixture_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adamw_follows_the_formula_and_decays_apart_from_the_gradient),
        cmocka_unit_test(clipping_limits_the_norm_of_all_gradients_together),
        cmocka_unit_test(a_checkpoint_holds_what_the_layer_computes_with_and_room_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
