/* The tensor index by itself: what may be added, what sealing finds, reading. */
#include "format_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "format/tensors.h"

static odmoe_error err;

static tensor_index *index_of_file(uint64_t size)
{
    int file;
    tensor_index *index = tensor_index_create(&err);
    assert_non_null(index);
    assert_int_equal(tensor_index_add_file(index, temp_path("weights"), size, &file, &err), ODMOE_OK);
    assert_int_equal(file, 0);
    return index;
}

static odmoe_status add(tensor_index *index, const char *name, dtype type, uint64_t rows, uint64_t cols,
                        uint64_t offset, uint64_t length)
{
    const tensor_info info = {
        .name = name, .type = type, .dims = 2, .shape = {rows, cols}, .offset = offset, .length = length};
    return tensor_index_add(index, &info, &err);
}

static void tensors_are_found_by_name_and_listed_in_its_order(void **state)
{
    tensor_index *index = index_of_file(100000);
    char name[32];
    for (int i = 999; i >= 0; i--) {
        snprintf(name, sizeof name, "layer.%03d", i * 7 % 1000);
        assert_int_equal(add(index, name, DTYPE_F32, 1, 1, (uint64_t)i * 4, 4), ODMOE_OK);
    }
    assert_int_equal(tensor_index_seal(index, &err), ODMOE_OK);
    assert_int_equal(tensor_index_count(index), 1000);
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "layer.%03d", i);
        assert_string_equal(tensor_index_at(index, (size_t)i)->name, name);
        assert_ptr_equal(tensor_index_find(index, name), tensor_index_at(index, (size_t)i));
    }
    assert_null(tensor_index_find(index, "layer.1000"));
    assert_null(tensor_index_find(index, ""));
    tensor_index_free(index);
}

static void names_and_messages_hold_nothing_that_steers_a_terminal(void **state)
{
    static const char *const bad[] = {"a\x1b[2J",
                                      "a\x7f",
                                      "a\xC2\x9B"
                                      "2J",
                                      "a\xC2\x85",
                                      "a\xFF",
                                      "\xE2\x82",
                                      "\x9B",
                                      "\xC0\x9B"};
    tensor_index *index = index_of_file(100);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        odmoe_status st = add(index, bad[i], DTYPE_F32, 1, 1, 0, 4);
        assert_error(&err, st, ODMOE_ERR_FORMAT, "control characters", "?");
        for (const char *c = err.message; *c; c++)
            assert_true((unsigned char)*c >= 0x20 && (unsigned char)*c < 0x7F);
    }
    assert_int_equal(add(index, "\xC2\xA0\xE2\x82\xAC\xF0\x9F\xA6\x99", DTYPE_F32, 1, 1, 0, 4), ODMOE_OK);
    tensor_index_free(index);
    err_set(&err, ODMOE_ERR_IO, "%s", "caf\xC3\xA9\xC3");
    assert_string_equal(err.message, "caf\xC3\xA9?");
    err_context(&err, "%s", "\xC2\x9B");
    assert_string_equal(err.message, "??: caf\xC3\xA9?");
}

static void names_are_copied_however_long(void **state)
{
    tensor_index *index = index_of_file(100);
    size_t length = 200000;
    char *name = malloc(length + 1);
    assert_non_null(name);
    memset(name, 'n', length);
    name[length] = 0;
    assert_int_equal(add(index, "short", DTYPE_F32, 1, 1, 0, 4), ODMOE_OK);
    assert_int_equal(add(index, name, DTYPE_F32, 1, 1, 4, 4), ODMOE_OK);
    name[0] = 'x';
    assert_int_equal(add(index, "other", DTYPE_F32, 1, 1, 8, 4), ODMOE_OK);
    assert_int_equal(tensor_index_seal(index, &err), ODMOE_OK);
    name[0] = 'n';
    assert_int_equal(tensor_index_find(index, name)->offset, 4);
    assert_non_null(tensor_index_find(index, "short"));
    free(name);
    tensor_index_free(index);
}

