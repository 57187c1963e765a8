/* Llama 4 (Scout, Maverick): layers that rotate their heads, normalise queries and keys without weights and see the chunk
 * that they are in, and layers that do neither, see all, and let queries grow with positions; experts in every n-th layer,
 * whose input the router's weight multiplies, beside a shared expert; dense layers of another size. */
#include <stdio.h>
#include <string.h>

#include "model/arch/arch.h"
#include "model/mixers/attention.h"

#define CHUNK 8192 /* of attention; steps of queries' growth are as long */
#define NO_ROPE_EVERY 4

static void set_layer(model_config *c, int layer, bool turns, bool norm, bool tempered)
{
    c->layer[layer].rope = turns ? 0 : ROPE_OFF;
    c->layer[layer].plain_qk_norm = turns && norm;
    c->layer[layer].tempered = !turns && tempered;
}

static void set_router(model_config *c)
{
    c->router.score = ODMOE_SCORE_SIGMOID;
    c->router.weight_on_input = true;
}

/* ---- GGUF ---- */

/* Chunks, turns and growth have no keys; nor has the norm, which Maverick, the one of 128 experts, does without. */
static odmoe_status from_gguf(const model_files *f, const char *prefix, model_config *c, odmoe_error *err)
{
    char key[96];
    int step;
    snprintf(key, sizeof key, "%s.attention.sliding_window", prefix);
    if (gguf_has(f->gguf, key) && !c->layer[0].window)
        return err_set(err, ODMOE_ERR_UNSUPPORTED, "%s: %s is 0: models without chunks of attention are not supported",
                       f->path, key);
    odmoe_status status = arch_gguf_int(f, prefix, "interleave_moe_layer_step", MODEL_LAYERS_MAX, 0, &step, err);
    if (!status && step < 1)
        status = err_set(err, ODMOE_ERR_FORMAT, "%s: %s.interleave_moe_layer_step is 0 or missing", f->path, prefix);
    for (int l = 0; l < c->layers; l++) /* which layers have chunks: as windows */
        c->layer[l].window = CHUNK;
    if (!status)
        status = arch_gguf_windows(f, prefix, NO_ROPE_EVERY, c, err);
    for (int l = 0; l < c->layers && !status; l++) {
        c->layer[l].chunk = c->layer[l].window;
        c->layer[l].window = 0;
        c->layer[l].ffn = (l + 1) % step ? FFN_DENSE : FFN_EXPERTS;
        set_layer(c, l, (l + 1) % NO_ROPE_EVERY != 0, c->router.experts != 128, true);
    }
    set_router(c);
    arch_gguf_shared(f, c);
    return status;
}

/* ---- config.json ---- */

/* A list with one entry for each layer; *out NULL where it is missing. */
static odmoe_status layer_list(config_object json, const char *key, int layers, const json_t **out, odmoe_error *err)
{
    const json_t *list = json_object_get(json.object, key);
    *out = json_is_null(list) ? NULL : list;
    if (*out && (!json_is_array(list) || json_array_size(list) != (size_t)layers))
        return err_set(err, ODMOE_ERR_FORMAT, "%s: %s must be a list with one entry for each of %d layers", json.file,
                       key, layers);
    return ODMOE_OK;
}

/* Which layers turn: a list of 1 and 0 (no_rope_layers, in spite of its name), or all but every n-th. */
static odmoe_status read_turns(config_object json, model_config *c, bool norm, bool tempered, odmoe_error *err)
{
    const json_t *list = json_object_get(json.object, "no_rope_layers");
    int64_t every;
    odmoe_status status =
        config_int(json, "no_rope_layer_interval", false, 1, MODEL_LAYERS_MAX, NO_ROPE_EVERY, &every, err);
    bool given = list && !json_is_null(list) && !(json_is_array(list) && !json_array_size(list));
    if (!status && given)
        status = layer_list(json, "no_rope_layers", c->layers, &list, err);
    for (int l = 0; l < c->layers && !status; l++) {
        const json_t *entry = given ? json_array_get(list, (size_t)l) : NULL;
        int64_t turns = entry ? json_integer_value(entry) : (l + 1) % every != 0;
        if (entry && (!json_is_integer(entry) || turns < 0 || turns > 1))
            return err_set(err, ODMOE_ERR_FORMAT, "%s: no_rope_layers: entry %d is neither 1 nor 0", json.file, l);
        set_layer(c, l, turns, norm, tempered);
    }
    return status;
}

