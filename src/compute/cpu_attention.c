/* cpu_attention.c - keys and values in pages, and attention over them, tile by tile.
 *
 * One page, KV_PAGE positions of one sequence in one layer:
 *   keys    [kv_heads][KV_PAGE positions, interleaved: kernels.h, key_store]
 *   values  [kv_heads][KV_PAGE][kv_bytes(value_dim)]    none with value_in_key
 * A head's positions are contiguous in a page, so that a query streams through them. */
#include <assert.h>
#include <string.h>

#include "compute/cpu.h"

static_assert(KV_PAGE == ATTEND_BLOCK, "kernels attend page by page");

/* Tokens of one sequence that share a pass over the keys, at most. Bounds the scratch; a token's result does not depend
 * on it. With 4 heads to a key/value head, 32 tokens are the 128 queries that a kernel takes at once. */
#define TILE_TOKENS 32
#define TILE_HEADS 64       /* query heads of one key/value head that go together at most */
#define TILE_QUERIES 512    /* the same of tokens times heads, where so many tokens would be too many */
#define TILE_HEADS_ENOUGH 8 /* so many are not parted to keep more threads busy: each part reads the keys again */
#define TASKS_A_THREAD 4    /* at least, if there are tokens enough: tiles take unequal time */

/* Scratch of one thread; all arrays have a place for each query of a tile. */
typedef struct tile_scratch {
    float *q, *out;
    int64_t *first, *last;
    float *sinks;
} tile_scratch;

typedef struct attention_work {
    float *q, *out; /* [threads][tile_queries, key_dim; value_dim] queries and results of one tile */
    int64_t *range; /* [threads][2][tile_queries] */
    float *sinks;   /* [threads][tile_queries] */
    int64_t *tiles; /* [n + 1] first token of each tile */
    char *kernel;   /* [threads][ATTEND_SCRATCH] */
    char *gathered; /* [threads][pages of chosen positions] keys that a token has chosen; only if shape.chosen */
    void **pages;   /* [threads][the same] */
} attention_work;

static_assert(sizeof(attention_work) <= sizeof(compute_work), "it fits in the caller's struct");

static size_t keys_bytes(const kv_shape *s)
{
    return KV_PAGE * kv_bytes(s->type, s->key_dim);
}

static size_t values_bytes(const kv_shape *s)
{
    return s->value_in_key ? 0 : KV_PAGE * kv_bytes(s->type, s->value_dim);
}

size_t kv_page_bytes(const kv_shape *s)
{
    return (size_t)s->kv_heads * (keys_bytes(s) + values_bytes(s));
}

static size_t key_offset(const kv_shape *s, int head)
{
    return (size_t)head * keys_bytes(s);
}

size_t cpu_value_offset(const kv_shape *s, int head)
{
    return (size_t)s->kv_heads * keys_bytes(s) + (size_t)head * values_bytes(s);
}

void cpu_kv_store(const compute *c, const kv_shape *s, const kv_token *token, const float *keys, const float *values)
{
    char *page = token->pages[token->position / KV_PAGE];
    int64_t place = token->position % KV_PAGE;
    for (int h = 0; h < s->kv_heads; h++) {
        c->kernels->key_store(s->type, keys + (int64_t)h * s->key_dim, page + key_offset(s, h), place, s->key_dim);
        if (!s->value_in_key)
            c->kernels->kv_store(s->type, values + (int64_t)h * s->value_dim,
                                 page + cpu_value_offset(s, h) + (size_t)place * kv_bytes(s->type, s->value_dim),
                                 s->value_dim);
    }
}

