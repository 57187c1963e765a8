/* The plain C table against gguf-py's values, and against sums written out in double precision. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jansson.h>

#include "kernels/act.h"
#include "kernels/kernels.h"

/* The golden file: safetensors, that is 8 bytes of length, a JSON header, data. */
typedef struct golden {
    char *file;
    const char *data;
    json_t *header;
} golden;

static golden golden_read(const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", getenv("ODMOE_TEST_DATA"), name);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    long size = ftell(f);
    rewind(f);
    golden g = {.file = malloc((size_t)size)};
    assert_int_equal(fread(g.file, 1, (size_t)size, f), size);
    fclose(f);
    uint64_t length;
    memcpy(&length, g.file, 8);
    g.header = json_loadb(g.file + 8, length, 0, NULL);
    assert_non_null(g.header);
    g.data = g.file + 8 + length;
    return g;
}

static void golden_free(golden *g)
{
    json_decref(g->header);
    free(g->file);
}

/* tensor "NAME.part": its data; *first is its first dimension, *second its second */
static const void *golden_tensor(const golden *g, const char *name, const char *part, int64_t *first, int64_t *second)
{
    char key[64];
    snprintf(key, sizeof key, "%s.%s", name, part);
    json_t *t = json_object_get(g->header, key);
    if (!t)
        return NULL;
    *first = json_integer_value(json_array_get(json_object_get(t, "shape"), 0));
    *second = json_integer_value(json_array_get(json_object_get(t, "shape"), 1));
    return g->data + json_integer_value(json_array_get(json_object_get(t, "data_offsets"), 0));
}

static const char *const quantised[] = {"Q4_0",  "Q4_1",   "Q5_0",    "Q5_1",   "Q8_0",    "Q2_K",  "Q3_K",   "Q4_K",
                                        "Q5_K",  "Q6_K",   "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S",
                                        "IQ2_S", "IQ4_XS", "IQ1_M",   "TQ1_0",  "TQ2_0",   "MXFP4"};
enum { QUANTISED = sizeof quantised / sizeof *quantised };

static void check_dequantised(const golden *g, const kernel_table *table, const char *name)
{
    dtype t;
    int64_t n = 0, bytes, n2, length = 0;
    assert_true(dtype_from_name(name, &t));
    const void *blocks = golden_tensor(g, name, "blocks", &n, &bytes);
    const void *values = golden_tensor(g, name, "values", &n2, &length);
    assert_non_null(blocks);
    assert_int_equal(bytes, dtype_info(t)->block_bytes);
    assert_int_equal(length, dtype_info(t)->block);
    float *out = malloc((size_t)(n * length) * sizeof *out);
    table->ops[t].dequantise(blocks, out, n * length);
    if (memcmp(out, values, (size_t)(n * length) * sizeof *out))
        fail_msg("%s, %s: values differ", table->name, name);
    free(out);
}

static void every_table_dequantises_as_gguf_py(void **state)
{
    golden g = golden_read("dequant/dequant.safetensors"), scaled = golden_read("scaled/scaled.safetensors");
    const kernel_table *table;
    for (int k = 0; (table = kernel_table_at(k)); k++) {
        for (int i = 0; i < QUANTISED; i++)
            check_dequantised(&g, table, quantised[i]);
        check_dequantised(&scaled, table, "NVFP4");
    }
    golden_free(&g);
    golden_free(&scaled);
}

typedef struct scaled_golden {
    const char *name;
    dtype type;
    scale_grid grid;
} scaled_golden;

