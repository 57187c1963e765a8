/* Folders: model.safetensors, or shards behind model.safetensors.index.json. */
#include "format_files.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/safetensors.h"

static odmoe_error err;

#define INDEX "model.safetensors.index.json"
#define ONE "one.safetensors"
#define TWO "two.safetensors"

static void save_shard(const char *name, const char *tensor)
{
    char header[256];
    bytes b = {0};
    snprintf(header, sizeof header,
             "{\"%s\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
             "\"both\":{\"dtype\":\"BF16\",\"shape\":[1],\"data_offsets\":[4,6]}}",
             tensor);
    small_safetensors(&b, header, 6);
    save(temp_path(name), &b);
    bytes_free(&b);
}

static odmoe_status open_folder(tensor_index **index)
{
    *index = NULL;
    memset(&err, 0, sizeof err);
    return safetensors_open_folder(temp_path("."), index, &err);
}

static odmoe_status open_index(const char *json)
{
    tensor_index *index;
    save_text(temp_path(INDEX), json);
    odmoe_status status = open_folder(&index);
    tensor_index_free(index);
    return status;
}

static int fresh_shards(void **state)
{
    temp_setup(state);
    save_shard(ONE, "x");
    save_shard(TWO, "y");
    return 0;
}

static void tensors_are_found_in_the_shard_that_the_index_names(void **state)
{
    tensor_index *index;
    save_text(temp_path(INDEX), "{\"metadata\":{\"total_size\":1e1},\"weight_map\":{\"x\":\"" ONE "\",\"y\":\"" TWO
                                "\",\"both\":\"" TWO "\"}}\n");
    assert_int_equal(open_folder(&index), ODMOE_OK);
    assert_int_equal(tensor_index_files(index), 2);
    assert_int_equal(tensor_index_count(index), 3);
    const tensor_info *x = tensor_index_find(index, "x"), *both = tensor_index_find(index, "both");
    assert_non_null(strstr(tensor_index_path(index, x->file), ONE));
    assert_non_null(strstr(tensor_index_path(index, both->file), TWO));
    tensor_index_free(index);
}

static void a_single_file_goes_before_an_index(void **state)
{
    tensor_index *index;
    save_shard("model.safetensors", "single");
    save_text(temp_path(INDEX), "{\"weight_map\":{\"x\":\"" ONE "\"}}");
    assert_int_equal(open_folder(&index), ODMOE_OK);
    assert_non_null(tensor_index_find(index, "single"));
    tensor_index_free(index);
}

static void a_folder_with_neither_is_an_error_that_names_both(void **state)
{
    tensor_index *index;
    assert_error(&err, open_folder(&index), ODMOE_ERR_IO, "model.safetensors nor", INDEX);
    assert_error(&err, safetensors_open_folder(temp_path("none"), &index, &err), ODMOE_ERR_IO, "none", INDEX);
}

static void a_listed_tensor_that_the_shard_lacks_is_an_error(void **state)
{
    assert_error(&err, open_index("{\"weight_map\":{\"x\":\"" ONE "\",\"z\":\"" TWO "\"}}"), ODMOE_ERR_FORMAT, INDEX,
                 "'z' is not in 'two.safetensors'");
    assert_error(&err, open_index("{\"weight_map\":{\"x\":\"" TWO "\"}}"), ODMOE_ERR_FORMAT, INDEX,
                 "'x' is not in 'two.safetensors'");
}

static void a_shard_that_is_missing_or_broken_is_named(void **state)
{
    assert_error(&err, open_index("{\"weight_map\":{\"x\":\"three.safetensors\"}}"), ODMOE_ERR_IO, "three.safetensors",
                 "cannot open");
    save_text(temp_path(TWO), "short");
    assert_error(&err, open_index("{\"weight_map\":{\"y\":\"" TWO "\"}}"), ODMOE_ERR_FORMAT, TWO, "too few");
}

