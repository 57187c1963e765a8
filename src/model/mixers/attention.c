/* attention.c - grouped-query attention (Ainslie et al. 2023) with sliding windows, q/k norm, biases, partial or no
 * rotation, values that are the keys. Keys and values of a layer lie in pages (compute.h). */
#include "model/mixers/attention.h"

#include <math.h>

typedef struct attention_work {
    buffer q, k, v; /* [max_tokens, heads * dim] of the layer under way */
    buffer gate;    /* of `out`, where the layer has one */
    buffer both;    /* queries and gates, where they come in one tensor */
    buffer out;     /* what the output projection takes */
    compute_work attend;
} attention_work;

/* ---- weights ---- */

const weight_rule attention_weights[] = {
    {ATTENTION_Q, IN_ALL_LAYERS, "blk.%d.attn_q.weight", "model.layers.%d.self_attn.q_proj.weight", DIM_Q, DIM_HIDDEN,
     false, "blk.%d.attn_qkv.weight"},
    {ATTENTION_K, IN_ALL_LAYERS, "blk.%d.attn_k.weight", "model.layers.%d.self_attn.k_proj.weight", DIM_K, DIM_HIDDEN,
     false, "blk.%d.attn_qkv.weight"},
    {ATTENTION_V, IN_ALL_LAYERS, "blk.%d.attn_v.weight", "model.layers.%d.self_attn.v_proj.weight", DIM_V, DIM_HIDDEN,
     false, "blk.%d.attn_qkv.weight", .only_if = FIELD_own_values},
    {ATTENTION_O, IN_ALL_LAYERS, "blk.%d.attn_output.weight", "model.layers.%d.self_attn.o_proj.weight", DIM_HIDDEN,
     DIM_ATTENTION_OUT, false},
    WEIGHTS_END,
};

const weight_rule attention_qkv_biases[] = {
    {ATTENTION_Q_BIAS, IN_ALL_LAYERS, "blk.%d.attn_q.bias", "model.layers.%d.self_attn.q_proj.bias", DIM_VECTOR, DIM_Q,
     true, "blk.%d.attn_qkv.bias", .only_if = FIELD_attention_bias},
    {ATTENTION_K_BIAS, IN_ALL_LAYERS, "blk.%d.attn_k.bias", "model.layers.%d.self_attn.k_proj.bias", DIM_VECTOR, DIM_K,
     true, "blk.%d.attn_qkv.bias", .only_if = FIELD_attention_bias},
    {ATTENTION_V_BIAS, IN_ALL_LAYERS, "blk.%d.attn_v.bias", "model.layers.%d.self_attn.v_proj.bias", DIM_VECTOR, DIM_V,
     true, "blk.%d.attn_qkv.bias", .only_if = FIELD_attention_bias},
    WEIGHTS_END,
};

const weight_rule attention_out_bias[] = {
    {ATTENTION_O_BIAS, IN_ALL_LAYERS, "blk.%d.attn_output.bias", "model.layers.%d.self_attn.o_proj.bias", DIM_VECTOR,
     DIM_HIDDEN, true, .only_if = FIELD_attention_bias},
    WEIGHTS_END,
};

const weight_rule attention_qk_norm[] = {
    {ATTENTION_Q_NORM, IN_ALL_LAYERS, "blk.%d.attn_q_norm.weight", "model.layers.%d.self_attn.q_norm.weight",
     DIM_VECTOR, DIM_Q_NORM, false, .only_if = FIELD_qk_norm},
    {ATTENTION_K_NORM, IN_ALL_LAYERS, "blk.%d.attn_k_norm.weight", "model.layers.%d.self_attn.k_norm.weight",
     DIM_VECTOR, DIM_K_NORM, false, .only_if = FIELD_qk_norm},
    WEIGHTS_END,
};

const weight_rule attention_gate[] = {
    {ATTENTION_GATE, IN_ALL_LAYERS, "blk.%d.attn_gate.weight", "model.layers.%d.self_attn.gate_proj.weight",
     DIM_ATTENTION_OUT, DIM_HIDDEN, false},
    WEIGHTS_END,
};

const weight_rule attention_sinks[] = {
    {ATTENTION_SINKS, IN_ALL_LAYERS, "blk.%d.attn_sinks.weight", "model.layers.%d.self_attn.sinks", DIM_VECTOR,
     DIM_HEADS, false},
    WEIGHTS_END,
};