/* Weights show as the products with the rows of an identity matrix. */
static void check_scaled(const golden *g, const kernel_table *table, const scaled_golden *published)
{
    dtype t = published->type;
    const char *name = published->name;
    int64_t rows, row_bytes, scale_rows, scale_row_bytes, one, n, cols;
    scaled_weights w = {.data = golden_tensor(g, name, "data", &rows, &row_bytes),
                        .scales = golden_tensor(g, name, "scales", &scale_rows, &scale_row_bytes),
                        .factor = *(const float *)golden_tensor(g, name, "factor", &one, &one),
                        .grid = published->grid};
    const int32_t *row = golden_tensor(g, name, "rows", &one, &n);
    const float *values = golden_tensor(g, name, "values", &n, &cols);
    w.row_bytes = row_bytes;
    w.scale_row_bytes = scale_row_bytes;
    assert_int_equal(dtype_bytes(t, (uint64_t)(rows * cols)), rows * row_bytes);
    assert_int_equal(scale_bytes(w.grid, (uint64_t)rows, (uint64_t)cols), scale_rows * scale_row_bytes);
    float *x = calloc((size_t)(cols * cols), sizeof *x), *y = malloc((size_t)cols * sizeof *y);
    for (int64_t c = 0; c < cols; c++)
        x[c * cols + c] = 1;
    for (int64_t r = 0; r < n; r++) {
        table->ops[t].matmul_scaled(&w, row[r], 1, cols, x, cols * (int64_t)sizeof *x, cols, y, 1);
        for (int64_t c = 0; c < cols; c++)
            if (y[c] != values[r * cols + c])
                fail_msg("%s, %s: row %d, column %d is %a instead of %a", table->name, name, row[r], (int)c,
                         (double)y[c], (double)values[r * cols + c]);
    }
    free(x);
    free(y);
}

static void every_table_reads_published_weights_with_scales_apart(void **state)
{
    static const scaled_golden published[] = {
        {"F8_E4M3", DTYPE_F8_E4M3, {SCALE_F32, 7, 7}},
        {"F8_ROWS", DTYPE_F8_E4M3, {SCALE_BF16, 0, SCALE_ALL}},
        {"F8_MATRIX", DTYPE_F8_E4M3, {SCALE_F32, SCALE_ALL, SCALE_ALL}},
        {"NVFP4_SPLIT", DTYPE_NVFP4_SPLIT, {SCALE_F8, 0, 4}},
        {"MXFP4_SPLIT", DTYPE_MXFP4_SPLIT, {SCALE_E8M0, 0, 5}},
        {"INT4_SPLIT", DTYPE_INT4_SPLIT, {SCALE_BF16, 0, 5}},
        {"INT4_64", DTYPE_INT4_SPLIT, {SCALE_F16, 0, 6}},
        {"INT4_128", DTYPE_INT4_SPLIT, {SCALE_BF16, 0, 7}},
        {"INT4_ROWS", DTYPE_INT4_SPLIT, {SCALE_F32, 0, SCALE_ALL}},
    };
    golden g = golden_read("scaled/scaled.safetensors");
    const kernel_table *table;
    for (int k = 0; (table = kernel_table_at(k)); k++)
        for (size_t i = 0; i < sizeof published / sizeof *published; i++)
            check_scaled(&g, table, &published[i]);
    golden_free(&g);
}

static uint64_t seed = 1;
static double uniform(void) /* [-1, 1) */
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (double)(int64_t)(seed >> 11 << 11) / 0x1p63;
}

static void fill(float *x, int n)
{
    for (int i = 0; i < n; i++)
        x[i] = (float)uniform();
}

static void floats_of_every_bit_pattern_are_read_exactly(void **state)
{
    uint16_t bits[65536];
    static float out[65536];
    for (int i = 0; i < 65536; i++)
        bits[i] = (uint16_t)i;
    const kernel_table *table;
    for (int k = 0; (table = kernel_table_at(k)); k++) {
        table->ops[DTYPE_F16].dequantise(bits, out, 65536);
        for (int i = 0; i < 65536; i++) {
            double v = ldexp(i & 0x7c00 ? (i & 1023) + 1024 : i & 1023, i & 0x7c00 ? (i >> 10 & 31) - 25 : -24);
            if ((i & 0x7c00) == 0x7c00)
                assert_true(i & 1023 ? isnan(out[i]) : isinf(out[i]));
            else
                assert_true(out[i] == (i & 0x8000 ? -v : v));
        }
        table->ops[DTYPE_BF16].dequantise(bits, out, 65536);
        for (int i = 0; i < 65536; i++) {
            uint32_t u;
            memcpy(&u, &out[i], 4);
            assert_true(u == (uint32_t)i << 16 || isnan(out[i]));
        }
    }
}

