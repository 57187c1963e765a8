/* failing_memory.h - the k-th allocation fails. For programs linked with --wrap for malloc, calloc, realloc,
 * posix_memalign and free; other threads may allocate at the same time.
 */
#ifndef ODMOE_TESTS_FAILING_MEMORY_H
#define ODMOE_TESTS_FAILING_MEMORY_H

#include "format_files.h"

/* fail_each - run `operation`, which frees what it took and reports in *err, with ever later failures until one lies
 * behind its end. Each time the status is ERR_MEMORY (or `other`, a status that is fine as well) and nothing is left
 * allocated. A failure that does no harm (giving memory back) may pass unnoticed. at_least: fewer allocations than that
 * would mean that nothing was tested. */
void fail_each(odmoe_status (*operation)(const void *ctx, odmoe_error *err), const void *ctx, long at_least,
               odmoe_status other);

/* Libraries that are not linked with --wrap (jansson) can be given these. */
void *__wrap_malloc(size_t size);
void __wrap_free(void *p);

#endif
