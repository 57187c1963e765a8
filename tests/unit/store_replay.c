/* Traces and policies: the published curves come out again, and the default is better than LRU where it matters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/policy.h"
#include "store/replay.h"

/* The long traces are kept compressed. */
static void trace_of(const char *name, trace *t)
{
    char path[512];
    odmoe_error err;
    snprintf(path, sizeof path, "%s/%s", getenv("ODMOE_TEST_UNPACKED"), name);
    if (access(path, R_OK))
        snprintf(path, sizeof path, "%s/traces/%s", getenv("ODMOE_TEST_DATA"), name);
    if (trace_read(path, t, &err))
        fail_msg("%s", err.message);
}

static replay_result play(const trace *t, uint64_t bytes, const char *policy_name, bool equal_sizes)
{
    replay_result r;
    odmoe_error err;
    if (replay_run(t, bytes, policy_name, equal_sizes, &r, &err))
        fail_msg("%s", err.message);
    return r;
}

static double off(double a, double b)
{
    return a > b ? a - b : b - a;
}

/* Every point of a published curve for LRU, LFU and Belady's optimum. */
static void published_curve(const char *model)
{
    char name[64], path[512], line[256], policy_name[32];
    double mib, cum, decode, read_mib;
    int points = 0;
    trace t;
    snprintf(name, sizeof name, "%s.route.csv", model);
    trace_of(name, &t);
    snprintf(path, sizeof path, "%s/traces/%s.curve.csv", getenv("ODMOE_TEST_DATA"), model);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, "%lf,%31[^,],%lf,%lf,%lf", &mib, policy_name, &cum, &decode, &read_mib) != 5 ||
            (strcmp(policy_name, "lru") && strcmp(policy_name, "lfu") && strcmp(policy_name, "belady")))
            continue;
        replay_result r = play(&t, (uint64_t)mib << 20, policy_name, true);
        if (off(r.hit_pct_decode, decode) > 1 || off(r.hit_pct_cum, cum) > 1)
            fail_msg("%s, %.0f MiB, %s: %.2f %.2f, published %.2f %.2f", model, mib, policy_name, r.hit_pct_cum,
                     r.hit_pct_decode, cum, decode);
        assert_true(off((double)r.bytes_read / (1 << 20), read_mib) < 0.02 * read_mib + 500);
        points++;
    }
    fclose(f);
    trace_clear(&t);
    assert_int_equal(points, 33);
}

static void the_published_curves_come_out_again(void **state)
{
    published_curve("qwen");
    published_curve("gemma");
    published_curve("gptoss");
}

static void no_policy_beats_the_optimum(void **state)
{
    trace t;
    trace_of("olmoe_1b7b_299tok.jsonl", &t);
    assert_true(t.layers == 16 && t.experts == 64);
    for (uint64_t room = 32; room < 1024; room *= 2)
        for (int i = 0; policy_at(i); i++)
            assert_true(play(&t, room << 20, policy_at(i)->name, false).hits <=
                        play(&t, room << 20, "belady", false).hits);
    trace_clear(&t);
}

static void the_default_beats_lru_on_every_trace(void **state)
{
    static const char *const name[] = {"qwen.route.csv", "gemma.route.csv", "gptoss.route.csv",
                                       "olmoe_1b7b_299tok.jsonl", "kimi_linear_48b_300tok.jsonl"};
    for (int i = 0; i < 5; i++) {
        trace t;
        trace_of(name[i], &t);
        uint64_t all = 0;
        for (int32_t l = 0; l < t.layers; l++)
            all += t.expert_bytes[l] * (uint64_t)t.experts;
        for (int part = 2; part <= 32; part *= 2)
            assert_true(play(&t, all / (uint64_t)part, NULL, false).hit_pct_decode >=
                        play(&t, all / (uint64_t)part, "lru", false).hit_pct_decode);
        trace_clear(&t);
    }
}

/* Eight copies of a trace that decode together, and the bytes of all its experts. */
static void eight_of(const char *name, trace *t, uint64_t *all)
{
    trace one;
    trace_of(name, &one);
    assert_int_equal(trace_decode_together(&one, 8, t, NULL), ODMOE_OK);
    trace_clear(&one);
    *all = 0;
    for (int32_t l = 0; l < t->layers; l++)
        *all += t->expert_bytes[l] * (uint64_t)t->experts;
}

