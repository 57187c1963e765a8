/* kda.c - Kimi delta attention, token after token (compute.h, recurrent_call). Queries, keys and values have as many heads as
 * one another, of one length. */
#include "model/mixers/kda.h"

#include <math.h>

#include "model/mixers/linear_attention.h"

enum { PARTS = 3 }; /* queries, keys, values */

typedef struct kda_work {
    buffer projected,
        convolved;            /* [max_tokens, PARTS * DIM_KDA_ALL]; `projected` is what the output projection takes */
    buffer decay_in, gate_in; /* [max_tokens, DIM_KDA_HEAD] */
    buffer decay, gate;       /* [max_tokens, DIM_KDA_ALL] */
    buffer beta;              /* [max_tokens, heads] */
} kda_work;

/* ---- weights ---- */

const weight_rule kda_weights[] = {
    {KDA_Q, IN_ALL_LAYERS, "blk.%d.attn_q.weight", "model.layers.%d.self_attn.q_proj.weight", DIM_KDA_ALL, DIM_HIDDEN},
    {KDA_K, IN_ALL_LAYERS, "blk.%d.attn_k.weight", "model.layers.%d.self_attn.k_proj.weight", DIM_KDA_ALL, DIM_HIDDEN},
    {KDA_V, IN_ALL_LAYERS, "blk.%d.attn_v.weight", "model.layers.%d.self_attn.v_proj.weight", DIM_KDA_ALL, DIM_HIDDEN},
    {KDA_CONV_Q, IN_ALL_LAYERS, "blk.%d.ssm_conv1d_q.weight", "model.layers.%d.self_attn.q_conv1d.weight", DIM_KDA_ALL,
     DIM_KDA_WIDTH, .gguf_form = FORM_TAPS, .hf_form = FORM_TAPS},
    {KDA_CONV_K, IN_ALL_LAYERS, "blk.%d.ssm_conv1d_k.weight", "model.layers.%d.self_attn.k_conv1d.weight", DIM_KDA_ALL,
     DIM_KDA_WIDTH, .gguf_form = FORM_TAPS, .hf_form = FORM_TAPS},
    {KDA_CONV_V, IN_ALL_LAYERS, "blk.%d.ssm_conv1d_v.weight", "model.layers.%d.self_attn.v_conv1d.weight", DIM_KDA_ALL,
     DIM_KDA_WIDTH, .gguf_form = FORM_TAPS, .hf_form = FORM_TAPS},
    {KDA_B, IN_ALL_LAYERS, "blk.%d.ssm_beta.weight", "model.layers.%d.self_attn.b_proj.weight", DIM_KDA_HEADS,
     DIM_HIDDEN},
    {KDA_DECAY_IN, IN_ALL_LAYERS, "blk.%d.ssm_f_a.weight", "model.layers.%d.self_attn.f_a_proj.weight", DIM_KDA_HEAD,
     DIM_HIDDEN},
    {KDA_DECAY_OUT, IN_ALL_LAYERS, "blk.%d.ssm_f_b.weight", "model.layers.%d.self_attn.f_b_proj.weight", DIM_KDA_ALL,
     DIM_KDA_HEAD},
    {KDA_STEP_BIAS, IN_ALL_LAYERS, "blk.%d.ssm_dt.bias", "model.layers.%d.self_attn.dt_bias", DIM_VECTOR, DIM_KDA_ALL},
    {KDA_RATE, IN_ALL_LAYERS, "blk.%d.ssm_a", "model.layers.%d.self_attn.A_log", DIM_VECTOR, DIM_KDA_HEADS,
     .hf_form = FORM_MINUS_EXP},
    {KDA_GATE_IN, IN_ALL_LAYERS, "blk.%d.ssm_g_a.weight", "model.layers.%d.self_attn.g_a_proj.weight", DIM_KDA_HEAD,
     DIM_HIDDEN},
    {KDA_GATE_OUT, IN_ALL_LAYERS, "blk.%d.ssm_g_b.weight", "model.layers.%d.self_attn.g_b_proj.weight", DIM_KDA_ALL,
     DIM_KDA_HEAD},
    {KDA_NORM, IN_ALL_LAYERS, "blk.%d.ssm_norm.weight", "model.layers.%d.self_attn.o_norm.weight", DIM_VECTOR,
     DIM_KDA_HEAD},
    {KDA_OUT, IN_ALL_LAYERS, "blk.%d.attn_output.weight", "model.layers.%d.self_attn.o_proj.weight", DIM_HIDDEN,
     DIM_KDA_ALL},
    WEIGHTS_END,
};

