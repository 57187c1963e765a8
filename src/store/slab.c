#include "store/slab.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "store/layout.h"

/* Sizes this close share a class; doubled until there are at most SLAB_CLASSES_MAX. Experts of equal size can differ by
 * CLASS_BLOCKS blocks, when their three extents begin at different places in a block. */
#define CLASS_TOLERANCE 0.005
#define CLASS_BLOCKS 3
#define REGION_LOSS 0.012
#define REGION_EXPERTS_MAX 64 /* largest experts in a region */
#define REGIONS_WANTED 4      /* at least, even at some waste, so that a small slab can still change sizes */

static int descending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x < y) - (x > y);
}

/* Group sizes (sorted, descending) into classes named by their largest; the number of classes. bytes may be NULL. */
static int32_t group(const uint64_t *sorted, int32_t ids, double tolerance, uint64_t *bytes)
{
    int32_t classes = 0;
    uint64_t head = 0;
    for (int32_t i = 0; i < ids; i++)
        if (!classes ||
            ((double)(head - sorted[i]) > (double)head * tolerance && head - sorted[i] > CLASS_BLOCKS * LAYOUT_ALIGN)) {
            head = sorted[i];
            if (bytes)
                bytes[classes] = head;
            classes++;
        }
    return classes;
}

static odmoe_status make_classes(slab *s, const uint64_t *need, int32_t ids, odmoe_error *err)
{
    uint64_t *sorted = mem_calloc((size_t)ids, sizeof *sorted, "the slab's size classes", err);
    s->class_of = mem_calloc((size_t)ids, sizeof *s->class_of, "the slab's size classes", err);
    odmoe_status status = ODMOE_ERR_MEMORY;
    if (!sorted || !s->class_of)
        goto done;
    memcpy(sorted, need, (size_t)ids * sizeof *sorted);
    qsort(sorted, (size_t)ids, sizeof *sorted, descending);
    double tolerance = CLASS_TOLERANCE;
    while ((s->classes = group(sorted, ids, tolerance, NULL)) > SLAB_CLASSES_MAX)
        tolerance *= 2;
    s->class_bytes = mem_calloc((size_t)s->classes, sizeof *s->class_bytes, "the slab's size classes", err);
    if (!s->class_bytes)
        goto done;
    group(sorted, ids, tolerance, s->class_bytes);
    for (int32_t id = 0; id < ids; id++) {
        int32_t c = s->classes - 1;
        while (s->class_bytes[c] < need[id])
            c--;
        s->class_of[id] = (uint16_t)c;
    }
    status = ODMOE_OK;
done:
    free(sorted);
    return status;
}

/* The share of a region of `bytes` that is lost with the class that fits it worst. */
static double worst_loss(const slab *s, uint64_t bytes)
{
    double worst = 0;
    for (int32_t c = 0; c < s->classes; c++) {
        double loss = (double)(bytes % s->class_bytes[c]) / (double)bytes;
        worst = loss > worst ? loss : worst;
    }
    return worst;
}

/* How many of the largest experts make a region of a slab that has room for `room` of them: the smallest number that
 * wastes little, or the one that wastes least. */
static uint64_t region_experts(const slab *s, uint64_t room)
{
    uint64_t largest = s->class_bytes[0], best = 1;
    if (s->classes == 1)
        return room; /* regions never change their size class */
    uint64_t most = room / REGIONS_WANTED < REGION_EXPERTS_MAX ? room / REGIONS_WANTED : REGION_EXPERTS_MAX;
    for (uint64_t k = 1; k <= most; k++) {
        double loss = worst_loss(s, k * largest);
        if (loss < worst_loss(s, best * largest))
            best = k;
        if (loss <= REGION_LOSS)
            return k;
    }
    return best;
}