static void with_eight_sequences_decoding_together_the_default_is_within_two_points_of_lru(void **state)
{
    static const char *const name[] = {"qwen.route.csv", "gemma.route.csv", "gptoss.route.csv",
                                       "olmoe_1b7b_299tok.jsonl", "kimi_linear_48b_300tok.jsonl"};
    for (int i = 0; i < 5; i++) {
        trace t;
        uint64_t all;
        eight_of(name[i], &t, &all);
        for (int part = 2; part <= 8; part *= 4)
            assert_true(play(&t, all / (uint64_t)part, NULL, false).hit_pct_decode >=
                        play(&t, all / (uint64_t)part, "lru", false).hit_pct_decode - 2);
        trace_clear(&t);
    }
}

/* Where a policy that learns from passes of one token alone falls behind by more than three points. */
static void the_default_learns_from_passes_of_eight_tokens(void **state)
{
    trace t;
    uint64_t all;
    eight_of("qwen.route.csv", &t, &all);
    assert_true(play(&t, all / 2, NULL, false).hit_pct_decode > play(&t, all / 2, "lrfu", false).hit_pct_decode - 2);
    trace_clear(&t);
}

static void below_one_tokens_working_set_the_default_hits_where_lru_cannot(void **state)
{
    trace t; /* 24 layers x 4 of 32: a token's working set is 96 */
    assert_int_equal(replay_uniform(24, 32, 4, 300, 3, &t, NULL), ODMOE_OK);
    assert_true(play(&t, 76 << 20, "lru", false).hit_pct_decode < 0.01);
    assert_true(play(&t, 76 << 20, NULL, false).hit_pct_decode > 100.0 * 76 / 768 - 1);
    assert_true(play(&t, 48 << 20, NULL, false).hit_pct_decode > 100.0 * 48 / 768 - 1);
    trace_clear(&t);
}

static void with_even_routing_no_room_makes_the_default_worse_than_lru_by_a_point(void **state)
{
    trace t;
    assert_int_equal(replay_uniform(12, 64, 8, 200, 5, &t, NULL), ODMOE_OK);
    for (uint64_t room = 48; room < 768; room += 80)
        assert_true(play(&t, room << 20, NULL, false).hit_pct_decode >
                    play(&t, room << 20, "lru", false).hit_pct_decode - 1);
    trace_clear(&t);
}

/* Forward and backward passes in turn, every expert of a layer needed: what was computed last is needed first. */
static void a_backward_pass_finds_the_layers_just_passed(void **state)
{
    trace t;
    assert_int_equal(replay_uniform(16, 8, 8, 100, 1, &t, NULL), ODMOE_OK);
    for (size_t b = 0; b < t.fetches; b++)
        if (b / 16 % 2)
            t.fetch[b].layer = 15 - t.fetch[b].layer;
    double optimum = play(&t, 64 << 20, "belady", false).hit_pct_decode;
    assert_true(optimum > 45);
    assert_true(play(&t, 64 << 20, NULL, false).hit_pct_decode > optimum - 5);
    trace_clear(&t);
}

static void room_for_all_reads_each_expert_once(void **state)
{
    trace t;
    assert_int_equal(replay_uniform(3, 8, 2, 500, 1, &t, NULL), ODMOE_OK);
    for (int i = 0; policy_at(i); i++) {
        replay_result r = play(&t, 24 << 20, policy_at(i)->name, false);
        assert_int_equal(r.bytes_read, 24 << 20);
        assert_int_equal(r.fetched - r.hits, 24);
    }
    trace_clear(&t);
}

static void the_same_trace_gives_the_same_figures(void **state)
{
    trace t;
    trace_of("gptoss.route.csv", &t);
    for (int i = 0; policy_at(i); i++) {
        replay_result a = play(&t, 3000ull << 20, policy_at(i)->name, false);
        replay_result b = play(&t, 3000ull << 20, policy_at(i)->name, false);
        assert_true(a.hits == b.hits && a.bytes_read == b.bytes_read);
    }
    trace_clear(&t);
}

static void a_prompt_is_one_pass(void **state)
{
    trace t;
    trace_of("qwen.route.csv", &t);
    assert_true(t.layers == 48 && t.experts == 128);
    assert_int_equal(t.expert_bytes[0], 3059712);
    assert_int_equal(t.expert_bytes[6], 2654208);
    for (size_t b = 0; b < 48; b++)
        assert_true(t.fetch[b].size.phase == FETCH_PROMPT && t.fetch[b].layer == (int32_t)b);
    int64_t tokens = 0;
    for (int32_t i = 0; i < t.fetch[0].n; i++)
        tokens += t.tokens[t.fetch[0].first + i];
    assert_int_equal(tokens, 168); /* 28 tokens x 6 */
    for (size_t b = 48; b < t.fetches; b++)
        assert_true(t.fetch[b].size.phase == FETCH_DECODE && t.fetch[b].n == 6);
    trace_clear(&t);
}

