#include "failing_memory.h"

#include <errno.h>
#include <string.h>

static _Atomic bool counting; /* other threads allocate and free as well */
static _Atomic long allocations, live;
static long fail_at;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *p, size_t size);
void __real_free(void *p);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *p, size_t size);
int __real_posix_memalign(void **out, size_t alignment, size_t size);
int __wrap_posix_memalign(void **out, size_t alignment, size_t size);

static bool refused(void)
{
    return counting && ++allocations == fail_at;
}

static void *counted(void *p)
{
    live += counting && p;
    return p;
}

void *__wrap_malloc(size_t size)
{
    return refused() ? NULL : counted(__real_malloc(size));
}

void *__wrap_calloc(size_t count, size_t size)
{
    return refused() ? NULL : counted(__real_calloc(count, size));
}

void *__wrap_realloc(void *p, size_t size)
{
    if (refused())
        return NULL;
    return p ? __real_realloc(p, size) : counted(__real_realloc(p, size));
}

int __wrap_posix_memalign(void **out, size_t alignment, size_t size)
{
    int failed = refused() ? ENOMEM : __real_posix_memalign(out, alignment, size);
    if (!failed)
        counted(*out);
    return failed;
}

void __wrap_free(void *p)
{
    live -= counting && p;
    __real_free(p);
}

void fail_each(odmoe_status (*operation)(const void *ctx, odmoe_error *err), const void *ctx, long at_least,
               odmoe_status other)
{
    for (fail_at = 1;; fail_at++) {
        odmoe_error err = {0};
        allocations = live = 0;
        counting = true;
        odmoe_status status = operation(ctx, &err);
        counting = false;
        if (live)
            fail_msg("allocation %ld failed: %ld blocks are not freed", fail_at, live);
        if (!status && allocations < fail_at)
            break;
        if (status && status != other)
            assert_error(&err, status, ODMOE_ERR_MEMORY, "no memory", " ");
    }
    assert_true(fail_at > at_least);
}
