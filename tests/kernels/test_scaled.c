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

/* A type, and which of its weights share a scale. */
typedef struct form {
    dtype type;
    scale_grid grid;
} form;

static void put_scale(scale_grid g, uint8_t *at)
{
    float f = (float)uniform() * 0.1f;
    uint16_t h = g.type == SCALE_F16 ? dtype_f32_to_f16(f) : dtype_f32_to_bf16(f);
    if (g.type == SCALE_F32)
        memcpy(at, &f, 4);
    else if (g.type == SCALE_BF16 || g.type == SCALE_F16)
        memcpy(at, &h, 2);
    else
        *at = (uint8_t)(g.type == SCALE_E8M0 ? 110 + below(20) : below(0x7f));
}

/* Random bytes, as scales numbers of moderate size; none is NaN. */
static operands operands_new(form f, shape s)
{
    dtype t = f.type;
    int64_t rows = s.first + s.rows + 1, row_bytes = (int64_t)dtype_bytes(t, (uint64_t)s.cols) + s.pad;
    int64_t width = scale_width(f.grid), row_width = (int64_t)scale_bytes(f.grid, 1, (uint64_t)s.cols);
    int64_t scale_row_bytes = row_width + width * s.pad;
    int64_t scale_rows = f.grid.type ? (int64_t)scale_count(f.grid, (uint64_t)rows, 1) : 1;
    operands o = {fenced_new((size_t)(rows * row_bytes - s.pad)),
                  fenced_new((size_t)(scale_rows * scale_row_bytes - width * s.pad)),
                  {0}};
    o.w = (scaled_weights){o.data.data, row_bytes, f.grid.type ? o.scales.data : NULL, scale_row_bytes, 0.37f, f.grid};
    for (int64_t i = 0; i < rows * row_bytes - s.pad; i++) {
        uint8_t b = (uint8_t)random_bits();
        o.data.data[i] = t == DTYPE_F8_E4M3 && (b & 0x7f) == 0x7f ? 0 : b;
    }
    for (int64_t i = 0; width && i < scale_rows * scale_row_bytes - width * s.pad; i += width)
        put_scale(f.grid, o.scales.data + i);
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

static void check_products(const kernel_table *table, form f, shape s)
{
    dtype t = f.type;
    operands o = operands_new(f, s);
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
                fail_msg("%s %s (%d, %d, %d): row %d of %d, token %d of %d, %d columns: %a instead of %a", table->name,
                         dtype_info(t)->name, f.grid.type, f.grid.rows, f.grid.cols, (int)r, (int)s.rows, (int)i,
                         (int)s.tokens, (int)s.cols, (double)y[i * ldy + r], (double)expected);
        }
    free(w);
    free(y);
    fenced_free(x);
    fenced_free(o.data);
    fenced_free(o.scales);
}

static const form forms[] = {
    {DTYPE_NVFP4, {0}},
    {DTYPE_NVFP4_SPLIT, {SCALE_F8, 0, 4}},
    {DTYPE_MXFP4_SPLIT, {SCALE_E8M0, 0, 5}},
    {DTYPE_F8_E4M3, {SCALE_F32, 7, 7}},
    {DTYPE_F8_E4M3, {SCALE_BF16, 7, 7}},
    {DTYPE_F8_E4M3, {SCALE_BF16, 0, SCALE_ALL}},
    {DTYPE_F8_E4M3, {SCALE_F32, SCALE_ALL, SCALE_ALL}},
    {DTYPE_F8_E4M3, {SCALE_F16, SCALE_ALL, SCALE_ALL}},
    {DTYPE_INT4_SPLIT, {SCALE_BF16, 0, 5}},
    {DTYPE_INT4_SPLIT, {SCALE_F16, 0, 6}},
    {DTYPE_INT4_SPLIT, {SCALE_BF16, 0, 7}},
    {DTYPE_INT4_SPLIT, {SCALE_F32, 0, 7}},
    {DTYPE_INT4_SPLIT, {SCALE_BF16, 0, SCALE_ALL}},
};
enum { FORMS = sizeof forms / sizeof *forms };

static void products_follow_the_promised_order_exactly(void **state)
{
    static const shape shapes[] = {{1, 0, 64, 1, 0},    {7, 1, 128, 1, 1},   {33, 0, 192, 2, 0}, {16, 120, 256, 3, 3},
                                   {40, 100, 64, 5, 0}, {32, 0, 320, 13, 1}, {53, 3, 128, 25, 0}};
    const kernel_table *table;
    for (int i = 0; (table = vector_table(i)); i++)
        for (int k = 0; k < FORMS; k++)
            for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
                check_products(table, forms[k], shapes[s]);
}

static void fp8_rows_of_any_length_are_served(void **state)
{
    const kernel_table *table;
    for (int i = 0; (table = vector_table(i)); i++)
        for (int k = 0; k < FORMS; k++)
            for (int64_t cols = 1; forms[k].type == DTYPE_F8_E4M3 && cols <= 161; cols += cols < 40 ? 1 : 11)
                check_products(table, forms[k], (shape){19, 118, cols, 1 + cols % 5, (int)(cols % 2)});
}

static void bytes_that_are_no_numbers_give_nan(void **state)
{
    static const float scale = 1;
    uint8_t row[40] = {0};
    float x[40] = {0}, y;
    scaled_weights w = {row, 40, &scale, 4, 1, {SCALE_F32, SCALE_ALL, SCALE_ALL}};
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
