/* Experts from files: the orientations, types and arrangements that are the same expert, and the cache behind them. */
#include "base/dtype.h"
#include "support/layer_fixture.h"

enum { H = 12, F = 20, E = 5, K = 2, N = 40 };

/* All experts in each arrangement, written to one file. */
static void write_all(const layer_fixture *f, const char *path)
{
    size_t piece = (size_t)H * F, flat = 3 * piece, all = E * flat;
    float *turned[3], *fused = malloc(2 * E * piece * sizeof(float)), *woven = malloc(2 * E * piece * sizeof(float)),
                      *fused_in_out = malloc(2 * E * piece * sizeof(float));
    uint16_t *f16 = malloc(all * 2), *bf16 = malloc(all * 2);
    for (int m = 0; m < 3; m++) {
        int rows = m == 1 ? F : H, cols = m == 1 ? H : F;
        turned[m] = malloc(E * piece * sizeof(float));
        for (int e = 0; e < E; e++)
            for (int r = 0; r < rows; r++)
                for (int c = 0; c < cols; c++)
                    turned[m][(size_t)e * piece + (size_t)(c * rows + r)] =
                        f->experts[0][(size_t)e * flat + (size_t)m * piece + (size_t)(r * cols + c)];
    }
    for (int e = 0; e < E; e++) {
        for (int o = 0; o < F; o++) {
            const float *gate = turned[0] + (size_t)e * piece + (size_t)(o * H),
                        *up = turned[2] + (size_t)e * piece + (size_t)(o * H);
            float *to = fused + (size_t)e * 2 * piece, *in_turn = woven + (size_t)e * 2 * piece;
            memcpy(to + o * H, gate, H * sizeof(float));
            memcpy(to + piece + o * H, up, H * sizeof(float));
            memcpy(in_turn + 2 * o * H, gate, H * sizeof(float));
            memcpy(in_turn + (2 * o + 1) * H, up, H * sizeof(float));
        }
        for (int h = 0; h < H; h++) {
            const float *w1 = f->experts[0] + (size_t)e * flat + (size_t)(h * F), *w3 = w1 + 2 * piece;
            float *to = fused_in_out + (size_t)e * 2 * piece + (size_t)(h * 2 * F);
            memcpy(to, w1, F * sizeof(float));
            memcpy(to + F, w3, F * sizeof(float));
        }
    }
    for (size_t i = 0; i < all; i++) {
        f16[i] = dtype_f32_to_f16(f->experts[0][i]);
        bf16[i] = dtype_f32_to_bf16(f->experts[0][i]);
    }
    odmoe_tensor t[16] = {
        {"flat.f32", "F32", 2, {E, (int64_t)flat}, f->experts[0]},
        {"flat.f16", "F16", 2, {E, (int64_t)flat}, f16},
        {"flat.bf16", "BF16", 2, {E, (int64_t)flat}, bf16},
        {"gate", "F32", 3, {E, F, H}, turned[0]},
        {"down", "F32", 3, {E, H, F}, turned[1]},
        {"up", "F32", 3, {E, F, H}, turned[2]},
        {"fused", "F32", 3, {E, 2 * F, H}, fused},
        {"woven", "F32", 3, {E, 2 * F, H}, woven},
        {"fused.in_out", "F32", 3, {E, H, 2 * F}, fused_in_out},
    };
    static char names[E][16];
    for (int e = 0; e < E; e++) {
        snprintf(names[e], sizeof names[e], "one.7.%d", e);
        t[9 + e] = (odmoe_tensor){names[e], "F32", 1, {(int64_t)flat}, f->experts[0] + (size_t)e * flat};
    }
    odmoe_error err;
    if (odmoe_tensors_save(path, t, 9 + E, &err))
        fail_msg("%s", err.message);
    for (int m = 0; m < 3; m++)
        free(turned[m]);
    free(fused);
    free(woven);
    free(fused_in_out);
    free(f16);
    free(bf16);
}

static odmoe_source *open_source(const char *path, const odmoe_expert_tensor *tensors, int n, uint64_t cache_bytes)
{
    odmoe_source_options o;
    odmoe_source *source;
    odmoe_error err;
    odmoe_source_options_init(&o);
    o.path = path;
    o.tensors = tensors;
    o.n_tensors = n;
    o.experts = E;
    o.hidden = H;
    o.ffn = F;
    o.first_layer = 7;
    o.cache_bytes = cache_bytes;
    if (odmoe_source_open(&o, &source, &err))
        fail_msg("%s", err.message);
    return source;
}

