#include "tensor_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "out_file.h"

enum { NAME_MAX_BYTES = 32, ENTRY_MAX_BYTES = 160, ELEMENT_BYTES = 4, ALIGN = 8 };

struct tensor {
    char name[NAME_MAX_BYTES];
    tensor_type type;
    int64_t rows, columns; /* columns 0: one dimension */
    int64_t offset;        /* from the start of the data */
};

struct tensor_file {
    out_file out;
    int64_t header_bytes; /* reserved, the length field not included */
    int64_t data_bytes;
    int n, most;
    struct tensor tensors[];
};

tensor_file *tensor_file_create(const char *path, int most)
{
    tensor_file *f = must_alloc(1, sizeof *f + (size_t)most * sizeof f->tensors[0]);
    f->most = most;
    f->header_bytes = (int64_t)(most + 1) * ENTRY_MAX_BYTES / ALIGN * ALIGN;
    if (out_file_open(&f->out, path))
        return f;
    free(f);
    return NULL;
}

static int64_t tensor_bytes(const struct tensor *t)
{
    return t->rows * (t->columns ? t->columns : 1) * ELEMENT_BYTES;
}

int tensor_file_add(tensor_file *f, const char *name, tensor_type type, int64_t rows, int64_t columns)
{
    for (int i = 0; i < f->n; i++)
        if (!strcmp(f->tensors[i].name, name))
            return i;
    if (f->n == f->most) { /* the caller's count is wrong: nothing of the file may be trusted */
        f->out.error = EINVAL;
        return 0;
    }
    struct tensor *t = &f->tensors[f->n];
    *t = (struct tensor){.type = type, .rows = rows, .columns = columns, .offset = f->data_bytes};
    snprintf(t->name, sizeof t->name, "%s", name);
    f->data_bytes += tensor_bytes(t);
    return f->n++;
}

void tensor_file_write(tensor_file *f, int tensor, int64_t first, int64_t n, const void *data)
{
    const struct tensor *t = &f->tensors[tensor];
    int64_t row = (t->columns ? t->columns : 1) * ELEMENT_BYTES;
    out_file_write(&f->out, data, n * row, 8 + f->header_bytes + t->offset + first * row);
}

static void write_header(tensor_file *f)
{
    char *header = must_alloc((size_t)f->header_bytes + 1, 1);
    size_t room = (size_t)f->header_bytes + 1, used = 1;
    header[0] = '{';
    for (int i = 0; i < f->n; i++) {
        const struct tensor *t = &f->tensors[i];
        char columns[32] = "";
        if (t->columns)
            snprintf(columns, sizeof columns, ",%lld", (long long)t->columns);
        used += (size_t)snprintf(header + used, room - used,
                                 "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%lld%s],\"data_offsets\":[%lld,%lld]}",
                                 i ? "," : "", t->name, t->type == TENSOR_F32 ? "F32" : "I32", (long long)t->rows,
                                 columns, (long long)t->offset, (long long)(t->offset + tensor_bytes(t)));
    }
    header[used++] = '}';
    memset(header + used, ' ', room - 1 - used);
    unsigned char length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (unsigned char)((uint64_t)f->header_bytes >> (8 * i));
    out_file_write(&f->out, length, 8, 0);
    out_file_write(&f->out, header, f->header_bytes, 8);
    free(header);
}

bool tensor_file_close(tensor_file *f, bool keep)
{
    if (!f)
        return false;
    if (keep)
        write_header(f);
    bool done = out_file_close(&f->out, keep);
    free(f);
    return done;
}
