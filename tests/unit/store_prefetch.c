/* Prefetching: how much it may hold, what is read before it, when it is given up. */
#include "store_world.h"

/* So many experts have arrived (all of this world's are of one size). */
static void await_read(const world *w, uint64_t experts)
{
    while (totals_of(w).bytes_read < experts * expert_index_bytes(w->model.index, 0, 0))
        usleep(100); /* or the lock would be free for moments only, which a single processor hardly meets */
}

static void a_prefetch_is_a_hit_later(void **state)
{
    world w;
    world_make_room(&w, 8);
    store_prefetch(w.s, 2, (int32_t[]){1, 2, 99, -4, 1}, 5, READ_CERTAIN); /* unknown ids are skipped */
    fake_await_submitted(&w.fake, 2 * READS);
    await_read(&w, 2);
    fetch(&w, 2, (int32_t[]){1, 2}, 2, FETCH_ARRIVAL);
    assert_int_equal(totals_of(&w).sum.hits, 2);
    assert_int_equal(fake_submitted(&w.fake), 2 * READS);
    world_free(&w);
}

/* Two experts of layer 1 prefetched, the oldest in a cache of four, then six others one by one: how many hits when
 * their layer comes? */
static uint64_t hits_after_pressure(read_priority priority)
{
    world w;
    world_make_room(&w, priority == READ_CERTAIN ? 4 : 16); /* an eighth, or half, is theirs */
    uint64_t others = priority == READ_CERTAIN ? 6 : 16;
    store_prefetch(w.s, 1, all, 2, priority);
    await_read(&w, 2);
    for (uint64_t i = 0; i < others; i++)
        fetch(&w, i < E ? 0 : 2, &all[i % E], 1, FETCH_ARRIVAL);
    assert_int_equal(totals_of(&w).sum.hits, 0);
    fetch(&w, 1, all, 2, FETCH_ARRIVAL);
    uint64_t hits = totals_of(&w).sum.hits;
    assert_int_equal(fake_submitted(&w.fake), (2 + others + 2 - hits) * READS);
    world_free(&w);
    return hits;
}

static void what_is_prefetched_stays_until_its_layer_comes(void **state)
{
    assert_int_equal(hits_after_pressure(READ_CERTAIN), 2);
    assert_int_equal(hits_after_pressure(READ_SPECULATIVE), 2);
}

static void what_will_be_needed_goes_where_pins_leave_a_demand_no_other_room(void **state)
{
    world w;
    world_make_room(&w, 4);
    store_prefetch(w.s, 1, all, 2, READ_CERTAIN);
    await_read(&w, 2);
    store_fetch *b = begin(&w, 0, all, 3, FETCH_LISTED);
    pinned_expert view[3];
    for (int i = 0; i < 3; i++)
        view[i] = next(&w, b);
    assert_int_equal(totals_of(&w).evictions, 1);
    for (int i = 0; i < 3; i++)
        store_fetch_release(b, &view[i]);
    store_fetch_end(b);
    fetch(&w, 1, all, 2, FETCH_ARRIVAL);
    assert_int_equal(totals_of(&w).sum.hits, 1);
    world_free(&w);
}

static void a_prefetch_returns_while_reads_are_blocked(void **state)
{
    world w;
    world_make_room(&w, 8);
    w.fake.hold = true;
    store_prefetch(w.s, 1, all, E, READ_CERTAIN);
    store_prefetch(w.s, 2, all, E, READ_SPECULATIVE);
    fake_await_submitted(&w.fake, READS);
    fake_hold(&w.fake, false);
    world_free(&w);
}

static void prefetches_stay_within_the_cap_of_their_priority(void **state)
{
    world w;
    world_make_room(&w, 16);
    w.fake.hold = true;
    store_prefetch(w.s, 1, all, E, READ_SPECULATIVE);
    fake_await_in_flight(&w.fake, 2 * READS); /* an eighth of 16 */
    store_prefetch(w.s, 2, all, E, READ_CERTAIN);
    fake_await_in_flight(&w.fake, (2 + 8) * READS); /* half of 16 */
    store_prefetch(w.s, 0, all, E, READ_CERTAIN);
    fake_hold(&w.fake, false);
    fetch(&w, 0, all, 4, FETCH_ARRIVAL);
    assert_int_equal(totals_of(&w).sum.misses, 4);
    assert_int_equal(fake_submitted(&w.fake), (2 + 8 + 4) * READS);
    /* layer 1 has come and gone: its prefetches no longer count, right or wrong */
    fetch(&w, 1, all, 1, FETCH_ARRIVAL);
    store_totals t = totals_of(&w);
    assert_int_equal(t.sum.hits, 1);
    assert_int_equal(t.speculative_used_bytes, expert_index_bytes(w.model.index, 1, 0));
    store_prefetch(w.s, 1, all, E, READ_SPECULATIVE);
    fake_await_submitted(&w.fake, (2 + 8 + 4 + 2) * READS);
    world_free(&w);
}

