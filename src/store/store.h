/* store.h - experts on demand: a cache of fixed size over direct reads. It moves bytes and knows no arithmetic.
 *
 * A fetch asks for experts of one layer. They come pinned from store_fetch_next; the caller computes and releases them.
 * A fetch may ask for more than the cache holds: room for one expert is enough to get through, as long as the caller
 * releases each expert before it asks for the next. States of an expert: cache.h; how it all works: README.md.
 */
#ifndef ODMOE_STORE_STORE_H
#define ODMOE_STORE_STORE_H

#include "store/expert_index.h"
#include "store/fetch_size.h"

typedef struct store store;
typedef struct store_fetch store_fetch;
typedef struct store_io store_io; /* a back end: io.h */

typedef enum read_priority {
    READ_DEMAND,      /* a fetch waits for it */
    READ_CERTAIN,     /* will be needed: the rest of a prompt's layer, the next layer when nearly all will be needed */
    READ_SPECULATIVE, /* predicted, and may be wrong */
    READ_PRIORITY_COUNT
} read_priority;

typedef enum fetch_order {
    FETCH_ARRIVAL, /* hits first, then as reads complete */
    FETCH_LISTED   /* in the order of the list */
} fetch_order;

typedef enum io_mode { IO_AUTO, IO_URING, IO_PREAD, IO_BUFFERED } io_mode;

#define EXPERT_NOT_YET (-2)

/* A pinned expert: data[i] are the bytes of extents[i], at any byte alignment; read-only; valid until released. */
typedef struct pinned_expert {
    int32_t layer, expert; /* expert -1: the fetch is through; EXPERT_NOT_YET: see store_fetch_poll */
    int32_t n;
    const expert_extent *extents; /* [n] the index's */
    const void *data[EXPERT_EXTENTS_MAX];
    int32_t slot; /* the store's own */
} pinned_expert;

typedef struct store_options {
    uint64_t cache_bytes; /* the slab: every byte that cached experts and reads in flight will ever use; at most
                             store_bytes_for_all are taken */
    io_mode io;
    const char *policy;          /* a name from policy.h; NULL or "auto": the best measured */
    int io_depth;                /* requests in flight at most; 0: the default of the back end */
    const store_io *io_override; /* tests: an injected back end; NULL otherwise */
} store_options;

/* store_floor - the smallest cache_bytes with which store_open succeeds for this index: room for the largest expert,
 * alignment included; a fetch that releases before it asks for the next gets through with it. store_bytes_for(n) - what
 * n of the largest experts need, alignment included: n of one layer can then be pinned at the same time, if the layer's
 * experts are of about equal size (README.md, "Room"). */
uint64_t store_floor(const expert_index *index);
uint64_t store_bytes_for(const expert_index *index, int64_t n);
/* store_bytes_for_all - cache_bytes with which nothing is ever read twice, in whatever order experts come; more are of
 * no use. The index has been checked (expert_index_check). ERR_MEMORY, ERR_RANGE. */
odmoe_status store_bytes_for_all(const expert_index *index, uint64_t *bytes, odmoe_error *err);
/* store_overhead - heap bytes besides the slab (directory, queues, back end) for a plan, before anything is opened. */
uint64_t store_overhead(const expert_index *index, const store_options *options);

/* store_open - open the files of `tensors` that hold experts, choose a back end, allocate the slab, start the I/O
 * thread. index and tensors are borrowed until store_close. Errors: ERR_BUDGET (below store_floor; the message has the
 * figure), ERR_IO, ERR_UNSUPPORTED (an io mode asked for and refused by this kernel or file system; IO_AUTO falls
 * back), ERR_ARG (unknown policy: the message lists them). */
odmoe_status store_open(const expert_index *index, const tensor_index *tensors, const store_options *options,
                        store **out, odmoe_error *err);
void store_close(store *s); /* waits for reads in flight; no fetch may be open */

/* What a fetch asks for. */
typedef struct fetch_request {
    int32_t layer, n;       /* n different experts of a MoE layer */
    const int32_t *experts; /* [n] borrowed for the call */
    fetch_order order;
    fetch_size size; /* of the forward pass that needs the experts; cache policies learn from it */
} fetch_request;

/* store_fetch_begin - ask for experts of a layer. All missing ones are queued at once, as far as there is room.
 * One fetch holds no more than its pins; several fetches may be open (from one or several threads).
 * Errors: ERR_RANGE for ids, for an expert that is listed twice, and for sizes below 1; ERR_MEMORY. */
odmoe_status store_fetch_begin(store *s, const fetch_request *request, store_fetch **out, odmoe_error *err);

/* store_fetch_next - wait for the next expert and pin it; out->expert < 0 once all n have been taken. Sleeps as long as
 * the reads take.
 * Errors: ERR_IO, "layer 3, expert 17: FILE: ...": the read of out->expert failed. That expert is not cached and no
 *         longer part of this fetch; a new fetch reads it anew. The fetch goes on with its other experts, and other
 *         fetches are not affected, but for those that wait for the same expert: each gets the error once.
 *         ERR_STATE: the cache is full of pins, those of this fetch among them: release some, then ask again.
 *         ERR_CANCELLED: store_fetch_cancel was called; the fetch can only be ended. */
