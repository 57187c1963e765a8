/* A GGUF file, all numbers little-endian:
 *
 *     "GGUF"  version: u32  tensors: u64  pairs: u64
 *     pairs   x { key: string, type: u32, value }          metadata
 *     tensors x { name: string, dims: u32, dims x size: u64 (innermost first), type: u32, offset: u64 }
 *     padding to a multiple of general.alignment (32 where it isn't given)
 *     data                                                  each tensor at data + offset, offset aligned too
 *
 *     string = length: u64, bytes           value = a number of 1, 2, 4 or 8 bytes, a string, or an array
 *     array  = type: u32, count: u64, elements without their type; may be arrays themselves
 *
 * A split model is NAME-00001-of-0000N.gguf ... each a whole GGUF file with some of the tensors; the metadata that
 * counts is in the first. split.no (from 0), split.count and split.tensors.count (of all parts) tie them together.
 *
 * The header (all before the data) is read into memory piece by piece as parsing asks for more, so that a hostile
 * length can't ask for more than the file has. Metadata stays in that memory; gguf_values.c answers from it. */
#define _GNU_SOURCE 1 /* qsort_r */
#include "format/gguf_private.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "format/file.h"

#define HEADER_MAX ((uint32_t)1 << 28) /* real ones have at most some 30 MB; offsets in gguf_entry have 32 bits */
#define READ_FIRST ((uint64_t)1 << 16)
#define READ_STEP_MAX ((uint64_t)1 << 22)
#define ARRAY_DEPTH_MAX 8
#define PAIRS_MAX 65536u     /* real files have some 60 */
#define TENSORS_MAX 1048576u /* real files have at most 100,000 */
#define PAIR_BYTES_MIN 13    /* empty key, type, one byte */
#define TENSOR_BYTES_MIN 24  /* empty name, no sizes, type, offset */
#define ALIGNMENT_DEFAULT 32
#define ALIGNMENT_MAX ((uint64_t)1 << 30)
#define PARTS_MAX 65535 /* split.no has 16 bits */

/* Where the reader stands in one file, and what it is reading, for messages. */
typedef struct reader {
    gguf *g;
    int fd;
    uint64_t file_size;
    uint64_t at;                /* next byte to parse */
    uint64_t have;              /* bytes of the file in g->data */
    const char *kind;           /* "metadata", "tensor" or NULL in the fixed part */
    uint64_t number, total;     /* of that kind, from 0 */
    uint64_t name, name_length; /* place of its name, once known; else 0, 0 */
    odmoe_error *err;
} reader;

__attribute__((format(printf, 3, 4))) static odmoe_status bad(const reader *r, odmoe_status code, const char *format,
                                                              ...)
{
    char what[256];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    const char *path = file_label(r->g->path);
    if (!r->kind)
        return err_set(r->err, code, "%s: %s", path, what);
    if (!r->name)
        return err_set(r->err, code, "%s: %s %llu of %llu: %s", path, r->kind, (unsigned long long)r->number + 1,
                       (unsigned long long)r->total, what);
    return err_set(r->err, code, "%s: %s '%.*s': %s", path, r->kind, (int)(r->name_length < 100 ? r->name_length : 100),
                   (const char *)r->g->data + r->name, what);
}

/* ---- bytes ------------------------------------------------------------------------------------------------ */

