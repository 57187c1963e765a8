/* policy.h - which cached expert is evicted first. A policy knows ids, bytes, the order of use and the size of each
 * fetch; no files, no states, no locks (its caller serialises), so that the same code runs under the store and in a
 * replay of a trace.
 *
 * id = layer * experts + expert. A forward pass goes through the layers in ascending order; a policy may take a step
 * back to a lower layer as the beginning of the next pass.
 */
#ifndef ODMOE_STORE_POLICY_H
#define ODMOE_STORE_POLICY_H

#include <stdbool.h>

#include "base/status.h"
#include "store/fetch_size.h"

typedef struct policy_shape {
    int32_t layers, experts;
    uint64_t capacity;           /* bytes of the cache */
    const uint64_t *class_bytes; /* bytes of id's slot: class_bytes[class_of[id]]; borrowed for the policy's life */
    const uint16_t *class_of;
} policy_shape;

/* May this id be evicted now? Asked by victim() for ids in the order in which the policy would evict them. */
typedef bool (*policy_may)(void *ctx, int32_t id);

typedef struct policy policy; /* each policy's own struct begins with it */

typedef struct policy_ops policy_ops;
struct policy_ops {
    const char *name;
    const char *what; /* one line for a user */
    policy *(*create)(const policy_ops *self, const policy_shape *shape, odmoe_error *err);
    void (*free)(policy *p);
    /* A fetch of this layer begins; each expert on its list will be used. May be NULL. */
    void (*begin)(policy *p, int32_t layer, fetch_size size);
    /* id is READY: a fetch waits for it, or it was prefetched (then use() may follow or not). */
    void (*insert)(policy *p, int32_t id);
    /* A fetch pins id, whether it was cached or has just been read. id is in the cache. */
    void (*use)(policy *p, int32_t id);
    /* `tokens` tokens of the fetch that pinned id use it. May be NULL. */
    void (*note)(policy *p, int32_t id, uint64_t tokens);
    /* id leaves the cache. */
    void (*remove)(policy *p, int32_t id);
    /* The cached id to evict first among those that may be evicted; -1: none may. Changes nothing. */
    int32_t (*victim)(policy *p, policy_may may, void *ctx);
    uint64_t (*heap_bytes)(const policy_shape *shape); /* what create allocates */
    /* For policies that share their functions and differ in how they rank (policy_ranked.c). */
    double (*rank)(const policy *p, int32_t id);
    float half_life; /* passes */
};

struct policy {
    const policy_ops *ops;
};

/* policy_find - by name; "auto" is the best measured (docs/cache.md). NULL name: auto. ERR_ARG lists the names. */
odmoe_status policy_find(const char *name, const policy_ops **out, odmoe_error *err);

/* policy_at - all policies one after the other, NULL after the last; the default first. */
const policy_ops *policy_at(int i);

extern const policy_ops policy_lru, policy_lfu, policy_lrfu, policy_twice, policy_layers, policy_layers_lrfu,
    policy_next;

#endif
