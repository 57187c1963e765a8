/* Opening files while memory runs out. */
#include "failing_memory.h"

#include <glob.h>
#include <jansson.h>
#include <stdio.h>

#include "format/config.h"
#include "format/gguf.h"
#include "format/safetensors.h"
#include "odmoe_tensors.h"

static odmoe_status open_gguf(const void *path, odmoe_error *err)
{
    gguf *g;
    odmoe_status status = gguf_open(path, &g, err);
    if (!status)
        gguf_free(g);
    return status;
}

static odmoe_status open_file(const void *path, odmoe_error *err)
{
    tensor_index *index;
    odmoe_status status = safetensors_open_file(path, &index, err);
    if (!status)
        tensor_index_free(index);
    return status;
}

static odmoe_status open_folder(const void *path, odmoe_error *err)
{
    tensor_index *index;
    odmoe_status status = safetensors_open_folder(path, &index, err);
    if (!status)
        tensor_index_free(index);
    return status;
}

static odmoe_status read_config(const void *path, odmoe_error *err)
{
    json_t *root;
    odmoe_status status = config_read(path, "config.json", 1 << 20, false, &root, err);
    if (!status)
        json_decref(root);
    return status;
}

static odmoe_status write_tensors(const void *path, odmoe_error *err)
{
    const odmoe_tensor tensors[] = {{"a", "F32", 2, {1, 2}, NULL}, {"b", "I64", 1, {1}, NULL}};
    const float a[] = {1, 2};
    odmoe_tensor_writer *w;
    odmoe_status status = odmoe_tensors_begin(path, tensors, 2, &w, err);
    if (status)
        return status;
    odmoe_tensors_write(w, 0, 0, 2, a, NULL);
    return odmoe_tensors_finish(w, err);
}

static odmoe_status write_bytes(const void *path, odmoe_error *err)
{
    odmoe_file *f;
    odmoe_status status = odmoe_file_begin(path, &f, err);
    if (status)
        return status;
    odmoe_file_write(f, "x", 1, 0, NULL);
    return odmoe_file_finish(f, err);
}

static void fail_path(odmoe_status (*operation)(const void *, odmoe_error *), const char *path, long at_least,
                      odmoe_status other)
{
    char kept[1024];
    snprintf(kept, sizeof kept, "%s", path);
    fail_each(operation, kept, at_least, other);
}

static void opening_gguf(void **state)
{
    bytes b = {0};
    gguf_marks at;
    small_gguf(&b, at);
    save(temp_path("small.gguf"), &b);
    bytes_free(&b);
    fail_path(open_gguf, temp_path("small.gguf"), 10, ODMOE_ERR_MEMORY);
}

static void opening_a_gguf_file_in_parts(void **state)
{
    fail_path(open_gguf, data_path("gguf/qwen3moe-Q8_0-split-00001-of-00002.gguf"), 40, ODMOE_ERR_MEMORY);
}

static void opening_a_safetensors_file(void **state)
{
    fail_path(open_file, data_path("models/mixtral/model.safetensors"), 5, ODMOE_ERR_MEMORY);
    fail_path(open_file, data_path("families/qwen3_moe_nvfp4/model.safetensors"), 8, ODMOE_ERR_MEMORY);
}

static void opening_a_folder_of_shards(void **state)
{
    fail_path(open_folder, data_path("models/qwen3_moe"), 20, ODMOE_ERR_MEMORY);
}

/* Whatever fails, no half of a file is left. */
static void writing_files(void **state)
{
    json_set_alloc_funcs(__wrap_malloc, __wrap_free);
    fail_path(write_tensors, temp_path("written.safetensors"), 20, ODMOE_ERR_MEMORY);
    fail_path(write_bytes, temp_path("written.bytes"), 4, ODMOE_ERR_MEMORY);
    glob_t found;
    assert_int_equal(glob(temp_path("written.*"), 0, NULL, &found), 0);
    assert_int_equal(found.gl_pathc, 2);
    globfree(&found);
}

static void reading_a_config(void **state)
{
    json_set_alloc_funcs(__wrap_malloc, __wrap_free);
    /* jansson takes a failed allocation inside a string for a syntax error, and nobody can tell from outside */
    fail_path(read_config, data_path("models/qwen3_moe_yarn"), 30, ODMOE_ERR_FORMAT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opening_gguf),
        cmocka_unit_test(opening_a_gguf_file_in_parts),
        cmocka_unit_test(opening_a_safetensors_file),
        cmocka_unit_test(opening_a_folder_of_shards),
        cmocka_unit_test(writing_files),
        cmocka_unit_test(reading_a_config),
    };
    return cmocka_run_group_tests(tests, temp_setup, temp_teardown);
}
