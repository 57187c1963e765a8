/* store_fixture.h - a made-up model for the tests of the store: random bytes in a file (and in memory), experts that
 * lie in it with gaps at any offset, of equal or of different sizes. */
#ifndef TESTS_STORE_FIXTURE_H
#define TESTS_STORE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/layout.h"
#include "store/store.h"

typedef struct model_fixture {
    int layers, experts;
    char path[64];
    uint8_t *bytes; /* the file */
    uint64_t size;
    expert_index *index;
    tensor_index *tensors;
} model_fixture;

static inline uint32_t fixture_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

/* How a fixture's experts differ: extents of 2 * halves[layer % 4][extent] bytes, plus up to 2 * `jitter` each. */
typedef struct fixture_sizes {
    int layers, experts;
    int64_t halves[4][3];
    uint32_t jitter;
    uint32_t gap; /* bytes between extents, at most, and half of it at least; 0: they touch */
} fixture_sizes;

static inline void fixture_make(model_fixture *m, const fixture_sizes *z, bool on_disk)
{
    uint64_t seed = 7, at = 64 + 13;
    *m = (model_fixture){.layers = z->layers, .experts = z->experts};
    m->index = expert_index_create(z->layers, z->experts, NULL);
    assert_non_null(m->index);
    for (int l = 0; l < z->layers; l++)
        for (int e = 0; e < z->experts; e++) {
            expert_extent p[3];
            for (int i = 0; i < 3; i++) {
                int64_t n = z->halves[l % 4][i] + (z->jitter ? fixture_random(&seed) % z->jitter : 0);
                p[i] = (expert_extent){.tag = (uint32_t)i, .offset = at, .length = (uint64_t)n * 2};
                at += p[i].length + (z->gap ? z->gap / 2 + fixture_random(&seed) % (z->gap / 2) : 0);
            }
            assert_int_equal(expert_index_set(m->index, l, e, p, 3, NULL), ODMOE_OK);
        }
    m->size = at; /* with gap 0 the last expert ends where the file does: in the middle of a block */
    m->bytes = malloc(m->size);
    assert_non_null(m->bytes);
    for (uint64_t i = 0; i < m->size; i++)
        m->bytes[i] = (uint8_t)fixture_random(&seed);
    strcpy(m->path, "made-up.bin");
    if (on_disk) {
        strcpy(m->path, "store-test-XXXXXX");
        int fd = mkstemp(m->path);
        assert_true(fd >= 0);
        FILE *f = fdopen(fd, "wb");
        assert_int_equal(fwrite(m->bytes, 1, m->size, f), m->size);
        assert_int_equal(fclose(f), 0);
    }
    int file;
    m->tensors = tensor_index_create(NULL);
    assert_non_null(m->tensors);
    assert_int_equal(tensor_index_add_file(m->tensors, m->path, m->size, &file, NULL), ODMOE_OK);
}

static inline void fixture_free(model_fixture *m, bool on_disk)
{
    if (on_disk)
        unlink(m->path);
    expert_index_free(m->index);
    tensor_index_free(m->tensors);
    free(m->bytes);
}

/* A fetch for one decoded token. */
static inline odmoe_status fixture_begin(store *s, int layer, const int32_t *experts, int n, fetch_order order,
                                         store_fetch **out, odmoe_error *err)
{
    fetch_request request = {.layer = layer, .n = n, .experts = experts, .order = order, .size = {FETCH_DECODE, 1, 1}};
    return store_fetch_begin(s, &request, out, err);
}

/* The view shows exactly the bytes of the file. */
static inline bool fixture_view_is_right(const model_fixture *m, const pinned_expert *view)
{
    int n;
    const expert_extent *p = expert_index_extents(m->index, view->layer, view->expert, &n);
    if (view->n != n || view->extents != p)
        return false;
    for (int i = 0; i < n; i++)
        if (memcmp(view->data[i], m->bytes + p[i].offset, p[i].length))
            return false;
    return true;
}

#endif
