/* Quantised experts of a GGUF file in a layer of one's own: its output and gradients are those of the same numbers in
 * f32, for every kernel table as far as its quantised activations allow. */
#include "kernels/kernels.h"
#include "support/golden.h"
#include "support/layer_fixture.h"

enum { H = 256, F = 256, E = 4, K = 2, N = 70, FLAT = 3 * H * F };
static const odmoe_expert_tensor tensors[] = {{"blk.{layer}.ffn_gate_exps.weight", ODMOE_GATE, 0, 0},
                                              {"blk.{layer}.ffn_up_exps.weight", ODMOE_UP, 0, 0},
                                              {"blk.{layer}.ffn_down_exps.weight", ODMOE_DOWN, 0, 0}};

static odmoe_source *open_gguf(const char *name, int room)
{
    odmoe_source_options o;
    odmoe_source *source;
    odmoe_error err;
    odmoe_source_options_init(&o);
    o.path = test_path("gguf/%s.gguf", name);
    o.tensors = tensors;
    o.n_tensors = 3;
    o.first_layer = 1; /* the model's second */
    o.experts = E;
    o.hidden = H;
    o.ffn = F;
    if (odmoe_source_open(&o, &source, &err))
        fail_msg("%s: %s", name, err.message);
    if (room) {
        o.cache_bytes = odmoe_source_floor(source) * (uint64_t)room;
        odmoe_source_close(source);
        assert_int_equal(odmoe_source_open(&o, &source, &err), ODMOE_OK);
    }
    return source;
}

/* The file's experts as the fixture's flat f32 arrays: w1 | w2 | w3, each (in, out). */
static void dequantise_all(odmoe_source *source, float *flat)
{
    static float w[H * F];
    const kernel_table *ref = kernel_table_find("ref");
    static const int32_t all[E] = {0, 1, 2, 3};
    odmoe_source_ops ops = {.size = sizeof ops};
    odmoe_error err;
    odmoe_expert e;
    void *batch;
    odmoe_source_table(source, &ops);
    assert_int_equal(ops.begin(ops.ctx, 0, all, E, ODMOE_ORDER_LISTED, &batch, &err), ODMOE_OK);
    while (!ops.next(ops.ctx, batch, &e, &err) && e.expert >= 0) {
        for (int i = 0; i < e.n; i++) {
            const odmoe_matrix *m = &e.matrix[i];
            dtype type;
            int place = m->role == ODMOE_GATE ? 0 : m->role == ODMOE_DOWN ? 1 : 2;
            assert_true(dtype_from_gguf((uint32_t)m->type, &type));
            ref->ops[type].dequantise(m->data, w, H * F);
            float *to = flat + e.expert * FLAT + place * H * F;
            for (int64_t r = 0; r < m->rows; r++)
                for (int64_t c = 0; c < m->cols; c++)
                    to[c * m->rows + r] = w[r * m->cols + c];
        }
        ops.release(ops.ctx, batch, &e);
    }
    ops.end(ops.ctx, batch);
}

typedef struct outcome {
    float y[N * H], dx[N * H], drouter[E * H], dexperts[E * FLAT]; /* the last as w1 | w2 | w3, (in, out) */
} outcome;

static odmoe_status take(void *user, const odmoe_expert *g, odmoe_error *err)
{
    outcome *to = user;
    for (int i = 0; i < g->n; i++) {
        const odmoe_matrix *m = &g->matrix[i];
        const float *from = m->data;
        int place = m->role == ODMOE_GATE ? 0 : m->role == ODMOE_DOWN ? 1 : 2;
        float *at = to->dexperts + g->expert * FLAT + place * H * F;
        assert_int_equal(m->type, ODMOE_TYPE_F32);
        for (int64_t r = 0; r < m->rows; r++)
            for (int64_t c = 0; c < m->cols; c++)
                at[m->in_out ? r * m->cols + c : c * m->rows + r] = from[r * m->cols + c];
    }
    return ODMOE_OK;
}

static outcome *train(layer_fixture *f, const odmoe_source_ops *ops, const char *kernels, int keep)
{
    outcome *out = calloc(1, sizeof *out);
    odmoe_tape *tape;
    odmoe_backward b;
    f->options.source = ops;
    f->options.kernels = kernels;
    odmoe_layer *layer = fixture_layer(f);
    assert_int_equal(odmoe_tape_create(keep, &tape, &f->err), ODMOE_OK);
    if (odmoe_layer_forward_train(layer, 0, f->x, N, out->y, NULL, tape, &f->err))
        fail_msg("%s", f->err.message);
    odmoe_backward_init(&b);
    b.dy = f->x;
    b.dx = out->dx;
    b.drouter = out->drouter;
    b.aux_coef = 0.1f;
    b.on_expert = take;
    b.user = out;
    if (odmoe_layer_backward(layer, tape, &b, &f->err))
        fail_msg("%s", f->err.message);
    odmoe_tape_free(tape);
    odmoe_layer_free(layer);
    return out;
}

static void near(const char *what, const float *got, const float *expected, size_t n, double limit)
{
    double worst = 0, scale = 0;
    for (size_t i = 0; i < n; i++) {
        worst = fmax(worst, fabs((double)got[i] - expected[i]));
        scale = fmax(scale, fabs((double)expected[i]));
        assert_true(isfinite(got[i]));
    }
    if (!(worst <= limit * scale))
        fail_msg("%s is off by %g of %g", what, worst, scale);
}

static void check(const char *name)
{
    layer_fixture f;
    fixture_make(&f, 1, H, F, E, K, N);
    odmoe_source *source = open_gguf(name, 0), *narrow = open_gguf(name, 1);
    dequantise_all(source, f.experts[0]);
    outcome *expected = train(&f, &f.ops, "ref", 1);
    for (int t = 0; odmoe_kernels_at(t); t++) {
        odmoe_source_ops ops = {.size = sizeof ops}, one = {.size = sizeof one};
        odmoe_source_table(source, &ops);
        odmoe_source_table(narrow, &one);
        const char *kernels = odmoe_kernels_at(t);
        outcome *got = train(&f, &ops, kernels, 0), *again = train(&f, &one, kernels, 0);
        double limit = strcmp(kernels, "ref") ? 0.03 : 1e-4; /* the others round activations to eight bits */
        near("y", got->y, expected->y, N * H, limit);
        near("dx", got->dx, expected->dx, N * H, 1e-4); /* backward computes with the weights' f32 values */
        near("drouter", got->drouter, expected->drouter, E * H, 1e-4);
        near("dexperts", got->dexperts, expected->dexperts, E * FLAT, 1e-4);
        assert_memory_equal(got, again, sizeof *got); /* room for one expert */
        free(got);
        free(again);
    }
    free(expected);
    odmoe_source_close(source);
    odmoe_source_close(narrow);
    fixture_free(&f);
}

static void experts_of_a_gguf_file_compute_as_their_numbers_in_f32(void **state)
{
    check("qwen3moe-Q4_0");
    check("qwen3moe-Q5_K_M"); /* types differ between matrices and layers */
    check("qwen3moe-MXFP4");
    check("qwen3moe-Q8_0-split-00001-of-00002"); /* in two files */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(experts_of_a_gguf_file_compute_as_their_numbers_in_f32),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
