/* clock.h - the clock that all of the server measures by. */
#ifndef ODMOE_SERVER_CLOCK_H
#define ODMOE_SERVER_CLOCK_H

#include <time.h>

/* clock_seconds - seconds of a clock that never goes back; its zero has no meaning. Threads: any. */
static inline double clock_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

#endif