/* Pass `bytes` bytes, which are in memory at *place (an offset into g->data) afterwards. */
static odmoe_status take(reader *r, uint64_t bytes, const char *what, uint64_t *place)
{
    if (bytes > r->file_size - r->at)
        return bad(r, ODMOE_ERR_FORMAT, "%s of %llu bytes at byte %llu runs past the end of the file (cut off?)", what,
                   (unsigned long long)bytes, (unsigned long long)r->at);
    uint64_t end = r->at + bytes;
    if (end > HEADER_MAX)
        return bad(r, ODMOE_ERR_UNSUPPORTED, "%s ends at byte %llu; metadata may take %u bytes", what,
                   (unsigned long long)end, HEADER_MAX);
    if (end > r->have) {
        uint64_t step = r->have < READ_FIRST ? READ_FIRST : r->have < READ_STEP_MAX ? r->have : READ_STEP_MAX;
        uint64_t want = step < r->file_size - end ? end + step : r->file_size;
        unsigned char *data = realloc(r->g->data, (size_t)want);
        if (!data)
            return bad(r, ODMOE_ERR_MEMORY, "no memory for %llu bytes of metadata", (unsigned long long)want);
        r->g->data = data;
        odmoe_status status =
            file_read_at(r->fd, r->g->path, r->have, data + r->have, (size_t)(want - r->have), r->err);
        if (status)
            return status;
        r->have = want;
    }
    *place = r->at;
    r->at = end;
    return ODMOE_OK;
}

static odmoe_status number(reader *r, int bytes, const char *what, uint64_t *out)
{
    uint64_t place = 0;
    odmoe_status status = take(r, (uint64_t)bytes, what, &place);
    if (!status)
        *out = gguf_number(r->g->data + place, bytes);
    return status;
}

/* Pass a string; its bytes are at *place. */
static odmoe_status text(reader *r, const char *what, uint64_t *place, uint64_t *length)
{
    odmoe_status status = number(r, 8, what, length);
    return status ? status : take(r, *length, what, place);
}

/* ---- metadata --------------------------------------------------------------------------------------------- */

static odmoe_status type_number(reader *r, const char *what, gguf_type *out)
{
    uint64_t type;
    odmoe_status status = number(r, 4, what, &type);
    if (!status && type >= GGUF_TYPE_COUNT)
        status = bad(r, ODMOE_ERR_FORMAT, "%s is %llu, which is no metadata type", what, (unsigned long long)type);
    if (!status)
        *out = (gguf_type)type;
    return status;
}

static odmoe_status array_head(reader *r, gguf_type *type, uint64_t *count);

/* Pass `count` values of a type without their type numbers. Arrays in arrays are few, hence the recursion. */
static odmoe_status pass_values(reader *r, gguf_type type, uint64_t count, int depth)
{
    uint64_t place = 0, length = 0;
    int bytes = gguf_type_bytes(type);
    odmoe_status status = ODMOE_OK;
    if (bytes) /* array_head has checked that the product fits */
        return take(r, count * (uint64_t)bytes, "its value", &place);
    if (type == GGUF_ARRAY && depth == ARRAY_DEPTH_MAX)
        return bad(r, ODMOE_ERR_UNSUPPORTED, "arrays are nested deeper than %d", ARRAY_DEPTH_MAX);
    for (uint64_t i = 0; i < count && !status; i++)
        if (type == GGUF_STRING) {
            status = text(r, "a string", &place, &length);
        } else {
            gguf_type inner;
            uint64_t inner_count;
            status = array_head(r, &inner, &inner_count);
            if (!status)
                status = pass_values(r, inner, inner_count, depth + 1);
        }
    return status;
}

static odmoe_status array_head(reader *r, gguf_type *type, uint64_t *count)
{
    odmoe_status status = type_number(r, "the type of an array's elements", type);
    if (!status)
        status = number(r, 8, "an array's count", count);
    if (status)
        return status;
    uint64_t smallest = *type == GGUF_STRING ? 8 : *type == GGUF_ARRAY ? 12 : (uint64_t)gguf_type_bytes(*type);
    if (*count > (r->file_size - r->at) / smallest)
        return bad(r, ODMOE_ERR_FORMAT, "an array of %llu %s elements does not fit in the file (cut off?)",
                   (unsigned long long)*count, gguf_type_name(*type));
    return ODMOE_OK;
}

