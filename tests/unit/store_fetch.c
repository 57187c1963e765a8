/* Batches, pins and orders, over a back end that does as it is told. */
#include "store_world.h"

static void cached_experts_come_first(void **state)
{
    world w;
    world_make_room(&w, 8);
    fetch(&w, 0, (int32_t[]){6, 7}, 2, FETCH_ARRIVAL);
    fake_hold(&w.fake, true);
    store_fetch *b = begin(&w, 0, all, E, FETCH_ARRIVAL);
    pinned_expert first = next(&w, b), second = next(&w, b); /* while every read is held back */
    assert_true(first.expert == 6 && second.expert == 7);
    fake_hold(&w.fake, false);
    store_fetch_release(b, &first);
    store_fetch_release(b, &second);
    for (int i = 2; i < E; i++) {
        pinned_expert view = next(&w, b);
        store_fetch_release(b, &view);
    }
    store_fetch_end(b);
    assert_int_equal(totals_of(&w).sum.hits, 2);
    assert_int_equal(totals_of(&w).sum.misses, 2 + 6);
    world_free(&w);
}

static void experts_come_as_they_arrive(void **state)
{
    world w;
    world_make_room(&w, 8);
    w.fake.hold = true;
    w.fake.order = FAKE_LIFO;
    store_fetch *b = begin(&w, 0, all, 4, FETCH_ARRIVAL);
    fake_await_in_flight(&w.fake, 4 * READS);
    fake_let_through(&w.fake, READS);
    pinned_expert view = next(&w, b);
    assert_int_equal(view.expert, 3);
    store_fetch_release(b, &view);
    fake_hold(&w.fake, false);
    for (int i = 0; i < 3; i++) {
        view = next(&w, b);
        store_fetch_release(b, &view);
    }
    store_fetch_end(b);
    world_free(&w);
}

static void the_listed_order_is_kept_whatever_arrives_first(void **state)
{
    world w;
    world_make_room(&w, 8);
    w.fake.order = FAKE_LIFO;
    int32_t list[] = {5, 2, 7, 0, 1};
    store_fetch *b = begin(&w, 1, list, 5, FETCH_LISTED);
    for (int i = 0; i < 5; i++) {
        pinned_expert view = next(&w, b);
        assert_int_equal(view.expert, list[i]);
        store_fetch_release(b, &view);
    }
    store_fetch_end(b);
    world_free(&w);
}

static void all_misses_are_in_flight_at_once(void **state)
{
    world w;
    world_make_room(&w, 8);
    w.fake.hold = true;
    store_fetch *b = begin(&w, 0, all, E, FETCH_ARRIVAL);
    fake_await_in_flight(&w.fake, E * READS);
    fake_hold(&w.fake, false);
    store_fetch_end(b);
    world_free(&w);
}

static void a_list_longer_than_the_cache_goes_through_in_either_order(void **state)
{
    for (int64_t room = 1; room <= 3; room++)
        for (fetch_order order = FETCH_ARRIVAL; order <= FETCH_LISTED; order++) {
            world w;
            world_make_room(&w, room);
            w.fake.order = FAKE_RANDOM;
            for (int i = 0; i < 6; i++)
                fetch(&w, i % 3, all, E, order);
            world_free(&w);
        }
}

static void experts_of_different_sizes_get_room_at_the_floor(void **state)
{
    for (fetch_order order = FETCH_ARRIVAL; order <= FETCH_LISTED; order++) {
        world w;
        world_make(&w, &mixed, 0);
        w.fake.order = FAKE_RANDOM;
        for (int i = 0; i < 24; i++)
            fetch(&w, (i * 3) % 4, all, E, order);
        world_free(&w);
    }
}

