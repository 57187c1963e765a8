#include "support/kinds.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "api/handles.h"
#include "base/mem.h"
#include "model/mixers/mixer.h"
#include "support/golden.h"

#define MODEL "models/mixtral_sliding"

/* ---- a mixer with a state that cannot be cut ---- */

/* out[t] = 0.02 * the sum of the layer's inputs up to t. */
static mixer_state sum_state(const model_config *c, int layer, kv_type kv)
{
    return (mixer_state){.recurrent_bytes = (uint64_t)c->hidden * sizeof(float)};
}

static odmoe_status sum_check(const model_config *c, int layer, odmoe_error *e)
{
    return ODMOE_OK;
}

static dtype_set sum_types(const resident *weights)
{
    return 0;
}

static void *sum_layout(const compute *c, arena *a, const model_config *config, const layer_weights *layers, int64_t n)
{
    return NULL;
}

static void sum_forward(const mixer_call *call)
{
    int64_t hidden = call->config->hidden;
    const float *in = call->c->op->read(call->c, call->in);
    float *out = call->c->op->write(call->c, call->out, call->n);
    for (int i = 0; i < call->n_sequences; i++) {
        const sequence_run *s = &call->sequences[i];
        float *sum = s->recurrent.after;
        memmove(sum, s->recurrent.before, (size_t)hidden * sizeof *sum);
        for (int64_t t = s->first; t < s->first + s->n; t++)
            for (int64_t j = 0; j < hidden; j++) {
                sum[j] += in[t * hidden + j];
                out[t * hidden + j] = 0.02f * sum[j];
            }
    }
}

static const mixer running_sum = {.name = "running sum",
                                  .check = sum_check,
                                  .state = sum_state,
                                  .in_types = sum_types,
                                  .layout = sum_layout,
                                  .forward = sum_forward};

const kind kinds[KINDS] = {
    {"attention", {false, false}, {0, 0}, true},          {"one layer slides", {false, false}, {8, 0}, false},
    {"sums and attention", {true, false}, {0, 0}, false}, {"sums and a window", {false, true}, {8, 0}, false},
    {"sums alone", {true, true}, {0, 0}, false},
};

odmoe_model *kind_open(const kind *k, const odmoe_options *options)
{
    odmoe_options o = *options;
    odmoe_error err;
    o.kernels = "ref";
    odmoe_model *handle = mem_calloc(1, sizeof *handle, "a model", &err);
    model_settings settings;
    odmoe_plan plan = {0};
    assert_int_equal(options_resolve(&o, &settings, &err), ODMOE_OK);
    assert_int_equal(model_prepare(test_path(MODEL), &handle->m, &err), ODMOE_OK);
    handle->m.config.context = KIND_CONTEXT;
    for (int l = 0; l < 2; l++) {
        handle->m.config.layer[l].window = k->window[l];
        if (k->sums[l])
            handle->m.config.layer[l].mixer = &running_sum;
    }
    assert_int_equal(model_list_mixers(&handle->m, &err), ODMOE_OK);
    model_drop_metadata(&handle->m);
    if (model_plan(&handle->m, &settings, 0, &plan, &err) || model_load(&handle->m, &settings, &plan, &err))
        fail_msg("%s: %s", k->name, err.message);
    return handle;
}
