/* delta_net.c - the gated delta net, chunk after chunk (compute.h, recurrent_call). */
#include "model/mixers/delta_net.h"

#include <math.h>

#include "model/mixers/linear_attention.h"

/* Rows of queries, keys and values pass between two buffers: projected -> (parted ->) convolved -> result. */
typedef struct delta_work {
    buffer one, other;  /* [max_tokens, DIM_DELTA_QKV or DIM_DELTA_QKVZ]; `other` is what the output projection takes */
    buffer z;           /* [max_tokens, DIM_DELTA_VALUES] */
    buffer ba;          /* [max_tokens, 2 * heads], where both come in one */
    buffer beta, decay; /* [max_tokens, heads] */
    compute_work rule;
} delta_work;

/* ---- weights ---- */

const weight_rule delta_net_weights[] = {
    {DELTA_QKV, IN_ALL_LAYERS, "blk.%d.attn_qkv.weight", "model.layers.%d.linear_attn.in_proj_qkv.weight",
     DIM_DELTA_QKV, DIM_HIDDEN, .not_if = FIELD_linear_qkvz},
    {DELTA_Z, IN_ALL_LAYERS, "blk.%d.attn_gate.weight", "model.layers.%d.linear_attn.in_proj_z.weight",
     DIM_DELTA_VALUES, DIM_HIDDEN, .not_if = FIELD_linear_qkvz},
    {DELTA_QKVZ, IN_ALL_LAYERS, "blk.%d.ssm_in.weight", "model.layers.%d.linear_attn.in_proj_qkvz.weight",
     DIM_DELTA_QKVZ, DIM_HIDDEN, .only_if = FIELD_linear_qkvz},
    {DELTA_B, IN_ALL_LAYERS, "blk.%d.ssm_beta.weight", "model.layers.%d.linear_attn.in_proj_b.weight", DIM_DELTA_HEADS,
     DIM_HIDDEN, .not_if = FIELD_linear_ba},
    {DELTA_A, IN_ALL_LAYERS, "blk.%d.ssm_alpha.weight", "model.layers.%d.linear_attn.in_proj_a.weight", DIM_DELTA_HEADS,
     DIM_HIDDEN, .not_if = FIELD_linear_ba},
    {DELTA_BA, IN_ALL_LAYERS, "blk.%d.ssm_ba.weight", "model.layers.%d.linear_attn.in_proj_ba.weight",
     DIM_DELTA_HEADS_2, DIM_HIDDEN, .only_if = FIELD_linear_ba},
    {DELTA_CONV, IN_ALL_LAYERS, "blk.%d.ssm_conv1d.weight", "model.layers.%d.linear_attn.conv1d.weight", DIM_DELTA_QKV,
     DIM_DELTA_WIDTH, .gguf_form = FORM_TAPS, .hf_form = FORM_TAPS},
    {DELTA_RATE, IN_ALL_LAYERS, "blk.%d.ssm_a", "model.layers.%d.linear_attn.A_log", DIM_VECTOR, DIM_DELTA_HEADS,
     .hf_form = FORM_MINUS_EXP},
    {DELTA_STEP_BIAS, IN_ALL_LAYERS, "blk.%d.ssm_dt.bias", "model.layers.%d.linear_attn.dt_bias", DIM_VECTOR,
     DIM_DELTA_HEADS},
    {DELTA_NORM, IN_ALL_LAYERS, "blk.%d.ssm_norm.weight", "model.layers.%d.linear_attn.norm.weight", DIM_VECTOR,
     DIM_DELTA_VALUE},
    {DELTA_OUT, IN_ALL_LAYERS, "blk.%d.ssm_out.weight", "model.layers.%d.linear_attn.out_proj.weight", DIM_HIDDEN,
     DIM_DELTA_VALUES},
    WEIGHTS_END,
};

static int64_t keys_dim(const model_config *c)
{
    return (int64_t)c->linear_key_heads * c->linear_key_dim;
}

static int64_t values_dim(const model_config *c)
{
    return (int64_t)c->linear_heads * c->linear_value_dim;
}

static int64_t qkv_dim(const model_config *c)
{
    return 2 * keys_dim(c) + values_dim(c);
}