/* ref's sums are plain float32 ones: within cols roundings of the exact value. */
static void ref_products_are_sums_over_dequantised_weights(void **state)
{
    const kernel_table *ref = kernel_table_find("ref");
    for (dtype t = 0; t < DTYPE_COUNT; t++) {
        if (!ref->ops[t].matmul)
            continue;
        enum { ROWS = 11, TOKENS = 3 };
        int64_t cols = dtype_info(t)->block == 1 ? 277 : 512;
        size_t bytes = dtype_bytes(t, (uint64_t)cols);
        uint8_t *w = malloc(ROWS * bytes);
        float *values = malloc((size_t)cols * sizeof *values), *x = malloc(TOKENS * (size_t)cols * sizeof *x);
        float y[TOKENS][ROWS];
        for (size_t i = 0; i < ROWS * bytes; i++) /* halves stay finite: no byte above 0x5f or so in their upper part */
            w[i] = (uint8_t)(fabs(uniform()) * 60);
        for (int64_t i = 0; i < TOKENS * cols; i++)
            x[i] = (float)uniform();
        ref->ops[t].matmul(w, (int64_t)bytes, ROWS, cols, x, cols * 4, TOKENS, &y[0][0], ROWS);
        for (int r = 0; r < ROWS; r++) {
            ref->ops[t].dequantise(w + (size_t)r * bytes, values, cols);
            for (int token = 0; token < TOKENS; token++) {
                double sum = 0, size = 0;
                for (int64_t c = 0; c < cols; c++) {
                    sum += (double)values[c] * x[token * cols + c];
                    size += fabs((double)values[c] * x[token * cols + c]);
                }
                assert_true(fabs(y[token][r] - sum) <= size * (double)cols * 6e-8);
                float one; /* a row alone, a token alone */
                ref->ops[t].matmul(w + (size_t)r * bytes, (int64_t)bytes, 1, cols, x + token * cols, cols * 4, 1, &one,
                                   1);
                assert_true(y[token][r] == one);
            }
        }
        free(w);
        free(values);
        free(x);
    }
}

static void ref_matmul_kn_is_the_transposed_product(void **state)
{
    const kernel_table *ref = kernel_table_find("ref");
    enum { ROWS = 37, COLS = 301, TOKENS = 3 };
    static float w[ROWS][COLS], wt[COLS][ROWS], x[TOKENS][ROWS], y[TOKENS][COLS], yt[TOKENS][COLS];
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < COLS; c++)
            wt[c][r] = w[r][c] = (float)uniform();
    fill(&x[0][0], TOKENS * ROWS);
    ref->ops[DTYPE_F32].matmul_kn(w, sizeof *w, ROWS, COLS, &x[0][0], ROWS, TOKENS, &y[0][0], COLS);
    ref->ops[DTYPE_F32].matmul(wt, sizeof *wt, COLS, ROWS, x, sizeof *x, TOKENS, &yt[0][0], COLS);
    assert_memory_equal(y, yt, sizeof y);
    for (dtype t = 0; t < DTYPE_COUNT; t++)
        assert_true((ref->ops[t].matmul_kn != NULL) == (t == DTYPE_F32 || t == DTYPE_F16 || t == DTYPE_BF16));
}

/* What attend promises, in double precision: the softmax of scaled and capped scores and of the sink, times values. */
static double exact_attention(const attend_args *a, const float (*k)[64], const float (*v)[64], int column)
{
    double sum = 0, total = a->sinks ? exp((double)a->sinks[0]) : 0;
    for (int64_t p = a->first[0]; p < a->last[0]; p++) {
        double score = 0;
        for (int i = 0; i < 64; i++)
            score += (double)a->q[i] * (double)k[p][i];
        score *= (double)a->scale;
        if (a->softcap > 0)
            score = (double)a->softcap * tanh(score / (double)a->softcap);
        total += exp(score);
        sum += exp(score) * (double)(a->value_pages ? v : k)[p][column];
    }
    return sum / total;
}