/* Which layers see their chunk alone: by the words of layer_types, or those that turn. */
static odmoe_status read_chunks(config_object json, model_config *c, odmoe_error *err)
{
    const json_t *types, *given = json_object_get(json.object, "attention_chunk_size");
    int64_t chunk;
    odmoe_status status =
        config_int(json, "attention_chunk_size", false, 1, MODEL_CONTEXT_MAX, given ? 0 : CHUNK, &chunk, err);
    if (!status)
        status = layer_list(json, "layer_types", c->layers, &types, err);
    for (int l = 0; l < c->layers && !status; l++) {
        const char *type = types ? json_string_value(json_array_get(types, (size_t)l)) : NULL;
        bool chunked = types ? type && !strcmp(type, "chunked_attention") : c->layer[l].rope != ROPE_OFF;
        if (types && !chunked && (!type || strcmp(type, "full_attention")))
            return err_set(err, ODMOE_ERR_UNSUPPORTED,
                           "%s: layer_types: '%.32s' of layer %d is not known; known are full_attention, "
                           "chunked_attention",
                           json.file, type ? type : "(no text)", l);
        if (chunked && !chunk) /* null */
            return err_set(err, ODMOE_ERR_FORMAT, "%s: layer %d sees a chunk, but attention_chunk_size gives none",
                           json.file, l);
        c->layer[l].chunk = chunked ? (int)chunk : 0;
    }
    return status;
}

/* Which layers have experts: the numbers of moe_layers, or every n-th. */
static odmoe_status read_ffns(config_object json, model_config *c, odmoe_error *err)
{
    const json_t *list = json_object_get(json.object, "moe_layers");
    bool given = list && !json_is_null(list);
    int64_t step;
    odmoe_status status = config_int(json, "interleave_moe_layer_step", false, 1, MODEL_LAYERS_MAX, 1, &step, err);
    if (status)
        return status;
    if (given && !json_is_array(list))
        return err_set(err, ODMOE_ERR_FORMAT, "%s: moe_layers is no list of layers", json.file);
    for (int l = 0; l < c->layers; l++)
        c->layer[l].ffn = given || (l + 1) % step ? FFN_DENSE : FFN_EXPERTS;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *l = json_array_get(list, i);
        if (!json_is_integer(l) || json_integer_value(l) < 0 || json_integer_value(l) >= c->layers)
            return err_set(err, ODMOE_ERR_FORMAT, "%s: moe_layers: entry %zu is none of %d layers", json.file, i,
                           c->layers);
        c->layer[json_integer_value(l)].ffn = FFN_EXPERTS;
    }
    return ODMOE_OK;
}

/* A switch that published files write as a number as well. */
static odmoe_status read_switch(config_object json, const char *key, bool *out, odmoe_error *err)
{
    const json_t *v = json_object_get(json.object, key);
    *out = !v || json_is_null(v) || json_is_true(v) || (json_is_integer(v) && json_integer_value(v));
    if (v && !json_is_null(v) && !json_is_boolean(v) && !json_is_integer(v))
        return err_set(err, ODMOE_ERR_FORMAT, "%s: %s is neither true nor false nor a number", json.file, key);
    return ODMOE_OK;
}

static odmoe_status from_hf(config_object json, model_config *c, odmoe_error *err)
{
    bool norm, tempered;
    odmoe_status status = read_switch(json, "use_qk_norm", &norm, err);
    if (!status)
        status = read_switch(json, "attn_temperature_tuning", &tempered, err);
    if (!status)
        status = read_turns(json, c, norm, tempered, err);
    if (!status)
        status = read_chunks(json, c, err);
    if (!status)
        status = read_ffns(json, c, err);
    set_router(c);
    return status ? status : arch_shared_ffn(c, json.file, err);
}

