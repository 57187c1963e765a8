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

#define SAMPLE 64 /* bytes */

typedef struct summing {
    const model *m;
    uint64_t sum;
    odmoe_status status;
    odmoe_error *err;
} summing;

/* Bytes [offset, offset + n) of a file. */
static odmoe_status fnv_file(uint64_t *sum, const model *m, int file, uint64_t offset, size_t n, odmoe_error *err)
{
    const char *path = tensor_index_path(m->files.tensors, file);
    char sample[SAMPLE];
    uint64_t size;
    int fd;
    odmoe_status status = file_open(path, false, &fd, &size, err);
    if (status)
        return status;
    status = file_read_at(fd, path, offset, sample, n, err);
    if (!status)
        *sum = fnv(*sum, sample, n);
    close(fd);
    return status;
}

/* A resident tensor's shape, type and two samples: tells models of one shape apart without reading all of it. One that
 * stays on the disk has the same samples. */
static void add_resident(void *ctx, const resident *r)
{
    summing *s = ctx;
    if (!r->info) {
        s->sum = fnv_number(s->sum, -1);
        return;
    }
    int64_t shape[] = {r->w.rows, r->w.cols, r->w.type};
    size_t bytes = dtype_bytes(r->w.type, (uint64_t)(r->w.rows * r->w.cols)), n = bytes < SAMPLE ? bytes : SAMPLE;
    const size_t places[] = {0, (bytes - n) / 2};
    s->sum = fnv(s->sum, shape, sizeof shape);
    for (int i = 0; i < 2 && !s->status; i++) {
        if (r->on_disk)
            s->status = fnv_file(&s->sum, s->m, r->info->file, r->info->offset + r->skip + places[i], n, s->err);
        else
            s->sum = fnv(s->sum, (const char *)r->w.data + places[i], n);
    }
}

/* Some bytes of one matrix of an expert, from the file. */
static odmoe_status fnv_expert(uint64_t *sum, const model *m, int layer, int expert, int which, odmoe_error *err)
{
    int n;
    const expert_extent *extents = expert_index_extents(m->weights.experts.index, layer, expert, &n);
    const expert_extent *p = &extents[which % n];
    size_t length = p->length < SAMPLE ? (size_t)p->length : SAMPLE;
    return fnv_file(sum, m, p->file, p->offset + (p->length - length) / 2, length, err);
}

/* Three experts of each layer: models that were trained on differ in all of them. */
static odmoe_status fnv_experts(uint64_t *sum, const model *m, odmoe_error *err)
{
    int experts = expert_index_experts(m->weights.experts.index);
    odmoe_status status = ODMOE_OK;
    for (int l = 0; l < expert_index_layers(m->weights.experts.index); l++)
        for (int i = 0; i < 3 && !status; i++)
            status = fnv_expert(sum, m, l, (experts - 1) * i / 2, l + i, err);
    return status;
}

static void add_field(void *sum, const char *what, int layer, double value)
{
    *(uint64_t *)sum = fnv_number(*(uint64_t *)sum, value);
}

static uint64_t fnv_text(uint64_t sum, const char *text)
{
    return fnv(sum, text, strlen(text) + 1);
}

/* context: what the model was opened with; where it decides how positions turn, it tells sessions apart. */
static uint64_t fnv_rope(uint64_t sum, const rope_set *s, int context)
{
    const rope_config *r = &s->positions;
    double numbers[] = {s->pairing,        s->dim,       r->theta,
                        r->scaling,        r->factor,    (double)r->original_context,
                        r->beta_fast,      r->beta_slow, r->attention_factor,
                        r->long_attention, r->part,      rope_is_long(s, context),
                        r->truncate,       r->step_ramp};
    sum = fnv(sum, numbers, sizeof numbers);
    sum = fnv(sum, s->short_factors, (size_t)s->n_short * sizeof *s->short_factors);
    return fnv(sum, s->long_factors, (size_t)s->n_long * sizeof *s->long_factors);
}

/* Numbers of the configuration that no field list holds: what each layer is made of, and how positions turn. */
static uint64_t fnv_shape(uint64_t sum, const model_config *c, int context)
{
    for (int i = 0; i < c->rope_sets; i++)
        sum = fnv_rope(sum, &c->ropes[i], context);
    for (int l = 0; l < c->layers; l++) {
        int kind[] = {c->layer[l].ffn, c->layer[l].rope, c->layer[l].state_source};
        sum = fnv(fnv_text(sum, c->layer[l].mixer ? c->layer[l].mixer->name : ""), kind, sizeof kind);
    }
    return sum;
}

odmoe_status model_fingerprint(const model *m, uint64_t *out, odmoe_error *err)
{
    const model_config *c = &m->config;
    uint64_t sum = fnv_number(FNV_START, m->settings.kv);
    fields_visit(c, add_field, &sum);
    const router_config *r = &c->router;
    double kinds[] = {r->score,    r->group_score, r->sum_add,  r->sum_floor, r->weight_on_input, r->own_norm,
                      r->norm_eps, r->input_scale, c->glu.kind, c->glu.alpha, c->glu.limit,       c->glu.offset};
    sum = fnv(sum, kinds, sizeof kinds);
    sum = fnv_shape(sum, c, m->plan.context);
    sum = fnv_text(sum, c->family);
    sum = fnv_text(sum, compute_kernels_name(m->settings.kernels));
    for (int i = 0; i < tensor_index_files(m->files.tensors); i++) {
        uint64_t size = tensor_index_file_size(m->files.tensors, i);
        sum = fnv(sum, &size, sizeof size);
    }
    summing residents = {.m = m, .sum = sum, .err = err};
    weights_each(&m->weights, add_resident, &residents);
    *out = residents.sum;
    return residents.status ? residents.status : fnv_experts(out, m, err);
}
