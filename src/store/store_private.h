/* store_private.h - what store.c, fetch.c (the callers' threads) and reader.c (the I/O thread) share.
 *
 * One mutex guards everything here but the back end, which belongs to the I/O thread. It is never held during a system
 * call that may wait; critical sections are a few list operations, and one walk of the policy when room is needed.
 */
#ifndef ODMOE_STORE_STORE_PRIVATE_H
#define ODMOE_STORE_STORE_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "store/cache.h"
#include "store/io.h"
#include "store/layout.h"
#include "store/pace.h"
#include "store/prefault.h"

#define IO_ENDED (-1) /* an error code besides errno's: the file is shorter than it was */

typedef struct read_request {
    io_request io; /* first: the back end gives this back */
    int32_t owner[IO_IOV_MAX];
    int32_t held;    /* buffers behind io.iov[io.iovs - 1] that are requested after the ones before them */
    int32_t retries; /* without progress */
    struct read_request *next;
} read_request;

/* Per (layer, expert), besides its cache_entry. */
typedef struct store_expert {
    store_counters counters;
    int32_t parts; /* requests in flight for it */
    int32_t error; /* of its read under way, 0: none yet */
    int32_t error_file;
    uint8_t started_as;  /* read_priority when the read began */
    uint8_t late_waiter; /* a fetch began to wait for a read that an earlier fetch had abandoned */
    uint8_t truncated;   /* left before all its parts were requested: the bytes are not complete */
} store_expert;

enum { EXPERT_NONE = -1 };

/* What an expert of the layer is to a fetch. */
enum {
    MEMBER_DONE = 0, /* not asked for; pinned or reported already; given up */
    MEMBER_WAITING,  /* the fetch waits for it */
    MEMBER_ARRIVED   /* the same, and it is in `ready` */
};

struct store_fetch {
    store *s;
    store_fetch *prev, *next; /* open fetches, or (next only) the free ones */
    int layer, n, given;      /* given: members that are done */
    fetch_order order;
    int pins;
    uint64_t stalled;       /* ns that its caller has slept */
    bool cancelled;         /* store_fetch_cancel */
    atomic_bool blocked;    /* its caller sleeps in store_fetch_next */
    bool deadlocked;        /* ...and all fetches that hold pins sleep, too */
    int32_t handed_over;    /* expert that the I/O thread has pinned for the sleeping caller, or EXPERT_NONE */
    int32_t arrived, taken; /* counts of `ready` */
    int32_t cursor;         /* FETCH_LISTED: position of the next to take */
    pthread_cond_t wake;
    int32_t *list;   /* [n] experts as asked for */
    int32_t *ready;  /* ring of [experts]: experts in order of arrival; some may have been evicted since */
    uint8_t *member; /* [experts] MEMBER_... */
};

/* An expert whose parts are being requested, and how far. */
typedef struct read_cursor {
    int32_t id; /* -1: none */
    int32_t range;
    bool cancelled;
    uint64_t done; /* bytes of that range */
    expert_layout layout;
} read_cursor;

struct store {
    const expert_index *index;
    int layers, experts;
    uint8_t *memory; /* the slab */
    uint64_t cache_bytes;
    prefault prefault;
    io_source source;

    pthread_mutex_t lock;
    cache cache;
    store_expert *expert;                   /* [layers * experts] */
    uint64_t (*stalls)[STORE_STALL_RANGES]; /* [layers] */
    store_fetch *open, *spare;
    store_totals totals; /* the sums; filled up by store_totals_get */

    /* the I/O thread */
    pthread_t thread;
    bool started, stop, idle, reaping, woken, work;
    pthread_cond_t new_work, went_idle;
    read_request *requests, *free_requests;
    io_request **outbox, **inbox; /* [depth] */
    read_request *retry;          /* to be given to the back end once more */
    int in_flight;
    uint64_t bytes_in_flight; /* bytes of the requests in flight */
    uint64_t busy_since;      /* ns */
    uint64_t paced;           /* ns: up to when reads in flight have been measured */
    read_pace pace;
    read_cursor cursor, suspended; /* suspended: a speculative read that gave way to demands */
};

/* store_kick - wake the I/O thread: there may be something to read. Lock held. */
void store_kick(store *s);

/* store_note_drained - tell the pace if no demand is queued or in flight. Lock held. */
void store_note_drained(store *s);

/* reader_start, reader_stop - the I/O thread's life. reader_heap_bytes: its requests. */
odmoe_status reader_start(store *s, odmoe_error *err);
void reader_stop(store *s);
uint64_t reader_heap_bytes(int depth);

/* The same if anything is queued: there may be room for it now. Lock held. */
void store_kick_queued(store *s);

/* The heap bytes of a fetch, and its end. */
uint64_t store_fetch_heap_bytes(int experts);
void store_fetch_free(store_fetch *f);

/* The I/O thread tells the fetches (lock held): an expert is READY; its read has failed; no read is in flight and none
 * can begin. */
void store_on_ready(store *s, int32_t id);
void store_on_failed(store *s, int32_t id);
void store_on_idle_disk(store *s);

/* store_start_blocked - *waiting: does a caller sleep for an expert that is only QUEUED. If so, begin to read one such
 * expert (READING now, at the expense of anything that is not pinned) and return its id; -1: there is no room for any.
 * Lock held. */
int32_t store_start_blocked(store *s, bool *waiting);

/* store_fetch_is_near - id is queued for a fetch in listed order, and so near the caller's place in the list that the
 * caller would have to wait if its read did not begin now. Lock held. */
bool store_fetch_is_near(const store *s, int32_t id);

/* How many bytes of a priority may be in flight, and queued, in flight or read and not used altogether. */
uint64_t store_flight_cap(const store *s, read_priority priority);
uint64_t store_unused_cap(const store *s, read_priority priority);

uint64_t store_now_ns(void);

#ifndef NDEBUG
void store_check(const store *s);
#else
#define store_check(s) ((void)0)
#endif

#endif
