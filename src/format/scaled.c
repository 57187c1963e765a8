/* scaled.c - weights of few bits as publishers store them: one tensor of packed numbers, one of scales, sometimes a number
 * for all of them. X is the name that families know:
 *
 *   who writes it            weights                          scales                    for all
 *   DeepSeek, Qwen ...       X              F8  [r, c]        X_scale_inv, X_scale F32 or BF16 [r/128, c/128]
 *   OpenAI (MXFP4)           X_blocks       U8  [.., c/32, 16] X_scales      U8  [.., c/32]
 *   compressed-tensors INT4  X_packed       I32 [r, c/8]      X_scale       BF16 [r, c/32]
 *   compressed-tensors NVFP4 X_packed       U8  [r, c/2]      X_scale       F8  [r, c/16]    X_global_scale (divides)
 *   ModelOpt NVFP4           X              U8  [r, c/2]      X_scale       F8  [r, c/16]    X_scale_2
 *   GGUF NVFP4               X.weight       NVFP4             in the blocks                  X.scale
 *
 * Each may have one more dimension in front, for experts. Numbers of activations' scales are not used here: activations
 * are not quantised to these types. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "format/tensors_private.h"

#define NAME_MOST 300

typedef struct scheme {
    const char *word;   /* of the packed weights' type */
    const char *packed; /* what their name ends with, behind X */
    const char *kept;   /* what of it stays in the name */
    dtype type;
    int numbers; /* in one element of `word`; 0: the last dimension is a block's bytes */
    const char *scales[2], *scale_words[2];
    const char *factor; /* of the whole tensor; NULL: there is none */
    bool divides;
    const char *shape;       /* a tensor that only repeats the shape */
    const char *activations; /* a scale of the input, in place of X's "weight" */
} scheme;

static const scheme schemes[] = {
    {"U8", "_blocks", "_blocks", DTYPE_MXFP4_SPLIT, 0, {"_scales"}, {"U8"}},
    {"I32", "_packed", "", DTYPE_INT4_SPLIT, 8, {"_scale"}, {"BF16"}, .shape = "_shape"},
    {"U8",
     "_packed",
     "",
     DTYPE_NVFP4_SPLIT,
     2,
     {"_scale"},
     {"F8_E4M3"},
     "_global_scale",
     true,
     .activations = "input_global_scale"},
    {"U8", "", "", DTYPE_NVFP4_SPLIT, 2, {"_scale"}, {"F8_E4M3"}, "_scale_2", .activations = "input_scale"},
    {"F8_E4M3", "", "", DTYPE_F8_E4M3, 1, {"_scale_inv", "_scale"}, {"F32", "BF16"}, .activations = "input_scale"},
};

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

/* What is wrong with the scales of these weights; NULL: nothing. Fills *out. */
static const char *check_scales(const scheme *s, const tensor_info *w, const found *scales, char *why, size_t room,
                                tensor_scales *out)
{
    dtype_scale_shape shape = dtype_scales(s->type);
    const tensor_info *t = scales->t;
    uint64_t rows = (w->shape[w->dims - 2] + shape.rows - 1) / shape.rows, count;
    uint64_t cols = (w->shape[w->dims - 1] + shape.cols - 1) / shape.cols;
    bool word =
        !strcmp(scales->word, s->scale_words[0]) || (s->scale_words[1] && !strcmp(scales->word, s->scale_words[1]));
    if (!word) {
        snprintf(why, room, "%s with scales of type %.16s", dtype_info(s->type)->name, scales->word);
        return why;
    }
    bool fits = t->dims == w->dims && t->shape[t->dims - 2] == rows && t->shape[t->dims - 1] == cols &&
                (t->dims == 2 || t->shape[0] == w->shape[0]);
    uint64_t bytes = !strcmp(scales->word, "BF16") ? 2 : shape.bytes, all;
    if (!fits || !product(t, &count) || !mem_mul(count, bytes, &all) || all != t->length) {
        snprintf(why, room, "%s whose scales are not one for each %u x %u weights (%llu x %llu scales)",
                 dtype_info(s->type)->name, shape.rows, shape.cols, (unsigned long long)rows, (unsigned long long)cols);
        return why;
    }
    out->type = s->type != DTYPE_F8_E4M3 ? s->type : bytes == 2 ? DTYPE_BF16 : DTYPE_F32;
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
static void drop_companions(joiner *j, const char *base, size_t length, const char *shape, const char *activations)
{
    found f = shape ? find(j, base, length, shape) : (found){0};
    if (f.t && !strcmp(f.word, "I64"))
        *f.used = true;
    if (!activations || length < 6 || strncmp(base + length - 6, "weight", 6))
        return;
    f = find(j, base, length - 6, activations);
    if (f.t)
        *f.used = true;
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
    drop_companions(j, p.name, base, s->shape, s->activations);
    if (!unpack_shape(s, &p, &w)) {
        snprintf(why, sizeof why, "%s in a shape that such weights do not have", dtype_info(s->type)->name);
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
    tensor_scales out = {.type = t->type};
    drop_companions(j, t->name, length, NULL, "input_scale");
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
