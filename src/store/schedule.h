/* schedule.h - every number by which the store decides what to read when, how much at a time, and what to give up.
 * How they were found: bench/RESULTS.md, "Store". Results never depend on them, only times do. */
#ifndef ODMOE_STORE_SCHEDULE_H
#define ODMOE_STORE_SCHEDULE_H

/* ---- requests ---- */

/* A large read is cut into parts of at most this size, so that a few experts fill the queue of the disk, and none waits
 * long behind another. */
#define SCHEDULE_PART_BYTES (1024u << 10)

/* Requests in flight: of a ring, and of a pool, where each costs a thread. MAX bounds what a caller may ask for. */
#define SCHEDULE_DEPTH_RING 32
#define SCHEDULE_DEPTH_POOL 12
#define SCHEDULE_DEPTH_MAX 256

/* Times in a row that a request may come back interrupted, refused for now, or with less than one block. */
#define SCHEDULE_RETRIES_MAX 64

/* ---- prefetching ---- */

/* Parts of a speculative read are requested only while fewer bytes (of any priority) are in flight than the disk reads in
 * GAP_SHARE gaps between two fetches (pace.h): the disk does not idle in a gap, one that is longer than most included, even
 * when the I/O thread gets no core at once, and the next fetch's demands soon find it free. With 2 instead of 1.2 more of
 * what is read is wrong (bench/RESULTS.md, "Prefetch"). Never less than the disk reads in TURN_NS, about the time
 * from a request until the I/O thread has seen its result and sent the next: with less in flight the disk idles between
 * results. Within MIN, two parts of small experts, and MAX; FIRST until the disk's speed is known. One part is requested in
 * any case when nothing is in flight. */
#define SCHEDULE_GAP_SHARE 1.2
#define SCHEDULE_TURN_NS 5e5
#define SCHEDULE_WINDOW_MIN (64u << 10)
#define SCHEDULE_WINDOW_FIRST (2u << 20)
#define SCHEDULE_WINDOW_MAX (16u << 20)

/* The disk's speed is measured over PACE_BYTES each time, while at least PACE_FULL bytes are in flight; with less the disk
 * may idle, and such a span counts only as long as there has been none with more (a model of small experts). Of the means
 * of speed and gap, the latest value has the share PACE_NEWEST. Longer gaps than GAP_MAX_NS are pauses between tokens or
 * calls, and do not count. */
#define SCHEDULE_PACE_FULL (2u << 20)
#define SCHEDULE_PACE_BYTES (8u << 20)
#define SCHEDULE_PACE_NEWEST 0.125
#define SCHEDULE_GAP_MAX_NS 1e8

/* Bytes of experts that may be in flight as certain reads: what the disk reads in CERTAIN_NS, so that a demand waits no
 * longer behind them (they are needed anyway); at least MIN, which keeps any disk busy, at most MAX, also while the disk's
 * speed is unknown. */
#define SCHEDULE_CERTAIN_NS 1e7
#define SCHEDULE_CERTAIN_MIN (4u << 20)
#define SCHEDULE_CERTAIN_MAX (32u << 20)

/* Share of the cache that experts may take which are queued, in flight, or read and not used yet: one part in ... */
#define SCHEDULE_CERTAIN_SHARE 2
#define SCHEDULE_SPECULATIVE_SHARE 8

/* Experts of a listed fetch that are read before the caller asks for them, at the expense of hits later in the list:
 * computing one expert must not end before the next one's read has begun. */
#define SCHEDULE_LISTED_AHEAD 1

/* ---- waiting ---- */

/* Looks at the hand-over before a caller sleeps: some microseconds. An expert that is just arriving needs no sleep; more
 * would take a core from computing. */
#define SCHEDULE_SPINS 200

/* ---- room ---- */

/* A region changes over to another size when the policy's choices of its size have been passed over as often as one
 * SIZE_PRESSURE_SHARE-th of the size's slots. Which region: the one with most of the policy's next VICTIMS_LOOKED_AT. */
#define SCHEDULE_SIZE_PRESSURE_SHARE 4
#define SCHEDULE_VICTIMS_LOOKED_AT 64

/* The slab's pages are fetched from the kernel in steps (a huge page), at most AHEAD of what reads have reached: more
 * than one token's misses, and soon touched. */
#define SCHEDULE_PREFAULT_STEP ((size_t)2 << 20)
#define SCHEDULE_PREFAULT_AHEAD ((size_t)256 << 20)

#endif
