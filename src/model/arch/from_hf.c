/* from_hf.c - what families share in reading config.json. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/arch/arch.h"
#include "model/mixers/attention.h"

/* A family that turns whole heads. transformers ignores the number, or fails, depending on the scaling and on where it
 * stands; a file with it was made for something else. */
static odmoe_status refuse_part(config_object json, double part, odmoe_error *err)
{
    if (part == 1)
        return ODMOE_OK;
    return err_set(err, ODMOE_ERR_UNSUPPORTED,
                   "%s: partial_rotary_factor %g: this family turns whole heads (1, or leave it out)", json.file, part);
}

/* How much of a head turns: partial_rotary_factor, wherever it stands, or rotary_dim. */
static odmoe_status read_rotary(config_object json, const arch *a, int head, int *dim, odmoe_error *err)
{
    static const char *const parts[] = {NULL, "rope_scaling", "rope_parameters"};
    double part = a->rotary_part > 0 ? a->rotary_part : 1;
    int64_t turning;
    bool given = false;
    *dim = head;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        config_object object = json;
        double read;
        odmoe_status status = parts[i] ? config_part(json, parts[i], &object, err) : ODMOE_OK;
        if (!status)
            status = config_float(object, "partial_rotary_factor", false, 0, 1, -1, &read, err);
        if (!status && read >= 0 && a->rotary_part <= 0)
            status = refuse_part(json, read, err);
        if (status)
            return status;
        given = given || read >= 0;
        part = read >= 0 ? read : part;
    }
    if (a->rotary_part <= 0)
        return ODMOE_OK;
    *dim = (int)(head * part);
    odmoe_status status = config_int(json, "rotary_dim", false, 0, 4096, *dim, &turning, err);
    if (!status && given && turning != *dim)
        return err_set(err, ODMOE_ERR_UNSUPPORTED,
                       "%s: rotary_dim %d and partial_rotary_factor %g of heads of %d disagree", json.file,
                       (int)turning, part, head);
    *dim = (int)turning;
    return status;
}

static void derive_heads(model_config *c, layer_config *l)
{
    l->kv_heads = l->kv_heads == FIELD_DERIVED ? l->heads : l->kv_heads;
    int dim = l->heads ? c->hidden / l->heads : 0;
    l->key_dim = l->key_dim == FIELD_DERIVED ? dim : l->key_dim;
    l->value_dim = l->value_dim == FIELD_DERIVED ? l->key_dim : l->value_dim;
}

/* A rope base that grows once and for all; other families mean something else by these keys. */
static odmoe_status grow_base(config_object json, const arch *a, int head, rope_config *r, odmoe_error *err)
{
    if (!a->ntk_alpha || head <= 2)
        return err_set(err, ODMOE_ERR_UNSUPPORTED,
                       "%s: rope scaling 'dynamic' with alpha is not supported for family %s and heads of %d",
                       json.file, a->family, head);
    r->theta *= pow(r->ntk_alpha, head / (head - 2.0));
    return ODMOE_OK;
}

/* One rope set; LongRoPE brings a factor for each pair, in two lists. */
static odmoe_status read_rope_set(config_object json, const arch *a, const char *layers, int context, rope_set *out,
                                  odmoe_error *err)
{
    config_object rope;
    out->pairing = a->hf_pairing;
    odmoe_status status = config_rope_of(json, layers, a->rope_theta, context, &out->positions, err);
    if (status || out->positions.scaling != ROPE_LONG)
        return status;
    status = config_rope_object(json, layers, &rope, err);
    if (!status)
        status = config_numbers(rope, "short_factor", 1e-6, 1e6, &out->short_factors, &out->n_short, err);
    if (!status)
        status = config_numbers(rope, "long_factor", 1e-6, 1e6, &out->long_factors, &out->n_long, err);
    if (!status && (!out->short_factors || !out->long_factors))
        status = err_set(err, ODMOE_ERR_FORMAT, "%s: position scaling 'longrope' needs short_factor and long_factor",
                         json.file);
    return status;
}

static odmoe_status read_ropes(config_object json, const arch *a, model_config *c, odmoe_error *err)
{
    int sets = 0;
    while (a->rope_layers && a->rope_layers[sets])
        sets++;
    c->rope_sets = sets ? sets : 1;
    odmoe_status status = ODMOE_OK;
    for (int i = 0; i < c->rope_sets && !status; i++)
        status = read_rope_set(json, a, sets ? a->rope_layers[i] : NULL, c->context, &c->ropes[i], err);
    return status;
}

odmoe_status arch_hf_common(config_object json, const arch *a, model_config *c, odmoe_error *err)
{
    const char *act;
    odmoe_status status = fields_read_hf(&json, a->fields, c, err);
    if (!status)
        status = config_text(json, "hidden_act", false, "silu", &act, err);
    if (!status)
        status = read_ropes(json, a, c, err);
    if (status)
        return status;
    if (strcmp(act, "silu"))
        return err_set(err, ODMOE_ERR_UNSUPPORTED, "%s: hidden_act '%.32s' is not supported (silu is)", json.file, act);
    for (int l = 0; l < c->layers; l++) {
        derive_heads(c, &c->layer[l]);
        c->layer[l].mixer = &mixer_attention;
    }
    if (c->ropes[0].positions.ntk_alpha > 0)
        status = grow_base(json, a, c->layer[0].key_dim, &c->ropes[0].positions, err);
    if (status)
        return status;
    if (c->router.groups <= 1)
        c->router.groups = c->router.groups_used = 0;
    if (a->rope_layers)
        return ODMOE_OK;
    return read_rotary(json, a, c->layer[0].key_dim, &c->ropes[0].dim, err);
}

