/* A file that is written whole or not at all: on file systems with and without nameless files, with each system call
 * failing in turn, and in a process that is killed. */
#include "base/atomic_file.h"

#include "format_files.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Which call fails next, and with what; 0: none. */
static struct {
    int nameless, fsync, linkat, rename, pwrite; /* errno, each time */
    int short_writes;                            /* that many bytes are written at most, where it is not 0 */
} fails;

/* With 64-bit offsets the C library's names are open64 and pwrite64. */
int __real_open(const char *path, int flags, ...);
int __real_fsync(int fd);
int __real_linkat(int old_folder, const char *old, int new_folder, const char *new_name, int flags);
int __real_rename(const char *old, const char *new_name);
ssize_t __real_pwrite(int fd, const void *data, size_t n, off_t at);
int __wrap_open(const char *path, int flags, mode_t mode);
int __wrap_open64(const char *path, int flags, mode_t mode);
int __wrap_fsync(int fd);
int __wrap_linkat(int old_folder, const char *old, int new_folder, const char *new_name, int flags);
int __wrap_rename(const char *old, const char *new_name);
ssize_t __wrap_pwrite(int fd, const void *data, size_t n, off_t at);
ssize_t __wrap_pwrite64(int fd, const void *data, size_t n, off_t at);

static int with(int error)
{
    errno = error;
    return -1;
}

int __wrap_open(const char *path, int flags, mode_t mode)
{
    bool nameless = (flags & O_TMPFILE) == O_TMPFILE;
    return nameless && fails.nameless ? with(fails.nameless) : __real_open(path, flags, mode);
}
int __wrap_open64(const char *path, int flags, mode_t mode)
{
    return __wrap_open(path, flags, mode);
}
int __wrap_fsync(int fd)
{
    return fails.fsync ? with(fails.fsync) : __real_fsync(fd);
}
int __wrap_linkat(int old_folder, const char *old, int new_folder, const char *new_name, int flags)
{
    return fails.linkat ? with(fails.linkat) : __real_linkat(old_folder, old, new_folder, new_name, flags);
}
int __wrap_rename(const char *old, const char *new_name)
{
    return fails.rename ? with(fails.rename) : __real_rename(old, new_name);
}
ssize_t __wrap_pwrite(int fd, const void *data, size_t n, off_t at)
{
    if (fails.pwrite)
        return with(fails.pwrite);
    return __real_pwrite(fd, data,
                         fails.short_writes && n > (size_t)fails.short_writes ? (size_t)fails.short_writes : n, at);
}

ssize_t __wrap_pwrite64(int fd, const void *data, size_t n, off_t at)
{
    return __wrap_pwrite(fd, data, n, at);
}

static odmoe_error err;

/* Nameless files as this file system knows them (0), or none at all. */
static const int systems[] = {0, EOPNOTSUPP};
static bool has_nameless; /* it knows them */

static bool is_nameless(int s)
{
    return s == 0 && has_nameless;
}

static const char *in_folder(const char *name)
{
    static char path[8192];
    snprintf(path, sizeof path, "%s/%s", temp_path("folder"), name);
    return path;
}

static int files_in_folder(void)
{
    char pattern[8192];
    glob_t found;
    snprintf(pattern, sizeof pattern, "%s/*", temp_path("folder"));
    int n = glob(pattern, GLOB_PERIOD, NULL, &found) ? 0 : (int)found.gl_pathc;
    globfree(&found);
    return n - 2; /* . and .. */
}

static void assert_holds(const char *path, const char *text)
{
    char there[64] = {0};
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_true(fread(there, 1, sizeof there - 1, f) < sizeof there - 1);
    fclose(f);
    assert_string_equal(there, text);
}

static atomic_file begun(const char *path)
{
    atomic_file f;
    if (atomic_file_begin(path, &f, &err))
        fail_msg("%s", err.message);
    return f;
}

static int setup(void **state)
{
    int failed = temp_setup(state), fd = open(temp_path("."), O_TMPFILE | O_WRONLY, 0600);
    has_nameless = fd >= 0;
    if (has_nameless)
        close(fd);
    return failed;
}

static int make_folder(void **state)
{
    fails.nameless = fails.fsync = fails.linkat = fails.rename = fails.pwrite = fails.short_writes = 0;
    return mkdir(temp_path("folder"), 0700) && errno != EEXIST;
}

static void the_name_means_the_old_file_until_the_new_one_is_whole(void **state)
{
    for (int s = 0; s < 2; s++) {
        fails.nameless = systems[s];
        save_text(in_folder("a"), "old");
        atomic_file f = begun(in_folder("a"));
        assert_int_equal(f.nameless, is_nameless(s));
        assert_int_equal(files_in_folder(), is_nameless(s) ? 1 : 2);
        assert_int_equal(atomic_file_write(&f, "new text", 8, 0), 0);
        assert_holds(in_folder("a"), "old");
        assert_int_equal(atomic_file_finish(&f, 0, &err), ODMOE_OK);
        assert_holds(in_folder("a"), "new text");
        assert_int_equal(files_in_folder(), 1);
    }
}

static void a_dropped_file_leaves_nothing(void **state)
{
    for (int s = 0; s < 2; s++) {
        fails.nameless = systems[s];
        atomic_file f = begun(in_folder("dropped"));
        assert_int_equal(atomic_file_write(&f, "new", 3, 0), 0);
        atomic_file_drop(&f);
        assert_int_equal(access(in_folder("dropped"), F_OK), -1);
        assert_int_equal(files_in_folder(), 1); /* "a" of the test before */
    }
}