static void a_tensor_must_lie_inside_its_file(void **state)
{
    tensor_index *index = index_of_file(100);
    assert_int_equal(add(index, "last", DTYPE_F32, 1, 1, 96, 4), ODMOE_OK);
    assert_error(&err, add(index, "w", DTYPE_F32, 1, 1, 97, 4), ODMOE_ERR_FORMAT, "weights: tensor 'w'", "outside");
    assert_error(&err, add(index, "w", DTYPE_F32, 1, 1, UINT64_MAX - 3, 4), ODMOE_ERR_FORMAT, "'w'", "outside");
    assert_error(&err, add(index, "w", DTYPE_F32, 1, 1, UINT64_MAX, 4), ODMOE_ERR_FORMAT, "'w'", "outside");
    tensor_index_free(index);
}

static void length_and_rows_must_fit_type_and_shape(void **state)
{
    tensor_index *index = index_of_file(1 << 20);
    assert_int_equal(add(index, "good", DTYPE_Q4_K, 3, 512, 0, 864), ODMOE_OK);
    assert_error(&err, add(index, "w", DTYPE_Q4_K, 3, 512, 0, 863), ODMOE_ERR_FORMAT, "'w'", "q4_k and shape need 864");
    assert_error(&err, add(index, "w", DTYPE_Q4_K, 512, 3, 0, 864), ODMOE_ERR_FORMAT, "'w'", "blocks of 256");
    assert_error(&err, add(index, "w", DTYPE_F32, 1ull << 62, 1, 0, 0), ODMOE_ERR_FORMAT, "'w'", "overflows");
    assert_error(&err, add(index, "w", DTYPE_F16, 1ull << 32, 1ull << 32, 0, 0), ODMOE_ERR_FORMAT, "'w'", "overflows");
    tensor_index_free(index);
}

static void names_are_printable(void **state)
{
    static const char *const names[] = {"", "\n", "a\x7f", "a\x1b[0m"};
    tensor_index *index = index_of_file(100);
    for (int i = 0; i < 4; i++)
        assert_error(&err, add(index, names[i], DTYPE_F32, 1, 1, 0, 4), ODMOE_ERR_FORMAT, "weights", "its name");
    assert_int_equal(add(index, "caf\xc3\xa9", DTYPE_F32, 1, 1, 0, 4), ODMOE_OK);
    tensor_index_free(index);
}

static void sealing_finds_tensors_that_overlap_or_share_a_name(void **state)
{
    tensor_index *index = index_of_file(100);
    add(index, "long", DTYPE_F32, 1, 5, 40, 20);
    add(index, "inside", DTYPE_F32, 1, 1, 56, 4);
    assert_error(&err, tensor_index_seal(index, &err), ODMOE_ERR_FORMAT, "'inside' overlaps tensor 'long'", "weights");
    tensor_index_free(index);
    index = index_of_file(100);
    add(index, "same", DTYPE_F32, 1, 1, 0, 4);
    add(index, "other", DTYPE_F32, 1, 1, 4, 4);
    add(index, "same", DTYPE_F32, 1, 1, 8, 4);
    assert_error(&err, tensor_index_seal(index, &err), ODMOE_ERR_FORMAT, "'same' is there twice", "weights");
    tensor_index_free(index);
}

static void tensors_of_different_files_do_not_overlap(void **state)
{
    int file;
    tensor_index *index = index_of_file(100);
    assert_int_equal(tensor_index_add_file(index, "elsewhere", 50, &file, &err), ODMOE_OK);
    assert_int_equal(file, 1);
    const tensor_info other = {.name = "b", .type = DTYPE_F32, .file = 1, .length = 4};
    assert_int_equal(add(index, "a", DTYPE_F32, 1, 1, 0, 4), ODMOE_OK);
    assert_int_equal(tensor_index_add(index, &other, &err), ODMOE_OK);
    assert_int_equal(tensor_index_seal(index, &err), ODMOE_OK);
    assert_int_equal(tensor_index_files(index), 2);
    assert_string_equal(tensor_index_path(index, 1), "elsewhere");
    assert_int_equal(tensor_index_file_size(index, 1), 50);
    tensor_index_free(index);
}