odmoe_status arch_hf_only(config_object json, const char *key, double value, odmoe_error *err)
{
    const json_t *v = json_object_get(json.object, key);
    if (!v || json_is_null(v))
        return ODMOE_OK;
    double is = json_is_boolean(v) ? json_is_true(v) : json_number_value(v);
    if ((json_is_boolean(v) || json_is_number(v)) && is == value)
        return ODMOE_OK;
    return err_set(err, ODMOE_ERR_UNSUPPORTED, "%s: %s is not %g: the model needs something that is not supported",
                   json.file, key, value);
}

odmoe_status arch_hf_score(config_object json, odmoe_score score, model_config *c, odmoe_error *err)
{
    static const char *const keys[] = {"scoring_func", "score_function", "score_func", "moe_router_activation_func"};
    const char *word = NULL;
    odmoe_status status = ODMOE_OK;
    for (size_t i = 0; i < sizeof keys / sizeof *keys && !status && !word; i++)
        status = config_text(json, keys[i], false, NULL, &word, err);
    if (status)
        return status;
    c->router.score = score;
    if (word && !strcmp(word, "sigmoid"))
        c->router.score = ODMOE_SCORE_SIGMOID;
    else if (word && !strcmp(word, "softmax"))
        c->router.score = ODMOE_SCORE_SOFTMAX;
    else if (word)
        return err_set(err, ODMOE_ERR_UNSUPPORTED, "%s: router score '%.32s' is not supported (sigmoid, softmax are)",
                       json.file, word);
    return ODMOE_OK;
}

odmoe_status arch_hf_router(config_object json, odmoe_score score, model_config *c, odmoe_error *err)
{
    const char *method;
    odmoe_status status = arch_hf_score(json, score, c, err);
    if (!status)
        status = config_text(json, "topk_method", false, "noaux_tc", &method, err);
    if (status)
        return status;
    if (strcmp(method, "noaux_tc"))
        return err_set(err, ODMOE_ERR_UNSUPPORTED, "%s: topk_method '%.32s' is not supported (noaux_tc is)", json.file,
                       method);
    return ODMOE_OK;
}

/* mlp_layer_types, a word for each layer; missing: the layers stay as they are. */
static odmoe_status read_ffn_types(config_object json, model_config *c, odmoe_error *err)
{
    const json_t *types = json_object_get(json.object, "mlp_layer_types");
    if (!types || json_is_null(types))
        return ODMOE_OK;
    if (!json_is_array(types) || json_array_size(types) != (size_t)c->layers)
        return err_set(err, ODMOE_ERR_FORMAT, "%s: mlp_layer_types must be a list with one word for each of %d layers",
                       json.file, c->layers);
    for (int l = 0; l < c->layers; l++) {
        const char *type = json_string_value(json_array_get(types, (size_t)l));
        bool dense = type && !strcmp(type, "dense");
        if (!type || (!dense && strcmp(type, "sparse")))
            return err_set(err, ODMOE_ERR_UNSUPPORTED,
                           "%s: mlp_layer_types: '%.32s' of layer %d is not known; known are dense, sparse", json.file,
                           type ? type : "(no text)", l);
        c->layer[l].ffn = dense ? FFN_DENSE : FFN_EXPERTS;
    }
    return ODMOE_OK;
}

odmoe_status arch_hf_deepseek(config_object json, model_config *c, odmoe_error *err)
{
    odmoe_status status = arch_hf_router(json, ODMOE_SCORE_SIGMOID, c, err);
    if (!status)
        status = arch_hf_only(json, "moe_layer_freq", 1, err);
    if (status)
        return status;
    c->router.sum_add = 1e-20f;
    arch_dense_first(c);
    status = arch_shared_ffn(c, json.file, err);
    return status ? status : read_ffn_types(json, c, err);
}

