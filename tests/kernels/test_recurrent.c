/* Linear attention, causal convolutions, norms and the rest of a recurrent layer: every table against sums in double
 * precision, vector tables against the promised order of additions to the last bit, and the same however the tokens are
 * cut into calls. */
#include <stdlib.h>

#include "random_data.h"

enum { TOKENS = 20, KEY_MOST = 128, VALUE_MOST = 128, CHAINS = 4 };

typedef struct recurrent_case {
    int64_t key_dim, value_dim;
    bool decay_rows, delta;
} recurrent_case;

static const recurrent_case cases[] = {{128, 128, false, true}, {64, 33, false, true},  {7, 5, true, true},
                                       {128, 64, true, true},   {16, 80, false, false}, {34, 48, true, false}};
enum { CASES = sizeof cases / sizeof *cases };

/* Inputs with the strides of a layer's rows: more numbers than one head needs. */
typedef struct recurrent_data {
    float q[TOKENS][KEY_MOST + 3], k[TOKENS][KEY_MOST + 1], v[TOKENS][VALUE_MOST + 2], decay[TOKENS][KEY_MOST];
    float beta[TOKENS][2], state[KEY_MOST][VALUE_MOST + 4], out[TOKENS][VALUE_MOST + 1];
} recurrent_data;

static void recurrent_fill(recurrent_data *d, const recurrent_case *c)
{
    fill_floats(ORDINARY, &d->q[0][0], sizeof d->q / sizeof(float));
    fill_floats(ORDINARY, &d->k[0][0], sizeof d->k / sizeof(float));
    fill_floats(ORDINARY, &d->v[0][0], sizeof d->v / sizeof(float));
    fill_floats(ORDINARY, &d->state[0][0], sizeof d->state / sizeof(float));
    for (int t = 0; t < TOKENS; t++) {
        double norm = 0;
        for (int64_t i = 0; i < c->key_dim; i++)
            norm += (double)d->k[t][i] * (double)d->k[t][i];
        for (int64_t i = 0; i < c->key_dim; i++)
            d->k[t][i] *= (float)(1 / sqrt(norm));
        for (int64_t i = 0; i < KEY_MOST; i++)
            d->decay[t][i] = 0.9f + 0.1f * (float)uniform();
        d->beta[t][0] = 0.5f + 0.5f * (float)uniform();
    }
}

/* Tokens [first, first + n), columns [column, column + columns). */
static recurrent_args args_of(recurrent_data *d, const recurrent_case *c, int64_t first, int64_t n, int64_t column,
                              int64_t columns)
{
    return (recurrent_args){.key_dim = c->key_dim,
                            .value_dim = columns,
                            .n = n,
                            .before = &d->state[0][column],
                            .state = &d->state[0][column],
                            .state_stride = VALUE_MOST + 4,
                            .q = d->q[first],
                            .k = d->k[first],
                            .v = &d->v[first][column],
                            .decay = d->decay[first],
                            .beta = d->beta[first],
                            .out = &d->out[first][column],
                            .q_stride = KEY_MOST + 3,
                            .k_stride = KEY_MOST + 1,
                            .v_stride = VALUE_MOST + 2,
                            .decay_stride = KEY_MOST,
                            .beta_stride = 2,
                            .out_stride = VALUE_MOST + 1,
                            .decay_rows = c->decay_rows,
                            .delta = c->delta};
}

static void run(const kernel_table *table, recurrent_data *d, const recurrent_case *c)
{
    recurrent_args a = args_of(d, c, 0, TOKENS, 0, c->value_dim);
    table->recurrent(&a);
}

