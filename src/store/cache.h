/* cache.h - the directory of all experts: what state each is in, which slot it has, and who goes when room is needed.
 * Ids and bytes only; it reads nothing, waits for nothing and has no lock (its caller serialises), so that a replay
 * runs the same code as the store.
 *
 *            enqueue            start              arrived            give / unpin
 *   EMPTY ------------> QUEUED ------> READING -------------> READY (pins >= 0) --.
 *     ^ ^                 |              | | failed, nobody wants it               |
 *     | `-----dequeue-----'              | `------------------> EMPTY              | evict (to make room),
 *     |                                  | failed                                  | invalidate
 *     |                                  `--------> FAILED --unwant (the last)--.  |
 *     `--------------------------------------------------------------------------'--'
 *
 * An open fetch *wants* the experts that it has not been given yet. A wanted expert is never EMPTY: evicting or
 * invalidating one puts it into the demand queue again. Only a read takes a slot; QUEUED has none.
 */
#ifndef ODMOE_STORE_CACHE_H
#define ODMOE_STORE_CACHE_H

#include "store/policy.h"
#include "store/slab.h"
#include "store/store.h"

typedef enum cache_state { CACHE_EMPTY, CACHE_QUEUED, CACHE_READING, CACHE_READY, CACHE_FAILED } cache_state;

typedef struct cache_entry {
    uint8_t state;      /* cache_state */
    uint8_t priority;   /* read_priority of the queue or read; of a READY one: as which it was read, while unused */
    uint8_t prefetched; /* READY, read ahead and not given to anybody yet */
    uint8_t invalid_when_free; /* READING or pinned READY, invalidated: goes when it can */
    int32_t slot;              /* READING and READY; else -1 */
    int32_t pins;              /* READY only */
    int32_t waiters;           /* open fetches that will still ask for it */
    int32_t order;             /* how late in its fetch it is wanted; a forced eviction takes the latest */
    int32_t prev, next;        /* in the queue of its class (QUEUED) or the list of unused (unused); -1 ends */
    int32_t error;             /* FAILED: what the read said */
} cache_entry;

typedef struct cache_list {
    int32_t first, last;
    uint64_t bytes;
} cache_list;

typedef struct cache {
    int32_t layers, experts, ids;
    cache_entry *entry; /* [ids] */
    slab slab;
    policy *policy;
    cache_list queue[READ_PRIORITY_COUNT];
    cache_list prefetched[READ_PRIORITY_COUNT]; /* READY, read ahead, not used; demand's is always empty */
    uint64_t reading_bytes[READ_PRIORITY_COUNT];
    uint64_t ready_bytes, evictions;
    int32_t size_pressure[SLAB_CLASSES_MAX]
                         [SLAB_CLASSES_MAX]; /* [a][b]: evicted from b because b needed room, rather than
                                                           from a as the policy would have it; less the reverse */
} cache;

/* cache_init - need[layer * experts + expert]: slot bytes of each id; of `bytes` no more are used than hold all ids
 * (slab.bytes). cache_clear takes a failed or zeroed one. */
odmoe_status cache_init(cache *c, int layers, int experts, const uint64_t *need, uint64_t bytes, const policy_ops *ops,
                        odmoe_error *err);
void cache_clear(cache *c);
/* what cache_init allocates at most */
uint64_t cache_heap_bytes(int layers, int experts, uint64_t bytes, uint64_t smallest, uint64_t largest,
                          const policy_ops *ops);

/* cache_add_waiter - one more open fetch will ask for id: EMPTY and FAILED ones are queued as demand, queued and running
 * reads promoted to it. cache_drop_waiter - the fetch gives up; a queued one that nobody wants any more is dropped, a FAILED
 * one becomes EMPTY. */
void cache_add_waiter(cache *c, int32_t id, int32_t order);
void cache_drop_waiter(cache *c, int32_t id);

/* cache_enqueue - EMPTY -> QUEUED as a read ahead. cache_dequeue - QUEUED -> EMPTY; not for wanted ones. */
void cache_enqueue(cache *c, int32_t id, read_priority priority);
void cache_dequeue(cache *c, int32_t id);

/* What may be evicted for a read: */
typedef enum evict_scope {
    EVICT_IDLE,    /* what nobody wants */
    EVICT_LATER,   /* else what is wanted later in its fetch, of the same size */
    EVICT_UNPINNED /* anything that is not pinned */
} evict_scope;

/* cache_start - QUEUED -> READING: take a slot, evicting what `force` allows if need be. False, and nothing evicted,
 * when there is no room. */
bool cache_start(cache *c, int32_t id, evict_scope force);

/* The read is through. cache_arrived - READING -> READY (a doomed one is dropped, or queued again when wanted).
 * cache_failed - READING -> FAILED when somebody wants it, else EMPTY. cache_retry - READING -> QUEUED as demand. */
void cache_arrived(cache *c, int32_t id);
void cache_failed(cache *c, int32_t id, int error);
void cache_retry(cache *c, int32_t id);

/* cache_give - a fetch that wanted the READY id gets it: pinned, and no longer wanted by it. True when it had been read
 * ahead for nobody (a speculation or certain read that now proves right). cache_unpin undoes the pin. */
bool cache_give(cache *c, int32_t id);
void cache_unpin(cache *c, int32_t id);

/* cache_note - tell the policy how many tokens use an expert. */
void cache_note(cache *c, int32_t id, uint64_t tokens);

/* cache_begin - a fetch of the layer begins, its list is wanted: what was read ahead for the layer and is not wanted no
 * longer counts as unused. cache_invalidate - forget its bytes. */
void cache_begin(cache *c, int layer, fetch_size size);
void cache_invalidate(cache *c, int32_t id);

/* READY, and its bytes may be given out. */
static inline bool cache_is_ready(const cache *c, int32_t id)
{
    return c->entry[id].state == CACHE_READY && !c->entry[id].invalid_when_free;
}

#ifndef NDEBUG
/* cache_check - every invariant of the directory; false and a message when one is broken. O(ids). */
bool cache_check(const cache *c, const char **what);
#endif

#endif
