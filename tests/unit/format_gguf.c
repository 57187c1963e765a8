/* What the GGUF reader answers on a file made byte by byte: every metadata type, parts, alignment. */
#include "format_files.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "format/gguf.h"

static odmoe_error err;

static gguf *open_bytes(bytes *b)
{
    gguf *g;
    save(temp_path("small.gguf"), b);
    if (gguf_open(temp_path("small.gguf"), &g, &err))
        fail_msg("%s", err.message);
    return g;
}

static gguf *open_small(void)
{
    bytes b = {0};
    gguf_marks at;
    small_gguf(&b, at);
    gguf *g = open_bytes(&b);
    bytes_free(&b);
    return g;
}

static void integers_of_every_width_convert(void **state)
{
    static const struct {
        const char *key;
        int64_t value;
    } cases[] = {{"t.u8", 200},           {"t.i8", -100},       {"t.u16", 60000},         {"t.i16", -30000},
                 {"t.u32", 4000000000LL}, {"t.i64", INT64_MIN}, {"t.i32", -2000000000LL}, {"general.alignment", 64}};
    gguf *g = open_small();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t value;
        assert_int_equal(gguf_get_int(g, cases[i].key, INT64_MIN, INT64_MAX, &value, &err), ODMOE_OK);
        assert_int_equal(value, cases[i].value);
    }
    gguf_free(g);
}

static void an_integer_out_of_its_range_is_an_error_that_names_file_and_key(void **state)
{
    gguf *g = open_small();
    int64_t value = 42;
    odmoe_status s = gguf_get_int(g, "t.u8", 0, 199, &value, &err);
    assert_error(&err, s, ODMOE_ERR_FORMAT, "small.gguf", "'t.u8' is 200, must be 0 to 199");
    s = gguf_get_int(g, "t.i8", -99, 199, &value, &err);
    assert_error(&err, s, ODMOE_ERR_FORMAT, "small.gguf", "'t.i8' is -100");
    s = gguf_get_int(g, "t.u64", INT64_MIN, INT64_MAX, &value, &err);
    assert_error(&err, s, ODMOE_ERR_FORMAT, "small.gguf", "'t.u64' is above");
    assert_int_equal(value, 42);
    gguf_free(g);
}

static void floats_booleans_and_texts_come_out_as_written(void **state)
{
    gguf *g = open_small();
    double real;
    bool flag;
    gguf_text text;
    assert_int_equal(gguf_get_float(g, "t.f32", &real, &err), ODMOE_OK);
    assert_true(real == 1.5);
    assert_int_equal(gguf_get_float(g, "t.f64", &real, &err), ODMOE_OK);
    assert_true(real == -2.25);
    assert_int_equal(gguf_get_bool(g, "t.bool", &flag, &err), ODMOE_OK);
    assert_true(flag);
    assert_int_equal(gguf_get_text(g, "general.architecture", &text, &err), ODMOE_OK);
    assert_true(gguf_text_is(text, "tiny"));
    assert_false(gguf_text_is(text, "tin"));
    assert_int_equal(gguf_get_text(g, "t.empty", &text, &err), ODMOE_OK);
    assert_int_equal(text.length, 0);
    gguf_free(g);
}

static void a_value_of_another_kind_is_an_error_that_says_which(void **state)
{
    gguf *g = open_small();
    int64_t integer;
    double real;
    bool flag;
    gguf_text text;
    gguf_type type;
    uint64_t count;
    assert_error(&err, gguf_get_int(g, "t.f32", 0, 1, &integer, &err), ODMOE_ERR_FORMAT, "'t.f32'", "f32");
    assert_error(&err, gguf_get_int(g, "t.bool", 0, 1, &integer, &err), ODMOE_ERR_FORMAT, "'t.bool'", "bool");
    assert_error(&err, gguf_get_float(g, "t.u8", &real, &err), ODMOE_ERR_FORMAT, "'t.u8'", "u8");
    assert_error(&err, gguf_get_bool(g, "t.u8", &flag, &err), ODMOE_ERR_FORMAT, "'t.u8'", "bool");
    assert_error(&err, gguf_get_text(g, "t.texts", &text, &err), ODMOE_ERR_FORMAT, "'t.texts'", "array");
    assert_error(&err, gguf_get_array(g, "t.u8", &type, &count, &err), ODMOE_ERR_FORMAT, "'t.u8'", "u8");
    assert_error(&err, gguf_array_int(g, "t.texts", 0, &integer, &err), ODMOE_ERR_FORMAT, "'t.texts'", "string");
    assert_error(&err, gguf_array_float(g, "t.numbers", 0, &real, &err), ODMOE_ERR_FORMAT, "'t.numbers'", "i32");
    assert_error(&err, gguf_array_text(g, "t.numbers", 0, &text, &err), ODMOE_ERR_FORMAT, "'t.numbers'", "i32");
    assert_error(&err, gguf_array_text(g, "t.nested", 0, &text, &err), ODMOE_ERR_FORMAT, "'t.nested'", "array");
    assert_error(&err, gguf_array_int(g, "t.u8", 0, &integer, &err), ODMOE_ERR_FORMAT, "'t.u8'", "u8");
    gguf_free(g);
}

