#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/handles.h"
#include "base/mem.h"
#include "moe/router.h"
#include "shadow/shadow.h"

struct odmoe_shadow {
    shadow s;
    const float **routers; /* [layers] the caller's pointers */
};

const char *odmoe_shadow_at(int i)
{
    const shadow_kind *kind = shadow_kind_at(i);
    return kind ? kind->name : NULL;
}

static odmoe_status find_kind(const char *name, const shadow_kind **out, odmoe_error *err)
{
    char list[128] = "";
    for (int i = 0; (*out = shadow_kind_at(i)); i++) {
        size_t used = strlen(list);
        if (!strcmp((*out)->name, name))
            return ODMOE_OK;
        snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", (*out)->name);
    }
    return err_set(err, ODMOE_ERR_ARG, "predictor '%.32s' is not known; there are %s", name, list);
}

odmoe_status odmoe_shadow_create(const char *kind, const odmoe_layer_options *layer, odmoe_shadow **out,
                                 odmoe_error *err)
{
    odmoe_layer_options o;
    const shadow_kind *found;
    shadow_config config;
    odmoe_layer_options_init(&o);
    odmoe_status status = copy_in(&o, layer, sizeof o, "odmoe_layer_options_init", err);
    if (!status)
        status = find_kind(kind, &found, err);
    if (!status && (o.layers < 1 || o.experts < 1 || o.experts > ROUTER_EXPERTS_MAX || o.top_k < 1 || o.hidden < 1))
        status = err_set(err, ODMOE_ERR_RANGE, "a predictor for %d layers of %d experts, top-k %d, hidden %d", o.layers,
                         o.experts, o.top_k, o.hidden);
    if (!status && found->needs_routers && !o.weights)
        status = err_set(err, ODMOE_ERR_ARG, "predictor %s needs the layers' router weights", found->name);
    if (!status)
        status = options_kernels(o.kernels, &config.kernels, err);
    if (status)
        return status;
    odmoe_shadow *s = mem_calloc(1, sizeof *s, "a predictor", err);
    if (!s)
        return ODMOE_ERR_MEMORY;
    s->routers = mem_calloc((size_t)o.layers, sizeof *s->routers, "a predictor", err);
    if (!s->routers) {
        free(s);
        return ODMOE_ERR_MEMORY;
    }
    if (found->needs_routers)
        memcpy(s->routers, o.weights, (size_t)o.layers * sizeof *s->routers);
    config.layers = o.layers;
    config.experts = o.experts;
    config.top_k = o.top_k;
    config.hidden = o.hidden;
    config.routers = s->routers;
    status = found->create(&config, &s->s, err);
    if (status) {
        free(s->routers);
        free(s);
    } else {
        *out = s;
    }
    return status;
}

void odmoe_shadow_free(odmoe_shadow *s)
{
    if (!s)
        return;
    s->s.free(s->s.table.ctx);
    free(s->routers);
    free(s);
}

void odmoe_shadow_table(odmoe_shadow *s, odmoe_predictor *predictor)
{
    copy_out(predictor, &s->s.table, sizeof s->s.table);
}
