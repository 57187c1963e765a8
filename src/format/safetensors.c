/* A .safetensors file, all numbers little-endian:
 *
 *     0        8                              8 + N                                      end of file
 *     +--------+-------------------------------+------------------------------------------+
 *     | N: u64 | N bytes of JSON, then blanks  | data: the tensors, one after the other   |
 *     +--------+-------------------------------+------------------------------------------+
 *
 *     {"__metadata__": {"format": "pt"},
 *      "model.norm.weight": {"dtype": "BF16", "shape": [128], "data_offsets": [0, 256]}, ...}
 *
 * data_offsets are begin and end from the start of the data, at any byte. Shapes are outermost first.
 *
 * A folder with shards has model.safetensors.index.json, which says which file holds which tensor:
 *
 *     {"metadata": {"total_size": 123}, "weight_map": {"model.norm.weight": "model-00002-of-00009.safetensors", ...}}
 */
#include "format/safetensors.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "format/file.h"
#include "format/json_walk.h"

#define HEADER_MAX 100000000 /* the format's own limit */
#define INDEX_MAX ((size_t)256 << 20)
#define SHARDS_MAX 65536

/* ---- one file --------------------------------------------------------------------------------------------- */

/* The numbers of an array of at most `max`; -1 for anything else. */
static int uint_array(json_walk *w, uint64_t *out, int max)
{
    bool first = true;
    int n = 0, more;
    if (!json_walk_enter(w, '['))
        return -1;
    while ((more = json_walk_item(w, &first)) > 0)
        if (n == max || !json_walk_uint(w, &out[n++]))
            return -1;
    return more < 0 ? -1 : n;
}

/* What a tensor's object says, `e->offset` still counted from the data's start. NULL or the field that is wrong. */
static const char *read_entry(json_walk *w, safetensors_entry *e)
{
    bool first = true;
    int more, dims = -1, ends = -1;
    uint64_t range[2] = {0, 0};
    char *key, *type = NULL;
    if (!json_walk_enter(w, '{'))
        return "its description";
    while ((more = json_walk_member(w, &first, &key)) > 0) {
        if (!strcmp(key, "dtype")) {
            if (type || !json_walk_text(w, &type))
                return "dtype";
        } else if (!strcmp(key, "shape")) {
            if (dims >= 0 || (dims = uint_array(w, e->shape, SAFETENSORS_DIMS_MAX)) < 0)
                return "shape";
        } else if (!strcmp(key, "data_offsets")) {
            if (ends >= 0 || (ends = uint_array(w, range, 2)) != 2)
                return "data_offsets";
        } else if (!json_walk_skip(w)) {
            return "its description";
        }
    }
    if (more < 0)
        return "its description";
    if (!type)
        return "dtype";
    if (dims < 0)
        return "shape";
    if (ends < 0 || range[1] < range[0])
        return "data_offsets";
    e->type = type;
    e->dims = dims;
    e->offset = range[0];
    e->length = range[1] - range[0];
    return NULL;
}

static odmoe_status walk_header(const char *path, char *header, size_t length, uint64_t size, safetensors_visit *visit,
                                void *ctx, odmoe_error *err)
{
    json_walk w = {header, header + length};
    uint64_t data = 8 + (uint64_t)length;
    bool first = true;
    int more = -1;
    char *name;
    if (json_walk_enter(&w, '{'))
        while ((more = json_walk_member(&w, &first, &name)) > 0) {
            if (!strcmp(name, "__metadata__")) {
                if (!json_walk_skip(&w))
                    return err_set(err, ODMOE_ERR_FORMAT, "%s: __metadata__ in the header is not valid JSON",
                                   file_label(path));
                continue;
            }
            safetensors_entry e = {.name = name};
            const char *wrong = read_entry(&w, &e);
            if (wrong)
                return err_set(err, ODMOE_ERR_FORMAT, "%s: tensor '%.100s': %s is missing or wrong", file_label(path),
                               name, wrong);
            if (e.offset > size - data || e.length > size - data - e.offset)
                return err_set(err, ODMOE_ERR_FORMAT,
                               "%s: tensor '%.100s': data_offsets %llu + %llu lie outside the %llu bytes of data "
                               "(cut off?)",
                               file_label(path), name, (unsigned long long)e.offset, (unsigned long long)e.length,
                               (unsigned long long)(size - data));
            e.offset += data;
            odmoe_status status = visit(ctx, &e, err);
            if (status)
                return status;
        }
    if (more < 0 || !json_walk_done(&w))
        return err_set(err, ODMOE_ERR_FORMAT, "%s: the header is not valid JSON near its byte %zu", file_label(path),
                       (size_t)(w.at - header));
    return ODMOE_OK;
}