static odmoe_status read_pair(reader *r)
{
    uint64_t place = 0, length = 0;
    odmoe_status status = text(r, "a key", &place, &length);
    if (status)
        return status;
    r->name = place;
    r->name_length = length;
    gguf_entry e = {.key = (uint32_t)place, .key_length = (uint32_t)length};
    gguf_type type, inner;
    status = type_number(r, "its type", &type);
    if (status)
        return status;
    e.type = (uint8_t)type;
    if (type == GGUF_ARRAY) {
        status = array_head(r, &inner, &e.count);
        if (status)
            return status;
        e.element = (uint8_t)inner;
    }
    e.value = e.next_text_at = (uint32_t)r->at;
    status = type == GGUF_ARRAY ? pass_values(r, inner, e.count, 1) : pass_values(r, type, 1, 0);
    if (!status)
        status = mem_grow((void **)&r->g->entries, &r->g->capacity, r->g->count + 1, sizeof e, "metadata", r->err);
    if (!status)
        r->g->entries[r->g->count++] = e;
    return status;
}

static int by_key(const void *a, const void *b, void *data)
{
    const gguf_entry *x = a, *y = b;
    const unsigned char *base = data;
    int order = memcmp(base + x->key, base + y->key, x->key_length < y->key_length ? x->key_length : y->key_length);
    return order ? order : x->key_length < y->key_length ? -1 : x->key_length > y->key_length;
}

static odmoe_status read_metadata(reader *r, uint64_t pairs)
{
    gguf *g = r->g;
    if (pairs > (r->file_size - r->at) / PAIR_BYTES_MIN)
        return bad(r, ODMOE_ERR_FORMAT, "%llu metadata pairs do not fit in the file (cut off?)",
                   (unsigned long long)pairs);
    if (pairs > PAIRS_MAX)
        return bad(r, ODMOE_ERR_UNSUPPORTED, "%llu metadata pairs, at most %u are supported", (unsigned long long)pairs,
                   PAIRS_MAX);
    r->kind = "metadata";
    r->total = pairs;
    for (r->number = 0; r->number < pairs; r->number++) {
        r->name = r->name_length = 0;
        odmoe_status status = read_pair(r);
        if (status)
            return status;
    }
    r->kind = NULL;
    if (g->count)
        qsort_r(g->entries, g->count, sizeof *g->entries, by_key, g->data);
    for (size_t i = 1; i < g->count; i++)
        if (!by_key(&g->entries[i - 1], &g->entries[i], g->data))
            return bad(r, ODMOE_ERR_FORMAT, "metadata '%.*s' is there twice",
                       (int)(g->entries[i].key_length < 100 ? g->entries[i].key_length : 100),
                       (const char *)g->data + g->entries[i].key);
    return ODMOE_OK;
}

/* ---- tensors ---------------------------------------------------------------------------------------------- */

typedef struct raw_tensor {
    uint64_t dims, size[TENSOR_DIMS_MAX]; /* innermost first */
    uint64_t type, offset;                /* from the data's start */
} raw_tensor;

/* Pass one line of the tensor table; its name is at r->name afterwards. */
static odmoe_status read_tensor(reader *r, raw_tensor *t)
{
    uint64_t place = 0, length = 0;
    r->name = r->name_length = 0;
    odmoe_status status = text(r, "a tensor's name", &place, &length);
    if (status)
        return status;
    r->name = place;
    r->name_length = length;
    status = number(r, 4, "the number of dimensions", &t->dims);
    if (!status && t->dims > TENSOR_DIMS_MAX)
        status = bad(r, ODMOE_ERR_FORMAT, "has %llu dimensions, at most %d are possible", (unsigned long long)t->dims,
                     TENSOR_DIMS_MAX);
    for (uint64_t d = 0; !status && d < t->dims; d++)
        status = number(r, 8, "a dimension", &t->size[d]);
    if (!status)
        status = number(r, 4, "its type", &t->type);
    if (!status)
        status = number(r, 8, "its offset", &t->offset);
    return status;
}

