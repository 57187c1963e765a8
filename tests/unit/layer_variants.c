/* Experts and routers of other kinds than the first families': biases, activations, scales. Each variant is compared with
 * a plain model in double precision, and gives the same bytes for one token alone and among many. */
#include "support/layer_fixture.h"

enum { H = 64, F = 48, E = 8, K = 3, N = 70 };

typedef struct variant {
    const char *name;
    odmoe_glu glu;
    bool gate_up;     /* one interleaved matrix */
    bool in_out;      /* matrices stored (in, out) */
    bool biases;      /* of the experts' products */
    bool linear_bias; /* of the router */
    bool expert_scale;
    bool weight_on_input;
    int32_t score;
} variant;

typedef struct world {
    const variant *v;
    float *router, *gate, *up, *down, *gate_up; /* experts' matrices, (out, in), one after the other */
    float *linear_bias, *expert_scale, *gate_bias, *up_bias, *down_bias, *x;
    int32_t asked[E], n, at, lent, most_lent;
    int32_t max_lent; /* -1: the source cannot tell what is ready, and has no poll */
    odmoe_error err;
} world;

/* ---- the source ---- */

static odmoe_status begin(void *ctx, int32_t layer, const int32_t *experts, int32_t n, odmoe_order order, void **batch,
                          odmoe_error *err)
{
    world *w = ctx;
    memcpy(w->asked, experts, (size_t)n * sizeof *experts);
    w->n = n;
    w->at = 0;
    *batch = w;
    return ODMOE_OK;
}

static odmoe_matrix matrix_of(const world *w, int32_t role, const float *data, int64_t outs, int64_t ins)
{
    return (odmoe_matrix){.role = role,
                          .type = ODMOE_TYPE_F32,
                          .in_out = w->v->in_out,
                          .interleaved = role == ODMOE_GATE_UP,
                          .rows = w->v->in_out ? ins : outs,
                          .cols = w->v->in_out ? outs : ins,
                          .data = data};
}

static odmoe_status next(void *ctx, void *batch, odmoe_expert *out, odmoe_error *err)
{
    world *w = ctx;
    *out = (odmoe_expert){.expert = w->at < w->n ? w->asked[w->at++] : -1};
    int64_t at = (int64_t)out->expert * H * F;
    if (out->expert < 0)
        return ODMOE_OK;
    if (w->v->gate_up) {
        out->matrix[out->n++] = matrix_of(w, ODMOE_GATE_UP, w->gate_up + 2 * at, 2 * F, H);
    } else {
        if (w->v->glu.kind != ODMOE_RELU2)
            out->matrix[out->n++] = matrix_of(w, ODMOE_GATE, w->gate + at, F, H);
        out->matrix[out->n++] = matrix_of(w, ODMOE_UP, w->up + at, F, H);
    }
    out->matrix[out->n++] = matrix_of(w, ODMOE_DOWN, w->down + at, H, F);
    w->lent++;
    w->most_lent = w->lent > w->most_lent ? w->lent : w->most_lent;
    return ODMOE_OK;
}

static void release(void *ctx, void *batch, const odmoe_expert *expert)
{
    world *w = ctx;
    w->lent--;
}

static void end(void *ctx, void *batch)
{
}

/* ---- the plain model ---- */

static double weight_at(const world *w, const float *m, int expert, int64_t outs, int64_t ins, int64_t out, int64_t in)
{
    m += (int64_t)expert * H * F;
    return w->v->in_out ? m[in * outs + out] : m[out * ins + in];
}

static double product(const world *w, const float *m, int expert, int64_t outs, int64_t ins, int64_t out,
                      const double *x, const float *bias)
{
    double sum = w->v->biases ? bias[expert * outs + out] : 0;
    for (int64_t in = 0; in < ins; in++)
        sum += weight_at(w, m, expert, outs, ins, out, in) * x[in];
    return sum;
}

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static double activation(const odmoe_glu *a, double g, double u)
{
    switch (a->kind) {
    case ODMOE_SWIGLU_CLAMPED:
        g = fmin(g, a->limit);
        u = fmax(-a->limit, fmin(u, a->limit));
        return g * sigmoid(a->alpha * g) * (u + a->offset);
    case ODMOE_GEGLU_TANH:
        return 0.5 * g * (1 + tanh(sqrt(2 / acos(-1)) * (g + 0.044715 * g * g * g))) * u;
    case ODMOE_RELU2:
        return u > 0 ? u * u : 0;
    default:
        return g * sigmoid(g) * u;
    }
}