static void ref_attention_is_the_softmax_of_scaled_scores(void **state)
{
    const kernel_table *ref = kernel_table_find("ref");
    enum { N = 150, HEAD = 64, PAGE = ATTEND_BLOCK * HEAD * 4 };
    static float q[HEAD], k[N][HEAD], v[N][HEAD], out[HEAD];
    static uint8_t keys[3][PAGE], values[3][PAGE];
    static const struct {
        kv_type type;
        double tolerance;
    } kinds[] = {{KV_F32, 2e-6}, {KV_F16, 1e-3}, {KV_Q8_0, 2e-2}};
    const void *key_pages[] = {keys[2], keys[0], keys[1]}, *value_pages[] = {values[1], values[2], values[0]};
    int64_t first, last = N - 1;
    float sink = 1.5f;
    for (int i = 0; i < HEAD; i++)
        q[i] = (float)uniform() * 3;
    fill(&k[0][0], N * HEAD);
    fill(&v[0][0], N * HEAD);
    for (int kind = 0; kind < 3; kind++) {
        attend_args a = {.type = kinds[kind].type, .key_dim = HEAD, .value_dim = HEAD, .scale = 0.3f, .n = 1};
        a.value_stride = (int64_t)kv_bytes(a.type, HEAD);
        a.key_pages = key_pages;
        a.first = &first;
        a.last = &last;
        a.q = q;
        a.out = out;
        for (int p = 0; p < N; p++) {
            int64_t place = p % ATTEND_BLOCK;
            ref->key_store(a.type, k[p], (void *)key_pages[p / ATTEND_BLOCK], place, HEAD);
            ref->kv_store(a.type, v[p], (char *)value_pages[p / ATTEND_BLOCK] + place * a.value_stride, HEAD);
        }
        for (first = 0; first < N; first += 29)
            for (int variant = 0; variant < 8; variant++) {
                a.softcap = variant & 1 ? 2 : 0;
                a.sinks = variant & 2 ? &sink : NULL;
                a.value_pages = variant & 4 ? NULL : value_pages;
                ref->attend(&a);
                for (int i = 0; i < HEAD; i++)
                    assert_true(fabs(exact_attention(&a, k, v, i) - (double)out[i]) <= kinds[kind].tolerance);
            }
    }
}

static void softmax_and_silu_survive_extreme_inputs(void **state)
{
    const kernel_table *table;
    for (int k = 0; (table = kernel_table_at(k)); k++) {
        float x[5] = {-3e38f, 3e38f, 3e38f, 0, -0.0f}, y[5], ones[5] = {1, 1, 1, 1, 1};
        table->silu_mul(x, ones, y, 5);
        assert_true(y[0] == 0 && y[1] == 3e38f && y[3] == 0 && y[4] == 0);
        table->softmax(x, 5);
        assert_true(x[0] == 0 && x[1] == 0.5f && x[2] == 0.5f && x[3] == 0);
    }
}

static void rms_norm_divides_by_the_root_of_the_mean_square(void **state)
{
    const kernel_table *table;
    for (int k = 0; (table = kernel_table_at(k)); k++) {
        float x[37], w[37], y[37];
        double sum = 0;
        for (int i = 0; i < 37; i++) {
            x[i] = (float)uniform() * 5;
            w[i] = (float)uniform();
            sum += (double)x[i] * x[i];
        }
        table->rms_norm(x, w, 1e-5f, y, 37);
        for (int i = 0; i < 37; i++)
            assert_true(fabs(y[i] - x[i] * w[i] / sqrt(sum / 37 + 1e-5)) <= 1e-6);
        table->rms_norm(x, w, 1e-5f, x, 37); /* in place */
        assert_memory_equal(x, y, sizeof x);
    }
}

static void tables_are_found_by_name(void **state)
{
    assert_string_equal(kernel_table_find("ref")->name, "ref");
    assert_ptr_equal(kernel_table_find("auto"), kernel_table_at(0));
    assert_null(kernel_table_find("sse"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_table_dequantises_as_gguf_py),
        cmocka_unit_test(every_table_reads_published_weights_with_scales_apart),
        cmocka_unit_test(floats_of_every_bit_pattern_are_read_exactly),
        cmocka_unit_test(ref_products_are_sums_over_dequantised_weights),
        cmocka_unit_test(ref_matmul_kn_is_the_transposed_product),
        cmocka_unit_test(ref_attention_is_the_softmax_of_scaled_scores),
        cmocka_unit_test(softmax_and_silu_survive_extreme_inputs),
        cmocka_unit_test(rms_norm_divides_by_the_root_of_the_mean_square),
        cmocka_unit_test(tables_are_found_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
