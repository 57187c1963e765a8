/* from_gguf.c - what families share in reading GGUF metadata. */
#include <math.h>
#include <stdio.h>

#include "model/arch/arch.h"
#include "model/mixers/attention.h"

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
    const tensor_info *long_factors = tensor_index_find(f->tensors, "rope_factors_long.weight");
    const tensor_info *short_factors = tensor_index_find(f->tensors, "rope_factors_short.weight");
    if (gguf_text_is(kind, "longrope") || long_factors || short_factors) { /* not all files name it */
        r->scaling = ROPE_LONG;
        r->attention_factor = r->long_attention = attention;
        if (!long_factors || !short_factors)
            return err_set(err, ODMOE_ERR_FORMAT,
                           "%s: position scaling 'longrope' needs the tensors rope_factors_long.weight and "
                           "rope_factors_short.weight",
                           f->path);
        return ODMOE_OK;
    }
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
                       "%s: %s: position scaling '%.*s' is not known; known are none, linear, yarn, longrope", f->path,
                       key, kind.length > 32 ? 32 : (int)kind.length, kind.at);
    }
    return ODMOE_OK;
}

/* The model's one way of turning: every layer's. */
static odmoe_status gguf_rope(const model_files *f, const arch *a, model_config *c, odmoe_error *err)
{
    const char *prefix = a->gguf;
    rope_config *r = &c->ropes[0].positions;
    int original;
    c->rope_sets = 1;
    c->ropes[0].pairing = a->gguf_pairing;
    r->truncate = true;
    r->step_ramp = true;
    odmoe_status status =
        arch_gguf_int(f, prefix, "rope.dimension_count", 4096, c->layer[0].key_dim, &c->ropes[0].dim, err);
    if (!status)
        status = arch_gguf_float(f, prefix, "rope.freq_base", 10000, &r->theta, err);
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

odmoe_status arch_gguf_router(const model_files *f, const char *prefix, odmoe_score score, model_config *c,
                              odmoe_error *err)
{
    static const odmoe_score scores[] = {
        [1] = ODMOE_SCORE_SOFTMAX, ODMOE_SCORE_SIGMOID, ODMOE_SCORE_SOFTMAX_CHOSEN, ODMOE_SCORE_SQRT_SOFTPLUS};
    const int known = (int)(sizeof scores / sizeof *scores);
    int gating;
    odmoe_status status = arch_gguf_int(f, prefix, "expert_gating_func", 1 << 20, 0, &gating, err);
    if (status)
        return status;
    if (gating >= known)
        return err_set(err, ODMOE_ERR_UNSUPPORTED, "%s: %s.expert_gating_func %d is not known; 1 to %d are", f->path,
                       prefix, gating, known - 1);
    c->router.score = gating ? scores[gating] : score;
    c->router.scale = c->router.scale == 0 ? 1 : c->router.scale; /* 0: not scaled */
    return ODMOE_OK;
}

const tensor_info *arch_gguf_has(const model_files *f, const model_config *c, const char *pattern)
{
    const tensor_info *t = NULL;
    for (int l = 0; l < c->layers && !t; l++) {
        char name[96];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(name, sizeof name, pattern, l);
#pragma GCC diagnostic pop
        t = tensor_index_find(f->tensors, name);
    }
    return t;
}

void arch_gguf_shared(const model_files *f, model_config *c)
{
    const tensor_info *t = arch_gguf_has(f, c, "blk.%d.ffn_up_shexp.weight");
    if (t && t->dims == 2 && t->shape[0] <= MODEL_DIM_MAX)
        c->shared_ffn = (int)t->shape[0];
}

odmoe_status arch_gguf_deepseek(const model_files *f, const char *prefix, odmoe_score score, model_config *c,
                                odmoe_error *err)
{
    char key[128];
    key_of(key, prefix, "expert_weights_norm");
    c->router.renormalise = c->router.renormalise && gguf_has(f->gguf, key);
    c->router.sum_add = 1e-20f;
    arch_dense_first(c);
    arch_gguf_shared(f, c);
    return arch_gguf_router(f, prefix, score, c, err);
}

static bool block_has(const model_files *f, int block, const char *tensor)
{
    char name[64];
    snprintf(name, sizeof name, "blk.%d.%s", block, tensor);
    return tensor_index_find(f->tensors, name) != NULL;
}

/* block_count includes the prediction layers in most files, whatever nextn_predict_layers says: the last blocks that have
 * tensors of such layers. Or their tensors have been left out, and block_count has not been changed. */
static void drop_predictions(const model_files *f, model_config *c)
{
    int dropped = 0;
    for (; c->layers > 1 && block_has(f, c->layers - 1, "nextn.eh_proj.weight"); dropped++)
        c->layers--;
    for (; dropped < c->nextn && c->layers > 1 && !block_has(f, c->layers - 1, "attn_norm.weight"); dropped++)
        c->layers--;
    c->nextn = dropped > c->nextn ? dropped : c->nextn;
}

/* The FFN size of experts in files made before its key existed: what the tensors say. */
static void gguf_expert_ffn(const model_files *f, model_config *c)
{
    const tensor_info *t = c->expert_ffn ? NULL : arch_gguf_has(f, c, "blk.%d.ffn_up_exps.weight");
    if (t && t->dims == 3 && t->shape[1] <= MODEL_DIM_MAX)
        c->expert_ffn = (int)t->shape[1];
    if (!c->expert_ffn)
        c->expert_ffn = c->dense_ffn;
}

static odmoe_status gguf_causal(const model_files *f, const char *prefix, odmoe_error *err)
{
    char key[128];
    bool causal = true;
    key_of(key, prefix, "attention.causal");
    odmoe_status status = gguf_has(f->gguf, key) ? gguf_get_bool(f->gguf, key, &causal, err) : ODMOE_OK;
    if (!status && !causal)
        return err_set(err, ODMOE_ERR_UNSUPPORTED,
                       "%s: %s is false: a model whose tokens see those behind them does not generate text", f->path,
                       key);
    return status;
}

odmoe_status arch_gguf_list(const model_files *f, const char *key, const model_config *c, odmoe_error *err)
{
    gguf_type type;
    uint64_t n;
    odmoe_status status = gguf_get_array(f->gguf, key, &type, &n, err);
    if (!status && n != (uint64_t)c->layers && n != (uint64_t)c->layers + (uint64_t)c->nextn)
        return err_set(err, ODMOE_ERR_FORMAT, "%s: %s has %llu entries for %d layers", f->path, key,
                       (unsigned long long)n, c->layers);
    return status;
}

odmoe_status arch_gguf_windows(const model_files *f, const char *prefix, int period, model_config *c, odmoe_error *err)
{
    char key[128];
    gguf_type type;
    uint64_t n;
    key_of(key, prefix, "attention.sliding_window_pattern");
    bool list = gguf_has(f->gguf, key) && !gguf_get_array(f->gguf, key, &type, &n, NULL);
    odmoe_status status =
        list ? arch_gguf_list(f, key, c, err)
             : arch_gguf_int(f, prefix, "attention.sliding_window_pattern", MODEL_LAYERS_MAX, period, &period, err);
    for (int l = 0; l < c->layers && !status; l++) {
        bool slides = period > 0 && (l + 1) % period != 0;
        if (list)
            status = gguf_array_bool(f->gguf, key, (uint64_t)l, &slides, err);
        if (!slides)
            c->layer[l].window = 0;
    }
    return status;
}

odmoe_status arch_gguf_recurrent(const model_files *f, const char *prefix, int period, const struct mixer *linear,
                                 model_config *c, odmoe_error *err)
{
    char key[128];
    key_of(key, prefix, "attention.recurrent_layers");
    bool list = gguf_has(f->gguf, key);
    odmoe_status status =
        list ? arch_gguf_list(f, key, c, err)
             : arch_gguf_int(f, prefix, "full_attention_interval", MODEL_LAYERS_MAX, period, &period, err);
    if (!status && period < 1)
        status = err_set(err, ODMOE_ERR_FORMAT, "%s: %s.full_attention_interval is %d, expected 1 to %d", f->path,
                         prefix, period, MODEL_LAYERS_MAX);
    for (int l = 0; l < c->layers && !status; l++) {
        bool recurrent = (l + 1) % period != 0;
        if (list)
            status = gguf_array_bool(f->gguf, key, (uint64_t)l, &recurrent, err);
        if (recurrent)
            c->layer[l].mixer = linear;
    }
    return status;
}

void arch_gguf_other_mixers(model_config *c, const mixer *other)
{
    for (int l = 0; l < c->layers; l++)
        if (c->layer[l].kv_heads == 0) {
            c->layer[l].mixer = other;
            c->layer[l].kv_heads = c->layer[l].heads; /* says nothing there; 0 is out of range */
        }
}

odmoe_status arch_gguf_granite(const model_files *f, const char *prefix, model_config *c, odmoe_error *err)
{
    c->embedding_scale = c->embedding_scale ? c->embedding_scale : 1;
    c->residual_scale = c->residual_scale ? c->residual_scale : 1;
    c->logit_scale = c->logit_scale ? c->logit_scale : 1;
    return ODMOE_OK;
}

static odmoe_status gguf_vocab(const model_files *f, model_config *c, odmoe_error *err)
{
    const tensor_info *embed = tensor_index_find(f->tensors, "token_embd.weight");
    if (!embed || embed->dims != 2 || embed->shape[0] > MODEL_VOCAB_MAX)
        return err_set(err, ODMOE_ERR_FORMAT,
                       "%s: tensor token_embd.weight is missing or no matrix (has the download ended early, "
                       "or is this not the first part of a split file?)",
                       f->path);
    c->vocab = (int)embed->shape[0];
    return ODMOE_OK;
}

/* Head sizes that the file leaves out follow from the hidden size. */
static void derive_heads(model_config *c, layer_config *l)
{
    l->kv_heads = l->kv_heads == FIELD_DERIVED ? l->heads : l->kv_heads;
    int dim = l->heads ? c->hidden / l->heads : 0;
    l->key_dim = l->key_dim == FIELD_DERIVED ? dim : l->key_dim;
    l->value_dim = l->value_dim == FIELD_DERIVED ? dim : l->value_dim;
}

/* Some architectures have models with and without experts. */
static odmoe_status gguf_dense(const model_files *f, const char *prefix, odmoe_error *err)
{
    int experts;
    odmoe_status status = arch_gguf_int(f, prefix, "expert_count", ROUTER_EXPERTS_MAX, 0, &experts, err);
    return status || experts ? status : arch_is_dense(f->path, prefix, err);
}

odmoe_status arch_gguf_common(const model_files *f, const arch *a, model_config *c, odmoe_error *err)
{
    odmoe_status status = gguf_dense(f, a->gguf, err);
    if (!status)
        status = fields_read_gguf(f, a->gguf, a->fields, c, err);
    if (!status)
        status = gguf_causal(f, a->gguf, err);
    if (!status)
        status = gguf_vocab(f, c, err);
    if (status)
        return status;
    drop_predictions(f, c);
    for (int l = 0; l < c->layers; l++) {
        derive_heads(c, &c->layer[l]);
        c->layer[l].mixer = &mixer_attention;
    }
    gguf_expert_ffn(f, c);
    c->clip_qkv = fabsf(c->clip_qkv);
    c->attention_bias = true; /* GGUF files have the tensors, or have them not */
    c->tied = true;           /* GGUF leaves the output matrix out where it is the embedding */
    if (c->router.groups <= 1)
        c->router.groups = c->router.groups_used = 0;
    return gguf_rope(f, a, c, err);
}
