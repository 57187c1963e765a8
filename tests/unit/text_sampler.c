#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/sampler.h"

static odmoe_sampler_options defaults(void)
{
    return (odmoe_sampler_options){.size = sizeof(odmoe_sampler_options),
                                   .temperature = 0.8f,
                                   .top_k = 40,
                                   .top_p = 0.95f,
                                   .min_p = 0.05f,
                                   .repeat_penalty = 1,
                                   .seed = 1};
}

/* A pick that has to succeed. */
static int32_t pick(sampler *s, const float *logits)
{
    int32_t token = -1;
    odmoe_error err;
    assert_int_equal(sampler_pick(s, logits, NULL, &token, &err), ODMOE_OK);
    return token;
}

static sampler *create(const odmoe_sampler_options *o, int32_t vocab)
{
    odmoe_error err;
    sampler *s = NULL;
    assert_int_equal(sampler_create(o, vocab, &s, &err), ODMOE_OK);
    return s;
}

/* The picks for `logits` with a new sampler, counted for each id. */
static void count_picks(const odmoe_sampler_options *o, const float *logits, int32_t vocab, int picks, int *counts)
{
    sampler *s = create(o, vocab);
    memset(counts, 0, (size_t)vocab * sizeof *counts);
    for (int i = 0; i < picks; i++)
        counts[pick(s, logits)]++;
    sampler_free(s);
}

/* ---- against tests/data/sampler/make_sampler.py --------------------------------------------------------------- */

static float logit(uint64_t vocab, uint64_t step, uint64_t i)
{
    uint64_t z = (vocab << 40 ^ step << 24 ^ i) + 1;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    return (float)((int64_t)(z >> 43) - (1 << 20)) / 65536;
}

static void picks_are_those_of_an_independent_program(void **state)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/sampler/expected.txt", getenv("ODMOE_TEST_DATA"));
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    odmoe_sampler_options o = {.size = sizeof o};
    int vocab, cases = 0;
    while (fscanf(f, "%f %" SCNd32 " %f %f %f %" SCNu64 " %d |", &o.temperature, &o.top_k, &o.top_p, &o.min_p,
                  &o.repeat_penalty, &o.seed, &vocab) == 7) {
        sampler *s = create(&o, vocab);
        float *logits = malloc((size_t)vocab * sizeof *logits);
        assert_non_null(logits);
        for (int step = 0; step < 100; step++) {
            int expected;
            assert_int_equal(fscanf(f, "%d", &expected), 1);
            for (int i = 0; i < vocab; i++)
                logits[i] = logit((uint64_t)vocab, (uint64_t)step, (uint64_t)i);
            int32_t id = pick(s, logits);
            assert_int_equal(id, expected);
            sampler_accept(s, id);
        }
        free(logits);
        sampler_free(s);
        cases++;
    }
    fclose(f);
    assert_int_equal(cases, 12);
}

/* Bias i of penalties.txt. */
static odmoe_logit_bias bias(int i, float scale)
{
    return (odmoe_logit_bias){7 * i, scale * (float)(i % 5 - 2)};
}

static void penalties_bias_and_mask_are_those_of_an_independent_program(void **state)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/sampler/penalties.txt", getenv("ODMOE_TEST_DATA"));
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    odmoe_sampler_options o = {.size = sizeof o};
    int vocab, forbidden, cases = 0;
    float scale, logits[500];
    odmoe_logit_bias biases[100];
    uint32_t mask[16];
    while (fscanf(f, "%f %" SCNd32 " %f %f %f %f %f %" SCNu64 " %d %d %f |", &o.temperature, &o.top_k, &o.top_p,
                  &o.min_p, &o.repeat_penalty, &o.presence_penalty, &o.frequency_penalty, &o.seed, &vocab, &forbidden,
                  &scale) == 11) {
        o.bias = biases;
        o.bias_count = 0;
        for (int i = (vocab - 1) / 7; i >= 0 && scale != 0; i--) /* in any order */
            biases[o.bias_count++] = bias(i, scale);
        sampler *s = create(&o, vocab);
        for (int step = 0; step < 100; step++) {
            int expected;
            int32_t id;
            odmoe_error err;
            assert_int_equal(fscanf(f, "%d", &expected), 1);
            memset(mask, 0, sizeof mask);
            for (int i = 0; i < vocab; i++) {
                logits[i] = logit((uint64_t)vocab, (uint64_t)step, (uint64_t)i);
                if (!forbidden || (i + step) % forbidden)
                    mask[i / 32] |= 1u << i % 32;
            }
            assert_int_equal(sampler_pick(s, logits, forbidden ? mask : NULL, &id, &err), ODMOE_OK);
            assert_int_equal(id, expected);
            sampler_accept(s, id);
        }
        sampler_free(s);
        cases++;
    }
    fclose(f);
    assert_int_equal(cases, 8);
}

/* ---- properties ---------------------------------------------------------------------------------------------------
 */

