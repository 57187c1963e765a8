#include "store/cache.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "store/schedule.h"

odmoe_status cache_init(cache *c, int layers, int experts, const uint64_t *need, uint64_t bytes, const policy_ops *ops,
                        odmoe_error *err)
{
    *c = (cache){.layers = layers, .experts = experts, .ids = layers * experts};
    c->entry = mem_calloc((size_t)c->ids, sizeof *c->entry, "the cache directory", err);
    if (!c->entry)
        return ODMOE_ERR_MEMORY;
    for (int32_t id = 0; id < c->ids; id++)
        c->entry[id].slot = c->entry[id].prev = c->entry[id].next = -1;
    for (int k = 0; k < READ_PRIORITY_COUNT; k++)
        c->queue[k] = c->prefetched[k] = (cache_list){-1, -1, 0};
    uint64_t all;
    odmoe_status status = slab_bytes_for_all(need, c->ids, &all, err);
    if (!status)
        status = slab_init(&c->slab, bytes < all ? bytes : all, need, c->ids, err);
    if (status)
        return status;
    policy_shape shape = {layers, experts, c->slab.bytes, c->slab.class_bytes, c->slab.class_of};
    c->policy = ops->create(ops, &shape, err);
    return c->policy ? ODMOE_OK : ODMOE_ERR_MEMORY;
}

void cache_clear(cache *c)
{
    if (c->policy)
        c->policy->ops->free(c->policy);
    slab_clear(&c->slab);
    free(c->entry);
    *c = (cache){0};
}

uint64_t cache_heap_bytes(int layers, int experts, uint64_t bytes, uint64_t smallest, uint64_t largest,
                          const policy_ops *ops)
{
    policy_shape shape = {.layers = layers, .experts = experts, .capacity = bytes};
    uint64_t ids = (uint64_t)layers * (uint64_t)experts;
    return ids * sizeof(cache_entry) + slab_heap_bytes(bytes, smallest, largest, (int32_t)ids) +
           ops->heap_bytes(&shape);
}

static uint64_t bytes_of(const cache *c, int32_t id)
{
    return slab_slot_bytes(&c->slab, id);
}

/* ---- the lists through the entries ---- */

static void list_append(cache *c, cache_list *list, int32_t id)
{
    cache_entry *e = &c->entry[id];
    e->prev = list->last;
    e->next = -1;
    if (list->last >= 0)
        c->entry[list->last].next = id;
    else
        list->first = id;
    list->last = id;
    list->bytes += bytes_of(c, id);
}

static void list_insert_before(cache *c, cache_list *list, int32_t id, int32_t next)
{
    if (next < 0) {
        list_append(c, list, id);
        return;
    }
    cache_entry *e = &c->entry[id], *after = &c->entry[next];
    e->prev = after->prev;
    e->next = next;
    if (e->prev >= 0)
        c->entry[e->prev].next = id;
    else
        list->first = id;
    after->prev = id;
    list->bytes += bytes_of(c, id);
}

static void list_remove(cache *c, cache_list *list, int32_t id)
{
    cache_entry *e = &c->entry[id];
    if (e->prev >= 0)
        c->entry[e->prev].next = e->next;
    else
        list->first = e->next;
    if (e->next >= 0)
        c->entry[e->next].prev = e->prev;
    else
        list->last = e->prev;
    e->prev = e->next = -1;
    list->bytes -= bytes_of(c, id);
}

static void set_used(cache *c, int32_t id)
{
    cache_entry *e = &c->entry[id];
    if (e->prefetched)
        list_remove(c, &c->prefetched[e->priority], id);
    e->prefetched = 0;
}

/* ---- queue ---- */

int32_t cache_layers_until(const cache *c, int32_t id)
{
    return (id / c->experts - c->latest_layer - 1 + c->layers) % c->layers;
}

void cache_enqueue(cache *c, int32_t id, read_priority priority)
{
    cache_entry *e = &c->entry[id];
    e->state = CACHE_QUEUED;
    e->priority = (uint8_t)priority;
    int32_t next = -1, last = c->queue[priority].last;
    if (priority != READ_DEMAND)
        for (; last >= 0 && cache_layers_until(c, last) > cache_layers_until(c, id); last = c->entry[last].prev)
            next = last;
    list_insert_before(c, &c->queue[priority], id, next);
}

void cache_dequeue(cache *c, int32_t id)
{
    cache_entry *e = &c->entry[id];
    list_remove(c, &c->queue[e->priority], id);
    e->state = CACHE_EMPTY;
}

