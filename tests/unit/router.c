/* The router chooses as its header says: by score, ties to the lower index, whatever the logits hold. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "compute/router.h"

#define MOST 16

typedef struct choice {
    float probs[MOST], topw[MOST];
    int32_t topk[MOST];
} choice;

static router_config config(int experts, int top_k)
{
    return (router_config){.experts = experts, .top_k = top_k, .score = ODMOE_SCORE_SOFTMAX, .scale = 1};
}

static choice choose(const router_config *c, const float *logits, const float *bias)
{
    choice out;
    odmoe_error err = {0};
    if (router_check(c, &err))
        fail_msg("%s", err.message);
    float scratch[2 * MOST];
    router_vectors vectors = {.selection_bias = bias};
    router_select(c, logits, &vectors, out.probs, out.topk, out.topw, scratch);
    return out;
}

static void assert_chosen(const choice *got, int n, const int32_t *want)
{
    for (int k = 0; k < n; k++)
        if (got->topk[k] != want[k])
            fail_msg("place %d: expert %d, expected %d", k, got->topk[k], want[k]);
}
#define ASSERT_CHOSEN(got, ...) \
    assert_chosen(&(got), (int)(sizeof((int32_t[]){__VA_ARGS__}) / sizeof(int32_t)), (const int32_t[]){__VA_ARGS__})

static void assert_near(float got, double want)
{
    if (!(fabs(got - want) <= 1e-6))
        fail_msg("%.9g, expected %.9g", (double)got, want);
}

/* ---- scores ---- */

static void softmax_scores_are_probabilities_over_all_experts(void **state)
{
    const float logits[] = {1, 3, 2, 0};
    router_config c = config(4, 2);
    choice got = choose(&c, logits, NULL);
    double sum = exp(1) + exp(3) + exp(2) + exp(0);
    for (int e = 0; e < 4; e++)
        assert_near(got.probs[e], exp(logits[e]) / sum);
    ASSERT_CHOSEN(got, 1, 2);
    assert_near(got.topw[0], exp(3) / sum);
    assert_near(got.topw[1], exp(2) / sum);
}

static void sigmoid_scores_stand_each_for_itself(void **state)
{
    const float logits[] = {-1, 0, 2, 1};
    router_config c = config(4, 2);
    c.score = ODMOE_SCORE_SIGMOID;
    choice got = choose(&c, logits, NULL);
    for (int e = 0; e < 4; e++)
        assert_near(got.probs[e], 1 / (1 + exp(-(double)logits[e])));
    ASSERT_CHOSEN(got, 2, 3);
}

static void large_logits_do_not_overflow(void **state)
{
    const float logits[] = {3e38f, -3e38f, 3e38f, 0};
    router_config c = config(4, 2);
    choice got = choose(&c, logits, NULL);
    ASSERT_CHOSEN(got, 0, 2);
    assert_near(got.topw[0], 0.5);
    assert_near(got.topw[1], 0.5);
    c.score = ODMOE_SCORE_SIGMOID;
    got = choose(&c, logits, NULL);
    ASSERT_CHOSEN(got, 0, 2);
    assert_near(got.topw[0], 1);
    assert_near(got.probs[1], 0);
}

/* Softmax underflows to 0 for both of the last two: the logit still tells them apart. */
static void logits_decide_where_probabilities_underflow(void **state)
{
    const float logits[] = {200, -400, -300};
    router_config c = config(3, 2);
    choice got = choose(&c, logits, NULL);
    ASSERT_CHOSEN(got, 0, 2);
}

/* ---- ties and odd values ---- */

static void ties_go_to_the_lower_index(void **state)
{
    const float logits[] = {1, 2, 2, 1, 2, 1};
    router_config c = config(6, 5);
    choice got = choose(&c, logits, NULL);
    ASSERT_CHOSEN(got, 1, 2, 4, 0, 3);
    const float equal[6] = {0};
    c.score = ODMOE_SCORE_SIGMOID;
    got = choose(&c, equal, NULL);
    ASSERT_CHOSEN(got, 0, 1, 2, 3, 4);
}

static void sigmoids_that_collide_are_chosen_by_their_logits(void **state)
{
    const float logits[] = {20, 40, 30, -200, -150, -300}; /* 1 and 0 in single precision */
    router_config c = config(6, 4);
    c.score = ODMOE_SCORE_SIGMOID;
    choice got = choose(&c, logits, NULL);
    ASSERT_CHOSEN(got, 1, 2, 0, 4);
}