static void what_the_floor_promises_holds_with_pins_of_other_sizes(void **state)
{
    /* three small pins of three layers, wherever they are, leave room for the largest in a cache for four */
    world w;
    fixture_make(&w.model, &mixed, false);
    fake_init(&w.fake, &w.model);
    w.s = fake_store(&w.fake, store_bytes_for(w.model.index, 4), "lru");
    for (int round = 0; round < 30; round++) {
        store_fetch *pinned[3];
        pinned_expert view[3];
        for (int i = 0; i < 3; i++) {
            int32_t expert = (round * 5 + i * 3) % E;
            for (int l = 0; l < round % 4; l++)
                fetch(&w, (round + l) % 4, all, 1 + round % 5, FETCH_ARRIVAL);
            pinned[i] = begin(&w, 1 + (round + i) % 3, &expert, 1, FETCH_ARRIVAL);
            view[i] = next(&w, pinned[i]);
        }
        fetch(&w, 0, all, E, FETCH_LISTED);
        for (int i = 0; i < 3; i++) {
            assert_true(fixture_view_is_right(&w.model, &view[i])); /* no eviction has touched them */
            store_fetch_release(pinned[i], &view[i]);
            store_fetch_end(pinned[i]);
        }
    }
    world_free(&w);
}

static void an_expert_is_cached_from_its_arrival_to_its_eviction(void **state)
{
    world w;
    world_make_room(&w, 3);
    fake_hold(&w.fake, true);
    store_fetch *b = begin(&w, 0, (int32_t[]){4}, 1, FETCH_ARRIVAL);
    assert_false(store_is_cached(w.s, 0, 4));
    fake_hold(&w.fake, false);
    pinned_expert view = next(&w, b);
    assert_true(store_is_cached(w.s, 0, 4));
    assert_false(store_is_cached(w.s, 0, 5));
    store_fetch_release(b, &view);
    store_fetch_end(b);
    fetch(&w, 1, all, 3, FETCH_ARRIVAL);
    assert_false(store_is_cached(w.s, 0, 4));
    world_free(&w);
}

static void pins_survive_pressure(void **state)
{
    world w;
    world_make_room(&w, 3);
    store_fetch *b = begin(&w, 0, (int32_t[]){4, 5}, 2, FETCH_ARRIVAL);
    pinned_expert x = next(&w, b), y = next(&w, b);
    for (int i = 0; i < 5; i++)
        fetch(&w, 1 + i % 2, all, E, FETCH_LISTED);
    assert_true(fixture_view_is_right(&w.model, &x) && fixture_view_is_right(&w.model, &y));
    store_fetch_release(b, &y);
    store_fetch_release(b, &x);
    store_fetch_end(b);
    world_free(&w);
}

static void a_cache_full_of_own_pins_is_an_error_not_a_hang(void **state)
{
    world w;
    world_make_room(&w, 2);
    odmoe_error err = {0};
    pinned_expert x, y, z;
    store_fetch *b = begin(&w, 0, all, 3, FETCH_ARRIVAL);
    x = next(&w, b);
    y = next(&w, b);
    assert_int_equal(store_fetch_next(b, &z, &err), ODMOE_ERR_STATE);
    assert_non_null(strstr(err.message, "release"));
    store_fetch_release(b, &x);
    store_fetch_release(b, &y);
    store_fetch_end(b);
    fetch(&w, 0, all, E, FETCH_ARRIVAL);
    world_free(&w);
}

static void what_was_cached_at_the_beginning_is_given_out_before_it_is_evicted(void **state)
{
    world w;
    world_make_room(&w, 3);
    fetch(&w, 0, (int32_t[]){6}, 1, FETCH_ARRIVAL);
    fetch(&w, 1, (int32_t[]){0, 1}, 2, FETCH_ARRIVAL); /* 6 is the oldest now */
    fetch(&w, 0, all, E, FETCH_LISTED);                /* 6 comes after six misses */
    store_counters six;
    store_counters_get(w.s, 0, 6, &six);
    assert_int_equal(six.hits, 1);
    assert_int_equal(six.misses, 1);
    assert_int_equal(six.bytes, expert_index_bytes(w.model.index, 0, 6)); /* read once */
    world_free(&w);
}