const weight_rule attention_gated_weights[] = {
    {ATTENTION_Q_AND_GATE, IN_ALL_LAYERS, "blk.%d.attn_q.weight", "model.layers.%d.self_attn.q_proj.weight",
     DIM_Q_AND_GATE, DIM_HIDDEN, false},
    {ATTENTION_K, IN_ALL_LAYERS, "blk.%d.attn_k.weight", "model.layers.%d.self_attn.k_proj.weight", DIM_K, DIM_HIDDEN,
     false},
    {ATTENTION_V, IN_ALL_LAYERS, "blk.%d.attn_v.weight", "model.layers.%d.self_attn.v_proj.weight", DIM_V, DIM_HIDDEN,
     false},
    {ATTENTION_O, IN_ALL_LAYERS, "blk.%d.attn_output.weight", "model.layers.%d.self_attn.o_proj.weight", DIM_HIDDEN,
     DIM_ATTENTION_OUT, false},
    WEIGHTS_END,
};

static int64_t q_dim(const layer_config *l)
{
    return (int64_t)l->heads * l->key_dim;
}

static int64_t k_dim(const layer_config *l)
{
    return (int64_t)l->kv_heads * l->key_dim;
}

static int64_t v_dim(const layer_config *l)
{
    return (int64_t)l->kv_heads * l->value_dim;
}

static int64_t out_dim(const layer_config *l)
{
    return (int64_t)l->heads * l->value_dim;
}

static int64_t dim(const model_config *c, int layer, int which)
{
    const layer_config *l = &c->layer[layer];
    switch ((attention_dim)which) {
    case DIM_Q:
        return q_dim(l);
    case DIM_K:
        return k_dim(l);
    case DIM_V:
        return v_dim(l);
    case DIM_ATTENTION_OUT:
        return out_dim(l);
    case DIM_Q_NORM:
        return c->norm_heads ? l->key_dim : q_dim(l);
    case DIM_K_NORM:
        return c->norm_heads ? l->key_dim : k_dim(l);
    case DIM_HEADS:
        return l->heads;
    case DIM_Q_AND_GATE:
        return q_dim(l) + out_dim(l);
    }
    return 0;
}

static dtype_set in_types(const resident *w)
{
    static const int roles[] = {ATTENTION_Q, ATTENTION_K, ATTENTION_V, ATTENTION_GATE, ATTENTION_Q_AND_GATE};
    return weight_types(w, roles, sizeof roles / sizeof *roles);
}

/* ---- checks ---- */

static odmoe_status check(const model_config *c, int layer, odmoe_error *err)
{
    const layer_config *l = &c->layer[layer];
    if (l->heads % l->kv_heads)
        return err_set(err, ODMOE_ERR_FORMAT, "%d heads cannot share %d key/value heads evenly", l->heads, l->kv_heads);
    if (!l->own_values && l->key_dim != l->value_dim)
        return err_set(err, ODMOE_ERR_FORMAT, "layer %d: keys of %d numbers cannot be values of %d", layer, l->key_dim,
                       l->value_dim);
    if (l->tempered && c->temper_every < 1)
        return err_set(err, ODMOE_ERR_FORMAT, "layer %d: queries cannot grow every %d positions", layer,
                       c->temper_every);
    if (l->rope == ROPE_OFF)
        return ODMOE_OK;
    int turning = c->ropes[l->rope].dim;
    if (turning < 2 || turning % 2 || turning > l->key_dim)
        return err_set(err, ODMOE_ERR_FORMAT,
                       "rope dimension %d of head dimension %d must be even, at least 2 and not larger", turning,
                       l->key_dim);
    return ODMOE_OK;
}

static odmoe_status check_kv(const model_config *c, int layer, kv_type kv, odmoe_error *err)
{
    const layer_config *l = &c->layer[layer];
    int odd = l->key_dim % 32 ? l->key_dim : l->value_dim;
    if (kv == KV_Q8_0 && odd % 32)
        return err_set(err, ODMOE_ERR_UNSUPPORTED,
                       "a q8_0 KV cache needs heads of a multiple of 32 elements; this model's "
                       "have %d: use f16",
                       odd);
    return ODMOE_OK;
}

/* ---- state and workspace ---- */

static kv_shape shape_of(const layer_config *l, kv_type kv)
{
    return (kv_shape){.type = kv, .kv_heads = l->kv_heads, .key_dim = l->key_dim, .value_dim = l->value_dim};
}

