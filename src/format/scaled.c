/* scaled.c - weights of few bits as publishers store them: one tensor of packed numbers, one of scales, sometimes a number
 * for all of them. X is the name that families know:
 *
 *   who writes it            weights                          scales                    for all
 *   FP8 in blocks            X              F8  [r, c]        X_scale_inv, X_scale float [r/128, c/128]
 *   FP8 by row               the same                         X_scale       float [r, 1], [r]
 *   FP8 by matrix            the same                         the same, [1, 1], [1] or []
 *   OpenAI (MXFP4)           X_blocks       U8  [.., c/32, 16] X_scales      U8  [.., c/32]
 *   compressed-tensors INT4  X_packed       I32 [r, c/8]      X_scale       float [r, c/group], [r, 1]
 *   compressed-tensors NVFP4 X_packed       U8  [r, c/2]      X_scale       F8  [r, c/16]    X_global_scale (divides)
 *   ModelOpt NVFP4           X              U8  [r, c/2]      X_scale       F8  [r, c/16]    X_scale_2
 *   GGUF NVFP4               X.weight       NVFP4             in the blocks                  X.scale
 *
 * DeepSeek, Qwen and others write FP8 in blocks; compressed-tensors, ModelOpt and FBGEMM by row or by matrix. The shape of
 * the scales tells which it is: where two readings fit, they mean the same. A float is F32, BF16 or F16. Each may have one
 * more dimension in front, for experts. Numbers of activations' scales are not used here: activations are not quantised to
 * these types. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "format/tensors_private.h"

#define NAME_MOST 300

#define GRIDS_MOST 4

typedef struct scheme {
    const char *word;   /* of the packed weights' type */
    const char *packed; /* what their name ends with, behind X */
    const char *kept;   /* what of it stays in the name */
    dtype type;
    int numbers; /* in one element of `word`; 0: the last dimension is a block's bytes */
    const char *scales[2];
    unsigned scale_types; /* bits 1 << scale_type */
    const char *shared;   /* which weights share a scale, in words, and as grids (without the type; all 0: no more) */
    scale_grid grids[GRIDS_MOST];
    const char *factor; /* of the whole tensor; NULL: there is none */
    bool divides;
} scheme;

#define FLOATS (1u << SCALE_F32 | 1u << SCALE_BF16 | 1u << SCALE_F16)

static const scheme schemes[] = {
    {.word = "U8",
     .packed = "_blocks",
     .kept = "_blocks",
     .type = DTYPE_MXFP4_SPLIT,
     .scales = {"_scales"},
     .scale_types = 1u << SCALE_E8M0,
     .shared = "32 weights of a row",
     .grids = {{0, 0, 5}}},
    {.word = "I32",
     .packed = "_packed",
     .kept = "",
     .type = DTYPE_INT4_SPLIT,
     .numbers = 8,
     .scales = {"_scale"},
     .scale_types = FLOATS,
     .shared = "32, 64 or 128 weights of a row, or row",
     .grids = {{0, 0, 5}, {0, 0, 6}, {0, 0, 7}, {0, 0, SCALE_ALL}}},
    {.word = "U8",
     .packed = "_packed",
     .kept = "",
     .type = DTYPE_NVFP4_SPLIT,
     .numbers = 2,
     .scales = {"_scale"},
     .scale_types = 1u << SCALE_F8,
     .shared = "16 weights of a row",
     .grids = {{0, 0, 4}},
     .factor = "_global_scale",
     .divides = true},
    {.word = "U8",
     .packed = "",
     .kept = "",
     .type = DTYPE_NVFP4_SPLIT,
     .numbers = 2,
     .scales = {"_scale"},
     .scale_types = 1u << SCALE_F8,
     .shared = "16 weights of a row",
     .grids = {{0, 0, 4}},
     .factor = "_scale_2"},
    {.word = "F8_E4M3",
     .packed = "",
     .kept = "",
     .type = DTYPE_F8_E4M3,
     .numbers = 1,
     .scales = {"_scale_inv", "_scale"},
     .scale_types = FLOATS,
     .shared = "128 x 128 weights, row or matrix",
     .grids = {{0, 7, 7}, {0, 0, SCALE_ALL}, {0, SCALE_ALL, SCALE_ALL}}},
};

/* What files call the types of scales. */
static const struct {
    const char *word;
    scale_type type;
} scale_words[] = {
    {"F32", SCALE_F32}, {"BF16", SCALE_BF16}, {"F16", SCALE_F16}, {"F8_E4M3", SCALE_F8}, {"U8", SCALE_E8M0}};

/* Beside weights X: their shape once more; what would change what they mean; and, in place of X's "weight", how inputs,
 * outputs or the cache are to be quantised. */
