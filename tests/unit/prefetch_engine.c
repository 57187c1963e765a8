/* The prefetch engine and the router's margin: what is read, judged and cancelled. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "prefetch/router_lookahead.h"

enum { LAYERS = 6, EXPERTS = 16 };

/* A source that notes what it is asked. */
static struct {
    bool cached[EXPERTS]; /* of every layer */
    int prefetched, cancelled, layer, n;
    int32_t list[PREFETCH_CANDIDATES];
} seen;

static void note_prefetch(void *ctx, int layer, const int32_t *experts, const float *scores, int n,
                          read_priority priority)
{
    assert_int_equal(priority, READ_SPECULATIVE);
    seen.prefetched++;
    seen.layer = layer;
    seen.n = n;
    for (int i = 0; i < n; i++) {
        assert_true(scores[i] > 0 && scores[i] <= 1 && (!i || scores[i] <= scores[i - 1]));
        seen.list[i] = experts[i];
    }
}

static void note_cancel(void *ctx, int layer, read_priority priority)
{
    seen.cancelled++;
    seen.layer = layer;
}

static bool is_missing(void *ctx, int layer, int expert)
{
    return !seen.cached[expert];
}

static const expert_source source = {.prefetch = note_prefetch, .cancel = note_cancel, .missing = is_missing};

typedef struct world {
    prefetch_engine p;
    lookahead_work look;
    void *memory;
} world;

static void make(world *w, float first, float last)
{
    arena a = {0};
    prefetch_layout(&a, LAYERS, EXPERTS, &w->p);
    lookahead_layout(&a, EXPERTS, &w->look);
    w->memory = malloc(a.used + 64);
    a = (arena){.base = (uint8_t *)(((uintptr_t)w->memory + 63) & ~(uintptr_t)63)};
    prefetch_layout(&a, LAYERS, EXPERTS, &w->p);
    lookahead_layout(&a, EXPERTS, &w->look);
    prefetch_init(&w->p, &source, LAYERS, EXPERTS, first, last);
    lookahead_clear(&w->look, EXPERTS);
    memset(&seen, 0, sizeof seen);
}

static const uint8_t ranks[4] = {0, 1, 2, 3};

/* One expert named for a layer, which then chooses another, or the same. */
static void name_and_begin(world *w, int layer, int distance, bool right)
{
    prefetch_offer(&w->p, layer, distance, (int32_t[]){3}, ranks, 1);
    prefetch_layer_begins(&w->p, layer, (int32_t[]){right ? 3 : 4}, 1);
}

static void what_is_cached_is_neither_read_nor_judged(void **state)
{
    world w;
    make(&w, 0.9f, 0.9f);
    seen.cached[1] = true;
    prefetch_offer(&w.p, 2, 1, (int32_t[]){1, 5}, ranks, 2);
    assert_int_equal(seen.n, 1);
    assert_int_equal(seen.list[0], 5);
    float before = prefetch_share(&w.p, 2, 1, 0);
    prefetch_layer_begins(&w.p, 2, (int32_t[]){9}, 1);
    assert_true(prefetch_share(&w.p, 2, 1, 0) == before);
    assert_true(prefetch_share(&w.p, 2, 1, 1) < 0.9f);
    free(w.memory);
}

static void a_nearer_look_takes_the_place_of_the_earlier_one(void **state)
{
    world w;
    make(&w, 0.95f, 0.95f);
    prefetch_offer(&w.p, 3, 2, (int32_t[]){1, 5}, ranks, 2);
    assert_int_equal(seen.n, 2);
    seen.cached[1] = seen.cached[5] = true; /* asked for: the source no longer calls them missing */
    prefetch_offer(&w.p, 3, 1, (int32_t[]){5, 7}, ranks, 2);
    assert_int_equal(seen.n, 2);
    assert_int_equal(seen.list[0], 5);
    assert_int_equal(seen.list[1], 7);
    prefetch_offer(&w.p, 3, 1, NULL, ranks, 0); /* nothing is likely any more */
    assert_int_equal(seen.cancelled, 1);
    free(w.memory);
}

