/* prefault.h - gets the slab's pages from the kernel before reads need them.
 *
 * The first touch of a page costs time: the kernel clears the page, and in a virtual machine the host may have to find
 * memory first (0.3 GB/s instead of 6, measured). A direct read touches pages inside the system call that submits it, one
 * read after the other, while the disk idles. So a thread of idle priority touches pages ahead of the reads. It stays
 * within SCHEDULE_PREFAULT_AHEAD of the slots that reads have been given: clearing takes memory bandwidth from computing,
 * and pages that are never read into need not be touched. The thread ends when all pages are touched. Without it
 * everything works the same, only the first reads are slower.
 */
#ifndef ODMOE_STORE_PREFAULT_H
#define ODMOE_STORE_PREFAULT_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct prefault {
    unsigned char *memory;
    size_t bytes;
    pthread_t thread;
    bool started;
    pthread_mutex_t lock;
    pthread_cond_t more; /* reached has grown, or stop is set */
    size_t reached;      /* where the slots end that reads have been given */
    bool stop;
} prefault;

/* prefault_start - in the background; does nothing where the kernel cannot populate pages. prefault_stop - before the
 * memory is freed; a zeroed prefault is fine. */
void prefault_start(prefault *p, void *memory, size_t bytes);
/* prefault_reach - a read goes to a slot that ends at `end`. From one thread at a time; returns at once. */
void prefault_reach(prefault *p, size_t end);
void prefault_stop(prefault *p);

#endif
