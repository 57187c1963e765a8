/* layout.h - how an expert lies in memory: which aligned ranges of which files are read, and where its extents are then.
 *
 *   file   ----|--------|--------|--------|--------|-----     | = multiples of LAYOUT_ALIGN
 *                  [ extent 0 ....... ][ extent 1  ]
 *               <------------- range -------------->          read whole, straight into the slot
 *
 * Each extent lies in an aligned range around it. Extents whose ranges touch or overlap (experts stored one by one)
 * share a range, so that they are one read and no block is read twice. The ranges of an expert share a slot of the slab;
 * only this file knows that.
 */
#ifndef ODMOE_STORE_LAYOUT_H
#define ODMOE_STORE_LAYOUT_H

#include "store/expert_index.h"

/* Direct reads need file offset, length and address at multiples of the device's block; 4096 suits every device whose
 * blocks are 512 or 4096, and a file system that wants more is read through the page cache. It is a constant so that a
 * plan is exact before any file is opened. */
#define LAYOUT_ALIGN 4096u

typedef struct layout_range {
    int32_t file;
    uint64_t offset, bytes; /* in the file, both multiples of LAYOUT_ALIGN; may end beyond the end of the file */
    uint64_t needed;        /* bytes from `offset` to the end of the last extent in it */
    uint64_t at;            /* in the slot */
} layout_range;

typedef struct expert_layout {
    int32_t ranges;
    layout_range range[EXPERT_EXTENTS_MAX];
    uint64_t extent_at[EXPERT_EXTENTS_MAX]; /* first byte of extents[i] in the slot */
    uint64_t bytes;                         /* of the slot */
} expert_layout;

/* layout_of - of extents[n], 1 <= n <= EXPERT_EXTENTS_MAX. Ranges come in file order. */
void layout_of(const expert_extent *extents, int n, expert_layout *out);

/* layout_bytes - the slot bytes alone, for one expert, or the largest of an index. */
uint64_t layout_bytes(const expert_index *index, int layer, int expert);
uint64_t layout_largest(const expert_index *index);

#endif