static void a_nan_logit_counts_as_the_smallest(void **state)
{
    const float logits[] = {NAN, -5, NAN, -6};
    for (int score = ODMOE_SCORE_SOFTMAX; score <= ODMOE_SCORE_SIGMOID; score++) {
        router_config c = config(4, 3);
        c.score = (odmoe_score)score;
        choice got = choose(&c, logits, NULL);
        ASSERT_CHOSEN(got, 1, 3, 0);
        assert_near(got.probs[0], 0);
        assert_near(got.topw[2], 0);
        assert_true(got.topw[0] > got.topw[1]);
    }
}

static void without_a_single_number_the_first_experts_share(void **state)
{
    const float values[] = {NAN, -INFINITY};
    for (int v = 0; v < 2; v++) {
        const float logits[] = {values[v], values[v], values[v], values[v]};
        router_config c = config(4, 2);
        c.renormalise = true;
        choice got = choose(&c, logits, NULL);
        ASSERT_CHOSEN(got, 0, 1);
        assert_near(got.probs[3], 0.25);
        assert_near(got.topw[0], 0.5);
        assert_near(got.topw[1], 0.5);
    }
}

static void infinite_logits_share_all_the_weight(void **state)
{
    const float logits[] = {1, INFINITY, -INFINITY, INFINITY};
    router_config c = config(4, 3);
    choice got = choose(&c, logits, NULL);
    ASSERT_CHOSEN(got, 1, 3, 0);
    assert_near(got.topw[0], 0.5);
    assert_near(got.topw[1], 0.5);
    assert_near(got.topw[2], 0);
}

/* ---- weights ---- */

static void renormalised_weights_sum_to_one(void **state)
{
    const float logits[] = {0.3f, -1, 2.5f, 0.1f, 1.7f};
    router_config c = config(5, 3);
    c.renormalise = true;
    choice got = choose(&c, logits, NULL);
    assert_near(got.topw[0] + got.topw[1] + got.topw[2], 1);
    assert_near(got.topw[0] / got.topw[1], exp(2.5 - 1.7));
}

static void the_scale_multiplies_after_renormalising(void **state)
{
    const float logits[] = {1, 0};
    router_config c = config(2, 2);
    c.renormalise = true;
    c.scale = 2.5f;
    choice got = choose(&c, logits, NULL);
    assert_near(got.topw[0] + got.topw[1], 2.5);
    assert_near(got.probs[0] + got.probs[1], 1);
}

static void all_experts_may_be_chosen(void **state)
{
    const float logits[] = {1, 3, 2};
    router_config c = config(3, 3);
    choice got = choose(&c, logits, NULL);
    ASSERT_CHOSEN(got, 1, 2, 0);
    assert_near(got.topw[0] + got.topw[1] + got.topw[2], 1);
}

/* ---- bias ---- */

static void the_bias_changes_the_choice_and_not_the_weights(void **state)
{
    const float logits[] = {2, 1, 0, -1}, bias[] = {-1, 0, 0, 1};
    router_config c = config(4, 2);
    c.score = ODMOE_SCORE_SIGMOID;
    choice got = choose(&c, logits, bias);
    ASSERT_CHOSEN(got, 3, 1); /* keys: -0.12, 0.73, 0.5, 1.27 */
    assert_near(got.topw[0], 1 / (1 + exp(1)));
    assert_near(got.topw[1], 1 / (1 + exp(-1)));
    assert_near(got.probs[0], 1 / (1 + exp(-2)));
}

static void the_bias_is_added_to_probabilities_with_softmax_too(void **state)
{
    const float logits[] = {4, 1, 1, 1}, bias[] = {0, 0, 0, 0.5f};
    router_config c = config(4, 2);
    choice got = choose(&c, logits, bias);
    ASSERT_CHOSEN(got, 0, 3);
}

/* ---- groups ---- */

static void only_the_best_groups_may_be_chosen_from(void **state)
{
    /* Groups of 3; the sums of the two best sigmoids rank them 1, 3, 0, 2. */
    const float logits[] = {0.5f, 0.4f, -9, 3, 2, 1, -1, -1, 0, 2.5f, 1.5f, -9};
    router_config c = config(12, 4);
    c.score = ODMOE_SCORE_SIGMOID;
    c.groups = 4;
    c.groups_used = 2;
    choice got = choose(&c, logits, NULL);
    ASSERT_CHOSEN(got, 3, 9, 4, 10);
    c.top_k = 6; /* all of both, before any better one elsewhere */
    got = choose(&c, logits, NULL);
    ASSERT_CHOSEN(got, 3, 9, 4, 10, 5, 11);
}

