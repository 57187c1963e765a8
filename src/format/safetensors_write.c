#include "format/safetensors_write.h"

#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/atomic_file.h"

#define ALIGN 64 /* of the data: the header is padded with blanks */

size_t safetensors_element_bytes(const char *type)
{
    static const struct {
        const char *name;
        size_t bytes;
    } types[] = {{"F32", 4}, {"I32", 4}, {"I64", 8}, {"F16", 2}, {"BF16", 2}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (!strcmp(types[i].name, type))
            return types[i].bytes;
    return 0;
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

/* The header's JSON, padded; free() it. */
static char *make_header(const odmoe_tensor *tensors, int n, odmoe_error *err)
{
    json_t *header = json_object();
    uint64_t at = 0, bytes;
    bool whole = header;
    for (int i = 0; i < n; i++) {
        const odmoe_tensor *t = &tensors[i];
        if (safetensors_bytes(t, &bytes, err)) {
            json_decref(header);
            return NULL;
        }
        json_t *shape = json_array();
        for (int d = 0; d < t->dims; d++)
            whole = !json_array_append_new(shape, json_integer(t->shape[d])) && whole;
        whole = !json_object_set_new(header, t->name,
                                     json_pack("{ss so s[II]}", "dtype", t->type, "shape", shape, "data_offsets",
                                               (json_int_t)at, (json_int_t)(at + bytes))) &&
                whole;
        at += bytes;
    }
    /* Into memory of our own: jansson's own growing text loses the keys that it has no memory for, and says nothing. */
    size_t length = whole ? json_dumpb(header, NULL, 0, JSON_COMPACT) : 0;
    size_t padded = (length + 8 + ALIGN - 1) / ALIGN * ALIGN - 8;
    char *out = length ? mem_calloc(padded + 1, 1, "the header of a safetensors file", err) : NULL;
    if (out) {
        memset(out, ' ', padded);
        if (json_dumpb(header, out, padded, JSON_COMPACT) != length) {
            free(out);
            out = NULL;
        }
    }
    json_decref(header);
    if (!out)
        err_set(err, ODMOE_ERR_MEMORY, "no memory for the header of a safetensors file");
    return out;
}

/* All bytes; errno is set where it fails. */
static bool put(int fd, const void *data, uint64_t bytes)
{
    const char *at = data;
    while (bytes) {
        ssize_t n = write(fd, at, bytes < (1u << 30) ? bytes : 1u << 30);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            errno = n ? errno : EIO;
            return false;
        }
        at += n;
        bytes -= (uint64_t)n;
    }
    return true;
}

static bool put_all(int fd, const char *header, const odmoe_tensor *tensors, int n)
{
    uint64_t length = strlen(header), bytes;
    unsigned char prefix[8];
    for (int i = 0; i < 8; i++)
        prefix[i] = (unsigned char)(length >> (8 * i));
    if (!put(fd, prefix, 8) || !put(fd, header, length))
        return false;
    for (int i = 0; i < n; i++)
        if (safetensors_bytes(&tensors[i], &bytes, NULL) || !put(fd, tensors[i].data, bytes))
            return false;
    return true;
}

odmoe_status safetensors_write(const char *path, const odmoe_tensor *tensors, int n, odmoe_error *err)
{
    atomic_file r;
    char *header = make_header(tensors, n, err);
    if (!header)
        return err ? err->code : ODMOE_ERR_MEMORY;
    odmoe_status status = atomic_file_begin(path, &r, err);
    if (!status)
        status = atomic_file_finish(&r, put_all(r.fd, header, tensors, n) ? 0 : errno ? errno : EIO, err);
    free(header);
    return status;
}
