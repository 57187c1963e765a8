#include "random_experts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "odmoe_tensors.h"
#include "unfinished.h"

enum { MATRICES = 3, NAME_BYTES = 48, FILE_ALIGN = 4096 };
#define CACHE_BYTES_MAX (1ull << 30)

struct random_experts {
    expert_shape shape;
    char *memory; /* [distinct] experts; NULL: streamed */
    uint64_t memory_bytes;
    odmoe_source *source; /* streamed from a file: `distinct` experts */
    odmoe_source_ops stored;
    int32_t *wanted; /* [experts] the batch's list */
    int32_t *list;   /* [distinct] stored experts that it needs, ascending */
    int32_t n, given, listed;
    void *batch; /* of the stored experts */
    struct held {
        odmoe_expert expert; /* lent by the file's source */
        int users;           /* lent to the layer and not released */
    } * held;                /* [distinct] */
    int32_t *place;          /* [experts] wanted[i]'s stored expert is list[place[i]] */
    int32_t arrived;         /* of list; in its order */
};

static const struct {
    const char *name;
    int32_t number, block, bytes;
} types[] = {{"f32", 0, 1, 4}, {"f16", 1, 1, 2}, {"bf16", 30, 1, 2}, {"q8_0", 8, 32, 34}, {"q4_k", 12, 256, 144}};

int32_t expert_type_find(const char *name)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (!strcmp(types[i].name, name))
            return types[i].number;
    return -1;
}

static uint64_t row_bytes(int32_t type, int64_t columns)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (types[i].number == type)
            return columns % types[i].block ? 0 : (uint64_t)(columns / types[i].block * types[i].bytes);
    return 0;
}

static uint64_t matrix_bytes(const expert_shape *s, int m)
{
    return m == 1 ? (uint64_t)s->hidden * row_bytes(s->type, s->ffn) : (uint64_t)s->ffn * row_bytes(s->type, s->hidden);
}

/* In the file: the format aligns tensors. */
static uint64_t padded_bytes(const expert_shape *s, int m)
{
    return (matrix_bytes(s, m) + 31) / 32 * 32;
}

uint64_t expert_bytes(const expert_shape *s)
{
    return matrix_bytes(s, 0) && matrix_bytes(s, 1) ? 2 * matrix_bytes(s, 0) + matrix_bytes(s, 1) : 0;
}

/* ---- numbers ---- */

static uint32_t random_bits(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 32);
}

/* Weights between about -0.05 and 0.05, whatever the type. The quantised blocks get fixed scales and random bits. */
static void fill(int32_t type, uint8_t *out, uint64_t bytes, uint64_t *state)
{
    const uint16_t f16_small = 0x1000, f16_tiny = 0x0400; /* 2^-11 and 2^-14 */
    for (uint64_t i = 0; i + 4 <= bytes; i += 4) {
        uint32_t bits = random_bits(state);
        memcpy(out + i, &bits, 4);
    }
    switch (type) {
    case 0:
        for (uint64_t i = 0; i < bytes; i += 4) {
            uint32_t bits;
            memcpy(&bits, out + i, 4);
            float v = ((float)(bits >> 8) * 0x1p-24f - 0.5f) * 0.1f;
            memcpy(out + i, &v, 4);
        }
        break;
    case 1:
        for (uint64_t i = 1; i < bytes; i += 2)
            out[i] = (uint8_t)((out[i] & 0x83) | 0x20 | (out[i] & 4)); /* exponents of 2^-7 to 2^-6 */
        break;
    case 30:
        for (uint64_t i = 1; i < bytes; i += 2)
            out[i] = (uint8_t)((out[i] & 0x80) | 0x3c); /* 2^-7 to 2^-6 */
        break;
    case 8:
        for (uint64_t i = 0; i < bytes; i += 34)
            memcpy(out + i, &f16_tiny, 2);
        break;
    default:
        for (uint64_t i = 0; i < bytes; i += 144) {
            memcpy(out + i, &f16_tiny, 2);
            memcpy(out + i + 2, &f16_small, 2);
        }
    }
}

