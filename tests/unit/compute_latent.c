/* Operations of latent attention against plain loops: products head by head, heads that share keys, chosen positions. */
#include "compute_bench.h"

/* ---- products head by head ---- */

enum { H_HEADS = 5, H_NOPE = 32, H_VALUE = 24, H_RANK = 320, H_STEP = H_NOPE + H_VALUE, H_GAP = 7 };

/* Random weights of a type, and the numbers that they stand for. */
static matrix random_weights(dtype t, int64_t rows, int64_t cols, char *data, float *scales, float *plain)
{
    matrix w = {.type = t, .rows = rows, .cols = cols, .data = data, .scales = scales, .factor = 0.5f};
    w.grid = (scale_grid){SCALE_F32, 7, 7};
    for (int64_t i = 0; i < rows * cols; i++) {
        float f = number();
        uint16_t half = t == DTYPE_BF16 ? dtype_f32_to_bf16(f) : dtype_f32_to_f16(f);
        if (t == DTYPE_F32)
            memcpy(data + 4 * i, &f, 4);
        else if (t == DTYPE_BF16 || t == DTYPE_F16)
            memcpy(data + 2 * i, &half, 2);
        else if (t == DTYPE_F8_E4M3)
            data[i] = (char)(0x30 + (int)(f * 8));
        else { /* Q8_0 */
            int8_t q = (int8_t)(f * 100);
            half = dtype_f32_to_f16(0.01f);
            memcpy(data + i / 32 * 34, &half, 2);
            memcpy(data + i / 32 * 34 + 2 + i % 32, &q, 1);
        }
    }
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols && t == DTYPE_F8_E4M3; c++) {
            float scale = scales[r / 128 * ((cols + 127) / 128) + c / 128] * w.factor;
            plain[r * cols + c] = dtype_f8_to_f32((uint8_t)data[r * cols + c]) * scale;
        }
    if (t != DTYPE_F8_E4M3)
        compute_floats(t, data, plain, rows * cols);
    return w;
}

/* Of a tensor with rows [keys | values] for each head: keys turned, values as they lie. */
static void check_heads(dtype t, bool turned, int threads, int64_t n, float tolerance)
{
    static char data[H_HEADS * H_STEP * H_RANK * 4];
    static float plain[H_HEADS * H_STEP * H_RANK], scales[16], x[N * H_HEADS * H_RANK];
    bench b;
    bench_open(&b, threads);
    for (int i = 0; i < 16; i++)
        scales[i] = 0.1f + 0.05f * (float)i;
    matrix w = random_weights(t, H_HEADS * H_STEP, H_RANK, data, scales, plain);
    int64_t ins = turned ? H_NOPE : H_RANK, outs = turned ? H_RANK : H_VALUE;
    buffer bx = make_buffer(&b, H_HEADS * ins, dtype_bit(t)), y = make_buffer(&b, 3 + H_HEADS * (outs + H_GAP), 0);
    compute_work work;
    b.c.op->heads_layout(&b.c, &b.a, H_NOPE, dtype_bit(t), &work);
    fill(&b, &bx, x, n);
    heads_call call = {.w = &w,
                       .heads = H_HEADS,
                       .first = turned ? 0 : H_NOPE,
                       .rows = turned ? H_NOPE : H_VALUE,
                       .step = H_STEP,
                       .turned = turned,
                       .x = &bx,
                       .y = &y,
                       .y_row = n == 1 ? 5 : 0,
                       .at = {3, outs, H_HEADS, outs + H_GAP},
                       .work = &work};
    b.c.op->heads(&b.c, &call);
    assert_int_equal(y.n, call.y_row + n);
    for (int64_t token = 0; token < n; token++)
        for (int h = 0; h < H_HEADS; h++)
            for (int64_t o = 0; o < outs; o++) {
                double sum = 0;
                for (int64_t i = 0; i < ins; i++)
                    sum += (double)x[token * H_HEADS * ins + h * ins + i] *
                           plain[turned ? (h * H_STEP + i) * H_RANK + o : (h * H_STEP + H_NOPE + o) * H_RANK + i];
                float got = rows_of(&b, &y)[(call.y_row + token) * y.cols + 3 + h * (outs + H_GAP) + o];
                assert_float_equal(got, sum, tolerance);
            }
    bench_close(&b);
}

static void each_head_has_its_own_part_of_a_tensor_either_way_round(void **state)
{
    static const dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_Q8_0, DTYPE_F8_E4M3};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        for (int threads = 1; threads <= 3; threads += 2)
            for (int64_t n = 1; n <= N; n += N - 1) {
                check_heads(types[i], true, threads, n, 1e-4f); /* weights meet activations as floats */
                check_heads(types[i], false, threads, n, types[i] == DTYPE_Q8_0 ? 0.2f : 1e-4f);
            }
}

/* ---- attention of many heads ---- */