static const char shape_ending[] = "_shape";
static const struct {
    const char *ending, *what;
} other_meanings[] = {{"_zero_point", "zero points"}, {"_g_idx", "columns in another order (actorder)"}};
static const char *const activation_endings[] = {
    "input_scale", "input_global_scale", "input_scale_ub", "activation_scale", "output_scale", "k_scale", "v_scale"};

typedef struct joiner {
    tensor_index *index;
    size_t tensors, unread; /* sorted ones: what is added lies behind them */
    bool *tensor_used, *unread_used;
    size_t scales; /* of index->scales, taken */
    odmoe_error *err;
} joiner;

/* A tensor of either list. */
typedef struct found {
    const tensor_info *t; /* NULL: there is none */
    const char *word;
    bool *used;
} found;

static int by_name(const void *a, const void *b)
{
    return strcmp(((const tensor_info *)a)->name, ((const tensor_info *)b)->name);
}

static int unread_by_name(const void *a, const void *b)
{
    return by_name(&((const unread_tensor *)a)->place, &((const unread_tensor *)b)->place);
}

static const char *word_of(dtype t)
{
    return t == DTYPE_F32       ? "F32"
           : t == DTYPE_F16     ? "F16"
           : t == DTYPE_BF16    ? "BF16"
           : t == DTYPE_F8_E4M3 ? "F8_E4M3"
                                : "";
}

static found tensor_at(joiner *j, size_t i)
{
    const tensor_info *t = &j->index->tensors[i];
    return (found){t, word_of(t->type), &j->tensor_used[i]};
}

static found unread_at(joiner *j, size_t i)
{
    const unread_tensor *u = &j->index->unread[i];
    return (found){&u->place, u->type, &j->unread_used[i]};
}

/* The tensor whose name is base[0, length) and an ending. */
static found find(joiner *j, const char *base, size_t length, const char *ending)
{
    char name[NAME_MOST];
    if ((size_t)snprintf(name, sizeof name, "%.*s%s", (int)length, base, ending) >= sizeof name)
        return (found){0};
    const unread_tensor key = {.place.name = name};
    const tensor_info *t = j->tensors ? bsearch(&key.place, j->index->tensors, j->tensors, sizeof *t, by_name) : NULL;
    if (t)
        return tensor_at(j, (size_t)(t - j->index->tensors));
    const unread_tensor *u = j->unread ? bsearch(&key, j->index->unread, j->unread, sizeof *u, unread_by_name) : NULL;
    return u && u->has_place ? unread_at(j, (size_t)(u - j->index->unread)) : (found){0};
}

static bool ends_with(const char *name, const char *ending)
{
    size_t length = strlen(name), of = strlen(ending);
    return length >= of && !strcmp(name + length - of, ending);
}

static bool product(const tensor_info *t, uint64_t *out)
{
    *out = 1;
    for (int d = 0; d < t->dims; d++)
        if (!mem_mul(*out, t->shape[d], out))
            return false;
    return true;
}

/* The shape of the weights that packed ones stand for, and whether they fill their bytes. */
static bool unpack_shape(const scheme *s, const tensor_info *packed, tensor_info *out)
{
    const dtype_traits *traits = dtype_info(s->type);
    uint64_t count, numbers = s->numbers ? (uint64_t)s->numbers : traits->block;
    *out = *packed;
    out->type = s->type;
    out->dims -= !s->numbers;
    if (out->dims < 2 || out->dims > 3 || (!s->numbers && packed->shape[out->dims] != traits->block_bytes))
        return false;
    uint64_t *last = &out->shape[out->dims - 1];
    return mem_mul(*last, numbers, last) && *last % traits->block == 0 && product(out, &count) && count &&
           dtype_bytes(s->type, count) == packed->length;
}

/* The scales' type by its word; SCALE_NONE where the scheme has no such. */
static scale_type scale_type_of(const scheme *s, const char *word)
{
    for (size_t i = 0; i < sizeof scale_words / sizeof *scale_words; i++)
        if (!strcmp(scale_words[i].word, word))
            return s->scale_types >> scale_words[i].type & 1 ? scale_words[i].type : SCALE_NONE;
    return SCALE_NONE;
}

/* Do scales of this shape lie on a grid over the weights? A dimension along which there is never more than one may be left
 * out. */
static bool on_grid(const tensor_info *t, const tensor_info *w, scale_grid g)
{
    uint64_t shape[TENSOR_DIMS_MAX];
    int dims = w->dims, spare = g.cols != SCALE_ALL ? 0 : g.rows != SCALE_ALL ? 1 : 2;
    memcpy(shape, w->shape, sizeof shape);
    shape[dims - 2] = scale_count((scale_grid){g.type, g.rows, SCALE_ALL}, shape[dims - 2], 1);
    shape[dims - 1] = scale_count((scale_grid){g.type, SCALE_ALL, g.cols}, 1, shape[dims - 1]);
    if (t->dims < dims - spare || t->dims > dims)
        return false;
    return !memcmp(t->shape, shape, (size_t)t->dims * sizeof *shape);
}

