/* Gemma 4 (26B-A4B): layers that slide and layers that see all, with heads of their own size and number and their own
 * rotation; values that are the keys in the latter; norms before and after attention and FFN; an FFN that every token
 * uses, as the shared expert, beside the experts, each with its norms; a router with a norm and scales of its own; GELU;
 * a scale behind each layer; a softcap of the logits. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/arch/arch.h"
#include "model/mixers/attention.h"

/* Rope sets: GGUF's rope_freqs belong to the first. */
enum { FULL, SLIDING };
static const char *const rope_layers[] = {[FULL] = "full_attention", [SLIDING] = "sliding_attention", NULL};

/* What no key says. */
static void set_fixed(model_config *c)
{
    c->glu.kind = ODMOE_GEGLU_TANH;
    c->attention_scale = 1;
    c->embedding_scale = sqrtf((float)c->hidden);
    c->router.own_norm = true;
    c->router.norm_eps = c->rms_eps;
    c->router.input_scale = 1 / sqrtf((float)c->hidden);
    for (int l = 0; l < c->layers; l++)
        c->layer[l].rope = c->layer[l].window ? SLIDING : FULL;
}

/* Models of the family that add an embedding in each layer, or share keys and values between layers. */
static odmoe_status refuse_small_ones(const char *file, int per_layer, int shared, odmoe_error *err)
{
    if (!per_layer && !shared)
        return ODMOE_OK;
    return err_set(err, ODMOE_ERR_UNSUPPORTED, "%s: a Gemma 4 with %s is not supported (the 26B-A4B has none)", file,
                   per_layer ? "embeddings in each layer" : "layers that share keys and values");
}

/* ---- GGUF ---- */

/* The head sizes and turns of sliding layers; a file without them has the same for all. */
static odmoe_status sliding_heads(const model_files *f, const char *prefix, model_config *c, odmoe_error *err)
{
    rope_set *full = &c->ropes[FULL], *sliding = &c->ropes[SLIDING];
    int key, value;
    odmoe_status status = arch_gguf_int(f, prefix, "attention.key_length_swa", 4096, c->layer[0].key_dim, &key, err);
    if (!status)
        status = arch_gguf_int(f, prefix, "attention.value_length_swa", 4096, c->layer[0].value_dim, &value, err);
    if (status)
        return status;
    c->rope_sets = 2;
    *sliding = *full;
    for (int l = 0; l < c->layers; l++) {
        char name[64];
        layer_config *layer = &c->layer[l];
        layer->key_dim = layer->window ? key : layer->key_dim;
        layer->value_dim = layer->window ? value : layer->value_dim;
        snprintf(name, sizeof name, "blk.%d.attn_v.weight", l);
        layer->own_values = layer->window || tensor_index_find(f->tensors, name) != NULL;
    }
    status = arch_gguf_int(f, prefix, "rope.dimension_count_swa", 4096, key, &sliding->dim, err);
    return status ? status
                  : arch_gguf_float(f, prefix, "rope.freq_base_swa", full->positions.theta, &sliding->positions.theta,
                                    err);
}

static odmoe_status from_gguf(const model_files *f, const char *prefix, model_config *c, odmoe_error *err)
{
    int per_layer, shared;
    if (!c->layer[0].window)
        return err_set(err, ODMOE_ERR_FORMAT, "%s: %s.attention.sliding_window is 0 or missing", f->path, prefix);
    if (!tensor_index_find(f->tensors, "rope_freqs.weight"))
        return err_set(err, ODMOE_ERR_FORMAT,
                       "%s: tensor rope_freqs.weight is missing: it says which part of the heads turns", f->path);
    odmoe_status status = arch_gguf_windows(f, prefix, 6, c, err);
    if (!status)
        status = sliding_heads(f, prefix, c, err);
    if (!status)
        status = arch_gguf_int(f, prefix, "embedding_length_per_layer_input", MODEL_DIM_MAX, 0, &per_layer, err);
    if (!status)
        status = arch_gguf_int(f, prefix, "attention.shared_kv_layers", MODEL_LAYERS_MAX, 0, &shared, err);
    if (!status)
        status = refuse_small_ones(f->path, per_layer, shared, err);
    set_fixed(c);
    return status;
}

