#include "format/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

#define LABEL_MAX 200

const char *file_label(const char *path)
{
    size_t length = strlen(path);
    return length > LABEL_MAX ? path + length - LABEL_MAX : path;
}

odmoe_status file_open(const char *path, bool optional, int *fd, uint64_t *size, odmoe_error *err)
{
    /* O_NONBLOCK: opening a FIFO for reading would otherwise wait for a writer */
    int f;
    do
        f = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    while (f < 0 && errno == EINTR);
    if (f < 0) {
        if (optional && errno == ENOENT) {
            *fd = -1;
            *size = 0;
            return ODMOE_OK;
        }
        return err_set(err, ODMOE_ERR_IO, "%s: cannot open: %s", file_label(path), strerror(errno));
    }
    struct stat st;
    odmoe_status status = ODMOE_OK;
    if (fstat(f, &st))
        status = err_set(err, ODMOE_ERR_IO, "%s: cannot read its size: %s", file_label(path), strerror(errno));
    else if (S_ISDIR(st.st_mode))
        status = err_set(err, ODMOE_ERR_IO, "%s: is a folder, a file is needed", file_label(path));
    else if (!S_ISREG(st.st_mode))
        status = err_set(err, ODMOE_ERR_IO, "%s: is not a regular file", file_label(path));
    if (status) {
        close(f);
        return status;
    }
    *fd = f;
    *size = (uint64_t)st.st_size;
    return ODMOE_OK;
}

odmoe_status file_read_at(int fd, const char *path, uint64_t offset, void *out, size_t length, odmoe_error *err)
{
    char *to = out;
    while (length) {
        if (offset > INT64_MAX)
            return err_set(err, ODMOE_ERR_IO, "%s: byte %llu cannot be addressed", file_label(path),
                           (unsigned long long)offset);
        ssize_t n = pread(fd, to, length, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(err, ODMOE_ERR_IO, "%s: reading at byte %llu failed: %s", file_label(path),
                           (unsigned long long)offset, strerror(errno));
        if (n == 0)
            return err_set(err, ODMOE_ERR_IO, "%s: has become shorter while in use: it ends at byte %llu",
                           file_label(path), (unsigned long long)offset);
        to += n;
        offset += (uint64_t)n;
        length -= (size_t)n;
    }
    return ODMOE_OK;
}

#define LFS_POINTER "is a Git LFS pointer, not the file itself: git lfs pull fetches it"
static const char lfs_begin[] = "version https://git-lfs.";
#define LFS_BEGIN (sizeof lfs_begin - 1)

static bool is_lfs_pointer(const char *text, size_t length)
{
    return length >= LFS_BEGIN && !memcmp(text, lfs_begin, LFS_BEGIN);
}

odmoe_status file_load(const char *path, size_t max_bytes, bool optional, char **text, size_t *length, odmoe_error *err)
{
    int fd;
    uint64_t size;
    char *p = NULL;
    odmoe_status status = file_open(path, optional, &fd, &size, err);
    if (status)
        return status;
    if (fd >= 0) {
        if (size > max_bytes)
            status = err_set(err, ODMOE_ERR_FORMAT, "%s: has %llu bytes, at most %zu are read", file_label(path),
                             (unsigned long long)size, max_bytes);
        else if (!(p = mem_calloc((size_t)size + 1, 1, "a file's text", err)))
            status = ODMOE_ERR_MEMORY;
        else
            status = file_read_at(fd, path, 0, p, (size_t)size, err);
        if (!status && is_lfs_pointer(p, (size_t)size))
            status = err_set(err, ODMOE_ERR_FORMAT, "%s: %s", file_label(path), LFS_POINTER);
        close(fd);
    }
    if (status) {
        free(p);
        return status;
    }
    *text = p;
    *length = (size_t)size;
    return ODMOE_OK;
}

char *file_join(const char *folder, const char *name, odmoe_error *err)
{
    size_t a = strlen(folder), b = strlen(name);
    char *path = mem_calloc(a + b + 2, 1, "a path", err);
    if (!path)
        return NULL;
    memcpy(path, folder, a);
    path[a] = '/';
    memcpy(path + a + 1, name, b);
    return path;
}

const char *file_placeholder(int fd, uint64_t size)
{
    char text[LFS_BEGIN];
    if (size == 0)
        return "is empty";
    return pread(fd, text, sizeof text, 0) == sizeof text && is_lfs_pointer(text, sizeof text) ? LFS_POINTER : NULL;
}
