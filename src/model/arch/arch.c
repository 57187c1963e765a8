#include "model/arch/arch.h"

#include <stdio.h>
#include <string.h>

#include "model/quantisation.h"

/* All families, one a line, so that branches that add one merge by themselves. */
/* clang-format off */
#define FAMILIES(X) \
    X(mixtral) \
    X(olmoe) \
    X(qwen2_moe) \
    X(qwen3_moe) \
    X(qwen3_next) \
    X(qwen3_5_moe) \
    X(gpt_oss) \
    X(deepseek_v2) \
    X(deepseek_v3) \
    X(kimi_k2) \
    X(kimi_k25) \
    X(kimi_linear) \
    X(mistral4) \
    X(glm4_moe_lite) \
    X(glm_moe_dsa) \
    X(glm4_moe) \
    X(minimax_m2) \
    X(granitemoe) \
    X(dots1) \
    X(bailing_moe) \
    X(ernie4_5_moe) \
    X(gemma4) \
    X(llama4) \
    X(phimoe) \
    X(hunyuan_v1_moe) \
    X(exaone_moe) \
    X(afmoe) \
    X(flex_olmo) \
    X(lfm2_moe) \
    X(granitemoehybrid) \
    X(nemotron_h)
/* clang-format on */

#define DECLARE(name) extern const arch arch_##name;
FAMILIES(DECLARE)
#define ADDRESS(name) &arch_##name,
static const arch *const families[] = {FAMILIES(ADDRESS)};

const arch *arch_at(int i)
{
    return i >= 0 && i < (int)(sizeof families / sizeof *families) ? families[i] : NULL;
}

odmoe_status arch_is_dense(const char *where, const char *name, odmoe_error *err)
{
    return err_set(
        err, ODMOE_ERR_UNSUPPORTED,
        "%s: '%.64s' is a dense model (no experts); odmoe is for Mixture-of-Experts models: use llama.cpp or "
        "another program for this one",
        where, name);
}

void arch_dense_first(model_config *c)
{
    for (int l = 0; l < c->layers; l++)
        c->layer[l].ffn = l < c->dense_layers ? FFN_DENSE : FFN_EXPERTS;
}

void arch_turn_sliding_layers(model_config *c)
{
    for (int l = 0; l < c->layers; l++)
        c->layer[l].rope = c->layer[l].window ? 0 : ROPE_OFF;
}

odmoe_status arch_shared_ffn(model_config *c, const char *file, odmoe_error *err)
{
    int64_t size = (int64_t)c->shared_experts * c->expert_ffn;
    if (!c->shared_ffn && size > MODEL_DIM_MAX)
        return err_set(err, ODMOE_ERR_FORMAT, "%s: %d shared experts of size %d: at most %d in all are possible", file,
                       c->shared_experts, c->expert_ffn, MODEL_DIM_MAX);
    c->shared_ffn = c->shared_ffn ? c->shared_ffn : (int)size;
    return ODMOE_OK;
}

static void list_families(char *out, size_t room, bool for_gguf)
{
    size_t used = 0;
    out[0] = 0;
    for (int i = 0; arch_at(i); i++) {
        const char *name = for_gguf ? arch_at(i)->gguf : arch_at(i)->family;
        if (name && used < room)
            used += (size_t)snprintf(out + used, room - used, "%s%s", used ? ", " : "", name);
    }
}

static odmoe_status unknown(const model_files *f, const char *name, int length, odmoe_error *err)
{
    char list[400];
    list_families(list, sizeof list, f->gguf != NULL);
    return err_set(err, ODMOE_ERR_UNSUPPORTED, "%s: model family '%.*s' is not known; known are: %s", f->path,
                   length > 64 ? 64 : length, name, list);
}

