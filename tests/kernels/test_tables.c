/* Every vector table that this machine runs, against models written out here and against `ref`, on random and extreme
 * data. Weights, activations and cache rows end at an unmapped page, so that a read beyond them ends the test. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernels/act.h"
#include "kernels/blocks.h"
#include "random_data.h"

/* ---- weights ---- */

/* Where a type keeps half-precision numbers in its block; -1 ends. */
static void half_places(dtype t, int place[3])
{
    int d = 0, m = -1;
    switch (t) {
    case DTYPE_Q4_1:
    case DTYPE_Q5_1:
    case DTYPE_Q4_K:
    case DTYPE_Q5_K:
        m = 2;
        break;
    case DTYPE_Q2_K:
        d = 80;
        m = 82;
        break;
    case DTYPE_Q3_K:
        d = 108;
        break;
    case DTYPE_Q6_K:
        d = 208;
        break;
    case DTYPE_TQ1_0:
        d = 52;
        break;
    case DTYPE_TQ2_0:
        d = 64;
        break;
    case DTYPE_MXFP4:
    case DTYPE_IQ1_M:
        d = -1;
        break;
    default:
        break;
    }
    place[0] = d;
    place[1] = m;
    place[2] = -1;
}

static uint16_t some_half(enum kind kind)
{
    static const uint16_t edge[] = {0x0000, 0x8000, 0x0001, 0x83ff, 0x0400, 0x7bff, 0xfbff, 0x3c00};
    if (kind == EXTREME && below(2))
        return edge[below(8)];
    return dtype_f32_to_f16((float)uniform() * 0.1f);
}

/* One row of weights; extreme ones have zero, subnormal and the largest scales, and blocks of equal bytes. */
static void fill_weights(dtype t, enum kind kind, uint8_t *row, int64_t cols)
{
    const dtype_traits *traits = dtype_info(t);
    for (int64_t c = 0; c < cols; c += traits->block, row += traits->block_bytes) {
        int same = kind == EXTREME && below(3) == 0 ? (below(2) ? 255 : below(2) ? 0x80 : 0) : -1;
        for (uint32_t i = 0; i < traits->block_bytes; i++)
            row[i] = (uint8_t)(same >= 0 ? same : (int)(random_bits() & 255));
        int place[3];
        half_places(t, place);
        for (int i = 0; i < 2; i++)
            if (place[i] >= 0 && t != DTYPE_F32 && t != DTYPE_BF16) {
                uint16_t h = some_half(kind);
                memcpy(row + place[i], &h, 2);
            }
        if (t == DTYPE_MXFP4)
            row[0] = (uint8_t)(kind == EXTREME ? below(3) : 115 + below(10));
        if (t == DTYPE_IQ1_M)
            row[55] = (uint8_t)((row[55] & 15) | (kind == EXTREME ? below(7) : 2) << 4);
        if (t == DTYPE_F32) {
            float f = (float)(uniform() * (kind == EXTREME ? exp2(below(60) - 30) : 1));
            memcpy(row, &f, 4);
        }
        if (t == DTYPE_BF16) {
            uint16_t h = dtype_f32_to_bf16((float)(uniform() * (kind == EXTREME ? exp2(below(60) - 30) : 1)));
            memcpy(row, &h, 2);
        }
    }
}

/* ---- models ---- */

/* The exact result of the order that kernels.h promises: per block integer sums, then fused multiply-adds. */
static float model_dot(const kernel_table *table, dtype t, const uint8_t *row, const void *act, int64_t cols)
{
    const dtype_traits *traits = dtype_info(t);
    float sum = 0;
    block_ints b;
    for (int64_t c = 0; c < cols; c += traits->block, row += traits->block_bytes) {
        if (table->ops[t].act == ACT_F32) {
            float w;
            table->ops[t].dequantise(row, &w, 1);
            sum = fmaf(w, ((const float *)act)[c], sum);
            continue;
        }
        block_decoders[t](row, &b);
        const act_q8 *q8 = (const act_q8 *)act + c / 32;
        const act_q8k *q8k = (const act_q8k *)act + c / 256;
        const int8_t *q = traits->block == 32 ? q8->q : q8k->q;
        float d = traits->block == 32 ? q8->d : q8k->d;
        int64_t products = 0, least = 0;
        for (uint32_t i = 0; i < traits->block; i++) {
            products += b.scale[i / SUB_BLOCK] * b.q[i] * q[i];
            least += b.min[i / SUB_BLOCK] * q[i];
        }
        assert_true(llabs(products) < 0x7fffffff);
        sum = fmaf(b.d * d, (float)products, sum);
        if (b.m != 0)
            sum = fmaf(-(b.m * d), (float)least, sum);
    }
    return sum;
}

