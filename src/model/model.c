#include "model/model.h"

#include <malloc.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/sysmem.h"
#include "model/fingerprint.h"

/* The kinds of token mixers that the layers have. */
odmoe_status model_list_mixers(model *m, odmoe_error *err)
{
    memset(m->mixers, 0, sizeof m->mixers);
    for (int l = 0; l < m->config.layers; l++) {
        int i = 0;
        if (!m->config.layer[l].mixer)
            continue;
        while (i < MIXERS_MAX - 1 && m->mixers[i] && m->mixers[i] != m->config.layer[l].mixer)
            i++;
        if (i == MIXERS_MAX - 1)
            return err_set(err, ODMOE_ERR_UNSUPPORTED, "more than %d kinds of token mixers", MIXERS_MAX - 1);
        m->mixers[i] = m->config.layer[l].mixer;
    }
    return ODMOE_OK;
}

static odmoe_status bind(model *m, odmoe_error *err)
{
    weight_names names = {.tables = m->arch->weights,
                          .experts = m->arch->experts,
                          .ignored = m->arch->ignored,
                          .fields = m->arch->fields};
    return weights_bind(&m->files, &m->config, &names, &m->weights, err);
}

odmoe_status model_prepare(const char *path, model *out, odmoe_error *err)
{
    memset(out, 0, sizeof *out);
    odmoe_status status = files_open(path, &out->files, err);
    if (!status)
        status = arch_read(&out->files, &out->arch, &out->config, err);
    if (!status)
        status = model_list_mixers(out, err);
    if (!status)
        status = bind(out, err);
    snprintf(out->format, sizeof out->format, "%s", out->files.gguf ? "gguf" : "safetensors");
    if (status && err && !strstr(err->message, path)) /* the readers of one field or tensor don't know it */
        err_context(err, "%s", path);
    if (status)
        model_close(out);
    return status;
}

static void describe_types(const model *m, char *out, size_t room)
{
    bool seen[DTYPE_COUNT] = {false};
    size_t used = 0;
    out[0] = 0;
    for (size_t i = 0; i < m->weights.experts.n; i++) {
        uint8_t type = m->weights.experts.tensor[i].type;
        if (!seen[type] && used < room)
            used += (size_t)snprintf(out + used, room - used, "%s%s", used ? ", " : "", dtype_info((dtype)type)->name);
        seen[type] = true;
    }
}

void model_describe(const model *m, odmoe_info *info)
{
    const model_config *c = &m->config;
    const expert_index *index = m->weights.experts.index;
    snprintf(info->format, sizeof info->format, "%s", m->format);
    snprintf(info->family, sizeof info->family, "%s", c->family);
    describe_types(m, info->expert_types, sizeof info->expert_types);
    info->layers = c->layers;
    info->moe_layers = c->moe_layers;
    info->experts = c->router.experts;
    info->top_k = c->router.top_k;
    info->shared_experts = c->shared_ffn > 0;
    info->hidden = c->hidden;
    info->expert_ffn = c->expert_ffn;
    info->vocab = c->vocab;
    info->context = c->context;
    info->expert_bytes_min = expert_index_smallest_bytes(index);
    info->expert_bytes_max = expert_index_largest_bytes(index);
    const resident *embed = &m->weights.model[W_EMBED];
    experts_shape shape = model_shape(m);
    info->embedding_bytes = m->weights.model[W_OUTPUT].info ? resident_bytes(embed) : 0;
    info->resident_bytes = m->weights.bytes + (embed->on_disk ? resident_bytes(embed) : 0) +
                           expert_residents_bytes(&m->weights.experts, &shape);
    info->prediction_layers = m->weights.prediction_layers;
    info->prediction_bytes = m->weights.prediction_bytes;
    info->experts_bytes = expert_index_total_bytes(index);
    info->prediction_bytes = m->weights.prediction_bytes;
    info->other_parts_bytes = m->weights.part_bytes;
}

void model_drop_metadata(model *m)
{
    files_drop_metadata(&m->files);
    m->files.tensors = m->files.own_tensors;
    malloc_trim(0); /* parsed JSON and vocabularies go back to the system before the cache is allocated */
}

static int load_step(void *ctx, uint64_t done, uint64_t total)
{
    const model_settings *s = ctx;
    return s->progress ? s->progress(s->user, ODMOE_STAGE_OPEN, done, total) : 0;
}

token_op model_norm(const model *m, const resident *weight, const resident *bias)
{
    token_op_kind norm = m->config.layer_norm ? TOKEN_LAYER_NORM : TOKEN_RMS_NORM;
    return (token_op){.kind = weight->info ? norm : TOKEN_COPY,
                      .weight = weight->w.data,
                      .bias = bias ? bias->w.data : NULL,
                      .eps = m->config.rms_eps};
}

experts_shape model_shape(const model *m)
{
    return (experts_shape){.hidden = config_expert_hidden(&m->config),
                           .ffn = m->config.expert_ffn,
                           .experts = m->config.router.experts,
                           .top_k = m->config.router.top_k,
                           .glu = m->config.glu,
                           .weight_on_input = m->config.router.weight_on_input};
}

