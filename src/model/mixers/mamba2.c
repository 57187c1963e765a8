/* mamba2.c - Mamba-2, token after token: the recurrence of linear attention with C for queries, B for keys, u for values and
 * the time step as their weight. */
#include "model/mixers/mamba2.h"

#define IN_GGUF "blk.%d.ssm_in.weight"

/* `hf`: what a layer's tensors are called before their own names. */
#define MAMBA2_WEIGHTS(hf)                                                                                             \
    {                                                                                                                  \
        {MAMBA2_Z, IN_ALL_LAYERS, NULL, NULL, DIM_MAMBA2_INNER, DIM_HIDDEN, false, IN_GGUF, hf "in_proj.weight"},      \
            {MAMBA2_UBC, IN_ALL_LAYERS, NULL, NULL, DIM_MAMBA2_CONV, DIM_HIDDEN, false, IN_GGUF, hf "in_proj.weight"}, \
            {MAMBA2_DT, IN_ALL_LAYERS, NULL, NULL, DIM_MAMBA2_HEADS, DIM_HIDDEN, false, IN_GGUF, hf "in_proj.weight"}, \
            {MAMBA2_DT_BIAS, IN_ALL_LAYERS, "blk.%d.ssm_dt.bias", hf "dt_bias", DIM_VECTOR, DIM_MAMBA2_HEADS, false},  \
            {MAMBA2_TAPS,      IN_ALL_LAYERS, "blk.%d.ssm_conv1d.weight", hf "conv1d.weight",  DIM_MAMBA2_CONV,        \
             DIM_MAMBA2_WIDTH, false,         .gguf_form = FORM_TAPS,     .hf_form = FORM_TAPS},                       \
            {MAMBA2_CONV_BIAS, IN_ALL_LAYERS, "blk.%d.ssm_conv1d.bias",  hf "conv1d.bias", DIM_VECTOR,                 \
             DIM_MAMBA2_CONV,  true,          .only_if = FIELD_conv_bias},                                             \
            {MAMBA2_A,   IN_ALL_LAYERS,    "blk.%d.ssm_a", hf "A_log",                                                 \
             DIM_VECTOR, DIM_MAMBA2_HEADS, false,          .hf_form = FORM_MINUS_EXP},                                 \
            {MAMBA2_D, IN_ALL_LAYERS, "blk.%d.ssm_d", hf "D", DIM_VECTOR, DIM_MAMBA2_HEADS, false},                    \
            {MAMBA2_NORM,      IN_ALL_LAYERS, "blk.%d.ssm_norm.weight", hf "norm.weight", DIM_VECTOR,                  \
             DIM_MAMBA2_INNER, false,         .gguf_form = FORM_ROWS},                                                 \
            {MAMBA2_OUT,       IN_ALL_LAYERS, "blk.%d.ssm_out.weight", hf "out_proj.weight", DIM_HIDDEN,               \
             DIM_MAMBA2_INNER, false},                                                                                 \
            WEIGHTS_END,                                                                                               \
    }

const weight_rule mamba2_weights[] = MAMBA2_WEIGHTS("model.layers.%d.mamba.");
const weight_rule mamba2_weights_mixer[] = MAMBA2_WEIGHTS("backbone.layers.%d.mixer.");

typedef struct mamba2_work {
    buffer z, out;      /* [max_tokens, inner] */
    buffer ubc, mixed;  /* [max_tokens, u, B, C] before and behind the convolution */
    buffer step, decay; /* [max_tokens, heads] */
} mamba2_work;

static int64_t conv_channels(const model_config *c)
{
    return c->mamba_inner + 2 * (int64_t)c->mamba_groups * c->mamba_state;
}

static int64_t dim(const model_config *c, int layer, int which)
{
    switch ((mamba2_dim)which) {
    case DIM_MAMBA2_INNER:
        return c->mamba_inner;
    case DIM_MAMBA2_CONV:
        return conv_channels(c);
    case DIM_MAMBA2_HEADS:
        return c->mamba_heads;
    case DIM_MAMBA2_WIDTH:
        return c->conv_width;
    }
    return 0;
}

static odmoe_status check(const model_config *c, int layer, odmoe_error *err)
{
    const struct {
        config_field field;
        int value, least;
    } needed[] = {{FIELD_mamba_heads, c->mamba_heads, 1},
                  {FIELD_mamba_inner, c->mamba_inner, 1},
                  {FIELD_mamba_state, c->mamba_state, 1},
                  {FIELD_mamba_groups, c->mamba_groups, 1},
                  {FIELD_conv_width, c->conv_width, 2}};
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
        if (needed[i].value < needed[i].least)
            return err_set(err, ODMOE_ERR_FORMAT, "%s is %d, expected at least %d", fields_what(needed[i].field),
                           needed[i].value, needed[i].least);
    if (c->mamba_inner % c->mamba_heads)
        return err_set(err, ODMOE_ERR_FORMAT, "%d Mamba heads cannot share an inner size of %d evenly", c->mamba_heads,
                       c->mamba_inner);
    if (c->mamba_heads % c->mamba_groups)
        return err_set(err, ODMOE_ERR_FORMAT, "%d Mamba heads cannot form %d groups evenly", c->mamba_heads,
                       c->mamba_groups);
    if (conv_channels(c) > MODEL_DIM_MAX)
        return err_set(err, ODMOE_ERR_FORMAT,
                       "Mamba's convolution has %lld channels (inner size %d, %d groups of state size %d), at most %d "
                       "are possible",
                       (long long)conv_channels(c), c->mamba_inner, c->mamba_groups, c->mamba_state, MODEL_DIM_MAX);
    return ODMOE_OK;
}