static void hits_late_in_a_list_leave_room_to_read_one_earlier(void **state)
{
    world w;
    world_make_room(&w, 4);
    fetch(&w, 0, (int32_t[]){4, 5, 6, 7}, 4, FETCH_LISTED); /* the cache is full of hits to come */
    fake_hold(&w.fake, true);
    store_fetch *b = begin(&w, 0, all, E, FETCH_LISTED);
    fake_await_submitted(&w.fake, (4 + 1) * READS); /* no caller sleeps yet, still 0 is on its way */
    fake_hold(&w.fake, false);
    for (int i = 0; i < E; i++) {
        pinned_expert view = next(&w, b);
        store_fetch_release(b, &view);
    }
    store_fetch_end(b);
    assert_int_equal(totals_of(&w).sum.hits, 4);
    assert_true(fake_submitted(&w.fake) <= (4 + 4 + 2) * READS); /* 6 and 7 at most were read again */
    world_free(&w);
}

/* Room for three hits, a miss behind the first: it takes the last one's place while the caller computes, not only when
 * he lets go. */
static void a_miss_begins_when_the_hit_before_it_has_been_given_out(void **state)
{
    world w;
    world_make_room(&w, 3);
    fetch(&w, 0, (int32_t[]){0, 2, 3}, 3, FETCH_LISTED);
    fake_hold(&w.fake, true);
    store_fetch *b = begin(&w, 0, all, 4, FETCH_LISTED);
    store_wait_idle(w.s);
    assert_int_equal(fake_submitted(&w.fake), 3 * READS);
    pinned_expert view = next(&w, b);
    fake_await_submitted(&w.fake, (3 + 1) * READS);
    store_fetch_release(b, &view);
    store_fetch_end(b);
    fake_hold(&w.fake, false);
    world_free(&w);
}

static void two_open_fetches_of_one_thread_both_get_through_with_room_for_one(void **state)
{
    world w;
    world_make_room(&w, 1);
    store_fetch *a = begin(&w, 0, all, E, FETCH_LISTED), *b = begin(&w, 1, all, E, FETCH_ARRIVAL);
    for (int i = 0; i < E; i++) {
        pinned_expert view = next(&w, a);
        store_fetch_release(a, &view);
        view = next(&w, b);
        store_fetch_release(b, &view);
    }
    store_fetch_end(a);
    store_fetch_end(b);
    world_free(&w);
}

static void lru_keeps_the_recently_used_and_evicts_the_oldest(void **state)
{
    world w;
    world_make_room(&w, 3);
    fetch(&w, 0, (int32_t[]){0}, 1, FETCH_ARRIVAL);
    fetch(&w, 0, (int32_t[]){1}, 1, FETCH_ARRIVAL);
    fetch(&w, 0, (int32_t[]){2}, 1, FETCH_ARRIVAL);
    fetch(&w, 0, (int32_t[]){0}, 1, FETCH_ARRIVAL); /* a hit; 1 is the oldest now */
    fetch(&w, 0, (int32_t[]){3}, 1, FETCH_ARRIVAL);
    assert_int_equal(totals_of(&w).evictions, 1);
    fetch(&w, 0, (int32_t[]){0, 2, 3}, 3, FETCH_ARRIVAL);
    assert_int_equal(totals_of(&w).sum.hits, 1 + 3);
    fetch(&w, 0, (int32_t[]){1}, 1, FETCH_ARRIVAL);
    assert_int_equal(totals_of(&w).sum.misses, 5);
    world_free(&w);
}