static void both_looks_are_judged_each_at_its_distance(void **state)
{
    world w;
    make(&w, 0.8f, 0.8f);
    prefetch_offer(&w.p, 3, 2, (int32_t[]){1}, ranks, 1);
    prefetch_offer(&w.p, 4, 2, (int32_t[]){2}, ranks, 1);
    prefetch_offer(&w.p, 3, 1, (int32_t[]){5}, ranks, 1);
    prefetch_layer_begins(&w.p, 3, (int32_t[]){5, 9}, 2);
    assert_true(prefetch_share(&w.p, 3, 2, 0) < 0.8f);
    assert_true(prefetch_share(&w.p, 3, 1, 0) > 0.8f);
    prefetch_layer_begins(&w.p, 4, (int32_t[]){2, 9}, 2);
    assert_true(prefetch_share(&w.p, 4, 2, 0) > prefetch_share(&w.p, 3, 2, 0));
    free(w.memory);
}

static void a_wrong_guess_is_cancelled_when_its_layer_begins(void **state)
{
    world w;
    make(&w, 0.9f, 0.9f);
    prefetch_offer(&w.p, 2, 1, (int32_t[]){1}, ranks, 1);
    prefetch_layer_begins(&w.p, 1, (int32_t[]){9}, 1);
    assert_int_equal(seen.cancelled, 0);
    prefetch_layer_begins(&w.p, 2, (int32_t[]){9}, 1);
    assert_int_equal(seen.cancelled, 1);
    assert_int_equal(seen.layer, 2);
    prefetch_layer_begins(&w.p, 2, (int32_t[]){9}, 1);
    assert_int_equal(seen.cancelled, 1);
    free(w.memory);
}

static void a_layer_whose_router_cannot_be_foretold_stops_alone_and_comes_back(void **state)
{
    world w;
    make(&w, 0.9f, 0.9f);
    for (int i = 0; i < 100; i++) {
        name_and_begin(&w, 1, 1, false);
        name_and_begin(&w, 2, 1, true);
    }
    seen.prefetched = 0;
    prefetch_offer(&w.p, 1, 1, (int32_t[]){3}, ranks, 1);
    assert_int_equal(seen.prefetched, 0);
    prefetch_offer(&w.p, 2, 1, (int32_t[]){3}, ranks, 1);
    assert_int_equal(seen.prefetched, 1);
    prefetch_forget(&w.p);
    for (int i = 0; i < 300; i++)
        name_and_begin(&w, 1, 1, true); /* judged though it is not read */
    seen.prefetched = 0;
    prefetch_offer(&w.p, 1, 1, (int32_t[]){3}, ranks, 1);
    assert_int_equal(seen.prefetched, 1);
    free(w.memory);
}

static void from_farther_candidates_must_be_surer(void **state)
{
    world w;
    make(&w, 0.7f, 0.7f);
    prefetch_offer(&w.p, 3, 2, (int32_t[]){1}, ranks, 1);
    assert_int_equal(seen.prefetched, 0);
    prefetch_offer(&w.p, 3, 1, (int32_t[]){1}, ranks, 1);
    assert_int_equal(seen.prefetched, 1);
    free(w.memory);
}

static void candidates_of_a_failed_pass_are_forgotten(void **state)
{
    world w;
    make(&w, 0.9f, 0.9f);
    prefetch_offer(&w.p, 2, 1, (int32_t[]){1}, ranks, 1);
    prefetch_forget(&w.p);
    float before = prefetch_share(&w.p, 2, 1, 0);
    prefetch_layer_begins(&w.p, 2, (int32_t[]){9}, 1);
    assert_true(prefetch_share(&w.p, 2, 1, 0) == before);
    free(w.memory);
}

/* ---- the router applied early ---- */

typedef struct said {
    float logits[2][EXPERTS];
    int32_t topk[2][2];
    int first, last; /* layers that were looked at */
} said;

static lookahead_choice say(void *ctx, int layer, int64_t n)
{
    said *s = ctx;
    s->first = s->first ? s->first : layer;
    s->last = layer;
    return (lookahead_choice){s->topk[0], s->logits[0]};
}

