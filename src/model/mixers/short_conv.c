/* short_conv.c - LFM2's gated short convolution. */
#include "model/mixers/short_conv.h"

#define IN_GGUF "blk.%d.shortconv.in_proj.weight"
#define IN_HF "model.layers.%d.conv.in_proj.weight"

const weight_rule short_conv_weights[] = {
    {SHORT_CONV_B, IN_ALL_LAYERS, NULL, NULL, DIM_HIDDEN, DIM_HIDDEN, false, IN_GGUF, IN_HF},
    {SHORT_CONV_C, IN_ALL_LAYERS, NULL, NULL, DIM_HIDDEN, DIM_HIDDEN, false, IN_GGUF, IN_HF},
    {SHORT_CONV_X, IN_ALL_LAYERS, NULL, NULL, DIM_HIDDEN, DIM_HIDDEN, false, IN_GGUF, IN_HF},
    {SHORT_CONV_TAPS, IN_ALL_LAYERS, "blk.%d.shortconv.conv.weight", "model.layers.%d.conv.conv.weight", DIM_HIDDEN,
     DIM_SHORT_CONV_WIDTH, false, .gguf_form = FORM_TAPS, .hf_form = FORM_TAPS},
    {SHORT_CONV_OUT, IN_ALL_LAYERS, "blk.%d.shortconv.out_proj.weight", "model.layers.%d.conv.out_proj.weight",
     DIM_HIDDEN, DIM_HIDDEN, false},
    WEIGHTS_END,
};

typedef struct short_conv_work {
    buffer b, c, x; /* [max_tokens, hidden]; x: of the convolution's result as well, and what the last product takes */
} short_conv_work;

static int64_t dim(const model_config *c, int layer, int which)
{
    return c->conv_width;
}

static odmoe_status check(const model_config *c, int layer, odmoe_error *err)
{
    if (c->conv_width < 2)
        return err_set(err, ODMOE_ERR_FORMAT, "%s is %d, expected 2 to %d", fields_what(FIELD_conv_width),
                       c->conv_width, CONV_MOST);
    return ODMOE_OK;
}

static mixer_state state(const model_config *c, int layer, kv_type kv)
{
    return (mixer_state){.recurrent_bytes = conv_state_bytes(c->conv_width, c->hidden)};
}

static dtype_set in_types(const resident *w)
{
    static const int roles[] = {SHORT_CONV_B, SHORT_CONV_C, SHORT_CONV_X};
    return weight_types(w, roles, 3);
}

static void *layout(const compute *c, arena *a, const model_config *config, const layer_weights *layers,
                    int64_t max_tokens)
{
    static const int out_roles[] = {SHORT_CONV_OUT};
    dtype_set types = 0;
    for (int i = 0; i < config->layers; i++)
        if (config->layer[i].mixer == &mixer_short_conv)
            types |= weight_types(layers[i].mixer, out_roles, 1);
    short_conv_work w = {0}, *at = arena_take(a, 1, sizeof *at);
    c->op->buffer_layout(c, a, &w.b, max_tokens, config->hidden, 0, true);
    c->op->buffer_layout(c, a, &w.c, max_tokens, config->hidden, 0, true);
    c->op->buffer_layout(c, a, &w.x, max_tokens, config->hidden, types, true);
    if (at)
        *at = w;
    return at;
}

static void forward(const mixer_call *call)
{
    const compute *c = call->c;
    const resident *weights = call->weights;
    short_conv_work *w = call->work;
    linear_call in[] = {{&weights[SHORT_CONV_B].w, call->in, &w->b},
                        {&weights[SHORT_CONV_C].w, call->in, &w->c},
                        {&weights[SHORT_CONV_X].w, call->in, &w->x}};
    c->op->linear(c, in, 3);
    token_op gate_in = {.kind = TOKEN_MULTIPLY, .y = &w->b, .x = &w->x};
    c->op->tokens(c, &gate_in, 1, call->n);
    conv_call conv = {.x = &w->b,
                      .y = &w->x,
                      .channels = call->config->hidden,
                      .width = call->config->conv_width,
                      .weight = weights[SHORT_CONV_TAPS].w.data,
                      .sequences = call->sequences,
                      .n_sequences = call->n_sequences};
    c->op->conv(c, &conv);
    token_op gate_out = {.kind = TOKEN_MULTIPLY, .y = &w->x, .x = &w->c};
    c->op->tokens(c, &gate_out, 1, call->n);
    linear_call out = {&weights[SHORT_CONV_OUT].w, &w->x, call->out};
    c->op->linear(c, &out, 1);
}

const mixer mixer_short_conv = {
    .name = "short_conv",
    .dim = dim,
    .check = check,
    .state = state,
    .in_types = in_types,
    .layout = layout,
    .forward = forward,
};
