/* Expert tensors: from merged or single tensors of a file to extents and their descriptions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "moe/expert_table.h"

static const expert_tensor gate = {.role = PIECE_GATE, .rows = 6, .cols = 64};

static void merged_and_single_tensors_become_extents(void **state)
{
    expert_table x;
    assert_int_equal(expert_table_create(&x, 2, 4, NULL), ODMOE_OK);
    tensor_info merged = {
        .name = "m", .type = DTYPE_Q8_0, .dims = 3, .shape = {4, 6, 64}, .offset = 1000, .length = 4 * 6 * 68};
    tensor_info one = {
        .name = "o", .type = DTYPE_F32, .file = 1, .dims = 2, .shape = {6, 64}, .offset = 9, .length = 6 * 64 * 4};
    expert_tensor down = {.role = PIECE_DOWN, .in_out = true, .rows = 6, .cols = 64};
    expert_tensor fused = {.role = PIECE_GATE_UP, .interleaved = true, .rows = 6, .cols = 64};
    assert_int_equal(expert_table_add_merged(&x, 0, &gate, &merged, NULL), ODMOE_OK);
    assert_int_equal(expert_table_add_merged(&x, 0, &down, &merged, NULL), ODMOE_OK);
    for (int e = 0; e < 4; e++)
        assert_int_equal(expert_table_add_one(&x, 1, e, &fused, &one, NULL), ODMOE_OK);
    assert_int_equal(expert_index_check(x.index, NULL), ODMOE_OK);
    assert_int_equal(x.n, 3); /* each description once */
    int n;
    const expert_extent *p = expert_index_extents(x.index, 0, 3, &n);
    assert_int_equal(n, 2);
    const expert_tensor *first = &x.tensor[p[0].tag], *second = &x.tensor[p[1].tag];
    assert_true(first->role == PIECE_GATE && first->type == DTYPE_Q8_0);
    assert_true(second->role == PIECE_DOWN && second->in_out);
    assert_int_equal(p[0].offset, 1000 + 3 * 6 * 68);
    assert_int_equal(p[0].length, 6 * 68);
    p = expert_index_extents(x.index, 1, 2, &n);
    first = &x.tensor[p->tag];
    assert_true(n == 1 && p->file == 1 && first->interleaved && first->rows == 6 && first->cols == 64);
    expert_table_clear(&x);
}

static void what_does_not_fit_is_refused(void **state)
{
    odmoe_error err;
    expert_table x;
    assert_int_equal(expert_table_create(&x, 0, 4, &err), ODMOE_ERR_RANGE);
    assert_int_equal(expert_table_create(&x, 1, 4, &err), ODMOE_OK);
    tensor_info merged = {
        .name = "blk.0.x", .type = DTYPE_F32, .dims = 3, .shape = {5, 6, 64}, .length = 5 * 6 * 64 * 4};
    assert_int_equal(expert_table_add_merged(&x, 0, &gate, &merged, &err), ODMOE_ERR_FORMAT);
    assert_string_equal(err.message, "tensor blk.0.x (MoE layer 0) has shape (5, 6, 64), expected (4, 6, 64)");
    assert_int_equal(expert_table_add_one(&x, 0, 1, &gate, &merged, &err), ODMOE_ERR_FORMAT);
    merged.shape[0] = 4;
    assert_int_equal(expert_table_add_merged(&x, 1, &gate, &merged, &err), ODMOE_ERR_ARG);
    expert_tensor odd = {.role = PIECE_UP, .type = DTYPE_Q8_0, .rows = 1, .cols = 33};
    assert_int_equal(expert_table_add(&x, 0, 0, &odd, 0, 0, &err), ODMOE_ERR_ARG); /* half a block */
    odd.cols = INT64_MAX / 2;
    assert_int_equal(expert_table_add(&x, 0, 0, &odd, 0, 0, &err), ODMOE_ERR_ARG);
    odd = (expert_tensor){.role = PIECE_ROLE_COUNT, .rows = 1, .cols = 1};
    assert_int_equal(expert_table_add(&x, 0, 0, &odd, 0, 0, &err), ODMOE_ERR_ARG);
    expert_table_clear(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merged_and_single_tensors_become_extents),
        cmocka_unit_test(what_does_not_fit_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