static void promote(cache *c, int32_t id)
{
    cache_entry *e = &c->entry[id];
    if (e->priority == READ_DEMAND)
        return;
    if (e->state == CACHE_QUEUED) {
        list_remove(c, &c->queue[e->priority], id);
        list_append(c, &c->queue[READ_DEMAND], id);
    } else {
        c->reading_bytes[e->priority] -= bytes_of(c, id);
        c->reading_bytes[READ_DEMAND] += bytes_of(c, id);
    }
    e->priority = READ_DEMAND;
}

void cache_add_waiter(cache *c, int32_t id, int32_t order)
{
    cache_entry *e = &c->entry[id];
    e->order = !e->waiters || order < e->order ? order : e->order;
    e->waiters++;
    if (e->state == CACHE_EMPTY || e->state == CACHE_FAILED)
        cache_enqueue(c, id, READ_DEMAND);
    else if (e->state == CACHE_QUEUED || e->state == CACHE_READING)
        promote(c, id);
}

void cache_drop_waiter(cache *c, int32_t id)
{
    cache_entry *e = &c->entry[id];
    if (--e->waiters)
        return;
    if (e->state == CACHE_QUEUED)
        cache_dequeue(c, id);
    else if (e->state == CACHE_FAILED)
        e->state = CACHE_EMPTY;
}

/* ---- room ---- */

/* READY or READING -> without a slot. */
static void lose_slot(cache *c, int32_t id)
{
    cache_entry *e = &c->entry[id];
    if (e->state == CACHE_READY) {
        set_used(c, id);
        c->policy->ops->remove(c->policy, id);
        c->ready_bytes -= bytes_of(c, id);
    } else {
        c->reading_bytes[e->priority] -= bytes_of(c, id);
    }
    slab_give(&c->slab, e->slot);
    e->slot = -1;
    e->invalid_when_free = 0;
    e->state = CACHE_EMPTY;
}

/* READY or READING -> EMPTY, or QUEUED for its waiters. */
static void drop(cache *c, int32_t id)
{
    lose_slot(c, id);
    if (c->entry[id].waiters)
        cache_enqueue(c, id, READ_DEMAND);
}

static void evict(cache *c, int32_t id)
{
    c->evictions++;
    drop(c, id);
}

/* Prefetched, and its layer's fetch has not begun: evicted now, it might be read twice. */
static bool is_protected(const cache_entry *e)
{
    return e->prefetched;
}

static bool may_go(const cache *c, int32_t id, bool force)
{
    const cache_entry *e = &c->entry[id];
    return e->state == CACHE_READY && !e->pins && (force || (!e->waiters && !is_protected(e)));
}

typedef struct victim_filter {
    const cache *c;
    int32_t size_class; /* size class, -1: any */
} victim_filter;

static bool may_be_victim(void *ctx, int32_t id)
{
    const victim_filter *f = ctx;
    return (f->size_class < 0 || f->c->slab.class_of[id] == f->size_class) && may_go(f->c, id, false);
}

static int32_t victim(cache *c, int32_t size_class)
{
    victim_filter filter = {c, size_class};
    return c->policy->ops->victim(c->policy, may_be_victim, &filter);
}

/* Can all experts of a region be evicted, and is it long enough for `id`? */
static bool region_may_go(const cache *c, int32_t region, int32_t id, bool force)
{
    const slab_region *g = &c->slab.region[region];
    if (!slab_region_fits(&c->slab, region, id))
        return false;
    for (int32_t i = 0; i < g->slots; i++)
        if (c->slab.owner[g->first + i] >= 0 && !may_go(c, c->slab.owner[g->first + i], force))
            return false;
    return true;
}

static void empty_region(cache *c, int32_t region)
{
    const slab_region *g = &c->slab.region[region];
    for (int32_t i = 0; i < g->slots; i++)
        if (c->slab.owner[g->first + i] >= 0)
            evict(c, c->slab.owner[g->first + i]);
}

static bool empty_any_region(cache *c, int32_t id, bool force)
{
    for (int32_t r = 0; r < c->slab.regions; r++)
        if (region_may_go(c, r, id, force)) {
            empty_region(c, r);
            return true;
        }
    return false;
}

typedef struct worst_list {
    const cache *c;
    int32_t size_class, n;
    int32_t id[SCHEDULE_VICTIMS_LOOKED_AT];
} worst_list;

static bool may_be_next_worst(void *ctx, int32_t id)
{
    const worst_list *w = ctx;
    for (int32_t i = 0; i < w->n; i++)
        if (w->id[i] == id)
            return false;
    return w->c->slab.class_of[id] == w->size_class && may_go(w->c, id, false);
}

/* Of the regions of a size class that can be emptied and are long enough for `id`: the one that holds most of the
 * experts that the policy would evict first; -1: none. */