router_weights model_router(const model *m, int layer)
{
    const resident *frame = m->weights.layers[layer].frame;
    const float *const *scales = (const float *const *)m->residents.scales;
    return (router_weights){.w = &frame[W_ROUTER].w,
                            .bias = frame[W_ROUTER_BIAS].w.data,
                            .scale = frame[W_ROUTER_SCALE].w.data,
                            .vectors = {.selection_bias = frame[W_SELECTION_BIAS].w.data,
                                        .expert_scale = scales ? scales[m->config.layer[layer].moe_index] : NULL}};
}

static void layout(arena *a, model *m)
{
    for (int i = 0; i < m->config.rope_sets; i++)
        rope_layout(a, &m->config.ropes[i], &m->ropes[i]);
    workspace_layout(&m->compute, a, m, &m->shape, m->plan.chunk, m->settings.logits_rows, m->settings.prefetch,
                     &m->work);
}

/* What a rope set's frequencies are divided by; NULL: nothing. */
static const float *rope_factors(const model *m, int set)
{
    const rope_set *s = &m->config.ropes[set];
    const resident *w = m->weights.model;
    if (s->positions.scaling != ROPE_LONG)
        return set == 0 ? w[W_ROPE_FACTORS].w.data : NULL;
    if (rope_is_long(s, m->plan.context))
        return s->long_factors ? s->long_factors : w[W_ROPE_LONG_FACTORS].w.data;
    return s->short_factors ? s->short_factors : w[W_ROPE_SHORT_FACTORS].w.data;
}

static odmoe_status make_workspace(model *m, odmoe_error *err)
{
    arena a = {0};
    layout(&a, m);
    m->memory_bytes = a.used;
    m->memory = mem_pages_alloc(a.used, "the workspace", err);
    if (!m->memory)
        return ODMOE_ERR_MEMORY;
    a = (arena){.base = m->memory};
    layout(&a, m);
    odmoe_status status = ODMOE_OK;
    for (int i = 0; i < m->config.rope_sets && !status; i++)
        status = rope_fill(&m->ropes[i], &m->config.ropes[i], rope_factors(m, i), m->plan.context, err);
    if (status)
        err_context(err, "%s", m->files.path);
    return status;
}

static odmoe_status open_store(model *m, odmoe_error *err)
{
    store_options options = {.cache_bytes = m->plan.cache_bytes, .io = m->settings.io, .policy = m->settings.policy};
    odmoe_status status = store_open(m->weights.experts.index, m->files.tensors, &options, &m->store, err);
    if (status)
        return status;
    m->source = source_from_store(m->store, &m->weights.experts);
    model_prefetch_init(m);
    return ODMOE_OK;
}

static odmoe_status make_locks(model *m, odmoe_error *err)
{
    if (pthread_mutex_init(&m->lock, NULL))
        return err_set(err, ODMOE_ERR_MEMORY, "no memory for a lock");
    if (pthread_mutex_init(&m->counters_lock, NULL)) {
        pthread_mutex_destroy(&m->lock);
        return err_set(err, ODMOE_ERR_MEMORY, "no memory for a lock");
    }
    m->locks_made = true;
    return ODMOE_OK;
}

/* The pages that sessions take come out of one allocation, made now. */
static odmoe_status make_sessions(model *m, odmoe_error *err)
{
    odmoe_status status = plan_sessions(m, &m->settings, &m->sessions, err);
    return status ? status
                  : session_pool_open(&m->pool, &m->sessions, m->plan.sessions, m->plan.context, m->plan.prefix_bytes,
                                      err);
}

odmoe_status model_load(model *m, const model_settings *s, const odmoe_plan *plan, odmoe_error *err)
{
    m->settings = *s;
    m->plan = *plan;
    m->compute = compute_cpu(s->kernels, s->threads);
    m->shape = model_shape(m);
    odmoe_status status = make_locks(m, err);
    if (!status)
        status = make_sessions(m, err);
    if (!status)
        status = expert_tensors_check_all(&m->weights.experts, &m->compute, &m->shape, err);
    if (!status)
        status = compute_start(&m->compute, err);
    if (!status)
        status = weights_load(&m->weights, m->files.tensors, load_step, &m->settings, err);
    if (!status)
        status = expert_residents_load(&m->weights.experts, m->files.tensors, &m->shape, &m->residents, err);
    if (!status)
        status = make_workspace(m, err);
    if (!status && m->weights.model[W_EMBED].on_disk)
        status = row_reader_open(&m->work.embedding, err);
    if (!status)
        status = open_store(m, err);
    m->executor = local_executor_init(&m->local, &m->compute, &m->shape, &m->source, m->residents.biases,
                                      m->residents.weight_scales, &m->work.experts);
    if (!status) /* now, as the files may be elsewhere when a session is saved */
        status = model_fingerprint(m, &m->fingerprint, err);
    if (!status)
        status = files_unchanged(&m->files, err);
    m->peak_anon = sysmem_anonymous("");
    return status;
}

void model_close(model *m)
{
    store_close(m->store);
    compute_stop(&m->compute);
    row_reader_close(&m->work.embedding);
    mem_pages_free(m->memory, m->memory_bytes);
    session_pool_close(&m->pool);
    session_layout_free(&m->sessions);
    expert_residents_free(&m->residents);
    weights_free(&m->weights);
    config_free(&m->config);
    files_close(&m->files);
    if (m->locks_made) {
        pthread_mutex_destroy(&m->lock);
        pthread_mutex_destroy(&m->counters_lock);
    }
    memset(m, 0, sizeof *m);
}