/* 70 heads of queries share the latents of 40 positions. */
static void heads_that_share_keys_give_the_same_bytes_however_they_are_parted(void **state)
{
    enum { MANY_HEADS = 70, LATENT = 24, LATENT_KEY = 32, TOKENS = 40 };
    static float keys[TOKENS * LATENT_KEY], q[TOKENS * MANY_HEADS * LATENT_KEY], first[TOKENS * MANY_HEADS * LATENT];
    for (int run = 0; run < 4; run++) {
        bench b;
        bench_open(&b, run < 2 ? 1 : 5);
        int64_t n = run % 2 ? 1 : TOKENS; /* the last token alone, or all */
        attention_call call = {.shape = {.kv = {KV_F32, 1, LATENT_KEY, LATENT, true}, .heads = MANY_HEADS}, .scale = 1};
        void *page = arena_take(&b.a, 1, kv_page_bytes(&call.shape.kv));
        kv_token tokens[TOKENS];
        buffer bq = make_buffer(&b, MANY_HEADS * LATENT_KEY, 0), bk = make_buffer(&b, LATENT_KEY, 0);
        buffer out = make_buffer(&b, MANY_HEADS * LATENT, 0);
        compute_work work;
        b.c.op->attention_layout(&b.c, &b.a, &call.shape, TOKENS, &work);
        for (int i = 0; i < TOKENS * MANY_HEADS * LATENT_KEY && !run; i++)
            q[i] = number();
        for (int i = 0; i < TOKENS * LATENT_KEY && !run; i++)
            keys[i] = number();
        memcpy(b.c.op->write(&b.c, &bk, TOKENS), keys, sizeof keys);
        memcpy(b.c.op->write(&b.c, &bq, n), q + (TOKENS - n) * bq.cols, (size_t)(n * bq.cols) * sizeof *q);
        for (int t = 0; t < TOKENS; t++)
            tokens[t] = (kv_token){&page, t};
        token_op store = {.kind = TOKEN_KV_STORE, .x = &bk, .kv = call.shape.kv, .kv_tokens = tokens};
        b.c.op->tokens(&b.c, &store, 1, TOKENS);
        call.q = &bq;
        call.out = &out;
        call.tokens = tokens + TOKENS - n;
        call.work = &work;
        b.c.op->attention(&b.c, &call, n);
        size_t last = (size_t)((n - 1) * out.cols), bytes = (size_t)(MANY_HEADS * LATENT) * sizeof *first;
        if (!run)
            memcpy(first, rows_of(&b, &out), sizeof first);
        assert_memory_equal(rows_of(&b, &out) + last, first + (TOKENS - 1) * MANY_HEADS * LATENT, bytes);
        bench_close(&b);
    }
}

/* ---- chosen positions ---- */

enum { S_HEADS = 3, S_DIM = 32, S_MOST = 70, S_SEEN = 300, S_KEY = 40, S_VALUE = 24, S_QUERIES = 5 };

typedef struct select_data {
    float latents[S_SEEN * S_KEY], keys[S_SEEN * S_DIM], q[S_SEEN * S_HEADS * S_DIM], weights[S_SEEN * S_HEADS];
    float queries[S_SEEN * S_QUERIES * S_KEY];
} select_data;

/* How many positions before `position` have a higher score than position p has, or the same and come earlier. */
static int before_it(const double *scores, int position, int p)
{
    int count = 0;
    for (int i = 0; i <= position; i++)
        count += scores[i] > scores[p] || (scores[i] == scores[p] && i < p);
    return count;
}

static void plain_scores(const select_data *d, int token, double *scores)
{
    for (int p = 0; p <= token; p++) {
        scores[p] = 0;
        for (int h = 0; h < S_HEADS; h++) {
            double product = 0;
            for (int i = 0; i < S_DIM; i++)
                product += (double)d->q[(token * S_HEADS + h) * S_DIM + i] * d->keys[p * S_DIM + i];
            scores[p] += 0.25 * d->weights[token * S_HEADS + h] * fmax(product, 0);
        }
    }
}

/* Small whole numbers: their products are exact in any order and cache, and many scores are equal. */
static void fill_select(select_data *d)
{
    for (int i = 0; i < S_SEEN * S_DIM; i++)
        d->keys[i] = rintf(number() * 1.2f);
    for (int i = 0; i < S_SEEN * S_HEADS * S_DIM; i++)
        d->q[i] = rintf(number() * 2);
    for (int i = 0; i < S_SEEN * S_HEADS; i++)
        d->weights[i] = rintf(number() * 4) / 4;
    for (int i = 0; i < S_SEEN * S_KEY; i++)
        d->latents[i] = number();
    for (int i = 0; i < S_SEEN * S_QUERIES * S_KEY; i++)
        d->queries[i] = number();
}

static void put_rows(bench *b, buffer *to, const float *from, int64_t n)
{
    memcpy(b->c.op->write(&b->c, to, n), from, (size_t)(n * to->cols) * sizeof *from);
}