static odmoe_status read_gguf(const model_files *f, const arch **out, model_config *config, odmoe_error *err)
{
    gguf_text name;
    odmoe_status status = gguf_get_text(f->gguf, "general.architecture", &name, err);
    if (status)
        return status;
    for (int i = 0; arch_at(i); i++) {
        const arch *a = arch_at(i);
        if (!a->gguf || strlen(a->gguf) != name.length || memcmp(a->gguf, name.at, name.length))
            continue;
        *out = a;
        config->family = a->family;
        status = arch_gguf_common(f, a, config, err);
        return status || !a->from_gguf ? status : a->from_gguf(f, a->gguf, config, err);
    }
    char key[96];
    snprintf(key, sizeof key, "%.*s.expert_count", name.length > 64 ? 64 : (int)name.length, name.at);
    if (!gguf_has(f->gguf, key))
        return err_set(
            err, ODMOE_ERR_UNSUPPORTED,
            "%s: '%.*s' is a dense model (no experts); odmoe is for Mixture-of-Experts models: use llama.cpp "
            "or another program for this one",
            f->path, name.length > 64 ? 64 : (int)name.length, name.at);
    return unknown(f, name.at, (int)(name.length > 64 ? 64 : name.length), err);
}

/* What config.json says of the language model: all of it, or, of models that see or hear as well, its text_config. */
typedef struct language_config {
    config_object whole, text; /* text: the same as `whole` where there is no such part */
    const char *outer, *name;  /* model_type of either */
} language_config;

static odmoe_status language_part(const model_files *f, language_config *out, odmoe_error *err)
{
    out->whole = out->text = (config_object){f->config, "config.json"};
    config_object part;
    odmoe_status status = config_text(out->whole, "model_type", true, NULL, &out->outer, err);
    if (!status)
        status = config_part(out->whole, "text_config", &part, err);
    if (!status && part.object)
        out->text = (config_object){part.object, "config.json: text_config"};
    return status ? status : config_text(out->text, "model_type", false, out->outer, &out->name, err);
}

static bool named(const arch *a, const char *name)
{
    return !strcmp(a->family, name) || (a->hf_text && !strcmp(a->hf_text, name));
}

/* By the name of the whole, or by the language model's own. */
static const arch *find_hf(const language_config *c)
{
    const char *const names[] = {c->outer, c->name};
    for (size_t k = 0; k < sizeof names / sizeof *names; k++)
        for (int i = 0; arch_at(i); i++)
            if (named(arch_at(i), names[k]))
                return arch_at(i);
    return NULL;
}

static const char *const expert_keys[] = {"num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"};

static odmoe_status unknown_hf(const model_files *f, const language_config *c, odmoe_error *err)
{
    for (size_t i = 0; i < sizeof expert_keys / sizeof *expert_keys; i++)
        if (json_object_get(c->text.object, expert_keys[i]))
            return unknown(f, c->name, (int)strlen(c->name), err);
    return arch_is_dense(f->path, c->name, err);
}

/* Some families have models without experts, which say so by a 0. */
static bool has_no_experts(const language_config *c)
{
    for (size_t i = 0; i < sizeof expert_keys / sizeof *expert_keys; i++) {
        const json_t *experts = json_object_get(c->text.object, expert_keys[i]);
        if (json_is_integer(experts) && json_integer_value(experts) == 0)
            return true;
    }
    return false;
}

static odmoe_status read_hf(const model_files *f, const arch **out, model_config *config, odmoe_error *err)
{
    language_config c;
    odmoe_status status = language_part(f, &c, err);
    const arch *a = status ? NULL : find_hf(&c);
    if (status)
        return status;
    if (!a)
        return unknown_hf(f, &c, err);
    if (has_no_experts(&c))
        return arch_is_dense(f->path, c.name, err);
    *out = a;
    config->family = a->family;
    status = quantisation_check(f->path, c.whole, err);
    if (!status)
        status = quantisation_check(f->path, c.text, err);
    if (!status)
        status = arch_hf_common(c.text, a, config, err);
    if (!status && !json_object_get(c.text.object, "tie_word_embeddings")) /* some files say it of the whole */
        status = config_bool(c.whole, "tie_word_embeddings", false, config->tied, &config->tied, err);
    return status || !a->from_hf ? status : a->from_hf(c.text, config, err);
}

odmoe_status arch_read(const model_files *f, const arch **out, model_config *config, odmoe_error *err)
{
    memset(config, 0, sizeof *config);
    odmoe_status status = f->gguf ? read_gguf(f, out, config, err) : read_hf(f, out, config, err);
    if (status)
        return status;
    config_number_layers(config);
    status = config_check(config, err);
    if (status)
        err_context(err, "%s", f->path);
    return status;
}
