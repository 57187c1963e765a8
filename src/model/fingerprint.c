#include "model/fingerprint.h"

#include <string.h>
#include <unistd.h>

#include "format/file.h"

uint64_t fnv(uint64_t sum, const void *data, size_t n)
{
    const unsigned char *p = data;
    for (size_t i = 0; i < n; i++)
        sum = (sum ^ p[i]) * 0x100000001b3ull;
    return sum;
}

static uint64_t fnv_number(uint64_t sum, double number)
{
    return fnv(sum, &number, sizeof number);
}

/* A resident tensor's shape, type and two samples: tells models of one shape apart without reading all of it. */
static uint64_t fnv_resident(uint64_t sum, const resident *r)
{
    if (!r->w.data)
        return fnv_number(sum, -1);
    int64_t shape[] = {r->w.rows, r->w.cols, r->w.type};
    size_t bytes = dtype_bytes(r->w.type, (uint64_t)(r->w.rows * r->w.cols)), n = bytes < 64 ? bytes : 64;
    sum = fnv(sum, shape, sizeof shape);
    sum = fnv(sum, r->w.data, n);
    return fnv(sum, (const char *)r->w.data + (bytes - n) / 2, n);
}

/* 64 bytes of one matrix of an expert, from the file. */
static odmoe_status fnv_expert(uint64_t *sum, const model *m, int layer, int expert, int matrix, odmoe_error *err)
{
    int n, fd;
    const expert_piece *pieces = expert_index_pieces(m->weights.experts, layer, expert, &n), *p = &pieces[matrix % n];
    const char *path = tensor_index_path(m->files.tensors, p->file);
    char sample[64];
    size_t length = p->length < sizeof sample ? (size_t)p->length : sizeof sample;
    uint64_t size;
    odmoe_status status = file_open(path, false, &fd, &size, err);
    if (status)
        return status;
    status = file_read_at(fd, path, p->offset + (p->length - length) / 2, sample, length, err);
    if (!status)
        *sum = fnv(*sum, sample, length);
    close(fd);
    return status;
}

/* Three experts of each layer: models that were trained on differ in all of them. */
static odmoe_status fnv_experts(uint64_t *sum, const model *m, odmoe_error *err)
{
    int experts = expert_index_experts(m->weights.experts);
    odmoe_status status = ODMOE_OK;
    for (int l = 0; l < expert_index_layers(m->weights.experts); l++)
        for (int i = 0; i < 3 && !status; i++)
            status = fnv_expert(sum, m, l, (experts - 1) * i / 2, l + i, err);
    return status;
}

odmoe_status model_fingerprint(const model *m, uint64_t *out, odmoe_error *err)
{
    const model_config *c = &m->config;
    const rope_config *r = &c->rope;
    int64_t numbers[] = {c->layers,
                         c->vocab,
                         c->hidden,
                         c->heads,
                         c->kv_heads,
                         c->head_dim,
                         c->expert_ffn,
                         c->pairing,
                         c->rope_dim,
                         c->norm_heads,
                         c->router.experts,
                         c->router.top_k,
                         c->router.renormalise,
                         c->router.groups,
                         c->router.groups_used,
                         r->scaling,
                         r->original_context,
                         r->truncate,
                         r->step_ramp,
                         (int64_t)m->settings.kv};
    double reals[] = {c->rms_eps, c->clip_qkv,  c->router.scale, r->theta,
                      r->factor,  r->beta_fast, r->beta_slow,    r->attention_factor};
    uint64_t sum = fnv(FNV_START, numbers, sizeof numbers);
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++)
        sum = fnv_number(sum, reals[i]);
    sum = fnv(sum, c->window, (size_t)c->layers * sizeof *c->window);
    sum = fnv(sum, c->family, strlen(c->family));
    sum = fnv(sum, m->settings.kernels->name, strlen(m->settings.kernels->name));
    for (int i = 0; i < tensor_index_files(m->files.tensors); i++) {
        uint64_t size = tensor_index_file_size(m->files.tensors, i);
        sum = fnv(sum, &size, sizeof size);
    }
    for (int role = 0; role < W_FIRST_OF_LAYER; role++)
        sum = fnv_resident(sum, &m->weights.model[role]);
    for (int l = 0; l < c->layers; l++)
        for (int role = W_FIRST_OF_LAYER; role < W_ROLE_COUNT; role++)
            sum = fnv_resident(sum, &m->weights.layers[l][role]);
    *out = sum;
    return fnv_experts(out, m, err);
}
