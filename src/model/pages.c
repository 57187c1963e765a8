#include "model/pages.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

uint64_t page_pool_bytes(const uint64_t *bytes, const page_counts *counts, int n_classes)
{
    uint64_t sum = 0;
    for (int i = 0; i < n_classes; i++)
        sum += (uint64_t)counts->n[i] * (bytes[i] + 2 * sizeof(int32_t));
    return sum;
}

static odmoe_status open_class(page_class *c, odmoe_error *err)
{
    if (!c->count)
        return ODMOE_OK;
    c->base = mem_pages_alloc((size_t)((uint64_t)c->count * c->bytes), "keys and values", err);
    c->holders = c->base ? mem_calloc((size_t)c->count, sizeof *c->holders, "the page list", err) : NULL;
    c->free_ids = c->holders ? mem_calloc((size_t)c->count, sizeof *c->free_ids, "the page list", err) : NULL;
    if (!c->free_ids)
        return ODMOE_ERR_MEMORY;
    c->free = c->count;
    for (int64_t i = 0; i < c->count; i++)
        c->free_ids[i] = (int32_t)(c->count - 1 - i);
    return ODMOE_OK;
}

odmoe_status page_pool_open(page_pool *p, const uint64_t *bytes, const page_counts *counts, int n_classes,
                            odmoe_error *err)
{
    *p = (page_pool){.n_classes = n_classes};
    if (pthread_mutex_init(&p->lock, NULL))
        return err_set(err, ODMOE_ERR_MEMORY, "no memory for a lock");
    p->lock_made = true;
    odmoe_status status = ODMOE_OK;
    for (int i = 0; i < n_classes && !status; i++) {
        p->classes[i].bytes = bytes[i];
        p->classes[i].count = counts->n[i];
        status = open_class(&p->classes[i], err);
    }
    return status;
}

void page_pool_close(page_pool *p)
{
    for (int i = 0; i < p->n_classes; i++) {
        page_class *c = &p->classes[i];
        mem_pages_free(c->base, (size_t)((uint64_t)c->count * c->bytes));
        free(c->holders);
        free(c->free_ids);
    }
    if (p->lock_made)
        pthread_mutex_destroy(&p->lock);
    memset(p, 0, sizeof *p);
}

/* ---- promises ---- */

bool pages_promise(page_pool *p, page_account *a, const page_counts *more)
{
    bool enough = true;
    pthread_mutex_lock(&p->lock);
    for (int i = 0; i < p->n_classes; i++)
        enough = enough && more->n[i] <= p->classes[i].free - p->classes[i].owed;
    for (int i = 0; i < p->n_classes && enough; i++) {
        p->classes[i].owed += more->n[i];
        a->promised.n[i] += more->n[i];
    }
    pthread_mutex_unlock(&p->lock);
    return enough;
}

void pages_forgive(page_pool *p, page_account *a)
{
    pthread_mutex_lock(&p->lock);
    for (int i = 0; i < p->n_classes; i++)
        p->classes[i].owed -= a->promised.n[i] - a->held.n[i];
    pthread_mutex_unlock(&p->lock);
    *a = (page_account){0};
}

uint64_t pages_unpromised(page_pool *p)
{
    uint64_t bytes = 0;
    pthread_mutex_lock(&p->lock);
    for (int i = 0; i < p->n_classes; i++)
        bytes += (uint64_t)(p->classes[i].free - p->classes[i].owed) * p->classes[i].bytes;
    pthread_mutex_unlock(&p->lock);
    return bytes;
}

/* ---- pages ---- */

static int64_t id_of(const page_class *c, const void *page)
{
    return (int64_t)((uint64_t)((const char *)page - c->base) / c->bytes);
}

/* Count one more page as held: of the account's promise, or, beyond it, of what is owed to no session. */
static bool hold(page_class *c, page_account *a, int class)
{
    if (a->held.n[class] < a->promised.n[class])
        c->owed--;
    else if (c->free - c->owed < 1)
        return false;
    else
        a->promised.n[class]++;
    a->held.n[class]++;
    return true;
}

void *pages_take(page_pool *p, page_account *a, int class)
{
    page_class *c = &p->classes[class];
    char *page = NULL;
    pthread_mutex_lock(&p->lock);
    if (hold(c, a, class)) {
        int32_t id = c->free_ids[--c->free];
        c->holders[id] = 1;
        page = c->base + (uint64_t)id * c->bytes;
    }
    pthread_mutex_unlock(&p->lock);
    if (page) /* what another session left must not show, in a saved file say */
        memset(page, 0, c->bytes);
    return page;
}

void pages_share(page_pool *p, page_account *a, int class, void *page, bool mine)
{
    page_class *c = &p->classes[class];
    pthread_mutex_lock(&p->lock);
    if (!mine || !hold(c, a, class)) {
        a->promised.n[class]++;
        a->held.n[class]++;
    }
    c->holders[id_of(c, page)]++;
    pthread_mutex_unlock(&p->lock);
}

void pages_drop(page_pool *p, page_account *a, int class, void *page, bool mine)
{
    page_class *c = &p->classes[class];
    int64_t id = id_of(c, page);
    pthread_mutex_lock(&p->lock);
    a->held.n[class]--;
    bool last = --c->holders[id] == 0;
    if (last)
        c->free_ids[c->free++] = (int32_t)id;
    if (a->promised.n[class] <= a->most.n[class] && (last || mine || c->free - c->owed > 0))
        c->owed++;
    else
        a->promised.n[class
        ]--; /* more than it needs; or another session holds it, and the pool cannot owe it to this one again */
    pthread_mutex_unlock(&p->lock);
}

bool pages_shared(page_pool *p, int class, const void *page)
{
    page_class *c = &p->classes[class];
    pthread_mutex_lock(&p->lock);
    bool shared = c->holders[id_of(c, page)] > 1;
    pthread_mutex_unlock(&p->lock);
    return shared;
}