static bool make_memory(random_experts *r)
{
    r->memory_bytes = (uint64_t)r->shape.distinct * expert_bytes(&r->shape);
    r->memory = mmap(NULL, r->memory_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (r->memory == MAP_FAILED) {
        r->memory = NULL;
        complain("no memory for %llu bytes of experts", (unsigned long long)r->memory_bytes);
        return false;
    }
    madvise(r->memory, r->memory_bytes, MADV_HUGEPAGE);
    uint64_t state = 1;
    fill(r->shape.type, (uint8_t *)r->memory, r->memory_bytes, &state);
    return true;
}

/* ---- experts in memory, as a source ---- */

static int32_t stored_for(const expert_shape *s, int32_t expert)
{
    return (int32_t)((int64_t)expert * s->distinct / s->experts);
}

static odmoe_status memory_begin(void *ctx, int32_t layer, const int32_t *experts, int32_t n, odmoe_order order,
                                 void **batch, odmoe_error *err)
{
    random_experts *r = ctx;
    memcpy(r->wanted, experts, (size_t)n * sizeof *experts);
    r->n = n;
    r->given = 0;
    *batch = r;
    return ODMOE_OK;
}

static odmoe_status memory_next(void *ctx, void *batch, odmoe_expert *out, odmoe_error *err)
{
    random_experts *r = ctx;
    const expert_shape *s = &r->shape;
    *out = (odmoe_expert){.expert = -1};
    if (r->given == r->n)
        return ODMOE_OK;
    out->expert = r->wanted[r->given++];
    out->n = MATRICES;
    const char *at = r->memory + (uint64_t)stored_for(s, out->expert) * expert_bytes(s);
    static const int32_t roles[MATRICES] = {ODMOE_GATE, ODMOE_DOWN, ODMOE_UP};
    for (int m = 0; m < MATRICES; m++) {
        out->matrix[m] = (odmoe_matrix){.role = roles[m],
                                        .type = s->type,
                                        .rows = m == 1 ? s->hidden : s->ffn,
                                        .cols = m == 1 ? s->ffn : s->hidden,
                                        .data = at};
        at += matrix_bytes(s, m);
    }
    return ODMOE_OK;
}

static void memory_release(void *ctx, void *batch, const odmoe_expert *expert)
{
}

static void memory_end(void *ctx, void *batch)
{
}

/* ---- stored experts that stand for several, over the file's source ---- */

static odmoe_status shared_begin(void *ctx, int32_t layer, const int32_t *experts, int32_t n, odmoe_order order,
                                 void **batch, odmoe_error *err)
{
    random_experts *r = ctx;
    memory_begin(ctx, layer, experts, n, order, batch, err);
    r->listed = r->arrived = 0;
    for (int32_t i = 0; i < n; i++) { /* experts ascend, so what they are stored as does, too */
        int32_t stored = stored_for(&r->shape, experts[i]);
        if (!r->listed || r->list[r->listed - 1] != stored) {
            r->held[r->listed].users = 0;
            r->list[r->listed++] = stored;
        }
        r->held[r->listed - 1].users++;
        r->place[i] = r->listed - 1;
    }
    return r->stored.begin(r->stored.ctx, layer, r->list, r->listed, ODMOE_ORDER_LISTED, &r->batch, err);
}

typedef odmoe_status get_expert(void *ctx, void *batch, odmoe_expert *out, odmoe_error *err);

static odmoe_status shared_get(random_experts *r, get_expert *get, odmoe_expert *out, odmoe_error *err)
{
    *out = (odmoe_expert){.expert = -1};
    if (r->given == r->n)
        return ODMOE_OK;
    int32_t place = r->place[r->given];
    if (place == r->arrived) {
        odmoe_expert *to = &r->held[place].expert;
        odmoe_status status = get(r->stored.ctx, r->batch, to, err);
        if (status || to->expert < 0)
            return status;
        r->arrived++;
    }
    *out = r->held[place].expert;
    out->expert = r->wanted[r->given++];
    out->own = place;
    return ODMOE_OK;
}

static odmoe_status shared_next(void *ctx, void *batch, odmoe_expert *out, odmoe_error *err)
{
    random_experts *r = ctx;
    return shared_get(r, r->stored.next, out, err);
}

static odmoe_status shared_poll(void *ctx, void *batch, odmoe_expert *out, odmoe_error *err)
{
    random_experts *r = ctx;
    return shared_get(r, r->stored.poll, out, err);
}

static void shared_release(void *ctx, void *batch, const odmoe_expert *expert)
{
    random_experts *r = ctx;
    struct held *h = &r->held[expert->own];
    if (--h->users == 0)
        r->stored.release(r->stored.ctx, r->batch, &h->expert);
}

static void shared_end(void *ctx, void *batch)
{
    random_experts *r = ctx;
    for (int32_t i = 0; i < r->arrived; i++) /* after an error: what nobody asked for any more */
        if (r->held[i].users > 0)
            r->stored.release(r->stored.ctx, r->batch, &r->held[i].expert);
    r->stored.end(r->stored.ctx, r->batch);
}

void random_experts_table(random_experts *r, odmoe_source_ops *ops)
{
    *ops = (odmoe_source_ops){.size = sizeof *ops,
                              .ctx = r,
                              .types = &r->shape.type,
                              .n_types = 1,
                              .begin = memory_begin,
                              .next = memory_next,
                              .poll = memory_next,
                              .release = memory_release,
                              .end = memory_end};
    if (r->memory)
        return;
    ops->begin = shared_begin;
    ops->next = shared_next;
    ops->poll = shared_poll;
    ops->release = shared_release;
    ops->end = shared_end;
    if (r->shape.distinct == r->shape.experts)
        *ops = r->stored;
}

/* ---- the file: GGUF, an expert's matrices side by side ---- */

typedef struct header {
    uint8_t *bytes;
    size_t n, room;
} header;

static void put(header *h, const void *data, size_t n)
{
    if (h->n + n > h->room) {
        h->room = 2 * (h->n + n);
        h->bytes = must_realloc(h->bytes, h->room, 1);
    }
    memcpy(h->bytes + h->n, data, n);
    h->n += n;
}

static void put_u32(header *h, uint32_t v)
{
    put(h, &v, 4);
}

static void put_u64(header *h, uint64_t v)
{
    put(h, &v, 8);
}

static void put_text(header *h, const char *text)
{
    put_u64(h, strlen(text));
    put(h, text, strlen(text));
}

/* Magic, version, counts, alignment; then name, dimensions (innermost first), type and offset of each tensor. */
static header make_header(const expert_shape *s)
{
    static const char *const names[MATRICES] = {"w1", "w2", "w3"};
    header h = {0};
    uint64_t at = 0;
    put(&h, "GGUF", 4);
    put_u32(&h, 3);
    put_u64(&h, (uint64_t)s->distinct * MATRICES);
    put_u64(&h, 1);
    put_text(&h, "general.alignment");
    put_u32(&h, 4);
    put_u32(&h, 32);
    for (int32_t e = 0; e < s->distinct; e++)
        for (int m = 0; m < MATRICES; m++) {
            char name[NAME_BYTES];
            snprintf(name, sizeof name, "expert.%d.%s", e, names[m]);
            put_text(&h, name);
            put_u32(&h, 2);
            put_u64(&h, (uint64_t)(m == 1 ? s->ffn : s->hidden));
            put_u64(&h, (uint64_t)(m == 1 ? s->hidden : s->ffn));
            put_u32(&h, (uint32_t)s->type);
            put_u64(&h, at);
            at += padded_bytes(s, m);
        }
    static const uint8_t zeros[32];
    put(&h, zeros, (32 - h.n % 32) % 32);
    return h;
}

typedef enum what_is_there { THERE_NOTHING, THERE_THE_SAME, THERE_OURS, THERE_OTHER } what_is_there;

/* What stands under the name: these experts, others that were written here (the headers agree up to the first tensor's
 * name, the number of tensors aside), nothing or an empty file, or something that must not be replaced. */
static what_is_there look(const char *path, const header *h, uint64_t bytes)
{
    static const char first[] = "expert.0.w1";
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO would wait for a writer */
    if (fd < 0)
        return errno == ENOENT ? THERE_NOTHING : THERE_OTHER;
    uint8_t *there = must_alloc(h->n, 1);
    const uint8_t *name = memmem(h->bytes, h->n, first, strlen(first));
    size_t begin = (size_t)(name - h->bytes) + strlen(first);
    what_is_there what = THERE_OTHER;
    bool regular = !fstat(fd, &st) && S_ISREG(st.st_mode);
    ssize_t n = regular ? pread(fd, there, h->n, 0) : -1;
    close(fd);
    if (n == 0)
        what = THERE_NOTHING;
    else if (n == (ssize_t)h->n && (uint64_t)st.st_size == bytes && !memcmp(there, h->bytes, h->n))
        what = THERE_THE_SAME;
    else if (n >= (ssize_t)begin && !memcmp(there, h->bytes, 8) && !memcmp(there + 16, h->bytes + 16, begin - 16))
        what = THERE_OURS;
    free(there);
    return what;
}

static bool write_experts(const expert_shape *s, const header *h, const char *path)
{
    odmoe_file *file;
    odmoe_error err;
    uint64_t state = 1, at = h->n;
    odmoe_status status = odmoe_file_begin(path, &file, &err);
    if (status) {
        fail(&err);
        return false;
    }
    unfinished_begin(odmoe_file_partial(file));
    uint8_t *matrix = must_alloc(padded_bytes(s, 0) + padded_bytes(s, 1), 1);
    status = odmoe_file_write(file, h->bytes, at, 0, NULL);
    for (int32_t e = 0; e < s->distinct && !status; e++)
        for (int m = 0; m < MATRICES && !status; m++) {
            memset(matrix, 0, padded_bytes(s, m));
            fill(s->type, matrix, matrix_bytes(s, m), &state);
            status = odmoe_file_write(file, matrix, padded_bytes(s, m), at, NULL);
            at += padded_bytes(s, m);
        }
    free(matrix);
    status = odmoe_file_finish(file, &err); /* the first error of a write, too */
    unfinished_end();
    if (status)
        fail(&err);
    return !status;
}

static bool write_file(const expert_shape *s, const char *path)
{
    header h = make_header(s);
    uint64_t bytes = h.n;
    for (int m = 0; m < MATRICES; m++)
        bytes += padded_bytes(s, m) * (uint64_t)s->distinct;
    what_is_there there = look(path, &h, bytes);
    if (there == THERE_OTHER)
        complain("%s: is there already and holds no experts of bench-layer; it is left as it is: give another name",
                 path);
    bool done = there == THERE_THE_SAME || (there != THERE_OTHER && write_experts(s, &h, path));
    int fd = done ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd >= 0) { /* cold, also for back ends that read through the page cache */
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        close(fd);
    }
    free(h.bytes);
    return done;
}