static void linear_attention_is_what_its_formula_says(void **state)
{
    static recurrent_data d, before;
    static double s[KEY_MOST];
    const kernel_table *table;
    for (int i = 0; (table = kernel_table_at(i)); i++)
        for (int k = 0; k < CASES; k++) {
            const recurrent_case *c = &cases[k];
            recurrent_fill(&d, c);
            before = d;
            run(table, &d, c);
            for (int64_t j = 0; j < c->value_dim; j++) {
                for (int64_t r = 0; r < c->key_dim; r++)
                    s[r] = (double)before.state[r][j];
                for (int t = 0; t < TOKENS; t++) {
                    double product = 0, out = 0;
                    for (int64_t r = 0; r < c->key_dim; r++) {
                        s[r] *= (double)before.decay[t][c->decay_rows ? r : 0];
                        product += s[r] * (double)before.k[t][r];
                    }
                    double u = (double)before.beta[t][0] * ((double)before.v[t][j] - (c->delta ? product : 0));
                    for (int64_t r = 0; r < c->key_dim; r++) {
                        s[r] += (double)before.k[t][r] * u;
                        out += s[r] * (double)before.q[t][r];
                    }
                    assert_true(fabs(out - (double)d.out[t][j]) <= 2e-5);
                }
                for (int64_t r = 0; r < c->key_dim; r++)
                    assert_true(fabs(s[r] - (double)d.state[r][j]) <= 1e-5);
            }
        }
}

static float sum_of_chains(const float sum[CHAINS])
{
    return (sum[0] + sum[2]) + (sum[1] + sum[3]);
}

/* One column of one token, in the order that simd/recurrent.h promises. */
static float model_step(recurrent_data *d, const recurrent_case *c, int t, int64_t j)
{
    float sum[CHAINS] = {0}, u = d->v[t][j];
    for (int64_t r = 0; r < c->key_dim; r++) {
        float s = d->state[r][j] * d->decay[t][c->decay_rows ? r : 0];
        sum[r % CHAINS] = fmaf(s, d->k[t][r], sum[r % CHAINS]);
        d->state[r][j] = s;
    }
    u = (c->delta ? u - sum_of_chains(sum) : u) * d->beta[t][0];
    memset(sum, 0, sizeof sum);
    for (int64_t r = 0; r < c->key_dim; r++) {
        d->state[r][j] = fmaf(d->k[t][r], u, d->state[r][j]);
        sum[r % CHAINS] = fmaf(d->state[r][j], d->q[t][r], sum[r % CHAINS]);
    }
    return sum_of_chains(sum);
}

static void check_same(const recurrent_data *a, const recurrent_data *b)
{
    for (size_t i = 0; i < sizeof a->state / sizeof(float); i++)
        assert_true((&a->state[0][0])[i] == (&b->state[0][0])[i]);
    for (size_t i = 0; i < sizeof a->out / sizeof(float); i++)
        assert_true((&a->out[0][0])[i] == (&b->out[0][0])[i]);
}

static void linear_attention_follows_the_promised_order_exactly(void **state)
{
    static recurrent_data d, model;
    const kernel_table *table;
    for (int i = 0; (table = vector_table(i)); i++)
        for (int k = 0; k < CASES; k++) {
            recurrent_fill(&d, &cases[k]);
            model = d;
            run(table, &d, &cases[k]);
            for (int t = 0; t < TOKENS; t++)
                for (int64_t j = 0; j < cases[k].value_dim; j++)
                    model.out[t][j] = model_step(&model, &cases[k], t, j);
            check_same(&d, &model);
        }
}

static void linear_attention_is_the_same_however_tokens_and_columns_are_cut(void **state)
{
    static recurrent_data whole, cut;
    const kernel_table *table;
    for (int i = 0; (table = kernel_table_at(i)); i++)
        for (int k = 0; k < CASES; k++) {
            const recurrent_case *c = &cases[k];
            int64_t half = c->value_dim / 2;
            recurrent_fill(&whole, c);
            cut = whole;
            run(table, &whole, c);
            for (int64_t first = 0, n = 1; first < TOKENS; first += n, n = first + 7 < TOKENS ? 7 : TOKENS - first) {
                recurrent_args left = args_of(&cut, c, first, n, 0, half);
                recurrent_args right = args_of(&cut, c, first, n, half, c->value_dim - half);
                table->recurrent(&left);
                table->recurrent(&right);
            }
            check_same(&whole, &cut);
        }
}