static int64_t dim(const model_config *c, int layer, int which)
{
    switch ((delta_dim)which) {
    case DIM_DELTA_QKV:
        return qkv_dim(c);
    case DIM_DELTA_QKVZ:
        return qkv_dim(c) + values_dim(c);
    case DIM_DELTA_VALUES:
        return values_dim(c);
    case DIM_DELTA_VALUE:
        return c->linear_value_dim;
    case DIM_DELTA_HEADS:
        return c->linear_heads;
    case DIM_DELTA_HEADS_2:
        return 2 * (int64_t)c->linear_heads;
    case DIM_DELTA_WIDTH:
        return c->conv_width;
    }
    return 0;
}

static dtype_set in_types(const resident *w)
{
    static const int roles[] = {DELTA_QKV, DELTA_Z, DELTA_QKVZ, DELTA_B, DELTA_A, DELTA_BA};
    return weight_types(w, roles, sizeof roles / sizeof *roles);
}

/* ---- checks ---- */

static odmoe_status check(const model_config *c, int layer, odmoe_error *err)
{
    odmoe_status status = linear_check(c, err);
    if (!status && c->linear_heads % c->linear_key_heads)
        status = err_set(err, ODMOE_ERR_FORMAT, "%d heads of linear attention cannot share %d key heads evenly",
                         c->linear_heads, c->linear_key_heads);
    return status;
}

/* ---- state and workspace ---- */

static mixer_state state(const model_config *c, int layer, kv_type kv)
{
    return (mixer_state){
        .recurrent_bytes = conv_state_bytes(c->conv_width, qkv_dim(c)),
        .chunk_bytes = delta_state_bytes(c->linear_heads, c->linear_key_heads, c->linear_key_dim, c->linear_value_dim)};
}

static void *layout(const compute *c, arena *a, const model_config *config, const layer_weights *layers,
                    int64_t max_tokens)
{
    static const int out_roles[] = {DELTA_OUT};
    int64_t values = values_dim(config), heads = config->linear_heads;
    int64_t rows = qkv_dim(config) + (config->linear_qkvz ? values : 0);
    dtype_set types = 0;
    for (int i = 0; i < config->layers; i++)
        if (config->layer[i].mixer == &mixer_delta_net)
            types |= weight_types(layers[i].mixer, out_roles, 1);
    delta_work w = {0}, *at = arena_take(a, 1, sizeof *at);
    c->op->buffer_layout(c, a, &w.one, max_tokens, rows, 0, true);
    c->op->buffer_layout(c, a, &w.other, max_tokens, qkv_dim(config), types, true);
    c->op->buffer_layout(c, a, &w.z, max_tokens, values, 0, true);
    if (config->linear_ba)
        c->op->buffer_layout(c, a, &w.ba, max_tokens, 2 * heads, 0, true);
    c->op->buffer_layout(c, a, &w.beta, max_tokens, heads, 0, true);
    c->op->buffer_layout(c, a, &w.decay, max_tokens, heads, 0, true);
    c->op->delta_layout(c, a, config->linear_key_dim, &w.rule);
    if (at)
        *at = w;
    return at;
}

/* ---- arithmetic ---- */

/* A copy of `dim` numbers for each key head, which lie `step` apart, to side by side from column `column` on. */
static token_op part_op(const model_config *c, buffer *y, int64_t column, const buffer *x, int64_t first, int64_t dim,
                        int64_t step)
{
    return (token_op){.kind = TOKEN_COPY,
                      .y = y,
                      .x = x,
                      .at = {column, dim, c->linear_key_heads, dim},
                      .from = {first, dim, c->linear_key_heads, step}};
}