static void trace_from(const char *text, trace *t)
{
    char path[] = "trace-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    assert_int_equal(trace_read(path, t, NULL), ODMOE_OK);
    unlink(path);
}

static void fetch_is(const trace *t, size_t i, int32_t layer, fetch_size size, int32_t n, const int32_t *experts,
                     const int32_t *tokens)
{
    const trace_fetch *f = &t->fetch[i];
    assert_true(i < t->fetches && f->layer == layer && f->n == n);
    assert_true(f->size.phase == size.phase && f->size.n_tokens == size.n_tokens &&
                f->size.n_sequences == size.n_sequences);
    assert_memory_equal(t->expert + f->first, experts, (size_t)n * sizeof *experts);
    assert_memory_equal(t->tokens + f->first, tokens, (size_t)n * sizeof *tokens);
}

/* A prompt of two tokens, then four steps with two experts of two layers each; worked out by hand. */
static void copies_that_decode_together_need_the_union_of_their_experts(void **state)
{
    trace one, two;
    trace_from("0,0,0,0,0,7,0.5\n0,0,0,1,0,8,0.5\n0,0,1,0,0,7,0.5\n0,0,1,1,0,9,0.5\n"
               "0,1,2,0,0,1,0.5\n0,1,2,0,1,2,0.5\n0,1,2,1,0,3,0.5\n0,1,2,1,1,4,0.5\n"
               "0,1,3,0,0,5,0.5\n0,1,3,0,1,6,0.5\n0,1,3,1,0,3,0.5\n0,1,3,1,1,5,0.5\n"
               "0,1,4,0,0,2,0.5\n0,1,4,0,1,9,0.5\n0,1,4,1,0,4,0.5\n0,1,4,1,1,3,0.5\n"
               "0,1,5,0,0,1,0.5\n0,1,5,0,1,8,0.5\n0,1,5,1,0,6,0.5\n0,1,5,1,1,7,0.5\n",
               &one);
    assert_int_equal(trace_decode_together(&one, 2, &two, NULL), ODMOE_OK);
    assert_int_equal(two.fetches, 2 * 2 + 4 * 2); /* each copy comes to the prompt once */
    const fetch_size prompt = {FETCH_PROMPT, 2, 1}, pair = {FETCH_DECODE, 2, 2};
    fetch_is(&two, 0, 0, prompt, 1, (int32_t[]){7}, (int32_t[]){2});
    fetch_is(&two, 1, 1, prompt, 2, (int32_t[]){8, 9}, (int32_t[]){1, 1});
    fetch_is(&two, 2, 0, pair, 3, (int32_t[]){1, 2, 9}, (int32_t[]){1, 2, 1}); /* steps 0 and 2 */
    fetch_is(&two, 3, 1, pair, 2, (int32_t[]){3, 4}, (int32_t[]){2, 2});
    fetch_is(&two, 4, 0, pair, 4, (int32_t[]){5, 6, 1, 8}, (int32_t[]){1, 1, 1, 1}); /* 1 and 3 */
    fetch_is(&two, 6, 0, prompt, 1, (int32_t[]){7}, (int32_t[]){2});                 /* the second copy wraps around */
    fetch_is(&two, 8, 0, pair, 3, (int32_t[]){2, 9, 1}, (int32_t[]){2, 1, 1});       /* 2 and 0 */
    trace_clear(&two);
    odmoe_error err;
    assert_int_equal(trace_decode_together(&one, 0, &two, &err), ODMOE_ERR_RANGE);
    assert_int_equal(trace_decode_together(&one, 1025, &two, &err), ODMOE_ERR_RANGE);
    trace_clear(&one);
    trace_from("0,0,0,0,0,7,0.5\n", &one);
    assert_int_equal(trace_decode_together(&one, 2, &two, &err), ODMOE_ERR_FORMAT);
    trace_clear(&one);
}