static void shard_names_may_not_leave_the_folder(void **state)
{
    static const char *const names[] = {"../one.safetensors",
                                        "/etc/passwd",
                                        "/tmp/one.safetensors",
                                        "sub/../one.safetensors",
                                        "..",
                                        "..\\\\one.safetensors",
                                        ".safetensors",
                                        ".hidden.safetensors",
                                        "",
                                        "one.bin",
                                        "one\\n.safetensors",
                                        "one\\u001b.safetensors",
                                        "..\\/one.safetensors"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char json[256];
        snprintf(json, sizeof json, "{\"weight_map\":{\"x\":\"%s\"}}", names[i]);
        assert_error(&err, open_index(json), ODMOE_ERR_FORMAT, INDEX, "weight_map: 'x' is in '");
    }
}

static void a_shard_name_of_300_bytes_is_refused(void **state)
{
    char json[512], name[301];
    memset(name, 'n', 300);
    name[300] = 0;
    snprintf(json, sizeof json, "{\"weight_map\":{\"x\":\"%s.safetensors\"}}", name);
    assert_error(&err, open_index(json), ODMOE_ERR_FORMAT, INDEX, "not a .safetensors file in this folder");
}

static void a_malformed_index_is_an_error(void **state)
{
    static const char *const broken[] = {"",
                                         "[]",
                                         "{",
                                         "{\"weight_map\":",
                                         "{\"weight_map\":{\"x\":",
                                         "{\"weight_map\":{\"x\":\"" ONE "\"",
                                         "{\"weight_map\":{\"x\":\"" ONE "\"}",
                                         "{\"weight_map\":{\"x\":\"" ONE "\"}} {}",
                                         "{\"weight_map\":[]}",
                                         "{\"weight_map\":null}",
                                         "{\"weight_map\":{\"x\":1}}",
                                         "{\"weight_map\":{\"x\":[\"" ONE "\"]}}",
                                         "{\"weight_map\":{}}",
                                         "{\"metadata\":{}}",
                                         "{\"a\":[[[]]}"};
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++)
        assert_error(&err, open_index(broken[i]), ODMOE_ERR_FORMAT, INDEX, ": ");
}

static void a_tensor_listed_twice_is_an_error(void **state)
{
    assert_error(&err, open_index("{\"weight_map\":{\"x\":\"" ONE "\",\"x\":\"" TWO "\"}}"), ODMOE_ERR_FORMAT, INDEX,
                 "lists tensor 'x' twice");
}

static void a_shard_that_is_a_fifo_or_folder_is_refused_without_waiting(void **state)
{
    assert_int_equal(mkfifo(temp_path("f.safetensors"), 0600), 0);
    assert_error(&err, open_index("{\"weight_map\":{\"x\":\"f.safetensors\"}}"), ODMOE_ERR_IO, "f.safetensors",
                 "not a regular file");
    assert_int_equal(mkdir(temp_path("d.safetensors"), 0700), 0);
    assert_error(&err, open_index("{\"weight_map\":{\"x\":\"d.safetensors\"}}"), ODMOE_ERR_IO, "d.safetensors",
                 "is a folder");
}

static void an_index_cut_off_at_any_byte_is_an_error(void **state)
{
    char json[] = "{\"metadata\":{\"n\":[1,{\"a\":null}]},\"weight_map\":{\"x\":\"" ONE "\",\"y\":\"" TWO "\"}}";
    assert_int_equal(open_index(json), ODMOE_OK);
    for (size_t length = strlen(json); length-- > 0;) {
        json[length] = 0;
        assert_error(&err, open_index(json), ODMOE_ERR_FORMAT, INDEX, ": ");
    }
}

#define FRESH(test) cmocka_unit_test_setup_teardown(test, fresh_shards, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FRESH(tensors_are_found_in_the_shard_that_the_index_names),
        FRESH(a_single_file_goes_before_an_index),
        FRESH(a_folder_with_neither_is_an_error_that_names_both),
        FRESH(a_listed_tensor_that_the_shard_lacks_is_an_error),
        FRESH(a_shard_that_is_missing_or_broken_is_named),
        FRESH(shard_names_may_not_leave_the_folder),
        FRESH(a_shard_name_of_300_bytes_is_refused),
        FRESH(a_malformed_index_is_an_error),
        FRESH(a_tensor_listed_twice_is_an_error),
        FRESH(a_shard_that_is_a_fifo_or_folder_is_refused_without_waiting),
        FRESH(an_index_cut_off_at_any_byte_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