static void temperature_zero_takes_the_highest_and_the_lower_id_of_equals(void **state)
{
    odmoe_sampler_options o = defaults();
    o.temperature = 0;
    const float logits[] = {1, 3, -INFINITY, 3, 2};
    sampler *s = create(&o, 5);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pick(s, logits), 1);
    sampler_free(s);
}

static void ties_at_the_border_of_top_k_go_to_the_lower_ids(void **state)
{
    odmoe_sampler_options o = defaults();
    o.top_k = 3;
    o.top_p = 1;
    o.min_p = 0;
    float logits[50];
    int counts[50];
    for (int i = 0; i < 50; i++)
        logits[i] = i == 49 ? 1 : 0.5f;
    count_picks(&o, logits, 50, 1000, counts);
    assert_int_equal(counts[0] + counts[1] + counts[49], 1000);
    assert_true(counts[0] > 0 && counts[1] > 0 && counts[49] > counts[0]);
}

static void top_p_keeps_the_smallest_set_that_reaches_it(void **state)
{
    odmoe_sampler_options o = defaults();
    o.temperature = 1;
    o.min_p = 0;
    o.top_p = 0.7f;
    const float logits[] = {logf(0.1f), logf(0.5f), logf(0.15f), logf(0.25f)};
    int counts[4];
    count_picks(&o, logits, 4, 3000, counts);
    assert_int_equal(counts[0] + counts[2], 0);
    assert_in_range(counts[1], 1900, 2100); /* 2/3; reproducible, so the range is no matter of luck */
    o.top_p = 0;
    count_picks(&o, logits, 4, 100, counts);
    assert_int_equal(counts[1], 100);
}

static void min_p_drops_what_is_too_unlikely_beside_the_best(void **state)
{
    odmoe_sampler_options o = defaults();
    o.temperature = 3;
    o.top_p = 1;
    o.min_p = 0.3f;
    const float logits[] = {logf(0.1f), logf(0.5f), logf(0.14f), logf(0.26f)};
    int counts[4];
    count_picks(&o, logits, 4, 1000, counts);
    assert_int_equal(counts[0] + counts[2], 0);
    assert_true(counts[1] > 0 && counts[3] > 0);
}

static void frequencies_follow_the_probabilities(void **state)
{
    odmoe_sampler_options o = defaults();
    o.temperature = 1;
    o.top_k = 0;
    o.top_p = 1;
    o.min_p = 0;
    const float logits[] = {logf(0.1f), logf(0.2f), logf(0.3f), logf(0.4f)};
    int counts[4];
    count_picks(&o, logits, 4, 100000, counts);
    for (int i = 0; i < 4; i++)
        assert_in_range(counts[i], 10000 * (i + 1) - 500, 10000 * (i + 1) + 500);
}

static void the_repeat_penalty_reaches_back_sixty_four_tokens(void **state)
{
    odmoe_sampler_options o = defaults();
    o.temperature = 0;
    o.repeat_penalty = 2;
    const float positive[] = {1.9f, 3, 1}, negative[] = {-1, -1.9f, -3};
    sampler *s = create(&o, 3);
    assert_int_equal(pick(s, positive), 1);
    sampler_accept(s, 1);
    assert_int_equal(pick(s, positive), 0);
    for (int i = 0; i < SAMPLER_WINDOW - 1; i++)
        sampler_accept(s, 2);
    assert_int_equal(pick(s, positive), 0);
    sampler_accept(s, 2);
    assert_int_equal(pick(s, positive), 1);
    sampler_accept(s, 0);
    assert_int_equal(pick(s, negative), 1); /* -1 became -2 */
    sampler_free(s);
}

static void the_same_seed_gives_the_same_tokens_and_another_seed_others(void **state)
{
    odmoe_sampler_options o = defaults();
    float logits[200];
    for (int i = 0; i < 200; i++)
        logits[i] = logit(1, 1, (uint64_t)i) / 8;
    sampler *a = create(&o, 200), *b = create(&o, 200);
    o.seed = 2;
    sampler *c = create(&o, 200);
    int differ = 0;
    for (int i = 0; i < 100; i++) {
        int32_t id = pick(a, logits);
        assert_int_equal(pick(b, logits), id);
        differ += pick(c, logits) != id;
    }
    assert_true(differ > 20);
    sampler_free(a);
    sampler_free(b);
    sampler_free(c);
}

static void logits_that_are_no_number_never_win(void **state)
{
    const float some[] = {NAN, 1, NAN, 2}, high[] = {INFINITY, 5, NAN, INFINITY}, one[] = {NAN, -INFINITY, -3e38f, NAN};
    for (int kind = 0; kind < 4; kind++) {
        odmoe_sampler_options o = defaults();
        o.temperature = kind == 0 ? 0 : 1;
        o.top_k = kind == 1 ? 0 : 2;
        if (kind == 3) {
            o.top_p = 1;
            o.min_p = 0;
        }
        sampler *s = create(&o, 4);
        for (int i = 0; i < 50; i++) {
            int32_t id = pick(s, some);
            assert_true(id == 1 || id == 3);
            id = pick(s, high);
            assert_true(id == 0 || id == 3);
            assert_int_equal(pick(s, one), 2);
        }
        sampler_free(s);
    }
}

