#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "api/handles.h"
#include "base/mem.h"
#include "base/sysmem.h"

#ifndef ODMOE_VERSION
#error "the build passes ODMOE_VERSION"
#endif

const char *odmoe_version(void)
{
    return ODMOE_VERSION;
}

odmoe_status odmoe_inspect(const char *path, odmoe_info *info, odmoe_error *err)
{
    model m;
    odmoe_info all = {0};
    odmoe_status status = model_prepare(path, &m, err);
    if (status)
        return status;
    model_describe(&m, &all);
    copy_out(info, &all, sizeof all);
    model_close(&m);
    return ODMOE_OK;
}

odmoe_status odmoe_inspect_numbers(const char *path,
                                   void (*on_number)(void *user, const char *name, int32_t layer, double value),
                                   void *user, odmoe_error *err)
{
    model m;
    odmoe_status status = model_prepare(path, &m, err);
    if (status)
        return status;
    fields_visit(&m.config, on_number, user);
    model_close(&m);
    return ODMOE_OK;
}

/* Headers, tokenizer and chat template; the metadata is freed afterwards. A model whose
 * tokenizer or template can't be used is fine. */
static odmoe_status prepare(const char *path, odmoe_model *out, odmoe_error *err)
{
    odmoe_status status = model_prepare(path, &out->m, err);
    if (!status)
        status = model_text_open(&out->m.files, &out->tokenizer.t, &out->no_tokenizer, err);
    if (!status)
        status = model_chat_open(&out->m.files, &out->chat, &out->no_chat, err);
    if (!status)
        model_drop_metadata(&out->m);
    return status;
}

static odmoe_status plan_of(odmoe_model *handle, const model_settings *settings, odmoe_plan *plan, odmoe_error *err)
{
    uint64_t text = handle->tokenizer.t ? tokenizer_bytes(handle->tokenizer.t) : 0;
    if (handle->chat.program)
        text += template_bytes(handle->chat.program);
    if (sysmem_available("", &plan->available_bytes, NULL))
        plan->available_bytes = 0;
    return model_plan(&handle->m, settings, text, plan, err);
}

odmoe_status odmoe_plan_make(const char *path, const odmoe_options *options, odmoe_plan *plan, odmoe_error *err)
{
    model_settings settings;
    odmoe_model handle = {0};
    odmoe_plan all = {0};
    odmoe_status status = options_resolve(options, &settings, err);
    if (!status)
        status = prepare(path, &handle, err);
    if (!status) {
        status = plan_of(&handle, &settings, &all, err);
        if (!status || status == ODMOE_ERR_BUDGET)
            copy_out(plan, &all, sizeof all);
    }
    tokenizer_free(handle.tokenizer.t);
    template_free(handle.chat.program);
    model_close(&handle.m);
    return status;
}

odmoe_status odmoe_model_open(const char *path, const odmoe_options *options, odmoe_model **out, odmoe_error *err)
{
    model_settings settings;
    odmoe_plan plan = {0};
    odmoe_status status = options_resolve(options, &settings, err);
    if (status)
        return status;
    odmoe_model *handle = mem_calloc(1, sizeof *handle, "the model's handle", err);
    if (!handle)
        return ODMOE_ERR_MEMORY;
    status = prepare(path, handle, err);
    if (!status)
        status = plan_of(handle, &settings, &plan, err);
    if (!status)
        status = model_load(&handle->m, &settings, &plan, err);
    if (status)
        odmoe_model_close(handle);
    else
        *out = handle;
    return status;
}

void odmoe_model_close(odmoe_model *handle)
{
    if (!handle)
        return;
    tokenizer_free(handle->tokenizer.t);
    template_free(handle->chat.program);
    model_close(&handle->m);
    free(handle);
}

void odmoe_model_info(const odmoe_model *handle, odmoe_info *info)
{
    odmoe_info all = {0};
    model_describe(&handle->m, &all);
    copy_out(info, &all, sizeof all);
}

void odmoe_model_plan(const odmoe_model *handle, odmoe_plan *plan)
{
    copy_out(plan, &handle->m.plan, sizeof handle->m.plan);
}