/* ---- the gated delta rule in chunks ---- */

enum { DELTA_TOKENS = 3 * DELTA_CHUNK + 5, PANELS = VALUE_MOST / DELTA_CHUNK };

/* Keys a multiple of 16 and not, columns that fill panels and not. */
static const recurrent_case delta_cases[] = {
    {128, 128, false, true}, {64, 33, false, true}, {7, 5, false, true}, {35, 80, false, true}};
enum { DELTA_CASES = sizeof delta_cases / sizeof *delta_cases };

/* What is kept of a head, twice. */
typedef struct delta_kept {
    float state[PANELS][KEY_MOST * DELTA_CHUNK], u[PANELS][DELTA_CHUNK][DELTA_CHUNK], keys[KEY_MOST][DELTA_CHUNK];
    float decays[DELTA_CHUNK][3];
} delta_kept;

typedef struct delta_data {
    float q[DELTA_TOKENS][KEY_MOST + 3], k[DELTA_TOKENS][KEY_MOST + 1], v[DELTA_TOKENS][VALUE_MOST + 2];
    float decay[DELTA_TOKENS][2], beta[DELTA_TOKENS][5], out[DELTA_TOKENS][VALUE_MOST + 1];
    delta_kept kept[2];
    int present; /* which of them */
} delta_data;

static float *state_at(delta_data *d, const recurrent_case *c, int64_t row, int64_t column)
{
    int64_t panel = column / DELTA_CHUNK;
    return &d->kept[d->present].state[0][0] + (panel * c->key_dim + row) * DELTA_CHUNK + column % DELTA_CHUNK;
}

/* Lengths of keys are 1; decays reach from 1 to 0. What must not be looked at is NaN. */
static void delta_fill(delta_data *d, const recurrent_case *c)
{
    for (size_t i = 0; i < sizeof d->kept / (sizeof(float)); i++)
        (&d->kept[0].state[0][0])[i] = NAN;
    d->present = 0;
    fill_floats(ORDINARY, &d->q[0][0], sizeof d->q / sizeof(float));
    fill_floats(ORDINARY, &d->k[0][0], sizeof d->k / sizeof(float));
    fill_floats(ORDINARY, &d->v[0][0], sizeof d->v / sizeof(float));
    for (int64_t row = 0; row < c->key_dim; row++)
        for (int64_t j = 0; j < (c->value_dim + DELTA_CHUNK - 1) / DELTA_CHUNK * DELTA_CHUNK; j++)
            *state_at(d, c, row, j) = j < c->value_dim ? (float)uniform() : 0;
    for (int t = 0; t < DELTA_TOKENS; t++) {
        double norm = 0;
        for (int64_t i = 0; i < c->key_dim; i++)
            norm += (double)d->k[t][i] * (double)d->k[t][i];
        for (int64_t i = 0; i < c->key_dim; i++)
            d->k[t][i] *= (float)(1 / sqrt(norm));
        d->decay[t][0] = t == 20 ? 0 : t == 30 ? 0x1p-140f : 0.95f + 0.05f * (float)uniform();
        d->beta[t][0] = 0.5f + 0.5f * (float)uniform();
    }
}

