/* The store over real files: every back end gives the bytes that lie there. */
#include "store_fixture.h"

#include "store/io.h"

static const fixture_sizes mixed = {
    .layers = 4,
    .experts = 8,
    .halves = {{30000, 30000, 41000}, {5000, 5000, 7001}, {300, 301, 302}, {600000, 9, 9}},
    .jitter = 5000,
    .gap = 9000};
static const fixture_sizes touching = {
    .layers = 2, .experts = 8, .halves = {{2000, 3000, 4000}, {2000, 3000, 4000}}, .jitter = 0, .gap = 0};

/* Every expert of every layer, twice, in fetches of five with up to two pins, in both orders. */
static void fetch_everything(store *s, const model_fixture *m)
{
    for (int round = 0; round < 2; round++)
        for (int l = 0; l < m->layers; l++) {
            int32_t list[] = {7, 0, 3, 1, 5};
            store_fetch *b;
            pinned_expert view;
            int seen = 0;
            assert_int_equal(fixture_begin(s, l, list, 5, round ? FETCH_LISTED : FETCH_ARRIVAL, &b, NULL), ODMOE_OK);
            for (;; seen++) {
                odmoe_error err = {0};
                odmoe_status status = store_fetch_next(b, &view, &err);
                if (status)
                    fail_msg("%s", err.message);
                if (view.expert < 0)
                    break;
                assert_true(fixture_view_is_right(m, &view));
                if (round)
                    assert_int_equal(view.expert, list[seen]);
                store_fetch_release(b, &view);
            }
            assert_int_equal(seen, 5);
            store_fetch_end(b);
        }
}

static void read_with(io_mode io, const fixture_sizes *sizes, uint64_t experts)
{
    model_fixture m;
    fixture_make(&m, sizes, true);
    store_options options = {.cache_bytes = store_bytes_for(m.index, (int64_t)experts), .io = io, .policy = "lru"};
    store *s;
    odmoe_error err = {0};
    odmoe_status status = store_open(m.index, m.tensors, &options, &s, &err);
    if (status == ODMOE_ERR_UNSUPPORTED && (io == IO_URING || io == IO_PREAD)) { /* by the kernel, or the file system */
        print_message("not available here: %s\n", err.message);
        fixture_free(&m, true);
        skip();
    }
    if (status)
        fail_msg("%s", err.message);
    fetch_everything(s, &m);
    store_totals totals;
    store_totals_get(s, &totals);
    assert_true(totals.bytes_read > 0 && totals.bytes_transferred > 0 && totals.reads > 0 && totals.read_ns > 0);
    assert_int_equal(totals.sum.hits + totals.sum.misses, 2 * sizes->layers * 5);
    assert_true(totals.used_bytes <= totals.cache_bytes);
    store_close(s);
    fixture_free(&m, true);
}

static void uring_gives_the_bytes_of_the_file(void **state)
{
    read_with(IO_URING, &mixed, 1);
    read_with(IO_URING, &mixed, 3);
    read_with(IO_URING, &touching, 2);
}

static void pread_gives_the_bytes_of_the_file(void **state)
{
    read_with(IO_PREAD, &mixed, 1);
    read_with(IO_PREAD, &mixed, 3);
    read_with(IO_PREAD, &touching, 2);
}

static void buffered_gives_the_bytes_of_the_file(void **state)
{
    read_with(IO_BUFFERED, &mixed, 1);
    read_with(IO_BUFFERED, &mixed, 3);
    read_with(IO_BUFFERED, &touching, 2);
}

static void auto_gives_the_bytes_of_the_file(void **state)
{
    read_with(IO_AUTO, &mixed, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(uring_gives_the_bytes_of_the_file),
        cmocka_unit_test(pread_gives_the_bytes_of_the_file),
        cmocka_unit_test(buffered_gives_the_bytes_of_the_file),
        cmocka_unit_test(auto_gives_the_bytes_of_the_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
