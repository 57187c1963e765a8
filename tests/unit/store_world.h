/* store_world.h - a store over the back end that does as it is told, and how tests fetch from it. */
#ifndef TESTS_STORE_WORLD_H
#define TESTS_STORE_WORLD_H

#include "store_fake_io.h"

#include "store/store.h"

enum { E = 8 };
static const fixture_sizes equal = {
    .layers = 3, .experts = E, .halves = {{9000, 9000, 12000}, {9000, 9000, 12000}, {9000, 9000, 12000}}, .gap = 20000};
static const fixture_sizes mixed = {
    .layers = 4,
    .experts = E,
    .halves = {{90000, 90000, 20000}, {5000, 5000, 7001}, {300, 301, 302}, {60000, 9, 9}},
    .jitter = 30000,
    .gap = 20000};
static const int32_t all[E] = {0, 1, 2, 3, 4, 5, 6, 7};
enum { READS = 3 /* requests an expert */ };

typedef struct world {
    model_fixture model;
    fake_io fake;
    store *s;
} world;

static inline void world_make(world *w, const fixture_sizes *sizes, uint64_t bytes)
{
    fixture_make(&w->model, sizes, false);
    fake_init(&w->fake, &w->model);
    w->s = fake_store(&w->fake, bytes ? bytes : store_floor(w->model.index), "lru");
}

static inline void world_make_room(world *w, int64_t experts)
{
    fixture_make(&w->model, &equal, false);
    fake_init(&w->fake, &w->model);
    w->s = fake_store(&w->fake, store_bytes_for(w->model.index, experts), "lru");
}

static inline void world_free(world *w)
{
    store_close(w->s);
    assert_false(w->fake.unaligned);
    fixture_free(&w->model, false);
}

static inline store_fetch *begin(world *w, int layer, const int32_t *list, int n, fetch_order order)
{
    store_fetch *b;
    assert_int_equal(fixture_begin(w->s, layer, list, n, order, &b, NULL), ODMOE_OK);
    return b;
}

static inline pinned_expert next(world *w, store_fetch *b)
{
    pinned_expert view;
    odmoe_error err;
    if (store_fetch_next(b, &view, &err))
        fail_msg("%s", err.message);
    if (view.expert >= 0)
        assert_true(fixture_view_is_right(&w->model, &view));
    return view;
}

static inline void fetch(world *w, int layer, const int32_t *list, int n, fetch_order order)
{
    store_fetch *b = begin(w, layer, list, n, order);
    for (int i = 0; i < n; i++) {
        pinned_expert view = next(w, b);
        assert_true(view.expert >= 0);
        store_fetch_release(b, &view);
    }
    assert_true(next(w, b).expert < 0);
    store_fetch_end(b);
}

static inline store_totals totals_of(const world *w)
{
    store_totals t;
    store_totals_get(w->s, &t);
    assert_true(t.used_bytes <= t.cache_bytes);
    return t;
}

#endif