static float *run_through(layer_fixture *f, const odmoe_source_ops *ops)
{
    f->options.source = ops;
    odmoe_layer *layer = fixture_layer(f);
    float *y = malloc(N * H * sizeof *y);
    if (odmoe_layer_forward(layer, 0, f->x, N, y, NULL, &f->err))
        fail_msg("%s", f->err.message);
    odmoe_layer_free(layer);
    return y;
}

/* A layer knows an odmoe_source and uses it directly. One function less, and the table is a program's like any other,
 * whose experts are checked each time: the bytes are the same. */
static float *run_with(layer_fixture *f, odmoe_source *source)
{
    odmoe_source_ops ops = {.size = sizeof ops};
    odmoe_source_table(source, &ops);
    float *y = run_through(f, &ops);
    ops.missing = NULL;
    float *checked = run_through(f, &ops);
    assert_memory_equal(y, checked, N * H * sizeof *y);
    free(checked);
    return y;
}

static void setup_files(layer_fixture *f, char *path)
{
    fixture_make(f, 1, H, F, E, K, N);
    strcpy(path, "layer-test-XXXXXX.safetensors");
    int fd = mkstemps(path, 12);
    assert_true(fd >= 0);
    close(fd);
    write_all(f, path);
}

static void a_flat_array_and_a_tensor_for_each_matrix_give_the_same_output(void **state)
{
    static const odmoe_expert_tensor flat = {"flat.f32", ODMOE_FLAT, 0, 0},
                                     one = {"one.{layer}.{expert}", ODMOE_FLAT, 0, 0};
    static const odmoe_expert_tensor apart[] = {
        {"gate", ODMOE_GATE, 0, 0}, {"up", ODMOE_UP, 0, 0}, {"down", ODMOE_DOWN, 0, 0}};
    static const odmoe_expert_tensor fused[] = {{"fused", ODMOE_GATE_UP, 0, 0}, {"down", ODMOE_DOWN, 0, 0}};
    static const odmoe_expert_tensor woven[] = {{"woven", ODMOE_GATE_UP, 0, 1}, {"down", ODMOE_DOWN, 0, 0}};
    static const odmoe_expert_tensor fused_in_out[] = {{"fused.in_out", ODMOE_GATE_UP, 1, 0},
                                                       {"down", ODMOE_DOWN, 0, 0}};
    static const struct {
        const odmoe_expert_tensor *tensors;
        int n;
    } ways[] = {{&flat, 1}, {&one, 1}, {apart, 3}, {fused, 2}, {woven, 2}, {fused_in_out, 2}};
    layer_fixture f;
    char path[64];
    setup_files(&f, path);
    double *expected = malloc(N * H * sizeof *expected);
    naive_layer(&f, 0, f.x, N, expected);
    float *first = NULL;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        odmoe_source *source = open_source(path, ways[i].tensors, ways[i].n, 0);
        float *y = run_with(&f, source);
        for (int j = 0; j < N * H; j++)
            assert_float_equal(y[j], expected[j], 1e-5);
        if (first)
            assert_memory_equal(first, y, N * H * sizeof *y);
        else
            first = y;
        if (first != y)
            free(y);
        odmoe_source_close(source);
    }
    free(first);
    free(expected);
    unlink(path);
    fixture_free(&f);
}

static void flat_arrays_of_half_numbers_agree_within_their_precision(void **state)
{
    static const odmoe_expert_tensor f16 = {"flat.f16", ODMOE_FLAT, 0, 0}, bf16 = {"flat.bf16", ODMOE_FLAT, 0, 0};
    layer_fixture f;
    char path[64];
    setup_files(&f, path);
    double *expected = malloc(N * H * sizeof *expected);
    for (int way = 0; way < 2; way++) {
        for (size_t i = 0; i < (size_t)E * 3 * H * F; i++) { /* the rounded numbers, exactly */
            float *w = &f.experts[0][i];
            if (way == 0)
                *w = dtype_f16_to_f32(dtype_f32_to_f16(*w));
        }
        naive_layer(&f, 0, f.x, N, expected);
        odmoe_source *source = open_source(path, way ? &bf16 : &f16, 1, 0);
        float *y = run_with(&f, source);
        for (int j = 0; j < N * H; j++)
            assert_float_equal(y[j], expected[j], way ? 0.05 : 1e-5);
        free(y);
        odmoe_source_close(source);
    }
    free(expected);
    unlink(path);
    fixture_free(&f);
}

