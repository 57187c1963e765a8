/* policy_next.c - the default: the expert that will be needed again last goes first, as far as one can know.
 *
 * Two things are known. Layers come round in turn, so the next possible use of an expert is when its layer is next: the
 * layer just passed is a whole pass away. And whether the router picks it then: that chance p is learned while running,
 * from what became of experts with the same history - how long ago they were last used, how often they are used in the
 * long run - in a small table that every layer of every pass adds to. The expected wait, in passes, is
 *
 *     (layers until its layer's turn) / layers  +  1 / p - 1
 *
 * Where routing has no memory (uniform, or a made-up model), all chances are learned to be equal, the turn decides, and
 * below one token's working set the cache keeps a fixed part of the experts, which hits as often as it is large; LRU
 * hits nothing there. Where recency or frequency tell something, the table says how much.
 */
#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "store/policy.h"

#define AGES 12     /* passes since the last use: 1, 2, 3, 4, then by powers of two */
#define HEATS 20    /* share of the passes that use it: by factors of the root of two, from 1 down */
#define RATE 0.03f  /* of the moving average that heat is */
#define TRUST 30.0f /* so many observations weigh as much as the guess that the table begins with */
#define LONG_AGO 1e6
#define FADE 100000.0f /* a cell's counts are halved here, so that it follows a change of text */

typedef struct cell {
    float seen, used;
} cell;

typedef struct next_policy {
    policy base;
    int32_t layers, experts, layer;
    int32_t way;       /* 1: layers come in ascending order; -1: descending, a backward pass */
    double now;        /* passes, a prompt of T tokens counting as T */
    float decode_uses; /* uses of a layer by one token: the fewest seen */
    cell cell[AGES][HEATS];
    double *last; /* [ids] `now` of the last use */
    float *heat;  /* [ids] share of the passes that used it, moving average */
    float *wait;  /* [ids] 1 / p - 1 for the next pass */
    float *uses;  /* [ids] in the layer's current fetch, tokens */
    float *most;  /* [layers] no cached expert of the layer has a longer wait */
    uint8_t *in;  /* [ids] cached */
} next_policy;

#define BYTES_AN_ID (sizeof(double) + 3 * sizeof(float) + 1)

static uint64_t next_heap_bytes(const policy_shape *shape)
{
    uint64_t ids = (uint64_t)shape->layers * (uint64_t)shape->experts;
    return sizeof(next_policy) + ids * BYTES_AN_ID + (uint64_t)shape->layers * sizeof(float);
}

static void next_free(policy *base)
{
    next_policy *p = (next_policy *)base;
    free(p->last);
    free(p);
}

static int age_of(double passes)
{
    if (passes < 4.5)
        return passes < 1.5 ? 0 : (int)(passes + 0.5) - 1;
    int a = 2 + ilogb(passes);
    return a < AGES ? a : AGES - 1;
}

static int heat_of(float heat)
{
    int h = heat > 1e-10f ? -ilogbf(heat * heat) : HEATS - 1;
    return h < 0 ? 0 : h < HEATS ? h : HEATS - 1;
}

static float chance(const next_policy *p, int32_t id, double passes)
{
    const cell *c = &p->cell[age_of(passes)][heat_of(p->heat[id])];
    return (c->used + 1e-3f) / (c->seen + 1e-3f);
}

static policy *next_create(const policy_ops *self, const policy_shape *shape, odmoe_error *err)
{
    size_t ids = (size_t)shape->layers * (size_t)shape->experts;
    next_policy *p = mem_calloc(1, sizeof *p, "the cache policy", err);
    if (!p)
        return NULL;
    p->base.ops = self;
    p->last = mem_calloc(1, ids * BYTES_AN_ID + (size_t)shape->layers * sizeof(float), "the cache policy", err);
    if (!p->last) {
        free(p);
        return NULL;
    }
    p->heat = (float *)(p->last + ids);
    p->wait = p->heat + ids;
    p->uses = p->wait + ids;
    p->most = p->uses + ids;
    p->in = (uint8_t *)(p->most + shape->layers);
    p->layers = shape->layers;
    p->experts = shape->experts;
    p->layer = -1;
    p->way = 1;
    p->decode_uses = (float)shape->experts;
    /* to begin with: the chance is the heat, and a recent use is worth something */
    for (int a = 0; a < AGES; a++)
        for (int h = 0; h < HEATS; h++)
            p->cell[a][h] = (cell){TRUST, TRUST * (0.7f * exp2f(-0.5f * (float)h) + 0.3f / (float)((a + 1) * (a + 1)))};
    for (size_t id = 0; id < ids; id++) {
        p->last[id] = -LONG_AGO;
        p->wait[id] = 1 / chance(p, (int32_t)id, LONG_AGO) - 1;
    }
    return &p->base;
}

