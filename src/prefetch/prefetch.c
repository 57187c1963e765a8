#include "prefetch/prefetch.h"

#include <string.h>

void prefetch_layout(arena *a, int layers, int experts, prefetch_engine *p)
{
    p->target = arena_take(a, PREFETCH_DISTANCES, sizeof *p->target);
    p->asked = arena_take(a, PREFETCH_DISTANCES, (size_t)experts);
    p->pooled = arena_take(a, PREFETCH_LOOKS, sizeof *p->pooled);
    p->accuracy = arena_take(a, (size_t)layers * PREFETCH_LOOKS, sizeof *p->accuracy);
    p->chosen = arena_take(a, (size_t)experts, sizeof *p->chosen);
    p->ids = arena_take(a, PREFETCH_CANDIDATES, sizeof *p->ids);
    p->scores = arena_take(a, PREFETCH_CANDIDATES, sizeof *p->scores);
}

static void target_clear(prefetch_engine *p, int at)
{
    p->target[at].layer = -1;
    p->target[at].asked_any = false;
    for (int d = 0; d < PREFETCH_LOOKS; d++)
        p->target[at].named[d].n = 0;
    memset(p->asked + (size_t)at * (size_t)p->experts, 0, (size_t)p->experts);
}

void prefetch_init(prefetch_engine *p, const expert_source *source, int layers, int experts, float first, float last)
{
    p->source = source;
    p->layers = layers;
    p->experts = experts;
    p->distances = PREFETCH_DISTANCES;
    for (int d = 0; d < PREFETCH_LOOKS; d++)
        rank_accuracy_init(&p->pooled[d], first, last);
    for (int i = 0; i < layers * PREFETCH_LOOKS; i++)
        rank_accuracy_clear(&p->accuracy[i]);
    memset(p->chosen, 0, (size_t)experts);
    prefetch_forget(p);
}

void prefetch_forget(prefetch_engine *p)
{
    for (int at = 0; at < PREFETCH_DISTANCES; at++)
        target_clear(p, at);
}

static rank_accuracy *accuracy_of(const prefetch_engine *p, int layer, int distance)
{
    return &p->accuracy[layer * PREFETCH_LOOKS + distance];
}

float prefetch_share(const prefetch_engine *p, int layer, int distance, int rank)
{
    return rank_accuracy_share(accuracy_of(p, layer, distance), &p->pooled[distance], rank);
}

/* Of n candidates the ones that would have to be read if no candidate was. */
static void keep_missing(prefetch_engine *p, int at, candidates *c, const int32_t *expert, const uint8_t *rank, int n)
{
    const expert_source *s = p->source;
    const uint8_t *asked = p->asked + (size_t)at * (size_t)p->experts;
    c->n = 0;
    for (int i = 0; i < n && c->n < PREFETCH_CANDIDATES; i++)
        if (!s->missing || s->missing(s->ctx, p->target[at].layer, expert[i]) || asked[expert[i]]) {
            c->expert[c->n] = expert[i];
            c->rank[c->n++] = rank[i];
        }
}

/* The likely ones of `c`, the likeliest first: into p->ids and p->scores. How many. */
static int choose(prefetch_engine *p, int layer, int distance, const candidates *c)
{
    int n = 0;
    for (int i = 0; i < c->n; i++) {
        float score = prefetch_share(p, layer, distance, c->rank[i]);
        if (score < (distance > 1 ? ACCURACY_ENOUGH_FAR : ACCURACY_ENOUGH))
            continue;
        int at = n++;
        for (; at > 0 && p->scores[at - 1] < score; at--) {
            p->ids[at] = p->ids[at - 1];
            p->scores[at] = p->scores[at - 1];
        }
        p->ids[at] = c->expert[i];
        p->scores[at] = score;
    }
    return n;
}

void prefetch_offer(prefetch_engine *p, int layer, int distance, const int32_t *expert, const uint8_t *rank, int n)
{
    int at = layer % PREFETCH_DISTANCES;
    prefetch_target *t = &p->target[at];
    const expert_source *s = p->source;
    if (t->layer != layer)
        target_clear(p, at);
    t->layer = layer;
    candidates *c = &t->named[distance];
    keep_missing(p, at, c, expert, rank, n);
    int likely = choose(p, layer, distance, c);
    if (likely)
        s->prefetch(s->ctx, layer, p->ids, p->scores, likely, READ_SPECULATIVE);
    else if (t->asked_any && s->cancel)
        s->cancel(s->ctx, layer, READ_SPECULATIVE);
    for (int i = 0; i < likely; i++)
        p->asked[at * p->experts + p->ids[i]] = 1;
    t->asked_any |= likely > 0;
}

/* Candidates for `layer`, named from `distance`: which were right? */
static void judge(prefetch_engine *p, int layer, int distance, const candidates *c)
{
    for (int i = 0; i < c->n; i++) {
        bool right = p->chosen[c->expert[i]];
        rank_accuracy_add(&p->pooled[distance], c->rank[i], right);
        rank_accuracy_add(accuracy_of(p, layer, distance), c->rank[i], right);
    }
}

static void judge_target(prefetch_engine *p, const prefetch_target *t, const int32_t *topk, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        p->chosen[topk[i]] = 1;
    for (int d = 0; d < PREFETCH_LOOKS; d++)
        judge(p, t->layer, d, &t->named[d]);
    for (int64_t i = 0; i < n; i++)
        p->chosen[topk[i]] = 0;
}

void prefetch_layer_begins(prefetch_engine *p, int layer, const int32_t *topk, int64_t n)
{
    const expert_source *s = p->source;
    for (int at = 0; at < PREFETCH_DISTANCES; at++) {
        const prefetch_target *t = &p->target[at];
        if (t->layer == layer)
            judge_target(p, t, topk, n);
        if (t->layer <= layer && t->asked_any && s->cancel)
            s->cancel(s->ctx, t->layer, READ_SPECULATIVE);
        if (t->layer <= layer)
            target_clear(p, at);
    }
}