static void a_missing_key_is_an_error_and_has_says_so_before(void **state)
{
    gguf *g = open_small();
    int64_t value;
    assert_true(gguf_has(g, "t.last"));
    assert_false(gguf_has(g, "t.lasting"));
    assert_false(gguf_has(g, "t.las"));
    assert_false(gguf_has(g, ""));
    assert_error(&err, gguf_get_int(g, "no.such", 0, 1, &value, &err), ODMOE_ERR_FORMAT, "small.gguf", "'no.such'");
    gguf_free(g);
}

static void arrays_give_their_elements_in_any_order(void **state)
{
    static const char *const texts[] = {"one", "", "three"};
    static const int orders[] = {0, 1, 2, 2, 1, 0, 2, 0};
    gguf *g = open_small();
    gguf_type type;
    uint64_t count;
    int64_t value;
    gguf_text text;
    assert_int_equal(gguf_get_array(g, "t.texts", &type, &count, &err), ODMOE_OK);
    assert_int_equal(type, GGUF_STRING);
    assert_int_equal(count, 3);
    for (size_t i = 0; i < sizeof orders / sizeof *orders; i++) {
        assert_int_equal(gguf_array_text(g, "t.texts", (uint64_t)orders[i], &text, &err), ODMOE_OK);
        assert_true(gguf_text_is(text, texts[orders[i]]));
    }
    assert_int_equal(gguf_array_int(g, "t.numbers", 1, &value, &err), ODMOE_OK);
    assert_int_equal(value, -7);
    gguf_free(g);
}

static void an_element_beyond_the_end_of_an_array_is_an_error(void **state)
{
    gguf *g = open_small();
    gguf_text text;
    int64_t value;
    assert_error(&err, gguf_array_text(g, "t.texts", 3, &text, &err), ODMOE_ERR_FORMAT, "'t.texts'", "3 elements");
    assert_error(&err, gguf_array_int(g, "t.numbers", UINT64_MAX, &value, &err), ODMOE_ERR_FORMAT, "'t.numbers'",
                 "2 elements");
    gguf_free(g);
}

static void a_bool_that_is_neither_0_nor_1_is_an_error(void **state)
{
    bytes b = {0};
    gguf_marks at;
    bool flag;
    small_gguf(&b, at);
    b.at[at[AT_BOOL]] = 2;
    gguf *g = open_bytes(&b);
    assert_error(&err, gguf_get_bool(g, "t.bool", &flag, &err), ODMOE_ERR_FORMAT, "'t.bool'", "value 2");
    gguf_free(g);
    bytes_free(&b);
}

static void a_float_that_is_not_finite_is_an_error(void **state)
{
    const float values[] = {INFINITY, -INFINITY, NAN};
    for (int i = 0; i < 3; i++) {
        bytes b = {0};
        double real;
        put_text(&b, "GGUF");
        put_number(&b, 3, 4);
        put_number(&b, 0, 8);
        put_number(&b, 1, 8);
        put_gguf_text(&b, "eps");
        put_number(&b, 6, 4);
        put(&b, &values[i], 4);
        gguf *g = open_bytes(&b);
        assert_error(&err, gguf_get_float(g, "eps", &real, &err), ODMOE_ERR_FORMAT, "'eps'", "finite");
        gguf_free(g);
        bytes_free(&b);
    }
}

