/* Quantised experts of a GGUF file in a layer of one's own: its output and gradients are those of the same numbers in
 * f32, for every kernel table as far as its quantised activations allow. */
#include "kernels/kernels.h"
#include "support/golden.h"
#include "support/layer_fixture.h"

enum { K = 2, N = 70, EXPERTS_MOST = 4 };

/* A file of tests/data/gguf: one layer of it is opened. */
typedef struct gguf_case {
    const char *name;
    int32_t layer, H, F, E;
} gguf_case;

static const odmoe_expert_tensor tensors[] = {{"blk.{layer}.ffn_gate_exps.weight", ODMOE_GATE, 0, 0},
                                              {"blk.{layer}.ffn_up_exps.weight", ODMOE_UP, 0, 0},
                                              {"blk.{layer}.ffn_down_exps.weight", ODMOE_DOWN, 0, 0}};

static odmoe_source *open_gguf(const gguf_case *c, int room)
{
    odmoe_source_options o;
    odmoe_source *source;
    odmoe_error err;
    odmoe_source_options_init(&o);
    o.path = test_path("gguf/%s.gguf", c->name);
    o.tensors = tensors;
    o.n_tensors = 3;
    o.first_layer = c->layer;
    o.experts = c->E;
    o.hidden = c->H;
    o.ffn = c->F;
    if (odmoe_source_open(&o, &source, &err))
        fail_msg("%s: %s", c->name, err.message);
    if (room) {
        o.cache_bytes = odmoe_source_floor(source) * (uint64_t)room;
        odmoe_source_close(source);
        assert_int_equal(odmoe_source_open(&o, &source, &err), ODMOE_OK);
    }
    return source;
}

/* The file's experts as the fixture's flat f32 arrays: w1 | w2 | w3, each (in, out). */
static void dequantise_all(odmoe_source *source, const gguf_case *c, float *flat)
{
    int64_t piece = (int64_t)c->H * c->F;
    float *w = malloc((size_t)piece * sizeof *w);
    const kernel_table *ref = kernel_table_find("ref");
    static const int32_t all[EXPERTS_MOST] = {0, 1, 2, 3};
    odmoe_source_ops ops = {.size = sizeof ops};
    odmoe_error err;
    odmoe_expert e;
    void *batch;
    odmoe_source_table(source, &ops);
    assert_int_equal(ops.begin(ops.ctx, 0, all, c->E, ODMOE_ORDER_LISTED, &batch, &err), ODMOE_OK);
    while (!ops.next(ops.ctx, batch, &e, &err) && e.expert >= 0) {
        for (int i = 0; i < e.n; i++) {
            const odmoe_matrix *m = &e.matrix[i];
            dtype type;
            int place = m->role == ODMOE_GATE ? 0 : m->role == ODMOE_DOWN ? 1 : 2;
            assert_true(dtype_from_gguf((uint32_t)m->type, &type));
            ref->ops[type].dequantise(m->data, w, piece);
            float *to = flat + (e.expert * 3 + place) * piece;
            for (int64_t row = 0; row < m->rows; row++)
                for (int64_t col = 0; col < m->cols; col++)
                    to[col * m->rows + row] = w[row * m->cols + col];
        }
        ops.release(ops.ctx, batch, &e);
    }
    ops.end(ops.ctx, batch);
    free(w);
}

typedef struct outcome {
    size_t token_values, router_values, expert_values,
        bytes;                          /* of y and dx, of drouter, of dexperts; of all together */
    int64_t piece;                      /* H F */
    float *y, *dx, *drouter, *dexperts; /* the last as w1 | w2 | w3, (in, out); in one block */
} outcome;

static outcome make_outcome(const layer_fixture *f)
{
    outcome o = {.token_values = (size_t)N * (size_t)f->H, .router_values = (size_t)f->E * (size_t)f->H};
    o.piece = (int64_t)f->H * f->F;
    o.expert_values = (size_t)f->E * 3 * (size_t)o.piece;
    o.bytes = (2 * o.token_values + o.router_values + o.expert_values) * sizeof(float);
    o.y = calloc(1, o.bytes);
    assert_non_null(o.y);
    o.dx = o.y + o.token_values;
    o.drouter = o.dx + o.token_values;
    o.dexperts = o.drouter + o.router_values;
    return o;
}

