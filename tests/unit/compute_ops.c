/* Operations of src/compute against plain loops; results do not depend on the number of tokens or threads. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "compute/compute.h"

enum { N = 70, COLS = 96 };

static uint64_t seed = 7;
static float number(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (float)(seed >> 40) * 0x1p-23f - 1;
}

/* A compute and memory for its buffers. */
typedef struct bench {
    compute c;
    char *memory;
    arena a;
} bench;

static void bench_open(bench *b, int threads)
{
    b->c = compute_cpu(compute_kernels_find("auto"), threads);
    assert_int_equal(compute_start(&b->c, NULL), ODMOE_OK);
    b->memory = aligned_alloc(64, 8 << 20);
    assert_non_null(b->memory);
    b->a = (arena){.base = (uint8_t *)b->memory};
}

static void bench_close(bench *b)
{
    compute_stop(&b->c);
    free(b->memory);
}

static buffer make_buffer(bench *b, int64_t cols, dtype_set readers)
{
    buffer out;
    b->c.op->buffer_layout(&b->c, &b->a, &out, N, cols, readers, true);
    return out;
}

/* n rows of numbers, kept in `copy` [n, cols] as well. */
static void fill(bench *b, buffer *to, float *copy, int64_t n)
{
    float *rows = b->c.op->write(&b->c, to, n);
    for (int64_t i = 0; i < n * to->cols; i++)
        rows[i] = copy[i] = number();
}

static const float *rows_of(bench *b, const buffer *x)
{
    return b->c.op->read(&b->c, x);
}

static void near(float got, double want)
{
    if (!(fabs(got - want) <= 2e-5 * (1 + fabs(want))))
        fail_msg("%.9g, expected %.9g", (double)got, want);
}

/* ---- token-wise ---- */

static void a_list_of_operations_is_done_in_its_order(void **state)
{
    bench b;
    static float x[N * COLS], y[N * COLS], w[COLS];
    for (int i = 0; i < COLS; i++)
        w[i] = number();
    for (int threads = 1; threads <= 3; threads += 2)
        for (int64_t n = 1; n <= N; n += N - 1) {
            bench_open(&b, threads);
            buffer bx = make_buffer(&b, COLS, 0), by = make_buffer(&b, COLS, 0), bn = make_buffer(&b, COLS, 0);
            fill(&b, &bx, x, n);
            fill(&b, &by, y, n);
            token_op ops[] = {{.kind = TOKEN_ADD, .y = &by, .x = &bx, .factor = 0.5f},
                              {.kind = TOKEN_RMS_NORM, .y = &bn, .x = &by, .weight = w, .eps = 1e-5f},
                              {.kind = TOKEN_SCALE, .y = &bn, .factor = 3}};
            b.c.op->tokens(&b.c, ops, 3, n);
            for (int64_t t = 0; t < n; t++) {
                double sum[COLS], squares = 0;
                for (int i = 0; i < COLS; i++) {
                    sum[i] = y[t * COLS + i] + 0.5 * x[t * COLS + i];
                    squares += sum[i] * sum[i];
                }
                for (int i = 0; i < COLS; i++)
                    near(rows_of(&b, &bn)[t * COLS + i], 3 * sum[i] / sqrt(squares / COLS + 1e-5) * w[i]);
            }
            assert_int_equal(bn.n, n);
            bench_close(&b);
        }
}

static void spans_of_one_buffer_go_to_spans_of_another(void **state)
{
    /* rows of 3 heads of [query 16 | gate 16]: the queries side by side, normalised, and gated */
    bench b;
    bench_open(&b, 2);
    static float x[N * COLS];
    buffer both = make_buffer(&b, COLS, 0), q = make_buffer(&b, COLS / 2, 0);
    fill(&b, &both, x, N);
    const spans queries = {0, 16, 3, 32}, gates = {16, 16, 3, 32}, side_by_side = {0, 16, 3, 16};
    token_op ops[] = {{.kind = TOKEN_RMS_NORM, .y = &q, .at = side_by_side, .x = &both, .from = queries},
                      {.kind = TOKEN_GATE, .y = &q, .at = side_by_side, .x = &both, .from = gates}};
    b.c.op->tokens(&b.c, ops, 2, N);
    for (int t = 0; t < N; t++)
        for (int h = 0; h < 3; h++) {
            const float *from = x + t * COLS + h * 32;
            double squares = 0;
            for (int i = 0; i < 16; i++)
                squares += (double)from[i] * from[i];
            for (int i = 0; i < 16; i++)
                near(rows_of(&b, &q)[t * COLS / 2 + h * 16 + i],
                     from[i] / sqrt(squares / 16) / (1 + exp(-from[16 + i])));
        }
    bench_close(&b);
}

