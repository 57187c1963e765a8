#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/sysmem.h"
#include "fake_tree.h"

#include <sys/mman.h>

#define MIB (1ull << 20)

static uint64_t available(const char *root)
{
    uint64_t bytes = 0;
    odmoe_error err = {0};
    assert_int_equal(sysmem_available(root, &bytes, &err), ODMOE_OK);
    return bytes;
}

/* A machine with 1000 MiB available and this process in /user/job. */
static char *fake_machine(const char *cgroup, const char *mountinfo)
{
    char *root = fake_begin();
    fake_file(root, "proc/meminfo",
              "MemTotal:        4096000 kB\nMemFree:          102400 kB\n"
              "MemAvailable:    1024000 kB\nBuffers:            1000 kB\n");
    fake_file(root, "proc/self/cgroup", cgroup);
    fake_file(root, "proc/self/mountinfo", mountinfo);
    return root;
}

#define V2_MOUNT "22 1 254:1 / / rw - ext4 /dev/vda rw\n30 22 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n"
#define V1_MOUNT "31 22 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"

static void without_limits_it_is_what_the_machine_has(void **state)
{
    char *root = fake_machine("0::/user/job\n", V2_MOUNT);
    assert_int_equal(available(root), 1000 * MIB);
    fake_file(root, "sys/fs/cgroup/user/job/memory.max", "max\n");
    fake_file(root, "sys/fs/cgroup/user/job/memory.current", "52428800\n");
    assert_int_equal(available(root), 1000 * MIB);
    fake_end(root);
}

static void a_v2_limit_leaves_limit_minus_usage_plus_cache(void **state)
{
    char *root = fake_machine("0::/user/job\n", V2_MOUNT);
    fake_file(root, "sys/fs/cgroup/user/job/memory.max", "524288000\n");     /* 500 MiB */
    fake_file(root, "sys/fs/cgroup/user/job/memory.current", "209715200\n"); /* 200 MiB */
    assert_int_equal(available(root), 300 * MIB);
    fake_file(root, "sys/fs/cgroup/user/job/memory.stat",
              "anon 104857600\nfile 104857600\nshmem 0\ninactive_anon 0\nactive_anon 104857600\n"
              "inactive_file 83886080\nactive_file 20971520\nunevictable 0\n"); /* 80 + 20 MiB can go */
    assert_int_equal(available(root), 400 * MIB);
    fake_end(root);
}

static void the_smallest_group_on_the_way_up_counts(void **state)
{
    char *root = fake_machine("0::/user/job\n", V2_MOUNT);
    fake_file(root, "sys/fs/cgroup/user/job/memory.max", "max\n");
    fake_file(root, "sys/fs/cgroup/user/memory.max", "104857600\n");
    fake_file(root, "sys/fs/cgroup/user/memory.current", "52428800\n");
    assert_int_equal(available(root), 50 * MIB);
    fake_file(root, "sys/fs/cgroup/memory.max", "20971520\n"); /* the top of a container's mount is a group too */
    fake_file(root, "sys/fs/cgroup/memory.current", "0\n");
    assert_int_equal(available(root), 20 * MIB);
    fake_end(root);
}

static void the_high_mark_of_v2_limits_as_well(void **state)
{
    char *root = fake_machine("0::/user/job\n", V2_MOUNT);
    fake_file(root, "sys/fs/cgroup/user/job/memory.max", "524288000\n");
    fake_file(root, "sys/fs/cgroup/user/job/memory.high", "314572800\n");
    fake_file(root, "sys/fs/cgroup/user/job/memory.current", "104857600\n");
    assert_int_equal(available(root), 200 * MIB);
    fake_end(root);
}

static void a_v1_limit_counts_and_its_unlimited_figure_does_not(void **state)
{
    char *root = fake_machine("4:memory:/user/job\n0::/\n", V1_MOUNT);
    fake_file(root, "sys/fs/cgroup/memory/user/job/memory.limit_in_bytes", "9223372036854771712\n");
    fake_file(root, "sys/fs/cgroup/memory/user/job/memory.usage_in_bytes", "104857600\n");
    assert_int_equal(available(root), 1000 * MIB);
    fake_file(root, "sys/fs/cgroup/memory/user/memory.limit_in_bytes", "314572800\n");
    fake_file(root, "sys/fs/cgroup/memory/user/memory.usage_in_bytes", "209715200\n");
    fake_file(root, "sys/fs/cgroup/memory/user/memory.stat",
              "inactive_file 1\nactive_file 1\ntotal_inactive_file 52428800\ntotal_active_file 0\n");
    assert_int_equal(available(root), 150 * MIB);
    fake_end(root);
}

static void a_group_over_its_limit_leaves_nothing(void **state)
{
    char *root = fake_machine("0::/\n", V2_MOUNT);
    fake_file(root, "sys/fs/cgroup/memory.max", "104857600\n");
    fake_file(root, "sys/fs/cgroup/memory.current", "209715200\n");
    assert_int_equal(available(root), 0);
    fake_end(root);
}