static void bad(const char *text, const char *message)
{
    char path[] = "trace-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    trace t;
    odmoe_error err = {0};
    assert_int_equal(trace_read(path, &t, &err), ODMOE_ERR_FORMAT);
    assert_non_null(strstr(err.message, path));
    if (!strstr(err.message, message))
        fail_msg("'%s' lacks '%s'", err.message, message);
    unlink(path);
}

static void malformed_traces_are_errors_with_a_line(void **state)
{
    bad("", "no routing");
    bad("# route_trace v1\nturn,phase\n", "no routing");
    bad("0,0,0,0,0,1,0.5\n0,0,0\n", "line 2");
    bad("0,0,0,0,0,1,0.5\n0,0,0,99999999999,0,1,0.5\n", "line 2");
    bad("0,0,0,5000,0,1,0.5\n", "out of range");
    bad("0,0,0,0,0,70000,0.5\n", "out of range");
    bad("0,0,0,0,0,-1,0.5\n", "line 1");
    bad("# n_expert=900000\n", "n_expert");
    bad("# layer=-2 expert_bytes=3\n", "line 1");
    bad("# layer=0 expert_bytes=9223372036854775807\n", "line 1");
    bad("0,0,0,4095,0,65535,0.5\n", "more than a model has");
    bad("{\"tok\": 1, \"layers\": [[1, 2], [3", "line 1");
    bad("{\"tok\": 1, \"layers\": [[1, 2]]}\n{\"tok\": 2}\n", "line 2");
    bad("{\"tok\": 1, \"layers\": [[1, \"2\"]]}\n", "out of range");
    bad("{\"tok\": 1, \"layers\": [7]}\n", "array of arrays");
    bad("{\"tok\": 1, \"layers\": [[-7]]}\n", "out of range");
    trace t;
    odmoe_error err;
    assert_int_equal(trace_read("no-such-trace", &t, &err), ODMOE_ERR_IO);
}

/* Two bytes an expert, and room for 2^40: the replay takes memory for the experts, not for the room. */
static void more_room_than_experts_costs_nothing(void **state)
{
    char path[] = "trace-XXXXXX";
    int fd = mkstemp(path);
    static const char text[] = "# layer=0 expert_bytes=2\n0,1,0,0,0,3,0.5\n0,1,1,0,0,3,0.5\n";
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    trace t;
    replay_result r;
    odmoe_error err;
    assert_int_equal(trace_read(path, &t, &err), ODMOE_OK);
    for (int i = 0; i < 2; i++) {
        if (replay_run(&t, 1ull << 40, i ? "belady" : "lru", false, &r, &err))
            fail_msg("%s", err.message);
        assert_int_equal(r.hits, 1);
    }
    trace_clear(&t);
    unlink(path);
}

static void replays_that_cannot_be_are_refused(void **state)
{
    trace t;
    replay_result r;
    odmoe_error err;
    assert_int_equal(replay_uniform(2, 4, 5, 1, 1, &t, &err), ODMOE_ERR_RANGE);
    assert_int_equal(replay_uniform(2, 4, 2, 10, 1, &t, &err), ODMOE_OK);
    assert_int_equal(replay_run(&t, 1000, "lru", false, &r, &err), ODMOE_ERR_BUDGET);
    assert_int_equal(replay_run(&t, 8 << 20, "oracle", false, &r, &err), ODMOE_ERR_ARG);
    assert_non_null(strstr(err.message, "next"));
    trace_clear(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_published_curves_come_out_again),
        cmocka_unit_test(no_policy_beats_the_optimum),
        cmocka_unit_test(the_default_beats_lru_on_every_trace),
        cmocka_unit_test(with_eight_sequences_decoding_together_the_default_is_within_two_points_of_lru),
        cmocka_unit_test(the_default_learns_from_passes_of_eight_tokens),
        cmocka_unit_test(copies_that_decode_together_need_the_union_of_their_experts),
        cmocka_unit_test(below_one_tokens_working_set_the_default_hits_where_lru_cannot),
        cmocka_unit_test(with_even_routing_no_room_makes_the_default_worse_than_lru_by_a_point),
        cmocka_unit_test(a_backward_pass_finds_the_layers_just_passed),
        cmocka_unit_test(room_for_all_reads_each_expert_once),
        cmocka_unit_test(the_same_trace_gives_the_same_figures),
        cmocka_unit_test(a_prompt_is_one_pass),
        cmocka_unit_test(malformed_traces_are_errors_with_a_line),
        cmocka_unit_test(more_room_than_experts_costs_nothing),
        cmocka_unit_test(replays_that_cannot_be_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