static void a_demand_goes_before_queued_speculative_reads_and_joins_one_under_way(void **state)
{
    world w;
    world_make_room(&w, 16);
    w.fake.hold = true;
    store_prefetch(w.s, 1, (int32_t[]){0, 1}, 2, READ_SPECULATIVE);
    fake_await_submitted(&w.fake, 2 * READS);
    store_fetch *b = begin(&w, 1, (int32_t[]){1, 2}, 2, FETCH_LISTED);
    fake_await_submitted(&w.fake, 3 * READS);
    fake_hold(&w.fake, false);
    pinned_expert view = next(&w, b);
    store_fetch_release(b, &view);
    view = next(&w, b);
    store_fetch_release(b, &view);
    store_fetch_end(b);
    store_totals t = totals_of(&w);
    assert_int_equal(t.speculative_late, 1);
    assert_int_equal(t.sum.misses, 2);
    assert_int_equal(fake_submitted(&w.fake), 3 * READS); /* 1 was not read twice */
    world_free(&w);
}

/* Experts of six parts of 0.7 MB: a speculative read is requested part by part. Three parts of one of layer 1 are in flight when a
 * demand comes, whose six parts go first. */
static store_fetch *begin_amid_a_speculative_read(world *w)
{
    static const fixture_sizes large = {
        .layers = 2, .experts = E, .halves = {{700000, 700000, 700000}, {700000, 700000, 700000}}, .gap = 20000};
    fixture_make(&w->model, &large, false);
    fake_init(&w->fake, &w->model);
    w->s = fake_store(&w->fake, store_bytes_for(w->model.index, 16), "lru");
    w->fake.hold = true;
    store_prefetch(w->s, 1, all, 1, READ_SPECULATIVE);
    fake_await_submitted(&w->fake, 3); /* 2 MiB are in flight: the window is full */
    store_fetch *b = begin(w, 0, all, 1, FETCH_ARRIVAL);
    fake_await_submitted(&w->fake, 3 + 6);
    return b;
}

static void end_with_one(world *w, store_fetch *b)
{
    pinned_expert view = next(w, b);
    store_fetch_release(b, &view);
    store_fetch_end(b);
}

static void a_speculative_read_gives_way_to_a_demand_and_goes_on_afterwards(void **state)
{
    world w;
    store_fetch *b = begin_amid_a_speculative_read(&w);
    fake_hold(&w.fake, false);
    end_with_one(&w, b);
    await_read(&w, 2);
    assert_int_equal(totals_of(&w).speculative_bytes, expert_index_bytes(w.model.index, 1, 0));
    assert_int_equal(fake_submitted(&w.fake), 6 + 6);
    fetch(&w, 1, all, 1, FETCH_ARRIVAL);
    assert_int_equal(totals_of(&w).sum.hits, 1);
    assert_false(store_missing(w.s, 2, 0) || store_missing(w.s, 0, -1)); /* what does not exist */
    world_free(&w);
}

static void a_suspended_read_that_is_cancelled_is_not_read_to_the_end(void **state)
{
    for (int replaced = 0; replaced < 2; replaced++) {
        world w;
        store_fetch *b = begin_amid_a_speculative_read(&w);
        if (replaced)
            store_prefetch(w.s, 1, all + 1, 1, READ_SPECULATIVE); /* a better list, without it */
        else
            store_cancel(w.s, 1, READ_SPECULATIVE);
        fake_hold(&w.fake, false);
        end_with_one(&w, b);
        await_read(&w, replaced ? 2 : 1);
        assert_int_equal(fake_submitted(&w.fake), 3 + 6 + (replaced ? 6 : 0));
        assert_true(store_missing(w.s, 1, 0));
        assert_int_equal(store_missing(w.s, 1, 1), !replaced);
        fetch(&w, 1, all, 1, FETCH_ARRIVAL); /* from the beginning */
        assert_int_equal(totals_of(&w).sum.misses, 2);
        world_free(&w);
    }
}