/* ---- config.json ---- */

/* Where no list says it, every sixth layer sees all positions. The last one always does. */
static odmoe_status windows(config_object json, model_config *c, odmoe_error *err)
{
    int window;
    bool given;
    odmoe_status status = arch_hf_sliding(json, 512, c, &window, &given, err);
    for (int l = 0; l < c->layers && !status && !given; l++)
        c->layer[l].window = (l + 1) % 6 ? window : 0;
    c->layer[c->layers - 1].window = 0;
    return status;
}

/* per_layer_config, which newer versions of transformers write instead of the keys for full layers: for some layers, by
 * number, what differs there. */
static odmoe_status read_overrides(config_object json, config_object all, model_config *c, odmoe_error *err)
{
    odmoe_status status = ODMOE_OK;
    json_t *members = (json_t *)all.object;
    for (void *m = json_object_iter(members); m && !status; m = json_object_iter_next(members, m)) {
        const char *key = json_object_iter_key(m);
        char *end;
        long l = strtol(key, &end, 10);
        config_object one = {json_object_iter_value(m), json.file};
        int64_t dim, heads;
        if (!isdigit((unsigned char)*key) || *end || l >= c->layers || !json_is_object(one.object))
            return err_set(err, ODMOE_ERR_FORMAT, "%s: per_layer_config: '%.32s' is none of %d layers, or no object",
                           json.file, key, c->layers);
        size_t known = (json_object_get(one.object, "head_dim") != NULL) +
                       (size_t)(json_object_get(one.object, "num_key_value_heads") != NULL);
        if (json_object_size(one.object) != known)
            return err_set(err, ODMOE_ERR_UNSUPPORTED,
                           "%s: per_layer_config: layer %ld says something besides head_dim and num_key_value_heads",
                           json.file, l);
        layer_config *layer = &c->layer[l];
        status = config_int(one, "head_dim", false, 1, 4096, layer->key_dim, &dim, err);
        if (!status)
            status = config_int(one, "num_key_value_heads", false, 1, MODEL_HEADS_MAX, layer->kv_heads, &heads, err);
        if (!status) {
            layer->key_dim = layer->value_dim = (int)dim;
            layer->kv_heads = (int)heads;
        }
    }
    return status;
}

/* Layers that see all have heads of another size, and fewer of keys where these are the values as well. */
static odmoe_status full_heads(config_object json, model_config *c, odmoe_error *err)
{
    bool keys_are_values;
    int64_t dim, heads;
    config_object overrides;
    odmoe_status status = config_bool(json, "attention_k_eq_v", false, false, &keys_are_values, err);
    if (!status)
        status = config_int(json, "global_head_dim", false, 1, 4096, 512, &dim, err);
    if (!status)
        status = config_int(json, "num_global_key_value_heads", false, 1, MODEL_HEADS_MAX, 0, &heads, err);
    if (!status)
        status = config_part(json, "per_layer_config", &overrides, err);
    for (int l = 0; l < c->layers && !status; l++) {
        layer_config *layer = &c->layer[l];
        layer->own_values = layer->window || !keys_are_values;
        if (layer->window || overrides.object)
            continue;
        layer->key_dim = layer->value_dim = (int)dim;
        layer->kv_heads = heads && keys_are_values ? (int)heads : layer->kv_heads;
    }
    return status || !overrides.object ? status : read_overrides(json, overrides, c, err);
}

/* Full layers: the turning part of a head is the first of its pairs. A file without rope_parameters has the family's. */
static odmoe_status turns(config_object json, model_config *c, odmoe_error *err)
{
    config_object full;
    odmoe_status status = config_rope_object(json, rope_layers[FULL], &full, err);
    if (status)
        return status;
    if (!full.object) {
        c->ropes[FULL].positions.theta = 1e6;
        c->ropes[FULL].positions.scaling = ROPE_PROPORTIONAL;
        c->ropes[FULL].positions.part = 0.25;
    }
    for (int l = 0; l < c->layers; l++)
        c->ropes[c->layer[l].window ? SLIDING : FULL].dim = c->layer[l].key_dim;
    if (!c->ropes[SLIDING].dim) /* no layer slides */
        c->ropes[SLIDING].dim = c->ropes[FULL].dim;
    return ODMOE_OK;
}

