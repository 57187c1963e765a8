/* latent.c - what families with latent attention share. */
#include "model/mixers/latent.h"

#include <math.h>

#include "model/arch/arch.h"
#include "model/mixers/attention.h"

static void set_layers(model_config *c)
{
    for (int l = 0; l < c->layers; l++) {
        if (c->layer[l].mixer == &mixer_attention)
            c->layer[l].mixer = &mixer_latent;
        c->layer[l].kv_heads = 1;
    }
    c->ropes[0].dim = c->rope_part;
}

/* The scale of scores. weight: of the logarithm of YaRN's factor. */
static void set_scale(model_config *c, double weight)
{
    const rope_config *r = &c->ropes[0].positions;
    double stretched = r->scaling == ROPE_YARN && r->factor > 1 ? weight * log(r->factor) + 1 : 1;
    if (c->layer[0].key_dim > 0) /* 0 is refused later, with the number's name */
        c->attention_scale = (float)(stretched * stretched / sqrt(c->layer[0].key_dim));
}

odmoe_status arch_gguf_latent(const model_files *f, const char *prefix, model_config *c, odmoe_error *err)
{
    rope_config *r = &c->ropes[0].positions;
    double weight;
    odmoe_status status = arch_gguf_float(f, prefix, "rope.scaling.yarn_log_multiplier", 0, &weight, err);
    if (status)
        return status;
    set_layers(c);
    c->latent_parts = arch_gguf_has(f, c, "blk.%d.attn_k_b.weight") != NULL;
    /* The scale of scores holds what other families' cos and sin do. */
    if (r->scaling == ROPE_YARN && r->factor > 1)
        r->attention_factor /= 0.1 * log(r->factor) + 1;
    set_scale(c, weight);
    if (c->temper > 0 && !c->temper_every)
        c->temper_every = (int)r->original_context;
    return ODMOE_OK;
}

odmoe_status arch_hf_latent(config_object json, model_config *c, odmoe_error *err)
{
    int64_t nope;
    bool neighbours;
    odmoe_status status = config_int(json, "qk_nope_head_dim", true, 1, 4096, 0, &nope, err);
    if (!status)
        status = config_bool(json, "rope_interleave", false, true, &neighbours, err);
    if (status)
        return status;
    set_layers(c);
    for (int l = 0; l < c->layers; l++)
        c->layer[l].key_dim = (int)nope + c->rope_part;
    c->ropes[0].pairing = neighbours ? ROPE_NEIGHBOURS : ROPE_HALVES;
    set_scale(c, 0.1 * c->ropes[0].positions.mscale_all_dim);
    return ODMOE_OK;
}

odmoe_status arch_hf_deepseek_v3(config_object json, model_config *c, odmoe_error *err)
{
    odmoe_status status = arch_hf_latent(json, c, err);
    return status ? status : arch_hf_deepseek(json, c, err);
}

const weight_table arch_tables_deepseek_v3[] = {{NULL, arch_weights_frame},  {&mixer_latent, latent_weights},
                                                {NULL, arch_weights_mlp},    {NULL, arch_weights_selection_bias},
                                                {NULL, arch_weights_shared}, {0}};
