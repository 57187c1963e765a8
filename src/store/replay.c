#include "store/replay.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "store/cache.h"

/* ---- Belady: a policy that has read the trace ---- */

typedef struct belady {
    policy base;
    int32_t layers, experts;
    int64_t *next;  /* [ids] the fetch after the one being replayed that needs it; INT64_MAX: none */
    int64_t *most;  /* [layers] no cached expert of the layer is needed later */
    int64_t *after; /* [uses] for each use in the trace, the next fetch that needs the same expert */
    uint8_t *in;    /* [ids] cached */
} belady;

static void belady_free(policy *base)
{
    belady *p = (belady *)base;
    free(p->next);
    free(p->most);
    free(p->after);
    free(p->in);
    free(p);
}

static void belady_insert(policy *base, int32_t id)
{
    belady *p = (belady *)base;
    p->in[id] = 1;
    if (p->next[id] > p->most[id / p->experts])
        p->most[id / p->experts] = p->next[id];
}

static void belady_use(policy *base, int32_t id)
{
    (void)base;
    (void)id;
}

static void belady_remove(policy *base, int32_t id)
{
    ((belady *)base)->in[id] = 0;
}

static int32_t belady_victim(policy *base, policy_may may, void *ctx)
{
    belady *p = (belady *)base;
    int32_t best = -1;
    int64_t latest = -1;
    for (int32_t layer = 0; layer < p->layers; layer++) {
        int64_t most = -1;
        if (p->most[layer] <= latest)
            continue;
        for (int32_t id = layer * p->experts; id < (layer + 1) * p->experts; id++) {
            if (!p->in[id])
                continue;
            most = p->next[id] > most ? p->next[id] : most;
            if (p->next[id] > latest && may(ctx, id)) {
                best = id;
                latest = p->next[id];
            }
        }
        p->most[layer] = most;
    }
    return best;
}

static const policy_ops policy_belady = {.name = "belady",
                                         .what = "the one needed again last goes first; knows the future",
                                         .free = belady_free,
                                         .insert = belady_insert,
                                         .use = belady_use,
                                         .remove = belady_remove,
                                         .victim = belady_victim};

static policy *belady_create(const trace *t, odmoe_error *err)
{
    belady *p = mem_calloc(1, sizeof *p, "the optimal policy", err);
    if (!p)
        return NULL;
    p->base.ops = &policy_belady;
    p->layers = t->layers;
    p->experts = t->experts;
    size_t ids = (size_t)t->layers * (size_t)t->experts;
    p->next = mem_calloc(ids, sizeof *p->next, "the optimal policy", err);
    p->most = mem_calloc((size_t)t->layers, sizeof *p->most, "the optimal policy", err);
    p->after = mem_calloc(t->uses, sizeof *p->after, "the optimal policy", err);
    p->in = mem_calloc(ids, 1, "the optimal policy", err);
    if (!p->next || !p->most || !p->after || !p->in) {
        belady_free(&p->base);
        return NULL;
    }
    for (size_t id = 0; id < ids; id++)
        p->next[id] = INT64_MAX;
    for (int64_t b = (int64_t)t->fetches - 1; b >= 0; b--)
        for (int32_t i = 0; i < t->fetch[b].n; i++) {
            int32_t at = t->fetch[b].first + i, id = t->fetch[b].layer * t->experts + t->expert[at];
            p->after[at] = p->next[id];
            p->next[id] = b;
        }
    return &p->base;
}

/* Fetch b begins: each of its experts is needed next by the fetch that `after` names. */
static void belady_begin(belady *p, const trace *t, const trace_fetch *b)
{
    for (int32_t i = b->first; i < b->first + b->n; i++)
        p->next[b->layer * t->experts + t->expert[i]] = p->after[i];
    p->most[b->layer] = INT64_MAX;
}

/* ---- the replay ---- */

typedef struct player {
    const trace *t;
    cache cache;
    belady *belady; /* NULL: an ordinary policy */
    replay_result *result;
} player;

/* Read what there is room for, as the I/O thread does. */
static void read_queued(player *p, evict_scope force)
{
    for (int32_t id; (id = p->cache.queue[READ_DEMAND].first) >= 0 && cache_start(&p->cache, id, force);
         force = EVICT_IDLE) {
        cache_arrived(&p->cache, id);
        p->result->bytes_read += p->t->expert_bytes[id / p->t->experts];
    }
}

/* Give the fetch its experts: the hits, then the others as they are read. A fetch that is larger than the cache takes
 * several rounds. */