static void a_layer_norm_takes_off_the_mean(void **state)
{
    bench b;
    bench_open(&b, 1);
    static float x[N * COLS], w[COLS], bias[COLS];
    for (int i = 0; i < COLS; i++) {
        w[i] = number();
        bias[i] = number();
    }
    buffer y = make_buffer(&b, COLS, 0);
    fill(&b, &y, x, N);
    token_op norm = {.kind = TOKEN_LAYER_NORM, .y = &y, .x = &y, .weight = w, .bias = bias, .eps = 1e-5f};
    b.c.op->tokens(&b.c, &norm, 1, N);
    for (int t = 0; t < N; t++) {
        double mean = 0, variance = 0;
        for (int i = 0; i < COLS; i++)
            mean += x[t * COLS + i] / (double)COLS;
        for (int i = 0; i < COLS; i++)
            variance += (x[t * COLS + i] - mean) * (x[t * COLS + i] - mean) / COLS;
        for (int i = 0; i < COLS; i++)
            near(rows_of(&b, &y)[t * COLS + i], (x[t * COLS + i] - mean) / sqrt(variance + 1e-5) * w[i] + bias[i]);
    }
    bench_close(&b);
}

static void a_softcap_bends_numbers_towards_its_limit(void **state)
{
    bench b;
    bench_open(&b, 2);
    static float x[N * COLS];
    buffer y = make_buffer(&b, COLS, 0);
    fill(&b, &y, x, N);
    token_op ops[] = {{.kind = TOKEN_SCALE, .y = &y, .factor = 20}, {.kind = TOKEN_SOFTCAP, .y = &y, .factor = 6}};
    b.c.op->tokens(&b.c, ops, 2, N);
    for (int i = 0; i < N * COLS; i++) {
        near(rows_of(&b, &y)[i], 6 * tanh(20 * (double)x[i] / 6));
        assert_true(fabsf(rows_of(&b, &y)[i]) <= 6);
    }
    bench_close(&b);
}

static void heads_turn_in_either_pairing_and_only_their_first_part(void **state)
{
    bench b;
    bench_open(&b, 2);
    static float x[N * COLS];
    const float frequency[4] = {1, 0.5f, 0.1f, 0.01f};
    int32_t positions[N];
    for (int t = 0; t < N; t++)
        positions[t] = 3 * t + 1;
    buffer y = make_buffer(&b, COLS, 0), cosines = make_buffer(&b, 4, 0), sines = make_buffer(&b, 4, 0);
    for (int pairing = ROPE_HALVES; pairing <= ROPE_NEIGHBOURS; pairing++) {
        fill(&b, &y, x, N);
        token_op ops[] = {{.kind = TOKEN_ROPE_ANGLES,
                           .y = &cosines,
                           .z = &sines,
                           .weight = frequency,
                           .positions = positions,
                           .factor = 1},
                          {.kind = TOKEN_ROPE,
                           .y = &y,
                           .x = &cosines,
                           .z = &sines,
                           .at = {0, 32, 3, 32},
                           .pairing = (rope_pairing)pairing}};
        b.c.op->tokens(&b.c, ops, 2, N);
        for (int t = 0; t < N; t++)
            for (int h = 0; h < 3; h++) {
                const float *from = x + t * COLS + h * 32, *got = rows_of(&b, &y) + t * COLS + h * 32;
                for (int i = 0; i < 4; i++) {
                    int one = pairing == ROPE_HALVES ? i : 2 * i, other = pairing == ROPE_HALVES ? i + 4 : 2 * i + 1;
                    double angle = positions[t] * frequency[i];
                    near(got[one], from[one] * cos(angle) - from[other] * sin(angle));
                    near(got[other], from[other] * cos(angle) + from[one] * sin(angle));
                }
                assert_memory_equal(got + 8, from + 8, 24 * sizeof(float));
            }
    }
    bench_close(&b);
}

/* ---- products ---- */