/* Variants of the family that are not supported. */
static odmoe_status refuse_others(config_object json, const model_config *c, odmoe_error *err)
{
    bool experts;
    int64_t per_layer, shared;
    const char *activation, *both_ways;
    odmoe_status status = config_bool(json, "enable_moe_block", false, false, &experts, err);
    if (!status && !experts)
        status = arch_is_dense(json.file, c->family, err);
    if (!status)
        status = config_text(json, "hidden_activation", false, "gelu_pytorch_tanh", &activation, err);
    if (!status && strcmp(activation, "gelu_pytorch_tanh"))
        status =
            err_set(err, ODMOE_ERR_UNSUPPORTED, "%s: hidden_activation '%.32s' is not supported (gelu_pytorch_tanh is)",
                    json.file, activation);
    if (!status)
        status = config_text(json, "use_bidirectional_attention", false, "vision", &both_ways, err);
    if (!status && strcmp(both_ways, "vision")) /* of images' tokens, which do not occur here */
        status = err_set(err, ODMOE_ERR_UNSUPPORTED,
                         "%s: use_bidirectional_attention '%.32s': a model whose tokens see those behind them does not "
                         "generate text",
                         json.file, both_ways);
    if (!status)
        status = config_int(json, "hidden_size_per_layer_input", false, 0, MODEL_DIM_MAX, 256, &per_layer, err);
    if (!status)
        status = config_int(json, "num_kv_shared_layers", false, 0, MODEL_LAYERS_MAX, 0, &shared, err);
    return status ? status : refuse_small_ones(json.file, per_layer != 0, shared != 0, err);
}

static odmoe_status from_hf(config_object json, model_config *c, odmoe_error *err)
{
    odmoe_status status = refuse_others(json, c, err);
    if (!status)
        status = windows(json, c, err);
    if (!status)
        status = full_heads(json, c, err);
    if (!status)
        status = turns(json, c, err);
    set_fixed(c);
    return status;
}

static const field_rule fields[] = {
    {FIELD_rms_eps, "attention.layer_norm_rms_epsilon", "rms_norm_eps", 1e-6},
    {FIELD_tied, NULL, "tie_word_embeddings", 1},
    {FIELD_norm_heads, NULL, NULL, 1},
    {FIELD_v_norm, NULL, NULL, 1},
    {FIELD_attention_bias, NULL, "attention_bias", 0},
    {FIELD_shared_ffn, "feed_forward_length", "intermediate_size", FIELD_REQUIRED},
    /* dense models of the family write null */
    {FIELD_expert_ffn, "expert_feed_forward_length", "moe_intermediate_size", 0},
    {FIELD_experts, "expert_count", "num_experts", 0},
    {FIELD_top_k, "expert_used_count", "top_k_experts", 0},
    {FIELD_renormalise, NULL, NULL, 1},
    {FIELD_logit_softcap, "final_logit_softcapping", "final_logit_softcapping", 0},
    FIELDS_END,
};