static mixer_state state(const model_config *c, int layer, kv_type kv)
{
    kv_shape shape = shape_of(&c->layer[layer], kv);
    int window = c->layer[layer].window, chunk = c->layer[layer].chunk;
    return (mixer_state){.page_bytes = kv_page_bytes(&shape),
                         .reach = window && chunk ? (window < chunk ? window : chunk) : window + chunk};
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static void *layout(const compute *c, arena *a, const model_config *config, const layer_weights *layers,
                    int64_t max_tokens)
{
    static const int out_roles[] = {ATTENTION_O};
    int64_t q = 0, k = 0, v = 0, out = 0, gate = 0, both = 0, group = 1, key_dim = 0, value_dim = 0;
    dtype_set types = 0;
    for (int i = 0; i < config->layers; i++) {
        const layer_config *l = &config->layer[i];
        if (l->mixer != &mixer_attention)
            continue;
        q = larger(q, q_dim(l));
        k = larger(k, k_dim(l));
        v = larger(v, v_dim(l));
        out = larger(out, out_dim(l));
        both = larger(both, layers[i].mixer[ATTENTION_Q_AND_GATE].info ? q_dim(l) + out_dim(l) : 0);
        gate = larger(gate, layers[i].mixer[ATTENTION_GATE].info ? out_dim(l) : 0);
        group = larger(group, l->heads / l->kv_heads);
        key_dim = larger(key_dim, l->key_dim);
        value_dim = larger(value_dim, l->value_dim);
        types |= weight_types(layers[i].mixer, out_roles, 1);
    }
    attention_work w = {0}, *at = arena_take(a, 1, sizeof *at);
    attention_shape most = {{.kv_heads = 1, .key_dim = (int)key_dim, .value_dim = (int)value_dim}, (int)group};
    c->op->buffer_layout(c, a, &w.q, max_tokens, q, 0, true);
    c->op->buffer_layout(c, a, &w.k, max_tokens, k, 0, true);
    c->op->buffer_layout(c, a, &w.v, max_tokens, v, 0, true);
    if (gate)
        c->op->buffer_layout(c, a, &w.gate, max_tokens, gate, 0, true);
    if (both)
        c->op->buffer_layout(c, a, &w.both, max_tokens, both, 0, true);
    c->op->buffer_layout(c, a, &w.out, max_tokens, out, types, true);
    c->op->attention_layout(c, a, &most, max_tokens, &w.attend);
    if (at)
        *at = w;
    return at;
}

/* ---- arithmetic ---- */

#define SHAPE_OPS 5 /* of shape_heads, and of shape_values, at most */

/* q or k, biased already: norm over all heads or clip, norm of each head, rotation, or these two the other way. Returns how many operations. */
static int shape_heads(const mixer_call *call, buffer *x, int64_t heads, int64_t dim, attention_role norm,
                       token_op *ops)
{
    const model_config *c = call->config;
    const float *weight = call->weights[norm].w.data;
    spans each = {.dim = dim, .count = heads, .stride = dim};
    bool norm_heads = (weight && c->norm_heads) || c->layer[call->layer].plain_qk_norm;
    int n = 0;
    if (weight && !c->norm_heads)
        ops[n++] = (token_op){.kind = TOKEN_RMS_NORM, .y = x, .x = x, .weight = weight, .eps = c->rms_eps};
    if (c->clip_qkv > 0)
        ops[n++] = (token_op){.kind = TOKEN_CLIP, .y = x, .factor = c->clip_qkv};
    token_op norm_each = {.kind = TOKEN_RMS_NORM, .y = x, .x = x, .at = each, .weight = weight, .eps = c->rms_eps};
    if (norm_heads && !c->norm_after_rope)
        ops[n++] = norm_each;
    if (call->rope.set)
        ops[n++] = (token_op){.kind = TOKEN_ROPE,
                              .y = x,
                              .x = call->rope.cosines,
                              .z = call->rope.sines,
                              .at = each,
                              .pairing = call->rope.set->pairing};
    if (norm_heads && c->norm_after_rope)
        ops[n++] = norm_each;
    return n;
}

static const float *bias(const mixer_call *call, attention_role role)
{
    return call->weights[role].w.data;
}

/* Where queries and gates come in one tensor: the queries side by side. */
static token_op take_queries(const layer_config *l, attention_work *w)
{
    return (token_op){.kind = TOKEN_COPY,
                      .y = &w->q,
                      .x = &w->both,
                      .at = {0, l->key_dim, l->heads, l->key_dim},
                      .from = {0, l->key_dim, l->heads, l->key_dim + l->value_dim}};
}

static void apply_gate(const mixer_call *call, attention_work *w)
{
    const layer_config *l = &call->config->layer[call->layer];
    token_op gate = {.kind = TOKEN_GATE, .y = &w->out, .x = &w->gate};
    if (call->weights[ATTENTION_Q_AND_GATE].info) {
        gate.x = &w->both;
        gate.at = (spans){0, l->value_dim, l->heads, l->value_dim};
        gate.from = (spans){l->key_dim, l->value_dim, l->heads, l->key_dim + l->value_dim};
    } else if (!call->weights[ATTENTION_GATE].info) {
        return;
    }
    call->c->op->tokens(call->c, &gate, 1, call->n);
}

static void project(const mixer_call *call, attention_work *w)
{
    const layer_config *l = &call->config->layer[call->layer];
    w->q.cols = q_dim(l);
    w->k.cols = k_dim(l);
    w->v.cols = v_dim(l);
    w->gate.cols = w->out.cols = out_dim(l);
    int n = 2;
    w->both.cols = q_dim(l) + out_dim(l);
    linear_call products[4] = {
        {&call->weights[ATTENTION_Q].w, call->in, &w->q, .bias = bias(call, ATTENTION_Q_BIAS)},
        {&call->weights[ATTENTION_K].w, call->in, &w->k, .bias = bias(call, ATTENTION_K_BIAS)},
    };
    if (call->weights[ATTENTION_Q_AND_GATE].info)
        products[0] = (linear_call){&call->weights[ATTENTION_Q_AND_GATE].w, call->in, &w->both};
    if (l->own_values)
        products[n++] =
            (linear_call){&call->weights[ATTENTION_V].w, call->in, &w->v, .bias = bias(call, ATTENTION_V_BIAS)};
    if (call->weights[ATTENTION_GATE].info)
        products[n++] = (linear_call){&call->weights[ATTENTION_GATE].w, call->in, &w->gate};
    call->c->op->linear(call->c, products, n);
}

/* Queries grow with their positions. */
static token_op temper_op(const mixer_call *call, buffer *q)
{
    const model_config *c = call->config;
    return (token_op){.kind = TOKEN_TEMPER,
                      .y = q,
                      .factor = c->temper,
                      .every = c->temper_every,
                      .shift = c->temper_shift,
                      .kv_tokens = call->tokens};
}

/* v: its own product or k's, as it is before k's norm and rotation; clip, norm of each head without weights. */
static int shape_values(const mixer_call *call, attention_work *w, token_op *ops)
{
    const model_config *c = call->config;
    const layer_config *l = &c->layer[call->layer];
    spans each = {.dim = l->value_dim, .count = l->kv_heads, .stride = l->value_dim};
    int n = 0;
    if (!l->own_values)
        ops[n++] = (token_op){.kind = TOKEN_COPY, .y = &w->v, .x = &w->k};
    if (c->clip_qkv > 0)
        ops[n++] = (token_op){.kind = TOKEN_CLIP, .y = &w->v, .factor = c->clip_qkv};
    if (c->v_norm)
        ops[n++] = (token_op){.kind = TOKEN_RMS_NORM, .y = &w->v, .x = &w->v, .at = each, .eps = c->rms_eps};
    return n;
}

/* Finish q, k and v of each token, and append k and v to its sequence. */
static void append(const mixer_call *call, attention_work *w)
{
    const layer_config *l = &call->config->layer[call->layer];
    token_op ops[3 * SHAPE_OPS + 3];
    int n = shape_values(call, w, ops); /* before k changes */
    if (call->weights[ATTENTION_Q_AND_GATE].info)
        ops[n++] = take_queries(l, w);
    n += shape_heads(call, &w->q, l->heads, l->key_dim, ATTENTION_Q_NORM, ops + n);
    if (l->tempered)
        ops[n++] = temper_op(call, &w->q);
    n += shape_heads(call, &w->k, l->kv_heads, l->key_dim, ATTENTION_K_NORM, ops + n);
    ops[n++] = (token_op){
        .kind = TOKEN_KV_STORE, .x = &w->k, .z = &w->v, .kv = shape_of(l, call->kv), .kv_tokens = call->tokens};
    call->c->op->tokens(call->c, ops, n, call->n);
}

static void forward(const mixer_call *call)
{
    const layer_config *l = &call->config->layer[call->layer];
    attention_work *w = call->work;
    float scale = call->config->attention_scale;
    project(call, w);
    append(call, w);
    attention_call attend = {.shape = {shape_of(l, call->kv), l->heads},
                             .q = &w->q,
                             .out = &w->out,
                             .tokens = call->tokens,
                             .window = l->window,
                             .chunk = l->chunk,
                             .scale = scale > 0 ? scale : 1.0f / sqrtf((float)l->key_dim),
                             .sinks = call->weights[ATTENTION_SINKS].w.data,
                             .work = &w->attend};
    call->c->op->attention(call->c, &attend, call->n);
    apply_gate(call, w);
    linear_call output = {&call->weights[ATTENTION_O].w, &w->out, call->out, .bias = bias(call, ATTENTION_O_BIAS)};
    call->c->op->linear(call->c, &output, 1);
}

const mixer mixer_attention = {
    .name = "attention",
    .dim = dim,
    .check = check,
    .check_kv = check_kv,
    .state = state,
    .in_types = in_types,
    .layout = layout,
    .forward = forward,
};