static odmoe_status add_tensor(reader *r, const raw_tensor *t, uint64_t data, uint64_t alignment, int file,
                               tensor_index *index)
{
    tensor_info info = {.file = file, .dims = (int)t->dims};
    uint64_t count = 1;
    if (memchr(r->g->data + r->name, 0, r->name_length))
        return bad(r, ODMOE_ERR_FORMAT, "its name holds a zero byte");
    if (t->type > UINT32_MAX || !dtype_from_gguf((uint32_t)t->type, &info.type))
        return bad(r, ODMOE_ERR_UNSUPPORTED, "is of type number %llu, which is not supported",
                   (unsigned long long)t->type);
    for (int d = 0; d < info.dims; d++) {
        info.shape[d] = t->size[info.dims - 1 - d];
        if (!mem_mul(count, info.shape[d], &count))
            return bad(r, ODMOE_ERR_FORMAT, "its shape overflows");
    }
    const dtype_traits *traits = dtype_info(info.type);
    if (!mem_mul(count / traits->block, traits->block_bytes, &info.length))
        return bad(r, ODMOE_ERR_FORMAT, "its shape overflows");
    if (t->offset & (alignment - 1))
        return bad(r, ODMOE_ERR_FORMAT, "its offset %llu is not a multiple of general.alignment %llu",
                   (unsigned long long)t->offset, (unsigned long long)alignment);
    if (!mem_add(data, t->offset, &info.offset))
        return bad(r, ODMOE_ERR_FORMAT, "its offset %llu lies outside the file", (unsigned long long)t->offset);
    char *name = mem_strdup((const char *)r->g->data + r->name, (size_t)r->name_length, r->err);
    if (!name)
        return ODMOE_ERR_MEMORY;
    info.name = name;
    odmoe_status status = tensor_index_add(index, &info, r->err);
    free(name);
    return status;
}

static odmoe_status alignment_of(const gguf *g, uint64_t *out, odmoe_error *err)
{
    int64_t alignment = ALIGNMENT_DEFAULT;
    if (gguf_has(g, "general.alignment")) {
        odmoe_status status = gguf_get_int(g, "general.alignment", 1, ALIGNMENT_MAX, &alignment, err);
        if (status)
            return status;
    }
    if (alignment & (alignment - 1))
        return err_set(err, ODMOE_ERR_FORMAT, "%s: metadata 'general.alignment' is %lld, must be a power of two",
                       file_label(g->path), (long long)alignment);
    *out = (uint64_t)alignment;
    return ODMOE_OK;
}

/* The table is passed twice: where the data begins is known only at its end. */
static odmoe_status read_tensors(reader *r, uint64_t tensors, tensor_index *index)
{
    uint64_t alignment = 0, start = r->at, data = 0;
    int file;
    odmoe_status status = alignment_of(r->g, &alignment, r->err);
    if (status)
        return status;
    if (tensors > (r->file_size - r->at) / TENSOR_BYTES_MIN)
        return bad(r, ODMOE_ERR_FORMAT, "%llu tensors do not fit in the file (cut off?)", (unsigned long long)tensors);
    if (tensors > TENSORS_MAX)
        return bad(r, ODMOE_ERR_UNSUPPORTED, "%llu tensors, at most %u are supported", (unsigned long long)tensors,
                   TENSORS_MAX);
    status = tensor_index_add_file(index, r->g->path, r->file_size, &file, r->err);
    r->kind = "tensor";
    r->total = tensors;
    for (int pass = 0; pass < 2 && !status; pass++) {
        r->at = start;
        for (r->number = 0; r->number < tensors && !status; r->number++) {
            raw_tensor t = {0};
            status = read_tensor(r, &t);
            if (!status && pass)
                status = add_tensor(r, &t, data, alignment, file, index);
        }
        data = (r->at + alignment - 1) & ~(alignment - 1); /* both below 2^31 */
    }
    return status;
}

