/* Products with weights whose scales lie apart, in every vector table: the weights are `ref`'s (whose values test_ref.c
 * compares with published formats), the order of additions is written out. Data and scales end at unmapped pages. */
#include <stdio.h>
#include <stdlib.h>

#include "random_data.h"

typedef struct shape {
    int64_t rows, first, cols, tokens; /* rows [first, first + rows) of first + rows + 1 */
    int pad;                           /* bytes between rows of data, and of scales */
} shape;

typedef struct operands {
    fenced data, scales;
    scaled_weights w;
} operands;

/* Random bytes, as scales numbers of moderate size; none is NaN. */
static operands operands_new(dtype t, shape s)
{
    dtype_scale_shape shared = dtype_scales(t);
    int64_t rows = s.first + s.rows + 1, row_bytes = (int64_t)dtype_bytes(t, (uint64_t)s.cols) + s.pad;
    int64_t scale_row_bytes = (int64_t)dtype_scale_bytes(t, 1, (uint64_t)s.cols) + 4 * s.pad;
    int64_t scale_rows = shared.rows ? (rows + shared.rows - 1) / shared.rows : 1;
    operands o = {fenced_new((size_t)(rows * row_bytes - s.pad)),
                  fenced_new((size_t)(scale_rows * scale_row_bytes - 4 * s.pad)),
                  {0}};
    o.w = (scaled_weights){o.data.data, row_bytes, t == DTYPE_NVFP4 ? NULL : o.scales.data, scale_row_bytes, 0.37f};
    for (int64_t i = 0; i < rows * row_bytes - s.pad; i++) {
        uint8_t b = (uint8_t)random_bits();
        o.data.data[i] = t == DTYPE_F8_E4M3 && (b & 0x7f) == 0x7f ? 0 : b;
    }
    for (int64_t i = 0; shared.bytes && i < scale_rows * scale_row_bytes - 4 * s.pad; i += shared.bytes) {
        float f = (float)uniform() * 0.1f;
        uint16_t h = dtype_f32_to_bf16(f);
        if (t == DTYPE_F8_E4M3)
            memcpy(o.scales.data + i, &f, 4);
        else if (t == DTYPE_INT4_SPLIT)
            memcpy(o.scales.data + i, &h, 2);
        else
            o.scales.data[i] = (uint8_t)(t == DTYPE_MXFP4_SPLIT ? 110 + below(20) : below(0x7f));
    }
    return o;
}

/* w[r][c] of rows [first, first + rows), as products of `ref` with an identity matrix show them. */
static float *ref_weights(dtype t, const operands *o, shape s)
{
    float *x = calloc((size_t)(s.cols * s.cols), sizeof *x), *w = malloc((size_t)(s.rows * s.cols) * sizeof *w);
    float *y = malloc((size_t)(s.rows * s.cols) * sizeof *y);
    for (int64_t c = 0; c < s.cols; c++)
        x[c * s.cols + c] = 1;
    kernel_table_find("ref")->ops[t].matmul_scaled(&o->w, s.first, s.rows, s.cols, x, s.cols * (int64_t)sizeof *x,
                                                   s.cols, y, s.rows);
    for (int64_t r = 0; r < s.rows; r++)
        for (int64_t c = 0; c < s.cols; c++)
            w[r * s.cols + c] = y[c * s.rows + r];
    free(x);
    free(y);
    return w;
}

static void check_products(const kernel_table *table, dtype t, shape s)
{
    operands o = operands_new(t, s);
    int64_t act_row = s.cols * (int64_t)sizeof(float), ldy = s.rows + 3;
    fenced x = fenced_new((size_t)(s.tokens * act_row));
    float *w = ref_weights(t, &o, s), *y = malloc((size_t)(s.tokens * ldy) * sizeof *y);
    fill_floats(ORDINARY, (float *)x.data, s.tokens * s.cols);
    for (int64_t i = 0; i < s.tokens * ldy; i++)
        y[i] = 123;
    table->ops[t].matmul_scaled(&o.w, s.first, s.rows, s.cols, x.data, act_row, s.tokens, y, ldy);
    for (int64_t i = 0; i < s.tokens; i++)
        for (int64_t r = 0; r < ldy; r++) {
            float expected = r < s.rows ? 0 : 123; /* nothing beside the result is written */
            for (int64_t c = 0; r < s.rows && c < s.cols; c++)
                expected = fmaf(w[r * s.cols + c], ((const float *)x.data)[i * s.cols + c], expected);
            if (!same(expected, y[i * ldy + r]))
                fail_msg("%s %s: row %d of %d, token %d of %d, %d columns: %a instead of %a", table->name,
                         dtype_info(t)->name, (int)r, (int)s.rows, (int)i, (int)s.tokens, (int)s.cols,
                         (double)y[i * ldy + r], (double)expected);
        }
    free(w);
    free(y);
    fenced_free(x);
    fenced_free(o.data);
    fenced_free(o.scales);
}

static const dtype scaled_types[] = {DTYPE_NVFP4, DTYPE_F8_E4M3, DTYPE_NVFP4_SPLIT, DTYPE_MXFP4_SPLIT,
                                     DTYPE_INT4_SPLIT};
enum { SCALED = sizeof scaled_types / sizeof *scaled_types };

static void products_follow_the_promised_order_exactly(void **state)
{
    static const shape shapes[] = {{1, 0, 64, 1, 0},    {7, 1, 128, 1, 1},   {33, 0, 192, 2, 0}, {16, 120, 256, 3, 3},
                                   {40, 100, 64, 5, 0}, {32, 0, 320, 13, 1}, {53, 3, 128, 25, 0}};
    const kernel_table *table;
    for (int i = 0; (table = vector_table(i)); i++)
        for (int k = 0; k < SCALED; k++)
            for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
                check_products(table, scaled_types[k], shapes[s]);
}

static void fp8_rows_of_any_length_are_served(void **state)
{
    const kernel_table *table;
    for (int i = 0; (table = vector_table(i)); i++)
        for (int64_t cols = 1; cols <= 161; cols += cols < 40 ? 1 : 11)
            check_products(table, DTYPE_F8_E4M3, (shape){19, 118, cols, 1 + cols % 5, (int)(cols % 2)});
}

static void bytes_that_are_no_numbers_give_nan(void **state)
{
    static const float scale = 1;
    uint8_t row[40] = {0};
    float x[40] = {0}, y;
    scaled_weights w = {row, 40, &scale, 4, 1};
    const kernel_table *table;
    for (int i = 0; (table = kernel_table_at(i)); i++)
        for (int c = 0; c < 40; c++) {
            row[c] = c % 2 ? 0x7f : 0xff;
            table->ops[DTYPE_F8_E4M3].matmul_scaled(&w, 0, 1, 40, x, sizeof x, 1, &y, 1);
            assert_true(isnan(y));
            row[c] = 0x7e;
            table->ops[DTYPE_F8_E4M3].matmul_scaled(&w, 0, 1, 40, x, sizeof x, 1, &y, 1);
            assert_true(y == 0);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_follow_the_promised_order_exactly),
        cmocka_unit_test(fp8_rows_of_any_length_are_served),
        cmocka_unit_test(bytes_that_are_no_numbers_give_nan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
