/* pages.h - memory for keys and values: pages of PAGE_POSITIONS positions of one layer, counted and shared.
 *
 * Layers whose pages have the same size share a class. A class is one allocation, cut into pages; a page has as many
 * holders as tables of sessions and snapshots name it, and returns to the free list with the last one.
 *
 *   taken (1 holder) -> shared (more) -> ... -> free
 *
 * A session is promised pages when it is created, so that it can grow to its context whatever other sessions do: the
 * pool keeps `free >= owed`, the sum of what sessions are promised and do not hold yet. Holding another session's page
 * costs nothing; a page that one session drops while another holds it is no longer owed to the one that dropped it.
 *
 * Threads: any; the pool has a lock of its own, held for a few instructions. */
#ifndef ODMOE_MODEL_PAGES_H
#define ODMOE_MODEL_PAGES_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

#define PAGE_POSITIONS 64
#define PAGE_CLASSES_MAX 8

static inline int64_t pages_for(int64_t positions)
{
    return (positions + PAGE_POSITIONS - 1) / PAGE_POSITIONS;
}

/* How many pages of each class something needs, or has. */
typedef struct page_counts {
    int64_t n[PAGE_CLASSES_MAX];
} page_counts;

/* What a session was promised, what its tables hold, and the most that it will ever need. A fork's tables may hold more
 * for a while, all of its source's; what they drop of that is owed to nobody. */
typedef struct page_account {
    page_counts promised, held, most;
} page_account;

typedef struct page_class {
    uint64_t bytes; /* of a page */
    int64_t count, free, owed;
    char *base;        /* [count][bytes] */
    int32_t *holders;  /* [count] */
    int32_t *free_ids; /* [count] a stack of the first `free` */
} page_class;

typedef struct page_pool {
    page_class classes[PAGE_CLASSES_MAX];
    int n_classes;
    pthread_mutex_t lock;
    bool lock_made;
} page_pool;

/* page_pool_bytes - what a pool of these sizes takes, its lists included. page_pool_open - bytes [n_classes] of a page,
 * counts of pages. ERR_MEMORY. page_pool_close - zeroed or failed is fine. */
uint64_t page_pool_bytes(const uint64_t *bytes, const page_counts *counts, int n_classes);
odmoe_status page_pool_open(page_pool *p, const uint64_t *bytes, const page_counts *counts, int n_classes,
                            odmoe_error *err);
void page_pool_close(page_pool *p);

/* pages_promise - promise an account `more` pages besides what it holds or was promised. False: the pool has not so
 * many; nothing changes then. pages_forgive - the account is closed: it holds nothing, and nothing is owed to it. */
bool pages_promise(page_pool *p, page_account *a, const page_counts *more);
void pages_forgive(page_pool *p, page_account *a);
/* pages_unpromised - bytes that no session holds or was promised. */
uint64_t pages_unpromised(page_pool *p);

/* pages_take - a page of zeros; NULL: none is free that is not owed to another. pages_share - hold a page once more.
 * pages_drop - hold it no longer. mine: the account's session holds the page elsewhere itself (in a snapshot, say), so
 * that the further hold is within its promise; another session's page costs it nothing. pages_shared - has the page
 * more than one holder? */
void *pages_take(page_pool *p, page_account *a, int class);
void pages_share(page_pool *p, page_account *a, int class, void *page, bool mine);
void pages_drop(page_pool *p, page_account *a, int class, void *page, bool mine);
bool pages_shared(page_pool *p, int class, const void *page);

#endif
