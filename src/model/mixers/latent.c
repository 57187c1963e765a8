/* latent.c - multi-head latent attention. Of a token the cache holds one latent of kv_rank numbers, normalised, and one
 * rotary key, whatever the number of heads. A head's key is [K c | rotary key] and its value V c, with parts K and V of
 * kv_b and the latent c; they are never made. Since q . (K c) = (K^T q) . c, queries are brought to the latents (the
 * absorbed form), all heads attend to the same latents, and V is applied to what comes out:
 *
 *   q = [nope | rope] of each head      query = [K^T nope | rope]      out = V (sum of weight * c)
 *
 * Prompts are computed like single tokens: the other form, which makes keys and values of all latents first, adds in
 * another order, so a prompt's bytes would depend on how it is cut into chunks.
 *
 * With an indexer (index_topk) a token that could see more than index_topk positions sees those alone whose small keys score
 * highest. These keys lie in the pages behind the latents. Layers without an indexer of their own take the choice of the
 * layer before them. */
#include "model/mixers/latent.h"

#include <math.h>
#include <string.h>

typedef struct latent_work {
    buffer q_a; /* [max_tokens, q_rank] */
    buffer q;   /* [max_tokens, heads * key_dim] */
    buffer kv;  /* [max_tokens, kv_rank + rope_part] what the cache takes */
    buffer out; /* [max_tokens, heads * value_dim] */
    /* of the tokens that attend together: */
    buffer nope;     /* [group, heads * nope] of q, side by side */
    buffer query;    /* [group, heads * (kv_rank + rope_part)] */
    buffer latents;  /* [group, heads * kv_rank] attention's result */
    int32_t *row_of; /* [max_tokens] 0, 1, 2 ...: their rows of q */
    compute_work heads, attend;
    /* with an indexer: */
    buffer index_q;       /* [max_tokens, index_heads * index_dim] */
    buffer index_k;       /* [max_tokens, index_dim] */
    buffer index_weights; /* [max_tokens, index_heads] */
    int32_t *chosen;      /* [max_tokens, index_topk] */
    int32_t *owner, *at;  /* [max_tokens] whose choice a row of `chosen` is: a sequence, a position */
    int64_t rows;         /* of `chosen` */
    compute_work select;
} latent_work;

/* Tokens that attend together: what they need for all heads is several times as large as q. */
#define GROUP_TOKENS 256
#define INDEX_NORM_EPS 1e-6f

/* ---- weights ---- */

const weight_rule latent_weights[] = {
    {LATENT_Q, IN_ALL_LAYERS, "blk.%d.attn_q.weight", "model.layers.%d.self_attn.q_proj.weight", DIM_LATENT_Q,
     DIM_HIDDEN, false, .not_if = FIELD_q_rank},
    {LATENT_Q_A, IN_ALL_LAYERS, "blk.%d.attn_q_a.weight", "model.layers.%d.self_attn.q_a_proj.weight",
     DIM_LATENT_Q_RANK, DIM_HIDDEN, false, .only_if = FIELD_q_rank},
    {LATENT_Q_A_NORM, IN_ALL_LAYERS, "blk.%d.attn_q_a_norm.weight", "model.layers.%d.self_attn.q_a_layernorm.weight",
     DIM_VECTOR, DIM_LATENT_Q_RANK, false, .only_if = FIELD_q_rank},
    {LATENT_Q_B, IN_ALL_LAYERS, "blk.%d.attn_q_b.weight", "model.layers.%d.self_attn.q_b_proj.weight", DIM_LATENT_Q,
     DIM_LATENT_Q_RANK, false, .only_if = FIELD_q_rank},
    {LATENT_KV_A, IN_ALL_LAYERS, "blk.%d.attn_kv_a_mqa.weight", "model.layers.%d.self_attn.kv_a_proj_with_mqa.weight",
     DIM_LATENT_KEY, DIM_HIDDEN, false},
    {LATENT_KV_A_NORM, IN_ALL_LAYERS, "blk.%d.attn_kv_a_norm.weight", "model.layers.%d.self_attn.kv_a_layernorm.weight",
     DIM_VECTOR, DIM_LATENT_RANK, false},
    {LATENT_KV_B, IN_ALL_LAYERS, "blk.%d.attn_kv_b.weight", "model.layers.%d.self_attn.kv_b_proj.weight",
     DIM_LATENT_NOPE_AND_VALUE, DIM_LATENT_RANK, false, .not_if = FIELD_latent_parts, .stack = DIM_LATENT_HEADS},
    {LATENT_K_B, IN_ALL_LAYERS, "blk.%d.attn_k_b.weight", NULL, DIM_LATENT_RANK, DIM_LATENT_NOPE, false,
     .only_if = FIELD_latent_parts, .stack = DIM_LATENT_HEADS},
    {LATENT_V_B, IN_ALL_LAYERS, "blk.%d.attn_v_b.weight", NULL, DIM_LATENT_VALUE, DIM_LATENT_RANK, false,
     .only_if = FIELD_latent_parts, .stack = DIM_LATENT_HEADS},
    {LATENT_O, IN_ALL_LAYERS, "blk.%d.attn_output.weight", "model.layers.%d.self_attn.o_proj.weight", DIM_HIDDEN,
     DIM_LATENT_OUT, false},
    WEIGHTS_END,
};

