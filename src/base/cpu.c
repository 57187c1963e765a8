#include "base/cpu.h"

#include "base/cgroup.h"

#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#if defined(__x86_64__)

#define BIT(word, n) (((word) >> (n)) & 1)

/* Which register files the system saves on a context switch (XCR0). */
static uint64_t saved_state(void)
{
    uint32_t low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

cpu_features cpu_detect(void)
{
    cpu_features f = {0};
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !BIT(c, 27)) /* OSXSAVE: xgetbv may be asked */
        return f;
    uint64_t state = saved_state();
    bool ymm = (state & 0x06) == 0x06; /* SSE and AVX */
    bool zmm = (state & 0xe6) == 0xe6; /* mask registers and both halves of the upper vectors too */
    f.fma = ymm && BIT(c, 12);
    f.f16c = ymm && BIT(c, 29);
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return f;
    f.avx2 = ymm && BIT(b, 5);
    f.avx512f = zmm && BIT(b, 16);
    f.avx512dq = zmm && BIT(b, 17);
    f.avx512bw = zmm && BIT(b, 30);
    f.avx512vl = zmm && BIT(b, 31);
    f.avx512vnni = zmm && BIT(c, 11);
    return f;
}

#elif defined(__aarch64__)

cpu_features cpu_detect(void)
{
    return (cpu_features){.dotprod = (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0};
}

#else

cpu_features cpu_detect(void)
{
    return (cpu_features){0};
}

#endif

/* The processors that this thread may run on, whatever their number; *bytes is the set's length. Free with CPU_FREE. */
static cpu_set_t *allowed_set(size_t *bytes)
{
    for (int cpus = 1024; cpus <= 1 << 20; cpus *= 4) {
        cpu_set_t *set = CPU_ALLOC(cpus);
        if (!set)
            return NULL;
        *bytes = CPU_ALLOC_SIZE(cpus);
        if (!sched_getaffinity(0, *bytes, set))
            return set;
        CPU_FREE(set);
    }
    return NULL;
}

int cpu_allowed(void)
{
    size_t bytes;
    cpu_set_t *set = allowed_set(&bytes);
    int n = set ? CPU_COUNT_S(bytes, set) : 1;
    if (set)
        CPU_FREE(set);
    return n > 0 ? n : 1;
}

/* Is `cpu` the first allowed one among its core's hyperthreads? The list reads "0,64", "0-1" or "3". */
static bool first_of_core(const char *root, int cpu, const cpu_set_t *allowed, size_t bytes)
{
    char dir[512], list[256];
    snprintf(dir, sizeof dir, "%s/sys/devices/system/cpu/cpu%d/topology", root, cpu);
    if (!read_text(dir, "thread_siblings_list", list, sizeof list))
        return true; /* no topology known: every processor is a core */
    for (char *at = list; *at >= '0' && *at <= '9';) {
        long first = strtol(at, &at, 10), last = first;
        if (*at == '-')
            last = strtol(at + 1, &at, 10);
        for (long other = first; other <= last && other < cpu; other++)
            if (CPU_ISSET_S((size_t)other, bytes, allowed))
                return false;
        at += *at == ',';
    }
    return true;
}

/* The smallest quota on the way up, in whole processors. */
static void visit_quota(const char *dir, bool v2, void *ctx)
{
    int *cores = ctx;
    char text[64];
    uint64_t quota, period;
    if (v2) { /* "max 100000" or "150000 100000" */
        unsigned long long q, p;
        if (!read_text(dir, "cpu.max", text, sizeof text) || sscanf(text, "%llu %llu", &q, &p) != 2)
            return;
        quota = q;
        period = p;
    } else if (!read_number(dir, "cpu.cfs_quota_us", &quota) || !read_number(dir, "cpu.cfs_period_us", &period)) {
        return; /* -1: no quota */
    }
    if (period && quota / period < (uint64_t)*cores)
        *cores = (int)(quota / period);
}

int cpu_default_threads(const char *root, const cpu_set_t *allowed, size_t bytes)
{
    cpu_set_t *own = allowed ? NULL : allowed_set(&bytes);
    const cpu_set_t *set = allowed ? allowed : own;
    int cores = 0;
    for (int cpu = 0; set && cpu < (int)(bytes * CHAR_BIT); cpu++)
        if (CPU_ISSET_S((size_t)cpu, bytes, set) && first_of_core(root, cpu, set, bytes))
            cores++;
    if (own)
        CPU_FREE(own);
    cgroup_walk(root, "cpu", visit_quota, &cores);
    return cores > 0 ? cores : 1;
}