static void a_wide_margin_comes_first_and_no_layer_past_the_last_is_asked(void **state)
{
    world w;
    said s = {.topk = {{4, 7}, {9, 4}}};
    make(&w, 0.95f, 0.85f);
    for (int e = 0; e < EXPERTS; e++)
        s.logits[0][e] = s.logits[1][e] = (float)(e % 3) * 0.1f;
    s.logits[0][4] = 0.5f; /* hardly above the others for the first token, */
    s.logits[0][7] = 0.45f;
    s.logits[1][9] = 2;
    s.logits[1][4] = 1.8f; /* clearly for the second */
    lookahead_run(&w.p, &w.look, say, &s, LAYERS - 2, 2, 2);
    assert_int_equal(s.first, LAYERS - 1);
    assert_int_equal(s.last, LAYERS - 1);
    assert_int_equal(seen.layer, LAYERS - 1);
    assert_int_equal(seen.n, 3); /* each once */
    assert_int_equal(seen.list[0] + seen.list[1], 9 + 4);
    assert_int_equal(seen.list[2], 7);
    lookahead_run(&w.p, &w.look, say, &s, LAYERS - 1, 2, 2);
    assert_int_equal(s.last, LAYERS - 1);
    free(w.memory);
}

/* By their place alone. */
static lookahead_choice say_places(void *ctx, int layer, int64_t n)
{
    lookahead_choice choice = say(ctx, layer, n);
    choice.logits = NULL;
    return choice;
}

static void the_next_layer_is_looked_at_again_and_judged_apart(void **state)
{
    world w;
    said s = {.topk = {{4, 7}}};
    make(&w, 0.9f, 0.9f);
    prefetch_offer(&w.p, 2, 1, (int32_t[]){1, 5}, ranks, 2);
    lookahead_again(&w.p, &w.look, say_places, &s, 1, 2, 1);
    assert_int_equal(s.last, 2);
    assert_int_equal(seen.n, 2); /* in place of 1 and 5 */
    assert_int_equal(seen.list[0] + seen.list[1], 4 + 7);
    prefetch_layer_begins(&w.p, 2, (int32_t[]){4, 7}, 2);
    assert_true(prefetch_share(&w.p, 2, 0, 0) > 0.9f);
    assert_true(prefetch_share(&w.p, 2, 1, 0) < 0.9f);
    lookahead_again(&w.p, &w.look, say_places, &s, LAYERS - 1, 2, 1);
    assert_int_equal(s.last, 2); /* nothing comes after the last layer */
    free(w.memory);
}

static void logits_that_are_no_numbers_or_all_alike_are_survived(void **state)
{
    world w;
    said s = {.topk = {{4, 7}, {9, 4}}};
    make(&w, 0.9f, 0.9f);
    for (int i = 0; i < 3; i++) {
        for (int e = 0; e < EXPERTS; e++)
            s.logits[0][e] = s.logits[1][e] = i == 0 ? 0 : i == 1 ? NAN : INFINITY;
        lookahead_run(&w.p, &w.look, say, &s, 0, 2, 2);
        prefetch_layer_begins(&w.p, 1, (int32_t[]){4}, 1);
    }
    assert_true(seen.prefetched > 0);
    free(w.memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_cached_is_neither_read_nor_judged),
        cmocka_unit_test(a_nearer_look_takes_the_place_of_the_earlier_one),
        cmocka_unit_test(both_looks_are_judged_each_at_its_distance),
        cmocka_unit_test(a_wrong_guess_is_cancelled_when_its_layer_begins),
        cmocka_unit_test(a_layer_whose_router_cannot_be_foretold_stops_alone_and_comes_back),
        cmocka_unit_test(from_farther_candidates_must_be_surer),
        cmocka_unit_test(candidates_of_a_failed_pass_are_forgotten),
        cmocka_unit_test(a_wide_margin_comes_first_and_no_layer_past_the_last_is_asked),
        cmocka_unit_test(the_next_layer_is_looked_at_again_and_judged_apart),
        cmocka_unit_test(logits_that_are_no_numbers_or_all_alike_are_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
