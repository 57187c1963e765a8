#include "tensor_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAME_MAX_BYTES = 32, ENTRY_MAX_BYTES = 160, ELEMENT_BYTES = 4, ALIGN = 8 };

struct tensor {
    char name[NAME_MAX_BYTES];
    tensor_type type;
    int64_t rows, columns; /* columns 0: one dimension */
    int64_t offset;        /* from the start of the data */
};

struct tensor_file {
    int fd;
    int error; /* the first errno, 0 so far */
    char *path, *partial;
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
    size_t length = strlen(path) + 16;
    f->path = must_alloc(length, 1);
    f->partial = must_alloc(length, 1);
    snprintf(f->path, length, "%s", path);
    snprintf(f->partial, length, "%s.XXXXXX", path);
    f->fd = mkostemp(f->partial, O_CLOEXEC);
    if (f->fd >= 0)
        return f;
    complain("%s: cannot be written: %m", path);
    tensor_file_close(f, false);
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
        f->error = EINVAL;
        return 0;
    }
    struct tensor *t = &f->tensors[f->n];
    *t = (struct tensor){.type = type, .rows = rows, .columns = columns, .offset = f->data_bytes};
    snprintf(t->name, sizeof t->name, "%s", name);
    f->data_bytes += tensor_bytes(t);
    return f->n++;
}

static void write_at(tensor_file *f, const void *data, int64_t bytes, int64_t offset)
{
    const char *at = data;
    while (bytes > 0 && !f->error) {
        ssize_t n = pwrite(f->fd, at, (size_t)bytes, offset);
        if (n > 0) {
            at += n;
            bytes -= n;
            offset += n;
        } else if (n == 0 || errno != EINTR) {
            f->error = n == 0 ? EIO : errno;
        }
    }
}

void tensor_file_write(tensor_file *f, int tensor, int64_t first, int64_t n, const void *data)
{
    const struct tensor *t = &f->tensors[tensor];
    int64_t row = (t->columns ? t->columns : 1) * ELEMENT_BYTES;
    write_at(f, data, n * row, 8 + f->header_bytes + t->offset + first * row);
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
    write_at(f, length, 8, 0);
    write_at(f, header, f->header_bytes, 8);
    free(header);
}

bool tensor_file_close(tensor_file *f, bool keep)
{
    if (!f)
        return false;
    if (keep)
        write_header(f);
    if (f->fd >= 0) {
        mode_t mask = umask(0);
        umask(mask);
        if (keep && !f->error && (fchmod(f->fd, 0666 & ~mask) || fsync(f->fd)))
            f->error = errno;
        close(f->fd);
        if (keep && !f->error && rename(f->partial, f->path))
            f->error = errno;
        if (!keep || f->error)
            unlink(f->partial);
    }
    bool done = keep && !f->error;
    if (keep && f->error)
        complain("%s: cannot be written: %s", f->path, strerror(f->error));
    free(f->path);
    free(f->partial);
    free(f);
    return done;
}
