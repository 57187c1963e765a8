#include "text/grammar/charset.h"

#include <stdlib.h>

#include "base/mem.h"

odmoe_status charset_add(charset *set, uint32_t lo, uint32_t hi, odmoe_error *err)
{
    odmoe_status st = mem_grow((void **)&set->ranges, &set->capacity, set->count + 1, sizeof *set->ranges,
                               "a set of characters", err);
    if (!st)
        set->ranges[set->count++] = (char_range){lo, hi};
    return st;
}

static int by_start(const void *a, const void *b)
{
    const char_range *x = a, *y = b;
    return x->lo < y->lo ? -1 : x->lo > y->lo;
}

static void join(charset *set)
{
    size_t n = 0;
    if (set->count > 1)
        qsort(set->ranges, set->count, sizeof *set->ranges, by_start);
    for (size_t i = 0; i < set->count; i++) {
        char_range r = set->ranges[i];
        if (n && r.lo <= set->ranges[n - 1].hi + 1) {
            if (r.hi > set->ranges[n - 1].hi)
                set->ranges[n - 1].hi = r.hi;
        } else {
            set->ranges[n++] = r;
        }
    }
    set->count = n;
}

/* Replace the set by its members in [0, 0xD7FF] and [0xE000, CHAR_MAX_CODE]. */
static odmoe_status drop_surrogates(charset *set, odmoe_error *err)
{
    bool any = false;
    for (size_t i = 0; i < set->count; i++)
        any |= set->ranges[i].lo <= 0xDFFF && set->ranges[i].hi >= 0xD800;
    if (!any)
        return ODMOE_OK;
    charset kept = {0};
    odmoe_status st = charset_cut(set, 0, 0xD7FF, &kept, err);
    if (!st)
        st = charset_cut(set, 0xE000, CHAR_MAX_CODE, &kept, err);
    charset_free(set);
    *set = kept;
    return st;
}

odmoe_status charset_normalise(charset *set, odmoe_error *err)
{
    join(set);
    return drop_surrogates(set, err);
}

odmoe_status charset_negate(charset *set, odmoe_error *err)
{
    charset others = {0};
    uint32_t next = 0;
    odmoe_status st = ODMOE_OK;
    for (size_t i = 0; i < set->count && !st; i++) {
        if (set->ranges[i].lo > next)
            st = charset_add(&others, next, set->ranges[i].lo - 1, err);
        next = set->ranges[i].hi + 1;
    }
    if (!st && next <= CHAR_MAX_CODE)
        st = charset_add(&others, next, CHAR_MAX_CODE, err);
    charset_free(set);
    *set = others;
    return st ? st : charset_normalise(set, err);
}

odmoe_status charset_cut(const charset *from, uint32_t lo, uint32_t hi, charset *out, odmoe_error *err)
{
    odmoe_status st = ODMOE_OK;
    for (size_t i = 0; i < from->count && !st; i++) {
        char_range r = from->ranges[i];
        if (r.lo <= hi && r.hi >= lo)
            st = charset_add(out, r.lo > lo ? r.lo : lo, r.hi < hi ? r.hi : hi, err);
    }
    return st;
}

bool charset_has(const charset *set, uint32_t c)
{
    return charset_covers(set, c, c);
}

bool charset_covers(const charset *set, uint32_t lo, uint32_t hi)
{
    for (size_t i = 0; i < set->count; i++)
        if (set->ranges[i].lo <= lo && hi <= set->ranges[i].hi)
            return true;
    return false;
}

void charset_free(charset *set)
{
    free(set->ranges);
    *set = (charset){0};
}
