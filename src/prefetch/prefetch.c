#include "prefetch/prefetch.h"

#include <string.h>

void prefetch_layout(arena *a, int experts, prefetch_engine *p)
{
    p->pending = arena_take(a, PREFETCH_DISTANCES, sizeof *p->pending);
    p->accuracy = arena_take(a, PREFETCH_DISTANCES, sizeof *p->accuracy);
    p->chosen = arena_take(a, (size_t)experts, sizeof *p->chosen);
    p->ids = arena_take(a, PREFETCH_CANDIDATES, sizeof *p->ids);
    p->scores = arena_take(a, PREFETCH_CANDIDATES, sizeof *p->scores);
}

void prefetch_init(prefetch_engine *p, const expert_source *source, int layers, int experts, float first_share)
{
    p->source = source;
    p->layers = layers;
    p->experts = experts;
    for (int d = 0; d < PREFETCH_DISTANCES; d++)
        rank_accuracy_init(&p->accuracy[d], first_share);
    memset(p->chosen, 0, (size_t)experts);
    prefetch_forget(p);
}

void prefetch_forget(prefetch_engine *p)
{
    for (int d = 0; d < PREFETCH_DISTANCES; d++)
        p->pending[d].layer = -1;
}

/* Of the candidates those that would have to be read. */
static void keep_missing(prefetch_engine *p, candidates *c, const int32_t *expert, const uint8_t *rank, int n)
{
    const expert_source *s = p->source;
    c->n = 0;
    for (int i = 0; i < n && c->n < PREFETCH_CANDIDATES; i++)
        if (!s->missing || s->missing(s->ctx, c->layer, expert[i])) {
            c->expert[c->n] = expert[i];
            c->rank[c->n++] = rank[i];
        }
}

/* The likely ones of `c`, the likeliest first: into p->ids and p->scores. How many. */
static int choose(prefetch_engine *p, const candidates *c, const rank_accuracy *accuracy)
{
    int n = 0;
    for (int i = 0; i < c->n; i++) {
        float score = rank_accuracy_share(accuracy, c->rank[i]);
        if (score < ACCURACY_ENOUGH)
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
    candidates *c = &p->pending[distance - 1];
    c->layer = layer;
    keep_missing(p, c, expert, rank, n);
    int likely = choose(p, c, &p->accuracy[distance - 1]);
    c->read = likely > 0;
    if (likely)
        p->source->prefetch(p->source->ctx, layer, p->ids, p->scores, likely, READ_SPECULATIVE);
}

/* Candidates for `layer`, named from `distance`: which were right? */
static void judge(prefetch_engine *p, const candidates *c, int distance)
{
    for (int i = 0; i < c->n; i++)
        rank_accuracy_add(&p->accuracy[distance - 1], c->rank[i], p->chosen[c->expert[i]]);
}

void prefetch_layer_begins(prefetch_engine *p, int layer, const int32_t *topk, int64_t n)
{
    bool read = false;
    for (int64_t i = 0; i < n; i++)
        p->chosen[topk[i]] = 1;
    for (int d = 1; d <= PREFETCH_DISTANCES; d++) {
        candidates *c = &p->pending[d - 1];
        if (c->layer == layer) {
            judge(p, c, d);
            read |= c->read;
        }
        if (c->layer <= layer)
            c->layer = -1;
    }
    for (int64_t i = 0; i < n; i++)
        p->chosen[topk[i]] = 0;
    if (read && p->source->cancel)
        p->source->cancel(p->source->ctx, layer, READ_SPECULATIVE);
}