/* Tokens [first, first + n) of one chunk, columns [column, column + columns); a column's panel begins with it. */
static void delta_part(const kernel_table *table, delta_data *d, const recurrent_case *c, int first, int n,
                       int64_t column, int64_t columns)
{
    static float scratch[DELTA_SCRATCH(KEY_MOST)];
    delta_kept *kept = &d->kept[d->present];
    int64_t panel = column / DELTA_CHUNK;
    for (size_t i = 0; i < sizeof scratch / sizeof *scratch; i++)
        scratch[i] = NAN;
    table->delta(&(delta_args){.key_dim = c->key_dim,
                               .value_dim = columns,
                               .rows = first % DELTA_CHUNK,
                               .n = n,
                               .q = d->q[first],
                               .k = d->k[first],
                               .v = &d->v[first][column],
                               .decay = d->decay[first],
                               .beta = d->beta[first],
                               .out = &d->out[first][column],
                               .q_stride = KEY_MOST + 3,
                               .k_stride = KEY_MOST + 1,
                               .v_stride = VALUE_MOST + 2,
                               .decay_stride = 2,
                               .beta_stride = 5,
                               .out_stride = VALUE_MOST + 1,
                               .keys = &kept->keys[0][0],
                               .decays = &kept->decays[0][0],
                               .decays_stride = 3,
                               .u = &kept->u[panel][0][0],
                               .state = &kept->state[0][0] + panel * c->key_dim * DELTA_CHUNK,
                               .next = &d->kept[!d->present].state[0][0] + panel * c->key_dim * DELTA_CHUNK,
                               .scratch = scratch});
}

/* The same for all columns, in two runs of them; what is kept of the tokens is the other copy where their chunk ends. */
static void delta_tokens(const kernel_table *table, delta_data *d, const recurrent_case *c, int first, int n)
{
    int64_t half = c->value_dim / 2 / DELTA_CHUNK * DELTA_CHUNK;
    if (half)
        delta_part(table, d, c, first, n, 0, half);
    delta_part(table, d, c, first, n, half, c->value_dim - half);
    for (int t = first; t < first + n; t++) {
        d->kept[d->present].decays[t % DELTA_CHUNK][0] = d->decay[t][0];
        for (int64_t i = 0; i < c->key_dim; i++)
            d->kept[d->present].keys[i][t % DELTA_CHUNK] = d->k[t][i];
    }
    if ((first + n) % DELTA_CHUNK == 0)
        d->present = !d->present;
}

/* All tokens, `most` at a time as far as a chunk goes. */
static void delta_run(const kernel_table *table, delta_data *d, const recurrent_case *c, int most)
{
    for (int first = 0, n; first < DELTA_TOKENS; first += n) {
        n = DELTA_CHUNK - first % DELTA_CHUNK;
        n = n < most ? n : most;
        n = n < DELTA_TOKENS - first ? n : DELTA_TOKENS - first;
        delta_tokens(table, d, c, first, n);
    }
}

static void chunks_give_what_the_recurrence_gives(void **state)
{
    static delta_data d, before;
    double s[KEY_MOST];
    const kernel_table *table;
    for (int i = 0; (table = kernel_table_at(i)); i++)
        for (int k = 0; k < DELTA_CASES; k++) {
            const recurrent_case *c = &delta_cases[k];
            delta_fill(&d, c);
            before = d;
            delta_run(table, &d, c, DELTA_CHUNK);
            for (int64_t j = 0; j < c->value_dim; j++) {
                for (int64_t r = 0; r < c->key_dim; r++)
                    s[r] = (double)*state_at(&before, c, r, j);
                for (int t = 0; t < DELTA_TOKENS; t++) {
                    double product = 0, out = 0;
                    for (int64_t r = 0; r < c->key_dim; r++) {
                        s[r] *= (double)d.decay[t][0];
                        product += s[r] * (double)d.k[t][r];
                    }
                    double u = (double)d.beta[t][0] * ((double)d.v[t][j] - product);
                    for (int64_t r = 0; r < c->key_dim; r++) {
                        s[r] += (double)d.k[t][r] * u;
                        out += s[r] * (double)d.q[t][r];
                    }
                    assert_true(fabs(out - (double)d.out[t][j]) <= 2e-5);
                    for (int64_t r = 0; r < c->key_dim && t == DELTA_TOKENS / DELTA_CHUNK * DELTA_CHUNK - 1; r++)
                        assert_true(fabs(s[r] - (double)*state_at(&d, c, r, j)) <= 1e-5);
                }
            }
        }
}

/* A chain of multiply-adds over i, x and y `x_step` and `y_step` apart. */
static float chain(float from, const float *x, int64_t x_step, const float *y, int64_t y_step, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        from = fmaf(x[i * x_step], y[i * y_step], from);
    return from;
}

