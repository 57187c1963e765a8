/* plan.c - one number, the budget, divided before anything is loaded.
 *
 *   ram >= resident + kv + activation + other + prefix + cache
 *
 * The activations of a chunk and the KV cache are measured with the same layout functions that carve them later. */
#include <stdio.h>
#include <string.h>

#include "model/model.h"

#define MiB (1024.0 * 1024.0)
#define BYTES_MOST (1ull << 60) /* sums of a few of these cannot overflow */
#define CONTEXT_DEFAULT 4096
/* Activations and the expert cache share what is left. Up to CHUNK_DEFAULT rows a chunk may take half of it: fewer rows
 * would read every expert more often in a prompt. More rows, up to CHUNK_MOST, may take an eighth. */
#define CHUNK_DEFAULT 512
#define CHUNK_MOST 4096
#define CHUNK_SLIDING 1024       /* the most where layers slide: sessions are promised pages for a chunk */
#define PROCESS_BYTES (2u << 20) /* heap in use, stacks, libraries' data: measured at 1 to 2 MiB */

static uint64_t activation_bytes(const model *m, const experts_shape *shape, const model_settings *s, int64_t tokens)
{
    arena a = {0};
    compute c = compute_cpu(s->kernels, s->threads);
    workspace work;
    rope r;
    for (int i = 0; i < m->config.rope_sets; i++)
        rope_layout(&a, &m->config.ropes[i], &r);
    workspace_layout(&c, &a, m, shape, tokens, s->logits_rows, s->prefetch, &work);
    return a.used;
}

odmoe_status plan_sessions(const model *m, const model_settings *s, session_layout *out, odmoe_error *err)
{
    odmoe_status status = session_layout_make(&m->config, s->kv, s->chunk ? s->chunk : CHUNK_SLIDING, out, err);
    if (!status)
        out->snapshots = s->snapshots;
    return status;
}

/* What all sessions take; *slides: chunks are limited to what their sliding layers have pages for. */
static odmoe_status kv_bytes_of(const model *m, const model_settings *s, odmoe_plan *plan, bool *slides,
                                odmoe_error *err)
{
    session_layout layout;
    odmoe_status status = plan_sessions(m, s, &layout, err);
    if (status)
        return status;
    uint64_t session = session_total_bytes(&layout, plan->context);
    *slides = layout.slides;
    session_layout_free(&layout);
    if (session > BYTES_MOST / (uint64_t)s->sessions)
        return err_set(err, ODMOE_ERR_RANGE, "%s: no machine holds the KV cache of %d sessions of %d tokens",
                       m->files.path, s->sessions, plan->context);
    plan->kv_bytes = (uint64_t)s->sessions * session;
    return ODMOE_OK;
}

/* Tables on the heap: names and places of tensors, extents of experts, the store's directory. */
static uint64_t table_bytes(const model *m, const store_options *options)
{
    const expert_table *experts = &m->weights.experts;
    uint64_t extents = (uint64_t)expert_index_layers(experts->index) * (uint64_t)expert_index_experts(experts->index);
    return tensor_index_heap_bytes(m->files.tensors) + expert_index_heap_bytes(experts->index) + 32 * extents +
           experts->small_room * sizeof *experts->small + store_overhead(experts->index, options) +
           (uint64_t)m->config.layers * (sizeof *m->weights.layers + sizeof *m->config.layer);
}

/* The largest chunk that the room allows: see the constants. */
static int choose_chunk(const model *m, const experts_shape *shape, const model_settings *s, int64_t most,
                        uint64_t room)
{
    int64_t chunk = most;
    while (chunk > 1) {
        uint64_t need = activation_bytes(m, shape, s, chunk);
        if (need <= room / (chunk <= CHUNK_DEFAULT ? 2 : 8))
            break;
        chunk = chunk > CHUNK_DEFAULT && chunk / 2 < CHUNK_DEFAULT ? CHUNK_DEFAULT : chunk / 2;
    }
    return (int)chunk;
}

static odmoe_status check_settings(const model *m, const model_settings *s, odmoe_error *err)
{
    if (s->context > m->config.context)
        return err_set(err, ODMOE_ERR_RANGE, "a context of %d tokens was asked for; this model was made for %d",
                       s->context, m->config.context);
    for (int l = 0; l < m->config.layers; l++) {
        const mixer *kind = m->config.layer[l].mixer;
        odmoe_status status = kind && kind->check_kv ? kind->check_kv(&m->config, l, s->kv, err) : ODMOE_OK;
        if (status)
            return status;
    }
    return ODMOE_OK;
}