static int64_t all_dim(const model_config *c)
{
    return (int64_t)c->linear_heads * c->linear_value_dim;
}

static int64_t dim(const model_config *c, int layer, int which)
{
    switch ((kda_dim)which) {
    case DIM_KDA_ALL:
        return all_dim(c);
    case DIM_KDA_HEAD:
        return c->linear_value_dim;
    case DIM_KDA_HEADS:
        return c->linear_heads;
    case DIM_KDA_WIDTH:
        return c->conv_width;
    }
    return 0;
}

static dtype_set in_types(const resident *w)
{
    static const int roles[] = {KDA_Q, KDA_K, KDA_V, KDA_B, KDA_DECAY_IN, KDA_GATE_IN};
    return weight_types(w, roles, sizeof roles / sizeof *roles);
}

/* ---- checks ---- */

static odmoe_status check(const model_config *c, int layer, odmoe_error *err)
{
    odmoe_status status = linear_check(c, err);
    if (!status && (c->linear_key_heads != c->linear_heads || c->linear_key_dim != c->linear_value_dim))
        status = err_set(err, ODMOE_ERR_FORMAT, "Kimi delta attention with %d key heads of %d for %d heads of %d",
                         c->linear_key_heads, c->linear_key_dim, c->linear_heads, c->linear_value_dim);
    return status;
}

/* ---- state and workspace ---- */

/* Three convolutions' states, then the heads'. */
static mixer_state state(const model_config *c, int layer, kv_type kv)
{
    return (mixer_state){.recurrent_bytes =
                             PARTS * conv_state_bytes(c->conv_width, all_dim(c)) +
                             recurrent_state_bytes(c->linear_heads, c->linear_key_dim, c->linear_value_dim)};
}

static void *layout(const compute *c, arena *a, const model_config *config, const layer_weights *layers,
                    int64_t max_tokens)
{
    static const int decay[] = {KDA_DECAY_OUT}, gate[] = {KDA_GATE_OUT}, out[] = {KDA_OUT};
    int64_t all = all_dim(config), head = config->linear_value_dim;
    dtype_set decay_types = 0, gate_types = 0, out_types = 0;
    for (int i = 0; i < config->layers; i++) {
        if (config->layer[i].mixer != &mixer_kda)
            continue;
        decay_types |= weight_types(layers[i].mixer, decay, 1);
        gate_types |= weight_types(layers[i].mixer, gate, 1);
        out_types |= weight_types(layers[i].mixer, out, 1);
    }
    kda_work w = {0}, *at = arena_take(a, 1, sizeof *at);
    c->op->buffer_layout(c, a, &w.projected, max_tokens, PARTS * all, out_types, true);
    c->op->buffer_layout(c, a, &w.convolved, max_tokens, PARTS * all, 0, true);
    c->op->buffer_layout(c, a, &w.decay_in, max_tokens, head, decay_types, true);
    c->op->buffer_layout(c, a, &w.gate_in, max_tokens, head, gate_types, true);
    c->op->buffer_layout(c, a, &w.decay, max_tokens, all, 0, true);
    c->op->buffer_layout(c, a, &w.gate, max_tokens, all, 0, true);
    c->op->buffer_layout(c, a, &w.beta, max_tokens, config->linear_heads, 0, true);
    if (at)
        *at = w;
    return at;
}

/* ---- arithmetic ---- */

