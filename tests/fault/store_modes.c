/* Kernels that forbid io_uring and file systems that refuse direct reads: what is asked for is refused with a reason,
 * auto takes what works and says so. The system calls are answered here (linker --wrap). */
#include "../unit/store_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <sys/stat.h>

static struct {
    int ring_setup, ring_submit; /* errno of io_uring, 0: works */
    bool no_direct_flag;         /* open with O_DIRECT gives EINVAL */
    bool no_direct_read;         /* ...only the read does */
    int direct_align;            /* what statx says: 0: as it is, < 0: no direct reads */
    bool file_gone;
} system_says;

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
    if (system_says.file_gone) {
        errno = ENOENT;
        return -1;
    }
    if (system_says.no_direct_flag && (flags & O_DIRECT)) {
        errno = EINVAL;
        return -1;
    }
    return __real_open(path, flags);
}

/* the names under which programs with 64-bit offsets call them */
int __wrap_open64(const char *path, int flags, ...) __attribute__((alias("__wrap_open")));
ssize_t __wrap_pread64(int fd, void *to, size_t n, off_t offset) __attribute__((alias("__wrap_pread")));

ssize_t __real_pread(int fd, void *to, size_t n, off_t offset);
ssize_t __wrap_pread(int fd, void *to, size_t n, off_t offset);
ssize_t __wrap_pread(int fd, void *to, size_t n, off_t offset)
{
    if (system_says.no_direct_read && (fcntl(fd, F_GETFL) & O_DIRECT)) {
        errno = EINVAL;
        return -1;
    }
    return __real_pread(fd, to, n, offset);
}

int __real_statx(int dir, const char *path, int flags, unsigned mask, struct statx *st);
int __wrap_statx(int dir, const char *path, int flags, unsigned mask, struct statx *st);
int __wrap_statx(int dir, const char *path, int flags, unsigned mask, struct statx *st)
{
    int failed = __real_statx(dir, path, flags, mask, st);
#ifdef STATX_DIOALIGN
    if (!failed && system_says.direct_align) {
        st->stx_mask |= STATX_DIOALIGN;
        st->stx_dio_offset_align = system_says.direct_align > 0 ? (unsigned)system_says.direct_align : 0;
        st->stx_dio_mem_align = 512;
    }
#endif
    return failed;
}

int __real_io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags);
int __wrap_io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags);
int __wrap_io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags)
{
    return system_says.ring_setup ? -system_says.ring_setup : __real_io_uring_queue_init(entries, ring, flags);
}

int __real_io_uring_submit(struct io_uring *ring);
int __wrap_io_uring_submit(struct io_uring *ring);
int __wrap_io_uring_submit(struct io_uring *ring)
{
    return system_says.ring_submit ? -system_says.ring_submit : __real_io_uring_submit(ring);
}

/* A program with many thread-local variables: glibc takes their room from the stacks of threads. */
static _Thread_local volatile char thread_local_bytes[100000];

static const fixture_sizes small = {.layers = 1, .experts = 4, .halves = {{9000, 9000, 12000}}, .gap = 20000};

static int setup(void **state)
{
    static model_fixture m;
    memset(&system_says, 0, sizeof system_says);
    fixture_make(&m, &small, true);
    *state = &m;
    return 0;
}

static int teardown(void **state)
{
    memset(&system_says, 0, sizeof system_says);
    fixture_free(*state, true);
    return 0;
}

/* Opened with `mode`, the store reads through `name`. */
static void reads_through(const model_fixture *m, io_mode mode, const char *name)
{
    store *s;
    store_fetch *b;
    pinned_expert view;
    store_totals t;
    odmoe_error err = {0};
    store_options options = {.cache_bytes = store_bytes_for(m->index, 2), .io = mode, .policy = "lru"};
    if (store_open(m->index, m->tensors, &options, &s, &err))
        fail_msg("%s", err.message);
    assert_int_equal(fixture_begin(s, 0, (int32_t[]){0, 1, 2, 3}, 4, FETCH_LISTED, &b, NULL), ODMOE_OK);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(store_fetch_next(b, &view, NULL), ODMOE_OK);
        assert_true(fixture_view_is_right(m, &view));
        store_fetch_release(b, &view);
    }
    store_fetch_end(b);
    store_totals_get(s, &t);
    assert_string_equal(t.io, name);
    store_close(s);
}

