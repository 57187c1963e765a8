/* Operations of src/compute against plain loops; results do not depend on the number of tokens or threads. */
#include "compute_bench.h"

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

static void decays_and_norms_of_recurrent_layers_are_what_their_formulas_say(void **state)
{
    bench b;
    bench_open(&b, 2);
    static float x[N * COLS];
    const float bias[COLS] = {30, -30, 0.5f}, rates[3] = {-0.5f, -2, -1e-3f};
    buffer bx = make_buffer(&b, COLS, 0), steps = make_buffer(&b, COLS, 0), heads = make_buffer(&b, COLS, 0);
    fill(&b, &bx, x, N);
    const spans each = {0, 32, 3, 32}, from = {32, 16, 2, 24}, to = {0, 16, 2, 16};
    token_op ops[] = {
        {.kind = TOKEN_COPY, .y = &steps, .x = &bx},
        {.kind = TOKEN_BIAS, .y = &steps, .weight = bias},
        {.kind = TOKEN_SOFTPLUS, .y = &steps},
        {.kind = TOKEN_ZERO, .y = &heads},
        {.kind = TOKEN_L2_NORM, .y = &heads, .at = to, .x = &bx, .from = from, .factor = 0.25f, .eps = 1e-6f},
        {.kind = TOKEN_DECAY, .y = &bx, .x = &steps, .at = each, .weight = rates}};
    b.c.op->tokens(&b.c, ops, sizeof ops / sizeof *ops, N);
    for (int t = 0; t < N; t++) {
        for (int i = 0; i < COLS; i++) {
            double step = log1p(exp((double)x[t * COLS + i] + bias[i]));
            near(rows_of(&b, &steps)[t * COLS + i], step);
            near(rows_of(&b, &bx)[t * COLS + i], exp(rates[i / 32] * step));
        }
        for (int h = 0; h < 2; h++) {
            const float *head = x + t * COLS + 32 + 24 * h;
            double squares = 1e-6;
            for (int i = 0; i < 16; i++)
                squares += (double)head[i] * head[i];
            for (int i = 0; i < 16; i++)
                near(rows_of(&b, &heads)[t * COLS + 16 * h + i], head[i] / sqrt(squares) * 0.25);
        }
    }
    bench_close(&b);
}

