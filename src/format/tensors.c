#include "format/tensors_private.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "format/file.h"

/* tensor_read tells the page cache to drop this much at a time, so that loading a model larger than memory doesn't
 * push everything else out. */
#define READ_STEP ((uint64_t)8 << 20)

#define NAME_BLOCK 65536
#define NAME_BYTES 96 /* of a tensor, for the figure of a plan */

tensor_index *tensor_index_create(odmoe_error *err)
{
    return mem_calloc(1, sizeof(tensor_index), "a tensor index", err);
}

void tensor_index_free(tensor_index *index)
{
    if (!index)
        return;
    for (size_t i = 0; i < index->file_count; i++)
        free(index->files[i].path);
    for (name_block *b = index->names, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    free(index->files);
    free(index->unread);
    free(index->scales);
    free(index->tensors);
    free(index);
}

odmoe_status tensor_index_add_file(tensor_index *index, const char *path, uint64_t size, int *out, odmoe_error *err)
{
    odmoe_status status = mem_grow((void **)&index->files, &index->file_capacity, index->file_count + 1, sizeof(file),
                                   "the list of files", err);
    if (status)
        return status;
    char *copy = mem_strdup(path, strlen(path), err);
    if (!copy)
        return ODMOE_ERR_MEMORY;
    *out = (int)index->file_count;
    index->files[index->file_count++] = (file){copy, size};
    return ODMOE_OK;
}

int tensor_index_files(const tensor_index *index)
{
    return (int)index->file_count;
}

const char *tensor_index_path(const tensor_index *index, int f)
{
    return index->files[f].path;
}

uint64_t tensor_index_file_size(const tensor_index *index, int f)
{
    return index->files[f].size;
}

const char *tensor_index_keep(tensor_index *index, const char *name, size_t length, odmoe_error *err)
{
    name_block *b = index->names;
    if (!b || b->size - b->used <= length) {
        size_t size = length < NAME_BLOCK ? NAME_BLOCK : length + 1;
        b = mem_calloc(1, sizeof(name_block) + size, "tensor names", err);
        if (!b)
            return NULL;
        b->size = size;
        b->next = index->names;
        index->names = b;
    }
    char *copy = b->text + b->used;
    memcpy(copy, name, length + 1);
    b->used += length + 1;
    return copy;
}

/* UTF-8 and printable, as names end up on terminals and in other files. */
static bool name_ok(const char *name)
{
    size_t length = strlen(name);
    for (size_t at = 0; at < length;) {
        int n = utf8_char(name + at, length - at);
        if (n < 1 || utf8_is_control(utf8_decode(name + at, n)))
            return false;
        at += (size_t)n;
    }
    return length > 0;
}

/* The bytes that type and shape need; false where the innermost dimension breaks a block or the size overflows. */
static bool bytes_needed(const tensor_info *t, uint64_t *out)
{
    const dtype_traits *traits = dtype_info(t->type);
    uint64_t row = t->dims ? t->shape[t->dims - 1] : 1, count = 1;
    if (row % traits->block)
        return false;
    for (int d = 0; d < t->dims; d++)
        if (!mem_mul(count, t->shape[d], &count))
            return false;
    return mem_mul(count / traits->block, traits->block_bytes, out);
}

odmoe_status tensor_index_add(tensor_index *index, const tensor_info *info, odmoe_error *err)
{
    const file *f = &index->files[info->file];
    const char *path = file_label(f->path);
    uint64_t end, need;
    if (!name_ok(info->name))
        return err_set(err, ODMOE_ERR_FORMAT,
                       "%s: tensor '%.100s': its name is empty, no UTF-8 or holds control characters", path,
                       info->name);
    if (!bytes_needed(info, &need))
        return err_set(err, ODMOE_ERR_FORMAT,
                       "%s: tensor '%.100s': shape overflows or its rows are not whole blocks of %u (%s)", path,
                       info->name, dtype_info(info->type)->block, dtype_info(info->type)->name);
    if (need != info->length)
        return err_set(err, ODMOE_ERR_FORMAT, "%s: tensor '%.100s': has %llu bytes, type %s and shape need %llu", path,
                       info->name, (unsigned long long)info->length, dtype_info(info->type)->name,
                       (unsigned long long)need);
    if (!mem_add(info->offset, info->length, &end) || end > f->size)
        return err_set(err, ODMOE_ERR_FORMAT,
                       "%s: tensor '%.100s': %llu bytes at offset %llu lie outside the file of %llu bytes (cut off?)",
                       path, info->name, (unsigned long long)info->length, (unsigned long long)info->offset,
                       (unsigned long long)f->size);
    odmoe_status status = mem_grow((void **)&index->tensors, &index->capacity, index->count + 1, sizeof(tensor_info),
                                   "the tensor index", err);
    if (status)
        return status;
    const char *name = tensor_index_keep(index, info->name, strlen(info->name), err);
    if (!name)
        return ODMOE_ERR_MEMORY;
    index->tensors[index->count] = *info;
    index->tensors[index->count++].name = name;
    return ODMOE_OK;
}

odmoe_status tensor_index_add_unread(tensor_index *index, const char *name, const char *type, const tensor_info *place,
                                     odmoe_error *err)
{
    if (!name_ok(name))
        return err_set(err, ODMOE_ERR_FORMAT,
                       "tensor '%.100s': its name is empty, no UTF-8 or holds control characters", name);
    odmoe_status status = mem_grow((void **)&index->unread, &index->unread_capacity, index->unread_count + 1,
                                   sizeof(unread_tensor), "the tensor index", err);
    if (status)
        return status;
    const char *kept = tensor_index_keep(index, name, strlen(name), err);
    const char *why = kept ? tensor_index_keep(index, type, strlen(type), err) : NULL;
    if (!why)
        return ODMOE_ERR_MEMORY;
    unread_tensor *u = &index->unread[index->unread_count++];
    *u = (unread_tensor){.type = why, .has_place = place != NULL};
    if (place)
        u->place = *place;
    u->place.name = kept;
    return ODMOE_OK;
}

bool tensor_index_unread(const tensor_index *index, size_t i, const char **name, const char **type)
{
    if (i >= index->unread_count)
        return false;
    *name = index->unread[i].place.name;
    *type = index->unread[i].type;
    return true;
}

const char *tensor_index_why_unread(const tensor_index *index, const char *name)
{
    for (size_t i = 0; i < index->unread_count; i++)
        if (!strcmp(index->unread[i].place.name, name))
            return index->unread[i].type;
    return NULL;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const tensor_info *)a)->name, ((const tensor_info *)b)->name);
}

