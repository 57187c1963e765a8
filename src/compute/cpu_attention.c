/* cpu_attention.c - keys and values in memory, and attention over them, tile by tile.
 *
 * State of one sequence in one layer, with room for `context` positions rounded up to whole blocks of ATTEND_BLOCK:
 *   keys   [kv_heads][room positions, interleaved in blocks: kernels.h, key_store]
 *   values [kv_heads][room][kv_bytes(head_dim)]
 * A key/value head is contiguous over positions, so that a query streams through it. */
#include <assert.h>
#include <string.h>

#include "compute/cpu.h"

/* Tokens of one sequence that share a pass over the keys, at most. Bounds the scratch; a token's result does not depend
 * on it. With 4 heads to a key/value head, 32 tokens are the 128 queries that a kernel takes at once. */
#define TILE_TOKENS 32
#define TILE_HEADS 64    /* query heads of one key/value head that go together; more go in turns */
#define TASKS_A_THREAD 4 /* at least so many where there are tokens enough: tiles take unequal time */

typedef struct attention_work {
    float *tile;        /* [threads][2][TILE_TOKENS * group, head_dim]: queries and results of one tile, side by side */
    int64_t *tiles;     /* [n + 1] first token of each tile */
    const void **pages; /* [threads][2][most_pages]: keys and values of one tile's sequence, in pages of ATTEND_BLOCK */
    int64_t most_pages; /* of a sequence */
} attention_work;

static_assert(sizeof(attention_work) <= sizeof(compute_work), "it fits in the caller's struct");

static size_t head_stride(const kv_shape *s)
{
    return kv_bytes((kv_type)s->type, s->head_dim);
}

static size_t room_of(int64_t context)
{
    return (size_t)(context + ATTEND_BLOCK - 1) / ATTEND_BLOCK * ATTEND_BLOCK;
}

static char *keys_of(const kv_shape *s, const kv_token *token, int64_t head)
{
    return (char *)token->state + (size_t)head * room_of(token->context) * head_stride(s);
}

static char *values_of(const kv_shape *s, const kv_token *token, int64_t head)
{
    return keys_of(s, token, s->kv_heads + head);
}

uint64_t kv_state_bytes(const kv_shape *s, int64_t context)
{
    return 2 * (uint64_t)s->kv_heads * room_of(context) * head_stride(s);
}

void kv_state_copy(const kv_shape *s, const void *from, int64_t from_context, void *to, int64_t to_context,
                   int64_t length)
{
    size_t stride = head_stride(s);
    for (size_t h = 0; h < 2 * (size_t)s->kv_heads; h++) /* whole blocks: what lies beyond length is never looked at */
        memcpy((char *)to + h * room_of(to_context) * stride, (const char *)from + h * room_of(from_context) * stride,
               room_of(length) * stride);
}

void cpu_kv_store(const compute *c, const kv_shape *s, const kv_token *token, const float *keys, const float *values)
{
    kv_type type = (kv_type)s->type;
    int64_t place = token->position % ATTEND_BLOCK;
    for (int64_t h = 0; h < s->kv_heads; h++) {
        char *page = keys_of(s, token, h) + (size_t)(token->position - place) * head_stride(s);
        c->kernels->key_store(type, keys + h * s->head_dim, page, place, s->head_dim);
        c->kernels->kv_store(type, values + h * s->head_dim,
                             values_of(s, token, h) + (size_t)token->position * head_stride(s), s->head_dim);
    }
}

void cpu_attention_layout(const compute *c, arena *a, const attention_shape *shape, int64_t n, compute_work *out)
{
    size_t tile = 2 * TILE_TOKENS * (size_t)(shape->heads / shape->kv.kv_heads) * (size_t)shape->kv.head_dim;
    attention_work w;
    w.tile = arena_take(a, (size_t)c->threads * tile, sizeof(float));
    w.tiles = arena_take(a, (size_t)n + 1, sizeof *w.tiles);
    w.most_pages = (int64_t)room_of(shape->context) / ATTEND_BLOCK;
    w.pages = arena_take(a, 2 * (size_t)w.most_pages * (size_t)c->threads, sizeof *w.pages);
    memcpy(out, &w, sizeof w);
}

