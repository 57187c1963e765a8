#include "model/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/kernels.h"

#define NAME_MAX_LENGTH 160

/* ---- binding: names to tensors ---- */

typedef struct binder {
    const model_files *files;
    const model_config *config;
    model_weights *out;
    const tensor_info **used; /* every tensor that some rule took */
    size_t used_count, used_capacity;
    odmoe_error *err;
} binder;

static int64_t dim_length(const model_config *c, weight_dim dim)
{
    switch (dim) {
    case DIM_VECTOR:
    case DIM_ONE:
        return 1;
    case DIM_HIDDEN:
        return c->hidden;
    case DIM_VOCAB:
        return c->vocab;
    case DIM_Q:
        return config_q_dim(c);
    case DIM_KV:
        return config_kv_dim(c);
    case DIM_QK_NORM_Q:
        return c->norm_heads ? c->head_dim : config_q_dim(c);
    case DIM_QK_NORM_K:
        return c->norm_heads ? c->head_dim : config_kv_dim(c);
    case DIM_HALF_ROPE:
        return c->rope_dim / 2;
    case DIM_EXPERTS:
        return c->router.experts;
    case DIM_EXPERT_FFN:
        return c->expert_ffn;
    case DIM_EXPERT_FFN_2:
        return 2 * (int64_t)c->expert_ffn;
    case DIM_SHARED_FFN:
        return c->shared_ffn;
    case DIM_DENSE_FFN:
        return c->dense_ffn;
    }
    return 0;
}

/* The names come from the families' tables in this program, never from a file. */
static const tensor_info *find(binder *b, const char *pattern, int layer, int expert)
{
    char name[NAME_MAX_LENGTH];
    if (!pattern)
        return NULL;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(name, sizeof name, pattern, layer, expert);
#pragma GCC diagnostic pop
    return tensor_index_find(b->files->tensors, name);
}

static odmoe_status use(binder *b, const tensor_info *t)
{
    odmoe_status status =
        mem_grow((void **)&b->used, &b->used_capacity, b->used_count + 1, sizeof *b->used, "the tensor table", b->err);
    if (!status)
        b->used[b->used_count++] = t;
    return status;
}

static odmoe_status missing(binder *b, const char *pattern, int layer)
{
    char name[NAME_MAX_LENGTH];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(name, sizeof name, pattern ? pattern : "(none)", layer, 0);
#pragma GCC diagnostic pop
    return err_set(b->err, ODMOE_ERR_FORMAT, "%s: tensor %s is missing", b->files->path, name);
}

/* rows x cols, where leading dimensions of 1 don't count: GGUF writes some one-row matrices as vectors. */
static bool has_shape(const tensor_info *t, int64_t rows, int64_t cols)
{
    int first = 0;
    while (first < t->dims && t->shape[first] == 1)
        first++;
    uint64_t want[2] = {(uint64_t)rows, (uint64_t)cols};
    int start = rows == 1 ? 1 : 0;
    if (rows == 1 && cols == 1)
        start = 2;
    if (t->dims - first != 2 - start)
        return false;
    return !memcmp(t->shape + first, want + start, (size_t)(2 - start) * sizeof *want);
}

static odmoe_status bind_one(binder *b, const weight_rule *rule, int layer, resident *out)
{
    const char *pattern = b->files->gguf ? rule->gguf : rule->hf;
    const tensor_info *t = find(b, pattern, layer, 0);
    int64_t rows = dim_length(b->config, rule->rows), cols = dim_length(b->config, rule->cols);
    if (!t && rule->role == W_OUTPUT && !b->config->tied)
        return err_set(b->err, ODMOE_ERR_FORMAT,
                       "%s: tensor %s is missing, and the configuration says that it is not the embedding "
                       "(tie_word_embeddings)",
                       b->files->path, pattern);
    if (!t)
        return rule->optional ? ODMOE_OK : missing(b, pattern, layer);
    if (!has_shape(t, rows, cols))
        return err_set(b->err, ODMOE_ERR_FORMAT, "%s: tensor %s: its shape isn't %lld x %lld as the configuration says",
                       b->files->path, t->name, (long long)rows, (long long)cols);
    out->info = t;
    out->w = (weight){.type = rule->rows == DIM_VECTOR ? DTYPE_F32 : t->type, .rows = rows, .cols = cols};
    uint64_t bytes = (dtype_bytes(out->w.type, (uint64_t)(rows * cols)) + 63) & ~63ull;
    b->out->bytes += bytes;
    return use(b, t);
}