/* The product of the decays of tokens [first, last]. */
static float decays_of(const delta_data *d, int first, int last)
{
    float product = 1;
    for (int t = first; t <= last; t++)
        product *= d->decay[t][0];
    return product;
}

/* Column j of one chunk's tokens, from `first` on, in the order that kernels.h promises; then of the next chunk's S. */
static void delta_model(delta_data *d, const recurrent_case *c, int first, int n, int64_t j)
{
    float u[DELTA_CHUNK], *state = state_at(d, c, 0, j);
    for (int t = first; t < first + n; t++) {
        float all = decays_of(d, first, t), sum = all * chain(0, state, DELTA_CHUNK, d->k[t], 1, c->key_dim);
        float out = all * chain(0, state, DELTA_CHUNK, d->q[t], 1, c->key_dim);
        for (int s = first; s <= t; s++) {
            float decay = decays_of(d, s + 1, t);
            if (s == t)
                u[t - first] = d->beta[t][0] * (d->v[t][j] - sum);
            sum = fmaf(decay * chain(0, d->k[s], 1, d->k[t], 1, c->key_dim), u[s - first], sum);
            out = fmaf(decay * chain(0, d->k[s], 1, d->q[t], 1, c->key_dim), u[s - first], out);
        }
        d->out[t][j] = out;
    }
    if (n < DELTA_CHUNK)
        return;
    for (int t = 0; t < n; t++)
        u[t] *= decays_of(d, first + t + 1, first + n - 1);
    for (int64_t i = 0; i < c->key_dim; i++)
        state[i * DELTA_CHUNK] =
            chain(decays_of(d, first, first + n - 1) * state[i * DELTA_CHUNK], &d->k[first][i], KEY_MOST + 1, u, 1, n);
}

static void check_same_delta(delta_data *a, delta_data *b, const recurrent_case *c)
{
    for (int t = 0; t < DELTA_TOKENS; t++)
        assert_memory_equal(a->out[t], b->out[t], (size_t)c->value_dim * sizeof(float));
    for (int64_t j = 0; j < c->value_dim; j++)
        for (int64_t i = 0; i < c->key_dim; i++)
            assert_true(*state_at(a, c, i, j) == *state_at(b, c, i, j));
}

static void chunks_follow_the_promised_order_exactly(void **state)
{
    static delta_data d, model;
    const kernel_table *table;
    for (int i = 0; (table = vector_table(i)); i++)
        for (int k = 0; k < DELTA_CASES; k++) {
            const recurrent_case *c = &delta_cases[k];
            delta_fill(&d, c);
            model = d;
            delta_run(table, &d, c, DELTA_CHUNK);
            for (int64_t j = 0; j < c->value_dim; j++)
                for (int first = 0; first < DELTA_TOKENS; first += DELTA_CHUNK)
                    delta_model(&model, c, first,
                                DELTA_TOKENS - first < DELTA_CHUNK ? DELTA_TOKENS - first : DELTA_CHUNK, j);
            check_same_delta(&d, &model, c);
        }
}

static void chunks_are_the_same_however_their_tokens_are_cut(void **state)
{
    static delta_data whole, cut, again;
    const kernel_table *table;
    for (int i = 0; (table = kernel_table_at(i)); i++)
        for (int k = 0; k < DELTA_CASES; k++) {
            delta_fill(&cut, &delta_cases[k]);
            whole = cut;
            delta_run(table, &whole, &delta_cases[k], DELTA_CHUNK);
            for (int most = 1; most < DELTA_CHUNK; most++) {
                again = cut;
                delta_run(table, &again, &delta_cases[k], most);
                check_same_delta(&again, &whole, &delta_cases[k]);
            }
        }
}

/* ---- convolution ---- */

enum { CHANNELS = 53, STRIDE = 60 };

