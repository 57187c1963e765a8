/* common.c - what families share: tables of tensors and the numbers that all of them have. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/arch/arch.h"

#define RULES_END            \
    {                        \
        .role = W_ROLE_COUNT \
    }

const weight_rule arch_weights_base[] = {
    {W_EMBED, IN_MODEL, "token_embd.weight", "model.embed_tokens.weight", DIM_VOCAB, DIM_HIDDEN, false},
    {W_OUTPUT_NORM, IN_MODEL, "output_norm.weight", "model.norm.weight", DIM_VECTOR, DIM_HIDDEN, false},
    {W_OUTPUT, IN_MODEL, "output.weight", "lm_head.weight", DIM_VOCAB, DIM_HIDDEN, true},
    {W_ROPE_FACTORS, IN_MODEL, "rope_freqs.weight", NULL, DIM_VECTOR, DIM_HALF_ROPE, true},
    {W_ATTN_NORM, IN_ALL_LAYERS, "blk.%d.attn_norm.weight", "model.layers.%d.input_layernorm.weight", DIM_VECTOR,
     DIM_HIDDEN, false},
    {W_Q, IN_ALL_LAYERS, "blk.%d.attn_q.weight", "model.layers.%d.self_attn.q_proj.weight", DIM_Q, DIM_HIDDEN, false},
    {W_K, IN_ALL_LAYERS, "blk.%d.attn_k.weight", "model.layers.%d.self_attn.k_proj.weight", DIM_KV, DIM_HIDDEN, false},
    {W_V, IN_ALL_LAYERS, "blk.%d.attn_v.weight", "model.layers.%d.self_attn.v_proj.weight", DIM_KV, DIM_HIDDEN, false},
    {W_O, IN_ALL_LAYERS, "blk.%d.attn_output.weight", "model.layers.%d.self_attn.o_proj.weight", DIM_HIDDEN, DIM_Q,
     false},
    {W_FFN_NORM, IN_ALL_LAYERS, "blk.%d.ffn_norm.weight", "model.layers.%d.post_attention_layernorm.weight", DIM_VECTOR,
     DIM_HIDDEN, false},
    RULES_END,
};

const weight_rule arch_weights_attention_bias[] = {
    {W_Q_BIAS, IN_ALL_LAYERS, "blk.%d.attn_q.bias", "model.layers.%d.self_attn.q_proj.bias", DIM_VECTOR, DIM_Q, true},
    {W_K_BIAS, IN_ALL_LAYERS, "blk.%d.attn_k.bias", "model.layers.%d.self_attn.k_proj.bias", DIM_VECTOR, DIM_KV, true},
    {W_V_BIAS, IN_ALL_LAYERS, "blk.%d.attn_v.bias", "model.layers.%d.self_attn.v_proj.bias", DIM_VECTOR, DIM_KV, true},
    {W_O_BIAS, IN_ALL_LAYERS, "blk.%d.attn_output.bias", "model.layers.%d.self_attn.o_proj.bias", DIM_VECTOR,
     DIM_HIDDEN, true},
    RULES_END,
};

const weight_rule arch_weights_qk_norm[] = {
    {W_Q_NORM, IN_ALL_LAYERS, "blk.%d.attn_q_norm.weight", "model.layers.%d.self_attn.q_norm.weight", DIM_VECTOR,
     DIM_QK_NORM_Q, false},
    {W_K_NORM, IN_ALL_LAYERS, "blk.%d.attn_k_norm.weight", "model.layers.%d.self_attn.k_norm.weight", DIM_VECTOR,
     DIM_QK_NORM_K, false},
    RULES_END,
};

const weight_rule arch_weights_mlp[] = {
    {W_ROUTER, IN_MOE_LAYERS, "blk.%d.ffn_gate_inp.weight", "model.layers.%d.mlp.gate.weight", DIM_EXPERTS, DIM_HIDDEN,
     false},
    {W_DENSE_GATE, IN_DENSE_LAYERS, "blk.%d.ffn_gate.weight", "model.layers.%d.mlp.gate_proj.weight", DIM_DENSE_FFN,
     DIM_HIDDEN, false},
    {W_DENSE_UP, IN_DENSE_LAYERS, "blk.%d.ffn_up.weight", "model.layers.%d.mlp.up_proj.weight", DIM_DENSE_FFN,
     DIM_HIDDEN, false},
    {W_DENSE_DOWN, IN_DENSE_LAYERS, "blk.%d.ffn_down.weight", "model.layers.%d.mlp.down_proj.weight", DIM_HIDDEN,
     DIM_DENSE_FFN, false},
    RULES_END,
};

const expert_rule arch_experts_mlp[] = {
    {PIECE_GATE, "blk.%d.ffn_gate_exps.weight", "blk.%d.ffn_gate.%d.weight", NULL,
     "model.layers.%d.mlp.experts.%d.gate_proj.weight", DIM_EXPERT_FFN, DIM_HIDDEN, false, false},
    {PIECE_UP, "blk.%d.ffn_up_exps.weight", "blk.%d.ffn_up.%d.weight", NULL,
     "model.layers.%d.mlp.experts.%d.up_proj.weight", DIM_EXPERT_FFN, DIM_HIDDEN, false, false},
    {PIECE_GATE_UP, "blk.%d.ffn_gate_up_exps.weight", NULL, "model.layers.%d.mlp.experts.gate_up_proj", NULL,
     DIM_EXPERT_FFN_2, DIM_HIDDEN, false, false},
    {PIECE_DOWN, "blk.%d.ffn_down_exps.weight", "blk.%d.ffn_down.%d.weight", "model.layers.%d.mlp.experts.down_proj",
     "model.layers.%d.mlp.experts.%d.down_proj.weight", DIM_HIDDEN, DIM_EXPERT_FFN, false, false},
    {.role = PIECE_ROLE_COUNT},
};

/* ---- GGUF ---- */