static bool open_file(random_experts *r, const char *path, uint64_t ram, const char *io, int *status)
{
    static const odmoe_expert_tensor tensors[MATRICES] = {{.name = "expert.{expert}.w1", .role = ODMOE_GATE},
                                                          {.name = "expert.{expert}.w2", .role = ODMOE_DOWN},
                                                          {.name = "expert.{expert}.w3", .role = ODMOE_UP}};
    odmoe_source_options o;
    odmoe_error err;
    odmoe_source_options_init(&o);
    o.path = path;
    o.tensors = tensors;
    o.n_tensors = MATRICES;
    o.experts = r->shape.distinct;
    o.hidden = r->shape.hidden;
    o.ffn = r->shape.ffn;
    o.io = io;
    o.cache_bytes = ram;
    uint64_t each = expert_bytes(&r->shape) + 2 * FILE_ALIGN; /* what alignment may add */
    if (!ram)
        o.cache_bytes = each * (uint64_t)r->shape.distinct > CACHE_BYTES_MAX ? CACHE_BYTES_MAX : 0;
    if (odmoe_source_open(&o, &r->source, &err)) {
        *status = fail(&err);
        return false;
    }
    r->stored.size = sizeof r->stored;
    odmoe_source_table(r->source, &r->stored);
    return true;
}