static void play_fetch(player *p, const trace_fetch *b)
{
    cache *c = &p->cache;
    const int32_t *list = p->t->expert + b->first, *tokens = p->t->tokens + b->first;
    int32_t base = b->layer * p->t->experts, left = b->n, hits = 0;
    bool decodes = b->size.phase == FETCH_DECODE;
    if (p->belady)
        belady_begin(p->belady, p->t, b);
    for (int32_t i = 0; i < b->n; i++) {
        hits += cache_is_ready(c, base + list[i]);
        cache_add_waiter(c, base + list[i], i);
    }
    cache_begin(c, b->layer, b->size);
    p->result->hits += (uint64_t)hits;
    p->result->fetched += (uint64_t)b->n;
    p->result->decode_hits += decodes ? (uint64_t)hits : 0;
    p->result->decode_fetched += decodes ? (uint64_t)b->n : 0;
    for (bool stuck = false; left;) {
        read_queued(p, stuck ? EVICT_UNPINNED : EVICT_IDLE);
        stuck = true;
        for (int32_t i = 0; i < b->n; i++) {
            int32_t id = base + list[i];
            if (!c->entry[id].waiters || !cache_is_ready(c, id))
                continue;
            cache_give(c, id);
            cache_note(c, id, (uint64_t)tokens[i]);
            cache_unpin(c, id);
            left--;
            stuck = false;
        }
    }
}

static odmoe_status open_cache(player *p, uint64_t cache_bytes, const char *name, bool equal_sizes, odmoe_error *err)
{
    const trace *t = p->t;
    int32_t ids = t->layers * t->experts;
    const policy_ops *ops = &policy_lru;
    bool optimal = name && !strcmp(name, policy_belady.name);
    odmoe_status status = optimal ? ODMOE_OK : policy_find(name, &ops, err);
    if (status)
        return status;
    uint64_t *need = mem_calloc((size_t)ids, sizeof *need, "the replay", err);
    if (!need)
        return ODMOE_ERR_MEMORY;
    uint64_t sum = 0;
    for (int32_t l = 0; l < t->layers; l++)
        sum += t->expert_bytes[l];
    for (int32_t id = 0; id < ids; id++)
        need[id] = optimal || equal_sizes ? sum / (uint64_t)t->layers : t->expert_bytes[id / t->experts];
    status = cache_init(&p->cache, t->layers, t->experts, need, cache_bytes, ops, err);
    free(need);
    if (status || !optimal)
        return status;
    policy *best = belady_create(t, err);
    if (!best)
        return ODMOE_ERR_MEMORY;
    p->cache.policy->ops->free(p->cache.policy);
    p->cache.policy = best;
    p->belady = (belady *)best;
    return ODMOE_OK;
}

static double percent(uint64_t part, uint64_t whole)
{
    return whole ? 100.0 * (double)part / (double)whole : 0;
}

odmoe_status replay_run(const trace *t, uint64_t cache_bytes, const char *policy_name, bool equal_sizes,
                        replay_result *out, odmoe_error *err)
{
    player p = {.t = t, .result = out};
    *out = (replay_result){0};
    odmoe_status status = open_cache(&p, cache_bytes, policy_name, equal_sizes, err);
    if (!status) {
        snprintf(out->policy, sizeof out->policy, "%s", p.cache.policy->ops->name);
        for (size_t b = 0; b < t->fetches; b++)
            play_fetch(&p, &t->fetch[b]);
        out->hit_pct_cum = percent(out->hits, out->fetched);
        out->hit_pct_decode = percent(out->decode_hits, out->decode_fetched);
    }
    cache_clear(&p.cache);
    return status;
}

odmoe_status replay_uniform(int layers, int experts, int top_k, int passes, uint64_t seed, trace *out, odmoe_error *err)
{
    *out = (trace){.layers = layers, .experts = experts};
    if (layers < 1 || experts < 1 || top_k < 1 || top_k > experts || passes < 1 ||
        (uint64_t)layers * (uint64_t)top_k * (uint64_t)passes > INT32_MAX)
        return err_set(err, ODMOE_ERR_RANGE,
                       "a trace of %d layers, %d experts, %d a token, and %d passes cannot be made up", layers, experts,
                       top_k, passes);
    size_t fetches = (size_t)layers * (size_t)passes;
    out->fetch = mem_calloc(fetches, sizeof *out->fetch, "the trace", err);
    out->expert = mem_calloc(fetches * (size_t)top_k, sizeof *out->expert, "the trace", err);
    out->tokens = mem_calloc(fetches * (size_t)top_k, sizeof *out->tokens, "the trace", err);
    out->expert_bytes = mem_calloc((size_t)layers, sizeof *out->expert_bytes, "the trace", err);
    if (!out->fetch || !out->expert || !out->tokens || !out->expert_bytes) {
        trace_clear(out);
        return ODMOE_ERR_MEMORY;
    }
    for (int l = 0; l < layers; l++)
        out->expert_bytes[l] = TRACE_EXPERT_BYTES;
    for (size_t b = 0; b < fetches; b++) {
        out->fetch[b] = (trace_fetch){(int32_t)(b % (size_t)layers), {FETCH_DECODE, 1, 1}, (int32_t)out->uses, top_k};
        for (int32_t i = 0; i < top_k; i++) {
            int32_t *list = out->expert + out->uses, again = 1;
            while (again) {
                seed = seed * 6364136223846793005u + 1442695040888963407u;
                list[i] = (int32_t)(((seed >> 33) * (uint64_t)experts) >> 31);
                again = 0;
                for (int32_t j = 0; j < i; j++)
                    again |= list[j] == list[i];
            }
            out->tokens[out->uses + (size_t)i] = 1;
        }
        out->uses += (size_t)top_k;
    }
    out->fetches = fetches;
    return ODMOE_OK;
}
