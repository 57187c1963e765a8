#include "format/safetensors_write.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/atomic_file.h"
#include "base/mem.h"
#include "base/utf8.h"

#define ALIGN 64        /* of the data, where it is known at once what comes: the header is padded with blanks */
#define ENTRY_BYTES 160 /* room in the header for each tensor that may come */

typedef struct part {
    odmoe_tensor t; /* name is this struct's own */
    char *name;
    uint64_t bytes, written; /* of the tensor; how many have come */
    uint64_t offset;         /* from the start of the data */
    bool placed;
} part;

struct odmoe_tensor_writer {
    atomic_file out;
    odmoe_error failure; /* of the first write that failed; code ODMOE_OK: none */
    uint64_t header_bytes, data_bytes;
    int n, n_placed;
    part *parts; /* [n] */
    int *order;  /* [n] the placed ones as they lie in the file */
};

static const struct type {
    const char *name;
    size_t bytes;
} types[] = {{"F32", 4}, {"I32", 4}, {"I64", 8}, {"F16", 2}, {"BF16", 2}};

static const struct type *find_type(const char *name)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (!strcmp(types[i].name, name))
            return &types[i];
    return NULL;
}

size_t safetensors_element_bytes(const char *type)
{
    const struct type *t = find_type(type);
    return t ? t->bytes : 0;
}

odmoe_status safetensors_bytes(const odmoe_tensor *t, uint64_t *out, odmoe_error *err)
{
    uint64_t bytes = safetensors_element_bytes(t->type);
    bool fits = bytes && t->dims >= 0 && t->dims <= 4;
    for (int d = 0; fits && d < t->dims; d++)
        fits = t->shape[d] >= 0 && mem_mul(bytes, (uint64_t)t->shape[d], &bytes) && bytes <= INT64_MAX;
    if (!fits)
        return err_set(err, ODMOE_ERR_ARG, "tensor %s: its type or shape cannot be written", t->name);
    *out = bytes;
    return ODMOE_OK;
}

static odmoe_status no_memory(odmoe_error *err)
{
    return err_set(err, ODMOE_ERR_MEMORY, "no memory for the header of a safetensors file");
}

/* ---- the header ---- */

/* The entries of the placed tensors. NULL: no memory. */
static json_t *make_json(const odmoe_tensor_writer *w)
{
    json_t *header = json_object();
    bool whole = header;
    for (int i = 0; i < w->n_placed; i++) {
        const part *p = &w->parts[w->order[i]];
        json_t *shape = json_array();
        for (int d = 0; d < p->t.dims; d++)
            whole = !json_array_append_new(shape, json_integer(p->t.shape[d])) && whole;
        whole = !json_object_set_new(header, p->name,
                                     json_pack("{ss so s[II]}", "dtype", p->t.type, "shape", shape, "data_offsets",
                                               (json_int_t)p->offset, (json_int_t)(p->offset + p->bytes))) &&
                whole;
    }
    if (!whole) {
        json_decref(header);
        return NULL;
    }
    return header;
}

/* 0: no memory. twice: two tensors have one name. */
static size_t header_length(const odmoe_tensor_writer *w, bool *twice)
{
    json_t *header = make_json(w);
    size_t length = header ? json_dumpb(header, NULL, 0, JSON_COMPACT) : 0;
    *twice = header && json_object_size(header) < (size_t)w->n_placed;
    json_decref(header);
    return length;
}

/* The length field and the header, padded with blanks; free() it. NULL: no memory. Into memory of our own: jansson's own
 * growing text loses the keys that it has no memory for, and says nothing. */
static char *make_header(const odmoe_tensor_writer *w)
{
    json_t *header = make_json(w);
    char *out = header ? malloc(8 + w->header_bytes) : NULL;
    if (out) {
        for (int i = 0; i < 8; i++)
            out[i] = (char)(w->header_bytes >> (8 * i));
        memset(out + 8, ' ', w->header_bytes);
        size_t length = json_dumpb(header, out + 8, w->header_bytes, JSON_COMPACT);
        if (!length || length > w->header_bytes) {
            free(out);
            out = NULL;
        }
    }
    json_decref(header);
    return out;
}

