#include "model/config.h"

#include <stdlib.h>

#include "model/mixers/mixer.h"

void config_free(model_config *c)
{
    for (int i = 0; i < ROPE_SETS_MAX; i++) {
        free(c->ropes[i].short_factors);
        free(c->ropes[i].long_factors);
        c->ropes[i] = (rope_set){0};
    }
    free(c->layer);
    c->layer = NULL;
    c->layers = 0;
}

void config_number_layers(model_config *c)
{
    c->moe_layers = 0;
    for (int l = 0; l < c->layers; l++) {
        c->layer[l].moe_index = c->layer[l].ffn == FFN_EXPERTS ? c->moe_layers++ : -1;
        c->layer[l].state_source = l;
    }
}

static odmoe_status check_rope(const rope_set *s, odmoe_error *err)
{
    const rope_config *r = &s->positions;
    bool yarn = r->scaling == ROPE_YARN, stretched = yarn || r->scaling == ROPE_LLAMA3;
    const struct {
        const char *what;
        double value, above, most; /* above < value <= most */
    } reals[] = {
        {"rope base", r->theta, yarn ? 1 : 0, 1e18},
        {"rope scaling factor", r->factor, 0, 1e9},
        {"original context of the scaling", stretched ? (double)r->original_context : 1, 0, MODEL_CONTEXT_MAX},
        {"original context of LongRoPE", r->scaling == ROPE_LONG ? (double)r->original_context : 2, 1,
         MODEL_CONTEXT_MAX},
        {"beta_fast of YaRN", yarn ? r->beta_fast : 1, 0, 1e9},
        {"beta_slow of YaRN", yarn ? r->beta_slow : 1, 0, 1e9},
        {"attention factor", r->attention_factor, -1e-9, 1e9}, /* 0: from the factor */
        {"attention factor of long contexts", r->long_attention, -1e-9, 1e9},
    };
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++)
        if (!(reals[i].value > reals[i].above && reals[i].value <= reals[i].most))
            return err_set(err, ODMOE_ERR_FORMAT, "%s is %g, expected more than %g and up to %g", reals[i].what,
                           reals[i].value, fmax(reals[i].above, 0), reals[i].most);
    if ((s->short_factors && s->n_short != s->dim / 2) || (s->long_factors && s->n_long != s->dim / 2))
        return err_set(err, ODMOE_ERR_FORMAT,
                       "short_factor has %d and long_factor %d numbers, expected %d: one for each pair that turns",
                       s->n_short, s->n_long, s->dim / 2);
    return ODMOE_OK;
}

static odmoe_status check_layer(const model_config *c, int l, odmoe_error *err)
{
    const layer_config *layer = &c->layer[l];
    if (layer->rope != ROPE_OFF && (layer->rope < 0 || layer->rope >= c->rope_sets))
        return err_set(err, ODMOE_ERR_FORMAT, "layer %d names rope set %d of %d", l, layer->rope, c->rope_sets);
    if (!layer->mixer && layer->ffn == FFN_NONE)
        return err_set(err, ODMOE_ERR_FORMAT, "layer %d has neither a mixer nor an FFN", l);
    odmoe_status status = layer->mixer ? layer->mixer->check(c, l, err) : ODMOE_OK;
    if (!status && layer->ffn == FFN_DENSE && c->dense_ffn < 1)
        status = err_set(err, ODMOE_ERR_FORMAT, "layer %d has a dense FFN of size %d, expected 1 to %d", l,
                         c->dense_ffn, MODEL_DIM_MAX);
    return status;
}

odmoe_status config_check(const model_config *c, odmoe_error *err)
{
    odmoe_status status = fields_check(c, err);
    for (int i = 0; i < c->rope_sets && !status; i++)
        status = check_rope(&c->ropes[i], err);
    for (int l = 0; l < c->layers && !status; l++)
        status = check_layer(c, l, err);
    if (status)
        return status;
    if (!c->moe_layers)
        return err_set(err, ODMOE_ERR_UNSUPPORTED,
                       "no layer has experts: this is a dense model; use llama.cpp or another program for those");
    return router_check(&c->router, err);
}
