/* thread.h - starting a thread of the library's own. */
#ifndef ODMOE_BASE_THREAD_H
#define ODMOE_BASE_THREAD_H

#include <pthread.h>

/* thread_start - as pthread_create, but the thread gets none of the signals that are sent to the process: their
 * handlers are the program's, and expect a thread of the program's. Those that a thread brings on itself (SIGSEGV and
 * the like) and SIGPROF stay as they are. attr may be NULL. An errno, or 0. */
int thread_start(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg);

/* thread_short_slices - the calling thread runs for microseconds at a time and sleeps in between: ask the scheduler for
 * short slices, so that it runs at once when it wakes, also where threads that compute have all processors. Needs no
 * rights; kernels before Linux 6.12 take no notice. */
void thread_short_slices(void);

#endif
