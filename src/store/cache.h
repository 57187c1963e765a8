/* cache.h - the directory of all experts: the state of each, its slot, and which one is evicted when room is needed. It
 * knows ids and bytes only; it reads nothing, waits for nothing and has no lock (its caller serialises), so that a replay
 * of a trace runs the same code as the store.
 *
 *            enqueue            start              arrived            give / unpin
 *   EMPTY ------------> QUEUED ------> READING -------------> READY (pins >= 0) --.
 *     ^ ^                 |              | | failed, no waiters                    |
 *     | `-----dequeue-----'              | `------------------> EMPTY              | evict (to make room),
 *     |                                  | failed                                  | invalidate
 *     |                                  `--------> FAILED --drop_waiter (last)-.  |
 *     `-------------------------------------------------------------------------'--'
 *
 * An open fetch *waits for* the experts that it has not been given yet. An expert with waiters is never EMPTY: when it is
 * evicted or invalidated, it goes back into the demand queue. Only reading takes a slot; a QUEUED expert has none.
 */
#ifndef ODMOE_STORE_CACHE_H
#define ODMOE_STORE_CACHE_H

#include "store/policy.h"
#include "store/slab.h"
#include "store/store.h"

typedef enum cache_state { CACHE_EMPTY, CACHE_QUEUED, CACHE_READING, CACHE_READY, CACHE_FAILED } cache_state;

typedef struct cache_entry {
    uint8_t state;             /* cache_state */
    uint8_t priority;          /* read_priority: of the queue or the read; of a prefetched READY expert, of its read */
    uint8_t prefetched;        /* READY, read before any fetch waited for it, and not given to one yet */
    uint8_t invalid_when_free; /* READING or pinned READY, invalidated: dropped when the read or the last pin ends */
    int32_t slot;              /* READING and READY; else -1 */
    int32_t pins;              /* READY only */
    int32_t waiters;           /* open fetches that have not been given it yet */
    int32_t order;             /* position in the list of the fetch that needs it soonest */
    int32_t prev, next;        /* in the queue of its priority (QUEUED) or the list of prefetched experts; -1 ends */
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
    cache_list prefetched[READ_PRIORITY_COUNT]; /* READY and prefetched; demand's is always empty */
    uint64_t reading_bytes[READ_PRIORITY_COUNT];
    int32_t latest_layer; /* whose fetch began last */
    uint64_t ready_bytes, evictions;
    /* [a][b]: times that size class b gave up an expert although the policy chose one of class a; minus the opposite */
    int32_t size_pressure[SLAB_CLASSES_MAX][SLAB_CLASSES_MAX];
} cache;

/* cache_init - need[layer * experts + expert]: slot bytes of each id; of `bytes` no more are used than hold all ids
 * (slab.bytes). cache_clear takes a failed or zeroed one. */
odmoe_status cache_init(cache *c, int layers, int experts, const uint64_t *need, uint64_t bytes, const policy_ops *ops,
                        odmoe_error *err);
void cache_clear(cache *c);
/* what cache_init allocates at most */
uint64_t cache_heap_bytes(int layers, int experts, uint64_t bytes, uint64_t smallest, uint64_t largest,
                          const policy_ops *ops);

/* cache_add_waiter - one more open fetch waits for id, at this position of its list: an EMPTY or FAILED expert is queued
 * as demand, a queued or running read is promoted to demand. cache_drop_waiter - the fetch gives up: without waiters a
 * queued expert becomes EMPTY, a FAILED one, too. */
void cache_add_waiter(cache *c, int32_t id, int32_t order);
void cache_drop_waiter(cache *c, int32_t id);

/* cache_layers_until - layers from the one whose fetch began last to id's: 0 for the next one. */
int32_t cache_layers_until(const cache *c, int32_t id);

/* cache_enqueue - EMPTY -> QUEUED, for prefetching: behind experts of the same layer and of layers that come sooner,
 * counted from the layer whose fetch began last. cache_dequeue - QUEUED -> EMPTY; not for experts with waiters. */
void cache_enqueue(cache *c, int32_t id, read_priority priority);
void cache_dequeue(cache *c, int32_t id);

/* What may be evicted for a read: */
typedef enum evict_scope {
    EVICT_IDLE,    /* experts without pins, waiters and protection (of what was read as CERTAIN) */
    EVICT_LATER,   /* else an expert of the same size that is later in its fetch's list */
    EVICT_UNPINNED /* anything that is not pinned */
} evict_scope;

/* cache_start - QUEUED -> READING: take a slot, evicting what `scope` allows if need be. False, and nothing evicted, when
 * there is no room. */
bool cache_start(cache *c, int32_t id, evict_scope scope);

/* The read has ended. cache_arrived - READING -> READY (an invalidated expert is dropped, or queued again for its
 * waiters). cache_failed - READING -> FAILED when there are waiters, else EMPTY. cache_retry - READING -> QUEUED as
 * demand. */
void cache_arrived(cache *c, int32_t id);
void cache_failed(cache *c, int32_t id, int error);
void cache_retry(cache *c, int32_t id);

/* cache_give - a fetch that waits for the READY id gets it: pinned, one waiter less. True when it was prefetched: the
 * prediction was right. cache_unpin undoes the pin. */
bool cache_give(cache *c, int32_t id);
void cache_unpin(cache *c, int32_t id);

/* cache_note - tell the policy how many tokens use an expert. */
void cache_note(cache *c, int32_t id, uint64_t tokens);

/* cache_begin - a fetch of the layer begins, and waits for its list already: what was prefetched for the layer and is not
 * waited for no longer counts as prefetched. cache_invalidate - forget an expert's bytes. */
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