/* The plan with the embedding where it is now. */
static odmoe_status divide(const model *m, const experts_shape *shape, const model_settings *s, uint64_t extra_bytes,
                           odmoe_plan *plan, odmoe_error *err)
{
    const expert_index *index = m->weights.experts.index;
    store_options options = {.io = s->io, .policy = s->policy};
    int64_t experts = (int64_t)expert_index_layers(index) * expert_index_experts(index);
    uint64_t least = store_floor(index);
    odmoe_status status = store_bytes_for_all(index, &plan->cache_all_bytes, err);
    if (status)
        return status;

    plan->ram_bytes = s->ram_bytes;
    plan->sessions = s->sessions;
    plan->threads = s->threads;
    plan->context =
        s->context ? s->context : (m->config.context < CONTEXT_DEFAULT ? m->config.context : CONTEXT_DEFAULT);
    plan->resident_bytes = m->weights.bytes + expert_residents_bytes(&m->weights.experts, shape);
    plan->embedding_bytes = m->weights.model[W_EMBED].on_disk ? resident_bytes(&m->weights.model[W_EMBED]) : 0;
    bool slides;
    status = kv_bytes_of(m, s, plan, &slides, err);
    if (status)
        return status;
    plan->other_bytes = PROCESS_BYTES + extra_bytes + s->reserve_bytes + table_bytes(m, &options);
    plan->prefix_bytes = s->prefix_bytes;
    plan->experts_bytes = expert_index_total_bytes(index);
    int64_t token_experts = (int64_t)expert_index_layers(index) * shape->top_k;
    plan->token_working_set_bytes = (uint64_t)token_experts * expert_index_largest_bytes(index);
    plan->cache_token_bytes = store_bytes_for(index, token_experts);
    if (plan->cache_token_bytes > plan->cache_all_bytes) /* as many of the largest as there are experts */
        plan->cache_token_bytes = plan->cache_all_bytes;
    uint64_t fixed = plan->resident_bytes + plan->kv_bytes + plan->other_bytes + plan->prefix_bytes;
    plan->floor_bytes = fixed + activation_bytes(m, shape, s, s->chunk ? s->chunk : 1) + least;
    plan->fits = s->ram_bytes >= plan->floor_bytes;

    int64_t most = (int64_t)plan->context * plan->sessions;
    int64_t limit = slides ? CHUNK_SLIDING : CHUNK_MOST;
    most = most < limit ? most : limit;
    plan->chunk = s->chunk;
    if (!s->chunk)
        plan->chunk = plan->fits ? choose_chunk(m, shape, s, most, s->ram_bytes - fixed - least) : 1;
    plan->activation_bytes = activation_bytes(m, shape, s, plan->chunk);
    plan->cache_bytes = plan->fits ? s->ram_bytes - fixed - plan->activation_bytes : 0;
    if (plan->cache_bytes > plan->cache_all_bytes)
        plan->cache_bytes = plan->cache_all_bytes;
    plan->cache_experts = (int64_t)(plan->cache_bytes / store_bytes_for(index, 1));
    if (plan->cache_experts > experts || plan->cache_bytes == plan->cache_all_bytes)
        plan->cache_experts = experts;
    if (!plan->fits)
        return err_set(
            err, ODMOE_ERR_BUDGET,
            "%s: a budget of %.0f MiB is too small; --ram %.0fMiB would do (weights that stay in memory %.0f, KV "
            "cache for %d tokens %.0f, activations %.0f, other %.0f, prefixes %.0f, one expert %.1f MiB)",
            m->files.path, (double)s->ram_bytes / MiB, (double)plan->floor_bytes / MiB + 1,
            (double)plan->resident_bytes / MiB, plan->context, (double)plan->kv_bytes / MiB,
            (double)plan->activation_bytes / MiB, (double)plan->other_bytes / MiB, (double)plan->prefix_bytes / MiB,
            (double)least / MiB);
    return ODMOE_OK;
}

odmoe_status model_plan(model *m, const model_settings *s, uint64_t extra_bytes, odmoe_plan *plan, odmoe_error *err)
{
    experts_shape shape = model_shape(m);
    compute c = compute_cpu(s->kernels, s->threads);
    odmoe_status status = check_settings(m, s, err);
    if (!status)
        status = expert_residents_check(&m->weights.experts, &shape, err);
    if (!status && (status = expert_tensors_check_all(&m->weights.experts, &c, &shape, err)))
        err_context(err, "%s", m->files.path);
    if (status)
        return status;
    bool choice = weights_leave_on_disk(&m->weights, s->embeddings != EMBEDDINGS_MEMORY);
    status = divide(m, &shape, s, extra_bytes, plan, err);
    if (status || !choice || s->embeddings != EMBEDDINGS_AUTO)
        return status;
    odmoe_plan in_memory = *plan;
    odmoe_error too_small;
    weights_leave_on_disk(&m->weights, false);
    status = divide(m, &shape, s, extra_bytes, &in_memory, &too_small);
    if (!status && in_memory.cache_bytes == in_memory.cache_all_bytes) {
        in_memory.floor_bytes = plan->floor_bytes; /* what works with a smaller budget */
        *plan = in_memory;
        return ODMOE_OK;
    }
    weights_leave_on_disk(&m->weights, true);
    return !status || status == ODMOE_ERR_BUDGET ? ODMOE_OK : err_set(err, status, "%s", too_small.message);
}