odmoe_status arch_hf_dense_layers(config_object json, model_config *c, odmoe_error *err)
{
    int64_t step;
    odmoe_status status = config_int(json, "decoder_sparse_step", false, 1, MODEL_LAYERS_MAX, 1, &step, err);
    if (status)
        return status;
    for (int l = 0; l < c->layers; l++)
        c->layer[l].ffn = (l + 1) % step ? FFN_DENSE : FFN_EXPERTS;
    const json_t *only = json_object_get(json.object, "mlp_only_layers");
    if (only && !json_is_array(only) && !json_is_null(only))
        return err_set(err, ODMOE_ERR_FORMAT, "%s: mlp_only_layers is not a list of layers", json.file);
    for (size_t i = 0; i < json_array_size(only); i++) {
        const json_t *l = json_array_get(only, i);
        if (!json_is_integer(l) || json_integer_value(l) < 0 || json_integer_value(l) >= c->layers)
            return err_set(err, ODMOE_ERR_FORMAT, "%s: mlp_only_layers names a layer that isn't there", json.file);
        c->layer[json_integer_value(l)].ffn = FFN_DENSE;
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
        return err_set(
            err, ODMOE_ERR_FORMAT,
            "%s: sliding_window is 0, which would hide all tokens; write null, or use_sliding_window false, for no "
            "window",
            json.file);
    *window = use ? (int)size : 0;
    return ODMOE_OK;
}

odmoe_status arch_hf_layer_types(config_object json, int window, model_config *c, bool *given, odmoe_error *err)
{
    int layers = c->layers;
    const json_t *types = json_object_get(json.object, "layer_types");
    *given = types && !json_is_null(types);
    if (!*given)
        return ODMOE_OK;
    if (!json_is_array(types) || json_array_size(types) != (size_t)layers)
        return err_set(err, ODMOE_ERR_FORMAT, "%s: layer_types must be a list with one word for each of %d layers",
                       json.file, layers);
    for (int l = 0; l < layers; l++) {
        const char *type = json_string_value(json_array_get(types, (size_t)l));
        bool slides = type && !strcmp(type, "sliding_attention");
        if (!type || (!slides && strcmp(type, "full_attention")))
            return err_set(err, ODMOE_ERR_UNSUPPORTED,
                           "%s: layer_types: '%.32s' of layer %d is not known; known are full_attention, "
                           "sliding_attention",
                           json.file, type ? type : "(no text)", l);
        if (slides && !window)
            return err_set(err, ODMOE_ERR_FORMAT,
                           "%s: layer_types lets layer %d slide, but use_sliding_window and sliding_window give no "
                           "window",
                           json.file, l);
        c->layer[l].window = slides ? window : 0;
    }
    return ODMOE_OK;
}

/* The word of layer l, which the configuration holds for as long as it lives; or its letter, in `letter`. */
static const char *word_of(const json_t *list, int l, char letter[2])
{
    if (!json_is_string(list))
        return json_string_value(json_array_get(list, (size_t)l));
    letter[0] = json_string_value(list)[l];
    return letter;
}

static odmoe_status unknown_word(config_object json, const char *key, const layer_word *words, int l, const char *word,
                                 odmoe_error *err)
{
    char known[120] = "";
    size_t used = 0;
    for (; words->word && used < sizeof known; words++)
        used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "", words->word);
    return err_set(err, ODMOE_ERR_UNSUPPORTED, "%s: %s: '%.32s' of layer %d is not known; known are %s", json.file, key,
                   word ? word : "(no text)", l, known);
}

odmoe_status arch_hf_layer_words(config_object json, const char *key, const layer_word *words, model_config *c,
                                 odmoe_error *err)
{
    const json_t *list = json_object_get(json.object, key);
    size_t n = json_is_string(list) ? json_string_length(list) : json_array_size(list);
    if (n != (size_t)c->layers)
        return err_set(err, ODMOE_ERR_FORMAT, "%s: %s must say for each of %d layers what it is, and has %zu entries",
                       json.file, key, c->layers, n);
    for (int l = 0; l < c->layers; l++) {
        char letter[2] = "";
        const char *word = word_of(list, l, letter);
        const layer_word *at = words;
        while (at->word && (!word || strcmp(at->word, word)))
            at++;
        if (!at->word)
            return unknown_word(json, key, words, l, word, err);
        c->layer[l].mixer = at->mixer;
        c->layer[l].ffn = at->ffn;
    }
    return ODMOE_OK;
}

/* The reader of config.json makes an empty text of the word Infinity; transformers 5 writes {"__float__": "Infinity"}. */
static bool is_infinite(const json_t *value)
{
    const char *word = json_string_value(json_is_object(value) ? json_object_get(value, "__float__") : value);
    return word && (!*word || !strcmp(word, "Infinity"));
}

odmoe_status arch_hf_time_step(config_object json, odmoe_error *err)
{
    const json_t *limit = json_object_get(json.object, "time_step_limit");
    const json_t *least = json_array_get(limit, 0), *most = json_array_get(limit, 1);
    if (!limit || json_is_null(limit))
        return ODMOE_OK;
    if (json_array_size(limit) == 2 && json_is_number(least) && json_number_value(least) == 0 && is_infinite(most))
        return ODMOE_OK;
    return err_set(err, ODMOE_ERR_UNSUPPORTED,
                   "%s: time_step_limit clamps time steps, which is not supported (0 to Infinity is)", json.file);
}

odmoe_status arch_hf_sliding(config_object json, int fallback, model_config *c, int *window, bool *given,
                             odmoe_error *err)
{
    int64_t size = 0;
    odmoe_status status =
        config_int(json, "sliding_window", false, fallback ? 1 : 0, MODEL_CONTEXT_MAX, fallback, &size, err);
    *window = (int)size;
    return status ? status : arch_hf_layer_types(json, *window, c, given, err);
}
