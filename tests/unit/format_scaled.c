/* Weights whose scales lie apart, as publishers name and shape them: joined to one tensor, or refused with the reason. */
#include "format_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format/safetensors.h"

static odmoe_error err;

/* A tensor of a header that is being written. */
typedef struct part {
    const char *name, *type, *shape;
    int bytes;
} part;

#define PARTS_MOST 5

/* A file with these tensors, opened; parts end with one without a name. */
static tensor_index *open_parts(const part *parts)
{
    char header[2000] = "{";
    int used = 1, at = 0;
    for (const part *p = parts; p->name; p++, at += p[-1].bytes)
        used += snprintf(header + used, sizeof header - (size_t)used,
                         "%s\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%d,%d]}", p == parts ? "" : ",",
                         p->name, p->type, p->shape, at, at + p->bytes);
    snprintf(header + used, sizeof header - (size_t)used, "}");
    bytes b = {0};
    small_safetensors(&b, header, (size_t)at);
    save(temp_path("m.safetensors"), &b);
    bytes_free(&b);
    tensor_index *index;
    if (safetensors_open_file(temp_path("m.safetensors"), &index, &err))
        fail_msg("%s", err.message);
    return index;
}

/* The only tensor that is left, of this name, type and shape. */
static const tensor_info *only(const tensor_index *index, const char *name, dtype type, uint64_t rows, uint64_t cols)
{
    const char *left, *why;
    const tensor_info *t = tensor_index_find(index, name);
    if (tensor_index_unread(index, 0, &left, &why))
        fail_msg("%s: %s", left, why);
    assert_int_equal(tensor_index_count(index), 1);
    assert_non_null(t);
    assert_int_equal(t->type, type);
    assert_int_equal(t->shape[t->dims - 2], rows);
    assert_int_equal(t->shape[t->dims - 1], cols);
    assert_non_null(t->scales);
    return t;
}

static void refused(const part *parts, const char *name, const char *word)
{
    tensor_index *index = open_parts(parts);
    const char *why = tensor_index_why_unread(index, name);
    assert_null(tensor_index_find(index, name));
    if (!why || !strstr(why, word))
        fail_msg("%s: '%s' instead of '%s'", name, why ? why : "(read)", word);
    tensor_index_free(index);
}

static void assert_grid(const tensor_info *t, scale_grid g)
{
    assert_int_equal(t->scales->grid.type, g.type);
    assert_int_equal(t->scales->grid.rows, g.rows);
    assert_int_equal(t->scales->grid.cols, g.cols);
    assert_int_equal(t->scales->length,
                     (t->dims == 3 ? t->shape[0] : 1) * scale_bytes(g, t->shape[t->dims - 2], t->shape[t->dims - 1]));
}

#define FP8                                   \
    {                                         \
        "x.weight", "F8_E4M3", "[130,5]", 650 \
    }