/* What is wrong with the scales of these weights; NULL: nothing. Fills *out. */
static const char *check_scales(const scheme *s, const tensor_info *w, const found *scales, char *why, size_t room,
                                tensor_scales *out)
{
    const tensor_info *t = scales->t;
    const char *name = dtype_info(s->type)->name;
    scale_grid grid = {.type = (uint8_t)scale_type_of(s, scales->word)};
    if (!grid.type) {
        snprintf(why, room, "%s with scales of type %.16s", name, scales->word);
        return why;
    }
    uint64_t count, bytes;
    bool fits = false;
    for (int i = 0; i < GRIDS_MOST && (s->grids[i].rows || s->grids[i].cols) && !fits; i++) {
        grid.rows = s->grids[i].rows;
        grid.cols = s->grids[i].cols;
        fits = on_grid(t, w, grid);
    }
    if (!fits || !product(t, &count) || !mem_mul(count, scale_width(grid), &bytes) || bytes != t->length) {
        snprintf(why, room, "%s whose scales are not one for each %s", name, s->shared);
        return why;
    }
    out->grid = grid;
    out->file = t->file;
    out->offset = t->offset;
    out->length = t->length;
    return NULL;
}

/* One float32 for each matrix of w. */
static bool take_factor(const found *factor, const tensor_info *w, bool divides, tensor_scales *out)
{
    uint64_t matrices = w->dims == 3 ? w->shape[0] : 1, count;
    if (strcmp(factor->word, "F32") || !product(factor->t, &count) || count != matrices || factor->t->dims > 2)
        return false;
    out->factor_file = factor->t->file;
    out->factor_offset = factor->t->offset;
    out->factors = matrices;
    out->factor_divides = divides;
    *factor->used = true;
    return true;
}

/* Tensors beside X that say nothing new of the weights. */
static void drop_companions(joiner *j, const char *base, size_t length)
{
    found f = find(j, base, length, shape_ending);
    if (f.t && (!strcmp(f.word, "I64") || !strcmp(f.word, "I32")))
        *f.used = true;
    bool weight = length >= 6 && !strncmp(base + length - 6, "weight", 6);
    for (size_t i = 0; i < sizeof activation_endings / sizeof *activation_endings && weight; i++) {
        f = find(j, base, length - 6, activation_endings[i]);
        if (f.t)
            *f.used = true;
    }
}

static odmoe_status refuse(joiner *j, const char *base, size_t length, const char *why)
{
    char name[NAME_MOST];
    snprintf(name, sizeof name, "%.*s", (int)length, base);
    return tensor_index_add_unread(j->index, name, why, NULL, j->err);
}

/* Put the joined tensor into the index, under its name without the scheme's ending. */
static odmoe_status add(joiner *j, const tensor_info *w, size_t length, const tensor_scales *scales)
{
    tensor_index *index = j->index;
    odmoe_status status = mem_grow((void **)&index->tensors, &index->capacity, index->count + 1, sizeof *index->tensors,
                                   "the tensor index", j->err);
    if (status)
        return status;
    tensor_info *t = &index->tensors[index->count];
    *t = *w;
    char name[NAME_MOST];
    snprintf(name, sizeof name, "%.*s", (int)length, w->name);
    t->name = tensor_index_keep(index, name, strlen(name), j->err);
    if (!t->name)
        return ODMOE_ERR_MEMORY;
    index->scales[j->scales] = *scales;
    t->scales = &index->scales[j->scales++];
    index->count++;
    return ODMOE_OK;
}

/* Packed weights of a scheme: joined with their scales, or refused with the reason. *taken: they were of this scheme. */
static odmoe_status join(joiner *j, const scheme *s, found packed, bool *taken)
{
    const tensor_info p = *packed.t; /* the lists may move */
    size_t base = strlen(p.name) - strlen(s->packed), kept = base + strlen(s->kept);
    found scales = find(j, p.name, base, s->scales[0]), factor = {0};
    if (!scales.t && s->scales[1])
        scales = find(j, p.name, base, s->scales[1]);
    if (s->factor)
        factor = find(j, p.name, base, s->factor);
    if (strlen(p.name) >= NAME_MOST || (!*s->packed && !scales.t && s->numbers > 1))
        return ODMOE_OK; /* any tensor of bytes: nothing says that it is of this scheme */
    *taken = true;
    *packed.used = true;
    char why[128];
    tensor_info w;
    tensor_scales out = {0};
    if (!scales.t) {
        snprintf(why, sizeof why, "%s without a tensor of scales", dtype_info(s->type)->name);
        return refuse(j, p.name, kept, why);
    }
    *scales.used = true;
    drop_companions(j, p.name, base);
    if (!unpack_shape(s, &p, &w)) {
        snprintf(why, sizeof why, "%s in a shape that such weights do not have", dtype_info(s->type)->name);
        return refuse(j, p.name, kept, why);
    }
    for (size_t i = 0; i < sizeof other_meanings / sizeof *other_meanings; i++) {
        found other = find(j, p.name, base, other_meanings[i].ending);
        if (!other.t)
            continue;
        *other.used = true;
        snprintf(why, sizeof why, "%s with %s", dtype_info(s->type)->name, other_meanings[i].what);
        return refuse(j, p.name, kept, why);
    }
    if (check_scales(s, &w, &scales, why, sizeof why, &out))
        return refuse(j, p.name, kept, why);
    if (s->factor && (!factor.t || !take_factor(&factor, &w, s->divides, &out))) {
        snprintf(why, sizeof why, "%s without its global scale, one float32", dtype_info(s->type)->name);
        return refuse(j, p.name, kept, why);
    }
    return add(j, &w, kept, &out);
}

