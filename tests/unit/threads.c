#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/threads.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static pool *started(int threads)
{
    pool *p = NULL;
    odmoe_error err = {0};
    assert_int_equal(pool_create(threads, &p, &err), ODMOE_OK);
    assert_int_equal(pool_threads(p), threads);
    return p;
}

struct loop {
    int64_t tasks;
    int threads;
    int *runs;      /* [tasks], plain: each task is touched by one worker, and by the caller afterwards */
    int64_t *sums;  /* [threads * 8], plain: per-worker scratch needs no lock */
    atomic_int bad; /* a task or worker out of range */
};

static void count(void *ctx, int64_t task, int worker)
{
    struct loop *l = ctx;
    if (task < 0 || task >= l->tasks || worker < 0 || worker >= l->threads) {
        atomic_fetch_add(&l->bad, 1);
        return;
    }
    l->runs[task]++;
    l->sums[worker * 8] += task;
}

static void check_loop(pool *p, int64_t tasks)
{
    int threads = pool_threads(p);
    struct loop l = {.tasks = tasks, .threads = threads};
    l.runs = calloc((size_t)tasks + 1, sizeof *l.runs);
    l.sums = calloc((size_t)threads * 8, sizeof *l.sums);
    pool_run(p, tasks, count, &l);
    int64_t sum = 0;
    for (int i = 0; i < threads; i++)
        sum += l.sums[i * 8];
    for (int64_t i = 0; i < tasks; i++)
        assert_int_equal(l.runs[i], 1);
    assert_int_equal(sum, tasks * (tasks - 1) / 2);
    assert_int_equal(atomic_load(&l.bad), 0);
    free(l.runs);
    free(l.sums);
}

static void each_task_runs_once_whatever_the_number_of_threads(void **state)
{
    static const int threads[] = {1, 2, 3, 8, 33};
    static const int64_t tasks[] = {0, 1, 2, 7, 1000};
    for (size_t t = 0; t < sizeof threads / sizeof threads[0]; t++) {
        pool *p = started(threads[t]);
        for (size_t i = 0; i < sizeof tasks / sizeof tasks[0]; i++)
            check_loop(p, tasks[i]);
        pool_free(p);
    }
}

static void many_short_loops_in_a_row_lose_nothing(void **state)
{
    static const int threads[] = {2, 5};
    for (size_t t = 0; t < sizeof threads / sizeof threads[0]; t++) {
        pool *p = started(threads[t]);
        for (int i = 0; i < 5000; i++)
            check_loop(p, 2 + i % 7);
        pool_free(p);
    }
}

static void loops_after_a_pause_wake_the_sleepers(void **state)
{
    pool *p = started(3);
    for (int i = 0; i < 20; i++) {
        usleep(i * 40); /* from spinning to fast asleep */
        check_loop(p, 64);
    }
    pool_free(p);
}

struct meeting {
    atomic_int arrived;
    int expected;
};

static void meet(void *ctx, int64_t task, int worker)
{
    struct meeting *m = ctx;
    atomic_fetch_add(&m->arrived, 1);
    while (atomic_load(&m->arrived) < m->expected)
        sched_yield();
}

static void tasks_run_at_the_same_time_on_all_threads(void **state)
{
    pool *p = started(4);
    for (int i = 0; i < 50; i++) {
        struct meeting m = {.expected = 4}; /* ends only if four threads are in it together */
        pool_run(p, 4, meet, &m);
        assert_int_equal(atomic_load(&m.arrived), 4);
    }
    pool_free(p);
}

static void *run_loops(void *arg)
{
    pool *p = started(2);
    for (int i = 0; i < 500; i++)
        check_loop(p, 5);
    pool_free(p);
    return NULL;
}

static void pools_of_different_callers_do_not_meet(void **state)
{
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, run_loops, NULL), 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
}

static void a_pool_ends_in_any_state(void **state)
{
    for (int i = 0; i < 50; i++) {
        pool *p = started(3);
        if (i & 1)
            check_loop(p, 3);
        if (i & 2)
            usleep(200);
        pool_free(p);
    }
    pool_free(NULL);
}

static void a_silly_number_of_threads_is_refused(void **state)
{
    pool *p = NULL;
    odmoe_error err = {0};
    assert_int_equal(pool_create(0, &p, &err), ODMOE_ERR_RANGE);
    assert_non_null(strstr(err.message, "0 threads"));
    assert_int_equal(pool_create(1025, &p, &err), ODMOE_ERR_RANGE);
    assert_null(p);
}

/* Handlers are the program's: with its own threads blocking a signal, nobody of the pool may take it. */
static void a_signal_to_the_process_is_left_to_its_own_threads(void **state)
{
    pool *p = started(3);
    sigset_t usr1, waiting, before;
    int got = 0;
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &usr1, &before);
    assert_int_equal(kill(getpid(), SIGUSR1), 0); /* would end the process in a thread that does not block it */
    assert_int_equal(sigpending(&waiting), 0);
    assert_true(sigismember(&waiting, SIGUSR1));
    assert_int_equal(sigwait(&usr1, &got), 0);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pool_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_task_runs_once_whatever_the_number_of_threads),
        cmocka_unit_test(many_short_loops_in_a_row_lose_nothing),
        cmocka_unit_test(loops_after_a_pause_wake_the_sleepers),
        cmocka_unit_test(tasks_run_at_the_same_time_on_all_threads),
        cmocka_unit_test(pools_of_different_callers_do_not_meet),
        cmocka_unit_test(a_pool_ends_in_any_state),
        cmocka_unit_test(a_signal_to_the_process_is_left_to_its_own_threads),
        cmocka_unit_test(a_silly_number_of_threads_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