typedef struct conv_data {
    float x[TOKENS][STRIDE], y[TOKENS][STRIDE], weight[CONV_WIDTH_MOST][STRIDE], bias[STRIDE];
    float state[CONV_WIDTH_MOST][STRIDE];
} conv_data;

static conv_args conv_of(conv_data *d, int width, bool silu, bool bias, int64_t first, int64_t n)
{
    return (conv_args){.channels = CHANNELS,
                       .n = n,
                       .width = width,
                       .silu = silu,
                       .weight = &d->weight[0][0],
                       .bias = bias ? d->bias : NULL,
                       .x = d->x[first],
                       .before = &d->state[0][0],
                       .state = &d->state[0][0],
                       .y = d->y[first],
                       .weight_stride = STRIDE,
                       .x_stride = STRIDE,
                       .state_stride = STRIDE,
                       .y_stride = STRIDE};
}

/* The input at token t, from before the first call on. */
static double conv_at(const conv_data *before, int width, int t, int c)
{
    return (double)(t < 0 ? before->state[width - 1 + t][c] : before->x[t][c]);
}

static void check_conv(const kernel_table *table, int width, bool silu, bool bias)
{
    static conv_data d, before;
    fill_floats(ORDINARY, &d.x[0][0], sizeof d / sizeof(float));
    before = d;
    for (int64_t first = 0, n = 1; first < TOKENS; first += n, n = first + 6 < TOKENS ? 6 : TOKENS - first) {
        conv_args a = conv_of(&d, width, silu, bias, first, n);
        table->conv(&a);
    }
    for (int t = 0; t < TOKENS; t++)
        for (int c = 0; c < STRIDE; c++) {
            double sum = bias ? (double)d.bias[c] : 0;
            for (int j = 0; j < width; j++)
                sum += (double)d.weight[j][c] * conv_at(&before, width, t - width + 1 + j, c);
            if (silu)
                sum /= 1 + exp(-sum);
            if (c < CHANNELS)
                assert_true(fabs(sum - (double)d.y[t][c]) <= 2e-6);
            else
                assert_true(d.y[t][c] == before.y[t][c]);
        }
    for (int i = 0; i < width - 1; i++)
        assert_memory_equal(d.state[i], d.x[TOKENS - width + 1 + i], CHANNELS * sizeof(float));
    conv_args all = conv_of(&before, width, silu, bias, 0, TOKENS);
    table->conv(&all);
    assert_memory_equal(before.y, d.y, sizeof d.y);
}

static void convolutions_are_sums_over_the_last_inputs_however_tokens_are_cut(void **state)
{
    static const int widths[] = {2, 3, 4, 8};
    const kernel_table *table;
    for (int i = 0; (table = kernel_table_at(i)); i++)
        for (int w = 0; w < 4; w++)
            for (int variant = 0; variant < 4; variant++)
                check_conv(table, widths[w], variant % 2, variant > 1);
}

/* ---- norms, gates and caps ---- */

static void norms_are_what_their_formulas_say(void **state)
{
    enum { N = 85 };
    float x[N], w[N], b[N], y[N];
    const kernel_table *table;
    for (int k = 0; (table = kernel_table_at(k)); k++)
        for (int n = 1; n <= N; n += 4) {
            double sum = 0, squares = 0, deviations = 0;
            fill_floats(ORDINARY, x, n);
            fill_floats(ORDINARY, w, n);
            fill_floats(ORDINARY, b, n);
            for (int i = 0; i < n; i++) {
                x[i] = 3 + 2 * x[i];
                sum += (double)x[i];
                squares += (double)x[i] * (double)x[i];
            }
            for (int i = 0; i < n; i++)
                deviations += ((double)x[i] - sum / n) * ((double)x[i] - sum / n);
            table->rms_norm(x, NULL, 1e-5f, y, n);
            for (int i = 0; i < n; i++)
                assert_true(fabs((double)y[i] - (double)x[i] / sqrt(squares / n + 1e-5)) <= 1e-6);
            table->l2_norm(x, 0.25f, 1e-6f, y, n);
            for (int i = 0; i < n; i++)
                assert_true(fabs((double)y[i] - 0.25 * (double)x[i] / sqrt(squares + 1e-6)) <= 1e-6);
            for (int given = 0; given < 2; given++) {
                table->layer_norm(x, given ? w : NULL, given ? b : NULL, 1e-2f, y, n);
                for (int i = 0; i < n; i++) {
                    double exact = ((double)x[i] - sum / n) / sqrt(deviations / n + 1e-2);
                    exact = given ? exact * (double)w[i] + (double)b[i] : exact;
                    assert_true(fabs((double)y[i] - exact) <= 1e-5);
                }
            }
        }
}

