/* policy_next.c - the default: evict the expert that will probably be needed again last.
 *
 * Layers come in a fixed order, so the next possible use of an expert is known: when the forward pass reaches its layer
 * again. The layer that has just been computed is a whole pass away. Whether the router then picks the expert is not
 * known; the policy learns the chance p while it runs. Experts with a similar history share a cell of a small table: how
 * many passes ago they were last used, and how often they are used in the long run. Each layer of each decoding pass
 * adds one observation per expert. The expected wait, in passes, is
 *
 *     (layers until its layer is next) / layers  +  1 / p - 1
 *
 * Several sequences. "Heat" is the share of tokens that use an expert, whatever the size of a pass. A decoding pass of n
 * tokens uses the expert with a chance of about 1 - (1 - heat)^n, and that is what selects the table's cell. So the
 * table learns from passes of any size, and its cells keep their meaning when sequences come and go.
 *
 * Where routing has no memory (uniform routing), all chances are learned to be equal, the order of layers decides, and
 * below one token's working set the cache keeps a fixed part of the experts, which hits as often as it is large; LRU
 * hits nothing there. Where recency or frequency predict the next use, the table says by how much.
 */
#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "store/policy.h"

#define AGES 12     /* passes since the last use: 1, 2, 3, 4, then by powers of two */
#define HEATS 20    /* chance that a pass uses the expert, by heat: by factors of the root of two, from 1 down */
#define RATE 0.03f  /* of the moving average that heat is, per decoding pass */
#define TRUST 30.0f /* observations that weigh as much as the table's first values */
#define LONG_AGO 1e6
#define FADE 100000.0f /* a cell's counts are halved here, so that the table follows a change of text */

typedef struct cell {
    float seen, used;
} cell;

typedef struct next_policy {
    policy base;
    int32_t layers, experts, layer;
    int32_t way;         /* 1: layers come in ascending order; -1: descending, a backward pass */
    fetch_size size;     /* of the layer's current fetch */
    float decode_tokens; /* of the latest decoding pass: what the next one is taken to bring */
    double now;          /* decoding passes; a prompt counts as the passes that its tokens would have made */
    cell cell[AGES][HEATS];
    double *last; /* [ids] `now` of the last use */
    float *heat;  /* [ids] share of the tokens that used it, moving average */
    float *wait;  /* [ids] 1 / p - 1 for the next pass */
    float *uses;  /* [ids] tokens of the layer's current fetch that use it */
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

/* The cell of an expert that was last used `passes` ago, for a pass of `tokens` tokens. */
static cell *cell_of(next_policy *p, int32_t id, double passes, float tokens)
{
    float heat = p->heat[id];
    float used = tokens > 1 ? 1 - powf(1 - heat, tokens) : heat;
    return &p->cell[age_of(passes)][heat_of(used)];
}

static float chance(next_policy *p, int32_t id, double passes)
{
    const cell *c = cell_of(p, id, passes, p->decode_tokens);
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
    p->decode_tokens = 1;
    /* first values: the chance is what the heat says, and a recent use raises it */
    for (int a = 0; a < AGES; a++)
        for (int h = 0; h < HEATS; h++)
            p->cell[a][h] = (cell){TRUST, TRUST * (0.7f * exp2f(-0.5f * (float)h) + 0.3f / (float)((a + 1) * (a + 1)))};
    for (size_t id = 0; id < ids; id++) {
        p->last[id] = -LONG_AGO;
        p->wait[id] = 1 / chance(p, (int32_t)id, LONG_AGO) - 1;
    }
    return &p->base;
}

/* A decoding pass has gone through the layer: each of its experts is an observation. */
static void observe(next_policy *p, int32_t first)
{
    for (int32_t id = first; id < first + p->experts; id++) {
        cell *c = cell_of(p, id, p->now - p->last[id], p->decode_tokens);
        c->seen += 1;
        c->used += p->uses[id] > 0;
        if (c->seen > FADE) {
            c->seen /= 2;
            c->used /= 2;
        }
    }
}

/* How many of a prompt's tokens come after the last one that uses the expert, when `share` of them use it. The
 * sequence itself decodes one token in a pass, so tokens of its prompt count as passes. */
static double passes_since(const next_policy *p, float share)
{
    return p->size.phase == FETCH_PROMPT && p->size.n_tokens > 1 ? (double)((1 - share) / share) : 0;
}

/* How much of an expert's heat remains after the fetch. Heat remembers some 1 / RATE decoding passes; a prompt of one
 * sequence counts for that sequence alone, one of decode_tokens. */
static float heat_kept(const next_policy *p, float tokens)
{
    float keep = powf(1 - RATE, tokens / p->decode_tokens);
    return p->size.phase == FETCH_PROMPT ? 1 - (1 - keep) / p->decode_tokens : keep;
}

/* The fetch of the layer is over: learn from it, and estimate how long each expert of the layer will not be needed. */
static void settle(next_policy *p)
{
    int32_t first = p->layer * p->experts;
    float tokens = (float)p->size.n_tokens;
    for (int32_t id = first; id < first + p->experts; id++)
        tokens = p->uses[id] > tokens ? p->uses[id] : tokens;
    if (p->size.phase == FETCH_DECODE) {
        p->decode_tokens = tokens;
        observe(p, first);
    }
    float keep = heat_kept(p, tokens);
    for (int32_t id = first; id < first + p->experts; id++) {
        float share = p->uses[id] / tokens;
        p->heat[id] = keep * p->heat[id] + (1 - keep) * share;
        if (share > 0)
            p->last[id] = fmax(p->last[id], p->now - passes_since(p, share));
        p->wait[id] = 1 / chance(p, id, p->now + 1 - p->last[id]) - 1;
        p->uses[id] = 0;
    }
    p->most[p->layer] = INFINITY;
    if (p->size.phase == FETCH_PROMPT && tokens > p->decode_tokens) /* the pass itself counts one, when it ends */
        p->now += (double)(tokens / p->decode_tokens - 1) / p->layers;
}

static void next_begin(policy *base, int32_t layer, fetch_size size)
{
    next_policy *p = (next_policy *)base;
    if (p->layer >= 0)
        settle(p);
    if (p->layers > 2 && (layer == p->layer + 1 || layer == p->layer - 1))
        p->way = layer - p->layer;
    p->now += p->way > 0 ? layer <= p->layer : layer >= p->layer;
    p->layer = layer;
    p->size = size;
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
