#include "model/config.h"

#include <math.h>

int config_moe_layer(const model_config *c, int l)
{
    if (c->dense[l])
        return -1;
    int n = 0;
    for (int i = 0; i < l; i++)
        n += !c->dense[i];
    return n;
}

int config_moe_layers(const model_config *c)
{
    int n = 0;
    for (int i = 0; i < c->layers; i++)
        n += !c->dense[i];
    return n;
}

static odmoe_status check_reals(const model_config *c, odmoe_error *err)
{
    const rope_config *r = &c->rope;
    const struct {
        const char *what;
        double value, above, most; /* above < value <= most */
    } reals[] = {
        {"RMS norm epsilon", c->rms_eps, 0, 1},
        {"rope base", r->theta, r->scaling == ROPE_YARN ? 1 : 0, 1e18},
        {"rope scaling factor", r->factor, 0, 1e9},
        {"original context of YaRN", r->scaling == ROPE_YARN ? (double)r->original_context : 1, 0, MODEL_CONTEXT_MAX},
        {"beta_fast of YaRN", r->scaling == ROPE_YARN ? r->beta_fast : 1, 0, 1e9},
        {"beta_slow of YaRN", r->scaling == ROPE_YARN ? r->beta_slow : 1, 0, 1e9},
        {"attention factor of YaRN", r->attention_factor, -1e-9, 1e9}, /* 0: from the factor */
        {"clip of q, k and v", c->clip_qkv, -1e-9, 3e38},              /* 0: none */
    };
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++)
        if (!(reals[i].value > reals[i].above && reals[i].value <= reals[i].most))
            return err_set(err, ODMOE_ERR_FORMAT, "%s is %g, expected more than %g and up to %g", reals[i].what,
                           reals[i].value, fmax(reals[i].above, 0), reals[i].most);
    return ODMOE_OK;
}

odmoe_status config_check(const model_config *c, odmoe_error *err)
{
    const struct {
        const char *what;
        int64_t value, max;
    } sizes[] = {
        {"number of layers", c->layers, MODEL_LAYERS_MAX},
        {"vocabulary size", c->vocab, MODEL_VOCAB_MAX},
        {"context length", c->context, MODEL_CONTEXT_MAX},
        {"hidden size", c->hidden, MODEL_DIM_MAX},
        {"number of heads", c->heads, 4096},
        {"number of key/value heads", c->kv_heads, 4096},
        {"head dimension", c->head_dim, 4096},
        {"expert FFN size", c->expert_ffn, MODEL_DIM_MAX},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (sizes[i].value < 1 || sizes[i].value > sizes[i].max)
            return err_set(err, ODMOE_ERR_FORMAT, "%s is %lld, expected 1 to %lld", sizes[i].what,
                           (long long)sizes[i].value, (long long)sizes[i].max);
    if (c->heads % c->kv_heads)
        return err_set(err, ODMOE_ERR_FORMAT, "%d heads cannot share %d key/value heads evenly", c->heads, c->kv_heads);
    if (c->rope_dim < 2 || c->rope_dim % 2 || c->rope_dim > c->head_dim)
        return err_set(err, ODMOE_ERR_FORMAT,
                       "%d of %d elements of a head turn with the position: an even number is needed", c->rope_dim,
                       c->head_dim);
    if (c->shared_ffn < 0 || c->shared_ffn > MODEL_DIM_MAX || c->dense_ffn < 0 || c->dense_ffn > MODEL_DIM_MAX)
        return err_set(err, ODMOE_ERR_FORMAT, "FFN size %d or %d is out of range", c->shared_ffn, c->dense_ffn);
    if (!config_moe_layers(c))
        return err_set(err, ODMOE_ERR_UNSUPPORTED,
                       "no layer has experts: this is a dense model; use llama.cpp or another program for those");
    odmoe_status status = check_reals(c, err);
    return status ? status : router_check(&c->router, err);
}
