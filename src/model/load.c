#include "model/weights.h"

#include <math.h>
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

/* What a form makes of a tensor's numbers. */
static void put_form(const resident *r, const float *from, float *to)
{
    int64_t n = r->w.rows * r->w.cols;
    for (int64_t i = 0; i < n; i++)
        switch (r->form) {
        case FORM_STORED:
        case FORM_ROWS:
            to[i] = from[i];
            break;
        case FORM_PLUS_1:
            to[i] = from[i] + 1;
            break;
        case FORM_MINUS_EXP:
            to[i] = -expf(from[i]);
            break;
        case FORM_TAPS:
            to[i] = from[i % r->w.cols * r->w.rows + i / r->w.cols];
            break;
        }
}

#define PIECE_ALIGN 64ull /* of what lies in the one allocation */

static uint64_t aligned(uint64_t bytes)
{
    return (bytes + PIECE_ALIGN - 1) & ~(PIECE_ALIGN - 1);
}

uint64_t resident_bytes(const resident *r)
{
    return aligned(dtype_bytes(r->w.type, (uint64_t)(r->w.rows * r->w.cols))) +
           aligned(scale_bytes(r->w.grid, (uint64_t)r->w.rows, (uint64_t)r->w.cols));
}

/* A small tensor that is kept as float32. */
static odmoe_status load_floats(loader *l, const resident *r, const tensor_info *part, odmoe_error *err)
{
    int64_t count = r->w.rows * r->w.cols;
    void *raw = mem_calloc(1, part->length, "a small tensor", err);
    float *numbers = raw ? mem_calloc((size_t)count, sizeof *numbers, "a small tensor", err) : NULL;
    odmoe_status status = numbers ? tensor_read(l->tensors, part, raw, err) : ODMOE_ERR_MEMORY;
    if (!status) {
        compute_floats(part->type, raw, numbers, count);
        put_form(r, numbers, (float *)(void *)l->at);
    }
    free(numbers);
    free(raw);
    return status;
}

/* The scales of the resident's rows, and the factor of all. */
static odmoe_status load_scales(loader *l, resident *r, void *at, odmoe_error *err)
{
    const tensor_scales *s = r->info->scales;
    odmoe_status status = ODMOE_OK;
    tensor_info part = {.name = r->info->name, .file = s->file};
    part.length = scale_bytes(r->w.grid, (uint64_t)r->w.rows, (uint64_t)r->w.cols);
    if (part.length) {
        part.offset =
            s->offset + ((uint64_t)r->skip_rows >> s->grid.rows) * scale_bytes(s->grid, 1, (uint64_t)r->w.cols);
        status = tensor_read(l->tensors, &part, at, err);
        r->w.scales = at;
    }
    if (status || !s->factors)
        return status;
    part.file = s->factor_file;
    part.offset = s->factor_offset;
    part.length = sizeof r->w.factor;
    status = tensor_read(l->tensors, &part, &r->w.factor, err);
    r->w.factor = s->factor_divides ? 1 / r->w.factor : r->w.factor;
    return status;
}

static odmoe_status load_one(loader *l, resident *r, odmoe_error *err)
{
    if (!r->info || r->on_disk)
        return ODMOE_OK;
    uint64_t count = (uint64_t)(r->w.rows * r->w.cols), bytes = dtype_bytes(r->w.type, count);
    tensor_info part = *r->info; /* its own rows alone, where a tensor holds several weights */
    part.offset += r->skip;
    part.length = dtype_bytes(part.type, count);
    bool as_it_is = part.type == r->w.type && r->form == FORM_STORED;
    odmoe_status status = as_it_is ? tensor_read(l->tensors, &part, l->at, err) : load_floats(l, r, &part, err);
    if (!status && part.scales)
        status = load_scales(l, r, l->at + aligned(bytes), err);
    if (status)
        return status;
    r->w.data = l->at;
    bytes = resident_bytes(r);
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

bool weights_leave_on_disk(model_weights *w, bool on_disk)
{
    resident *embed = &w->model[W_EMBED];
    if (!w->model[W_OUTPUT].info || !embed->info)
        return false;
    if (embed->on_disk != on_disk)
        w->bytes = on_disk ? w->bytes - resident_bytes(embed) : w->bytes + resident_bytes(embed);
    embed->on_disk = on_disk;
    return true;
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
