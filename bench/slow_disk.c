/* slow_disk.c - LD_PRELOAD: a disk of SLOW_DISK_GBPS, and SLOW_DISK_MS of latency, for a program that reads with pread or
 * preadv (odmoe --io pread, bench/machine). Shows what a program does where computing is fast compared with the disk, on a machine where it
 * isn't.
 *
 * Reads of 16 KiB and more queue up on one clock: each takes bytes / rate once those before it are done, and comes back
 * the latency later, while the next ones are served already. The real read is made meanwhile; who is back from it too early sleeps. So bursts, queues and idle times are those of such a disk,
 * as long as the real one is faster.
 *
 * SLOW_DISK_TRACE=FILE: a line a read, when it was asked for, when it came back (seconds, monotonic), and its bytes. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

#define SHOWN __attribute__((visibility("default")))
#define SMALLEST (16 * 1024)

static FILE *trace;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static double rate, latency, free_at; /* bytes a second, seconds; when the disk has done all that was asked so far */

__attribute__((constructor)) static void start(void)
{
    const char *gbps = getenv("SLOW_DISK_GBPS");
    const char *ms = getenv("SLOW_DISK_MS");
    rate = gbps ? 1e9 * atof(gbps) : 0;
    latency = ms ? 1e-3 * atof(ms) : 0;
    const char *file = getenv("SLOW_DISK_TRACE");
    trace = file ? fopen(file, "w") : NULL;
    prctl(PR_SET_TIMERSLACK, 1); /* threads inherit it */
}

/* When a read of so many bytes that is asked for now is done; 0: no matter. */
static double done_at(size_t bytes)
{
    if (rate <= 0 || bytes < SMALLEST)
        return 0;
    pthread_mutex_lock(&lock);
    double t = now();
    free_at = (free_at > t ? free_at : t) + (double)bytes / rate;
    t = free_at + latency;
    pthread_mutex_unlock(&lock);
    return t;
}

static void note(double asked, size_t bytes)
{
    if (trace && bytes >= SMALLEST)
        fprintf(trace, "%.6f %.6f %zu\n", asked, now(), bytes);
}

static void sleep_until(double t)
{
    struct timespec at = {(time_t)t, (long)((t - (double)(time_t)t) * 1e9)};
    if (t > 0)
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL))
            ;
}

SHOWN ssize_t pread64(int fd, void *to, size_t bytes, off64_t offset)
{
    ssize_t (*real)(int, void *, size_t, off64_t) =
        (ssize_t(*)(int, void *, size_t, off64_t))dlsym(RTLD_NEXT, "pread64");
    double asked = now(), until = done_at(bytes);
    ssize_t got = real(fd, to, bytes, offset);
    sleep_until(until);
    note(asked, bytes);
    return got;
}

SHOWN ssize_t preadv64(int fd, const struct iovec *iov, int n, off64_t offset)
{
    ssize_t (*real)(int, const struct iovec *, int, off64_t) =
        (ssize_t(*)(int, const struct iovec *, int, off64_t))dlsym(RTLD_NEXT, "preadv64");
    size_t bytes = 0;
    for (int i = 0; i < n; i++)
        bytes += iov[i].iov_len;
    double asked = now(), until = done_at(bytes);
    ssize_t got = real(fd, iov, n, offset);
    sleep_until(until);
    note(asked, bytes);
    return got;
}