const weight_rule latent_indexer[] = {
    {LATENT_INDEX_Q_B, IN_ALL_LAYERS, "blk.%d.indexer.attn_q_b.weight", "model.layers.%d.self_attn.indexer.wq_b.weight",
     DIM_INDEX_Q, DIM_LATENT_Q_RANK, false, .only_if = FIELD_indexed},
    {LATENT_INDEX_K, IN_ALL_LAYERS, "blk.%d.indexer.attn_k.weight", "model.layers.%d.self_attn.indexer.wk.weight",
     DIM_INDEX, DIM_HIDDEN, false, .only_if = FIELD_indexed},
    {LATENT_INDEX_K_NORM, IN_ALL_LAYERS, "blk.%d.indexer.k_norm.weight",
     "model.layers.%d.self_attn.indexer.k_norm.weight", DIM_VECTOR, DIM_INDEX, false, .only_if = FIELD_indexed},
    {LATENT_INDEX_K_NORM_BIAS, IN_ALL_LAYERS, "blk.%d.indexer.k_norm.bias",
     "model.layers.%d.self_attn.indexer.k_norm.bias", DIM_VECTOR, DIM_INDEX, false, .only_if = FIELD_indexed},
    {LATENT_INDEX_WEIGHTS, IN_ALL_LAYERS, "blk.%d.indexer.proj.weight",
     "model.layers.%d.self_attn.indexer.weights_proj.weight", DIM_INDEX_HEADS, DIM_HIDDEN, false,
     .only_if = FIELD_indexed},
    WEIGHTS_END,
};

/* What the cache holds of a token, but for the indexer's key. */
static int64_t cached(const model_config *c)
{
    return (int64_t)c->kv_rank + c->rope_part;
}

static int64_t nope(const model_config *c, const layer_config *l)
{
    return (int64_t)l->key_dim - c->rope_part;
}

static int64_t dim(const model_config *c, int layer, int which)
{
    const layer_config *l = &c->layer[layer];
    switch ((latent_dim)which) {
    case DIM_LATENT_Q:
        return (int64_t)l->heads * l->key_dim;
    case DIM_LATENT_Q_RANK:
        return c->q_rank;
    case DIM_LATENT_RANK:
        return c->kv_rank;
    case DIM_LATENT_KEY:
        return cached(c);
    case DIM_LATENT_HEADS:
        return l->heads;
    case DIM_LATENT_NOPE:
        return nope(c, l);
    case DIM_LATENT_NOPE_AND_VALUE:
        return nope(c, l) + l->value_dim;
    case DIM_LATENT_VALUE:
        return l->value_dim;
    case DIM_LATENT_OUT:
        return (int64_t)l->heads * l->value_dim;
    case DIM_INDEX_Q:
        return (int64_t)c->index_heads * c->index_dim;
    case DIM_INDEX:
        return c->index_dim;
    case DIM_INDEX_HEADS:
        return c->index_heads;
    }
    return 0;
}