/* The error is told with its reason, the old file stays, and nothing is left beside it. */
static void any_call_that_fails_leaves_the_old_file_alone(void **state)
{
    int *const calls[] = {&fails.pwrite, &fails.fsync, &fails.linkat, &fails.rename};
    for (int s = 0; s < 2; s++)
        for (int c = 0; c < 4; c++) {
            fails.nameless = systems[s];
            save_text(in_folder("a"), "old");
            atomic_file f = begun(in_folder("a"));
            *calls[c] = ENOSPC;
            int error = atomic_file_write(&f, "new", 3, 0);
            assert_int_equal(error, c == 0 ? ENOSPC : 0);
            odmoe_status status = atomic_file_finish(&f, error, &err);
            *calls[c] = 0;
            if (c == 2 && !is_nameless(s)) { /* a file with a name needs no link */
                assert_int_equal(status, ODMOE_OK);
                assert_holds(in_folder("a"), "new");
            } else {
                assert_error(&err, status, ODMOE_ERR_IO, in_folder("a"), "No space left on device");
                assert_holds(in_folder("a"), "old");
            }
            assert_int_equal(files_in_folder(), 1);
        }
}

static void short_writes_go_on_where_they_stopped(void **state)
{
    fails.short_writes = 3;
    atomic_file f = begun(in_folder("a"));
    assert_int_equal(atomic_file_write(&f, "ten bytes.", 10, 5), 0);
    assert_int_equal(atomic_file_write(&f, "here:", 5, 0), 0);
    assert_int_equal(atomic_file_finish(&f, 0, &err), ODMOE_OK);
    assert_holds(in_folder("a"), "here:ten bytes.");
}

static void a_file_size_limit_is_an_error_with_its_reason(void **state)
{
    struct rlimit old, small;
    char many[5000] = {0};
    getrlimit(RLIMIT_FSIZE, &old);
    small = (struct rlimit){4096, old.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    save_text(in_folder("a"), "old");
    atomic_file f = begun(in_folder("a"));
    setrlimit(RLIMIT_FSIZE, &small);
    int error = atomic_file_write(&f, many, sizeof many, 0);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(error, EFBIG);
    assert_error(&err, atomic_file_finish(&f, error, &err), ODMOE_ERR_IO, in_folder("a"), "File too large");
    assert_holds(in_folder("a"), "old");
    assert_int_equal(files_in_folder(), 1);
}

static void a_killed_process_leaves_nothing(void **state)
{
    if (!has_nameless)
        skip();
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (!child) {
        atomic_file f;
        char byte = (char)atomic_file_begin(in_folder("killed"), &f, &err);
        atomic_file_write(&f, "half", 4, 0);
        if (write(ready[1], &byte, 1) == 1)
            pause();
        _exit(0);
    }
    char byte = 1;
    int status;
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(byte, 0);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(files_in_folder(), 1);
    close(ready[0]);
    close(ready[1]);
}

static void a_new_file_has_the_mode_of_the_umask_and_a_replaced_one_keeps_its_own(void **state)
{
    for (int s = 0; s < 2; s++) {
        struct stat st;
        fails.nameless = systems[s];
        mode_t mask = umask(027);
        atomic_file f = begun(in_folder("mode"));
        umask(mask);
        assert_int_equal(atomic_file_finish(&f, 0, &err), ODMOE_OK);
        assert_int_equal(stat(in_folder("mode"), &st), 0);
        assert_int_equal(st.st_mode & 0777, 0640);
        assert_int_equal(chmod(in_folder("mode"), 0604), 0);
        f = begun(in_folder("mode"));
        assert_int_equal(atomic_file_finish(&f, 0, &err), ODMOE_OK);
        assert_int_equal(stat(in_folder("mode"), &st), 0);
        assert_int_equal(st.st_mode & 0777, 0604);
        unlink(in_folder("mode"));
    }
}

/* The longest names that the file system takes: the name while writing is no longer. */
static void names_of_any_length_can_be_written(void **state)
{
    for (int s = 0; s < 2; s++)
        for (int length = 240; length <= 255; length++) {
            char name[256] = {0};
            memset(name, 'n', (size_t)length);
            fails.nameless = systems[s];
            atomic_file f = begun(in_folder(name));
            assert_int_equal(atomic_file_finish(&f, 0, &err), ODMOE_OK);
            assert_int_equal(unlink(in_folder(name)), 0);
        }
    char name[300] = {0};
    atomic_file f;
    memset(name, 'n', 256);
    assert_error(&err, atomic_file_begin(in_folder(name), &f, &err), ODMOE_ERR_IO, "cannot be written",
                 "File name too long");
}

int main(void)
{
#define IN_FOLDER(test) cmocka_unit_test_setup(test, make_folder)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(the_name_means_the_old_file_until_the_new_one_is_whole),
        IN_FOLDER(a_dropped_file_leaves_nothing),
        IN_FOLDER(any_call_that_fails_leaves_the_old_file_alone),
        IN_FOLDER(short_writes_go_on_where_they_stopped),
        IN_FOLDER(a_file_size_limit_is_an_error_with_its_reason),
        IN_FOLDER(a_killed_process_leaves_nothing),
        IN_FOLDER(a_new_file_has_the_mode_of_the_umask_and_a_replaced_one_keeps_its_own),
        IN_FOLDER(names_of_any_length_can_be_written),
    };
    return cmocka_run_group_tests(tests, setup, temp_teardown);
}