static bool applies(const weight_rule *rule, const model_config *c, int layer)
{
    return rule->where == IN_ALL_LAYERS || (rule->where == IN_MOE_LAYERS && !c->dense[layer]) ||
           (rule->where == IN_DENSE_LAYERS && c->dense[layer]);
}

static odmoe_status bind_resident(binder *b, const weight_rule *rule)
{
    if (rule->where == IN_MODEL)
        return bind_one(b, rule, 0, &b->out->model[rule->role]);
    odmoe_status status = ODMOE_OK;
    for (int l = 0; l < b->config->layers && !status; l++)
        if (applies(rule, b->config, l))
            status = bind_one(b, rule, l, &b->out->layers[l][rule->role]);
    return status;
}

static odmoe_status bind_layer_experts(binder *b, const expert_rule *rule, int layer, int moe_layer, bool *found)
{
    bool in_gguf = b->files->gguf != NULL;
    const char *merged = in_gguf ? rule->gguf : rule->hf, *one = in_gguf ? rule->gguf_one : rule->hf_one;
    int64_t rows = dim_length(b->config, rule->rows), cols = dim_length(b->config, rule->cols);
    const tensor_info *t = find(b, merged, layer, 0);
    odmoe_status status;
    *found = t || find(b, one, layer, 0);
    if (!*found)
        return ODMOE_OK;
    if (t) {
        status = expert_index_add_merged(b->out->experts, moe_layer, rule->role, t, rows, cols, rule->in_out,
                                         rule->interleaved, b->err);
        return status ? status : use(b, t);
    }
    for (int e = 0; e < b->config->router.experts; e++) {
        t = find(b, one, layer, e);
        if (!t)
            return err_set(b->err, ODMOE_ERR_FORMAT,
                           "%s: layer %d, expert %d: a tensor like its neighbours' is missing", b->files->path, layer,
                           e);
        status = expert_index_add_one(b->out->experts, moe_layer, e, rule->role, t, rows, cols, rule->in_out,
                                      rule->interleaved, b->err);
        if (!status)
            status = use(b, t);
        if (status)
            return status;
    }
    return ODMOE_OK;
}

/* gate and up, or both in one, and down. found: bits of the roles that the layer has. */
static odmoe_status check_roles(binder *b, const expert_rule *rules, int layer, unsigned found)
{
    const unsigned apart = 1u << PIECE_GATE | 1u << PIECE_UP, fused = 1u << PIECE_GATE_UP;
    if (found & fused && found & apart)
        return err_set(b->err, ODMOE_ERR_FORMAT, "%s: layer %d has its experts' gate and up both fused and apart",
                       b->files->path, layer);
    unsigned wanted = (found & fused ? fused : apart) | 1u << PIECE_DOWN;
    for (const expert_rule *rule = rules; rule->role != PIECE_ROLE_COUNT; rule++)
        if (wanted & ~found & 1u << rule->role)
            return missing(b, b->files->gguf ? rule->gguf : (rule->hf ? rule->hf : rule->hf_one), layer);
    return ODMOE_OK;
}

static odmoe_status bind_experts(binder *b, const expert_rule *rules)
{
    int moe_layer = 0;
    for (int l = 0; l < b->config->layers; l++) {
        if (b->config->dense[l])
            continue;
        unsigned roles = 0;
        for (const expert_rule *rule = rules; rule->role != PIECE_ROLE_COUNT; rule++) {
            bool found;
            odmoe_status status = bind_layer_experts(b, rule, l, moe_layer, &found);
            if (status)
                return status;
            roles |= (unsigned)found << rule->role;
        }
        odmoe_status status = check_roles(b, rules, l, roles);
        if (status)
            return status;
        moe_layer++;
    }
    return ODMOE_OK;
}

