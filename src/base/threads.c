#include "base/threads.h"

#include "base/cpu.h"
#include "base/mem.h"
#include "base/thread.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* The gate: one word that says which loop is on, whether workers may still join it, and how many are inside.
 *
 *      31 .......... 11 | 10   | 9 ......... 0
 *      number of loop   | open | workers inside
 *
 * Workers join with a compare-and-swap while the gate is open, take tasks from `next` until none is left, and leave.
 * The caller takes tasks too, closes the gate, and waits for the workers inside only: a worker that sleeps through a
 * short loop delays no other thread. A loop's fields are written while no worker is inside and the gate is closed;
 * opening the gate (release) and joining (acquire) hand them over, leaving (release) and seeing zero inside (acquire)
 * hand the results back. All sleepers wait on the gate word itself (futex), so that a change between checking and
 * sleeping returns at once. */
#define GATE_INSIDE 0x3ffu
#define GATE_OPEN 0x400u
#define GATE_LOOP 0x800u /* one, in units of the loop's number */

#define THREADS_MAX 1024

/* Long enough to bridge what lies between two loops of a token, short against a read from an SSD. */
#define SPIN_NS 50000

enum { WAKE_WORKERS = 1, WAKE_CALLER = 2 }; /* futex bit sets */

struct pool {
    _Alignas(64) _Atomic uint32_t gate;
    atomic_int sleepers; /* workers that sleep, or are about to */
    atomic_bool caller_sleeps;
    atomic_bool stop;
    _Alignas(64) _Atomic int64_t next; /* the first task that is not taken yet */
    _Alignas(64) int64_t tasks;
    void (*fn)(void *ctx, int64_t task, int worker);
    void *ctx;
    int threads; /* the caller's included */
    bool spin;   /* false: more threads than processors, so spinning would steal time from the one awaited */
    struct worker {
        pool *pool;
        pthread_t thread;
        int index;
    } workers[];
};

static void futex_wait(_Atomic uint32_t *word, uint32_t value, uint32_t bits)
{
    syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, value, NULL, NULL, bits); /* any return: look again */
}

static void futex_wake(_Atomic uint32_t *word, int count, uint32_t bits)
{
    syscall(SYS_futex, word, FUTEX_WAKE_BITSET_PRIVATE, count, NULL, NULL, bits);
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Spin until the gate differs from `value` or the time is up; the gate's value then. */
static uint32_t spin_while(pool *p, uint32_t value)
{
    if (!p->spin)
        return value;
    int64_t end = now_ns() + SPIN_NS;
    do {
        for (int i = 0; i < 32; i++) {
            uint32_t now = atomic_load_explicit(&p->gate, memory_order_acquire);
            if (now != value)
                return now;
            relax();
        }
    } while (now_ns() < end);
    return value;
}

static void run_tasks(pool *p, int worker)
{
    for (;;) {
        int64_t task = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed);
        if (task >= p->tasks)
            return;
        p->fn(p->ctx, task, worker);
    }
}

static void leave(pool *p)
{
    uint32_t now = atomic_fetch_sub(&p->gate, 1) - 1;
    if (!(now & (GATE_OPEN | GATE_INSIDE)) && atomic_load(&p->caller_sleeps))
        futex_wake(&p->gate, 1, WAKE_CALLER);
}

static void *work(void *arg)
{
    struct worker *self = arg;
    pool *p = self->pool;
    uint32_t done = 0; /* number of the last loop that this worker has been in; loops start at 1 */
    uint32_t gate = atomic_load(&p->gate);
    while (!atomic_load_explicit(&p->stop, memory_order_relaxed)) {
        if ((gate & GATE_OPEN) && gate / GATE_LOOP != done) {
            if (!atomic_compare_exchange_weak(&p->gate, &gate, gate + 1))
                continue; /* another one joined or left first: `gate` is fresh */
            done = gate / GATE_LOOP;
            run_tasks(p, self->index);
            leave(p);
            gate = atomic_load(&p->gate);
            continue;
        }
        uint32_t seen = gate;
        gate = spin_while(p, seen);
        if (gate != seen)
            continue;
        /* The caller changes the gate, then looks for sleepers; here the other way round: one of the two sees. */
        atomic_fetch_add(&p->sleepers, 1);
        gate = atomic_load(&p->gate);
        if (gate == seen)
            futex_wait(&p->gate, seen, WAKE_WORKERS);
        atomic_fetch_sub(&p->sleepers, 1);
        gate = atomic_load(&p->gate);
    }
    return NULL;
}

