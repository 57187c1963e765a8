#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/handles.h"
#include "base/mem.h"
#include "format/file.h"
#include "format/safetensors_read.h"
#include "format/safetensors_write.h"
#include "compute/router.h"
#include "prefetch/predictors/predictor.h"
#include "odmoe_tensors.h"

struct odmoe_expert_predictor {
    expert_predictor s;
    const predictor_kind *kind;
    /* Held while it is called, saved, loaded or frozen: the layer's thread calls it at any time. */
    pthread_mutex_t lock;
    const float **routers; /* [layers] the caller's pointers */
};

const char *odmoe_expert_predictor_at(int i)
{
    const predictor_kind *kind = predictor_kind_at(i);
    return kind ? kind->name : NULL;
}

static odmoe_status find_kind(const char *name, const predictor_kind **out, odmoe_error *err)
{
    char list[128] = "";
    for (int i = 0; (*out = predictor_kind_at(i)); i++) {
        size_t used = strlen(list);
        if (!strcmp((*out)->name, name))
            return ODMOE_OK;
        snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", (*out)->name);
    }
    return err_set(err, ODMOE_ERR_ARG, "predictor '%.32s' is not known; there are %s", name, list);
}

static odmoe_status locked_observe(void *ctx, int32_t layer, const odmoe_observation *rows, odmoe_error *err)
{
    odmoe_expert_predictor *s = ctx;
    pthread_mutex_lock(&s->lock);
    odmoe_status status = s->s.table.observe(s->s.table.ctx, layer, rows, err);
    pthread_mutex_unlock(&s->lock);
    return status;
}

static odmoe_status locked_predict(void *ctx, int32_t next, int32_t *experts, float *scores, int32_t capacity,
                                   int32_t *n, odmoe_error *err)
{
    odmoe_expert_predictor *s = ctx;
    pthread_mutex_lock(&s->lock);
    odmoe_status status = s->s.table.predict(s->s.table.ctx, next, experts, scores, capacity, n, err);
    pthread_mutex_unlock(&s->lock);
    return status;
}

odmoe_status odmoe_expert_predictor_create(const char *kind, const odmoe_layer_options *layer,
                                           odmoe_expert_predictor **out, odmoe_error *err)
{
    odmoe_layer_options o;
    const predictor_kind *found;
    predictor_config config;
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
    odmoe_expert_predictor *s = mem_calloc(1, sizeof *s, "a predictor", err);
    if (!s)
        return ODMOE_ERR_MEMORY;
    s->routers = mem_calloc((size_t)o.layers, sizeof *s->routers, "a predictor", err);
    if (!s->routers) {
        free(s);
        return ODMOE_ERR_MEMORY;
    }
    if (found->needs_routers)
        memcpy(s->routers, o.weights, (size_t)o.layers * sizeof *s->routers);
    s->kind = found;
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
        pthread_mutex_init(&s->lock, NULL);
        *out = s;
    }
    return status;
}

void odmoe_expert_predictor_free(odmoe_expert_predictor *s)
{
    if (!s)
        return;
    s->s.free(s->s.table.ctx);
    pthread_mutex_destroy(&s->lock);
    free(s->routers);
    free(s);
}

void odmoe_expert_predictor_table(odmoe_expert_predictor *s, odmoe_predictor *table)
{
    const odmoe_predictor own = {sizeof own, s, locked_observe, locked_predict};
    copy_out(table, &own, sizeof own);
}

void odmoe_expert_predictor_freeze(odmoe_expert_predictor *s, int frozen)
{
    pthread_mutex_lock(&s->lock);
    if (s->s.frozen)
        *s->s.frozen = frozen;
    pthread_mutex_unlock(&s->lock);
}

/* What a file holds of it. */
static odmoe_status learned(const odmoe_expert_predictor *s, odmoe_tensor tensors[PREDICTOR_ARRAYS], odmoe_error *err)
{
    if (!s->s.n_arrays)
        return err_set(err, ODMOE_ERR_ARG, "predictor %s learns nothing that a file could keep", s->kind->name);
    for (int i = 0; i < s->s.n_arrays; i++) {
        const predictor_array *a = &s->s.arrays[i];
        tensors[i] = (odmoe_tensor){a->name, "F32", 3, {a->shape[0], a->shape[1], a->shape[2]}, a->data};
    }
    return ODMOE_OK;
}

odmoe_status odmoe_expert_predictor_save(odmoe_expert_predictor *s, const char *path, odmoe_error *err)
{
    odmoe_tensor tensors[PREDICTOR_ARRAYS];
    odmoe_status status = learned(s, tensors, err);
    if (status)
        return status;
    pthread_mutex_lock(&s->lock);
    status = safetensors_write(path, tensors, s->s.n_arrays, err);
    pthread_mutex_unlock(&s->lock);
    return status;
}

/* All of a tensor, piece by piece: to `out`, or, where that is NULL, looked at only. */
static odmoe_status read_numbers(const odmoe_tensor_file *file, const char *path, const odmoe_tensor *t, float *out,
                                 odmoe_error *err)
{
    float piece[1024];
    const int64_t all = t->shape[0] * t->shape[1] * t->shape[2], most = (int64_t)(sizeof piece / sizeof *piece);
    odmoe_status status = ODMOE_OK;
    for (int64_t first = 0; first < all && !status; first += most) {
        int64_t n = all - first < most ? all - first : most;
        float *to = out ? out + first : piece;
        status = tensor_file_read(file, t, first, n, to, err);
        for (int64_t i = 0; i < n && !status; i++)
            if (!isfinite(to[i]))
                status = err_set(err, ODMOE_ERR_FORMAT, "%s: tensor '%s' holds numbers that are not finite",
                                 file_label(path), t->name);
    }
    return status;
}

/* Looked at before it is read, so that a file that is wrong leaves what was learned as it is, without a second copy. */
odmoe_status odmoe_expert_predictor_load(odmoe_expert_predictor *s, const char *path, odmoe_error *err)
{
    odmoe_tensor tensors[PREDICTOR_ARRAYS];
    odmoe_tensor_file *file;
    odmoe_status status = learned(s, tensors, err);
    if (!status)
        status = tensor_file_open(path, &file, err);
    if (status)
        return status;
    for (int i = 0; i < s->s.n_arrays && !status; i++)
        status = read_numbers(file, path, &tensors[i], NULL, err);
    pthread_mutex_lock(&s->lock);
    for (int i = 0; i < s->s.n_arrays && !status; i++)
        status = read_numbers(file, path, &tensors[i], s->s.arrays[i].data, err);
    pthread_mutex_unlock(&s->lock);
    tensor_file_close(file);
    return status;
}
