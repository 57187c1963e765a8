/* safetensors made byte by byte: what is read, and each way in which header and shards can be wrong. */
#include "format_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/safetensors.h"

static odmoe_error err;

#define GOOD "{\"w\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}}"

static odmoe_status open_bytes(const bytes *b, tensor_index **index)
{
    *index = NULL;
    memset(&err, 0, sizeof err);
    save(temp_path("m.safetensors"), b);
    odmoe_status status = safetensors_open_file(temp_path("m.safetensors"), index, &err);
    if (status)
        assert_null(*index);
    return status;
}

static odmoe_status open_header(const char *header, size_t data, tensor_index **index)
{
    bytes b = {0};
    small_safetensors(&b, header, data);
    odmoe_status status = open_bytes(&b, index);
    bytes_free(&b);
    return status;
}

static tensor_index *open_good(const char *header, size_t data)
{
    tensor_index *index;
    if (open_header(header, data, &index))
        fail_msg("%s", err.message);
    return index;
}

/* ---- what is read ----------------------------------------------------------------------------------------- */

static void tensors_may_lie_at_any_byte(void **state)
{
    const char *header = "{\"__metadata__\":{\"format\":\"pt\"},"
                         "\"odd\":{\"data_offsets\":[1,7],\"shape\":[3],\"dtype\":\"BF16\"},"
                         "\"next\" : {\"dtype\":\"F16\",\"shape\":[1,1,1,2],\"data_offsets\":[7,11],\"extra\":[{}]}} ";
    unsigned char data[4];
    tensor_index *index = open_good(header, 11);
    const tensor_info *odd = tensor_index_find(index, "odd"), *next = tensor_index_find(index, "next");
    assert_int_equal(tensor_index_count(index), 2);
    assert_int_equal(odd->type, DTYPE_BF16);
    assert_int_equal(odd->offset, 8 + strlen(header) + 1);
    assert_int_equal(next->type, DTYPE_F16);
    assert_int_equal(next->dims, 4);
    assert_int_equal(next->shape[3], 2);
    assert_int_equal(tensor_read(index, next, data, &err), ODMOE_OK);
    assert_memory_equal(data, "\7\10\11\12", 4);
    tensor_index_free(index);
}

static void a_scalar_and_an_empty_tensor_are_read(void **state)
{
    tensor_index *index = open_good("{\"scalar\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]},"
                                    "\"empty\":{\"dtype\":\"F32\",\"shape\":[0,7],\"data_offsets\":[2,2]}}",
                                    4);
    assert_int_equal(tensor_index_find(index, "scalar")->dims, 0);
    assert_int_equal(tensor_index_find(index, "empty")->length, 0);
    assert_int_equal(tensor_read(index, tensor_index_find(index, "empty"), NULL, &err), ODMOE_OK);
    tensor_index_free(index);
}

static void an_empty_header_is_a_file_without_tensors(void **state)
{
    tensor_index *index = open_good("{}", 0);
    assert_int_equal(tensor_index_count(index), 0);
    assert_int_equal(tensor_index_files(index), 1);
    tensor_index_free(index);
}

static void other_types_and_more_dimensions_are_left_out(void **state)
{
    tensor_index *index = open_good("{\"ids\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[0,8]},"
                                    "\"fp8\":{\"dtype\":\"F8_E4M3\",\"shape\":[3],\"data_offsets\":[8,11]},"
                                    "\"lower\":{\"dtype\":\"f32\",\"shape\":[1],\"data_offsets\":[8,12]},"
                                    "\"five\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1],\"data_offsets\":[8,12]},"
                                    "\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[12,16]}}",
                                    16);
    assert_int_equal(tensor_index_count(index), 1);
    assert_non_null(tensor_index_find(index, "w"));
    tensor_index_free(index);
}