static void wake_workers(pool *p, int64_t wanted)
{
    int sleepers = atomic_load(&p->sleepers);
    if (sleepers > 0)
        futex_wake(&p->gate, wanted < sleepers ? (int)wanted : INT_MAX, WAKE_WORKERS);
}

/* Wait until no worker is inside the loop that was just closed. */
static void wait_inside(pool *p)
{
    uint32_t gate = atomic_load_explicit(&p->gate, memory_order_acquire);
    while (gate & GATE_INSIDE) {
        uint32_t seen = gate;
        gate = spin_while(p, seen);
        if (gate != seen)
            continue;
        atomic_store(&p->caller_sleeps, true);
        gate = atomic_load(&p->gate);
        if (gate & GATE_INSIDE)
            futex_wait(&p->gate, gate, WAKE_CALLER);
        atomic_store(&p->caller_sleeps, false);
        gate = atomic_load(&p->gate);
    }
}

void pool_run(pool *p, int64_t tasks, void (*fn)(void *ctx, int64_t task, int worker), void *ctx)
{
    if (p->threads == 1 || tasks <= 1) {
        for (int64_t task = 0; task < tasks; task++)
            fn(ctx, task, 0);
        return;
    }
    p->tasks = tasks;
    p->fn = fn;
    p->ctx = ctx;
    atomic_store_explicit(&p->next, 0, memory_order_relaxed);
    /* No worker is inside and the gate is closed: adding both gives the next loop's number, open. */
    atomic_fetch_add(&p->gate, GATE_LOOP + GATE_OPEN);
    wake_workers(p, tasks - 1);
    run_tasks(p, 0);
    atomic_fetch_and(&p->gate, ~GATE_OPEN);
    wait_inside(p);
}

odmoe_status pool_create(int threads, pool **out, odmoe_error *err)
{
    if (threads < 1 || threads > THREADS_MAX)
        return err_set(err, ODMOE_ERR_RANGE, "%d threads: 1 to %d are possible", threads, THREADS_MAX);
    size_t bytes = sizeof(pool) + (size_t)threads * sizeof(struct worker);
    pool *p;
    if (posix_memalign((void **)&p, _Alignof(pool), bytes))
        return err_set(err, ODMOE_ERR_MEMORY, "no memory for a pool of %d threads", threads);
    memset(p, 0, bytes);
    p->threads = 1; /* grows as they start, so that pool_free joins just these */
    p->spin = threads <= cpu_allowed();
    for (int i = 1; i < threads; i++) {
        struct worker *w = &p->workers[i];
        *w = (struct worker){.pool = p, .index = i};
        int failed = thread_start(&w->thread, NULL, work, w);
        if (failed) {
            pool_free(p);
            return err_set(err, ODMOE_ERR_MEMORY, "thread %d of %d could not be started: %s", i + 1, threads,
                           strerror(failed));
        }
        p->threads++;
    }
    *out = p;
    return ODMOE_OK;
}

void pool_free(pool *p)
{
    if (!p)
        return;
    atomic_store(&p->stop, true);
    atomic_fetch_add(&p->gate, GATE_LOOP); /* a change, so that no worker goes to sleep on the old value */
    futex_wake(&p->gate, INT_MAX, WAKE_WORKERS);
    for (int i = 1; i < p->threads; i++)
        pthread_join(p->workers[i].thread, NULL);
    free(p);
}

int pool_threads(const pool *p)
{
    return p->threads;
}