static void project(const mixer_call *call, kda_work *w)
{
    const resident *weights = call->weights;
    int64_t all = all_dim(call->config);
    w->projected.cols = PARTS * all;
    linear_call wide[] = {{&weights[KDA_Q].w, call->in, &w->projected},
                          {&weights[KDA_K].w, call->in, &w->projected, .column = all},
                          {&weights[KDA_V].w, call->in, &w->projected, .column = 2 * all},
                          {&weights[KDA_B].w, call->in, &w->beta}};
    linear_call in[] = {{&weights[KDA_DECAY_IN].w, call->in, &w->decay_in},
                        {&weights[KDA_GATE_IN].w, call->in, &w->gate_in}};
    linear_call out[] = {{&weights[KDA_DECAY_OUT].w, &w->decay_in, &w->decay},
                         {&weights[KDA_GATE_OUT].w, &w->gate_in, &w->gate}};
    call->c->op->linear(call->c, wide, 4);
    call->c->op->linear(call->c, in, 2);
    call->c->op->linear(call->c, out, 2);
}

/* projected -> convolved, queries and keys of length 1; and the decays. */
static void convolve(const mixer_call *call, kda_work *w)
{
    const model_config *c = call->config;
    int64_t all = all_dim(c), head = c->linear_value_dim, heads = c->linear_heads;
    for (int i = 0; i < PARTS; i++) {
        conv_call conv = {.x = &w->projected,
                          .y = &w->convolved,
                          .x_column = i * all,
                          .y_column = i * all,
                          .channels = all,
                          .width = c->conv_width,
                          .weight = call->weights[KDA_CONV_Q + i].w.data,
                          .silu = true,
                          .sequences = call->sequences,
                          .n_sequences = call->n_sequences,
                          .state = (uint64_t)i * conv_state_bytes(c->conv_width, all)};
        call->c->op->conv(call->c, &conv);
    }
    token_op ops[] = {linear_norm_op(&w->convolved, 0, head, heads, 1.0f / sqrtf((float)head)),
                      linear_norm_op(&w->convolved, all, head, heads, 1),
                      {.kind = TOKEN_SIGMOID, .y = &w->beta},
                      {.kind = TOKEN_BIAS, .y = &w->decay, .weight = call->weights[KDA_STEP_BIAS].w.data},
                      {.kind = TOKEN_SOFTPLUS, .y = &w->decay},
                      {.kind = TOKEN_DECAY,
                       .y = &w->decay,
                       .x = &w->decay,
                       .at = {0, head, heads, head},
                       .weight = call->weights[KDA_RATE].w.data}};
    call->c->op->tokens(call->c, ops, sizeof ops / sizeof *ops, call->n);
}

static void forward(const mixer_call *call)
{
    const model_config *c = call->config;
    kda_work *w = call->work;
    int64_t all = all_dim(c), head = c->linear_value_dim, heads = c->linear_heads;
    project(call, w);
    convolve(call, w);
    w->projected.cols = all;
    recurrent_call rule = {.heads = c->linear_heads,
                           .key_heads = c->linear_heads,
                           .key_dim = head,
                           .value_dim = head,
                           .q = {&w->convolved, 0},
                           .k = {&w->convolved, all},
                           .v = {&w->convolved, 2 * all},
                           .beta = {&w->beta, 0},
                           .decay = {&w->decay, 0},
                           .decay_rows = true,
                           .delta = true,
                           .out = &w->projected,
                           .sequences = call->sequences,
                           .n_sequences = call->n_sequences,
                           .state = PARTS * conv_state_bytes(c->conv_width, all)};
    call->c->op->recurrent(call->c, &rule);
    token_op gated_norm[] = {{.kind = TOKEN_RMS_NORM,
                              .y = &w->projected,
                              .x = &w->projected,
                              .at = {0, head, heads, head},
                              .weight = call->weights[KDA_NORM].w.data,
                              .eps = c->rms_eps},
                             {.kind = TOKEN_GATE, .y = &w->projected, .x = &w->gate}};
    call->c->op->tokens(call->c, gated_norm, 2, call->n);
    linear_call output = {&call->weights[KDA_OUT].w, &w->projected, call->out};
    call->c->op->linear(call->c, &output, 1);
}

const mixer mixer_kda = {
    .name = "kimi delta attention",
    .dim = dim,
    .check = check,
    .state = state,
    .in_types = in_types,
    .layout = layout,
    .forward = forward,
};
