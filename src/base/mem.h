/* mem.h - allocation with overflow checks and errors as values. Tests inject failures by wrapping malloc and mmap. */
#ifndef ODMOE_BASE_MEM_H
#define ODMOE_BASE_MEM_H

#include "base/status.h"

/* mem_calloc - count * size zeroed bytes (at least 1), or NULL with err set (ERR_MEMORY, also on overflow).
 * `what` names the thing for the message. Free with free(). */
void *mem_calloc(size_t count, size_t size, const char *what, odmoe_error *err);

/* mem_strdup - a copy of text[0, length) with a terminating 0, or NULL with err set. Free with free(). */
char *mem_strdup(const char *text, size_t length, odmoe_error *err);

/* mem_grow - make *array (elements of `size` bytes) hold at least `need` of them; *capacity is updated, doubling.
 * On failure *array and *capacity are as before and err is set. */
odmoe_status mem_grow(void **array, size_t *capacity, size_t need, size_t size, const char *what, odmoe_error *err);

/* mem_pages_alloc - `bytes` zeroed bytes of anonymous memory at a page boundary, on huge pages where the kernel gives
 * them (madvise), not yet touched. NULL with err set. Free with mem_pages_free and the same size. */
void *mem_pages_alloc(size_t bytes, const char *what, odmoe_error *err);
void mem_pages_free(void *pages, size_t bytes);

/* mem_mul, mem_add - a * b, a + b into *out; false on overflow (then *out is unchanged). */
static inline int mem_mul(uint64_t a, uint64_t b, uint64_t *out)
{
    uint64_t r;
    if (__builtin_mul_overflow(a, b, &r))
        return 0;
    *out = r;
    return 1;
}
static inline int mem_add(uint64_t a, uint64_t b, uint64_t *out)
{
    uint64_t r;
    if (__builtin_add_overflow(a, b, &r))
        return 0;
    *out = r;
    return 1;
}

#endif