static void escapes_in_names_are_decoded(void **state)
{
    tensor_index *index =
        open_good("{\"a\\u00e9\\\"\\/\\ud83d\\ude00\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4);
    assert_non_null(tensor_index_find(index, "a\xc3\xa9\"/\xf0\x9f\x98\x80"));
    tensor_index_free(index);
}

/* ---- what is wrong ---------------------------------------------------------------------------------------- */

typedef struct wrong {
    const char *name, *header;
    size_t data;
    const char *says;
} wrong;

#define T(dtype, shape, offsets) "{\"w\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

static const wrong headers[] = {
    {"an offset behind the data", T("\"F32\"", "[6]", "[0,24]"), 23, "'w': data_offsets 0 + 24 lie outside"},
    {"a begin behind the data", T("\"F32\"", "[0]", "[5,5]"), 4, "'w': data_offsets 5 + 0 lie outside"},
    {"offsets the wrong way round", T("\"F32\"", "[6]", "[24,0]"), 24, "'w': data_offsets is missing or wrong"},
    {"offsets near 2^64", T("\"F32\"", "[6]", "[18446744073709551591,18446744073709551615]"), 24, "lie outside"},
    {"an offset of 2^64", T("\"F32\"", "[6]", "[0,18446744073709551616]"), 24, "'w': data_offsets is missing"},
    {"a negative offset", T("\"F32\"", "[6]", "[-24,0]"), 24, "'w': data_offsets is missing or wrong"},
    {"a broken offset", T("\"F32\"", "[6]", "[0,24.0]"), 24, "'w': data_offsets is missing or wrong"},
    {"an offset with an exponent", T("\"F32\"", "[6]", "[0,24e0]"), 24, "'w': data_offsets is missing or wrong"},
    {"one offset", T("\"F32\"", "[6]", "[24]"), 24, "'w': data_offsets is missing or wrong"},
    {"three offsets", T("\"F32\"", "[6]", "[0,24,48]"), 24, "'w': data_offsets is missing or wrong"},
    {"offsets that are text", T("\"F32\"", "[6]", "\"0,24\""), 24, "'w': data_offsets is missing or wrong"},
    {"fewer bytes than the shape needs", T("\"F32\"", "[7]", "[0,24]"), 24, "'w': has 24 bytes, type f32 and shape"},
    {"more bytes than the shape needs", T("\"BF16\"", "[6]", "[0,24]"), 24, "shape need 12"},
    {"a shape whose product overflows", T("\"F32\"", "[4294967296,4294967296,2]", "[0,24]"), 24,
     "'w': shape overflows"},
    {"a shape whose bytes overflow", T("\"F32\"", "[4611686018427387904]", "[0,0]"), 24, "'w': shape overflows"},
    {"a shape of 17 dimensions", T("\"F32\"", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", "[0,4]"), 4,
     "'w': shape is missing"},
    {"a negative dimension", T("\"F32\"", "[-6]", "[0,24]"), 24, "'w': shape is missing or wrong"},
    {"a dimension with leading zeros", T("\"F32\"", "[06]", "[0,24]"), 24, "'w': shape is missing or wrong"},
    {"a shape that is a number", T("\"F32\"", "6", "[0,24]"), 24, "'w': shape is missing or wrong"},
    {"a shape with a comma too many", T("\"F32\"", "[6,]", "[0,24]"), 24, "'w': shape is missing or wrong"},
    {"a type that is a number", T("1", "[6]", "[0,24]"), 24, "'w': dtype is missing or wrong"},
    {"no type", "{\"w\":{\"shape\":[6],\"data_offsets\":[0,24]}}", 24, "'w': dtype is missing or wrong"},
    {"no shape", "{\"w\":{\"dtype\":\"F32\",\"data_offsets\":[0,24]}}", 24, "'w': shape is missing or wrong"},
    {"no offsets", "{\"w\":{\"dtype\":\"F32\",\"shape\":[6]}}", 24, "'w': data_offsets is missing or wrong"},
    {"a field twice", "{\"w\":{\"dtype\":\"F32\",\"shape\":[6],\"shape\":[6],\"data_offsets\":[0,24]}}", 24,
     "'w': shape"},
    {"a tensor that is null", "{\"w\":null}", 0, "'w': its description is missing or wrong"},
    {"a tensor that is an array", "{\"w\":[]}", 0, "'w': its description is missing or wrong"},
    {"a tensor twice",
     "{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
     "\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
     8, "'w' is there twice"},
    {"tensors that overlap",
     "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
     "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[7,11]}}",
     11, "'b' overlaps tensor 'a'"},
    {"an empty name", "{\"\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "name is empty"},
    {"a newline in a name", "{\"a\\nb\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "control"},
    {"a zero in a name", "{\"a\\u0000b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4,
     "not valid JSON"},
    {"half a surrogate pair in a name", "{\"a\\ud83d\":{}}", 0, "not valid JSON"},
    {"a raw control byte in a name", "{\"a\tb\":{}}", 0, "not valid JSON"},
    {"an unknown escape in a name", "{\"a\\x\":{}}", 0, "not valid JSON"},
    {"a header that is an array", "[]", 0, "not valid JSON"},
    {"a header of blanks", "        ", 0, "not valid JSON"},
    {"a header that does not end", "{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}", 4,
     "not valid JSON"},
    {"text behind the header", "{} x", 0, "not valid JSON near its byte 3"},
    {"a comma at the end", "{\"__metadata__\":{},}", 0, "not valid JSON"},
    {"metadata that does not balance", "{\"__metadata__\":{]}}", 0, "__metadata__ in the header is not valid JSON"},
};
enum { HEADERS = sizeof headers / sizeof *headers };

static void wrong_header(void **state)
{
    const wrong *w = *state;
    tensor_index *index;
    assert_error(&err, open_header(w->header, w->data, &index), ODMOE_ERR_FORMAT, "m.safetensors", w->says);
}

static void a_header_length_beyond_the_file(void **state)
{
    const uint64_t lengths[] = {54, 1ull << 32, 1ull << 60, UINT64_MAX, UINT64_MAX - 7};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        bytes b = {0};
        tensor_index *index;
        small_safetensors(&b, GOOD, 0);
        b.length = 8 + 53;
        patch_number(&b, 0, lengths[i], 8);
        assert_error(&err, open_bytes(&b, &index), ODMOE_ERR_FORMAT, "m.safetensors", "the header is said to have");
        bytes_free(&b);
    }
}

static void a_header_above_the_formats_limit_is_not_even_read(void **state)
{
    bytes b = {0};
    tensor_index *index;
    put_number(&b, 100000001, 8);
    save(temp_path("big.safetensors"), &b);
    bytes_free(&b);
    assert_int_equal(truncate(temp_path("big.safetensors"), 200000000), 0);
    assert_error(&err, safetensors_open_file(temp_path("big.safetensors"), &index, &err), ODMOE_ERR_FORMAT,
                 "big.safetensors", "100000000 are the most allowed");
}

static void brackets_nested_a_million_deep(void **state)
{
    bytes b = {0};
    tensor_index *index;
    char *deep = malloc(1000100);
    assert_non_null(deep);
    strcpy(deep, "{\"__metadata__\":");
    memset(deep + strlen(deep), '[', 1000000);
    deep[15 + 1000000] = 0;
    small_safetensors(&b, deep, 0);
    assert_error(&err, open_bytes(&b, &index), ODMOE_ERR_FORMAT, "m.safetensors", "__metadata__");
    bytes_free(&b);
    free(deep);
}

static void cut_off_at_every_byte(void **state)
{
    bytes b = {0};
    tensor_index *index;
    small_safetensors(&b, GOOD, 24);
    size_t whole = b.length;
    for (b.length = 0; b.length < whole; b.length++)
        assert_error(&err, open_bytes(&b, &index), ODMOE_ERR_FORMAT, "m.safetensors", ": ");
    b.length = whole;
    assert_int_equal(open_bytes(&b, &index), ODMOE_OK);
    tensor_index_free(index);
    bytes_free(&b);
}

static void any_byte_of_the_header_set_to_any_value(void **state)
{
    bytes b = {0};
    int valid = 0, refused = 0;
    small_safetensors(&b, GOOD, 24);
    for (size_t i = 0; i < 8 + strlen(GOOD); i++) {
        unsigned char was = b.at[i];
        for (int value = 0; value < 256; value++) {
            tensor_index *index;
            b.at[i] = (unsigned char)value;
            odmoe_status status = open_bytes(&b, &index);
            if (status)
                assert_error(&err, status, ODMOE_ERR_FORMAT, "m.safetensors", ": ");
            tensor_index_free(index);
            valid += !status;
            refused += status != 0;
        }
        b.at[i] = was;
    }
    assert_true(valid > 100 && refused > 1000);
    bytes_free(&b);
}

static void something_that_is_not_a_file(void **state)
{
    tensor_index *index;
    assert_int_equal(mkdir(temp_path("folder.safetensors"), 0700), 0);
    assert_error(&err, safetensors_open_file(temp_path("folder.safetensors"), &index, &err), ODMOE_ERR_IO,
                 "folder.safetensors", "is a folder");
    assert_int_equal(mkfifo(temp_path("fifo.safetensors"), 0600), 0);
    assert_error(&err, safetensors_open_file(temp_path("fifo.safetensors"), &index, &err), ODMOE_ERR_IO,
                 "fifo.safetensors", "not a regular file");
}

int main(void)
{
    struct CMUnitTest tests[HEADERS + 16];
    const struct CMUnitTest others[] = {
        cmocka_unit_test(tensors_may_lie_at_any_byte),
        cmocka_unit_test(a_scalar_and_an_empty_tensor_are_read),
        cmocka_unit_test(an_empty_header_is_a_file_without_tensors),
        cmocka_unit_test(other_types_and_more_dimensions_are_left_out),
        cmocka_unit_test(escapes_in_names_are_decoded),
        cmocka_unit_test(a_header_length_beyond_the_file),
        cmocka_unit_test(a_header_above_the_formats_limit_is_not_even_read),
        cmocka_unit_test(brackets_nested_a_million_deep),
        cmocka_unit_test(cut_off_at_every_byte),
        cmocka_unit_test(any_byte_of_the_header_set_to_any_value),
        cmocka_unit_test(something_that_is_not_a_file),
    };
    size_t count = 0;
    for (; count < HEADERS; count++)
        tests[count] = (struct CMUnitTest){headers[count].name, wrong_header, NULL, NULL, (void *)&headers[count]};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        tests[count++] = others[i];
    return _cmocka_run_group_tests("safetensors", tests, count, temp_setup, temp_teardown);
}