static void check_attended(const select_data *d, const int32_t *chosen, int token, const float *got, double tolerance)
{
    int n = token < S_MOST ? token + 1 : S_MOST;
    for (int h = 0; h < S_QUERIES; h++) {
        double out[S_VALUE] = {0}, total = 0;
        for (int i = 0; i < n; i++) {
            const float *key = d->latents + (token < S_MOST ? i : chosen[token * S_MOST + i]) * S_KEY;
            double score = 0;
            for (int k = 0; k < S_KEY; k++)
                score += (double)d->queries[(token * S_QUERIES + h) * S_KEY + k] * key[k];
            total += exp(score);
            for (int k = 0; k < S_VALUE; k++)
                out[k] += exp(score) * key[k];
        }
        for (int k = 0; k < S_VALUE; k++)
            assert_float_equal(got[h * S_VALUE + k], out[k] / total, tolerance);
    }
}

/* Tokens [first, S_SEEN) choose and attend. */
static void check_select(kv_type type, int threads, int first)
{
    static select_data d;
    static int32_t chosen[S_SEEN * S_MOST];
    static double scores[S_SEEN];
    bench b;
    bench_open(&b, threads);
    fill_select(&d);
    kv_shape stored = {type, 1, S_KEY, S_DIM, false};
    attention_call attend = {.shape = {{type, 1, S_KEY, S_VALUE, true}, S_QUERIES, S_MOST}, .scale = 1};
    void *pages[S_SEEN / KV_PAGE + 1];
    for (size_t i = 0; i < sizeof pages / sizeof *pages; i++)
        pages[i] = arena_take(&b.a, 1, kv_page_bytes(&stored));
    kv_token tokens[S_SEEN];
    for (int t = 0; t < S_SEEN; t++)
        tokens[t] = (kv_token){pages, t};
    buffer latents, keys, q, weights, queries, out;
    compute_work work, attend_work;
    const compute_ops *op = b.c.op;
    op->buffer_layout(&b.c, &b.a, &latents, S_SEEN, S_KEY, 0, true);
    op->buffer_layout(&b.c, &b.a, &keys, S_SEEN, S_DIM, 0, true);
    op->buffer_layout(&b.c, &b.a, &q, S_SEEN, S_HEADS * S_DIM, select_readers(), true);
    op->buffer_layout(&b.c, &b.a, &weights, S_SEEN, S_HEADS, 0, true);
    op->buffer_layout(&b.c, &b.a, &queries, S_SEEN, S_QUERIES * S_KEY, 0, true);
    op->buffer_layout(&b.c, &b.a, &out, S_SEEN, S_QUERIES * S_VALUE, 0, true);
    op->select_layout(&b.c, &b.a, S_HEADS, S_SEEN, &work);
    op->attention_layout(&b.c, &b.a, &attend.shape, S_SEEN, &attend_work);
    put_rows(&b, &latents, d.latents, S_SEEN);
    put_rows(&b, &keys, d.keys, S_SEEN);
    token_op store = {.kind = TOKEN_KV_STORE, .x = &latents, .z = &keys, .kv = stored, .kv_tokens = tokens};
    op->tokens(&b.c, &store, 1, S_SEEN);
    int n = S_SEEN - first;
    put_rows(&b, &q, d.q + first * q.cols, n);
    put_rows(&b, &weights, d.weights + first * weights.cols, n);
    put_rows(&b, &queries, d.queries + first * queries.cols, n);
    select_call call = {.kv = stored,
                        .heads = S_HEADS,
                        .most = S_MOST,
                        .scale = 0.25f,
                        .q = &q,
                        .weights = &weights,
                        .tokens = tokens + first,
                        .chosen = chosen + first * S_MOST,
                        .work = &work};
    op->select(&b.c, &call);
    attend.q = &queries;
    attend.out = &out;
    attend.tokens = tokens + first;
    attend.chosen = call.chosen;
    attend.work = &attend_work;
    op->attention(&b.c, &attend, n);
    for (int t = first; t < S_SEEN; t++) {
        plain_scores(&d, t, scores);
        for (int p = 0, i = 0; t >= S_MOST && p <= t; p++)
            if (before_it(scores, t, p) < S_MOST)
                assert_int_equal(chosen[t * S_MOST + i++], p);
        check_attended(&d, chosen, t, rows_of(&b, &out) + (t - first) * out.cols, type == KV_F32 ? 1e-4 : 1e-2);
    }
    bench_close(&b);
}

static void a_token_sees_the_positions_with_the_highest_scores_alone(void **state)
{
    for (int threads = 1; threads <= 3; threads += 2)
        for (int alone = 0; alone <= 1; alone++) {
            check_select(KV_F32, threads, alone ? S_SEEN - 1 : 0);
            check_select(KV_F16, threads, alone ? S_SEEN - 1 : 0);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_head_has_its_own_part_of_a_tensor_either_way_round),
        cmocka_unit_test(heads_that_share_keys_give_the_same_bytes_however_they_are_parted),
        cmocka_unit_test(a_token_sees_the_positions_with_the_highest_scores_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