static void products_go_to_columns_with_their_bias_in_either_orientation(void **state)
{
    bench b;
    static float x[N * COLS], w[2][40 * COLS], bias[40];
    for (int i = 0; i < 40 * COLS; i++) {
        w[0][i] = number();
        w[1][i % COLS * 40 + i / COLS] = w[0][i]; /* transposed */
    }
    for (int i = 0; i < 40; i++)
        bias[i] = number();
    for (int threads = 1; threads <= 3; threads += 2) {
        bench_open(&b, threads);
        buffer bx = make_buffer(&b, COLS, dtype_bit(DTYPE_F32)), y = make_buffer(&b, 80, 0);
        matrix plain = {.type = DTYPE_F32, .rows = 40, .cols = COLS, .data = w[0]};
        matrix turned = {.type = DTYPE_F32, .rows = 40, .cols = COLS, .data = w[1], .in_out = true};
        fill(&b, &bx, x, N);
        linear_call calls[] = {{.w = &plain, .x = &bx, .y = &y, .bias = bias},
                               {.w = &turned, .x = &bx, .y = &y, .column = 40}};
        b.c.op->linear(&b.c, calls, 2);
        for (int t = 0; t < N; t++)
            for (int r = 0; r < 40; r++) {
                double sum = 0;
                for (int i = 0; i < COLS; i++)
                    sum += (double)w[0][r * COLS + i] * x[t * COLS + i];
                near(rows_of(&b, &y)[t * 80 + r], sum + bias[r]);
                near(rows_of(&b, &y)[t * 80 + 40 + r], sum);
            }
        bench_close(&b);
    }
}

static void a_buffer_that_is_written_again_is_quantised_again(void **state)
{
    bench b;
    bench_open(&b, 2);
    static float x[N * COLS], blocks[COLS];
    struct {
        uint16_t d;
        int8_t q[32];
    } row[COLS / 32]; /* one row of Q8_0: all ones */
    for (int i = 0; i < COLS / 32; i++) {
        row[i].d = dtype_f32_to_f16(1);
        memset(row[i].q, 1, sizeof row[i].q);
    }
    compute_floats(DTYPE_Q8_0, row, blocks, COLS);
    assert_true(blocks[COLS - 1] == 1);
    matrix w = {.type = DTYPE_Q8_0, .rows = 1, .cols = COLS, .data = row};
    buffer bx = make_buffer(&b, COLS, dtype_bit(DTYPE_Q8_0)), y = make_buffer(&b, 1, 0);
    for (int64_t n = N; n >= 1; n = n == 1 ? 0 : 1)
        for (int again = 0; again < 3; again++) {
            fill(&b, &bx, x, n);
            token_op twice = {.kind = TOKEN_SCALE, .y = &bx, .factor = 2};
            linear_call product = {.w = &w, .x = &bx, .y = &y};
            for (int scaled = 0; scaled < 2; scaled++) {
                b.c.op->linear(&b.c, &product, 1);
                for (int64_t t = 0; t < n; t++) {
                    double sum = 0;
                    for (int i = 0; i < COLS; i++)
                        sum += x[t * COLS + i];
                    assert_float_equal(rows_of(&b, &y)[t], sum * (1 + scaled), 0.5); /* 8 bits a number */
                }
                b.c.op->tokens(&b.c, &twice, 1, n);
            }
        }
    bench_close(&b);
}

static void outputs_that_are_no_numbers_are_told_by_token(void **state)
{
    bench b;
    bench_open(&b, 3);
    static float x[N * COLS], w[40 * COLS];
    for (int i = 0; i < 40 * COLS; i++)
        w[i] = number();
    buffer bx = make_buffer(&b, COLS, dtype_bit(DTYPE_F32)), y = make_buffer(&b, 40, 0);
    matrix m = {.type = DTYPE_F32, .rows = 40, .cols = COLS, .data = w};
    fill(&b, &bx, x, N);
    float *rows = (float *)rows_of(&b, &bx);
    rows[3 * COLS + 5] = NAN;
    rows[69 * COLS] = INFINITY;
    bool bad[N] = {false};
    linear_call product = {.w = &m, .x = &bx, .y = &y, .not_finite = bad};
    b.c.op->linear(&b.c, &product, 1);
    for (int t = 0; t < N; t++)
        assert_int_equal(bad[t], t == 3 || t == 69);
    bench_close(&b);
}

/* ---- a feed-forward network ---- */

