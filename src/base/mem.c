#include "base/mem.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

void *mem_calloc(size_t count, size_t size, const char *what, odmoe_error *err)
{
    void *p = calloc(count ? count : 1, size ? size : 1);
    if (!p)
        err_set(err, ODMOE_ERR_MEMORY, "no memory for %s (%zu x %zu bytes)", what, count, size);
    return p;
}

char *mem_strdup(const char *text, size_t length, odmoe_error *err)
{
    char *p = length < SIZE_MAX ? malloc(length + 1) : NULL;
    if (!p) {
        err_set(err, ODMOE_ERR_MEMORY, "no memory for a string of %zu bytes", length);
        return NULL;
    }
    memcpy(p, text, length);
    p[length] = 0;
    return p;
}

odmoe_status mem_grow(void **array, size_t *capacity, size_t need, size_t size, const char *what, odmoe_error *err)
{
    if (need <= *capacity)
        return ODMOE_OK;
    size_t want = *capacity ? *capacity : 16;
    while (want < need && want <= SIZE_MAX / 2)
        want *= 2;
    size_t bytes;
    void *p = want < need || __builtin_mul_overflow(want, size, &bytes) ? NULL : realloc(*array, bytes);
    if (!p)
        return err_set(err, ODMOE_ERR_MEMORY, "no memory for %s (%zu x %zu bytes)", what, need, size);
    *array = p;
    *capacity = want;
    return ODMOE_OK;
}

void *mem_pages_alloc(size_t bytes, const char *what, odmoe_error *err)
{
    void *p = mmap(NULL, bytes ? bytes : 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
        err_set(err, ODMOE_ERR_MEMORY, "no memory for %s (%zu bytes)", what, bytes);
        return NULL;
    }
    madvise(p, bytes, MADV_HUGEPAGE); /* a hint: a kernel without huge pages refuses it and nothing is lost */
    return p;
}

void mem_pages_free(void *pages, size_t bytes)
{
    if (pages)
        munmap(pages, bytes ? bytes : 1);
}