static void a_container_sees_its_group_at_the_mount_point(void **state)
{
    /* v1: the mount shows only the container's own part of the tree */
    char *root = fake_machine("4:memory:/docker/abc\n", "31 22 0:28 /docker/abc /sys/fs/cgroup/memory ro - cgroup "
                                                        "cgroup rw,memory\n");
    fake_file(root, "sys/fs/cgroup/memory/memory.limit_in_bytes", "104857600\n");
    fake_file(root, "sys/fs/cgroup/memory/memory.usage_in_bytes", "0\n");
    assert_int_equal(available(root), 100 * MIB);
    fake_end(root);
    /* a namespace whose root is elsewhere */
    root = fake_machine("0::/../../outside\n", V2_MOUNT);
    fake_file(root, "sys/fs/cgroup/memory.max", "104857600\n");
    fake_file(root, "sys/fs/cgroup/memory.current", "0\n");
    assert_int_equal(available(root), 100 * MIB);
    fake_end(root);
}

static void check_mount(const char *cgroup, const char *mountinfo, const char *group)
{
    char *root = fake_machine(cgroup, mountinfo), file[256];
    snprintf(file, sizeof file, "%s/memory.max", group);
    fake_file(root, file, "104857600\n");
    snprintf(file, sizeof file, "%s/memory.current", group);
    fake_file(root, file, "0\n");
    assert_int_equal(available(root), 100 * MIB);
    fake_end(root);
}

static void of_several_mounts_the_one_that_shows_the_group_counts(void **state)
{
    static const char host[] = "30 22 0:26 /../.. /host/cgroup ro - cgroup2 cgroup2 rw\n",
                      own[] = "31 22 0:26 / /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n";
    char both[512];
    snprintf(both, sizeof both, "%s%s", host, own);
    check_mount("0::/\n", both, "sys/fs/cgroup");
    check_mount("0::/../../outside\n", both, "sys/fs/cgroup");
    snprintf(both, sizeof both, "%s%s", own, host);
    check_mount("0::/\n", both, "sys/fs/cgroup");
}

static void names_with_blanks_and_backslashes_are_understood(void **state)
{
    check_mount("0::/job\n", "31 22 0:26 / /mnt/c\\040g ro - cgroup2 cgroup2 rw\n", "mnt/c g/job");
    check_mount("0::/a\\x2db/job\n", "31 22 0:26 /a\\134x2db /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n",
                "sys/fs/cgroup/job");
}

static void odd_files_are_survived(void **state)
{
    char *root = fake_machine("\n:::\n4:memory\n0::\n", "garbage\n - \n1 2 3 4 5 - cgroup2\n");
    assert_int_equal(available(root), 1000 * MIB);
    fake_end(root);
}

static void without_meminfo_the_error_says_what_to_do(void **state)
{
    char *root = fake_begin();
    uint64_t bytes = 7;
    odmoe_error err = {0};
    assert_int_equal(sysmem_available(root, &bytes, &err), ODMOE_ERR_IO);
    assert_non_null(strstr(err.message, "--ram"));
    assert_int_equal(bytes, 7);
    fake_end(root);
}

static void own_memory_is_read_from_proc(void **state)
{
    char *root = fake_begin(), text[128];
    long page = sysconf(_SC_PAGESIZE);
    fake_file(root, "proc/self/statm", "5000 3000 1000 20 0 4000 0\n");
    assert_int_equal(sysmem_anonymous(root), 2000ull * (uint64_t)page);
    snprintf(text, sizeof text, "Name:\todmoe\nVmPeak:\t  900 kB\nVmHWM:\t    2048 kB\nVmRSS:\t 1024 kB\n");
    fake_file(root, "proc/self/status", text);
    assert_int_equal(sysmem_peak_rss(root), 2048 * 1024);
    fake_end(root);
}

static void touched_memory_shows_up(void **state)
{
    size_t bytes = 32 * MIB;
    uint64_t before = sysmem_anonymous("");
    char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(p != MAP_FAILED);
    memset(p, 1, bytes);
    assert_true(sysmem_anonymous("") >= before + bytes / 4 * 3); /* kernels count in steps, on each processor apart */
    assert_true(sysmem_peak_rss("") >= bytes);
    munmap(p, bytes);
    assert_true(sysmem_anonymous("") < before + bytes / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_limits_it_is_what_the_machine_has),
        cmocka_unit_test(a_v2_limit_leaves_limit_minus_usage_plus_cache),
        cmocka_unit_test(the_smallest_group_on_the_way_up_counts),
        cmocka_unit_test(the_high_mark_of_v2_limits_as_well),
        cmocka_unit_test(a_v1_limit_counts_and_its_unlimited_figure_does_not),
        cmocka_unit_test(a_group_over_its_limit_leaves_nothing),
        cmocka_unit_test(a_container_sees_its_group_at_the_mount_point),
        cmocka_unit_test(of_several_mounts_the_one_that_shows_the_group_counts),
        cmocka_unit_test(names_with_blanks_and_backslashes_are_understood),
        cmocka_unit_test(odd_files_are_survived),
        cmocka_unit_test(without_meminfo_the_error_says_what_to_do),
        cmocka_unit_test(own_memory_is_read_from_proc),
        cmocka_unit_test(touched_memory_shows_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