/* Where the heads' states lie behind the convolution's. */
static uint64_t heads_offset(const model_config *c)
{
    return conv_state_bytes(c->conv_width, conv_channels(c));
}

static mixer_state state(const model_config *c, int layer, kv_type kv)
{
    uint64_t heads = recurrent_state_bytes(c->mamba_heads, c->mamba_state, c->mamba_inner / c->mamba_heads);
    return (mixer_state){.recurrent_bytes = heads_offset(c) + heads};
}

static dtype_set in_types(const resident *w)
{
    static const int roles[] = {MAMBA2_Z, MAMBA2_UBC, MAMBA2_DT};
    return weight_types(w, roles, 3);
}

static void *layout(const compute *c, arena *a, const model_config *config, const layer_weights *layers,
                    int64_t max_tokens)
{
    static const int out_roles[] = {MAMBA2_OUT};
    int64_t inner = config->mamba_inner, channels = conv_channels(config), heads = config->mamba_heads;
    dtype_set types = 0;
    for (int i = 0; i < config->layers; i++)
        if (config->layer[i].mixer == &mixer_mamba2)
            types |= weight_types(layers[i].mixer, out_roles, 1);
    mamba2_work w = {0}, *at = arena_take(a, 1, sizeof *at);
    c->op->buffer_layout(c, a, &w.z, max_tokens, inner, 0, true);
    c->op->buffer_layout(c, a, &w.out, max_tokens, inner, types, true);
    c->op->buffer_layout(c, a, &w.ubc, max_tokens, channels, 0, true);
    c->op->buffer_layout(c, a, &w.mixed, max_tokens, channels, 0, true);
    c->op->buffer_layout(c, a, &w.step, max_tokens, heads, 0, true);
    c->op->buffer_layout(c, a, &w.decay, max_tokens, heads, 0, true);
    if (at)
        *at = w;
    return at;
}

/* ---- arithmetic ---- */

/* z; u, B and C before the convolution; time steps and decays. */
static void project(const mixer_call *call, mamba2_work *w)
{
    const resident *weights = call->weights;
    const compute *c = call->c;
    linear_call in[] = {{&weights[MAMBA2_Z].w, call->in, &w->z},
                        {&weights[MAMBA2_UBC].w, call->in, &w->ubc},
                        {&weights[MAMBA2_DT].w, call->in, &w->step, .bias = weights[MAMBA2_DT_BIAS].w.data}};
    c->op->linear(c, in, 3);
    token_op ops[] = {{.kind = TOKEN_SOFTPLUS, .y = &w->step},
                      {.kind = TOKEN_DECAY,
                       .y = &w->decay,
                       .x = &w->step,
                       .at = {.dim = 1, .count = call->config->mamba_heads, .stride = 1},
                       .weight = weights[MAMBA2_A].w.data}};
    c->op->tokens(c, ops, 2, call->n);
}

/* The convolution, and the states' step. */
static void recur(const mixer_call *call, mamba2_work *w)
{
    const model_config *config = call->config;
    int64_t inner = config->mamba_inner, keys = (int64_t)config->mamba_groups * config->mamba_state;
    conv_call conv = {.x = &w->ubc,
                      .y = &w->mixed,
                      .channels = conv_channels(config),
                      .width = config->conv_width,
                      .weight = call->weights[MAMBA2_TAPS].w.data,
                      .bias = call->weights[MAMBA2_CONV_BIAS].w.data,
                      .silu = true,
                      .sequences = call->sequences,
                      .n_sequences = call->n_sequences};
    call->c->op->conv(call->c, &conv);
    recurrent_call step = {.heads = config->mamba_heads,
                           .key_heads = config->mamba_groups,
                           .key_dim = config->mamba_state,
                           .value_dim = inner / config->mamba_heads,
                           .q = {&w->mixed, inner + keys},
                           .k = {&w->mixed, inner},
                           .v = {&w->mixed, 0},
                           .beta = {&w->step, 0},
                           .decay = {&w->decay, 0},
                           .out = &w->out,
                           .sequences = call->sequences,
                           .n_sequences = call->n_sequences,
                           .state = heads_offset(config)};
    call->c->op->recurrent(call->c, &step);
}

static void forward(const mixer_call *call)
{
    const model_config *config = call->config;
    mamba2_work *w = call->work;
    int64_t head = config->mamba_inner / config->mamba_heads, group = config->mamba_inner / config->mamba_groups;
    project(call, w);
    recur(call, w);
    token_op ops[] = {{.kind = TOKEN_ADD_EACH,
                       .y = &w->out,
                       .x = &w->mixed,
                       .at = {.dim = head, .count = config->mamba_heads, .stride = head},
                       .weight = call->weights[MAMBA2_D].w.data},
                      {.kind = TOKEN_GLU, .y = &w->out, .x = &w->z, .z = &w->out, .glu = {.kind = ODMOE_SWIGLU}},
                      {.kind = TOKEN_RMS_NORM,
                       .y = &w->out,
                       .x = &w->out,
                       .at = {.dim = group, .count = config->mamba_groups, .stride = group},
                       .weight = call->weights[MAMBA2_NORM].w.data,
                       .weight_each = true,
                       .eps = config->rms_eps}};
    call->c->op->tokens(call->c, ops, 3, call->n);
    linear_call out = {&call->weights[MAMBA2_OUT].w, &w->out, call->out};
    call->c->op->linear(call->c, &out, 1);
}

const mixer mixer_mamba2 = {
    .name = "mamba2",
    .dim = dim,
    .check = check,
    .state = state,
    .in_types = in_types,
    .layout = layout,
    .forward = forward,
};
