/* expert_index.h - where each expert lies on disk: (layer, expert) -> extents of files. What an extent's bytes mean is
 * not the store's business; the code that fills the index gives each extent a tag and gets the tag back with the bytes. */
#ifndef ODMOE_STORE_EXPERT_INDEX_H
#define ODMOE_STORE_EXPERT_INDEX_H

#include <stdbool.h>

#include "format/tensors.h"

#define EXPERT_EXTENTS_MAX 16

typedef struct expert_extent {
    int32_t file; /* as in the tensor index */
    uint32_t tag; /* opaque to the store */
    uint64_t offset, length;
} expert_extent;

/* The index: expert_index_layers x experts. Layers here are MoE layers, counted from 0 without the dense ones. All
 * experts of a layer have extents with the same tags in the same order. */
typedef struct expert_index expert_index;

expert_index *expert_index_create(int layers, int experts, odmoe_error *err);
void expert_index_free(expert_index *index);
int expert_index_layers(const expert_index *index);
int expert_index_experts(const expert_index *index);

/* expert_index_set - give (layer, expert) its extents (copied), in place of what it has. expert_index_append - one more.
 * ERR_RANGE or ERR_ARG for ids, counts and bytes that are out of range. */
odmoe_status expert_index_set(expert_index *index, int layer, int expert, const expert_extent *extents, int n,
                              odmoe_error *err);
odmoe_status expert_index_append(expert_index *index, int layer, int expert, const expert_extent *extent,
                                 odmoe_error *err);

/* expert_index_heap_bytes - what its tables take, about. */
uint64_t expert_index_heap_bytes(const expert_index *index);

/* expert_index_check - is it complete: every expert has extents, with the same tags in one layer. ERR_FORMAT names the
 * first expert that differs. store_open asks; a reader may ask earlier. */
odmoe_status expert_index_check(const expert_index *index, odmoe_error *err);

/* The extents of an expert, *n of them; owned by the index. Valid ids only. */
const expert_extent *expert_index_extents(const expert_index *index, int layer, int expert, int *n);
uint64_t expert_index_bytes(const expert_index *index, int layer, int expert); /* sum of its extents' lengths */
uint64_t expert_index_total_bytes(const expert_index *index);
uint64_t expert_index_largest_bytes(const expert_index *index);
uint64_t expert_index_smallest_bytes(const expert_index *index);

#endif
