/* stats.h - what /stats and /stats/experts show: the plan, the library's counters, and what they did lately. */
#ifndef ODMOE_SERVER_STATS_H
#define ODMOE_SERVER_STATS_H

#include <odmoe.h>
#include <pthread.h>

enum { RATE_SAMPLES = 6 };

/* The counters of the last seconds, one sample a second. */
typedef struct rates {
    pthread_mutex_t lock;
    struct {
        double time; /* seconds of a steady clock */
        uint64_t tokens, bytes_read, hits, misses;
        double stall, compute;
    } sample[RATE_SAMPLES];
    int count; /* taken so far; sample[(count - 1) % RATE_SAMPLES] is the latest */
} rates;

/* rates_tick - take a sample when the latest is a second old; to be called a few times a second, by one thread. */
void rates_tick(rates *r, odmoe_model *model);

#endif
