#include "model/model.h"

/* Types of some tensors of the layers' frames. */
static dtype_set frame_types(const model *m, const int *roles, int n)
{
    dtype_set types = 0;
    for (int l = 0; l < m->config.layers; l++)
        types |= weight_types(m->weights.layers[l].frame, roles, n);
    return types;
}

/* Has some layer's frame such a tensor? */
static bool has_role(const model *m, int role)
{
    for (int l = 0; l < m->config.layers; l++)
        if (m->weights.layers[l].frame[role].info)
            return true;
    return false;
}

/* Everything that takes the normalised stream. */
static dtype_set reader_types(const model *m, const experts_shape *shape)
{
    static const int roles[] = {W_ROUTER,     W_SHARED_GATE, W_SHARED_UP, W_SHARED_WEIGHT,
                                W_DENSE_GATE, W_DENSE_UP,    W_LATENT_IN};
    dtype_set types = shape->in_types | frame_types(m, roles, sizeof roles / sizeof *roles);
    for (int l = 0; l < m->config.layers; l++)
        if (m->config.layer[l].mixer)
            types |= m->config.layer[l].mixer->in_types(m->weights.layers[l].mixer);
    return types;
}

static void layout_ffn(const compute *c, arena *a, const model *m, int64_t max_tokens, workspace *out)
{
    static const int down[] = {W_SHARED_DOWN, W_DENSE_DOWN};
    const model_config *config = &m->config;
    int ffn = config->shared_ffn > config->dense_ffn ? config->shared_ffn : config->dense_ffn;
    if (config->shared_ffn) {
        c->op->buffer_layout(c, a, &out->shared, max_tokens, config->hidden, 0, true);
        c->op->buffer_layout(c, a, &out->shared_weight, max_tokens, 1, 0, true);
    }
    if (config->shared_ffn || config->moe_layers < config->layers)
        c->op->ffn_layout(c, a, ffn, frame_types(m, down, 2), max_tokens, &out->ffn);
}

/* Room for latent experts, where the model has them. */
static void layout_latent(const compute *c, arena *a, const model *m, const experts_shape *shape, int64_t max_tokens,
                          workspace *out)
{
    static const int back[] = {W_LATENT_OUT};
    if (!m->config.latent)
        return;
    c->op->buffer_layout(c, a, &out->latent, max_tokens, m->config.latent, shape->in_types, true);
    c->op->buffer_layout(c, a, &out->latent_out, max_tokens, m->config.latent, frame_types(m, back, 1), true);
}

static void layout_router(const compute *c, arena *a, const model *m, int64_t max_tokens, bool prefetch, workspace *out)
{
    static const int router[] = {W_ROUTER};
    const router_config *r = &m->config.router;
    size_t choices = (size_t)max_tokens * (size_t)r->top_k;
    dtype_set types = frame_types(m, router, 1);
    routing_layout(c, a, r, m->config.hidden, types, max_tokens, true, &out->route);
    out->topk = arena_take(a, choices, sizeof *out->topk);
    out->topw = arena_take(a, choices, sizeof *out->topw);
    out->all_experts = arena_take(a, (size_t)r->experts, sizeof *out->all_experts);
    if (prefetch)
        model_prefetch_layout(c, a, &m->config, types, max_tokens, &out->prefetch);
}

static void layout_output(const compute *c, arena *a, const model *m, workspace *out)
{
    size_t rows = (size_t)out->logits_rows;
    const resident *output = model_output(m);
    c->op->buffer_layout(c, a, &out->out, out->logits_rows, m->config.hidden, dtype_bit(output->w.type), true);
    c->op->buffer_layout(c, a, &out->logits, out->logits_rows, m->config.vocab, 0, false);
    out->logits_rows_own = arena_take(a, rows * (size_t)m->config.vocab, sizeof(float));
    out->not_finite = arena_take(a, rows, sizeof *out->not_finite);
}

static void layout_tokens(arena *a, size_t tokens, workspace *out)
{
    out->ids = arena_take(a, tokens, sizeof *out->ids);
    out->positions = arena_take(a, tokens, sizeof *out->positions);
    out->owner = arena_take(a, tokens, sizeof *out->owner);
    out->place = arena_take(a, tokens, sizeof *out->place);
    out->rows = arena_take(a, tokens, sizeof *out->rows);
    out->kv = arena_take(a, tokens, sizeof *out->kv);
    out->sequences = arena_take(a, tokens, sizeof *out->sequences);
}

/* Room for the rows of the chunk's tokens. */
static void layout_embedding(arena *a, const model *m, int64_t max_tokens, workspace *out)
{
    const resident *embed = &m->weights.model[W_EMBED];
    if (!embed->on_disk)
        return;
    row_table table = {.path = tensor_index_path(m->files.tensors, embed->info->file),
                       .offset = embed->info->offset + embed->skip,
                       .row_bytes = dtype_bytes(embed->w.type, (uint64_t)embed->w.cols),
                       .rows = embed->w.rows};
    row_reader_layout(a, &table, max_tokens, &out->embedding);
    out->embed_rows = arena_take(a, (size_t)max_tokens, sizeof *out->embed_rows);
}

void workspace_layout(const compute *c, arena *a, const model *m, const experts_shape *shape, int64_t max_tokens,
                      int logits_rows, bool prefetch, workspace *out)
{
    const model_config *config = &m->config;
    *out = (workspace){.max_tokens = max_tokens};
    out->logits_rows = logits_rows < max_tokens ? logits_rows : max_tokens;
    c->op->buffer_layout(c, a, &out->x, max_tokens, config->hidden, 0, true);
    c->op->buffer_layout(c, a, &out->norm, max_tokens, config->hidden, reader_types(m, shape), true);
    if (has_role(m, W_EXPERTS_NORM))
        c->op->buffer_layout(c, a, &out->experts_in, max_tokens, config->hidden, reader_types(m, shape), true);
    c->op->buffer_layout(c, a, &out->y, max_tokens, config->hidden, 0, true);
    for (int i = 0; i < config->rope_sets; i++) {
        c->op->buffer_layout(c, a, &out->cosines[i], max_tokens, config->ropes[i].dim / 2, 0, true);
        c->op->buffer_layout(c, a, &out->sines[i], max_tokens, config->ropes[i].dim / 2, 0, true);
    }
    layout_tokens(a, (size_t)max_tokens, out);
    layout_embedding(a, m, max_tokens, out);
    for (int i = 0; m->mixers[i]; i++)
        out->mixer[i] = m->mixers[i]->layout(c, a, config, m->weights.layers, max_tokens);
    layout_router(c, a, m, max_tokens, prefetch, out);
    layout_latent(c, a, m, shape, max_tokens, out);
    experts_layout(c, a, shape, max_tokens, false, &out->experts);
    layout_ffn(c, a, m, max_tokens, out);
    layout_output(c, a, m, out);
}