static void add_expert(const world *w, int expert, double weight, const float *x, double *y)
{
    double in[H], h[F];
    for (int i = 0; i < H; i++)
        in[i] = x[i] * (w->v->weight_on_input ? weight : 1);
    for (int f = 0; f < F; f++) {
        double g = w->v->glu.kind == ODMOE_RELU2 ? 0 : product(w, w->gate, expert, F, H, f, in, w->gate_bias);
        h[f] = activation(&w->v->glu, g, product(w, w->up, expert, F, H, f, in, w->up_bias));
    }
    for (int i = 0; i < H; i++)
        y[i] += product(w, w->down, expert, H, F, i, h, w->down_bias) * (w->v->weight_on_input ? 1 : weight);
}

static void plain_token(const world *w, const float *x, double *y)
{
    double logits[E], total = 0, chosen_total = 0, weight[E];
    bool chosen[E] = {false};
    for (int e = 0; e < E; e++) {
        logits[e] = w->v->linear_bias ? w->linear_bias[e] : 0;
        for (int i = 0; i < H; i++)
            logits[e] += (double)w->router[e * H + i] * x[i];
        total += exp(logits[e]);
    }
    for (int k = 0; k < K; k++) {
        int best = -1;
        for (int e = 0; e < E; e++)
            if (!chosen[e] && (best < 0 || logits[e] > logits[best]))
                best = e;
        chosen[best] = true;
        chosen_total += exp(logits[best]);
    }
    for (int e = 0; e < E; e++) {
        weight[e] = w->v->score == ODMOE_SCORE_SIGMOID          ? sigmoid(logits[e])
                    : w->v->score == ODMOE_SCORE_SOFTMAX_CHOSEN ? exp(logits[e]) / chosen_total
                                                                : exp(logits[e]) / total;
        if (w->v->expert_scale)
            weight[e] *= w->expert_scale[e];
    }
    for (int i = 0; i < H; i++)
        y[i] = 0;
    for (int e = 0; e < E; e++)
        if (chosen[e])
            add_expert(w, e, weight[e], x, y);
}

/* ---- one variant ---- */

static void make_world(world *w, const variant *v)
{
    *w = (world){.v = v, .max_lent = -1};
    w->router = fixture_numbers(E * H, 0.2f, 1);
    w->gate = fixture_numbers(E * H * F, 0.3f, 2);
    w->up = fixture_numbers(E * H * F, 0.3f, 3);
    w->down = fixture_numbers(E * H * F, 0.2f, 4);
    w->linear_bias = fixture_numbers(E, 1, 5);
    w->expert_scale = fixture_numbers(E, 1, 6);
    w->gate_bias = fixture_numbers(E * F, 1, 7);
    w->up_bias = fixture_numbers(E * F, 1, 8);
    w->down_bias = fixture_numbers(E * H, 1, 9);
    w->x = fixture_numbers(N * H, 1, 10);
    w->gate_up = malloc(2 * E * H * F * sizeof(float));
    assert_non_null(w->gate_up);
    for (int64_t row = 0; row < E * F && !v->in_out; row++) {
        memcpy(w->gate_up + 2 * row * H, w->gate + row * H, H * sizeof(float));
        memcpy(w->gate_up + (2 * row + 1) * H, w->up + row * H, H * sizeof(float));
    }
    for (int64_t i = 0; i < E * H * F && v->in_out; i++) { /* rows of F outputs each: side by side, in turn */
        w->gate_up[2 * i] = w->gate[i];
        w->gate_up[2 * i + 1] = w->up[i];
    }
}

