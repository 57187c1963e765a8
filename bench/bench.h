/* bench.h - what the benches share: a clock, and giving up. */
#ifndef ODMOE_BENCH_H
#define ODMOE_BENCH_H

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* seconds; only differences mean something */
static inline double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static inline void stop(const char *program, const char *what)
{
    fprintf(stderr, "%s: %s\n", program, what);
    exit(1);
}

#endif
