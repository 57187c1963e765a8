/* policy_lru.c - the least recently used goes first: a list through all cached ids, the newest at the head. */
#include <stdlib.h>

#include "base/mem.h"
#include "store/policy.h"

typedef struct lru {
    policy base;
    int32_t newest, oldest; /* -1: empty */
    struct {
        int32_t newer, older;
    } at[]; /* [ids] */
} lru;

static uint64_t lru_heap_bytes(const policy_shape *shape)
{
    return sizeof(lru) + (uint64_t)shape->layers * (uint64_t)shape->experts * sizeof *((lru *)0)->at;
}

static policy *lru_create(const policy_ops *self, const policy_shape *shape, odmoe_error *err)
{
    lru *p = mem_calloc(1, lru_heap_bytes(shape), "the cache policy", err);
    if (!p)
        return NULL;
    p->base.ops = self;
    p->newest = p->oldest = -1;
    return &p->base;
}

static void lru_free(policy *base)
{
    free(base);
}

static void lru_insert(policy *base, int32_t id)
{
    lru *p = (lru *)base;
    p->at[id].newer = -1;
    p->at[id].older = p->newest;
    if (p->newest >= 0)
        p->at[p->newest].newer = id;
    else
        p->oldest = id;
    p->newest = id;
}

static void lru_remove(policy *base, int32_t id)
{
    lru *p = (lru *)base;
    int32_t newer = p->at[id].newer, older = p->at[id].older;
    if (newer >= 0)
        p->at[newer].older = older;
    else
        p->newest = older;
    if (older >= 0)
        p->at[older].newer = newer;
    else
        p->oldest = newer;
}

static void lru_use(policy *base, int32_t id)
{
    lru_remove(base, id);
    lru_insert(base, id);
}

static int32_t lru_victim(policy *base, policy_may may, void *ctx)
{
    lru *p = (lru *)base;
    int32_t id = p->oldest;
    while (id >= 0 && !may(ctx, id))
        id = p->at[id].newer;
    return id;
}

const policy_ops policy_lru = {.name = "lru",
                               .what = "the least recently used goes first",
                               .create = lru_create,
                               .free = lru_free,
                               .insert = lru_insert,
                               .use = lru_use,
                               .remove = lru_remove,
                               .victim = lru_victim,
                               .heap_bytes = lru_heap_bytes};