static odmoe_status make_regions(slab *s, odmoe_error *err)
{
    uint64_t length = region_experts(s, s->bytes / s->class_bytes[0]) * s->class_bytes[0],
             smallest = s->class_bytes[s->classes - 1];
    uint64_t whole = s->bytes / length, rest = s->bytes % length;
    uint64_t regions = whole + (rest >= smallest), slots = whole * (length / smallest) + rest / smallest;
    if (slots > INT32_MAX)
        return err_set(err, ODMOE_ERR_RANGE,
                       "a cache of %llu bytes would have too many places for experts of %llu bytes",
                       (unsigned long long)s->bytes, (unsigned long long)smallest);
    s->region = mem_calloc((size_t)regions, sizeof *s->region, "the slab's regions", err);
    s->owner = mem_calloc((size_t)slots, sizeof *s->owner, "the slab's slots", err);
    s->next_free = mem_calloc((size_t)slots, sizeof *s->next_free, "the slab's slots", err);
    s->region_of = mem_calloc((size_t)slots, sizeof *s->region_of, "the slab's slots", err);
    s->first_free = mem_calloc((size_t)s->classes, sizeof *s->first_free, "the slab's slots", err);
    if (!s->region || !s->owner || !s->next_free || !s->region_of || !s->first_free)
        return ODMOE_ERR_MEMORY;
    s->regions = s->empty_regions = (int32_t)regions;
    s->slots = (int32_t)slots;
    memset(s->owner, -1, (size_t)slots * sizeof *s->owner);
    memset(s->first_free, -1, (size_t)s->classes * sizeof *s->first_free);
    int32_t next = 0;
    for (int32_t r = 0; r < s->regions; r++) {
        slab_region *g = &s->region[r];
        *g = (slab_region){
            .at = (uint64_t)r * length, .bytes = (uint64_t)r < whole ? length : rest, .first = next, .size_class = -1};
        for (uint64_t i = 0; i < g->bytes / smallest; i++)
            s->region_of[next++] = r;
    }
    return ODMOE_OK;
}

odmoe_status slab_init(slab *s, uint64_t bytes, const uint64_t *need, int32_t ids, odmoe_error *err)
{
    *s = (slab){.bytes = bytes};
    odmoe_status status = make_classes(s, need, ids, err);
    if (status)
        return status;
    if (bytes < s->class_bytes[0])
        return err_set(err, ODMOE_ERR_BUDGET, "the expert cache has %llu bytes; at least %llu are needed",
                       (unsigned long long)bytes, (unsigned long long)s->class_bytes[0]);
    return make_regions(s, err);
}

void slab_clear(slab *s)
{
    free(s->class_bytes);
    free(s->class_of);
    free(s->region);
    free(s->owner);
    free(s->next_free);
    free(s->first_free);
    free(s->region_of);
    *s = (slab){0};
}

int slab_region_fits(const slab *s, int32_t region, int32_t id)
{
    return s->region[region].bytes >= s->class_bytes[s->class_of[id]];
}

/* Take an empty region's slots out of its class's free list. */
static void uncut(slab *s, slab_region *g)
{
    if (g->size_class < 0)
        return;
    int32_t *link = &s->first_free[g->size_class];
    while (*link >= 0)
        if (*link >= g->first && *link < g->first + g->slots)
            *link = s->next_free[*link];
        else
            link = &s->next_free[*link];
    g->size_class = -1;
}

static void cut(slab *s, slab_region *g, int32_t size_class)
{
    uncut(s, g);
    g->size_class = size_class;
    g->slots = (int32_t)(g->bytes / s->class_bytes[size_class]);
    for (int32_t i = g->slots - 1; i >= 0; i--) {
        s->next_free[g->first + i] = s->first_free[size_class];
        s->first_free[size_class] = g->first + i;
    }
}

int32_t slab_take(slab *s, int32_t id)
{
    int32_t size_class = s->class_of[id];
    for (int32_t r = 0; s->first_free[size_class] < 0 && s->empty_regions && r < s->regions; r++)
        if (!s->region[r].taken && slab_region_fits(s, r, id))
            cut(s, &s->region[r], size_class);
    int32_t slot = s->first_free[size_class];
    if (slot < 0)
        return -1;
    s->first_free[size_class] = s->next_free[slot];
    s->owner[slot] = id;
    if (!s->region[s->region_of[slot]].taken++)
        s->empty_regions--;
    return slot;
}

void slab_give(slab *s, int32_t slot)
{
    slab_region *g = &s->region[s->region_of[slot]];
    s->owner[slot] = -1;
    s->next_free[slot] = s->first_free[g->size_class];
    s->first_free[g->size_class] = slot;
    if (!--g->taken)
        s->empty_regions++;
}