/* ---- a file ----------------------------------------------------------------------------------------------- */

/* What is it then? Files of a Hugging Face folder are often given instead of the folder. */
static odmoe_status not_gguf(const reader *r)
{
    const char *placeholder = file_placeholder(r->fd, r->file_size);
    if (placeholder)
        return bad(r, ODMOE_ERR_FORMAT, "%s", placeholder);
    const char *end = strrchr(r->g->path, '.');
    if (end && (!strcmp(end, ".json") || !strcmp(end, ".safetensors")))
        return bad(r, ODMOE_ERR_FORMAT, "is not a GGUF file but one of a Hugging Face folder: give the folder");
    return bad(r, ODMOE_ERR_FORMAT, "is not a GGUF file");
}

static odmoe_status read_counts(reader *r, uint64_t *tensors, uint64_t *pairs)
{
    uint64_t magic, version;
    if (!r->file_size)
        return not_gguf(r);
    odmoe_status status = number(r, 4, "the magic number", &magic);
    if (!status && magic != 0x46554747) /* "GGUF" */
        status = not_gguf(r);
    if (!status)
        status = number(r, 4, "the version", &version);
    if (!status && version && !(version & 0xffff))
        status = bad(r, ODMOE_ERR_UNSUPPORTED, "is a big-endian GGUF file, only little-endian is supported");
    if (!status && version != 2 && version != 3)
        status =
            bad(r, ODMOE_ERR_UNSUPPORTED, "is GGUF version %llu, 2 and 3 are supported", (unsigned long long)version);
    if (!status)
        status = number(r, 8, "the number of tensors", tensors);
    if (!status)
        status = number(r, 8, "the number of metadata pairs", pairs);
    return status;
}

/* Give back what was read beyond the header. */
static void trim(reader *r)
{
    unsigned char *data = realloc(r->g->data, (size_t)r->at);
    if (data) /* shrinking that fails leaves the block as it was */
        r->g->data = data;
    r->g->size = (uint32_t)r->at;
}

/* Read one file's header: metadata into a new gguf, tensors into `index`. *tensors: how many. */
static odmoe_status read_file(const char *path, tensor_index *index, gguf **out, uint64_t *tensors, odmoe_error *err)
{
    reader r = {.fd = -1, .err = err};
    uint64_t pairs;
    odmoe_status status = ODMOE_ERR_MEMORY;
    r.g = mem_calloc(1, sizeof *r.g, "a GGUF file", err);
    if (!r.g || !(r.g->path = mem_strdup(path, strlen(path), err)))
        goto done;
    status = file_open(path, false, &r.fd, &r.file_size, err);
    if (!status)
        status = read_counts(&r, tensors, &pairs);
    if (!status)
        status = read_metadata(&r, pairs);
    if (!status)
        status = read_tensors(&r, *tensors, index);
    if (!status)
        trim(&r);
done:
    if (r.fd >= 0)
        close(r.fd);
    if (status) {
        gguf_free(r.g);
        return status;
    }
    *out = r.g;
    return ODMOE_OK;
}

/* ---- parts of a split model ------------------------------------------------------------------------------- */

/* An integer that may be missing. */
static odmoe_status optional_int(const gguf *g, const char *key, int64_t max, int64_t fallback, int64_t *out,
                                 odmoe_error *err)
{
    *out = fallback;
    return gguf_has(g, key) ? gguf_get_int(g, key, 0, max, out, err) : ODMOE_OK;
}