static double activation(const glu_config *g, double gate, double up)
{
    double limited = fmin(gate, g->limit);
    switch (g->kind) {
    case ODMOE_SWIGLU_CLAMPED:
        return limited / (1 + exp(-g->alpha * limited)) * (fmax(-g->limit, fmin(up, g->limit)) + g->offset);
    case ODMOE_GEGLU_TANH:
        return 0.5 * gate * (1 + tanh(0.7978845608028654 * (gate + 0.044715 * gate * gate * gate))) * up;
    case ODMOE_RELU2:
        return up > 0 ? up * up : 0;
    default:
        return gate / (1 + exp(-gate)) * up;
    }
}

enum { FFN = 64, MANY = 600 };

static void a_network_of_each_activation_equals_a_plain_loop_whatever_the_number_of_tokens(void **state)
{
    static float w[3][FFN * COLS], x[MANY * COLS], y[MANY * COLS], alone[COLS];
    for (int m = 0; m < 3; m++)
        for (int i = 0; i < FFN * COLS; i++)
            w[m][i] = number();
    for (int i = 0; i < MANY * COLS; i++)
        x[i] = number();
    for (int kind = 0; kind < ODMOE_ACTIVATION_COUNT; kind++) {
        bench b;
        compute_work work;
        buffer in, out;
        bench_open(&b, 3);
        ffn_weights ffn = {.glu = {kind, 1.702f, 2, 1},
                           .up = {.type = DTYPE_F32, .rows = FFN, .cols = COLS, .data = w[1]},
                           .down = {.type = DTYPE_F32, .rows = COLS, .cols = FFN, .data = w[2]}};
        if (glu_has_gate(&ffn.glu))
            ffn.gate = (matrix){.type = DTYPE_F32, .rows = FFN, .cols = COLS, .data = w[0]};
        b.c.op->buffer_layout(&b.c, &b.a, &in, MANY, COLS, dtype_bit(DTYPE_F32), false);
        b.c.op->buffer_layout(&b.c, &b.a, &out, MANY, COLS, 0, false);
        b.c.op->ffn_layout(&b.c, &b.a, FFN, dtype_bit(DTYPE_F32), MANY, &work);
        b.c.op->borrow(&b.c, &in, x, MANY);
        b.c.op->borrow(&b.c, &out, y, MANY);
        b.c.op->ffn(&b.c, &ffn, &work, &in, &out);
        for (int t = 0; t < MANY; t += 37) {
            double h[FFN];
            for (int f = 0; f < FFN; f++) {
                double gate = 0, up = 0;
                for (int i = 0; i < COLS; i++) {
                    gate += (double)w[0][f * COLS + i] * x[t * COLS + i];
                    up += (double)w[1][f * COLS + i] * x[t * COLS + i];
                }
                h[f] = activation(&ffn.glu, gate, up);
            }
            for (int i = 0; i < COLS; i++) {
                double sum = 0;
                for (int f = 0; f < FFN; f++)
                    sum += (double)w[2][i * FFN + f] * h[f];
                if (!(fabs(y[t * COLS + i] - sum) <= 2e-4 * (1 + fabs(sum))))
                    fail_msg("kind %d, token %d: %g, expected %g", kind, t, (double)y[t * COLS + i], sum);
            }
            b.c.op->borrow(&b.c, &in, x + t * COLS, 1);
            b.c.op->borrow(&b.c, &out, alone, 1);
            b.c.op->ffn(&b.c, &ffn, &work, &in, &out);
            assert_memory_equal(alone, y + t * COLS, sizeof alone);
        }
        bench_close(&b);
    }
}

/* ---- attention ---- */

enum { HEADS = 4, KV_HEADS = 2, KEY = 32, VALUE = 16, SEEN = 150 };

static double score_of(const attention_call *call, const float *q, const float *k)
{
    double s = 0;
    for (int i = 0; i < KEY; i++)
        s += (double)q[i] * k[i];
    s *= call->scale;
    return call->softcap > 0 ? call->softcap * tanh(s / call->softcap) : s;
}

/* One head of one token. keys [SEEN, KV_HEADS * KEY], values [SEEN, KV_HEADS * width]. */
static void plain_head(const attention_call *call, int position, int head, const float *q, const float *keys,
                       const float *values, int width, double *out)
{
    int first = call->window && position >= call->window ? position - call->window + 1 : 0;
    if (call->chunk && position / call->chunk * call->chunk > first)
        first = position / call->chunk * call->chunk;
    double total = call->sinks ? exp(call->sinks[head]) : 0;
    int kv = head / (HEADS / KV_HEADS);
    for (int i = 0; i < VALUE; i++)
        out[i] = 0;
    for (int p = first; p <= position; p++) {
        double weight = exp(score_of(call, q, keys + (p * KV_HEADS + kv) * KEY));
        total += weight;
        for (int i = 0; i < VALUE; i++)
            out[i] += weight * values[(p * KV_HEADS + kv) * width + i];
    }
    for (int i = 0; i < VALUE; i++)
        out[i] /= total;
}