/* ---- tests ---- */

static void quantised_activations_are_the_same_in_every_table(void **state)
{
    enum { COLS = 2048 };
    static float x[COLS];
    static uint8_t expected[COLS * 4], got[COLS * 4];
    const kernel_table *ref = kernel_table_find("ref"), *table;
    for (int i = 0; (table = vector_table(i)); i++)
        for (int kind = 0; kind < KINDS; kind++)
            for (activation a = 0; a < ACT_COUNT; a++) {
                fill_floats(kind, x, COLS);
                ref->quantise[a](x, expected, COLS);
                table->quantise[a](x, got, COLS);
                assert_memory_equal(expected, got, act_bytes(a, COLS));
            }
}

typedef struct shape {
    int64_t rows, cols, tokens;
    int pad; /* bytes between weight rows; makes them unaligned */
} shape;

/* matmul against the model, for every output */
static void check_products(const kernel_table *table, dtype t, enum kind kind, shape s)
{
    const kernel_ops *ops = &table->ops[t];
    int64_t row_bytes = (int64_t)dtype_bytes(t, (uint64_t)s.cols) + s.pad;
    int64_t act_row = (int64_t)act_bytes(ops->act, s.cols), ldy = s.rows + 3;
    fenced w = fenced_new((size_t)(s.rows * row_bytes - s.pad)), act = fenced_new((size_t)(s.tokens * act_row));
    float *x = malloc((size_t)s.cols * sizeof *x), *y = malloc((size_t)(s.tokens * ldy) * sizeof *y);
    for (int64_t r = 0; r < s.rows; r++)
        fill_weights(t, kind, w.data + r * row_bytes, s.cols);
    for (int64_t i = 0; i < s.tokens; i++) {
        fill_floats(kind, x, s.cols);
        table->quantise[ops->act](x, act.data + i * act_row, s.cols);
    }
    for (int64_t i = 0; i < s.tokens * ldy; i++)
        y[i] = 123;
    ops->matmul(w.data, row_bytes, s.rows, s.cols, act.data, act_row, s.tokens, y, ldy);
    for (int64_t i = 0; i < s.tokens; i++)
        for (int64_t r = 0; r < ldy; r++) {
            float got = y[i * ldy + r];
            if (r >= s.rows) {
                assert_true(got == 123); /* nothing beside the result is written */
                continue;
            }
            float expected = model_dot(table, t, w.data + r * row_bytes, act.data + i * act_row, s.cols);
            if (!same(expected, got))
                fail_msg("%s %s: row %d of %d, token %d of %d, %d columns: %a instead of %a", table->name,
                         dtype_info(t)->name, (int)r, (int)s.rows, (int)i, (int)s.tokens, (int)s.cols, got, expected);
        }
    free(x);
    free(y);
    fenced_free(w);
    fenced_free(act);
}

static void products_follow_the_promised_order_exactly(void **state)
{
    static const shape shapes[] = {{1, 256, 1, 0},   {7, 512, 1, 1},   {19, 768, 2, 1}, {8, 256, 3, 3},
                                   {17, 768, 4, 0},  {33, 512, 5, 1},  {40, 256, 7, 7}, {64, 512, 13, 0},
                                   {3, 2048, 25, 1}, {31, 256, 64, 0}, {53, 512, 1, 6}};
    const kernel_table *table;
    for (int i = 0; (table = vector_table(i)); i++)
        for (dtype t = 0; t < DTYPE_COUNT && table->ops[t].matmul; t++)
            for (int kind = 0; kind < KINDS; kind++)
                for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
                    shape one = shapes[s];
                    if (dtype_info(t)->block == 4)
                        one.pad = 0;
                    check_products(table, t, kind, one);
                }
}