void odmoe_stats_get(odmoe_model *handle, odmoe_stats *stats)
{
    static const char *const kv_names[KV_COUNT] = {"f32", "f16", "q8_0"};
    struct model *m = &handle->m;
    store_totals t;
    store_totals_get(m->store, &t);
    pthread_mutex_lock(&m->counters_lock);
    uint64_t anon = sysmem_anonymous("");
    m->peak_anon = anon > m->peak_anon ? anon : m->peak_anon;
    row_counters rows = m->rows, before = m->rows_before;
    double stall = (double)(t.stall_ns + rows.wait_ns - before.wait_ns) * 1e-9;
    odmoe_stats all = {.tokens = m->tokens,
                       .chunks = m->chunks,
                       .bytes_read = t.bytes_read,
                       .reads = t.reads,
                       .read_seconds = (double)t.read_ns * 1e-9,
                       .stall_seconds = stall,
                       .compute_seconds = m->forward_seconds > stall ? m->forward_seconds - stall : 0,
                       .expert_uses = t.sum.uses,
                       .cache_hits = t.sum.hits,
                       .cache_misses = t.sum.misses,
                       .evictions = t.evictions,
                       .cache_used_bytes = t.used_bytes,
                       .peak_rss_bytes = sysmem_peak_rss(""),
                       .peak_anon_bytes = m->peak_anon,
                       .io = t.io,
                       .kernels = compute_kernels_name(m->settings.kernels),
                       .kv = kv_names[m->settings.kv],
                       .policy = t.policy,
                       .threads = m->settings.threads,
                       .prefetch_bytes_read = t.speculative_bytes,
                       .prefetch_bytes_used = t.speculative_used_bytes,
                       .embedding_hits = rows.hits - before.hits,
                       .embedding_misses = rows.misses - before.misses,
                       .embedding_bytes_read = rows.bytes - before.bytes};
    pthread_mutex_unlock(&m->counters_lock);
    copy_out(stats, &all, sizeof all);
}

odmoe_status odmoe_expert_stats_get(odmoe_model *handle, int32_t layer, int32_t expert, odmoe_expert_stats *stats,
                                    odmoe_error *err)
{
    const expert_index *index = handle->m.weights.experts.index;
    if (layer < 0 || layer >= expert_index_layers(index) || expert < 0 || expert >= expert_index_experts(index))
        return err_set(err, ODMOE_ERR_RANGE, "there is no layer %d, expert %d: %d layers of %d experts", layer, expert,
                       expert_index_layers(index), expert_index_experts(index));
    store_counters c;
    store_counters_get(handle->m.store, layer, expert, &c);
    odmoe_expert_stats all = {.uses = c.uses,
                              .hits = c.hits,
                              .misses = c.misses,
                              .bytes = c.bytes,
                              .stall_seconds = (double)c.stall_ns * 1e-9,
                              .cached = store_is_cached(handle->m.store, layer, expert)};
    copy_out(stats, &all, sizeof all);
    return ODMOE_OK;
}

odmoe_status odmoe_moe_layer_stats_get(odmoe_model *handle, int32_t layer, odmoe_moe_layer_stats *stats,
                                       odmoe_error *err)
{
    static_assert(STORE_STALL_RANGES == ODMOE_STALL_RANGES, "the public ranges are the store's");
    int layers = expert_index_layers(handle->m.weights.experts.index);
    if (layer < 0 || layer >= layers)
        return err_set(err, ODMOE_ERR_RANGE, "there is no layer %d with experts: %d have them", layer, layers);
    store_layer_counters c;
    store_layer_counters_get(handle->m.store, layer, &c);
    odmoe_moe_layer_stats all = {.uses = c.sum.uses,
                                 .hits = c.sum.hits,
                                 .misses = c.sum.misses,
                                 .bytes = c.sum.bytes,
                                 .stall_seconds = (double)c.sum.stall_ns * 1e-9};
    memcpy(all.stalls, c.stalls, sizeof all.stalls);
    copy_out(stats, &all, sizeof all);
    return ODMOE_OK;
}

void odmoe_stats_reset(odmoe_model *handle)
{
    store_counters_reset(handle->m.store);
    pthread_mutex_lock(&handle->m.counters_lock);
    handle->m.tokens = handle->m.chunks = 0;
    handle->m.forward_seconds = 0;
    handle->m.rows_before = handle->m.rows;
    pthread_mutex_unlock(&handle->m.counters_lock);
}