/* ---- beginning ---- */

static void place(odmoe_tensor_writer *w, int tensor)
{
    part *p = &w->parts[tensor];
    p->placed = true;
    p->offset = w->data_bytes;
    w->data_bytes += p->bytes;
    w->order[w->n_placed++] = tensor;
}

static void forget(odmoe_tensor_writer *w)
{
    for (int i = 0; i < w->n && w->parts; i++)
        free(w->parts[i].name);
    free(w->parts);
    free(w->order);
    free(w);
}

static odmoe_status take_tensor(part *p, const odmoe_tensor *t, uint64_t *all, odmoe_error *err)
{
    p->t = *t;
    odmoe_status status = safetensors_bytes(t, &p->bytes, err);
    if (status)
        return status;
    if (utf8_run(t->name, strlen(t->name)) < strlen(t->name))
        return err_set(err, ODMOE_ERR_ARG, "tensor '%.100s': its name is no UTF-8", t->name);
    if (!mem_add(*all, p->bytes, all) || *all > INT64_MAX)
        return err_set(err, ODMOE_ERR_ARG, "tensor '%.100s': the file would become too large", t->name);
    p->t.type = find_type(t->type)->name;
    p->t.name = p->name = mem_strdup(t->name, strlen(t->name), err);
    return p->name ? ODMOE_OK : ODMOE_ERR_MEMORY;
}

static odmoe_status take_tensors(odmoe_tensor_writer *w, const odmoe_tensor *tensors, odmoe_error *err)
{
    uint64_t all = 0;
    odmoe_status status = ODMOE_OK;
    for (int i = 0; i < w->n && !status; i++)
        status = take_tensor(&w->parts[i], &tensors[i], &all, err);
    return status;
}

static odmoe_status there_twice(const odmoe_tensor_writer *w, odmoe_error *err)
{
    for (int i = 0; i < w->n; i++)
        for (int j = 0; j < i; j++)
            if (!strcmp(w->parts[j].name, w->parts[i].name))
                return err_set(err, ODMOE_ERR_ARG, "tensor '%.100s' would be twice in one file", w->parts[i].name);
    return no_memory(err);
}

/* Reserve the header's room. in_order: all tensors come, one after the other, so that their places are known. Else what the
 * longest header would take: all tensors there, with the largest of offsets. */
static odmoe_status reserve_header(odmoe_tensor_writer *w, bool in_order, odmoe_error *err)
{
    for (int i = 0; i < w->n; i++)
        place(w, i);
    for (int i = 0; i < w->n && !in_order; i++)
        w->parts[i].offset = w->data_bytes;
    bool twice;
    size_t length = header_length(w, &twice);
    if (twice || !length)
        return twice ? there_twice(w, err) : no_memory(err);
    if (in_order) {
        w->header_bytes = (length + 8 + ALIGN - 1) / ALIGN * ALIGN - 8;
        return ODMOE_OK;
    }
    uint64_t room = ((uint64_t)w->n + 1) * ENTRY_BYTES;
    w->header_bytes = (length > room ? length : room) / 8 * 8 + (length > room && length % 8 ? 8 : 0);
    for (int i = 0; i < w->n; i++)
        w->parts[i].placed = false;
    w->data_bytes = 0;
    w->n_placed = 0;
    return ODMOE_OK;
}

static odmoe_status begin(const char *path, const odmoe_tensor *tensors, int n, bool in_order,
                          odmoe_tensor_writer **out, odmoe_error *err)
{
    if (n < 0)
        return err_set(err, ODMOE_ERR_ARG, "%d tensors cannot be written", n);
    odmoe_tensor_writer *w = mem_calloc(1, sizeof *w, "a writer of tensors", err);
    if (!w)
        return ODMOE_ERR_MEMORY;
    w->n = n;
    w->parts = mem_calloc((size_t)n + 1, sizeof *w->parts, "a list of tensors", err);
    w->order = w->parts ? mem_calloc((size_t)n + 1, sizeof *w->order, "a list of tensors", err) : NULL;
    odmoe_status status = w->order ? take_tensors(w, tensors, err) : ODMOE_ERR_MEMORY;
    if (!status)
        status = reserve_header(w, in_order, err);
    if (!status)
        status = atomic_file_begin(path, &w->out, err);
    if (status)
        forget(w);
    else
        *out = w;
    return status;
}