static void key_of(char out[128], const char *prefix, const char *key)
{
    snprintf(out, 128, "%s.%s", prefix, key);
}

odmoe_status arch_gguf_int(const model_files *f, const char *prefix, const char *key, int64_t max, int fallback,
                           int *out, odmoe_error *err)
{
    char name[128];
    key_of(name, prefix, key);
    int64_t value = fallback;
    odmoe_status status = gguf_has(f->gguf, name) ? gguf_get_int(f->gguf, name, 0, max, &value, err) : ODMOE_OK;
    *out = (int)value;
    return status;
}

odmoe_status arch_gguf_float(const model_files *f, const char *prefix, const char *key, double fallback, double *out,
                             odmoe_error *err)
{
    char name[128];
    key_of(name, prefix, key);
    *out = fallback;
    odmoe_status status = gguf_has(f->gguf, name) ? gguf_get_float(f->gguf, name, out, err) : ODMOE_OK;
    if (!status && !isfinite(*out))
        return err_set(err, ODMOE_ERR_FORMAT, "%s: %s is not a finite number", f->path, name);
    return status;
}

static odmoe_status gguf_rope_scaling(const model_files *f, const char *prefix, rope_config *r, odmoe_error *err)
{
    char key[128];
    gguf_text kind = {"linear", 6}; /* what files without the key mean; with a factor of 1 it changes nothing */
    double legacy, attention;
    key_of(key, prefix, "rope.scaling.type");
    odmoe_status status = gguf_has(f->gguf, key) ? gguf_get_text(f->gguf, key, &kind, err) : ODMOE_OK;
    if (!status) /* the factor's name before scaling.type existed */
        status = arch_gguf_float(f, prefix, "rope.scale_linear", 1, &legacy, err);
    if (!status)
        status = arch_gguf_float(f, prefix, "rope.scaling.factor", legacy, &r->factor, err);
    if (!status)
        status = arch_gguf_float(f, prefix, "rope.scaling.attn_factor", 1, &attention, err);
    if (status)
        return status;
    if (r->factor == 0) /* how some writers say that there is none */
        r->factor = 1;
    if (gguf_text_is(kind, "yarn")) {
        r->scaling = ROPE_YARN;
        r->attention_factor = attention * (r->factor > 1 ? 0.1 * log(r->factor) + 1 : 1);
        return ODMOE_OK;
    }
    if (attention != 1)
        return err_set(err, ODMOE_ERR_UNSUPPORTED,
                       "%s: %s.rope.scaling.attn_factor is %g: only with position scaling 'yarn' is it supported",
                       f->path, prefix, attention);
    if (gguf_text_is(kind, "linear")) {
        r->scaling = r->factor == 1 ? ROPE_NONE : ROPE_LINEAR;
    } else if (gguf_text_is(kind, "none")) {
        r->scaling = ROPE_NONE;
        r->factor = 1;
    } else {
        return err_set(err, ODMOE_ERR_UNSUPPORTED,
                       "%s: %s: position scaling '%.*s' is not known; known are none, linear, yarn", f->path, key,
                       kind.length > 32 ? 32 : (int)kind.length, kind.at);
    }
    return ODMOE_OK;
}

