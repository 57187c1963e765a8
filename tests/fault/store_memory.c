/* The system gives no memory, no pages, no threads: an error each time, nothing leaked, nothing half open. The first,
 * second, ... request is refused in turn (linker --wrap). */
#include "../unit/store_fake_io.h"

#include <sys/mman.h>

#include "store/policy.h"
#include "store/replay.h"

static int countdown = -1; /* the request that is refused; -1: none */

static bool refuse(void)
{
    return countdown >= 0 && countdown-- == 0;
}

void *__real_malloc(size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_malloc(size_t n)
{
    return refuse() ? NULL : __real_malloc(n);
}

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size)
{
    return refuse() ? NULL : __real_calloc(n, size);
}

void *__real_realloc(void *p, size_t n);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_realloc(void *p, size_t n)
{
    return refuse() ? NULL : __real_realloc(p, n);
}

void *__real_mmap(void *p, size_t n, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap(void *p, size_t n, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap(void *p, size_t n, int prot, int flags, int fd, off_t offset)
{
    return refuse() ? MAP_FAILED : __real_mmap(p, n, prot, flags, fd, offset);
}

/* the name under which programs with 64-bit offsets call it */
void *__wrap_mmap64(void *p, size_t n, int prot, int flags, int fd, off_t offset) __attribute__((alias("__wrap_mmap")));

int __real_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*fn)(void *), void *ctx);
int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*fn)(void *), void *ctx);
int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*fn)(void *), void *ctx)
{
    return refuse() ? EAGAIN : __real_pthread_create(t, a, fn, ctx);
}

static const fixture_sizes small = {
    .layers = 2, .experts = 4, .halves = {{900, 900, 1200}, {900, 900, 1200}}, .jitter = 3000, .gap = 20000};

/* Open and use a store with its k-th request refused, for every k; at last none is refused. */
static void open_and_fetch(const model_fixture *m, store_options options)
{
    for (int k = 0, opened = 0; !opened; k++) {
        store *s = NULL;
        odmoe_error err = {0};
        countdown = k;
        odmoe_status status = store_open(m->index, m->tensors, &options, &s, &err);
        bool refused = countdown < 0;
        if (status) {
            countdown = -1;
            assert_true(refused && status == ODMOE_ERR_MEMORY);
            assert_true(err.message[0]);
            continue;
        }
        store_fetch *b = NULL;
        pinned_expert view;
        status = fixture_begin(s, 1, (int32_t[]){2}, 1, FETCH_ARRIVAL, &b, &err);
        refused = refused || countdown < 0;
        countdown = -1;
        opened = !refused;
        if (!status) {
            assert_int_equal(store_fetch_next(b, &view, NULL), ODMOE_OK);
            assert_true(fixture_view_is_right(m, &view));
            store_fetch_release(b, &view);
            store_fetch_end(b);
        } else {
            assert_int_equal(status, ODMOE_ERR_MEMORY);
        }
        store_close(s);
        assert_true(k < 200);
    }
}

static void a_store_that_gets_no_memory_is_not_half_open(void **state)
{
    model_fixture m;
    fake_io f;
    fixture_make(&m, &small, false);
    fake_init(&f, &m);
    store_options options = {.cache_bytes = store_bytes_for(m.index, 2), .io_override = &f.io};
    for (int i = 0; policy_at(i); i++) {
        options.policy = policy_at(i)->name;
        open_and_fetch(&m, options);
    }
    fixture_free(&m, false);
}

static void a_store_over_files_goes_on_with_fewer_threads_or_fails(void **state)
{
    model_fixture m;
    fixture_make(&m, &small, true);
    for (io_mode io = IO_AUTO; io <= IO_BUFFERED; io++) {
        store *s;
        store_options options = {.cache_bytes = store_bytes_for(m.index, 2), .io = io, .policy = "lru", .io_depth = 3};
        if (store_open(m.index, m.tensors, &options, &s, NULL))
            continue; /* not on this machine */
        store_close(s);
        open_and_fetch(&m, options);
    }
    fixture_free(&m, true);
}

static void an_index_that_gets_no_memory_is_an_error(void **state)
{
    for (int k = 0;; k++) {
        odmoe_error err = {0};
        countdown = k;
        expert_index *x = expert_index_create(3, 4, &err);
        expert_extent p = {.length = 16};
        odmoe_status status = x ? expert_index_set(x, 1, 1, &p, 1, &err) : err.code;
        bool refused = countdown < 0;
        countdown = -1;
        expert_index_free(x);
        assert_int_equal(status, refused ? ODMOE_ERR_MEMORY : ODMOE_OK);
        if (!refused)
            break;
    }
}

static void a_replay_that_gets_no_memory_is_an_error(void **state)
{
    static const char *const policy_name[] = {"next", "lru", "lfu", "belady"};
    char path[] = "trace-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0 && write(fd, "0,0,0,0,0,1,0.5\n0,1,1,3,0,2,0.5\n", 32) == 32);
    close(fd);
    for (int i = 0; i < 4; i++)
        for (int k = 0;; k++) {
            trace t;
            replay_result r;
            odmoe_error err = {0};
            countdown = k;
            odmoe_status status = trace_read(path, &t, &err);
            if (!status)
                status = replay_run(&t, 8 << 20, policy_name[i], false, &r, &err);
            bool refused = countdown < 0;
            countdown = -1;
            trace_clear(&t);
            if (!refused) {
                assert_int_equal(status, ODMOE_OK);
                break;
            }
            assert_true(status == ODMOE_ERR_MEMORY || status == ODMOE_ERR_IO); /* fopen's own */
        }
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_store_that_gets_no_memory_is_not_half_open),
        cmocka_unit_test(a_store_over_files_goes_on_with_fewer_threads_or_fails),
        cmocka_unit_test(an_index_that_gets_no_memory_is_an_error),
        cmocka_unit_test(a_replay_that_gets_no_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
