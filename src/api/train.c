#include <stdlib.h>
#include <string.h>

#include "api/handles.h"
#include "api/layer_handles.h"
#include "base/mem.h"
#include "odmoe_train.h"

odmoe_status odmoe_tape_create(int keep_activations, odmoe_tape **out, odmoe_error *err)
{
    odmoe_tape *tape = mem_calloc(1, sizeof *tape, "a tape", err);
    if (!tape)
        return ODMOE_ERR_MEMORY;
    tape->t.keep = keep_activations;
    *out = tape;
    return ODMOE_OK;
}

void odmoe_tape_free(odmoe_tape *tape)
{
    if (!tape)
        return;
    tape_clear(&tape->t);
    free(tape);
}

odmoe_status odmoe_layer_forward_train(odmoe_layer *layer, int32_t index, const float *x, int64_t n, float *y,
                                       odmoe_routing *routing, odmoe_tape *tape, odmoe_error *err)
{
    pthread_mutex_lock(&layer->lock);
    odmoe_status status = layer_run(layer, index, x, n, y, routing, &tape->t, err);
    if (status)
        tape->t.n = 0;
    pthread_mutex_unlock(&layer->lock);
    return status;
}

void odmoe_backward_init(odmoe_backward *backward)
{
    *backward = (odmoe_backward){.size = sizeof *backward};
}

static odmoe_status hand_over(void *ctx, const expert_tensor *tensors, const pinned_expert *gradients, odmoe_error *err)
{
    const odmoe_backward *b = ctx;
    odmoe_expert out = {0};
    expert_to_public(tensors, gradients, &out);
    return b->on_expert(b->user, &out, err);
}

odmoe_status odmoe_layer_backward(odmoe_layer *layer, const odmoe_tape *tape, const odmoe_backward *backward,
                                  odmoe_error *err)
{
    odmoe_backward b;
    odmoe_backward_init(&b);
    odmoe_status status = copy_in(&b, backward, sizeof b, "odmoe_backward_init", err);
    if (status)
        return status;
    if (!tape_is_of(&tape->t, &layer->m))
        return err_set(err, ODMOE_ERR_STATE, "the tape holds no forward call of this layer");
    if (!b.dy)
        return err_set(err, ODMOE_ERR_ARG, "backward needs dy");
    if (b.balance && b.balance->b.experts != layer->m.router.experts)
        return err_set(err, ODMOE_ERR_RANGE, "a balance of %d experts for a layer of %d", b.balance->b.experts,
                       layer->m.router.experts);
    layer_gradients g = {.dy = b.dy,
                         .dx = b.dx,
                         .drouter = b.drouter,
                         .dlinear_bias = b.dlinear_bias,
                         .aux_coef = b.aux_coef,
                         .z_coef = b.z_coef,
                         .aux_normalised = b.aux_normalised,
                         .balance = b.balance ? &b.balance->b : NULL,
                         .on_expert = b.on_expert ? hand_over : NULL,
                         .user = &b};
    pthread_mutex_lock(&layer->lock);
    status = layer_backward(&tape->t, &g, err);
    pthread_mutex_unlock(&layer->lock);
    return status;
}