static void tensors_have_their_place_type_and_shape_outermost_first(void **state)
{
    bytes b = {0};
    gguf_marks at;
    small_gguf(&b, at);
    gguf *g = open_bytes(&b);
    const tensor_index *index = gguf_tensors(g);
    assert_int_equal(tensor_index_count(index), 4);
    const tensor_info *a = tensor_index_find(index, "a.weight"), *q = tensor_index_find(index, "b.weight"),
                      *s = tensor_index_find(index, "s");
    assert_int_equal(a->type, DTYPE_F32);
    assert_int_equal(a->dims, 2);
    assert_int_equal(a->shape[0], 3);
    assert_int_equal(a->shape[1], 8);
    assert_int_equal(a->offset, at[AT_DATA]);
    assert_int_equal(a->length, 96);
    assert_int_equal(q->type, DTYPE_Q4_0);
    assert_int_equal(q->offset, at[AT_DATA] + 128);
    assert_int_equal(q->length, 90);
    assert_int_equal(s->dims, 0);
    assert_int_equal(s->length, 4);
    unsigned char data[90];
    assert_int_equal(tensor_read(index, q, data, &err), ODMOE_OK);
    assert_memory_equal(data, b.at + at[AT_DATA] + 128, 90);
    gguf_free(g);
    bytes_free(&b);
}

static void version_2_reads_like_version_3(void **state)
{
    bytes b = {0};
    gguf_marks at;
    small_gguf(&b, at);
    patch_number(&b, at[AT_VERSION], 2, 4);
    gguf *g = open_bytes(&b);
    assert_int_equal(tensor_index_count(gguf_tensors(g)), 4);
    gguf_free(g);
    bytes_free(&b);
}

static void alignment_of_any_integer_type_and_power_of_two_is_taken(void **state)
{
    for (unsigned alignment = 1; alignment <= 64; alignment *= 2) { /* the tensors' offsets are multiples of 64 */
        bytes b = {0};
        gguf_marks at;
        small_gguf(&b, at);
        patch_number(&b, at[AT_ALIGNMENT_TYPE], alignment < 8 ? 4 : 5, 4);
        patch_number(&b, at[AT_ALIGNMENT], alignment, 4);
        gguf *g = open_bytes(&b);
        uint64_t header = at[AT_LAST_OFFSET] + 8, start = tensor_index_find(gguf_tensors(g), "a.weight")->offset;
        assert_int_equal(start % alignment, 0);
        assert_true(start >= header && start - header < alignment);
        gguf_free(g);
        bytes_free(&b);
    }
}

static void without_general_alignment_the_data_is_aligned_to_32(void **state)
{
    bytes b = {0};
    put_text(&b, "GGUF");
    put_number(&b, 3, 4);
    put_number(&b, 1, 8);
    put_number(&b, 0, 8);
    put_gguf_text(&b, "w");
    put_number(&b, 0, 4);
    put_number(&b, 0, 4);
    put_number(&b, 0, 8); /* the header ends at 49 */
    while (b.length < 68)
        put_number(&b, b.length, 1);
    gguf *g = open_bytes(&b);
    assert_int_equal(tensor_index_at(gguf_tensors(g), 0)->offset, 64);
    gguf_free(g);
    bytes_free(&b);
}

static void every_type_of_the_list_is_read_with_its_own_length(void **state)
{
#define EXPECT(NAME, name, number, block, size) {number, block, size, DTYPE_##NAME},
    static const struct {
        unsigned number, block, size;
        dtype type;
    } types[] = {DTYPE_PLAIN_LIST(EXPECT){40, 64, 36, DTYPE_NVFP4}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        bytes b = {0};
        put_text(&b, "GGUF");
        put_number(&b, 3, 4);
        put_number(&b, 1, 8);
        put_number(&b, 0, 8);
        put_gguf_text(&b, "w");
        put_number(&b, 2, 4);
        put_number(&b, 2 * types[i].block, 8);
        put_number(&b, 3, 8);
        put_number(&b, types[i].number, 4);
        put_number(&b, 0, 8);
        while (b.length < 96 + 6 * types[i].size)
            put_number(&b, 0, 1);
        gguf *g = open_bytes(&b);
        const tensor_info *t = tensor_index_at(gguf_tensors(g), 0);
        assert_int_equal(t->type, types[i].type);
        assert_int_equal(t->length, 6 * types[i].size);
        gguf_free(g);
        bytes_free(&b);
    }
}

static void a_file_without_tensors_is_a_vocabulary_and_opens(void **state)
{
    bytes b = {0};
    put_text(&b, "GGUF");
    put_number(&b, 3, 4);
    put_number(&b, 0, 8);
    put_number(&b, 0, 8);
    gguf *g = open_bytes(&b);
    assert_int_equal(tensor_index_count(gguf_tensors(g)), 0);
    assert_null(tensor_index_find(gguf_tensors(g), "w"));
    assert_false(gguf_has(g, "general.architecture"));
    gguf_free(g);
    bytes_free(&b);
}

