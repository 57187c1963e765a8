#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "text/logprobs.h"
#include "text/stop_filter.h"

/* ---- stop strings ---------------------------------------------------------------------------------------------------- */

static const struct {
    const char *stops[4], *text, *shown;
    bool found;
} cases[] = {
    {{"END"}, "the text END and more", "the text ", true},
    {{"END"}, "the text EN", "the text EN", false},
    {{"\n\n", "User:"}, "answer\nUser: x\n\n", "answer\n", true},
    {{"aab"}, "aaab", "a", true},
    {{"abab"}, "aabaabab", "aaba", true},
    {{"abcd", "c"}, "abx abcd", "abx ab", true}, /* "c" is complete first */
    {{"bc", "abc"}, "xabc", "x", true},          /* complete together: the one that began first */
    {{"</s>", "</stop>"}, "a </st </s>", "a </st ", true},
    {{"", "x"}, "abx", "ab", true},
    {{""}, "abc", "abc", false},
    {{"\xC3\xA9"}, "caf\xC3\xA8 caf\xC3\xA9", "caf\xC3\xA8 caf", true},
    {{"a"}, "a", "", true},
    {{"aaaa"}, "aaa baaaa", "aaa b", true},
};

/* In pieces of every length: what is shown never changes, and grows up to the stop string alone. */
static void text_is_shown_up_to_the_first_stop_string_in_any_pieces(void **state)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (size_t piece = 1; piece < 12; piece++) {
            size_t count = 0, shown = 0, length = strlen(cases[i].text), n;
            char all[64];
            const char *out;
            bool found = false;
            odmoe_error err;
            stop_filter *f;
            while (count < 4 && cases[i].stops[count])
                count++;
            assert_int_equal(stop_filter_create(cases[i].stops, count, &f, &err), ODMOE_OK);
            for (size_t at = 0; at < length; at += piece) {
                size_t part = length - at < piece ? length - at : piece;
                assert_int_equal(stop_filter_push(f, cases[i].text + at, part, &out, &n, &found, &err), ODMOE_OK);
                memcpy(all + shown, out, n);
                shown += n;
                assert_true(shown <= strlen(cases[i].shown)); /* not a byte of a stop string */
            }
            stop_filter_flush(f, &out, &n);
            memcpy(all + shown, out, n);
            shown += n;
            assert_int_equal(found, cases[i].found);
            assert_int_equal(shown, strlen(cases[i].shown));
            assert_memory_equal(all, cases[i].shown, shown);
            stop_filter_free(f);
        }
}

static void text_that_cannot_begin_a_stop_string_does_not_wait(void **state)
{
    const char *stops[] = {"stop"}, *out;
    size_t n;
    bool found;
    odmoe_error err;
    stop_filter *f;
    assert_int_equal(stop_filter_create(stops, 1, &f, &err), ODMOE_OK);
    assert_int_equal(stop_filter_push(f, "hello st", 8, &out, &n, &found, &err), ODMOE_OK);
    assert_int_equal(n, 6);
    assert_int_equal(stop_filter_push(f, "range", 5, &out, &n, &found, &err), ODMOE_OK);
    assert_int_equal(n, 7);
    assert_memory_equal(out, "strange", 7);
    stop_filter_flush(f, &out, &n);
    assert_int_equal(n, 0);
    stop_filter_free(f);
}

static void too_many_and_too_long_stop_strings_are_refused(void **state)
{
    const char *many[STOP_TEXTS_MAX + 1];
    char *text = calloc(STOP_BYTES_MAX + 2, 1);
    const char *only;
    odmoe_error err;
    stop_filter *f;
    assert_non_null(text);
    for (int i = 0; i <= STOP_TEXTS_MAX; i++)
        many[i] = "x";
    memset(text, 'x', STOP_BYTES_MAX + 1);
    only = text;
    assert_int_equal(stop_filter_create(many, STOP_TEXTS_MAX + 1, &f, &err), ODMOE_ERR_RANGE);
    assert_int_equal(stop_filter_create(&only, 1, &f, &err), ODMOE_ERR_RANGE);
    text[STOP_BYTES_MAX] = 0;
    assert_int_equal(stop_filter_create(&only, 1, &f, &err), ODMOE_OK);
    stop_filter_free(f);
    free(text);
}

/* ---- log probabilities -------------------------------------------------------------------------------------------------- */

static void log_probabilities_are_those_of_the_softmax(void **state)
{
    const float shares[] = {0.1f, 0.5f, 0.1f, 0.3f};
    float logits[4], one;
    odmoe_logprob best[6];
    odmoe_error err;
    for (int i = 0; i < 4; i++)
        logits[i] = logf(shares[i]) + 7; /* any constant */
    assert_int_equal(logprobs(logits, 4, 2, &one, best, 6, &err), ODMOE_OK);
    const int32_t order[] = {1, 3, 0, 2, -1, -1};
    assert_true(fabsf(one - logf(0.1f)) < 1e-6f);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(best[i].token, order[i]);
        if (i < 4)
            assert_true(fabsf(best[i].logprob - logf(shares[order[i]])) < 1e-6f);
    }
    assert_true(best[4].logprob == -INFINITY);
    assert_int_equal(logprobs(logits, 4, 1, &one, NULL, 0, &err), ODMOE_OK);
    assert_true(fabsf(one - logf(0.5f)) < 1e-6f);
}

static void infinite_logits_share_and_hopeless_ones_are_an_error(void **state)
{
    const float two[] = {INFINITY, 3, INFINITY, NAN}, none[] = {NAN, -INFINITY};
    float one;
    odmoe_logprob best[3];
    odmoe_error err = {0};
    assert_int_equal(logprobs(two, 4, 2, &one, best, 3, &err), ODMOE_OK);
    assert_true(fabsf(one - logf(0.5f)) < 1e-6f);
    assert_int_equal(best[0].token, 0);
    assert_int_equal(best[1].token, 2);
    assert_true(best[2].logprob == -INFINITY);
    assert_int_equal(logprobs(two, 4, 3, &one, best, 3, &err), ODMOE_OK);
    assert_true(one == -INFINITY);
    assert_int_equal(logprobs(none, 2, 0, &one, best, 1, &err), ODMOE_ERR_RANGE);
    assert_int_equal(logprobs(two, 4, 4, &one, best, 1, &err), ODMOE_ERR_RANGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_shown_up_to_the_first_stop_string_in_any_pieces),
        cmocka_unit_test(text_that_cannot_begin_a_stop_string_does_not_wait),
        cmocka_unit_test(too_many_and_too_long_stop_strings_are_refused),
        cmocka_unit_test(log_probabilities_are_those_of_the_softmax),
        cmocka_unit_test(infinite_logits_share_and_hopeless_ones_are_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