odmoe_status store_fetch_next(store_fetch *f, pinned_expert *out, odmoe_error *err);

/* store_fetch_poll - the same without sleeping: out->expert is EXPERT_NOT_YET where store_fetch_next would sleep or
 * report a failed read. For callers that compute several experts at once when several are there. */
odmoe_status store_fetch_poll(store_fetch *f, pinned_expert *out, odmoe_error *err);

/* store_fetch_release - unpin. Experts of one fetch may be released in any order, by any thread. */
void store_fetch_release(store_fetch *f, const pinned_expert *expert);

/* store_fetch_cancel - from any thread, while the fetch is open: a caller that sleeps in store_fetch_next returns at
 * once, whatever the disk does. Reads that have not begun are taken back. Pins stay. */
void store_fetch_cancel(store_fetch *f);

/* store_fetch_end - stop waiting for what is left, after errors too: queued reads are taken back, reads under way are
 * abandoned; frees the fetch. All pinned experts must have been released. NULL is fine. */
void store_fetch_end(store_fetch *f);

/* store_prefetch - read experts that no fetch waits for yet, best first, with a priority other than READ_DEMAND. Takes
 * what fits under the priority's caps (README.md, "Priorities"), skips what is cached or under way and ids that don't
 * exist; never waits, never fails. The list replaces an earlier one for the same layer and priority: what has not been
 * read yet and is not in the new list is taken back. Layers are read in the order in which they come after the layer
 * whose fetch began last; where the cap is reached, later layers give way.
 * store_cancel - take back what is QUEUED with that priority for the layer (-1: all layers), and of what is being read
 * the parts that have not been requested yet; the rest completes, and its room counts until then. */
void store_prefetch(store *s, int layer, const int32_t *experts, int n, read_priority priority);
void store_cancel(store *s, int layer, read_priority priority);

/* store_missing - would this expert have to be read: it exists, and is neither cached nor asked for. The answer may be
 * out of date at once; for deciding what to prefetch. */
bool store_missing(store *s, int layer, int expert);

/* store_invalidate - forget what is cached of an expert, or of all (expert -1, layer -1): the file has changed. Pinned
 * ones go when their last pin does. */
void store_invalidate(store *s, int layer, int expert);

/* store_disk_speed - bytes a second that the disk gives while it has enough to do, a mean of the latest; 0: not known yet.
 * A model of small experts may never give the disk enough; then it is what its reads got. Any thread. */
uint64_t store_disk_speed(store *s);

/* store_wait_idle - sleep until no read is in flight and none can begin. For tests and benchmarks. */
void store_wait_idle(store *s);

/* store_holds_all - does the cache have room for every expert (then nothing is ever evicted). */
bool store_holds_all(const store *s);

/* ---- telemetry: always on, counters only ---- */
typedef struct store_counters {
    uint64_t uses;         /* (token, expert) pairs; the layer adds them with store_note_uses */
    uint64_t hits, misses; /* fetched experts: found READY at begin, or not */
    uint64_t bytes;        /* read from the disk for it, speculative reads included */
    uint64_t stall_ns;     /* store_fetch_next waited for it */
} store_counters;

/* What the fetches of a layer came to: the sum of its experts, and how many of the fetches waited for the disk for at most
 * 1 ms, 10 ms, 0.1 s, 1 s, 10 s, or longer. */
#define STORE_STALL_RANGES 6
typedef struct store_layer_counters {
    store_counters sum;
    uint64_t stalls[STORE_STALL_RANGES];
} store_layer_counters;

typedef struct store_totals {
    store_counters sum;
    uint64_t reads;             /* requests given to the back end */
    uint64_t bytes_read;        /* expert bytes that arrived, alignment not counted */
    uint64_t bytes_transferred; /* with alignment */
    uint64_t read_ns;           /* time during which at least one read was in flight */
    uint64_t stall_ns;
    uint64_t speculative_bytes, speculative_used_bytes, speculative_late; /* used: a fetch asked for it before
                                                                            it was evicted; late: while it was
                                                                            still being read */
    uint64_t evictions;
    uint64_t cache_bytes; /* slab */
    uint64_t used_bytes;  /* READY and READING now */
    const char *io;       /* the back end in use: "uring", "pread", "buffered" */
    const char *policy;
} store_totals;

/* store_note_uses - count that `uses` tokens use an expert that a fetch names. The policy learns from this count. */
void store_note_uses(store *s, int layer, int expert, uint64_t uses);
void store_totals_get(const store *s, store_totals *out);
void store_counters_get(const store *s, int layer, int expert, store_counters *out);
/* store_layer_counters_get - of one layer. store_is_cached - could the expert be given at once? */
void store_layer_counters_get(const store *s, int layer, store_layer_counters *out);
bool store_is_cached(const store *s, int layer, int expert);
void store_counters_reset(store *s);

#endif