static int32_t worst_region(cache *c, int32_t size_class, int32_t id)
{
    worst_list worst = {.c = c, .size_class = size_class};
    int32_t best = -1, most = 0;
    for (; worst.n < SCHEDULE_VICTIMS_LOOKED_AT; worst.n++)
        if ((worst.id[worst.n] = c->policy->ops->victim(c->policy, may_be_next_worst, &worst)) < 0)
            break;
    for (int32_t i = 0; i < worst.n; i++) {
        int32_t region = c->slab.region_of[c->entry[worst.id[i]].slot], held = 0;
        for (int32_t j = i; j < worst.n; j++)
            held += c->slab.region_of[c->entry[worst.id[j]].slot] == region;
        if (held > most && region_may_go(c, region, id, false)) {
            most = held;
            best = region;
        }
    }
    return best;
}

static int32_t slots_of_class(const cache *c, int32_t size_class)
{
    int32_t slots = 0;
    for (int32_t r = 0; r < c->slab.regions; r++)
        slots += c->slab.region[r].size_class == size_class ? c->slab.region[r].slots : 0;
    return slots;
}

/* Evict idle experts for `id`. If the policy's choice has another size, its choice among experts of id's own size is
 * evicted instead, and the pressure on the other size is counted. Pressures of layers of different sizes cancel out; a
 * size whose pressure reaches a share of its slots has too many of them, and gives up a region. */
static bool make_room(cache *c, int32_t id)
{
    int32_t size_class = c->slab.class_of[id], any = victim(c, -1);
    if (any < 0)
        return false;
    int32_t other = c->slab.class_of[any];
    if (other == size_class) {
        evict(c, any);
        return true;
    }
    int32_t same = victim(c, size_class);
    int32_t *pressure = &c->size_pressure[other][size_class], *opposite = &c->size_pressure[size_class][other];
    *(*opposite > 0 ? opposite : pressure) += *opposite > 0 ? -1 : 1;
    if (same < 0 || *pressure >= slots_of_class(c, other) / SCHEDULE_SIZE_PRESSURE_SHARE) {
        int32_t region = worst_region(c, other, id);
        *pressure = 0;
        if (region >= 0) {
            empty_region(c, region);
            return true;
        }
    }
    if (same < 0)
        return empty_any_region(c, id, false);
    evict(c, same);
    return true;
}

/* Is `a` to be evicted rather than `b` (-1: none yet) when both have waiters or are protected? Protected ones come last. */
static bool goes_before(const cache *c, int32_t a, int32_t b)
{
    const cache_entry *x = &c->entry[a], *y = b < 0 ? NULL : &c->entry[b];
    return !y || (is_protected(x) != is_protected(y) ? is_protected(y) : x->order > y->order);
}

/* The same at the expense of experts with waiters: the one that is latest in its fetch, else a whole region. */
static bool force_room(cache *c, int32_t id, evict_scope scope)
{
    int32_t latest = -1;
    for (int32_t slot = 0; slot < c->slab.slots; slot++) {
        int32_t other = c->slab.owner[slot];
        if (other >= 0 && c->slab.class_of[other] == c->slab.class_of[id] && may_go(c, other, true) &&
            goes_before(c, other, latest))
            latest = other;
    }
    if (scope == EVICT_LATER &&
        (latest < 0 || is_protected(&c->entry[latest]) || c->entry[latest].order <= c->entry[id].order))
        return false;
    if (latest < 0)
        return empty_any_region(c, id, true);
    evict(c, latest);
    return true;
}

bool cache_start(cache *c, int32_t id, evict_scope scope)
{
    int32_t slot = slab_take(&c->slab, id);
    if (slot < 0 && (make_room(c, id) || (scope != EVICT_IDLE && force_room(c, id, scope))))
        slot = slab_take(&c->slab, id);
    if (slot < 0)
        return false;
    cache_entry *e = &c->entry[id];
    list_remove(c, &c->queue[e->priority], id);
    e->state = CACHE_READING;
    e->slot = slot;
    c->reading_bytes[e->priority] += bytes_of(c, id);
    return true;
}

/* ---- the end of a read ---- */

void cache_arrived(cache *c, int32_t id)
{
    cache_entry *e = &c->entry[id];
    if (e->invalid_when_free) {
        drop(c, id);
        return;
    }
    c->reading_bytes[e->priority] -= bytes_of(c, id);
    c->ready_bytes += bytes_of(c, id);
    e->state = CACHE_READY;
    c->policy->ops->insert(c->policy, id);
    if (e->priority != READ_DEMAND) {
        e->prefetched = 1;
        list_append(c, &c->prefetched[e->priority], id);
    }
}

void cache_failed(cache *c, int32_t id, int error)
{
    lose_slot(c, id);
    if (c->entry[id].waiters) {
        c->entry[id].state = CACHE_FAILED;
        c->entry[id].error = error;
    }
}

void cache_retry(cache *c, int32_t id)
{
    lose_slot(c, id);
    cache_enqueue(c, id, READ_DEMAND);
}