static dtype_set in_types(const resident *w)
{
    static const int roles[] = {LATENT_Q, LATENT_Q_A, LATENT_KV_A, LATENT_INDEX_K, LATENT_INDEX_WEIGHTS};
    return weight_types(w, roles, 5);
}

/* ---- checks ---- */

/* Of the whole model; it says the same for each layer. */
static odmoe_status check_indexer(const model_config *c, odmoe_error *err)
{
    bool indexed = false;
    for (int l = 0; l < c->layers; l++)
        indexed = indexed || c->layer[l].indexed;
    if (!c->index_topk && !indexed)
        return ODMOE_OK;
    if (c->index_topk < 1)
        return err_set(err, ODMOE_ERR_FORMAT, "the indexer chooses %d positions, expected 1 or more", c->index_topk);
    if (c->index_heads < 1 || c->index_dim < 1 || c->rope_part > c->index_dim)
        return err_set(err, ODMOE_ERR_FORMAT,
                       "an indexer with %d heads of %d, of which %d turn: expected 1 or more heads that are as long",
                       c->index_heads, c->index_dim, c->rope_part);
    if (!c->q_rank)
        return err_set(err, ODMOE_ERR_FORMAT, "an indexer needs latent queries (q_lora_rank)");
    if (!c->layer[0].indexed)
        return err_set(err, ODMOE_ERR_FORMAT, "the first layer has no indexer of its own, nor a layer before it");
    return ODMOE_OK;
}

static odmoe_status check(const model_config *c, int layer, odmoe_error *err)
{
    const layer_config *l = &c->layer[layer];
    odmoe_status status = check_indexer(c, err);
    if (status)
        return status;
    if (c->kv_rank < 1)
        return err_set(err, ODMOE_ERR_FORMAT, "rank of latent keys and values is %d, expected 1 or more", c->kv_rank);
    if (c->rope_part >= l->key_dim)
        return err_set(err, ODMOE_ERR_FORMAT, "the rotary part of a head is %d of %d: something must be left",
                       c->rope_part, l->key_dim);
    if (c->temper > 0 && c->temper_every < 1)
        return err_set(err, ODMOE_ERR_FORMAT, "queries grow by a step every %d positions, expected 1 or more",
                       c->temper_every);
    if (l->rope == ROPE_OFF)
        return ODMOE_OK;
    int turning = c->ropes[l->rope].dim;
    if (turning != c->rope_part || turning < 2 || turning % 2)
        return err_set(err, ODMOE_ERR_FORMAT,
                       "rope dimension %d, and the rotary part of a head %d: must be equal and even", turning,
                       c->rope_part);
    return ODMOE_OK;
}

static odmoe_status check_kv(const model_config *c, int layer, kv_type kv, odmoe_error *err)
{
    if (kv == KV_Q8_0 && (c->kv_rank % 32 || c->rope_part % 32))
        return err_set(err, ODMOE_ERR_UNSUPPORTED,
                       "a q8_0 KV cache needs latents and rotary keys of a multiple of 32 elements; this model's have "
                       "%d and %d: use f16",
                       c->kv_rank, c->rope_part);
    if (kv == KV_Q8_0 && c->layer[layer].indexed && c->index_dim % 32)
        return err_set(
            err, ODMOE_ERR_UNSUPPORTED,
            "a q8_0 KV cache needs an indexer's keys of a multiple of 32 elements; this model's have %d: use "
            "f16",
            c->index_dim);
    return ODMOE_OK;
}