uint64_t slab_at(const slab *s, int32_t slot)
{
    const slab_region *g = &s->region[s->region_of[slot]];
    return g->at + (uint64_t)(slot - g->first) * s->class_bytes[g->size_class];
}

uint64_t slab_slot_bytes(const slab *s, int32_t id)
{
    return s->class_bytes[s->class_of[id]];
}

/* How many of ids [0, n) each class has. */
static void count_members(const slab *s, int32_t n, uint64_t members[SLAB_CLASSES_MAX])
{
    memset(members, 0, SLAB_CLASSES_MAX * sizeof *members);
    for (int32_t id = 0; id < n; id++)
        members[s->class_of[id]]++;
}

/* The room that all ids take, in largest experts, when each class has its own regions of k of them. members [classes].
 */
static uint64_t room_for_all(const slab *s, const uint64_t *members, uint64_t k)
{
    uint64_t regions = 0;
    for (int32_t c = 0; c < s->classes; c++) {
        uint64_t slots = k * s->class_bytes[0] / s->class_bytes[c];
        regions += (members[c] + slots - 1) / slots;
    }
    return regions * k;
}

int slab_holds_all(const slab *s, int32_t n)
{
    /* Which class gets the shorter region at the end depends on the order of use, so with several it does not count. */
    uint64_t members[SLAB_CLASSES_MAX], largest = s->class_bytes[0];
    count_members(s, n, members);
    return room_for_all(s, members, s->region[0].bytes / largest) <= s->bytes / largest;
}

odmoe_status slab_bytes_for_all(const uint64_t *need, int32_t ids, uint64_t *bytes, odmoe_error *err)
{
    slab s = {0};
    odmoe_status status = make_classes(&s, need, ids, err);
    if (!status && s.class_bytes[0] > UINT64_MAX / 2 / ((uint64_t)ids + REGION_EXPERTS_MAX * SLAB_CLASSES_MAX))
        status = err_set(err, ODMOE_ERR_RANGE, "%d experts of %llu bytes are more than any memory", ids,
                         (unsigned long long)s.class_bytes[0]);
    if (status) {
        slab_clear(&s);
        return status;
    }
    uint64_t members[SLAB_CLASSES_MAX];
    count_members(&s, ids, members);
    /* The length of regions depends on the room, the room that is needed on the length of regions: grow until they
     * agree. */
    uint64_t room = 1, needed;
    while ((needed = room_for_all(&s, members, region_experts(&s, room))) > room)
        room = needed;
    *bytes = room * s.class_bytes[0];
    slab_clear(&s);
    return ODMOE_OK;
}

uint64_t slab_heap_bytes(uint64_t bytes, uint64_t smallest, uint64_t largest, int32_t ids)
{
    uint64_t slots = bytes / smallest + 1, regions = bytes / largest + 2;
    return slots * 3 * sizeof(int32_t) + regions * sizeof(slab_region) + (uint64_t)ids * sizeof(uint16_t) +
           SLAB_CLASSES_MAX * (sizeof(uint64_t) + sizeof(int32_t));
}

int slab_check(const slab *s, const char **what)
{
    int32_t empty = 0, listed = 0, room = 0;
    for (int32_t r = 0; r < s->regions; r++) {
        const slab_region *g = &s->region[r];
        int32_t taken = 0;
        for (int32_t i = 0; g->size_class >= 0 && i < g->slots; i++)
            if (s->owner[g->first + i] >= 0) {
                taken++;
                if (s->class_of[s->owner[g->first + i]] != g->size_class)
                    return *what = "a slot holds an expert of another size class", 0;
            }
        if (taken != g->taken)
            return *what = "a region counts its slots wrongly", 0;
        empty += !taken;
        room += g->size_class >= 0 ? g->slots - taken : 0;
    }
    for (int32_t c = 0; c < s->classes; c++)
        for (int32_t slot = s->first_free[c]; slot >= 0 && listed <= room; slot = s->next_free[slot], listed++)
            if (s->owner[slot] >= 0 || s->region[s->region_of[slot]].size_class != c)
                return *what = "the list of free slots holds one that is not free", 0;
    if (listed != room)
        return *what = "the lists of free slots are not complete", 0;
    if (empty != s->empty_regions)
        return *what = "empty regions are counted wrongly", 0;
    return 1;
}