static void the_tensor_index_outlives_the_metadata_when_taken(void **state)
{
    gguf *g = open_small();
    tensor_index *index = gguf_take_tensors(g);
    assert_null(gguf_tensors(g));
    gguf_free(g);
    assert_string_equal(tensor_index_find(index, "c")->name, "c");
    assert_non_null(strstr(tensor_index_path(index, 0), "small.gguf"));
    tensor_index_free(index);
}

static void a_header_of_megabytes_is_read_in_full(void **state)
{
    enum { TOKENS = 300000 };
    bytes b = {0};
    char token[32];
    put_text(&b, "GGUF");
    put_number(&b, 3, 4);
    put_number(&b, 0, 8);
    put_number(&b, 2, 8);
    put_gguf_text(&b, "tokens");
    put_number(&b, 9, 4);
    put_number(&b, 8, 4);
    put_number(&b, TOKENS, 8);
    for (int i = 0; i < TOKENS; i++) {
        snprintf(token, sizeof token, "token number %d", i);
        put_gguf_text(&b, token);
    }
    put_gguf_text(&b, "scores");
    put_number(&b, 9, 4);
    put_number(&b, 6, 4);
    put_number(&b, TOKENS, 8);
    for (int i = 0; i < TOKENS; i++) {
        float score = (float)-i;
        put(&b, &score, 4);
    }
    gguf *g = open_bytes(&b);
    for (int i = 0; i < TOKENS; i++) {
        gguf_text text;
        double score;
        snprintf(token, sizeof token, "token number %d", i);
        assert_false(gguf_array_text(g, "tokens", (uint64_t)i, &text, &err) || !gguf_text_is(text, token));
        assert_false(gguf_array_float(g, "scores", (uint64_t)i, &score, &err) || score != -i);
    }
    gguf_free(g);
    bytes_free(&b);
}

/* ---- parts ------------------------------------------------------------------------------------------------ */

static void put_u16_pair(bytes *b, const char *key, unsigned value)
{
    put_gguf_text(b, key);
    put_number(b, 2, 4);
    put_number(b, value, 2);
}

/* A part with one f32 tensor of one weight; `all` < 0 leaves split.tensors.count out. */
static void save_part(const char *file, const char *tensor, unsigned no, unsigned count, int all)
{
    bytes b = {0};
    put_text(&b, "GGUF");
    put_number(&b, 3, 4);
    put_number(&b, 1, 8);
    put_number(&b, all < 0 ? 2 : 3, 8);
    put_u16_pair(&b, "split.no", no);
    put_u16_pair(&b, "split.count", count);
    if (all >= 0) {
        put_gguf_text(&b, "split.tensors.count");
        put_number(&b, 5, 4);
        put_number(&b, (unsigned)all, 4);
    }
    put_gguf_text(&b, tensor);
    put_number(&b, 1, 4);
    put_number(&b, 1, 8);
    put_number(&b, 0, 4);
    put_number(&b, 0, 8);
    while (b.length % 32)
        put_number(&b, 0, 1);
    put_number(&b, no, 4);
    save(temp_path(file), &b);
    bytes_free(&b);
}

static odmoe_status open_part(const char *file, gguf **g)
{
    *g = NULL;
    return gguf_open(temp_path(file), g, &err);
}

static void the_tensors_of_all_parts_are_found_in_their_files(void **state)
{
    gguf *g;
    uint32_t value;
    save_part("m-00001-of-00003.gguf", "x", 0, 3, 3);
    save_part("m-00002-of-00003.gguf", "y", 1, 3, 3);
    save_part("m-00003-of-00003.gguf", "z", 2, 3, -1);
    assert_int_equal(open_part("m-00001-of-00003.gguf", &g), ODMOE_OK);
    const tensor_index *index = gguf_tensors(g);
    assert_int_equal(tensor_index_files(index), 3);
    for (int i = 0; i < 3; i++) {
        const tensor_info *t = tensor_index_find(index, (const char *[]){"x", "y", "z"}[i]);
        assert_int_equal(t->file, i);
        assert_int_equal(tensor_read(index, t, &value, &err), ODMOE_OK);
        assert_int_equal(value, i);
    }
    gguf_free(g);
}

