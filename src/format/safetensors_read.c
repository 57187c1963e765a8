#include "format/safetensors_read.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "format/file.h"
#include "format/safetensors.h"
#include "format/safetensors_write.h"

#define TYPE_BYTES 8 /* the longest name of a type and its 0 */

/* A tensor as the file has it. Those of more dimensions than odmoe_tensor has are listed with dims -1. */
typedef struct entry {
    char *name, type[TYPE_BYTES];
    int dims;
    int64_t shape[4];
    uint64_t offset, length;
} entry;

struct odmoe_tensor_file {
    char *path;
    int fd;
    entry *entries;
    size_t n, room;
};

static odmoe_status add(void *ctx, const safetensors_entry *e, odmoe_error *err)
{
    odmoe_tensor_file *f = ctx;
    odmoe_status status =
        mem_grow((void **)&f->entries, &f->room, f->n + 1, sizeof *f->entries, "a list of tensors", err);
    if (status)
        return status;
    entry *to = &f->entries[f->n];
    *to = (entry){.dims = e->dims <= 4 ? e->dims : -1, .offset = e->offset, .length = e->length};
    for (int d = 0; d < to->dims; d++)
        to->shape[d] = (int64_t)e->shape[d]; /* beyond its range it is no shape that anybody wants */
    snprintf(to->type, sizeof to->type, "%s", e->type);
    to->name = mem_strdup(e->name, strlen(e->name), err);
    f->n += to->name != NULL;
    return to->name ? ODMOE_OK : ODMOE_ERR_MEMORY;
}

odmoe_status tensor_file_open(const char *path, odmoe_tensor_file **out, odmoe_error *err)
{
    odmoe_tensor_file *f = mem_calloc(1, sizeof *f, "a file of tensors", err);
    uint64_t size;
    if (!f)
        return ODMOE_ERR_MEMORY;
    f->fd = -1;
    f->path = mem_strdup(path, strlen(path), err);
    odmoe_status status = f->path ? file_open(path, false, &f->fd, &size, err) : ODMOE_ERR_MEMORY;
    if (!status)
        status = safetensors_each(path, NULL, add, f, err);
    if (status)
        tensor_file_close(f);
    else
        *out = f;
    return status;
}

void tensor_file_close(odmoe_tensor_file *f)
{
    if (!f)
        return;
    if (f->fd >= 0)
        close(f->fd);
    for (size_t i = 0; i < f->n; i++)
        free(f->entries[i].name);
    free(f->entries);
    free(f->path);
    free(f);
}

/* "F32 (8, 16)" into text. */
static const char *describe(const char *type, int dims, const int64_t *shape, char *text, size_t room)
{
    size_t used = (size_t)snprintf(text, room, "%s (", type);
    for (int d = 0; d < dims && used < room; d++)
        used += (size_t)snprintf(text + used, room - used, "%s%" PRId64, d ? ", " : "", shape[d]);
    if (used < room)
        snprintf(text + used, room - used, "%s)", dims < 0 ? "more than 4 dimensions" : "");
    return text;
}

static odmoe_status find(const odmoe_tensor_file *f, const odmoe_tensor *want, const entry **out, odmoe_error *err)
{
    char is[96], wanted[96];
    for (size_t i = 0; i < f->n; i++) {
        const entry *e = &f->entries[i];
        if (strcmp(e->name, want->name))
            continue;
        if (!strcmp(e->type, want->type) && e->dims == want->dims &&
            !memcmp(e->shape, want->shape, (size_t)e->dims * sizeof *e->shape)) {
            *out = e;
            return ODMOE_OK;
        }
        return err_set(err, ODMOE_ERR_FORMAT, "%s: tensor '%.100s' is %s, expected %s", file_label(f->path), want->name,
                       describe(e->type, e->dims, e->shape, is, sizeof is),
                       describe(want->type, want->dims, want->shape, wanted, sizeof wanted));
    }
    return err_set(err, ODMOE_ERR_FORMAT, "%s: there is no tensor '%.100s'", file_label(f->path), want->name);
}

odmoe_status tensor_file_read(const odmoe_tensor_file *f, const odmoe_tensor *want, int64_t first, int64_t n, void *out,
                              odmoe_error *err)
{
    const entry *e = NULL;
    uint64_t bytes;
    odmoe_status status = find(f, want, &e, err);
    if (!status)
        status = safetensors_bytes(want, &bytes, err);
    if (status)
        return status;
    if (bytes != e->length)
        return err_set(err, ODMOE_ERR_FORMAT, "%s: tensor '%.100s' has %llu bytes, its shape wants %llu",
                       file_label(f->path), want->name, (unsigned long long)e->length, (unsigned long long)bytes);
    int64_t size = (int64_t)safetensors_element_bytes(want->type), numbers = (int64_t)bytes / size;
    if (first < 0 || n < 0 || first > numbers || n > numbers - first)
        return err_set(err, ODMOE_ERR_RANGE, "tensor %s: numbers %lld + %lld of %lld", want->name, (long long)first,
                       (long long)n, (long long)numbers);
    return file_read_at(f->fd, f->path, e->offset + (uint64_t)(first * size), out, (size_t)(n * size), err);
}