static void check_attention(attention_call call, bool value_in_key)
{
    static float keys[SEEN * KV_HEADS * KEY], values[SEEN * KV_HEADS * VALUE], q[SEEN * HEADS * KEY];
    static const float sinks[HEADS] = {0.5f, -1, 2, 0};
    bench b;
    bench_open(&b, 3);
    call.shape = (attention_shape){.kv = {KV_F32, KV_HEADS, KEY, VALUE, value_in_key}, .heads = HEADS};
    call.scale = 0.3f;
    call.sinks = call.sinks ? sinks : NULL;
    void *pages[(SEEN + KV_PAGE - 1) / KV_PAGE];
    for (size_t i = 0; i < sizeof pages / sizeof *pages; i++)
        pages[i] = arena_take(&b.a, 1, kv_page_bytes(&call.shape.kv));
    kv_token tokens[SEEN];
    buffer bq, bk, bv, out;
    compute_work work;
    b.c.op->buffer_layout(&b.c, &b.a, &bq, SEEN, HEADS * KEY, 0, true);
    b.c.op->buffer_layout(&b.c, &b.a, &bk, SEEN, KV_HEADS * KEY, 0, true);
    b.c.op->buffer_layout(&b.c, &b.a, &bv, SEEN, KV_HEADS * VALUE, 0, true);
    b.c.op->buffer_layout(&b.c, &b.a, &out, SEEN, HEADS * VALUE, 0, true);
    b.c.op->attention_layout(&b.c, &b.a, &call.shape, SEEN, &work);
    fill(&b, &bq, q, SEEN);
    fill(&b, &bk, keys, SEEN);
    fill(&b, &bv, values, SEEN);
    for (int t = 0; t < SEEN; t++)
        tokens[t] = (kv_token){pages, t};
    token_op store = {
        .kind = TOKEN_KV_STORE, .x = &bk, .z = value_in_key ? NULL : &bv, .kv = call.shape.kv, .kv_tokens = tokens};
    b.c.op->tokens(&b.c, &store, 1, SEEN);
    call.q = &bq;
    call.out = &out;
    call.tokens = tokens;
    call.work = &work;
    b.c.op->attention(&b.c, &call, SEEN);
    for (int t = 0; t < SEEN; t++)
        for (int h = 0; h < HEADS; h++) {
            double expected[VALUE];
            plain_head(&call, t, h, q + (t * HEADS + h) * KEY, keys, value_in_key ? keys : values,
                       value_in_key ? KEY : VALUE, expected);
            for (int i = 0; i < VALUE; i++)
                near(rows_of(&b, &out)[(t * HEADS + h) * VALUE + i], expected[i]);
        }
    bench_close(&b);
}

static void attention_equals_a_plain_loop_in_all_its_variants(void **state)
{
    static const float any = 0;
    check_attention((attention_call){.window = 0}, false);
    check_attention((attention_call){.window = 40}, false);
    check_attention((attention_call){.chunk = 50}, false);
    check_attention((attention_call){.softcap = 1.5f, .sinks = &any}, false);
    check_attention((attention_call){.window = 70, .sinks = &any}, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_list_of_operations_is_done_in_its_order),
        cmocka_unit_test(spans_of_one_buffer_go_to_spans_of_another),
        cmocka_unit_test(a_layer_norm_takes_off_the_mean),
        cmocka_unit_test(a_softcap_bends_numbers_towards_its_limit),
        cmocka_unit_test(heads_turn_in_either_pairing_and_only_their_first_part),
        cmocka_unit_test(products_go_to_columns_with_their_bias_in_either_orientation),
        cmocka_unit_test(a_buffer_that_is_written_again_is_quantised_again),
        cmocka_unit_test(outputs_that_are_no_numbers_are_told_by_token),
        cmocka_unit_test(a_network_of_each_activation_equals_a_plain_loop_whatever_the_number_of_tokens),
        cmocka_unit_test(attention_equals_a_plain_loop_in_all_its_variants),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