static void a_later_part_says_which_one_to_open(void **state)
{
    gguf *g;
    save_part("n-00002-of-00003.gguf", "y", 1, 3, 3);
    assert_error(&err, open_part("n-00002-of-00003.gguf", &g), ODMOE_ERR_FORMAT, "part 2 of 3", "-00001-of-00003.gguf");
}

static void a_missing_part_is_named(void **state)
{
    gguf *g;
    save_part("o-00001-of-00002.gguf", "x", 0, 2, 2);
    assert_error(&err, open_part("o-00001-of-00002.gguf", &g), ODMOE_ERR_IO, "o-00002-of-00002.gguf", "cannot open");
}

static void a_part_under_another_name_is_an_error(void **state)
{
    gguf *g;
    save_part("renamed.gguf", "x", 0, 2, 2);
    assert_error(&err, open_part("renamed.gguf", &g), ODMOE_ERR_FORMAT, "renamed.gguf", "-00001-of-00002.gguf");
}

static void parts_of_different_models_are_an_error(void **state)
{
    gguf *g;
    save_part("p-00001-of-00002.gguf", "x", 0, 2, 2);
    save_part("p-00002-of-00002.gguf", "y", 1, 4, 2);
    assert_error(&err, open_part("p-00001-of-00002.gguf", &g), ODMOE_ERR_FORMAT, "p-00002", "split.count");
    save_part("p-00002-of-00002.gguf", "y", 0, 2, 2);
    assert_error(&err, open_part("p-00001-of-00002.gguf", &g), ODMOE_ERR_FORMAT, "p-00002", "split.no");
}

static void a_tensor_in_two_parts_is_an_error(void **state)
{
    gguf *g;
    save_part("q-00001-of-00002.gguf", "x", 0, 2, 2);
    save_part("q-00002-of-00002.gguf", "x", 1, 2, 2);
    assert_error(&err, open_part("q-00001-of-00002.gguf", &g), ODMOE_ERR_FORMAT, "'x'", "twice");
}

static void parts_that_lack_tensors_are_an_error(void **state)
{
    gguf *g;
    save_part("r-00001-of-00002.gguf", "x", 0, 2, 3);
    save_part("r-00002-of-00002.gguf", "y", 1, 2, 3);
    assert_error(&err, open_part("r-00001-of-00002.gguf", &g), ODMOE_ERR_FORMAT, "split.tensors.count is 3", "2");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_of_every_width_convert),
        cmocka_unit_test(an_integer_out_of_its_range_is_an_error_that_names_file_and_key),
        cmocka_unit_test(floats_booleans_and_texts_come_out_as_written),
        cmocka_unit_test(a_value_of_another_kind_is_an_error_that_says_which),
        cmocka_unit_test(a_missing_key_is_an_error_and_has_says_so_before),
        cmocka_unit_test(arrays_give_their_elements_in_any_order),
        cmocka_unit_test(an_element_beyond_the_end_of_an_array_is_an_error),
        cmocka_unit_test(a_bool_that_is_neither_0_nor_1_is_an_error),
        cmocka_unit_test(a_float_that_is_not_finite_is_an_error),
        cmocka_unit_test(tensors_have_their_place_type_and_shape_outermost_first),
        cmocka_unit_test(version_2_reads_like_version_3),
        cmocka_unit_test(alignment_of_any_integer_type_and_power_of_two_is_taken),
        cmocka_unit_test(without_general_alignment_the_data_is_aligned_to_32),
        cmocka_unit_test(every_type_of_the_list_is_read_with_its_own_length),
        cmocka_unit_test(a_file_without_tensors_is_a_vocabulary_and_opens),
        cmocka_unit_test(the_tensor_index_outlives_the_metadata_when_taken),
        cmocka_unit_test(a_header_of_megabytes_is_read_in_full),
        cmocka_unit_test(the_tensors_of_all_parts_are_found_in_their_files),
        cmocka_unit_test(a_later_part_says_which_one_to_open),
        cmocka_unit_test(a_missing_part_is_named),
        cmocka_unit_test(a_part_under_another_name_is_an_error),
        cmocka_unit_test(parts_of_different_models_are_an_error),
        cmocka_unit_test(a_tensor_in_two_parts_is_an_error),
        cmocka_unit_test(parts_that_lack_tensors_are_an_error),
    };
    return cmocka_run_group_tests(tests, temp_setup, temp_teardown);
}
