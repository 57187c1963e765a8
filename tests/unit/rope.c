/* Rotary positions: the frequencies of every scaling, and what turning does to a head. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "compute/compute.h"
#include "kernels/kernels.h"
#include "model/rope.h"
#include "support/golden.h"

#define HALF_MOST 64

static rope made(const rope_set *c, float *room)
{
    rope r;
    odmoe_error err = {0};
    arena a = {.base = (uint8_t *)room};
    rope_layout(&a, c, &r);
    if (rope_fill(&r, c, NULL, 0, &err))
        fail_msg("%s", err.message);
    return r;
}

static rope_set plain(int dim, double theta)
{
    return (rope_set){.dim = dim, .positions = {.theta = theta, .factor = 1}};
}

static void assert_near(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance * fabs(want)))
        fail_msg("%.9g, expected %.9g", got, want);
}

/* The scaling that a line of the file names. */
static rope_scaling scaling_of(const char *kind)
{
    static const char *const names[] = {
        [ROPE_NONE] = "none",     [ROPE_LINEAR] = "linear", [ROPE_YARN] = "yarn", [ROPE_PROPORTIONAL] = "proportional",
        [ROPE_LLAMA3] = "llama3", [ROPE_LONG] = "long",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(kind, names[i]))
            return (rope_scaling)i;
    assert_string_equal(kind, "step");
    return ROPE_YARN;
}

static void frequencies_are_those_of_the_papers(void **state)
{
    FILE *f = fopen(test_path("rope/expected.txt"), "r");
    assert_non_null(f);
    char kind[16];
    int cases = 0, dims, truncate;
    rope_config rc;
    while (fscanf(f, "%15s %lf %d %lf %ld %lf %lf %d %lf", kind, &rc.theta, &dims, &rc.factor, &rc.original_context,
                  &rc.beta_fast, &rc.beta_slow, &truncate, &rc.attention_factor) == 9) {
        float room[HALF_MOST], factors[HALF_MOST];
        double want;
        odmoe_error err;
        rope r;
        arena a = {.base = (uint8_t *)room};
        rc.step_ramp = !strcmp(kind, "step");
        rc.scaling = scaling_of(kind);
        rc.truncate = truncate;
        rc.part = rc.beta_fast;
        rc.long_attention = rc.attention_factor;
        rope_set c = {.dim = dims, .positions = rc};
        for (int i = 0; i < dims / 2; i++)
            factors[i] = 1 + (float)i / 2;
        rope_layout(&a, &c, &r);
        assert_int_equal(rope_fill(&r, &c, rc.scaling == ROPE_LONG ? factors : NULL, 2 * rc.original_context, &err),
                         ODMOE_OK);
        assert_int_equal(r.half, dims / 2);
        assert_int_equal(fscanf(f, "%lf", &want), 1);
        assert_near(r.scale, want, 1e-6);
        for (int i = 0; i < r.half; i++) {
            assert_int_equal(fscanf(f, "%lf", &want), 1);
            assert_near(r.inverse_freq[i], want, 1e-6);
        }
        cases++;
    }
    fclose(f);
    assert_int_equal(cases, 18);
}

static void contexts_beyond_the_original_one_have_factors_of_their_own(void **state)
{
    rope_set c = {.dim = 8,
                  .positions = {.theta = 1e4,
                                .factor = 4,
                                .scaling = ROPE_LONG,
                                .original_context = 1024,
                                .attention_factor = 1.5,
                                .long_attention = 2.5}};
    assert_false(rope_is_long(&c, 1024));
    assert_true(rope_is_long(&c, 1025));
    float room[4];
    odmoe_error err;
    rope r;
    arena a = {.base = (uint8_t *)room};
    rope_layout(&a, &c, &r);
    assert_int_equal(rope_fill(&r, &c, NULL, 1024, &err), ODMOE_OK);
    assert_near(r.scale, 1.5, 1e-7);
    assert_int_equal(rope_fill(&r, &c, NULL, 1025, &err), ODMOE_OK);
    assert_near(r.scale, 2.5, 1e-7);
    c.positions.scaling = ROPE_YARN;
    assert_false(rope_is_long(&c, 4096));
}