/* Queries, keys, values -> `other`, gates -> z, and the heads' two numbers, in either layout. */
static void project(const mixer_call *call, delta_work *w)
{
    const model_config *c = call->config;
    const resident *weights = call->weights;
    int64_t key = c->linear_key_dim, group = c->linear_heads / c->linear_key_heads, value = group * c->linear_value_dim;
    int64_t keys = keys_dim(c), step = 2 * (key + value);
    linear_call products[LINEAR_CALLS_MAX];
    token_op parts[6];
    int n = 0, n_parts = 0;
    w->other.cols = qkv_dim(c);
    if (c->linear_qkvz) {
        w->one.cols = qkv_dim(c) + values_dim(c);
        products[n++] = (linear_call){&weights[DELTA_QKVZ].w, call->in, &w->one};
        parts[n_parts++] = part_op(c, &w->other, 0, &w->one, 0, key, step);
        parts[n_parts++] = part_op(c, &w->other, keys, &w->one, key, key, step);
        parts[n_parts++] = part_op(c, &w->other, 2 * keys, &w->one, 2 * key, value, step);
        parts[n_parts++] = part_op(c, &w->z, 0, &w->one, 2 * key + value, value, step);
    } else {
        products[n++] = (linear_call){&weights[DELTA_QKV].w, call->in, &w->other};
        products[n++] = (linear_call){&weights[DELTA_Z].w, call->in, &w->z};
    }
    if (c->linear_ba) {
        products[n++] = (linear_call){&weights[DELTA_BA].w, call->in, &w->ba};
        parts[n_parts++] = part_op(c, &w->beta, 0, &w->ba, 0, group, 2 * group);
        parts[n_parts++] = part_op(c, &w->decay, 0, &w->ba, group, group, 2 * group);
    } else {
        products[n++] = (linear_call){&weights[DELTA_B].w, call->in, &w->beta};
        products[n++] = (linear_call){&weights[DELTA_A].w, call->in, &w->decay};
    }
    call->c->op->linear(call->c, products, n);
    if (n_parts)
        call->c->op->tokens(call->c, parts, n_parts, call->n);
}

/* `other` -> `one`, convolved, queries and keys of length 1. */
static void convolve(const mixer_call *call, delta_work *w)
{
    const model_config *c = call->config;
    int64_t key = c->linear_key_dim, heads = c->linear_key_heads;
    w->one.cols = qkv_dim(c);
    conv_call conv = {.x = &w->other,
                      .y = &w->one,
                      .channels = qkv_dim(c),
                      .width = c->conv_width,
                      .weight = call->weights[DELTA_CONV].w.data,
                      .silu = true,
                      .sequences = call->sequences,
                      .n_sequences = call->n_sequences};
    call->c->op->conv(call->c, &conv);
    token_op ops[] = {linear_norm_op(&w->one, 0, key, heads, 1.0f / sqrtf((float)key)),
                      linear_norm_op(&w->one, keys_dim(c), key, heads, 1),
                      {.kind = TOKEN_SIGMOID, .y = &w->beta},
                      {.kind = TOKEN_BIAS, .y = &w->decay, .weight = call->weights[DELTA_STEP_BIAS].w.data},
                      {.kind = TOKEN_SOFTPLUS, .y = &w->decay},
                      {.kind = TOKEN_DECAY,
                       .y = &w->decay,
                       .x = &w->decay,
                       .at = {0, 1, c->linear_heads, 1},
                       .weight = call->weights[DELTA_RATE].w.data}};
    call->c->op->tokens(call->c, ops, sizeof ops / sizeof *ops, call->n);
}

static void forward(const mixer_call *call)
{
    const model_config *c = call->config;
    delta_work *w = call->work;
    project(call, w);
    convolve(call, w);
    w->other.cols = values_dim(c);
    recurrent_call rule = {.heads = c->linear_heads,
                           .key_heads = c->linear_key_heads,
                           .tiled = c->linear_tiled,
                           .key_dim = c->linear_key_dim,
                           .value_dim = c->linear_value_dim,
                           .q = {&w->one, 0},
                           .k = {&w->one, keys_dim(c)},
                           .v = {&w->one, 2 * keys_dim(c)},
                           .beta = {&w->beta, 0},
                           .decay = {&w->decay, 0},
                           .delta = true,
                           .out = &w->other,
                           .sequences = call->sequences,
                           .n_sequences = call->n_sequences,
                           .work = &w->rule};
    call->c->op->delta(call->c, &rule);
    token_op gated_norm[] = {{.kind = TOKEN_RMS_NORM,
                              .y = &w->other,
                              .x = &w->other,
                              .at = {0, c->linear_value_dim, c->linear_heads, c->linear_value_dim},
                              .weight = call->weights[DELTA_NORM].w.data,
                              .eps = c->rms_eps},
                             {.kind = TOKEN_GLU, .y = &w->other, .x = &w->z, .z = &w->other, .glu = {ODMOE_SWIGLU}}};
    call->c->op->tokens(call->c, gated_norm, 2, call->n);
    linear_call output = {&call->weights[DELTA_OUT].w, &w->other, call->out};
    call->c->op->linear(call->c, &output, 1);
}

const mixer mixer_delta_net = {
    .name = "gated delta net",
    .dim = dim,
    .check = check,
    .state = state,
    .in_types = in_types,
    .layout = layout,
    .forward = forward,
};
