/* thread.h - threads that take no signals: those that are sent to the process stay with the main thread. */
#ifndef ODMOE_SERVER_THREAD_H
#define ODMOE_SERVER_THREAD_H

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>

/* thread_start - false: the system gives none. */
static inline bool thread_start(pthread_t *thread, void *(*run)(void *user), void *user)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool ok = !pthread_create(thread, NULL, run, user);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return ok;
}

#endif