static void a_missing_tensor_and_a_wrong_shape_are_named(void **state)
{
    layer_fixture f;
    char path[64];
    setup_files(&f, path);
    odmoe_source_options o;
    odmoe_source *source = NULL;
    odmoe_expert_tensor tensor = {"flat.{layer}", ODMOE_FLAT, 0, 0};
    odmoe_source_options_init(&o);
    o.path = path;
    o.tensors = &tensor;
    o.n_tensors = 1;
    o.experts = E;
    o.hidden = H;
    o.ffn = F;
    assert_int_equal(odmoe_source_open(&o, &source, &f.err), ODMOE_ERR_FORMAT);
    assert_non_null(strstr(f.err.message, "flat.0"));
    tensor.name = "flat.f32";
    o.ffn = F + 1;
    assert_int_equal(odmoe_source_open(&o, &source, &f.err), ODMOE_ERR_FORMAT);
    assert_non_null(strstr(f.err.message, "flat.f32"));
    o.ffn = F;
    o.cache_bytes = 17;
    assert_int_equal(odmoe_source_open(&o, &source, &f.err), ODMOE_ERR_BUDGET);
    unlink(path);
    fixture_free(&f);
}

/* ---- the cache behind the table ---- */

static const odmoe_expert_tensor flat_one = {"flat.f32", ODMOE_FLAT, 0, 0};

/* Fetch one expert and release it; was it there? */
static bool touch(odmoe_source_ops *ops, int32_t expert)
{
    odmoe_source_counters before, after;
    odmoe_expert e;
    odmoe_error err;
    void *batch;
    ops->counters(ops->ctx, 0, &before);
    assert_int_equal(ops->begin(ops->ctx, 0, &expert, 1, ODMOE_ORDER_LISTED, &batch, &err), ODMOE_OK);
    assert_int_equal(ops->next(ops->ctx, batch, &e, &err), ODMOE_OK);
    assert_int_equal(e.expert, expert);
    ops->release(ops->ctx, batch, &e);
    ops->end(ops->ctx, batch);
    ops->counters(ops->ctx, 0, &after);
    assert_int_equal(after.hits + after.misses, before.hits + before.misses + 1);
    return after.hits > before.hits;
}

/* A source whose cache holds `room` experts, LRU. */
static odmoe_source *small_cache(const char *path, int room, odmoe_source_ops *ops)
{
    odmoe_source_options o;
    odmoe_source *source = open_source(path, &flat_one, 1, 0);
    odmoe_error err;
    odmoe_source_options_init(&o);
    o.path = path;
    o.tensors = &flat_one;
    o.n_tensors = 1;
    o.experts = E;
    o.hidden = H;
    o.ffn = F;
    o.cache_bytes = odmoe_source_floor(source) * (uint64_t)room;
    o.policy = "lru";
    odmoe_source_close(source);
    if (odmoe_source_open(&o, &source, &err))
        fail_msg("%s", err.message);
    ops->size = sizeof *ops;
    odmoe_source_table(source, ops);
    return source;
}

static void lru_keeps_the_recently_used_and_evicts_the_oldest(void **state)
{
    layer_fixture f;
    char path[64];
    odmoe_source_ops ops;
    setup_files(&f, path);
    odmoe_source *source = small_cache(path, 2, &ops);
    assert_false(touch(&ops, 0));
    assert_false(touch(&ops, 1));
    assert_true(touch(&ops, 0));
    assert_false(touch(&ops, 2)); /* 1 goes */
    assert_true(touch(&ops, 0));
    assert_true(touch(&ops, 2));
    assert_false(touch(&ops, 1));
    odmoe_source_close(source);
    unlink(path);
    fixture_free(&f);
}