static const field_rule fields[] = {
    {FIELD_dense_ffn, "feed_forward_length", "intermediate_size_mlp", 0},
    {FIELD_expert_ffn, "expert_feed_forward_length", "intermediate_size", 0, .hf_required = true},
    {FIELD_shared_experts, NULL, NULL, 1},
    {FIELD_norm_heads, NULL, NULL, 1},
    {FIELD_norm_after_rope, NULL, NULL, 1},
    {FIELD_attention_bias, NULL, "attention_bias", 0},
    {FIELD_temper, NULL, "attn_scale", 0.1},
    {FIELD_temper_every, NULL, "floor_scale", CHUNK},
    {FIELD_temper_shift, NULL, NULL, 1},
    FIELDS_END,
};

static const weight_rule ffn[] = {
    {W_ROUTER, IN_MOE_LAYERS, "blk.%d.ffn_gate_inp.weight", "model.layers.%d.feed_forward.router.weight", DIM_EXPERTS,
     DIM_HIDDEN, false},
    {W_SHARED_GATE, IN_MOE_LAYERS, "blk.%d.ffn_gate_shexp.weight",
     "model.layers.%d.feed_forward.shared_expert.gate_proj.weight", DIM_SHARED_FFN, DIM_HIDDEN, false},
    {W_SHARED_UP, IN_MOE_LAYERS, "blk.%d.ffn_up_shexp.weight",
     "model.layers.%d.feed_forward.shared_expert.up_proj.weight", DIM_SHARED_FFN, DIM_HIDDEN, false},
    {W_SHARED_DOWN, IN_MOE_LAYERS, "blk.%d.ffn_down_shexp.weight",
     "model.layers.%d.feed_forward.shared_expert.down_proj.weight", DIM_HIDDEN, DIM_SHARED_FFN, false},
    {W_DENSE_GATE, IN_DENSE_LAYERS, "blk.%d.ffn_gate.weight", "model.layers.%d.feed_forward.gate_proj.weight",
     DIM_DENSE_FFN, DIM_HIDDEN, false},
    {W_DENSE_UP, IN_DENSE_LAYERS, "blk.%d.ffn_up.weight", "model.layers.%d.feed_forward.up_proj.weight", DIM_DENSE_FFN,
     DIM_HIDDEN, false},
    {W_DENSE_DOWN, IN_DENSE_LAYERS, "blk.%d.ffn_down.weight", "model.layers.%d.feed_forward.down_proj.weight",
     DIM_HIDDEN, DIM_DENSE_FFN, false},
    WEIGHTS_END,
};

static const expert_rule experts[] = {
    {ODMOE_GATE, "blk.%d.ffn_gate_exps.weight", NULL, NULL, NULL, DIM_EXPERT_FFN, DIM_HIDDEN},
    {ODMOE_UP, "blk.%d.ffn_up_exps.weight", NULL, NULL, NULL, DIM_EXPERT_FFN, DIM_HIDDEN},
    {ODMOE_GATE_UP, NULL, NULL, "model.layers.%d.feed_forward.experts.gate_up_proj", NULL, DIM_HIDDEN, DIM_EXPERT_FFN_2,
     .in_out = true},
    {ODMOE_DOWN, "blk.%d.ffn_down_exps.weight", NULL, NULL, NULL, DIM_HIDDEN, DIM_EXPERT_FFN},
    {ODMOE_DOWN, NULL, NULL, "model.layers.%d.feed_forward.experts.down_proj", NULL, DIM_EXPERT_FFN, DIM_HIDDEN,
     .in_out = true},
    {.role = EXPERT_MATRIX_COUNT},
};

static const weight_table weights[] = {{NULL, arch_weights_frame},
                                       {&mixer_attention, attention_weights},
                                       {&mixer_attention, attention_qkv_biases},
                                       {&mixer_attention, attention_out_bias},
                                       {NULL, ffn},
                                       {0}};

const arch arch_llama4 = {
    .family = "llama4",
    .hf_text = "llama4_text",
    .gguf = "llama4",
    .fields = fields,
    .rope_theta = 5e5,
    .gguf_pairing = ROPE_NEIGHBOURS,
    .hf_pairing = ROPE_NEIGHBOURS,
    .weights = weights,
    .experts = experts,
    .ignored = arch_ignored_vision,
    .from_gguf = from_gguf,
    .from_hf = from_hf,
};