static void fp8_has_a_scale_for_each_block_of_128_row_or_matrix(void **state)
{
    static const struct {
        part parts[PARTS_MOST];
        scale_grid grid;
    } cases[] = {
        {{FP8, {"x.weight_scale_inv", "F32", "[2,1]", 8}, {0}}, {SCALE_F32, 7, 7}},
        {{FP8, {"x.weight_scale_inv", "BF16", "[2,1]", 4}, {0}}, {SCALE_BF16, 7, 7}},
        {{{"x.weight_scale", "BF16", "[2,1]", 4}, FP8, {"x.input_scale", "F32", "[]", 4}, {0}}, {SCALE_BF16, 7, 7}},
        {{FP8, {"x.weight_scale", "BF16", "[130,1]", 260}, {0}}, {SCALE_BF16, 0, SCALE_ALL}},
        {{FP8, {"x.weight_scale", "F32", "[130,1]", 520}, {"x.input_scale_ub", "F32", "[1]", 4}, {0}},
         {SCALE_F32, 0, SCALE_ALL}},
        {{FP8, {"x.weight_scale", "F16", "[130]", 260}, {0}}, {SCALE_F16, 0, SCALE_ALL}},
        {{FP8, {"x.weight_scale", "BF16", "[1]", 2}, {"x.input_scale", "BF16", "[1]", 2}, {0}},
         {SCALE_BF16, SCALE_ALL, SCALE_ALL}},
        {{FP8, {"x.weight_scale", "F32", "[]", 4}, {"x.k_scale", "F32", "[]", 4}, {0}},
         {SCALE_F32, SCALE_ALL, SCALE_ALL}},
        {{FP8, {"x.weight_scale_inv", "F32", "[1,1]", 4}, {"x.activation_scale", "F32", "[]", 4}, {0}},
         {SCALE_F32, SCALE_ALL, SCALE_ALL}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        tensor_index *index = open_parts(cases[i].parts);
        const tensor_info *t = only(index, "x.weight", DTYPE_F8_E4M3, 130, 5);
        assert_grid(t, cases[i].grid);
        assert_int_equal(t->scales->factors, 0);
        tensor_index_free(index);
    }
}

static void each_of_many_experts_has_its_scales(void **state)
{
    static const struct {
        const char *shape;
        int bytes;
        scale_grid grid;
    } cases[] = {
        {"[3,4,1]", 24, {SCALE_BF16, 0, SCALE_ALL}},
        {"[3,4]", 24, {SCALE_BF16, 0, SCALE_ALL}},
        {"[3,1,1]", 6, {SCALE_BF16, 7, 7}}, /* of so few weights, the same as of a matrix */
        {"[3]", 6, {SCALE_BF16, SCALE_ALL, SCALE_ALL}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        tensor_index *index = open_parts((part[]){
            {"x.weight", "F8_E4M3", "[3,4,5]", 60}, {"x.weight_scale", "BF16", cases[i].shape, cases[i].bytes}, {0}});
        assert_grid(only(index, "x.weight", DTYPE_F8_E4M3, 4, 5), cases[i].grid);
        tensor_index_free(index);
    }
}

static void mxfp4_blocks_keep_their_name(void **state)
{
    tensor_index *index = open_parts(
        (part[]){{"experts.up_blocks", "U8", "[2,4,3,16]", 384}, {"experts.up_scales", "U8", "[2,4,3]", 24}, {0}});
    const tensor_info *t = only(index, "experts.up_blocks", DTYPE_MXFP4_SPLIT, 4, 96);
    assert_int_equal(t->dims, 3);
    assert_int_equal(t->shape[0], 2);
    assert_int_equal(t->scales->offset, t->offset + 384);
    assert_int_equal(t->scales->length, 24);
    tensor_index_free(index);
}

static void packed_int4_takes_the_name_of_its_weights(void **state)
{
    tensor_index *index = open_parts((part[]){{"x.weight_packed", "I32", "[3,8]", 96},
                                              {"x.weight_scale", "BF16", "[3,2]", 12},
                                              {"x.weight_shape", "I64", "[2]", 16},
                                              {0}});
    const tensor_info *t = only(index, "x.weight", DTYPE_INT4_SPLIT, 3, 64);
    assert_int_equal(t->scales->length, 12);
    tensor_index_free(index);
}

static void int4_has_a_scale_for_each_group_or_row(void **state)
{
    static const struct {
        part scales;
        scale_grid grid;
    } cases[] = {
        {{"x.weight_scale", "BF16", "[3,8]", 48}, {SCALE_BF16, 0, 5}},
        {{"x.weight_scale", "F16", "[3,4]", 24}, {SCALE_F16, 0, 6}},
        {{"x.weight_scale", "BF16", "[3,2]", 12}, {SCALE_BF16, 0, 7}},
        {{"x.weight_scale", "F32", "[3,2]", 24}, {SCALE_F32, 0, 7}},
        {{"x.weight_scale", "BF16", "[3,1]", 6}, {SCALE_BF16, 0, SCALE_ALL}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        tensor_index *index = open_parts((part[]){
            {"x.weight_packed", "I32", "[3,32]", 384}, cases[i].scales, {"x.weight_shape", "I32", "[2]", 8}, {0}});
        assert_grid(only(index, "x.weight", DTYPE_INT4_SPLIT, 3, 256), cases[i].grid);
        tensor_index_free(index);
    }
}

static void zero_points_and_orders_of_columns_are_refused_by_name(void **state)
{
    refused((part[]){{"x.weight_packed", "I32", "[8,16]", 512},
                     {"x.weight_scale", "BF16", "[8,1]", 16},
                     {"x.weight_zero_point", "I32", "[1,1]", 4},
                     {0}},
            "x.weight", "int4_split with zero points");
    refused((part[]){{"x.weight_packed", "I32", "[8,16]", 512},
                     {"x.weight_scale", "BF16", "[8,1]", 16},
                     {"x.weight_g_idx", "I32", "[128]", 512},
                     {0}},
            "x.weight", "actorder");
    refused((part[]){{"x.weight", "F8_E4M3", "[2,5]", 10},
                     {"x.weight_scale", "BF16", "[2,1]", 4},
                     {"x.weight_zero_point", "F8_E4M3", "[2,1]", 2},
                     {0}},
            "x.weight", "f8_e4m3 with zero points");
}

static void nvfp4_has_a_number_for_the_whole_tensor(void **state)
{
    tensor_index *index = open_parts((part[]){{"x.weight_packed", "U8", "[3,16]", 48},
                                              {"x.weight_scale", "F8_E4M3", "[3,2]", 6},
                                              {"x.weight_global_scale", "F32", "[1]", 4},
                                              {"x.input_global_scale", "F32", "[1]", 4},
                                              {0}});
    const tensor_info *t = only(index, "x.weight", DTYPE_NVFP4_SPLIT, 3, 32);
    assert_int_equal(t->scales->factors, 1);
    assert_true(t->scales->factor_divides);
    tensor_index_free(index);
    index = open_parts((part[]){{"x.weight", "U8", "[3,16]", 48},
                                {"x.weight_scale", "F8_E4M3", "[3,2]", 6},
                                {"x.weight_scale_2", "F32", "[]", 4},
                                {"x.input_scale", "F32", "[]", 4},
                                {0}});
    t = only(index, "x.weight", DTYPE_NVFP4_SPLIT, 3, 32);
    assert_int_equal(t->scales->factors, 1);
    assert_false(t->scales->factor_divides);
    tensor_index_free(index);
}

static void weights_without_scales_are_refused(void **state)
{
    refused((part[]){{"x.weight", "F8_E4M3", "[2,5]", 10}, {0}}, "x.weight", "without a tensor of scales");
    refused((part[]){{"x_blocks", "U8", "[2,4,3,16]", 384}, {0}}, "x_blocks", "without a tensor of scales");
    refused((part[]){{"x.weight_packed", "I32", "[3,8]", 96}, {0}}, "x.weight", "without a tensor of scales");
    refused((part[]){{"x.weight_packed", "U8", "[3,16]", 48}, {"x.weight_scale", "F8_E4M3", "[3,2]", 6}, {0}},
            "x.weight", "without its global scale");
}

static void scales_without_weights_stay_unknown_tensors(void **state)
{
    tensor_index *index =
        open_parts((part[]){{"x_scales", "U8", "[2,4,3]", 24}, {"y.weight_scale_inv", "F32", "[1,1]", 4}, {0}});
    assert_string_equal(tensor_index_why_unread(index, "x_scales"), "U8");
    assert_non_null(tensor_index_find(index, "y.weight_scale_inv"));
    tensor_index_free(index);
}

static void scales_of_another_shape_are_refused(void **state)
{
    static const part cases[][PARTS_MOST] = {
        {FP8, {"x.weight_scale_inv", "F32", "[3,1]", 12}, {0}},
        {FP8, {"x.weight_scale_inv", "F32", "[1,2]", 8}, {0}},
        {FP8, {"x.weight_scale_inv", "F32", "[2]", 8}, {0}},
        {FP8, {"x.weight_scale", "F32", "[129,1]", 516}, {0}},
        {FP8, {"x.weight_scale", "F32", "[130,5]", 2600}, {0}},
        {FP8, {"x.weight_scale", "F32", "[1,130]", 520}, {0}},
        {FP8, {"x.weight_scale", "F32", "[5]", 20}, {0}},
        {FP8, {"x.weight_scale", "F32", "[130,1,1]", 520}, {0}},
        {FP8, {"x.weight_scale", "F32", "[0]", 0}, {0}},
        {{"x.weight", "F8_E4M3", "[2,128,128]", 32768}, {"x.weight_scale_inv", "F32", "[3,1,1]", 12}, {0}},
        {{"x.weight", "F8_E4M3", "[2,128,128]", 32768}, {"x.weight_scale", "F32", "[]", 4}, {0}},
        {{"x.weight", "F8_E4M3", "[2,128,128]", 32768}, {"x.weight_scale", "F32", "[1]", 4}, {0}},
        {{"x.weight", "F8_E4M3", "[2,3,5]", 30}, {"x.weight_scale", "F32", "[3,1]", 12}, {0}},
        {{"x.weight_packed", "I32", "[3,32]", 384}, {"x.weight_scale", "BF16", "[3,3]", 18}, {0}},
        {{"x.weight_packed", "I32", "[3,32]", 384}, {"x.weight_scale", "BF16", "[2,3]", 12}, {0}},
        {{"x.weight_packed", "I32", "[3,32]", 384}, {"x.weight_scale", "BF16", "[1]", 2}, {0}},
        {{"x.weight_packed", "I32", "[3,32]", 384}, {"x.weight_scale", "BF16", "[3,16]", 96}, {0}}, /* groups of 16 */
        {{"x.weight_packed", "U8", "[3,16]", 48},
         {"x.weight_scale", "F8_E4M3", "[3,1]", 3},
         {"x.weight_global_scale", "F32", "[1]", 4},
         {0}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refused(cases[i], "x.weight", "whose scales are not one for each");
    refused((part[]){{"x_blocks", "U8", "[2,4,3,16]", 384}, {"x_scales", "U8", "[2,4,4]", 32}, {0}}, "x_blocks",
            "whose scales are not one for each");
    refused((part[]){{"x_blocks", "U8", "[2,4,3,16]", 384}, {"x_scales", "U8", "[2,12]", 24}, {0}}, "x_blocks",
            "whose scales are not one for each");
}

static void scales_of_another_type_are_refused(void **state)
{
    refused((part[]){{"x.weight", "F8_E4M3", "[2,5]", 10}, {"x.weight_scale_inv", "U8", "[1,1]", 1}, {0}}, "x.weight",
            "scales of type U8");
    refused((part[]){{"x.weight", "F8_E4M3", "[2,5]", 10}, {"x.weight_scale", "F64", "[2,1]", 16}, {0}}, "x.weight",
            "scales of type F64");
    refused((part[]){{"x.weight_packed", "I32", "[3,8]", 96}, {"x.weight_scale", "F8_E4M3", "[3,2]", 6}, {0}},
            "x.weight", "scales of type F8_E4M3");
    refused((part[]){{"x_blocks", "U8", "[2,4,3,16]", 384}, {"x_scales", "F32", "[2,4,3]", 96}, {0}}, "x_blocks",
            "scales of type F32");
}

static void blocks_of_another_shape_are_refused(void **state)
{
    static const part cases[][PARTS_MOST] = {
        {{"x_blocks", "U8", "[2,4,3,15]", 360}, {"x_scales", "U8", "[2,4,3]", 24}, {0}},
        {{"x_blocks", "U8", "[3,16]", 48}, {"x_scales", "U8", "[3]", 3}, {0}},
        {{"x_blocks", "U8", "[]", 1}, {"x_scales", "U8", "[]", 1}, {0}},
        {{"x_blocks", "U8", "[0,4,3,16]", 0}, {"x_scales", "U8", "[0,4,3]", 0}, {0}},
        {{"x_blocks", "U8", "[2,4,3,16]", 383}, {"x_scales", "U8", "[2,4,3]", 24}, {0}},
        {{"x_blocks", "U8", "[4294967296,4294967296,4294967296,16]", 384}, {"x_scales", "U8", "[2,4,3]", 24}, {0}},
        {{"x_blocks", "U8", "[2,4,1152921504606846976,16]", 384}, {"x_scales", "U8", "[2,4,3]", 24}, {0}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refused(cases[i], "x_blocks", "in a shape that such weights do not have");
    refused((part[]){{"x.weight_packed", "I32", "[3,3]", 36}, {"x.weight_scale", "BF16", "[3,1]", 6}, {0}}, "x.weight",
            "in a shape that such weights do not have"); /* 24 numbers a row: no whole groups */
}

static void a_global_scale_is_one_number(void **state)
{
    static const part cases[][PARTS_MOST] = {
        {{"x.weight", "U8", "[3,16]", 48},
         {"x.weight_scale", "F8_E4M3", "[3,2]", 6},
         {"x.weight_scale_2", "F32", "[2]", 8},
         {0}},
        {{"x.weight", "U8", "[3,16]", 48},
         {"x.weight_scale", "F8_E4M3", "[3,2]", 6},
         {"x.weight_scale_2", "BF16", "[1]", 2},
         {0}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refused(cases[i], "x.weight", "without its global scale");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fp8_has_a_scale_for_each_block_of_128_row_or_matrix),
        cmocka_unit_test(each_of_many_experts_has_its_scales),
        cmocka_unit_test(mxfp4_blocks_keep_their_name),
        cmocka_unit_test(packed_int4_takes_the_name_of_its_weights),
        cmocka_unit_test(int4_has_a_scale_for_each_group_or_row),
        cmocka_unit_test(zero_points_and_orders_of_columns_are_refused_by_name),
        cmocka_unit_test(nvfp4_has_a_number_for_the_whole_tensor),
        cmocka_unit_test(weights_without_scales_are_refused),
        cmocka_unit_test(scales_without_weights_stay_unknown_tensors),
        cmocka_unit_test(scales_of_another_shape_are_refused),
        cmocka_unit_test(scales_of_another_type_are_refused),
        cmocka_unit_test(blocks_of_another_shape_are_refused),
        cmocka_unit_test(a_global_scale_is_one_number),
    };
    return cmocka_run_group_tests(tests, temp_setup, temp_teardown);
}