static void tensors_side_by_side_or_without_weights_do_not_overlap(void **state)
{
    tensor_index *index = index_of_file(100);
    assert_int_equal(add(index, "a", DTYPE_F32, 1, 2, 0, 8), ODMOE_OK);
    assert_int_equal(add(index, "b", DTYPE_F32, 1, 2, 8, 8), ODMOE_OK);
    assert_int_equal(add(index, "empty", DTYPE_F32, 0, 2, 4, 0), ODMOE_OK);
    assert_int_equal(tensor_index_seal(index, &err), ODMOE_OK);
    tensor_index_free(index);
}

static void reading_gives_the_tensors_bytes(void **state)
{
    bytes b = {0};
    for (unsigned i = 0; i < 5000000; i++) /* 20 MB: more than one step of reading */
        put_number(&b, i * 2654435761u, 4);
    save(temp_path("weights"), &b);
    tensor_index *index = index_of_file(b.length);
    assert_int_equal(add(index, "w", DTYPE_F32, 1, 4999998, 7, 4999998 * 4), ODMOE_OK);
    assert_int_equal(tensor_index_seal(index, &err), ODMOE_OK);
    unsigned char *data = malloc(4999998 * 4);
    assert_non_null(data);
    assert_int_equal(tensor_read(index, tensor_index_find(index, "w"), data, &err), ODMOE_OK);
    assert_memory_equal(data, b.at + 7, 4999998 * 4);
    free(data);
    tensor_index_free(index);
    bytes_free(&b);
}

static void reading_a_file_that_has_shrunk_or_gone_is_an_error(void **state)
{
    bytes b = {0};
    unsigned char data[40];
    put(&b, "0123456789012345678901234567890123456789", 40);
    save(temp_path("weights"), &b);
    bytes_free(&b);
    tensor_index *index = index_of_file(40);
    assert_int_equal(add(index, "w", DTYPE_F32, 1, 10, 0, 40), ODMOE_OK);
    assert_int_equal(tensor_index_seal(index, &err), ODMOE_OK);
    const tensor_info *w = tensor_index_find(index, "w");
    assert_int_equal(truncate(temp_path("weights"), 39), 0);
    assert_error(&err, tensor_read(index, w, data, &err), ODMOE_ERR_IO, "tensor 'w': ", "weights: has become shorter");
    assert_int_equal(unlink(temp_path("weights")), 0);
    assert_error(&err, tensor_read(index, w, data, &err), ODMOE_ERR_IO, "tensor 'w': ", "weights: cannot open");
    tensor_index_free(index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_are_found_by_name_and_listed_in_its_order),
        cmocka_unit_test(names_and_messages_hold_nothing_that_steers_a_terminal),
        cmocka_unit_test(names_are_copied_however_long),
        cmocka_unit_test(a_tensor_must_lie_inside_its_file),
        cmocka_unit_test(length_and_rows_must_fit_type_and_shape),
        cmocka_unit_test(names_are_printable),
        cmocka_unit_test(sealing_finds_tensors_that_overlap_or_share_a_name),
        cmocka_unit_test(tensors_of_different_files_do_not_overlap),
        cmocka_unit_test(tensors_side_by_side_or_without_weights_do_not_overlap),
        cmocka_unit_test(reading_gives_the_tensors_bytes),
        cmocka_unit_test(reading_a_file_that_has_shrunk_or_gone_is_an_error),
    };
    return cmocka_run_group_tests(tests, temp_setup, temp_teardown);
}
