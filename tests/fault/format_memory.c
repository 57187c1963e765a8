/* The k-th allocation fails, for k = 1, 2, 3... until an operation gets through: each time the status is ERR_MEMORY
 * and everything that was allocated is freed again. */
#include "format_files.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format/config.h"
#include "format/gguf.h"
#include "format/safetensors.h"

static odmoe_error err;
static bool counting;
static long allocations, fail_at, live;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *p, size_t size);
void __real_free(void *p);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *p, size_t size);
void __wrap_free(void *p);

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

void __wrap_free(void *p)
{
    live -= counting && p;
    __real_free(p);
}

/* Runs `open`, which frees what it opened, with ever later failures. A failure that does no harm (giving memory back)
 * may pass unnoticed. `other`: a status that is fine as well. */
static void fail_each(odmoe_status (*open)(const char *path), const char *path, long at_least, odmoe_status other)
{
    char kept[1024];
    snprintf(kept, sizeof kept, "%s", path);
    for (fail_at = 1;; fail_at++) {
        allocations = live = 0;
        memset(&err, 0, sizeof err);
        counting = true;
        odmoe_status status = open(kept);
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

static odmoe_status open_gguf(const char *path)
{
    gguf *g;
    odmoe_status status = gguf_open(path, &g, &err);
    if (!status)
        gguf_free(g);
    return status;
}

static odmoe_status open_file(const char *path)
{
    tensor_index *index;
    odmoe_status status = safetensors_open_file(path, &index, &err);
    if (!status)
        tensor_index_free(index);
    return status;
}

static odmoe_status open_folder(const char *path)
{
    tensor_index *index;
    odmoe_status status = safetensors_open_folder(path, &index, &err);
    if (!status)
        tensor_index_free(index);
    return status;
}

static odmoe_status read_config(const char *path)
{
    json_t *root;
    odmoe_status status = config_read(path, "config.json", 1 << 20, false, &root, &err);
    if (!status)
        json_decref(root);
    return status;
}

static void opening_gguf(void **state)
{
    bytes b = {0};
    gguf_marks at;
    small_gguf(&b, at);
    save(temp_path("small.gguf"), &b);
    bytes_free(&b);
    fail_each(open_gguf, temp_path("small.gguf"), 10, ODMOE_ERR_MEMORY);
}

static void opening_a_gguf_file_in_parts(void **state)
{
    fail_each(open_gguf, data_path("gguf/qwen3moe-Q8_0-split-00001-of-00002.gguf"), 40, ODMOE_ERR_MEMORY);
}

static void opening_a_safetensors_file(void **state)
{
    fail_each(open_file, data_path("models/mixtral/model.safetensors"), 5, ODMOE_ERR_MEMORY);
}

static void opening_a_folder_of_shards(void **state)
{
    fail_each(open_folder, data_path("models/qwen3_moe"), 20, ODMOE_ERR_MEMORY);
}

static void reading_a_config(void **state)
{
    json_set_alloc_funcs(__wrap_malloc, __wrap_free);
    /* jansson takes a failed allocation inside a string for a syntax error, and nobody can tell from outside */
    fail_each(read_config, data_path("models/qwen3_moe_yarn"), 30, ODMOE_ERR_FORMAT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opening_gguf),
        cmocka_unit_test(opening_a_gguf_file_in_parts),
        cmocka_unit_test(opening_a_safetensors_file),
        cmocka_unit_test(opening_a_folder_of_shards),
        cmocka_unit_test(reading_a_config),
    };
    return cmocka_run_group_tests(tests, temp_setup, temp_teardown);
}