/* ---- pins ---- */

bool cache_give(cache *c, int32_t id)
{
    cache_entry *e = &c->entry[id];
    bool ahead = e->prefetched;
    set_used(c, id);
    e->waiters--;
    e->pins++;
    c->policy->ops->use(c->policy, id);
    return ahead;
}

void cache_unpin(cache *c, int32_t id)
{
    cache_entry *e = &c->entry[id];
    if (!--e->pins && e->invalid_when_free)
        drop(c, id);
}

void cache_note(cache *c, int32_t id, uint64_t tokens)
{
    if (c->policy->ops->note)
        c->policy->ops->note(c->policy, id, tokens);
}

void cache_begin(cache *c, int layer, fetch_size size)
{
    c->latest_layer = layer;
    if (c->policy->ops->begin)
        c->policy->ops->begin(c->policy, layer, size);
    for (int k = 0; k < READ_PRIORITY_COUNT; k++)
        for (int32_t id = c->prefetched[k].first, next; id >= 0; id = next) {
            next = c->entry[id].next;
            if (id / c->experts == layer && !c->entry[id].waiters)
                set_used(c, id);
        }
}

void cache_invalidate(cache *c, int32_t id)
{
    cache_entry *e = &c->entry[id];
    if (e->state == CACHE_READY && !e->pins)
        drop(c, id);
    else if (e->state == CACHE_READY || e->state == CACHE_READING)
        e->invalid_when_free = 1;
}

#ifndef NDEBUG

static bool list_is(const cache *c, const cache_list *list, uint8_t priority, bool queue, int32_t *counted)
{
    uint64_t bytes = 0;
    int32_t last = -1;
    for (int32_t id = list->first; id >= 0; last = id, id = c->entry[id].next) {
        const cache_entry *e = &c->entry[id];
        if (e->prev != last || e->priority != priority || (queue ? e->state != CACHE_QUEUED : !e->prefetched))
            return false;
        bytes += bytes_of(c, id);
        ++*counted;
    }
    return last == list->last && bytes == list->bytes;
}

static const char *entry_wrong(const cache *c, int32_t id)
{
    const cache_entry *e = &c->entry[id];
    bool has_slot = e->state == CACHE_READING || e->state == CACHE_READY;
    if (has_slot != (e->slot >= 0))
        return "a state and a slot that do not go together";
    if (has_slot && (e->slot >= c->slab.slots || c->slab.owner[e->slot] != id))
        return "a slot that belongs to another expert";
    if (e->pins < 0 || e->waiters < 0 || (e->pins && e->state != CACHE_READY))
        return "pins on an expert that is not READY";
    if (e->waiters && e->state == CACHE_EMPTY)
        return "an expert with waiters that is not queued, read or cached";
    if (e->state == CACHE_FAILED && !e->waiters)
        return "a failed expert without waiters";
    if (e->prefetched && (e->state != CACHE_READY || e->priority == READ_DEMAND))
        return "a prefetched expert that is not READY or was a demand";
    if (e->invalid_when_free && e->state != CACHE_READING && !(e->state == CACHE_READY && e->pins))
        return "an invalidated expert that should have been dropped";
    return NULL;
}

bool cache_check(const cache *c, const char **what)
{
    if (!slab_check(&c->slab, what))
        return false;
    int32_t queued = 0, unused = 0;
    for (uint8_t k = 0; k < READ_PRIORITY_COUNT; k++)
        if (!list_is(c, &c->queue[k], k, true, &queued) || !list_is(c, &c->prefetched[k], k, false, &unused))
            return *what = "a broken list of queued or prefetched experts", false;
    uint64_t ready = 0, reading[READ_PRIORITY_COUNT] = {0};
    int32_t held = 0, taken = 0;
    for (int32_t id = 0; id < c->ids; id++) {
        const cache_entry *e = &c->entry[id];
        if ((*what = entry_wrong(c, id)))
            return false;
        queued -= e->state == CACHE_QUEUED;
        unused -= e->prefetched;
        held += e->slot >= 0;
        if (e->state == CACHE_READY)
            ready += bytes_of(c, id);
        if (e->state == CACHE_READING)
            reading[e->priority] += bytes_of(c, id);
    }
    for (int32_t slot = 0; slot < c->slab.slots; slot++)
        taken += c->slab.owner[slot] >= 0;
    if (queued || unused)
        return *what = "an expert outside the list that its state asks for", false;
    if (held != taken)
        return *what = "taken slots without an expert", false;
    if (ready != c->ready_bytes || memcmp(reading, c->reading_bytes, sizeof reading))
        return *what = "wrong sums of bytes", false;
    if (ready + reading[0] + reading[1] + reading[2] > c->slab.bytes)
        return *what = "more bytes than the slab has", false;
    return true;
}

#endif