static odmoe_status gguf_rope(const model_files *f, const char *prefix, model_config *c, odmoe_error *err)
{
    rope_config *r = &c->rope;
    int original;
    r->truncate = true;
    r->step_ramp = true;
    odmoe_status status = arch_gguf_float(f, prefix, "rope.freq_base", 10000, &r->theta, err);
    if (!status)
        status = arch_gguf_int(f, prefix, "rope.scaling.original_context_length", MODEL_CONTEXT_MAX, c->context,
                               &original, err);
    if (!status)
        status = arch_gguf_float(f, prefix, "rope.scaling.yarn_beta_fast", 32, &r->beta_fast, err);
    if (!status)
        status = arch_gguf_float(f, prefix, "rope.scaling.yarn_beta_slow", 1, &r->beta_slow, err);
    if (status)
        return status;
    r->original_context = original;
    return gguf_rope_scaling(f, prefix, r, err);
}

/* The FFN size of experts: its key, or what the tensors say (files made before the key existed). */
static odmoe_status gguf_expert_ffn(const model_files *f, const char *prefix, model_config *c, odmoe_error *err)
{
    odmoe_status status = arch_gguf_int(f, prefix, "expert_feed_forward_length", MODEL_DIM_MAX, 0, &c->expert_ffn, err);
    if (status || c->expert_ffn)
        return status;
    for (int l = 0; l < c->layers; l++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%d.ffn_up_exps.weight", l);
        const tensor_info *t = tensor_index_find(f->tensors, name);
        if (t && t->dims == 3 && t->shape[1] <= MODEL_DIM_MAX) {
            c->expert_ffn = (int)t->shape[1];
            return ODMOE_OK;
        }
    }
    c->expert_ffn = c->dense_ffn;
    return ODMOE_OK;
}

/* Keys that llama.cpp heeds in every family, whether its models have them or not. Groups of experts: by the sum of the
 * two best probabilities of each, as router.h says. */
static odmoe_status gguf_for_every_family(const model_files *f, const char *prefix, model_config *c, odmoe_error *err)
{
    char key[128];
    bool causal = true;
    int groups, used;
    key_of(key, prefix, "attention.causal");
    odmoe_status status = gguf_has(f->gguf, key) ? gguf_get_bool(f->gguf, key, &causal, err) : ODMOE_OK;
    if (!status)
        status = arch_gguf_int(f, prefix, "expert_group_count", ROUTER_EXPERTS_MAX, 0, &groups, err);
    if (!status)
        status = arch_gguf_int(f, prefix, "expert_group_used_count", ROUTER_EXPERTS_MAX, 0, &used, err);
    if (status)
        return status;
    if (!causal)
        return err_set(err, ODMOE_ERR_UNSUPPORTED,
                       "%s: %s is false: a model whose tokens see those behind them does not generate text", f->path,
                       key);
    if (groups > 1) {
        c->router.groups = groups;
        c->router.groups_used = used;
    }
    return ODMOE_OK;
}

