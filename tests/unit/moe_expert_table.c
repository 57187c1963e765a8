/* Expert tensors: from merged or single tensors of a file to extents and their descriptions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "moe/expert_residents.h"

static const expert_tensor gate = {.matrix = ODMOE_GATE, .rows = 6, .cols = 64};

static void merged_and_single_tensors_become_extents(void **state)
{
    expert_table x;
    assert_int_equal(expert_table_create(&x, 2, 4, NULL), ODMOE_OK);
    tensor_info merged = {
        .name = "m", .type = DTYPE_Q8_0, .dims = 3, .shape = {4, 6, 64}, .offset = 1000, .length = 4 * 6 * 68};
    tensor_info one = {
        .name = "o", .type = DTYPE_F32, .file = 1, .dims = 2, .shape = {6, 64}, .offset = 9, .length = 6 * 64 * 4};
    expert_tensor down = {.matrix = ODMOE_DOWN, .in_out = true, .rows = 6, .cols = 64};
    expert_tensor fused = {.matrix = ODMOE_GATE_UP, .interleaved = true, .rows = 6, .cols = 64};
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
    assert_true(first->matrix == ODMOE_GATE && first->type == DTYPE_Q8_0);
    assert_true(second->matrix == ODMOE_DOWN && second->in_out);
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
    expert_tensor odd = {.matrix = ODMOE_UP, .type = DTYPE_Q8_0, .rows = 1, .cols = 33};
    assert_int_equal(expert_table_add(&x, 0, 0, &odd, 0, 0, &err), ODMOE_ERR_ARG); /* half a block */
    odd.cols = INT64_MAX / 2;
    assert_int_equal(expert_table_add(&x, 0, 0, &odd, 0, 0, &err), ODMOE_ERR_ARG);
    odd = (expert_tensor){.matrix = EXPERT_MATRIX_COUNT, .rows = 1, .cols = 1};
    assert_int_equal(expert_table_add(&x, 0, 0, &odd, 0, 0, &err), ODMOE_ERR_ARG);
    expert_table_clear(&x);
}

/* ---- biases and scales ---- */

enum { EXPERTS = 3, FFN = 4, HIDDEN = 2 };

/* A file of float32 numbers 0, 1, 2, ... and an index of tensors in it. */
typedef struct number_file {
    char path[64];
    tensor_index *index;
    int file;
} number_file;

static void make_numbers(number_file *f)
{
    strcpy(f->path, "/tmp/odmoe-residents-XXXXXX");
    int fd = mkstemp(f->path);
    assert_true(fd >= 0);
    float numbers[64];
    for (int i = 0; i < 64; i++)
        numbers[i] = (float)i;
    assert_int_equal(write(fd, numbers, sizeof numbers), sizeof numbers);
    close(fd);
    f->index = tensor_index_create(NULL);
    assert_int_equal(tensor_index_add_file(f->index, f->path, sizeof numbers, &f->file, NULL), ODMOE_OK);
}

static void drop_numbers(number_file *f)
{
    tensor_index_free(f->index);
    unlink(f->path);
}

/* experts 0: one expert's. `first` is the first number. */
static tensor_info numbers_at(const number_file *f, int first, int experts, int length)
{
    tensor_info t = {.name = "t", .file = f->file, .dims = experts ? 2 : 1, .offset = (uint64_t)first * 4};
    t.shape[0] = (uint64_t)(experts ? experts : length);
    t.shape[1] = experts ? (uint64_t)length : 0;
    t.length = (uint64_t)((experts ? experts : 1) * length) * 4;
    return t;
}

static const experts_shape shape = {.hidden = HIDDEN, .ffn = FFN, .experts = EXPERTS, .top_k = 1};