static void drop_world(world *w)
{
    float *all[] = {w->router,       w->gate,      w->up,      w->down,      w->gate_up, w->linear_bias,
                    w->expert_scale, w->gate_bias, w->up_bias, w->down_bias, w->x};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

static odmoe_layer *open_layer(world *w, int32_t threads)
{
    const variant *v = w->v;
    odmoe_source_ops ops = {.size = sizeof ops, .ctx = w, .begin = begin, .next = next, .release = release, .end = end};
    if (w->max_lent >= 0) {
        ops.poll = next;
        ops.max_lent = w->max_lent;
    }
    const float *router = w->router, *linear_bias = w->linear_bias, *scale = w->expert_scale;
    const float *gate_bias = w->gate_bias, *up_bias = w->up_bias, *down_bias = w->down_bias;
    odmoe_layer_options o;
    odmoe_layer_options_init(&o);
    o.hidden = H;
    o.ffn = F;
    o.experts = E;
    o.top_k = K;
    o.router.score = v->score;
    o.router.renormalise = 0;
    o.router.weight_on_input = v->weight_on_input;
    o.activation = v->glu;
    o.weights = &router;
    o.linear_bias = v->linear_bias ? &linear_bias : NULL;
    o.expert_scale = v->expert_scale ? &scale : NULL;
    o.gate_bias = v->biases ? &gate_bias : NULL;
    o.up_bias = v->biases ? &up_bias : NULL;
    o.down_bias = v->biases ? &down_bias : NULL;
    o.source = &ops;
    o.threads = threads;
    odmoe_layer *layer;
    if (odmoe_layer_create(&o, &layer, &w->err))
        fail_msg("%s: %s", v->name, w->err.message);
    return layer;
}

static void check(const variant *v)
{
    static float y[N * H], alone[H];
    world w;
    make_world(&w, v);
    odmoe_layer *layer = open_layer(&w, 3);
    if (odmoe_layer_forward(layer, 0, w.x, N, y, NULL, &w.err))
        fail_msg("%s: %s", v->name, w.err.message);
    for (int64_t t = 0; t < N; t++) {
        double expected[H];
        plain_token(&w, w.x + t * H, expected);
        for (int i = 0; i < H; i++)
            if (!(fabs(y[t * H + i] - expected[i]) <= 3e-5 * (1 + fabs(expected[i]))))
                fail_msg("%s: token %d, number %d is %g, expected %g", v->name, (int)t, i, (double)y[t * H + i],
                         expected[i]);
    }
    odmoe_layer_free(layer);
    layer = open_layer(&w, 1);
    for (int64_t t = 0; t < N; t += 23) {
        if (odmoe_layer_forward(layer, 0, w.x + t * H, 1, alone, NULL, &w.err))
            fail_msg("%s: %s", v->name, w.err.message);
        if (memcmp(alone, y + t * H, sizeof alone))
            fail_msg("%s: token %d alone gives other bytes", v->name, (int)t);
    }
    odmoe_layer_free(layer);
    drop_world(&w);
}

#define GPT_OSS                               \
    {                                         \
        ODMOE_SWIGLU_CLAMPED, 1.702f, 1.5f, 1 \
    }

static void clamped_experts_with_biases_in_one_interleaved_matrix(void **state)
{
    check(&(variant){.name = "gpt-oss",
                     .glu = GPT_OSS,
                     .gate_up = true,
                     .biases = true,
                     .linear_bias = true,
                     .score = ODMOE_SCORE_SOFTMAX_CHOSEN});
}

static void biases_of_experts_stored_the_other_way_round(void **state)
{
    check(&(variant){.name = "in_out", .glu = GPT_OSS, .in_out = true, .biases = true});
}

static void an_interleaved_matrix_stored_the_other_way_round(void **state)
{
    check(&(variant){.name = "gpt-oss, bf16", .glu = GPT_OSS, .gate_up = true, .in_out = true, .biases = true});
}

static void gelu_experts_whose_weights_have_scales(void **state)
{
    check(&(variant){.name = "gemma", .glu = {.kind = ODMOE_GEGLU_TANH}, .expert_scale = true});
}

static void experts_without_a_gate(void **state)
{
    check(&(variant){.name = "nemotron", .glu = {.kind = ODMOE_RELU2}, .score = ODMOE_SCORE_SIGMOID});
    check(&(variant){.name = "nemotron, biases", .glu = {.kind = ODMOE_RELU2}, .biases = true});
}

static void weights_on_the_experts_inputs(void **state)
{
    check(&(variant){.name = "llama4", .weight_on_input = true, .score = ODMOE_SCORE_SIGMOID});
}

static void a_plain_layer_passes_the_same_test(void **state)
{
    check(&(variant){.name = "plain"});
}

/* ---- what is refused ---- */

static void assert_no_gradients(const variant *v, const char *word)
{
    static float y[N * H];
    world w;
    make_world(&w, v);
    odmoe_layer *layer = open_layer(&w, 1);
    odmoe_tape *tape;
    assert_int_equal(odmoe_tape_create(1, &tape, &w.err), ODMOE_OK);
    assert_int_equal(odmoe_layer_forward_train(layer, 0, w.x, N, y, NULL, tape, &w.err), ODMOE_ERR_UNSUPPORTED);
    assert_non_null(strstr(w.err.message, word));
    odmoe_tape_free(tape);
    odmoe_layer_free(layer);
    drop_world(&w);
}

static void gradients_of_other_activations_and_of_the_sparse_mixer_are_refused_by_name(void **state)
{
    assert_no_gradients(&(variant){.name = "gemma", .glu = {.kind = ODMOE_GEGLU_TANH}}, "ODMOE_SWIGLU");
    assert_no_gradients(&(variant){.name = "phi", .score = ODMOE_SCORE_SPARSE_MIXER}, "ODMOE_SCORE_SPARSE_MIXER");
}

static void an_expert_without_a_gate_is_refused_where_one_is_needed(void **state)
{
    static float y[N * H];
    world w;
    variant v = {.name = "plain"}, lent = {.name = "nemotron", .glu = {.kind = ODMOE_RELU2}};
    make_world(&w, &v);
    odmoe_layer *layer = open_layer(&w, 1);
    w.v = &lent;
    assert_int_equal(odmoe_layer_forward(layer, 0, w.x, 1, y, NULL, &w.err), ODMOE_ERR_FORMAT);
    assert_non_null(strstr(w.err.message, "gate"));
    odmoe_layer_free(layer);
    drop_world(&w);
}

static void an_input_that_is_no_number_is_an_error_that_names_layer_and_token(void **state)
{
    static float y[N * H];
    world w;
    variant v = {.name = "plain"};
    const float wrong[] = {NAN, INFINITY, -INFINITY};
    make_world(&w, &v);
    odmoe_layer *layer = open_layer(&w, 2);
    for (int i = 0; i < 3; i++) {
        float *x = &w.x[(40 + i) * H + 5], right = *x;
        *x = wrong[i];
        w.x[60 * H] = NAN; /* a later one is not the first */
        assert_int_equal(odmoe_layer_forward(layer, 0, w.x, N, y, NULL, &w.err), ODMOE_ERR_RANGE);
        char token[32];
        snprintf(token, sizeof token, "layer 0, token %d:", 40 + i);
        if (!strstr(w.err.message, token))
            fail_msg("'%s' should hold '%s'", w.err.message, token);
        *x = right;
        w.x[60 * H] = 0;
    }
    assert_int_equal(odmoe_layer_forward(layer, 0, w.x, N, y, NULL, &w.err), ODMOE_OK);
    odmoe_layer_free(layer);
    drop_world(&w);
}

static void a_source_never_has_more_experts_lent_than_it_allows(void **state)
{
    static const int32_t limits[] = {-1, 1, 3, 0}, most[] = {1, 1, 3, E};
    static float right[9 * H], y[9 * H];
    variant v = {.name = "plain"};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        world w;
        make_world(&w, &v);
        w.max_lent = limits[i];
        odmoe_layer *layer = open_layer(&w, 2);
        assert_int_equal(odmoe_layer_forward(layer, 0, w.x, 9, i ? y : right, NULL, &w.err), ODMOE_OK);
        assert_int_equal(w.most_lent, most[i]);
        assert_int_equal(w.lent, 0);
        assert_true(!i || !memcmp(y, right, sizeof y));
        odmoe_layer_free(layer);
        drop_world(&w);
    }
}