static int64_t at_most(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Query heads of one key head that go together at most; tokens of a tile, and its queries. */
static int64_t heads_together(const attention_shape *s)
{
    return at_most(s->heads / s->kv.kv_heads, TILE_HEADS);
}
static int64_t tile_tokens(const attention_shape *s)
{
    return at_most(TILE_QUERIES / heads_together(s), TILE_TOKENS);
}
static int64_t tile_queries(const attention_shape *s)
{
    return tile_tokens(s) * heads_together(s);
}

static size_t chosen_pages(const attention_shape *s)
{
    return (size_t)cpu_runs(s->chosen, KV_PAGE);
}

void cpu_attention_layout(const compute *c, arena *a, const attention_shape *s, int64_t n, compute_work *out)
{
    size_t threads = (size_t)c->threads, queries = (size_t)tile_queries(s);
    attention_work w = {0};
    w.q = arena_take(a, threads * queries * (size_t)s->kv.key_dim, sizeof(float));
    w.out = arena_take(a, threads * queries * (size_t)s->kv.value_dim, sizeof(float));
    w.range = arena_take(a, threads * queries, 2 * sizeof *w.range);
    w.sinks = arena_take(a, threads * queries, sizeof *w.sinks);
    w.tiles = arena_take(a, (size_t)n + 1, sizeof *w.tiles);
    w.kernel = arena_take(a, threads, ATTEND_SCRATCH);
    if (s->chosen) {
        w.gathered = arena_take(a, threads * chosen_pages(s), keys_bytes(&s->kv));
        w.pages = arena_take(a, threads * chosen_pages(s), sizeof *w.pages);
    }
    memcpy(out, &w, sizeof w);
}

typedef struct attention_run {
    const compute *c;
    const attention_call *call;
    attention_work w;
    int64_t heads; /* query heads of a task, */
    int64_t parts; /* so that the group of a key head makes so many */
} attention_run;

static tile_scratch scratch_of(const attention_run *r, int worker)
{
    const attention_shape *s = &r->call->shape;
    int64_t queries = tile_queries(s);
    int64_t *range = r->w.range + worker * 2 * queries;
    return (tile_scratch){.q = r->w.q + worker * queries * s->kv.key_dim,
                          .out = r->w.out + worker * queries * s->kv.value_dim,
                          .first = range,
                          .last = range + queries,
                          .sinks = r->w.sinks + worker * queries};
}

/* The first position that a token at `position` sees. */
static int64_t first_seen(const attention_call *call, int64_t position)
{
    int64_t first = call->window && position >= call->window ? position - call->window + 1 : 0;
    int64_t chunk = call->chunk ? position / call->chunk * call->chunk : 0;
    return first > chunk ? first : chunk;
}

/* Does a token see chosen positions alone? It is a tile of its own then. */
static bool chooses(const attention_call *call, int64_t token)
{
    return call->chosen && call->tokens[token].position >= call->shape.chosen;
}

/* The keys that a token has chosen, side by side in the order of their positions: a sequence in which all others are left
 * out, and which begins where the token's would without choice. */
static const void *const *gather_keys(const attention_run *r, int64_t token, int worker)
{
    const attention_call *call = r->call;
    const kv_shape *s = &call->shape.kv;
    size_t pages = chosen_pages(&call->shape), bytes = keys_bytes(s);
    char *to = r->w.gathered + (size_t)worker * pages * bytes;
    void **table = r->w.pages + (size_t)worker * pages;
    const int32_t *chosen = call->chosen + token * call->shape.chosen;
    for (size_t p = 0; p < pages; p++)
        table[p] = to + p * bytes;
    for (int64_t i = 0; i < call->shape.chosen; i++)
        kernel_key_copy(s->type, call->tokens[token].pages[chosen[i] / KV_PAGE], chosen[i] % KV_PAGE,
                        table[i / KV_PAGE], i % KV_PAGE, s->key_dim);
    return (const void *const *)table;
}

/* The queries of `heads` heads from `head` on, of a tile's tokens: [tokens][heads]. */
static void gather_queries(const attention_run *r, const tile_scratch *t, int64_t first, int64_t tokens, int64_t head,
                           int64_t heads)
{
    const attention_call *call = r->call;
    int64_t dim = call->shape.kv.key_dim;
    for (int64_t i = 0; i < tokens; i++) {
        int64_t position = call->tokens[first + i].position, seen = first_seen(call, position);
        memcpy(t->q + i * heads * dim, cpu_values(call->q, first + i) + head * dim,
               (size_t)(heads * dim) * sizeof(float));
        for (int64_t h = 0; h < heads; h++) {
            t->first[i * heads + h] = seen;
            t->last[i * heads + h] = chooses(call, first + i) ? call->shape.chosen : position + 1;
            if (call->sinks)
                t->sinks[i * heads + h] = call->sinks[head + h];
        }
    }
}

/* Attention of one tile of tokens with some heads of one key/value head. Task = (tile * kv_heads + kv head) * parts +
 * part of the heads. */
static void attend_tile(void *ctx, int64_t task, int worker)
{
    const attention_run *r = ctx;
    const attention_call *call = r->call;
    const kv_shape *s = &call->shape.kv;
    tile_scratch t = scratch_of(r, worker);
    int64_t part = task % r->parts, tile = task / r->parts / s->kv_heads;
    int kv_head = (int)(task / r->parts % s->kv_heads);
    int64_t first = r->w.tiles[tile], tokens = r->w.tiles[tile + 1] - first;
    int64_t group = call->shape.heads / s->kv_heads, dim = s->value_dim;
    int64_t heads = cpu_run_length(group, part * r->heads, r->heads), head = kv_head * group + part * r->heads;
    const void *const *pages = (const void *const *)call->tokens[first].pages;
    if (chooses(call, first))
        pages = gather_keys(r, first, worker);
    gather_queries(r, &t, first, tokens, head, heads);
    r->c->kernels->attend(&(attend_args){.type = s->type,
                                         .key_dim = s->key_dim,
                                         .value_dim = dim,
                                         .scale = call->scale,
                                         .softcap = call->softcap,
                                         .key_pages = pages,
                                         .value_pages = s->value_in_key ? NULL : pages,
                                         .key_offset = key_offset(s, kv_head),
                                         .value_offset = cpu_value_offset(s, kv_head),
                                         .value_stride = (int64_t)kv_bytes(s->type, dim),
                                         .n = tokens * heads,
                                         .first = t.first,
                                         .last = t.last,
                                         .q = t.q,
                                         .q_stride = s->key_dim,
                                         .sinks = call->sinks ? t.sinks : NULL,
                                         .out = t.out,
                                         .out_stride = dim,
                                         .scratch = r->w.kernel + (size_t)worker * ATTEND_SCRATCH});
    for (int64_t i = 0; i < tokens; i++)
        memcpy(cpu_values(call->out, first + i) + head * dim, t.out + i * heads * dim,
               (size_t)(heads * dim) * sizeof(float));
}

/* Cut the tokens into tiles of one sequence each; returns how many. */
static int64_t cut_tiles(const attention_run *r, int64_t n)
{
    const kv_token *tokens = r->call->tokens;
    int64_t *tiles = r->w.tiles, count = 0;
    int64_t most = n * r->call->shape.kv.kv_heads / (TASKS_A_THREAD * r->c->threads);
    int64_t tile = tile_tokens(&r->call->shape);
    most = most > tile ? tile : most > 1 ? most : 1;
    for (int64_t token = 0; token < n; token++)
        if (token == 0 || tokens[token].pages != tokens[token - 1].pages || token - tiles[count - 1] == most ||
            chooses(r->call, token))
            tiles[count++] = token;
    tiles[count] = n;
    return count;
}

/* Part the heads of a group: no more go together than a tile holds, and, where there are fewer tasks than threads, no more
 * than are enough. */
static void part_heads(attention_run *r, int64_t tasks)
{
    int64_t group = r->call->shape.heads / r->call->shape.kv.kv_heads;
    int64_t parts = cpu_runs(group, heads_together(&r->call->shape));
    int64_t wanted = cpu_runs(r->c->threads, tasks), most = cpu_runs(group, TILE_HEADS_ENOUGH);
    parts = parts > at_most(wanted, most) ? parts : at_most(wanted, most);
    r->heads = cpu_runs(group, parts);
    r->parts = cpu_runs(group, r->heads);
}

void cpu_attention(const compute *c, const attention_call *call, int64_t n)
{
    attention_run r = {.c = c, .call = call};
    memcpy(&r.w, call->work, sizeof r.w);
    int64_t tasks = cut_tiles(&r, n) * call->shape.kv.kv_heads;
    part_heads(&r, tasks);
    pool_run(c->pool, tasks * r.parts, attend_tile, &r);
    cpu_written(call->out, n);
}