static void biases_are_split_and_kept_in_memory(void **state)
{
    number_file f;
    expert_table x;
    expert_residents r;
    make_numbers(&f);
    assert_int_equal(expert_table_create(&x, 2, EXPERTS, NULL), ODMOE_OK);
    tensor_info fused = numbers_at(&f, 0, EXPERTS, 2 * FFN);
    assert_int_equal(expert_table_add_small(&x, 0, -1, ODMOE_GATE_UP, PART_BIAS, true, 2 * FFN, &fused, NULL),
                     ODMOE_OK);
    for (int e = 0; e < EXPERTS; e++) {
        tensor_info one = numbers_at(&f, 30 + e * HIDDEN, 0, HIDDEN);
        assert_int_equal(expert_table_add_small(&x, 1, e, ODMOE_DOWN, PART_BIAS, false, HIDDEN, &one, NULL), ODMOE_OK);
    }
    tensor_info scale = numbers_at(&f, 50, 0, EXPERTS);
    assert_int_equal(expert_table_add_small(&x, 1, -1, ODMOE_DOWN, PART_SCALE, false, 1, &scale, NULL), ODMOE_OK);
    assert_int_equal(expert_residents_check(&x, &shape, NULL), ODMOE_OK);
    assert_int_equal(expert_residents_load(&x, f.index, &shape, &r, NULL), ODMOE_OK);
    assert_int_equal(r.bytes, expert_residents_bytes(&x, &shape));
    for (int e = 0; e < EXPERTS; e++) {
        for (int i = 0; i < FFN; i++) {
            assert_true(r.biases[0].gate[e * FFN + i] == (float)(e * 2 * FFN + 2 * i));
            assert_true(r.biases[0].up[e * FFN + i] == (float)(e * 2 * FFN + 2 * i + 1));
        }
        assert_true(r.biases[1].down[e * HIDDEN + 1] == (float)(30 + e * HIDDEN + 1));
        assert_true(r.scales[1][e] == (float)(50 + e));
    }
    assert_null(r.biases[0].down);
    assert_null(r.biases[1].gate);
    assert_null(r.scales[0]);
    expert_residents_free(&r);
    expert_table_clear(&x);
    drop_numbers(&f);
}

static void small_tensors_that_do_not_fit_are_refused(void **state)
{
    number_file f;
    expert_table x;
    odmoe_error err;
    make_numbers(&f);
    assert_int_equal(expert_table_create(&x, 1, EXPERTS, NULL), ODMOE_OK);
    tensor_info t = numbers_at(&f, 0, EXPERTS, FFN);
    assert_int_equal(expert_table_add_small(&x, 0, -1, ODMOE_GATE, PART_BIAS, false, FFN + 1, &t, &err),
                     ODMOE_ERR_FORMAT);
    assert_string_equal(err.message, "tensor t (MoE layer 0) has shape (3, 4), expected (3, 5)");
    assert_int_equal(expert_table_add_small(&x, 0, 0, ODMOE_GATE, PART_BIAS, false, FFN, &t, &err), ODMOE_ERR_FORMAT);
    assert_string_equal(err.message, "tensor t (MoE layer 0) has shape (3, 4), expected (4)");
    assert_int_equal(expert_table_add_small(&x, 1, -1, ODMOE_GATE, PART_BIAS, false, FFN, &t, &err), ODMOE_ERR_ARG);
    assert_int_equal(expert_table_add_small(&x, 0, -1, ODMOE_GATE, PART_SCALE, false, FFN, &t, &err), ODMOE_ERR_ARG);
    assert_int_equal(expert_table_add_small(&x, 0, -1, ODMOE_DOWN, PART_BIAS, false, FFN, &t, &err), ODMOE_OK);
    assert_int_equal(expert_residents_check(&x, &shape, &err), ODMOE_ERR_FORMAT); /* hidden is 2 */
    expert_table_clear(&x);
    assert_int_equal(expert_table_create(&x, 1, EXPERTS, NULL), ODMOE_OK);
    tensor_info one = numbers_at(&f, 0, 0, FFN);
    assert_int_equal(expert_table_add_small(&x, 0, 1, ODMOE_UP, PART_BIAS, false, FFN, &one, &err), ODMOE_OK);
    assert_int_equal(expert_residents_check(&x, &shape, &err), ODMOE_ERR_FORMAT); /* the other experts have none */
    expert_table_clear(&x);
    drop_numbers(&f);
}

/* ---- scales of weights that lie apart ---- */

#define WIDE 256 /* hidden size, and rows of gate and of up: two blocks of FP8's scales each */

static const experts_shape wide = {.hidden = WIDE, .ffn = WIDE, .experts = EXPERTS, .top_k = 1};

/* gate and up of all experts in one tensor of (2 * WIDE, WIDE), and its scales. */
static tensor_info fused_like(dtype type, const tensor_scales *scales)
{
    return (tensor_info){.name = "t",
                         .type = type,
                         .dims = 3,
                         .shape = {EXPERTS, 2 * WIDE, WIDE},
                         .length = EXPERTS * dtype_bytes(type, 2 * WIDE * WIDE),
                         .scales = scales};
}

