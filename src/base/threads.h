/* threads.h - a pool of compute threads that belongs to one model (or layer).
 *
 * Workers spin briefly while they wait for the next loop, then sleep on a futex, so that short loops in a row start fast
 * and an idle model costs nothing. Own code instead of OpenMP because OpenMP's teams belong to the calling thread, not to
 * the model (see docs/dependencies.md and bench/RESULTS.md). */
#ifndef ODMOE_BASE_THREADS_H
#define ODMOE_BASE_THREADS_H

#include "base/status.h"

typedef struct pool pool;

/* pool_create - a pool in which loops run on `threads` threads, the caller's included (so threads - 1 are started).
 * Errors: ERR_MEMORY, or ERR_RANGE for threads < 1 or > 1024. */
odmoe_status pool_create(int threads, pool **out, odmoe_error *err);
void pool_free(pool *p); /* waits for the workers to end; NULL is fine */
int pool_threads(const pool *p);

/* pool_run - call fn(ctx, task, worker) once for each task in [0, tasks), on all threads, and return when all are done.
 * 0 <= worker < pool_threads; one worker runs its tasks one after the other, so per-worker scratch needs no lock.
 * Which worker runs which task is not fixed: a task's result must not depend on it. One pool_run at a time. */
void pool_run(pool *p, int64_t tasks, void (*fn)(void *ctx, int64_t task, int worker), void *ctx);

#endif