/* ---- turning ---- */

/* One head [n] at a position, by the operations that the model uses. */
static void turn(const rope *r, const float *head, int position, float *out, int n)
{
    float cosines[HALF_MOST], sines[HALF_MOST];
    compute c = compute_cpu(kernel_table_find("ref"), 1);
    buffer cos_of = {.cols = r->half, .values = cosines}, sin_of = {.cols = r->half, .values = sines};
    buffer y = {.cols = n, .values = out};
    memcpy(out, head, (size_t)n * sizeof *out);
    const token_op ops[] = {{.kind = TOKEN_ROPE_ANGLES,
                             .y = &cos_of,
                             .z = &sin_of,
                             .weight = r->inverse_freq,
                             .factor = r->scale,
                             .positions = &position},
                            {.kind = TOKEN_ROPE, .y = &y, .x = &cos_of, .z = &sin_of, .pairing = r->pairing}};
    c.op->tokens(&c, ops, 2, 1);
}

static double dot(const float *a, const float *b, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += (double)a[i] * b[i];
    return sum;
}

static void position_zero_changes_nothing(void **state)
{
    const float head[8] = {1, -2, 3, -4, 5, -6, 7, -8};
    for (int pairing = ROPE_HALVES; pairing <= ROPE_NEIGHBOURS; pairing++) {
        float room[4], out[8];
        rope_set c = plain(8, 10000);
        c.pairing = (rope_pairing)pairing;
        rope r = made(&c, room);
        turn(&r, head, 0, out, 8);
        assert_memory_equal(out, head, sizeof head);
    }
}

/* One step of the first pair is one radian. */
static void the_pairs_are_halves_or_neighbours(void **state)
{
    const float head[4] = {1, 0, 0, 0};
    for (int pairing = ROPE_HALVES; pairing <= ROPE_NEIGHBOURS; pairing++) {
        float room[2], out[4];
        rope_set c = plain(4, 100);
        c.pairing = (rope_pairing)pairing;
        rope r = made(&c, room);
        turn(&r, head, 1, out, 4);
        int other = pairing == ROPE_HALVES ? 2 : 1;
        assert_near(out[0], cos(1), 1e-6);
        assert_near(out[other], sin(1), 1e-6);
        assert_near(out[3] + out[3 - other], 0, 1e-6);
    }
}

static void a_dot_product_depends_on_the_distance_alone(void **state)
{
    const float q[8] = {0.3f, -1, 2, 0.5f, -0.7f, 1.1f, 0.2f, -2}, k[8] = {1, 0.4f, -0.6f, 2, 0.1f, -1.5f, 0.8f, 0.9f};
    for (int pairing = ROPE_HALVES; pairing <= ROPE_NEIGHBOURS; pairing++) {
        float room[4], a[8], b[8];
        rope_set c = plain(8, 10000);
        c.pairing = (rope_pairing)pairing;
        rope r = made(&c, room);
        turn(&r, q, 7, a, 8);
        turn(&r, k, 3, b, 8);
        double near = dot(a, b, 8);
        turn(&r, q, 1007, a, 8);
        turn(&r, k, 1003, b, 8);
        assert_near(dot(a, b, 8), near, 1e-4);
        assert_near(dot(a, a, 8), dot(q, q, 8), 1e-5);
    }
}

static void only_the_leading_part_of_a_head_turns(void **state)
{
    const float head[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    float room[2], out[8];
    rope_set c = plain(8, 10000);
    c.dim = 4;
    rope r = made(&c, room);
    turn(&r, head, 5, out, 8);
    assert_memory_equal(out + 4, head + 4, 4 * sizeof *head);
    assert_true(out[0] != head[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frequencies_are_those_of_the_papers),
        cmocka_unit_test(contexts_beyond_the_original_one_have_factors_of_their_own),
        cmocka_unit_test(position_zero_changes_nothing),
        cmocka_unit_test(the_pairs_are_halves_or_neighbours),
        cmocka_unit_test(a_dot_product_depends_on_the_distance_alone),
        cmocka_unit_test(only_the_leading_part_of_a_head_turns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
