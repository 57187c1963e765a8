#include "store/populate.h"

#include <sched.h>
#include <sys/mman.h>

#define STEP ((size_t)2 << 20) /* between two looks at `stop`; a huge page */

static void *walk(void *ctx)
{
#ifdef MADV_POPULATE_WRITE
    populate *p = ctx;
    struct sched_param none = {0};
    pthread_setschedparam(pthread_self(), SCHED_IDLE, &none); /* only what compute and reads leave over */
    for (size_t at = 0; at < p->bytes && !atomic_load(&p->stop); at += STEP)
        if (madvise(p->memory + at, p->bytes - at < STEP ? p->bytes - at : STEP, MADV_POPULATE_WRITE))
            break; /* an older kernel, or no memory left: the reads will see */
#else
    (void)ctx;
#endif
    return NULL;
}

void populate_start(populate *p, void *memory, size_t bytes)
{
    p->memory = memory;
    p->bytes = bytes;
    atomic_init(&p->stop, false);
    p->started = !pthread_create(&p->thread, NULL, walk, p);
}

void populate_stop(populate *p)
{
    atomic_store(&p->stop, true);
    if (p->started)
        pthread_join(p->thread, NULL);
    p->started = false;
}