static void pins_survive_pressure(void **state)
{
    layer_fixture f;
    char path[64];
    odmoe_source_ops ops;
    setup_files(&f, path);
    odmoe_source *source = small_cache(path, 2, &ops);
    odmoe_expert pinned;
    void *batch;
    int32_t id = 3;
    assert_int_equal(ops.begin(ops.ctx, 0, &id, 1, ODMOE_ORDER_LISTED, &batch, &f.err), ODMOE_OK);
    assert_int_equal(ops.next(ops.ctx, batch, &pinned, &f.err), ODMOE_OK);
    for (int turn = 0; turn < 20; turn++)
        for (int32_t e = 0; e < E; e++)
            if (e != 3)
                touch(&ops, e);
    assert_memory_equal(pinned.matrix[0].data, f.experts[0] + (size_t)3 * 3 * H * F, 3 * H * F * sizeof(float));
    ops.release(ops.ctx, batch, &pinned);
    ops.end(ops.ctx, batch);
    odmoe_source_close(source);
    unlink(path);
    fixture_free(&f);
}

static void an_invalidated_expert_is_read_anew(void **state)
{
    layer_fixture f;
    char path[64];
    odmoe_source_ops ops;
    setup_files(&f, path);
    odmoe_source *source = small_cache(path, E, &ops);
    touch(&ops, 1);
    touch(&ops, 2);
    odmoe_source_invalidate(source, 0, 1);
    assert_false(touch(&ops, 1));
    assert_true(touch(&ops, 2));
    odmoe_source_close(source);
    unlink(path);
    fixture_free(&f);
}

static void hits_misses_bytes_and_stall_of_a_layer_are_counted_and_reset(void **state)
{
    layer_fixture f;
    char path[64];
    odmoe_source_ops ops;
    setup_files(&f, path);
    odmoe_source *source = small_cache(path, E, &ops);
    f.options.source = &ops;
    odmoe_layer *layer = fixture_layer(&f);
    float *y = malloc(N * H * sizeof *y);
    uint64_t counts[E];
    odmoe_layer_stats s = {.size = sizeof s};
    for (uint64_t call = 0; call < 2; call++) { /* all experts have rows: read once, found the second time */
        assert_int_equal(odmoe_layer_forward(layer, 0, f.x, N, y, NULL, &f.err), ODMOE_OK);
        assert_int_equal(odmoe_layer_stats_get(layer, 0, &s, counts, &f.err), ODMOE_OK);
        for (int e = 0; e < E; e++)
            assert_true(counts[e] > 0);
        assert_int_equal(s.misses, E);
        assert_int_equal(s.hits, call * E);
        assert_int_equal(s.bytes, E * 3 * H * F * sizeof(float));
        assert_int_equal(s.rows, (call + 1) * N);
        assert_int_equal(s.calls, call + 1);
    }
    assert_true(s.stall_seconds >= 0 && s.stall_seconds < 60);
    char *json, expected[64];
    assert_int_equal(odmoe_layer_stats_json(layer, 0, &json, &f.err), ODMOE_OK);
    snprintf(expected, sizeof expected, "\"hits\":%d,\"misses\":%d,\"bytes\":%zu,", E, E,
             E * 3 * H * F * sizeof(float));
    assert_non_null(strstr(json, expected));
    odmoe_string_free(json);
    odmoe_layer_stats_reset(layer);
    assert_int_equal(odmoe_layer_stats_get(layer, 0, &s, NULL, &f.err), ODMOE_OK);
    assert_true(s.hits == 0 && s.misses == 0 && s.bytes == 0 && s.stall_seconds == 0 && s.rows == 0 && s.calls == 0);
    free(y);
    odmoe_layer_free(layer);
    odmoe_source_close(source);
    unlink(path);
    fixture_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flat_array_and_a_tensor_for_each_matrix_give_the_same_output),
        cmocka_unit_test(flat_arrays_of_half_numbers_agree_within_their_precision),
        cmocka_unit_test(a_missing_tensor_and_a_wrong_shape_are_named),
        cmocka_unit_test(lru_keeps_the_recently_used_and_evicts_the_oldest),
        cmocka_unit_test(pins_survive_pressure),
        cmocka_unit_test(an_invalidated_expert_is_read_anew),
        cmocka_unit_test(hits_misses_bytes_and_stall_of_a_layer_are_counted_and_reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