/* The path of part `no` (from 0) of `count`, from the first part's; free(*out). */
static odmoe_status part_path(const char *first, int no, int count, char **out, odmoe_error *err)
{
    char ending[64];
    size_t length = strlen(first), n = (size_t)snprintf(ending, sizeof ending, "-%05d-of-%05d.gguf", 1, count);
    if (length < n || strcmp(first + length - n, ending))
        return err_set(err, ODMOE_ERR_FORMAT, "%s: is the first of %d parts, so its name must end in '%s'",
                       file_label(first), count, ending);
    *out = mem_strdup(first, length, err);
    if (!*out)
        return ODMOE_ERR_MEMORY;
    snprintf(*out + length - n, n + 1, "-%05d-of-%05d.gguf", no + 1, count); /* PARTS_MAX has 5 digits: same length */
    return ODMOE_OK;
}

static odmoe_status add_part(const gguf *g, int no, int count, uint64_t *tensors, odmoe_error *err)
{
    gguf *part = NULL;
    char *path = NULL;
    int64_t part_no = 0, part_count = 0;
    odmoe_status status = part_path(g->path, no, count, &path, err);
    if (!status)
        status = read_file(path, g->tensors, &part, tensors, err);
    if (!status)
        status = optional_int(part, "split.no", PARTS_MAX, -1, &part_no, err);
    if (!status)
        status = optional_int(part, "split.count", PARTS_MAX, -1, &part_count, err);
    if (!status && (part_no != no || part_count != count))
        status = err_set(err, ODMOE_ERR_FORMAT,
                         "%s: split.no and split.count are %lld and %lld, expected %d and %d: of another model?",
                         file_label(path), (long long)part_no, (long long)part_count, no, count);
    gguf_free(part);
    free(path);
    return status;
}

static odmoe_status add_parts(const gguf *g, uint64_t tensors, odmoe_error *err)
{
    int64_t no = 0, count = 0, all = -1;
    odmoe_status status = optional_int(g, "split.no", PARTS_MAX, 0, &no, err);
    if (!status)
        status = optional_int(g, "split.count", PARTS_MAX, 0, &count, err);
    if (!status)
        status = optional_int(g, "split.tensors.count", INT64_MAX, -1, &all, err);
    if (!status && no)
        status = err_set(err, ODMOE_ERR_FORMAT,
                         "%s: is part %lld of %lld of a split model: open the first, "
                         "the one whose name ends in '-00001-of-%05lld.gguf'",
                         file_label(g->path), (long long)no + 1, (long long)count, (long long)count);
    for (int64_t i = 1; i < count && !status; i++) {
        uint64_t more;
        status = add_part(g, (int)i, (int)count, &more, err);
        if (!status)
            tensors += more;
    }
    if (!status && count > 1 && all >= 0 && (uint64_t)all != tensors)
        status = err_set(err, ODMOE_ERR_FORMAT, "%s: split.tensors.count is %lld, the parts hold %llu tensors",
                         file_label(g->path), (long long)all, (unsigned long long)tensors);
    return status;
}

/* ---- the whole model --------------------------------------------------------------------------------------- */

odmoe_status gguf_open(const char *path, gguf **out, odmoe_error *err)
{
    gguf *g = NULL;
    uint64_t tensors;
    tensor_index *index = tensor_index_create(err);
    if (!index)
        return ODMOE_ERR_MEMORY;
    odmoe_status status = read_file(path, index, &g, &tensors, err);
    if (status) {
        tensor_index_free(index);
        return status;
    }
    g->tensors = index;
    status = add_parts(g, tensors, err);
    if (!status)
        status = tensor_index_seal(index, err);
    if (status) {
        gguf_free(g);
        return status;
    }
    *out = g;
    return ODMOE_OK;
}

void gguf_free(gguf *g)
{
    if (!g)
        return;
    tensor_index_free(g->tensors);
    free(g->entries);
    free(g->data);
    free(g->path);
    free(g);
}

const tensor_index *gguf_tensors(const gguf *g)
{
    return g->tensors;
}

tensor_index *gguf_take_tensors(gguf *g)
{
    tensor_index *index = g->tensors;
    g->tensors = NULL;
    return index;
}