typedef struct attention_run {
    const compute *c;
    const attention_call *call;
    attention_work w;
} attention_run;

/* The pages of a head's keys or values up to a position. */
static void list_pages(const kv_shape *s, const char *start, int64_t position, const void **page)
{
    size_t bytes = ATTEND_BLOCK * head_stride(s);
    for (int64_t i = 0; i <= position / ATTEND_BLOCK; i++)
        page[i] = start + (size_t)i * bytes;
}

/* Attention of one tile of tokens with one key/value head. Task = tile * kv_heads + head. */
static void attend_tile(void *ctx, int64_t task, int worker)
{
    const attention_run *r = ctx;
    const attention_call *call = r->call;
    const kv_shape *s = &call->shape.kv;
    int64_t head = task % s->kv_heads, group = call->shape.heads / s->kv_heads;
    int64_t first = r->w.tiles[task / s->kv_heads], tokens = r->w.tiles[task / s->kv_heads + 1] - first;
    int64_t dim = s->head_dim, part = group * dim;
    float *q = r->w.tile + (int64_t)worker * 2 * TILE_TOKENS * part, *out = q + TILE_TOKENS * part;
    int64_t from[TILE_TOKENS * TILE_HEADS], to[TILE_TOKENS * TILE_HEADS];
    const kv_token *t = &call->tokens[first];
    const void **key_pages = r->w.pages + worker * 2 * r->w.most_pages, **value_pages = key_pages + r->w.most_pages;
    list_pages(s, keys_of(s, t, head), t[tokens - 1].position, key_pages);
    list_pages(s, values_of(s, t, head), t[tokens - 1].position, value_pages);
    for (int64_t done = 0; done < group; done += TILE_HEADS) {
        int64_t heads = cpu_run_length(group, done, TILE_HEADS);
        size_t bytes = (size_t)(heads * dim) * sizeof *q;
        for (int64_t i = 0; i < tokens; i++) {
            int64_t position = t[i].position;
            memcpy(q + i * heads * dim, cpu_values(call->q, first + i) + head * part + done * dim, bytes);
            for (int64_t h = 0; h < heads; h++) {
                from[i * heads + h] = call->window && position >= call->window ? position - call->window + 1 : 0;
                to[i * heads + h] = position + 1;
            }
        }
        r->c->kernels->attend(&(attend_args){.type = (kv_type)s->type,
                                             .key_dim = dim,
                                             .value_dim = dim,
                                             .scale = call->scale,
                                             .key_pages = key_pages,
                                             .value_pages = value_pages,
                                             .value_stride = (int64_t)head_stride(s),
                                             .n = tokens * heads,
                                             .first = from,
                                             .last = to,
                                             .q = q,
                                             .q_stride = dim,
                                             .out = out,
                                             .out_stride = dim});
        for (int64_t i = 0; i < tokens; i++)
            memcpy(cpu_values(call->out, first + i) + head * part + done * dim, out + i * heads * dim, bytes);
    }
}

/* Cut the tokens into tiles of one sequence each; returns how many. */
static int64_t cut_tiles(const attention_run *r, int64_t n)
{
    const kv_token *tokens = r->call->tokens;
    int64_t *tiles = r->w.tiles, count = 0;
    int64_t most = n * r->call->shape.kv.kv_heads / (TASKS_A_THREAD * r->c->threads);
    most = most > TILE_TOKENS ? TILE_TOKENS : most > 1 ? most : 1;
    for (int64_t token = 0; token < n; token++)
        if (token == 0 || tokens[token].state != tokens[token - 1].state || token - tiles[count - 1] == most)
            tiles[count++] = token;
    tiles[count] = n;
    return count;
}

void cpu_attention(const compute *c, const attention_call *call, int64_t n)
{
    attention_run r = {.c = c, .call = call};
    memcpy(&r.w, call->work, sizeof r.w);
    pool_run(c->pool, cut_tiles(&r, n) * call->shape.kv.kv_heads, attend_tile, &r);
    cpu_written(call->out, n);
}