static int by_address(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t) * (const tensor_info *const *)a, y = (uintptr_t) * (const tensor_info *const *)b;
    return (x > y) - (x < y);
}

/* Position tables that some exporters store although they follow from the configuration. */
static bool derived(const char *name)
{
    static const char suffix[] = "rotary_emb.inv_freq";
    size_t length = strlen(name), n = sizeof suffix - 1;
    return length >= n && !strcmp(name + length - n, suffix);
}

static odmoe_status refuse_unknown(binder *b)
{
    if (b->used_count)
        qsort(b->used, b->used_count, sizeof *b->used, by_address);
    for (size_t i = 0; i < tensor_index_count(b->files->tensors); i++) {
        const tensor_info *t = tensor_index_at(b->files->tensors, i);
        if (!bsearch(&t, b->used, b->used_count, sizeof *b->used, by_address) && !derived(t->name))
            return err_set(b->err, ODMOE_ERR_UNSUPPORTED,
                           "%s: tensor %s is no part of a %s model as odmoe knows it; leaving it out could change the "
                           "result",
                           b->files->path, t->name, b->config->family);
    }
    return ODMOE_OK;
}

odmoe_status weights_bind(const model_files *files, const model_config *config, const weight_rule *const *tables,
                          const expert_rule *experts, model_weights *out, odmoe_error *err)
{
    *out = (model_weights){.layer_count = config->layers};
    binder b = {.files = files, .config = config, .out = out, .err = err};
    odmoe_status status = ODMOE_ERR_MEMORY;
    out->layers = mem_calloc((size_t)config->layers, sizeof *out->layers, "the weight table", err);
    if (!out->layers)
        goto done;
    out->experts = expert_index_create(config_moe_layers(config), config->router.experts, err);
    if (!out->experts)
        goto done;
    status = ODMOE_OK;
    for (; *tables && !status; tables++)
        for (const weight_rule *rule = *tables; rule->role != W_ROLE_COUNT && !status; rule++)
            status = bind_resident(&b, rule);
    if (!status)
        status = bind_experts(&b, experts);
    if (!status)
        status = refuse_unknown(&b);
done:
    free(b.used);
    if (status)
        weights_free(out);
    return status;
}

/* ---- loading ---- */

typedef struct loader {
    const tensor_index *tensors;
    char *at; /* where the next tensor goes */
    uint64_t done, total;
    int (*step)(void *ctx, uint64_t done, uint64_t total);
    void *ctx;
    const kernel_table *plain;
} loader;

static odmoe_status load_one(loader *l, resident *r, odmoe_error *err)
{
    if (!r->info)
        return ODMOE_OK;
    uint64_t count = (uint64_t)(r->w.rows * r->w.cols), bytes = dtype_bytes(r->w.type, count);
    odmoe_status status;
    if (r->info->type == r->w.type) {
        status = tensor_read(l->tensors, r->info, l->at, err);
    } else { /* a vector that is kept as f32 */
        void *raw = mem_calloc(1, r->info->length, "a vector", err);
        if (!raw)
            return ODMOE_ERR_MEMORY;
        status = tensor_read(l->tensors, r->info, raw, err);
        if (!status)
            l->plain->ops[r->info->type].dequantise(raw, (float *)l->at, (int64_t)count);
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
    loader l = {tensors, w->memory, 0, w->bytes, step, ctx, kernel_table_find("ref")};
    odmoe_status status = ODMOE_OK;
    for (int role = 0; role < W_FIRST_OF_LAYER && !status; role++)
        status = load_one(&l, &w->model[role], err);
    for (int i = 0; i < w->layer_count && !status; i++)
        for (int role = W_FIRST_OF_LAYER; role < W_ROLE_COUNT && !status; role++)
            status = load_one(&l, &w->layers[i][role], err);
    return status;
}

void weights_free(model_weights *w)
{
    mem_pages_free(w->memory, w->bytes);
    expert_index_free(w->experts);
    free(w->layers);
    memset(w, 0, sizeof *w);
}
