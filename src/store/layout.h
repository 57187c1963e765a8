/* layout.h - how an expert lies in memory: which aligned ranges of which files are read, and where its pieces are then.
 *
 *   file   ----|--------|--------|--------|--------|-----     | = multiples of LAYOUT_ALIGN
 *                  [ piece 0 ........ ][ piece 1 . ]
 *               <------------- extent ------------->          read whole, straight into the slot
 *
 * Each piece lies in an extent, the aligned range around it. Pieces whose ranges touch or overlap (experts stored one
 * by one) share an extent, so that they are one read and no block is read twice. The extents of an expert share a slot
 * of the slab; only this file knows that.
 */
#ifndef ODMOE_STORE_LAYOUT_H
#define ODMOE_STORE_LAYOUT_H

#include "store/expert.h"

/* Direct reads need file offset, length and address at multiples of the device's block; 4096 suits every device whose
 * blocks are 512 or 4096, and a file system that wants more is read through the page cache. It is a constant so that a
 * plan is exact before any file is opened. */
#define LAYOUT_ALIGN 4096u

typedef struct layout_extent {
    int32_t file;
    uint64_t offset, bytes; /* in the file, both multiples of LAYOUT_ALIGN; may end beyond the end of the file */
    uint64_t needed;        /* bytes from `offset` to the end of the last piece in it */
    uint64_t at;            /* in the slot */
} layout_extent;

typedef struct expert_layout {
    int32_t extents;
    layout_extent extent[PIECES_MAX];
    uint64_t piece_at[PIECES_MAX]; /* first byte of pieces[i] in the slot */
    uint64_t bytes;                /* of the slot */
} expert_layout;

/* layout_of - of pieces[n], 1 <= n <= PIECES_MAX. Extents come in file order. */
void layout_of(const expert_piece *pieces, int n, expert_layout *out);

/* layout_bytes - the slot bytes alone, for one expert, or the largest of an index. */
uint64_t layout_bytes(const expert_index *index, int layer, int expert);
uint64_t layout_largest(const expert_index *index);

#endif