static void a_suspended_read_goes_on_at_once_when_its_layer_asks_for_it(void **state)
{
    world w;
    store_fetch *b = begin_amid_a_speculative_read(&w), *of_it = begin(&w, 1, all, 1, FETCH_ARRIVAL);
    fake_await_submitted(&w.fake, 6 + 6);
    fake_hold(&w.fake, false);
    end_with_one(&w, of_it);
    end_with_one(&w, b);
    assert_int_equal(fake_submitted(&w.fake), 6 + 6);
    world_free(&w);
}

/* ---- in which order ---- */

/* The experts of a layer that are cached or asked for, as bits. */
static unsigned known(const world *w, int layer)
{
    unsigned bits = 0;
    for (int e = 0; e < E; e++)
        bits |= store_missing(w->s, layer, e) ? 0 : 1u << e;
    return bits;
}

static void the_layer_that_comes_next_is_read_first_and_later_ones_give_way(void **state)
{
    world w;
    fixture_make(&w.model, &equal, false);
    fake_init(&w.fake, &w.model);
    store_options options = {.cache_bytes = store_bytes_for(w.model.index, 16), /* two speculative experts */
                             .policy = "lru",
                             .io_override = &w.fake.io,
                             .io_depth = READS};
    assert_int_equal(store_open(w.model.index, w.model.tensors, &options, &w.s, NULL), ODMOE_OK);
    w.fake.hold = true;
    store_fetch *b = begin(&w, 0, all, 1, FETCH_ARRIVAL); /* the back end is full: speculative reads stay queued */
    fake_await_in_flight(&w.fake, READS);
    store_prefetch(w.s, 2, all, 2, READ_SPECULATIVE);
    assert_int_equal(known(&w, 2), 3);
    store_prefetch(w.s, 1, all, 1, READ_SPECULATIVE);
    assert_int_equal(known(&w, 1), 1);
    assert_int_equal(known(&w, 2), 1);
    store_prefetch(w.s, 1, all + 2, 2, READ_SPECULATIVE); /* takes the place of the first list for layer 1 */
    assert_int_equal(known(&w, 1), 4 + 8);
    assert_int_equal(known(&w, 2), 0);
    store_prefetch(w.s, 2, all, 2, READ_SPECULATIVE); /* the earlier layer does not give way */
    assert_int_equal(known(&w, 1), 4 + 8);
    fake_hold(&w.fake, false);
    end_with_one(&w, b);
    world_free(&w);
}

/* All slots are pinned or waited for, a prefetch has no room: it begins when a pin is released, not when its layer comes. */
static void a_prefetch_that_found_no_room_begins_when_there_is_some(void **state)
{
    for (read_priority priority = READ_CERTAIN; priority < READ_PRIORITY_COUNT; priority++) {
        world w;
        world_make_room(&w, E);
        store_fetch *b = begin(&w, 0, all, E, FETCH_LISTED);
        fake_await_submitted(&w.fake, E * READS);
        await_read(&w, E);
        store_prefetch(w.s, 1, all, 1, priority);
        store_wait_idle(w.s);
        assert_int_equal(fake_submitted(&w.fake), E * READS);
        pinned_expert view = next(&w, b);
        store_fetch_release(b, &view);
        fake_await_submitted(&w.fake, (E + 1) * READS);
        store_fetch_end(b);
        world_free(&w);
    }
}

/* The same where nothing is pinned by a fetch that ends, but all is wanted. */
static void a_prefetch_begins_when_a_fetch_ends_that_waited_for_all(void **state)
{
    world w;
    world_make_room(&w, E);
    store_fetch *b = begin(&w, 0, all, E, FETCH_LISTED);
    await_read(&w, E);
    store_prefetch(w.s, 1, all, 1, READ_CERTAIN);
    store_wait_idle(w.s);
    assert_int_equal(fake_submitted(&w.fake), E * READS);
    store_fetch_end(b);
    fake_await_submitted(&w.fake, (E + 1) * READS);
    world_free(&w);
}

/* Half of the room is protected for layer 1, the rest is pinned: a speculative read begins when layer 1 does, which needs little.
 */
static void a_prefetch_begins_when_a_layer_does_not_need_what_was_protected_for_it(void **state)
{
    world w;
    world_make_room(&w, E);
    pinned_expert pinned[E / 2];
    store_prefetch(w.s, 1, all, E / 2, READ_CERTAIN);
    await_read(&w, E / 2);
    store_fetch *b = begin(&w, 0, all, E / 2, FETCH_LISTED);
    for (int i = 0; i < E / 2; i++)
        pinned[i] = next(&w, b);
    store_prefetch(w.s, 2, all, 1, READ_SPECULATIVE);
    store_wait_idle(w.s);
    assert_int_equal(fake_submitted(&w.fake), E * READS);
    store_fetch *hit = begin(&w, 1, all, 1, FETCH_LISTED);
    fake_await_submitted(&w.fake, (E + 1) * READS);
    for (int i = 0; i < E / 2; i++)
        store_fetch_release(b, &pinned[i]);
    store_fetch_end(b);
    store_fetch_end(hit);
    world_free(&w);
}