/* The first eight bytes say what cannot be, or are not there. */
static odmoe_status no_header(const char *path, int fd, uint64_t size, uint64_t length, odmoe_error *err)
{
    const char *placeholder = file_placeholder(fd, size);
    if (placeholder)
        return err_set(err, ODMOE_ERR_FORMAT, "%s: %s", file_label(path), placeholder);
    if (size < 8)
        return err_set(err, ODMOE_ERR_FORMAT, "%s: has %llu bytes, too few for safetensors (cut off?)",
                       file_label(path), (unsigned long long)size);
    return err_set(err, ODMOE_ERR_FORMAT,
                   "%s: the header is said to have %llu bytes; the file has %llu and %d are the most allowed "
                   "(cut off, or not safetensors?)",
                   file_label(path), (unsigned long long)length, (unsigned long long)size, HEADER_MAX);
}

odmoe_status safetensors_each(const char *path, uint64_t *size_out, safetensors_visit *visit, void *ctx,
                              odmoe_error *err)
{
    int fd;
    uint64_t size, length = 0;
    char *header = NULL;
    odmoe_status status = file_open(path, false, &fd, &size, err);
    if (status)
        return status;
    if (size_out)
        *size_out = size;
    unsigned char raw[8] = {0};
    if (size >= sizeof raw)
        status = file_read_at(fd, path, 0, raw, sizeof raw, err);
    for (int i = 0; i < 8; i++)
        length |= (uint64_t)raw[i] << 8 * i;
    if (!status && (size < sizeof raw || length > size - sizeof raw || length > HEADER_MAX))
        status = no_header(path, fd, size, length, err);
    if (!status && !(header = mem_calloc((size_t)length, 1, "a safetensors header", err)))
        status = ODMOE_ERR_MEMORY;
    if (!status)
        status = file_read_at(fd, path, sizeof raw, header, (size_t)length, err);
    if (!status)
        status = walk_header(path, header, (size_t)length, size, visit, ctx, err);
    free(header);
    close(fd);
    return status;
}

/* ---- into the index --------------------------------------------------------------------------------------- */

typedef struct adding {
    tensor_index *index;
    const char *path;
    uint64_t size;
    int file; /* number in the index, -1 before the first tensor */
} adding;

static odmoe_status add_file_once(adding *a, odmoe_error *err)
{
    return a->file < 0 ? tensor_index_add_file(a->index, a->path, a->size, &a->file, err) : ODMOE_OK;
}

static odmoe_status add_entry(void *ctx, const safetensors_entry *e, odmoe_error *err)
{
    adding *a = ctx;
    tensor_info info = {.name = e->name, .dims = e->dims, .offset = e->offset, .length = e->length};
    static const char *const read[] = {"F32", "F16", "BF16", "F8_E4M3"};
    size_t type = 0;
    if (e->dims > TENSOR_DIMS_MAX)
        return tensor_index_add_unread(a->index, e->name, "an array of more than 4 dimensions", NULL, err);
    memcpy(info.shape, e->shape, sizeof info.shape);
    odmoe_status status = add_file_once(a, err);
    info.file = a->file;
    while (type < sizeof read / sizeof *read && strcmp(e->type, read[type]))
        type++;
    if (status)
        return status;
    if (type == sizeof read / sizeof *read) /* maybe a part of weights: tensor_index_seal */
        return tensor_index_add_unread(a->index, e->name, e->type, &info, err);
    dtype_from_name(e->type, &info.type);
    return tensor_index_add(a->index, &info, err);
}

