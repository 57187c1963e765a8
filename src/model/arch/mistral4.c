/* Mistral 4: latent attention whose queries grow with positions, softmax scores that are renormalised, shared experts, no
 * dense layer; the language model of a model that sees as well. */
#include "model/arch/arch.h"

/* Converters leave the growth out; every published model has this one. */
#define TEMPER 0.1

static odmoe_status from_gguf(const model_files *f, const char *prefix, model_config *c, odmoe_error *err)
{
    odmoe_status status = arch_gguf_latent(f, prefix, c, err);
    c->selection_bias = false;
    return status ? status : arch_gguf_deepseek(f, prefix, ODMOE_SCORE_SOFTMAX, c, err);
}

static odmoe_status from_hf(config_object json, model_config *c, odmoe_error *err)
{
    config_object rope;
    double temper;
    odmoe_status status = arch_hf_deepseek_v3(json, c, err);
    if (!status)
        status = arch_hf_score(json, ODMOE_SCORE_SOFTMAX, c, err);
    if (!status)
        status = config_part(json, "rope_parameters", &rope, err);
    if (!status)
        status = config_float(rope, "llama_4_scaling_beta", true, 0, 1e3, TEMPER, &temper, err);
    if (status)
        return status;
    if (c->router.score != ODMOE_SCORE_SOFTMAX)
        return err_set(err, ODMOE_ERR_UNSUPPORTED, "%s: scoring_func is not softmax, which mistral4 needs", json.file);
    c->temper = (float)temper;
    c->temper_every = (int)c->ropes[0].positions.original_context;
    c->selection_bias = false;
    return ODMOE_OK;
}

static const field_rule fields[] = {
    {FIELD_temper, "attention.temperature_scale", NULL, TEMPER},
    ARCH_FIELDS_LATENT,
    ARCH_FIELDS_DEEPSEEK,
    {FIELD_rms_eps, "attention.layer_norm_rms_epsilon", "rms_norm_eps", 1e-6},
    FIELDS_END,
};

const arch arch_mistral4 = {
    .family = "mistral4",
    .gguf = "mistral4",
    .fields = fields,
    .rope_theta = 1e4,
    .rotary_part = 1, /* files give it as a part of the whole head */
    .gguf_pairing = ROPE_NEIGHBOURS,
    .hf_pairing = ROPE_NEIGHBOURS,
    .weights = arch_tables_deepseek_v3,
    .experts = arch_experts_mlp,
    .ignored = arch_ignored_vision,
    .from_gguf = from_gguf,
    .from_hf = from_hf,
};