static void logits_of_which_none_is_possible_are_an_error_and_change_nothing(void **state)
{
    const float none[] = {NAN, NAN, NAN, NAN}, low[] = {-INFINITY, -INFINITY, NAN, -INFINITY}, good[] = {1, 2, 3, 4};
    const uint32_t nothing = 0, masked = 1 << 2;
    for (int kind = 0; kind < 3; kind++) {
        odmoe_sampler_options o = defaults();
        o.temperature = kind == 0 ? 0 : 2;
        o.top_k = kind == 1 ? 0 : 2;
        o.presence_penalty = 1;
        sampler *s = create(&o, 4), *same = create(&o, 4);
        for (int i = 0; i < 20; i++) {
            int32_t token = 77;
            odmoe_error err = {0};
            assert_int_equal(sampler_pick(s, none, NULL, &token, &err), ODMOE_ERR_RANGE);
            assert_non_null(strstr(err.message, "no token"));
            assert_int_equal(sampler_pick(s, low, NULL, &token, &err), ODMOE_ERR_RANGE);
            assert_int_equal(sampler_pick(s, low, &masked, &token, &err), ODMOE_ERR_RANGE);
            assert_int_equal(sampler_pick(s, good, &nothing, &token, &err), ODMOE_ERR_RANGE);
            assert_int_equal(token, 77);
            assert_int_equal(pick(s, good), pick(same, good));
        }
        sampler_free(s);
        sampler_free(same);
    }
}

static void a_masked_token_is_never_picked(void **state)
{
    odmoe_sampler_options o = defaults();
    float logits[100];
    uint32_t mask[4] = {0, 1u << 31, 0, 1u << 3}; /* 63 and 99 */
    for (int i = 0; i < 100; i++)
        logits[i] = i == 63 ? -50 : i == 99 ? -50.5f : 10;
    o.min_p = 0;
    o.top_p = 1;
    sampler *s = create(&o, 100);
    int counts[2] = {0};
    for (int i = 0; i < 200; i++) {
        int32_t token;
        odmoe_error err;
        assert_int_equal(sampler_pick(s, logits, mask, &token, &err), ODMOE_OK);
        assert_true(token == 63 || token == 99);
        counts[token == 99]++;
    }
    assert_true(counts[0] > counts[1] && counts[1] > 20);
    sampler_free(s);
}

static void options_out_of_range_are_refused_by_name(void **state)
{
    const odmoe_logit_bias wrong_token = {10, 1}, wrong_bias = {1, NAN};
    odmoe_sampler_options bad[10];
    for (int i = 0; i < 10; i++)
        bad[i] = defaults();
    bad[0].temperature = -1;
    bad[1].temperature = NAN;
    bad[2].top_p = 1.5f;
    bad[3].min_p = -0.1f;
    bad[4].repeat_penalty = 0;
    bad[5].repeat_penalty = INFINITY;
    bad[6].presence_penalty = NAN;
    bad[7].frequency_penalty = -INFINITY;
    bad[8].bias = &wrong_token;
    bad[9].bias = &wrong_bias;
    bad[8].bias_count = bad[9].bias_count = 1;
    const char *names[] = {"temperature",    "temperature", "top-p",     "min-p",    "repeat penalty",
                           "repeat penalty", "presence",    "frequency", "token 10", "bias"};
    for (int i = 0; i < 10; i++) {
        odmoe_error err = {0};
        sampler *s = NULL;
        assert_int_equal(sampler_create(&bad[i], 10, &s, &err), ODMOE_ERR_RANGE);
        assert_non_null(strstr(err.message, names[i]));
        assert_null(s);
    }
    odmoe_error err = {0};
    sampler *s = NULL;
    odmoe_sampler_options o = defaults();
    assert_int_equal(sampler_create(&o, 0, &s, &err), ODMOE_ERR_RANGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(picks_are_those_of_an_independent_program),
        cmocka_unit_test(penalties_bias_and_mask_are_those_of_an_independent_program),
        cmocka_unit_test(temperature_zero_takes_the_highest_and_the_lower_id_of_equals),
        cmocka_unit_test(ties_at_the_border_of_top_k_go_to_the_lower_ids),
        cmocka_unit_test(top_p_keeps_the_smallest_set_that_reaches_it),
        cmocka_unit_test(min_p_drops_what_is_too_unlikely_beside_the_best),
        cmocka_unit_test(frequencies_follow_the_probabilities),
        cmocka_unit_test(the_repeat_penalty_reaches_back_sixty_four_tokens),
        cmocka_unit_test(the_same_seed_gives_the_same_tokens_and_another_seed_others),
        cmocka_unit_test(logits_that_are_no_number_never_win),
        cmocka_unit_test(logits_of_which_none_is_possible_are_an_error_and_change_nothing),
        cmocka_unit_test(a_masked_token_is_never_picked),
        cmocka_unit_test(options_out_of_range_are_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
