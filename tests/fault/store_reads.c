/* What goes wrong with reads, and what the store makes of it; over a back end that does as it is told. */
#include "../unit/store_fake_io.h"

static const fixture_sizes small = {
    .layers = 2, .experts = 8, .halves = {{9000, 9000, 12000}, {9000, 9000, 12000}}, .jitter = 3000, .gap = 20000};

typedef struct world {
    model_fixture model;
    fake_io fake;
    store *s;
} world;

static void world_make(world *w, const fixture_sizes *sizes, int64_t experts)
{
    fixture_make(&w->model, sizes, false);
    fake_init(&w->fake, &w->model);
    w->s = fake_store(&w->fake, store_bytes_for(w->model.index, experts), "lru");
}

static void world_free(world *w)
{
    store_close(w->s);
    assert_false(w->fake.unaligned);
    fixture_free(&w->model, false);
}

/* Fetch experts [0, n) of a layer and compare every byte; the first error, if any, into *err. */
static odmoe_status fetch(world *w, int layer, int n, fetch_order order, odmoe_error *err)
{
    int32_t list[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    store_fetch *b;
    pinned_expert view;
    odmoe_status status;
    assert_int_equal(fixture_begin(w->s, layer, list, n, order, &b, err), ODMOE_OK);
    while (!(status = store_fetch_next(b, &view, err)) && view.expert >= 0) {
        assert_true(fixture_view_is_right(&w->model, &view));
        store_fetch_release(b, &view);
    }
    store_fetch_end(b);
    return status;
}

/* A byte in the middle of a piece. */
static uint64_t byte_of(const world *w, int layer, int expert, int piece)
{
    int n;
    const expert_extent *p = expert_index_extents(w->model.index, layer, expert, &n);
    return p[piece].offset + p[piece].length / 2;
}

static void short_reads_are_continued(void **state)
{
    world w;
    world_make(&w, &small, 3);
    w.fake.short_every = 2;
    for (int i = 0; i < 4; i++)
        assert_int_equal(fetch(&w, i % 2, 8, i < 2 ? FETCH_ARRIVAL : FETCH_LISTED, NULL), ODMOE_OK);
    assert_true(w.fake.submitted > 4 * 8 * 3);
    world_free(&w);
}

static void reads_that_finish_in_any_order_give_the_right_bytes(void **state)
{
    for (fake_order order = FAKE_FIFO; order <= FAKE_RANDOM; order++) {
        world w;
        world_make(&w, &small, 5);
        w.fake.order = order;
        w.fake.short_every = 5;
        for (int i = 0; i < 6; i++)
            assert_int_equal(fetch(&w, i % 2, 8, i < 3 ? FETCH_ARRIVAL : FETCH_LISTED, NULL), ODMOE_OK);
        world_free(&w);
    }
}

static void interrupted_reads_are_repeated(void **state)
{
    world w;
    world_make(&w, &small, 3);
    w.fake.transient = 40;
    assert_int_equal(fetch(&w, 0, 8, FETCH_ARRIVAL, NULL), ODMOE_OK);
    assert_int_equal(w.fake.transient, 0);
    world_free(&w);
}

static void a_read_that_never_succeeds_fails_in_the_end(void **state)
{
    world w;
    odmoe_error err = {0};
    world_make(&w, &small, 3);
    w.fake.transient = -1;
    assert_int_equal(fetch(&w, 0, 1, FETCH_ARRIVAL, &err), ODMOE_ERR_IO);
    world_free(&w);
}

static void an_error_names_layer_expert_and_file(void **state)
{
    for (fetch_order order = FETCH_ARRIVAL; order <= FETCH_LISTED; order++) {
        world w;
        odmoe_error err = {0};
        world_make(&w, &small, 4);
        w.fake.bad_at = byte_of(&w, 1, 3, 2);
        w.fake.bad_times = -1;
        w.fake.bad_error = EIO;
        assert_int_equal(fetch(&w, 1, 8, order, &err), ODMOE_ERR_IO);
        assert_string_equal(err.message, "layer 1, expert 3: made-up.bin: Input/output error");
        world_free(&w);
    }
}

static void after_an_error_the_store_goes_on(void **state)
{
    world w;
    odmoe_error err = {0};
    world_make(&w, &small, 2);
    w.fake.bad_at = byte_of(&w, 0, 5, 0);
    w.fake.bad_times = 1;
    w.fake.bad_error = EIO;
    assert_int_equal(fetch(&w, 0, 8, FETCH_LISTED, &err), ODMOE_ERR_IO);
    assert_int_equal(fetch(&w, 1, 8, FETCH_LISTED, &err), ODMOE_OK);
    assert_int_equal(fetch(&w, 0, 8, FETCH_LISTED, &err), ODMOE_OK); /* asked for anew, it is read anew */
    world_free(&w);
}

static void a_fetch_goes_on_after_the_failed_read_of_one_expert(void **state)
{
    for (fetch_order order = FETCH_ARRIVAL; order <= FETCH_LISTED; order++) {
        world w;
        odmoe_error err = {0};
        world_make(&w, &small, 4);
        w.fake.bad_at = byte_of(&w, 0, 2, 0);
        w.fake.bad_times = -1;
        w.fake.bad_error = EIO;
        int32_t list[] = {0, 1, 2, 3, 4, 5, 6, 7};
        store_fetch *f;
        pinned_expert x;
        int right = 0, failed = 0;
        assert_int_equal(fixture_begin(w.s, 0, list, 8, order, &f, &err), ODMOE_OK);
        for (;;) {
            odmoe_status status = store_fetch_next(f, &x, &err);
            if (status) {
                assert_int_equal(status, ODMOE_ERR_IO);
                assert_int_equal(x.expert, 2);
                failed++;
                continue;
            }
            if (x.expert < 0)
                break;
            right += fixture_view_is_right(&w.model, &x);
            store_fetch_release(f, &x);
        }
        assert_int_equal(failed, 1);
        assert_int_equal(right, 7);
        store_fetch_end(f);
        world_free(&w);
    }
}

static void a_file_that_was_cut_is_an_error_not_a_loop(void **state)
{
    for (int within_a_block = 0; within_a_block < 2; within_a_block++) {
        world w;
        odmoe_error err = {0};
        world_make(&w, &small, 4);
        w.fake.ends_at = byte_of(&w, 1, 6, 2) / LAYOUT_ALIGN * LAYOUT_ALIGN + (within_a_block ? 100 : 0);
        assert_int_equal(fetch(&w, 1, 8, FETCH_LISTED, &err), ODMOE_ERR_IO);
        assert_non_null(strstr(err.message, "layer 1, expert 6: made-up.bin: the file ends"));
        world_free(&w);
    }
}

/* Pieces that touch at block boundaries: neighbours of different experts become one request. */
static const fixture_sizes aligned_neighbours = {
    .layers = 1, .experts = 8, .halves = {{2048, 2048, 4096}}, .jitter = 0, .gap = 0};

static void shift_to_blocks(model_fixture *m)
{
    uint64_t at = 0;
    for (int e = 0; e < m->experts; e++) {
        expert_extent p[3];
        int n;
        memcpy(p, expert_index_extents(m->index, 0, e, &n), sizeof p);
        for (int i = 0; i < 3; i++) {
            p[i].offset = at;
            at += p[i].length;
        }
        assert_int_equal(expert_index_set(m->index, 0, e, p, 3, NULL), ODMOE_OK);
    }
}

static void neighbours_merge_into_one_request(void **state)
{
    world w;
    fixture_make(&w.model, &aligned_neighbours, false);
    shift_to_blocks(&w.model);
    fake_init(&w.fake, &w.model);
    w.s = fake_store(&w.fake, store_bytes_for(w.model.index, 8), "lru");
    assert_int_equal(fetch(&w, 0, 8, FETCH_ARRIVAL, NULL), ODMOE_OK);
    store_totals totals;
    store_totals_get(w.s, &totals);
    assert_true(w.fake.max_iovs > 1);
    assert_true(totals.reads < 8);
    assert_int_equal(totals.bytes_transferred, totals.bytes_read);
    world_free(&w);
}

static void an_error_in_a_merged_read_meets_the_one_expert_only(void **state)
{
    world w;
    odmoe_error err = {0};
    fixture_make(&w.model, &aligned_neighbours, false);
    shift_to_blocks(&w.model);
    fake_init(&w.fake, &w.model);
    w.fake.short_every = 3;
    w.s = fake_store(&w.fake, store_bytes_for(w.model.index, 8), "lru");
    w.fake.bad_at = byte_of(&w, 0, 6, 1);
    w.fake.bad_times = -1;
    w.fake.bad_error = EIO;
    assert_int_equal(fetch(&w, 0, 6, FETCH_LISTED, &err), ODMOE_OK);
    store_invalidate(w.s, -1, -1);
    assert_int_equal(fetch(&w, 0, 8, FETCH_LISTED, &err), ODMOE_ERR_IO);
    assert_string_equal(err.message, "layer 0, expert 6: made-up.bin: Input/output error");
    world_free(&w);
}

static void a_demand_repeats_the_speculative_read_that_failed(void **state)
{
    world w;
    odmoe_error err = {0};
    world_make(&w, &small, 32);
    w.fake.hold = true;
    w.fake.bad_at = byte_of(&w, 0, 2, 0);
    w.fake.bad_times = 1;
    w.fake.bad_error = EIO;
    store_prefetch(w.s, 0, (int32_t[]){2}, 1, READ_SPECULATIVE);
    fake_await_submitted(&w.fake, 3);
    store_fetch *b;
    pinned_expert view;
    assert_int_equal(fixture_begin(w.s, 0, (int32_t[]){2}, 1, FETCH_ARRIVAL, &b, &err), ODMOE_OK);
    fake_hold(&w.fake, false);
    assert_int_equal(store_fetch_next(b, &view, &err), ODMOE_OK);
    assert_true(fixture_view_is_right(&w.model, &view));
    store_fetch_release(b, &view);
    store_fetch_end(b);
    store_totals totals;
    store_totals_get(w.s, &totals);
    assert_int_equal(totals.speculative_late, 1);
    world_free(&w);
}

static void a_demand_repeats_the_abandoned_read_that_failed(void **state)
{
    world w;
    odmoe_error err = {0};
    world_make(&w, &small, 32);
    w.fake.hold = true;
    w.fake.bad_at = byte_of(&w, 0, 2, 0);
    w.fake.bad_times = 1;
    w.fake.bad_error = EIO;
    store_fetch *b;
    pinned_expert view;
    assert_int_equal(fixture_begin(w.s, 0, (int32_t[]){2}, 1, FETCH_ARRIVAL, &b, &err), ODMOE_OK);
    fake_await_submitted(&w.fake, 3);
    store_fetch_end(b); /* as a caller does after the failed read of another expert */
    assert_int_equal(fixture_begin(w.s, 0, (int32_t[]){2}, 1, FETCH_ARRIVAL, &b, &err), ODMOE_OK);
    fake_hold(&w.fake, false);
    assert_int_equal(store_fetch_next(b, &view, &err), ODMOE_OK);
    assert_true(fixture_view_is_right(&w.model, &view));
    store_fetch_release(b, &view);
    store_fetch_end(b);
    world_free(&w);
}

static void a_failed_speculative_read_without_waiters_is_forgotten(void **state)
{
    world w;
    world_make(&w, &small, 32);
    w.fake.bad_at = byte_of(&w, 0, 2, 0);
    w.fake.bad_times = 1;
    w.fake.bad_error = EIO;
    store_prefetch(w.s, 0, (int32_t[]){2}, 1, READ_SPECULATIVE);
    fake_await_submitted(&w.fake, 3);
    assert_int_equal(fetch(&w, 0, 8, FETCH_ARRIVAL, NULL), ODMOE_OK);
    world_free(&w);
}

static void ending_a_fetch_abandons_its_reads(void **state)
{
    world w;
    odmoe_error err = {0};
    int32_t list[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    store_fetch *b;
    world_make(&w, &small, 2);
    w.fake.hold = true;
    assert_int_equal(fixture_begin(w.s, 0, list, 8, FETCH_LISTED, &b, &err), ODMOE_OK);
    fake_await_submitted(&w.fake, 6); /* two experts have room */
    store_fetch_end(b);
    store_totals totals;
    store_totals_get(w.s, &totals);
    assert_true(totals.used_bytes > 0); /* their room counts until the reads are through */
    fake_hold(&w.fake, false);
    assert_int_equal(fetch(&w, 1, 8, FETCH_LISTED, &err), ODMOE_OK);
    assert_int_equal(fake_submitted(&w.fake), 6 + 24); /* the other six were never read */
    world_free(&w);
}

static void what_two_fetches_share_is_read_once_and_fails_for_both_and_both_can_retry(void **state)
{
    world w;
    odmoe_error err = {0};
    store_fetch *a, *b, *c, *d;
    pinned_expert x, y;
    int32_t first[] = {2, 5}, second[] = {2, 6};
    world_make(&w, &small, 8);
    w.fake.hold = true;
    w.fake.bad_at = byte_of(&w, 0, 2, 0);
    w.fake.bad_times = 1;
    w.fake.bad_error = EIO;
    assert_int_equal(fixture_begin(w.s, 0, first, 2, FETCH_LISTED, &a, &err), ODMOE_OK);
    assert_int_equal(fixture_begin(w.s, 0, second, 2, FETCH_LISTED, &b, &err), ODMOE_OK);
    fake_await_submitted(&w.fake, 9);
    fake_hold(&w.fake, false);
    assert_int_equal(store_fetch_next(a, &x, &err), ODMOE_ERR_IO);
    assert_string_equal(err.message, "layer 0, expert 2: made-up.bin: Input/output error");
    assert_int_equal(store_fetch_next(b, &x, &err), ODMOE_ERR_IO);
    assert_int_equal(fake_submitted(&w.fake), 9);
    assert_int_equal(fixture_begin(w.s, 0, (int32_t[]){2}, 1, FETCH_LISTED, &c, &err),
                     ODMOE_OK); /* before a and b end */
    assert_int_equal(fixture_begin(w.s, 0, (int32_t[]){2}, 1, FETCH_LISTED, &d, &err), ODMOE_OK);
    assert_int_equal(store_fetch_next(c, &x, &err), ODMOE_OK);
    assert_int_equal(store_fetch_next(d, &y, &err), ODMOE_OK);
    assert_true(fixture_view_is_right(&w.model, &x) && fixture_view_is_right(&w.model, &y));
    store_fetch_release(c, &x);
    store_fetch_release(d, &y);
    assert_int_equal(store_fetch_next(a, &x, &err), ODMOE_OK);
    assert_int_equal(store_fetch_next(b, &y, &err), ODMOE_OK);
    assert_true(x.expert == 5 && y.expert == 6);
    store_fetch_release(a, &x);
    store_fetch_release(b, &y);
    store_fetch *all[] = {a, b, c, d};
    for (int i = 0; i < 4; i++)
        store_fetch_end(all[i]);
    assert_int_equal(fake_submitted(&w.fake), 12);
    world_free(&w);
}

static void *next_in_thread(void *ctx)
{
    pinned_expert x;
    odmoe_error err;
    return (void *)(intptr_t)store_fetch_next(ctx, &x, &err); /* NOLINT */
}

static void a_cancelled_fetch_returns_while_the_disk_hangs(void **state)
{
    world w;
    odmoe_error err = {0};
    store_fetch *f, *other;
    pinned_expert x;
    int32_t list[] = {0, 1, 2, 3, 4, 5, 6, 7};
    world_make(&w, &small, 2);
    w.fake.hold = true; /* no read completes */
    assert_int_equal(fixture_begin(w.s, 0, list, 8, FETCH_ARRIVAL, &f, &err), ODMOE_OK);
    assert_int_equal(fixture_begin(w.s, 0, list, 2, FETCH_LISTED, &other, &err), ODMOE_OK);
    fake_await_submitted(&w.fake, 6); /* two experts have room */
    pthread_t thread;
    void *status;
    assert_int_equal(pthread_create(&thread, NULL, next_in_thread, f), 0);
    usleep(1000); /* asleep by now, or not yet: both must end */
    store_fetch_cancel(f);
    pthread_join(thread, &status);
    assert_int_equal((intptr_t)status, ODMOE_ERR_CANCELLED);
    assert_int_equal(store_fetch_next(f, &x, &err), ODMOE_ERR_CANCELLED);
    store_fetch_end(f);
    fake_hold(&w.fake, false);
    for (int i = 0; i < 2; i++) { /* the other fetch gets what both asked for */
        assert_int_equal(store_fetch_next(other, &x, &err), ODMOE_OK);
        assert_true(fixture_view_is_right(&w.model, &x));
        store_fetch_release(other, &x);
    }
    store_fetch_end(other);
    assert_int_equal(fake_submitted(&w.fake), 6); /* the six others were taken back */
    world_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(short_reads_are_continued),
        cmocka_unit_test(reads_that_finish_in_any_order_give_the_right_bytes),
        cmocka_unit_test(interrupted_reads_are_repeated),
        cmocka_unit_test(a_read_that_never_succeeds_fails_in_the_end),
        cmocka_unit_test(an_error_names_layer_expert_and_file),
        cmocka_unit_test(after_an_error_the_store_goes_on),
        cmocka_unit_test(a_fetch_goes_on_after_the_failed_read_of_one_expert),
        cmocka_unit_test(a_file_that_was_cut_is_an_error_not_a_loop),
        cmocka_unit_test(neighbours_merge_into_one_request),
        cmocka_unit_test(an_error_in_a_merged_read_meets_the_one_expert_only),
        cmocka_unit_test(a_demand_repeats_the_speculative_read_that_failed),
        cmocka_unit_test(a_demand_repeats_the_abandoned_read_that_failed),
        cmocka_unit_test(a_failed_speculative_read_without_waiters_is_forgotten),
        cmocka_unit_test(ending_a_fetch_abandons_its_reads),
        cmocka_unit_test(what_two_fetches_share_is_read_once_and_fails_for_both_and_both_can_retry),
        cmocka_unit_test(a_cancelled_fetch_returns_while_the_disk_hangs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