static void many_scales_are_an_extent_of_the_expert(void **state)
{
    expert_table x;
    expert_weights w;
    int n;
    const scale_grid grid = {SCALE_E8M0, 0, 5};
    const uint64_t each = scale_bytes(grid, 2 * WIDE, WIDE);
    const tensor_scales scales = {.grid = grid, .file = 1, .offset = 77, .length = EXPERTS * each};
    const tensor_info t = fused_like(DTYPE_MXFP4_SPLIT, &scales);
    const expert_tensor like = {.matrix = ODMOE_GATE_UP, .interleaved = true, .rows = 2 * WIDE, .cols = WIDE};
    assert_int_equal(expert_table_create(&x, 1, EXPERTS, NULL), ODMOE_OK);
    assert_int_equal(expert_table_add_merged(&x, 0, &like, &t, NULL), ODMOE_OK);
    assert_int_equal(x.n_small, 0);
    const expert_extent *p = expert_index_extents(x.index, 0, 2, &n);
    assert_int_equal(n, 2);
    assert_true(!x.tensor[p[0].tag].scales && x.tensor[p[1].tag].scales);
    assert_true(p[1].file == 1 && p[1].offset == 77 + 2 * each && p[1].length == each);
    /* gate, up, gate, up...: each has every second row of both */
    static char data[2 * WIDE * WIDE], scale[2 * WIDE * WIDE / 32];
    pinned_expert pinned = {.expert = 2, .n = 2, .extents = p, .data = {data, scale}};
    expert_tensors_bind(&wide, x.tensor, &pinned, NULL, &w);
    assert_ptr_equal(w.gate.scales, scale);
    assert_ptr_equal(w.up.scales, scale + WIDE / 32);
    assert_int_equal(w.up.scale_row_bytes, 2 * WIDE / 32);
    assert_int_equal(w.up.row_bytes, 2 * WIDE / 2);
    expert_table_clear(&x);
}

/* Three experts' eight scales, and a factor that divides for each. */
static void few_scales_stay_in_memory(void **state)
{
    enum { SCALES = 2 * WIDE / 128 * (WIDE / 128) };
    number_file f;
    expert_table x;
    expert_residents r;
    expert_weights w;
    int n;
    make_numbers(&f);
    const tensor_scales scales = {.grid = {SCALE_F32, 7, 7},
                                  .file = f.file,
                                  .length = EXPERTS * SCALES * sizeof(float),
                                  .factor_file = f.file,
                                  .factor_offset = 40 * sizeof(float),
                                  .factors = EXPERTS,
                                  .factor_divides = true};
    const tensor_info t = fused_like(DTYPE_F8_E4M3, &scales);
    const expert_tensor like = {.matrix = ODMOE_GATE_UP, .rows = 2 * WIDE, .cols = WIDE};
    assert_int_equal(expert_table_create(&x, 1, EXPERTS, NULL), ODMOE_OK);
    assert_int_equal(expert_table_add_merged(&x, 0, &like, &t, NULL), ODMOE_OK);
    const expert_extent *p = expert_index_extents(x.index, 0, 1, &n);
    assert_int_equal(n, 1);
    assert_int_equal(expert_residents_check(&x, &wide, NULL), ODMOE_OK);
    assert_int_equal(expert_residents_load(&x, f.index, &wide, &r, NULL), ODMOE_OK);
    static char data[2 * WIDE * WIDE];
    pinned_expert pinned = {.expert = 1, .n = 1, .extents = p, .data = {data}};
    expert_tensors_bind(&wide, x.tensor, &pinned, &r.weight_scales[0], &w);
    assert_true(((const float *)w.gate.scales)[0] == SCALES);
    assert_true(((const float *)w.up.scales)[0] == SCALES + SCALES / 2); /* behind gate's rows of blocks */
    assert_ptr_equal(w.up.data, data + WIDE * WIDE);
    assert_true(w.gate.factor == 1 / 41.0f && w.up.factor == 1 / 41.0f);
    expert_residents_free(&r);
    expert_table_clear(&x);
    drop_numbers(&f);
}