static void a_group_counts_by_its_two_best_not_by_its_best(void **state)
{
    const float logits[] = {3, -9, 2, 2};
    router_config c = config(4, 1);
    c.score = ODMOE_SCORE_SIGMOID;
    c.groups = 2;
    c.groups_used = 1;
    choice got = choose(&c, logits, NULL);
    ASSERT_CHOSEN(got, 2);
}

static void the_bias_takes_part_in_ranking_groups(void **state)
{
    const float logits[] = {1, 1, 0, 0}, bias[] = {0, 0, 0.5f, 0.5f};
    router_config c = config(4, 2);
    c.score = ODMOE_SCORE_SIGMOID;
    c.groups = 2;
    c.groups_used = 1;
    choice got = choose(&c, logits, bias);
    ASSERT_CHOSEN(got, 2, 3);
    assert_near(got.topw[0], 0.5);
}

static void equal_groups_go_to_the_lower_index(void **state)
{
    const float logits[8] = {0};
    router_config c = config(8, 3);
    c.groups = 4;
    c.groups_used = 2;
    choice got = choose(&c, logits, NULL);
    ASSERT_CHOSEN(got, 0, 1, 2);
}

static void an_excluded_group_stays_out_even_where_the_best_holds_an_impossible_expert(void **state)
{
    const float logits[] = {-2, -2, -2, 3, 3, 3}, bias[] = {0, 0, 0, 0, 0, -INFINITY};
    router_config c = config(6, 3);
    c.score = ODMOE_SCORE_SIGMOID;
    c.groups = 2;
    c.groups_used = 1;
    choice got = choose(&c, logits, bias);
    ASSERT_CHOSEN(got, 3, 4, 5);
}

static void a_group_with_infinities_of_both_signs_counts_as_the_worst(void **state)
{
    const float logits[] = {0, 0, 1, 1, 2, 2}, bias[] = {INFINITY, -INFINITY, 0, 0, 0, 0};
    router_config c = config(6, 2);
    c.score = ODMOE_SCORE_SIGMOID;
    c.groups = 3;
    c.groups_used = 1;
    choice got = choose(&c, logits, bias);
    ASSERT_CHOSEN(got, 4, 5);
}

static void groups_of_one_expert_work(void **state)
{
    const float logits[] = {0, 3, 1, 2};
    router_config c = config(4, 2);
    c.groups = 4;
    c.groups_used = 2;
    choice got = choose(&c, logits, NULL);
    ASSERT_CHOSEN(got, 1, 3);
}

static void groups_can_count_by_their_best_expert_alone(void **state)
{
    const float logits[] = {3, -9, 2, 2};
    router_config c = config(4, 1);
    c.groups = 2;
    c.groups_used = 1;
    c.group_score = ODMOE_GROUP_MAXIMUM;
    choice got = choose(&c, logits, NULL);
    ASSERT_CHOSEN(got, 0);
}

/* ---- weights of other families ---- */

static void a_softmax_of_the_chosen_takes_no_notice_of_the_rest(void **state)
{
    const float logits[] = {1, 300, 2, 299};
    router_config c = config(4, 2);
    c.score = ODMOE_SCORE_SOFTMAX_CHOSEN;
    choice got = choose(&c, logits, NULL);
    ASSERT_CHOSEN(got, 1, 3);
    assert_near(got.topw[0], 1 / (1 + exp(-1)));
    assert_near(got.topw[1], exp(-1) / (1 + exp(-1)));
}

static void sqrt_softplus_scores_stand_each_for_itself(void **state)
{
    const float logits[] = {-1, 2, 90, 0};
    router_config c = config(4, 2);
    c.score = ODMOE_SCORE_SQRT_SOFTPLUS;
    choice got = choose(&c, logits, NULL);
    ASSERT_CHOSEN(got, 2, 1);
    for (int e = 0; e < 4; e++)
        assert_near(got.probs[e], sqrt(log1p(exp(logits[e]))));
}

static void what_is_added_to_the_sum_and_its_floor_make_weights_smaller(void **state)
{
    const float logits[] = {0, 0, -4, -4};
    router_config c = config(4, 2);
    c.score = ODMOE_SCORE_SIGMOID;
    c.renormalise = true;
    c.sum_add = 0.25f;
    choice got = choose(&c, logits, NULL);
    assert_near(got.topw[0], 0.5 / 1.25);
    c.sum_floor = 2;
    got = choose(&c, logits, NULL);
    assert_near(got.topw[0], 0.25);
}

