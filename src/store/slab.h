/* slab.h - which bytes of the slab belong to which expert: regions, each cut into slots of one size. Numbers only, no
 * memory.
 *
 *   slab    | region 0            | region 1            | region 2            | rest  |
 *   cut to    [big ][big ][big ]    [sm][sm][sm][sm][sm]  uncut                 [sm]
 *
 * Expert sizes are rounded up to a few size classes (class 0 is the largest expert). A region is as long as k of the
 * largest experts, k chosen so that little of it is lost whichever class it is cut to. A region without occupied slots
 * may be cut anew, to any class. Every whole region holds at least one expert of any size; so as long as one region can
 * be emptied, any expert finds room, wherever pins lie elsewhere: that is what store_floor rests on.
 */
#ifndef ODMOE_STORE_SLAB_H
#define ODMOE_STORE_SLAB_H

#include "base/status.h"

#define SLAB_CLASSES_MAX 16 /* more would leave too few regions for each */

typedef struct slab_region {
    uint64_t at, bytes;
    int32_t first;        /* its slots are numbered from here */
    int32_t size_class;   /* -1: uncut */
    int32_t slots, taken; /* as it is cut now */
} slab_region;

typedef struct slab {
    uint64_t bytes;
    int32_t classes, regions, slots; /* slots: numbers given out at most, whatever the cut */
    uint64_t *class_bytes;           /* [classes] descending */
    uint16_t *class_of;              /* [ids] */
    slab_region *region;             /* [regions] */
    int32_t *owner;                  /* [slots] id, or -1 */
    int32_t *next_free;              /* [slots] */
    int32_t *first_free;             /* [classes] a list of free slots each, -1 ends it */
    int32_t *region_of;              /* [slots] */
    int32_t empty_regions;
} slab;

/* slab_init - for ids whose slots need need[id] bytes each (multiples of LAYOUT_ALIGN, > 0). bytes must hold the
 * largest. ERR_MEMORY, ERR_BUDGET. slab_clear frees what it holds; fine after a failed init. */
odmoe_status slab_init(slab *s, uint64_t bytes, const uint64_t *need, int32_t ids, odmoe_error *err);
void slab_clear(slab *s);

/* slab_take - a slot for `id`: a free one of its class, else an empty region is cut for it; -1: none.
 * slab_give - it is free again. slab_region_fits - could this region, once empty, be cut for `id`. */
int32_t slab_take(slab *s, int32_t id);
void slab_give(slab *s, int32_t slot);
int slab_region_fits(const slab *s, int32_t region, int32_t id);

/* Where a slot begins in the slab, and how long it is. */
uint64_t slab_at(const slab *s, int32_t slot);
uint64_t slab_slot_bytes(const slab *s, int32_t id);

/* slab_holds_all - is there a slot for each of ids [0, n) at once. */
int slab_holds_all(const slab *s, int32_t n);

/* slab_bytes_for_all - the bytes of a slab that holds all ids at once, in whatever order they come. ERR_MEMORY,
 * ERR_RANGE: more than 2^64. */
odmoe_status slab_bytes_for_all(const uint64_t *need, int32_t ids, uint64_t *bytes, odmoe_error *err);

/* slab_heap_bytes - what slab_init allocates at most, for a plan. */
uint64_t slab_heap_bytes(uint64_t bytes, uint64_t smallest, uint64_t largest, int32_t ids);

/* slab_check - lists, owners and counts agree; 0 and a message's worth in *what when not. For debug builds. */
int slab_check(const slab *s, const char **what);

#endif