static void a_router_of_another_size_is_refused(void **state)
{
    odmoe_layer_options o;
    odmoe_layer *layer;
    odmoe_error err;
    odmoe_layer_options_init(&o);
    o.hidden = o.ffn = o.experts = o.top_k = 1;
    o.router = (odmoe_router){.scale = 1};
    assert_int_equal(odmoe_layer_create(&o, &layer, &err), ODMOE_ERR_ARG);
    assert_non_null(strstr(err.message, "router.size"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clamped_experts_with_biases_in_one_interleaved_matrix),
        cmocka_unit_test(biases_of_experts_stored_the_other_way_round),
        cmocka_unit_test(an_interleaved_matrix_stored_the_other_way_round),
        cmocka_unit_test(gelu_experts_whose_weights_have_scales),
        cmocka_unit_test(experts_without_a_gate),
        cmocka_unit_test(weights_on_the_experts_inputs),
        cmocka_unit_test(a_plain_layer_passes_the_same_test),
        cmocka_unit_test(gradients_of_other_activations_and_of_the_sparse_mixer_are_refused_by_name),
        cmocka_unit_test(an_expert_without_a_gate_is_refused_where_one_is_needed),
        cmocka_unit_test(an_input_that_is_no_number_is_an_error_that_names_layer_and_token),
        cmocka_unit_test(a_source_never_has_more_experts_lent_than_it_allows),
        cmocka_unit_test(a_router_of_another_size_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