static void is_refused(const model_fixture *m, io_mode mode, odmoe_status wanted, const char *message)
{
    store *s;
    odmoe_error err = {0};
    store_options options = {.cache_bytes = store_bytes_for(m->index, 2), .io = mode, .policy = "lru"};
    assert_int_equal(store_open(m->index, m->tensors, &options, &s, &err), wanted);
    if (!strstr(err.message, message))
        fail_msg("'%s' lacks '%s'", err.message, message);
}

/* Does this machine have what a test takes away? */
static bool works_here(const model_fixture *m, io_mode mode)
{
    store *s;
    odmoe_error err = {0};
    store_options options = {.cache_bytes = store_bytes_for(m->index, 2), .io = mode, .policy = "lru"};
    odmoe_status status = store_open(m->index, m->tensors, &options, &s, &err);
    if (!status)
        store_close(s);
    else if (status != ODMOE_ERR_UNSUPPORTED)
        fail_msg("%s", err.message);
    return !status;
}

static void a_kernel_without_io_uring(void **state)
{
    static const int answer[] = {ENOSYS, EPERM, ENOMEM};
    bool direct = works_here(*state, IO_PREAD);
    for (int i = 0; i < 3; i++) {
        system_says.ring_setup = answer[i];
        is_refused(*state, IO_URING, ODMOE_ERR_UNSUPPORTED, direct ? "refuses io_uring" : "refuses direct reads");
        reads_through(*state, IO_AUTO, direct ? "pread" : "buffered");
    }
}

static void a_sandbox_that_allows_io_uring_to_be_set_up_but_not_used(void **state)
{
    if (!works_here(*state, IO_URING))
        skip();
    system_says.ring_submit = EPERM;
    is_refused(*state, IO_URING, ODMOE_ERR_UNSUPPORTED, "not permitted");
    reads_through(*state, IO_AUTO, "pread");
}

/* A program that locks itself up after loading: requests that the kernel has not taken come back, now and later. */
static void an_io_uring_that_is_forbidden_after_opening_is_an_error_not_a_hang(void **state)
{
    const model_fixture *m = *state;
    store *s;
    store_fetch *b;
    pinned_expert view;
    odmoe_error err = {0};
    store_options options = {.cache_bytes = store_bytes_for(m->index, 4), .io = IO_URING, .policy = "lru"};
    odmoe_status status = store_open(m->index, m->tensors, &options, &s, &err);
    if (status == ODMOE_ERR_UNSUPPORTED)
        skip(); /* this kernel refuses it anyway */
    assert_int_equal(status, ODMOE_OK);
    system_says.ring_submit = EPERM;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(fixture_begin(s, 0, (int32_t[]){0, 1, 2, 3}, 4, FETCH_ARRIVAL, &b, NULL), ODMOE_OK);
        assert_int_equal(store_fetch_next(b, &view, &err), ODMOE_ERR_IO);
        assert_non_null(strstr(err.message, "not permitted"));
        store_fetch_end(b);
        system_says.ring_submit = 0;
    }
    store_close(s);
}

static void a_file_system_that_refuses_direct_reads(void **state)
{
    const model_fixture *m = *state;
    for (int way = 0; way < 4; way++) {
        system_says.no_direct_flag = way == 0;
        system_says.no_direct_read = way == 1;
        system_says.direct_align = way == 2 ? -1 : way == 3 ? 65536 : 0;
#ifndef STATX_DIOALIGN
        if (way >= 2)
            continue;
#endif
        is_refused(m, IO_PREAD, ODMOE_ERR_UNSUPPORTED, "refuses direct reads");
        is_refused(m, IO_URING, ODMOE_ERR_UNSUPPORTED, m->path);
        reads_through(m, IO_BUFFERED, "buffered");
        reads_through(m, IO_AUTO, "buffered");
    }
}

static void a_file_that_is_gone(void **state)
{
    system_says.file_gone = true;
    for (io_mode mode = IO_AUTO; mode <= IO_BUFFERED; mode++)
        is_refused(*state, mode, ODMOE_ERR_IO, "No such file");
}

int main(void)
{
    thread_local_bytes[0] = 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_kernel_without_io_uring, setup, teardown),
        cmocka_unit_test_setup_teardown(a_sandbox_that_allows_io_uring_to_be_set_up_but_not_used, setup, teardown),
        cmocka_unit_test_setup_teardown(an_io_uring_that_is_forbidden_after_opening_is_an_error_not_a_hang, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_file_system_that_refuses_direct_reads, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_that_is_gone, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
