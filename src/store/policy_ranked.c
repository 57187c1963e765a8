/* policy_ranked.c - five policies that keep the same history of each expert and differ in how they rank a cached one. The
 * expert of the highest rank is evicted first; finding it scans all cached experts once.
 *
 *   lfu           coldest first; heat counts uses, each of which halves every 512 passes
 *   lrfu          the same, halving every 12 passes: recency and frequency mixed
 *   twice         experts used only once since they were cached, then the least recently used
 *   layers        experts of layers that hold more than an equal share of the cache, then the least recently used
 *   layers-lrfu   the same, then the coldest with 12 passes
 *
 * They are compared with the default (policy_next.c) in docs/cache.md; `--policy NAME` and `odmoe replay` take them.
 */
#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "store/policy.h"

#define FIRST 1e12 /* added to a rank: evicted before all others */

typedef struct history {
    double level;  /* log2(heat) + pass / half-life: heat halves every half-life, the level of an unused expert stays */
    uint32_t used; /* the clock at the last use */
    uint32_t since; /* uses since it was cached */
    int32_t place;  /* in `cached`; -1: not cached */
} history;

typedef struct ranked {
    policy base;
    int32_t experts, layer, pass, n;
    uint32_t clock;
    uint64_t share;        /* of a layer, bytes */
    uint64_t *layer_bytes; /* [layers] cached */
    const uint64_t *class_bytes;
    const uint16_t *class_of;
    int32_t *cached;  /* [n] in no order */
    history *history; /* [ids] */
} ranked;

static uint64_t ranked_heap_bytes(const policy_shape *shape)
{
    uint64_t ids = (uint64_t)shape->layers * (uint64_t)shape->experts;
    return sizeof(ranked) + ids * (sizeof(history) + sizeof(int32_t)) + (uint64_t)shape->layers * sizeof(uint64_t);
}

static void ranked_free(policy *base)
{
    ranked *p = (ranked *)base;
    free(p->layer_bytes);
    free(p->cached);
    free(p->history);
    free(p);
}

static policy *ranked_create(const policy_ops *self, const policy_shape *shape, odmoe_error *err)
{
    size_t ids = (size_t)shape->layers * (size_t)shape->experts;
    ranked *p = mem_calloc(1, sizeof *p, "the cache policy", err);
    if (!p)
        return NULL;
    *p = (ranked){.base.ops = self,
                  .experts = shape->experts,
                  .share = shape->capacity / (uint64_t)shape->layers,
                  .class_bytes = shape->class_bytes,
                  .class_of = shape->class_of};
    p->layer_bytes = mem_calloc((size_t)shape->layers, sizeof *p->layer_bytes, "the cache policy", err);
    p->cached = mem_calloc(ids, sizeof *p->cached, "the cache policy", err);
    p->history = mem_calloc(ids, sizeof *p->history, "the cache policy", err);
    if (!p->layer_bytes || !p->cached || !p->history) {
        ranked_free(&p->base);
        return NULL;
    }
    for (size_t id = 0; id < ids; id++)
        p->history[id] = (history){.level = -INFINITY, .place = -1};
    return &p->base;
}

static void ranked_begin(policy *base, int32_t layer, fetch_size size)
{
    ranked *p = (ranked *)base;
    p->pass += layer <= p->layer;
    p->layer = layer;
}

static void ranked_insert(policy *base, int32_t id)
{
    ranked *p = (ranked *)base;
    p->history[id].place = p->n;
    p->history[id].since = 0;
    p->history[id].used = ++p->clock;
    p->cached[p->n++] = id;
    p->layer_bytes[id / p->experts] += p->class_bytes[p->class_of[id]];
}

static void ranked_use(policy *base, int32_t id)
{
    ranked *p = (ranked *)base;
    history *h = &p->history[id];
    double now = p->pass / (double)base->ops->half_life;
    h->level = log2(exp2(h->level - now) + 1) + now;
    h->used = ++p->clock;
    h->since++;
}

static void ranked_remove(policy *base, int32_t id)
{
    ranked *p = (ranked *)base;
    int32_t place = p->history[id].place, last = p->cached[--p->n];
    p->cached[place] = last;
    p->history[last].place = place;
    p->history[id].place = -1;
    p->layer_bytes[id / p->experts] -= p->class_bytes[p->class_of[id]];
}

static int32_t ranked_victim(policy *base, policy_may may, void *ctx)
{
    ranked *p = (ranked *)base;
    int32_t best = -1;
    double rank = 0;
    for (int32_t i = 0; i < p->n; i++) {
        double r = base->ops->rank(base, p->cached[i]);
        if ((best < 0 || r > rank) && may(ctx, p->cached[i])) {
            best = p->cached[i];
            rank = r;
        }
    }
    return best;
}

/* ---- the ranks ---- */

static double age(const ranked *p, int32_t id)
{
    return (double)(p->clock - p->history[id].used);
}

/* The coldest first; of equally cold ones the least recently used. */
static double rank_heat(const policy *base, int32_t id)
{
    const ranked *p = (const ranked *)base;
    return 1e-12 * age(p, id) - p->history[id].level;
}

/* Experts used only once since they were cached go first, so that one long prompt does not empty the cache. */
static double rank_twice(const policy *base, int32_t id)
{
    const ranked *p = (const ranked *)base;
    return age(p, id) + (p->history[id].since < 2 ? FIRST : 0);
}

/* Experts of layers with more than an equal share go first; among them, and among the others, the least recently used. */
static double rank_layers(const policy *base, int32_t id)
{
    const ranked *p = (const ranked *)base;
    return age(p, id) + (p->layer_bytes[id / p->experts] > p->share ? FIRST : 0);
}

/* The same, with the coldest instead of the least recently used. */
static double rank_layers_heat(const policy *base, int32_t id)
{
    const ranked *p = (const ranked *)base;
    return rank_heat(base, id) + (p->layer_bytes[id / p->experts] > p->share ? FIRST : 0);
}

#define RANKED_FUNCTIONS                                                                                             \
    .create = ranked_create, .free = ranked_free, .begin = ranked_begin, .insert = ranked_insert, .use = ranked_use, \
    .remove = ranked_remove, .victim = ranked_victim, .heap_bytes = ranked_heap_bytes

const policy_ops policy_lfu = {.name = "lfu",
                               .what = "the least frequently used goes first, uses age slowly",
                               RANKED_FUNCTIONS,
                               .rank = rank_heat,
                               .half_life = 512};

const policy_ops policy_lrfu = {
    .name = "lrfu", .what = "the least used of late goes first", RANKED_FUNCTIONS, .rank = rank_heat, .half_life = 12};

const policy_ops policy_twice = {.name = "twice",
                                 .what = "what was used only once goes first, then as lru",
                                 RANKED_FUNCTIONS,
                                 .rank = rank_twice,
                                 .half_life = 512};

const policy_ops policy_layers = {.name = "layers",
                                  .what = "every layer has an equal share, in it as lru",
                                  RANKED_FUNCTIONS,
                                  .rank = rank_layers,
                                  .half_life = 512};

const policy_ops policy_layers_lrfu = {.name = "layers-lrfu",
                                       .what = "every layer has an equal share, in it as lrfu",
                                       RANKED_FUNCTIONS,
                                       .rank = rank_layers_heat,
                                       .half_life = 12};