odmoe_status tensor_writer_begin(const char *path, const odmoe_tensor *tensors, int n, odmoe_tensor_writer **out,
                                 odmoe_error *err)
{
    return begin(path, tensors, n, false, out, err);
}

/* ---- writing ---- */

/* The first failure is kept for finish. */
static odmoe_status keep_failure(odmoe_tensor_writer *w, const odmoe_error *failure, odmoe_error *err)
{
    if (!w->failure.code)
        w->failure = *failure;
    if (err)
        *err = *failure;
    return failure->code;
}

odmoe_status tensor_writer_put(odmoe_tensor_writer *w, int tensor, int64_t first, int64_t n, const void *data,
                               odmoe_error *err)
{
    odmoe_error failure = w->failure;
    if (failure.code)
        return keep_failure(w, &failure, err);
    if (tensor < 0 || tensor >= w->n) {
        err_set(&failure, ODMOE_ERR_ARG, "tensor %d of %d cannot be written", tensor, w->n);
        return keep_failure(w, &failure, err);
    }
    part *p = &w->parts[tensor];
    uint64_t size = safetensors_element_bytes(p->t.type);
    int64_t numbers = (int64_t)(p->bytes / size);
    if (first < 0 || n < 0 || first > numbers || n > numbers - first) {
        err_set(&failure, ODMOE_ERR_RANGE, "tensor '%.100s': numbers %lld + %lld of %lld", p->name, (long long)first,
                (long long)n, (long long)numbers);
        return keep_failure(w, &failure, err);
    }
    if (!p->placed)
        place(w, tensor);
    uint64_t at = 8 + w->header_bytes + p->offset + (uint64_t)first * size;
    int error = atomic_file_write(&w->out, data, (uint64_t)n * size, at);
    if (error) {
        atomic_file_error(&w->out, error, &failure);
        return keep_failure(w, &failure, err);
    }
    p->written += (uint64_t)n * size;
    return ODMOE_OK;
}

/* ---- ending ---- */

static odmoe_status check_whole(const odmoe_tensor_writer *w, odmoe_error *err)
{
    for (int i = 0; i < w->n; i++) {
        const part *p = &w->parts[i];
        uint64_t size = safetensors_element_bytes(p->t.type);
        if (p->placed && p->written != p->bytes)
            return err_set(err, ODMOE_ERR_STATE, "tensor '%.100s': %llu numbers were written of %llu", p->name,
                           (unsigned long long)(p->written / size), (unsigned long long)(p->bytes / size));
    }
    return ODMOE_OK;
}

odmoe_status tensor_writer_finish(odmoe_tensor_writer *w, odmoe_error *err)
{
    odmoe_status status = w->failure.code;
    if (status && err)
        *err = w->failure;
    if (!status)
        status = check_whole(w, err);
    char *header = status ? NULL : make_header(w);
    if (!status && !header)
        status = no_memory(err);
    if (status) {
        atomic_file_drop(&w->out);
    } else {
        int error = atomic_file_write(&w->out, header, 8 + w->header_bytes, 0);
        status = atomic_file_finish(&w->out, error, err);
    }
    free(header);
    forget(w);
    return status;
}

void tensor_writer_abort(odmoe_tensor_writer *w)
{
    if (!w)
        return;
    atomic_file_drop(&w->out);
    forget(w);
}

const char *tensor_writer_partial(const odmoe_tensor_writer *w)
{
    return w->out.partial;
}

odmoe_status safetensors_write(const char *path, const odmoe_tensor *tensors, int n, odmoe_error *err)
{
    odmoe_tensor_writer *w;
    odmoe_status status = begin(path, tensors, n, true, &w, err);
    if (status)
        return status;
    for (int i = 0; i < n; i++) {
        int64_t numbers = (int64_t)(w->parts[i].bytes / safetensors_element_bytes(tensors[i].type));
        if (tensor_writer_put(w, i, 0, numbers, tensors[i].data, NULL))
            break; /* finish says why */
    }
    return tensor_writer_finish(w, err);
}