static void rows_of_any_length_in_blocks_are_served(void **state)
{
    const kernel_table *table;
    for (int i = 0; (table = vector_table(i)); i++)
        for (dtype t = 0; t < DTYPE_COUNT && table->ops[t].matmul; t++) {
            int64_t block = dtype_info(t)->block;
            for (int64_t cols = block; cols <= (block == 1 ? 37 : 9 * block); cols += block)
                for (int64_t tokens = 1; tokens <= 10; tokens += 3)
                    check_products(table, t, ORDINARY, (shape){19, cols, tokens, 2});
        }
}

/* Every result may be off by half a step of each activation's scale, and by float32 roundings. */
static void products_are_near_refs(void **state)
{
    enum { ROWS = 20, COLS = 1024, TOKENS = 9 };
    static float x[TOKENS][COLS], y[TOKENS][ROWS], expected[TOKENS][ROWS], values[COLS];
    static uint8_t act[TOKENS * COLS * 4], w[ROWS * COLS * 4];
    const kernel_table *ref = kernel_table_find("ref"), *table;
    for (int i = 0; (table = vector_table(i)); i++)
        for (dtype t = 0; t < DTYPE_COUNT && table->ops[t].matmul; t++) {
            const kernel_ops *ops = &table->ops[t];
            int64_t row_bytes = (int64_t)dtype_bytes(t, COLS), act_row = (int64_t)act_bytes(ops->act, COLS);
            int64_t block = ops->act == ACT_Q8 ? 32 : 256;
            fill_weights(t, ORDINARY, w, ROWS * COLS);
            fill_floats(ORDINARY, &x[0][0], TOKENS * COLS);
            for (int n = 0; n < TOKENS; n++)
                table->quantise[ops->act](x[n], act + n * act_row, COLS);
            ops->matmul(w, row_bytes, ROWS, COLS, act, act_row, TOKENS, &y[0][0], ROWS);
            ref->ops[t].matmul(w, row_bytes, ROWS, COLS, x, sizeof *x, TOKENS, &expected[0][0], ROWS);
            for (int r = 0; r < ROWS; r++) {
                ref->ops[t].dequantise(w + r * row_bytes, values, COLS);
                for (int n = 0; n < TOKENS; n++) {
                    double bound = 0;
                    for (int64_t c = 0; c < COLS; c += block) {
                        double max = 0;
                        for (int64_t k = c; k < c + block; k++)
                            max = fmax(max, fabs((double)x[n][k]));
                        double step = ops->act == ACT_F32 ? 0 : max / 127 * 0.5001;
                        for (int64_t k = c; k < c + block; k++)
                            bound += fabs((double)values[k]) * (step + fabs((double)x[n][k]) * 1e-4);
                    }
                    assert_true(fabs((double)y[n][r] - expected[n][r]) <= bound);
                }
            }
        }
}

static void weights_become_the_same_floats_in_every_table(void **state)
{
    enum { COLS = 1024 };
    static float expected[COLS], got[COLS];
    const kernel_table *ref = kernel_table_find("ref"), *table;
    for (int i = 0; (table = vector_table(i)); i++)
        for (dtype t = 0; t < DTYPE_COUNT && table->ops[t].matmul; t++)
            for (int round = 0; round < 20; round++) {
                fenced w = fenced_new(dtype_bytes(t, COLS));
                fill_weights(t, round % KINDS, w.data, COLS);
                ref->ops[t].dequantise(w.data, expected, COLS);
                table->ops[t].dequantise(w.data, got, COLS);
                assert_memory_equal(got, expected, sizeof got);
                fenced_free(w);
            }
}