/* ---- state and workspace ---- */

static kv_shape shape_of(const model_config *c, kv_type kv)
{
    return (kv_shape){
        .type = kv, .kv_heads = 1, .key_dim = (int)cached(c), .value_dim = c->kv_rank, .value_in_key = true};
}

/* The same pages as they are written: the indexer's key is the value. */
static kv_shape stored_shape(const model_config *c, int layer, kv_type kv)
{
    kv_shape shape = shape_of(c, kv);
    if (c->layer[layer].indexed) {
        shape.value_in_key = false;
        shape.value_dim = c->index_dim;
    }
    return shape;
}

static mixer_state state(const model_config *c, int layer, kv_type kv)
{
    kv_shape shape = stored_shape(c, layer, kv);
    return (mixer_state){.page_bytes = kv_page_bytes(&shape), .reach = c->layer[layer].window};
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static void layout_indexer(const compute *c, arena *a, const model_config *config, int64_t max_tokens, latent_work *w)
{
    int heads = config->index_heads;
    c->op->buffer_layout(c, a, &w->index_q, max_tokens, (int64_t)heads * config->index_dim, select_readers(), true);
    c->op->buffer_layout(c, a, &w->index_k, max_tokens, config->index_dim, 0, true);
    c->op->buffer_layout(c, a, &w->index_weights, max_tokens, heads, 0, true);
    c->op->select_layout(c, a, heads, config->context, &w->select);
    w->chosen = arena_take(a, (size_t)max_tokens * (size_t)config->index_topk, sizeof *w->chosen);
    w->owner = arena_take(a, (size_t)max_tokens, sizeof *w->owner);
    w->at = arena_take(a, (size_t)max_tokens, sizeof *w->at);
}

static void *layout(const compute *c, arena *a, const model_config *config, const layer_weights *layers,
                    int64_t max_tokens)
{
    static const int from_q_a[] = {LATENT_Q_B, LATENT_INDEX_Q_B}, from_nope[] = {LATENT_K_B}, turned[] = {LATENT_KV_B};
    static const int from_latents[] = {LATENT_KV_B, LATENT_V_B}, from_out[] = {LATENT_O};
    int64_t heads = 0, q = 0, most_nope = 0, all_nope = 0, out = 0;
    dtype_set q_a_types = 0, nope_types = 0, turned_types = 0, latent_types = 0, out_types = 0;
    for (int i = 0; i < config->layers; i++) {
        const layer_config *l = &config->layer[i];
        const resident *w = layers[i].mixer;
        if (l->mixer != &mixer_latent)
            continue;
        heads = larger(heads, l->heads);
        q = larger(q, (int64_t)l->heads * l->key_dim);
        most_nope = larger(most_nope, nope(config, l));
        all_nope = larger(all_nope, l->heads * nope(config, l));
        out = larger(out, (int64_t)l->heads * l->value_dim);
        q_a_types |= weight_types(w, from_q_a, 2);
        nope_types |= weight_types(w, from_nope, 1);
        turned_types |= weight_types(w, turned, 1);
        latent_types |= weight_types(w, from_latents, 2);
        out_types |= weight_types(w, from_out, 1);
    }
    latent_work w = {0}, *at = arena_take(a, 1, sizeof *at);
    attention_shape most = {shape_of(config, KV_F32), (int)heads, config->index_topk};
    if (config->q_rank)
        c->op->buffer_layout(c, a, &w.q_a, max_tokens, config->q_rank, q_a_types, true);
    c->op->buffer_layout(c, a, &w.q, max_tokens, q, 0, true);
    int64_t group = max_tokens < GROUP_TOKENS ? max_tokens : GROUP_TOKENS;
    c->op->buffer_layout(c, a, &w.nope, group, all_nope, nope_types, true);
    c->op->buffer_layout(c, a, &w.kv, max_tokens, cached(config), 0, true);
    c->op->buffer_layout(c, a, &w.query, group, heads * cached(config), 0, true);
    c->op->buffer_layout(c, a, &w.latents, group, heads * config->kv_rank, latent_types, true);
    c->op->buffer_layout(c, a, &w.out, max_tokens, out, out_types, true);
    c->op->heads_layout(c, a, most_nope, turned_types, &w.heads);
    c->op->attention_layout(c, a, &most, group, &w.attend);
    w.row_of = arena_take(a, (size_t)max_tokens, sizeof *w.row_of);
    if (config->index_topk)
        layout_indexer(c, a, config, max_tokens, &w);
    if (at)
        *at = w;
    return at;
}

/* ---- arithmetic ---- */

/* Buffers are as wide as this layer needs; layers may differ in their heads. */
static void narrow(const mixer_call *call, latent_work *w)
{
    const model_config *c = call->config;
    const layer_config *l = &c->layer[call->layer];
    w->q.cols = (int64_t)l->heads * l->key_dim;
    w->nope.cols = l->heads * nope(c, l);
    w->query.cols = l->heads * cached(c);
    w->latents.cols = (int64_t)l->heads * c->kv_rank;
    w->out.cols = (int64_t)l->heads * l->value_dim;
}

static token_op norm_op(const mixer_call *call, buffer *x, latent_role weight, int64_t n)
{
    return (token_op){.kind = TOKEN_RMS_NORM,
                      .y = x,
                      .x = x,
                      .at = {0, n, 1, n},
                      .weight = call->weights[weight].w.data,
                      .eps = call->config->latent_eps};
}

static token_op rope_op(const mixer_call *call, buffer *x, spans at)
{
    return (token_op){.kind = TOKEN_ROPE,
                      .y = x,
                      .x = call->rope.cosines,
                      .z = call->rope.sines,
                      .at = at,
                      .pairing = call->rope.set->pairing};
}

/* The products of the layer's input, and queries from their latents. */
static void project(const mixer_call *call, latent_work *w)
{
    const resident *weights = call->weights;
    const compute *c = call->c;
    bool ranked = call->config->q_rank > 0;
    bool indexed = call->config->layer[call->layer].indexed;
    linear_call in[] = {{&weights[LATENT_KV_A].w, call->in, &w->kv},
                        {&weights[ranked ? LATENT_Q_A : LATENT_Q].w, call->in, ranked ? &w->q_a : &w->q},
                        {&weights[LATENT_INDEX_K].w, call->in, &w->index_k}};
    c->op->linear(c, in, indexed ? 3 : 2);
    if (!ranked)
        return;
    token_op norm = norm_op(call, &w->q_a, LATENT_Q_A_NORM, call->config->q_rank);
    linear_call q = {&weights[LATENT_Q_B].w, &w->q_a, &w->q};
    c->op->tokens(c, &norm, 1, call->n);
    c->op->linear(c, &q, 1);
}

/* The indexer's keys: their first part turns. Returns how many operations. */
static int finish_index_key(const mixer_call *call, latent_work *w, token_op *ops)
{
    int64_t dim_of_key = call->config->index_dim;
    ops[0] = (token_op){.kind = TOKEN_LAYER_NORM,
                        .y = &w->index_k,
                        .x = &w->index_k,
                        .weight = call->weights[LATENT_INDEX_K_NORM].w.data,
                        .bias = call->weights[LATENT_INDEX_K_NORM_BIAS].w.data,
                        .eps = INDEX_NORM_EPS};
    if (call->rope.set)
        ops[1] = rope_op(call, &w->index_k, (spans){0, dim_of_key, 1, dim_of_key});
    return call->rope.set ? 2 : 1;
}

/* Finish queries and what the cache takes, and append it. */
static void append(const mixer_call *call, latent_work *w)
{
    const model_config *c = call->config;
    const layer_config *l = &c->layer[call->layer];
    int64_t rank = c->kv_rank, rope = c->rope_part;
    token_op ops[7];
    int n = 0;
    ops[n++] = norm_op(call, &w->kv, LATENT_KV_A_NORM, rank);
    if (call->rope.set) {
        ops[n++] = rope_op(call, &w->kv, (spans){rank, rope, 1, rope});
        ops[n++] = rope_op(call, &w->q, (spans){nope(c, l), rope, l->heads, l->key_dim});
    }
    if (c->temper > 0)
        ops[n++] = (token_op){
            .kind = TOKEN_TEMPER, .y = &w->q, .factor = c->temper, .every = c->temper_every, .kv_tokens = call->tokens};
    if (l->indexed)
        n += finish_index_key(call, w, ops + n);
    ops[n++] = (token_op){.kind = TOKEN_KV_STORE,
                          .x = &w->kv,
                          .z = l->indexed ? &w->index_k : NULL,
                          .kv = stored_shape(c, call->layer, call->kv),
                          .kv_tokens = call->tokens};
    call->c->op->tokens(call->c, ops, n, call->n);
}

/* ---- the indexer ---- */

static bool chooses(const mixer_call *call, int64_t token)
{
    return call->config->index_topk && call->tokens[token].position >= call->config->index_topk;
}

static bool any_chooses(const mixer_call *call)
{
    for (int64_t i = 0; i < call->n; i++)
        if (chooses(call, i))
            return true;
    return false;
}

/* Choose in a layer that has an indexer; the choice stays for the layers behind it. */
static void select_positions(const mixer_call *call, latent_work *w)
{
    const model_config *c = call->config;
    const spans heads = {0, c->index_dim, c->index_heads, c->index_dim};
    linear_call products[] = {{&call->weights[LATENT_INDEX_Q_B].w, &w->q_a, &w->index_q},
                              {&call->weights[LATENT_INDEX_WEIGHTS].w, call->in, &w->index_weights}};
    call->c->op->linear(call->c, products, 2);
    if (call->rope.set) {
        token_op turn = rope_op(call, &w->index_q, heads);
        call->c->op->tokens(call->c, &turn, 1, call->n);
    }
    select_call select = {.kv = stored_shape(c, call->layer, call->kv),
                          .heads = c->index_heads,
                          .most = c->index_topk,
                          .scale = 1.0f / sqrtf((float)c->index_dim * (float)c->index_heads),
                          .q = &w->index_q,
                          .weights = &w->index_weights,
                          .tokens = call->tokens,
                          .chosen = w->chosen,
                          .work = &w->select};
    call->c->op->select(call->c, &select);
    w->rows = call->n;
    for (int s = 0; s < call->n_sequences; s++)
        for (int64_t i = 0; i < call->sequences[s].n; i++) {
            int64_t token = call->sequences[s].first + i;
            w->owner[token] = call->sequences[s].owner;
            w->at[token] = call->tokens[token].position;
        }
}

/* Move the choice of the layer before to the rows that its tokens have now: those of sequences that have failed since are
 * gone, and the others keep their order. */
static void follow_rows(const mixer_call *call, latent_work *w)
{
    int64_t from = 0, topk = call->config->index_topk;
    for (int s = 0; s < call->n_sequences && w->rows > call->n; s++)
        for (int64_t i = 0; i < call->sequences[s].n; i++, from++) {
            int64_t to = call->sequences[s].first + i;
            while (w->owner[from] != call->sequences[s].owner || w->at[from] != call->tokens[to].position)
                from++;
            memmove(w->chosen + to * topk, w->chosen + from * topk, (size_t)topk * sizeof *w->chosen);
            w->owner[to] = w->owner[from];
            w->at[to] = w->at[from];
        }
    w->rows = call->n;
}

/* ---- a group of tokens ---- */

/* Bring the queries of n tokens from `first` on to the latents. */
static void absorb(const mixer_call *call, latent_work *w, int64_t first, int64_t n)
{
    const model_config *c = call->config;
    const layer_config *l = &c->layer[call->layer];
    bool parts = c->latent_parts;
    int64_t plain = nope(c, l), rank = c->kv_rank, rope = c->rope_part;
    token_op copies[] = {{.kind = TOKEN_COPY,
                          .y = &w->nope,
                          .at = {0, plain, l->heads, plain},
                          .x = &w->q,
                          .from = {0, plain, l->heads, l->key_dim},
                          .x_rows = w->row_of + first},
                         {.kind = TOKEN_COPY,
                          .y = &w->query,
                          .at = {rank, rope, l->heads, rank + rope},
                          .x = &w->q,
                          .from = {plain, rope, l->heads, l->key_dim},
                          .x_rows = w->row_of + first}};
    call->c->op->tokens(call->c, copies, rope ? 2 : 1, n);
    heads_call heads = {.w = &call->weights[parts ? LATENT_K_B : LATENT_KV_B].w,
                        .heads = l->heads,
                        .rows = parts ? rank : plain,
                        .step = parts ? rank : plain + l->value_dim,
                        .turned = !parts,
                        .x = &w->nope,
                        .y = &w->query,
                        .at = {0, rank, l->heads, rank + rope},
                        .work = &w->heads};
    call->c->op->heads(call->c, &heads);
}

/* Bring what attention has given to the heads' values. */
static void expand(const mixer_call *call, latent_work *w, int64_t first)
{
    const model_config *c = call->config;
    const layer_config *l = &c->layer[call->layer];
    bool parts = c->latent_parts;
    heads_call heads = {.w = &call->weights[parts ? LATENT_V_B : LATENT_KV_B].w,
                        .heads = l->heads,
                        .first = parts ? 0 : nope(c, l),
                        .rows = l->value_dim,
                        .step = parts ? l->value_dim : nope(c, l) + l->value_dim,
                        .x = &w->latents,
                        .y = &w->out,
                        .y_row = first,
                        .at = {0, l->value_dim, l->heads, l->value_dim}};
    call->c->op->heads(call->c, &heads);
}

/* chosen: the choice of the call's tokens, or NULL. */
static void attend_group(const mixer_call *call, latent_work *w, int64_t first, int64_t n, const int32_t *chosen)
{
    const model_config *c = call->config;
    const layer_config *l = &c->layer[call->layer];
    absorb(call, w, first, n);
    attention_call attend = {.shape = {shape_of(c, call->kv), l->heads, c->index_topk},
                             .chosen = chosen ? chosen + first * c->index_topk : NULL,
                             .q = &w->query,
                             .out = &w->latents,
                             .tokens = call->tokens + first,
                             .window = l->window,
                             .scale = c->attention_scale > 0 ? c->attention_scale : 1.0f / sqrtf((float)l->key_dim),
                             .work = &w->attend};
    call->c->op->attention(call->c, &attend, n);
    expand(call, w, first);
}

static void forward(const mixer_call *call)
{
    latent_work *w = call->work;
    narrow(call, w);
    project(call, w);
    append(call, w);
    bool choose = any_chooses(call);
    if (choose && call->config->layer[call->layer].indexed)
        select_positions(call, w);
    else if (choose)
        follow_rows(call, w);
    for (int64_t i = 0; i < call->n; i++)
        w->row_of[i] = (int32_t)i;
    for (int64_t first = 0; first < call->n; first += GROUP_TOKENS) {
        int64_t left = call->n - first;
        attend_group(call, w, first, left < GROUP_TOKENS ? left : GROUP_TOKENS, choose ? w->chosen : NULL);
    }
    linear_call output = {&call->weights[LATENT_O].w, &w->out, call->out};
    call->c->op->linear(call->c, &output, 1);
}

const mixer mixer_latent = {
    .name = "latent attention",
    .dim = dim,
    .check = check,
    .check_kv = check_kv,
    .state = state,
    .in_types = in_types,
    .layout = layout,
    .forward = forward,
};