static void invalidated_experts_are_read_again(void **state)
{
    world w;
    world_make_room(&w, 8);
    store_fetch *b = begin(&w, 0, all, 2, FETCH_LISTED);
    pinned_expert pinned = next(&w, b);
    store_invalidate(w.s, 0, 0); /* pinned: goes with its pin */
    store_invalidate(w.s, 0, 1); /* on its way or just read: read again for the fetch */
    assert_true(fixture_view_is_right(&w.model, &pinned));
    int n;
    memset(w.model.bytes + expert_index_extents(w.model.index, 0, 0, &n)[0].offset, 42, 100);
    store_fetch_release(b, &pinned);
    pinned_expert other = next(&w, b);
    store_fetch_release(b, &other);
    store_fetch_end(b);
    fetch(&w, 0, all, 2, FETCH_LISTED); /* compares with the changed file */
    store_counters zero;
    store_counters_get(w.s, 0, 0, &zero);
    assert_int_equal(zero.misses, 2);
    world_free(&w);
}

typedef struct waiter {
    store_fetch *b;
    odmoe_status status;
} waiter;

static void *wait_for_next(void *ctx)
{
    waiter *w = ctx;
    pinned_expert view;
    w->status = store_fetch_next(w->b, &view, NULL);
    return NULL;
}

static void two_that_wait_for_each_others_pins_are_told_so(void **state)
{
    world w;
    world_make_room(&w, 8);
    store_fetch *a = begin(&w, 0, (int32_t[]){0, 1}, 2, FETCH_LISTED);
    store_fetch *b = begin(&w, 0, (int32_t[]){1, 0}, 2, FETCH_LISTED);
    pinned_expert zero = next(&w, a), one = next(&w, b);
    store_invalidate(w.s, 0, -1); /* each can be read again only when the other has let go */
    waiter wa = {.b = a}, wb = {.b = b};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, wait_for_next, &wa), 0);
    wait_for_next(&wb);
    pthread_join(thread, NULL);
    assert_int_equal(wa.status, ODMOE_ERR_STATE);
    assert_int_equal(wb.status, ODMOE_ERR_STATE);
    store_fetch_release(a, &zero);
    store_fetch_release(b, &one);
    store_fetch_end(a);
    store_fetch_end(b);
    fetch(&w, 0, all, E, FETCH_LISTED);
    world_free(&w);
}

static void ids_out_of_range_are_refused(void **state)
{
    world w;
    odmoe_error err = {0};
    store_fetch *b;
    world_make_room(&w, 2);
    assert_int_equal(fixture_begin(w.s, 3, all, 1, FETCH_ARRIVAL, &b, &err), ODMOE_ERR_RANGE);
    assert_int_equal(fixture_begin(w.s, -1, all, 1, FETCH_ARRIVAL, &b, &err), ODMOE_ERR_RANGE);
    assert_int_equal(fixture_begin(w.s, 0, (int32_t[]){E}, 1, FETCH_ARRIVAL, &b, &err), ODMOE_ERR_RANGE);
    assert_int_equal(fixture_begin(w.s, 0, (int32_t[]){-1}, 1, FETCH_ARRIVAL, &b, &err), ODMOE_ERR_RANGE);
    assert_int_equal(fixture_begin(w.s, 0, (int32_t[]){1, 1}, 2, FETCH_ARRIVAL, &b, &err), ODMOE_ERR_RANGE);
    assert_string_equal(err.message, "layer 0, expert 1: asked for twice in a fetch");
    b = begin(&w, 0, NULL, 0, FETCH_ARRIVAL);
    assert_true(next(&w, b).expert < 0);
    store_fetch_end(b);
    store_fetch_end(NULL);
    fetch(&w, 0, all, E, FETCH_LISTED);
    world_free(&w);
}

static void a_cache_below_the_floor_is_refused_with_the_figure(void **state)
{
    model_fixture m;
    fake_io f;
    store *s;
    odmoe_error err = {0};
    char figure[32];
    fixture_make(&m, &mixed, false);
    fake_init(&f, &m);
    store_options options = {.cache_bytes = store_floor(m.index) - 1, .policy = "lru", .io_override = &f.io};
    assert_int_equal(store_open(m.index, m.tensors, &options, &s, &err), ODMOE_ERR_BUDGET);
    snprintf(figure, sizeof figure, "%llu", (unsigned long long)store_floor(m.index));
    assert_non_null(strstr(err.message, figure));
    options.cache_bytes++;
    options.policy = "crystal-ball";
    assert_int_equal(store_open(m.index, m.tensors, &options, &s, &err), ODMOE_ERR_ARG);
    assert_non_null(strstr(err.message, "lru"));
    fixture_free(&m, false);
}

