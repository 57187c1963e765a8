/* Several threads with fetches, pins, prefetches, cancels, invalidations and errors at the same time. Run it under
 * ThreadSanitizer and in a debug build, where every transition checks the whole cache. */
#include "store_fake_io.h"

#include <stdatomic.h>

#include "store/policy.h"

enum { E = 16, THREADS = 3, ROUNDS = 150 };
static const fixture_sizes mixed = {.layers = 4,
                                    .experts = E,
                                    .halves = {{9000, 9000, 2000}, {5000, 5000, 7001}, {300, 301, 302}, {6000, 9, 9}},
                                    .jitter = 9000,
                                    .gap = 5000};

typedef struct worker {
    store *s;
    const model_fixture *m;
    uint64_t seed;
    bool errors_expected;
    int failures, wrong, given;
    atomic_bool *stop;
} worker;

/* n different experts, shuffled */
static int random_list(worker *w, int32_t list[E])
{
    for (int i = 0; i < E; i++) {
        int j = (int)(fixture_random(&w->seed) % (uint32_t)(i + 1));
        list[i] = list[j];
        list[j] = i;
    }
    return (int)(fixture_random(&w->seed) % (E + 1));
}

static void one_fetch(worker *w)
{
    int32_t list[E];
    int n = random_list(w, list), pins = 0, most = 1 + (int)(fixture_random(&w->seed) % 2),
        layer = (int)(w->seed >> 40) % 4;
    int leave = fixture_random(&w->seed) % 4 ? E + 1 : (int)(fixture_random(&w->seed) % E); /* ends early sometimes */
    bool cancelled = false;
    store_fetch *b;
    pinned_expert view[2];
    odmoe_error err = {0};
    if (fixture_begin(w->s, layer, list, n, fixture_random(&w->seed) % 2 ? FETCH_LISTED : FETCH_ARRIVAL, &b, &err)) {
        w->wrong++;
        return;
    }
    for (int i = 0; i < leave; i++) {
        if (pins == most)
            store_fetch_release(b, &view[--pins]);
        odmoe_status status = store_fetch_next(b, &view[pins], &err);
        if (status) {
            /* full of pins: only for a fetch that holds some */
            w->wrong += status == ODMOE_ERR_STATE       ? !pins
                        : status == ODMOE_ERR_CANCELLED ? !cancelled
                                                        : status != ODMOE_ERR_IO || !w->errors_expected;
            w->failures += !cancelled;
            if (cancelled)
                break;
            while (pins)
                store_fetch_release(b, &view[--pins]);
            continue;
        }
        if (view[pins].expert < 0)
            break;
        w->wrong += !fixture_view_is_right(w->m, &view[pins]);
        w->given++;
        store_note_uses(w->s, layer, view[pins].expert, 1);
        pins++;
        if (!(fixture_random(&w->seed) % 64)) {
            store_fetch_cancel(b);
            cancelled = true;
        }
    }
    while (pins)
        store_fetch_release(b, &view[--pins]);
    store_fetch_end(b);
}

static void *fetches(void *ctx)
{
    worker *w = ctx;
    for (int i = 0; i < ROUNDS; i++)
        one_fetch(w);
    return NULL;
}

static void *meddler(void *ctx)
{
    worker *w = ctx;
    while (!atomic_load(w->stop)) {
        int32_t list[E];
        int n = random_list(w, list), layer = (int)(fixture_random(&w->seed) % 4);
        store_totals t;
        store_counters c;
        store_prefetch(w->s, layer, list, n, fixture_random(&w->seed) % 2 ? READ_CERTAIN : READ_SPECULATIVE);
        if (!(fixture_random(&w->seed) % 3))
            store_cancel(w->s, layer, READ_SPECULATIVE);
        if (!(fixture_random(&w->seed) % 5))
            store_cancel(w->s, -1, READ_CERTAIN);
        if (!(fixture_random(&w->seed) % 7))
            store_invalidate(w->s, layer, list[0]);
        store_totals_get(w->s, &t);
        w->wrong += t.used_bytes > t.cache_bytes;
        store_counters_get(w->s, layer, list[0], &c);
        usleep(200);
    }
    return NULL;
}

static void run(store *s, const model_fixture *m, bool errors)
{
    worker w[THREADS + 1];
    pthread_t thread[THREADS + 1];
    atomic_bool stop = false;
    for (int i = 0; i <= THREADS; i++) {
        w[i] = (worker){.s = s, .m = m, .seed = 99 + (uint64_t)i, .errors_expected = errors, .stop = &stop};
        assert_int_equal(pthread_create(&thread[i], NULL, i < THREADS ? fetches : meddler, &w[i]), 0);
    }
    for (int i = 0; i <= THREADS; i++) {
        if (i == THREADS)
            atomic_store(&stop, true);
        pthread_join(thread[i], NULL);
        assert_int_equal(w[i].wrong, 0);
        if (i < THREADS)
            assert_true(w[i].given > ROUNDS);
    }
}

static void with_fake(int64_t room, const char *policy_name, int depth, bool errors)
{
    model_fixture m;
    fake_io f;
    store *s;
    fixture_make(&m, &mixed, false);
    fake_init(&f, &m);
    f.order = FAKE_RANDOM;
    f.short_every = 4;
    if (errors) {
        f.bad_at = m.size / 2;
        f.bad_times = -1;
        f.bad_error = EIO;
    }
    store_options options = {
        .cache_bytes = store_bytes_for(m.index, room), .policy = policy_name, .io_override = &f.io, .io_depth = depth};
    assert_int_equal(store_open(m.index, m.tensors, &options, &s, NULL), ODMOE_OK);
    run(s, &m, errors);
    store_close(s);
    assert_false(f.unaligned);
    fixture_free(&m, false);
}

static void threads_get_the_right_bytes_with_room_for_one(void **state)
{
    with_fake(1, "lru", 3, false);
}

static void threads_get_the_right_bytes_with_some_room(void **state)
{
    for (int i = 0; policy_at(i); i++)
        with_fake(7, policy_at(i)->name, 8, false);
}

static void threads_get_the_right_bytes_with_room_for_most(void **state)
{
    with_fake(48, "lru", 64, false);
}

static void threads_survive_errors(void **state)
{
    with_fake(5, "lru", 16, true);
}

static void with_files(io_mode io)
{
    model_fixture m;
    store *s;
    odmoe_error err;
    fixture_make(&m, &mixed, true);
    store_options options = {.cache_bytes = store_bytes_for(m.index, 6), .policy = "lru", .io = io};
    if (store_open(m.index, m.tensors, &options, &s, &err)) {
        print_message("%s\n", err.message);
        fixture_free(&m, true);
        skip();
    }
    run(s, &m, false);
    store_close(s);
    fixture_free(&m, true);
}

static void threads_get_the_right_bytes_through_uring(void **state)
{
    with_files(IO_URING);
}

static void threads_get_the_right_bytes_through_pread(void **state)
{
    with_files(IO_PREAD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_get_the_right_bytes_with_room_for_one),
        cmocka_unit_test(threads_get_the_right_bytes_with_some_room),
        cmocka_unit_test(threads_get_the_right_bytes_with_room_for_most),
        cmocka_unit_test(threads_survive_errors),
        cmocka_unit_test(threads_get_the_right_bytes_through_uring),
        cmocka_unit_test(threads_get_the_right_bytes_through_pread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
