#include "gguf_edit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/dtype.h"

#define ALIGNMENT 32

/* ---- reading ---- */

typedef struct cursor {
    bytes file;
    size_t at;
} cursor;

static uint64_t number(cursor *c, int width)
{
    uint64_t value = 0;
    assert_true(c->at + (size_t)width <= c->file.length);
    for (int i = 0; i < width; i++)
        value |= (uint64_t)c->file.at[c->at++] << 8 * i;
    return value;
}

static void jump(cursor *c, uint64_t n)
{
    assert_true(n <= c->file.length - c->at);
    c->at += n;
}

static char *text(cursor *c)
{
    uint64_t length = number(c, 8);
    size_t start = c->at;
    jump(c, length);
    return strndup((char *)c->file.at + start, length);
}

static void skip_value(cursor *c, unsigned type)
{
    static const int widths[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    assert_true(type <= GG_F64);
    if (type == GG_TEXT) {
        jump(c, number(c, 8));
    } else if (type == GG_ARRAY) {
        unsigned element = (unsigned)number(c, 4);
        uint64_t count = number(c, 8);
        assert_true(element != GG_ARRAY);
        for (uint64_t i = 0; i < count; i++)
            skip_value(c, element);
    } else {
        jump(c, (uint64_t)widths[type]);
    }
}

static void read_pair(gguf_edit *e, cursor *c)
{
    assert_true(e->pair_count < EDIT_PAIRS_MOST);
    edit_pair *p = &e->pairs[e->pair_count++];
    p->key = text(c);
    p->type = (unsigned)number(c, 4);
    size_t start = c->at;
    skip_value(c, p->type);
    put(&p->value, c->file.at + start, c->at - start);
}

static uint64_t read_tensor(gguf_edit *e, cursor *c)
{
    char *name = text(c);
    uint64_t sizes[3] = {0};
    unsigned dims = (unsigned)number(c, 4);
    assert_true(dims >= 1 && dims <= 3);
    for (unsigned d = 0; d < dims; d++)
        sizes[d] = number(c, 8);
    edit_add(e, name, (unsigned)number(c, 4), sizes[0], sizes[1], sizes[2]);
    free(name);
    return number(c, 8);
}

static size_t aligned(size_t at)
{
    return (at + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static uint64_t data_bytes(const edit_tensor *t)
{
    dtype type;
    assert_true(dtype_from_gguf(t->type, &type));
    return dtype_bytes(type, t->size[0] * t->size[1] * t->size[2]);
}

gguf_edit *edit_empty(void)
{
    gguf_edit *e = calloc(1, sizeof *e);
    assert_non_null(e);
    return e;
}

gguf_edit *edit_read(const char *path)
{
    gguf_edit *e = edit_empty();
    cursor c = {0};
    static unsigned char part[65536];
    uint64_t offsets[EDIT_TENSORS_MOST];
    FILE *f = fopen(path, "rb");
    if (!f)
        fail_msg("%s cannot be read", path);
    for (size_t n; (n = fread(part, 1, sizeof part, f));)
        put(&c.file, part, n);
    fclose(f);
    assert_memory_equal(c.file.at, "GGUF\3\0\0\0", 8);
    c.at = 8;
    uint64_t tensors = number(&c, 8), pairs = number(&c, 8);
    for (uint64_t i = 0; i < pairs; i++)
        read_pair(e, &c);
    for (uint64_t i = 0; i < tensors; i++)
        offsets[i] = read_tensor(e, &c);
    size_t start = aligned(c.at);
    for (uint64_t i = 0; i < tensors; i++) {
        c.at = start + offsets[i];
        jump(&c, data_bytes(&e->tensors[i]));
        put(&e->tensors[i].data, c.file.at + start + offsets[i], data_bytes(&e->tensors[i]));
    }
    bytes_free(&c.file);
    return e;
}

void edit_free(gguf_edit *e)
{
    for (int i = 0; i < e->pair_count; i++) {
        free(e->pairs[i].key);
        bytes_free(&e->pairs[i].value);
    }
    for (int i = 0; i < e->tensor_count; i++)
        bytes_free(&e->tensors[i].data);
    free(e);
}

/* ---- writing ---- */

static void pad(bytes *b)
{
    while (b->length % ALIGNMENT)
        put_number(b, 0, 1);
}

const char *edit_save(const gguf_edit *e, const char *name)
{
    bytes out = {0};
    uint64_t offset = 0;
    put_text(&out, "GGUF");
    put_number(&out, 3, 4);
    put_number(&out, (uint64_t)e->tensor_count, 8);
    put_number(&out, (uint64_t)e->pair_count, 8);
    for (int i = 0; i < e->pair_count; i++) {
        put_gguf_text(&out, e->pairs[i].key);
        put_number(&out, e->pairs[i].type, 4);
        put(&out, e->pairs[i].value.at, e->pairs[i].value.length);
    }
    for (int i = 0; i < e->tensor_count; i++) {
        const edit_tensor *t = &e->tensors[i];
        put_gguf_text(&out, t->name);
        put_number(&out, t->dims, 4);
        for (unsigned d = 0; d < t->dims; d++)
            put_number(&out, t->size[d], 8);
        put_number(&out, t->type, 4);
        put_number(&out, offset, 8);
        offset = aligned(offset + t->data.length);
    }
    pad(&out);
    for (int i = 0; i < e->tensor_count; i++) {
        put(&out, e->tensors[i].data.at, e->tensors[i].data.length);
        pad(&out);
    }
    const char *path = temp_path(name);
    save(path, &out);
    bytes_free(&out);
    return path;
}

/* ---- metadata ---- */

static edit_pair *find_pair(gguf_edit *e, const char *key)
{
    for (int i = 0; i < e->pair_count; i++)
        if (!strcmp(e->pairs[i].key, key))
            return &e->pairs[i];
    return NULL;
}

static bytes *value_of(gguf_edit *e, const char *key, unsigned type)
{
    edit_pair *p = find_pair(e, key);
    if (!p) {
        assert_true(e->pair_count < EDIT_PAIRS_MOST);
        p = &e->pairs[e->pair_count++];
        *p = (edit_pair){.key = strdup(key)};
    }
    p->type = type;
    p->value.length = 0;
    return &p->value;
}

void edit_set_int(gguf_edit *e, const char *key, unsigned type, uint64_t value)
{
    put_number(value_of(e, key, type), value, type == GG_BOOL ? 1 : (type == GG_U64 || type == GG_U64 + 1 ? 8 : 4));
}

void edit_set_ints(gguf_edit *e, const char *key, const int32_t *values, int n)
{
    bytes *to = value_of(e, key, GG_ARRAY);
    put_number(to, GG_I32, 4);
    put_number(to, (uint64_t)n, 8);
    for (int i = 0; i < n; i++)
        put_number(to, (uint32_t)values[i], 4);
}

void edit_set_float(gguf_edit *e, const char *key, double value)
{
    float single = (float)value;
    put(value_of(e, key, GG_F32), &single, sizeof single);
}

void edit_set_text(gguf_edit *e, const char *key, const char *value)
{
    put_gguf_text(value_of(e, key, GG_TEXT), value);
}

void edit_set_bools(gguf_edit *e, const char *key, const bool *values, uint64_t n)
{
    bytes *list = value_of(e, key, GG_ARRAY);
    put_number(list, GG_BOOL, 4);
    put_number(list, n, 8);
    for (uint64_t i = 0; i < n; i++)
        put_number(list, values[i], 1);
}

void edit_remove(gguf_edit *e, const char *key)
{
    edit_pair *p = find_pair(e, key);
    if (!p)
        fail_msg("there is no key %s", key);
    free(p->key);
    bytes_free(&p->value);
    *p = e->pairs[--e->pair_count];
}

/* ---- tensors ---- */

edit_tensor *edit_find(gguf_edit *e, const char *name)
{
    for (int i = 0; i < e->tensor_count; i++)
        if (!strcmp(e->tensors[i].name, name))
            return &e->tensors[i];
    fail_msg("there is no tensor %s", name);
    return NULL;
}

void edit_drop(gguf_edit *e, const char *name)
{
    edit_tensor *t = edit_find(e, name);
    bytes_free(&t->data);
    *t = e->tensors[--e->tensor_count];
}

edit_tensor *edit_add(gguf_edit *e, const char *name, unsigned type, uint64_t inner, uint64_t rows, uint64_t outer)
{
    assert_true(e->tensor_count < EDIT_TENSORS_MOST);
    edit_tensor *t = &e->tensors[e->tensor_count++];
    *t = (edit_tensor){
        .type = type, .dims = outer ? 3 : (rows ? 2 : 1), .size = {inner, rows ? rows : 1, outer ? outer : 1, 1}};
    snprintf(t->name, sizeof t->name, "%s", name);
    return t;
}

edit_tensor *edit_add_like(gguf_edit *e, const char *name, const char *original)
{
    const edit_tensor *from = edit_find(e, original);
    uint64_t rows = from->dims > 1 ? from->size[1] : 0, outer = from->dims > 2 ? from->size[2] : 0;
    edit_tensor *t = edit_add(e, name, from->type, from->size[0], rows, outer);
    put(&t->data, from->data.at, from->data.length);
    return t;
}