static odmoe_status take(void *user, const odmoe_expert *g, odmoe_error *err)
{
    outcome *to = user;
    for (int i = 0; i < g->n; i++) {
        const odmoe_matrix *m = &g->matrix[i];
        const float *from = m->data;
        int place = m->role == ODMOE_GATE ? 0 : m->role == ODMOE_DOWN ? 1 : 2;
        float *at = to->dexperts + (g->expert * 3 + place) * to->piece;
        assert_int_equal(m->type, ODMOE_TYPE_F32);
        for (int64_t r = 0; r < m->rows; r++)
            for (int64_t c = 0; c < m->cols; c++)
                at[m->in_out ? r * m->cols + c : c * m->rows + r] = from[r * m->cols + c];
    }
    return ODMOE_OK;
}

static outcome train(layer_fixture *f, const odmoe_source_ops *ops, const char *kernels, int keep)
{
    outcome out = make_outcome(f);
    odmoe_tape *tape;
    odmoe_backward b;
    f->options.source = ops;
    f->options.kernels = kernels;
    odmoe_layer *layer = fixture_layer(f);
    assert_int_equal(odmoe_tape_create(keep, &tape, &f->err), ODMOE_OK);
    if (odmoe_layer_forward_train(layer, 0, f->x, N, out.y, NULL, tape, &f->err))
        fail_msg("%s", f->err.message);
    odmoe_backward_init(&b);
    b.dy = f->x;
    b.dx = out.dx;
    b.drouter = out.drouter;
    b.aux_coef = 0.1f;
    b.on_expert = take;
    b.user = &out;
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

static void check(const gguf_case *c)
{
    layer_fixture f;
    fixture_make(&f, 1, c->H, c->F, c->E, K, N);
    odmoe_source *source = open_gguf(c, 0), *narrow = open_gguf(c, 1);
    dequantise_all(source, c, f.experts[0]);
    outcome expected = train(&f, &f.ops, "ref", 1);
    for (int t = 0; odmoe_kernels_at(t); t++) {
        odmoe_source_ops ops = {.size = sizeof ops}, one = {.size = sizeof one};
        odmoe_source_table(source, &ops);
        odmoe_source_table(narrow, &one);
        const char *kernels = odmoe_kernels_at(t);
        outcome got = train(&f, &ops, kernels, 0), again = train(&f, &one, kernels, 0);
        double limit = strcmp(kernels, "ref") ? 0.03 : 1e-4; /* the others round activations to eight bits */
        near("y", got.y, expected.y, got.token_values, limit);
        near("dx", got.dx, expected.dx, got.token_values, 1e-4); /* backward computes with the weights' f32 values */
        near("drouter", got.drouter, expected.drouter, got.router_values, 1e-4);
        near("dexperts", got.dexperts, expected.dexperts, got.expert_values, 1e-4);
        assert_memory_equal(got.y, again.y, got.bytes); /* room for one expert */
        free(got.y);
        free(again.y);
    }
    free(expected.y);
    odmoe_source_close(source);
    odmoe_source_close(narrow);
    fixture_free(&f);
}

static void experts_of_a_gguf_file_compute_as_their_numbers_in_f32(void **state)
{
    static const gguf_case cases[] = {
        {"qwen3moe-Q4_0", 1, 128, 64, 4},  {"qwen3moe-Q5_K_M", 0, 256, 256, 3}, /* types differ between matrices */
        {"llama-Q4_K_M", 1, 256, 32, 4},                                        /* and with them the blocks' lengths */
        {"qwen3moe-MXFP4", 1, 128, 64, 4}, {"qwen3moe-Q8_0-split-00001-of-00002", 1, 128, 64, 4}, /* in two files */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check(&cases[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(experts_of_a_gguf_file_compute_as_their_numbers_in_f32),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
