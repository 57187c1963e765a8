/* random_data.h - what the tests of all tables share: random and extreme numbers, and memory at a fence. */
#ifndef ODMOE_TESTS_KERNELS_RANDOM_DATA_H
#define ODMOE_TESTS_KERNELS_RANDOM_DATA_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "kernels/kernels.h"

static uint64_t seed = 1;
static inline uint64_t random_bits(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return seed ^ seed >> 33;
}
static inline double uniform(void) /* [-1, 1) */
{
    return (double)(int64_t)(random_bits() << 11) / 0x1p63;
}
static inline int below(int n) /* [0, n) */
{
    return (int)((random_bits() >> 20) % (uint64_t)n);
}

/* Memory whose last byte is the last before an unmapped page. */
typedef struct fenced {
    uint8_t *data;
    char *map;
    size_t size;
} fenced;

static inline fenced fenced_new(size_t bytes)
{
    size_t size = (bytes + 4095) / 4096 * 4096 + 4096;
    fenced f = {.map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), .size = size};
    assert_ptr_not_equal(f.map, MAP_FAILED);
    assert_int_equal(mprotect(f.map + size - 4096, 4096, PROT_NONE), 0);
    f.data = (uint8_t *)f.map + size - 4096 - bytes;
    return f;
}
static inline void fenced_free(fenced f)
{
    munmap(f.map, f.size);
}

enum kind { ORDINARY, EXTREME, KINDS };

static inline void fill_floats(enum kind kind, float *x, int64_t n)
{
    static const float size[] = {0, 1e-40f, 1e-30f, 1e-3f, 1, 1e4f, 1e15f};
    for (int64_t i = 0; i < n; i++) {
        float scale = kind == EXTREME ? size[i / 32 % 7] : 1;
        x[i] = (float)uniform() * scale;
        if (kind == EXTREME && below(5) == 0)
            x[i] = below(2) ? scale : -scale;
    }
}

/* The same bits, but for the sign of a zero and of what is not a number. */
static inline bool same(float a, float b)
{
    return a == b || (isnan(a) && isnan(b));
}

static inline const kernel_table *vector_table(int i)
{
    const kernel_table *t = kernel_table_at(i);
    return t && strcmp(t->name, "ref") ? t : NULL;
}

#endif