/* Heads that have a weight each, and groups that have a vector of weights each. */
static void spans_have_weights_of_their_own_where_the_operation_says_so(void **state)
{
    bench b;
    bench_open(&b, 2);
    static float x[N * COLS], y[N * COLS], w[2 * 32];
    const float rates[2] = {0.5f, -3};
    for (int i = 0; i < 64; i++)
        w[i] = 1 + 0.01f * (float)i;
    buffer bx = make_buffer(&b, COLS, 0), by = make_buffer(&b, COLS, 0), norm = make_buffer(&b, 64, 0);
    fill(&b, &bx, x, N);
    fill(&b, &by, y, N);
    const spans at = {0, 32, 2, 32}, from = {16, 32, 2, 32};
    token_op ops[] = {
        {.kind = TOKEN_ADD_EACH, .y = &by, .at = at, .x = &bx, .from = from, .weight = rates},
        {.kind = TOKEN_RMS_NORM, .y = &norm, .at = at, .x = &by, .weight = w, .weight_each = true, .eps = 1e-5f},
        {.kind = TOKEN_MULTIPLY, .y = &norm, .at = at, .x = &bx, .from = from}};
    b.c.op->tokens(&b.c, ops, sizeof ops / sizeof *ops, N);
    for (int t = 0; t < N; t++)
        for (int g = 0; g < 2; g++) {
            const float *xs = x + t * COLS + 16 + 32 * g, *ys = y + t * COLS + 32 * g;
            double squares = 0;
            for (int i = 0; i < 32; i++)
                squares += pow(ys[i] + (double)rates[g] * xs[i], 2);
            for (int i = 0; i < 32; i++) {
                double sum = ys[i] + (double)rates[g] * xs[i];
                near(rows_of(&b, &by)[t * COLS + 32 * g + i], sum);
                near(rows_of(&b, &norm)[t * 64 + 32 * g + i],
                     sum / sqrt(squares / 32 + 1e-5) * (double)w[32 * g + i] * xs[i]);
            }
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
    buffer y = make_buffer(&b, COLS, 0), picked = make_buffer(&b, COLS, 0);
    fill(&b, &y, x, N);
    const int32_t rows[] = {5, 2, N - 1};
    token_op norm = {.kind = TOKEN_LAYER_NORM, .y = &y, .x = &y, .weight = w, .bias = bias, .eps = 1e-5f};
    token_op some = norm;
    some.y = &picked;
    some.x_rows = rows;
    b.c.op->tokens(&b.c, &some, 1, 3);
    b.c.op->tokens(&b.c, &norm, 1, N);
    for (int i = 0; i < 3; i++)
        assert_memory_equal(rows_of(&b, &picked) + i * COLS, rows_of(&b, &y) + rows[i] * COLS, COLS * sizeof(float));
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

static void queries_grow_with_each_step_of_positions(void **state)
{
    bench b;
    bench_open(&b, 2);
    static float x[N * COLS];
    static kv_token tokens[N];
    buffer y = make_buffer(&b, COLS, 0);
    fill(&b, &y, x, N);
    for (int t = 0; t < N; t++)
        tokens[t].position = 1000 * t;
    token_op op = {.kind = TOKEN_TEMPER,
                   .y = &y,
                   .at = {0, 16, 2, 32},
                   .factor = 0.25f,
                   .every = 2000,
                   .shift = 1,
                   .kv_tokens = tokens};
    b.c.op->tokens(&b.c, &op, 1, N);
    for (int t = 0; t < N; t++)
        for (int i = 0; i < COLS; i++) {
            bool in_span = i < 16 || (i >= 32 && i < 48);
            near(rows_of(&b, &y)[t * COLS + i], x[t * COLS + i] * (in_span ? 1 + 0.25 * log(1 + t / 2) : 1));
        }
    tokens[0].position = 1999; /* one more is the next step */
    fill(&b, &y, x, 1);
    b.c.op->tokens(&b.c, &op, 1, 1);
    near(rows_of(&b, &y)[0], x[0] * (1 + 0.25 * log(2)));
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

/* ---- recurrent layers ---- */

/* Three sequences of a call, and what they keep before and after it; SKIP bytes in front are another's. */
enum { RUNS = 3, SKIP = 128 };
static const int64_t lengths[RUNS] = {1, N - 8, 7};

static void keep(sequence_run *runs, char *before, char *after, uint64_t bytes)
{
    for (int64_t i = 0, first = 0; i < RUNS; first += lengths[i++]) {
        uint64_t offset = (uint64_t)i * (SKIP + bytes);
        runs[i] = (sequence_run){first, lengths[i], 0, {before + offset, after + offset}};
    }
}

/* Numbers for all that the sequences keep, and a copy. */
static void fill_kept(char *memory, char *copy, uint64_t bytes)
{
    for (uint64_t i = 0; i < bytes / sizeof(float); i++)
        ((float *)(void *)memory)[i] = number();
    memcpy(copy, memory, bytes);
}

static float *kept(char *memory, int run, uint64_t bytes)
{
    return (float *)(void *)(memory + (uint64_t)run * (SKIP + bytes) + SKIP);
}

enum { CHANNELS = 600, WIDTH = 4, ROW = CHANNELS + 8 };

static void a_convolution_equals_a_plain_loop_for_each_sequence(void **state)
{
    static float x[N * ROW], w[WIDTH * CHANNELS], bias[CHANNELS];
    uint64_t bytes = conv_state_bytes(WIDTH, CHANNELS);
    char *memory = aligned_alloc(64, RUNS * (SKIP + bytes)), *before = malloc(RUNS * (SKIP + bytes));
    char *after = aligned_alloc(64, RUNS * (SKIP + bytes));
    sequence_run runs[RUNS];
    keep(runs, memory, after, bytes);
    for (int i = 0; i < WIDTH * CHANNELS; i++)
        w[i] = number();
    for (int threads = 1; threads <= 3; threads += 2) {
        bench b;
        bench_open(&b, threads);
        buffer bx = make_buffer(&b, ROW, 0), by = make_buffer(&b, ROW, 0);
        fill(&b, &bx, x, N);
        fill_kept(memory, before, RUNS * (SKIP + bytes));
        conv_call call = {.x = &bx,
                          .y = &by,
                          .x_column = 8,
                          .y_column = 3,
                          .channels = CHANNELS,
                          .width = WIDTH,
                          .weight = w,
                          .bias = threads > 1 ? bias : NULL,
                          .silu = threads > 1,
                          .sequences = runs,
                          .n_sequences = RUNS,
                          .state = SKIP};
        for (int i = 0; i < CHANNELS; i++)
            bias[i] = number();
        b.c.op->conv(&b.c, &call);
        assert_int_equal(by.n, N);
        assert_memory_equal(memory, before, RUNS * (SKIP + bytes));
        for (int r = 0; r < RUNS; r++) {
            for (int64_t t = 0; t < lengths[r]; t++)
                for (int i = 0; i < CHANNELS; i++) {
                    double sum = call.bias ? bias[i] : 0;
                    for (int j = 0; j < WIDTH; j++) {
                        int64_t at = t - WIDTH + 1 + j;
                        const float *in = at < 0 ? kept(before, r, bytes) + (WIDTH - 1 + at) * CHANNELS + i
                                                 : x + (runs[r].first + at) * ROW + 8 + i;
                        sum += (double)w[j * CHANNELS + i] * *in;
                    }
                    near(rows_of(&b, &by)[(runs[r].first + t) * ROW + 3 + i], call.silu ? sum / (1 + exp(-sum)) : sum);
                }
        }
        bench_close(&b);
    }
    free(memory);
    free(before);
    free(after);
}

enum { KEY_HEADS = 2, V_HEADS = 6, K_DIM = 32, V_DIM = 48 };

/* Rows of a recurrent layer: q, k, v, then beta and decays. */
enum {
    AT_K = KEY_HEADS * K_DIM,
    AT_V = 2 * AT_K,
    AT_BETA = AT_V + V_HEADS * V_DIM,
    AT_DECAY = AT_BETA + V_HEADS,
    INPUTS = AT_DECAY + V_HEADS * K_DIM
};

/* One sequence's token: out [V_HEADS * V_DIM], and the state [V_HEADS][K_DIM][V_DIM] brought on. */
static void plain_recurrence(const recurrent_call *call, const float *row, double *s, double *out)
{
    for (int h = 0; h < V_HEADS; h++, s += K_DIM * V_DIM) {
        int key = (call->tiled ? h % KEY_HEADS : h / (V_HEADS / KEY_HEADS)) * K_DIM;
        for (int j = 0; j < V_DIM; j++) {
            double product = 0, sum = 0;
            for (int i = 0; i < K_DIM; i++) {
                s[i * V_DIM + j] *= row[AT_DECAY + (call->decay_rows ? h * K_DIM + i : h)];
                product += s[i * V_DIM + j] * row[AT_K + key + i];
            }
            double u = row[AT_BETA + h] * (row[AT_V + h * V_DIM + j] - (call->delta ? product : 0));
            for (int i = 0; i < K_DIM; i++) {
                s[i * V_DIM + j] += row[AT_K + key + i] * u;
                sum += s[i * V_DIM + j] * row[key + i];
            }
            out[h * V_DIM + j] = sum;
        }
    }
}

/* Inputs of a size at which states neither grow nor vanish. */
static void fill_recurrent(bench *b, buffer *to, float *copy)
{
    fill(b, to, copy, N);
    float *rows = (float *)rows_of(b, to);
    for (int i = 0; i < N * INPUTS; i++) {
        int column = i % INPUTS;
        rows[i] = copy[i] = column < AT_V ? 0.2f * copy[i] : column < AT_BETA ? copy[i] : 0.9f + 0.1f * copy[i];
    }
}

static void check_recurrent(recurrent_call call, int threads)
{
    static float x[N * INPUTS];
    static double s[V_HEADS * K_DIM * V_DIM];
    uint64_t bytes = recurrent_state_bytes(V_HEADS, K_DIM, V_DIM);
    char *memory = aligned_alloc(64, RUNS * (SKIP + bytes)), *before = malloc(RUNS * (SKIP + bytes));
    char *after = aligned_alloc(64, RUNS * (SKIP + bytes));
    sequence_run runs[RUNS];
    bench b;
    bench_open(&b, threads);
    keep(runs, memory, after, bytes);
    buffer bx = make_buffer(&b, INPUTS, 0), out = make_buffer(&b, V_HEADS * V_DIM, 0);
    fill_recurrent(&b, &bx, x);
    fill_kept(memory, before, RUNS * (SKIP + bytes));
    call.heads = V_HEADS;
    call.key_heads = KEY_HEADS;
    call.key_dim = K_DIM;
    call.value_dim = V_DIM;
    call.q = (recurrent_part){&bx, 0};
    call.k = (recurrent_part){&bx, AT_K};
    call.v = (recurrent_part){&bx, AT_V};
    call.beta = (recurrent_part){&bx, AT_BETA};
    call.decay = (recurrent_part){&bx, AT_DECAY};
    call.out = &out;
    call.sequences = runs;
    call.n_sequences = RUNS;
    call.state = SKIP;
    b.c.op->recurrent(&b.c, &call);
    assert_int_equal(out.n, N);
    assert_memory_equal(memory, before, RUNS * (SKIP + bytes));
    for (int r = 0; r < RUNS; r++) {
        double expected[V_HEADS * V_DIM];
        for (int i = 0; i < V_HEADS * K_DIM * V_DIM; i++)
            s[i] = kept(before, r, bytes)[i];
        for (int64_t t = runs[r].first; t < runs[r].first + lengths[r]; t++) {
            plain_recurrence(&call, x + t * INPUTS, s, expected);
            for (int i = 0; i < V_HEADS * V_DIM; i++)
                near(rows_of(&b, &out)[t * V_HEADS * V_DIM + i], expected[i]);
        }
        for (int i = 0; i < V_HEADS * K_DIM * V_DIM; i++)
            near(kept(after, r, bytes)[i], s[i]);
    }
    bench_close(&b);
    free(memory);
    free(before);
    free(after);
}

static void linear_attention_equals_a_plain_loop_for_each_sequence(void **state)
{
    for (int threads = 1; threads <= 3; threads += 2) {
        check_recurrent((recurrent_call){.delta = true}, threads);
        check_recurrent((recurrent_call){.delta = true, .tiled = true}, threads);
        check_recurrent((recurrent_call){.delta = true, .decay_rows = true}, threads);
        check_recurrent((recurrent_call){.delta = false}, threads);
    }
}

/* A sequence alone, cut into calls, on other numbers of threads: to the last bit. */
static void recurrent_layers_do_not_depend_on_how_tokens_are_cut_into_calls(void **state)
{
    static float first_out[N * V_HEADS * V_DIM], x[N * INPUTS], w[WIDTH * INPUTS];
    uint64_t conv_bytes = conv_state_bytes(WIDTH, INPUTS),
             all = conv_bytes + recurrent_state_bytes(V_HEADS, K_DIM, V_DIM);
    char *memory = aligned_alloc(64, all), *first_kept = malloc(all);
    for (int i = 0; i < WIDTH * INPUTS; i++)
        w[i] = i < (WIDTH - 1) * INPUTS ? 0.05f * number() : 1;
    for (int threads = 1; threads <= 4; threads++) {
        bench b;
        bench_open(&b, threads);
        buffer all_x = make_buffer(&b, INPUTS, 0), bx = make_buffer(&b, INPUTS, 0), by = make_buffer(&b, INPUTS, 0);
        buffer out = make_buffer(&b, V_HEADS * V_DIM, 0);
        if (threads == 1)
            fill_recurrent(&b, &all_x, x);
        memset(memory, 0, all);
        for (int64_t done = 0, n; done < N; done += n) {
            n = threads == 1 || N - done < 3 * threads ? N - done : 3 * threads;
            sequence_run run = {0, n, (int32_t)done, {memory, memory}};
            b.c.op->borrow(&b.c, &bx, x + done * INPUTS, n);
            conv_call conv = {.x = &bx,
                              .y = &by,
                              .channels = INPUTS,
                              .width = WIDTH,
                              .weight = w,
                              .sequences = &run,
                              .n_sequences = 1};
            b.c.op->conv(&b.c, &conv);
            recurrent_call call = {.heads = V_HEADS,
                                   .key_heads = KEY_HEADS,
                                   .key_dim = K_DIM,
                                   .value_dim = V_DIM,
                                   .q = {&by, 0},
                                   .k = {&by, AT_K},
                                   .v = {&by, AT_V},
                                   .beta = {&by, AT_BETA},
                                   .decay = {&by, AT_DECAY},
                                   .delta = true,
                                   .out = &out,
                                   .sequences = &run,
                                   .n_sequences = 1,
                                   .state = conv_bytes};
            b.c.op->recurrent(&b.c, &call);
            float *expected = first_out + done * V_HEADS * V_DIM;
            size_t bytes = (size_t)n * V_HEADS * V_DIM * sizeof(float);
            if (threads == 1)
                memcpy(expected, rows_of(&b, &out), bytes);
            assert_memory_equal(rows_of(&b, &out), expected, bytes);
        }
        if (threads == 1)
            memcpy(first_kept, memory, all);
        assert_memory_equal(memory, first_kept, all);
        bench_close(&b);
    }
    free(memory);
    free(first_kept);
}

/* Sequences of the gated delta rule in chunks, each with two places for what it keeps. A chunk's tokens are added to the
 * present one, and what they begin lies in the other one; a call goes on from there. */
enum { LONG = 3 * RECURRENT_CHUNK + 9 };

typedef struct delta_sequence {
    float x[LONG * INPUTS], out[LONG * V_HEADS * V_DIM];
    char *kept[2];
    int present;
    int32_t length;
} delta_sequence;

/* One call with up to `most[r]` further tokens of each sequence. False: there are none. */
static bool delta_call(bench *b, const compute_work *work, delta_sequence *sequences, const int *most, bool tiled)
{
    buffer bx = make_buffer(b, INPUTS, 0), out = make_buffer(b, V_HEADS * V_DIM, 0);
    sequence_run runs[RUNS];
    int n_runs = 0;
    int64_t first = 0;
    static float rows[RUNS * LONG * INPUTS], results[RUNS * LONG * V_HEADS * V_DIM];
    for (int r = 0; r < RUNS; r++) {
        delta_sequence *s = &sequences[r];
        int n = LONG - s->length < most[r] ? LONG - s->length : most[r];
        if (!n)
            continue;
        memcpy(rows + first * INPUTS, s->x + s->length * INPUTS, (size_t)n * INPUTS * sizeof(float));
        runs[n_runs++] = (sequence_run){.first = first,
                                        .n = n,
                                        .position = s->length,
                                        .chunk = {s->kept[s->present], s->kept[!s->present]},
                                        .owner = r};
        first += n;
    }
    if (!n_runs)
        return false;
    b->c.op->borrow(&b->c, &bx, rows, first);
    b->c.op->borrow(&b->c, &out, results, first);
    b->c.op->delta(&b->c, &(recurrent_call){.heads = V_HEADS,
                                            .key_heads = KEY_HEADS,
                                            .tiled = tiled,
                                            .key_dim = K_DIM,
                                            .value_dim = V_DIM,
                                            .q = {&bx, 0},
                                            .k = {&bx, AT_K},
                                            .v = {&bx, AT_V},
                                            .beta = {&bx, AT_BETA},
                                            .decay = {&bx, AT_DECAY},
                                            .delta = true,
                                            .out = &out,
                                            .sequences = runs,
                                            .n_sequences = n_runs,
                                            .work = work});
    for (int i = 0; i < n_runs; i++) {
        delta_sequence *s = &sequences[runs[i].owner];
        memcpy(s->out + s->length * V_HEADS * V_DIM, results + runs[i].first * V_HEADS * V_DIM,
               (size_t)runs[i].n * V_HEADS * V_DIM * sizeof(float));
        int32_t length = s->length + (int32_t)runs[i].n;
        if (length / RECURRENT_CHUNK != s->length / RECURRENT_CHUNK)
            s->present = !s->present;
        s->length = length;
    }
    return true;
}

static void run_delta(delta_sequence *sequences, const int *most, int threads, bool tiled)
{
    uint64_t bytes = delta_state_bytes(V_HEADS, KEY_HEADS, K_DIM, V_DIM);
    for (int r = 0; r < RUNS; r++) {
        sequences[r].length = sequences[r].present = 0;
        for (int i = 0; i < 2; i++) {
            sequences[r].kept[i] = aligned_alloc(64, bytes);
            memset(sequences[r].kept[i], i ? 0xff : 0, bytes); /* NaN */
        }
    }
    bool more = true;
    while (more) {
        bench b;
        compute_work work;
        bench_open(&b, threads);
        b.c.op->delta_layout(&b.c, &b.a, K_DIM, &work);
        more = delta_call(&b, &work, sequences, most, tiled);
        bench_close(&b);
    }
    for (int r = 0; r < RUNS; r++)
        for (int i = 0; i < 2; i++)
            free(sequences[r].kept[i]);
}

static void the_delta_rule_in_chunks_equals_a_plain_loop_however_tokens_are_cut(void **state)
{
    static const int cuts[][RUNS] = {{LONG, LONG, LONG}, {1, 1, 1}, {7, 15, 16}, {17, 33, 3}};
    static delta_sequence sequences[RUNS];
    static float first_out[RUNS][LONG * V_HEADS * V_DIM];
    for (int r = 0; r < RUNS; r++)
        for (int i = 0; i < LONG * INPUTS; i++) {
            int column = i % INPUTS;
            float x = number();
            sequences[r].x[i] = column < AT_V ? 0.2f * x : column < AT_BETA ? x : 0.9f + 0.1f * x;
        }
    for (int tiled = 0; tiled < 2; tiled++)
        for (int cut = 0; cut < 4; cut++) {
            run_delta(sequences, cuts[cut], cut + 1, tiled);
            for (int r = 0; r < RUNS; r++) {
                if (cut == 0)
                    memcpy(first_out[r], sequences[r].out, sizeof first_out[r]);
                assert_memory_equal(sequences[r].out, first_out[r], sizeof first_out[r]);
            }
            static double s[V_HEADS * K_DIM * V_DIM];
            for (int r = 0; r < RUNS && cut == 0; r++) {
                memset(s, 0, sizeof s);
                for (int t = 0; t < LONG; t++) {
                    double expected[V_HEADS * V_DIM];
                    plain_recurrence(&(recurrent_call){.tiled = tiled, .delta = true}, sequences[r].x + t * INPUTS, s,
                                     expected);
                    for (int i = 0; i < V_HEADS * V_DIM; i++)
                        near(first_out[r][t * V_HEADS * V_DIM + i], expected[i]);
                }
            }
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_list_of_operations_is_done_in_its_order),
        cmocka_unit_test(spans_of_one_buffer_go_to_spans_of_another),
        cmocka_unit_test(decays_and_norms_of_recurrent_layers_are_what_their_formulas_say),
        cmocka_unit_test(spans_have_weights_of_their_own_where_the_operation_says_so),
        cmocka_unit_test(a_layer_norm_takes_off_the_mean),
        cmocka_unit_test(a_softcap_bends_numbers_towards_its_limit),
        cmocka_unit_test(heads_turn_in_either_pairing_and_only_their_first_part),
        cmocka_unit_test(products_go_to_columns_with_their_bias_in_either_orientation),
        cmocka_unit_test(a_buffer_that_is_written_again_is_quantised_again),
        cmocka_unit_test(outputs_that_are_no_numbers_are_told_by_token),
        cmocka_unit_test(a_network_of_each_activation_equals_a_plain_loop_whatever_the_number_of_tokens),
        cmocka_unit_test(queries_grow_with_each_step_of_positions),
        cmocka_unit_test(attention_equals_a_plain_loop_in_all_its_variants),
        cmocka_unit_test(a_convolution_equals_a_plain_loop_for_each_sequence),
        cmocka_unit_test(linear_attention_equals_a_plain_loop_for_each_sequence),
        cmocka_unit_test(recurrent_layers_do_not_depend_on_how_tokens_are_cut_into_calls),
        cmocka_unit_test(the_delta_rule_in_chunks_equals_a_plain_loop_however_tokens_are_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