static void a_cache_for_all_holds_all(void **state)
{
    world w;
    world_make(&w, &mixed, 0);
    assert_false(store_holds_all(w.s));
    world_free(&w);
    world_make_room(&w, 3 * E);
    assert_true(store_holds_all(w.s));
    for (int l = 0; l < 3; l++)
        fetch(&w, l, all, E, FETCH_ARRIVAL);
    for (int l = 0; l < 3; l++)
        fetch(&w, l, all, E, FETCH_LISTED);
    assert_int_equal(totals_of(&w).sum.hits, 3 * E);
    assert_int_equal(totals_of(&w).evictions, 0);
    world_free(&w);
    uint64_t bytes;
    world_make(&w, &mixed, 1ull << 60); /* what all do not need is not taken */
    assert_true(store_holds_all(w.s));
    assert_int_equal(store_bytes_for_all(w.model.index, &bytes, NULL), ODMOE_OK);
    assert_int_equal(totals_of(&w).cache_bytes, bytes);
    world_free(&w);
}

static void counters_count_and_reset(void **state)
{
    world w;
    store_counters c;
    world_make_room(&w, 8);
    fetch(&w, 1, all, 3, FETCH_ARRIVAL);
    fetch(&w, 1, all, 3, FETCH_ARRIVAL);
    store_note_uses(w.s, 1, 2, 17);
    store_counters_get(w.s, 1, 2, &c);
    assert_int_equal(c.uses, 17);
    assert_int_equal(c.hits, 1);
    assert_int_equal(c.misses, 1);
    assert_int_equal(c.bytes, expert_index_bytes(w.model.index, 1, 2));
    store_counters_reset(w.s);
    store_counters_get(w.s, 1, 2, &c);
    assert_true(!c.uses && !c.hits && !c.misses && !c.bytes && !totals_of(&w).bytes_read);
    world_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cached_experts_come_first),
        cmocka_unit_test(experts_come_as_they_arrive),
        cmocka_unit_test(the_listed_order_is_kept_whatever_arrives_first),
        cmocka_unit_test(all_misses_are_in_flight_at_once),
        cmocka_unit_test(a_list_longer_than_the_cache_goes_through_in_either_order),
        cmocka_unit_test(experts_of_different_sizes_get_room_at_the_floor),
        cmocka_unit_test(what_the_floor_promises_holds_with_pins_of_other_sizes),
        cmocka_unit_test(pins_survive_pressure),
        cmocka_unit_test(a_cache_full_of_own_pins_is_an_error_not_a_hang),
        cmocka_unit_test(what_was_cached_at_the_beginning_is_given_out_before_it_is_evicted),
        cmocka_unit_test(hits_late_in_a_list_leave_room_to_read_one_earlier),
        cmocka_unit_test(a_miss_begins_when_the_hit_before_it_has_been_given_out),
        cmocka_unit_test(two_open_fetches_of_one_thread_both_get_through_with_room_for_one),
        cmocka_unit_test(lru_keeps_the_recently_used_and_evicts_the_oldest),
        cmocka_unit_test(invalidated_experts_are_read_again),
        cmocka_unit_test(two_that_wait_for_each_others_pins_are_told_so),
        cmocka_unit_test(ids_out_of_range_are_refused),
        cmocka_unit_test(a_cache_below_the_floor_is_refused_with_the_figure),
        cmocka_unit_test(a_cache_for_all_holds_all),
        cmocka_unit_test(counters_count_and_reset),
        cmocka_unit_test(an_expert_is_cached_from_its_arrival_to_its_eviction),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