static void norms_work_in_place(void **state)
{
    enum { N = 37 };
    float x[N], w[N], y[N], z[N];
    const kernel_table *table;
    for (int k = 0; (table = kernel_table_at(k)); k++) {
        fill_floats(ORDINARY, x, N);
        fill_floats(ORDINARY, w, N);
        table->layer_norm(x, w, w, 1e-5f, y, N);
        memcpy(z, x, sizeof x);
        table->layer_norm(z, w, w, 1e-5f, z, N);
        assert_memory_equal(y, z, sizeof y);
        table->l2_norm(x, 1, 1e-5f, y, N);
        table->l2_norm(x, 1, 1e-5f, x, N);
        assert_memory_equal(x, y, sizeof y);
    }
}

static void gates_and_caps_are_what_their_formulas_say(void **state)
{
    enum { N = 53 };
    float g[N], x[N], y[N], one;
    const kernel_table *table;
    for (int k = 0; (table = kernel_table_at(k)); k++)
        for (int round = 0; round < 200; round++) {
            for (int i = 0; i < N; i++) {
                g[i] = (float)uniform() * (round % 2 ? 90 : 3);
                x[i] = (float)uniform() * 5;
            }
            table->sigmoid_mul(g, x, y, N);
            for (int i = 0; i < N; i++) {
                double exact = (double)x[i] / (1 + exp(-(double)g[i]));
                assert_true(fabs((double)y[i] - exact) <= 1e-6 * fabs(exact) + 1e-30);
                table->sigmoid_mul(g + i, x + i, &one, 1);
                assert_true(one == y[i]);
            }
            table->soft_cap(g, 30, y, N);
            for (int i = 0; i < N; i++) {
                assert_true(fabs((double)y[i] - 30 * tanh((double)g[i] / 30)) <= 1e-5);
                table->soft_cap(g + i, 30, &one, 1);
                assert_true(one == y[i]);
            }
        }
}

static void gates_and_caps_survive_extreme_inputs_and_keep_nan(void **state)
{
    float x[] = {-3e38f, 3e38f, NAN}, ones[] = {1, 1, 1}, y[3];
    const kernel_table *table;
    for (int k = 0; (table = kernel_table_at(k)); k++) {
        table->sigmoid_mul(x, ones, y, 3);
        assert_true(y[0] == 0 && y[1] == 1 && isnan(y[2]));
        table->soft_cap(x, 6, y, 3);
        assert_true(y[0] == -6 && y[1] == 6 && isnan(y[2]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_attention_is_what_its_formula_says),
        cmocka_unit_test(linear_attention_follows_the_promised_order_exactly),
        cmocka_unit_test(linear_attention_is_the_same_however_tokens_and_columns_are_cut),
        cmocka_unit_test(chunks_give_what_the_recurrence_gives),
        cmocka_unit_test(chunks_follow_the_promised_order_exactly),
        cmocka_unit_test(chunks_are_the_same_however_their_tokens_are_cut),
        cmocka_unit_test(convolutions_are_sums_over_the_last_inputs_however_tokens_are_cut),
        cmocka_unit_test(norms_are_what_their_formulas_say),
        cmocka_unit_test(norms_work_in_place),
        cmocka_unit_test(gates_and_caps_are_what_their_formulas_say),
        cmocka_unit_test(gates_and_caps_survive_extreme_inputs_and_keep_nan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
