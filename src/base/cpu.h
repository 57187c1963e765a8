/* cpu.h - what this processor can do, and how much of the machine this process may use. */
#ifndef ODMOE_BASE_CPU_H
#define ODMOE_BASE_CPU_H

#include <stdbool.h>
#include <sched.h>

/* A feature is set only if the processor has it and the system saves the registers that it needs. */
typedef struct cpu_features {
    bool avx2, fma, f16c;                       /* x86: 256-bit vectors */
    bool avx512f, avx512bw, avx512vl, avx512dq; /* x86: 512-bit vectors */
    bool avx512vnni;                            /* x86: 8-bit dot products */
    bool dotprod;                               /* arm: 8-bit dot products */
} cpu_features;

/* cpu_detect - ask the processor; a few instructions, so callers may ask again instead of keeping a global.
 * Threads: any. */
cpu_features cpu_detect(void);

/* cpu_allowed - logical processors that the calling thread may run on, at least 1. */
int cpu_allowed(void);

/* cpu_default_threads - the physical cores that this process may use, at least 1: hyperthreads of one core count once,
 * and a CPU quota of any cgroup on the way up (v1 or v2) caps the number, rounded down: threads beyond a quota would be
 * stopped in the middle of a loop.
 *
 * root     put before /proc and /sys: "" for this machine, or a directory with a fake tree in tests
 * allowed  the logical processors to consider, `bytes` long as for CPU_ISSET_S; NULL asks the system */
int cpu_default_threads(const char *root, const cpu_set_t *allowed, size_t bytes);

#endif