static void the_scale_of_an_expert_multiplies_its_weight_last(void **state)
{
    const float logits[] = {0, 0, -9, -9}, scale[] = {3, 0.5f, 1, 1};
    router_config c = config(4, 2);
    c.renormalise = true;
    c.scale = 2;
    choice got;
    float scratch[2 * MOST];
    router_select(&c, logits, &(router_vectors){.expert_scale = scale}, got.probs, got.topk, got.topw, scratch);
    assert_near(got.topw[0], 3);
    assert_near(got.topw[1], 0.5);
}

/* Phi-3.5-MoE's rule, worked out by hand: bands are relative to the larger of the choice and the other's size. */
static void a_sparse_mixer_weighs_a_choice_among_those_near_it(void **state)
{
    router_config c = config(5, 2);
    c.score = ODMOE_SCORE_SPARSE_MIXER;
    c.band = 0.02f;
    /* 9.85 is 1.5% below 10; 9.79 is 2.1% below 10, and 0.6% below 9.85; 9.5 is far from either */
    const float logits[] = {9.79f, 10, -3, 9.5f, 9.85f};
    choice got = choose(&c, logits, NULL);
    ASSERT_CHOSEN(got, 1, 4);
    assert_near(got.topw[0], 1 / (1 + exp(-0.15)));
    assert_near(got.topw[1], 1 / (1 + exp(-0.06)));
    assert_near(got.probs[1], 1 / (1 + exp(-0.21) + exp(-13) + exp(-0.5) + exp(-0.15))); /* scores: of all */

    /* below zero the other's size counts: (-1.00 + 1.02) / 1.02 is less than 2%, (-1.00 + 1.03) / 1.03 is more */
    const float negative[] = {-1.03f, -5, -1.02f, -1, -7};
    got = choose(&c, negative, NULL);
    ASSERT_CHOSEN(got, 3, 2);
    assert_near(got.topw[0], 1 / (1 + exp(-0.02)));
    assert_near(got.topw[1], 1 / (1 + exp(-0.01)));

    const float alone[] = {1, 2, 3, 4, 5};
    got = choose(&c, alone, NULL);
    ASSERT_CHOSEN(got, 4, 3);
    assert_near(got.topw[0], 1);
    assert_near(got.topw[1], 1);

    const float equal[5] = {0}; /* 0 / 0: near */
    got = choose(&c, equal, NULL);
    ASSERT_CHOSEN(got, 0, 1);
    assert_near(got.topw[0], 0.2);
    assert_near(got.topw[1], 0.25);
}

static void a_logit_that_is_no_finite_number_is_told(void **state)
{
    const float wrong[] = {NAN, INFINITY, -INFINITY};
    for (int score = 0; score < ODMOE_SCORE_COUNT; score++)
        for (int i = 0; i < 4; i++) {
            float logits[] = {1, 2, 3, 4}, probs[4], topw[2], scratch[8];
            int32_t topk[2];
            router_config c = config(4, 2);
            c.score = (odmoe_score)score;
            if (i < 3)
                logits[i] = wrong[i];
            assert_int_equal(router_select(&c, logits, &(router_vectors){0}, probs, topk, topw, scratch), i == 3);
            for (int k = 0; k < 2; k++)
                assert_true(topk[k] >= 0 && topk[k] < 4);
        }
}

/* ---- router_check ---- */

static void assert_refused(router_config c, const char *word)
{
    odmoe_error err = {0};
    assert_int_equal(router_check(&c, &err), ODMOE_ERR_RANGE);
    if (!strstr(err.message, word))
        fail_msg("message should hold '%s': %s", word, err.message);
}

static void numbers_that_make_no_sense_are_refused(void **state)
{
    assert_refused(config(0, 1), "0 experts");
    assert_refused(config(-4, 1), "-4 experts");
    assert_refused(config(ROUTER_EXPERTS_MAX + 1, 1), "experts");
    assert_refused(config(8, 0), "top-k 0");
    assert_refused(config(8, -1), "top-k -1");
    assert_refused(config(8, 9), "top-k 9");
    assert_refused(config(128, ROUTER_TOP_K_MAX + 1), "top-k");
    router_config c = config(8, 2);
    const int groups[][2] = {{-1, 1}, {3, 1}, {16, 1}, {4, 0}, {4, -1}, {4, 5}};
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
        c.groups = groups[i][0];
        c.groups_used = groups[i][1];
        assert_refused(c, "groups");
    }
    c = (router_config){.experts = 8, .top_k = 3, .groups = 4, .groups_used = 1, .scale = 1};
    assert_refused(c, "cannot give 3"); /* one group of two experts */
    const float scales[] = {0, NAN, INFINITY};
    for (int i = 0; i < 3; i++) {
        c = config(8, 2);
        c.scale = scales[i];
        assert_refused(c, "scale");
    }
    const float bands[] = {-0.01f, NAN, INFINITY};
    for (int i = 0; i < 3; i++) {
        c = config(8, 2);
        c.band = bands[i];
        assert_refused(c, "band");
    }
    c = config(8, 2);
    c.score = (odmoe_score)7;
    assert_refused(c, "score 7");
}