static random_experts *create(const expert_shape *shape)
{
    random_experts *r = must_alloc(1, sizeof *r);
    r->shape = *shape;
    r->wanted = must_alloc((size_t)shape->experts, sizeof *r->wanted);
    r->place = must_alloc((size_t)shape->experts, sizeof *r->place);
    r->list = must_alloc((size_t)shape->distinct, sizeof *r->list);
    r->held = must_alloc((size_t)shape->distinct, sizeof *r->held);
    return r;
}

random_experts *random_experts_memory(const expert_shape *shape)
{
    random_experts *r = create(shape);
    if (make_memory(r))
        return r;
    random_experts_free(r);
    return NULL;
}

random_experts *random_experts_file(const expert_shape *shape, const char *path, uint64_t ram, const char *io,
                                    int *status)
{
    random_experts *r = create(shape);
    *status = STATUS_FAILED;
    if (write_file(shape, path) && open_file(r, path, ram, io, status))
        return r;
    random_experts_free(r);
    return NULL;
}

void random_experts_free(random_experts *r)
{
    if (!r)
        return;
    odmoe_source_close(r->source);
    if (r->memory)
        munmap(r->memory, r->memory_bytes);
    free(r->wanted);
    free(r->place);
    free(r->list);
    free(r->held);
    free(r);
}

odmoe_source_counters random_experts_counters(random_experts *r)
{
    odmoe_source_counters c = {0};
    if (r->source)
        r->stored.counters(r->stored.ctx, 0, &c);
    return c;
}