static void the_other_orientation_is_a_chain_over_rows(void **state)
{
    static const dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    static const shape shapes[] = {{1, 1, 1, 0},     {37, 45, 1, 2},  {5, 1030, 3, 0}, {130, 33, 4, 2},
                                   {129, 64, 13, 4}, {64, 31, 25, 0}, {300, 100, 9, 2}};
    const kernel_table *table;
    for (int i = 0; (table = vector_table(i)); i++)
        for (int k = 0; k < 3; k++)
            for (size_t n = 0; n < sizeof shapes / sizeof *shapes; n++) {
                dtype t = types[k];
                shape s = shapes[n];
                int64_t bytes = dtype_info(t)->block_bytes, row_bytes = s.cols * bytes + s.pad, ldx = s.rows + 2;
                fenced w = fenced_new((size_t)(s.rows * row_bytes - s.pad));
                float *x = malloc((size_t)(s.tokens * ldx) * sizeof *x);
                float *y = malloc((size_t)(s.tokens * s.cols) * sizeof *y);
                for (int64_t r = 0; r < s.rows; r++)
                    fill_weights(t, ORDINARY, w.data + r * row_bytes, s.cols);
                fill_floats(ORDINARY, x, s.tokens * ldx);
                table->ops[t].matmul_kn(w.data, row_bytes, s.rows, s.cols, x, ldx, s.tokens, y, s.cols);
                for (int64_t token = 0; token < s.tokens; token++)
                    for (int64_t c = 0; c < s.cols; c++) {
                        float sum = 0, v;
                        for (int64_t r = 0; r < s.rows; r++) {
                            table->ops[t].dequantise(w.data + r * row_bytes + c * bytes, &v, 1);
                            sum = fmaf(v, x[token * ldx + r], sum);
                        }
                        assert_true(same(sum, y[token * s.cols + c]));
                    }
                free(x);
                free(y);
                fenced_free(w);
            }
}

static void caches_hold_the_same_bytes_in_every_table(void **state)
{
    const kernel_table *ref = kernel_table_find("ref"), *table;
    float x[96];
    uint8_t expected[384], got[384];
    for (int i = 0; (table = vector_table(i)); i++)
        for (int kind = 0; kind < KINDS; kind++)
            for (kv_type type = 0; type < KV_COUNT; type++) {
                int64_t head = type == KV_Q8_0 ? 96 : 83;
                fill_floats(kind, x, head);
                ref->kv_store(type, x, expected, head);
                table->kv_store(type, x, got, head);
                assert_memory_equal(expected, got, kv_bytes(type, head));
                static uint8_t expected_keys[ATTEND_BLOCK * 384], got_keys[ATTEND_BLOCK * 384];
                for (int64_t p = 0; p < ATTEND_BLOCK; p += 7) {
                    ref->key_store(type, x, expected_keys, p, head);
                    table->key_store(type, x, got_keys, p, head);
                }
                assert_memory_equal(expected_keys, got_keys, ATTEND_BLOCK * kv_bytes(type, head));
                memset(expected_keys, 0, sizeof expected_keys);
                memset(got_keys, 0, sizeof got_keys);
            }
}

static double ulps(float got, double exact)
{
    int exponent;
    frexp(exact, &exponent);
    double ulp = ldexp(1, (exponent < -125 ? -125 : exponent) - 24);
    return fabs(got - exact) / ulp;
}

/* The exponential is what softmax of (0, x) shows: e^x / (1 + e^x), and silu. */
static void exponentials_are_accurate_in_bodies_and_tails(void **state)
{
    const kernel_table *table;
    for (int i = 0; (table = vector_table(i)); i++) {
        double worst = 0;
        for (int k = 0; k < 40000; k++) {
            float gate[17], up[17], out[17];
            for (int j = 0; j < 17; j++) {
                gate[j] = (float)uniform() * (k % 2 ? 3 : 85);
                up[j] = 1;
            }
            table->silu_mul(gate, up, out, 17);
            for (int j = 0; j < 17; j++)
                worst = fmax(worst, ulps(out[j], gate[j] / (1 + exp(-(double)gate[j]))));
        }
        if (worst > 4)
            fail_msg("%s: silu is off by %.2f ulps", table->name, worst);
        for (int n = 1; n < 40; n++) {
            float x[40], copy[40];
            double sum = 0;
            fill_floats(ORDINARY, x, n);
            for (int j = 0; j < n; j++)
                sum += exp((double)(copy[j] = x[j] *= 20));
            table->softmax(x, n);
            for (int j = 0; j < n; j++)
                assert_true(fabs(x[j] - exp((double)copy[j]) / sum) <= 4e-6 * exp((double)copy[j]) / sum + 1e-30);
        }
    }
}

typedef double exact_glu(double gate, double up);