static void cancelling_takes_back_what_is_queued(void **state)
{
    model_fixture m;
    fake_io f;
    store *s;
    fixture_make(&m, &equal, false);
    fake_init(&f, &m);
    f.hold = true;
    store_options options = {
        .cache_bytes = store_bytes_for(m.index, 32), .policy = "lru", .io_override = &f.io, .io_depth = READS};
    assert_int_equal(store_open(m.index, m.tensors, &options, &s, NULL), ODMOE_OK);
    store_prefetch(s, 1, all, 4, READ_CERTAIN); /* one is under way, three wait for the back end */
    fake_await_submitted(&f, READS);
    store_cancel(s, 0, READ_CERTAIN);     /* another layer */
    store_cancel(s, 1, READ_SPECULATIVE); /* another class */
    fake_let_through(&f, READS);
    fake_await_submitted(&f, 2 * READS);
    store_cancel(s, -1, READ_CERTAIN);
    fake_hold(&f, false);
    store_fetch *b;
    pinned_expert view;
    assert_int_equal(fixture_begin(s, 2, all, 1, FETCH_ARRIVAL, &b, NULL), ODMOE_OK);
    assert_int_equal(store_fetch_next(b, &view, NULL), ODMOE_OK);
    store_fetch_release(b, &view);
    store_fetch_end(b);
    assert_int_equal(fake_submitted(&f), 3 * READS);
    store_close(s);
    fixture_free(&m, false);
}

/* Pins leave no room for a large expert and some for a small one, which waits behind it. */
static void what_waits_behind_a_cancelled_prefetch_begins(void **state)
{
    static const fixture_sizes two = {
        .layers = 2, .experts = E, .halves = {{90000, 90000, 90000}, {3000, 3000, 3000}}, .gap = 20000};
    world w;
    fixture_make(&w.model, &two, false);
    fake_init(&w.fake, &w.model);
    w.s = fake_store(&w.fake, store_bytes_for(w.model.index, 4), "lru");
    store_fetch *large = begin(&w, 0, all, 3, FETCH_LISTED), *small = begin(&w, 1, all, 1, FETCH_LISTED);
    pinned_expert pinned[4] = {next(&w, small), next(&w, large), next(&w, large), next(&w, large)};
    int before = fake_submitted(&w.fake);
    store_prefetch(w.s, 0, (int32_t[]){5}, 1, READ_CERTAIN);
    store_prefetch(w.s, 1, (int32_t[]){5}, 1, READ_CERTAIN);
    store_wait_idle(w.s);
    assert_int_equal(fake_submitted(&w.fake), before);
    store_cancel(w.s, 0, READ_CERTAIN);
    fake_await_submitted(&w.fake, before + READS);
    for (int i = 0; i < 4; i++)
        store_fetch_release(i ? large : small, &pinned[i]);
    store_fetch_end(small);
    store_fetch_end(large);
    world_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prefetch_is_a_hit_later),
        cmocka_unit_test(what_is_prefetched_stays_until_its_layer_comes),
        cmocka_unit_test(what_will_be_needed_goes_where_pins_leave_a_demand_no_other_room),
        cmocka_unit_test(a_prefetch_returns_while_reads_are_blocked),
        cmocka_unit_test(prefetches_stay_within_the_cap_of_their_priority),
        cmocka_unit_test(a_speculative_read_gives_way_to_a_demand_and_goes_on_afterwards),
        cmocka_unit_test(a_suspended_read_that_is_cancelled_is_not_read_to_the_end),
        cmocka_unit_test(a_suspended_read_goes_on_at_once_when_its_layer_asks_for_it),
        cmocka_unit_test(the_layer_that_comes_next_is_read_first_and_later_ones_give_way),
        cmocka_unit_test(a_demand_goes_before_queued_speculative_reads_and_joins_one_under_way),
        cmocka_unit_test(a_prefetch_that_found_no_room_begins_when_there_is_some),
        cmocka_unit_test(a_prefetch_begins_when_a_fetch_ends_that_waited_for_all),
        cmocka_unit_test(a_prefetch_begins_when_a_layer_does_not_need_what_was_protected_for_it),
        cmocka_unit_test(cancelling_takes_back_what_is_queued),
        cmocka_unit_test(what_waits_behind_a_cancelled_prefetch_begins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
