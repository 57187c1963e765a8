#include "store/prefault.h"
#include "base/thread.h"
#include "store/schedule.h"

#include <sched.h>
#include <sys/mman.h>

#ifdef MADV_POPULATE_WRITE

/* Wait until the step at `at` is near enough to what reads have reached; false: stop. */
static bool is_wanted(prefault *p, size_t at)
{
    pthread_mutex_lock(&p->lock);
    while (!p->stop && at >= SCHEDULE_PREFAULT_AHEAD && at - SCHEDULE_PREFAULT_AHEAD >= p->reached)
        pthread_cond_wait(&p->more, &p->lock);
    bool wanted = !p->stop;
    pthread_mutex_unlock(&p->lock);
    return wanted;
}

static void *walk(void *ctx)
{
    prefault *p = ctx;
    struct sched_param none = {0};
    pthread_setschedparam(pthread_self(), SCHED_IDLE, &none); /* only time that computing and reads leave over */
    for (size_t at = 0; at < p->bytes && is_wanted(p, at); at += SCHEDULE_PREFAULT_STEP)
        if (madvise(p->memory + at, p->bytes - at < SCHEDULE_PREFAULT_STEP ? p->bytes - at : SCHEDULE_PREFAULT_STEP,
                    MADV_POPULATE_WRITE))
            break; /* an older kernel, or no memory left: reads touch the pages themselves */
    return NULL;
}

void prefault_start(prefault *p, void *memory, size_t bytes)
{
    *p = (prefault){.memory = memory, .bytes = bytes};
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->more, NULL);
    p->started = !thread_start(&p->thread, NULL, walk, p);
}

void prefault_reach(prefault *p, size_t end)
{
    if (!p->started || end <= p->reached) /* only this function's caller changes it */
        return;
    pthread_mutex_lock(&p->lock);
    p->reached = end;
    pthread_cond_signal(&p->more);
    pthread_mutex_unlock(&p->lock);
}

void prefault_stop(prefault *p)
{
    if (!p->memory)
        return;
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_cond_signal(&p->more);
    pthread_mutex_unlock(&p->lock);
    if (p->started)
        pthread_join(p->thread, NULL);
    pthread_cond_destroy(&p->more);
    pthread_mutex_destroy(&p->lock);
    *p = (prefault){0};
}

#else

void prefault_start(prefault *p, void *memory, size_t bytes)
{
    *p = (prefault){0};
}

void prefault_reach(prefault *p, size_t end)
{
}

void prefault_stop(prefault *p)
{
}

#endif