/* As float32, a scale for each row is a 1024th of rows of 4096 bytes. */
static void scales_of_rows_stay_in_memory_beside_long_rows_alone(void **state)
{
    for (uint64_t cols = 4095; cols <= 4096; cols++) {
        expert_table x;
        int n;
        const tensor_scales scales = {.grid = {SCALE_BF16, 0, SCALE_ALL}, .file = 1, .offset = 5, .length = 3 * 2};
        const tensor_info t = {.name = "t", .type = DTYPE_F8_E4M3, .dims = 2, .shape = {3, cols}, .scales = &scales};
        const expert_tensor like = {.matrix = ODMOE_UP, .rows = 3, .cols = (int64_t)cols};
        assert_int_equal(expert_table_create(&x, 1, 1, NULL), ODMOE_OK);
        assert_int_equal(expert_table_add_one(&x, 0, 0, &like, &t, NULL), ODMOE_OK);
        const expert_extent *p = expert_index_extents(x.index, 0, 0, &n);
        if (cols == 4096) {
            assert_true(n == 1 && x.n_small == 1);
            assert_true(x.small->length == 3 && x.small->tensor.type == DTYPE_BF16 && x.small->tensor.offset == 5);
        } else {
            assert_true(n == 2 && x.n_small == 0);
            assert_true(p[1].file == 1 && p[1].offset == 5 && p[1].length == 6);
        }
        expert_table_clear(&x);
    }
}

static void gate_and_up_may_have_one_scale_for_both(void **state)
{
    const compute c = compute_cpu(compute_kernels_find("ref"), 1);
    const expert_tensor tensors[] = {{.matrix = ODMOE_GATE_UP,
                                      .type = DTYPE_F8_E4M3,
                                      .grid = {SCALE_F32, SCALE_ALL, SCALE_ALL},
                                      .interleaved = true,
                                      .rows = 2 * WIDE,
                                      .cols = WIDE},
                                     {.matrix = ODMOE_DOWN, .type = DTYPE_F32, .rows = WIDE, .cols = WIDE}};
    const expert_extent extents[] = {{.tag = 0}, {.tag = 1}};
    const float number = 3;
    const expert_scales resident = {.scales = {[ODMOE_GATE_UP] = &number}, .length = {[ODMOE_GATE_UP] = 1}};
    experts_shape s = wide;
    expert_weights w;
    odmoe_error err;
    assert_int_equal(expert_tensors_check(tensors, extents, 2, &c, &s, &err), ODMOE_OK);
    static char data[2 * WIDE * WIDE];
    pinned_expert pinned = {.n = 1, .extents = extents, .data = {data}};
    expert_tensors_bind(&wide, tensors, &pinned, &resident, &w);
    assert_true(w.gate.scales == &number && w.up.scales == &number);
    assert_int_equal(w.up.grid.rows, SCALE_ALL);
}

static void rows_of_gate_and_of_up_that_share_scales_are_refused(void **state)
{
    const compute c = compute_cpu(compute_kernels_find("ref"), 1);
    static const struct {
        int64_t ffn;
        bool interleaved;
    } cases[] = {{WIDE - 8, false}, {WIDE, true}};
    for (int i = 0; i < 2; i++) {
        const expert_tensor tensors[] = {
            {.matrix = ODMOE_GATE_UP,
             .type = DTYPE_F8_E4M3,
             .grid = {SCALE_F32, 7, 7},
             .interleaved = cases[i].interleaved,
             .rows = 2 * cases[i].ffn,
             .cols = WIDE},
            {.matrix = ODMOE_DOWN, .type = DTYPE_F8_E4M3, .rows = WIDE, .cols = cases[i].ffn}};
        const expert_extent extents[] = {{.tag = 0}, {.tag = 1}};
        experts_shape s = {.hidden = WIDE, .ffn = cases[i].ffn, .experts = 1, .top_k = 1};
        odmoe_error err;
        assert_int_equal(expert_tensors_check(tensors, extents, 2, &c, &s, &err), ODMOE_ERR_UNSUPPORTED);
        assert_non_null(strstr(err.message, "share scales"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merged_and_single_tensors_become_extents),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(biases_are_split_and_kept_in_memory),
        cmocka_unit_test(small_tensors_that_do_not_fit_are_refused),
        cmocka_unit_test(many_scales_are_an_extent_of_the_expert),
        cmocka_unit_test(few_scales_stay_in_memory),
        cmocka_unit_test(scales_of_rows_stay_in_memory_beside_long_rows_alone),
        cmocka_unit_test(gate_and_up_may_have_one_scale_for_both),
        cmocka_unit_test(rows_of_gate_and_of_up_that_share_scales_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