static double exact_clamped(double gate, double up)
{
    double g = fmin(gate, 7), u = fmin(fmax(up, -7), 7);
    return g / (1 + exp(-1.702 * g)) * (u + 1);
}
static double exact_gelu(double gate, double up)
{
    return 0.5 * gate * (1 + tanh(sqrt(2 / 3.14159265358979) * (gate + 0.044715 * gate * gate * gate))) * up;
}
static double exact_relu_squared(double gate, double up)
{
    return up > 0 ? up * up : 0;
}

/* One activation of a table on n numbers. */
static void activate(const kernel_table *table, exact_glu *kind, const float *gate, const float *up, float *out,
                     int64_t n)
{
    if (kind == exact_clamped)
        table->silu_mul_clamped(gate, up, out, n, 1.702f, 7, 1);
    else if (kind == exact_gelu)
        table->gelu_mul(gate, up, out, n);
    else
        table->relu_squared(up, out, n);
}

/* In `ref` and every other table; where gelu's tanh nears -1, 1 + tanh is exact to its own last bit only. */
static void activations_are_what_their_formulas_say(void **state)
{
    static exact_glu *const kinds[] = {exact_clamped, exact_gelu, exact_relu_squared};
    enum { N = 85 };
    float gate[N], up[N], out[N], one;
    const kernel_table *table;
    for (int i = 0; (table = kernel_table_at(i)); i++)
        for (int k = 0; k < 3; k++)
            for (int round = 0; round < 300; round++) {
                for (int j = 0; j < N; j++) {
                    gate[j] = (float)uniform() * (round % 2 ? 3 : 30);
                    up[j] = (float)uniform() * (round % 3 ? 2 : 20);
                }
                activate(table, kinds[k], gate, up, out, N);
                for (int j = 0; j < N; j++) {
                    double exact = kinds[k]((double)gate[j], (double)up[j]);
                    assert_true(fabs((double)out[j] - exact) <=
                                3e-6 * fabs(exact) + 1e-12 * (fabs((double)gate[j]) + 1));
                    activate(table, kinds[k], gate + j, up + j, &one, 1);
                    assert_true(one == out[j]);
                }
                activate(table, kinds[k], gate, up, up, N); /* in place */
                assert_memory_equal(up, out, sizeof out);
            }
}

static void activations_survive_extreme_inputs_and_keep_nan(void **state)
{
    static exact_glu *const kinds[] = {exact_clamped, exact_gelu, exact_relu_squared};
    float x[] = {-3e38f, -100, -0.0f, 0, NAN}, out[5];
    const kernel_table *table;
    for (int i = 0; (table = kernel_table_at(i)); i++)
        for (int k = 0; k < 3; k++) {
            activate(table, kinds[k], x, x, out, 5);
            for (int j = 0; j < 4; j++)
                assert_true(out[j] == 0);
            assert_true(isnan(out[4]));
        }
}

static void elements_of_vectors_do_not_depend_on_their_place(void **state)
{
    const kernel_table *table;
    for (int i = 0; (table = vector_table(i)); i++) {
        float g[50], u[50], out[50], single;
        fill_floats(ORDINARY, g, 50);
        fill_floats(ORDINARY, u, 50);
        table->silu_mul(g, u, out, 50);
        for (int j = 0; j < 50; j++) {
            table->silu_mul(g + j, u + j, &single, 1);
            assert_true(single == out[j]);
        }
        memcpy(out, u, sizeof out);
        table->add_scaled(out, g, 0.37f, 50);
        for (int j = 0; j < 50; j++)
            assert_true(out[j] == fmaf(g[j], 0.37f, u[j]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantised_activations_are_the_same_in_every_table),
        cmocka_unit_test(products_follow_the_promised_order_exactly),
        cmocka_unit_test(rows_of_any_length_in_blocks_are_served),
        cmocka_unit_test(products_are_near_refs),
        cmocka_unit_test(weights_become_the_same_floats_in_every_table),
        cmocka_unit_test(the_other_orientation_is_a_chain_over_rows),
        cmocka_unit_test(caches_hold_the_same_bytes_in_every_table),
        cmocka_unit_test(exponentials_are_accurate_in_bodies_and_tails),
        cmocka_unit_test(activations_are_what_their_formulas_say),
        cmocka_unit_test(activations_survive_extreme_inputs_and_keep_nan),
        cmocka_unit_test(elements_of_vectors_do_not_depend_on_their_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
