#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/cpu.h"
#include "fake_tree.h"

/* A machine of `cores` cores with two hyperthreads each, numbered as usual: 0..cores-1, then their siblings. */
static char *fake_machine(int cores)
{
    char *root = fake_begin(), path[128], text[64];
    for (int cpu = 0; cpu < 2 * cores; cpu++) {
        snprintf(path, sizeof path, "sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
        snprintf(text, sizeof text, "%d,%d\n", cpu % cores, cpu % cores + cores);
        fake_file(root, path, text);
    }
    return root;
}

static int threads(const char *root, int first, int last)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    for (int cpu = first; cpu <= last; cpu++)
        CPU_SET(cpu, &set);
    return cpu_default_threads(root, &set, sizeof set);
}

static void hyperthreads_of_a_core_count_once(void **state)
{
    char *root = fake_machine(8);
    assert_int_equal(threads(root, 0, 15), 8);
    assert_int_equal(threads(root, 0, 3), 4);
    assert_int_equal(threads(root, 6, 9), 4);  /* cores 6, 7 and, by their second threads, 0, 1 */
    assert_int_equal(threads(root, 8, 15), 8); /* second threads alone are as many cores */
    assert_int_equal(threads(root, 15, 15), 1);
    fake_end(root);
}

static void sibling_ranges_are_understood(void **state)
{
    char *root = fake_begin();
    fake_file(root, "sys/devices/system/cpu/cpu0/topology/thread_siblings_list", "0-1\n");
    fake_file(root, "sys/devices/system/cpu/cpu1/topology/thread_siblings_list", "0-1\n");
    assert_int_equal(threads(root, 0, 1), 1);
    fake_end(root);
}

static void without_a_topology_every_processor_is_a_core(void **state)
{
    char *root = fake_begin();
    assert_int_equal(threads(root, 0, 5), 6);
    fake_end(root);
}

static void a_v2_quota_anywhere_on_the_way_up_caps_the_threads(void **state)
{
    char *root = fake_machine(8);
    fake_file(root, "proc/self/cgroup", "0::/system.slice/job\n");
    fake_file(root, "proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n");
    fake_file(root, "sys/fs/cgroup/system.slice/job/cpu.max", "max 100000\n");
    assert_int_equal(threads(root, 0, 15), 8);
    fake_file(root, "sys/fs/cgroup/system.slice/cpu.max", "350000 100000\n");
    assert_int_equal(threads(root, 0, 15), 3);
    fake_file(root, "sys/fs/cgroup/system.slice/job/cpu.max", "50000 100000\n");
    assert_int_equal(threads(root, 0, 15), 1); /* half a processor is still one thread */
    fake_end(root);
}

static void a_v1_quota_caps_the_threads(void **state)
{
    char *root = fake_machine(8);
    fake_file(root, "proc/self/cgroup", "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n0::/\n");
    fake_file(root, "proc/self/mountinfo",
              "31 23 0:28 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n");
    fake_file(root, "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
    fake_file(root, "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
    assert_int_equal(threads(root, 0, 15), 8);
    fake_file(root, "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "200000\n");
    assert_int_equal(threads(root, 0, 15), 2);
    fake_end(root);
}

static void this_machine_has_at_least_one_core(void **state)
{
    assert_true(cpu_allowed() >= 1);
    int n = cpu_default_threads("", NULL, 0);
    assert_true(n >= 1 && n <= cpu_allowed());
}

static void features_agree_with_the_kernel_and_imply_their_base(void **state)
{
    cpu_features f = cpu_detect();
    assert_true(!f.avx512bw || f.avx512f);
    assert_true(!f.avx512vnni || f.avx512f);
#if defined(__x86_64__)
    /* /proc/cpuinfo lists a flag only when the kernel supports its state */
    char *line = NULL;
    size_t capacity = 0;
    FILE *cpuinfo = fopen("/proc/cpuinfo", "r");
    if (!cpuinfo)
        skip();
    while (getline(&line, &capacity, cpuinfo) > 0 && strncmp(line, "flags", 5))
        ;
    fclose(cpuinfo);
    line[strcspn(line, "\n")] = ' ';
    const struct {
        const char *flag;
        bool have;
    } flags[] = {{" avx2 ", f.avx2},         {" fma ", f.fma},
                 {" f16c ", f.f16c},         {" avx512f ", f.avx512f},
                 {" avx512bw ", f.avx512bw}, {" avx512vl ", f.avx512vl},
                 {" avx512dq ", f.avx512dq}, {" avx512_vnni ", f.avx512vnni}};
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
        assert_int_equal(strstr(line, flags[i].flag) != NULL, flags[i].have);
    free(line);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hyperthreads_of_a_core_count_once),
        cmocka_unit_test(sibling_ranges_are_understood),
        cmocka_unit_test(without_a_topology_every_processor_is_a_core),
        cmocka_unit_test(a_v2_quota_anywhere_on_the_way_up_caps_the_threads),
        cmocka_unit_test(a_v1_quota_caps_the_threads),
        cmocka_unit_test(this_machine_has_at_least_one_core),
        cmocka_unit_test(features_agree_with_the_kernel_and_imply_their_base),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