odmoe_status arch_gguf_common(const model_files *f, const char *prefix, model_config *c, odmoe_error *err)
{
    int key_length, value_length, window;
    double eps, clip;
    const struct {
        const char *key;
        int64_t max;
        int *out;
    } numbers[] = {
        {"block_count", MODEL_LAYERS_MAX, &c->layers},
        {"context_length", MODEL_CONTEXT_MAX, &c->context},
        {"embedding_length", MODEL_DIM_MAX, &c->hidden},
        {"attention.head_count", 4096, &c->heads},
        {"expert_count", ROUTER_EXPERTS_MAX, &c->router.experts},
        {"expert_used_count", ROUTER_EXPERTS_MAX, &c->router.top_k},
        {"feed_forward_length", MODEL_DIM_MAX, &c->dense_ffn},
    };
    odmoe_status status = ODMOE_OK;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers && !status; i++)
        status = arch_gguf_int(f, prefix, numbers[i].key, numbers[i].max, 0, numbers[i].out, err);
    if (!status && !c->router.experts)
        return err_set(
            err, ODMOE_ERR_UNSUPPORTED,
            "%s: '%s' is a dense model (no experts); odmoe is for Mixture-of-Experts models: use llama.cpp or "
            "another program for this one",
            f->path, prefix);
    if (!status && (!c->heads || !c->hidden))
        return err_set(err, ODMOE_ERR_FORMAT, "%s: %s.attention.head_count or %s.embedding_length is missing or 0",
                       f->path, prefix, prefix);
    if (!status)
        status = arch_gguf_int(f, prefix, "attention.head_count_kv", 4096, c->heads, &c->kv_heads, err);
    if (!status)
        status = arch_gguf_int(f, prefix, "attention.key_length", 4096, c->hidden / c->heads, &key_length, err);
    if (!status)
        status = arch_gguf_int(f, prefix, "attention.value_length", 4096, c->hidden / c->heads, &value_length, err);
    if (!status)
        status = arch_gguf_int(f, prefix, "rope.dimension_count", 4096, key_length, &c->rope_dim, err);
    if (!status)
        status = arch_gguf_int(f, prefix, "attention.sliding_window", MODEL_CONTEXT_MAX, 0, &window, err);
    if (!status)
        status = arch_gguf_float(f, prefix, "attention.layer_norm_rms_epsilon", 1e-5, &eps, err);
    if (!status)
        status = arch_gguf_float(f, prefix, "attention.clamp_kqv", 0.0, &clip, err);
    if (!status)
        status = gguf_rope(f, prefix, c, err);
    if (!status)
        status = gguf_expert_ffn(f, prefix, c, err);
    if (!status)
        status = gguf_for_every_family(f, prefix, c, err);
    if (status)
        return status;
    if (key_length != value_length)
        return err_set(err, ODMOE_ERR_UNSUPPORTED,
                       "%s: keys of %d and values of %d elements: only equal lengths are supported", f->path,
                       key_length, value_length);
    c->head_dim = key_length;
    c->rms_eps = (float)eps;
    c->clip_qkv = (float)fabs(clip);
    for (int l = 0; l < c->layers; l++)
        c->window[l] = window;
    const tensor_info *embed = tensor_index_find(f->tensors, "token_embd.weight");
    if (!embed || embed->dims != 2 || embed->shape[0] > MODEL_VOCAB_MAX)
        return err_set(err, ODMOE_ERR_FORMAT,
                       "%s: tensor token_embd.weight is missing or no matrix (has the download ended early, "
                       "or is this not the first part of a split file?)",
                       f->path);
    c->vocab = (int)embed->shape[0];
    c->tied = true; /* GGUF leaves the output matrix out where it is the embedding */
    c->router.scale = 1;
    return ODMOE_OK;
}