static void the_largest_router_works(void **state)
{
    static float logits[ROUTER_EXPERTS_MAX], probs[ROUTER_EXPERTS_MAX];
    int32_t topk[ROUTER_TOP_K_MAX];
    float topw[ROUTER_TOP_K_MAX];
    for (int e = 0; e < ROUTER_EXPERTS_MAX; e++)
        logits[e] = (float)((e * 1237) % ROUTER_EXPERTS_MAX) / 100;
    router_config c = config(ROUTER_EXPERTS_MAX, ROUTER_TOP_K_MAX);
    c.groups = 64;
    c.groups_used = 64;
    c.renormalise = true;
    assert_int_equal(router_check(&c, NULL), ODMOE_OK);
    static float scratch[2 * ROUTER_EXPERTS_MAX];
    router_select(&c, logits, &(router_vectors){0}, probs, topk, topw, scratch);
    double sum = 0;
    for (int k = 0; k < ROUTER_TOP_K_MAX; k++) {
        sum += topw[k];
        assert_true(k == 0 || logits[topk[k]] <= logits[topk[k - 1]]);
    }
    assert_true(fabs(sum - 1) < 1e-5);
    assert_true(logits[topk[ROUTER_TOP_K_MAX - 1]] == (float)(ROUTER_EXPERTS_MAX - ROUTER_TOP_K_MAX) / 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(softmax_scores_are_probabilities_over_all_experts),
        cmocka_unit_test(sigmoid_scores_stand_each_for_itself),
        cmocka_unit_test(large_logits_do_not_overflow),
        cmocka_unit_test(logits_decide_where_probabilities_underflow),
        cmocka_unit_test(ties_go_to_the_lower_index),
        cmocka_unit_test(sigmoids_that_collide_are_chosen_by_their_logits),
        cmocka_unit_test(a_nan_logit_counts_as_the_smallest),
        cmocka_unit_test(without_a_single_number_the_first_experts_share),
        cmocka_unit_test(infinite_logits_share_all_the_weight),
        cmocka_unit_test(renormalised_weights_sum_to_one),
        cmocka_unit_test(the_scale_multiplies_after_renormalising),
        cmocka_unit_test(all_experts_may_be_chosen),
        cmocka_unit_test(the_bias_changes_the_choice_and_not_the_weights),
        cmocka_unit_test(the_bias_is_added_to_probabilities_with_softmax_too),
        cmocka_unit_test(only_the_best_groups_may_be_chosen_from),
        cmocka_unit_test(a_group_counts_by_its_two_best_not_by_its_best),
        cmocka_unit_test(the_bias_takes_part_in_ranking_groups),
        cmocka_unit_test(equal_groups_go_to_the_lower_index),
        cmocka_unit_test(an_excluded_group_stays_out_even_where_the_best_holds_an_impossible_expert),
        cmocka_unit_test(a_group_with_infinities_of_both_signs_counts_as_the_worst),
        cmocka_unit_test(groups_of_one_expert_work),
        cmocka_unit_test(groups_can_count_by_their_best_expert_alone),
        cmocka_unit_test(a_softmax_of_the_chosen_takes_no_notice_of_the_rest),
        cmocka_unit_test(sqrt_softplus_scores_stand_each_for_itself),
        cmocka_unit_test(what_is_added_to_the_sum_and_its_floor_make_weights_smaller),
        cmocka_unit_test(the_scale_of_an_expert_multiplies_its_weight_last),
        cmocka_unit_test(a_sparse_mixer_weighs_a_choice_among_those_near_it),
        cmocka_unit_test(a_logit_that_is_no_finite_number_is_told),
        cmocka_unit_test(numbers_that_make_no_sense_are_refused),
        cmocka_unit_test(the_largest_router_works),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
