#include "model/weights.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

typedef struct loader {
    const tensor_index *tensors;
    char *at; /* where the next tensor goes */
    uint64_t done, total;
    int (*step)(void *ctx, uint64_t done, uint64_t total);
    void *ctx;
} loader;

static odmoe_status load_one(loader *l, resident *r, odmoe_error *err)
{
    if (!r->info)
        return ODMOE_OK;
    uint64_t count = (uint64_t)(r->w.rows * r->w.cols), bytes = dtype_bytes(r->w.type, count);
    odmoe_status status;
    tensor_info part = *r->info; /* its own rows alone, where a tensor holds several weights */
    part.offset += r->skip;
    part.length = dtype_bytes(part.type, count);
    if (part.type == r->w.type) {
        status = tensor_read(l->tensors, &part, l->at, err);
    } else { /* a vector that is kept as f32 */
        void *raw = mem_calloc(1, part.length, "a vector", err);
        if (!raw)
            return ODMOE_ERR_MEMORY;
        status = tensor_read(l->tensors, &part, raw, err);
        if (!status)
            compute_floats(r->info->type, raw, (float *)l->at, (int64_t)count);
        free(raw);
    }
    if (status)
        return status;
    r->w.data = l->at;
    bytes = (bytes + 63) & ~63ull;
    l->at += bytes;
    l->done += bytes;
    if (l->step && l->step(l->ctx, l->done, l->total))
        return err_set(err, ODMOE_ERR_CANCELLED, "opening the model was cancelled");
    return ODMOE_OK;
}

odmoe_status weights_load(model_weights *w, const tensor_index *tensors,
                          int (*step)(void *ctx, uint64_t done, uint64_t total), void *ctx, odmoe_error *err)
{
    w->memory = mem_pages_alloc(w->bytes, "the resident weights", err);
    if (!w->memory)
        return ODMOE_ERR_MEMORY;
    loader l = {tensors, w->memory, 0, w->bytes, step, ctx};
    odmoe_status status = ODMOE_OK;
    for (int role = 0; role < W_MODEL_ROLES && !status; role++)
        status = load_one(&l, &w->model[role], err);
    for (int i = 0; i < w->layer_count && !status; i++) {
        for (int role = 0; role < W_LAYER_ROLES && !status; role++)
            status = load_one(&l, &w->layers[i].frame[role], err);
        for (int role = 0; role < MIXER_ROLES_MAX && !status; role++)
            status = load_one(&l, &w->layers[i].mixer[role], err);
    }
    return status;
}

void weights_free(model_weights *w)
{
    mem_pages_free(w->memory, w->bytes);
    expert_table_clear(&w->experts);
    free(w->layers);
    memset(w, 0, sizeof *w);
}

void weights_each(const model_weights *w, void (*visit)(void *ctx, const resident *r), void *ctx)
{
    for (int role = 0; role < W_MODEL_ROLES; role++)
        visit(ctx, &w->model[role]);
    for (int l = 0; l < w->layer_count; l++) {
        for (int role = 0; role < W_LAYER_ROLES; role++)
            visit(ctx, &w->layers[l].frame[role]);
        for (int role = 0; role < MIXER_ROLES_MAX; role++)
            visit(ctx, &w->layers[l].mixer[role]);
    }
}