/* ---- Hugging Face ---- */

/* None of the families turns a part of a head only. transformers ignores the number, or fails, depending on the scaling
 * and on where it stands; a file with it was made for something else. */
static odmoe_status whole_heads_turn(config_object json, odmoe_error *err)
{
    static const char *const parts[] = {NULL, "rope_scaling", "rope_parameters"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        config_object part = json;
        double rotary;
        odmoe_status status = parts[i] ? config_part(json, parts[i], &part, err) : ODMOE_OK;
        if (!status)
            status = config_float(part, "partial_rotary_factor", false, 0, 1, 1, &rotary, err);
        if (status)
            return status;
        if (rotary != 1)
            return err_set(err, ODMOE_ERR_UNSUPPORTED,
                           "%s: partial_rotary_factor %g: this family turns whole heads (1, or leave it out)",
                           json.file, rotary);
    }
    return ODMOE_OK;
}

odmoe_status arch_hf_common(config_object json, double default_eps, double default_theta, model_config *c,
                            odmoe_error *err)
{
    int64_t layers, vocab, context, hidden, heads, kv_heads, head_dim, experts, top_k;
    double eps;
    const char *act;
    odmoe_status status = config_int(json, "num_hidden_layers", true, 1, MODEL_LAYERS_MAX, 0, &layers, err);
    if (!status)
        status = config_int(json, "vocab_size", true, 1, MODEL_VOCAB_MAX, 0, &vocab, err);
    if (!status)
        status = config_int(json, "max_position_embeddings", true, 1, MODEL_CONTEXT_MAX, 0, &context, err);
    if (!status)
        status = config_int(json, "hidden_size", true, 1, MODEL_DIM_MAX, 0, &hidden, err);
    if (!status)
        status = config_int(json, "num_attention_heads", true, 1, 4096, 0, &heads, err);
    if (!status)
        status = config_int(json, "num_key_value_heads", false, 1, 4096, heads, &kv_heads, err);
    if (!status)
        status = config_int(json, "head_dim", false, 1, 4096, hidden / heads, &head_dim, err);
    if (!status)
        status = config_float(json, "rms_norm_eps", false, 0, 1, default_eps, &eps, err);
    if (!status)
        status = whole_heads_turn(json, err);
    if (!status)
        status = config_text(json, "hidden_act", false, "silu", &act, err);
    if (!status) /* all families so far untie by default */
        status = config_bool(json, "tie_word_embeddings", false, false, &c->tied, err);
    if (!status) /* one of the two names, whichever the file has */
        status = config_int(json, "num_experts", false, 1, ROUTER_EXPERTS_MAX, 0, &experts, err);
    if (!status)
        status = config_int(json, "num_local_experts", experts == 0, 1, ROUTER_EXPERTS_MAX, experts, &experts, err);
    if (!status)
        status = config_int(json, "num_experts_per_tok", true, 1, ROUTER_EXPERTS_MAX, 0, &top_k, err);
    if (!status)
        status = config_rope(json, default_theta, context, &c->rope, err);
    if (status)
        return status;
    if (strcmp(act, "silu"))
        return err_set(err, ODMOE_ERR_UNSUPPORTED, "%s: hidden_act '%.32s' is not supported (silu is)", json.file, act);
    c->layers = (int)layers;
    c->vocab = (int)vocab;
    c->context = (int)context;
    c->hidden = (int)hidden;
    c->heads = (int)heads;
    c->kv_heads = (int)kv_heads;
    c->head_dim = (int)head_dim;
    c->rope_dim = (int)head_dim;
    c->rms_eps = (float)eps;
    c->router.experts = (int)experts;
    c->router.top_k = (int)top_k;
    c->router.scale = 1;
    return ODMOE_OK;
}

