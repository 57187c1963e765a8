/* prefault.h - gets the slab's pages from the kernel before reads need them.
 *
 * The first touch of a page costs time: the kernel clears it, and in a virtual machine the host may have to find it
 * first (0.3 GB/s instead of 6, measured). A direct read touches inside the system call that submits it, one read after
 * the other, and the disk idles meanwhile. A thread that walks ahead, with what processor time nobody else wants, takes
 * this out of the way. It keeps a distance from what reads have reached and no more: clearing takes memory bandwidth
 * from computing even where it takes no time, and what is never read need not be touched. It ends when all is touched.
 * Without it everything works the same, only the first reads are slower.
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

/* prefault_start - in the background; quietly does nothing where the kernel can't. prefault_stop - before the memory is
 * freed; fine without a start (of a prefault that is all zero). */
void prefault_start(prefault *p, void *memory, size_t bytes);
/* prefault_reach - a read goes to a slot that ends there. From one thread at a time; returns at once. */
void prefault_reach(prefault *p, size_t end);
void prefault_stop(prefault *p);

#endif