/* One decoded token has passed the layer: every expert of it is an observation. */
static void observe(next_policy *p, int32_t first)
{
    for (int32_t id = first; id < first + p->experts; id++) {
        cell *c = &p->cell[age_of(p->now - p->last[id])][heat_of(p->heat[id])];
        c->seen += 1;
        c->used += p->uses[id] > 0;
        if (c->seen > FADE) {
            c->seen /= 2;
            c->used /= 2;
        }
    }
}

/* The fetch of the layer is over: learn from it, and say how long its experts will not be needed. */
static void settle(next_policy *p)
{
    int32_t first = p->layer * p->experts;
    float sum = 0, most = 0;
    for (int32_t id = first; id < first + p->experts; id++) {
        sum += p->uses[id];
        most = p->uses[id] > most ? p->uses[id] : most;
    }
    if (sum <= 0)
        return;
    p->decode_uses = sum < p->decode_uses ? sum : p->decode_uses;
    float tokens = sum / p->decode_uses > most ? sum / p->decode_uses : most;
    if (tokens < 1.5f)
        observe(p, first);
    float keep = powf(1 - RATE, tokens);
    for (int32_t id = first; id < first + p->experts; id++) {
        float share = p->uses[id] / tokens;
        p->heat[id] = keep * p->heat[id] + (1 - keep) * share;
        if (share > 0) /* of several tokens, the last that used it was about so long ago */
            p->last[id] = p->now - (double)(tokens > 1.5f ? (1 - share) / share : 0);
        p->wait[id] = 1 / chance(p, id, p->now + 1 - p->last[id]) - 1;
        p->uses[id] = 0;
    }
    p->most[p->layer] = INFINITY;
    p->now += (double)(tokens - 1) / p->layers; /* the pass itself counts one, when it ends */
}

static void next_begin(policy *base, int32_t layer)
{
    next_policy *p = (next_policy *)base;
    if (p->layer >= 0)
        settle(p);
    if (p->layers > 2 && (layer == p->layer + 1 || layer == p->layer - 1))
        p->way = layer - p->layer;
    p->now += p->way > 0 ? layer <= p->layer : layer >= p->layer;
    p->layer = layer;
}

static void next_insert(policy *base, int32_t id)
{
    next_policy *p = (next_policy *)base;
    p->in[id] = 1;
    if (p->wait[id] > p->most[id / p->experts])
        p->most[id / p->experts] = p->wait[id];
}

static void next_remove(policy *base, int32_t id)
{
    ((next_policy *)base)->in[id] = 0;
}

static void next_use(policy *base, int32_t id)
{
    next_policy *p = (next_policy *)base;
    if (id / p->experts == p->layer && p->uses[id] < 1)
        p->uses[id] = 1;
}

static void next_note(policy *base, int32_t id, uint64_t tokens)
{
    next_policy *p = (next_policy *)base;
    if (id / p->experts == p->layer)
        p->uses[id] = (float)tokens;
}

/* The cached expert of a layer with the longest wait above `least` that may go; -1: none. */
static int32_t layer_victim(next_policy *p, int32_t layer, float least, policy_may may, void *ctx)
{
    int32_t best = -1;
    float most = -INFINITY;
    for (int32_t id = layer * p->experts; id < (layer + 1) * p->experts; id++) {
        if (!p->in[id])
            continue;
        most = p->wait[id] > most ? p->wait[id] : most;
        if (p->wait[id] > least && may(ctx, id)) {
            best = id;
            least = p->wait[id];
        }
    }
    p->most[layer] = most;
    return best;
}

static int32_t next_victim(policy *base, policy_may may, void *ctx)
{
    next_policy *p = (next_policy *)base;
    int32_t best = -1;
    float longest = -INFINITY;
    for (int32_t step = 0; step < p->layers; step++) { /* the layer whose turn it is comes last */
        int32_t layer = (p->layer + p->layers - p->way * step) % p->layers;
        float turn = 1 - (float)step / (float)p->layers;
        int32_t id = p->most[layer] + turn > longest ? layer_victim(p, layer, longest - turn, may, ctx) : -1;
        if (id >= 0) {
            best = id;
            longest = p->wait[id] + turn;
        }
    }
    return best;
}

const policy_ops policy_next = {.name = "next",
                                .what = "the one that will be needed again last goes first, by what routing has shown",
                                .create = next_create,
                                .free = next_free,
                                .begin = next_begin,
                                .insert = next_insert,
                                .use = next_use,
                                .note = next_note,
                                .remove = next_remove,
                                .victim = next_victim,
                                .heap_bytes = next_heap_bytes};