static odmoe_status join_unread(joiner *j, size_t i)
{
    bool taken = false;
    odmoe_status status = ODMOE_OK;
    for (size_t s = 0; s < sizeof schemes / sizeof *schemes && !taken && !status; s++) {
        found packed = unread_at(j, i);
        if (j->index->unread[i].has_place && !*packed.used && !strcmp(packed.word, schemes[s].word) &&
            ends_with(packed.t->name, schemes[s].packed))
            status = join(j, &schemes[s], packed, &taken);
    }
    return status;
}

/* GGUF: the scale of a whole tensor stands beside it, if it is not 1. */
static void join_gguf_factor(joiner *j, size_t i)
{
    tensor_info *t = &j->index->tensors[i];
    size_t length = strlen(t->name);
    if (!ends_with(t->name, ".weight") || length >= NAME_MOST)
        return;
    found factor = find(j, t->name, length - 6, "scale");
    tensor_scales out = {0};
    drop_companions(j, t->name, length);
    if (!factor.t || !take_factor(&factor, t, false, &out)) /* of another shape: an unknown tensor */
        return;
    j->index->scales[j->scales] = out;
    t->scales = &j->index->scales[j->scales++];
}

static odmoe_status join_all(joiner *j)
{
    const scheme *f8 = &schemes[sizeof schemes / sizeof *schemes - 1];
    odmoe_status status = ODMOE_OK;
    for (size_t i = 0; i < j->unread && !status; i++)
        status = join_unread(j, i);
    for (size_t i = 0; i < j->tensors && !status; i++) { /* FP8 that is left is no scales */
        bool taken;
        dtype type = j->index->tensors[i].type;
        if (type == DTYPE_F8_E4M3 && !j->tensor_used[i])
            status = join(j, f8, tensor_at(j, i), &taken);
        else if (type == DTYPE_NVFP4)
            join_gguf_factor(j, i);
    }
    return status;
}

static void drop_used(joiner *j)
{
    tensor_index *index = j->index;
    size_t kept = 0;
    for (size_t i = 0; i < index->count; i++)
        if (i >= j->tensors || !j->tensor_used[i])
            index->tensors[kept++] = index->tensors[i];
    index->count = kept;
    kept = 0;
    for (size_t i = 0; i < index->unread_count; i++)
        if (i >= j->unread || !j->unread_used[i])
            index->unread[kept++] = index->unread[i];
    index->unread_count = kept;
}

odmoe_status scaled_tensors_join(tensor_index *index, odmoe_error *err)
{
    size_t most = index->unread_count;
    for (size_t i = 0; i < index->count; i++)
        most += index->tensors[i].type == DTYPE_F8_E4M3 || index->tensors[i].type == DTYPE_NVFP4;
    if (!most)
        return ODMOE_OK;
    joiner j = {.index = index, .tensors = index->count, .unread = index->unread_count, .err = err};
    odmoe_status status = ODMOE_ERR_MEMORY;
    if (index->count)
        qsort(index->tensors, index->count, sizeof *index->tensors, by_name);
    if (index->unread_count)
        qsort(index->unread, index->unread_count, sizeof *index->unread, unread_by_name);
    index->scales = mem_calloc(most, sizeof *index->scales, "the tensor index", err);
    index->scales_count = index->scales ? most : 0;
    j.tensor_used = index->scales ? mem_calloc(j.tensors, sizeof *j.tensor_used, "the tensor index", err) : NULL;
    j.unread_used = j.tensor_used ? mem_calloc(j.unread, sizeof *j.unread_used, "the tensor index", err) : NULL;
    if (j.unread_used && !(status = join_all(&j)))
        drop_used(&j);
    free(j.tensor_used);
    free(j.unread_used);
    return status;
}