static const weight_rule frame[] = {
    {W_MIXER_NORM, IN_ALL_LAYERS, "blk.%d.attn_norm.weight", "model.layers.%d.input_layernorm.weight", DIM_VECTOR,
     DIM_HIDDEN, false},
    {W_MIXER_POST_NORM, IN_ALL_LAYERS, "blk.%d.post_attention_norm.weight",
     "model.layers.%d.post_attention_layernorm.weight", DIM_VECTOR, DIM_HIDDEN, false},
    {W_FFN_NORM, IN_ALL_LAYERS, "blk.%d.ffn_norm.weight", "model.layers.%d.pre_feedforward_layernorm.weight",
     DIM_VECTOR, DIM_HIDDEN, false},
    {W_SHARED_POST_NORM, IN_ALL_LAYERS, "blk.%d.post_ffw_norm_1.weight",
     "model.layers.%d.post_feedforward_layernorm_1.weight", DIM_VECTOR, DIM_HIDDEN, false},
    {W_EXPERTS_NORM, IN_ALL_LAYERS, "blk.%d.pre_ffw_norm_2.weight",
     "model.layers.%d.pre_feedforward_layernorm_2.weight", DIM_VECTOR, DIM_HIDDEN, false},
    {W_EXPERTS_POST_NORM, IN_ALL_LAYERS, "blk.%d.post_ffw_norm_2.weight",
     "model.layers.%d.post_feedforward_layernorm_2.weight", DIM_VECTOR, DIM_HIDDEN, false},
    {W_FFN_POST_NORM, IN_ALL_LAYERS, "blk.%d.post_ffw_norm.weight", "model.layers.%d.post_feedforward_layernorm.weight",
     DIM_VECTOR, DIM_HIDDEN, false},
    {W_LAYER_SCALE, IN_ALL_LAYERS, "blk.%d.layer_output_scale.weight", "model.layers.%d.layer_scalar", DIM_VECTOR,
     DIM_ONE, true},
    {W_ROUTER, IN_ALL_LAYERS, "blk.%d.ffn_gate_inp.weight", "model.layers.%d.router.proj.weight", DIM_EXPERTS,
     DIM_HIDDEN, false},
    {W_ROUTER_SCALE, IN_ALL_LAYERS, "blk.%d.ffn_gate_inp.scale", "model.layers.%d.router.scale", DIM_VECTOR, DIM_HIDDEN,
     false},
    {W_SHARED_GATE, IN_ALL_LAYERS, "blk.%d.ffn_gate.weight", "model.layers.%d.mlp.gate_proj.weight", DIM_SHARED_FFN,
     DIM_HIDDEN, false},
    {W_SHARED_UP, IN_ALL_LAYERS, "blk.%d.ffn_up.weight", "model.layers.%d.mlp.up_proj.weight", DIM_SHARED_FFN,
     DIM_HIDDEN, false},
    {W_SHARED_DOWN, IN_ALL_LAYERS, "blk.%d.ffn_down.weight", "model.layers.%d.mlp.down_proj.weight", DIM_HIDDEN,
     DIM_SHARED_FFN, false},
    WEIGHTS_END,
};

static const expert_rule experts[] = {
    {ODMOE_GATE, "blk.%d.ffn_gate_exps.weight", NULL, NULL, NULL, DIM_EXPERT_FFN, DIM_HIDDEN},
    {ODMOE_UP, "blk.%d.ffn_up_exps.weight", NULL, NULL, NULL, DIM_EXPERT_FFN, DIM_HIDDEN},
    {ODMOE_GATE_UP, "blk.%d.ffn_gate_up_exps.weight", NULL, "model.layers.%d.experts.gate_up_proj", NULL,
     DIM_EXPERT_FFN_2, DIM_HIDDEN},
    {ODMOE_DOWN, "blk.%d.ffn_down_exps.weight", NULL, "model.layers.%d.experts.down_proj", NULL, DIM_HIDDEN,
     DIM_EXPERT_FFN},
    {ODMOE_DOWN, "blk.%d.ffn_down_exps.scale", NULL, "model.layers.%d.router.per_expert_scale", NULL, DIM_ONE, DIM_ONE,
     .part = PART_SCALE, .optional = true},
    {.role = EXPERT_MATRIX_COUNT},
};

static const char *const ignored[] = {"model.vision_tower.*", "model.embed_vision.*", "model.audio_tower.*",
                                      "model.embed_audio.*", NULL};

static const weight_table weights[] = {{NULL, arch_weights_model},
                                       {NULL, frame},
                                       {&mixer_attention, attention_weights},
                                       {&mixer_attention, attention_qkv_biases},
                                       {&mixer_attention, attention_out_bias},
                                       {&mixer_attention, attention_qk_norm},
                                       {0}};

const arch arch_gemma4 = {
    .family = "gemma4",
    .hf_text = "gemma4_text",
    .gguf = "gemma4",
    .fields = fields,
    .rope_theta = 1e4,
    .rope_layers = rope_layers,
    .weights = weights,
    .experts = experts,
    .ignored = ignored,
    .from_gguf = from_gguf,
    .from_hf = from_hf,
};