static odmoe_status sparse_layers(config_object json, model_config *c, odmoe_error *err)
{
    int64_t step;
    odmoe_status status = config_int(json, "decoder_sparse_step", false, 1, MODEL_LAYERS_MAX, 1, &step, err);
    if (status)
        return status;
    for (int l = 0; l < c->layers; l++)
        c->dense[l] = (l + 1) % step != 0;
    const json_t *only = json_object_get(json.object, "mlp_only_layers");
    if (only && !json_is_array(only) && !json_is_null(only))
        return err_set(err, ODMOE_ERR_FORMAT, "%s: mlp_only_layers is not a list of layers", json.file);
    for (size_t i = 0; i < json_array_size(only); i++) {
        const json_t *l = json_array_get(only, i);
        if (!json_is_integer(l) || json_integer_value(l) < 0 || json_integer_value(l) >= c->layers)
            return err_set(err, ODMOE_ERR_FORMAT, "%s: mlp_only_layers names a layer that isn't there", json.file);
        c->dense[json_integer_value(l)] = true;
    }
    return ODMOE_OK;
}

odmoe_status arch_hf_window(config_object json, int *window, odmoe_error *err)
{
    bool use;
    int64_t size;
    /* without a number the reference takes 4096; `null` is its word for none */
    const json_t *given = json_object_get(json.object, "sliding_window");
    odmoe_status status = config_bool(json, "use_sliding_window", false, false, &use, err);
    if (!status)
        status = config_int(json, "sliding_window", false, 0, MODEL_CONTEXT_MAX, given ? 0 : 4096, &size, err);
    if (status)
        return status;
    if (use && size == 0 && !json_is_null(given))
        return err_set(err, ODMOE_ERR_FORMAT,
                       "%s: a sliding_window of 0 shows a token nothing; write null, or use_sliding_window false, for "
                       "no window",
                       json.file);
    *window = use ? (int)size : 0;
    return ODMOE_OK;
}

odmoe_status arch_hf_layer_types(config_object json, int layers, int window, bool *sliding, bool *given,
                                 odmoe_error *err)
{
    const json_t *types = json_object_get(json.object, "layer_types");
    *given = types && !json_is_null(types);
    if (!*given)
        return ODMOE_OK;
    if (!json_is_array(types) || json_array_size(types) != (size_t)layers)
        return err_set(err, ODMOE_ERR_FORMAT, "%s: layer_types must be a list with one word for each of %d layers",
                       json.file, layers);
    for (int l = 0; l < layers; l++) {
        const char *type = json_string_value(json_array_get(types, (size_t)l));
        sliding[l] = type && !strcmp(type, "sliding_attention");
        if (!type || (!sliding[l] && strcmp(type, "full_attention")))
            return err_set(err, ODMOE_ERR_UNSUPPORTED,
                           "%s: layer_types: '%.32s' of layer %d is not known; known are full_attention, "
                           "sliding_attention",
                           json.file, type ? type : "(no text)", l);
        if (sliding[l] && !window)
            return err_set(err, ODMOE_ERR_FORMAT,
                           "%s: layer_types lets layer %d slide, but use_sliding_window and sliding_window give no "
                           "window",
                           json.file, l);
    }
    return ODMOE_OK;
}

odmoe_status arch_hf_qwen(config_object json, model_config *c, odmoe_error *err)
{
    int64_t dense, ffn;
    odmoe_status status = arch_hf_common(json, 1e-6, 1e4, c, err);
    if (!status)
        status = config_int(json, "intermediate_size", false, 1, MODEL_DIM_MAX, 0, &dense, err);
    if (!status)
        status = config_int(json, "moe_intermediate_size", true, 1, MODEL_DIM_MAX, 0, &ffn, err);
    if (!status)
        status = config_bool(json, "norm_topk_prob", false, false, &c->router.renormalise, err);
    if (status)
        return status;
    c->dense_ffn = (int)dense;
    c->expert_ffn = (int)ffn;
    return sparse_layers(json, c, err);
}
