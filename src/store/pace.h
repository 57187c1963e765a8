/* pace.h - how fast the disk is, and how long it would idle between two fetches: that much may be prefetched at a time.
 *
 *   fetch begins      last demand has arrived            next fetch begins
 *   |--- demands in flight ---|---- gap: computing, attention ----|
 *
 * A speculative read that is in flight when a fetch begins delays the fetch's demands, so no more is in flight than the
 * disk reads in about one gap. Times are those of store_now_ns. No lock: the store's. */
#ifndef ODMOE_STORE_PACE_H
#define ODMOE_STORE_PACE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct read_pace {
    double rate;        /* bytes a ns while the disk has enough to do, a mean of the latest; 0: unknown */
    bool full;          /* the rate was measured with SCHEDULE_PACE_FULL bytes in flight */
    uint64_t bytes, ns; /* of the measurement under way */
    double gap_ns;      /* mean of the latest gaps */
    uint64_t gap_since; /* the gap under way; 0: none */
} read_pace;

/* pace_read - `bytes` have arrived in `ns`, at whose beginning `in_flight` bytes were in flight. */
void pace_read(read_pace *p, uint64_t bytes, uint64_t ns, uint64_t in_flight);
/* pace_drained - no demand is queued or in flight any more. pace_fetch - a fetch begins. */
void pace_drained(read_pace *p, uint64_t now);
void pace_fetch(read_pace *p, uint64_t now);
/* pace_window - bytes that may be in flight, of any priority, when a part of a speculative read is requested. */
uint64_t pace_window(const read_pace *p);
/* pace_certain - bytes of experts that may be in flight as certain reads. */
uint64_t pace_certain(const read_pace *p);

#endif
