/* arena.h - lay out a workspace: the same function measures it (base NULL) and carves it out of one allocation, so that
 * the memory plan and the program cannot disagree. Pieces are aligned to 64 bytes. */
#ifndef ODMOE_BASE_ARENA_H
#define ODMOE_BASE_ARENA_H

#include <stddef.h>
#include <stdint.h>

typedef struct arena {
    uint8_t *base; /* NULL: only count */
    size_t used;   /* saturates at SIZE_MAX / 2, which no plan accepts */
} arena;

/* arena_take - count * size bytes; NULL while measuring. The caller allocates `used` bytes between the two runs. */
static inline void *arena_take(arena *a, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > SIZE_MAX / 4 || a->used > SIZE_MAX / 4) {
        a->used = SIZE_MAX / 2;
        return NULL;
    }
    void *p = a->base ? a->base + a->used : NULL;
    a->used += (bytes + 63) & ~(size_t)63;
    return p;
}

#endif
