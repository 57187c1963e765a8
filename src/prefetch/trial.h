/* trial.h - does prefetching pay? Passes with and without it are timed, and the faster way is taken; the other one is
 * tried now and then.
 *
 * What a byte that is read early saves cannot be told from counters: a disk that is busy anyway does not get faster by
 * being asked early. It depends on the disk, the processor and the text, so it is measured. */
#ifndef ODMOE_PREFETCH_TRIAL_H
#define ODMOE_PREFETCH_TRIAL_H

#include <stdbool.h>

#include "prefetch/limits.h"

/* How long a token takes: a mean that follows the latest passes. */
typedef struct trial_mean {
    double ns;
    int seen; /* passes, at most a number from which on old ones fade */
} trial_mean;

typedef struct trial {
    bool running; /* the next pass prefetches */
    bool better;  /* prefetching is faster, or nothing else is known */
    unsigned passes;
    trial_mean with, without;
} trial;

void trial_init(trial *t);
/* trial_settle - a pass took `ns` a token: sets `running` for the next one. */
void trial_settle(trial *t, double ns);

#endif
