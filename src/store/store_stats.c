/* store_stats.c - telemetry: reading the counters, and the check of everything for debug builds. */
#include "store/store_private.h"

#include <stdlib.h>
#include <string.h>
#ifndef NDEBUG
#include <assert.h>
#endif

static pthread_mutex_t *lock_of(const store *s)
{
    return (pthread_mutex_t *)&s->lock; /* reading takes the lock, too */
}

void store_note_uses(store *s, int layer, int expert, uint64_t uses)
{
    pthread_mutex_lock(&s->lock);
    s->expert[layer * s->experts + expert].counters.uses += uses;
    s->totals.sum.uses += uses;
    cache_note(&s->cache, layer * s->experts + expert, uses);
    pthread_mutex_unlock(&s->lock);
}

void store_totals_get(const store *s, store_totals *out)
{
    pthread_mutex_lock(lock_of(s));
    *out = s->totals;
    out->sum.bytes = s->totals.bytes_read;
    out->sum.stall_ns = s->totals.stall_ns;
    if (s->in_flight)
        out->read_ns += store_now_ns() - s->busy_since;
    out->evictions = s->cache.evictions;
    out->cache_bytes = s->cache_bytes;
    out->used_bytes = s->cache.ready_bytes;
    for (int k = 0; k < READ_PRIORITY_COUNT; k++)
        out->used_bytes += s->cache.reading_bytes[k];
    out->io = s->source.io->name;
    out->policy = s->cache.policy->ops->name;
    pthread_mutex_unlock(lock_of(s));
}

uint64_t store_disk_speed(store *s)
{
    pthread_mutex_lock(&s->lock);
    uint64_t speed = (uint64_t)(s->pace.rate * 1e9);
    pthread_mutex_unlock(&s->lock);
    return speed;
}

void store_counters_get(const store *s, int layer, int expert, store_counters *out)
{
    pthread_mutex_lock(lock_of(s));
    *out = s->expert[layer * s->experts + expert].counters;
    pthread_mutex_unlock(lock_of(s));
}

void store_layer_counters_get(const store *s, int layer, store_layer_counters *out)
{
    *out = (store_layer_counters){0};
    pthread_mutex_lock(lock_of(s));
    for (int e = 0; e < s->experts; e++) {
        const store_counters *c = &s->expert[layer * s->experts + e].counters;
        out->sum.uses += c->uses;
        out->sum.hits += c->hits;
        out->sum.misses += c->misses;
        out->sum.bytes += c->bytes;
        out->sum.stall_ns += c->stall_ns;
    }
    memcpy(out->stalls, s->stalls[layer], sizeof out->stalls);
    pthread_mutex_unlock(lock_of(s));
}

bool store_is_cached(const store *s, int layer, int expert)
{
    pthread_mutex_lock(lock_of(s));
    bool cached = cache_is_ready(&s->cache, layer * s->experts + expert);
    pthread_mutex_unlock(lock_of(s));
    return cached;
}

void store_counters_reset(store *s)
{
    pthread_mutex_lock(&s->lock);
    memset(s->stalls, 0, (size_t)s->layers * sizeof *s->stalls);
    for (int32_t id = 0; id < s->cache.ids; id++)
        s->expert[id].counters = (store_counters){0};
    s->totals = (store_totals){0};
    s->cache.evictions = 0;
    if (s->in_flight)
        s->busy_since = store_now_ns();
    pthread_mutex_unlock(&s->lock);
}

bool store_holds_all(const store *s)
{
    return slab_holds_all(&s->cache.slab, s->cache.ids);
}

#ifndef NDEBUG
void store_check(const store *s)
{
    const char *what = "";
    assert(cache_check(&s->cache, &what) && "the cache's invariants");
    int64_t pins = 0, waiters = 0, held = 0, waited_for = 0;
    for (const store_fetch *f = s->open; f; f = f->next) {
        assert(f->pins >= 0 && f->given <= f->n);
        held += f->pins;
        waited_for += f->n - f->given;
        for (int i = 0; i < f->n; i++)
            assert(f->member[f->list[i]] == MEMBER_DONE ||
                   s->cache.entry[f->layer * s->experts + f->list[i]].waiters > 0);
    }
    for (int32_t id = 0; id < s->cache.ids; id++) {
        pins += s->cache.entry[id].pins;
        waiters += s->cache.entry[id].waiters;
        assert(!s->expert[id].parts || s->cache.entry[id].state == CACHE_READING);
    }
    assert(pins == held && waiters == waited_for && "pins and wants belong to open fetches");
    (void)what;
}
#endif