static int by_place(const void *a, const void *b)
{
    const tensor_info *x = *(const tensor_info *const *)a, *y = *(const tensor_info *const *)b;
    if (x->file != y->file)
        return x->file < y->file ? -1 : 1;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static odmoe_status check_overlap(const tensor_index *index, odmoe_error *err)
{
    const tensor_info **order = mem_calloc(index->count, sizeof *order, "checking tensors for overlap", err);
    if (!order)
        return ODMOE_ERR_MEMORY;
    size_t n = 0;
    for (size_t i = 0; i < index->count; i++)
        if (index->tensors[i].length) /* one without weights overlaps nothing, wherever it says it is */
            order[n++] = &index->tensors[i];
    qsort(order, n, sizeof *order, by_place);
    odmoe_status status = ODMOE_OK;
    for (size_t i = 1; i < n && !status; i++) {
        const tensor_info *a = order[i - 1], *b = order[i];
        if (a->file == b->file && b->offset - a->offset < a->length)
            status = err_set(err, ODMOE_ERR_FORMAT, "%s: tensor '%.100s' overlaps tensor '%.100s'",
                             file_label(index->files[a->file].path), b->name, a->name);
    }
    free(order);
    return status;
}

odmoe_status tensor_index_seal(tensor_index *index, odmoe_error *err)
{
    odmoe_status status = scaled_tensors_join(index, err);
    if (status)
        return status;
    if (index->count)
        qsort(index->tensors, index->count, sizeof *index->tensors, by_name);
    for (size_t i = 1; i < index->count; i++) {
        const tensor_info *a = &index->tensors[i - 1], *b = &index->tensors[i];
        if (!strcmp(a->name, b->name))
            return err_set(err, ODMOE_ERR_FORMAT, "%s: tensor '%.100s' is there twice",
                           file_label(index->files[b->file].path), b->name);
    }
    return check_overlap(index, err);
}

const tensor_info *tensor_index_find(const tensor_index *index, const char *name)
{
    const tensor_info key = {.name = name};
    return index->count ? bsearch(&key, index->tensors, index->count, sizeof key, by_name) : NULL;
}

uint64_t tensor_index_heap_bytes(const tensor_index *index)
{
    return index->count * (sizeof *index->tensors + NAME_BYTES) + index->unread_capacity * sizeof *index->unread +
           index->scales_count * sizeof *index->scales;
}

size_t tensor_index_count(const tensor_index *index)
{
    return index->count;
}

const tensor_info *tensor_index_at(const tensor_index *index, size_t i)
{
    return &index->tensors[i];
}

odmoe_status tensor_read(const tensor_index *index, const tensor_info *info, void *out, odmoe_error *err)
{
    const char *path = index->files[info->file].path;
    int fd;
    uint64_t size;
    odmoe_status status = file_open(path, false, &fd, &size, err);
    if (!status) {
        for (uint64_t done = 0, n; done < info->length && !status; done += n) {
            n = info->length - done < READ_STEP ? info->length - done : READ_STEP;
            status = file_read_at(fd, path, info->offset + done, (char *)out + done, (size_t)n, err);
            posix_fadvise(fd, (off_t)(info->offset + done), (off_t)n, POSIX_FADV_DONTNEED);
        }
        close(fd);
    }
    if (status)
        err_context(err, "tensor '%.100s'", info->name);
    return status;
}