odmoe_status safetensors_open_file(const char *path, tensor_index **out, odmoe_error *err)
{
    adding a = {tensor_index_create(err), path, 0, -1};
    if (!a.index)
        return ODMOE_ERR_MEMORY;
    odmoe_status status = safetensors_each(path, &a.size, add_entry, &a, err);
    if (!status)
        status = add_file_once(&a, err);
    if (!status)
        status = tensor_index_seal(a.index, err);
    if (status) {
        tensor_index_free(a.index);
        return status;
    }
    *out = a.index;
    return ODMOE_OK;
}

/* ---- shards ----------------------------------------------------------------------------------------------- */

/* One line of weight_map. Texts point into the index file's text. */
typedef struct listed {
    const char *tensor, *shard;
    bool seen;
} listed;

typedef struct shard_list {
    char *text; /* the index file, walked in place */
    listed *tensors;
    size_t count, capacity;
} shard_list;

static int by_tensor(const void *a, const void *b)
{
    return strcmp(((const listed *)a)->tensor, ((const listed *)b)->tensor);
}

static int by_shard(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* A file in the folder, or in a folder below it: a relative path of names that do not begin with a dot (so that none
 * climbs out), nothing unprintable. */
static bool shard_name_ok(const char *name)
{
    size_t length = strlen(name);
    const char *ending = ".safetensors";
    if (length <= strlen(ending) || length > 255 || strcmp(name + length - strlen(ending), ending))
        return false;
    bool begins = true; /* a name of the path */
    for (const unsigned char *c = (const unsigned char *)name; *c; c++) {
        if (*c < 0x20 || *c == 0x7f || *c == '\\' || (begins && (*c == '.' || *c == '/')))
            return false;
        begins = *c == '/';
    }
    return true;
}

static odmoe_status read_weight_map(json_walk *w, shard_list *list, const char *path, odmoe_error *err)
{
    bool first = true;
    int more;
    char *tensor, *shard;
    if (!json_walk_enter(w, '{'))
        return err_set(err, ODMOE_ERR_FORMAT, "%s: weight_map is not an object", file_label(path));
    while ((more = json_walk_member(w, &first, &tensor)) > 0) {
        if (!json_walk_text(w, &shard))
            return err_set(err, ODMOE_ERR_FORMAT, "%s: weight_map: '%.100s' has no file name", file_label(path),
                           tensor);
        if (!shard_name_ok(shard))
            return err_set(
                err, ODMOE_ERR_FORMAT,
                "%s: weight_map: '%.100s' is in '%.100s', which is not a .safetensors file in this folder or below",
                file_label(path), tensor, shard);
        odmoe_status status = mem_grow((void **)&list->tensors, &list->capacity, list->count + 1, sizeof(listed),
                                       "the list of shards", err);
        if (status)
            return status;
        list->tensors[list->count++] = (listed){tensor, shard, false};
    }
    if (more < 0)
        return err_set(err, ODMOE_ERR_FORMAT, "%s: weight_map is not valid JSON near byte %zu", file_label(path),
                       (size_t)(w->at - list->text));
    return ODMOE_OK;
}

/* The index file's weight_map, sorted by tensor. */
static odmoe_status read_index(const char *path, shard_list *list, odmoe_error *err)
{
    size_t length;
    odmoe_status status = file_load(path, INDEX_MAX, false, &list->text, &length, err);
    if (status)
        return status;
    json_walk w = {list->text, list->text + length};
    bool first = true, found = false;
    int more = -1;
    char *key;
    if (json_walk_enter(&w, '{'))
        while ((more = json_walk_member(&w, &first, &key)) > 0) {
            if (!strcmp(key, "weight_map") && !found) {
                found = true;
                status = read_weight_map(&w, list, path, err);
                if (status)
                    return status;
            } else if (!json_walk_skip(&w)) {
                more = -1;
                break;
            }
        }
    if (more < 0 || !json_walk_done(&w))
        return err_set(err, ODMOE_ERR_FORMAT, "%s: is not valid JSON near byte %zu", file_label(path),
                       (size_t)(w.at - list->text));
    if (!list->count)
        return err_set(err, ODMOE_ERR_FORMAT, "%s: weight_map is missing or empty", file_label(path));
    qsort(list->tensors, list->count, sizeof *list->tensors, by_tensor);
    for (size_t i = 1; i < list->count; i++)
        if (!by_tensor(&list->tensors[i - 1], &list->tensors[i]))
            return err_set(err, ODMOE_ERR_FORMAT, "%s: weight_map lists tensor '%.100s' twice", file_label(path),
                           list->tensors[i].tensor);
    return ODMOE_OK;
}

typedef struct adding_shard {
    adding to;
    shard_list *list;
    const char *shard;
} adding_shard;

/* Adds a tensor where the index says that this shard holds it. */
static odmoe_status add_listed(void *ctx, const safetensors_entry *e, odmoe_error *err)
{
    adding_shard *a = ctx;
    const listed key = {.tensor = e->name};
    listed *l = bsearch(&key, a->list->tensors, a->list->count, sizeof key, by_tensor);
    if (!l || strcmp(l->shard, a->shard))
        return ODMOE_OK;
    l->seen = true;
    return add_entry(&a->to, e, err);
}

static odmoe_status add_shard(const char *folder, const char *shard, shard_list *list, tensor_index *index,
                              odmoe_error *err)
{
    char *path = file_join(folder, shard, err);
    if (!path)
        return ODMOE_ERR_MEMORY;
    adding_shard a = {{index, path, 0, -1}, list, shard};
    odmoe_status status = safetensors_each(path, &a.to.size, add_listed, &a, err);
    free(path);
    return status;
}

/* Each distinct shard once, by name. */
static odmoe_status add_shards(const char *folder, shard_list *list, tensor_index *index, odmoe_error *err)
{
    const char **shards = mem_calloc(list->count, sizeof *shards, "the list of shards", err);
    if (!shards)
        return ODMOE_ERR_MEMORY;
    for (size_t i = 0; i < list->count; i++)
        shards[i] = list->tensors[i].shard;
    qsort(shards, list->count, sizeof *shards, by_shard);
    odmoe_status status = ODMOE_OK;
    size_t distinct = 0;
    for (size_t i = 0; i < list->count && !status; i++) {
        if (i && !strcmp(shards[i], shards[i - 1]))
            continue;
        if (++distinct > SHARDS_MAX)
            status = err_set(err, ODMOE_ERR_FORMAT, "%s: the index lists more than %d shards", file_label(folder),
                             SHARDS_MAX);
        else
            status = add_shard(folder, shards[i], list, index, err);
    }
    free(shards);
    return status;
}

static odmoe_status open_shards(const char *folder, const char *path, tensor_index *index, odmoe_error *err)
{
    shard_list list = {0};
    odmoe_status status = read_index(path, &list, err);
    if (!status)
        status = add_shards(folder, &list, index, err);
    for (size_t i = 0; i < list.count && !status; i++)
        if (!list.tensors[i].seen)
            status = err_set(err, ODMOE_ERR_FORMAT, "%s: tensor '%.100s' is not in '%.100s', as weight_map says",
                             file_label(path), list.tensors[i].tensor, list.tensors[i].shard);
    if (!status)
        status = tensor_index_seal(index, err);
    free(list.tensors);
    free(list.text);
    return status;
}

odmoe_status safetensors_open_folder(const char *folder, tensor_index **out, odmoe_error *err)
{
    odmoe_status status = ODMOE_ERR_MEMORY;
    tensor_index *index = NULL;
    char *single = file_join(folder, "model.safetensors", err);
    char *listing = single ? file_join(folder, "model.safetensors.index.json", err) : NULL;
    if (!listing)
        goto done;
    if (!access(single, F_OK)) {
        status = safetensors_open_file(single, &index, err);
    } else if (access(listing, F_OK)) {
        status = err_set(err, ODMOE_ERR_IO, "%s: has neither model.safetensors nor model.safetensors.index.json",
                         file_label(folder));
    } else if ((index = tensor_index_create(err))) {
        status = open_shards(folder, listing, index, err);
    }
done:
    free(single);
    free(listing);
    if (status) {
        tensor_index_free(index);
        return status;
    }
    *out = index;
    return ODMOE_OK;
}
